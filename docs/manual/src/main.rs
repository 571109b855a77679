//! Writes manual pages and shell completions, for a package:
//!
//! ```text
//! cargo run -p pecsync-manual -- DIRECTORY [DATE]
//! ```
//!
//! It is a package of its own so that neither the daemon nor its release build needs what it needs.
//! All is made from what the program and its manual say already: the definition of the command
//! line, the list of configuration keys, `docs/` and the samples.

mod markdown;
mod pages;

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let Some(dir) = arguments.next().map(PathBuf::from) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "where to? manual DIRECTORY [DATE]",
        ));
    };
    let date = arguments.next().map(|date| date.to_string_lossy().into_owned());
    fs::create_dir_all(&dir)?;
    let date = date.unwrap_or_default();
    for (name, text) in pages::all(&date) {
        fs::write(dir.join(name), text)?;
    }
    // Of another package, which has its directory.
    let (name, text) = pages::portal(&date);
    fs::create_dir_all(dir.join("portal"))?;
    fs::write(dir.join("portal").join(name), text)
}
