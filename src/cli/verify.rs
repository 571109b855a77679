//! `verify`: compares what lies at the target (and the source) with what was copied, by the daemon
//! or, without one, by the command itself.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::numbers::{bytes, count, part};
use super::offline::{self, Refusal};
use super::orders::unanswered;
use super::place::Place;
use super::terminal::{Style, complain};
use crate::checkpoint::Completed;
use crate::config::Enrollment;
use crate::daemon::proofs::{exit_code, worse};
use crate::daemon::protocol::{Line, Request, ask_for_lines, exit};
use crate::journal::{Journal, Output, shown};
use crate::sync::account::Shared;
use crate::sync::verify::{self, Finding, Outcome, Progress, Summary, Told};

/// Progress comes twice a second.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The account
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    address: Option<String>,
    /// Every account, one after the other
    #[arg(long)]
    all: bool,
    /// Download the source, too; not possible past source_until
    #[arg(long)]
    source: bool,
    /// Have what is missing copied again; only before the cutover
    #[arg(long)]
    repair: bool,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub fn run(config: &Path, options: &Options) -> u8 {
    let place = match Place::of(config) {
        Ok(place) => place,
        Err((code, text)) => {
            complain(&text);
            return code;
        }
    };
    let mut teller = Teller::new(options.json);
    let code = match by_daemon(&place, options, &mut teller) {
        Ok(Some(code)) => Ok(code),
        Ok(None) => by_ourselves(config, &place, options, &mut teller),
        Err(refusal) => Err(refusal),
    };
    let code = code.unwrap_or_else(|(code, text)| {
        teller.clear();
        complain(&text);
        code
    });
    match teller.end() {
        // Who closes a pipe early has seen enough, but asked a question.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(&format!("the answer could not be written: {error}"));
            exit::NO
        }
        _ => code,
    }
}

/// `None` where no daemon listens.
fn by_daemon(place: &Place, options: &Options, teller: &mut Teller) -> Result<Option<u8>, Refusal> {
    let socket = &place.control_socket;
    let (address, source, repair) = (options.address.clone(), options.source, options.repair);
    let request = Request::Verify { address, source, repair };
    let answer = ask_for_lines(socket, &request, PATIENCE, |line| match line {
        Line::Told(told) => teller.take(told),
        Line::Row(_) | Line::Seen(_) | Line::Answer(_) => Ok(()),
    });
    match answer {
        Ok(answer) if answer.message.is_empty() => Ok(Some(answer.exit)),
        Ok(answer) => Err((answer.exit, shown(&answer.message))),
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(unanswered(socket, &error)),
        },
    }
}

fn by_ourselves(
    config: &Path,
    place: &Place,
    options: &Options,
    teller: &mut Teller,
) -> Result<u8, Refusal> {
    let mut enrolled = offline::read_enrollments(config)?;
    let mut code = exit::FINE;
    match &options.address {
        Some(address) => {
            let address = address.to_lowercase();
            enrolled.accounts.retain(|known, _| *known == address);
            if enrolled.accounts.is_empty() {
                return Err(enrolled.why_not(&address));
            }
        }
        // Who cannot be looked at is not passed over in silence.
        None => {
            for problem in enrolled.problems() {
                complain(&shown(&problem.to_string()));
                code = exit::NO;
            }
        }
    }
    let store = offline::open_store(&place.state_dir)?;
    let failed = |error: io::Error| (exit::NO, error.to_string());
    let completed = Completed::open(&place.state_dir).map_err(failed)?;
    let journal = Journal::new(Output::Lines);
    let shared = Shared::new(store, completed, journal.clone(), &enrolled.settings.limits);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let code = runtime.map_err(failed)?.block_on(async {
        for enrollment in enrolled.accounts.into_values() {
            match verify_one(&shared, enrollment, options, teller).await {
                Ok(one) => code = worse(code, one),
                Err(_) => break,
            }
        }
        code
    });
    journal.flush(Duration::from_secs(1));
    Ok(code)
}

