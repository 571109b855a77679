//! The same story between servers of every make, each as source and as target: a first copy with
//! odd folders and odd messages; new mail, flags, moves, a new folder, a deletion; the cutover.
//!
//! What a target alters or refuses by its nature is told by that target: a raw client appends the
//! same octets to another account of it. Every message has to lie at the target as that one does,
//! and what is refused or altered has to be listed once, in the server's words.
//!
//! Dovecot runs as everywhere in these tests (`support/dovecot.rs`). Cyrus and Courier come from
//! Debian's packages, which exclude each other: `support/install.sh` unpacks them, `support/box.sh`
//! gives a server a root file system in which they are installed, `support/cyrus.sh` and
//! `support/courier.sh` configure and start it, within a second.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use support::boxed;
use support::compare::{Message, assert_unchanged, differences};
use support::daemon::{Account, Site};
use support::dovecot::{Dovecot, Layout};
use support::mail;
use support::poll;
use support::server::{Server, Setup};
use support::stage::Stage;

/// Where the odd messages lie, as users see it.
const ODD: &str = "Strane";
/// An account of the target that only the raw client uses.
const ORACLE: &str = "oracolo";
const EMPTY: &str = "an empty message cannot be appended";

#[test]
fn from_dovecot_maildir_to_cyrus() {
    let story = Story::tell(Dovecot::of_layout(Layout::Plain), boxed::cyrus());
    story.assert_refused(&[
        ("header cut in mid-line", "Message contains invalid header"),
        ("message of IMAP commands", "Message contains invalid header"),
        ("message of one octet", "Message contains invalid header"),
        ("not a header", "Message contains invalid header"),
        ("delivered: empty", EMPTY),
    ]);
    let munged = ["8-bit header, Latin-1", "8-bit header, UTF-8", "NUL in the header"];
    assert_eq!(story.altered, munged, "Dovecot shows a NUL as 0x80, which Cyrus makes an X");
}

#[test]
fn from_cyrus_to_dovecot_mdbox() {
    let story = Story::tell(boxed::cyrus(), Dovecot::of_layout(Layout::Mdbox));
    story.assert_refused(&[]);
    assert_eq!(story.altered, ["CR CR LF", "ends in CR"]);
}

#[test]
fn from_dovecot_nested_to_courier() {
    let story = Story::tell(Dovecot::of_layout(Layout::Nested), boxed::courier());
    story.assert_refused(&[]);
    let unended = ["no newline at the end", "header cut in mid-line", "body of one octet"];
    let cr = ["message of one octet", "bare CR", "ends in CR"];
    let delivered = ["delivered: empty", "delivered: CR and LF"];
    assert_eq!(story.altered, [&unended[..], &cr, &delivered].concat());
}

#[test]
fn from_courier_to_dovecot_nested() {
    let story = Story::tell(boxed::courier(), Dovecot::of_layout(Layout::Nested));
    story.assert_refused(&[("delivered: empty", EMPTY)]);
    let nul = ["NUL in the body", "NUL in the header", "delivered: NUL"];
    assert_eq!(story.altered, [&nul[..], &["delivered: CR and LF"]].concat());
}

#[test]
fn from_cyrus_to_courier() {
    let story = Story::tell(boxed::cyrus_beside(), boxed::courier());
    story.assert_refused(&[]);
    let unended = ["no newline at the end", "body of one octet"];
    assert_eq!(story.altered, [&unended[..], &["bare CR", "CR CR LF", "ends in CR"]].concat());
}

#[test]
fn from_courier_to_strict_cyrus() {
    let strict = boxed::cyrus_beside().option("reject8bit: yes");
    let story = Story::tell(boxed::courier(), strict);
    story.assert_refused(&[
        ("8-bit header, Latin-1", "Message contains non-ASCII characters in headers"),
        ("8-bit header, UTF-8", "Message contains non-ASCII characters in headers"),
        ("NUL in the body", "Message contains NUL characters"),
        ("NUL in the header", "Message contains NUL characters"),
        ("delivered: NUL", "Message contains NUL characters"),
        ("message of IMAP commands", "Message contains invalid header"),
        ("message of one octet", "Message contains invalid header"),
        ("not a header", "Message contains invalid header"),
        ("delivered: empty", EMPTY),
    ]);
    assert_eq!(story.altered, Vec::<String>::new());
}

#[test]
fn from_dovecot_mdbox_to_dovecot_maildir() {
    let story = Story::tell(Dovecot::of_layout(Layout::Mdbox), Dovecot::of_layout(Layout::Plain));
    story.assert_refused(&[]);
    assert_eq!(story.altered, Vec::<String>::new());
}

#[test]
fn what_cyrus_alters_is_not_doubled_by_a_lost_state() {
    lose_state(Dovecot::of_layout(Layout::Plain), boxed::cyrus());
}

