//! The Debian package from its first installation to its purge, on this Debian and on the next: it
//! is built as `make deb` builds it, around the program under test.

#[path = "../../docs/manual/src/markdown.rs"]
mod markdown;
#[path = "../../docs/manual/src/pages.rs"]
pub mod pages;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::machine::Machine;

/// Where `install.sh` puts it.
pub const DEBIAN_13: &str = "/var/cache/pecsync-tests/trixie";

const MIGRATION: &str = r#"
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
"#;

const INSTANCE: &str = r#"
[daemon]
state_dir = "/var/lib/pecsync/instances/second"
control_socket = "/run/pecsync/second/control.sock"
"#;

/// More messages than the journal's socket and buffers take in.
const FLOOD: usize = 300;

/// One server, on which the old and the new mailbox are two users, in the language of either
/// generation of Dovecot.
pub const DOVECOT: &str = r#"
version=$(dovecot --version | grep -oE '^[0-9.]+')
install -d -o mail -g mail /srv/mail
case $version in
2.3*) cat <<'END'
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
passdb {
  driver = static
  args = password=geheim
}
userdb {
  driver = static
  args = uid=mail gid=mail home=/srv/mail/%u
}
END
;;
*) cat <<END
dovecot_config_version = $version
dovecot_storage_version = $version
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = ~/Maildir
passdb static {
  password = geheim
}
userdb static {
  fields {
    uid = mail
    gid = mail
    home = /srv/mail/%{user}
  }
}
END
;;
esac >/root/dovecot.conf
cat >>/root/dovecot.conf <<'END'
protocols = imap
listen = 127.0.0.1
ssl = no
first_valid_uid = 1
service imap-login {
  inet_listener imap {
    port = 143
  }
  inet_listener imaps {
    port = 0
  }
}
END
systemd-run --quiet --unit=test-imap dovecot -F -c /root/dovecot.conf
"#;

#[test]
fn the_package_on_this_debian() {
    let Some(machine) = Machine::boot(Path::new("/")) else { return };
    lives_and_is_purged(&machine);
}

#[test]
fn the_package_on_debian_13() {
    let Some(machine) = Machine::boot(Path::new(DEBIAN_13)) else { return };
    lives_and_is_purged(&machine);
}

#[test]
fn a_generic_installation() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    let manual = manual(dir.path());
    let install = || {
        let mut make = Command::new("make");
        make.arg("--directory")
            .arg(env!("CARGO_MANIFEST_DIR"))
            .args(["install", "PREFIX=/usr/local"]);
        run(make.args(variables(&manual)).arg(format!("DESTDIR={}", root.display())))
    };
    install();
    let settings = root.join("etc/pecsync/pecsync.toml");
    fs::write(&settings, "# mine\n").expect("written");
    install();
    assert_eq!(fs::read_to_string(settings).expect("it is there"), "# mine\n");
    leads_everywhere(&root.join("usr/local/share/doc/pecsync"));
    for (name, unit) in [("pecsync.service", "a.service"), ("pecsync@.service", "a@b.service")] {
        let path = root.join("usr/local/lib/systemd/system").join(name);
        let text = fs::read_to_string(path).expect("a unit");
        assert!(!text.contains("/usr/bin/pecsync"), "{text}");
        let here = text.replace("/usr/local/bin/pecsync", env!("CARGO_BIN_EXE_pecsync"));
        let unit = dir.path().join(unit);
        fs::write(&unit, here).expect("written");
        let mut verify = Command::new("systemd-analyze");
        let said = run(verify.args(["verify", "--man=no"]).arg(&unit));
        let ours = said.lines().filter(|line| line.contains(dir.path().to_str().expect("UTF-8")));
        assert_eq!(ours.count(), 0, "{said}");
    }
}

/// Links of the installed manual lead to what is installed.
fn leads_everywhere(doc: &Path) {
    let mut seen = 0;
    for entry in fs::read_dir(doc).expect("listed") {
        let page = entry.expect("listed").path();
        if page.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&page).expect("a page");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let is_local = !link.is_empty() && !link.contains("://");
            assert!(!is_local || doc.join(link).exists(), "{}: {link}", page.display());
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}

