//! Certificates that prove nothing: for another name, expired, self-signed.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

use super::support::stage::Stage;
use super::{site, victim};

/// A server that shows a certificate and then says nothing; it counts nothing as its own.
fn present(number: u8, pem: &str, key: &KeyPair) -> SocketAddr {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).map(|one| one.expect("PEM"));
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("PEM");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the usual versions")
        .with_no_client_auth()
        .with_single_cert(chain.collect(), key)
        .expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (told, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 1, number), 0)).await;
            let listener = listener.expect("loopback");
            told.send(listener.local_addr().expect("bound")).expect("somebody waits");
            loop {
                let Ok((tcp, _)) = listener.accept().await else { return };
                let acceptor = acceptor.clone();
                tokio::spawn(async move { acceptor.accept(tcp).await });
            }
        });
    });
    address.recv().expect("it listens")
}

fn authority(params: CertificateParams) -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().expect("a key");
    let pem = params.self_signed(&key).expect("signed").pem();
    (pem, Issuer::new(params, key))
}

#[test]
fn certificates_that_prove_nothing_are_not_trusted() {
    let stage = Stage::new("sano");
    let mut params = CertificateParams::new(vec![]).expect("no names");
    params.distinguished_name.push(DnType::CommonName, "an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (ca, issuer) = authority(params);
    let key = || KeyPair::generate().expect("a key");
    let of = |name: String| CertificateParams::new(vec![name]).expect("a name");

    let (other_key, expired_key, own_key) = (key(), key(), key());
    let other = of("imaps.pec.example".into()).signed_by(&other_key, &issuer).expect("signed");
    let mut expired = of("127.0.1.72".into());
    (expired.not_before, expired.not_after) =
        (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let expired = expired.signed_by(&expired_key, &issuer).expect("signed");
    let own = of("127.0.1.73".into()).self_signed(&own_key).expect("signed");
    let cases = [
        (present(71, &other.pem(), &other_key), "is not for 127.0.1.71"),
        (present(72, &expired.pem(), &expired_key), "has expired"),
        (present(73, &own.pem(), &own_key), "issuer is not trusted"),
    ];

    let victims: Vec<_> = (0..cases.len()).map(victim).collect();
    let places = cases.iter().zip(&victims);
    let places: Vec<_> = places.map(|((place, _), who)| (who.clone(), *place, false)).collect();
    let site = site(&stage, &places);
    trust(&site.config(), &site.path("etc/ca.pem"), &ca);
    let mut daemon = site.start();
    site.enroll(&stage.account);
    for victim in &victims {
        site.enroll(victim);
    }
    for ((_, words), victim) in cases.iter().zip(&victims) {
        let untrusted = |account: &Value| account["reason"]["code"] == "tls_untrusted";
        let account = daemon.wait(words, &victim.address, 60, untrusted);
        let message = account["reason"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{message}");
        assert!(account["reason"]["hint"].as_str().is_some_and(|hint| hint.contains("ca_file")));
    }
    daemon.wait_following(stage.address());
}

/// Has the hostile sources' connections secured, with that authority to trust.
fn trust(config: &Path, ca_file: &Path, ca: &str) {
    fs::write(ca_file, ca).expect("written");
    let text = fs::read_to_string(config).expect("written");
    let trusted = format!("tls = \"implicit\"\nca_file = \"{}\"", ca_file.display());
    super::support::daemon::write_private(config, &text.replace("tls = \"none\"", &trusted));
}
