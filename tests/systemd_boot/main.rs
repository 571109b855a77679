//! The unit under a real systemd with a real journal: install, start, journal, reload, kill,
//! watchdog, stop. Needs root and systemd; says so and tests nothing where they are missing.

mod machine;
mod package;
mod portal;

use std::path::Path;
use std::time::{Duration, Instant};

use pecsync::journal::Event;

use machine::Machine;

const SETTINGS: &str = r#"
[migration.epap]
domains = ["pec.epap.it"]
[migration.epap.source]
host = "127.0.0.1"
port = 9
tls = "none"
[migration.epap.target]
host = "127.0.0.1"
port = 9
tls = "none"
"#;

const ENROLLMENT: &str = r#"
address = "mario.rossi@pec.epap.it"
[source]
password = "segreto"
[target]
user = "M1234567"
password = "nuovo"
"#;

#[test]
fn a_service_from_install_to_stop() {
    let Some(machine) = Machine::boot(Path::new("/")) else { return };
    install(&machine);
    starts_and_tells_the_journal(&machine);
    only_admins_give_orders(&machine);
    reloads_and_survives_a_mistake(&machine);
    comes_back_after_kill_and_watchdog(&machine);
    stops_in_time_and_is_remembered(&machine);
    does_not_loop_on_a_mistake(&machine);
}

fn install(machine: &Machine) {
    machine.put(Path::new(env!("CARGO_BIN_EXE_pecsync")), "/usr/bin/pecsync", "0755 root:root");
    let files = [
        ("pecsync.service", "/usr/lib/systemd/system/pecsync.service"),
        ("pecsync.sysusers", "/usr/lib/sysusers.d/pecsync.conf"),
        ("pecsync.tmpfiles", "/usr/lib/tmpfiles.d/pecsync.conf"),
        ("pecsync.catalog", "/usr/lib/systemd/catalog/pecsync.catalog"),
        ("pecsync.it.catalog", "/usr/lib/systemd/catalog/pecsync.it.catalog"),
    ];
    for (file, path) in files {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(file);
        machine.put(&source, path, "0644 root:root");
    }
    // A watchdog that a test can wait for.
    let drop_in = "/etc/systemd/system/pecsync.service.d/test.conf";
    machine.write("[Service]\nWatchdogSec=3s\nRestartSec=100ms\n", drop_in, "0644 root:root");
    machine.sh("systemd-sysusers && systemd-tmpfiles --create pecsync.conf");
    machine.sh("journalctl --update-catalog && systemctl daemon-reload");
    machine.write(SETTINGS, "/etc/pecsync/pecsync.toml", "0640 root:pecsync");
}

fn starts_and_tells_the_journal(machine: &Machine) {
    machine.sh("systemctl start pecsync");
    assert_eq!(machine.show("ActiveState"), "active");
    let started = machine.entry("PECSYNC_EVENT=daemon_started");
    assert_eq!(started["MESSAGE_ID"], Event::DaemonStarted.message_id());
    assert_eq!(
        (&started["PRIORITY"], &started["SYSLOG_IDENTIFIER"]),
        (&"5".into(), &"pecsync".into())
    );
    assert_eq!(started["_SYSTEMD_UNIT"], "pecsync.service");

    let file = "/etc/pecsync/conf.d/mario.toml";
    machine.write(ENROLLMENT, file, "0640 root:pecsync");
    let accepted = machine.entry("PECSYNC_EVENT=enrollment_accepted");
    assert_eq!(accepted["PECSYNC_ACCOUNT"], "mario.rossi@pec.epap.it");
    assert_eq!(accepted["PECSYNC_MIGRATION"], "epap");
    assert_eq!(accepted["PECSYNC_FILE"], file);
    machine.write("address = 7\n", "/etc/pecsync/conf.d/bad.toml", "0640 root:pecsync");
    let rejected = machine.entry("PECSYNC_EVENT=enrollment_rejected");
    assert_eq!((&rejected["PRIORITY"], &rejected["PECSYNC_LINE"]), (&"4".into(), &"1".into()));
    machine.sh("rm /etc/pecsync/conf.d/bad.toml");

    let explained = machine.sh("journalctl -x --no-pager PECSYNC_EVENT=enrollment_accepted");
    assert!(explained.contains("mario.rossi@pec.epap.it will be moved"), "{explained}");
    assert!(explained.contains("pecsync status mario.rossi@pec.epap.it"), "{explained}");
    let status = machine.status();
    assert_eq!(status["accounts"][0]["address"], "mario.rossi@pec.epap.it");
    machine.wait("the status line", || machine.show("StatusText").contains("1 account"));
    let journal = machine.sh("journalctl -o export --no-pager -u pecsync");
    assert!(!journal.contains("segreto") && !journal.contains("nuovo"), "{journal}");
}

