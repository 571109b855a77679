//! A real Dovecot of a test's own: on loopback, on a free port, in its own directory, gone when
//! the test ends, also by a panic. Works as root without systemd.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;

use super::imap::{Imap, modified_utf7};
use super::port::free_port;
use super::server::{self, Names, Server};
use super::{poll, signal_group, tie_to_this_thread};

/// How a server stores mail and names folders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Maildir, separator `.`, everything below `INBOX.`; a name may hold a `/`.
    Aruba,
    /// sdbox, separator `/`, no prefix; a name may hold a `.`.
    Legalmail,
    /// Maildir++ as Dovecot comes: separator `.`, no prefix.
    Plain,
    /// Maildir in nested directories, separator `/`, no prefix.
    Nested,
    /// mdbox, an odd separator, everything but INBOX below a prefix that is not INBOX.
    Mdbox,
}

impl Layout {
    fn names(self) -> Names {
        let (separator, prefix) = match self {
            Layout::Aruba => ('.', "INBOX."),
            Layout::Legalmail | Layout::Nested => ('/', ""),
            Layout::Plain => ('.', ""),
            Layout::Mdbox => ('^', "Posta^"),
        };
        Names { separator, prefix, well_known: self.well_known() }
    }

    fn mail_location(self) -> &'static str {
        match self {
            Layout::Aruba | Layout::Plain => "maildir:~/Maildir",
            Layout::Legalmail => "sdbox:~/sdbox",
            Layout::Nested => "maildir:~/Maildir:LAYOUT=fs",
            Layout::Mdbox => "mdbox:~/mdbox",
        }
    }

    /// Well-known folders with their special uses.
    fn well_known(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Layout::Aruba => &[
                ("INBOX.Inviata", "\\Sent"),
                ("INBOX.Bozze", "\\Drafts"),
                ("INBOX.Cestino", "\\Trash"),
                ("INBOX.Spam", "\\Junk"),
            ],
            Layout::Legalmail => &[
                ("INBOX/Spedite", "\\Sent"),
                ("INBOX/Draft", "\\Drafts"),
                ("INBOX/Trash", "\\Trash"),
                ("INBOX/Posta Indesiderata", "\\Junk"),
            ],
            Layout::Plain | Layout::Nested | Layout::Mdbox => &[],
        }
    }
}

/// How clients connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    Plain,
    /// In the clear until STARTTLS; a login before it is refused.
    StartTls,
    Tls,
}

/// What a server is to be like, before it starts.
#[derive(Clone, Debug)]
pub struct Setup {
    layout: Layout,
    transport: Transport,
    users: BTreeMap<String, String>,
    master: Option<(String, String)>,
    quota_kib: Option<u64>,
    mail_max_kib: Option<u64>,
    connections_per_user: u32,
    without: Vec<String>,
    besides: Vec<String>,
    special_use: bool,
    time_zone: &'static str,
}

impl Setup {
    pub fn user(mut self, user: &str, password: &str) -> Setup {
        self.users.insert(user.to_owned(), password.to_owned());
        self
    }

    /// A login that may act for every user: by authorization identity, and as `user*NAME`.
    pub fn master(mut self, name: &str, password: &str) -> Setup {
        self.master = Some((name.to_owned(), password.to_owned()));
        self
    }

    pub fn transport(mut self, transport: Transport) -> Setup {
        self.transport = transport;
        self
    }

    pub fn quota_kib(mut self, kib: u64) -> Setup {
        self.quota_kib = Some(kib);
        self
    }

    /// Refuses a bigger message (`NO [LIMIT]`).
    pub fn mail_max_kib(mut self, kib: u64) -> Setup {
        self.mail_max_kib = Some(kib);
        self
    }

    pub fn connections_per_user(mut self, connections: u32) -> Setup {
        self.connections_per_user = connections;
        self
    }

    /// Does not advertise these capabilities.
    pub fn without(mut self, capabilities: &[&str]) -> Setup {
        self.without.extend(capabilities.iter().map(|name| (*name).to_owned()));
        self
    }

    /// Advertises this besides, be it true or not.
    pub fn besides(mut self, capability: &str) -> Setup {
        self.besides.push(capability.to_owned());
        self
    }

    /// Names its well-known folders without marking their uses, as many servers do.
    pub fn unmarked(mut self) -> Setup {
        self.special_use = false;
        self
    }

    /// POSIX notation (`CET-1`), so that no zone database is needed.
    pub fn time_zone(mut self, zone: &'static str) -> Setup {
        self.time_zone = zone;
        self
    }

