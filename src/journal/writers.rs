//! The three writers: journald, readable lines, JSON lines. Only the journal's thread calls them,
//! so they may block.

use std::io::{self, Write};
use std::time::Duration;

use jiff::Timestamp;
use log::{Level, Record};
use systemd_journal_logger::JournalLog;

use super::Entry;

/// Where entries go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    Journald,
    /// Readable lines on stderr.
    Lines,
    /// One JSON object a line, on stderr.
    Json,
}

impl Output {
    /// journald when stderr is the journal (a service without `StandardError=`), else lines.
    pub fn fitting() -> Output {
        match systemd_journal_logger::connected_to_journal() {
            true => Output::Journald,
            false => Output::Lines,
        }
    }
}

pub(super) enum Writer {
    // Boxed: it is much larger than the others, which are nothing.
    Journald(Box<JournalLog>),
    Lines,
    Json,
}

impl Writer {
    /// Lines where journald is asked for and absent: in a container, on a system without it.
    pub fn open(output: Output) -> Writer {
        match output {
            Output::Lines => Writer::Lines,
            Output::Json => Writer::Json,
            Output::Journald => match JournalLog::empty() {
                Ok(log) => {
                    let log = log.with_syslog_identifier("pecsync".to_owned());
                    Writer::Journald(Box::new(log))
                }
                Err(_) => Writer::Lines,
            },
        }
    }

    pub fn write(&self, entry: &Entry, time: Timestamp) -> io::Result<()> {
        match self {
            Writer::Journald(log) => send(log, entry),
            Writer::Lines => write_line(entry.line_at(time)),
            Writer::Json => write_line(entry.json_at(time)),
        }
    }
}

/// systemd-journal-logger maps the five levels of `log` to the priorities 3 to 7.
fn send(log: &JournalLog, entry: &Entry) -> io::Result<()> {
    let level = match entry.level() {
        ..=3 => Level::Error,
        4 => Level::Warn,
        5 => Level::Info,
        6 => Level::Debug,
        7.. => Level::Trace,
    };
    let fields = entry.fields();
    let pairs: Vec<(&str, &str)> =
        fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let text = entry.text();
    let pairs = pairs.as_slice();
    let mut sent = Ok(());
    // While journald is restarted by hand its socket may refuse for a moment.
    for pause in [100, 300, 1000, 0] {
        sent = log.journal_send(
            &Record::builder()
                .level(level)
                .target("pecsync")
                .args(format_args!("{text}"))
                .key_values(&pairs)
                .build(),
        );
        if sent.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(pause));
    }
    sent
}

/// In one write, so that lines of several processes do not mix.
fn write_line(mut line: String) -> io::Result<()> {
    line.push('\n');
    io::stderr().lock().write_all(line.as_bytes())
}