fn only_admins_give_orders(machine: &Machine) {
    let sockets = machine.sh("stat -c '%n %U:%G %a' /run/pecsync /run/pecsync/*");
    let expected = "/run/pecsync pecsync:pecsync-admin 2750\n\
                    /run/pecsync/control.sock pecsync:pecsync-admin 660\n\
                    /run/pecsync/status.sock pecsync:pecsync-admin 666\n";
    assert_eq!(sockets, expected);
    machine.sh("useradd -G pecsync-admin alice && useradd bruno");
    let alice = machine.sh("setpriv --reuid alice --init-groups --regid alice pecsync retry --all");
    assert_eq!(alice, "1 account woken\n");
    // To give orders is not to read passwords.
    for file in ["conf.d/mario.toml", "pecsync.toml"] {
        let read =
            format!("setpriv --reuid alice --init-groups --regid alice cat /etc/pecsync/{file}");
        let read = machine.run(&["sh", "-c", &read]);
        assert!(!read.status.success() && read.stdout.is_empty(), "{read:?}");
    }
    // Nor does being the daemon's user: what passes through its memory is its own.
    let environ = format!("/proc/{}/environ", machine.show("MainPID"));
    assert_eq!(machine.sh(&format!("stat -c %U {environ}")), "root\n", "not dumpable");
    assert!(!machine.run(&["runuser", "-u", "pecsync", "--", "cat", &environ]).status.success());
    let bruno = "setpriv --reuid bruno --init-groups --regid bruno pecsync retry --all";
    let bruno = machine.run(&["sh", "-c", bruno]);
    assert_eq!(bruno.status.code(), Some(1), "{bruno:?}");
    assert!(String::from_utf8_lossy(&bruno.stderr).contains("pecsync-admin"), "{bruno:?}");
}

fn reloads_and_survives_a_mistake(machine: &Machine) {
    let reloads = || {
        let entries = machine.sh("journalctl -o json PECSYNC_EVENT=configuration_reloaded");
        entries.lines().count()
    };
    let before = reloads();
    machine.sh("systemctl reload pecsync");
    machine.wait("a reload", || reloads() == before + 1);
    machine.write("[daemn]\n", "/etc/pecsync/pecsync.toml", "0640 root:pecsync");
    assert!(!machine.run(&["systemctl", "reload", "pecsync"]).status.success());
    assert_eq!(machine.show("ActiveState"), "active");
    machine.entry("PECSYNC_EVENT=configuration_rejected");
    machine.write(SETTINGS, "/etc/pecsync/pecsync.toml", "0640 root:pecsync");
    machine.sh("systemctl reload pecsync");
    machine.sh("kill -HUP $(systemctl show -p MainPID --value pecsync)");
    machine.wait("SIGHUP", || reloads() == before + 3);
    assert_eq!(machine.show("NRestarts"), "0");
}

fn comes_back_after_kill_and_watchdog(machine: &Machine) {
    for (count, signal) in [("1", "KILL"), ("2", "STOP")] {
        let pid = machine.show("MainPID");
        machine.sh(&format!("kill -{signal} {pid}"));
        machine.wait(signal, || {
            machine.show("NRestarts") == count && machine.show("ActiveState") == "active"
        });
        assert_ne!(machine.show("MainPID"), pid);
        assert_eq!(machine.status()["accounts"][0]["address"], "mario.rossi@pec.epap.it");
    }
    // No core of what held passwords.
    let places = "/ /tmp /run /var/tmp /var/lib/pecsync /var/lib/systemd/coredump";
    let cores = format!("find {places} -maxdepth 1 -name '*core*' -type f 2>/dev/null || true");
    assert_eq!(machine.sh(&cores), "");
    // Three watchdog periods in peace.
    std::thread::sleep(Duration::from_secs(9));
    assert_eq!(machine.show("NRestarts"), "2");
}

fn stops_in_time_and_is_remembered(machine: &Machine) {
    let begun = Instant::now();
    machine.sh("systemctl stop pecsync");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(
        (machine.show("ActiveState"), machine.show("Result")),
        ("inactive".into(), "success".into())
    );
    let status = machine.run(&["pecsync", "status"]);
    assert_eq!(status.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&status.stdout).contains("mario.rossi@pec.epap.it"));
    let modes = machine.sh("stat -c '%a %U' /var/lib/pecsync /var/lib/pecsync/status.json");
    assert_eq!(modes, "750 pecsync\n600 pecsync\n");
}

fn does_not_loop_on_a_mistake(machine: &Machine) {
    machine.write("[daemn]\n", "/etc/pecsync/pecsync.toml", "0640 root:pecsync");
    assert!(!machine.run(&["systemctl", "start", "pecsync"]).status.success());
    std::thread::sleep(Duration::from_secs(1));
    let seen = ["ActiveState", "ExecMainStatus", "NRestarts"].map(|name| machine.show(name));
    assert_eq!(seen, ["failed", "78", "0"]);
}
