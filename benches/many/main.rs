//! Ten thousand accounts on one daemon: how long until all follow, memory, quiet, new mail, the
//! restart of a provider, and the cutover of all at one instant.
//!
//! `make many ACCOUNTS=10000 RATE=250`; see docs/performance.md.

mod daemon;
mod server;

use std::thread::sleep;
use std::time::{Duration, Instant};

use daemon::Daemon;
use server::Server;

/// What the daemon takes before the first of the accounts counts.
const BASE_ACCOUNTS: usize = 10;
/// A new folder is looked at once more after a minute, and a target's connection is let go half a
/// minute later.
const QUIET_AFTER: Duration = Duration::from_secs(110);
const QUIET_FOR: Duration = Duration::from_secs(60);
const NEWS_A_SECOND: usize = 50;
const NEWS_SECS: usize = 30;
/// How long a provider's restart takes.
const DOWN_FOR: Duration = Duration::from_secs(10);
/// Of so many accounts one gets mail just before the cutover.
const LATE_MAIL_ONE_IN: usize = 5;
/// An operator's screen is drawn anew.
const STATUS_EVERY: Duration = Duration::from_secs(5);

fn main() {
    let said = |name: &str| std::env::var(name).ok().filter(|said| !said.is_empty());
    let number =
        |name: &str, usual: usize| said(name).map_or(usual, |said| said.parse().expect("a number"));
    let (accounts, rate) = (number("ACCOUNTS", 10_000), number("RATE", 250));
    let refused = Duration::from_secs(number("REFUSED_SECS", 0) as u64);
    let phases = said("PHASES").unwrap_or_else(|| "quiet,news,restart,cutover".to_owned());
    let wants = |phase: &str| phases.split(',').any(|wanted| wanted == phase);
    println!("{accounts} accounts, {rate} logins a second at each of two hosts");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (server, certificate) = runtime.block_on(Server::start(accounts));
    let base = wants("quiet").then(|| {
        let daemon = Daemon::start(BASE_ACCOUNTS, rate, &certificate);
        daemon.events.wait("first_copy_completed", BASE_ACCOUNTS);
        sleep(QUIET_AFTER);
        let base = daemon.rss_kib();
        println!("base, {BASE_ACCOUNTS} accounts: {base} KiB");
        base
    });
    server.take_logins();
    let begun = Instant::now();
    let daemon = Daemon::start(accounts, rate, &certificate);
    daemon.events.wait("first_copy_completed", accounts);
    until(|| server.idling() >= accounts);
    println!("start: all follow after {}", since(begun));
    tell_logins(&server);

    let bench = Bench { accounts, server: &server, daemon: &daemon };
    if let Some(base) = base {
        bench.quiet(base);
    }
    if wants("news") {
        bench.news();
    }
    if wants("restart") {
        bench.restart();
    }
    if wants("cutover") {
        bench.cutover(refused);
    }
    let peak = daemon.of_process("VmHWM:");
    println!("memory at last: {} KiB, at most {peak} KiB", daemon.rss_kib());
    server.check();
}

struct Bench<'a> {
    accounts: usize,
    server: &'a Server,
    daemon: &'a Daemon,
}

