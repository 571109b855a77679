//! One world from start to completion: plant, start, crash, start again, cut over, judge.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pecsync::checkpoint::Image;
use pecsync::config::Enrollment;
use pecsync::sync::account::Order;
use tempfile::TempDir;
use tokio::time::Instant;

use super::dates;
use super::habits::{Habit, Next};
use super::judge::{self, Mercy};
use super::model::Letter;
use super::plan::{Event, Memory, Moment, Plan, Reply, Side};
use super::product::{self, Product, Wishes};
use super::session::ARCHIVE;
use super::stage::{Death, Stage};
use super::traits::Traits;

/// A world lives no longer than this.
const LIFE_MAX: Duration = Duration::from_secs(12 * 3600);
/// How long a target may lag behind before the cutover: then the last pass has to do it.
const LAG_MAX: Duration = Duration::from_secs(900);
/// No guest asks for more.
const COMMANDS_AN_HOUR_MAX: usize = 10_000;
/// How often the world looks at its product.
const TICK: Duration = Duration::from_secs(3);
/// Between events that no command brought about; and so long nothing differs before the cutover.
const EVENT_EVERY: Duration = Duration::from_secs(70);

/// A message to plant.
#[derive(Clone)]
pub struct Post {
    pub octets: Vec<u8>,
    pub flags: String,
    /// Unix seconds.
    pub instant: i64,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.octets);
        let line = text.lines().next().unwrap_or_default();
        write!(f, "{line:.40} ({} octets, {:?})", self.octets.len(), self.flags)
    }
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
    pub seed: u64,
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
    /// What happens before the cutover shows at the target before it.
    pub prompt: bool,
    /// The operator approves of deletions whenever they are asked.
    pub approves: bool,
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
    /// Awaits of the product's task that had to wait.
    pub awaits: usize,
    pub connections: [usize; 2],
    /// What the servers saw.
    pub log: Vec<String>,
    pub events: Vec<&'static str>,
    /// What was done that must never happen; a world that lived to its end has none.
    pub violations: Vec<String>,
}

impl World {
    pub fn new(name: impl Into<String>) -> World {
        World {
            name: name.into(),
            seed: 1,
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
            prompt: false,
            approves: false,
        }
    }

    /// Lives it, on a runtime and by a clock of its own: nothing else runs between an answer and
    /// a death, and whatever is waited for comes at once. The error is a report for a human.
    pub fn live(&self) -> Result<Ended, String> {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let ended = runtime.block_on(async {
            let mut life = Life::begin(self);
            let ended = life.live().await;
            ended.map_err(|what| life.report(&what))
        });
        drop(runtime);
        ended
    }

    /// May copies be missing from the target, or seem so?
    fn may_hide_copies(&self) -> bool {
        let hides = |event: &Event| {
            matches!(
                event,
                Event::Vanish { .. }
                    | Event::Stranger { .. }
                    | Event::Fail { side: Side::Target, .. }
                    | Event::Renumber { side: Side::Target, .. }
            )
        };
        let plan = &self.plan;
        // A source that hides a message makes its twin in another folder the one that moved; a
        // death on the way leaves the copy there, and then the message shows again.
        let fails = |event: &Event| matches!(event, Event::Fail { side: Side::Source, .. });
        let moved_unnoticed = !plan.crashes.is_empty() || !plan.kills.is_empty();
        // An older checkpoint does not know of a move, either.
        let deaths = plan.crashes.iter().map(|crash| crash.memory);
        let mut memories = deaths.chain(plan.kills.iter().map(|kill| kill.memory));
        let forgot = memories.any(|memory| matches!(memory, Memory::Older(_)));
        forgot
            || (moved_unnoticed && plan.events.values().flatten().any(fails))
            || plan.events.values().flatten().any(hides)
            || plan.replies.values().any(|reply| matches!(reply, Reply::Half | Reply::Gaps))
    }

    fn renumbers(&self, at: Side) -> bool {
        let renumbers =
            |event: &Event| matches!(event, Event::Renumber { side, .. } if *side == at);
        self.plan.events.values().flatten().any(renumbers)
    }

