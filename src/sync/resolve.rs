//! Copies that exist are found before anything is appended: the target is listed where that is
//! needed, and what no link explains is paired by content with messages that need a copy.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::adopt::{self, Candidate};
use super::clock::Instant;
use super::copy::Failure;
use super::doubt::may_have_made;
use super::neighbours;
use super::pass::{Absence, Look, Pass, Scope, at_source, at_target};
use super::plan;
use crate::checkpoint::{Edit, FolderRecord, Intent, Known, Link, Origin, Proof, Seen};
use crate::imap::{Error, HeaderSeen, Selected};
use crate::journal::{Entry, Event};
use crate::words::{Digests, Message, Uid};

/// So long after a folder's watch began it may begin anew.
const RENEWED_AT_MOST: Duration = Duration::from_secs(600);

/// A copy that some message may turn out to own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Have {
    /// At the target, explained by nothing.
    Unexplained(Uid),
    /// A copy whose message is not known, by target UID.
    Orphan(Uid),
    /// A link whose source message is missing from this folder, by source UID.
    Missing(Uid),
}

impl Pass<'_> {
    /// Looks at the target's folder where that is needed and pairs what it holds. If that fails
    /// midway, it is done anew before anything is appended: what was listed is not paired yet.
    pub async fn resolve_folder(&mut self, look: &mut Look) -> Result<(), Failure> {
        let before = self.book.pairs[look.pair].record.target_seen;
        let resolved = self.resolve(look).await;
        if resolved.is_err() {
            let pair = &mut self.book.pairs[look.pair];
            (pair.look_at_target, pair.record.target_seen) = (true, before);
        }
        resolved
    }

    async fn resolve(&mut self, look: &mut Look) -> Result<(), Failure> {
        let selected = self.mark_fresh(look).await?;
        let pair = &self.book.pairs[look.pair];
        let needed = pair.look_at_target
            || pair.record.target_seen.is_none()
            || self.scope == Scope::Full
            || look.intents.iter().any(asks_for_a_look)
            // Nobody else looks at a folder that is gone at the source.
            || (look.absence == Absence::Certain
                && !(look.intents.is_empty() && look.orphans.is_empty()))
            // An orphan is worth only as much as the copy that is really there.
            || (!look.wants.is_empty() && !look.orphans.is_empty())
            // When the target was listed they were hidden: a copy may be there unexplained.
            || has_late(&pair.record, look);
        if needed {
            self.look_at_target(look, selected).await?;
            self.pair_unpaired(look).await?;
            self.resolve_intents(look).await?;
        }
        self.adopt_here(look).await
    }

    /// Lists the target's folder, selected just now or here, and compares it with the links.
    async fn look_at_target(
        &mut self,
        look: &mut Look,
        selected: Option<Selected>,
    ) -> Result<(), Failure> {
        let selected = match selected {
            Some(selected) => selected,
            None => {
                let name = self.book.pairs[look.pair].target.clone();
                self.target.select(&name).await?
            }
        };
        let session = self.target.session().await?;
        let first = Uid::new(1).expect("1 is a UID");
        let listing = session.list_messages(first).await.map_err(at_target)?;
        let exists = session.exists();
        if listing.len() != exists as usize {
            let text = format!("{} of {exists} messages were listed", listing.len());
            return Err(at_target(Error::Protocol(text)));
        }
        let before = self.book.pairs[look.pair].record.target_seen;
        if before.is_some_and(|seen| seen.uid_validity != selected.uid_validity) {
            self.unpair(look, &selected).await?;
        }
        if before.is_none() {
            // Renumbered before anybody had looked.
            let edits = watch_on(look, &selected);
            self.writer.commit(edits).await?;
        }
        let next = listing.last().map_or(1, |message| message.uid.get().saturating_add(1));
        // Of a folder never listed, the watch knows from where on.
        let watched = look.intents.iter().find(|intent| intent.messages.is_empty());
        let watched = watched.map(|intent| (intent.target_uid_validity, intent.target_uid_next));
        let since = before.map(|seen| (seen.uid_validity, seen.uid_next)).or(watched);
        let since = since.filter(|(validity, _)| *validity == selected.uid_validity);
        if since.is_some_and(|(_, next)| lacks_new(next, &selected, &listing)) {
            self.wait_for_unshown(look, &selected).await?;
        }
        let partly = !look.complete && self.fresh_from.is_none();
        let pair = &mut self.book.pairs[look.pair];
        pair.permanent = Some(selected.permanent_flags.clone());
        pair.record.target_seen = Some(Seen {
            uid_validity: selected.uid_validity,
            uid_next: selected.uid_next.unwrap_or(0).max(next),
            messages: exists,
            highest_modseq: selected.highest_modseq.unwrap_or_default(),
        });
        // What the source does not show just now may have its copy here.
        pair.look_at_target = partly || look.absence.may_come_back();
        self.compare_target(look, listing).await
    }

    /// UIDs were given that the listing lacks. What had them may be removed, or a copy of ours that
    /// an older checkpoint does not know, behind a listing that is not whole: messages that may
    /// have a copy wait.
    async fn wait_for_unshown(
        &mut self,
        look: &mut Look,
        selected: &Selected,
    ) -> Result<(), Failure> {
        if !has_late(&self.book.pairs[look.pair].record, look) {
            return Ok(());
        }
        if let Some(waits) = look.intents.iter().find(|intent| intent.messages.is_empty()) {
            // Just now it came true: the wait begins anew. Not for ever: where mail comes and goes all
            // the time, some UID is always missing.
            let waited = (self.shared.clock.now() - waits.written_at).unsigned_abs();
            if waited < RENEWED_AT_MOST.as_secs() {
                self.book.learned.doubted.insert(waits.id, Instant::now());
            }
            return Ok(());
        }
        // What is there already is no late twin.
        let target_uid_next = selected.uid_next.unwrap_or(u32::MAX);
        let intent = Intent { target_uid_next, ..self.fresh_intent(look.pair)? };
        self.writer.commit(vec![Edit::PutIntent(intent.clone())]).await?;
        look.intents.push(intent);
        Ok(())
    }

    async fn compare_target(
        &mut self,
        look: &mut Look,
        listing: Vec<Message>,
    ) -> Result<(), Failure> {
        look.beside = self.neighbours_of(look.pair)?;
        let orphans: BTreeSet<Uid> = look.orphans.keys().copied().collect();
        let diff = plan::target_diff(&look.known, &orphans, &look.beside.explained, &listing);
        look.vanished = diff.vanished;
        look.unexplained =
            diff.unexplained.into_iter().map(|message| (message.uid, message)).collect();
        let listing: BTreeMap<Uid, Message> =
            listing.into_iter().map(|message| (message.uid, message)).collect();
        // A dead orphan explains nothing, and one listing may be half empty: until there is
        // another, it may still be the copy of a message. After the seal it stays: the owner's
        // removals stand.
        if self.may_change() {
            let (begun, now) = (self.begun, Instant::now());
            let missing = &mut self.book.learned.orphans_missing;
            missing.retain(|(of, uid)| *of != look.folder || !listing.contains_key(uid));
            let is_dead = |uid: &Uid, _: &mut Link| {
                !listing.contains_key(uid)
                    && missing.missing((look.folder, *uid), false, begun, now)
            };
            let dead = look.orphans.extract_if(.., is_dead);
            let edits = dead.map(|(uid, _)| Edit::DropOrphan(look.folder, uid)).collect();
            self.writer.commit(edits).await?;
        }
        look.listing = Some(listing);
        Ok(())
    }

    /// The target's UIDs mean nothing any more: its copies are paired anew.
    async fn unpair(&mut self, look: &mut Look, selected: &Selected) -> Result<(), Failure> {
        let mut edits = watch_on(look, selected);
        for (uid, known) in &mut look.known {
            if let Known::Linked(link) = known {
                link.target_uid = None;
                edits.push(Edit::PutKnown(look.folder, *uid, known.clone()));
            }
        }
        for uid in std::mem::take(&mut look.orphans).into_keys() {
            edits.push(Edit::DropOrphan(look.folder, uid));
        }
        self.book.learned.orphans_missing.retain(|(of, _)| *of != look.folder);
        self.book.learned.orphans_left.retain(|(of, _)| *of != look.folder);
        self.book.learned.unread.retain(|(of, _)| *of != look.folder);
        self.writer.commit(edits).await?;
        let shown = self.book.pairs[look.pair].shown().to_owned();
        let said = "UIDVALIDITY changed at the target; copies are paired anew by content";
        self.emit(Entry::new(Event::UidvalidityChanged, said).folder(&shown));
        Ok(())
    }

    /// Links whose copy's UID the target did not tell find it by content.
    async fn pair_unpaired(&mut self, look: &mut Look) -> Result<(), Failure> {
        let unpaired = plan::links(&look.known).filter(|(_, link)| link.target_uid.is_none());
        let wants: Vec<Candidate<Uid>> = unpaired.map(|(uid, link)| of_link(uid, link)).collect();
        if wants.is_empty() {
            return Ok(());
        }
        let found = self.match_unexplained(look, &wants, 0, &[]).await?;
        let mut edits = Vec::new();
        for (uid, target_uid) in &found {
            let Some(Known::Linked(link)) = look.known.get_mut(uid) else { continue };
            (link.target_uid, link.proof) = (Some(*target_uid), Proof::ReadBack);
            edits.push(Edit::PutKnown(look.folder, *uid, Known::Linked(link.clone())));
        }
        let lost = wants.iter().map(|want| want.key);
        look.vanished.extend(lost.filter(|uid| !found.contains_key(uid)));
        self.writer.commit(edits).await?;
        Ok(())
    }

    /// Downloads the unexplained copies that may be one of `wants` and pairs them by their bytes.
    /// Only copies with a UID of at least `from` count, and none that `others` have. What is
    /// paired is explained.
    pub async fn match_unexplained(
        &mut self,
        look: &mut Look,
        wants: &[Candidate<Uid>],
        from: u32,
        others: &[Candidate<Uid>],
    ) -> Result<HashMap<Uid, Uid>, Failure> {
        let eligible = look.unexplained.values().filter(|message| message.uid.get() >= from);
        let mut haves: Vec<Candidate<Uid>> = eligible.map(of_message).collect();
        let asked = adopt::questions(wants, &haves);
        let digests = self.read_copies(look, &asked.haves).await?;
        answer(&mut haves, &digests);
        neighbours::set_aside(&mut haves, others, |_| true);
        let pairs = adopt::pairs(wants, &haves);
        let found: HashMap<Uid, Uid> =
            pairs.into_iter().map(|pair| (pair.want, pair.have)).collect();
        for uid in found.values() {
            look.unexplained.remove(uid);
        }
        Ok(found)
    }

    /// Downloads what may be copies of ours. What was listed and cannot be read now may be the
    /// very copy, even where the next listing lacks it: for ten minutes nothing is concluded from
    /// its absence.
    async fn read_copies(
        &mut self,
        look: &Look,
        uids: &[Uid],
    ) -> Result<BTreeMap<Uid, Digests>, Failure> {
        self.note_unread(look, uids);
        let digests = self.target_digests(look.pair, uids).await?;
        let (folder, now) = (look.folder, Instant::now());
        let unread = &mut self.book.learned.unread;
        digests.keys().for_each(|uid| unread.settled((folder, *uid)));
        let asked: Vec<&Uid> = uids.iter().filter(|uid| !digests.contains_key(uid)).collect();
        asked.iter().for_each(|uid| unread.answered((folder, **uid), now));
        let mut asked = asked.into_iter();
        match asked.all(|uid| unread.for_long((folder, *uid), now)) {
            true => Ok(digests),
            false => Err(cannot_be_read()),
        }
    }

    /// Noted before anything is asked, for a connection that dies gives nothing to read, either.
    fn note_unread(&mut self, look: &Look, uids: &[Uid]) {
        let (folder, now) = (look.folder, Instant::now());
        for uid in uids {
            self.book.learned.unread.note((folder, *uid), now);
        }
    }

    /// The same where the listing lacks what was to be read, and it is not known to be gone.
    fn miss_the_unread(&mut self, look: &Look) -> Result<(), Failure> {
        let Some(listing) = &look.listing else { return Ok(()) };
        let (folder, now) = (look.folder, Instant::now());
        let unread = &mut self.book.learned.unread;
        let is_riddle =
            |uid: &Uid| !listing.contains_key(uid) || look.unexplained.contains_key(uid);
        unread.retain(|(of, uid)| *of != folder || is_riddle(uid));
        let absent = unread.keys().copied();
        let absent = absent.filter(|(of, uid)| *of == folder && !listing.contains_key(uid));
        let absent: Vec<_> = absent.collect();
        absent.iter().for_each(|key| unread.answered(*key, now));
        match absent.into_iter().all(|key| unread.for_long(key, now)) {
            true => Ok(()),
            false => Err(cannot_be_read()),
        }
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

    pub async fn source_digests(
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

    /// Finds copies in the same folder: at the target unexplained, orphaned, or of a message that
    /// is there no more.
    async fn adopt_here(&mut self, look: &mut Look) -> Result<(), Failure> {
        if look.wants.is_empty() {
            return Ok(());
        }
        self.miss_the_unread(look)?;
        let mut haves = haves_here(look);
        let mut wants: Vec<Candidate<Uid>> = look.not_in_doubt().map(of_message).collect();
        let asked = adopt::questions(&wants, &haves);
        if asked.wants.is_empty() {
            return Ok(());
        }
        let unexplained = asked.haves.iter().filter_map(|have| match have {
            Have::Unexplained(uid) => Some(*uid),
            Have::Orphan(_) | Have::Missing(_) => None,
        });
        let unexplained: Vec<Uid> = unexplained.collect();
        self.note_unread(look, &unexplained);
        let at_source = self.source_digests(look.pair, &asked.wants).await?;
        self.postpone_withheld(look, &asked.wants, &at_source);
        answer(&mut wants, &at_source);
        let at_target = self.read_copies(look, &unexplained).await?;
        for have in &mut haves {
            if let Have::Unexplained(uid) = have.key {
                have.digests = at_target.get(&uid).copied().map(adopt::Known::All);
            }
        }
        let is_unexplained = |have: &Have| matches!(have, Have::Unexplained(_));
        neighbours::set_aside(&mut haves, &look.beside.unpaired, is_unexplained);
        let mut edits = Vec::new();
        let pairs = adopt::pairs(&wants, &haves);
        for pair in &pairs {
            let want = look.wants.remove(&pair.want).expect("pairs are made of wants");
            let digests = &at_source[&want.uid];
            let link = self.taken_link(look, &want, pair.have, digests, pair.altered, &mut edits);
            if link.flags != want.flags {
                look.flags.push((want.uid, want.flags));
            }
            look.known.insert(want.uid, Known::Linked(link.clone()));
            edits.push(Edit::PutKnown(look.folder, want.uid, Known::Linked(link)));
        }
        self.writer.commit(edits).await?;
        if !pairs.is_empty() {
            let text = format!("{} messages were found at the target by content", pairs.len());
            let shown = self.book.pairs[look.pair].shown();
            self.emit(Entry::new(Event::StateRebuilt, text).folder(shown));
        }
        Ok(())
    }

    /// A message the source would not give just now may have its copy all the same: until it has
    /// been withheld for ten minutes it is not appended.
    fn postpone_withheld(
        &mut self,
        look: &mut Look,
        asked: &[Uid],
        given: &BTreeMap<Uid, Digests>,
    ) {
        let (folder, now) = (look.folder, Instant::now());
        let withheld = &mut self.book.learned.withheld;
        given.keys().for_each(|uid| withheld.settled((folder, *uid)));
        for uid in asked.iter().filter(|uid| !given.contains_key(uid)) {
            withheld.note((folder, *uid), now);
            if !withheld.for_long((folder, *uid), now) {
                look.withheld.extend(look.wants.remove(uid));
                look.unfinished = true;
            }
        }
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
                if look.listing.as_ref().is_some_and(|listing| !listing.contains_key(&target_uid)) {
                    look.vanished.push(want.uid);
                }
                look.orphans.remove(&target_uid).expect("haves are made of orphans")
            }
            Have::Missing(uid) => {
                edits.push(Edit::DropKnown(look.folder, uid));
                look.missing.remove(&uid);
                match look.known.remove(&uid) {
                    Some(Known::Linked(link)) => link,
                    _ => unreachable!("haves are made of links"),
                }
            }
            Have::Unexplained(target_uid) => {
                let copy = look.unexplained.remove(&target_uid);
                let copy = copy.expect("haves are made of these");
                let print = (digests.sha256, want.instant);
                let was_sent = look.intents.iter().any(|intent| {
                    let comparable = self.is_comparable(look, intent);
                    may_have_made(intent, comparable, &look.known, target_uid, print)
                });
                let link = self.adopted_link(want, &copy, digests, altered);
                let is_ours = was_sent && link.origin == Origin::Twin;
                Link { origin: if is_ours { Origin::Copied } else { link.origin }, ..link }
            }
        }
    }

    /// A copy with the same bytes and the same instant is what an earlier life of ours leaves
    /// behind when its checkpoint is lost: its flags follow the source, as promised across lost
    /// state. It is not moved or removed, and any other adopted copy is not touched at all, unless
    /// the operator says that the target is ours.
    fn adopted_link(
        &self,
        want: &Message,
        copy: &Message,
        digests: &Digests,
        altered: bool,
    ) -> Link {
        let twin = !altered && copy.instant == want.instant;
        let follows = (twin || self.enrollment.migration.target_is_ours) && self.may_change();
        let text = || format!("{} octets at the source, {} at the target", digests.size, copy.size);
        Link {
            target_uid: Some(copy.uid),
            origin: if twin { Origin::Twin } else { Origin::Adopted },
            size: digests.size,
            instant: want.instant,
            header: digests.header,
            sha256: digests.sha256,
            flags: if follows { copy.flags.clone() } else { want.flags.clone() },
            unsure: None,
            proof: Proof::ReadBack,
            suspect: digests.suspect,
            altered: altered.then(text),
        }
    }

    /// Is the copy ours to move or remove?
    pub fn is_ours(&self, link: &Link) -> bool {
        let ours = link.origin == Origin::Copied || self.enrollment.migration.target_is_ours;
        ours && link.target_uid.is_some()
    }

    /// Do the copy's flags follow the source?
    pub fn follows_flags(&self, link: &Link) -> bool {
        self.is_ours(link) || link.origin == Origin::Twin
    }
}

