//! Peers that mean harm, against the daemon as it is built: it keeps within its memory, says little
//! and clearly, and goes on for everybody else.

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/scripted.rs"]
mod scripted;

mod certificates;
mod peer;
mod slowness;
mod targets;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use peer::{DATE, GREETING, Malice, for_ever, listen, say};
use support::daemon::{Account, Daemon, Plan, Site};
use support::dovecot::Dovecot;
use support::mail::{self, Mail};
use support::stage::Stage;

/// `[limits] memory`, and what else a daemon may come to need besides (threads, buffers, the
/// allocator's slack).
const MEMORY_MIB: u64 = 32;
const SLACK_MIB: u64 = 24;

/// A hostile server and how an operator is to learn of it.
struct Attack {
    name: &'static str,
    greeting: &'static str,
    starttls: bool,
    malice: Arc<Malice>,
    /// Reason code, and what its message has to say. Without one nothing is wrong with the account,
    /// and its message is copied.
    reason: (&'static str, &'static str),
}

fn attack(
    name: &'static str,
    reason: (&'static str, &'static str),
    malice: impl Fn(&str, &str, &mut std::net::TcpStream) -> std::io::Result<bool>
    + Send
    + Sync
    + 'static,
) -> Attack {
    let malice = Arc::new(malice);
    Attack { name, greeting: GREETING, starttls: false, malice, reason }
}

/// Servers of either side that show what they are at some command; `opens` is how that side's
/// folders are opened.
fn attacks_of_both(opens: &'static str) -> Vec<Attack> {
    let lists = |command: &str| command.starts_with("LIST \"\" *");
    let listed = |command: &str| command.starts_with("UID FETCH") && !command.contains("BODY");
    let protocol = |words| ("protocol_error", words);
    vec![
        attack("an endless line", protocol("too long"), move |_, command, out| {
            if lists(command) { for_ever(out, b"x") } else { Ok(false) }
        }),
        attack("a literal of 2^63", protocol("literal"), move |_, command, out| {
            let text = "* LIST () \"/\" {9223372036854775808}\r\n";
            if lists(command) { say(out, text) } else { Ok(false) }
        }),
        attack("a million folders", protocol("more folders"), move |tag, command, out| {
            if !lists(command) {
                return Ok(false);
            }
            for thousand in 0..1000 {
                let names = (0..1000).map(|n| format!("* LIST () \"/\" f{thousand}-{n}\r\n"));
                out.write_all(names.collect::<String>().as_bytes())?;
            }
            say(out, &format!("{tag} OK\r\n"))
        }),
        attack("messages without end", protocol("more than can be"), move |_, command, out| {
            if command.starts_with(opens) {
                say(out, "* 4294967295 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n")?;
                return Ok(false);
            }
            if !listed(command) {
                return Ok(false);
            }
            for thousand in 0..20_000 {
                let messages = (1..=1000).map(|n| {
                    let uid = thousand * 1000 + n;
                    format!("* {uid} FETCH (UID {uid} FLAGS ($k{uid}) {DATE} RFC822.SIZE 8)\r\n")
                });
                out.write_all(messages.collect::<String>().as_bytes())?;
            }
            Ok(true)
        }),
    ]
}

