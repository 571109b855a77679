//! Passwords from whoever runs a command: asked for without echo, or the first line of stdin.

use std::io::{self, BufRead, IsTerminal, Read};

use secrecy::SecretString;
use zeroize::Zeroizing;

/// Longer than any password that could be sent.
const LINE_MAX: u64 = 2048;

/// Asks on the terminal; without one, or where `from_stdin`, reads a line of stdin.
pub fn password(question: &str, from_stdin: bool) -> io::Result<SecretString> {
    if is_asked(from_stdin) {
        return Ok(SecretString::from(rpassword::prompt_password(format!("{question}: "))?));
    }
    let mut line = Zeroizing::new(String::with_capacity(LINE_MAX as usize));
    io::stdin().lock().take(LINE_MAX).read_line(&mut line)?;
    let end = line.trim_end_matches(['\n', '\r']).len();
    Ok(SecretString::from(line[..end].to_owned()))
}

/// Is there somebody who can be asked?
pub fn is_asked(from_stdin: bool) -> bool {
    !from_stdin && io::stdin().is_terminal()
}
