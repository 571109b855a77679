//! The four published migrations between two real servers, with a daemon and a portal.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::compare::{Snapshot, differences};
use crate::support::daemon::{Daemon, Plan, Site, write_private};
use crate::support::dovecot::Dovecot;
use crate::support::mail;
use crate::support::port::free_port;
use crate::support::server::Server;
use crate::support::{poll, tie_to_this_thread};
use crate::visitor::{Answer, Visitor};

/// A guide's migration: its `ui`, whose mailbox is moved, and what `[migration.NAME.portal]` says.
pub const EPAP: (&str, &str) = ("epap", "mario.rossi@pec.epap.it");
pub const GEOMETRI: (&str, &str) = ("geometri", "luigi.verdi@geopec.it");
pub const FNOFI: (&str, &str) = ("fnofi", "anna.neri@pec.fnofi.it");
pub const ISTRUZIONE: (&str, &str) = ("pec-istruzione", "mic80008@postacert.istruzione.it");
/// Before its enrolling window, and after it.
pub const EARLY: (&str, &str) = ("presto", "a@presto.example");
pub const LATE: (&str, &str) = ("tardi", "a@tardi.example");

/// Whose old provider says what a test wants.
pub const ODD: (&str, &str) = ("strano", "a@strano.example");

pub const PASSWORD: &str = "Vecchia-parola7";
pub const NEW_PASSWORD: &str = "Nuov@parola8";
/// New passwords that break one rule of the policy each, and which.
pub const BREAKING_ONE_RULE: [(&str, &str); 7] = [
    ("Cav-7", "length"),
    ("cavallo-7", "letters"),
    ("CAVALLO-7", "letters"),
    ("Cavallo-!", "digit"),
    ("Cavallo77", "special"),
    ("Cavallo-777", "repeated"),
    ("7-Rossini", "name"),
];
const GUIDE: &str = "https://guide.pec.it/posta-pec/gestione-account/verifica-in-2-passaggi/\
    disattivare-la-verifica-in-due-passaggi.aspx";

pub struct World {
    pub source: Dovecot,
    pub target: Dovecot,
    pub site: Site,
    pub port: u16,
    public_url: String,
    metrics_port: u16,
    pub odd: Arc<Odd>,
    portal: Option<Child>,
}

/// An IMAP server that refuses every login in the words it is given, and remembers what it heard.
#[derive(Default)]
pub struct Odd {
    words: Mutex<String>,
    /// The lines of each connection, once it has ended.
    heard: Mutex<Vec<Vec<String>>>,
}

impl Odd {
    fn serve(listener: TcpListener) -> Arc<Odd> {
        let odd = Arc::<Odd>::default();
        let own = odd.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map(Result::unwrap) {
                let _ = stream.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] odd\r\n");
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let lines = lines.map_while(Result::ok).inspect(|line| {
                    let (tag, words) = (line.split(' ').next().unwrap(), own.words.lock().unwrap());
                    let _ = stream.write_all(format!("{tag} {words}\r\n").as_bytes());
                });
                let lines = lines.collect();
                own.heard.lock().unwrap().push(lines);
            }
        });
        odd
    }

    /// What it answers, behind the tag.
    pub fn says(&self, words: &str) {
        words.clone_into(&mut self.words.lock().unwrap());
    }

    /// What one connection brought, now or soon.
    pub fn heard(&self) -> Vec<String> {
        let heard = poll(Duration::from_secs(60), || self.heard.lock().unwrap().pop());
        heard.expect("a connection that ended")
    }
}

impl World {
    pub fn new() -> World {
        World::with(|settings| settings)
    }

