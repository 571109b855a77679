//! `retry`, `approve` and `reload`: an order to the daemon, and its answer.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use super::place::Place;
use super::terminal::{complain, say};
use crate::daemon::protocol::{Request, ask, exit};
use crate::journal::shown;
use crate::status::RejectedFile;

/// A reload of thousands of files on a slow disk takes a while.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(config: &Path, request: &Request) -> u8 {
    let socket = match Place::of(config) {
        Ok(place) => place.control_socket,
        Err((code, text)) => {
            complain(&text);
            return code;
        }
    };
    match ask(&socket, request, PATIENCE) {
        Ok(answer) => {
            for problem in &answer.problems {
                complain(&problem_line(problem));
            }
            let message = shown(&answer.message);
            match answer.exit {
                exit::FINE => say(&message),
                _ => complain(&message),
            }
            answer.exit
        }
        Err(error) => {
            let (code, text) = unanswered(&socket, &error);
            complain(&text);
            code
        }
    }
}

/// `conf.d/x.toml:3:1: message; hint`
pub fn problem_line(problem: &RejectedFile) -> String {
    let RejectedFile { file, line, column, message, hint } = problem;
    let place = match line {
        0 => shown(file),
        _ => format!("{}:{line}:{column}", shown(file)),
    };
    let hint = if hint.is_empty() { String::new() } else { format!("; {}", shown(hint)) };
    format!("{place}: {}{hint}", shown(message))
}

/// Why there was no answer, and what the command ends with.
pub fn unanswered(socket: &Path, error: &io::Error) -> (u8, String) {
    let socket = socket.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            (exit::UNAVAILABLE, format!("no daemon listens at {socket}"))
        }
        ErrorKind::PermissionDenied => {
            let text = format!("{socket}: permission denied; be root or in group pecsync-admin");
            (exit::NO, text)
        }
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            (exit::UNAVAILABLE, format!("the daemon at {socket} does not answer"))
        }
        _ => (exit::UNAVAILABLE, format!("{socket}: {error}")),
    }
}
