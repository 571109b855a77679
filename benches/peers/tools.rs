//! The tools that are compared, each with the flags that serve it best, and what a run costs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::imap::Place;
use super::link::inside;
use super::servers::{Dovecot, PASSWORD};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Tool {
    Ceiling,
    Pecsync,
    Mbsync,
    Interimap,
    Dsync,
}

impl Tool {
    pub const ALL: [Tool; 5] =
        [Tool::Ceiling, Tool::Pecsync, Tool::Mbsync, Tool::Interimap, Tool::Dsync];

    pub fn name(self) -> &'static str {
        match self {
            Tool::Ceiling => "ceiling",
            Tool::Pecsync => "pecsync",
            Tool::Mbsync => "mbsync",
            Tool::Interimap => "interimap",
            Tool::Dsync => "dsync",
        }
    }

    /// Is it there?
    pub fn is_installed(self) -> bool {
        let command = match self {
            Tool::Ceiling | Tool::Pecsync => return true,
            Tool::Mbsync => "mbsync",
            Tool::Interimap => "interimap",
            Tool::Dsync => "doveadm",
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(command).exists())
    }
}

/// From where to where, and from which namespace.
pub struct Route<'a> {
    pub source: &'a Dovecot,
    pub target: &'a Dovecot,
    pub source_user: &'a str,
    pub target_user: &'a str,
    pub namespace: &'a str,
    /// A directory of the run's own.
    pub dir: PathBuf,
}

/// What a first copy took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub rss_mib: f64,
}

/// Copies everything once.
pub fn run(tool: Tool, route: &Route<'_>) -> Cost {
    match tool {
        Tool::Ceiling => to_its_end(route, &mut ceiling(route)),
        Tool::Pecsync => {
            let begun = Instant::now();
            let mut daemon = Pecsync::start(route, "");
            daemon.wait_event("first_copy_completed");
            let seconds = begun.elapsed().as_secs_f64();
            Cost { seconds, ..daemon.stop() }
        }
        Tool::Mbsync => to_its_end(route, &mut mbsync(route)),
        Tool::Interimap => to_its_end(route, &mut interimap(route)),
        Tool::Dsync => to_its_end(route, &mut dsync(route)),
    }
}

fn to_its_end(route: &Route<'_>, command: &mut Command) -> Cost {
    let log = fs::File::create(route.dir.join("log")).expect("created");
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("cloned")).stderr(log);
    let begun = Instant::now();
    let child = inside(route.namespace, command).spawn().expect("it starts");
    let cost = wait(child);
    Cost { seconds: begun.elapsed().as_secs_f64(), ..cost }
}

/// Waits for the end of a process; what it and those it waited for have used.
fn wait(child: Child) -> Cost {
    // SAFETY: all zeros is a valid value; both pointers are to locals, and nobody else waits for
    // this child.
    let (mut status, mut used) = (0, unsafe { std::mem::zeroed::<libc::rusage>() });
    let waited = unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, &raw mut used) };
    assert_eq!(waited, child.id() as i32, "wait4: {}", std::io::Error::last_os_error());
    assert_eq!(status, 0, "the tool failed; its log is in the run's directory");
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let cpu_seconds = seconds(used.ru_utime) + seconds(used.ru_stime);
    Cost { seconds: 0.0, cpu_seconds, rss_mib: used.ru_maxrss as f64 / 1024.0 }
}

fn ceiling(route: &Route<'_>) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("ceiling").args(Place::of(route.source, route.source_user).arguments());
    command.args(Place::of(route.target, route.target_user).arguments());
    command
}

fn mbsync(route: &Route<'_>) -> Command {
    let store = |name: &str, server: &Dovecot, user: &str, delimiter: &str| {
        format!(
            "IMAPStore {name}\nHost {}\nPort {}\nUser {user}\nPass {PASSWORD}\nSSLType IMAPS\n\
             CertificateFile {}\nAuthMechs LOGIN\nPathDelimiter {delimiter}\nPipelineDepth 100\n\n",
            server.host,
            server.port,
            server.ca_file().display(),
        )
    };
    let text = store("far", route.source, route.source_user, ".")
        + &store("near", route.target, route.target_user, "/")
        + &format!(
            "Channel all\nFar :far:\nNear :near:\nPatterns *\nSync Pull\nCreate Near\n\
             CopyArrivalDate yes\nSyncState {}/state/\n",
            route.dir.display()
        );
    fs::create_dir_all(route.dir.join("state")).expect("created");
    fs::write(route.dir.join("mbsyncrc"), "FSync no\n".to_owned() + &text).expect("written");
    let mut command = Command::new("mbsync");
    command.arg("-c").arg(route.dir.join("mbsyncrc")).arg("all");
    command
}

