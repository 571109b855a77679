//! TLS of the page's own, where no reverse proxy stands before it; and how a renewed certificate
//! takes the place of the one that is served, without a restart.

use std::io;
use std::sync::{Arc, Mutex};

use pecsync::config::portal::{Certificate, CertificateTexts};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{Error, ServerConfig};
use tokio_rustls::{TlsAcceptor, server};

/// TLS 1.2 and 1.3, and nothing but HTTP/1.1 within.
pub struct Tls {
    files: Certificate,
    /// By which browsers know the page: a certificate for another is no use to them.
    host: ServerName<'static>,
    serving: Mutex<Serving>,
}

struct Serving {
    config: Arc<ServerConfig>,
    mark: Mark,
    /// Why the files that are there now are not served.
    refused: Option<String>,
}

/// A digest of both files.
type Mark = [u8; 32];

impl Tls {
    /// Or why not, in words that tell nothing of the key. Blocking.
    pub fn new(files: &Certificate, host: &str) -> Result<Tls, String> {
        let host = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host}: no certificate can be for it"))?;
        let texts = files.read()?;
        let config = config(files, &texts, &host)?;
        let serving = Mutex::new(Serving { config, mark: mark(&texts), refused: None });
        Ok(Tls { files: files.clone(), host, serving })
    }

    pub async fn accept(&self, stream: TcpStream) -> io::Result<server::TlsStream<TcpStream>> {
        let config = self.serving.lock().expect("no panic while held").config.clone();
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Looks at the files again, and serves what they hold now if browsers can use it; gives a line
    /// for the journal where something is new. Whatever was missed or wrong is made up for at the
    /// next look. Blocking.
    pub fn renew(&self) -> Option<String> {
        let looked = self.files.read().and_then(|texts| {
            let mark = mark(&texts);
            if mark == self.serving.lock().expect("no panic while held").mark {
                return Ok(None);
            }
            Ok(Some((config(&self.files, &texts, &self.host)?, mark)))
        });
        let mut serving = self.serving.lock().expect("no panic while held");
        match looked {
            Ok(None) => {
                serving.refused = None;
                None
            }
            Ok(Some((config, mark))) => {
                *serving = Serving { config, mark, refused: None };
                Some(format!("a new certificate is served: {}", self.files.chain.display()))
            }
            Err(why) if serving.refused.as_ref() == Some(&why) => None,
            Err(why) => {
                serving.refused = Some(why.clone());
                Some(format!("the certificate that is served stays: {why}"))
            }
        }
    }
}

fn mark(texts: &CertificateTexts) -> Mark {
    let each = |octets: &[u8]| Sha256::digest(octets);
    Sha256::digest([each(&texts.chain), each(&texts.key)].concat()).into()
}

