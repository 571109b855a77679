//! Many worlds, as many at once as there are processors.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::world::{Ended, World};

/// Reports printed in full.
const REPORTS_MAX: usize = 3;

/// What many worlds came to.
#[derive(Default)]
pub struct Summary {
    pub worlds: usize,
    /// Names of those that failed.
    pub failed: Vec<String>,
    pub effects: usize,
    /// Planned crashes that found no effect.
    pub crashes_left: usize,
    reports: Vec<String>,
}

impl Summary {
    fn add(&mut self, name: String, outcome: Result<Ended, String>) {
        self.worlds += 1;
        match outcome {
            Ok(ended) => {
                self.effects += ended.effects;
                self.crashes_left += ended.crashes_left;
            }
            Err(report) => {
                let what: String =
                    report.lines().nth(1).unwrap_or_default().chars().take(160).collect();
                println!("FAILED {name}: {what}");
                self.failed.push(name);
                if self.reports.len() < REPORTS_MAX {
                    self.reports.push(report);
                }
            }
        }
    }
}

/// Lives all worlds, or those that can be begun within `budget`. Panics with the reports of the
/// first that fail. With PECSYNC_SIM_REPORTS set to a directory all reports are written there.
pub fn run_all(worlds: impl Iterator<Item = World> + Send, budget: Duration) -> Summary {
    let begun = Instant::now();
    let summary = Mutex::new(Summary::default());
    let worlds = Mutex::new(worlds);
    let at_once = std::env::var("PECSYNC_SIM_AT_ONCE").ok().and_then(|text| text.parse().ok());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..at_once.unwrap_or(processors) {
            scope.spawn(|| {
                while begun.elapsed() < budget {
                    let next = worlds.lock().expect("no panic while held").next();
                    let Some(world) = next else { return };
                    let outcome = std::panic::catch_unwind(|| world.live())
                        .unwrap_or_else(|_| Err(format!("world {}\npanicked", world.name)));
                    keep_report(&world.name, &outcome);
                    summary.lock().expect("no panic while held").add(world.name, outcome);
                }
            });
        }
    });
    let summary = summary.into_inner().expect("no panic while held");
    println!(
        "{} worlds with {} effects in {:?}, {} failed, {} crashes found no effect",
        summary.worlds,
        summary.effects,
        begun.elapsed(),
        summary.failed.len(),
        summary.crashes_left
    );
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

fn keep_report(name: &str, outcome: &Result<Ended, String>) {
    if let (Some(dir), Err(report)) = (std::env::var_os("PECSYNC_SIM_REPORTS"), outcome) {
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let path = std::path::Path::new(&dir).join(format!("{name}.txt"));
        let _ = std::fs::write(path, report);
    }
}
