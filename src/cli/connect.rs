//! `check --connect`: logs in on both sides of every account, by the daemon and within its budget
//! or, without one, by the command itself, and says what stands in the way.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::check::{Found, dropped};
use super::numbers::{bytes, count, duration};
use super::offline::{self, Enrolled, Refusal};
use super::orders::unanswered;
use super::place::Place;
use super::terminal::{Style, complain, write};
use crate::config::{
    Context, Difference, Enrollment, HostLimits, Limits, Problem, Settings, load_in,
};
use crate::daemon::previews::inspect_each;
use crate::daemon::proofs::{exit_of, worse};
use crate::daemon::protocol::{Line, Request, Seen, ask_for_lines, exit};
use crate::journal::shown;
use crate::sync::account::Shared;
use crate::sync::inspect::{Inspection, SideSeen, last_passes};

/// A large account is listed for a while, and logins wait for their turn.
const PATIENCE: Duration = Duration::from_secs(600);
/// In one request, which has its bound.
const ADDRESSES_MAX: usize = 40;
/// For the estimate, which says so.
const ASSUMED_BYTES_A_SECOND: u64 = 1_000_000;

/// Of all accounts, or of those in `files`. `read` is what reading the configuration came to: with
/// mistakes in pecsync.toml nobody can be asked anything. Gives the exit code and, for programs,
/// what was found.
pub fn run(config: &Path, files: &[PathBuf], read: &Found, json: bool) -> (u8, Value) {
    let context = Context { now: Timestamp::now(), checking: true, ..Context::of_daemon() };
    let Ok((settings, _)) = load_in(config, &context) else { return (read.code(), Value::Null) };
    let teller = Teller { json, ..Teller::default() };
    let asked = match files {
        [] => inspect_all(config, read, &teller),
        files => inspect_some(config, files, read, &settings, &teller),
    };
    let accounts = Value::Array(teller.kept.take());
    let mut code = teller.code.get();
    match asked {
        Ok(()) if json => {}
        Ok(()) => drop(write(&teller.summary(&settings.limits))),
        Err((no, text)) => {
            complain(&text);
            code = no;
        }
    }
    match read.code() {
        exit::FINE => (code, accounts),
        read => (read, accounts),
    }
}

fn inspect_all(config: &Path, read: &Found, teller: &Teller) -> Result<(), Refusal> {
    let place = Place::of(config)?;
    if by_daemon(&place, &[], teller)? {
        return Ok(());
    }
    let enrolled = offline::read_enrollments(config)?;
    // `check` believes passwords that only the daemon can open; without it they cannot be tried.
    let new = enrolled.problems().filter(|_| read.code() == exit::FINE);
    new.for_each(|problem| teller.complain(problem));
    let shared = || offline::shared(&place.state_dir, &enrolled.settings);
    by_ourselves(shared, enrolled.accounts.into_values().collect(), teller)
}

/// Files of conf.d by the daemon, which knows what was refused before; others as `enroll` would,
/// with one try each.
fn inspect_some(
    config: &Path,
    files: &[PathBuf],
    read: &Found,
    settings: &Settings,
    teller: &Teller,
) -> Result<(), Refusal> {
    let place = Place::of(config)?;
    // By whatever way they were named: who was refused before is not to be tried as somebody new.
    let conf_dir = settings.daemon.conf_dir.canonicalize().ok();
    let is_inside = |enrollment: &&Arc<Enrollment>| {
        let dir = enrollment.file.parent().and_then(|dir| dir.canonicalize().ok());
        dir.zip(conf_dir.as_ref()).is_some_and(|(dir, conf_dir)| dir.starts_with(conf_dir))
    };
    let (inside, outside): (Vec<_>, Vec<_>) = read.accepted.iter().partition(is_inside);
    let inside: Vec<String> = inside.into_iter().map(|it| it.address.clone()).collect();
    let mut with_daemon = true;
    for some in inside.chunks(ADDRESSES_MAX) {
        with_daemon = with_daemon && by_daemon(&place, some, teller)?;
    }
    let told = teller.accounts.get();
    if with_daemon && told < inside.len() as u64 {
        let text = "the daemon does not know all of these yet: pecsync reload".to_owned();
        return Err((exit::NO, text));
    }
    // With the passwords themselves, which `check` may only have believed.
    let Enrolled { settings, mut accounts, .. } = offline::read_enrollments(config)?;
    let mut new = Vec::new();
    if !outside.is_empty() {
        for difference in dropped(files, &settings).0 {
            match difference {
                Difference::Accepted(enrollment) | Difference::Replaced(enrollment) => {
                    new.push(enrollment);
                }
                Difference::Rejected(problem) => teller.complain(&problem),
                Difference::Repeated(_) | Difference::Removed(_) => {}
            }
        }
        new.retain(|enrollment| outside.iter().any(|it| it.address == enrollment.address));
        by_ourselves(|| offline::knowing_nothing(&settings), new, teller)?;
    }
    if !with_daemon {
        accounts.retain(|address, _| inside.contains(address));
        if accounts.len() < inside.len() {
            let text = "some of these have passwords that only a running daemon can open";
            return Err((exit::NO, text.to_owned()));
        }
        let shared = || offline::shared(&place.state_dir, &settings);
        by_ourselves(shared, accounts.into_values().collect(), teller)?;
    }
    Ok(())
}

