//! Whatever happens to the daemon and to what it remembers: no message lost, none twice.

mod support;

use std::fs;
use std::io::Write;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use support::daemon::Site;
use support::mail::{self, Mail, Random};
use support::stage::Stage;

const KILLS: u64 = 15;

#[test]
fn kills_with_lost_and_old_states_between_leave_an_exact_copy() {
    let seed = Random::fresh_seed();
    println!("seed {seed}");
    let mut random = Random::seeded(seed);
    let stage = Stage::new("indistruttibile");
    stage.plant("INBOX", &mail::pec(1, 400));
    stage.plant("INBOX", &mail::odd());
    stage.plant("INBOX.Inviata", &mail::pec(2, 200));
    stage.plant("INBOX.Clienti", &identical(20));
    let site = stage.plan().write();
    site.enroll(&stage.account);
    for round in 0..KILLS {
        let mut daemon = site.spawn();
        sleep(Duration::from_millis(150 + random.below(1500)));
        live_a_little(&stage, &mut random, round);
        sleep(Duration::from_millis(random.below(700)));
        daemon.kill9();
        meddle_with_state(&site, &mut random, round);
    }
    let mut daemon = site.start();
    daemon.wait_following(stage.address());
    stage.wait_exact(&format!("seed {seed}"), 120);
}

/// New mail and changed flags between two kills; deletions are another test's business.
fn live_a_little(stage: &Stage, random: &mut Random, round: u64) {
    stage.plant("INBOX", &mail::pec(100 + round, 2));
    stage.plant("INBOX.Clienti", &identical(1));
    let uid = (1 + random.below(300)).to_string();
    stage.at_source().store("INBOX", &uid, "+FLAGS", "\\Flagged");
}

/// Mostly leaves the state alone; now and then loses it or puts an older one back.
fn meddle_with_state(site: &Site, random: &mut Random, round: u64) {
    match random.below(6) {
        0 => site.lose_state(),
        1 if site.path("saved").exists() => site.restore_state("saved"),
        2 => site.save_state("saved"),
        _ if round == 3 => site.save_state("saved"),
        _ => {}
    }
}

fn identical(count: usize) -> Vec<Mail> {
    vec![Mail::new("identical", b"Subject: ricevuta\r\n\r\nuguale\r\n".to_vec()); count]
}

#[test]
fn a_lost_state_is_derived_again_from_the_servers() {
    let stage = Stage::new("smemorato");
    stage.plant("INBOX", &mail::pec(1, 50));
    stage.plant("INBOX.Clienti", &identical(5));
    let site = stage.plan().write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    daemon.kill9();
    site.lose_state();
    stage.plant("INBOX", &mail::pec(2, 5));
    let mut daemon = site.start();
    let account = daemon.wait_following(stage.address());
    stage.wait_exact("after the loss", 30);
    assert_eq!(account["messages"]["in_doubt"], 0, "{account}");
}

/// A segment of sled's log that lost its head gives back what was before, without an error.
fn lose_links_in_silence(site: &Site) {
    let db = sled::open(site.state().join("checkpoint")).expect("a store");
    let (chunk, _) = db.scan_prefix(b"k").next().expect("links").expect("read");
    db.remove(chunk).expect("removed");
    db.flush().expect("flushed");
}

#[test]
fn damaged_links_are_derived_again_from_the_servers() {
    let stage = Stage::new("danneggiato");
    stage.plant("INBOX", &mail::pec(1, 50));
    let site = stage.plan().write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    daemon.kill9();
    lose_links_in_silence(&site);
    stage.plant("INBOX", &mail::pec(2, 5));
    let daemon = site.start();
    let lost = site.wait_event("checkpoint_lost", 30);
    assert_eq!(lost["PECSYNC_ACCOUNT"], stage.address(), "{lost}");
    stage.wait_exact("after the damage", 60);
    site.expect_events("checkpoint_lost", 1);
    drop(daemon);
}

