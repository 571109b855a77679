//! The built binary between two servers: its configuration in a directory of its own, its log,
//! its status, and its ends (SIGTERM, kill -9).

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

use super::server::Server;
use super::{poll, tie_to_this_thread};

/// The domain all test accounts belong to, and their migration's name.
pub const DOMAIN: &str = "pec.prova.example";
pub const MIGRATION: &str = "prova";

/// The binary under test; another one (an installed package) by `PECSYNC_BIN`.
fn binary() -> PathBuf {
    let chosen = std::env::var_os("PECSYNC_BIN").map(PathBuf::from);
    let built = || option_env!("CARGO_BIN_EXE_pecsync").map(PathBuf::from);
    chosen.or_else(built).unwrap_or_else(|| {
        // For tests of another package: beside its own programs.
        let test = std::env::current_exe().expect("a test has a file");
        test.parent().and_then(Path::parent).expect("target/debug").join("pecsync")
    })
}

/// What `pecsync.toml` is to say, before it is written.
pub struct Plan {
    daemon: String,
    migration: String,
    source: String,
    target: String,
    folders: String,
    sync: String,
}

impl Plan {
    /// A migration between two servers, quick enough for a test: sweeps and doubts take seconds.
    pub fn between(source: &impl Server, target: &impl Server) -> Plan {
        Plan {
            daemon: String::new(),
            migration: format!("domains = [\"{DOMAIN}\"]\ntimezone = \"Europe/Rome\"\n"),
            source: source.endpoint(),
            target: target.endpoint(),
            folders: String::new(),
            sync: "sweep_interval = \"2s\"\nin_doubt_wait = \"3s\"\n".to_owned(),
        }
    }

    /// Cuts over that long from now, and stops the daemon once the account has completed.
    pub fn cutover_in(self, delay: Duration) -> Plan {
        let cutover = rfc3339(SystemTime::now() + delay);
        self.migration(&format!("cutover = \"{cutover}\"")).daemon("exit_when_completed = true")
    }

    pub fn daemon(mut self, line: &str) -> Plan {
        self.daemon.extend([line, "\n"]);
        self
    }

    pub fn migration(mut self, line: &str) -> Plan {
        self.migration.extend([line, "\n"]);
        self
    }

    /// Lines of `[migration.*.source]`, tables below it included.
    pub fn source(mut self, lines: &str) -> Plan {
        self.source.extend([lines, "\n"]);
        self
    }

    pub fn target(mut self, lines: &str) -> Plan {
        self.target.extend([lines, "\n"]);
        self
    }

    pub fn folders(mut self, line: &str) -> Plan {
        self.folders.extend([line, "\n"]);
        self
    }

    pub fn sync(mut self, line: &str) -> Plan {
        self.sync.extend([line, "\n"]);
        self
    }

    /// Sweeps this seldom, so that whatever shows sooner was told by the server.
    pub fn sweep_every(mut self, interval: &str) -> Plan {
        self.sync = self.sync.replace("\"2s\"", &format!("\"{interval}\""));
        self
    }

    /// Writes it all into a directory of its own.
    pub fn write(self) -> Site {
        let dir = tempfile::Builder::new().prefix("pecsync-").tempdir().expect("a directory");
        let site = Site { dir, secrets: Mutex::new(Vec::new()) };
        for part in ["etc/conf.d", "etc/migrations.d", "etc/secrets", "run", "state"] {
            fs::create_dir_all(site.path(part)).expect("created");
        }
        let text = self.text(&site);
        write_private(&site.config(), &text);
        site
    }

    fn text(&self, site: &Site) -> String {
        format!(
            "[daemon]\nconf_dir = \"conf.d\"\nstate_dir = \"{}\"\ncontrol_socket = \"{}\"\n{}\n\
             [migration.{MIGRATION}]\n{}\n\
             [migration.{MIGRATION}.folders]\n{}\n[migration.{MIGRATION}.sync]\n{}\n\
             [migration.{MIGRATION}.source]\n{}\n[migration.{MIGRATION}.target]\n{}\n",
            site.state().display(),
            site.path("run/control.sock").display(),
            self.daemon,
            self.migration,
            self.folders,
            self.sync,
            self.source,
            self.target,
        )
    }
}

/// A configuration and a state directory on disk; daemons come and go on it.
pub struct Site {
    dir: TempDir,
    /// What must never be seen in a log.
    secrets: Mutex<Vec<String>>,
}

/// One account and its two logins.
#[derive(Clone, Debug)]
pub struct Account {
    pub address: String,
    pub source_password: String,
    pub target_user: String,
    pub target_password: String,
}

impl Account {
    pub fn new(local_part: &str) -> Account {
        Account {
            address: format!("{local_part}@{DOMAIN}"),
            source_password: format!("segreto-di-{local_part}"),
            target_user: format!("M{:07}", local_part.len() * 1_234_567 % 9_999_999),
            target_password: format!("Nuov@-di-{local_part}-1"),
        }
    }

