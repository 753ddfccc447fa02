//! What the journal adds up to: read once at start, then kept up to date with every entry that is appended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::clock_watch::Moment;
use super::deletion::{Attempt, Cap, Failure, Holder, RuleKind, Seq, Target, Trigger};
use super::journal::{Entry, GUARD, Intent, NoteKind, OpenIntent, Recorded};
use super::limits::Grant;
use super::live::StreamTuple;
use super::names::{ArchiveId, MediaServerId, TreeId, VolumeId};
use super::path::RelPath;
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
/// So many numbers of what is over are kept.
const OVER: usize = 10_000;

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

/// A file that is set aside as an orphan, until it is deleted or put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// What it was when it was set aside.
    pub target: Target,
    /// When that was.
    pub since: Timestamp,
}

/// What a stream lost that its `keep` still promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// When the newest of what was deleted had been recorded.
    pub recorded: Timestamp,
    /// When something of it was deleted last.
    pub at: Timestamp,
}

/// A stream that is not recorded because of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Since when.
    pub since: Timestamp,
    /// The volume that was about to fill.
    pub volume: VolumeId,
    /// The tree that its recordings lie in.
    pub tree: TreeId,
}

/// A stream of a media server.
pub type StreamOf = (MediaServerId, StreamTuple);

/// The sum of a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Intents without an outcome.
    pub open: BTreeMap<Seq, OpenIntent>,
    /// Deletions that failed and are tried again, by the number of their first intent.
    pub failures: BTreeMap<u64, Failure>,
    /// Deleted files that are still open somewhere.
    pub held: BTreeMap<Seq, HeldOpen>,
    /// Files in quarantine, by the number of the intent that set them aside.
    pub quarantined: BTreeMap<Seq, Quarantined>,
    /// Caps that wait for a person.
    pub caps: BTreeMap<(TreeId, Cap), CapTrip>,
    /// What is ours to give back on volumes that others filled.
    pub grants: BTreeMap<VolumeId, Grant>,
    /// What persons permitted beyond a cap.
    pub permits: BTreeMap<(TreeId, Cap), Permit>,
    /// Deleted bytes that a snapshot or reflink copies share, until their volume is well again.
    pub shared: BTreeMap<TreeId, Tally>,
    /// What was deleted of streams, by the guard's own decision, though their `keep` promised it: by tree and stream. It is outlived by what
    /// is recorded after it, so that nobody needs to end it.
    pub lost: BTreeMap<(TreeId, String), Loss>,
    /// What went without a copy though its tree has an archive, at most a day apart, and when it last did.
    pub unarchived: BTreeMap<TreeId, (Tally, Timestamp)>,
    /// Streams that are not recorded because of us.
    pub stopped: BTreeMap<StreamOf, Stopped>,
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
    /// Runs and jobs that persons or platforms asked for and that are over, the last thousands of them.
    pub over: BTreeSet<u64>,
    /// The entry of the daemon's last start; 0 if it never was.
    pub last_start: Seq,
    /// Volumes by whose look the clock is not trusted: why, and by how many milliseconds each clock that was seen differs.
    pub clocks: BTreeMap<VolumeId, (String, Vec<i64>)>,
    /// When the daemon was started, of late.
    starts: VecDeque<Timestamp>,
    deleted: BTreeMap<TreeId, VecDeque<(Timestamp, Bytes)>>,
}

impl CapTrip {
    /// The note that keeps it; a bucket lies on no volume.
    #[must_use]
    pub fn entry(&self, volume: Option<&VolumeId>) -> Entry {
        Entry::Note {
            kind: NoteKind::CapTripped,
            volume: volume.cloned(),
            tree: Some(self.tree.clone()),
            who: GUARD.to_owned(),
            bytes: self.wanted,
            number: self.available.0,
            text: format!("{} {} {}", self.cap, self.allowed.0, self.held.0),
        }
    }
}

/// The note that a stream's recording is stopped, or, without `stopped`, that it is not because of us any more; `why` in words.
#[must_use]
pub fn recording_note((server, stream): &StreamOf, stopped: Option<&Stopped>, why: &str) -> Entry {
    let kind = if stopped.is_some() { NoteKind::RecordingStopped } else { NoteKind::RecordingReleased };
    Entry::Note {
        kind,
        volume: stopped.map(|stopped| stopped.volume.clone()),
        tree: stopped.map(|stopped| stopped.tree.clone()),
        who: GUARD.to_owned(),
        bytes: Bytes::ZERO,
        number: 0,
        // A name of a configuration, and names without control characters: none of them has a line of its own.
        text: [server.as_str(), &stream.vhost, &stream.app, &stream.stream, why].join("\n"),
    }
}

