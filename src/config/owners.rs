//! An account that an administrator enrolled and whose owner then came to the portal: what the
//! portal wrote last takes the place of the source's password, and of nothing else. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::enrollment::Owner;
use super::load::shown;
use super::portal;
use super::problem::{Problem, Wrong};
use super::reconcile::File;
use super::settings::{Enrollment, Settings};

/// Puts owners' passwords into what is active, and says of each file of the portal's that stands
/// beside an administrator's whether it is used.
pub(super) fn apply(
    files: &mut BTreeMap<PathBuf, File>,
    active: &mut BTreeMap<String, Arc<Enrollment>>,
    settings: &Settings,
) {
    let conf_dir = &settings.daemon.conf_dir;
    let candidates = files.iter().filter_map(|(path, file)| {
        let owner = file.owner.clone().filter(|_| portal::is_portals(conf_dir, path))?;
        let of = active.get(&owner.address).filter(|of| of.file != *path)?.clone();
        let is_later = file.written > files.get(&of.file)?.active_written;
        let verdict = may_stand_in(&of, &owner, is_later);
        Some((path.clone(), owner, of, verdict))
    });
    let candidates: Vec<_> = candidates.collect();
    for (path, owner, of, verdict) in candidates {
        let Some(file) = files.get_mut(&path) else { continue };
        match verdict {
            Ok(()) => {
                file.is_used = true;
                let enrollment = Enrollment {
                    source_password: Some(owner.source_password.clone()),
                    owners_file: Some(path),
                    ..(*of).clone()
                };
                active.insert(owner.address.clone(), Arc::new(enrollment));
            }
            Err(why) => file.conflicts = vec![unused(&path, &of, why, settings)],
        }
    }
}

/// May the owner's password take the place of the one in that enrollment of an administrator's?
fn may_stand_in(of: &Enrollment, owner: &Owner, is_later: bool) -> Result<(), &'static str> {
    if of.owners_password_from().is_none() || of.migration.name != owner.migration.name {
        return Err("which logs in with another user or a service login");
    }
    is_later.then_some(()).ok_or("which was written later, and whose password stays")
}

fn unused(path: &Path, of: &Enrollment, why: &str, settings: &Settings) -> Problem {
    let first = shown(&settings.dir, &of.file);
    let message =
        format!("the account {} is already enrolled by {}, {why}", of.address, first.display());
    let hint = "remove one of the two files";
    Problem::of_file(&shown(&settings.dir, path), Wrong::new(message, hint))
}
