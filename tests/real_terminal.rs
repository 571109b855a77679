//! What people see and type: prompts without echo, and a screen that is redrawn, in colour or not,
//! in UTF-8 or not, and in a pipe.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use support::daemon::Site;
use support::mail;
use support::stage::Stage;
use support::terminal::Terminal;

/// The command line of the binary on that configuration.
fn line(site: &Site, arguments: &str) -> String {
    let (program, config) = (env!("CARGO_BIN_EXE_pecsync"), site.config());
    format!("{program} {arguments} --config {}", config.display())
}

#[test]
fn passwords_are_asked_for_without_echo_and_a_weak_one_again() {
    let stage = Stage::new("chiesta");
    let site = stage.plan().target("provider = \"legalmail\"").write();
    let (address, account) = (stage.address(), &stage.account);
    let arguments = format!("enroll {address} --target-user {}", account.target_user);
    let mut terminal = Terminal::run(&line(&site, &arguments), &[("LANG", "C.UTF-8")]);
    let mut answer = |question: &str, password: &str| {
        terminal.wait_for(question);
        terminal.wait_echo(false);
        terminal.type_in(&format!("{password}\n"));
        terminal.wait_for(&format!("{question}: \r\n"));
    };
    let source = format!("Password of {address} at the source, 127.0.0.1");
    let target = format!("Password of {address} at the target, 127.0.0.1");
    answer(&source, &account.source_password);
    answer(&target, "debole");
    terminal.wait_for("Password non valida at the target: fewer than 8 characters, ");
    terminal.wait_echo(false);
    terminal.type_in("Cavallo7!\n");
    assert_eq!(terminal.wait(), Some(0), "{}", terminal.text());
    let shown = terminal.text();
    assert!(shown.contains(&format!("{address}: enrolled in prova")), "{shown}");
    for secret in [account.source_password.as_str(), "debole", "Cavallo7!"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let file = site.conf_d().join(format!("{address}.toml"));
    assert!(std::fs::read_to_string(file).unwrap().contains("\"Cavallo7!\""));
}

#[test]
fn a_refused_password_at_a_terminal() {
    let stage = Stage::new("negata");
    let site = stage.plan().write();
    let arguments = format!("enroll {} --target-user M1", stage.address());
    let mut terminal = Terminal::run(&line(&site, &arguments), &[]);
    for _ in 0..2 {
        terminal.wait_echo(false);
        terminal.type_in("sbagliata\n");
        terminal.wait_for("at the target, ");
    }
    assert_eq!(terminal.wait(), Some(77), "{}", terminal.text());
    assert!(terminal.text().contains("Credenziali non valide"), "{}", terminal.text());
    assert_eq!(stage.source.refusals(stage.address()), 1);
}

/// What is on the screen after each redrawing, without colours and the like.
fn frames(shown: &str) -> Vec<Vec<String>> {
    let frames = shown.split("\x1b[?25l").nth(1).unwrap_or_default().split("\x1b[?25h").next();
    let frames = frames.unwrap_or_default().split("\x1b[H").skip(1);
    frames.map(|frame| plain(frame).split("\r\n").map(str::to_owned).collect()).collect()
}

/// Without escape sequences.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' => drop(letters.by_ref().find(char::is_ascii_alphabetic)),
            letter => plain.push(letter),
        }
    }
    plain
}

fn fits(shown: &str) {
    let frames = frames(shown);
    assert!(!frames.is_empty(), "{shown:?}");
    for frame in frames {
        assert!(frame.len() <= 24, "{} lines: {frame:#?}", frame.len());
        let wide = frame.iter().find(|line| line.chars().count() > 80);
        assert!(wide.is_none(), "{wide:?}");
    }
}

#[test]
fn a_screen_that_is_redrawn() {
    let stage = Stage::new("un.indirizzo.piuttosto.lungo.per.una.riga.di.ottanta.colonne");
    stage.plant("INBOX", &mail::pec(1, 30));
    let site = stage.plan().migration("cutover = \"2199-02-04T08:00\"").write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    site.drop_file("bad.toml", "address = 7\n");

    let utf8 = ("LC_ALL", "C.UTF-8");
    let watch = |arguments: &str, environment: &[(&str, &str)]| {
        let mut terminal = Terminal::run(&line(&site, arguments), environment);
        // Twice: it is redrawn where it stands.
        let redrawn = || (frames(&terminal.text()).len() > 2).then_some(());
        let patience = std::time::Duration::from_secs(60);
        assert!(support::poll(patience, redrawn).is_some(), "{:?}", terminal.text());
        terminal.type_in("\x03");
        assert_eq!(terminal.wait(), Some(0), "{}", terminal.text());
        let shown = terminal.text();
        // The screen from before comes back, and so does the cursor.
        let (begun, ended) =
            (shown.find("\x1b[?1049h\x1b[?25l"), shown.find("\x1b[?25h\x1b[?1049l"));
        assert!(begun.is_some() && begun < ended, "{shown:?}");
        fits(&shown);
        shown
    };
    for arguments in ["status --watch", "status --watch --migration prova"] {
        let coloured = watch(arguments, &[utf8]);
        assert!(coloured.contains("\x1b[1m") || coloured.contains("\x1b[3"), "{coloured:?}");
        let grey = watch(arguments, &[utf8, ("NO_COLOR", "1")]);
        assert!(!grey.contains("\x1b[3") && !grey.contains("\x1b[1m"), "{grey:?}");
        let ascii = watch(arguments, &[("LC_ALL", "C")]);
        assert!(ascii.is_ascii(), "{ascii:?}");
    }
    let mut plain = Terminal::run(&line(&site, "status"), &[("LC_ALL", "C")]);
    assert_eq!(plain.wait(), Some(0), "{}", plain.text());
    assert!(plain.text().contains("bad.toml") && plain.text().is_ascii(), "{:?}", plain.text());
    let bars = watch("status --watch", &[utf8]);
    assert!(bars.contains('█') && watch("status --watch", &[("LC_ALL", "POSIX")]).contains('#'));

    // In a pipe: the plain table each second, until nobody reads it any more.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec {}", line(&site, "status --watch"))]);
    command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    for _ in 0..2 {
        let table = lines.find(|line| line.contains("ADDRESS")).unwrap();
        assert!(!table.contains('\x1b'), "{table}");
        assert!(lines.any(|line| !line.contains('\x1b') && line.contains("un.indirizzo")));
    }
    drop(lines);
    let patience = std::time::Duration::from_secs(60);
    let ended = support::poll(patience, || child.try_wait().unwrap());
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
}
