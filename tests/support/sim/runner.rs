//! Many worlds, as many at once as there are processors.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::world::{Ended, World};
use super::worlds::{archived, random};

/// Some world has failed.
static FAILED: AtomicBool = AtomicBool::new(false);
/// Reports printed in full.
const REPORTS_MAX: usize = 3;

/// What many worlds came to.
#[derive(Default)]
pub struct Summary {
    pub worlds: usize,
    /// Names of those that failed.
    pub failed: Vec<String>,
    pub effects: usize,
    /// What was planned to go wrong.
    pub faults: usize,
    /// Planned crashes that found no effect.
    pub crashes_left: usize,
    reports: Vec<String>,
}

impl Summary {
    fn add(&mut self, world: &World, outcome: Result<Ended, String>) {
        self.worlds += 1;
        self.faults += world.plan.faults();
        let name = &world.name;
        match outcome {
            Ok(ended) => {
                self.effects += ended.effects;
                self.crashes_left += ended.crashes_left;
            }
            Err(report) => {
                let what: String =
                    report.lines().nth(1).unwrap_or_default().chars().take(160).collect();
                println!("FAILED {name}: {what}");
                self.failed.push(name.clone());
                if self.reports.len() < REPORTS_MAX {
                    self.reports.push(report);
                }
            }
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} worlds with {} faults and {} effects, {} failed {:?}",
            self.worlds,
            self.faults,
            self.effects,
            self.failed.len(),
            self.failed
        )
    }
}

/// Lives all worlds, or those that can be begun within `budget`. Panics with the reports of the
/// first that fail. With PECSYNC_SIM_REPORTS set to a directory all reports are written there;
/// with PECSYNC_SIM_LOG set the log of a world that went well is printed.
pub fn run_all(worlds: impl Iterator<Item = World> + Send, budget: Duration) -> Summary {
    let begun = Instant::now();
    let summary = live_each(worlds, || begun.elapsed() >= budget, |_| {});
    let took = begun.elapsed();
    println!("{summary} in {took:.1?}, {:.0} a second", summary.worlds as f64 / took.as_secs_f64());
    assert!(
        summary.failed.is_empty(),
        "{}\n{} of {} worlds failed: {:?}",
        summary.reports.join("\n"),
        summary.failed.len(),
        summary.worlds,
        summary.failed
    );
    summary
}

/// Lives random worlds from a seed on until it is told to stop, with a line a minute.
pub fn soak(first: u64, secs_max: Option<u64>, stop: impl Fn() -> bool + Sync) -> Summary {
    let begun = Instant::now();
    let told = Mutex::new(begun);
    let over = || stop() || secs_max.is_some_and(|secs| begun.elapsed().as_secs() >= secs);
    let say = |summary: &Summary| {
        let mut told = told.lock().expect("no panic while held");
        if told.elapsed() >= Duration::from_secs(60) {
            *told = Instant::now();
            println!("{} min: {summary}", begun.elapsed().as_secs() / 60);
        }
    };
    // One in four with a folder that waits for the cutover.
    let world = |seed: u64| if seed.is_multiple_of(4) { archived(seed) } else { random(seed) };
    let summary = live_each((first..).map(world), over, say);
    summary.reports.iter().for_each(|report| println!("{report}"));
    let verdict = if summary.failed.is_empty() { "every copy exact" } else { "FAILED" };
    println!(
        "VERDICT: {verdict}; {summary} in {:.0?}; next seed {}",
        begun.elapsed(),
        first + summary.worlds as u64
    );
    summary
}

/// One world a processor at a time; `each` hears the sum after every one.
fn live_each(
    worlds: impl Iterator<Item = World> + Send,
    over: impl Fn() -> bool + Sync,
    each: impl Fn(&Summary) + Sync,
) -> Summary {
    let summary = Mutex::new(Summary::default());
    // Where one failure says all there is to say.
    let one_is_enough = std::env::var_os("PECSYNC_SIM_FAIL_FAST").is_some();
    let over = || over() || (one_is_enough && FAILED.load(Ordering::Relaxed));
    let worlds = Mutex::new(worlds);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while !over() {
                    let next = worlds.lock().expect("no panic while held").next();
                    let Some(world) = next else { return };
                    let outcome = std::panic::catch_unwind(|| world.live())
                        .unwrap_or_else(|_| Err(format!("world {}\npanicked", world.name)));
                    keep_report(&world.name, &outcome);
                    FAILED.fetch_or(outcome.is_err(), Ordering::Relaxed);
                    let mut summary = summary.lock().expect("no panic while held");
                    summary.add(&world, outcome);
                    each(&summary);
                }
            });
        }
    });
    summary.into_inner().expect("no panic while held")
}

fn keep_report(name: &str, outcome: &Result<Ended, String>) {
    if let (Some(_), Ok(ended)) = (std::env::var_os("PECSYNC_SIM_LOG"), outcome) {
        ended.log.iter().for_each(|line| println!("{line}"));
    }
    if let (Some(dir), Err(report)) = (std::env::var_os("PECSYNC_SIM_REPORTS"), outcome) {
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let path = std::path::Path::new(&dir).join(format!("{name}.txt"));
        let _ = std::fs::write(path, report);
    }
}