fn lives_and_is_purged(machine: &Machine) {
    let before = traces(machine);
    for (version, package) in ["1", "2"].iter().zip(packages()) {
        machine.put(package, &format!("/root/{version}.deb"), "0644 root:root");
    }
    is_idle_after_the_first_installation(machine);
    is_hardened(machine);
    follows_an_account(machine);
    is_upgraded_without_losing_anything(machine);
    is_not_restarted_on_settings_it_does_not_understand(machine);
    rotates_its_key(machine);
    runs_twice(machine);
    machine.sh("dpkg -r pecsync");
    assert_eq!(machine.show("ActiveState"), "inactive");
    comes_back_where_it_was(machine);
    does_not_wait_for_the_journal(machine);
    is_cut_over(machine);
    machine.sh("dpkg -r pecsync");
    machine.sh("test -e /var/lib/pecsync/checkpoint && dpkg -P pecsync");
    assert_eq!(traces(machine), before);
}

/// What bears its name, but for the packages themselves.
pub fn traces(machine: &Machine) -> String {
    machine.sh(
        "find /etc /run /srv /usr/bin /usr/lib/systemd /usr/lib/sysusers.d /usr/lib/tmpfiles.d \
         /usr/share /var/lib -xdev -name '*pecsync*' | sort; \
         grep -h pecsync /etc/passwd /etc/group /etc/shadow /etc/gshadow; \
         journalctl --list-catalog 2>/dev/null | grep pecsync; \
         systemctl list-units --all --plain --no-legend --type=service '*pecsync*'",
    )
}

fn is_idle_after_the_first_installation(machine: &Machine) {
    let said = machine.sh("dpkg -i /root/1.deb 2>&1");
    assert!(said.contains("idle until a migration is configured"), "{said}");
    assert_eq!(machine.show("ActiveState"), "active");
    assert_eq!(machine.sh("systemctl is-enabled pecsync"), "enabled\n");
    let warning = machine.entry("PECSYNC_EVENT=configuration_warning");
    assert!(warning["MESSAGE"].to_string().contains("no migration is configured"), "{warning}");
    let status = machine.sh("pecsync status");
    assert!(status.contains("no migration is configured"), "{status}");
    let access = machine.sh("stat -c '%a %U:%G' /etc/pecsync/keys/*.private /etc/pecsync/conf.d");
    assert_eq!(access, "600 root:root\n2750 root:pecsync\n");
    machine.sh("runuser -u pecsync -- pecsync check");
    machine.sh("cd / && md5sum --quiet -c /var/lib/dpkg/info/pecsync.md5sums");
}

fn is_hardened(machine: &Machine) {
    machine.sh("systemd-analyze security --no-pager --threshold=12 pecsync.service");
}

fn follows_an_account(machine: &Machine) {
    machine.sh(DOVECOT);
    machine.wait("Dovecot", || {
        machine.run(&["bash", "-c", ": </dev/tcp/127.0.0.1/143"]).status.success()
    });
    receive(machine, "1");
    machine.write(MIGRATION, "/etc/pecsync/migrations.d/epap.toml", "0640 root:pecsync");
    machine.sh("pecsync check && systemctl reload pecsync");
    machine.sh("printf 'geheim\\ngeheim\\n' | pecsync enroll mario@pec.epap.it --password-stdin \
         --source-user old --target-user new");
    // For the key that the installation made.
    let enrollment = machine.sh("cat /etc/pecsync/conf.d/*.toml");
    assert_eq!(enrollment.matches("sealed_password = \"v1:").count(), 2, "{enrollment}");
    machine.entry("PECSYNC_EVENT=first_copy_completed");
    let explained = machine.sh("journalctl -x --no-pager PECSYNC_EVENT=first_copy_completed");
    assert!(explained.contains("Subject:"), "{explained}");
    receive(machine, "2");
    both_have(machine, 2);
}

/// Mail comes in at the old mailbox.
fn receive(machine: &Machine, number: &str) {
    let save = "doveadm -c /root/dovecot.conf save -u old -m INBOX";
    machine.sh(&format!("printf 'Subject: {number}\\r\\n\\r\\nmail {number}\\r\\n' | {save}"));
}

