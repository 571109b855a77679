//! `seal` and `enroll` between real servers: passwords that only the daemon can read, one try at
//! the source, and files that appear whole.

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use support::daemon::{Account, Site, write_private};
use support::dovecot::Dovecot;
use support::mail;
use support::server::Server;
use support::stage::Stage;

/// Runs a command that reads `input`; its exit code, and what it said on both outputs.
fn run(site: &Site, arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pecsync"));
    command.args(arguments).arg("--config").arg(site.config());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("pecsync runs");
    // It may end without reading.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let said = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// The name of a key that was made.
fn new_key(site: &Site) -> String {
    let (code, said) = run(site, &["seal", "--new-key"], "");
    assert_eq!(code, Some(0), "{said}");
    said.split_whitespace().nth(1).expect("a name").trim_end_matches(':').to_owned()
}

/// All that is in conf.d.
fn conf_d(site: &Site) -> String {
    let files = fs::read_dir(site.conf_d()).unwrap().map(|file| file.unwrap().path());
    files.map(|file| fs::read_to_string(file).unwrap()).collect()
}

#[test]
fn sealed_passwords_move_an_account_and_open_for_no_other() {
    let stage = Stage::new("sigillo");
    stage.plant("INBOX", &mail::pec(1, 3));
    let site = stage.plan().write();
    let (address, account) = (stage.address(), &stage.account);
    let none = run(&site, &["seal", address], "x\n");
    assert_eq!(none.0, Some(1), "{}", none.1);
    let key = new_key(&site);
    let private = site.path(&format!("etc/keys/{key}.private"));
    assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o007, 0);
    let seal = |options: &[&str], password: &str| {
        let arguments = [&["seal", address], options].concat();
        let (code, said) = run(&site, &arguments, &format!("{password}\n"));
        assert_eq!(code, Some(0), "{said}");
        assert!(said.starts_with(&format!("sealed_password = \"v1:{key}:")), "{said}");
        said
    };
    let source = seal(&[], &account.source_password);
    let target = seal(&["--target"], &account.target_password);
    let text = |address: &str, source: &str, target: &str| {
        let user = &account.target_user;
        format!("address = \"{address}\"\n[source]\n{source}[target]\nuser = \"{user}\"\n{target}")
    };
    site.keep_out_of_logs(&account.source_password);
    site.keep_out_of_logs(&account.target_password);
    let mut daemon = site.start();
    site.drop_file("s.toml", &text(address, &source, &target));
    daemon.wait_following(address);
    stage.assert_exact();
    let (code, said) = run(&site, &["check"], "");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("passwords: 0 plain, 0 in files, 2 sealed"), "{said}");

    // Another's sealed password, and the other side's, are of no use.
    let stolen = text(&address.replace("sigillo", "ladro"), &source, &target);
    fs::remove_file(site.conf_d().join("s.toml")).unwrap();
    site.drop_file("stolen.toml", &stolen);
    let (code, said) = run(&site, &["check"], "");
    assert_eq!((code, said.matches("not sealed for ladro").count()), (Some(78), 2), "{said}");
    site.drop_file("stolen.toml", &text(address, &target, &source));
    let (_, said) = run(&site, &["check"], "");
    assert_eq!(said.matches("not sealed for sigillo").count(), 2, "{said}");

    // A second key: what the first one sealed still opens, what is sealed now is for the second.
    site.drop_file("stolen.toml", &text(address, &source, &target));
    let second = new_key(&site);
    assert_ne!(second, key);
    let (_, said) = run(&site, &["seal", address], "nuova\n");
    assert!(said.contains(&format!("v1:{second}:")), "{said}");
    assert_eq!(run(&site, &["check"], "").0, Some(0));
    fs::remove_file(private).unwrap();
    let (code, said) = run(&site, &["reload"], "");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("sealed for the key \"{key}\", which is not here")), "{said}");

    // Where nobody hands the key to a shell, commands that work by themselves say so.
    daemon.terminate();
    let sealed = format!("sealed for the key \"{key}\"");
    for arguments in [
        &["plan", address][..],
        &["verify", address],
        &["verify", "--all"],
        &["check", "--connect"],
    ] {
        let (code, said) = run(&site, arguments, "");
        assert_eq!((code, said.contains(&sealed)), (Some(1), true), "{arguments:?}: {said}");
    }
}