    /// With settings that were changed before anything read them.
    pub fn with(change: impl FnOnce(String) -> String) -> World {
        let all = [EPAP, GEOMETRI, FNOFI, ISTRUZIONE, EARLY, LATE, ODD];
        let odd_listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let odd_port = odd_listener.local_addr().unwrap().port();
        let odd = Odd::serve(odd_listener);
        let mut source = Dovecot::aruba();
        let mut target = Dovecot::legalmail().master("migratore", "padrone-segreto");
        for (number, (_, address)) in all.iter().enumerate() {
            source = source.user(address, PASSWORD);
            target = target.user(&format!("M{number}"), "da-cambiare");
        }
        let (source, target) = (source.start(), target.start());
        let site = Plan::between(&source, &target).write();
        let (port, metrics_port) = (free_port(), free_port());
        let hook = site.path("hook");
        fs::write(&hook, format!("#!/bin/sh\ncat >>{}\n", site.path("told").display())).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(site.path("portal/queue")).unwrap();
        fs::create_dir_all(site.conf_d().join("portal")).unwrap();
        write_private(&site.path("etc/secrets/target"), "padrone-segreto");
        let mut text = format!(
            "[daemon]\nstate_dir = \"{}\"\ncontrol_socket = \"{}\"\n[limits]\n\
             logins_per_second = 1000\n[portal]\nlisten = \"127.0.0.1:{port}\"\n\
             metrics_listen = \"127.0.0.1:{metrics_port}\"\n\
             public_url = \"http://127.0.0.1:{port}/\"\nstate_dir = \"{}\"\n\
             new_password_hook = [\"{}\"]\n",
            site.state().display(),
            site.path("run/control.sock").display(),
            site.path("portal").display(),
            hook.display(),
        );
        let mut rows = String::from("address,target_user,email,phone\n");
        for (number, (_, address)) in all.iter().enumerate() {
            rows.push_str(&format!("{address},M{number},casa{number}@example.it,\n"));
        }
        fs::write(site.path("etc/accounts.csv"), rows).unwrap();
        for (ui, address) in all {
            let domain = address.split('@').nth(1).unwrap();
            let domains = match ui {
                "pec-istruzione" => "\"pec.istruzione.it\", \"postacert.istruzione.it\"".to_owned(),
                _ => format!("\"{domain}\""),
            };
            let window = match ui {
                "epap" => "enroll_until = \"2126-02-03\"\ncutover = \"2126-02-04T08:00\"\n",
                "presto" => "enroll_from = \"2126-01-07\"\nenroll_until = \"2126-03-31\"\n",
                "tardi" => "enroll_until = \"2026-01-07\"\n",
                _ => "",
            };
            text.push_str(&format!(
                "[migration.{ui}]\ndomains = [{domains}]\naccounts = \"accounts.csv\"\n{window}\
                 [migration.{ui}.source]\n{}\n[migration.{ui}.target]\n{}\n\
                 [migration.{ui}.target.service_login]\nuser = \"migratore\"\n\
                 password_file = \"secrets/target\"\nstyle = \"master\"\n\
                 [migration.{ui}.sync]\nsweep_interval = \"2s\"\nin_doubt_wait = \"3s\"\n\
                 [migration.{ui}.portal]\nnew_provider = \"InfoCert\"\n",
                match ui {
                    "strano" => format!("host = \"127.0.0.1\"\nport = {odd_port}\ntls = \"none\""),
                    _ => source.endpoint(),
                },
                target.endpoint(),
            ));
            text.push_str(&match ui {
                "epap" => "contacts = true\nnew_password = \"free\"\n".to_owned(),
                "geometri" => "new_password = \"free\"\n".to_owned(),
                "fnofi" | "strano" => {
                    format!("two_factor = \"{GUIDE}\"\nhelp = [\"Numero Verde 800-995-003\"]\n")
                }
                "pec-istruzione" => "new_password = \"same-unless-noncompliant\"\n".to_owned(),
                _ => String::new(),
            });
        }
        let text = change(text);
        let url = text.split("public_url = \"").nth(1).and_then(|rest| rest.split('"').next());
        let public_url = url.unwrap().to_owned();
        write_private(&site.config(), &text);
        let made = site.command(&["seal", "--new-key"]);
        assert!(made.status.success(), "{made:?}");
        site.keep_out_of_logs(PASSWORD);
        site.keep_out_of_logs(NEW_PASSWORD);
        let mut world =
            World { source, target, site, port, public_url, metrics_port, odd, portal: None };
        world.start_portal();
        world
    }

    pub fn start_portal(&mut self) {
        let log = fs::File::create(self.site.path("portal.log")).unwrap();
        let mut command = self.portal_command();
        command.stdout(Stdio::null()).stderr(log);
        self.portal = Some(tie_to_this_thread(&mut command).spawn().unwrap());
        let serves = poll(Duration::from_secs(20), || {
            TcpStream::connect(("127.0.0.1", self.port)).ok().map(drop)
        });
        assert!(serves.is_some(), "the portal does not start: {}", self.portal_log());
    }

    pub fn portal_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pecsync-portal"));
        command.arg("run").arg("--config").arg(self.site.config()).stdin(Stdio::null());
        command
    }

    pub fn portal_pid(&self) -> u32 {
        self.portal.as_ref().expect("it runs").id()
    }

    /// What Prometheus is told.
    pub fn metrics(&self) -> Answer {
        Visitor::to(self.metrics_port).get("metrics")
    }

    pub fn portal_log(&self) -> String {
        fs::read_to_string(self.site.path("portal.log")).unwrap_or_default()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.public_url)
    }

    pub fn daemon(&self) -> Daemon<'_> {
        self.site.start()
    }

    /// The program that hands new passwords on, once; gives what the hook was told.
    pub fn provision(&self) -> (Output, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pecsync-portal"));
        command.args(["provision", "--once", "--config"]).arg(self.site.config());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let told = fs::read_to_string(self.site.path("told")).unwrap_or_default();
        (output, told)
    }

    pub fn plant(&self, address: &str) {
        let mut imap = self.source.imap(address);
        for mail in mail::pec(1, 3) {
            imap.append("INBOX", &mail.flags, &mail.date, &mail.octets);
        }
    }

    /// Waits until the mailbox is at the target as it is at the source.
    pub fn wait_moved(&self, address: &str, target_user: &str) {
        let mut last = Vec::new();
        let names = |name: &str| self.source.names().on(&self.target.names(), name);
        let moved = poll(Duration::from_secs(60), || {
            let source = Snapshot::of(&self.source, address);
            last = differences(&source, &Snapshot::of(&self.target, target_user), names);
            last.is_empty().then_some(())
        });
        assert!(moved.is_some(), "{address}: {last:?}\n{}\n{}", self.site.log(), self.portal_log());
    }

    /// The files that the portal has left.
    pub fn enrollments(&self) -> Vec<(PathBuf, String)> {
        texts(&self.site.conf_d().join("portal"))
    }

    pub fn queue(&self) -> Vec<(PathBuf, String)> {
        texts(&self.site.path("portal/queue"))
    }
}

fn texts(dir: &Path) -> Vec<(PathBuf, String)> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut texts: Vec<_> =
        files.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect();
    texts.sort();
    texts
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut portal) = self.portal.take() {
            let _ = portal.kill();
            let _ = portal.wait();
        }
        if !std::thread::panicking() {
            let log = self.portal_log();
            for secret in [PASSWORD, NEW_PASSWORD, "sbagliata", "casa0@example.it"] {
                assert!(!log.contains(secret), "the portal's log tells too much:\n{log}");
            }
        }
    }
}

impl Visitor {
    pub fn new(world: &World) -> Visitor {
        Visitor::to(world.port)
    }
}
