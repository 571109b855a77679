//! The enrollment page's package beside the daemon's: installed, started, used by a visitor, purged;
//! and that its sandbox holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::machine::Machine;
use super::package::{DEBIAN_13, DOVECOT, packages, pages, run, traces};

const SETTINGS: &str = r#"
[portal]
public_url = "http://127.0.0.1:8465/"
metrics_listen = "127.0.0.1:9465"
new_password_hook = ["/bin/true"]
[migration.epap]
domains = ["pec.epap.it"]
[migration.epap.source]
host = "127.0.0.1"
port = 143
tls = "none"
[migration.epap.target]
host = "127.0.0.1"
port = 143
tls = "none"
[migration.epap.portal]
title = "EPAP"
"#;

/// An administrator's, with a password that was changed since.
const ENROLLMENT: &str = r#"
address = "mario@pec.epap.it"
[source]
password = "superata"
[target]
user = "new"
password = "geheim"
"#;

#[test]
fn the_page_on_this_debian() {
    let Some(machine) = Machine::boot(Path::new("/")) else { return };
    let before = traces(&machine);
    is_installed_and_waits_for_settings(&machine);
    answers(&machine);
    is_kept_in(&machine);
    enrolls(&machine);
    hands_new_passwords_on(&machine);
    has_tls_of_its_own(&machine);
    goes_without_a_trace(&machine, &before);
}

#[test]
fn the_page_on_debian_13() {
    let Some(machine) = Machine::boot(Path::new(DEBIAN_13)) else { return };
    let before = traces(&machine);
    is_installed_and_waits_for_settings(&machine);
    answers(&machine);
    is_kept_in(&machine);
    hands_new_passwords_on(&machine);
    goes_without_a_trace(&machine, &before);
}

fn is_installed_and_waits_for_settings(machine: &Machine) {
    let (_dir, package) = package();
    machine.put(&packages()[0], "/root/daemon.deb", "0644 root:root");
    machine.put(&package, "/root/page.deb", "0644 root:root");
    machine.sh("dpkg -i /root/daemon.deb");
    let said = machine.sh("dpkg -i /root/page.deb 2>&1");
    assert!(said.contains("portal.md tells how to configure and start it"), "{said}");
    machine.sh("cd / && md5sum --quiet -c /var/lib/dpkg/info/pecsync-portal.md5sums");
    machine.sh("zcat /usr/share/man/man8/pecsync-portal.8.gz | grep -q 'SH NAME'");
    let access = "stat -c '%a %U:%G' /etc/pecsync/conf.d/portal /var/lib/pecsync-portal/queue";
    assert_eq!(
        machine.sh(access),
        "2750 pecsync-portal:pecsync\n2770 pecsync-portal:pecsync-portal\n"
    );
    // A mistake in the settings is said, and not tried again and again.
    assert!(
        !machine.run(&["systemctl", "start", "pecsync-portal"]).status.success() || ended(machine)
    );
    let said = machine.sh("journalctl -u pecsync-portal --no-pager");
    assert!(said.contains("add [portal] to pecsync.toml"), "{said}");
}

/// Does it end by itself with the code for wrong settings?
fn ended(machine: &Machine) -> bool {
    let status = || machine.sh("systemctl show -p ExecMainStatus --value pecsync-portal");
    machine.wait("the end", || status().trim() == "78");
    machine.sh("systemctl show -p NRestarts --value pecsync-portal").trim() == "0"
}

fn answers(machine: &Machine) {
    machine.write(SETTINGS, "/etc/pecsync/pecsync.toml", "0644 root:root");
    machine.sh("systemctl reset-failed pecsync-portal || true");
    machine
        .sh("pecsync check && systemctl reload pecsync && systemctl enable --now pecsync-portal");
    let ask = |port: u16, path: &str| {
        let asking = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port}; printf \
             'GET {path} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n' >&3; cat <&3"
        );
        let output = machine.run(&["bash", "-c", &asking]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    machine.wait("the page", || ask(8465, "/?ui=epap").contains("Inserisci il tuo indirizzo PEC"));
    assert!(ask(8465, "/metrics").starts_with("HTTP/1.1 404"), "{}", ask(8465, "/metrics"));
    assert!(ask(9465, "/metrics").contains("pecsync_portal_events_total{event=\"visits\"}"));
}

