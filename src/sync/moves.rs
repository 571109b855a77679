//! Messages that turn up in another folder are moved at the target, where they can be.

use std::collections::{BTreeMap, HashMap};

use super::adopt::{self, Candidate};
use super::copy::Failure;
use super::doubt::intended;
use super::pass::{Absence, Look, Pass};
use super::resolve::of_link;
use crate::checkpoint::{Edit, Intent, IntentId, Known, Link, Phase, Seen};
use crate::journal::{Entry, Event};
use crate::words::{Flags, SystemFlags, Uid};

/// A message among the looks of a pass.
type Placed = (usize, Uid);

impl Pass<'_> {
    /// Finds moved messages by their bytes and moves their copies.
    pub async fn resolve_moves(&mut self, looks: &mut [Look]) -> Result<(), Failure> {
        if !self.may_change() || !looks.iter().any(|look| !look.missing.is_empty()) {
            return Ok(());
        }
        let (mut wants, haves) = self.movable(looks);
        let asked = adopt::questions(&wants, &haves);
        if asked.wants.is_empty() || !self.target.can_remove().await? {
            return Ok(());
        }
        for (at, look) in looks.iter_mut().enumerate() {
            let uids = asked.wants.iter().filter(|(of, _)| *of == at);
            let uids: Vec<Uid> = uids.map(|(_, uid)| *uid).collect();
            match self.source_digests(look.pair, &uids).await {
                Ok(digests) => {
                    for want in wants.iter_mut().filter(|want| want.key.0 == at) {
                        want.digests = digests.get(&want.key.1).copied().map(adopt::Known::All);
                    }
                }
                Err(failure) => self.tolerate(look, Err(failure))?,
            }
        }
        for want in &wants {
            let look = &looks[want.key.0];
            let asked = asked.wants.contains(&want.key);
            if asked && want.digests.is_none() && self.book.pairs[look.pair].deferred {
                self.kept.insert(want.instant);
            }
        }
        let mut groups: BTreeMap<(usize, usize), Vec<(Uid, Uid)>> = BTreeMap::new();
        for pair in adopt::pairs(&wants, &haves) {
            let ((to, new), (from, old)) = (pair.want, pair.have);
            groups.entry((from, to)).or_default().push((old, new));
        }
        for ((from, to), moved) in groups {
            let done = self.move_messages(looks, from, to, &moved).await;
            if done.is_err() {
                // What of it was done is not known: the next look finds it by its intent.
                let open = moved.iter().map(|(_, new)| *new);
                let to = &mut looks[to];
                to.blocked.extend(open.filter(|new| !to.known.contains_key(new)));
                to.unfinished = true;
            }
            // A folder that waits is no other's trouble.
            let waits = self.book.pairs[looks[to].pair].deferred;
            self.tolerate(&mut looks[if waits { to } else { from }], done)?;
        }
        Ok(())
    }

    fn movable(&self, looks: &[Look]) -> (Vec<Candidate<Placed>>, Vec<Candidate<Placed>>) {
        let mut wants = Vec::new();
        let mut haves = Vec::new();
        for (at, look) in looks.iter().enumerate().filter(|(_, look)| !look.troubled) {
            // Where a copy may be hidden still, a second one is not moved to it.
            let open = look.not_in_doubt().filter(|_| !look.all_blocked);
            wants.extend(open.map(|want| Candidate {
                key: (at, want.uid),
                size: want.size,
                instant: want.instant,
                flags: want.flags.clone(),
                digests: None,
            }));
            // A folder that is only hidden may hold a twin of what turns up elsewhere.
            if matches!(look.absence, Absence::Unknown | Absence::Suspected) {
                continue;
            }
            for uid in &look.missing {
                if let Some(Known::Linked(link)) = look.known.get(uid)
                    && self.is_ours(link)
                {
                    haves.push(of_link((at, *uid), link));
                }
            }
        }
        (wants, haves)
    }

    /// Moves copies from one target folder to another: (old source UID, new source UID).
    async fn move_messages(
        &mut self,
        looks: &mut [Look],
        from: usize,
        to: usize,
        moved: &[(Uid, Uid)],
    ) -> Result<(), Failure> {
        let from_name = self.book.pairs[looks[from].pair].target.clone();
        let to_name = self.book.pairs[looks[to].pair].target.clone();
        let mut links: Vec<(Uid, Link)> = Vec::new();
        let mut new_uids: HashMap<Uid, Uid> = HashMap::new();
        for (old, new) in moved {
            if let Some(Known::Linked(link)) = looks[from].known.get(old) {
                links.push((*old, link.clone()));
                new_uids.insert(*old, *new);
            }
        }
        let verified = self.target.verify(&from_name, &links).await?;
        self.lose_strangers(&mut looks[from], &verified).await?;
        let to_waits = self.book.pairs[looks[to].pair].deferred;
        links.retain(|(old, link)| {
            // An altered copy could not be found again by its bytes if the answer were lost: it
            // is copied anew, and then it goes.
            let findable = from_name == to_name || link.altered.is_none();
            let goes = findable && self.may_touch(&verified, looks[from].pair, *old, link);
            // Until that folder is copied it is the only one. The last pass waits for nobody who
            // does not show it, or whose owner has changed it.
            let waits = !findable || self.phase() < Phase::Draining;
            if !goes && to_waits && waits {
                self.kept.insert(link.instant);
            }
            goes
        });
        let uids: Vec<Uid> = links.iter().filter_map(|(_, link)| link.target_uid).collect();
        let expected = self.book.pairs[looks[to].pair].record.target_seen.unwrap_or_default();
        let intent = match from_name != to_name && !links.is_empty() {
            true => Some(self.intend(&looks[to], expected, &links, &new_uids).await?),
            false => None,
        };
        let mut places: HashMap<Uid, Uid> = HashMap::new();
        if from_name == to_name {
            places.extend(uids.iter().map(|uid| (*uid, *uid)));
        } else if let Some(told) = self.target.move_messages(&from_name, &uids, &to_name).await?
            && told.uid_validity == expected.uid_validity
        {
            places.extend(told.pairs);
        }
        let mut edits = Vec::new();
        for (old, mut link) in links {
            link.target_uid = link.target_uid.and_then(|uid| places.get(&uid).copied());
            let seen = verified.sure.get(&old).map(Flags::system).unwrap_or_default();
            if seen.contains(SystemFlags::DELETED) {
                // A removal that was cut short has left its mark, and it goes along.
                link.flags.insert("\\Deleted");
            }
            let new = new_uids[&old];
            self.note_move(looks, from, to, (old, new), &link);
            edits.push(Edit::DropKnown(looks[from].folder, old));
            edits.push(Edit::PutKnown(looks[to].folder, new, Known::Linked(link)));
        }
        edits.extend(intent.map(Edit::DropIntent));
        self.writer.commit(edits).await?;
        if from_name != to_name && !uids.is_empty() {
            self.book.pairs[looks[from].pair].expect_fewer(uids.len());
            let last = places.values().max().copied();
            let all_told = places.len() == uids.len();
            self.book.pairs[looks[to].pair].expect_more(uids.len(), last.filter(|_| all_told));
        }
        Ok(())
    }

    /// A move is intended first, like an APPEND: it may be done although its answer is lost. A
    /// COPY is done as often as it is asked for; a MOVE that is done twice is done once, but then
    /// nobody would know that the copy is ours.
    async fn intend(
        &mut self,
        to: &Look,
        expected: Seen,
        links: &[(Uid, Link)],
        new_uids: &HashMap<Uid, Uid>,
    ) -> Result<IntentId, Failure> {
        let intended = links.iter().map(|(old, link)| intended(new_uids[old], link));
        let intent = Intent {
            id: self.shared.store.new_intent_id()?,
            folder: to.folder,
            source_uid_validity: to.seen.uid_validity,
            target_uid_validity: expected.uid_validity,
            target_uid_next: expected.uid_next,
            written_at: self.shared.clock.now(),
            repeated: false,
            messages: intended.collect(),
        };
        let id = intent.id;
        self.writer.commit(vec![Edit::PutIntent(intent)]).await?;
        Ok(id)
    }

    fn note_move(
        &self,
        looks: &mut [Look],
        from: usize,
        to: usize,
        (old, new): (Uid, Uid),
        link: &Link,
    ) {
        looks[from].known.remove(&old);
        looks[from].missing.remove(&old);
        if let Some(want) = looks[to].wants.remove(&new)
            && want.flags != link.flags
        {
            looks[to].flags.push((new, want.flags));
        }
        looks[to].known.insert(new, Known::Linked(link.clone()));
        let pair = |at: usize| &self.book.pairs[looks[at].pair];
        let text = format!("moved from {}", pair(from).shown());
        let entry = Entry::new(Event::MessageMoved, text).folder(pair(to).shown());
        self.emit(entry.source_uid(new).target_uid(link.target_uid));
    }
}