/// False where no daemon listens.
fn by_daemon(place: &Place, addresses: &[String], teller: &Teller) -> Result<bool, Refusal> {
    let socket = &place.control_socket;
    let request = Request::Inspect { addresses: addresses.to_vec() };
    let answer = ask_for_lines(socket, &request, PATIENCE, |line| match line {
        Line::Seen(Seen::Account(found)) if !teller.tell(&found) => {
            Err(ErrorKind::BrokenPipe.into())
        }
        _ => Ok(()),
    });
    match answer {
        Ok(answer) if answer.exit == exit::FINE => Ok(true),
        Ok(answer) => Err((answer.exit, shown(&answer.message))),
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Ok(false),
            // Who closes a pipe early has seen enough.
            ErrorKind::BrokenPipe => Ok(true),
            _ => Err(unanswered(socket, &error)),
        },
    }
}

fn by_ourselves(
    shared: impl FnOnce() -> Result<Shared, Refusal>,
    enrollments: Vec<Arc<Enrollment>>,
    teller: &Teller,
) -> Result<(), Refusal> {
    let failed = |error: std::io::Error| (exit::NO, error.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(failed)?.block_on(async {
        inspect_each(Arc::new(shared()?), enrollments, async |found| teller.tell(&found)).await;
        Ok(())
    })
}

/// Puts out each account as it was found, and sums up.
#[derive(Default)]
struct Teller {
    /// Keeps them for a program instead.
    json: bool,
    kept: RefCell<Vec<Value>>,
    code: Cell<u8>,
    accounts: Cell<u64>,
    with_problems: Cell<u64>,
    /// Messages and octets that are to be copied.
    to_copy: Cell<(u64, u64)>,
    /// Accounts between two hosts.
    hosts: RefCell<BTreeMap<(String, String), u64>>,
}

impl Teller {
    /// False once nobody reads any more.
    fn tell(&self, found: &Inspection) -> bool {
        self.accounts.set(self.accounts.get() + 1);
        let (messages, octets) = self.to_copy.get();
        self.to_copy.set((messages + found.to_copy.0, octets + found.to_copy.1));
        let hosts = (found.source.host.clone(), found.target.host.clone());
        *self.hosts.borrow_mut().entry(hosts).or_default() += 1;
        if !found.problems.is_empty() {
            self.with_problems.set(self.with_problems.get() + 1);
        }
        for (code, _) in &found.problems {
            self.code.set(worse(self.code.get(), exit_of(code)));
        }
        if self.json {
            let found = serde_json::to_value(found).unwrap_or_default();
            self.kept.borrow_mut().push(found);
            return true;
        }
        write(&text_of(found, Style::of_stdout()))
    }

    /// Of what keeps an account from being looked at.
    fn complain(&self, problem: &Problem) {
        self.code.set(exit::NO);
        complain(&shown(&problem.to_string()));
    }

    fn summary(&self, limits: &Limits) -> String {
        let (messages, octets) = self.to_copy.get();
        let accounts = self.accounts.get();
        let mut text = format!(
            "{}, {} with problems; {} to copy, {}\n",
            number_of(accounts, "account"),
            count(self.with_problems.get()),
            number_of(messages, "message"),
            bytes(octets),
        );
        let at_once = (limits.accounts_copying as u64).min(accounts).max(1);
        if octets > 0 {
            text += &format!(
                "first copies, {at_once} at once and {}/s each (assumed): {}\n",
                bytes(ASSUMED_BYTES_A_SECOND),
                duration((octets / (ASSUMED_BYTES_A_SECOND * at_once)).max(1)),
            );
        }
        for ((source, target), accounts) in self.hosts.borrow().iter() {
            let of = |host: &str| limits_of(limits, host);
            let least = last_passes(*accounts, &of(source), &of(target));
            text += &format!(
                "last passes of {} from {} to {}, at the configured rates: at least {}\n",
                number_of(*accounts, "account"),
                shown(source),
                shown(target),
                duration(least.as_secs().max(1)),
            );
        }
        text
    }
}

/// Names in tables are as the operator wrote them.
fn limits_of(limits: &Limits, host: &str) -> HostLimits {
    let mut own = limits.hosts.iter().filter(|(name, _)| name.eq_ignore_ascii_case(host));
    own.next().map_or(&limits.default, |(_, limits)| limits).clone()
}

fn text_of(found: &Inspection, style: Style) -> String {
    let verdict = match found.problems.len() {
        0 => style.good("fine"),
        1 => style.bad("1 problem"),
        problems => style.bad(&format!("{problems} problems")),
    };
    let (address, migration) = (shown(&found.address), shown(&found.migration));
    let mut text = format!("{address} ({migration}): {verdict}\n");
    text += &side_line("source", &found.source);
    text += &side_line("target", &found.target);
    let arrow = style.sign("→", "->");
    for folder in &found.folders {
        let name = shown(&folder.name);
        let place = match folder.target.as_str() {
            "" => format!("{name} is not copied: {}", shown(&folder.why)),
            target if target == folder.name => name,
            target => format!("{name} {arrow} {}", shown(target)),
        };
        let (messages, octets) = (number_of(folder.messages, "message"), bytes(folder.bytes));
        text += &format!("    {place}: {messages}, {octets}\n");
    }
    for (code, words) in &found.problems {
        text += &format!("  {}: {}: {}\n", style.bad("problem"), shown(code), shown(words));
    }
    for note in &found.notes {
        text += &format!("  note: {}\n", shown(note));
    }
    text
}

fn number_of(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

fn side_line(name: &str, side: &SideSeen) -> String {
    if !side.logged_in {
        return String::new();
    }
    let mut parts = vec![number_of(side.folders, "folder"), number_of(side.messages, "message")];
    if side.bytes > 0 {
        parts.push(bytes(side.bytes));
        parts.push(format!("the largest {}", bytes(side.largest)));
    }
    if let Some((used, limit)) = side.quota {
        parts.push(format!("{} of {} used", bytes(used), bytes(limit)));
    }
    if let Some(limit) = side.append_limit {
        parts.push(format!("messages up to {}", bytes(limit)));
    }
    let server = match side.server.as_str() {
        "" => String::new(),
        server => format!(" ({})", shown(server)),
    };
    let offers: Vec<String> = side.capabilities.iter().map(|atom| shown(atom)).collect();
    format!(
        "  {name} {}{server}: {}\n    offers {}\n",
        shown(&side.host),
        parts.join(", "),
        offers.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::inspect::FolderSeen;

    #[test]
    fn an_account_in_words() {
        let found = Inspection {
            address: "a@b".into(),
            migration: "epap".into(),
            source: SideSeen {
                host: "old.it".into(),
                logged_in: true,
                server: "Old\u{1b}".into(),
                capabilities: vec!["IDLE".into()],
                folders: 1,
                messages: 1200,
                bytes: 4400,
                largest: 2200,
                ..SideSeen::default()
            },
            folders: vec![FolderSeen {
                name: "Inviata".into(),
                target: "INBOX/Spedite".into(),
                messages: 1200,
                bytes: 4400,
                ..FolderSeen::default()
            }],
            problems: vec![("over_quota".into(), "too much".into())],
            ..Inspection::default()
        };
        let style =
            Style { width: 80, height: 24, colour: false, unicode: true, is_terminal: false };
        let expected = "a@b (epap): 1 problem\n\
                        \x20 source old.it (Old\\x1b): 1 folder, 1,200 messages, 4.4 KB, the largest \
                        2.2 KB\n    offers IDLE\n    Inviata → INBOX/Spedite: 1,200 messages, 4.4 KB\n\
                        \x20 problem: over_quota: too much\n";
        assert_eq!(text_of(&found, style), expected);
    }
}
