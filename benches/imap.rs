//! How fast messages are listed, stored and fetched, and what a session costs meanwhile.
//!
//! `cargo test --release --bench imap -- --nocapture --test-threads 1`

#[path = "../tests/support/scripted.rs"]
mod scripted;
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::time::Instant;

use pecsync::imap::*;
use pecsync::words::*;
use scripted::{Scripted, hear, say};
use support::dovecot::Dovecot;

const PASSWORD: &str = "segreta";
/// Messages stored and fetched, of 48 KB each: what mailboxes of certified mail hold on average.
const MESSAGES: usize = 2_000;
const WINDOW: usize = 64;
const BATCH: usize = 100;

/// The decoders alone: the server says it all at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_of_100_000() {
    let line = |n: u32| {
        let size = n * 13;
        format!(
            "* {n} FETCH (UID {n} FLAGS (\\Seen $Forwarded) \
             INTERNALDATE \"14-Nov-2023 22:13:20 +0000\" RFC822.SIZE {size})\r\n"
        )
    };
    let script = vec![
        say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n"),
        hear("AUTHENTICATE PLAIN AG1hcmlvAHNlZ3JldGE="),
        say("$ OK [CAPABILITY IMAP4rev1] in\r\n"),
        hear("LIST \"\" \"\""),
        say("$ OK\r\n"),
        hear("EXAMINE INBOX"),
        say("* 100000 EXISTS\r\n$ OK\r\n"),
        hear("UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)"),
        say((1..=100_000).map(line).collect::<String>()),
        say("$ OK\r\n"),
    ];
    let server = Scripted::play(script).await;
    let endpoint =
        Endpoint { host: "127.0.0.1".into(), port: server.port, tls: Tls::None, ca_file: None };
    let mut session = session(&endpoint).await;
    session.examine(&inbox()).await.expect("a folder");
    let begun = Instant::now();
    let listed = session.list_messages(Uid::new(1).expect("not 0")).await.expect("a listing");
    println!("{} messages listed in {:?}", listed.len(), begun.elapsed());
}

/// TLS and a real server included, which needs the second processor for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throughput() {
    let server = Dovecot::aruba().user("mario", PASSWORD).start();
    let endpoint = Endpoint {
        host: "localhost".into(),
        port: server.port(),
        tls: Tls::Implicit,
        ca_file: Some(server.ca_file()),
    };
    let mut session = session(&endpoint).await;
    let message = [b"A: b\r\n\r\n".to_vec(), b"0123456789abcd\r\n".repeat(3000)].concat();
    let megabytes = (message.len() * MESSAGES) as f64 / 1e6;

    let begun = Instant::now();
    store(&mut session, &message).await.expect("stored");
    println!("stored: {:.0} MB/s", megabytes / begun.elapsed().as_secs_f64());

    session.examine(&inbox()).await.expect("a folder");
    let uids = session.list_uids().await.expect("a listing");
    let begun = Instant::now();
    let octets = fetch(&mut session, &uids).await.expect("fetched");
    assert_eq!(octets, message.len() * MESSAGES);
    let rate = megabytes / begun.elapsed().as_secs_f64();
    println!("fetched: {rate:.0} MB/s, resident {} MB", resident_mb());

    let begun = Instant::now();
    let digests = session.digests(&uids).await.expect("digested");
    assert_eq!(digests.len(), MESSAGES);
    println!("digested: {:.0} MB/s", megabytes / begun.elapsed().as_secs_f64());
}

async fn session(endpoint: &Endpoint) -> Session {
    let login = Login { user: "mario".into(), password: PASSWORD.to_owned().into(), authzid: None };
    Dialler::new().connect(endpoint, &login).await.expect("a session")
}

async fn store(session: &mut Session, message: &[u8]) -> Result<(), Error> {
    let (mut writer, mut answers) = session.appending();
    let write = async {
        for _ in 0..MESSAGES / BATCH {
            writer.begin(&inbox()).await?;
            for _ in 0..BATCH {
                let (flags, size) = (Flags::default(), message.len() as u64);
                writer.item(&flags, InternalDate(1_700_000_000), size, false).await?;
                writer.write(message).await?;
            }
            writer.commit().await?;
        }
        Ok(())
    };
    let read = async {
        for _ in 0..MESSAGES / BATCH {
            answers.next().await?;
        }
        Ok::<_, Error>(())
    };
    tokio::try_join!(write, read).map(|_| ())
}

/// All bodies, with every window asked for at once; their octets.
async fn fetch(session: &mut Session, uids: &[Uid]) -> Result<usize, Error> {
    let mut fetching = session.fetching();
    for window in uids.chunks(WINDOW) {
        fetching.request(window).await?;
    }
    let mut windows = uids.chunks(WINDOW).count();
    let mut octets = 0;
    while windows > 0 {
        match fetching.next().await? {
            Fetched::WindowDone { .. } => windows -= 1,
            _ => {
                while let Some(chunk) = fetching.chunk().await? {
                    octets += chunk.len();
                }
            }
        }
    }
    Ok(octets)
}

fn inbox() -> WireName {
    WireName::of_wire(b"INBOX")
}

fn resident_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096 / 1_000_000
}