    /// The enrollment's text with a cutover of its own.
    pub fn cut_over_at(&self, instant: SystemTime) -> String {
        let cutover = format!("cutover = \"{}\"\n[source]", rfc3339(instant));
        self.enrollment().replacen("[source]", &cutover, 1)
    }

    /// The enrollment's text.
    pub fn enrollment(&self) -> String {
        let Account { address, source_password, target_user, target_password } = self;
        format!(
            "address = {}\n[source]\npassword = {}\n[target]\nuser = {}\npassword = {}\n",
            toml_string(address),
            toml_string(source_password),
            toml_string(target_user),
            toml_string(target_password),
        )
    }
}

impl Site {
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub fn config(&self) -> PathBuf {
        self.path("etc/pecsync.toml")
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub fn conf_d(&self) -> PathBuf {
        self.path("etc/conf.d")
    }

    /// Drops an enrollment as a careful program does: written aside, then renamed.
    pub fn enroll(&self, account: &Account) -> PathBuf {
        self.keep_out_of_logs(&account.source_password);
        self.keep_out_of_logs(&account.target_password);
        self.drop_file(&format!("{}.toml", account.address), &account.enrollment())
    }

    /// Drops a file into conf.d under any name.
    pub fn drop_file(&self, name: &str, text: &str) -> PathBuf {
        let (draft, file) = (self.conf_d().join(".draft"), self.conf_d().join(name));
        write_private(&draft, text);
        fs::rename(draft, &file).expect("renamed");
        file
    }

    pub fn keep_out_of_logs(&self, secret: &str) {
        self.secrets.lock().expect("no panic here").push(secret.to_owned());
    }

    /// Takes what the daemon remembers away, as a careless operator does.
    pub fn lose_state(&self) {
        fs::remove_dir_all(self.state()).expect("removed");
        fs::create_dir(self.state()).expect("created");
    }

    /// Keeps a copy of the state under a name; the daemon may be running or not.
    pub fn save_state(&self, name: &str) {
        let _ = fs::remove_dir_all(self.path(name));
        copy_directory(&self.state(), &self.path(name));
    }

    /// Puts a saved copy back in the state's place.
    pub fn restore_state(&self, name: &str) {
        fs::remove_dir_all(self.state()).expect("removed");
        copy_directory(&self.path(name), &self.state());
    }

    pub fn start(&self) -> Daemon<'_> {
        let mut daemon = self.spawn();
        let answers = poll(Duration::from_secs(20), || {
            let exited = daemon.child.try_wait().expect("a child");
            exited.is_some().then_some(false).or_else(|| daemon.status().map(|_| true))
        });
        assert_eq!(answers, Some(true), "the daemon does not start:\n{}", self.log());
        daemon
    }