/// Sources that show what they are at some command.
fn attacks() -> Vec<Attack> {
    let listed = |command: &str| command.starts_with("UID FETCH") && !command.contains("BODY");
    let bodies = |command: &str| command.contains("BODY.PEEK[]");
    let protocol = |words| ("protocol_error", words);
    vec![
        attack("nesting 10,000 deep", protocol(""), move |tag, command, out| {
            if !listed(command) {
                return Ok(false);
            }
            let (open, close) = ("(".repeat(10_000), ")".repeat(10_000));
            let text = format!("* 1 FETCH (UID 1 BODYSTRUCTURE {open}{close})\r\n");
            out.write_all(text.repeat(20).as_bytes())?;
            say(out, &format!("* 1 FETCH (UID 1 {open}\r\n{tag} OK\r\n"))
        }),
        attack("a megabyte of flags", protocol("too long"), move |_, command, out| {
            let flags = " $parola".repeat(1 << 17);
            let text = format!("* 1 FETCH (UID 1 FLAGS (\\Seen{flags}))\r\n");
            if listed(command) { say(out, &text) } else { Ok(false) }
        }),
        attack(
            "a body of 2^63",
            protocol("a message of 9223372036854775807 octets"),
            move |_, command, out| {
                if !bodies(command) {
                    return Ok(false);
                }
                let said = "RFC822.SIZE 8 BODY[] {9223372036854775807}\r\n";
                out.write_all(format!("* 1 FETCH (UID 1 FLAGS () {DATE} {said}").as_bytes())?;
                for_ever(out, b"una riga\r\n")
            },
        ),
        attack("VANISHED for everybody", ("", ""), move |_, command, out| {
            if listed(command) {
                say(out, &"* VANISHED 1:4294967295\r\n".repeat(1000))?;
            }
            Ok(false)
        }),
        Attack {
            greeting: "* OK [CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN] ready\r\n",
            starttls: true,
            ..attack("injection at STARTTLS", protocol("injected"), |tag, command, out| {
                let text =
                    format!("{tag} OK go on\r\n* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] x\r\n");
                if command == "STARTTLS" { say(out, &text) } else { Ok(false) }
            })
        },
        attack(
            "escapes in its words",
            protocol("no \\x1b[31mred\\x07\\x9b\\u202e"),
            |tag, command, out| {
                let text = format!(
                    "{tag} NO no \u{1b}[31mred\u{7}\u{9b}\u{202e} {}\r\n",
                    "x".repeat(2000)
                );
                if command.starts_with("EXAMINE") { say(out, &text) } else { Ok(false) }
            },
        ),
    ]
}

/// The healthy account's site, with a migration for each hostile source; all write to one target.
fn site(stage: &Stage, attacks: &[(Account, SocketAddr, bool)]) -> Site {
    let target = format!(
        "host = \"127.0.0.1\"\nport = {}\ntls = \"implicit\"\nca_file = \"{}\"\n",
        stage.target.port(),
        stage.target.ca_file().display()
    );
    let targets = vec![target; attacks.len()];
    site_with(stage, attacks, &targets)
}

/// The same with a target for each.
fn site_with(stage: &Stage, attacks: &[(Account, SocketAddr, bool)], targets: &[String]) -> Site {
    let mut plan: Plan = stage.plan();
    for (number, ((account, source, starttls), target)) in attacks.iter().zip(targets).enumerate() {
        let domain = account.address.split_once('@').expect("an address").1;
        let tls = if *starttls { "starttls" } else { "none" };
        plan = plan.target(&format!(
            "[migration.ostile{number}]\ndomains = [\"{domain}\"]\n\
             [migration.ostile{number}.source]\nhost = \"{}\"\nport = {}\ntls = \"{tls}\"\n\
             [migration.ostile{number}.target]\n{target}",
            source.ip(),
            source.port()
        ));
    }
    plan.target(&format!("[limits]\nmemory = \"{MEMORY_MIB}MiB\"")).write()
}

/// An account on a hostile source, and a place for it at the target.
fn victim(number: usize) -> Account {
    let account = Account::new("vittima");
    let address = format!("vittima@ostile{number}.example");
    Account { address, target_user: format!("M900000{number}"), ..account }
}

fn peak_mib(daemon: &Daemon<'_>) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    let kib = line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("a number") / 1024
}

#[test]
fn hostile_sources_harm_nobody_else() {
    let attacks: Vec<Attack> = attacks_of_both("EXAMINE").into_iter().chain(attacks()).collect();
    let victims: Vec<Account> = (0..attacks.len()).map(victim).collect();
    let target = victims.iter().fold(Dovecot::legalmail(), |target, victim| {
        target.user(&victim.target_user, &victim.target_password)
    });
    let stage = Stage::between(Account::new("sano"), Dovecot::aruba(), target);
    stage.plant("INBOX", &mail::pec(1, 20));
    let places = attacks.iter().zip(&victims).zip(1u8..).map(|((attack, victim), number)| {
        let address = listen(number, attack.greeting, attack.malice.clone());
        (victim.clone(), address, attack.starttls)
    });
    let site = site(&stage, &places.collect::<Vec<_>>());
    nobody_else_is_harmed(&stage, &site, &attacks, &victims);
}

