//! `plan`: what the next pass would do to an account, by the daemon or, without one, by the
//! command itself.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::numbers::{bytes, count};
use super::offline::{self, Refusal};
use super::orders::unanswered;
use super::place::Place;
use super::terminal::{Style, complain, say, write};
use crate::daemon::proofs::exit_of;
use crate::daemon::protocol::{Line, Request, Seen, ask_for_lines, exit};
use crate::journal::shown;
use crate::sync::forecast::{FolderPlan, Part};
use crate::sync::preview::{Preview, preview};

/// All folders on both sides are listed before anything is said.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The account
    address: String,
    /// For programs, with the UIDs of the messages
    #[arg(long)]
    json: bool,
}

pub fn run(config: &Path, options: &Options) -> u8 {
    let planned = Place::of(config).and_then(|place| match by_daemon(&place, options)? {
        Some(preview) => Ok(preview),
        None => by_ourselves(config, &place, options),
    });
    match planned {
        Ok(preview) => {
            match options.json {
                true => say(&serde_json::json!({ "schema": 1, "plan": preview }).to_string()),
                false => drop(write(&text_of(&preview, Style::of_stdout()))),
            }
            match &preview.error {
                None => exit::FINE,
                Some((code, words)) => {
                    if !options.json {
                        let address = shown(&preview.address);
                        complain(&format!("{address}: {}: {}", shown(code), shown(words)));
                    }
                    exit_of(code)
                }
            }
        }
        Err((code, text)) => {
            complain(&text);
            code
        }
    }
}

/// `None` where no daemon listens.
fn by_daemon(place: &Place, options: &Options) -> Result<Option<Preview>, Refusal> {
    let socket = &place.control_socket;
    let request = Request::Plan { address: options.address.clone() };
    let mut planned = None;
    let answer = ask_for_lines(socket, &request, PATIENCE, |line| {
        if let Line::Seen(Seen::Plan(preview)) = line {
            planned = Some(*preview);
        }
        Ok(())
    });
    match answer {
        Ok(answer) => match planned {
            Some(preview) => Ok(Some(preview)),
            None => Err((answer.exit, shown(&answer.message))),
        },
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(unanswered(socket, &error)),
        },
    }
}

fn by_ourselves(config: &Path, place: &Place, options: &Options) -> Result<Preview, Refusal> {
    let enrolled = offline::read_enrollments(config)?;
    let address = options.address.to_lowercase();
    let enrollment = enrolled.accounts.get(&address).ok_or_else(|| enrolled.why_not(&address))?;
    let failed = |error: std::io::Error| (exit::NO, error.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(failed)?.block_on(async {
        let shared = offline::shared(&place.state_dir, &enrolled.settings)?;
        Ok(preview(&shared, enrollment).await)
    })
}

fn text_of(preview: &Preview, style: Style) -> String {
    let mut text = String::new();
    if preview.error.is_none() {
        text += &format!("{} ({})\n", shown(&preview.address), shown(&preview.phase));
    }
    let arrow = style.sign("→", "->");
    for folder in &preview.folders {
        let name = match folder.target.as_str() {
            target if target == folder.name || target.is_empty() => folder.name.clone(),
            target => format!("{} {arrow} {target}", folder.name),
        };
        text += &format!("  {}: {}\n", shown(&name), words_of(folder));
    }
    let all = |part: fn(&FolderPlan) -> &Part| {
        let parts = preview.folders.iter().map(part);
        parts.fold((0, 0), |sum, part| (sum.0 + part.messages, sum.1 + part.bytes))
    };
    let totals: Vec<String> = PARTS
        .iter()
        .map(|(name, part)| (name, all(*part)))
        .filter(|(_, (messages, _))| *messages > 0)
        .map(|(name, (messages, octets))| amount(name, messages, octets))
        .collect();
    if preview.error.is_none() && !preview.folders.is_empty() {
        let totals = if totals.is_empty() { "nothing to do".to_owned() } else { totals.join(", ") };
        text += &format!("in all: {totals}\n");
    }
    if preview.removals_suspended {
        let address = shown(&preview.address);
        text += &format!(
            "removals wait: so much is gone at once that it may be an accident; if it was meant: \
             pecsync approve {address} deletions\n"
        );
    }
    for note in &preview.notes {
        text += &format!("{}\n", shown(note));
    }
    text
}

type Picked = (&'static str, fn(&FolderPlan) -> &Part);

const PARTS: [Picked; 7] = [
    ("copy", |plan| &plan.copy),
    ("compare, then adopt or copy", |plan| &plan.compare),
    ("copy again", |plan| &plan.copy_again),
    ("flag", |plan| &plan.flag),
    ("move here", |plan| &plan.moved_here),
    ("remove", |plan| &plan.remove),
    ("keep though gone", |plan| &plan.keep),
];

/// `copy 3 (4.4 KB), flag 1`
fn words_of(folder: &FolderPlan) -> String {
    let parts = PARTS.iter().map(|(name, part)| (name, part(folder)));
    let mut words: Vec<String> = parts
        .filter(|(_, part)| part.messages > 0)
        .map(|(name, part)| amount(name, part.messages, part.bytes))
        .collect();
    let state = match (folder.state.as_str(), folder.why.as_str()) {
        ("ok", _) => None,
        ("new", _) => Some("made at the target".to_owned()),
        ("deferred", _) => Some("waits for the cutover".to_owned()),
        (state, "") => Some(shown(state)),
        (state, why) => Some(format!("{}: {}", shown(state), shown(why))),
    };
    words.splice(0..0, state);
    if words.is_empty() { "nothing to do".to_owned() } else { words.join(", ") }
}

fn amount(name: &str, messages: u64, octets: u64) -> String {
    match name.starts_with("co") {
        true => format!("{name} {} ({})", count(messages), bytes(octets)),
        false => format!("{name} {}", count(messages)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_in_words() {
        let part = |messages| Part { messages, bytes: messages * 1100, uids: String::new() };
        let folder = |name: &str, target: &str, state: &str| FolderPlan {
            name: name.into(),
            target: target.into(),
            state: state.into(),
            ..FolderPlan::default()
        };
        let preview = Preview {
            address: "a@b".into(),
            phase: "following".into(),
            folders: vec![
                FolderPlan { copy: part(4), flag: part(1), ..folder("INBOX", "INBOX", "ok") },
                FolderPlan { remove: part(2), ..folder("Inviata", "INBOX/Spedite", "new") },
                folder("Bozze", "Bozze", "ok"),
                FolderPlan { why: "taken\u{7}".into(), ..folder("X", "", "held") },
            ],
            removals_suspended: true,
            ..Preview::default()
        };
        let style =
            Style { width: 80, height: 24, colour: false, unicode: true, is_terminal: false };
        let expected = "a@b (following)\n\
                        \x20 INBOX: copy 4 (4.4 KB), flag 1\n\
                        \x20 Inviata → INBOX/Spedite: made at the target, remove 2\n\
                        \x20 Bozze: nothing to do\n\
                        \x20 X: held: taken\\x07\n\
                        in all: copy 4 (4.4 KB), flag 1, remove 2\n\
                        removals wait: so much is gone at once that it may be an accident; if it \
                        was meant: pecsync approve a@b deletions\n";
        assert_eq!(text_of(&preview, style), expected);
    }
}
