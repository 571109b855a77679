//! The page for Prometheus, from clients that mean well and others.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::site::{Site, poll};

/// A port that nobody has: it is given back, and nothing else in these tests asks for any.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The whole answer to `request`.
fn ask(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    // It may hang up before it has been told everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Name, labels and value of each sample; every line of the page is one that OpenMetrics knows.
fn samples(page: &str) -> Vec<(String, String, f64)> {
    let mut samples = Vec::new();
    assert!(page.ends_with("# EOF\n"), "{page}");
    for line in page.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let known = ["HELP pecsync_", "TYPE pecsync_", "UNIT pecsync_", "EOF"];
            assert!(known.iter().any(|known| comment.starts_with(known)), "{line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a sample");
        let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
        let labels = labels.strip_suffix('}').expect("labels end");
        assert!(name.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_'), "{line}");
        samples.push((name.to_owned(), labels.to_owned(), value.parse().expect("a number")));
    }
    samples
}

#[test]
fn the_state_is_told_and_nonsense_harms_nobody() {
    let site = Site::new();
    let port = free_port();
    site.configure(&format!("metrics_listen = \"127.0.0.1:{port}\""));
    site.enroll("mario");
    let _daemon = site.start();
    let page = || {
        let answer = ask(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, page) = answer.split_once("\r\n\r\n").expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(head.contains("application/openmetrics-text"), "{head}");
        page.to_owned()
    };
    let value = |name: &str, labels: &str| {
        let found = samples(&page()).into_iter().find(|one| one.0 == name && one.1 == labels);
        found.map(|(_, _, value)| value)
    };
    let retrying = poll(|| {
        let labels = "migration=\"epap\",reason=\"unreachable\"";
        (value("pecsync_account_reasons", labels) == Some(1.0)).then_some(())
    });
    assert!(retrying.is_some(), "{}", page());
    let labels = "migration=\"epap\",reason=\"unreachable\"";
    assert!(value("pecsync_retries_total", labels).is_some_and(|tries| tries >= 1.0));
    let labels = "host=\"127.0.0.1\",kind=\"unreachable\"";
    assert!(value("pecsync_host_failures_total", labels).is_some_and(|failures| failures >= 1.0));
    // One failure is not yet the host's.
    let down = poll(|| (value("pecsync_host_up", "host=\"127.0.0.1\"") == Some(0.0)).then_some(()));
    assert!(down.is_some(), "{}", page());
    assert!(value("pecsync_checkpoint_bytes", "").is_some_and(|bytes| bytes > 0.0));
    assert!(value("pecsync_resident_memory_bytes", "").is_some_and(|bytes| bytes > 1e6));
    assert!(!page().contains("mario"), "addresses are not told unless it is wished");

    for nonsense in [&b"\r\n\r\n"[..], b"\xff\xff\r\n\r\n", b"GET /metrics\r\n\r\n", &[0; 100_000]]
    {
        let answer = ask(port, nonsense);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert!(ask(port, b"GET /etc HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(ask(port, b"DELETE /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    // More silent clients than there are places: they are shown out when their time is up.
    let silent: Vec<TcpStream> =
        (0..20).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    assert!(page().contains("pecsync_accounts{"));
    drop(silent);
}
