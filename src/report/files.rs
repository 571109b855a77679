//! The reports written at completion: `<state>/reports/ADDRESS.json` and `.html`, whole or not
//! at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Format, Lang, LeftOut, Writer, gather};
use crate::checkpoint::{AccountRecord, Store};
use crate::words::file_of;

const FORMS: [(Format, &str); 2] = [(Format::Json, "json"), (Format::Html, "html")];

/// Have both been written?
pub fn exists(dir: &Path, address: &str) -> bool {
    FORMS.iter().all(|(_, ending)| file_of(dir, address, ending).exists())
}

/// Writes both; gives the path of the page. Blocks.
pub fn write_files(
    dir: &Path,
    store: &Store,
    record: &AccountRecord,
    left_out: &[LeftOut],
    now: i64,
) -> io::Result<PathBuf> {
    make_directory(dir)?;
    for (format, ending) in FORMS {
        let draft = file_of(dir, &record.address, &format!("{ending}.tmp"));
        let file = create(&draft)?;
        let mut writer = Writer::begin(BufWriter::new(file), format, Lang::It)?;
        gather(store, record, left_out, now, &mut |row| writer.take(row))?;
        let file = writer.end()?.into_inner().map_err(|error| error.into_error())?;
        // Without it a power loss may leave an empty file under the new name.
        file.sync_data()?;
        fs::rename(&draft, file_of(dir, &record.address, ending))?;
    }
    File::open(dir)?.sync_all()?;
    Ok(file_of(dir, &record.address, "html"))
}

/// Removes both, and what an interrupted writing left of them. True if there was any.
pub fn remove_files(dir: &Path, address: &str) -> io::Result<bool> {
    let mut removed = false;
    for (_, ending) in FORMS {
        for ending in [ending.to_owned(), format!("{ending}.tmp")] {
            match fs::remove_file(file_of(dir, address, &ending)) {
                Ok(()) => removed = true,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(removed)
}

/// Readable for the group, as the state directory is: it names addresses and says what was moved,
/// and holds nothing of the messages themselves.
fn make_directory(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o750).create(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o750))
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.create(true).write(true).truncate(true).mode(0o640).open(path)?;
    // The umask of a daemon keeps the group out.
    file.set_permissions(fs::Permissions::from_mode(0o640))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use crate::words::file_of;
    use std::path::Path;

    #[test]
    fn every_address_has_a_file_of_its_own() {
        let name = |address: &str| file_of(Path::new("/r"), address, "html").display().to_string();
        assert_eq!(name("mario.rossi@pec.it"), "/r/mario.rossi@pec.it.html");
        assert_eq!(name("../a/b@pec.it"), "/r/%2E.%2Fa%2Fb@pec.it.html");
        assert_eq!(name("a%b@pec.it"), "/r/a%25b@pec.it.html");
    }
}
