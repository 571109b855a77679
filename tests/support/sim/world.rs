//! One world from start to completion: plant, start, crash, start again, cut over, judge.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pecsync::config::Enrollment;
use pecsync::sync::account::Order;
use tempfile::TempDir;

use super::dates;
use super::judge::{self, Mercy};
use super::model::Letter;
use super::plan::{Memory, Plan, Side};
use super::product::{self, Product, Wishes};
use super::session;
use super::stage::{Death, Stage};
use super::traits::Traits;

/// A world lives no longer than this.
const LIFE_MAX: Duration = Duration::from_secs(60);
/// How long a target may lag behind before the cutover: then the last pass has to do it.
const LAG_MAX: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(5);
const PUT_BACK_AFTER: Duration = Duration::from_millis(600);
/// Between events that no command brought about.
const EVENT_EVERY: Duration = Duration::from_millis(120);

/// A message to plant.
#[derive(Clone, Debug)]
pub struct Post {
    pub octets: Vec<u8>,
    pub flags: String,
    /// Unix seconds.
    pub instant: i64,
}

impl Post {
    pub fn of(mail: super::mail::Mail) -> Post {
        let instant = dates::parse(&mail.date).expect("planted dates are well-formed");
        Post { octets: mail.octets, flags: mail.flags, instant }
    }

    pub fn letter(self) -> Letter {
        let flags = self.flags.split_whitespace().map(str::to_owned).collect();
        let octets = self.octets.into();
        Letter { octets, instant: self.instant, flags, foreign: false }
    }
}

#[derive(Clone, Debug)]
pub struct World {
    /// How to repeat it.
    pub name: String,
    pub source: Traits,
    pub target: Traits,
    /// At the source, by folder as users see it.
    pub mail: Vec<(String, Post)>,
    /// Somebody else's at the target.
    pub foreign: Vec<(String, Post)>,
    /// At the target as well, to be adopted.
    pub copies: Vec<(String, Post)>,
    pub plan: Plan,
    pub wishes: Wishes,
    /// What has not happened before the cutover happens all at once when it comes.
    pub rush: bool,
    /// So many messages are refused by nature, and must be listed.
    pub refused: Option<usize>,
    /// It is over once the account gives this reason, or a folder of it does.
    pub until_reason: Option<&'static str>,
}

/// What a world that went well can tell.
pub struct Ended {
    pub effects: usize,
    /// Those before the cutover.
    pub effects_before: usize,
    pub commands: [usize; 2],
    /// Connections that logged in at the source and the target.
    pub logins: [usize; 2],
    /// The target was not level with the source before the cutover.
    pub lagged: bool,
    /// Octets to and from the source, to and from the target.
    pub octets: [(u64, u64); 2],
    /// Crashes that never came, because there was no such effect.
    pub crashes_left: usize,
    pub lasted: Duration,
    pub events: Vec<&'static str>,
    /// What was done that must never happen; a world that lived to its end has none.
    pub violations: Vec<String>,
}

impl World {
    pub fn new(name: impl Into<String>) -> World {
        World {
            name: name.into(),
            source: Traits::source(),
            target: Traits::target(),
            mail: Vec::new(),
            foreign: Vec::new(),
            copies: Vec::new(),
            plan: Plan::default(),
            wishes: Wishes::default(),
            rush: false,
            refused: None,
            until_reason: None,
        }
    }

    /// Lives it, on a runtime of its own: nothing else runs between an answer and a death.
    /// The error is a report for a human.
    pub fn live(&self) -> Result<Ended, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let ended = runtime.block_on(async {
            let mut life = Life::begin(self).await;
            let ended = life.live().await;
            ended.map_err(|what| life.report(&what))
        });
        runtime.shutdown_background();
        ended
    }

    fn plant(&self, stage: &Stage) {
        let each = |side: Side, posts: &[(String, Post)], foreign: bool| {
            let half = stage.half(side);
            for (folder, post) in posts {
                let letter = Letter { foreign, ..post.clone().letter() };
                let name = half.traits.wire(folder);
                half.with(|account| {
                    account.create(&name);
                    account.append(&name, vec![letter]);
                });
            }
        };
        each(Side::Source, &self.mail, false);
        each(Side::Target, &self.foreign, true);
        each(Side::Target, &self.copies, false);
    }
}

struct Life<'w> {
    world: &'w World,
    stage: Arc<Stage>,
    begun: Instant,
    states: TempDir,
    lives: usize,
    state: PathBuf,
    enrollment: Enrollment,
    /// `None` only between two lives.
    product: Option<Product>,
    cut_over: bool,
    /// A checkpoint was lost.
    lost: bool,
    journal: Vec<String>,
    events: Vec<&'static str>,
    effects_before: usize,
}

