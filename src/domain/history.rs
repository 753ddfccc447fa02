//! What the journal adds up to: read once at start, then kept up to date with every entry that is appended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::deletion::{Attempt, Cap, Failure, Holder, Seq, Target, Trigger};
use super::journal::{Entry, GUARD, Intent, NoteKind, OpenIntent, Recorded};
use super::limits::Grant;
use super::names::{TreeId, VolumeId};
use super::recording::Tally;
use super::units::{Bytes, Timestamp};

/// What was deleted counts against the caps for so long.
const DAY: Duration = Duration::from_secs(86_400);
/// Deletions are summed up in slots of this length.
const SLOT: Duration = Duration::from_secs(600);
/// An acknowledged cap lets one run pass within this time.
pub const PERMIT: Duration = Duration::from_secs(3600);

/// Starts of the daemon within this span make a storm...
pub const STORM: Duration = Duration::from_secs(300);
/// ... if there are so many.
const STARTS: usize = 3;

/// A cap that tripped and waits for a person (promise 9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapTrip {
    /// Which.
    pub cap: Cap,
    /// The tree.
    pub tree: TreeId,
    /// Bytes that were wanted when it tripped.
    pub wanted: Bytes,
    /// Bytes that it allowed.
    pub allowed: Bytes,
    /// Bytes that the tree held once the allowed part was gone.
    pub held: Bytes,
    /// Bytes that were available on the volume then: until somebody acknowledges, the guard holds this line and no more.
    pub available: Bytes,
    /// When it tripped.
    pub since: Timestamp,
}

/// A person's leave to go beyond a cap once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// So many bytes.
    pub bytes: Bytes,
    /// Given then; good for [`PERMIT`].
    pub at: Timestamp,
}

/// A deleted file that somebody still has open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldOpen {
    /// Number of its intent.
    pub seq: Seq,
    /// What it was.
    pub target: Target,
    /// Bytes that come back when it is closed.
    pub bytes: Bytes,
    /// When it was deleted.
    pub since: Timestamp,
    /// Who has it open, as last seen.
    pub holder: Option<Holder>,
}

/// The sum of a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Intents without an outcome.
    pub open: BTreeMap<Seq, OpenIntent>,
    /// Deletions that failed and are tried again, by the number of their first intent.
    pub failures: BTreeMap<u64, Failure>,
    /// Deleted files that are still open somewhere.
    pub held: BTreeMap<Seq, HeldOpen>,
    /// Caps that wait for a person.
    pub caps: BTreeMap<(TreeId, Cap), CapTrip>,
    /// What is ours to give back on volumes that others filled.
    pub grants: BTreeMap<VolumeId, Grant>,
    /// What persons permitted beyond a cap.
    pub permits: BTreeMap<TreeId, Permit>,
    /// Deleted bytes that a snapshot or reflink copies share, until their volume is well again.
    pub shared: BTreeMap<TreeId, Tally>,
    /// Failures that persons closed.
    pub closed: BTreeSet<u64>,
    /// Trees whose marker was written or seen.
    pub marked: BTreeSet<TreeId>,
    /// Number of the last entry.
    pub last: Seq,
    /// Time of the last entry.
    pub last_at: Option<Timestamp>,
    /// The highest number of a run.
    pub last_run: u64,
    /// The entry of the daemon's last start; 0 if it never was.
    pub last_start: Seq,
    /// Volumes by whose look the clock is not trusted: why, and by how many milliseconds each clock that was seen differs.
    pub clocks: BTreeMap<VolumeId, (String, Vec<i64>)>,
    /// When the daemon was started, of late.
    starts: VecDeque<Timestamp>,
    deleted: BTreeMap<TreeId, VecDeque<(Timestamp, Bytes)>>,
}

impl CapTrip {
    /// The text of the note that keeps it.
    #[must_use]
    pub fn text(cap: Cap, allowed: Bytes, held: Bytes) -> String {
        format!("{cap} {} {}", allowed.0, held.0)
    }
}

/// The text of a note that the clock is not trusted.
#[must_use]
pub fn clock_text(why: &str, offsets: &[i64]) -> String {
    let offsets: Vec<String> = offsets.iter().map(ToString::to_string).collect();
    format!("{why} [{}]", offsets.join(" "))
}

fn clock_offsets(text: &str) -> Option<(String, Vec<i64>)> {
    let (why, rest) = text.rsplit_once(" [")?;
    let offsets = rest.strip_suffix(']')?.split(' ').filter(|word| !word.is_empty());
    Some((why.to_owned(), offsets.map(str::parse).collect::<Result<_, _>>().ok()?))
}

