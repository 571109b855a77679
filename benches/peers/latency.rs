//! New mail: from the moment at which the source tells of it until it can be seen at the target.
//!
//! Dovecot waits half a second after a delivery before it tells those who idle; that is the
//! server's own time. So a witness idles beside the source, without any distance, and another one
//! asks the target again and again.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::block_on;
use super::data::{deliver, plant_nothing};
use super::imap::{Client, Place};
use super::link::{Line, on_thread};
use super::servers::Dovecot;
use super::tools::{Pecsync, Route};

/// The target's connection is let go after half a minute of quiet.
const COLD_AFTER: Duration = Duration::from_secs(33);
const COLD_MESSAGES_MAX: usize = 3;

/// Seconds from being told to being seen, at one distance.
pub struct News {
    pub round_trip: Duration,
    pub is_warm: bool,
    pub seconds: Vec<f64>,
}

pub fn measure(
    line: &Line,
    source: &Dovecot,
    target: &Dovecot,
    scratch: &Path,
    round_trips: &[Duration],
    messages: usize,
) -> Vec<News> {
    let mut news = Vec::new();
    for round_trip in round_trips {
        let user = format!("news-{}", round_trip.as_millis());
        plant_nothing(source, &user);
        let dir = scratch.join(&user);
        std::fs::create_dir(&dir).expect("created");
        let namespace = line.tools(*round_trip);
        let (source_user, target_user) = (&*user, &*user);
        let route = Route { source, target, source_user, target_user, namespace, dir };
        // No sweep comes in between: what is seen was told. And a folder just made is no longer
        // watched for copies that come late.
        let sync = "sweep_interval = \"1h\"\nin_doubt_wait = \"1s\"";
        let mut daemon = Pecsync::start(&route, sync);
        daemon.wait_event("first_copy_completed");
        let (told, telling) = channel();
        let (seen, seeing) = channel();
        let place = Place::of(source, &user);
        on_thread(line.servers(), move || block_on(idle(&place, &told)));
        let place = Place::of(target, &user);
        on_thread(line.servers(), move || block_on(ask(&place, &seen)));
        thread::sleep(Duration::from_secs(4));
        let mut number = 0;
        let mut one = |pause: Duration| {
            thread::sleep(pause);
            number += 1;
            deliver(source, &user, number);
            latency(&telling, &seeing)
        };
        one(Duration::ZERO);
        for is_warm in [true, false] {
            let (pause, count) = match is_warm {
                true => (Duration::from_millis(1_300), messages),
                false => (COLD_AFTER, messages.min(COLD_MESSAGES_MAX)),
            };
            let seconds = (0..count).map(|_| one(pause)).collect();
            let found = News { round_trip: *round_trip, is_warm, seconds };
            println!("{found}");
            news.push(found);
        }
        daemon.stop();
    }
    news
}

fn latency(telling: &Receiver<Instant>, seeing: &Receiver<Instant>) -> f64 {
    let patience = Duration::from_secs(60);
    let told = telling.recv_timeout(patience).expect("the source tells");
    let seen = seeing.recv_timeout(patience).expect("the message comes over");
    seen.saturating_duration_since(told).as_secs_f64()
}

/// When the source tells somebody who idles.
async fn idle(place: &Place, told: &Sender<Instant>) {
    let mut client = Client::log_in(place).await;
    client.run("EXAMINE INBOX").await;
    client.writer.put(b"x IDLE\r\n").await;
    client.writer.flush().await;
    while let Some(line) = client.reader.line().await {
        if line.ends_with(b" EXISTS") && told.send(Instant::now()).is_err() {
            return;
        }
    }
}

/// When the target shows one more message.
async fn ask(place: &Place, seen: &Sender<Instant>) {
    let mut client = Client::log_in(place).await;
    client.run("EXAMINE INBOX").await;
    loop {
        let said = client.run("NOOP").await;
        let is_news = said.iter().any(|line| line.ends_with(b" EXISTS"));
        if is_news && seen.send(Instant::now()).is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The middle one of some values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

impl std::fmt::Display for News {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (middle, away) = (median(self.seconds.clone()), self.round_trip.as_secs_f64());
        let warm = if self.is_warm { "warm" } else { "cold" };
        write!(f, "news {:>3.0} ms {warm}: {:6.1} ms", away * 1e3, middle * 1e3)?;
        if away > 0.0 {
            write!(f, " = {:.1} round trips", middle / away)?;
        }
        Ok(())
    }
}
