//! A configuration of its own for each test, and daemons that come and go on it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub struct Site {
    dir: TempDir,
}

pub struct Daemon<'s> {
    site: &'s Site,
    pub child: Child,
    /// What it tells systemd.
    pub notified: UnixDatagram,
}

impl Site {
    /// With no account, and servers that do not exist.
    pub fn new() -> Site {
        let dir = tempfile::Builder::new().prefix("pecsync-life-").tempdir().expect("a directory");
        let site = Site { dir };
        for part in ["etc/conf.d", "state", "run"] {
            fs::create_dir_all(site.path(part)).expect("made");
        }
        site.configure("");
        site
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Writes pecsync.toml with further lines for `[daemon]`.
    pub fn configure(&self, daemon: &str) {
        self.configure_both(daemon, "");
    }

    /// With further lines for `[daemon]` and `[migration.epap]`.
    pub fn configure_both(&self, daemon: &str, migration: &str) {
        // Port 9 is discard: nobody listens there.
        let side = "host = \"127.0.0.1\"\nport = 9\ntls = \"none\"\n";
        let text = format!(
            "[daemon]\nstate_dir = \"{}\"\ncontrol_socket = \"{}\"\n{daemon}\n\
             [migration.epap]\ndomains = [\"pec.epap.it\"]\n{migration}\n\
             [migration.epap.source]\n{side}[migration.epap.target]\n{side}",
            self.path("state").display(),
            self.path("run/control.sock").display(),
        );
        self.write("etc/pecsync.toml", &text);
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        let draft = path.with_file_name(".draft");
        fs::write(&draft, text).expect("written");
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).expect("chmod");
        fs::rename(draft, path).expect("renamed");
    }

    pub fn enroll(&self, local_part: &str) {
        self.write(&format!("etc/conf.d/{local_part}.toml"), &enrollment(local_part));
    }

    /// Starts the daemon and waits until it is ready.
    pub fn start(&self) -> Daemon<'_> {
        let mut daemon = self.spawn();
        daemon.wait_notified("READY=1");
        daemon
    }

    /// Starts the daemon.
    pub fn spawn(&self) -> Daemon<'_> {
        let notify = self.path("notify.sock");
        let _ = fs::remove_file(&notify);
        let notified = UnixDatagram::bind(&notify).expect("a socket");
        notified.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let log = fs::OpenOptions::new().append(true).create(true).open(self.path("log"));
        let child = Command::new(env!("CARGO_BIN_EXE_pecsync"))
            .args(["run", "--log", "json", "--config"])
            .arg(self.path("etc/pecsync.toml"))
            .env("NOTIFY_SOCKET", &notify)
            .env("WATCHDOG_USEC", "600000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn()
            .expect("pecsync starts");
        Daemon { site: self, child, notified }
    }

    /// Runs another command of the binary.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pecsync"));
        command.args(arguments).arg("--config").arg(self.path("etc/pecsync.toml"));
        command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).output().expect("pecsync runs")
    }

    /// What `status --json` prints.
    pub fn status(&self) -> Value {
        let output = self.command(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// The status of one account, once `holds` is true of it.
    pub fn wait_account(&self, address: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let found = poll(|| {
            let status = self.status();
            let mut accounts = status["accounts"].as_array().into_iter().flatten();
            accounts.find(|account| account["address"] == address).filter(|a| holds(a)).cloned()
        });
        found.unwrap_or_else(|| panic!("{address}: {}\n{}", self.status(), self.log()))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// All entries of one event so far.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let log = self.log();
        let entries = log.lines().map(|line| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        });
        entries.filter(|entry| entry["PECSYNC_EVENT"] == name).collect()
    }

    /// The last entry of an event once there are so many of them.
    pub fn wait_event(&self, name: &str, count: usize) -> Value {
        let found = poll(|| self.events(name).into_iter().nth(count - 1));
        found.unwrap_or_else(|| panic!("no {name}:\n{}", self.log()))
    }
}

impl Daemon<'_> {
    /// Waits for a message to systemd that contains `part`; gives it whole.
    pub fn wait_notified(&mut self, part: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = self.notified.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("systemd never hears {part}: {error}\n{}", self.site.log())
            });
            let message = String::from_utf8_lossy(&buffer[..length]);
            if message.contains(part) {
                return message.into_owned();
            }
        }
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes no pointers; the child has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    pub fn wait(&mut self) -> ExitStatus {
        poll(|| self.child.try_wait().expect("a child"))
            .unwrap_or_else(|| panic!("it runs on\n{}", self.site.log()))
    }

    /// Asks it to stop, and checks that it does so in time.
    pub fn stop(&mut self) -> ExitStatus {
        let begun = Instant::now();
        self.signal(libc::SIGTERM);
        let status = self.wait();
        assert!(begun.elapsed() < Duration::from_secs(10));
        status
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(self.site.path("notify.sock"));
    }
}

pub fn enrollment(local_part: &str) -> String {
    format!(
        "address = \"{local_part}@pec.epap.it\"\n[source]\npassword = \"segreto-{local_part}\"\n\
         [target]\nuser = \"M{local_part}\"\npassword = \"nuovo-{local_part}\"\n"
    )
}

pub fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// Until it is there, for at most fifteen seconds.
pub fn poll<T>(mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        if let Some(value) = found() {
            return Some(value);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