fn config(
    files: &Certificate,
    texts: &CertificateTexts,
    host: &ServerName<'_>,
) -> Result<Arc<ServerConfig>, String> {
    let of_chain = |what: &str| format!("certificate {}: {what}", files.chain.display());
    let of_key = |what: &str| format!("certificate_key {}: {what}", files.key.display());
    let chain = CertificateDer::pem_slice_iter(&texts.chain).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| of_chain("not PEM"))?;
    let first = chain.first().ok_or_else(|| of_chain("no certificate in it; write PEM"))?;
    let parsed =
        ParsedCertificate::try_from(first).map_err(|_| of_chain("its first is no certificate"))?;
    if verify_server_name(&parsed, host).is_err() {
        let name = host.to_str();
        return Err(of_chain(&format!(
            "its first is not for {name}, where browsers find the page"
        )));
    }
    // What the parser says may repeat what it read.
    let key = PrivateKeyDer::from_pem_slice(&texts.key)
        .map_err(|_| of_key("no private key in it; write PEM that no passphrase protects"))?;
    let built = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key);
    let mut config = built.map_err(|error| match error {
        Error::InconsistentKeys(_) => of_key("not the key of that certificate"),
        _ => of_key("not a key that TLS can use; make one of ECDSA or RSA"),
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
pub mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
    use tempfile::TempDir;

    use super::*;

    const HOST: &str = "migra.example.it";

    fn made(host: &str) -> CertifiedKey<KeyPair> {
        generate_simple_self_signed([host.to_owned()]).unwrap()
    }

    fn put(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    struct Site {
        _dir: TempDir,
        files: Certificate,
    }

    impl Site {
        fn new() -> Site {
            let dir = tempfile::tempdir().unwrap();
            let [chain, key] = ["chain.pem", "key.pem"].map(|name| dir.path().join(name));
            Site { _dir: dir, files: Certificate { chain, key } }
        }

        fn put(&self, made: &CertifiedKey<KeyPair>) {
            put(&self.files.chain, &made.cert.pem(), 0o644);
            put(&self.files.key, &made.signing_key.serialize_pem(), 0o640);
        }

        fn refusal(&self) -> String {
            Tls::new(&self.files, HOST).err().expect("it is refused")
        }
    }

    /// With a certificate that was made for it, which was read.
    pub fn tls() -> Tls {
        let site = Site::new();
        site.put(&made(HOST));
        Tls::new(&site.files, HOST).unwrap()
    }

    #[test]
    fn what_browsers_could_not_use_is_refused_and_no_key_told() {
        let site = Site::new();
        assert!(site.refusal().contains("chain.pem: no such file"), "{}", site.refusal());
        let (own, other) = (made(HOST), made(HOST));
        let secret = own.signing_key.serialize_pem();
        let inner = secret.lines().nth(1).unwrap();
        let check = |expected: &str| {
            let said = site.refusal();
            assert!(said.contains(expected), "{said}");
            assert!(!said.contains(inner) && !said.contains("BEGIN"), "{said}");
        };
        site.put(&own);
        assert!(Tls::new(&site.files, HOST).is_ok());
        put(&site.files.key, &other.signing_key.serialize_pem(), 0o640);
        check("not the key of that certificate");
        put(&site.files.key, &secret, 0o644);
        check("a private key that everybody on this machine can read; chmod o-rwx");
        put(&site.files.key, &secret.replace(inner, "-----BEGIN junk"), 0o640);
        check("no private key in it");
        put(&site.files.key, &secret.replace(inner, ""), 0o640);
        check("not a key that TLS can use");
        put(&site.files.key, &"-".repeat(300 << 10), 0o640);
        check("longer than 256 KiB");
        site.put(&own);
        put(&site.files.chain, "", 0o644);
        check("no certificate in it");
        put(&site.files.chain, &secret, 0o644);
        check("no certificate in it");
        site.put(&made("altrove.example.it"));
        check("is not for migra.example.it");
        fs::remove_file(&site.files.key).unwrap();
        check("key.pem: no such file");
    }

    #[test]
    fn a_renewal_is_taken_up_and_a_broken_one_is_said_once() {
        let site = Site::new();
        site.put(&made(HOST));
        let tls = Tls::new(&site.files, HOST).unwrap();
        let served = || Arc::as_ptr(&tls.serving.lock().unwrap().config);
        let first = served();
        assert_eq!((tls.renew(), served()), (None, first));
        // Between its two files, and after them.
        let renewed = made(HOST);
        put(&site.files.chain, &renewed.cert.pem(), 0o644);
        let said = tls.renew().unwrap();
        assert!(said.contains("stays: ") && said.contains("not the key"), "{said}");
        assert_eq!((tls.renew(), served()), (None, first), "it is said once");
        site.put(&renewed);
        assert!(tls.renew().unwrap().contains("a new certificate is served"));
        assert!(served() != first && tls.renew().is_none());
        // The same fault again, after things were well, is news again; so is another fault.
        let second = served();
        fs::remove_file(&site.files.chain).unwrap();
        assert!(tls.renew().unwrap().contains("no such file") && tls.renew().is_none());
        site.put(&renewed);
        assert!(tls.renew().is_none());
        fs::remove_file(&site.files.chain).unwrap();
        assert!(tls.renew().unwrap().contains("no such file"));
        put(&site.files.chain, "junk", 0o644);
        assert!(tls.renew().unwrap().contains("no certificate in it"));
        assert_eq!(served(), second);
    }
}
