//! Doubts, adoptions and moves: copies that exist are found before anything is appended.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::adopt::{self, Candidate};
use super::copy::{Failure, link_of};
use super::pass::{Look, Pass, Scope, at_source, at_target};
use super::plan;
use crate::checkpoint::{Edit, Intended, Intent, Known, Link, Origin, Seen};
use crate::imap::{Error, HeaderSeen};
use crate::journal::{Entry, Event};
use crate::words::{Digests, Message, Uid};

/// A copy that some message may turn out to own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Have {
    /// At the target, explained by nothing.
    Unexplained(Uid),
    /// A copy whose message is not known, by target UID.
    Orphan(Uid),
    /// A link whose source message is missing from this folder, by source UID.
    Missing(Uid),
}

impl Pass<'_> {
    /// Looks at the target's folder where that is needed and pairs what it holds.
    pub async fn resolve_folder(&mut self, look: &mut Look) -> Result<(), Failure> {
        self.mark_fresh(look).await?;
        let pair = &self.book.pairs[look.pair];
        let needed = pair.look_at_target
            || pair.record.target_seen.is_none()
            || self.scope == Scope::Full
            || look.intents.iter().any(|intent| !intent.repeated || intent.messages.is_empty());
        if needed {
            self.look_at_target(look).await?;
            self.pair_unpaired(look).await?;
            self.resolve_intents(look).await?;
        }
        self.adopt_here(look).await
    }

    /// A folder that the checkpoint does not know may hold copies that an earlier life of ours is
    /// still getting stored: they are waited for before the first APPEND.
    async fn mark_fresh(&mut self, look: &mut Look) -> Result<(), Failure> {
        let pair = &self.book.pairs[look.pair];
        if pair.record.target_seen.is_some() || !look.intents.is_empty() {
            return Ok(());
        }
        let name = pair.target.clone();
        let selected = self.target.select(&name).await?;
        let fresh = Intent {
            id: self.shared.store.new_intent_id()?,
            folder: look.folder,
            source_uid_validity: look.seen.uid_validity,
            target_uid_validity: selected.uid_validity,
            target_uid_next: selected.uid_next.unwrap_or(1),
            written_at: self.shared.clock.now(),
            // An empty folder is only watched, not waited for.
            repeated: selected.exists == 0,
            messages: Vec::new(),
        };
        self.writer.commit(vec![Edit::PutIntent(fresh.clone())]).await?;
        look.intents.push(fresh);
        Ok(())
    }

    /// Lists the target's folder and compares it with the links.
    async fn look_at_target(&mut self, look: &mut Look) -> Result<(), Failure> {
        let name = self.book.pairs[look.pair].target.clone();
        let selected = self.target.select(&name).await?;
        let session = self.target.session().await?;
        let first = Uid::new(1).expect("1 is a UID");
        let listing = session.list_messages(first).await.map_err(at_target)?;
        let exists = session.selected().map_or(selected.exists, |selected| selected.exists);
        if listing.len() != exists as usize {
            let text = format!("{} of {exists} messages were listed", listing.len());
            return Err(at_target(Error::Protocol(text)));
        }
        let before = self.book.pairs[look.pair].record.target_seen;
        if before.is_some_and(|seen| seen.uid_validity != selected.uid_validity) {
            self.unpair(look).await?;
        }
        let others = self.explained_by_others(look.pair)?;
        let diff = plan::target_diff(&look.known, &look.orphans, &others, &listing);
        let next = listing.last().map_or(1, |message| message.uid.get().saturating_add(1));
        let pair = &mut self.book.pairs[look.pair];
        pair.permanent = Some(selected.permanent_flags.clone());
        pair.record.target_seen = Some(Seen {
            uid_validity: selected.uid_validity,
            uid_next: selected.uid_next.unwrap_or(0).max(next),
            messages: exists,
            highest_modseq: selected.highest_modseq.unwrap_or_default(),
        });
        pair.look_at_target = false;
        look.vanished = diff.vanished;
        look.unexplained = diff.unexplained;
        look.listing = Some(listing.into_iter().map(|message| (message.uid, message)).collect());
        Ok(())
    }

    /// The target's UIDs mean nothing any more: its copies are paired anew.
    async fn unpair(&mut self, look: &mut Look) -> Result<(), Failure> {
        let mut edits = Vec::new();
        for (uid, known) in &mut look.known {
            if let Known::Linked(link) = known {
                link.target_uid = None;
                edits.push(Edit::PutKnown(look.folder, *uid, known.clone()));
            }
        }
        for orphan in look.orphans.drain(..) {
            edits.push(Edit::DropOrphan(look.folder, orphan.target_uid));
        }
        self.writer.commit(edits).await?;
        let shown = self.book.pairs[look.pair].shown().to_owned();
        let said = "UIDVALIDITY changed at the target; copies are paired anew by content";
        self.emit(Entry::new(Event::UidvalidityChanged, said).folder(&shown));
        Ok(())
    }

    /// Target UIDs that belong to other source folders with the same target.
    fn explained_by_others(&self, at: usize) -> Result<BTreeSet<Uid>, Failure> {
        let mut explained = BTreeSet::new();
        let target = &self.book.pairs[at].target;
        for (other, pair) in self.book.pairs.iter().enumerate() {
            if other == at || pair.target != *target {
                continue;
            }
            for (_, known) in self.shared.store.known(pair.record.id)? {
                if let Known::Linked(Link { target_uid: Some(uid), .. }) = known {
                    explained.insert(uid);
                }
            }
            let orphans = self.shared.store.orphans(pair.record.id)?;
            explained.extend(orphans.iter().map(|orphan| orphan.target_uid));
        }
        Ok(explained)
    }

    /// Links whose copy's UID the target did not tell find it by content.
    async fn pair_unpaired(&mut self, look: &mut Look) -> Result<(), Failure> {
        let unpaired = plan::links(&look.known).filter(|(_, link)| link.target_uid.is_none());
        let wants: Vec<Candidate<Uid>> = unpaired.map(|(uid, link)| of_link(uid, link)).collect();
        if wants.is_empty() {
            return Ok(());
        }
        let found = self.match_unexplained(look, &wants, 0).await?;
        let mut edits = Vec::new();
        for (uid, target_uid) in &found {
            let Some(Known::Linked(link)) = look.known.get_mut(uid) else { continue };
            (link.target_uid, link.verified) = (Some(*target_uid), true);
            edits.push(Edit::PutKnown(look.folder, *uid, Known::Linked(link.clone())));
        }
        let lost = wants.iter().map(|want| want.key);
        look.vanished.extend(lost.filter(|uid| !found.contains_key(uid)));
        self.writer.commit(edits).await?;
        Ok(())
    }

    /// Downloads the unexplained copies that may be one of `wants` and pairs them by their bytes.
    /// Only copies with a UID of at least `from` count. What is paired is explained.
    async fn match_unexplained(
        &mut self,
        look: &mut Look,
        wants: &[Candidate<Uid>],
        from: u32,
    ) -> Result<HashMap<Uid, Uid>, Failure> {
        let eligible = look.unexplained.iter().filter(|message| message.uid.get() >= from);
        let mut haves: Vec<Candidate<Uid>> = eligible.map(of_message).collect();
        let asked = adopt::questions(wants, &haves);
        let digests = self.target_digests(look.pair, &asked.haves).await?;
        answer(&mut haves, &digests);
        let pairs = adopt::pairs(wants, &haves);
        let found: HashMap<Uid, Uid> =
            pairs.into_iter().map(|pair| (pair.want, pair.have)).collect();
        let explained: BTreeSet<Uid> = found.values().copied().collect();
        look.unexplained.retain(|message| !explained.contains(&message.uid));
        Ok(found)
    }

    pub async fn target_digests(
        &mut self,
        at: usize,
        uids: &[Uid],
    ) -> Result<BTreeMap<Uid, Digests>, Failure> {
        if uids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let name = self.book.pairs[at].target.clone();
        self.target.select(&name).await?;
        let digests = self.target.session().await?.digests(uids).await.map_err(at_target)?;
        Ok(digests.into_iter().collect())
    }

    async fn source_digests(
        &mut self,
        at: usize,
        uids: &[Uid],
    ) -> Result<BTreeMap<Uid, Digests>, Failure> {
        if uids.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.examine(at).await?;
        let digests = self.source.digests(uids).await.map_err(at_source)?;
        Ok(digests.into_iter().collect())
    }

    /// APPENDs whose answer never came: found copies are links, the others wait, and late twins
    /// of what was appended anew are removed.
    async fn resolve_intents(&mut self, look: &mut Look) -> Result<(), Failure> {
        for mut intent in std::mem::take(&mut look.intents) {
            let target = self.book.pairs[look.pair].record.target_seen.unwrap_or_default();
            let comparable = intent.target_uid_validity == target.uid_validity
                && intent.source_uid_validity == look.seen.uid_validity;
            let mut left = comparable.then(Vec::new);
            if comparable {
                left = Some(self.find_intended(look, &intent).await?);
            }
            let waited = self.waited(&intent);
            let all_found = left.as_ref().is_some_and(Vec::is_empty) && !intent.messages.is_empty();
            if all_found && !intent.repeated {
                self.writer.commit(vec![Edit::DropIntent(intent.id)]).await?;
                continue;
            }
            if intent.repeated {
                if comparable {
                    self.remove_surplus(look, &intent).await?;
                }
                if waited && (intent.messages.is_empty() || !comparable) {
                    self.writer.commit(vec![Edit::DropIntent(intent.id)]).await?;
                    continue;
                }
                if !waited {
                    self.due_at(Instant::now() + self.left_to_wait(&intent));
                }
                look.intents.push(intent);
                continue;
            }
            if waited {
                // Looked for, waited for, looked for again: now it may be appended anew.
                if intent.messages.is_empty() || !comparable {
                    self.writer.commit(vec![Edit::DropIntent(intent.id)]).await?;
                } else {
                    intent.repeated = true;
                    self.writer.commit(vec![Edit::PutIntent(intent.clone())]).await?;
                    look.intents.push(intent);
                }
                continue;
            }
            match left {
                Some(left) if !intent.messages.is_empty() => {
                    self.say_in_doubt(look, &intent, left.len());
                    look.blocked.extend(left);
                }
                _ => look.all_blocked = true,
            }
            look.unfinished = true;
            self.due_at(Instant::now() + self.left_to_wait(&intent));
            look.intents.push(intent);
        }
        Ok(())
    }

    fn say_in_doubt(&mut self, look: &Look, intent: &Intent, left: usize) {
        if !self.book.learned.said_in_doubt.insert(intent.id) {
            return;
        }
        let shown = self.book.pairs[look.pair].shown();
        let text = format!(
            "the answer to an APPEND of {} messages was lost; {left} are not at the target yet \
             and wait before they are appended again",
            intent.messages.len()
        );
        self.emit(Entry::new(Event::AppendInDoubt, text).folder(shown));
    }

    fn waited(&self, intent: &Intent) -> bool {
        self.left_to_wait(intent).is_zero()
    }

    /// By the wall clock; one that was set back makes the wait start anew, never end early.
    fn left_to_wait(&self, intent: &Intent) -> Duration {
        let wait = self.in_doubt_wait();
        let elapsed = self.shared.clock.now() - intent.written_at;
        match u64::try_from(elapsed) {
            Ok(elapsed) => wait.saturating_sub(Duration::from_secs(elapsed)),
            Err(_) => wait,
        }
    }

    /// Links the intended messages that are at the target; returns the source UIDs that are not.
    async fn find_intended(
        &mut self,
        look: &mut Look,
        intent: &Intent,
    ) -> Result<Vec<Uid>, Failure> {
        let unlinked = |intended: &&Intended| {
            !matches!(look.known.get(&intended.source_uid), Some(Known::Linked(_)))
        };
        let open: Vec<&Intended> = intent.messages.iter().filter(unlinked).collect();
        let wants: Vec<Candidate<Uid>> =
            open.iter().map(|intended| of_intended(intended)).collect();
        if wants.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.match_unexplained(look, &wants, intent.target_uid_next).await?;
        let mut edits = Vec::new();
        let mut left = Vec::new();
        for intended in open {
            let uid = intended.source_uid;
            let Some(target_uid) = found.get(&uid) else {
                left.push(uid);
                continue;
            };
            let link = Link { verified: true, ..link_of(intended, Some(*target_uid)) };
            look.known.insert(uid, Known::Linked(link.clone()));
            edits.push(Edit::PutKnown(look.folder, uid, Known::Linked(link)));
        }
        for want in look.wants.extract_if(.., |want| found.contains_key(&want.uid)) {
            look.flags.push((want.uid, want.flags));
        }
        self.writer.commit(edits).await?;
        Ok(left)
    }

    /// Late twins: copies with a UID the doubted APPEND could have had, with the bytes of a
    /// message that has its copy already.
    async fn remove_surplus(&mut self, look: &mut Look, intent: &Intent) -> Result<(), Failure> {
        let ours: Vec<Candidate<Uid>> = if intent.messages.is_empty() {
            plan::links(&look.known).map(|(uid, link)| of_link(uid, link)).collect()
        } else {
            intent.messages.iter().map(of_intended).collect()
        };
        let from = intent.target_uid_next;
        let late: Vec<Message> = look
            .unexplained
            .iter()
            .filter(|message| message.uid.get() >= from)
            .filter(|message| ours.iter().any(|our| our.instant == message.instant))
            .cloned()
            .collect();
        if late.is_empty() || ours.is_empty() {
            return Ok(());
        }
        let uids: Vec<Uid> = late.iter().map(|message| message.uid).collect();
        let digests = self.target_digests(look.pair, &uids).await?;
        let is_twin = |digests: &Digests| {
            ours.iter().any(|our| our.digests.is_some_and(|known| known.sha256() == digests.sha256))
        };
        // A message that still waits for its copy owns it before it is a surplus.
        let wanted = |uid: &Uid| {
            let digests = &digests[uid];
            look.wants.iter().any(|want| want.size == digests.size)
        };
        let surplus: Vec<Uid> = digests
            .iter()
            .filter(|(uid, digests)| is_twin(digests) && !wanted(uid))
            .map(|(uid, _)| *uid)
            .collect();
        let shown = self.book.pairs[look.pair].shown().to_owned();
        let removable = self.may_change() && self.target.can_remove().await?;
        for uid in &surplus {
            let said = if removable {
                "a late second copy of ours is removed"
            } else {
                "the target holds a second copy that we may not remove"
            };
            let entry = Entry::new(Event::DuplicateSuspected, said).folder(&shown);
            self.emit(entry.target_uid(Some(*uid)));
        }
        if removable && !surplus.is_empty() {
            let name = self.book.pairs[look.pair].target.clone();
            self.target.remove(&name, &surplus).await?;
            self.book.pairs[look.pair].expect_fewer(surplus.len());
        }
        look.unexplained.retain(|message| !surplus.contains(&message.uid));
        Ok(())
    }

    /// Finds copies in the same folder: at the target unexplained, orphaned, or of a message that
    /// is there no more.
    async fn adopt_here(&mut self, look: &mut Look) -> Result<(), Failure> {
        if look.wants.is_empty() {
            return Ok(());
        }
        let mut haves: Vec<Candidate<Have>> = Vec::new();
        haves.extend(look.unexplained.iter().map(|message| Candidate {
            key: Have::Unexplained(message.uid),
            size: message.size,
            instant: message.instant,
            digests: None,
        }));
        for orphan in &look.orphans {
            haves.push(of_link(Have::Orphan(orphan.target_uid), &orphan.link));
        }
        for uid in &look.missing {
            if let Some(Known::Linked(link)) = look.known.get(uid) {
                haves.push(of_link(Have::Missing(*uid), link));
            }
        }
        let mut wants: Vec<Candidate<Uid>> = look.wants.iter().map(of_message).collect();
        let asked = adopt::questions(&wants, &haves);
        if asked.wants.is_empty() {
            return Ok(());
        }
        let at_source = self.source_digests(look.pair, &asked.wants).await?;
        answer(&mut wants, &at_source);
        let unexplained: Vec<Uid> = asked
            .haves
            .iter()
            .filter_map(|have| if let Have::Unexplained(uid) = have { Some(*uid) } else { None })
            .collect();
        let at_target = self.target_digests(look.pair, &unexplained).await?;
        for have in &mut haves {
            if let Have::Unexplained(uid) = have.key {
                have.digests = at_target.get(&uid).copied().map(adopt::Known::All);
            }
        }
        let pairs = adopt::pairs(&wants, &haves);
        let mut edits = Vec::new();
        let by_uid: HashMap<Uid, Message> =
            look.wants.iter().map(|want| (want.uid, want.clone())).collect();
        for pair in &pairs {
            let want = &by_uid[&pair.want];
            let digests = at_source.get(&want.uid).expect("paired by its digests");
            let altered = pair.altered;
            let link = self.taken_link(look, want, pair.have, digests, altered, &mut edits);
            if link.flags != want.flags {
                look.flags.push((want.uid, want.flags.clone()));
            }
            look.known.insert(want.uid, Known::Linked(link.clone()));
            edits.push(Edit::PutKnown(look.folder, want.uid, Known::Linked(link)));
        }
        let paired: HashSet<Uid> = pairs.iter().map(|pair| pair.want).collect();
        look.wants.retain(|want| !paired.contains(&want.uid));
        self.writer.commit(edits).await?;
        if !paired.is_empty() {
            let text = format!("{} messages were found at the target by content", paired.len());
            let shown = self.book.pairs[look.pair].shown();
            self.emit(Entry::new(Event::StateRebuilt, text).folder(shown));
        }
        Ok(())
    }

    /// The link that results from pairing `want` with `have`.
    fn taken_link(
        &self,
        look: &mut Look,
        want: &Message,
        have: Have,
        digests: &Digests,
        altered: bool,
        edits: &mut Vec<Edit>,
    ) -> Link {
        match have {
            Have::Orphan(target_uid) => {
                edits.push(Edit::DropOrphan(look.folder, target_uid));
                let at = look.orphans.iter().position(|orphan| orphan.target_uid == target_uid);
                look.orphans.swap_remove(at.expect("haves are made of orphans")).link
            }
            Have::Missing(uid) => {
                edits.push(Edit::DropKnown(look.folder, uid));
                look.missing.retain(|missing| *missing != uid);
                match look.known.remove(&uid) {
                    Some(Known::Linked(link)) => link,
                    _ => unreachable!("haves are made of links"),
                }
            }
            Have::Unexplained(target_uid) => {
                let at = look.unexplained.iter().position(|message| message.uid == target_uid);
                let copy = look.unexplained.swap_remove(at.expect("haves are made of these"));
                self.adopted_link(want, &copy, digests, altered)
            }
        }
    }

    fn adopted_link(
        &self,
        want: &Message,
        copy: &Message,
        digests: &Digests,
        altered: bool,
    ) -> Link {
        // A byte-identical copy of the same instant is as good as ours: its flags follow the
        // source. Others keep their flags unless the operator says that the target is ours.
        let ours = self.enrollment.migration.target_is_ours || copy.instant == want.instant;
        let follow = self.may_change() && ours;
        let text = || format!("{} octets at the source, {} at the target", digests.size, copy.size);
        Link {
            target_uid: Some(copy.uid),
            origin: Origin::Adopted,
            size: digests.size,
            instant: want.instant,
            header: digests.header,
            sha256: digests.sha256,
            flags: if follow { copy.flags.clone() } else { want.flags.clone() },
            verified: true,
            suspect: digests.suspect,
            altered: altered.then(text),
        }
    }

    /// Messages that turn up in another folder are moved at the target, where they can be.
    pub async fn resolve_moves(&mut self, looks: &mut [Look]) -> Result<(), Failure> {
        if !self.may_change() || !looks.iter().any(|look| !look.missing.is_empty()) {
            return Ok(());
        }
        let mut wants: Vec<Candidate<(usize, Uid)>> = Vec::new();
        let mut haves: Vec<Candidate<(usize, Uid)>> = Vec::new();
        for (at, look) in looks.iter().enumerate() {
            wants.extend(look.wants.iter().map(|want| Candidate {
                key: (at, want.uid),
                size: want.size,
                instant: want.instant,
                digests: None,
            }));
            for uid in &look.missing {
                if let Some(Known::Linked(link)) = look.known.get(uid)
                    && self.is_ours(link)
                {
                    haves.push(of_link((at, *uid), link));
                }
            }
        }
        let asked = adopt::questions(&wants, &haves);
        if asked.wants.is_empty() || !self.target.can_remove().await? {
            return Ok(());
        }
        let mut digests = HashMap::new();
        for (at, look) in looks.iter().enumerate() {
            let uids = asked.wants.iter().filter(|(of, _)| *of == at);
            let uids: Vec<Uid> = uids.map(|(_, uid)| *uid).collect();
            for (uid, found) in self.source_digests(look.pair, &uids).await? {
                digests.insert((at, uid), found);
            }
        }
        for want in &mut wants {
            want.digests = digests.get(&want.key).copied().map(adopt::Known::All);
        }
        let mut groups: BTreeMap<(usize, usize), Vec<(Uid, Uid)>> = BTreeMap::new();
        for pair in adopt::pairs(&wants, &haves) {
            let ((to, new), (from, old)) = (pair.want, pair.have);
            groups.entry((from, to)).or_default().push((old, new));
        }
        for ((from, to), moved) in groups {
            self.move_messages(looks, from, to, &moved).await?;
        }
        Ok(())
    }

    /// Is the copy ours to move or remove?
    pub fn is_ours(&self, link: &Link) -> bool {
        let ours = link.origin == Origin::Copied || self.enrollment.migration.target_is_ours;
        ours && link.target_uid.is_some()
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
        let old_links = moved.iter().filter_map(|(old, new)| match looks[from].known.get(old) {
            Some(Known::Linked(link)) => Some((*old, *new, link.clone())),
            _ => None,
        });
        let old_links: Vec<(Uid, Uid, Link)> = old_links.collect();
        let links: Vec<(Uid, &Link)> =
            old_links.iter().map(|(old, _, link)| (*old, link)).collect();
        let sure = self.target.verify(&from_name, &links).await?;
        let uids: Vec<Uid> = old_links
            .iter()
            .filter(|(old, ..)| sure.contains(old))
            .filter_map(|(_, _, link)| link.target_uid)
            .collect();
        if sure.len() < old_links.len() {
            looks[from].unfinished = true;
            self.book.pairs[looks[from].pair].look_at_target = true;
        }
        let gone_where = if from_name == to_name {
            None
        } else {
            self.target.move_messages(&from_name, &uids, &to_name).await?
        };
        let expected = self.book.pairs[looks[to].pair].record.target_seen.unwrap_or_default();
        let places: HashMap<Uid, Uid> = match gone_where {
            Some(copied) if copied.uid_validity == expected.uid_validity => {
                copied.pairs.into_iter().collect()
            }
            _ => HashMap::new(),
        };
        let mut edits = Vec::new();
        for (old, new, mut link) in old_links.into_iter().filter(|(old, ..)| sure.contains(old)) {
            let before = link.target_uid;
            if from_name != to_name {
                link.target_uid = before.and_then(|uid| places.get(&uid).copied());
            }
            self.note_move(looks, from, to, (old, new), &mut link);
            edits.push(Edit::DropKnown(looks[from].folder, old));
            edits.push(Edit::PutKnown(looks[to].folder, new, Known::Linked(link)));
        }
        self.writer.commit(edits).await?;
        if from_name != to_name {
            self.book.pairs[looks[from].pair].expect_fewer(uids.len());
            // The next look finds whatever the server did not tell.
            self.book.pairs[looks[to].pair].record.target_seen = Some(expected);
            self.book.pairs[looks[to].pair].look_at_target = true;
            looks[to].unfinished |= places.len() < uids.len();
        }
        Ok(())
    }

    fn note_move(
        &self,
        looks: &mut [Look],
        from: usize,
        to: usize,
        (old, new): (Uid, Uid),
        link: &mut Link,
    ) {
        looks[from].known.remove(&old);
        looks[from].missing.retain(|uid| *uid != old);
        if let Some(at) = looks[to].wants.iter().position(|want| want.uid == new) {
            let want = looks[to].wants.swap_remove(at);
            if want.flags != link.flags {
                looks[to].flags.push((new, want.flags));
            }
        }
        looks[to].known.insert(new, Known::Linked(link.clone()));
        let pair = |at: usize| &self.book.pairs[looks[at].pair];
        let text = format!("moved from {}", pair(from).shown());
        let entry = Entry::new(Event::MessageMoved, text).folder(pair(to).shown());
        self.emit(entry.source_uid(new).target_uid(link.target_uid));
    }
}

/// Was the copy seen to be the link's, just before it is changed?
pub fn is_the_links(seen: &HeaderSeen, link: &Link) -> bool {
    let as_copied = seen.instant == link.instant && (link.suspect || seen.size == link.size);
    seen.header == link.header && (link.altered.is_some() || as_copied)
}

fn of_link<K>(key: K, link: &Link) -> Candidate<K> {
    let digests = Some(adopt::Known::Exact(link.sha256));
    Candidate { key, size: link.size, instant: link.instant, digests }
}

fn of_intended(intended: &Intended) -> Candidate<Uid> {
    let digests = Some(adopt::Known::Exact(intended.sha256));
    let key = intended.source_uid;
    Candidate { key, size: intended.size, instant: intended.instant, digests }
}

fn of_message(message: &Message) -> Candidate<Uid> {
    let (size, instant) = (message.size, message.instant);
    Candidate { key: message.uid, size, instant, digests: None }
}

/// Fills in what was downloaded.
fn answer(candidates: &mut [Candidate<Uid>], digests: &BTreeMap<Uid, Digests>) {
    for candidate in candidates {
        candidate.digests = digests.get(&candidate.key).copied().map(adopt::Known::All);
    }
}
