//! The four published migrations between two real servers, with a daemon and a portal; and a
//! visitor without a browser.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
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
const GUIDE: &str = "https://guide.pec.it/posta-pec/gestione-account/verifica-in-2-passaggi/\
    disattivare-la-verifica-in-due-passaggi.aspx";

pub struct World {
    pub source: Dovecot,
    pub target: Dovecot,
    pub site: Site,
    pub port: u16,
    metrics_port: u16,
    /// What the odd server answers to a login, behind its tag.
    pub odd: Arc<Mutex<String>>,
    portal: Option<Child>,
}

/// An IMAP server that refuses every login in the words it is given.
fn odd_server() -> (u16, Arc<Mutex<String>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let words = Arc::new(Mutex::new(String::new()));
    let said = words.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] odd\r\n");
            let mut line = String::new();
            let _ = BufReader::new(stream.try_clone().unwrap()).read_line(&mut line);
            let tag = line.split(' ').next().unwrap();
            let _ = stream.write_all(format!("{tag} {}\r\n", said.lock().unwrap()).as_bytes());
        }
    });
    (port, words)
}

impl World {
    pub fn new() -> World {
        World::with(|settings| settings)
    }

    /// With settings that were changed before anything read them.
    pub fn with(change: impl FnOnce(String) -> String) -> World {
        let all = [EPAP, GEOMETRI, FNOFI, ISTRUZIONE, EARLY, LATE, ODD];
        let (odd_port, odd) = odd_server();
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
                "presto" => "enroll_from = \"2126-01-07\"\n",
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
        write_private(&site.config(), &change(text));
        let made = site.command(&["seal", "--new-key"]);
        assert!(made.status.success(), "{made:?}");
        site.keep_out_of_logs(PASSWORD);
        site.keep_out_of_logs(NEW_PASSWORD);
        let mut world = World { source, target, site, port, metrics_port, odd, portal: None };
        world.start_portal();
        world
    }

    pub fn start_portal(&mut self) {
        let log = fs::File::create(self.site.path("portal.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pecsync-portal"));
        command.arg("run").arg("--config").arg(self.site.config());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.portal = Some(tie_to_this_thread(&mut command).spawn().unwrap());
        let serves = poll(Duration::from_secs(20), || {
            TcpStream::connect(("127.0.0.1", self.port)).ok().map(drop)
        });
        assert!(serves.is_some(), "the portal does not start: {}", self.portal_log());
    }

    pub fn portal_pid(&self) -> u32 {
        self.portal.as_ref().expect("it runs").id()
    }

    /// What Prometheus is told.
    pub fn metrics(&self) -> Answer {
        Visitor { port: self.metrics_port, ..Visitor::new(self) }.get("metrics")
    }

    pub fn portal_log(&self) -> String {
        fs::read_to_string(self.site.path("portal.log")).unwrap_or_default()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
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

/// An answer, as it came.
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn says(&self, words: &str) -> &Answer {
        assert!(self.text().contains(words), "{words:?} is not in {}", self.body);
        self
    }

    /// As somebody reads it: without entities.
    pub fn text(&self) -> String {
        let text = self.body.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">");
        text.replace("&amp;", "&")
    }

    /// The value of a hidden or other field.
    pub fn field(&self, before: &str) -> String {
        let text = self.text();
        let at = text.find(before).unwrap_or_else(|| panic!("no {before} in {text}"));
        let rest = &text[at + before.len()..];
        rest[..rest.find(if before.ends_with('\'') { '\'' } else { '"' }).unwrap()].to_owned()
    }
}

/// Somebody with cookies and no browser.
pub struct Visitor {
    port: u16,
    pub cookies: BTreeMap<String, String>,
    pub origin: String,
}

impl Visitor {
    pub fn new(world: &World) -> Visitor {
        let origin = format!("http://127.0.0.1:{}", world.port);
        Visitor { port: world.port, cookies: BTreeMap::new(), origin }
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, "")
    }

    /// Sends a form; a redirect is followed.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let answer = self.send("POST", path, &body.join("&"));
        match answer.headers.get("location") {
            Some(location) if answer.status == 303 => self.get(location.trim_start_matches("./")),
            _ => answer,
        }
    }

    pub fn send(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = format!(
            "{method} /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: {}\r\n\
             Cookie: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.origin,
            cookies.join("; "),
            body.len(),
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut octets = Vec::new();
        stream.read_to_end(&mut octets).unwrap();
        let text = String::from_utf8(octets).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = BTreeMap::new();
        for (name, value) in head.lines().skip(1).filter_map(|line| line.split_once(": ")) {
            if name == "set-cookie" {
                let (name, value) = value.split(';').next().unwrap().split_once('=').unwrap();
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
            headers.insert(name.to_owned(), value.to_owned());
        }
        Answer { status, headers, body: body.to_owned() }
    }

    /// Through the first page, its captcha solved, to that of the password.
    pub fn begin(&mut self, (ui, address): (&str, &str)) -> Answer {
        let first = self.get(&format!("?ui={ui}"));
        assert_eq!(first.status, 200, "{}", first.body);
        let solution = solution(&first);
        let (local_part, domain) = address.split_once('@').unwrap();
        let fields = [("mailbox", local_part), ("domain", domain), ("solution", &solution)];
        let answer = self.post(&format!("?ui={ui}"), &fields);
        answer.says("Password della casella:").says(address);
        answer
    }

    /// The password on that page.
    pub fn password(&mut self, page: &Answer, password: &str) -> Answer {
        self.post("password", &[("form", &form(page)), ("password", password)])
    }
}

pub fn form(page: &Answer) -> String {
    page.field("name=\"form\" value=\"")
}

pub fn solution(first: &Answer) -> String {
    let text = first.text();
    let at = text.find("data-challenge=\"").unwrap() + "data-challenge=\"".len();
    let end = text[at..].find("}\"").unwrap() + 1;
    let challenge: altcha_lib_rs::Challenge = serde_json::from_str(&text[at..at + end]).unwrap();
    let altcha_lib_rs::Challenge { algorithm, challenge, maxnumber, salt, signature } = challenge;
    let number =
        altcha_lib_rs::solve_challenge(&challenge, &salt, None, Some(maxnumber), 0).unwrap();
    let solved =
        altcha_lib_rs::Payload { algorithm, challenge, number, salt, signature, took: None };
    serde_json::to_string(&solved).unwrap()
}

fn encoded(value: &str) -> String {
    value.bytes().map(|octet| format!("%{octet:02X}")).collect()
}