/// What runs cannot reach what is not its own.
fn is_kept_in(machine: &Machine) {
    machine.write(ENROLLMENT, "/etc/pecsync/conf.d/mario.toml", "0640 root:pecsync");
    machine.sh("systemctl start pecsync-portal-provision");
    for unit in ["pecsync-portal", "pecsync-portal-provision"] {
        let show = |property: &str| {
            machine.sh(&format!("systemctl show -p {property} --value {unit}")).trim().to_owned()
        };
        assert_eq!((show("MemorySwapMax"), show("LimitCORE")), ("0".to_owned(), "0".to_owned()));
        machine.sh(&format!("systemd-analyze security --no-pager --threshold=12 {unit}.service"));
        let pid = show("MainPID");
        let status = machine.sh(&format!("cat /proc/{pid}/status"));
        let user = machine.sh(&format!("id -u {}", show("User")));
        for (name, value) in [
            ("Uid", user.trim()),
            ("CapEff", "0000000000000000"),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
        ] {
            let line =
                status.lines().find(|line| line.starts_with(&format!("{name}:"))).expect(name);
            assert_eq!(line.split_whitespace().nth(1), Some(value), "{unit}: {line}");
        }
        // Even root is held back by its mounts.
        let inside = |command: &str| {
            let output = machine.run(&["nsenter", "-t", &pid, "-m", "--", "sh", "-c", command]);
            output.status.success()
        };
        for command in [
            "touch /etc/pecsync/conf.d/x",
            "touch /etc/pecsync/pecsync.toml",
            "touch /usr/bin/x",
            "ls /var/lib/pecsync/checkpoint",
            "ls /root/daemon.deb",
        ] {
            assert!(!inside(command), "{unit}: {command}");
        }
        assert!(inside(
            "touch /var/lib/pecsync-portal/queue/.x && rm /var/lib/pecsync-portal/queue/.x"
        ));
        let writes =
            inside("touch /etc/pecsync/conf.d/portal/.x && rm /etc/pecsync/conf.d/portal/.x");
        assert_eq!(writes, unit == "pecsync-portal");
        // To others of its user it is as closed as to everybody.
        let environ = machine.sh(&format!("stat -c %U /proc/{pid}/environ"));
        assert_eq!(environ, "root\n", "not dumpable");
    }
    for file in ["/etc/pecsync/conf.d/mario.toml", "/etc/pecsync/keys/*.private"] {
        for user in ["pecsync-portal", "pecsync-provision"] {
            let read =
                machine.run(&["sh", "-c", &format!("runuser -u {user} -- sh -c 'cat {file}'")]);
            assert!(!read.status.success() && read.stdout.is_empty(), "{user}: {read:?}");
        }
    }
    let order =
        machine.run(&["runuser", "-u", "pecsync-portal", "--", "pecsync", "retry", "--all"]);
    assert!(!order.status.success(), "{order:?}");
}

/// A visitor proves the password, and the daemon goes on with it.
fn enrolls(machine: &Machine) {
    machine.sh(DOVECOT);
    machine.wait("Dovecot", || {
        machine.run(&["bash", "-c", ": </dev/tcp/127.0.0.1/143"]).status.success()
    });
    let save = "doveadm -c /root/dovecot.conf save -u mario@pec.epap.it -m INBOX";
    machine.sh(&format!("printf 'Subject: 1\\r\\n\\r\\nmail\\r\\n' | {save}"));
    machine.sh("pecsync retry --all");
    let account = || machine.status()["accounts"][0].clone();
    machine.wait("held", || account()["condition"] == "held");
    let visitor = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/demo/visitor.pl");
    machine.put(&visitor, "/root/visitor.pl", "0644 root:root");
    let said = machine.sh("perl /root/visitor.pl 8465 epap mario geheim");
    assert!(said.contains("è iniziata"), "{said}");
    machine
        .wait("following", || account()["phase"] == "following" && account()["condition"] == "ok");
    assert_eq!(account()["enrolled_by"], "/etc/pecsync/conf.d/mario.toml");
    let password = account()["owners_password_from"].as_str().unwrap_or_default().to_owned();
    assert!(password.starts_with("/etc/pecsync/conf.d/portal/"), "{password}");
    let fetch = "doveadm -c /root/dovecot.conf fetch -u new text mailbox INBOX";
    machine.wait("the mail", || machine.sh(fetch).contains("Subject: 1"));
    let said = machine.sh("perl /root/visitor.pl 8465 epap mario geheim");
    assert!(said.contains("sincronizzata"), "{said}");
    let journal = machine.sh("journalctl -o export --no-pager -u pecsync-portal -u pecsync");
    assert!(!journal.contains("geheim"), "{journal}");
}

/// What the page queued is told by another user, and is gone then.
fn hands_new_passwords_on(machine: &Machine) {
    let text = r#"{"address":"a@b.it","migration":"epap","sealed_password":"v1:x"}"#;
    let queue = "/var/lib/pecsync-portal/queue";
    machine.sh(&format!("runuser -u pecsync-portal -- sh -c \"echo '{text}' >{queue}/a.json\""));
    // It is refused, since no page asks for it; that it is looked at is what matters here.
    machine.wait("it is looked at", || {
        machine.sh("journalctl -u pecsync-portal-provision --no-pager").contains("a.telling: ")
    });
    machine.sh(&format!("rm {queue}/a.telling"));
}