impl Bench<'_> {
    fn quiet(&self, base: u64) {
        sleep(QUIET_AFTER);
        let rss = self.daemon.rss_kib();
        let each = (rss - base) as f64 / (self.accounts - BASE_ACCOUNTS) as f64;
        println!("memory: {rss} KiB, {each:.1} KiB for each account beyond the base");
        let (cpu, sweeps) = (self.daemon.cpu(), self.server.sweeps());
        sleep(QUIET_FOR);
        let a_second = |what: f64| what / QUIET_FOR.as_secs_f64();
        println!(
            "quiet: {:.2} % of a core, {:.1} sweeps a second",
            a_second((self.daemon.cpu() - cpu).as_secs_f64()) * 100.0,
            a_second((self.server.sweeps() - sweeps) as f64),
        );
    }

    fn news(&self) {
        let cpu = self.daemon.cpu();
        for second in 0..NEWS_SECS {
            let begun = Instant::now();
            for number in 0..NEWS_A_SECOND {
                let nth = second * NEWS_A_SECOND + number;
                // Spread over all of them.
                self.server.deliver(nth * 7_919 % self.accounts);
                sleep((begun + Duration::from_secs(1) / 50 * number as u32) - Instant::now());
            }
        }
        self.daemon.events.wait("message_copied", NEWS_A_SECOND * NEWS_SECS);
        let mut latencies = self.server.take_latencies();
        latencies.sort();
        let at =
            |share: f64| latencies[(latencies.len() as f64 * share) as usize].as_secs_f64() * 1e3;
        let (middle, late) = (at(0.5), at(0.99));
        let share = (self.daemon.cpu() - cpu).as_secs_f64() / NEWS_SECS as f64;
        println!(
            "news, {NEWS_A_SECOND} a second: median {middle:.1} ms, 99 % within {late:.1} ms, \
             {:.0} % of a core",
            share * 100.0
        );
        tell_logins(self.server);
    }

    /// The source ends all connections, and is back a little later.
    fn restart(&self) {
        self.server.source_runs(false);
        until(|| self.server.idling() == 0);
        sleep(DOWN_FOR);
        self.server.take_logins();
        self.server.source_runs(true);
        let begun = Instant::now();
        until(|| self.server.idling() >= self.accounts);
        println!("restart of the source: all follow again after {}", since(begun));
        tell_logins(self.server);
        self.tell_events(&["host_down", "host_recovered", "account_retrying", "account_held"]);
    }

    /// All accounts cut over at one instant. For a while after it the source may refuse everybody.
    fn cutover(&self, refused: Duration) {
        let known = self.server.messages();
        for account in (0..self.accounts).step_by(LATE_MAIL_ONE_IN) {
            self.server.deliver(account);
        }
        let late = self.server.messages() - known;
        self.server.take_logins();
        self.server.source_refuses(!refused.is_zero());
        let cpu = self.daemon.cpu();
        let took = self.daemon.command(&["cutover", "--migration", "bench", "--now"]);
        println!("cutover of all: ordered in {} ms, {late} new messages", took.as_millis());
        let mut screens = Vec::new();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| self.wait_until_completed(refused));
            while !waiting.is_finished() {
                screens.push(self.daemon.command(&["status", "--migration", "bench"]));
                sleep(STATUS_EVERY);
            }
        });
        tell_logins(self.server);
        let cpu = (self.daemon.cpu() - cpu).as_secs_f64();
        println!("{cpu:.1} s of processor time");
        let slowest = screens.iter().max().copied().unwrap_or_default();
        println!("status --migration, {} times: at most {} ms", screens.len(), slowest.as_millis());
        self.tell_events(&["cutover_progress", "account_held", "cutover_overdue"]);
        let (messages, inexact) = (self.server.messages(), self.server.inexact());
        println!("{messages} messages, {inexact} accounts where not each is there exactly once");
        assert_eq!(inexact, 0);
    }

    fn wait_until_completed(&self, refused: Duration) {
        if !refused.is_zero() {
            sleep(refused);
            println!("refused for {} s: {} logins", refused.as_secs(), self.server.refused());
            tell_logins(self.server);
            self.tell_events(&["host_down", "account_retrying", "account_held"]);
            self.server.source_refuses(false);
        }
        let begun = Instant::now();
        self.daemon.events.wait("account_completed", self.accounts);
        println!("all completed after {}", since(begun));
        self.daemon.events.wait("migration_completed", 1);
        println!("the migration after {}", since(begun));
    }

    fn tell_events(&self, names: &[&str]) {
        let said = names.iter().map(|name| format!("{name} {}", self.daemon.events.count(name)));
        println!("  events: {}", said.collect::<Vec<String>>().join(", "));
    }
}

fn tell_logins(server: &Server) {
    for (side, (count, most)) in ["source", "target"].iter().zip(server.take_logins()) {
        println!("  logins at the {side}: {count}, at most {most} within a second");
    }
    server.check();
}

fn since(begun: Instant) -> String {
    format!("{:.0} s", begun.elapsed().as_secs_f64())
}

fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        sleep(Duration::from_millis(50));
    }
}