/// An error: nobody reads what is told.
async fn verify_one(
    shared: &Shared,
    enrollment: Arc<Enrollment>,
    options: &Options,
    teller: &mut Teller,
) -> io::Result<u8> {
    let (tell, told) = mpsc::channel(64);
    let wanted = verify::Options { source: options.source, repair: options.repair };
    let verifying = async move {
        let tell = tell;
        verify::verify(shared, &enrollment, wanted, &tell).await
    };
    let telling = async {
        let mut told = told;
        while let Some(one) = told.recv().await {
            teller.take(one)?;
        }
        io::Result::Ok(())
    };
    let (outcome, heard) = tokio::join!(verifying, telling);
    heard?;
    let Some(Outcome { mut summary, missing, may_repair, .. }) = outcome else {
        return Err(ErrorKind::BrokenPipe.into());
    };
    if options.repair && !missing.is_empty() {
        match may_repair {
            false => summary.not_repaired = Some(verify::PAST_CUTOVER.to_owned()),
            true => match repair(shared, &summary.address, &missing).await {
                Ok(()) => summary.to_be_copied = missing.len() as u64,
                Err(error) => summary.not_repaired = Some(error.to_string()),
            },
        }
    }
    let code = exit_code(&summary);
    teller.take(Told::Account(summary.into()))?;
    Ok(code)
}

async fn repair(
    shared: &Shared,
    address: &str,
    missing: &[(crate::checkpoint::FolderId, crate::words::Uid)],
) -> io::Result<()> {
    let Some(record) = shared.store.account(address)? else { return Ok(()) };
    let edits = verify::repair(&shared.store, record.id, missing)?;
    shared.store.writer().commit(edits).await
}

/// Puts out what is found as it is found, and progress where somebody watches.
struct Teller {
    json: bool,
    style: Style,
    watched: bool,
    /// The progress line stands on the terminal.
    drawn: bool,
    begun: Instant,
    accounts: usize,
    /// Findings of the account at hand.
    findings: usize,
}

impl Teller {
    fn new(json: bool) -> Teller {
        Teller {
            json,
            style: Style::of_stdout(),
            watched: io::stderr().is_terminal(),
            drawn: false,
            begun: Instant::now(),
            accounts: 0,
            findings: 0,
        }
    }

    fn take(&mut self, told: Told) -> io::Result<()> {
        match told {
            Told::Progress(progress) => {
                self.draw(&progress);
                Ok(())
            }
            Told::Finding(finding) if self.json => self.put(&self.json_finding(&finding)?, false),
            Told::Finding(finding) => self.put(&line_of(&finding, self.style), false),
            Told::Account(summary) if self.json => self.put(&self.json_end(&summary)?, true),
            Told::Account(summary) => self.put(&lines_of(&summary, self.style), true),
        }
    }

    fn put(&mut self, text: &str, ends_account: bool) -> io::Result<()> {
        self.clear();
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        self.findings = if ends_account { 0 } else { self.findings + 1 };
        self.accounts += usize::from(ends_account);
        Ok(())
    }

    /// What stands before an account's next finding, or before its end.
    fn json_begin(&self) -> String {
        match (self.findings, self.accounts) {
            (0, 0) => "{\"schema\":1,\"accounts\":[\n{\"findings\":[".to_owned(),
            (0, _) => ",\n{\"findings\":[".to_owned(),
            _ => String::new(),
        }
    }

    fn json_finding(&self, finding: &Finding) -> io::Result<String> {
        let mut value = serde_json::to_value(finding)?;
        value["difference"] = json!(finding.kind.is_difference());
        value.as_object_mut().map(|object| object.remove("address"));
        let comma = if self.findings > 0 { "," } else { "" };
        Ok(format!("{}{comma}\n{value}", self.json_begin()))
    }

    fn json_end(&self, summary: &Summary) -> io::Result<String> {
        let mut value = serde_json::to_value(summary)?;
        let error = summary.error.as_ref();
        let error = error.map(|(code, message)| json!({ "code": code, "message": message }));
        value["error"] = error.unwrap_or(Value::Null);
        let text = value.to_string();
        Ok(format!("{}],{}", self.json_begin(), &text[1..]))
    }

    fn end(&mut self) -> io::Result<()> {
        self.clear();
        if !self.json {
            return Ok(());
        }
        let end = match (self.accounts, self.findings) {
            (0, 0) => "{\"schema\":1,\"accounts\":[]}\n",
            (_, 0) => "\n]}\n",
            // Cut short in the middle of an account.
            _ => "]}\n]}\n",
        };
        io::stdout().lock().write_all(end.as_bytes())
    }