#[test]
fn what_courier_alters_is_not_doubled_by_a_lost_state() {
    lose_state(boxed::cyrus(), boxed::courier());
}

/// Courier's EXAMINE gives UIDs for itself: what came since the last SELECT is numbered in the
/// order of its files, every time, and where nobody has ever selected there is no UIDVALIDITY.
#[test]
fn mail_that_courier_numbers_anew_is_copied_once() {
    let account = Account::new("mai.letta");
    let source = boxed::courier().user(&account.address, &account.source_password).start();
    let target = Dovecot::legalmail().user(&account.target_user, &account.target_password).start();
    let stage = Stage { account, source, target };
    stage.at_source().create("INBOX.Ricevute");
    stage.plant("INBOX.Usata", &mail::pec(1, 5));
    let folders = ["INBOX", "Ricevute", "Usata"];
    let deliver = |number: u64| {
        for folder in folders {
            let octets = format!("Subject: {folder} {number}\n\n{}\n", "x".repeat(number as usize));
            let file = format!("{number}.{folder}");
            assert!(stage.source.deliver(stage.address(), folder, &file, octets.as_bytes()));
        }
    };
    [50, 60, 70].into_iter().for_each(deliver);
    let site = stage.plan().write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    stage.wait_exact("the first copy", 60);
    // Its file's name comes first, and so does its UID.
    deliver(40);
    stage.wait_exact("mail before other mail", 60);
    // As POP3 does.
    for folder in folders {
        let folder = stage.source.maildir(stage.address(), folder).expect("a Maildir");
        let mut files = fs::read_dir(folder.join("cur")).expect("listed").map_while(Result::ok);
        let file = files.find(|file| file.file_name().as_encoded_bytes().starts_with(b"50."));
        fs::remove_file(file.expect("delivered").path()).expect("removed");
    }
    deliver(80);
    let missing = || {
        let wrong = stage.differences();
        wrong
            .into_iter()
            .filter(|line| !line.contains("0 at the source, 1 at the target"))
            .collect()
    };
    let mut wrong: Vec<String> = Vec::new();
    let exact = poll(Duration::from_secs(60), || {
        wrong = missing();
        wrong.is_empty().then_some(())
    });
    assert!(exact.is_some(), "after POP3:\n  {}\n{}", wrong.join("\n  "), site.log());
    // The copy of what vanished stays: nothing tells any more whose copy it is.
    assert_eq!(stage.differences().len(), folders.len(), "{:?}", stage.differences());
}

/// What became of the odd messages, by what is odd about them.
#[derive(Debug)]
struct Story {
    /// In the target's words.
    refused: BTreeMap<String, String>,
    altered: Vec<String>,
}

impl Story {
    /// Tells the whole story between two servers, and fails where it does not go as it should.
    fn tell(source: impl Setup, target: impl Setup) -> Story {
        let mut scene = Scene::new(source, target);
        let site = scene.stage.plan().daemon("exit_when_completed = true").write();
        let mut daemon = site.start();
        site.enroll(&scene.stage.account);
        daemon.wait_following(scene.stage.address());
        scene.wait_told(&site, "the first copy");
        let status = daemon.account(scene.stage.address()).expect("there");
        scene.assert_counted(&status);
        let story = scene.story();
        let user = &scene.stage.account.target_user;
        let tried = scene.stage.target.appends_refused(user);
        assert!(tried <= 10 * story.refused.len(), "{tried} for {story:?}");

        scene.live();
        scene.wait_told(&site, "new mail and flags");
        scene.tidy_up();
        let last = scene.stage.source_snapshot();
        let cutover = SystemTime::now() + Duration::from_secs(2);
        let file = format!("{}.toml", scene.stage.address());
        site.drop_file(&file, &scene.stage.account.cut_over_at(cutover));
        daemon.wait_completed(150);
        let wrong = scene.differences(&site);
        assert!(wrong.is_empty(), "after the cutover:\n  {}\n{}", wrong.join("\n  "), site.log());
        assert_unchanged(&last, &scene.stage.source_snapshot());
        let user = &scene.stage.account.target_user;
        assert_eq!(scene.stage.target.appends_refused(user), tried, "refused ones are tried again");
        story
    }

    fn assert_refused(&self, expected: &[(&str, &str)]) {
        let expected = expected.iter().map(|(what, words)| (what.to_string(), words.to_string()));
        assert_eq!(self.refused, expected.collect());
    }
}

/// Takes the daemon's memory away between two passes.
fn lose_state(source: impl Setup, target: impl Setup) {
    let scene = Scene::new(source, target);
    let site = scene.stage.plan().write();
    let mut daemon = site.start();
    site.enroll(&scene.stage.account);
    daemon.wait_following(scene.stage.address());
    daemon.kill9();
    site.lose_state();
    let there = scene.stage.target_snapshot();
    let mut daemon = site.start();
    daemon.wait_following(scene.stage.address());
    let doubled = differences(&there, &scene.stage.target_snapshot(), str::to_owned);
    assert!(doubled.is_empty(), "{}\n{}", doubled.join("\n  "), site.log());
}

