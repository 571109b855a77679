//! What the terminal can show: width, colour, letters beyond ASCII. And writing to it without
//! minding that the reader has gone.

use std::io::{self, IsTerminal, Write};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    pub width: usize,
    pub height: usize,
    pub colour: bool,
    pub unicode: bool,
    pub is_terminal: bool,
}

impl Style {
    /// Of this process's stdout.
    pub fn of_stdout() -> Style {
        let is_terminal = io::stdout().is_terminal();
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (width, height) = window_size().unwrap_or((80, 24));
        let dumb = variable("TERM").is_some_and(|terminal| terminal == "dumb");
        Style {
            width: if is_terminal { width.clamp(60, 200) } else { 80 },
            height: height.max(10),
            colour: is_terminal && !dumb && variable("NO_COLOR").is_none(),
            unicode: is_utf8(["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable)),
            is_terminal: is_terminal && !dumb,
        }
    }

    pub fn good(self, text: &str) -> String {
        self.painted("32", text)
    }

    /// Painted where there is something to paint.
    pub fn good_if(self, something: bool, text: &str) -> String {
        if something { self.good(text) } else { text.to_owned() }
    }

    pub fn warning(self, text: &str) -> String {
        self.painted("33", text)
    }

    pub fn bad(self, text: &str) -> String {
        self.painted("31", text)
    }

    pub fn heading(self, text: &str) -> String {
        self.painted("1", text)
    }

    fn painted(self, code: &str, text: &str) -> String {
        match self.colour {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// A sign, or what stands for it in ASCII.
    pub fn sign(self, sign: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { sign } else { ascii }
    }
}

fn is_utf8(locale: Option<String>) -> bool {
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

fn window_size() -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ fills a winsize, which lives through the call.
    let done = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_col > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

/// To stdout; `false` where nobody reads it any more (`| head`).
pub fn write(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

/// A line to stdout.
pub fn say(line: &str) {
    if !line.is_empty() {
        write(&format!("{line}\n"));
    }
}

/// A line to stderr.
pub fn complain(line: &str) {
    if !line.is_empty() {
        let _ = writeln!(io::stderr().lock(), "pecsync: {line}");
    }
}