/// Under a new UIDVALIDITY of the target, what an earlier life has sent may still come, after all
/// that is there.
fn watch_on(look: &mut Look, selected: &Selected) -> Vec<Edit> {
    let stale = look.intents.iter_mut().filter(|intent| {
        intent.messages.is_empty() && intent.target_uid_validity != selected.uid_validity
    });
    let renewed = stale.map(|intent| {
        intent.target_uid_validity = selected.uid_validity;
        intent.target_uid_next = selected.uid_next.unwrap_or(u32::MAX);
        Edit::PutIntent(intent.clone())
    });
    renewed.collect()
}

/// Is it looked for at the target, or for what may come late beside it?
pub fn asks_for_a_look(intent: &Intent) -> bool {
    !intent.repeated || intent.messages.is_empty()
}

/// Does a message need a copy that the source did not show from the first? New mail has higher
/// UIDs, once all under this UIDVALIDITY was seen.
fn has_late(record: &FolderRecord, look: &Look) -> bool {
    let next = record.source_seen.map_or(0, |seen| seen.uid_next);
    let is_late = |uid: &Uid| !record.first_copy_completed || next == 0 || uid.get() < next;
    look.wants.keys().any(is_late)
}

/// Were UIDs given since the folder was last seen that a listing of all lacks?
fn lacks_new(next: u32, selected: &Selected, listing: &[Message]) -> bool {
    let given = selected.uid_next.unwrap_or(0).saturating_sub(next) as usize;
    let shown = listing.iter().filter(|message| message.uid.get() >= next);
    given > shown.count()
}