/// A source full of mail, and what the target makes of the odd ones.
struct Scene<S, T> {
    stage: Stage<S, T>,
    /// What is odd about the odd messages, by their UIDs at the source.
    planted: BTreeMap<u32, String>,
    fates: BTreeMap<u32, Fate>,
    /// The odd messages that were removed from the source.
    gone: BTreeSet<u32>,
}

/// What the target makes of a message, whoever brings it.
enum Fate {
    Kept(Message),
    Altered(Message),
    /// In its words.
    Refused(String),
}

impl Fate {
    fn copy(&self) -> Option<&Message> {
        match self {
            Fate::Kept(copy) | Fate::Altered(copy) => Some(copy),
            Fate::Refused(_) => None,
        }
    }
}

impl<S: Server, T: Server> Scene<S, T> {
    fn new<A, B>(source: A, target: B) -> Scene<S, T>
    where
        A: Setup<Running = S>,
        B: Setup<Running = T>,
    {
        let account = Account::new("storia");
        let source = source.user(&account.address, &account.source_password).start();
        let target = target.user(&account.target_user, &account.target_password);
        let target = target.user(ORACLE, "segreto").start();
        let stage = Stage { account, source, target };
        let (planted, fates, gone) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut scene = Scene { stage, planted, fates, gone };
        scene.plant();
        scene.ask_for_fates();
        scene
    }

    /// The source's name of a folder.
    fn name(&self, shown: &str) -> String {
        self.stage.source.names().of(shown)
    }

    fn plant(&mut self) {
        let stage = &self.stage;
        stage.plant("INBOX", &mail::pec(1, 20));
        stage.plant(&self.name("Clienti/Rossi & Figli"), &mail::pec(2, 8));
        stage.plant(&self.name("Clienti/Perché così"), &mail::pec(3, 5));
        stage.plant(&self.name("Vuota"), &[]);
        let (mut owner, odd) = (stage.at_source(), self.name(ODD));
        owner.create(&odd);
        for mail in mail::odd().into_iter().chain(mail::altered_by_dovecot()) {
            // A message that this source refuses is never there to be copied.
            let uid = owner.attempt_append(&odd, &mail.flags, &mail.date, &mail.octets);
            self.planted.extend(uid.map(|uid| (uid, mail.what)));
        }
        // What no APPEND brings in, a delivery agent may.
        for (number, mail) in mail::delivered().into_iter().enumerate() {
            let file = format!("180000000{number}.box");
            if stage.source.deliver(stage.address(), ODD, &file, &mail.octets) {
                let last = owner.fetch_all(&odd).pop().expect("just delivered");
                assert!(self.planted.insert(last.uid, mail.what).is_none());
            }
        }
    }

    /// Has a raw client append the odd messages, as the source shows them.
    fn ask_for_fates(&mut self) {
        let odd = self.stage.at_source().fetch_all(&self.name(ODD));
        let mut oracle = self.stage.target.imap(ORACLE);
        let mut answers = Vec::new();
        for message in &odd {
            let flags = message.flags.iter().map(String::as_str);
            let flags: Vec<&str> = flags.filter(|flag| *flag != "\\Recent").collect();
            let date = jiff::Timestamp::from_second(message.instant).expect("a date");
            let date = date.strftime("%d-%b-%Y %H:%M:%S +0000").to_string();
            let (flags, octets) = (flags.join(" "), &message.octets);
            answers.push(oracle.attempt_append("INBOX", &flags, &date, octets));
        }
        let there = oracle.fetch_all("INBOX");
        let there: BTreeMap<u32, Message> =
            there.iter().map(|message| (message.uid, Message::of(message))).collect();
        for (message, answer) in odd.iter().zip(answers) {
            let source = Message::of(message);
            let fate = match answer.map(|uid| there[&uid].clone()) {
                // The one message that is not even tried where MULTIAPPEND is offered.
                Err(_) if message.octets.is_empty() => Fate::Refused(EMPTY.to_owned()),
                Err(words) => Fate::Refused(words.trim_start_matches("NO ").trim().to_owned()),
                Ok(copy) if is_exact(&copy, &source) => Fate::Kept(copy),
                Ok(copy) => Fate::Altered(copy),
            };
            self.fates.insert(message.uid, fate);
        }
    }

    fn story(&self) -> Story {
        let mut story = Story { refused: BTreeMap::new(), altered: Vec::new() };
        for (uid, fate) in &self.fates {
            let what = self.planted[uid].clone();
            match fate {
                Fate::Kept(_) => {}
                Fate::Altered(_) => story.altered.push(what),
                Fate::Refused(words) => drop(story.refused.insert(what, words.clone())),
            }
        }
        story
    }