/// Enrolls the healthy account and then the victims: all is told of the attacks in few words, in
/// little memory, and the healthy account goes on.
fn nobody_else_is_harmed(stage: &Stage, site: &Site, attacks: &[Attack], victims: &[Account]) {
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    let base = peak_mib(&daemon);

    victims.iter().for_each(|victim| drop(site.enroll(victim)));
    for (attack, victim) in attacks.iter().zip(victims) {
        let (code, words) = attack.reason;
        let says = |account: &Value| {
            let reasons = account["reasons"].as_array().cloned().unwrap_or_default();
            let fits = |reason: &Value| {
                let message = reason["message"].as_str().unwrap_or_default();
                reason["code"] == code && message.contains(words)
            };
            (code.is_empty() && account["messages"]["copied"] == 1) || reasons.iter().any(fits)
        };
        daemon.wait(attack.name, &victim.address, 90, says);
    }
    // Mail comes in meanwhile, and goes on.
    stage.plant("INBOX", &mail::pec(2, 5));
    stage.wait_exact("with hostile neighbours", 60);
    std::thread::sleep(Duration::from_secs(10));

    let peak = peak_mib(&daemon);
    println!("peak {base} MiB before, {peak} MiB after");
    assert!(peak <= base + MEMORY_MIB + SLACK_MIB, "{base} MiB before, {peak} MiB after");
    let log = site.log();
    println!("{} lines in the log", log.lines().count());
    assert!(log.lines().count() < 40 + 12 * attacks.len(), "{log}");
    let shown = |text: &str| !text.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}']);
    assert!(log.lines().all(|line| line.len() < 4096 && shown(line)));
    for arguments in [&["status"][..], &["status", "--json"]] {
        let output = site.command(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(shown(&text), "{arguments:?}");
    }
}

#[test]
fn hostile_names_of_folders_stay_names() {
    let names =
        ["../../etc/passwd", "a\u{1b}[2Jb", "a\u{7}b", "..", "=cmd|' /C calc'!A0", "x\u{202e}y"];
    let victim = victim(0);
    let target = Dovecot::legalmail().user(&victim.target_user, &victim.target_password);
    let stage = Stage::between(Account::new("sano"), Dovecot::aruba(), target);
    let malice = move |tag: &str, command: &str, out: &mut std::net::TcpStream| {
        if !command.starts_with("LIST \"\" *") {
            return Ok(false);
        }
        let listed = names.map(|name| format!("* LIST () \"/\" {{{}}}\r\n{name}\r\n", name.len()));
        say(out, &format!("* LIST () \"/\" INBOX\r\n{}{tag} OK\r\n", listed.concat()))
    };
    let address = listen(60, GREETING, Arc::new(malice));
    let site = site(&stage, &[(victim.clone(), address, false)]);
    let mut daemon = site.start();
    site.enroll(&stage.account);
    site.enroll(&victim);
    daemon.wait_following(stage.address());
    let looked_at =
        |account: &Value| account["folders"].as_array().is_some_and(|all| all.len() >= 7);
    daemon.wait("all folders", &victim.address, 60, looked_at);
    let shown = |text: &str| !text.contains(['\u{1b}', '\u{7}', '\u{202e}']);
    for arguments in [&["status", "--json"][..], &["status", &victim.address]] {
        let output = site.command(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(shown(&text), "{arguments:?}: {text}");
    }
    assert!(shown(&site.log()));
    let passwd = fs::read_to_string("/etc/passwd").expect("it is a file");
    assert!(passwd.starts_with("root:"), "{passwd}");
}

/// A message is a message, whatever its lines look like.
#[test]
fn messages_full_of_commands_are_copied_octet_by_octet() {
    let stage = Stage::new("comandi");
    let tags = ["a1", "a2", "A001", "A0001", "1", "2", "zz", "t", "*", "+"];
    let lines = tags.map(|tag| {
        format!("{tag} CREATE PWNED\r\n{tag} OK [APPENDUID 1 1:9] done\r\n{tag} LOGOUT\r\n")
    });
    let octets = format!("Subject: comandi\r\n\r\n{}DONE\r\n", lines.concat());
    let mails = [
        Mail::new("commands", octets.clone()),
        Mail::new("commands without a header", format!("\r\n{octets}")),
        Mail::new("a literal announced", "Subject: x\r\n\r\na1 APPEND INBOX {3+}\r\nabc\r\n"),
        Mail::new(
            "the end of a FETCH",
            "Subject: x\r\n\r\n)\r\n* 1 FETCH (UID 9 BODY[] {1}\r\nx)\r\n",
        ),
    ];
    stage.plant("INBOX", &mails);
    stage.complete(stage.plan());
    stage.assert_exact();
    assert!(!stage.at_target().list().iter().any(|name| name.contains("PWNED")));
}
