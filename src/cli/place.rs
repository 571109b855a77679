//! Where the daemon is found: sockets and state, as the configuration says.
//!
//! Asking a daemon must work while its configuration is being mended, so only the keys that
//! matter are looked at, and of a file that is not quite TOML whatever can be read.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::config::portal::STATE_DIR;
use crate::daemon::protocol::exit;

pub struct Place {
    pub control_socket: PathBuf,
    pub conf_dir: PathBuf,
    pub state_dir: PathBuf,
    /// The enrollment page's.
    pub portal_state_dir: PathBuf,
}

impl Place {
    /// An exit code and what to say where there is no such file.
    pub fn of(config: &Path) -> Result<Place, (u8, String)> {
        match std::fs::read_to_string(config) {
            Ok(text) => {
                let config = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
                Ok(Place::in_text(&text, config.parent().unwrap_or(Path::new("/"))))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let text = format!("{}: no such file; name it with --config", config.display());
                Err((exit::CONFIGURATION, text))
            }
            // Who may not read it may still be let in by the socket.
            Err(_) => Ok(Place::in_text("", Path::new("/"))),
        }
    }

    fn in_text(text: &str, dir: &Path) -> Place {
        let (table, _errors) = toml::de::DeTable::parse_recoverable(text);
        let path_in = |table_name: &str, key: &str, default: &str| {
            let named = table.get_ref().get(table_name).map(|named| named.get_ref());
            let written = named.and_then(|named| named.get(key)?.get_ref().as_str());
            dir.join(written.unwrap_or(default))
        };
        let path = |key: &str, default: &str| path_in("daemon", key, default);
        Place {
            control_socket: path("control_socket", "/run/pecsync/control.sock"),
            conf_dir: path("conf_dir", "conf.d"),
            state_dir: path("state_dir", "/var/lib/pecsync"),
            portal_state_dir: path_in("portal", "state_dir", STATE_DIR),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file_and_have_defaults() {
        #[track_caller]
        fn check(text: &str, control_socket: &str, state_dir: &str) {
            let conf_dir = if text.contains("conf_dir") { "/c" } else { "/srv/p/conf.d" };
            let place = Place::in_text(text, Path::new("/srv/p"));
            assert_eq!(place.control_socket, Path::new(control_socket));
            assert_eq!(place.state_dir, Path::new(state_dir));
            assert_eq!(place.conf_dir, Path::new(conf_dir));
            let portal = if text.contains("[portal]") { "/srv/p/w" } else { STATE_DIR };
            assert_eq!(place.portal_state_dir, Path::new(portal));
        }
        let (socket, state) = ("/run/pecsync/control.sock", "/var/lib/pecsync");
        check("", socket, state);
        check("[daemon]\ncontrol_socket = 'run/c'", "/srv/p/run/c", state);
        check("[daemon]\nstate_dir = '/s'\n[limits]\nx = 1", socket, "/s");
        check("[daemon]\nconf_dir = '/c'", socket, state);
        check("[portal]\nstate_dir = 'w'", socket, state);
        check("[daemon\nbroken", socket, state);
        check("[daemon]\nstate_dir = '/s'\n[", socket, "/s");
    }
}
