//! When an account's phase changes: a pure function of phase, facts and now.

use crate::checkpoint::Phase;

/// What the decision depends on. Times are Unix seconds.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub now: i64,
    /// The clock has just jumped: nothing is decided on its word.
    pub clock_suspect: bool,
    pub cutover: Option<i64>,
    pub settle_secs: i64,
    pub source_until: Option<i64>,
    pub sealed_at: Option<i64>,
    pub first_copy_completed: bool,
    /// When the last pass began that found everything linked, refused or listed, looking at every
    /// folder in full, in this phase and by a clock that was not suspect.
    pub clean_since: Option<i64>,
    /// When folders are copied that wait for the cutover, if the account has any.
    pub archive_from: Option<i64>,
    /// Whether an operator returned the sealed account to append-only following.
    pub reopened: Reopened,
}

/// An account that was sealed, and then?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reopened {
    No,
    /// It is followed until another cutover is given.
    Open,
    /// Another cutover was given since.
    CutAgain,
}

impl Facts {
    /// From when on a clean pass completes a sealed account: after `settle`, counted from the
    /// seal, or from the cutover that was given after it was reopened.
    fn settled(&self) -> Option<i64> {
        let from = match self.reopened {
            Reopened::No => self.sealed_at,
            Reopened::Open => None,
            Reopened::CutAgain => self.cutover,
        };
        from.map(|from| from + self.settle_secs)
    }

    /// The instants after the seal at which everything is looked at: when there was time enough
    /// for stragglers, and when the folders that waited for the cutover may be copied.
    pub fn full_looks(&self) -> impl Iterator<Item = i64> {
        [self.settled(), self.archive_from].into_iter().flatten()
    }
}

/// The phase that follows from the facts, one step at a time: never an earlier one.
pub fn next_phase(phase: Phase, facts: &Facts) -> Phase {
    let reached = |instant: Option<i64>| {
        !facts.clock_suspect && instant.is_some_and(|instant| facts.now >= instant)
    };
    let clean_after = |instant: Option<i64>| {
        instant.is_some_and(|instant| facts.clean_since.is_some_and(|clean| clean >= instant))
    };
    match phase {
        Phase::Completed | Phase::Closed => phase,
        _ if reached(facts.source_until) => Phase::Closed,
        Phase::Enrolled | Phase::Copying | Phase::Following if reached(facts.cutover) => {
            Phase::Draining
        }
        Phase::Enrolled => Phase::Copying,
        Phase::Copying if facts.first_copy_completed => Phase::Following,
        Phase::Draining if clean_after(facts.cutover) => Phase::Archiving,
        Phase::Archiving if facts.archive_from.is_some() && !clean_after(facts.archive_from) => {
            phase
        }
        // Without `settle` the pass that sealed it was the last one.
        Phase::Archiving
            if facts.settle_secs == 0
                && facts.reopened == Reopened::No
                && clean_after(facts.cutover) =>
        {
            Phase::Completed
        }
        Phase::Archiving if clean_after(facts.settled()) => Phase::Completed,
        _ => phase,
    }
}

/// What a clean pass of the phase before still proves at the seal: where folders wait for the
/// cutover it left those alone, however long ago their time came.
pub fn proved_at_seal(facts: &Facts) -> Option<i64> {
    facts.clean_since.filter(|_| facts.archive_from.is_none())
}

/// Is everything looked at in the next pass of a sealed account? Where the last full one left
/// nothing to do but what has to wait (`waits_since`), a further one teaches little before that may
/// go on, another instant has come, or a day has passed.
pub fn looks_in_full(facts: &Facts, waits_since: Option<i64>, may_go_on: bool) -> bool {
    let due = facts.full_looks().filter(|instant| facts.now >= *instant).max();
    due.is_some_and(|due| {
        let fresh = facts.now - COMPARE_SECS..=facts.now;
        may_go_on || waits_since.is_none_or(|since| since < due || !fresh.contains(&since))
    })
}

/// Everything is compared at least once a day.
pub const COMPARE_SECS: i64 = 86_400;

/// Are the folders copied now that waited for the cutover? `from` is when that begins.
pub fn copies_archive(phase: Phase, facts: &Facts, from: Option<i64>) -> bool {
    phase == Phase::Archiving && !facts.clock_suspect && from.is_some_and(|from| facts.now >= from)
}

