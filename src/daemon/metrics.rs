//! `metrics_listen`: the state in OpenMetrics text over plain HTTP, for Prometheus.
//!
//! What is told is computed at each request, from the status and from what hosts and accounts
//! count. The responder knows one page. Clients may be slow, silent or talk nonsense: each costs
//! one of a few places, for a bounded time and a bounded number of octets.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::board::Board;
use crate::status::{AccountStatus, Connections, Status};
use crate::sync::hosts::{Figures, Hosts};
use crate::sync::shared::{OpenConnections, Retries, RetryCounts};
use crate::words::Side;

const CLIENTS_MAX: usize = 8;
/// How long a client may take to say what it wants, and to take its answer.
const PATIENCE: Duration = Duration::from_secs(10);
const REQUEST_MAX: usize = 8 * 1024;
/// Of the lag, in seconds.
const LAG_BUCKETS: [f64; 10] =
    [10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 21_600.0, 86_400.0];

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;
type FloatGauges = Family<Labels, Gauge<f64, AtomicU64>>;

/// What the page is made of.
#[derive(Clone)]
pub struct Source {
    pub board: Arc<Board>,
    pub connections: Arc<OpenConnections>,
    pub hosts: Arc<Hosts>,
    pub retries: Arc<Retries>,
    pub state_dir: PathBuf,
    /// A line an account, for its last proof of life.
    pub accounts: bool,
}

/// What is not in the status.
#[derive(Default, Debug)]
struct Beside {
    resident_bytes: Option<u64>,
    checkpoint_bytes: Option<u64>,
    hosts: Vec<Figures>,
    retries: RetryCounts,
}

/// Serves for ever.
pub async fn serve(listener: TcpListener, source: Source) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let source = source.clone();
                tokio::spawn(async move {
                    // An error is the client's: it hung up, or was too slow.
                    let _ = attend(stream, source).await;
                    drop(place);
                });
            }
            // Out of descriptors, most likely: others may be given back meanwhile.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn attend(mut stream: TcpStream, source: Source) -> io::Result<()> {
    let head = timeout(PATIENCE, read_head(&mut stream)).await??;
    let (status, kind, body) = match asked_for(&head) {
        Asked::Page { with_body } => {
            let page = tokio::task::spawn_blocking(move || page(&source));
            let page = page.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ("200 OK", kind, if with_body { page } else { String::new() })
        }
        Asked::Elsewhere => ("404 Not Found", "text/plain", "the page is /metrics\n".to_owned()),
        Asked::Otherwise => ("405 Method Not Allowed", "text/plain", "GET it\n".to_owned()),
        Asked::Nonsense => ("400 Bad Request", "text/plain", "not understood\n".to_owned()),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    timeout(PATIENCE, stream.write_all(answer.as_bytes())).await??;
    timeout(PATIENCE, stream.shutdown()).await?
}

/// Up to the empty line, the end, or as much as is heard of a client.
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(1024);
    let mut some = [0; 1024];
    while head.len() < REQUEST_MAX && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut some).await? {
            0 => break,
            octets => head.extend_from_slice(&some[..octets]),
        }
    }
    Ok(head)
}

#[derive(PartialEq, Eq, Debug)]
enum Asked {
    Page { with_body: bool },
    Elsewhere,
    Otherwise,
    Nonsense,
}

/// The request line of HTTP/1 (RFC 9112, 3), whole and in bounds; no header matters.
fn asked_for(head: &[u8]) -> Asked {
    if !head.windows(4).any(|end| end == b"\r\n\r\n") {
        return Asked::Nonsense;
    }
    let line = head.split(|octet| *octet == b'\r').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|octet| *octet == b' ').collect();
    let [method, target, version] = words[..] else { return Asked::Nonsense };
    if !version.starts_with(b"HTTP/1.") {
        return Asked::Nonsense;
    }
    let path = target.split(|octet| *octet == b'?').next().unwrap_or_default();
    match (method, path) {
        (b"GET" | b"HEAD", b"/metrics") => Asked::Page { with_body: method == b"GET" },
        (b"GET" | b"HEAD", _) => Asked::Elsewhere,
        _ => Asked::Otherwise,
    }
}