/// The stream that such a note is about.
pub(super) fn stream_of(text: &str) -> Option<StreamOf> {
    let mut lines = text.split('\n');
    let server = MediaServerId::new(lines.next()?);
    let mut word = || lines.next().map(str::to_owned);
    Some((server, StreamTuple { vhost: word()?, app: word()?, stream: word()? }))
}

/// The text of the notes about a copy that comes to its end in an archive, `rest` in words.
#[must_use]
pub fn removal_text(path: &RelPath, archive: &ArchiveId, rest: &str) -> String {
    // A path that is shown has no line of its own, and neither has a name.
    format!("{}\n{archive}\n{rest}", path.show().0)
}

/// The archive that such a note is about.
fn removed_from(text: &str) -> Option<ArchiveId> {
    text.split('\n').nth(1).map(ArchiveId::new)
}

/// The text of a note that the clock is not trusted.
#[must_use]
pub fn clock_text(why: &str, offsets: &[i64]) -> String {
    let offsets: Vec<String> = offsets.iter().map(ToString::to_string).collect();
    format!("{why} [{}]", offsets.join(" "))
}

/// What such a text says; `None` if the clock is trusted again.
pub(super) fn clock_offsets(text: &str) -> Option<(String, Vec<i64>)> {
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
                self.begin(intent);
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
            Entry::Note { kind: NoteKind::RecordingStopped, volume: Some(volume), tree: Some(tree), text, .. } => {
                if let Some(stream) = stream_of(text) {
                    let stopped = Stopped { since: recorded.at, volume: volume.clone(), tree: tree.clone() };
                    self.stopped.entry(stream).or_insert(stopped);
                }
            }
            Entry::Note { kind: NoteKind::RecordingReleased, text, .. } => {
                if let Some(stream) = stream_of(text) {
                    self.stopped.remove(&stream);
                }
            }
            Entry::Note { kind: NoteKind::Clock, volume: Some(volume), text, .. } => {
                match clock_offsets(text) {
                    Some((text, offsets)) => self.clocks.insert(volume.clone(), (text, offsets)),
                    None => self.clocks.remove(volume),
                };
            }
            Entry::Note { kind, tree, who, bytes, number, text, .. } => {
                if *kind == NoteKind::Started {
                    self.last_start = recorded.seq;
                }
                if *kind == NoteKind::RunStarted {
                    self.last_run = self.last_run.max(*number);
                }
                if *kind == NoteKind::JobOver || (*kind == NoteKind::RunEnded && who != GUARD) {
                    self.last_run = self.last_run.max(*number);
                    self.over.insert(*number);
                    if self.over.len() > OVER {
                        self.over.pop_first();
                    }
                }
                self.note(*kind, tree.as_ref(), *bytes, *number, text, recorded.at);
            }
        }
    }

    /// What a person permitted beyond the cap of orphans is one run: the first that begins uses it up, whoever wanted it. What has been
    /// in quarantine is not capped again.
    fn begin(&mut self, intent: &Intent) {
        match intent.target.trigger {
            Trigger::Orphan | Trigger::Leftover if intent.retry_of.is_none() => {
                self.permits.remove(&(intent.target.tree.clone(), Cap::OrphanShare));
            }
            Trigger::Orphan
            | Trigger::Leftover
            | Trigger::Pressure
            | Trigger::Retention
            | Trigger::Operator
            | Trigger::Gateway
            | Trigger::Archive => {}
        }
    }

    fn settle(&mut self, open: &OpenIntent, attempt: &Attempt, at: Timestamp) {
        let intent = &open.intent;
        if intent.target.rule == RuleKind::Quarantine {
            // Nothing was to be deleted, so there is no failed deletion to try again: what could not be set aside lies where it lay,
            // and is an orphan as before.
            if attempt.is_quarantined() {
                let quarantined = Quarantined { target: intent.target.clone(), since: at };
                self.quarantined.insert(open.seq, quarantined);
            }
            return;
        }
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
                self.quarantined.remove(&Seq(id));
                if *shared > Bytes::ZERO {
                    self.shared.entry(intent.target.tree.clone()).or_default().add(*shared);
                }
                if *held {
                    let target = intent.target.clone();
                    let held = HeldOpen { seq: open.seq, target, bytes: *freed, since: at, holder: None };
                    self.held.insert(open.seq, held);
                }
                self.count(intent, *freed, at);
                self.lose(&intent.target, at);
            }
            Attempt::AlreadyGone | Attempt::Kept { .. } => {
                if *attempt == Attempt::AlreadyGone {
                    self.quarantined.remove(&Seq(id));
                }
                // A retry that was not made leaves the failure as it was (promise 8).
                if attempt.is_final() {
                    self.failures.remove(&id);
                }
            }
        }
    }

    /// Remembers what a stream lost of its promise, and what went without a copy.
    fn lose(&mut self, target: &Target, at: Timestamp) {
        if target.rule == RuleKind::Unarchived {
            let (tally, last) = self.unarchived.entry(target.tree.clone()).or_insert((Tally::default(), at));
            if at.since(*last) > DAY {
                *tally = Tally::default();
            }
            tally.add(target.bytes);
            *last = at;
        }
        let (RuleKind::BelowKeep, Some(recorded)) = (target.rule, target.recorded) else { return };
        let loss = self.lost.entry((target.tree.clone(), target.stream.clone())).or_insert(Loss { recorded, at });
        *loss = Loss { recorded: loss.recorded.max(recorded), at };
    }

    /// Counts a deletion of the guard's own against its tree's cap.
    fn count(&mut self, intent: &Intent, freed: Bytes, at: Timestamp) {
        // A person who has a failure tried again asks for it.
        if intent.retry_of.is_some() && intent.who != GUARD {
            return;
        }
        match intent.target.trigger {
            Trigger::Operator | Trigger::Gateway => return,
            // A person may ask for these too, by name.
            Trigger::Orphan | Trigger::Leftover if intent.who != GUARD => return,
            Trigger::Pressure | Trigger::Retention | Trigger::Orphan | Trigger::Leftover | Trigger::Archive => {}
        }
        self.count_of(&intent.target.tree, freed, at);
    }

    /// Counts what went by the guard's own decision: of a tree, or, under its name, of a bucket.
    fn count_of(&mut self, tree: &TreeId, freed: Bytes, at: Timestamp) {
        // A permit is used up by what it permits.
        if let Some(permit) = self.permits.get_mut(&(tree.clone(), Cap::RunShare)) {
            permit.bytes = permit.bytes.saturating_sub(freed);
        }
        let slots = self.deleted.entry(tree.clone()).or_default();
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
        } else if kind == NoteKind::Restored {
            self.quarantined.remove(&Seq(number));
            self.failures.remove(&number);
        }
        if kind == NoteKind::ArchiveRemoved
            && let Some(archive) = removed_from(text)
        {
            self.count_of(&TreeId::new(archive.as_str()), bytes, at);
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
            self.permits.remove(&(tree.clone(), cap));
            self.caps.insert((tree.clone(), cap), trip);
        } else if kind == NoteKind::Marker {
            self.marked.insert(tree.clone());
        } else if kind == NoteKind::CapAcknowledged {
            let Some(cap) = Cap::from_word(text) else { return };
            self.caps.remove(&(tree.clone(), cap));
            self.permits.insert((tree.clone(), cap), Permit { bytes, at });
        }
    }

    /// Bytes of a tree that the guard deleted by itself in the 24 h before `now`.
    #[must_use]
    pub fn deleted_within_a_day(&self, tree: &TreeId, now: Timestamp) -> Bytes {
        let slots = self.deleted.get(tree);
        slots.into_iter().flatten().filter(|(start, _)| now.since(*start) <= DAY).map(|(_, bytes)| *bytes).sum()
    }

    /// Bytes that a person permitted beyond a cap of a tree, if the permit is still good. Orphans may be empty files, so that one for
    /// no bytes is good too until it is used.
    #[must_use]
    pub fn permitted(&self, tree: &TreeId, cap: Cap, now: Timestamp) -> Option<Bytes> {
        self.permits
            .get(&(tree.clone(), cap))
            .filter(|permit| permit.bytes > Bytes::ZERO || cap == Cap::OrphanShare)
            .filter(|permit| now.since(permit.at) <= PERMIT)
            .map(|permit| permit.bytes)
    }

    /// Files that a tree has in quarantine.
    pub fn quarantined_in(&self, tree: &TreeId) -> impl Iterator<Item = (Seq, &Quarantined)> {
        self.quarantined.iter().filter(move |(_, one)| one.target.tree == *tree).map(|(seq, one)| (*seq, one))
    }

    /// What a tree has had in quarantine for `span`, and is due to be deleted by the guard; nothing while the clock is not trusted. What
    /// failed to be deleted is tried again by itself, or was closed by a person.
    #[must_use]
    pub fn past_quarantine(&self, tree: &TreeId, span: Duration, moment: &Moment) -> Vec<Seq> {
        if !moment.trusted {
            return Vec::new();
        }
        let open = self.unsettled_retries();
        let due = self.quarantined_in(tree).filter(|(_, one)| moment.age(one.since) >= span);
        due.map(|(seq, _)| seq)
            .filter(|seq| !open.contains(seq) && !self.failures.contains_key(&seq.0) && !self.closed.contains(&seq.0))
            .collect()
    }

    /// A number for a new run.
    pub fn next_run(&mut self) -> u64 {
        self.last_run += 1;
        self.last_run
    }

    /// A run of this number goes on: no new one bears it.
    pub fn pass_run(&mut self, number: u64) {
        self.last_run = self.last_run.max(number);
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
#[path = "history_tests.rs"]
mod tests;
