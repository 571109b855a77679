//! The IMAP client against a real Dovecot, on loopback, started and stopped by each test.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pecsync::imap::*;
use pecsync::words::*;

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
        let process = Command::new("dovecot")
            .args(["-F", "-c"])
            .arg(at("dovecot.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
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
        // SAFETY: the process is our own child, not yet waited for.
        unsafe { libc::kill(self.process.id() as i32, libc::SIGTERM) };
        let _ = self.process.wait();
    }
}

const USERS: &str = "odd:{PLAIN}a b\"c\\d*è€ {x}::::::\n";

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

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
