//! `plan`, asked for over the control socket: a task beside the account's.

use tokio::sync::mpsc;

use super::control::Reply;
use super::process::last_words;
use super::proofs::{VERIFICATIONS_MAX, exit_of};
use super::protocol::{Answer, Line, Seen, exit};
use super::supervisor::Supervisor;
use crate::journal::shown;
use crate::sync::preview::preview;

/// It is one line and its answer.
const LINES_MAX: usize = 2;

impl Supervisor {
    /// Foresees an account's next pass. Given up when the client goes.
    pub(super) fn plan(&self, address: &str) -> Reply {
        let address = address.to_lowercase();
        let refuse = |text: &str| {
            Reply::Answer(Answer::refuse(exit::NO, format!("{}: {text}", shown(&address))))
        };
        let Some(enrollment) = self.accounts.enrollment(&address).cloned() else {
            return refuse("no such account");
        };
        let Ok(place) = self.proofs.places.clone().try_acquire_owned() else {
            let text =
                format!("{VERIFICATIONS_MAX} verifications or plans run already: try again later");
            return refuse(&text);
        };
        let (lines, heard) = mpsc::channel(LINES_MAX);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let foreseeing = tokio::spawn(async move {
                let _place = place;
                preview(&shared, &enrollment).await
            });
            let (task, abort) = (foreseeing.id(), foreseeing.abort_handle());
            let preview = tokio::select! {
                preview = foreseeing => preview,
                () = lines.closed() => return abort.abort(),
            };
            let words = last_words(task);
            let answer = match preview {
                Ok(preview) => {
                    let code = preview.error.as_ref().map_or(exit::FINE, |(code, _)| exit_of(code));
                    let _ = lines.send(Line::Seen(Seen::Plan(preview.into()))).await;
                    Answer { exit: code, ..Answer::default() }
                }
                Err(error) => {
                    let words = words.unwrap_or_else(|| error.to_string());
                    Answer::refuse(exit::NO, format!("a fault of pecsync: {}", shown(&words)))
                }
            };
            let _ = lines.send(Line::Answer(answer)).await;
        });
        Reply::Lines(heard)
    }
}