const UNIT_D: &str = "/etc/systemd/system/pecsync-portal.service.d";

/// At port 443, with what the manual says, and a key that only its group reads.
fn has_tls_of_its_own(machine: &Machine) {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/portal.md");
    let manual = fs::read_to_string(manual).expect("read");
    let drop_in = manual.split("```ini\n").nth(1).expect("a drop-in").split("```").next().unwrap();
    machine.write(drop_in, &format!("{UNIT_D}/port.conf"), "0644 root:root");
    let made = rcgen::generate_simple_self_signed(["migra.example.it".to_owned()]).expect("made");
    let (dir, access) = ("/etc/pecsync/portal-tls", "0640 root:pecsync-portal");
    machine.sh(&format!("install -d -g pecsync-portal -m 0750 {dir}"));
    machine.write(&made.cert.pem(), &format!("{dir}/fullchain.pem"), access);
    machine.write(&made.signing_key.serialize_pem(), &format!("{dir}/privkey.pem"), access);
    let own = "https://migra.example.it/\"\nlisten = \"0.0.0.0:443\"\n\
        certificate = \"portal-tls/fullchain.pem\"\ncertificate_key = \"portal-tls/privkey.pem\"";
    let settings = SETTINGS.replace("http://127.0.0.1:8465/\"", own);
    machine.write(&settings, "/etc/pecsync/pecsync.toml", "0644 root:root");
    let ask = format!(
        "(printf 'GET /?ui=epap HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n'; sleep 1) | \
         openssl s_client -quiet -verify_return_error -CAfile {dir}/fullchain.pem \
         -verify_hostname migra.example.it -connect 127.0.0.1:443"
    );
    let serves = || {
        machine.sh("pecsync check && systemctl daemon-reload && systemctl restart pecsync-portal");
        machine.wait("the page", || {
            let output = machine.run(&["sh", "-c", &ask]);
            String::from_utf8_lossy(&output.stdout).contains("Inserisci il tuo indirizzo PEC")
        });
    };
    serves();
    let capable =
        machine.sh("grep CapEff /proc/$(systemctl show -p MainPID --value pecsync-portal)/status");
    assert!(capable.trim().ends_with("0000000000000400"), "that of its port alone: {capable}");
    // Or the key stays root's, and systemd hands it over.
    machine.sh(&format!("mv {dir}/privkey.pem /root/ && chown root /root/privkey.pem"));
    machine.sh("chmod 0600 /root/privkey.pem");
    let handed = "[Service]\nLoadCredential=privkey.pem:/root/privkey.pem\n";
    machine.write(handed, &format!("{UNIT_D}/key.conf"), "0644 root:root");
    let key = "/run/credentials/pecsync-portal.service/privkey.pem";
    let settings = settings.replace("portal-tls/privkey.pem", key);
    machine.write(&settings, "/etc/pecsync/pecsync.toml", "0644 root:root");
    serves();
    machine.sh(&format!("rm -r {dir} {UNIT_D}"));
    machine.sh("systemctl daemon-reload");
}

fn goes_without_a_trace(machine: &Machine, before: &str) {
    machine.sh("dpkg -r pecsync-portal");
    assert!(!machine.run(&["systemctl", "is-active", "pecsync-portal"]).status.success());
    machine.sh("test -d /etc/pecsync/conf.d/portal && dpkg -P pecsync-portal");
    assert_eq!(machine.sh("systemctl is-active pecsync"), "active\n");
    machine.sh("dpkg -P pecsync");
    assert_eq!(traces(machine), before);
}

/// As `make deb-portal` makes it, around the program that was built beside the one under test.
fn package() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let program = Path::new(env!("CARGO_BIN_EXE_pecsync")).with_file_name("pecsync-portal");
    assert!(program.exists(), "{program:?}: cargo build -p pecsync-portal");
    let manual = dir.path().join("manual");
    fs::create_dir(&manual).expect("made");
    let (name, text) = pages::portal("2026-02-04");
    fs::write(manual.join(name), text).expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/debian/portal/build.sh");
    let out = dir.path().join("out");
    let mut command = Command::new(script);
    run(command.env("DPKG_DEB_COMPRESSOR_LEVEL", "1").arg(&out).arg(program).arg(manual));
    let mut packages = fs::read_dir(&out).expect("listed");
    let package = packages.next().expect("a package").expect("listed").path();
    (dir, package)
}