fn cannot_be_read() -> Failure {
    let text = "a message that may be a copy of ours cannot be read".to_owned();
    at_target(Error::No { command: "UID FETCH", code: None, text })
}

/// What may turn out to be the copy of a message that needs one.
fn haves_here(look: &Look) -> Vec<Candidate<Have>> {
    let mut haves = Vec::new();
    haves.extend(look.unexplained.values().map(|message| Candidate {
        key: Have::Unexplained(message.uid),
        size: message.size,
        instant: message.instant,
        flags: message.flags.clone(),
        digests: None,
    }));
    if look.listing.is_some() {
        haves.extend(look.orphans.iter().map(|(uid, link)| of_link(Have::Orphan(*uid), link)));
    }
    for uid in &look.missing {
        // One that does not know its copy has none to give.
        if let Some(Known::Linked(link)) = look.known.get(uid)
            && link.target_uid.is_some()
        {
            haves.push(of_link(Have::Missing(*uid), link));
        }
    }
    haves
}

/// Was the copy seen to be the link's, just before it is changed? The header's digest says so;
/// size and instant too, where the copy was never compared in full. Some servers (Courier) end the
/// last line of a message.
pub fn is_the_links(seen: &HeaderSeen, link: &Link) -> bool {
    let same_size = seen.size == link.size || seen.size == link.size + 2;
    let as_copied = seen.instant == link.instant && same_size;
    let compared = link.proof >= Proof::ReadBack || link.suspect || link.altered.is_some();
    seen.header == link.header && (compared || as_copied)
}

/// All but the size speaks for it.
pub fn may_be_the_links(seen: &HeaderSeen, link: &Link) -> bool {
    seen.header == link.header && seen.instant == link.instant
}

pub fn of_link<K>(key: K, link: &Link) -> Candidate<K> {
    let digests = Some(adopt::Known::Exact(link.sha256));
    let flags = link.flags.clone();
    Candidate { key, size: link.size, instant: link.instant, flags, digests }
}

fn of_message(message: &Message) -> Candidate<Uid> {
    let Message { uid, size, instant, flags } = message.clone();
    Candidate { key: uid, size, instant, flags, digests: None }
}

/// Fills in what was downloaded.
fn answer(candidates: &mut [Candidate<Uid>], digests: &BTreeMap<Uid, Digests>) {
    for candidate in candidates {
        candidate.digests = digests.get(&candidate.key).copied().map(adopt::Known::All);
    }
}