    pub fn start(self) -> Dovecot {
        Dovecot::start(self)
    }
}

impl server::Setup for Setup {
    type Running = Dovecot;

    fn user(self, user: &str, password: &str) -> Setup {
        self.user(user, password)
    }

    fn start(self) -> Dovecot {
        self.start()
    }
}

/// A running server.
pub struct Dovecot {
    setup: Setup,
    dir: TempDir,
    port: u16,
    master: Option<Child>,
    users: Mutex<Users>,
}

/// What the passwd-file says, and how often it was written.
struct Users {
    passwords: BTreeMap<String, String>,
    generation: usize,
}

impl Dovecot {
    pub fn aruba() -> Setup {
        Dovecot::setup(Layout::Aruba)
    }

    pub fn legalmail() -> Setup {
        Dovecot::setup(Layout::Legalmail)
    }

    pub fn of_layout(layout: Layout) -> Setup {
        Dovecot::setup(layout)
    }

    fn setup(layout: Layout) -> Setup {
        Setup {
            layout,
            transport: Transport::Tls,
            users: BTreeMap::new(),
            master: None,
            quota_kib: None,
            mail_max_kib: None,
            connections_per_user: 100,
            without: Vec::new(),
            besides: Vec::new(),
            special_use: true,
            // The two sides answer dates in different zones: only instants compare.
            time_zone: if layout == Layout::Aruba { "CET-1" } else { "UTC0" },
        }
    }

    fn start(setup: Setup) -> Dovecot {
        let dir = tempfile::Builder::new().prefix("dovecot-").tempdir().expect("a directory");
        open_to_all(dir.path());
        fs::create_dir(dir.path().join("mail")).expect("created");
        fs::set_permissions(dir.path().join("mail"), fs::Permissions::from_mode(0o777))
            .expect("chmod");
        let users = Users { passwords: setup.users.clone(), generation: 0 };
        let mut dovecot = Dovecot { setup, dir, port: 0, master: None, users: Mutex::new(users) };
        dovecot.write_certificates();
        dovecot.write_users();
        dovecot.write_masters();
        // Another test may take the port between our finding it and Dovecot's binding it.
        let started = (0..5).any(|_| dovecot.start_on(free_port()));
        assert!(started, "Dovecot does not start:\n{}", dovecot.log());
        dovecot
    }

    fn start_on(&mut self, port: u16) -> bool {
        self.port = port;
        fs::write(self.config(), self.configuration()).expect("written");
        let mut command = Command::new("dovecot");
        command.arg("-F").arg("-c").arg(self.config()).env("TZ", self.setup.time_zone);
        // Dovecot keeps its standard handles open: a pipe there would never end.
        let errors = fs::File::create(self.dir.path().join("errors")).expect("created");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let child = tie_to_this_thread(&mut command).spawn();
        let child = child.expect("dovecot starts (is dovecot-imapd installed?)");
        let child = self.master.insert(child);
        let ready = poll(Duration::from_secs(20), || {
            let exited = child.try_wait().expect("a child").is_some();
            let answers = TcpStream::connect(("127.0.0.1", port)).is_ok();
            (exited || answers).then_some(!exited)
        });
        ready == Some(true)
    }

    /// Stops the server, as an outage. `restart` brings it back on the same port.
    pub fn stop(&mut self) {
        let Some(mut master) = self.master.take() else { return };
        signal_group(master.id(), libc::SIGTERM);
        let gone = || master.try_wait().expect("a child");
        if poll(Duration::from_secs(3), gone).is_none() {
            let _ = master.kill();
            let _ = master.wait();
        }
        // Sessions may outlive the master for a moment; nothing may outlive the test.
        signal_group(master.id(), libc::SIGKILL);
    }

    pub fn restart(&mut self) {
        self.stop();
        assert!(self.start_on(self.port), "Dovecot does not come back:\n{}", self.log());
    }

    /// Changes a password (or adds a user); in force when this returns.
    pub fn set_password(&self, user: &str, password: &str) {
        self.set_passwords([(user, password)].into_iter());
    }