/// Blocks for as long as the state directory takes to be looked at.
fn page(source: &Source) -> Result<String, std::fmt::Error> {
    let beside = Beside {
        resident_bytes: resident_bytes(),
        checkpoint_bytes: octets_under(&source.state_dir.join("checkpoint")).ok(),
        hosts: source.hosts.figures(),
        retries: source.retries.counts(),
    };
    let mut status = source.board.status();
    let open = |side| source.connections.of(side).load(Ordering::Relaxed);
    status.daemon.connections =
        Connections { source: open(Side::Source), target: open(Side::Target) };
    render(&status, &beside, source.accounts, Timestamp::now())
}

/// Pages in memory (proc(5), statm).
fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: a plain system call.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).ok()?)
}

fn octets_under(dir: &Path) -> io::Result<u64> {
    let mut octets = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        octets += if facts.is_dir() { octets_under(&entry.path())? } else { facts.len() };
    }
    Ok(octets)
}

fn render(
    status: &Status,
    beside: &Beside,
    per_account: bool,
    now: Timestamp,
) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("pecsync");
    of_daemon(&mut registry, status);
    of_accounts(&mut registry, status);
    of_messages(&mut registry, status);
    of_life(&mut registry, status, per_account, now);
    of_hosts(&mut registry, &beside.hosts);
    of_retries(&mut registry, &beside.retries);
    let sizes = [
        ("checkpoint", "Size of the checkpoint's files", beside.checkpoint_bytes),
        ("resident_memory", "Memory of the daemon", beside.resident_bytes),
    ];
    for (name, help, bytes) in sizes {
        if let Some(bytes) = bytes {
            let gauge = Gauge::<i64>::default();
            gauge.set(signed(bytes));
            registry.register_with_unit(name, help, Unit::Bytes, gauge);
        }
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn of_daemon(registry: &mut Registry, status: &Status) {
    let daemon = &status.daemon;
    let build = Gauges::default();
    build.get_or_create(&vec![("version", daemon.version.clone())]).set(1);
    registry.register("build_info", "The version that runs", build);
    if let Some(started) = seconds_of(Some(&daemon.started_at)) {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(started);
        let help = "When the daemon started, since the epoch";
        registry.register_with_unit("start_time", help, Unit::Seconds, gauge);
    }
    let connections = Gauges::default();
    for (side, number) in
        [("source", daemon.connections.source), ("target", daemon.connections.target)]
    {
        connections.get_or_create(&vec![("side", side.to_owned())]).set(number.into());
    }
    registry.register("connections", "Connections that stand", connections);
    for (name, help, number) in [
        (
            "enrollments_rejected",
            "Problems of enrollments that are not followed",
            status.rejected.len(),
        ),
        ("accounts_missing", "Accounts that should enroll and have not", status.missing.len()),
    ] {
        let gauge = Gauge::<i64>::default();
        gauge.set(signed(number as u64));
        registry.register(name, help, gauge);
    }
}

fn of_accounts(registry: &mut Registry, status: &Status) {
    let (accounts, reasons) = (Gauges::default(), Gauges::default());
    for account in &status.accounts {
        let labels = vec![
            ("migration", account.migration.clone()),
            ("phase", account.phase.clone()),
            ("condition", account.condition.clone()),
        ];
        accounts.get_or_create(&labels).inc();
        let mut codes: Vec<&str> =
            account.reasons.iter().map(|reason| reason.code.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        for code in codes {
            let labels =
                vec![("migration", account.migration.clone()), ("reason", code.to_owned())];
            reasons.get_or_create(&labels).inc();
        }
    }
    registry.register("accounts", "Accounts by phase and condition", accounts);
    registry.register("account_reasons", "Accounts by what stands in their way", reasons);
}

fn of_messages(registry: &mut Registry, status: &Status) {
    let (messages, bytes) = (Gauges::default(), Gauges::default());
    for account in &status.accounts {
        let counts = &account.messages;
        let states = [
            ("source", counts.source),
            ("copied", counts.copied),
            ("adopted", counts.adopted),
            ("refused", counts.refused),
            ("altered", counts.altered),
            ("in_doubt", counts.in_doubt),
            ("verified", counts.verified),
        ];
        let labels = |state: &str| {
            vec![("migration", account.migration.clone()), ("state", state.to_owned())]
        };
        for (state, count) in states {
            messages.get_or_create(&labels(state)).inc_by(signed(count.unwrap_or(0)));
        }
        for (state, count) in [("source", account.bytes.source), ("copied", account.bytes.copied)] {
            bytes.get_or_create(&labels(state)).inc_by(signed(count.unwrap_or(0)));
        }
    }
    registry.register(
        "messages",
        "Messages as they are now, those not known yet left out",
        messages,
    );
    let help = "Octets of messages as they are now";
    registry.register_with_unit("messages_size", help, Unit::Bytes, bytes);
}

/// How long ago the sources of accounts were last looked at.
fn of_life(registry: &mut Registry, status: &Status, per_account: bool, now: Timestamp) {
    let now = now.as_second() as f64;
    let proofs = FloatGauges::default();
    let lags = Histograms::new_with_constructor(|| Histogram::new(LAG_BUCKETS));
    let followed = status.accounts.iter().filter(|account| is_followed(account));
    for account in followed {
        let Some(proved) = seconds_of(account.proved_alive_at.as_ref()) else { continue };
        let labels = vec![("migration", account.migration.clone())];
        lags.get_or_create(&labels).observe((now - proved).max(0.0));
        proofs.get_or_create(&vec![("address", account.address.clone())]).set(proved);
    }
    let help = "How long ago the source of each account that is followed was last proved alive, \
                as of now";
    registry.register_with_unit("lag", help, Unit::Seconds, lags);
    if per_account {
        let help = "When the source of the account was last proved alive, since the epoch";
        registry.register_with_unit("account_proved_alive_time", help, Unit::Seconds, proofs);
    }
}

fn of_hosts(registry: &mut Registry, hosts: &[Figures]) {
    let [up, connections, limit, waiting] = std::array::from_fn(|_| Gauges::default());
    let failures = Counters::default();
    for host in hosts {
        let labels = vec![("host", host.name.clone())];
        up.get_or_create(&labels).set(host.up.into());
        connections.get_or_create(&labels).set(signed(host.connections as u64));
        limit.get_or_create(&labels).set(signed(host.connections_max as u64));
        waiting.get_or_create(&labels).set(signed(host.waiting as u64));
        let kinds = [
            ("unreachable", host.failures.unreachable),
            ("throttled", host.failures.throttled),
            ("login_refused", host.failures.login_refused),
        ];
        for (kind, count) in kinds {
            let labels = vec![("host", host.name.clone()), ("kind", kind.to_owned())];
            failures.get_or_create(&labels).inc_by(count);
        }
    }
    registry.register("host_up", "Whether the host works, as far as its accounts tell", up);
    registry.register("host_connections", "Connections in use at the host", connections);
    registry.register("host_connections_limit", "Connections it may have", limit);
    registry.register("host_logins_waiting", "Who waits for a login at the host", waiting);
    registry.register("host_failures", "What the host failed at, since the start", failures);
}

fn of_retries(registry: &mut Registry, counts: &RetryCounts) {
    let retries = Counters::default();
    for ((migration, code), count) in counts {
        let labels = vec![("migration", migration.clone()), ("reason", (*code).to_owned())];
        retries.get_or_create(&labels).inc_by(*count);
    }
    let help = "How often accounts had to try again, by what failed, since the start";
    registry.register("retries", help, retries);
}

fn is_followed(account: &AccountStatus) -> bool {
    ["copying", "following", "draining", "archiving"].contains(&account.phase.as_str())
        && account.condition != "paused"
}

fn seconds_of(instant: Option<&String>) -> Option<f64> {
    let instant: Timestamp = instant?.parse().ok()?;
    Some(instant.as_second() as f64)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;
    use crate::status::{DaemonStatus, MessageCounts, Reason};
    use crate::sync::hosts::Failures;

    #[test]
    fn only_the_page_is_given() {
        let check = |head: &str, expected: Asked| assert_eq!(asked_for(head.as_bytes()), expected);
        let page = |with_body| Asked::Page { with_body };
        check("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", page(true));
        check("GET /metrics?x=1 HTTP/1.0\r\n\r\n", page(true));
        check("HEAD /metrics HTTP/1.1\r\n\r\n", page(false));
        check("GET / HTTP/1.1\r\n\r\n", Asked::Elsewhere);
        check("POST /metrics HTTP/1.1\r\n\r\n", Asked::Otherwise);
        check("GET /metrics HTTP/1.1\r\n", Asked::Nonsense);
        check("GET /metrics\r\n\r\n", Asked::Nonsense);
        check("\r\n\r\n", Asked::Nonsense);
        check("", Asked::Nonsense);
    }

    /// A page on which something of everything stands.
    fn full_page(per_account: bool) -> String {
        let account = |address: &str, phase: &str, code: Option<&str>, alive: &str| AccountStatus {
            address: address.into(),
            migration: "ep\"ap".into(),
            phase: phase.into(),
            condition: if code.is_some() { "held".into() } else { "ok".into() },
            reasons: code
                .map(|code| Reason { code: code.into(), ..Reason::default() })
                .into_iter()
                .collect(),
            messages: MessageCounts { copied: Some(3), ..MessageCounts::default() },
            proved_alive_at: Some(alive.into()),
            ..AccountStatus::default()
        };
        let status = Status {
            accounts: vec![
                account("a@b", "following", None, "1970-01-01T00:16:00Z"),
                account("c@d", "following", None, "1970-01-01T00:15:00Z"),
                AccountStatus {
                    migration: "fnofi".into(),
                    ..account("i@l", "copying", None, "1970-01-01T00:16:39Z")
                },
                account("e@f", "completed", Some("over_quota"), "1970-01-01T00:00:00Z"),
            ],
            missing: vec!["g@h".into()],
            daemon: DaemonStatus {
                started_at: "1970-01-01T00:00:01Z".into(),
                ..DaemonStatus::default()
            },
            ..Status::default()
        };
        let host = Figures {
            name: "imap.example".into(),
            up: false,
            connections: 2,
            connections_max: 9,
            waiting: 1,
            failures: Failures { throttled: 4, ..Failures::default() },
        };
        let beside = Beside {
            checkpoint_bytes: Some(77),
            resident_bytes: Some(88),
            hosts: vec![host],
            retries: [(("epap".to_owned(), "timed_out"), 5)].into(),
        };
        let now = Timestamp::from_second(1000).unwrap();
        render(&status, &beside, per_account, now).unwrap()
    }

    #[test]
    fn what_is_told() {
        let text = full_page(true);
        for line in [
            "pecsync_accounts{migration=\"ep\\\"ap\",phase=\"following\",condition=\"ok\"} 2",
            "pecsync_account_reasons{migration=\"ep\\\"ap\",reason=\"over_quota\"} 1",
            "pecsync_messages{migration=\"ep\\\"ap\",state=\"copied\"} 9",
            "pecsync_accounts_missing 1",
            "pecsync_checkpoint_bytes 77",
            "pecsync_lag_seconds_bucket{le=\"60.0\",migration=\"ep\\\"ap\"} 1",
            "pecsync_lag_seconds_bucket{le=\"120.0\",migration=\"ep\\\"ap\"} 2",
            "pecsync_host_up{host=\"imap.example\"} 0",
            "pecsync_host_connections{host=\"imap.example\"} 2",
            "pecsync_host_connections_limit{host=\"imap.example\"} 9",
            "pecsync_host_logins_waiting{host=\"imap.example\"} 1",
            "pecsync_host_failures_total{host=\"imap.example\",kind=\"throttled\"} 4",
            "pecsync_retries_total{migration=\"epap\",reason=\"timed_out\"} 5",
            "pecsync_account_proved_alive_time_seconds{address=\"a@b\"} 960.0",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
        let types: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
        let once: HashSet<&str> = types.iter().copied().collect();
        assert_eq!(types.len(), once.len(), "a family is told once:\n{text}");
        assert!(!text.contains("e@f"), "it is over");
        let quiet = full_page(false);
        assert!(!quiet.contains("a@b"), "{quiet}");
    }

    /// The manual lists just these; the dashboard and the alerts ask for none else.
    #[test]
    fn what_is_named_elsewhere_is_told() {
        let page = full_page(true);
        let mut told = BTreeSet::new();
        let mut families = BTreeSet::new();
        for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let suffixes: &[&str] = match kind {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_count", "_sum"],
                _ => &[""],
            };
            told.extend(suffixes.iter().map(|suffix| format!("{name}{suffix}")));
            families.insert(match kind {
                "counter" => format!("{name}_total"),
                _ => name.to_owned(),
            });
        }
        let named = |text: &str| -> BTreeSet<String> {
            let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
            words.filter(|word| word.starts_with("pecsync_")).map(str::to_owned).collect()
        };
        let manual = include_str!("../../docs/operating.md");
        let chapter = manual.split("\n## Metrics\n").nth(1).unwrap();
        let listed: String = chapter.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(named(&listed), families);
        for text in [
            include_str!("../../docs/monitoring/alerts.yml"),
            include_str!("../../docs/monitoring/grafana.json"),
        ] {
            let named = named(text);
            assert!(named.len() > 5, "{named:?}");
            assert!(named.is_subset(&told), "{:?}", named.difference(&told));
        }
    }
}
