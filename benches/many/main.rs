//! Ten thousand accounts on one daemon: how long until all follow, memory, quiet, new mail.
//!
//! `make many ACCOUNTS=10000 RATE=250`; see docs/performance.md.

mod server;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use server::{PORT, SOURCE, Server, TARGET};

/// What the daemon takes before the first of the accounts counts.
const BASE_ACCOUNTS: usize = 10;
/// A target's connection is let go after half a minute of quiet, and what was freed is given back.
const QUIET_AFTER: Duration = Duration::from_secs(45);
const QUIET_FOR: Duration = Duration::from_secs(60);
const NEWS_A_SECOND: usize = 50;
const NEWS_SECS: usize = 30;
/// What has not come after so long will not come.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() {
    let number = |name: &str, usual: usize| match std::env::var(name) {
        Ok(said) if !said.is_empty() => said.parse().expect("a number"),
        _ => usual,
    };
    let (accounts, rate) = (number("ACCOUNTS", 10_000), number("RATE", 250));
    println!("{accounts} accounts, {rate} logins a second at each of two hosts");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (server, certificate) = runtime.block_on(Server::start(accounts));
    let base = {
        let daemon = Daemon::start(BASE_ACCOUNTS, rate, &certificate);
        daemon.events.wait("first_copy_completed", BASE_ACCOUNTS);
        sleep(QUIET_AFTER);
        daemon.rss_kib()
    };
    println!("base, {BASE_ACCOUNTS} accounts: {} KiB", base);
    let before = server.logins();
    let begun = Instant::now();
    let daemon = Daemon::start(accounts, rate, &certificate);
    daemon.events.wait("first_copy_completed", accounts);
    until(|| server.idling() >= accounts);
    let logins = server.logins() - before;
    println!("start: all follow after {:.0} s, {logins} logins", begun.elapsed().as_secs_f64());

    sleep(QUIET_AFTER);
    let rss = daemon.rss_kib();
    let each = (rss - base) as f64 / (accounts - BASE_ACCOUNTS) as f64;
    println!("memory: {rss} KiB, {each:.1} KiB for each account beyond the base");
    let cpu = daemon.cpu();
    sleep(QUIET_FOR);
    let share = (daemon.cpu() - cpu).as_secs_f64() / QUIET_FOR.as_secs_f64();
    println!("quiet: {:.2} % of a core", share * 100.0);

    let cpu = daemon.cpu();
    for second in 0..NEWS_SECS {
        let begun = Instant::now();
        for number in 0..NEWS_A_SECOND {
            let nth = second * NEWS_A_SECOND + number;
            // Spread over all of them.
            server.deliver(nth * 7_919 % accounts);
            sleep((begun + Duration::from_secs(1) / 50 * number as u32) - Instant::now());
        }
    }
    daemon.events.wait("message_copied", NEWS_A_SECOND * NEWS_SECS);
    let mut latencies = server.take_latencies();
    latencies.sort();
    let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize].as_secs_f64() * 1e3;
    let (middle, late) = (at(0.5), at(0.99));
    let share = (daemon.cpu() - cpu).as_secs_f64() / NEWS_SECS as f64;
    println!(
        "news, {NEWS_A_SECOND} a second: median {middle:.1} ms, 99 % within {late:.1} ms, \
         {:.0} % of a core",
        share * 100.0
    );

    println!("memory at last: {} KiB, at most {} KiB", daemon.rss_kib(), daemon.status("VmHWM:"));
}

fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        sleep(Duration::from_millis(50));
    }
}

/// How often each event was in the journal.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<HashMap<String, usize>>>);

impl Events {
    fn read(&self, lines: impl BufRead) {
        for line in lines.lines().map_while(Result::ok) {
            let Some((_, rest)) = line.split_once("\"PECSYNC_EVENT\":\"") else { continue };
            let Some((name, _)) = rest.split_once('"') else { continue };
            *self.0.lock().expect("no panic").entry(name.to_owned()).or_default() += 1;
        }
    }

    fn wait(&self, name: &str, count: usize) {
        let begun = Instant::now();
        until(|| {
            let seen = self.0.lock().expect("no panic");
            assert!(begun.elapsed() < PATIENCE, "{count} of {name} wanted: {seen:?}");
            seen.get(name).is_some_and(|seen| *seen >= count)
        });
    }
}

struct Daemon {
    child: Child,
    _dir: tempfile::TempDir,
    events: Events,
}

impl Daemon {
    fn start(accounts: usize, rate: usize, certificate: &str) -> Daemon {
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
        Daemon { child, _dir: dir, events }
    }

    fn rss_kib(&self) -> u64 {
        self.status("VmRSS:")
    }

    fn status(&self, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let text = text.expect("it lives");
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Processor time so far.
    fn cpu(&self) -> Duration {
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
    let text = format!(
        "[daemon]\nconf_dir = \"conf.d\"\nstate_dir = \"{place}/state\"\n\
         control_socket = \"{place}/run/control.sock\"\n\
         [limits]\naccounts_copying = 64\nlogins_per_second = {rate}\n\
         connections_per_host = 20000\nsweeps_per_second = 100\n\
         [migration.bench]\ndomains = [\"pec.example\"]\n\
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
