//! The daemon under test: its files, its process, its journal, its commands.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::server::{PORT, SOURCE, TARGET};
use super::until;

/// What has not come after so long will not come.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often each event was in the journal.
#[derive(Clone, Default)]
pub struct Events(Arc<Mutex<HashMap<String, usize>>>);

impl Events {
    fn read(&self, lines: impl BufRead) {
        for line in lines.lines().map_while(Result::ok) {
            let Some((_, rest)) = line.split_once("\"PECSYNC_EVENT\":\"") else { continue };
            let Some((name, _)) = rest.split_once('"') else { continue };
            *self.0.lock().expect("no panic").entry(name.to_owned()).or_default() += 1;
        }
    }

    pub fn count(&self, name: &str) -> usize {
        self.0.lock().expect("no panic").get(name).copied().unwrap_or_default()
    }

    pub fn wait(&self, name: &str, count: usize) {
        let begun = Instant::now();
        until(|| {
            let late = begun.elapsed() > PATIENCE;
            assert!(!late, "{count} of {name} wanted: {:?}", self.0.lock().expect("no panic"));
            self.count(name) >= count
        });
    }
}

pub struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
    pub events: Events,
}

impl Daemon {
    pub fn start(accounts: usize, rate: usize, certificate: &str) -> Daemon {
        let dir = tempfile::Builder::new().prefix("pecsync-many-").tempdir_in("/dev/shm");
        let dir = dir.expect("a directory in /dev/shm");
        write_all(dir.path(), accounts, rate, certificate);
        let mut command = Command::new(env!("CARGO_BIN_EXE_pecsync"));
        command.args(["run", "--log", "json", "--config"]).arg(config(dir.path()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let lines = BufReader::new(child.stderr.take().expect("piped"));
        let events = Events::default();
        let reader = events.clone();
        std::thread::spawn(move || reader.read(lines));
        Daemon { child, dir, events }
    }

    /// Runs a command of pecsync's against it; how long that took.
    pub fn command(&self, arguments: &[&str]) -> Duration {
        let begun = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pecsync"));
        command.args(arguments).arg("--config").arg(config(self.dir.path()));
        let done = command.output().expect("it starts");
        let words = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{arguments:?}: {words}");
        begun.elapsed()
    }

    pub fn rss_kib(&self) -> u64 {
        self.of_process("VmRSS:")
    }

    pub fn of_process(&self, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let text = text.expect("it lives");
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Processor time so far.
    pub fn cpu(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let text = text.expect("it lives");
        let (_, fields) = text.rsplit_once(") ").expect("a name in brackets");
        let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>());
        let ticks: u64 = ticks.map(|ticks| ticks.expect("a number")).sum();
        // SAFETY: sysconf takes no pointers.
        let a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
        Duration::from_secs_f64(ticks as f64 / a_second)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(dir: &Path) -> PathBuf {
    dir.join("pecsync.toml")
}

fn write_all(dir: &Path, accounts: usize, rate: usize, certificate: &str) {
    for part in ["conf.d", "state", "run"] {
        fs::create_dir(dir.join(part)).expect("created");
    }
    fs::write(dir.join("ca.pem"), certificate).expect("written");
    let place = dir.display();
    let side = |host: &str| {
        format!(
            "host = \"{host}\"\nport = {PORT}\ntls = \"implicit\"\nca_file = \"{place}/ca.pem\"\n"
        )
    };
    // A first copy takes two.
    let sweeps = 2 * rate;
    let text = format!(
        "[daemon]\nconf_dir = \"conf.d\"\nstate_dir = \"{place}/state\"\n\
         control_socket = \"{place}/run/control.sock\"\n\
         [limits]\naccounts_copying = 64\nlogins_per_second = {rate}\n\
         connections_per_host = 20000\nsweeps_per_second = {sweeps}\n\
         [migration.bench]\ndomains = [\"pec.example\"]\ncutover = \"2198-02-04\"\n\
         [migration.bench.source]\n{}[migration.bench.target]\n{}",
        side(SOURCE),
        side(TARGET),
    );
    write_private(&config(dir), &text);
    for number in 0..accounts {
        let text = format!(
            "address = \"u{number}@pec.example\"\n\
             [source]\nuser = \"u{number}\"\npassword = \"segreta\"\n\
             [target]\nuser = \"u{number}\"\npassword = \"segreta\"\n"
        );
        write_private(&dir.join(format!("conf.d/u{number}.toml")), &text);
    }
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
}