impl History {
    /// Takes one more entry into account.
    pub fn enter(&mut self, recorded: &Recorded) {
        self.last = recorded.seq;
        self.last_at = Some(recorded.at);
        match &recorded.entry {
            Entry::Intent(intent) => {
                self.last_run = self.last_run.max(intent.run);
                let open = OpenIntent { seq: recorded.seq, at: recorded.at, intent: intent.clone() };
                self.open.insert(recorded.seq, open);
            }
            Entry::Outcome { intent, attempt } => {
                if let Some(open) = self.open.remove(intent) {
                    self.settle(&open, attempt, recorded.at);
                }
            }
            Entry::Note { kind: NoteKind::Share, volume: Some(volume), text, .. } => match Grant::parse(text) {
                Some(grant) => drop(self.grants.insert(volume.clone(), grant)),
                None => drop(self.grants.remove(volume)),
            },
            Entry::Note { kind: NoteKind::Clock, volume: Some(volume), text, .. } => {
                match clock_offsets(text) {
                    Some((text, offsets)) => self.clocks.insert(volume.clone(), (text, offsets)),
                    None => self.clocks.remove(volume),
                };
            }
            Entry::Note { kind, tree, bytes, number, text, .. } => {
                if *kind == NoteKind::Started {
                    self.last_start = recorded.seq;
                }
                if *kind == NoteKind::RunStarted {
                    self.last_run = self.last_run.max(*number);
                }
                self.note(*kind, tree.as_ref(), *bytes, *number, text, recorded.at);
            }
        }
    }

    fn settle(&mut self, open: &OpenIntent, attempt: &Attempt, at: Timestamp) {
        let intent = &open.intent;
        let id = intent.retry_of.unwrap_or(open.seq).0;
        match attempt {
            Attempt::Failed { cause, error, holder } => {
                let known = self.failures.get(&id);
                let failure = Failure {
                    id,
                    target: intent.target.clone(),
                    cause: *cause,
                    error: error.clone(),
                    holder: holder.clone(),
                    attempts: known.map_or(1, |failure| failure.attempts.saturating_add(1)),
                    next_attempt: at,
                    since: known.map_or(at, |failure| failure.since),
                };
                self.failures.insert(id, failure);
            }
            Attempt::Verified { freed, shared, open: held } => {
                self.failures.remove(&id);
                if *shared > Bytes::ZERO {
                    self.shared.entry(intent.target.tree.clone()).or_default().add(*shared);
                }
                if *held {
                    let target = intent.target.clone();
                    let held = HeldOpen { seq: open.seq, target, bytes: *freed, since: at, holder: None };
                    self.held.insert(open.seq, held);
                }
                self.count(intent, *freed, at);
            }
            Attempt::AlreadyGone | Attempt::Kept { .. } => {
                // A retry that was not made leaves the failure as it was (promise 8).
                if attempt.is_final() {
                    self.failures.remove(&id);
                }
            }
        }
    }

    /// Counts a deletion of the guard's own against its tree's cap.
    fn count(&mut self, intent: &Intent, freed: Bytes, at: Timestamp) {
        // A person who has a failure tried again asks for it.
        if intent.retry_of.is_some() && intent.who != GUARD {
            return;
        }
        match intent.target.trigger {
            Trigger::Operator | Trigger::Gateway => return,
            Trigger::Pressure | Trigger::Retention | Trigger::Orphan | Trigger::Leftover | Trigger::Archive => {}
        }
        // A permit is used up by what it permits.
        if let Some(permit) = self.permits.get_mut(&intent.target.tree) {
            permit.bytes = permit.bytes.saturating_sub(freed);
        }
        let slots = self.deleted.entry(intent.target.tree.clone()).or_default();
        match slots.back_mut() {
            Some((start, bytes)) if at.since(*start) < SLOT => *bytes = bytes.saturating_add(freed),
            Some(_) | None => slots.push_back((at, freed)),
        }
        while slots.front().is_some_and(|(start, _)| at.since(*start) > DAY) {
            slots.pop_front();
        }
    }

    fn note(&mut self, kind: NoteKind, tree: Option<&TreeId>, bytes: Bytes, number: u64, text: &str, at: Timestamp) {
        if kind == NoteKind::FailureClosed {
            self.failures.remove(&number);
            self.closed.insert(number);
        } else if kind == NoteKind::Closed {
            self.held.remove(&Seq(number));
        }
        if kind == NoteKind::Started {
            self.starts.push_back(at);
            self.starts.retain(|start| at.since(*start) <= STORM);
        }
        let Some(tree) = tree else { return };
        if kind == NoteKind::Closed && number == 0 {
            self.shared.remove(tree);
        }
        if kind == NoteKind::CapTripped {
            let mut words = text.split(' ');
            let Some(cap) = words.next().and_then(Cap::from_word) else { return };
            let mut number_of = || Bytes(words.next().and_then(|word| word.parse().ok()).unwrap_or(0));
            let (allowed, held) = (number_of(), number_of());
            let trip =
                CapTrip { cap, tree: tree.clone(), wanted: bytes, allowed, held, available: Bytes(number), since: at };
            self.permits.remove(tree);
            self.caps.insert((tree.clone(), cap), trip);
        } else if kind == NoteKind::Marker {
            self.marked.insert(tree.clone());
        } else if kind == NoteKind::CapAcknowledged {
            let Some(cap) = Cap::from_word(text) else { return };
            self.caps.remove(&(tree.clone(), cap));
            self.permits.insert(tree.clone(), Permit { bytes, at });
        }
    }