/// The next instant at which the clock alone may change the phase or is worth a full look.
pub fn next_instant(phase: Phase, facts: &Facts) -> Option<i64> {
    let candidates = match phase {
        Phase::Completed | Phase::Closed => [None; 3],
        Phase::Archiving => [facts.settled(), facts.archive_from, facts.source_until],
        Phase::Draining => [None, None, facts.source_until],
        _ => [facts.cutover, None, facts.source_until],
    };
    candidates.into_iter().flatten().filter(|instant| *instant > facts.now).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Facts = Facts {
        now: 50,
        clock_suspect: false,
        cutover: Some(100),
        settle_secs: 0,
        source_until: Some(1000),
        sealed_at: None,
        first_copy_completed: true,
        clean_since: Some(40),
        archive_from: None,
        reopened: Reopened::No,
    };

    fn check(phase: Phase, facts: Facts, expected: Phase) {
        assert_eq!(next_phase(phase, &facts), expected, "{phase:?} {facts:?}");
    }

    #[test]
    fn what_waits_is_not_compared_over_and_over() {
        let sealed = Facts {
            now: 150,
            sealed_at: Some(100),
            archive_from: Some(200),
            settle_secs: 20,
            ..QUIET
        };
        let check = |now, waits_since, may_go_on, expected| {
            let facts = Facts { now, ..sealed };
            let found = looks_in_full(&facts, waits_since, may_go_on);
            assert_eq!(found, expected, "{now} {waits_since:?} {may_go_on}");
        };
        check(110, None, false, false);
        check(150, None, false, true);
        check(150, Some(119), false, true);
        check(150, Some(120), false, false);
        // The time of what waited has come, then its turn.
        check(200, Some(120), false, true);
        check(250, Some(200), false, false);
        check(250, Some(200), true, true);
        // A day has passed, or a clock was ahead.
        check(200 + COMPARE_SECS + 1, Some(200), false, true);
        check(250, Some(251), false, true);
    }

    #[test]
    fn before_the_cutover() {
        check(Phase::Enrolled, QUIET, Phase::Copying);
        check(Phase::Copying, QUIET, Phase::Following);
        check(Phase::Copying, Facts { first_copy_completed: false, ..QUIET }, Phase::Copying);
        check(Phase::Following, QUIET, Phase::Following);
        check(Phase::Following, Facts { cutover: None, now: 999, ..QUIET }, Phase::Following);
    }

    #[test]
    fn at_the_cutover() {
        let after = Facts { now: 100, ..QUIET };
        check(Phase::Copying, Facts { first_copy_completed: false, ..after }, Phase::Draining);
        check(Phase::Following, after, Phase::Draining);
        check(Phase::Following, Facts { clock_suspect: true, ..after }, Phase::Following);
        check(Phase::Draining, after, Phase::Draining);
        check(Phase::Draining, Facts { clean_since: Some(100), ..after }, Phase::Archiving);
        check(Phase::Draining, Facts { now: 50, ..QUIET }, Phase::Draining);
    }

    #[test]
    fn after_the_seal() {
        let sealed = Facts { now: 150, sealed_at: Some(120), clean_since: Some(110), ..QUIET };
        check(Phase::Archiving, Facts { clean_since: None, ..sealed }, Phase::Archiving);
        check(Phase::Archiving, sealed, Phase::Completed);
        let settling = Facts { settle_secs: 60, ..sealed };
        check(Phase::Archiving, settling, Phase::Archiving);
        check(Phase::Archiving, Facts { clean_since: Some(180), ..settling }, Phase::Completed);
        assert_eq!(next_instant(Phase::Archiving, &settling), Some(180));
        check(Phase::Completed, Facts { now: 10, ..sealed }, Phase::Completed);
    }

    #[test]
    fn the_archive_comes_after_the_seal() {
        let sealed = Facts { now: 150, sealed_at: Some(120), clean_since: Some(110), ..QUIET };
        let waiting = Facts { archive_from: Some(200), ..sealed };
        check(Phase::Archiving, waiting, Phase::Archiving);
        assert_eq!(next_instant(Phase::Archiving, &waiting), Some(200));
        assert!(!copies_archive(Phase::Archiving, &waiting, Some(200)));
        let come = Facts { now: 200, ..waiting };
        assert!(copies_archive(Phase::Archiving, &come, Some(200)));
        assert!(!copies_archive(Phase::Draining, &come, Some(200)), "the last pass goes first");
        assert!(!copies_archive(
            Phase::Archiving,
            &Facts { clock_suspect: true, ..come },
            Some(200)
        ));
        assert!(!copies_archive(Phase::Archiving, &come, None));
        check(Phase::Archiving, come, Phase::Archiving);
        check(Phase::Archiving, Facts { clean_since: Some(201), ..come }, Phase::Completed);
        check(Phase::Archiving, Facts { now: 1000, ..waiting }, Phase::Closed);
    }

    #[test]
    fn the_last_pass_proves_nothing_of_folders_that_wait() {
        let sealing = Facts { now: 300, clean_since: Some(250), ..QUIET };
        assert_eq!(proved_at_seal(&sealing), Some(250));
        // Their time came while the last pass lasted.
        assert_eq!(proved_at_seal(&Facts { archive_from: Some(200), ..sealing }), None);
    }

    #[test]
    fn a_reopened_account_completes_after_a_new_cutover_only() {
        let open = Facts {
            now: 300,
            sealed_at: Some(120),
            reopened: Reopened::Open,
            clean_since: Some(290),
            ..QUIET
        };
        check(Phase::Archiving, open, Phase::Archiving);
        assert_eq!(next_instant(Phase::Archiving, &open), Some(1000));
        let reopened = Reopened::CutAgain;
        let given = Facts { cutover: Some(400), settle_secs: 10, reopened, ..open };
        check(Phase::Archiving, given, Phase::Archiving);
        assert_eq!(next_instant(Phase::Archiving, &given), Some(410));
        check(Phase::Archiving, Facts { clean_since: Some(405), ..given }, Phase::Archiving);
        check(Phase::Archiving, Facts { clean_since: Some(410), ..given }, Phase::Completed);
        check(Phase::Archiving, Facts { now: 1000, ..open }, Phase::Closed);
    }

    #[test]
    fn past_source_until_it_is_closed() {
        let late = Facts { now: 1000, ..QUIET };
        for phase in [Phase::Enrolled, Phase::Following, Phase::Draining, Phase::Archiving] {
            check(phase, late, Phase::Closed);
        }
        check(Phase::Completed, late, Phase::Completed);
    }
}