impl<'w> Life<'w> {
    async fn begin(world: &'w World) -> Life<'w> {
        let stage = Stage::new(world.source.clone(), world.target.clone(), world.plan.clone());
        world.plant(&stage);
        let source = session::serve(stage.clone(), Side::Source).await.expect("loopback");
        let target = session::serve(stage.clone(), Side::Target).await.expect("loopback");
        let far = Timestamp::now() + Duration::from_secs(86_400);
        let enrollment = product::enrollment(source, target, Some(far), &world.wishes);
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let states = tempfile::tempdir_in(parent).expect("a directory for checkpoints");
        let state = states.path().join("0");
        let product = start(&stage, &state, &enrollment, &world.wishes);
        Life {
            world,
            stage,
            begun: Instant::now(),
            states,
            lives: 1,
            state,
            enrollment,
            product: Some(product),
            cut_over: false,
            lost: false,
            journal: Vec::new(),
            events: Vec::new(),
            effects_before: 0,
        }
    }

    async fn live(&mut self) -> Result<Ended, String> {
        let mut level_since: Option<Instant> = None;
        let mut last_event = Instant::now();
        loop {
            tokio::time::sleep(TICK).await;
            if self.begun.elapsed() > LIFE_MAX {
                return Err(format!("not completed after {LIFE_MAX:?}"));
            }
            if let Some(death) = self.stage.take_death() {
                self.revive(death).await;
                level_since = None;
                continue;
            }
            if self.product().task.is_finished() {
                return self.over().await;
            }
            self.attend()?;
            let status = self.product().status();
            if status.reasons.iter().any(|reason| Some(&*reason.code) == self.world.until_reason) {
                self.keep_journal();
                return Ok(self.ended());
            }
            if self.cut_over || status.phase != "following" || status.condition != "ok" {
                continue;
            }
            if !self.world.rush
                && last_event.elapsed() > EVENT_EVERY
                && let Some(event) = self.stage.next_event()
            {
                self.stage.happen(event);
                last_event = Instant::now();
                level_since = None;
                continue;
            }
            let since = *level_since.get_or_insert_with(Instant::now);
            let level = judge::differences(&self.stage, &self.mercy()).is_empty();
            if level && since.elapsed() > EVENT_EVERY || since.elapsed() > LAG_MAX {
                if !level {
                    self.stage.log("the target lags; the cutover comes all the same");
                }
                self.cut_over();
            }
        }
    }

    /// Helps where a test cannot wait as long as an account can.
    fn attend(&mut self) -> Result<(), String> {
        let status = self.product().status();
        let code = status.reason.as_ref().map_or("", |reason| reason.code.as_str());
        match status.condition.as_str() {
            "retrying" => self.product().hurry(),
            // Deliberate: from the cutover on the state is not guessed.
            "held" if code == "state_lost" && self.lost && self.cut_over => {
                self.product().order(Order::ApproveLate);
            }
            "held" if self.stage.login_refused() => self.product().hurry(),
            "held" => return Err(format!("the account is held: {:?}", status.reason)),
            _ => {}
        }
        Ok(())
    }

    fn product(&self) -> &Product {
        self.product.as_ref().expect("it is missing only within `revive`")
    }

    fn cut_over(&mut self) {
        self.stage.log("the cutover comes");
        self.cut_over = true;
        self.effects_before = self.stage.effects();
        while let Some(event) = self.stage.next_event() {
            self.stage.happen(event);
        }
        self.enrollment.cutover = Some(Timestamp::now());
        self.product().order(Order::Replace(Arc::new(self.enrollment.clone())));
    }

    async fn revive(&mut self, death: Death) {
        self.keep_journal();
        let fresh = self.states.path().join(self.lives.to_string());
        self.lives += 1;
        match (&death.snapshot, death.memory) {
            (Some(snapshot), _) => {
                snapshot.restore(&fresh).expect("the temporary directory can be written");
                self.state = fresh;
            }
            (None, Memory::Deleted) => self.state = fresh,
            (None, _) => {}
        }
        self.lost |= matches!(death.memory, Memory::Deleted | Memory::Older(_));
        // What else the dead one had begun ends when the runtime comes to it.
        while !self.product().task.is_finished() {
            tokio::task::yield_now().await;
        }
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        if matches!(death.memory, Memory::Older(_)) {
            // Nobody puts back a directory faster; what comes later still is not promised.
            tokio::time::sleep(PUT_BACK_AFTER).await;
        }
        // Let go of first: both lives may use one directory.
        self.product = None;
        let wishes = &self.world.wishes;
        self.product = Some(start(&self.stage, &self.state, &self.enrollment, wishes));
    }

    /// The product has returned: it must have completed, and the copy must be exact.
    async fn over(&mut self) -> Result<Ended, String> {
        let status = self.product().status();
        if (status.phase.as_str(), status.condition.as_str()) != ("completed", "ok") {
            return Err(format!("it ended {} {}", status.phase, status.condition));
        }
        if !self.cut_over {
            return Err("it completed before the cutover".to_owned());
        }
        let mut mercy = self.mercy();
        mercy.listed = self.product().listed().map_err(|error| error.to_string())?;
        if let Some(refused) = self.world.refused {
            if mercy.listed.len() != refused {
                return Err(format!("{refused} must be refused, not {:?}", mercy.listed));
            }
        } else if !mercy.listed.is_empty() && self.world.plan.replies.is_empty() {
            return Err(format!("refused although nobody refused anything: {:?}", mercy.listed));
        }
        self.stage.log("judged");
        let found = judge::differences(&self.stage, &mercy);
        if !found.is_empty() {
            return Err(found.join("\n"));
        }
        self.keep_journal();
        Ok(self.ended())
    }

    fn ended(&mut self) -> Ended {
        Ended {
            effects: self.stage.effects(),
            effects_before: self.effects_before,
            commands: [self.stage.commands(Side::Source), self.stage.commands(Side::Target)],
            logins: [self.logged("Source", ": …"), self.logged("Target", ": …")],
            lagged: self.logged("the target lags", "") > 0,
            octets: [self.stage.octets(Side::Source), self.stage.octets(Side::Target)],
            crashes_left: self.stage.crashes_left(),
            lasted: self.begun.elapsed(),
            events: std::mem::take(&mut self.events),
            violations: self.stage.violations(),
        }
    }

    /// Lines of the log that begin and go on so, behind their time.
    fn logged(&self, begin: &str, part: &str) -> usize {
        let logged = self.stage.logged();
        let lines = logged.iter().filter_map(|line| line.trim_start().split_once(' '));
        lines.filter(|(_, line)| line.starts_with(begin) && line.contains(part)).count()
    }

    fn mercy(&self) -> Mercy {
        let said = |name: &str| {
            let recorded = self.product().journal.recorded();
            self.events.contains(&name) || recorded.iter().any(|e| e.event.name() == name)
        };
        let leftovers = self.lost
            // A folder renumbered, or made anew under an old name: its copies are orphans.
            || said("uidvalidity_changed")
            || !self.world.target.has("UIDPLUS")
            || !self.world.copies.is_empty()
            || said("removals_suspended");
        let refused = self.world.refused.and_then(|_| self.product().listed().ok());
        let listed = refused.unwrap_or_default();
        Mercy { leftovers, flags: self.lost && self.cut_over, listed }
    }

    fn keep_journal(&mut self) {
        for entry in self.product().journal.recorded() {
            self.events.push(entry.event.name());
            let uids = format!("{:?} {:?}", entry.source_uid, entry.target_uid);
            let folder = entry.folder.as_deref().unwrap_or("-").to_owned();
            self.journal.push(format!(
                "life {}: {} {folder} {uids}: {}",
                self.lives,
                entry.event.name(),
                entry.message
            ));
        }
    }

    fn report(&mut self, what: &str) -> String {
        self.keep_journal();
        let mut text = format!("=== world {} ===\n{what}\n", self.world.name);
        let _ = writeln!(text, "status: {:#?}", self.product().status());
        for line in &self.journal {
            let _ = writeln!(text, "{line}");
        }
        for line in self.stage.logged() {
            let _ = writeln!(text, "{line}");
        }
        for (side, half) in [("source", &self.stage.source), ("target", &self.stage.target)] {
            for (name, folder) in half.account().folders {
                let _ = writeln!(text, "{side} {name} {} next {}", folder.validity, folder.next);
                for message in folder.messages {
                    let head = String::from_utf8_lossy(&message.octets);
                    let head = head.lines().next().unwrap_or_default();
                    let _ = writeln!(text, "  {} {:?} {head:.50}", message.uid, message.flags);
                }
            }
        }
        let _ = writeln!(text, "what differs: {what}\nplan: {:?}", self.world.plan);
        text
    }
}

fn start(
    stage: &Arc<Stage>,
    state: &std::path::Path,
    enrollment: &Enrollment,
    wishes: &Wishes,
) -> Product {
    stage.log(format!("the product starts on {}", state.display()));
    let product = Product::start(state, enrollment.clone(), wishes);
    stage.born(product.task.abort_handle(), state.to_owned());
    product
}
