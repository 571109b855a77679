//! The page with TLS of its own, and nobody before it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertifiedKey, KeyPair, PublicKeyData, generate_simple_self_signed};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    self, ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::browser::Browser;
use crate::guarding::is_in_memory;
use crate::screen::{begin, submit};
use crate::site::{FNOFI, PASSWORD, World};
use crate::support::daemon::write_private;
use crate::support::poll;
use crate::visitor::Visitor;

const HOST: &str = "migra.example.it";

type Made = CertifiedKey<KeyPair>;

fn made() -> Made {
    generate_simple_self_signed([HOST.to_owned()]).unwrap()
}

fn put(dir: &Path, made: &Made) {
    fs::write(dir.join("chain.pem"), made.cert.pem()).unwrap();
    write_private(&dir.join("key.pem"), &made.signing_key.serialize_pem());
}

/// A page with that certificate, which lies in that directory.
fn served_with(made: &Made) -> (World, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), made);
    let world = World::with(|settings| {
        let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
        let lines = format!(
            "certificate = {chain:?}\ncertificate_key = {key:?}\npublic_url = \"https://{HOST}"
        );
        settings.replace("public_url = \"http://127.0.0.1", &lines)
    });
    (world, dir)
}

fn client(made: &Made, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Through the handshake, or why not.
fn shaken(
    config: ClientConfig,
    port: u16,
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let tls = ClientConnection::new(Arc::new(config), HOST.try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(tls, TcpStream::connect(("127.0.0.1", port))?);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

#[test]
fn a_browser_enrolls_over_the_pages_own_tls() {
    let made = made();
    let (world, _dir) = served_with(&made);
    let mut daemon = world.daemon();
    world.plant(FNOFI.1);
    // It trusts that key for this name and nothing else.
    let key = STANDARD.encode(Sha256::digest(made.signing_key.subject_public_key_info()));
    let browser = Browser::with(&[
        format!("--host-resolver-rules=MAP {HOST} 127.0.0.1"),
        format!("--ignore-certificate-errors-spki-list={key}"),
    ]);
    begin(&browser, &world, FNOFI);
    assert!(world.url("").starts_with("https://migra.example.it:"));
    assert_eq!(browser.script("return isSecureContext && location.protocol"), "https:");
    let session = || {
        let cookies = browser.cookies();
        let [cookie] = &cookies[..] else { panic!("one cookie: {cookies:?}") };
        assert_eq!(cookie["name"], "__Host-pecsync");
        assert_eq!(
            (&cookie["secure"], &cookie["httpOnly"], &cookie["sameSite"], &cookie["path"]),
            (&json!(true), &json!(true), &json!("Strict"), &json!("/"))
        );
        assert_eq!(cookie["domain"], HOST, "this host's alone");
        assert!(cookie["expiry"].is_null(), "it ends with the browser's session: {cookie}");
        cookie["value"].clone()
    };
    let before = session();
    assert_eq!(browser.script("return document.cookie"), "", "no script sees it");
    browser.fill("#password", "sbagliata");
    submit(&browser);
    browser.wait("Credenziali non valide");
    browser.fill("#password", PASSWORD);
    submit(&browser);
    browser.wait("L'importazione dei suoi messaggi PEC è iniziata.");
    assert_ne!(session(), before, "who has proved the password goes on under another name");
    daemon.wait_following(FNOFI.1);
    world.wait_moved(FNOFI.1, "M2");
    browser.reload();
    browser.wait("sincronizzata");
    let complaints = browser.complaints();
    let own = complaints.iter().filter(|it| !it.contains("Failed to load resource"));
    assert_eq!(own.collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn it_speaks_http_within_tls_alone() {
    let made = made();
    let (world, _dir) = served_with(&made);
    for versions in [[&TLS12], [&TLS13]] {
        let mut config = client(&made, &versions);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut stream = shaken(config, world.port).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        stream
            .write_all(b"GET /?ui=fnofi HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        // To its end, which TLS says: nobody has cut it short.
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("\r\nstrict-transport-security: max-age=31536000\r\n"), "{answer}");
    }
    let mut other = client(&made, rustls::ALL_VERSIONS);
    other.alpn_protocols = vec![b"h2".to_vec()];
    assert!(shaken(other, world.port).is_err());
    // Plain HTTP gets no HTTP; who says nothing is let go, as who goes on slowly.
    let told = |said: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", world.port)).unwrap();
        stream.write_all(said).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    };
    let plain = told(b"GET /?ui=fnofi HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(!plain.windows(4).any(|it| it == b"HTTP") && plain.len() < 16, "{plain:?}");
    assert_eq!(told(b""), b"");
    assert_eq!(told(b"\x16\x03\x01\x02\x00\x01"), b"");
    // And the page goes on.
    assert!(shaken(client(&made, rustls::ALL_VERSIONS), world.port).is_ok());
}

/// Seven networks would have to come together to take all connections.
#[test]
fn one_network_does_not_take_all_connections() {
    let made = made();
    let (world, _dir) = served_with(&made);
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", world.port)).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let is_open = |mut stream: &TcpStream| match stream.read(&mut [0]) {
        Err(error) => error.kind() == ErrorKind::WouldBlock,
        Ok(octets) => octets > 0,
    };
    // Who says nothing is let go after a while: so it is looked at more than once.
    let is_bounded = poll(Duration::from_secs(200), || {
        let streams: Vec<_> = (0..70).map(|_| connect()).collect();
        let last = &streams[64..];
        let refused = poll(Duration::from_secs(5), || (!last.iter().any(is_open)).then_some(()));
        (refused.is_some() && streams[..64].iter().all(is_open)).then_some(())
    });
    assert!(is_bounded.is_some());
    // They are gone, and others are served.
    let serves = || shaken(client(&made, rustls::ALL_VERSIONS), world.port).ok().map(drop);
    assert!(poll(Duration::from_secs(60), serves).is_some());
}

#[test]
fn a_renewed_certificate_is_served_without_a_restart_and_a_broken_one_is_not() {
    let (first, second) = (made(), made());
    let (world, dir) = served_with(&first);
    let serves = |made: &Made| shaken(client(made, rustls::ALL_VERSIONS), world.port).is_ok();
    assert!(serves(&first) && !serves(&second));
    let pid = world.portal_pid();
    // At once, lest half of it be seen.
    write_private(&dir.path().join("draft"), &second.signing_key.serialize_pem());
    fs::rename(dir.path().join("draft"), dir.path().join("key.pem")).unwrap();
    let within = Duration::from_secs(200);
    let said = |words: &str| poll(within, || world.portal_log().contains(words).then_some(()));
    assert!(said("the certificate that is served stays: ").is_some(), "{}", world.portal_log());
    assert!(serves(&first) && !serves(&second));
    put(dir.path(), &second);
    assert!(said("a new certificate is served: ").is_some(), "{}", world.portal_log());
    assert!(serves(&second) && !serves(&first));
    assert_eq!(world.portal_pid(), pid);
    let log = world.portal_log();
    assert_eq!(log.matches("stays: ").count(), 1, "{log}");
    assert!(!log.contains("PRIVATE"), "{log}");
}

#[test]
fn no_password_is_left_in_memory_where_tls_was_the_pages() {
    let made = made();
    let (world, _dir) = served_with(&made);
    let (port, config) = (world.port, client(&made, rustls::ALL_VERSIONS));
    let dial = move || Box::new(shaken(config.clone(), port).unwrap()) as _;
    let mut visitor = Visitor::by(dial, format!("https://{HOST}:{port}"));
    let page = visitor.begin(FNOFI);
    visitor.password(&page, "sbagliata-del-tutto").says("Credenziali non valide");
    visitor.password(&page, PASSWORD).says("è iniziata");
    let pid = world.portal_pid();
    assert!(is_in_memory(pid, FNOFI.1.as_bytes()), "the search finds what is there");
    for password in ["sbagliata-del-tutto", PASSWORD] {
        let sent: String = password.bytes().map(|octet| format!("%{octet:02X}")).collect();
        assert!(!is_in_memory(pid, password.as_bytes()), "{password}");
        assert!(!is_in_memory(pid, sent.as_bytes()), "{password}, as it was sent");
    }
}

#[test]
fn it_does_not_start_with_what_browsers_could_not_use() {
    let (one, other) = (made(), made());
    let (world, dir) = served_with(&one);
    fs::write(dir.path().join("chain.pem"), other.cert.pem()).unwrap();
    let output = world.portal_command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("key.pem: not the key of that certificate"), "{said}");
}