    fn plant(&self, stage: &Stage) {
        for (side, posts) in [(Side::Source, &self.mail), (Side::Target, &self.copies)] {
            let half = stage.half(side);
            for (folder, post) in posts {
                let renamed = self.wishes.folders.rename.get(folder);
                let renamed = renamed.filter(|_| side == Side::Target);
                let name = half.traits.wire(renamed.unwrap_or(folder));
                half.with(|account| {
                    account.create(&name);
                    account.append(&name, vec![post.clone().letter()]);
                });
            }
        }
        for (folder, post) in &self.foreign {
            stage.plant_stranger(&stage.target.traits.wire(folder), post.clone().letter());
        }
    }
}

struct Life<'w> {
    world: &'w World,
    stage: Arc<Stage>,
    /// For what lies beside checkpoints.
    states: TempDir,
    lives: usize,
    image: Image,
    enrollment: Enrollment,
    /// `None` only between two lives.
    product: Option<Product>,
    cut_over: bool,
    /// A checkpoint was lost.
    lost: bool,
    /// And another one.
    lost_again: bool,
    journal: Vec<String>,
    events: Vec<&'static str>,
    effects_before: usize,
}

impl<'w> Life<'w> {
    fn begin(world: &'w World) -> Life<'w> {
        let traits = (world.source.clone(), world.target.clone());
        let rules = world.wishes.folders.clone();
        let stage = Stage::new(traits, world.plan.clone(), rules, world.seed);
        world.plant(&stage);
        let far = Timestamp::from_second(stage.hands().wall + 10 * 86_400).expect("a date");
        let enrollment = product::enrollment(Some(far), &world.wishes);
        let memory = std::path::Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let states = tempfile::tempdir_in(parent).expect("a directory for checkpoints");
        let mut life = Life {
            world,
            stage,
            states,
            lives: 0,
            image: Image::default(),
            enrollment,
            product: None,
            cut_over: false,
            lost: false,
            lost_again: false,
            journal: Vec::new(),
            events: Vec::new(),
            effects_before: 0,
        };
        life.start();
        life
    }

    fn start(&mut self) {
        self.lives += 1;
        self.stage.log("the product starts");
        let enrollment = self.enrollment.clone();
        let (state, apart) = (self.states.path(), self.world.wishes.apart);
        let product = Product::start(&self.stage, &self.image, state, enrollment, apart);
        self.stage.born(product.task.abort_handle(), self.image.clone());
        self.product = Some(product);
    }

    async fn live(&mut self) -> Result<Ended, String> {
        let mut level_since: Option<Instant> = None;
        let mut last_event = Instant::now();
        loop {
            let product = self.product.as_mut().expect("it is missing only within `revive`");
            tokio::select! {
                biased;
                () = self.stage.died.notified() => {}
                _ = &mut product.task, if !product.task.is_finished() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            if let Some(death) = self.stage.take_death() {
                self.revive(death).await;
                level_since = None;
                continue;
            }
            if self.product().task.is_finished() {
                return self.over();
            }
            if self.stage.lasted() > LIFE_MAX {
                return Err(format!("not completed after {LIFE_MAX:?}"));
            }
            self.attend()?;
            if self.world.until_reason.is_some_and(|code| self.product().gives(code)) {
                self.keep_journal();
                return Ok(self.ended());
            }
            if self.cut_over || !self.product().is_following() {
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
            if since.elapsed() <= EVENT_EVERY {
                continue;
            }
            let level = judge::differences(&self.stage, &self.mercy()).is_empty();
            if level || since.elapsed() > LAG_MAX {
                if !level {
                    if self.world.prompt {
                        return Err(format!("the target lags {LAG_MAX:?} behind"));
                    }
                    self.stage.log("the target lags; the cutover comes all the same");
                }
                self.cut_over();
            }
        }
    }

    /// Does what only an operator can.
    fn attend(&mut self) -> Result<(), String> {
        if self.world.approves && self.product().gives("mass_deletion") {
            self.product().order(Order::ApproveDeletions);
        }
        let Some((code, reason)) = self.product().held() else {
            // The archive's login alone holds nothing.
            if self.product().gives("credentials_rejected") && self.stage.login_refused() {
                self.product().order(Order::Retry);
            }
            return Ok(());
        };
        match code.as_str() {
            // Deliberate: from the cutover on the state is not guessed.
            "state_lost" if self.lost && self.cut_over => {
                self.product().order(Order::ApproveLate);
                Ok(())
            }
            "credentials_rejected" if self.stage.login_refused() => {
                self.product().order(Order::Retry);
                Ok(())
            }
            _ => Err(format!("the account is held: {reason}")),
        }
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
        let now = Timestamp::from_second(self.stage.hands().wall).expect("a date");
        self.enrollment.cutover = Some(now);
        self.product().order(Order::Replace(Arc::new(self.enrollment.clone())));
    }

    async fn revive(&mut self, death: Death) {
        self.keep_journal();
        self.image = death.image;
        let loses = matches!(death.memory, Memory::Deleted | Memory::Older(_));
        (self.lost, self.lost_again) = (self.lost || loses, self.lost_again || self.lost && loses);
        // What else the dead one had begun ends when the runtime comes to it.
        while !self.product().task.is_finished() {
            tokio::task::yield_now().await;
        }
        // Its committer ends with it.
        self.product = None;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        if matches!(death.memory, Memory::Older(_)) {
            // Nobody puts back a directory faster; what comes later still is not promised.
            tokio::time::sleep(self.world.wishes.in_doubt_wait).await;
        }
        self.start();
    }

    /// The product has returned: it must have completed, and the copy must be exact.
    fn over(&mut self) -> Result<Ended, String> {
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
        if self.said("copy_vanished") && !self.world.may_hide_copies() {
            return Err("a copy is said to have vanished, but none has".to_owned());
        }
        let links = self.product().links().map_err(|error| error.to_string())?;
        let renumbered = |event: &Event| matches!(event, Event::Renumber { .. });
        let renumbered = self.world.plan.events.values().flatten().any(renumbered);
        if let Some(false_link) = judge::false_links(&self.stage, &links).filter(|_| !renumbered) {
            return Err(false_link);
        }
        let commands = self.stage.commands(Side::Source) + self.stage.commands(Side::Target);
        let hours = 1 + self.stage.lasted().as_secs() as usize / 3600;
        if commands > COMMANDS_AN_HOUR_MAX * hours {
            return Err(format!("{commands} commands in less than {hours} hours"));
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
            lasted: self.stage.lasted(),
            awaits: self.stage.awaits(),
            connections: [
                self.stage.connections(Side::Source),
                self.stage.connections(Side::Target),
            ],
            log: self.stage.logged(),
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

    /// Was such an event told?
    fn said(&self, name: &str) -> bool {
        let recorded = self.product().journal.recorded();
        self.events.contains(&name) || recorded.iter().any(|entry| entry.event.name() == name)
    }

    fn mercy(&self) -> Mercy {
        let said = |name: &str| self.said(name);
        let waits = !self.world.wishes.folders.after_cutover.is_empty();
        let means_nothing = [Habit::Courier, Habit::Next(Next::Zero)]
            .iter()
            .any(|habit| self.world.source.does(*habit));
        let leftovers = self.lost
            // What a folder that waits may hold keeps its copy, of whatever number it was.
            || waits && (said("uidvalidity_changed") || means_nothing)
            // Nobody tells who has selected it just before.
            || self.world.renumbers(Side::Target)
            || !self.world.target.has("UIDPLUS")
            || !self.world.copies.is_empty()
            || said("removals_suspended")
            || said("removals_lapsed");
        let refused = self.world.refused.and_then(|_| self.product().listed().ok());
        let listed = refused.unwrap_or_default();
        // What is adopted after the seal keeps the flags its owner gave it.
        let is_archived = |(folder, _): &(String, Post)| folder == ARCHIVE;
        let adopts = waits && self.world.copies.iter().any(is_archived);
        let plan = &self.world.plan;
        let late = plan.crashes.iter().filter(|crash| matches!(crash.moment, Moment::Late(_)));
        let late = late.count() + plan.late.len();
        let twins = if self.lost_again { late } else { 0 };
        Mercy { leftovers, twins, flags: adopts || self.lost && self.cut_over, listed }
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
        let World { source, target, plan, .. } = &self.world;
        let _ = writeln!(text, "what differs: {what}\nsource: {source:?}\ntarget: {target:?}");
        let _ = writeln!(text, "plan: {plan:?}");
        text
    }
}