#[test]
fn damaged_links_of_an_account_past_its_cutover_are_the_operators() {
    let stage = Stage::new("dannotardo");
    stage.plant("INBOX", &mail::pec(1, 20));
    let cutover = Duration::from_secs(40);
    let (site, begun) = (stage.plan().cutover_in(cutover).write(), std::time::Instant::now());
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    daemon.kill9();
    lose_links_in_silence(&site);
    sleep((cutover + Duration::from_secs(2)).saturating_sub(begun.elapsed()));
    let mut daemon = site.start();
    daemon.wait_held(stage.address(), "state_lost");
    assert_eq!(stage.at_target().count("INBOX"), 20);
}

/// Whoever is reopened stays sealed, also where another cutover lies ahead: what its owner has done
/// at the target since is not undone because links were damaged.
#[test]
fn damaged_links_of_a_reopened_account_are_derived_again_when_somebody_says_so() {
    let stage = Stage::new("dannoriaperto");
    stage.plant("INBOX", &mail::pec(1, 6));
    let site = stage.plan().migration("cutover = \"2198-02-04\"").sweep_every("2s").write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    site.order(&["cutover", stage.address(), "--now"]);
    let is = |phase: &'static str| move |account: &serde_json::Value| account["phase"] == phase;
    daemon.wait("completed", stage.address(), 60, is("completed"));
    site.order(&["reopen", stage.address()]);
    daemon.wait("reopened", stage.address(), 60, is("archiving"));
    site.order(&["cutover", stage.address(), "--at", "2198-02-05"]);
    stage.at_target().expunge("INBOX", "1");
    daemon.kill9();
    lose_links_in_silence(&site);
    stage.plant("INBOX", &mail::pec(2, 2));
    let mut daemon = site.start();
    daemon.wait_held(stage.address(), "state_lost");
    assert_eq!(stage.at_target().count("INBOX"), 5);
    site.order(&["approve", stage.address(), "late"]);
    daemon.wait("archiving", stage.address(), 60, |account| {
        account["phase"] == "archiving" && account["condition"] == "ok"
    });
    let added = support::poll(Duration::from_secs(60), || {
        (stage.at_target().count("INBOX") == 8).then_some(())
    });
    assert!(added.is_some(), "what is missing is added: {}", site.log());
    // It only adds.
    stage.at_source().expunge("INBOX", "2");
    stage.plant("INBOX", &mail::pec(3, 1));
    let added = support::poll(Duration::from_secs(60), || {
        (stage.at_target().count("INBOX") == 9).then_some(())
    });
    assert!(added.is_some(), "{}", site.log());
}

#[test]
fn a_new_uidvalidity_at_either_side_doubles_nothing() {
    let mut stage = Stage::new("validita");
    stage.plant("INBOX", &mail::pec(1, 30));
    stage.plant("INBOX.Clienti", &identical(4));
    let site = stage.plan().write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    let before = stage.at_source().uid_status("INBOX").0;
    stage.source.stop();
    forget_uids(&stage.source.home(&stage.account.address).join("Maildir"));
    stage.source.restart();
    assert_ne!(stage.at_source().uid_status("INBOX").0, before, "UIDVALIDITY is the same");
    stage.plant("INBOX", &mail::pec(2, 5));
    stage.wait_exact("after a new UIDVALIDITY at the source", 120);
    // And what is deleted, moved and renamed with it, while nobody looks.
    drop(daemon);
    let mut owner = stage.at_source();
    owner.expunge("INBOX", "2");
    owner.move_messages("INBOX", "3", "INBOX.Clienti");
    owner.rename("INBOX.Clienti", "INBOX.Vecchi");
    owner.create("INBOX.Clienti");
    drop(owner);
    stage.source.stop();
    forget_uids(&stage.source.home(&stage.account.address).join("Maildir"));
    stage.source.restart();
    stage.plant("INBOX.Clienti", &mail::pec(3, 2));
    let _daemon = site.start();
    site.order(&["cutover", stage.address(), "--now"]);
    site.wait_event("account_completed", 200);
    stage.assert_exact();
    assert!(site.events("duplicate_suspected").is_empty());
}

