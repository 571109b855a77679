//! What single parts cost: framing, decoding, planning over a million messages, commits.
//!
//! `cargo bench --bench parts`; `cargo bench --bench parts -- plan` measures those only.

use std::collections::BTreeMap;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pecsync::checkpoint::*;
use pecsync::imap::*;
use pecsync::sync::plan::{self, SourceLook};
use pecsync::words::*;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::runtime::Runtime;

const LISTED: u32 = 10_000;
const BODIES: u32 = 64;
/// What a message of certified mail holds on average.
const BODY: usize = 48_000;
const PLANNED: u32 = 1_000_000;
/// Of those, so many are new.
const NEW: u32 = 1_000;

/// The wire and the decoders, of a server in memory that says it all at once.
fn imap(criterion: &mut Criterion) {
    let runtime = runtime();
    let lines: Vec<u8> = (1..=LISTED).flat_map(listed).collect();
    let bodies: Vec<u8> = (1..=BODIES).flat_map(fetched).collect();
    let mut group = criterion.benchmark_group("imap");

    group.throughput(Throughput::Elements(LISTED.into()));
    let mut session = runtime.block_on(session(lines));
    let first = uid(1);
    group.bench_function("framed and decoded: a listing of 10,000", |bench| {
        bench.iter(|| {
            let listed = runtime.block_on(session.list_messages(first)).expect("a listing");
            assert_eq!(listed.len(), LISTED as usize);
        });
    });

    group.throughput(Throughput::Bytes(bodies.len() as u64));
    let mut session = runtime.block_on(self::session(bodies));
    let uids: Vec<Uid> = (1..=BODIES).map(uid).collect();
    group.bench_function("framed: 64 bodies of 48 KB", |bench| {
        bench.iter(|| assert_eq!(runtime.block_on(octets(&mut session, &uids)), BODY * 64));
    });
    group.finish();
}

/// What differs, where a thousand of a million messages are new on one side.
fn plans(criterion: &mut Criterion) {
    let known: BTreeMap<Uid, Known> =
        (1..=PLANNED - NEW).map(|number| (uid(number), link(number))).collect();
    let messages: Vec<Message> = (1..=PLANNED).map(message).collect();
    let present = Some((1..=PLANNED).map(uid).collect());
    let look = SourceLook { messages: messages.clone(), changes: Changes::default(), present };
    let mut group = criterion.benchmark_group("plan");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Elements(PLANNED.into()));
    group.bench_function("the source's side of 1,000,000 messages", |bench| {
        bench.iter(|| assert_eq!(new(&known, &look), NEW as usize));
    });
    let none = Default::default();
    group.bench_function("the target's side of 1,000,000 messages", |bench| {
        bench.iter(|| {
            let diff = plan::target_diff(&known, &none, &none, &messages);
            assert_eq!(diff.unexplained.len(), NEW as usize);
        });
    });
    group.finish();
}

fn new(known: &BTreeMap<Uid, Known>, look: &SourceLook) -> usize {
    plan::source_diff(known, look, 0, 60).new.len()
}

/// What is durable when it returns, and what is queued behind a commit that is.
fn commits(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, _) = Store::open(dir.path()).expect("a store");
    let (runtime, writer) = (runtime(), store.writer());
    let mut number = 0;
    let mut put = |links: u32| {
        let edits = (0..links).map(|_| {
            number += 1;
            Edit::PutKnown(FolderId(1), uid(number), link(number))
        });
        edits.collect::<Vec<_>>()
    };
    let mut group = criterion.benchmark_group("checkpoint");
    group.bench_function("one link, durable", |bench| {
        bench.iter(|| runtime.block_on(writer.commit(put(1))).expect("durable"));
    });
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("1,000 links, durable", |bench| {
        bench.iter(|| runtime.block_on(writer.commit(put(1_000))).expect("durable"));
    });
    group.finish();
}

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime")
}

/// A session with INBOX opened, at a server that answers every FETCH with these octets.
async fn session(answer: Vec<u8>) -> Session {
    let mut dialler = Dialler::new();
    dialler.pipes = Some(Box::new(move |_| {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        tokio::spawn(serve(theirs, answer.clone()));
        Ok(ours)
    }));
    let endpoint = Endpoint { host: "memory".into(), port: 143, tls: Tls::None, ca_file: None };
    let login =
        Login { user: "mario".into(), password: "segreta".to_owned().into(), authzid: None };
    let mut session = dialler.connect(&endpoint, &login).await.expect("a session");
    session.examine(&WireName::of_wire(b"INBOX")).await.expect("a folder");
    session
}

async fn serve(pipe: DuplexStream, answer: Vec<u8>) {
    let mut pipe = BufReader::new(pipe);
    let greeting = b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n";
    pipe.get_mut().write_all(greeting).await.expect("written");
    let mut line = String::new();
    while pipe.read_line(&mut line).await.expect("read") > 0 {
        let (tag, command) = line.split_once(' ').expect("a command");
        match command.split(' ').next() {
            Some("UID") => pipe.get_mut().write_all(&answer).await.expect("written"),
            Some("EXAMINE") => {
                let exists = format!("* {LISTED} EXISTS\r\n");
                pipe.get_mut().write_all(exists.as_bytes()).await.expect("written");
            }
            _ => {}
        }
        let ended = format!("{tag} OK [CAPABILITY IMAP4rev1] done\r\n");
        pipe.get_mut().write_all(ended.as_bytes()).await.expect("written");
        line.clear();
    }
}

/// All bodies, in one window; their octets.
async fn octets(session: &mut Session, uids: &[Uid]) -> usize {
    let mut fetching = session.fetching();
    fetching.request(uids).await.expect("asked");
    let mut octets = 0;
    loop {
        match fetching.next().await.expect("an answer") {
            Fetched::WindowDone { .. } => return octets,
            _ => {
                while let Some(chunk) = fetching.chunk().await.expect("octets") {
                    octets += chunk.len();
                }
            }
        }
    }
}

fn metadata(number: u32, size: usize) -> String {
    format!(
        "* {number} FETCH (UID {number} FLAGS (\\Seen $Forwarded) \
         INTERNALDATE \"14-Nov-2023 22:13:20 +0000\" RFC822.SIZE {size}"
    )
}

fn listed(number: u32) -> Vec<u8> {
    (metadata(number, 4_711) + ")\r\n").into_bytes()
}

fn fetched(number: u32) -> Vec<u8> {
    let mut response = format!("{} BODY[] {{{BODY}}}\r\n", metadata(number, BODY)).into_bytes();
    response.extend(b"0123456789abcd\r\n".iter().cycle().take(BODY));
    response.extend(b")\r\n");
    response
}

fn uid(number: u32) -> Uid {
    Uid::new(number).expect("not 0")
}

fn message(number: u32) -> Message {
    let flags = Flags::of_names(["\\Seen"]);
    let instant = InternalDate(1_600_000_000 + i64::from(number));
    Message { uid: uid(number), flags, instant, size: u64::from(number) }
}

/// Digests that do not compress and do not repeat.
fn link(number: u32) -> Known {
    let seed = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let octet = |place: usize| (seed >> (place % 8 * 7)) as u8;
    let Message { uid, flags, instant, size } = message(number);
    Known::Linked(Link {
        target_uid: Some(uid),
        origin: Origin::Copied,
        size,
        instant,
        header: HeaderDigest(std::array::from_fn(octet)),
        sha256: Sha256(std::array::from_fn(octet)),
        flags,
        unsure: None,
        proof: Proof::Listed,
        suspect: false,
        altered: None,
    })
}

criterion_group!(benches, imap, plans, commits);
criterion_main!(benches);