fn interimap(route: &Route<'_>) -> Command {
    let section = |name: &str, server: &Dovecot, user: &str| {
        format!(
            "[{name}]\ntype = imaps\nhost = {}\nport = {}\nusername = {user}\n\
             password = {PASSWORD}\nSSL_verify = YES\nSSL_CAfile = {}\nSSL_hostname =\n\n",
            server.host,
            server.port,
            server.ca_file().display(),
        )
    };
    let text = format!("database = {}/state.db\nlist-mailbox = \"*\"\n\n", route.dir.display())
        + &section("local", route.target, route.target_user)
        + &section("remote", route.source, route.source_user);
    fs::write(route.dir.join("config"), text).expect("written");
    let mut command = Command::new("interimap");
    command.env("HOME", &route.dir).env("XDG_DATA_HOME", &route.dir);
    command.arg("--config").arg(route.dir.join("config"));
    command
}

fn dsync(route: &Route<'_>) -> Command {
    let mut command = Command::new("doveadm");
    command.arg("-c").arg(route.target.config());
    let options = [
        format!("imapc_host={}", route.source.host),
        format!("imapc_port={}", route.source.port),
        format!("imapc_user={}", route.source_user),
        format!("imapc_password={PASSWORD}"),
        "imapc_ssl=imaps".to_owned(),
        format!("ssl_client_ca_file={}", route.source.ca_file().display()),
        "imapc_features=rfc822.size".to_owned(),
        "mail_prefetch_count=100".to_owned(),
    ];
    for option in options {
        command.arg("-o").arg(option);
    }
    command.args(["backup", "-R", "-u", route.target_user, "imapc:"]);
    command
}

/// The daemon, following one account.
pub struct Pecsync {
    child: Child,
    lines: BufReader<std::process::ChildStderr>,
}

impl Pecsync {
    /// Starts it. `sync` are lines of the migration's table of that name.
    pub fn start(route: &Route<'_>, sync: &str) -> Pecsync {
        let dir = &route.dir;
        for part in ["conf.d", "state", "run"] {
            fs::create_dir_all(dir.join(part)).expect("created");
        }
        let side = |server: &Dovecot| {
            let Dovecot { host, port, .. } = server;
            let ca_file = server.ca_file().display().to_string();
            format!(
                "host = \"{host}\"\nport = {port}\ntls = \"implicit\"\nca_file = \"{ca_file}\"\n"
            )
        };
        let text = format!(
            "[daemon]\nconf_dir = \"conf.d\"\nstate_dir = \"{0}/state\"\n\
             control_socket = \"{0}/run/control.sock\"\n\
             [migration.bench]\ndomains = [\"pec.example\"]\n[migration.bench.sync]\n{sync}\n\
             [migration.bench.source]\n{1}[migration.bench.target]\n{2}",
            dir.display(),
            side(route.source),
            side(route.target),
        );
        write_private(&dir.join("pecsync.toml"), &text);
        let enrollment = format!(
            "address = \"bench@pec.example\"\n\
             [source]\nuser = \"{}\"\npassword = \"{PASSWORD}\"\n\
             [target]\nuser = \"{}\"\npassword = \"{PASSWORD}\"\n",
            route.source_user, route.target_user
        );
        write_private(&dir.join("conf.d/bench@pec.example.toml"), &enrollment);
        let mut command = Command::new(env!("CARGO_BIN_EXE_pecsync"));
        command.args(["run", "--log", "json", "--config"]).arg(dir.join("pecsync.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = inside(route.namespace, &mut command).spawn().expect("it starts");
        let lines = BufReader::new(child.stderr.take().expect("piped"));
        Pecsync { child, lines }
    }

    /// Reads its journal up to an event.
    pub fn wait_event(&mut self, name: &str) {
        let wanted = format!("\"PECSYNC_EVENT\":\"{name}\"");
        let mut all = String::new();
        loop {
            let before = all.len();
            let read = self.lines.read_line(&mut all).expect("a line");
            assert!(read > 0, "pecsync ended before {name}:\n{all}");
            if all[before..].contains(&wanted) {
                return;
            }
        }
    }

    pub fn stop(self) -> Cost {
        // SAFETY: kill takes no pointers; the child has not been waited for, so the pid is its.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        // What it still says is read, lest it wait for us.
        for _ in self.lines.lines() {}
        wait(self.child)
    }
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
}

/// A directory on a file system in memory.
pub fn scratch() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("pecsync-bench-").tempdir_in("/dev/shm");
    let dir = dir.expect("a directory in /dev/shm");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    dir
}

/// A pause in which sessions of the run before end.
pub fn settle() {
    std::thread::sleep(Duration::from_millis(150));
}