    /// The same for several.
    pub fn set_passwords<'p>(&self, passwords: impl Iterator<Item = (&'p str, &'p str)>) {
        let mut users = self.users.lock().expect("no panic here");
        users.passwords.extend(passwords.map(|(user, to)| (user.to_owned(), to.to_owned())));
        users.generation += 1;
        drop(users);
        self.write_users();
        // Dovecot looks at the file at most once a second.
        std::thread::sleep(Duration::from_millis(1100));
    }

    /// Cuts all sessions of a user.
    pub fn kick(&self, user: &str) {
        let mut command = Command::new("doveadm");
        command.arg("-c").arg(self.config()).args(["kick", user]);
        command.output().expect("doveadm runs");
    }

    pub fn imap(&self, user: &str) -> Imap {
        Imap::open(&self.config(), user, self.setup.time_zone)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn layout(&self) -> Layout {
        self.setup.layout
    }

    /// The certificate that clients have to trust.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("dovecot.conf")
    }

    /// Where a user's mail lies.
    pub fn home(&self, user: &str) -> PathBuf {
        self.dir.path().join("mail").join(user)
    }

    /// What it logged, after what it could not log (a wrong configuration).
    pub fn log(&self) -> String {
        let read = |name| fs::read(self.dir.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&[read("errors"), read("log")].concat()).into_owned()
    }

    /// Accepted logins of a user so far; `Imap` sessions of the test do not count.
    pub fn logins(&self, user: &str) -> usize {
        let login = format!("imap-login: Info: Login: user=<{user}>,");
        self.log().lines().filter(|line| line.contains(&login)).count()
    }

    /// Refused attempts to log in as a user so far.
    pub fn refusals(&self, user: &str) -> usize {
        let attempt = format!("passwd-file({user},");
        let words = ["Password mismatch", "unknown user"];
        let refused =
            |line: &&str| line.contains(&attempt) && words.iter().any(|word| line.contains(word));
        self.log().lines().filter(refused).count()
    }

    fn write_users(&self) {
        let users = self.users.lock().expect("no panic here");
        let mut text = String::new();
        for (user, password) in &users.passwords {
            writeln!(text, "{user}:{{PLAIN.HEX}}{}", hex(password)).expect("a string");
        }
        // Dovecot looks at the file's second and size: a change has to change the size.
        text.push_str(&"#\n".repeat(users.generation + 1));
        replace_file(&self.dir.path().join("users"), &text);
    }

    fn write_masters(&self) {
        let line = |(name, password): &(String, String)| {
            format!("{name}:{{PLAIN.HEX}}{}\n", hex(password))
        };
        let text = self.setup.master.as_ref().map(line).unwrap_or_default();
        replace_file(&self.dir.path().join("masters"), &text);
    }

    /// A throw-away CA and a certificate of it for `localhost` and 127.0.0.1.
    fn write_certificates(&self) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).expect("a certificate");
        let issuer = rcgen::Issuer::new(params, key);
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(names).expect("parameters");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let file = |name: &str| self.dir.path().join(name);
        fs::write(file("ca.pem"), ca.pem()).expect("written");
        fs::write(file("cert.pem"), certificate.pem()).expect("written");
        fs::write(file("key.pem"), key.serialize_pem()).expect("written");
    }

    fn configuration(&self) -> String {
        let dir = self.dir.path().display();
        let mut text = format!(
            "protocols = imap\nlisten = 127.0.0.1\nbase_dir = {dir}/base\nstate_dir = {dir}/state\n\
             log_path = {dir}/log\nauth_verbose = yes\nfirst_valid_uid = 1\nmail_fsync = never\n\
             default_vsz_limit = 1G\nauth_failure_delay = 0\nauth_username_format = %u\n\
             auth_master_user_separator = *\n\
             ssl_cert = <{dir}/cert.pem\nssl_key = <{dir}/key.pem\n\
             mail_max_userip_connections = {}\n\
             passdb {{\n driver = passwd-file\n args = {dir}/masters\n master = yes\n}}\n\
             passdb {{\n driver = passwd-file\n args = username_format=%u {dir}/users\n}}\n\
             userdb {{\n driver = static\n \
             args = uid=65534 gid=65534 home={dir}/mail/%u allow_all_users=yes\n}}\n\
             service anvil {{\n unix_listener anvil-auth-penalty {{\n  mode = 0\n }}\n}}\n",
            self.setup.connections_per_user
        );
        text.push_str(&self.listeners());
        text.push_str(&self.namespace());
        text.push_str(&self.plugins());
        text.push_str(&self.capabilities());
        text
    }

    fn listeners(&self) -> String {
        let (ssl, plain, tls) = match self.setup.transport {
            Transport::Plain => ("no", self.port, 0),
            Transport::StartTls => ("required", self.port, 0),
            Transport::Tls => ("required", 0, self.port),
        };
        format!(
            "ssl = {ssl}\nservice imap-login {{\n chroot =\n \
             inet_listener imap {{\n  port = {plain}\n }}\n \
             inet_listener imaps {{\n  port = {tls}\n  ssl = yes\n }}\n}}\n"
        )
    }

    fn namespace(&self) -> String {
        let Names { separator, prefix, well_known } = self.setup.layout.names();
        let location = self.setup.layout.mail_location();
        let mut text = format!(
            "mail_location = {location}\nnamespace inbox {{\n inbox = yes\n \
             separator = {separator}\n prefix = {prefix}\n"
        );
        for (name, special_use) in well_known {
            let name = name.strip_prefix(prefix).unwrap_or(name);
            let mark = if self.setup.special_use { *special_use } else { "" };
            let body = format!("  special_use = {mark}\n  auto = create\n");
            writeln!(text, " mailbox \"{name}\" {{\n{body} }}").expect("a string");
        }
        text + "}\n"
    }

    fn plugins(&self) -> String {
        // listescape lets a folder of the Maildir hold a "/" in its name, as odd ones do.
        let escape = if self.setup.layout == Layout::Aruba { "listescape" } else { "" };
        let limited = self.setup.quota_kib.or(self.setup.mail_max_kib).is_some();
        let (quota, imap_quota) = if limited { ("quota", "imap_quota") } else { ("", "") };
        let kib = |limit: Option<u64>| limit.map_or("0".to_owned(), |kib| format!("{kib}K"));
        format!(
            "mail_plugins = {escape} {quota}\n\
             protocol imap {{\n mail_plugins = {escape} {quota} {imap_quota}\n}}\n\
             plugin {{\n quota = count:User quota\n quota_vsizes = yes\n quota_grace = 0\n \
             quota_rule = *:storage={}\n quota_max_mail_size = {}\n}}\n",
            kib(self.setup.quota_kib),
            kib(self.setup.mail_max_kib),
        )
    }

    fn capabilities(&self) -> String {
        let Setup { without, besides, .. } = &self.setup;
        if without.is_empty() && besides.is_empty() {
            return String::new();
        }
        let taken = |name: &&str| without.iter().any(|without| without == name);
        let left = CAPABILITIES.split(' ').filter(|name| !taken(name));
        let left: Vec<&str> = left.chain(besides.iter().map(String::as_str)).collect();
        format!("imap_capability = {}\n", left.join(" "))
    }
}

