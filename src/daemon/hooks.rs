//! Programs that are told of events: a fixed argv each, no shell, nothing in the environment, JSON
//! on standard input, so much time and no more, tried again a few times.
//!
//! A thread of its own starts them, a few at once, and never waits for one of them: whatever they
//! do, copying goes on. Every event is told at least once; after a restart some are told again.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use crate::config::Hooks as Settings;
use crate::journal::{Entry, Event, Journal, shown};
use crate::status::ContactStatus;

/// Events that programs can be told of, as `[hooks]` names them.
pub const EVENTS: [Event; 4] =
    [Event::AccountHeld, Event::SecretExpiring, Event::AccountCompleted, Event::MigrationCompleted];

/// Events that wait to be looked at; what is more is not told, and counted.
const QUEUE_MAX: usize = 1024;
/// Events that wait for their program to be started, or to be started again.
const WAITING_MAX: usize = 256;
/// Programs that run at once.
const RUNNING_MAX: usize = 4;
/// A program that runs is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a program may run, and when one that failed is started again.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub time_limit: Duration,
    pub pauses: &'static [Duration],
}

pub const TERMS: Terms = Terms {
    time_limit: Duration::from_secs(30),
    pauses: &[Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(600)],
};

/// Finds the contact of an account.
pub type Contacts = Box<dyn Fn(&str) -> ContactStatus + Send>;