    /// What its owner and the world do to an account.
    fn live(&mut self) {
        let mut owner = self.stage.at_source();
        self.stage.plant("INBOX", &mail::pec(10, 3));
        owner.store("INBOX", "2", "+FLAGS", "\\Flagged $Forwarded");
        owner.store("INBOX", "3", "FLAGS", "");
        self.stage.plant(&self.name("Nuova/Dentro"), &mail::pec(11, 2));
        owner.store(&self.name(ODD), "1:*", "+FLAGS", "\\Answered");
        self.ask_for_fates();
    }

    /// Moves messages, and removes one that was copied as it is and one of each kind that was not:
    /// what a pass cannot tell from a listing that lacks something, before a minute is over.
    fn tidy_up(&mut self) {
        let kinds: [fn(&Fate) -> bool; 3] = [
            |fate| matches!(fate, Fate::Kept(_)),
            |fate| matches!(fate, Fate::Altered(_)),
            |fate| matches!(fate, Fate::Refused(_)),
        ];
        let first = |is: fn(&Fate) -> bool| self.fates.iter().find(|(_, fate)| is(fate));
        self.gone.extend(kinds.into_iter().filter_map(first).map(|(uid, _)| *uid));
        let gone: Vec<String> = self.gone.iter().map(u32::to_string).collect();
        let mut owner = self.stage.at_source();
        owner.move_messages("INBOX", "4:6", &self.name("Clienti/Rossi & Figli"));
        owner.expunge(&self.name(ODD), &gone.join(","));
        owner.expunge("INBOX", "8");
    }

    fn wait_told(&self, site: &Site, what: &str) {
        let mut wrong = Vec::new();
        let exact = poll(Duration::from_secs(60), || {
            // Looking at everything is work for the servers.
            std::thread::sleep(Duration::from_millis(400));
            wrong = self.differences(site);
            wrong.is_empty().then_some(())
        });
        assert!(exact.is_some(), "{what}:\n  {}\n{}", wrong.join("\n  "), site.log());
    }

    /// How the target and the journal differ from what the fates ask for.
    fn differences(&self, site: &Site) -> Vec<String> {
        let mut wanted = self.stage.source_snapshot();
        let odd = wanted.folders.get_mut(&self.name(ODD)).expect("planted");
        let here = self.fates.iter().filter(|(uid, _)| !self.gone.contains(uid));
        odd.messages = here.filter_map(|(_, fate)| fate.copy()).cloned().collect();
        let target = self.stage.target_snapshot();
        let mut wrong = differences(&wanted, &target, |name| self.stage.target_name(name));
        wrong.extend(self.untold(site, "message_refused", |fate| match fate {
            Fate::Refused(words) => Some(words),
            Fate::Kept(_) | Fate::Altered(_) => None,
        }));
        wrong.extend(self.untold(site, "message_altered", |fate| match fate {
            Fate::Altered(_) => Some("by the target: "),
            Fate::Kept(_) | Fate::Refused(_) => None,
        }));
        wrong
    }

    /// Odd messages without their one event, and events without their message.
    fn untold(
        &self,
        site: &Site,
        event: &str,
        words: impl Fn(&Fate) -> Option<&str>,
    ) -> Vec<String> {
        let mut wanted: BTreeMap<String, &str> = BTreeMap::new();
        for (uid, fate) in &self.fates {
            wanted.extend(words(fate).map(|words| (uid.to_string(), words)));
        }
        let mut wrong = Vec::new();
        for entry in site.events(event) {
            let text = |field: &str| entry[field].as_str().unwrap_or_default();
            let words = wanted.remove(text("PECSYNC_SOURCE_UID"));
            let told = words.is_some_and(|words| text("MESSAGE").contains(words));
            if !told || text("PECSYNC_FOLDER") != ODD {
                wrong.push(format!("{event} nobody asked for: {entry}"));
            }
        }
        let untold = wanted.iter().map(|(uid, words)| format!("no {event} of UID {uid}: {words}"));
        wrong.extend(untold);
        wrong
    }

    fn assert_counted(&self, status: &Value) {
        let count = |is: fn(&Fate) -> bool| self.fates.values().filter(|fate| is(fate)).count();
        let messages = &status["messages"];
        assert_eq!(messages["refused"], count(|fate| matches!(fate, Fate::Refused(_))), "{status}");
        assert_eq!(messages["altered"], count(|fate| matches!(fate, Fate::Altered(_))), "{status}");
    }
}

fn is_exact(copy: &Message, source: &Message) -> bool {
    (&copy.print.sha256, copy.print.instant) == (&source.print.sha256, source.print.instant)
}