/// So many messages come to be at the new mailbox, and are those of the old one.
fn both_have(machine: &Machine, messages: usize) {
    let fetch = |user: &str| {
        machine.sh(&format!("doveadm -c /root/dovecot.conf fetch -u {user} text mailbox INBOX"))
    };
    machine.wait("the mail", || fetch("new").matches("Subject: ").count() >= messages);
    assert_eq!(fetch("new"), fetch("old"));
    assert_eq!(fetch("new").matches("Subject: ").count(), messages);
}

fn is_upgraded_without_losing_anything(machine: &Machine) {
    let before = machine.show("MainPID");
    // A wrong enrollment is no reason to stay with the old program.
    machine.write("address = 7\n", "/etc/pecsync/conf.d/bad.toml", "0640 root:pecsync");
    let own = "# mine\n";
    machine.write(own, "/etc/pecsync/pecsync.toml", "0640 root:pecsync");
    machine.sh("dpkg -i /root/2.deb");
    machine.sh("rm /etc/pecsync/conf.d/bad.toml");
    assert_eq!(machine.show("ActiveState"), "active");
    assert_ne!(machine.show("MainPID"), before);
    assert_eq!(machine.sh("cat /etc/pecsync/pecsync.toml"), own);
    assert_eq!(machine.sh("ls /etc/pecsync/keys | wc -l").trim(), "2");
    receive(machine, "3");
    both_have(machine, 3);
    // Lost progress would have been found again at the target, and be counted as adopted.
    machine.wait("the count", || {
        let messages = &machine.status()["accounts"][0]["messages"];
        messages["copied"] == 3 && messages["adopted"] == 0
    });
}

fn is_not_restarted_on_settings_it_does_not_understand(machine: &Machine) {
    let before = machine.show("MainPID");
    machine.write("[daemn]\n", "/etc/pecsync/pecsync.toml", "0640 root:pecsync");
    let said = machine.sh("dpkg -i /root/2.deb 2>&1");
    assert!(said.contains("did you mean \"daemon\""), "{said}");
    assert!(said.contains("pecsync.service goes on with the old version"), "{said}");
    assert_eq!(machine.show("MainPID"), before);
    machine.write("", "/etc/pecsync/pecsync.toml", "0640 root:pecsync");
    machine.sh("systemctl restart pecsync");
    receive(machine, "4");
    both_have(machine, 4);
}

/// What is sealed for a new key waits for a restart, and what was sealed before still opens after it.
fn rotates_its_key(machine: &Machine) {
    let said = machine.sh("pecsync seal --new-key");
    assert!(said.contains("systemctl restart pecsync"), "{said}");
    machine.sh("pecsync reload");
    let warning = machine.entry("PECSYNC_EVENT=configuration_warning");
    let warned = warning["MESSAGE"].to_string();
    assert!(warned.contains("made since the daemon was started"), "{warning}");
    machine.sh("printf 'geheim\\ngeheim\\n' | pecsync enroll anna@pec.epap.it --password-stdin \
         --source-user other --target-user another");
    let rejected = machine.entry("PECSYNC_EVENT=enrollment_rejected PECSYNC_LINE=5");
    assert!(rejected["MESSAGE"].to_string().contains("systemctl restart pecsync"), "{rejected}");
    machine.sh("pecsync check && systemctl restart pecsync");
    machine.wait("both", || {
        let accounts = machine.status()["accounts"].clone();
        let following = accounts.as_array().expect("a list").iter();
        following.filter(|account| account["phase"] == "following").count() == 2
    });
    machine.sh("rm /etc/pecsync/conf.d/anna@pec.epap.it.toml");
}