    /// Bytes of a tree that the guard deleted by itself in the 24 h before `now`.
    #[must_use]
    pub fn deleted_within_a_day(&self, tree: &TreeId, now: Timestamp) -> Bytes {
        let slots = self.deleted.get(tree);
        slots.into_iter().flatten().filter(|(start, _)| now.since(*start) <= DAY).map(|(_, bytes)| *bytes).sum()
    }

    /// Bytes that a person permitted beyond the cap of a tree, if the permit is still good.
    #[must_use]
    pub fn permitted(&self, tree: &TreeId, now: Timestamp) -> Option<Bytes> {
        self.permits
            .get(tree)
            .filter(|permit| permit.bytes > Bytes::ZERO && now.since(permit.at) <= PERMIT)
            .map(|permit| permit.bytes)
    }

    /// A number for a new run.
    pub fn next_run(&mut self) -> u64 {
        self.last_run += 1;
        self.last_run
    }

    /// The deletions whose last try has no outcome yet: they are settled before they are tried again.
    #[must_use]
    pub fn unsettled_retries(&self) -> BTreeSet<Seq> {
        self.open.values().filter_map(|open| open.intent.retry_of).collect()
    }

    /// With a start at `now` the daemon is started again and again: whatever ends it may be what it does.
    #[must_use]
    pub fn restart_storm(&self, now: Timestamp) -> bool {
        self.starts.iter().filter(|start| now.since(**start) <= STORM).count() + 1 >= STARTS
    }

