//! What others do meanwhile: mail comes, its owner and the servers change things.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::habits::Habit;
use super::judge::Print;
use super::model::{Account, Folder, Letter, Message};
use super::plan::Event;
use super::stage::{Half, Stage};

impl Stage {
    /// Something that neither the product nor a server does.
    pub fn happen(&self, event: Event) {
        self.log(format!("event: {event:?}"));
        let (source, target) = (&self.source, &self.target);
        match event {
            Event::Deliver { folder, post } => {
                deliver(source, &folder, post.letter());
                if source.traits.does(Habit::NumbersAnew) {
                    let wire = source.traits.wire(&folder);
                    source.with(|account| {
                        let folder = account.folders.get_mut(&wire);
                        folder.into_iter().for_each(|folder| folder.number_anew(self.began));
                    });
                }
            }
            Event::Foreign { folder, post } => {
                self.plant_stranger(&target.traits.wire(&folder), post.letter());
            }
            Event::Flag { folder, nth, flag, on } => {
                let wire = source.traits.wire(&folder);
                source.with(|account| {
                    let uid = nth_of(account, &wire, nth, |_| true);
                    account.store(&wire, &uid, &[flag], on);
                });
            }
            Event::Expunge { folder, nth } => {
                let wire = source.traits.wire(&folder);
                source.with(|account| {
                    let uid = nth_of(account, &wire, nth, |_| true);
                    self.take_away(account, &folder, &wire, &uid);
                });
            }
            Event::Move { from, nth, to } => {
                let (wire, to) = (source.traits.wire(&from), source.traits.wire(&to));
                source.with(|account| {
                    account.create(&to);
                    let uid = nth_of(account, &wire, nth, |_| true);
                    if self.waits(&to)
                        && let Some(folder) = account.folders.get(&wire)
                    {
                        let moved = uid.iter().filter_map(|uid| folder.message(*uid));
                        let mut put_off = self.put_off.lock().expect("no panic while held");
                        put_off.extend(moved.map(Print::of));
                    }
                    account.copy(&wire, &uid, &to);
                    self.take_away(account, &from, &wire, &uid);
                });
            }
            Event::Rename { from, to } => {
                let (old, new) = (source.traits.wire(&from), source.traits.wire(&to));
                source.with(|account| {
                    let messages = account.folders.get(&old).map(|folder| folder.messages.clone());
                    if account.rename(&old, &new) {
                        self.note_removed(&from, &messages.unwrap_or_default());
                    }
                });
            }
            Event::Renumber { side, folder } => {
                let half = self.half(side);
                let wire = half.traits.wire(&folder);
                half.with(|account| account.renumber(&wire));
            }
            Event::LoseIndex { side, folder } => {
                let half = self.half(side);
                let wire = half.traits.wire(&folder);
                half.with(|account| {
                    account.folders.get_mut(&wire).into_iter().for_each(Folder::lose_index);
                });
            }
            Event::Together(events) => events.into_iter().for_each(|event| self.happen(event)),
            Event::Jump { side, folder, by } => {
                let half = self.half(side);
                let wire = half.traits.wire(&folder);
                half.with(|account| {
                    let folder = account.folders.get_mut(&wire);
                    folder.into_iter().for_each(|folder| folder.next += by);
                });
            }
            Event::Fail { side, secs } => {
                // Once: two failures a minute apart would be two listings a minute apart.
                let until = Instant::now() + Duration::from_secs(secs);
                let mut failing = self.half(side).failing.lock().expect("no panic while held");
                failing.get_or_insert(until);
            }
            Event::Hide { side, folder, secs } => {
                let half = self.half(side);
                let until = Instant::now() + Duration::from_secs(secs);
                let hidden = Some((half.traits.wire(&folder), until));
                *half.hiding.lock().expect("no panic while held") = hidden;
            }
            Event::Freeze { side } => {
                let connections = self.connections(side);
                self.half(side).frozen.store(connections, Ordering::Relaxed);
            }
            Event::SetClock { secs } => {
                self.clock_set.fetch_add(secs, Ordering::Relaxed);
            }
            Event::OwnerFlags { folder, nth, flag, on } => {
                let wire = target.traits.wire(&folder);
                target.with(|account| {
                    let uid = nth_of(account, &wire, nth, |message| !message.foreign);
                    account.store(&wire, &uid, &[flag], on);
                });
            }
            Event::Stranger { folder } => {
                let wire = target.traits.wire(&folder);
                target.with(|account| {
                    account.folders.get_mut(&wire).into_iter().for_each(Folder::estrange);
                });
            }
            Event::Vanish { folder, nth } => {
                let wire = target.traits.wire(&folder);
                target.with(|account| {
                    let uid = nth_of(account, &wire, nth, |message| !message.foreign);
                    let lost = account.remove(&wire, &uid);
                    let mut vanished = self.vanished.lock().expect("no panic while held");
                    vanished.extend(lost.iter().map(Print::of));
                });
            }
        }
    }

    fn take_away(&self, account: &mut Account, folder: &str, wire: &str, uids: &[u32]) {
        let removed = account.remove(wire, uids);
        self.note_removed(folder, &removed);
    }
}

fn deliver(half: &Half, folder: &str, letter: Letter) {
    let wire = half.traits.wire(folder);
    half.with(|account| {
        account.create(&wire);
        account.append(&wire, vec![letter]);
    });
}

fn nth_of(account: &Account, wire: &str, nth: usize, fits: impl Fn(&Message) -> bool) -> Vec<u32> {
    let Some(folder) = account.folders.get(wire) else { return Vec::new() };
    let fitting: Vec<u32> =
        folder.messages.iter().filter(|message| fits(message)).map(|message| message.uid).collect();
    match fitting.len() {
        0 => Vec::new(),
        count => vec![fitting[nth % count]],
    }
}