#[test]
fn one_try_then_a_whole_file() {
    let stage = Stage::new("iscritta");
    stage.plant("INBOX", &mail::pec(1, 2));
    let site = stage.plan().write();
    let (address, account) = (stage.address(), &stage.account);
    let mut daemon = site.start();
    let arguments = ["enroll", address, "--password-stdin", "--target-user", &account.target_user];
    let (code, said) = run(&site, &arguments, "sbagliata\nnuova\n");
    assert_eq!(code, Some(77), "{said}");
    assert!(said.contains("Credenziali non valide") && !said.contains("sbagliata"), "{said}");
    assert_eq!(stage.source.refusals(address), 1, "one try");
    assert_eq!(conf_d(&site), "");

    let passwords = format!("{}\n{}\n", account.source_password, account.target_password);
    let (code, said) = run(&site, &[&arguments[..], &["--dry-run"]].concat(), &passwords);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(conf_d(&site), "");
    let key = new_key(&site);
    assert_eq!(run(&site, &["reload"], "").0, Some(0));
    let (code, said) = run(&site, &arguments, &passwords);
    let done = format!("{address}: enrolled in prova, sealed\n");
    assert_eq!((code, said), (Some(0), done));
    let written = conf_d(&site);
    assert_eq!(written.matches(&format!("sealed_password = \"v1:{key}:")).count(), 2, "{written}");
    assert!(!written.contains(&account.source_password), "{written}");
    daemon.wait_following(address);
    stage.assert_exact();
    let (code, said) = run(&site, &arguments, &passwords);
    assert!(said.contains("already enrolled by"), "{said}");
    assert_eq!(code, Some(0));
    let replace = [&arguments[..], &["--replace"]].concat();
    let (code, said) = run(&site, &replace, &passwords);
    assert_eq!(code, Some(0), "{said}");
    assert_ne!(conf_d(&site), written, "sealed anew");

    // A file of that name which asks for somebody else is nobody's to write over.
    fs::remove_file(site.conf_d().join(format!("{address}.toml"))).unwrap();
    let others = Account::new("altrui").enrollment();
    site.drop_file(&format!("{address}.toml"), &others);
    let (code, said) = run(&site, &replace, &passwords);
    assert_eq!((code, said.contains("asks for somebody else")), (Some(1), true), "{said}");
    assert_eq!(conf_d(&site), others);
}

#[test]
fn many_from_a_table_again_and_again() {
    let (good, bad) = (Account::new("buona"), Account::new("errata"));
    let source = Dovecot::aruba().user(&bad.address, "un'altra");
    let target = Dovecot::legalmail().user(&bad.target_user, &bad.target_password);
    let stage = Stage::between(good, source, target);
    let site = stage.plan().write();
    let row = |account: &Account| {
        let Account { address, source_password, target_user, target_password } = account;
        format!("{address};{source_password};{target_user};{target_password}\n")
    };
    let table = site.path("table.csv");
    let header = "address;source_password;target_user;target_password\n";
    let text = format!("{header}{}{}nessuno;x;M9;y\n", row(&stage.account), row(&bad));
    write_private(&table, &text);
    let csv = table.display().to_string();
    let (code, said) = run(&site, &["enroll", "--csv", &csv, "--dry-run"], "");
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.matches("would be enrolled in prova").count(), 2, "{said}");
    assert!(said.contains("table.csv:4: "), "{said}");
    assert_eq!((conf_d(&site).as_str(), stage.source.refusals(&bad.address)), ("", 0));

    for (expected, refusals) in
        [("enrolled in prova, its password in plain", 1), ("already enrolled", 2)]
    {
        let (code, said) = run(&site, &["enroll", "--csv", &csv], "");
        assert_eq!(code, Some(1), "{said}");
        let of_good = said.lines().find(|line| line.contains("buona@")).unwrap_or_default();
        assert!(of_good.contains(expected), "{said}");
        assert_eq!(said.matches("Credenziali non valide").count(), 1, "{said}");
        assert_eq!(stage.source.refusals(&bad.address), refusals);
        assert!(conf_d(&site).contains(stage.address()) && !conf_d(&site).contains(&bad.address));
    }
    let mut daemon = site.start();
    daemon.wait_following(stage.address());
    fs::set_permissions(&table, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = run(&site, &["enroll", "--csv", &csv], "");
    assert_eq!(code, Some(1));
    assert!(said.contains("chmod o-rwx"), "{said}");
}