    fn draw(&mut self, progress: &Progress) {
        if !self.watched {
            return;
        }
        const WIDTH: u64 = 20;
        let of = progress.messages_of.max(progress.messages);
        let full = (progress.messages * WIDTH).checked_div(of).unwrap_or(0);
        let signs = [self.style.sign("█", "#"), self.style.sign("░", ".")];
        let bar: String =
            (0..WIDTH).map(|place| if place < full { signs[0] } else { signs[1] }).collect();
        let rate = progress.bytes as f64 / self.begun.elapsed().as_secs_f64().max(0.5);
        let messages = part(Some(progress.messages), Some(of), count);
        let line = format!(
            "{} {bar} {messages}, {}, {}/s",
            shown(&progress.address),
            bytes(progress.bytes),
            bytes(rate as u64)
        );
        let _ = write!(io::stderr().lock(), "\r{line}\x1b[K");
        self.drawn = true;
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

/// `mario@pec.it: missing: INBOX, UID 3 → 17: …`
fn line_of(finding: &Finding, style: Style) -> String {
    let uid = |uid: Option<u32>| uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string());
    let since = if finding.kind.is_difference() { "" } else { "changed since: " };
    let arrow = style.sign("→", "->");
    let detail = match finding.detail.as_str() {
        "" => String::new(),
        detail => format!(": {}", shown(detail)),
    };
    format!(
        "{}: {since}{} at the {}: {}, UID {} {arrow} {}{detail}\n",
        shown(&finding.address),
        finding.kind.as_str(),
        shown(&finding.side),
        shown(&finding.folder),
        uid(finding.source_uid),
        uid(finding.target_uid),
    )
}

/// What an account comes to.
fn lines_of(summary: &Summary, style: Style) -> String {
    let address = shown(&summary.address);
    let source = summary.source_messages;
    let source = source.map_or_else(String::new, |n| format!(", {} at the source", count(n)));
    let verdict = match (&summary.error, summary.differences) {
        (Some(_), _) => style.bad("not verified to the end"),
        (None, 0) => style.good("no difference"),
        (None, 1) => style.bad("1 difference"),
        (None, differences) => style.bad(&format!("{} differences", count(differences))),
    };
    let mut text = format!(
        "{address}: {verdict}; {} messages, {} compared{source}; {} changed since\n",
        count(summary.messages),
        bytes(summary.bytes),
        count(summary.changed_since),
    );
    if let Some((code, words)) = &summary.error {
        text += &format!("{address}: {}: {}\n", shown(code), shown(words));
    }
    if summary.to_be_copied > 0 {
        let number = count(summary.to_be_copied);
        text += &format!("{address}: {number} missing ones are copied again by the next pass\n");
    }
    if let Some(why) = &summary.not_repaired {
        text += &format!("{address}: not repaired: {}\n", shown(why));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::compare::Kind;

    fn finding() -> Finding {
        Finding {
            address: "a@b".into(),
            side: "target".into(),
            kind: Kind::Missing,
            folder: "INBOX".into(),
            source_uid: Some(3),
            target_uid: None,
            detail: "x\u{1b}".into(),
        }
    }

    #[test]
    fn json_is_whole_with_any_number_of_accounts_and_findings() {
        for findings in [vec![], vec![0], vec![2], vec![0, 1, 0, 3]] {
            let mut teller = Teller::new(true);
            let mut text = String::new();
            for of_account in &findings {
                for _ in 0..*of_account {
                    text += &teller.json_finding(&finding()).unwrap();
                    teller.findings += 1;
                }
                text += &teller.json_end(&Summary::default()).unwrap();
                (teller.findings, teller.accounts) = (0, teller.accounts + 1);
            }
            text += if findings.is_empty() { "{\"accounts\":[]}" } else { "\n]}\n" };
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            let accounts = value["accounts"].as_array().unwrap();
            let counts: Vec<usize> =
                accounts.iter().map(|one| one["findings"].as_array().unwrap().len()).collect();
            assert_eq!(counts, findings, "{text}");
        }
    }

    #[test]
    fn lines_say_what_and_where_and_are_safe_to_show() {
        let plain =
            Style { width: 80, height: 24, colour: false, unicode: true, is_terminal: false };
        let expected = "a@b: missing at the target: INBOX, UID 3 → -: x\\x1b\n";
        assert_eq!(line_of(&finding(), plain), expected);
        let summary = Summary {
            address: "a@b".into(),
            messages: 1204,
            bytes: 4400,
            differences: 1,
            to_be_copied: 1,
            ..Summary::default()
        };
        let expected = "a@b: 1 difference; 1,204 messages, 4.4 KB compared; 0 changed since\n\
                        a@b: 1 missing ones are copied again by the next pass\n";
        assert_eq!(lines_of(&summary, plain), expected);
    }
}