    /// Starts the daemon without waiting until it answers.
    pub fn spawn(&self) -> Daemon<'_> {
        let log = fs::OpenOptions::new().append(true).create(true).open(self.path("log"));
        let log = log.expect("a log");
        let mut command = Command::new(binary());
        command.args(["run", "--log", "json", "--config"]).arg(self.config());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("cloned")).stderr(log);
        let child = tie_to_this_thread(&mut command).spawn().expect("pecsync starts");
        Daemon { site: self, child }
    }

    /// Runs a daemon that finds everything completed already.
    pub fn start_to_its_end(&self) {
        self.spawn().wait_ended_well(30);
    }

    /// Runs another command of the binary on this configuration.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--config").arg(self.config()).stdin(Stdio::null());
        command.output().expect("pecsync runs")
    }

    /// The log of all daemons so far, as it is.
    /// Runs a command that has to succeed.
    pub fn order(&self, arguments: &[&str]) {
        let output = self.command(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }

    pub fn log(&self) -> String {
        let octets = fs::read(self.path("log")).unwrap_or_default();
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// All entries of one event so far.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let log = self.log();
        let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        entries.filter(|entry| entry["PECSYNC_EVENT"] == name).collect()
    }

    pub fn wait_event(&self, name: &str, seconds: u64) -> Value {
        let found = poll(Duration::from_secs(seconds), || self.events(name).pop());
        found.unwrap_or_else(|| panic!("no {name} within {seconds} s:\n{}", self.log_end()))
    }

    /// Waits for the `count`th entry of one event and fails if there are more. An event is said
    /// once its work is in the checkpoint: what the servers show may be a moment ahead of it.
    pub fn expect_events(&self, name: &str, count: usize) {
        poll(Duration::from_secs(30), || (self.events(name).len() >= count).then_some(()));
        assert_eq!(self.events(name).len(), count, "{name}:\n{}", self.log_end());
    }

    /// Fails if any secret is in the log, as it is or in the base64 of a SASL PLAIN exchange.
    pub fn assert_log_keeps_secrets(&self) {
        let log = self.log();
        for secret in self.secrets.lock().expect("no panic here").iter() {
            assert!(!log.contains(secret.as_str()), "a password is in the log:\n{log}");
            let escaped = secret.escape_default().to_string();
            assert!(!log.contains(&escaped), "a password is in the log, escaped:\n{log}");
        }
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// A running daemon. Killed when it goes out of scope; its log is then searched for secrets.
pub struct Daemon<'a> {
    site: &'a Site,
    child: Child,
}

impl Daemon<'_> {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What `pecsync status --json` prints; `None` while no daemon answers.
    pub fn status(&self) -> Option<Value> {
        let output = self.site.command(&["status", "--json"]);
        let status = output.status.success().then(|| serde_json::from_slice(&output.stdout))?;
        Some(status.unwrap_or_else(|error| panic!("status is no JSON: {error}")))
    }

    /// The account's part of the status; `None` while it is not there.
    pub fn account(&self, address: &str) -> Option<Value> {
        let status = self.status()?;
        let mut accounts = status["accounts"].as_array().into_iter().flatten();
        accounts.find(|account| account["address"] == address).cloned()
    }

    /// Waits until `holds` of the account's status; gives that status.
    pub fn wait(
        &mut self,
        what: &str,
        address: &str,
        seconds: u64,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = None;
        let found = poll(Duration::from_secs(seconds), || {
            last = self.account(address).or(last.take());
            let gone = self.child.try_wait().expect("a child").is_some();
            assert!(!gone, "the daemon ended before: {what}\n{}", self.site.log_end());
            last.clone().filter(|account| holds(account))
        });
        let last = || serde_json::to_string_pretty(&last).expect("JSON");
        found.unwrap_or_else(|| {
            panic!("not within {seconds} s: {what}\n{}\n{}", last(), self.site.log_end())
        })
    }

    /// Waits until the account follows: everything the source shows is linked.
    pub fn wait_following(&mut self, address: &str) -> Value {
        self.wait("following", address, 90, |account| account["phase"] == "following")
    }

    /// Waits until the account is held for that reason.
    pub fn wait_held(&mut self, address: &str, code: &str) -> Value {
        self.wait(&format!("held: {code}"), address, 60, |account| {
            account["condition"] == "held" && account["reason"]["code"] == code
        })
    }

    /// Waits for the end by `exit_when_completed`, with its exit code 0.
    pub fn wait_completed(&mut self, seconds: u64) {
        self.wait_ended_well(seconds);
        assert!(!self.site.events("account_completed").is_empty(), "{}", self.site.log_end());
    }

    /// Waits for the end of a daemon that finds everything completed already.
    pub fn wait_ended_well(&mut self, seconds: u64) {
        let status = self.wait_exit(seconds);
        assert!(status.success(), "the daemon ended with {status}:\n{}", self.site.log_end());
    }

    pub fn wait_exit(&mut self, seconds: u64) -> ExitStatus {
        let ended = || self.child.try_wait().expect("a child");
        poll(Duration::from_secs(seconds), ended).unwrap_or_else(|| {
            panic!("the daemon runs on after {seconds} s:\n{}", self.site.log_end())
        })
    }

    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end; gives how long that took and how it ended.
    pub fn terminate(&mut self) -> (Duration, ExitStatus) {
        let start = Instant::now();
        self.signal(libc::SIGTERM);
        let status = self.wait_exit(30);
        (start.elapsed(), status)
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes no pointers; the child has not been waited for, so the pid is its.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        self.kill9();
        if !std::thread::panicking() {
            self.site.assert_log_keeps_secrets();
        }
    }
}

/// An instant in UTC with whole seconds.
pub fn rfc3339(instant: SystemTime) -> String {
    let instant = jiff::Timestamp::try_from(instant).expect("a date of our times");
    instant.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A TOML basic string holding any text.
pub fn toml_string(text: &str) -> String {
    let escaped: String = text.chars().map(toml_escaped).collect();
    format!("\"{escaped}\"")
}

fn toml_escaped(letter: char) -> String {
    match letter {
        '"' | '\\' => format!("\\{letter}"),
        letter if letter.is_control() => format!("\\u{:04X}", letter as u32),
        letter => letter.to_string(),
    }
}

/// Writes a file that only its owner can read, whatever the umask.
pub fn write_private(path: &Path, text: &str) {
    use std::io::Write;
    let _ = fs::remove_file(path);
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let to = to.join(entry.file_name());
        // A file that a running daemon removes meanwhile was not going to be needed.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            copy_directory(&entry.path(), &to);
        } else {
            let _ = fs::copy(entry.path(), to);
        }
    }
}