fn runs_twice(machine: &Machine) {
    let settings = "/etc/pecsync/instances/second/pecsync.toml";
    machine.write(INSTANCE, settings, "0640 root:pecsync");
    machine.sh("systemctl start pecsync@second && systemctl reload pecsync@second");
    let status = machine.sh(&format!("pecsync --config {settings} status"));
    assert!(status.contains("no migration is configured"), "{status}");
    let socket = machine.sh("stat -c '%U:%G %a' /run/pecsync/second/control.sock");
    assert_eq!(socket, "pecsync:pecsync-admin 660\n");
    machine.sh(&format!("pecsync --config {settings} seal --new-key"));
    let access = machine.sh("stat -c '%a %U:%G' /etc/pecsync/instances/second/keys/*.private");
    assert_eq!(access, "600 root:root\n");
    machine.sh("systemctl restart pecsync@second");
    let handed = machine.sh("ls /run/credentials/pecsync@second.service");
    assert!(handed.contains(".private"), "{handed}");
    machine.sh("systemd-analyze security --no-pager --threshold=12 pecsync@second.service");
    let pid = || machine.sh("systemctl show -p MainPID --value pecsync@second");
    let before = pid();
    machine.sh("dpkg -i /root/2.deb");
    assert_ne!(pid(), before);
    machine.sh("systemctl is-active pecsync@second");
}

fn comes_back_where_it_was(machine: &Machine) {
    receive(machine, "5");
    let said = machine.sh("dpkg -i /root/2.deb 2>&1");
    assert!(!said.contains("idle"), "{said}");
    assert_eq!(machine.show("ActiveState"), "active");
    both_have(machine, 5);
}

/// Mail that comes while journald stands still is copied, and told when it goes on.
fn does_not_wait_for_the_journal(machine: &Machine) {
    let entries = || {
        let matching = "PECSYNC_EVENT=message_copied PECSYNC_ACCOUNT=mario@pec.epap.it";
        machine.sh(&format!("journalctl -u pecsync -o cat --no-pager {matching}")).lines().count()
    };
    let before = entries();
    let journald = machine.sh("systemctl show -p MainPID --value systemd-journald");
    machine.sh(&format!("kill -STOP {journald}"));
    let save = "doveadm -c /root/dovecot.conf save -u old -m INBOX";
    machine.sh(&format!(
        "for n in $(seq {FLOOD}); do printf 'Subject: %s\\r\\n\\r\\nmail\\r\\n' $n | {save}; done"
    ));
    both_have(machine, 5 + FLOOD);
    machine.sh("pecsync status --check");
    assert_eq!(entries(), before, "it stands still");
    machine.sh(&format!("kill -CONT {journald}"));
    machine.wait("the journal", || entries() == before + FLOOD);
}

fn is_cut_over(machine: &Machine) {
    machine.sh("pecsync cutover --migration epap --now");
    machine.entry("PECSYNC_EVENT=account_completed");
    let reports = machine.sh("find /var/lib/pecsync/reports -type f -user pecsync");
    assert!(reports.contains(".json"), "{reports}");
    both_have(machine, 5 + FLOOD);
    let story =
        machine.sh("journalctl -u pecsync -p notice -o cat PECSYNC_ACCOUNT=mario@pec.epap.it");
    let story: Vec<&str> = story.lines().collect();
    // It was enrolled, upgraded, restarted and installed anew meanwhile.
    assert!(story.len() < 50, "{story:#?}");
}

/// The package in two versions, built once.
pub fn packages() -> &'static [PathBuf; 2] {
    static BUILT: OnceLock<(TempDir, [PathBuf; 2])> = OnceLock::new();
    let (_, packages) = BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let manual = manual(dir.path());
        let packages = ["1.0-1", "1.1-1"].map(|version| {
            let out = dir.path().join(version);
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/debian/build.sh");
            let mut command = Command::new(script);
            command.env("DEB_VERSION", version).env("DPKG_DEB_COMPRESSOR_LEVEL", "1");
            run(command.arg(&out).args(variables(&manual)));
            let mut packages = fs::read_dir(&out).expect("listed");
            packages.next().expect("a package").expect("listed").path()
        });
        (dir, packages)
    });
    packages
}

/// What `make build` makes besides the program.
fn manual(dir: &Path) -> PathBuf {
    let manual = dir.join("manual");
    fs::create_dir(&manual).expect("made");
    for (name, text) in pages::all("2026-02-04") {
        fs::write(manual.join(name), text).expect("written");
    }
    manual
}

/// What tells make what has been built.
fn variables(manual: &Path) -> [String; 2] {
    let program = env!("CARGO_BIN_EXE_pecsync");
    [format!("BINARY={program}"), format!("MANUAL={}", manual.display())]
}

/// What it complains of without failing.
pub fn run(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}
