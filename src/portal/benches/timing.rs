//! How long the page takes to refuse a password, by whether there is such a mailbox: somebody who
//! measures that from outside is to learn nothing. The provider is a script that refuses all at once
//! and alike, so that what differs is the page's own; mailboxes it answers late show what would be
//! noticed. `cargo bench -p pecsync-portal --bench timing`

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use pecsync::config::portal::file_name;
use pecsync::config::sealing;
use visitor::Visitor;

#[path = "../tests/enrolling/visitor.rs"]
mod visitor;

const ROUNDS: usize = 2_000;
const RESAMPLES: usize = 2_000;
const LATE: Duration = Duration::from_micros(500);
/// Whose mailboxes are tried, one of each in a round.
const KINDS: [&str; 4] = ["listed", "unlisted", "enrolled", "late"];

fn main() {
    let source = source();
    let dir = tempfile::tempdir().expect("a directory");
    let port = port_of(&TcpListener::bind(("127.0.0.1", 0)).expect("bound"));
    write_site(dir.path(), source, port);
    let page = Page::start(dir.path(), port);
    let mut random = Random(7);
    let mut took: [Vec<f64>; KINDS.len()] = Default::default();
    for round in 0..ROUNDS {
        // None of them always follows the same one.
        let mut order: Vec<usize> = (0..KINDS.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last + 1));
        }
        for kind in order {
            let seconds = refused(port, &mailbox(kind, round), (round * KINDS.len() + kind) as u16);
            took[kind].push(seconds * 1e6);
        }
    }
    drop(page);
    println!("{ROUNDS} tries of each, interleaved; microseconds until the refusal was read");
    for (kind, took) in KINDS.iter().zip(&took) {
        println!("{kind:9} median {:7.0}", median(took.clone()));
    }
    for (kind, other) in KINDS.iter().zip(&took).skip(1) {
        let difference = median(other.clone()) - median(took[0].clone());
        let (from, to) = interval(&took[0], other, &mut random);
        println!(
            "{kind:9} - listed: difference of medians {difference:+6.0}, 95 % interval of its \
             bootstrap {from:+.0} to {to:+.0}"
        );
    }
}

fn mailbox(kind: usize, round: usize) -> String {
    format!("m{kind}-{round:05}@pec.prova.example")
}

/// A try by a visitor of a network of their own: how long the password's form took.
fn refused(port: u16, address: &str, network: u16) -> f64 {
    let mut visitor = Visitor::to(port);
    let [high, low] = network.to_be_bytes();
    visitor.lines = format!("X-Forwarded-For: 10.{high}.{low}.1\r\n");
    let page = visitor.begin(("prova", address));
    let begun = Instant::now();
    let answer = visitor.password(&page, "sbagliata");
    let took = begun.elapsed().as_secs_f64();
    answer.says("Credenziali non valide");
    took
}

/// Refuses every login, those of the late a little later. Gives its port.
fn source() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bound");
    let port = port_of(&listener);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accepted");
            let _ = stream.set_nodelay(true);
            let _ = stream.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n");
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            let words: Vec<&str> = line.split_whitespace().collect();
            let login = STANDARD.decode(words.last().expect("a login")).expect("base64");
            let user = login.split(|octet| *octet == 0).nth(1).expect("SASL PLAIN");
            if user.starts_with(b"m3-") {
                std::thread::sleep(LATE);
            }
            let _ = stream
                .write_all(format!("{} NO [AUTHENTICATIONFAILED] No\r\n", words[0]).as_bytes());
        }
    });
    port
}

fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("it has an address").port()
}

fn write_site(dir: &Path, source: u16, port: u16) {
    let portal = dir.join("conf.d/portal");
    fs::create_dir_all(&portal).expect("made");
    let text = format!(
        "[daemon]\nstate_dir = \"state\"\ncontrol_socket = \"{0}/control.sock\"\n\
         [limits]\nlogins_per_second = 1000\n[portal]\nlisten = \"127.0.0.1:{port}\"\n\
         public_url = \"http://127.0.0.1:{port}/\"\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [migration.prova]\ndomains = [\"pec.prova.example\"]\naccounts = \"accounts.csv\"\n\
         source = {{ host = \"127.0.0.1\", port = {source}, tls = \"none\" }}\n\
         target.host = \"new.example\"\n\
         target.service_login = {{ user = \"m\", password_file = \"none\" }}\n\
         [migration.prova.portal]\n",
        dir.display(),
    );
    let config = dir.join("pecsync.toml");
    fs::write(&config, text).expect("written");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).expect("chmod");
    let mut rows = String::from("address,target_user\n");
    for round in 0..ROUNDS {
        for kind in [0, 2, 3] {
            rows.push_str(&format!("{},M{kind}-{round}\n", mailbox(kind, round)));
        }
        let enrolled = mailbox(2, round);
        let text = format!("address = \"{enrolled}\"\n[contact]\nemail = \"a@example.it\"\n");
        fs::write(portal.join(file_name(&enrolled)), text).expect("written");
    }
    fs::write(dir.join("accounts.csv"), rows).expect("written");
    sealing::new_key(dir, None, Timestamp::now()).expect("a key");
}

struct Page(Child);

impl Page {
    fn start(dir: &Path, port: u16) -> Page {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pecsync-portal"));
        command.arg("run").arg("--config").arg(dir.join("pecsync.toml"));
        let log = fs::File::create(dir.join("log")).expect("a log");
        let page = Page(command.stdin(Stdio::null()).stderr(log).spawn().expect("started"));
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return page;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the page does not start: {}", fs::read_to_string(dir.join("log")).expect("read"));
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

/// Where 95 % of the differences of medians lie, drawn again and again from what was measured.
fn interval(one: &[f64], other: &[f64], random: &mut Random) -> (f64, f64) {
    let mut drawn = |values: &[f64]| {
        let picks = values.iter().map(|_| values[random.below(values.len())]);
        median(picks.collect())
    };
    let mut differences: Vec<f64> = (0..RESAMPLES).map(|_| drawn(other) - drawn(one)).collect();
    differences.sort_by(f64::total_cmp);
    (differences[RESAMPLES / 40], differences[RESAMPLES - 1 - RESAMPLES / 40])
}

/// SplitMix64: the same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
