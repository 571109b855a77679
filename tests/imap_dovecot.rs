//! The IMAP client against a real Dovecot, on loopback, started and stopped by each test.

#[path = "support/port.rs"]
mod port;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pecsync::digest::Digester;
use pecsync::imap::*;
use pecsync::words::*;
use port::free_port;

/// A Dovecot of its own directory and ports; it dies with the test.
struct Dovecot {
    dir: tempfile::TempDir,
    process: Child,
    imap: u16,
    imaps: u16,
}

impl Dovecot {
    fn start(more: &str) -> Dovecot {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for place in ["base", "state", "mail"] {
            fs::create_dir(at(place)).unwrap();
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(at("mail"), fs::Permissions::from_mode(0o777)).unwrap();
        certificates(dir.path());
        fs::write(at("users"), USERS).unwrap();
        let (imap, imaps) = (free_port(), free_port());
        let home = dir.path().display();
        let config = format!(
            "protocols = imap\nlisten = 127.0.0.1\nbase_dir = {home}/base\nstate_dir = {home}/state\n\
             log_path = {home}/log\nssl = yes\nssl_cert = <{home}/cert.pem\nssl_key = <{home}/key.pem\n\
             disable_plaintext_auth = no\nauth_mechanisms = plain login\nfirst_valid_uid = 1\n\
             mail_location = maildir:~/Maildir\nauth_failure_delay = 0\n\
             service imap-login {{\n inet_listener imap {{\n port = {imap}\n }}\n \
             inet_listener imaps {{\n port = {imaps}\n ssl = yes\n }}\n }}\n\
             passdb {{\n driver = passwd-file\n args = scheme=PLAIN username_format=%u {home}/users\n }}\n\
             passdb {{\n driver = static\n args = password=segreta\n }}\n\
             userdb {{\n driver = static\n args = uid=65534 gid=65534 home={home}/mail/%u\n }}\n{more}\n"
        );
        fs::write(at("dovecot.conf"), config).unwrap();
        let process = Dovecot::spawn(&at("dovecot.conf"));
        let server = Dovecot { dir, process, imap, imaps };
        server.wait_until_up();
        server
    }

    fn wait_until_up(&self) {
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", self.imaps)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!(
            "Dovecot does not start: {}",
            fs::read_to_string(self.path("log")).unwrap_or_default()
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Adds to the configuration and restarts.
    fn with_config(mut self, more: &str) -> Dovecot {
        self.stop();
        let config = fs::read_to_string(self.path("dovecot.conf")).unwrap();
        // A master passdb must come before the others.
        fs::write(self.path("dovecot.conf"), format!("{more}{config}")).unwrap();
        self.process = Dovecot::spawn(&self.path("dovecot.conf"));
        self.wait_until_up();
        self
    }

    fn spawn(config: &Path) -> Child {
        let mut command = Command::new("dovecot");
        command.args(["-F", "-c"]).arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    fn stop(&mut self) {
        // SAFETY: the process is our own child, not yet waited for.
        unsafe { libc::kill(self.process.id() as i32, libc::SIGTERM) };
        let _ = self.process.wait();
    }

    /// The log, once it holds that text.
    async fn log_with(&self, text: &str) -> String {
        for _ in 0..100 {
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            if log.contains(text) {
                return log;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the log never says {text:?}");
    }

    fn endpoint(&self, tls: Tls) -> Endpoint {
        let port = if tls == Tls::Implicit { self.imaps } else { self.imap };
        Endpoint { host: "localhost".into(), port, tls, ca_file: Some(self.path("ca.pem")) }
    }

    async fn session(&self, user: &str) -> Session {
        let login = login(user, "segreta");
        Dialler::new().connect(&self.endpoint(Tls::Implicit), &login).await.unwrap()
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        self.stop();
    }
}

const USERS: &str = "odd:{PLAIN}a b\"c\\d*è€ {x}::::::\n";

fn certificates(dir: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".into()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    fs::write(dir.join("cert.pem"), leaf.pem()).unwrap();
    fs::File::create(dir.join("key.pem"))
        .unwrap()
        .write_all(key.serialize_pem().as_bytes())
        .unwrap();
}

fn login(user: &str, password: &str) -> Login {
    Login { user: user.into(), password: password.to_owned().into(), authzid: None }
}

fn inbox() -> WireName {
    WireName::of_wire(b"INBOX")
}

fn uid(number: u32) -> Uid {
    Uid::new(number).unwrap()
}

/// Appends each message as a batch of its own unless `together`; the answers in order.
async fn append(
    session: &mut Session,
    folder: &WireName,
    messages: &[&[u8]],
    together: bool,
) -> Vec<AppendAnswer> {
    let (mut writer, mut answers) = session.appending();
    let batches = if together { 1 } else { messages.len() };
    let write = async {
        for batch in messages.chunks(messages.len().div_ceil(batches)) {
            writer.begin(folder).await?;
            for message in batch {
                let flags = Flags::of_names(["\\Seen", "$Forwarded", "\\Recent"]);
                writer
                    .item(&flags, InternalDate(1_700_000_000), message.len() as u64, false)
                    .await?;
                for piece in message.chunks(1000) {
                    writer.write(piece).await?;
                }
            }
            writer.hold().await?;
            writer.commit().await?;
        }
        Ok::<_, Error>(())
    };
    let read = async {
        let mut found = Vec::new();
        for _ in 0..batches {
            found.push(answers.next().await?);
        }
        Ok::<_, Error>(found)
    };
    let (written, found) = tokio::join!(write, read);
    written.unwrap();
    found.unwrap()
}

/// Fetches everything as streams: UID, instant, flags, octets.
async fn fetch_all(session: &mut Session, uids: &[Uid]) -> Vec<(Message, Vec<u8>)> {
    let mut fetching = session.fetching();
    fetching.request(uids).await.unwrap();
    let mut found = Vec::new();
    loop {
        match fetching.next().await.unwrap() {
            Fetched::Body { message } => {
                let mut octets = Vec::new();
                while let Some(chunk) = fetching.chunk().await.unwrap() {
                    octets.extend_from_slice(chunk);
                }
                assert_eq!(octets.len() as u64, message.size);
                found.push((message, octets));
            }
            Fetched::WindowDone { refused: None } => return found,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_message_goes_in_and_comes_out_as_it_was() {
    let server = Dovecot::start("");
    let mut session = server.session("mario").await;
    assert_eq!(session.server_name(), "Dovecot");
    let large: Vec<u8> = b"Subject: x\r\n\r\n"
        .iter()
        .copied()
        .chain((0..3_000_000u32).map(|n| b' ' + (n % 90) as u8))
        .collect();
    let messages: [&[u8]; 3] = [b"Subject: a\r\n\r\nciao\r\n", &large, b"A: b\r\n\r\n"];
    for together in [false, true] {
        let answers = append(&mut session, &inbox(), &messages, together).await;
        println!("{answers:?}");
    }
    let selected = session.examine(&inbox()).await.unwrap();
    assert_eq!((selected.exists, selected.uid_next, selected.read_only), (6, Some(7), true));
    assert!(selected.highest_modseq.is_some());
    let listed = session.list_messages(uid(1)).await.unwrap();
    assert_eq!(listed.len(), 6);
    assert_eq!(listed[1].size, large.len() as u64);
    assert_eq!(listed[0].instant, InternalDate(1_700_000_000));
    assert_eq!(listed[0].flags, Flags::of_names(["\\Seen", "$Forwarded"]));
    assert_eq!(session.list_messages(uid(900)).await.unwrap(), []);
    let uids: Vec<Uid> = listed.iter().map(|message| message.uid).collect();
    assert_eq!(session.list_uids().await.unwrap(), uids);
    let fetched = fetch_all(&mut session, &uids).await;
    for (place, (message, octets)) in fetched.iter().enumerate() {
        assert_eq!(message, &listed[place]);
        assert!(octets == messages[place % 3]);
    }
    session.logout().await;
}

/// LIST may show folders that nobody may open: Dovecot ends a connection after some commands in a
/// row that make no sense, as a FETCH does behind a refused EXAMINE. Long names fill buffers.
#[tokio::test]
async fn a_flight_of_refused_folders_ends_no_session() {
    let server = Dovecot::start("");
    let mut session = server.session("mario").await;
    append(&mut session, &inbox(), &[b"A: b\r\n\r\n"], false).await;
    for length in [1, 200] {
        let name = |n: usize| WireName::encode(&format!("INBOX.{}{n}", "x".repeat(length)));
        let mut names: Vec<WireName> = (0..AHEAD_MAX).map(name).collect();
        names[AHEAD_MAX - 1] = inbox();
        session.look_ahead(&names, true).await.unwrap();
        for refused in &names[..AHEAD_MAX - 1] {
            assert!(matches!(session.examine(refused).await, Err(Error::No { .. })));
        }
        assert_eq!(session.examine(&inbox()).await.unwrap().exists, 1);
        let first = Uid::new(1).unwrap();
        assert_eq!(session.list_messages(first).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn odd_passwords_log_in_and_wrong_ones_are_refused_once() {
    let server = Dovecot::start("");
    let dialler = Dialler::new();
    for tls in [Tls::Implicit, Tls::StartTls, Tls::None] {
        let session =
            dialler.connect(&server.endpoint(tls), &login("odd", "a b\"c\\d*è€ {x}")).await;
        assert!(session.unwrap().capabilities().has("UIDPLUS"));
    }
    let refused = dialler.connect(&server.endpoint(Tls::Implicit), &login("odd", "wrong")).await;
    match refused.err().unwrap() {
        Error::No { command: "AUTHENTICATE", code: Some(code), .. } => {
            assert_eq!(code.name, "AUTHENTICATIONFAILED");
        }
        other => panic!("{other:?}"),
    }
    let log = server.log_with("auth failed").await;
    assert!(log.contains("1 attempts"), "one refusal only: {log}");
    assert!(!log.contains("method=LOGIN"), "{log}");
}

#[tokio::test]
async fn a_service_login_acts_for_an_account() {
    let server = Dovecot::start("");
    let mut own = server.session("mario").await;
    append(&mut own, &inbox(), &[b"a: b\r\n\r\nx"], false).await;
    let masters = server.path("masters");
    let server = server.with_config(&format!(
        "auth_master_user_separator = *\npassdb {{\n driver = passwd-file\n master = yes\n \
         args = scheme=PLAIN {}\n }}\n",
        masters.display()
    ));
    fs::write(masters, "migrator:{PLAIN}servizio::::::\n").unwrap();
    let by_authzid = Login { authzid: Some("mario".into()), ..login("migrator", "servizio") };
    for login in [by_authzid, login("mario*migrator", "servizio")] {
        let endpoint = server.endpoint(Tls::Implicit);
        let mut session = Dialler::new().connect(&endpoint, &login).await.unwrap();
        assert_eq!(session.examine(&inbox()).await.unwrap().exists, 1, "{login:?}");
    }
}

#[tokio::test]
async fn certificates_must_prove_the_host() {
    let server = Dovecot::start("");
    let right = server.endpoint(Tls::Implicit);
    for (endpoint, reason) in [
        (Endpoint { ca_file: None, ..right.clone() }, "issuer is not trusted"),
        (Endpoint { host: "127.0.0.1".into(), ..right.clone() }, "not for 127.0.0.1"),
        (Endpoint { port: server.imap, ..right.clone() }, "does not speak TLS"),
        (Endpoint { ca_file: Some(server.path("key.pem")), ..right.clone() }, "no certificate"),
        (Endpoint { ca_file: Some("/nonexistent".into()), ..right.clone() }, "ca_file"),
    ] {
        match Dialler::new().connect(&endpoint, &login("mario", "segreta")).await.err().unwrap() {
            Error::TlsUntrusted(text) => assert!(text.contains(reason), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    let nobody = Endpoint { port: free_port(), ..right };
    let refused = Dialler::new().connect(&nobody, &login("mario", "segreta")).await.err();
    assert!(matches!(refused, Some(Error::Unreachable(_))));
}

const NAMESPACES: &str = "namespace inbox {\n inbox = yes\n separator = .\n prefix = INBOX.\n \
    mailbox Inviata {\n special_use = \\Sent\n auto = create\n }\n mailbox Cestino {\n special_use = \\Trash\n auto = create\n }\n }\n\
    namespace pub {\n type = public\n separator = .\n prefix = Public.\n location = maildir:~/public\n list = yes\n subscriptions = no\n }\n";

#[tokio::test]
async fn folders_of_all_names_are_listed_once() {
    let server = Dovecot::start(NAMESPACES);
    let mut session = server.session("mario").await;
    let namespace = session.namespace().clone();
    assert_eq!((&*namespace.prefix, namespace.delimiter), ("INBOX.", Some('.')));
    let names: Vec<WireName> =
        ["Caffè & tè", "a \"b\" \\c", "%*x", "{5}", "日本語.giù", "trailing "]
            .iter()
            .map(|name| WireName::encode(&format!("INBOX.{name}")))
            .collect();
    for name in &names {
        session.create(name).await.unwrap();
        session.create(name).await.unwrap();
        session.subscribe(name).await.unwrap();
    }
    session.create(&WireName::of_wire(b"Public.x")).await.unwrap();
    let refused = session.create(&WireName::of_wire(b"INBOX.&bad")).await;
    assert!(matches!(refused, Err(Error::No { .. })), "{refused:?}");
    append(&mut session, &names[0], &[b"a: b\r\n\r\nx"], false).await;
    let listed = session.list().await.unwrap();
    for name in names.iter().chain([&inbox()]) {
        let found: Vec<_> = listed.iter().filter(|folder| folder.name == *name).collect();
        assert_eq!(found.len(), 1, "{name:?} in {listed:?}");
        let status = found[0].status.unwrap();
        assert_eq!(status.messages, u32::from(*name == names[0]));
        assert_eq!(session.examine(name).await.unwrap().uid_validity, status.uid_validity);
    }
    let special = |name: &str| {
        listed
            .iter()
            .find(|folder| folder.name.decode() == name)
            .and_then(|folder| folder.special_use)
    };
    assert_eq!(special("INBOX.Inviata"), Some(SpecialUse::Sent));
    assert_eq!(special("INBOX.Cestino"), Some(SpecialUse::Trash));
    assert!(!listed.iter().any(|folder| folder.name.decode().starts_with("Public")));
    assert!(session.skipped().contains(&WireName::of_wire(b"Public.x")));
    let parent = listed.iter().find(|folder| folder.name == WireName::encode("INBOX.日本語"));
    assert!(parent.is_some_and(|parent| parent.no_select), "{listed:?}");

    let missing = WireName::of_wire(b"INBOX.missing");
    let asked: Vec<&WireName> = names.iter().chain([&missing]).collect();
    let statuses = session.statuses(&asked).await.unwrap();
    assert_eq!(statuses.len(), asked.len());
    assert_eq!(statuses[0].as_ref().unwrap().messages, 1);
    assert!(matches!(statuses.last(), Some(Err(Error::No { .. }))));
}

#[tokio::test]
async fn plain_list_finds_the_same() {
    let server = Dovecot::start(&format!("{NAMESPACES}\nimap_capability = IMAP4rev1 NAMESPACE\n"));
    let mut session = server.session("mario").await;
    assert!(!session.capabilities().has("LITERAL+"));
    // Sent as a synchronising literal, in the midst of pipelined commands.
    let raw = WireName::of_wire("INBOX.caffè".as_bytes());
    let statuses = session.statuses(&[&inbox(), &raw, &inbox(), &raw]).await.unwrap();
    assert!(statuses[0].is_ok() && statuses[1].is_err() && statuses[2].is_ok());
    let listed = session.list().await.unwrap();
    assert!(listed.iter().any(|folder| folder.name.is_inbox() && folder.status.is_none()));
    let sent = listed.iter().find(|folder| folder.special_use == Some(SpecialUse::Sent));
    assert!(sent.is_some());
    let answers =
        append(&mut session, &inbox(), &[b"a: b\r\n\r\nx", b"c: d\r\n\r\ny"], false).await;
    assert!(answers.iter().all(|answer| matches!(answer, AppendAnswer::Stored { .. })));
    let (mut writer, mut answers) = session.appending();
    let write = async {
        writer.begin(&WireName::of_wire(b"INBOX.missing")).await?;
        writer.item(&Flags::default(), InternalDate(0), 5, false).await
    };
    let (written, answer) = tokio::join!(write, answers.next());
    assert!(matches!(written, Err(Error::No { .. })), "{written:?}");
    assert!(matches!(answer, Ok(AppendAnswer::Refused { batch: 2, .. })), "{answer:?}");
    session.noop().await.unwrap();
    session.unselect().await.unwrap();
}

#[tokio::test]
async fn flags_moves_and_expunges() {
    let server = Dovecot::start("");
    let mut session = server.session("mario").await;
    let other = WireName::of_wire(b"Other");
    session.create(&other).await.unwrap();
    let messages: Vec<Vec<u8>> =
        (0..6).map(|n| format!("N: {n}\r\n\r\n{n}").into_bytes()).collect();
    let messages: Vec<&[u8]> = messages.iter().map(|message| &**message).collect();
    append(&mut session, &inbox(), &messages, true).await;
    let selected = session.select(&inbox()).await.unwrap();
    assert!(selected.permanent_flags.admits("$New") && !selected.read_only);
    let flags = Flags::of_names(["\\Flagged", "$New", "bad flag"]);
    session.store(&[uid(1), uid(3)], Change::Add, &flags).await.unwrap();
    session.store(&[uid(3)], Change::Remove, &Flags::of_names(["\\Seen"])).await.unwrap();
    let before = selected.highest_modseq.unwrap();
    let changed = session.list_changes(before).await.unwrap();
    assert_eq!((changed.flags.len(), changed.vanished.len()), (2, 0));
    assert_eq!(changed.flags[1], (uid(3), Flags::of_names(["\\Flagged", "$New", "$Forwarded"])));

    let moved = session.uid_move(&[uid(1), uid(2), uid(99)], &other).await.unwrap().unwrap();
    assert_eq!(moved.pairs, [(uid(1), uid(1)), (uid(2), uid(2))]);
    let copied = session.uid_copy(&[uid(3)], &other).await.unwrap().unwrap();
    assert_eq!(copied.pairs, [(uid(3), uid(3))]);
    session
        .store(&[uid(4), uid(5)], Change::Add, &Flags::of_system(SystemFlags::DELETED))
        .await
        .unwrap();
    session.uid_expunge(&[uid(4)]).await.unwrap();
    let left: Vec<u32> = session.list_uids().await.unwrap().iter().map(|uid| uid.get()).collect();
    assert_eq!(left, [3, 5, 6]);
    // QRESYNC is enabled: what goes is told by its UID, also to those who were away.
    let news = session.take_news();
    assert_eq!((news.expunged, news.vanished), (0, vec![uid(1), uid(2), uid(4)]));
    let mut returned = server.session("mario").await;
    returned.examine(&inbox()).await.unwrap();
    let changed = returned.list_changes(before).await.unwrap();
    let gone: Vec<u32> = (1..=6).filter(|number| changed.has_vanished(uid(*number))).collect();
    assert_eq!(gone, [1, 2, 4]);
    session.unselect().await.unwrap();
    assert!(session.selected().is_none());
    let refused = session.uid_move(&[uid(3)], &WireName::of_wire(b"missing")).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn quotas_are_told_and_enforced() {
    let server = Dovecot::start(
        "mail_plugins = quota\nprotocol imap {\n mail_plugins = quota imap_quota\n }\n\
         plugin {\n quota = count:User quota\n quota_vsizes = yes\n quota_rule = *:storage=1M\n }\n",
    );
    let mut session = server.session("mario").await;
    let large = vec![b'x'; 700_000];
    append(&mut session, &inbox(), &[&large], false).await;
    let quota = session.quota(&inbox()).await.unwrap().unwrap();
    assert_eq!(quota.limit_octets, 1 << 20);
    assert!((600_000..800_000).contains(&quota.used_octets), "{quota:?}");
    let refused = append(&mut session, &inbox(), &[&large], false).await;
    match &refused[0] {
        AppendAnswer::Refused { code: Some(code), .. } => assert_eq!(code.name, "OVERQUOTA"),
        other => panic!("{other:?}"),
    }
    assert!(session.is_usable());
    session.noop().await.unwrap();
}

#[tokio::test]
async fn idle_tells_of_new_messages() {
    let server = Dovecot::start("");
    let mut reader = server.session("mario").await;
    let mut writer = server.session("mario").await;
    reader.examine(&inbox()).await.unwrap();
    reader.idle_start().await.unwrap();
    let quiet = reader.idle_wait(Duration::from_millis(300)).await.unwrap();
    assert_eq!(quiet, IdleNews::Quiet);
    append(&mut writer, &inbox(), &[b"a: b\r\n\r\nx"], false).await;
    let cancelled =
        tokio::time::timeout(Duration::from_millis(1), reader.idle_wait(Duration::from_secs(9)))
            .await;
    drop(cancelled);
    loop {
        assert_eq!(reader.idle_wait(Duration::from_secs(20)).await.unwrap(), IdleNews::Something);
        if reader.take_news().exists == Some(1) {
            break;
        }
    }
    reader.idle_done();
    let fetched = fetch_all(&mut reader, &[uid(1)]).await;
    assert_eq!(fetched[0].1, b"a: b\r\n\r\nx");
    reader.idle_start().await.unwrap();
    reader.idle_done();
    reader.noop().await.unwrap();
    reader.idle_start().await.unwrap();
    reader.list_uids().await.unwrap();
}

/// Waits until something is told of elsewhere, and of nothing else.
async fn told_of_elsewhere(reader: &mut Session) {
    let news = reader.idle_wait(Duration::from_secs(20)).await.unwrap();
    let said = reader.take_news();
    assert_eq!((news, said), (IdleNews::Something, News { elsewhere: true, ..News::default() }));
    // Of one event Dovecot may tell in two ways.
    while reader.idle_wait(Duration::from_millis(300)).await.unwrap() == IdleNews::Something {
        assert!(reader.take_news().elsewhere);
    }
}

#[tokio::test]
async fn notify_tells_of_other_folders() {
    let server = Dovecot::start("");
    let mut reader = server.session("mario").await;
    let mut writer = server.session("mario").await;
    let other = WireName::of_wire(b"Other");
    writer.create(&other).await.unwrap();
    assert!(reader.notify().await.unwrap());
    assert!(reader.notify().await.unwrap());
    reader.examine(&inbox()).await.unwrap();
    reader.list().await.unwrap();
    reader.statuses(&[&inbox(), &other]).await.unwrap();
    assert_eq!(reader.take_news(), News::default());
    reader.idle_start().await.unwrap();
    let quiet = reader.idle_wait(Duration::from_millis(300)).await.unwrap();
    assert_eq!(quiet, IdleNews::Quiet);

    append(&mut writer, &other, &[b"a: b\r\n\r\nx"], false).await;
    told_of_elsewhere(&mut reader).await;
    writer.create(&WireName::of_wire(b"Nuova")).await.unwrap();
    told_of_elsewhere(&mut reader).await;
    writer.select(&other).await.unwrap();
    let flags = Flags::of_system(SystemFlags::DELETED);
    writer.store(&[uid(1)], Change::Add, &flags).await.unwrap();
    told_of_elsewhere(&mut reader).await;
    writer.uid_expunge(&[uid(1)]).await.unwrap();
    told_of_elsewhere(&mut reader).await;

    // The selected folder is told of as ever.
    append(&mut writer, &inbox(), &[b"a: b\r\n\r\nx"], false).await;
    let news = reader.idle_wait(Duration::from_secs(20)).await.unwrap();
    assert_eq!(news, IdleNews::Something);
    assert_eq!(reader.take_news(), News { exists: Some(1), ..News::default() });
    reader.idle_done();
    reader.noop().await.unwrap();
    assert_eq!(fetch_all(&mut reader, &[uid(1)]).await.len(), 1);

    // What is not waited for is kept, whatever is selected.
    append(&mut writer, &other, &[b"a: b\r\n\r\nx"], false).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    reader.examine(&inbox()).await.unwrap();
    reader.idle_start().await.unwrap();
    let news = reader.idle_wait(Duration::from_secs(20)).await.unwrap();
    assert_eq!((news, reader.take_news().elsewhere), (IdleNews::Something, true));
}

#[tokio::test]
async fn examine_rides_behind_the_last_window() {
    let server = Dovecot::start("");
    let mut session = server.session("mario").await;
    let other = WireName::of_wire(b"Other");
    session.create(&other).await.unwrap();
    append(&mut session, &inbox(), &[&b"a: b\r\n\r\nx"[..]; 5], true).await;
    append(&mut session, &other, &[&b"c: d\r\n\r\n"[..]; 2], true).await;
    session.examine(&inbox()).await.unwrap();
    let mut fetching = session.fetching();
    fetching.request(&[uid(1), uid(2)]).await.unwrap();
    fetching.request(&[uid(4), uid(77)]).await.unwrap();
    fetching.examine(&other).await.unwrap();
    fetching.request(&[uid(1), uid(2)]).await.unwrap();
    fetching.examine(&WireName::of_wire(b"missing")).await.unwrap();
    let mut told = String::new();
    while !told.ends_with('!') {
        told.push_str(&match fetching.next().await.unwrap() {
            Fetched::Body { message } => {
                let mut size = 0;
                while let Some(chunk) = fetching.chunk().await.unwrap() {
                    size += chunk.len();
                }
                format!("{}({size}) ", message.uid)
            }
            Fetched::NoBody { uid } => format!("{uid}- "),
            // Dovecot answers the second window before it says that the first is done.
            Fetched::WindowDone { refused: None } => String::new(),
            Fetched::WindowDone { refused } => format!("{refused:?}"),
            Fetched::Examined(Ok(selected)) => format!("{:?}({}) ", selected.name, selected.exists),
            Fetched::Examined(Err(_)) => "!".into(),
        });
    }
    drop(fetching);
    assert_eq!(told, "1(9) 2(9) 4(9) \"Other\"(2) 1(8) 2(8) !");
    assert!(session.selected().is_none());
    session.noop().await.unwrap();
}

fn digests(message: &[u8]) -> Digests {
    let mut digester = Digester::new();
    digester.update(message);
    digester.finish()
}

const ODD: [&[u8]; 16] = [
    b"A: b\r\n\r\nbody\r\n",
    b"A: b\r\n",
    b"A: b",
    b"x",
    b"\r\n",
    b"\r\nbody",
    b"A: b\r\n\r\n",
    b"A: b\r\nno colon here\r\n\r\nbody",
    b"no colon at all\r\nA: b\r\n\r\nbody",
    b"A: b\r\rbare\r\n\r\nbody",
    b"A: b\n\nunix\n",
    b"A: b\n\r\nmixed\n",
    b"A: \0nul\r\n\r\nbo\0dy",
    b"A: \xe8\xff\r\n\r\n8 bit \xe8",
    b"From x Thu Jan  1 00:00:00 1970\r\nA: b\r\n\r\nbody",
    b" folded first\r\nA: b\r\n\r\nbody",
];

#[tokio::test]
async fn header_digests_agree_with_the_digests_of_whole_messages() {
    let server = Dovecot::start("");
    let mut session = server.session("mario").await;
    let answers = append(&mut session, &inbox(), &ODD, false).await;
    assert!(
        answers.iter().all(|answer| matches!(answer, AppendAnswer::Stored { .. })),
        "{answers:?}"
    );
    session.examine(&inbox()).await.unwrap();
    let uids = session.list_uids().await.unwrap();
    assert_eq!(uids.len(), ODD.len());
    let seen = session.header_digests(&uids).await.unwrap();
    let whole = session.digests(&uids).await.unwrap();
    let listed = session.list_messages(uid(1)).await.unwrap();
    for (place, original) in ODD.iter().enumerate() {
        let shown = String::from_utf8_lossy(original);
        assert_eq!(seen[place].header, whole[place].1.header, "{shown:?}");
        assert_eq!(seen[place].header, digests(original).header, "{shown:?}: as it was sent");
        assert_eq!(seen[place].size, listed[place].size, "{shown:?}");
        assert_eq!(whole[place].1.loose, digests(original).loose, "{shown:?}");
    }
    assert_eq!(session.digests(&[uid(1), uid(500)]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn dates_and_flags_that_append_can_say_are_accepted() {
    let server = Dovecot::start("");
    let mut session = server.session("mario").await;
    let instants = [0, 1, 951_782_400, 2_147_483_648, 4_102_444_800, 253_402_300_799, -7, i64::MAX];
    let (mut writer, mut answers) = session.appending();
    for (batch, instant) in instants.iter().enumerate() {
        let write = async {
            writer.begin(&inbox()).await?;
            let keyword = "k".repeat(50);
            let flags = Flags::of_names(["\\Draft", &keyword, "$a+b", "x'y", "é", "a\"b"]);
            let flags = if batch == 0 { Flags::default() } else { flags };
            writer.item(&flags, InternalDate(*instant), 9, batch % 2 == 1).await?;
            writer.write(b"a: b\r\n\r\nx").await?;
            writer.commit().await
        };
        let (written, answer) = tokio::join!(write, answers.next());
        written.unwrap();
        assert!(matches!(answer, Ok(AppendAnswer::Stored { .. })), "{instant}: {answer:?}");
    }
    session.examine(&inbox()).await.unwrap();
    for (message, instant) in session.list_messages(uid(1)).await.unwrap().iter().zip(instants) {
        println!("{instant} became {:?} {:?}", message.instant, message.flags);
    }
}

#[tokio::test]
async fn a_refusal_before_all_was_sent_makes_the_session_unusable() {
    let server = Dovecot::start("");
    let mut session = server.session("mario").await;
    let (mut writer, mut answers) = session.appending();
    writer.begin(&WireName::of_wire(b"missing")).await.unwrap();
    writer.item(&Flags::default(), InternalDate(0), 5000, false).await.unwrap();
    writer.write(&[b'x'; 4999]).await.unwrap();
    let short = writer.hold().await;
    assert!(matches!(short, Err(Error::Protocol(_))), "{short:?}");
    assert!(answers.next().await.is_err());
    assert!(session.noop().await.is_err());

    let mut session = server.session("mario").await;
    let answers =
        append(&mut session, &WireName::of_wire(b"missing"), &[b"a: b\r\n\r\n"], false).await;
    assert!(
        matches!(&answers[0], AppendAnswer::Refused { code: Some(code), .. } if code.name == "TRYCREATE"),
        "{answers:?}"
    );
    session.noop().await.unwrap();
}

#[tokio::test]
async fn a_future_dropped_halfway_leaves_the_session_unusable() {
    let server = Dovecot::start("");
    let mut session = server.session("mario").await;
    append(&mut session, &inbox(), &[&b"a: b\r\n\r\nx"[..]; 3], true).await;
    session.examine(&inbox()).await.unwrap();
    let mut fetching = session.fetching();
    fetching.request(&[uid(1), uid(2)]).await.unwrap();
    drop(fetching);
    assert!(matches!(session.noop().await, Err(Error::Protocol(_))));
}

#[tokio::test]
async fn futures_are_small_and_can_be_sent() {
    let server = Dovecot::start("");
    let mut session = server.session("mario").await;
    fn sendable<T: Send>(future: T) -> usize {
        size_of_val(&future)
    }
    let dialler = Dialler::new();
    let (endpoint, login) = (server.endpoint(Tls::Implicit), login("a", "b"));
    let name = inbox();
    let sizes = [
        ("Session", size_of::<Session>()),
        ("connect", sendable(dialler.connect(&endpoint, &login))),
        ("idle_wait", sendable(session.idle_wait(Duration::from_secs(1)))),
        ("idle_start", sendable(session.idle_start())),
        ("list", sendable(session.list())),
        ("notify", sendable(session.notify())),
        ("examine", sendable(session.examine(&name))),
        ("list_messages", sendable(session.list_messages(uid(1)))),
        ("header_digests", sendable(session.header_digests(&[]))),
        ("statuses", sendable(session.statuses(&[]))),
        ("uid_move", sendable(session.uid_move(&[], &name))),
    ];
    println!("{sizes:?}");
    for (name, size) in sizes {
        assert!(size < 2048, "{name} takes {size} octets");
    }
    let (mut writer, mut answers) = session.appending();
    let append = sendable(writer.item(&Flags::default(), InternalDate(0), 1, false))
        + sendable(answers.next());
    assert!(append < 2048, "{append}");
    let mut fetching = session.fetching();
    assert!(sendable(fetching.next()) < 2048);
    assert!(sendable(fetching.chunk()) < 2048);
}