/// What Dovecot 2.3 offers after login when nobody takes anything away.
const CAPABILITIES: &str = "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE SORT SORT=DISPLAY \
    THREAD=REFERENCES THREAD=REFS THREAD=ORDEREDSUBJECT MULTIAPPEND URL-PARTIAL CATENATE UNSELECT \
    CHILDREN NAMESPACE UIDPLUS LIST-EXTENDED I18NLEVEL=1 CONDSTORE QRESYNC ESEARCH ESORT SEARCHRES \
    WITHIN CONTEXT=SEARCH LIST-STATUS BINARY MOVE SNIPPET=FUZZY PREVIEW=FUZZY PREVIEW STATUS=SIZE \
    SAVEDATE LITERAL+ NOTIFY SPECIAL-USE";

impl Server for Dovecot {
    fn imap(&self, user: &str) -> Imap {
        self.imap(user)
    }

    fn endpoint(&self) -> String {
        let address = format!("host = \"127.0.0.1\"\nport = {}\n", self.port);
        let trust = format!("ca_file = \"{}\"\n", self.ca_file().display());
        match self.setup.transport {
            Transport::Plain => address + "tls = \"none\"\n",
            Transport::StartTls => address + "tls = \"starttls\"\n" + &trust,
            Transport::Tls => address + "tls = \"implicit\"\n" + &trust,
        }
    }

    fn names(&self) -> Names {
        self.setup.layout.names()
    }

    fn maildir(&self, user: &str, shown: &str) -> Option<PathBuf> {
        let maildir = self.home(user).join("Maildir");
        match self.setup.layout {
            Layout::Aruba | Layout::Plain => Some(maildir.join(self.names().maildir(shown))),
            Layout::Nested if shown == "INBOX" => Some(maildir),
            Layout::Nested => Some(maildir.join(modified_utf7(shown))),
            Layout::Legalmail | Layout::Mdbox => None,
        }
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Dovecot's users have to get through a directory that is made for its owner only.
fn open_to_all(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("chmod");
}

fn replace_file(path: &Path, text: &str) {
    let draft = path.with_extension("tmp");
    fs::write(&draft, text).expect("written");
    fs::rename(&draft, path).expect("renamed");
}

/// No octet of a password can disturb the passwd-file's syntax in hexadecimal.
fn hex(password: &str) -> String {
    password.bytes().map(|octet| format!("{octet:02x}")).collect()
}
