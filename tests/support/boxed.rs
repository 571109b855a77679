//! A real Cyrus or Courier of a test's own: on loopback, on a free port, its mail in its own
//! directory, gone when the test ends, also by a panic. Needs root, as Dovecot does, and mount
//! namespaces, since these two want their files at fixed places (`box.sh`, `cyrus.sh`,
//! `courier.sh`).

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::imap::Imap;
use super::port::free_port;
use super::server::{self, Names, Server};
use super::{poll, signal_group, tie_with};

/// Where `install.sh` unpacks the packages.
const UNPACKED: &str = "/var/cache/pecsync-tests";

/// What a server is to be like, before it starts.
#[derive(Clone, Debug)]
pub struct Setup {
    make: &'static str,
    names: Names,
    options: String,
    users: Vec<(String, String)>,
}

impl Setup {
    /// A line of Cyrus's imapd.conf.
    pub fn option(mut self, line: &str) -> Setup {
        self.options.extend([line, "\n"]);
        self
    }
}

impl server::Setup for Setup {
    type Running = Boxed;

    fn user(mut self, user: &str, password: &str) -> Setup {
        self.users.push((user.to_owned(), password.to_owned()));
        self
    }

    fn start(self) -> Boxed {
        Boxed::start(self)
    }
}

/// Cyrus as it comes: everything below `INBOX.`.
pub fn cyrus() -> Setup {
    let names = Names { separator: '.', prefix: "INBOX.", well_known: &[] };
    setup("cyrus", names).option("unixhierarchysep: no").option("altnamespace: no")
}

/// Cyrus as its documentation recommends it: folders beside INBOX, `/` between levels.
pub fn cyrus_beside() -> Setup {
    let names = Names { separator: '/', prefix: "", well_known: &[] };
    setup("cyrus", names).option("unixhierarchysep: yes").option("altnamespace: yes")
}

/// Courier knows one layout only.
pub fn courier() -> Setup {
    setup("courier", Names { separator: '.', prefix: "INBOX.", well_known: &[] })
}

fn setup(make: &'static str, names: Names) -> Setup {
    Setup { make, names, options: String::new(), users: Vec::new() }
}

/// A running server.
pub struct Boxed {
    setup: Setup,
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Boxed {
    fn start(setup: Setup) -> Boxed {
        let prefix = format!("{}-", setup.make);
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let mut users = String::new();
        for (user, password) in &setup.users {
            writeln!(users, "{user} {password}").expect("a string");
        }
        fs::write(dir.path().join("users"), users).expect("written");
        fs::write(dir.path().join("options"), &setup.options).expect("written");
        let mut server = Boxed { setup, dir, port: 0, child: None };
        // Another test may take the port between our finding it and the server's binding it.
        let started = (0..3).any(|_| server.start_on(free_port()));
        assert!(started, "{} does not start:\n{}", server.setup.make, server.log());
        server
    }

    fn start_on(&mut self, port: u16) -> bool {
        self.port = port;
        let support = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support");
        let tree = Path::new(UNPACKED).join(self.setup.make);
        assert!(tree.exists(), "{} is missing: run tests/support/install.sh", tree.display());
        // The box sees the machine's files, but not what lies below a mount point.
        let script = self.dir.path().join("start.sh");
        fs::copy(support.join(format!("{}.sh", self.setup.make)), &script).expect("copied");
        let mut command = Command::new("bash");
        command.arg(support.join("box.sh")).arg(tree).arg(self.dir.path());
        command.arg("bash").arg(script).arg(self.dir.path()).arg(port.to_string());
        let log = fs::File::create(self.dir.path().join("log")).expect("created");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("cloned")).stderr(log);
        // The box holds against SIGTERM.
        let child = tie_with(libc::SIGKILL, &mut command).spawn().expect("bash starts");
        let child = self.child.insert(child);
        let ready = poll(Duration::from_secs(20), || {
            let exited = child.try_wait().expect("a child").is_some();
            let answers = TcpStream::connect(("127.0.0.1", port)).is_ok();
            (exited || answers).then_some(!exited)
        });
        if ready != Some(true) {
            self.stop();
        }
        ready == Some(true)
    }

    fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        signal_group(child.id(), libc::SIGKILL);
        let _ = child.wait();
    }

    /// What it wrote to its standard handles.
    pub fn log(&self) -> String {
        let log = fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Server for Boxed {
    fn imap(&self, user: &str) -> Imap {
        let known = self.setup.users.iter().find(|(name, _)| name == user);
        let (_, password) = known.expect("a user of this server");
        Imap::login(self.port, user, password)
    }

    fn endpoint(&self) -> String {
        format!("host = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n", self.port)
    }

    fn names(&self) -> Names {
        self.setup.names
    }

    fn appends_refused(&self, user: &str) -> usize {
        // Cyrus writes every session down.
        let sessions = fs::read_dir(self.dir.path().join("conf/log").join(user));
        let refusals = |session: fs::DirEntry| {
            let log = fs::read(session.path()).expect("readable");
            String::from_utf8_lossy(&log).matches(" NO Message contains ").count()
        };
        sessions.into_iter().flatten().map_while(Result::ok).map(refusals).sum()
    }

    fn maildir(&self, user: &str, shown: &str) -> Option<PathBuf> {
        let home = self.dir.path().join("mail").join(user);
        (self.setup.make == "courier")
            .then(|| home.join("Maildir").join(self.names().maildir(shown)))
    }
}

impl Drop for Boxed {
    fn drop(&mut self) {
        self.stop();
    }
}