/// Takes away where a Maildir keeps its UIDs; Dovecot then begins anew.
fn forget_uids(folder: &std::path::Path) {
    // UIDVALIDITY is a time in seconds.
    sleep(Duration::from_millis(1100));
    for entry in fs::read_dir(folder).expect("listed").map_while(Result::ok) {
        let name = entry.file_name().into_string().expect("ASCII");
        let keeps_uids = ["dovecot-uid", "dovecot.index"];
        if keeps_uids.iter().any(|prefix| name.starts_with(prefix)) {
            fs::remove_file(entry.path()).expect("removed");
        }
    }
}

#[test]
fn a_completed_account_is_left_alone_for_ever() {
    let stage = Stage::new("finito");
    stage.plant("INBOX", &mail::pec(1, 10));
    let site = stage.complete(stage.plan());
    let logins = stage.source.logins(stage.address());
    // Its owner works at the target now, and mail that nobody should look at comes to the source.
    stage.at_target().expunge("INBOX", "1");
    stage.plant("INBOX", &mail::pec(2, 3));
    let mut daemon = site.spawn();
    daemon.wait_ended_well(30);
    assert_eq!(stage.source.logins(stage.address()), logins, "{}", site.log());
    assert_eq!(stage.at_target().count("INBOX"), 9);
}

#[test]
fn a_second_daemon_on_the_same_state_refuses_to_start() {
    let stage = Stage::new("doppio");
    stage.plant("INBOX", &mail::pec(1, 10));
    let site = stage.plan().write();
    let mut first = site.start();
    site.enroll(&stage.account);
    first.wait_following(stage.address());
    let mut second = site.spawn();
    let status = second.wait_exit(15);
    assert!(!status.success(), "{status}");
    stage.plant("INBOX", &mail::pec(2, 2));
    stage.wait_exact("the first goes on", 30);
    assert!(first.status().is_some(), "the first still answers");
}

#[test]
fn sigterm_in_mid_copy_ends_within_ten_seconds_and_loses_nothing() {
    let stage = Stage::new("interrotto");
    stage.plant("INBOX", &mail::pec(1, 300));
    stage.plant("INBOX", &[mail::big(2, 20_000_000), mail::big(3, 20_000_000)]);
    stage.plant("INBOX", &mail::pec(4, 300));
    let site = stage.plan().write();
    let mut daemon = site.start();
    site.enroll(&stage.account);
    let begun = |account: &serde_json::Value| account["phase"] != "enrolled";
    daemon.wait("copying", stage.address(), 20, begun);
    sleep(Duration::from_millis(300));
    let (took, status) = daemon.terminate();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(status.success(), "{status}");
    assert!(!site.events("daemon_stopping").is_empty());
    let mut daemon = site.start();
    daemon.wait_following(stage.address());
    stage.wait_exact("after the restart", 60);
}

/// A file system of its own under the state directory, gone with this.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn at(dir: std::path::PathBuf) -> SmallDisk {
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs"]).arg(&dir);
        assert!(mounted.status().is_ok_and(|status| status.success()), "this test needs root");
        SmallDisk(dir)
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut ballast = fs::File::create(self.0.join("ballast")).unwrap();
        while ballast.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_said_and_copying_goes_on_once_there_is_room() {
    let stage = Stage::new("stretto");
    stage.plant("INBOX", &mail::pec(1, 40));
    let site = stage.plan().write();
    let disk = SmallDisk::at(site.state());
    let mut daemon = site.start();
    site.enroll(&stage.account);
    daemon.wait_following(stage.address());
    disk.fill();
    stage.plant("INBOX", &mail::pec(2, 60));
    daemon.wait("the full disk is said", stage.address(), 30, |account| {
        account["reason"]["code"] == "disk_full"
    });
    sleep(Duration::from_secs(5));
    stage.plant("INBOX", &mail::pec(3, 10));
    disk.make_room();
    daemon.wait("recovered", stage.address(), 60, |account| account["reason"].is_null());
    stage.wait_exact("after there was room", 30);
    assert_eq!(site.events("daemon_started").len(), 1, "without a restart");
    site.wait_event("account_recovered", 30);
}