    /// Bytes of deleted files that are still open somewhere, of these trees.
    #[must_use]
    pub fn held_open(&self, trees: &[TreeId]) -> Bytes {
        self.held.values().filter(|held| trees.contains(&held.target.tree)).map(|held| held.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::deletion::{Cause, RuleKind};
    use crate::domain::path::RelPath;

    fn intent(trigger: Trigger, retry_of: Option<u64>) -> Entry {
        let target = Target {
            tree: TreeId::new("t"),
            path: RelPath::new(b"a").unwrap(),
            stream: "s".to_owned(),
            bytes: Bytes(10),
            inode: 1,
            fingerprint: 2,
            rule: RuleKind::Pressure,
            trigger,
            reason: String::new(),
        };
        let retry_of = retry_of.map(Seq);
        Entry::Intent(Intent { target, who: "guard".to_owned(), job: None, run: 3, retry_of })
    }

    fn outcome(intent: u64, attempt: Attempt) -> Entry {
        Entry::Outcome { intent: Seq(intent), attempt }
    }

    fn note(kind: NoteKind, text: &str) -> Entry {
        let tree = Some(TreeId::new("t"));
        Entry::Note {
            kind,
            volume: None,
            tree,
            who: "ops".to_owned(),
            bytes: Bytes(7),
            number: 1,
            text: text.to_owned(),
        }
    }

    fn history(entries: Vec<(i64, Entry)>) -> History {
        let mut history = History::default();
        for (seq, (at, entry)) in (1..).zip(entries) {
            history.enter(&Recorded { seq: Seq(seq), at: Timestamp::from_secs(at), hash: [0; 32], entry });
        }
        history
    }

    fn failed() -> Attempt {
        Attempt::Failed { cause: Cause::Locked, error: "no".to_owned(), holder: None }
    }

    fn verified(open: bool) -> Attempt {
        Attempt::Verified { freed: Bytes(10), shared: Bytes::ZERO, open }
    }

    #[test]
    fn what_a_person_has_tried_again_counts_against_no_cap() {
        for (who, counted) in [(GUARD, 10), ("root", 0)] {
            let Entry::Intent(again) = intent(Trigger::Pressure, Some(1)) else { panic!("it is an intent") };
            let again = Entry::Intent(Intent { who: who.to_owned(), ..again });
            let first = vec![(1, intent(Trigger::Pressure, None)), (1, outcome(1, failed()))];
            let found = history([first, vec![(2, again), (2, outcome(3, verified(false)))]].concat());
            let deleted = found.deleted_within_a_day(&TreeId::new("t"), Timestamp::from_secs(3));
            assert_eq!((deleted, found.failures.len()), (Bytes(counted), 0), "{who}");
        }
    }

    #[test]
    fn what_is_shared_is_missed_until_the_volume_is_well() {
        let shared = Attempt::Verified { freed: Bytes(10), shared: Bytes(9), open: false };
        let stalled = vec![(1, intent(Trigger::Pressure, None)), (1, outcome(1, shared))];
        let tree = TreeId::new("t");
        assert_eq!(history(stalled.clone()).shared[&tree].bytes, Bytes(9));
        let well = Entry::Note {
            kind: NoteKind::Closed,
            volume: None,
            tree: Some(tree),
            who: "guard".to_owned(),
            bytes: Bytes(9),
            number: 0,
            text: String::new(),
        };
        assert!(history([stalled, vec![(2, well)]].concat()).shared.is_empty());
    }

    #[test]
    fn a_failure_lives_until_it_succeeds_or_is_closed() {
        let twice = vec![
            (1, intent(Trigger::Pressure, None)),
            (2, outcome(1, failed())),
            (3, intent(Trigger::Pressure, Some(1))),
            (4, outcome(3, failed())),
        ];
        let found = history(twice.clone());
        let failure = &found.failures[&1];
        assert_eq!((failure.attempts, failure.since.secs(), found.open.len()), (2, 2, 0));
        let more = |entries: Vec<(i64, Entry)>| history([twice.clone(), entries].concat());
        assert!(more(vec![(5, note(NoteKind::FailureClosed, "gone by hand"))]).failures.is_empty());
        let retried = vec![(5, intent(Trigger::Pressure, Some(1))), (6, outcome(5, verified(false)))];
        assert!(more(retried).failures.is_empty());
    }

    #[test]
    fn own_deletions_of_a_day_count_and_those_of_persons_do_not() {
        let found = history(vec![
            (0, intent(Trigger::Pressure, None)),
            (0, outcome(1, verified(false))),
            (80_000, intent(Trigger::Retention, None)),
            (80_000, outcome(3, verified(true))),
            (80_001, intent(Trigger::Operator, None)),
            (80_001, outcome(5, verified(false))),
        ]);
        let tree = TreeId::new("t");
        assert_eq!(found.deleted_within_a_day(&tree, Timestamp::from_secs(80_002)), Bytes(20));
        assert_eq!(found.deleted_within_a_day(&tree, Timestamp::from_secs(90_000)), Bytes(10));
        assert_eq!(found.held_open(&[tree]), Bytes(10));
        assert_eq!(found.last_run, 3);
    }

    #[test]
    fn a_cap_waits_for_a_person_and_their_leave_ends() {
        let tripped = (5, note(NoteKind::CapTripped, "run_share 5 6"));
        let found = history(vec![tripped.clone()]);
        let trip = &found.caps[&(TreeId::new("t"), Cap::RunShare)];
        assert_eq!((trip.wanted, trip.available, trip.allowed, trip.held), (Bytes(7), Bytes(1), Bytes(5), Bytes(6)));
        let found = history(vec![tripped, (10, note(NoteKind::CapAcknowledged, "run_share"))]);
        assert!(found.caps.is_empty());
        let tree = TreeId::new("t");
        assert_eq!(found.permitted(&tree, Timestamp::from_secs(3000)), Some(Bytes(7)));
        assert_eq!(found.permitted(&tree, Timestamp::from_secs(4000)), None);
    }

    /// Fault 91: what is known of the clock outlives the process.
    #[test]
    fn a_clock_that_is_not_trusted_is_not_trusted_after_a_restart_either() {
        let note = |text: String| {
            let mut note = Entry::note(NoteKind::Clock, text);
            let Entry::Note { volume, .. } = &mut note else { unreachable!() };
            *volume = Some(VolumeId::new("v"));
            (1, note)
        };
        let suspect = note(clock_text("jumped forward [by a lot]", &[-5, 0, 86_400_000]));
        let found = history(vec![suspect.clone()]);
        let (text, offsets) = &found.clocks[&VolumeId::new("v")];
        assert_eq!((text.as_str(), offsets.as_slice()), ("jumped forward [by a lot]", &[-5, 0, 86_400_000][..]));
        assert!(history(vec![suspect, note("the clock is trusted again".to_owned())]).clocks.is_empty());
    }

    /// Fault 81.
    #[test]
    fn three_starts_in_five_minutes_are_a_storm() {
        let started = |times: &[i64]| {
            let notes = times.iter().map(|at| (*at, Entry::note(NoteKind::Started, String::new())));
            history(notes.collect()).restart_storm(Timestamp::from_secs(700))
        };
        assert!(!started(&[650]) && !started(&[300, 399, 650]));
        assert!(started(&[600, 650]) && started(&[0, 400, 500]));
    }

    #[test]
    fn an_intent_without_outcome_stays_open() {
        assert_eq!(history(vec![(1, intent(Trigger::Pressure, None))]).open.len(), 1);
    }
}