/// The thread that runs them, seen from outside.
pub struct Hooks {
    settings: Arc<Mutex<Settings>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hooks {
    /// Listens to the journal from now on.
    pub fn start(journal: &Journal, settings: Settings, contacts: Contacts, terms: Terms) -> Hooks {
        let heard = journal.listen(&EVENTS, QUEUE_MAX);
        let settings = Arc::new(Mutex::new(settings));
        let stopping = Arc::new(AtomicBool::new(false));
        let runner = Runner {
            journal: journal.clone(),
            settings: settings.clone(),
            stopping: stopping.clone(),
            contacts,
            terms,
            waiting: Vec::new(),
            running: Vec::new(),
            failing: BTreeMap::new(),
        };
        let thread = std::thread::Builder::new().name("hooks".to_owned());
        // Without a thread nothing is told, and the journal counts what was not.
        let thread = thread.spawn(move || runner.run(&heard.entries, &heard.missed)).ok();
        Hooks { settings, stopping, thread }
    }

    /// New settings; they hold for what is started from now on.
    pub fn set(&self, settings: Settings) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Tells what waits once more and then nothing. Blocks, at most for `patience`; programs that
    /// run on are left to themselves.
    pub fn finish(self, patience: Duration) {
        self.stopping.store(true, Ordering::Relaxed);
        let until = Instant::now() + patience;
        let Some(thread) = self.thread else { return };
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// What a program reads, as one line.
#[derive(Serialize)]
struct Told<'t> {
    schema: u32,
    event: &'static str,
    time: String,
    account: Option<&'t str>,
    migration: Option<&'t str>,
    reason: Option<&'t str>,
    message: String,
    contact: &'t ContactStatus,
}

/// An event to be told.
struct Job {
    entry: Entry,
    time: Timestamp,
    due: Instant,
    failures: usize,
}

struct Running {
    job: Job,
    child: Child,
    deadline: Instant,
    killed: bool,
}

struct Runner {
    journal: Journal,
    settings: Arc<Mutex<Settings>>,
    stopping: Arc<AtomicBool>,
    contacts: Contacts,
    terms: Terms,
    waiting: Vec<Job>,
    running: Vec<Running>,
    /// By event: whether its program failed the last time. Only the change is told.
    failing: BTreeMap<&'static str, bool>,
}

impl Runner {
    fn run(mut self, heard: &Receiver<(Entry, Timestamp)>, missed: &AtomicU64) {
        loop {
            let is_last = self.stopping.load(Ordering::Relaxed);
            self.take_in(heard, is_last);
            self.say_missed(missed);
            self.look();
            self.start_some(is_last);
            let is_idle = self.waiting.is_empty() && self.running.is_empty();
            if is_idle && is_last {
                return;
            }
        }
    }

    /// Waits a moment, and takes in what there is room for.
    fn take_in(&mut self, heard: &Receiver<(Entry, Timestamp)>, is_last: bool) {
        if !is_last || !self.running.is_empty() {
            std::thread::sleep(LOOK_EVERY);
        }
        while self.waiting.len() < WAITING_MAX {
            let Ok((entry, time)) = heard.try_recv() else { return };
            if self.argv(&entry).is_some() {
                self.waiting.push(Job { entry, time, due: Instant::now(), failures: 0 });
            }
        }
    }

    fn argv(&self, entry: &Entry) -> Option<Vec<String>> {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        settings.get(entry.event.name()).cloned()
    }

    fn say_missed(&self, missed: &AtomicU64) {
        let count = missed.swap(0, Ordering::Relaxed);
        if count > 0 {
            let text = format!("{count} events came faster than hooks could be run: not told");
            self.journal.emit(Entry::new(Event::HookFailed, text));
        }
    }

    /// Starts what is due; with the last turn, whatever waits.
    fn start_some(&mut self, is_last: bool) {
        let now = Instant::now();
        while self.running.len() < RUNNING_MAX {
            let due = self.waiting.iter().position(|job| is_last || job.due <= now);
            let Some(at) = due else { return };
            let job = self.waiting.remove(at);
            // Taken out of the settings meanwhile: not wanted any more.
            let Some(argv) = self.argv(&job.entry) else { continue };
            match start(&argv, &self.line(&job)) {
                Ok(child) => {
                    let deadline = now + self.terms.time_limit;
                    self.running.push(Running { job, child, deadline, killed: false });
                }
                Err(error) => self.failed(job, &error.to_string(), is_last),
            }
        }
    }

    /// Reaps what has ended, and ends what takes too long.
    fn look(&mut self) {
        let is_last = self.stopping.load(Ordering::Relaxed);
        for mut running in std::mem::take(&mut self.running) {
            match running.child.try_wait() {
                Ok(None) => {
                    if !running.killed && Instant::now() >= running.deadline {
                        kill_group(&running.child);
                        running.killed = true;
                    }
                    self.running.push(running);
                }
                Ok(Some(status)) if status.success() && !running.killed => {
                    self.failing.insert(running.job.entry.event.name(), false);
                }
                Ok(Some(status)) => {
                    let why = why_failed(status, running.killed, self.terms.time_limit);
                    self.failed(running.job, &why, is_last);
                }
                Err(error) => self.failed(running.job, &error.to_string(), is_last),
            }
        }
    }

    /// Tries again later, or gives up. Told when a program begins to fail, and of each event that
    /// is given up.
    fn failed(&mut self, mut job: Job, why: &str, is_last: bool) {
        let name = job.entry.event.name();
        let was_failing = self.failing.insert(name, true).unwrap_or(false);
        let pause = self.terms.pauses.get(job.failures).filter(|_| !is_last);
        let next = match pause {
            Some(pause) => format!("tried again in {} s", pause.as_secs()),
            None => "given up".to_owned(),
        };
        if pause.is_none() || !was_failing {
            let text = format!("hook {name}: {}: {next}", shown(why));
            let mut entry = Entry::new(Event::HookFailed, text);
            (entry.account, entry.migration) =
                (job.entry.account.clone(), job.entry.migration.clone());
            self.journal.emit(entry);
        }
        if let Some(pause) = pause {
            job.failures += 1;
            job.due = Instant::now() + *pause;
            self.waiting.push(job);
        }
    }

    fn line(&self, job: &Job) -> Vec<u8> {
        let Job { entry, time, .. } = job;
        let account = entry.account.as_deref();
        let contact = account.map(|address| (self.contacts)(address)).unwrap_or_default();
        let told = Told {
            schema: 1,
            event: entry.event.name(),
            time: time.to_string(),
            account,
            migration: entry.migration.as_deref(),
            reason: entry.reason.as_deref(),
            message: entry.text(),
            contact: &contact,
        };
        let mut line = serde_json::to_vec(&told).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// Starts a program in a process group of its own. Descriptors above 2 are all closed on exec:
/// see `process::close_on_exec`.
fn start(argv: &[String], line: &[u8]) -> std::io::Result<Child> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // Far less than a pipe takes without being read; who does not read it need not.
        let _ = stdin.write_all(line);
    }
    Ok(child)
}

fn kill_group(child: &Child) {
    // SAFETY: kill takes no pointers. The child has not been waited for: the group is still its.
    unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
}

fn why_failed(status: ExitStatus, killed: bool, time_limit: Duration) -> String {
    match killed {
        true => format!("killed after {} s", time_limit.as_secs()),
        false => status.to_string(),
    }
}

#[cfg(test)]
mod tests;