#[test]
fn a_login_at_an_archive_is_not_written_over() {
    let stage = Stage::new("archiviata");
    let archive = format!("[migration.prova.source.archive]\n{}", stage.source.endpoint());
    let plan = stage.plan().source(&archive).folders("after_cutover = [\"archive:**\"]");
    let site = plan.write();
    let login = "[source.archive]\nuser = \"a\"\npassword = \"b\"\n[target]";
    let text = stage.account.enrollment().replace("[target]", login);
    let file = site.drop_file(&format!("{}.toml", stage.address()), &text);
    let user = &stage.account.target_user;
    let arguments =
        ["enroll", stage.address(), "--password-stdin", "--replace", "--target-user", user];
    let (code, said) = run(&site, &arguments, "nuova\nnuova\n");
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("has [source.archive], which would be lost"), "{said}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), text);
}

#[test]
fn a_new_password_obeys_the_policy_of_its_provider() {
    let stage = Stage::new("regola.80");
    let site = stage.plan().target("provider = \"legalmail\"").write();
    let (address, account) = (stage.address(), &stage.account);
    let arguments = ["enroll", address, "--password-stdin", "--target-user", &account.target_user];
    let passwords = |target: &str| format!("{}\n{target}\n", account.source_password);
    for (weak, why) in [
        ("Corta7!", "fewer than 8 characters"),
        ("xREGOLA7!", "a part of the mailbox's name"),
        ("Cavallooo7!", "more than two equal characters in a row"),
    ] {
        for more in [&[][..], &["--dry-run"]] {
            let (code, said) = run(&site, &[&arguments[..], more].concat(), &passwords(weak));
            assert_eq!(code, Some(1), "{said}");
            assert_eq!(
                said,
                format!("pecsync: {address}: Password non valida at the target: {why}\n")
            );
        }
    }
    let table = site.path("table.csv");
    let header = "address,source_password,target_user,target_password\n";
    let row = format!("{address},{},{},debole\n", account.source_password, account.target_user);
    write_private(&table, &format!("{header}{row}"));
    let csv = table.display().to_string();
    let (code, said) = run(&site, &["enroll", "--csv", &csv], "");
    assert_eq!((code, said.contains("Password non valida")), (Some(1), true), "{said}");
    assert_eq!(
        (conf_d(&site).as_str(), stage.source.logins(address)),
        ("", 0),
        "nothing was tried"
    );

    let contact = ["--email", "mario@studio.it", "--phone", "+391234567890"];
    let (code, said) = run(&site, &[&arguments[..], &contact].concat(), &passwords("Cavallo7!"));
    assert_eq!(code, Some(0), "{said}");
    assert!(conf_d(&site).contains("phone = \"+391234567890\""), "{}", conf_d(&site));
    // One that exists already is as its provider let it be.
    let again = ["--replace", "--no-policy"];
    let (code, said) = run(&site, &[&arguments[..], &again].concat(), &passwords("debole"));
    assert_eq!(code, Some(0), "{said}");
    assert!(conf_d(&site).contains("\"debole\""), "{}", conf_d(&site));
}
