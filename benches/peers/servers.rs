//! A pair of Dovecot servers on a file system in memory: Maildir with separator `.` as the
//! source, sdbox with separator `/` as the target, TLS only, no fsync.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::link::{SOURCE, TARGET, inside};

pub const PASSWORD: &str = "segreta";
const NOBODY: u32 = 65_534;

pub struct Dovecot {
    dir: PathBuf,
    pub host: &'static str,
    pub port: u16,
    master: Child,
}

impl Dovecot {
    pub fn source(dir: &Path, namespace: &str) -> Dovecot {
        Dovecot::start(dir.join("source"), SOURCE, 9931, ".", "maildir:~/Maildir", namespace)
    }

    pub fn target(dir: &Path, namespace: &str) -> Dovecot {
        Dovecot::start(dir.join("target"), TARGET, 9932, "/", "sdbox:~/sdbox", namespace)
    }

    fn start(
        dir: PathBuf,
        host: &'static str,
        port: u16,
        separator: &str,
        mail: &str,
        namespace: &str,
    ) -> Dovecot {
        fs::create_dir_all(dir.join("mail")).expect("created");
        for part in [&dir, &dir.join("mail")] {
            fs::set_permissions(part, fs::Permissions::from_mode(0o777)).expect("chmod");
        }
        write_certificate(&dir, host);
        let config = configuration(&dir, port, separator, mail);
        fs::write(dir.join("dovecot.conf"), config).expect("written");
        let mut command = Command::new("dovecot");
        inside(namespace, &mut command).arg("-F").arg("-c").arg(dir.join("dovecot.conf"));
        // Dovecot keeps its standard handles open: a pipe there would never end.
        let errors = fs::File::create(dir.join("errors")).expect("created");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let master = command.spawn().expect("dovecot starts");
        let ready = (0..200).any(|_| {
            thread::sleep(Duration::from_millis(50));
            dir.join("base/master.pid").exists()
        });
        assert!(ready, "Dovecot does not start; see {}", dir.display());
        Dovecot { dir, host, port, master }
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("dovecot.conf")
    }

    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("cert.pem")
    }

    pub fn home(&self, user: &str) -> PathBuf {
        self.dir.join("mail").join(user)
    }

    /// Takes a user's mail away.
    pub fn forget(&self, user: &str) {
        let _ = fs::remove_dir_all(self.home(user));
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // SAFETY: kill takes no pointers; the child has not been waited for, so the pid is its.
        unsafe { libc::kill(self.master.id() as i32, libc::SIGTERM) };
        let _ = self.master.wait();
    }
}

/// Gives a tree to the user that Dovecot's sessions run as.
pub fn give_away(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("listed") {
            give_away(&entry.expect("listed").path());
        }
    }
}

fn write_certificate(dir: &Path, host: &str) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec![host.to_owned()]).expect("parameters");
    let certificate = params.self_signed(&key).expect("a certificate");
    fs::write(dir.join("cert.pem"), certificate.pem()).expect("written");
    fs::write(dir.join("key.pem"), key.serialize_pem()).expect("written");
}

fn configuration(dir: &Path, port: u16, separator: &str, mail: &str) -> String {
    let dir = dir.display();
    format!(
        "protocols = imap\nlisten = *\nbase_dir = {dir}/base\nstate_dir = {dir}/state\n\
         log_path = {dir}/log\nfirst_valid_uid = 1\nauth_username_format = %u\nmail_fsync = never\ndefault_vsz_limit = 2G\n\
         mail_max_userip_connections = 100\nmail_location = {mail}\n\
         ssl = required\nssl_cert = <{dir}/cert.pem\nssl_key = <{dir}/key.pem\n\
         passdb {{\n driver = static\n args = password={PASSWORD}\n}}\n\
         userdb {{\n driver = static\n \
         args = uid={NOBODY} gid={NOBODY} home={dir}/mail/%u allow_all_users=yes\n}}\n\
         service anvil {{\n unix_listener anvil-auth-penalty {{\n  mode = 0\n }}\n}}\n\
         service imap-login {{\n chroot =\n \
         inet_listener imap {{\n  port = 0\n }}\n \
         inet_listener imaps {{\n  port = {port}\n  ssl = yes\n }}\n}}\n\
         namespace inbox {{\n inbox = yes\n separator = {separator}\n}}\n"
    )
}
