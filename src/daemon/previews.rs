//! `plan` and `check --connect`, asked for over the control socket: tasks beside the accounts'.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::control::Reply;
use super::process::last_words;
use super::proofs::{VERIFICATIONS_MAX, exit_of};
use super::protocol::{Answer, Line, Seen, exit};
use super::supervisor::Supervisor;
use crate::config::Enrollment;
use crate::journal::shown;
use crate::sync::account::Shared;
use crate::sync::inspect::{Inspection, inspect};
use crate::sync::preview::preview;

/// Lines that wait for a client.
const LINES_MAX: usize = 16;
/// Accounts looked at together; hosts' budgets slow them down further.
const TOGETHER: usize = 8;

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

    /// Inspects those accounts, or all where none are named. Given up when the client goes.
    pub(super) fn inspect(&self, addresses: &[String]) -> Reply {
        let Ok(place) = self.proofs.places.clone().try_acquire_owned() else {
            let text =
                format!("{VERIFICATIONS_MAX} verifications or plans run already: try again later");
            return Reply::Answer(Answer::refuse(exit::NO, text));
        };
        let is_meant = |enrollment: &&Arc<Enrollment>| {
            addresses.is_empty() || addresses.contains(&enrollment.address)
        };
        let enrollments: Vec<Arc<Enrollment>> =
            self.accounts.enrollments().filter(is_meant).cloned().collect();
        let (lines, heard) = mpsc::channel(LINES_MAX);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let _place = place;
            let told = lines.clone();
            let each = move |found: Inspection| {
                let told = told.clone();
                async move { told.send(Line::Seen(Seen::Account(found.into()))).await.is_ok() }
            };
            tokio::select! {
                () = inspect_each(shared, enrollments, each) => {}
                () = lines.closed() => return,
            }
            let _ = lines.send(Line::Answer(Answer::default())).await;
        });
        Reply::Lines(heard)
    }
}

/// Inspects accounts, some at a time, and gives each as it is done, until `each` has had enough.
pub async fn inspect_each<F: Future<Output = bool>>(
    shared: Arc<Shared>,
    enrollments: Vec<Arc<Enrollment>>,
    each: impl Fn(Inspection) -> F,
) {
    let mut waiting = enrollments.into_iter();
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < TOGETHER
            && let Some(enrollment) = waiting.next()
        {
            let shared = shared.clone();
            tasks.spawn(async move { inspect(&shared, &enrollment).await });
        }
        let Some(ended) = tasks.join_next_with_id().await else { return };
        let task = ended.as_ref().map_or_else(|error| error.id(), |(task, _)| *task);
        let words = last_words(task);
        let found = match ended {
            Ok((_, found)) => found,
            Err(error) => {
                let words = words.unwrap_or_else(|| error.to_string());
                let problem = ("internal_error".to_owned(), shown(&words));
                Inspection { problems: vec![problem], ..Inspection::default() }
            }
        };
        if !each(found).await {
            return;
        }
    }
}
