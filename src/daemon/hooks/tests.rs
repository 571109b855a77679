//! Real programs, run as the daemon runs them.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::super::process::close_on_exec;
use super::*;

const SOON: &[Duration] = &[Duration::from_millis(50), Duration::from_millis(50)];

struct Site {
    dir: TempDir,
    journal: Journal,
    hooks: Hooks,
}

impl Site {
    /// With a program for `account_held` that is this shell script.
    fn new(script: &str, time_limit: Duration) -> Site {
        Site::with(script, Terms { time_limit, pauses: SOON })
    }

    fn with(script: &str, terms: Terms) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("hook");
        let out = dir.path().join("out");
        let script = script.replace("OUT", out.to_str().unwrap());
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let journal = Journal::recording();
        let settings = held_by(&program);
        let email = Some("mario@studio.it".to_owned());
        let contacts: Contacts =
            Box::new(move |_| ContactStatus { email: email.clone(), phone: None });
        let hooks = Hooks::start(&journal, settings, contacts, terms);
        Site { dir, journal, hooks }
    }

    fn emit(&self, event: Event) {
        let entry = Entry::new(event, "refused\n").account("mario@pec.it").migration("epap");
        self.journal.emit(entry.reason("credentials_rejected"));
    }

    /// Once there are so many lines.
    fn lines(&self, count: usize) -> Vec<String> {
        let file = self.dir.path().join("out");
        wait(|| {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            (lines.len() >= count).then_some(lines)
        })
    }

    fn failures(&self) -> Vec<String> {
        let told = self.journal.recorded().into_iter();
        told.filter(|entry| entry.event == Event::HookFailed).map(|entry| entry.message).collect()
    }
}

fn held_by(program: &Path) -> Settings {
    let argv = vec![program.to_str().unwrap().to_owned(), "a word; $HOME".to_owned()];
    Settings::from([("account_held", argv)])
}

fn wait<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match found() {
            Some(found) => return found,
            None if Instant::now() >= until => panic!("it never came"),
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

const LONG: Duration = Duration::from_secs(60);
const MUCH_LATER: &[Duration] = &[Duration::from_secs(3600)];

#[test]
fn it_gets_its_arguments_json_and_nothing_else() {
    let site = Site::new(
        "read -r line; fds=$(ls /proc/self/fd | wc -l)
         { echo \"$1\"; env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD= | wc -l; echo $fds; pwd;
           printf '%s\\n' \"$line\"; } >> OUT",
        LONG,
    );
    // A file that the daemon opened and one that it was started with: neither is the program's.
    let open = fs::File::open("/proc/self/status").unwrap();
    // SAFETY: a system call on an integer; the descriptor stays open until the process ends.
    assert!(unsafe { libc::dup(open.as_raw_fd()) } > 2);
    close_on_exec();
    site.emit(Event::AccountCompleted);
    site.emit(Event::AccountHeld);
    let lines = site.lines(5);
    // ls has its own three and the directory that it reads.
    assert_eq!(lines[..4], ["a word; $HOME", "0", "4", "/"]);
    let told: serde_json::Value = serde_json::from_str(&lines[4]).unwrap();
    assert!(told["time"].as_str().unwrap().parse::<Timestamp>().is_ok());
    let expected = serde_json::json!({
        "schema": 1, "event": "account_held", "time": told["time"], "account": "mario@pec.it",
        "migration": "epap", "reason": "credentials_rejected", "message": "refused\\n",
        "contact": { "email": "mario@studio.it", "phone": null },
    });
    assert_eq!(told, expected);
    site.hooks.finish(LONG);
    assert_eq!(site.journal.recorded().len(), 2, "one event has no program, and nothing failed");
}

#[test]
fn a_failure_is_told_tried_again_and_given_up() {
    let site = Site::new("echo once >> OUT; exit 3", LONG);
    site.emit(Event::AccountHeld);
    site.lines(3);
    let told = wait(|| Some(site.failures()).filter(|told| told.len() >= 2));
    let expected = [
        "hook account_held: exit status: 3: tried again in 0 s",
        "hook account_held: exit status: 3: given up",
    ];
    assert_eq!(told, expected);
    site.hooks.finish(LONG);
    assert_eq!(fs::read_to_string(site.dir.path().join("out")).unwrap(), "once\nonce\nonce\n");
}

#[test]
fn one_that_hangs_is_killed_with_its_children_and_reaped() {
    let site = Site::new("sleep 1000 & echo $$ $! >> OUT; wait", Duration::from_millis(300));
    site.emit(Event::AccountHeld);
    let pids: Vec<String> = site.lines(1)[0].split(' ').map(str::to_owned).collect();
    // Of the program itself nothing is left; its child is its reaper's, and no longer sleeps.
    wait(|| (!Path::new("/proc").join(&pids[0]).exists()).then_some(()));
    wait(|| {
        let stat = fs::read_to_string(Path::new("/proc").join(&pids[1]).join("stat"));
        stat.map_or(true, |stat| stat.contains(") Z")).then_some(())
    });
    let told = wait(|| site.failures().first().cloned());
    assert_eq!(told, "hook account_held: killed after 0 s: tried again in 0 s");
    site.hooks.finish(LONG);
}

#[test]
fn a_program_that_is_not_there_is_a_failure() {
    let site = Site::new("", LONG);
    fs::remove_file(site.dir.path().join("hook")).unwrap();
    site.emit(Event::AccountHeld);
    let told = wait(|| Some(site.failures()).filter(|told| told.len() >= 2));
    assert!(told[0].contains("No such file"), "{told:?}");
    site.hooks.finish(LONG);
}

#[test]
fn what_waits_at_the_end_is_told_once_more() {
    let terms = Terms { time_limit: LONG, pauses: MUCH_LATER };
    let site = Site::with("cat >> OUT; test -e OUT.good", terms);
    site.emit(Event::AccountHeld);
    wait(|| site.failures().first().cloned());
    fs::write(site.dir.path().join("out.good"), "").unwrap();
    site.hooks.finish(LONG);
    assert_eq!(site.journal.recorded().len(), 2, "it was told in the end");
    let text = fs::read_to_string(site.dir.path().join("out")).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn a_flood_is_bounded_and_said() {
    let site = Site::new("sleep 10", LONG);
    for _ in 0..QUEUE_MAX + WAITING_MAX + RUNNING_MAX + 500 {
        site.emit(Event::AccountHeld);
    }
    let told = wait(|| site.failures().first().cloned());
    assert!(told.ends_with("events came faster than hooks could be run: not told"), "{told}");
    // What waits is not wanted any more.
    site.hooks.set(Settings::new());
    site.hooks.finish(Duration::ZERO);
}
