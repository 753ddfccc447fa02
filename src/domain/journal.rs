//! Entries of the journal: what was intended, what came of it, and what else a person must find a year later.

use super::deletion::{Attempt, Outcome, Seq, Target, words};
use super::names::{TreeId, VolumeId};
use super::protection::Hold;
use super::units::{Bytes, Timestamp};

words! {
    /// What a note is about.
    NoteKind {
        /// The guard started.
        Started = "started",
        /// A run began.
        RunStarted = "run_started",
        /// A run ended.
        RunEnded = "run_ended",
        /// What somebody asked for is over without a run of its own, or was cancelled.
        JobOver = "job_over",
        /// A batch was measured.
        Ledger = "ledger",
        /// A cap tripped.
        CapTripped = "cap_tripped",
        /// How much of a deficit is ours to give back, or that it is over.
        Share = "share",
        /// A person let go of a cap.
        CapAcknowledged = "cap_acknowledged",
        /// A failed deletion was closed: by a person, or because nobody needs its space any more.
        FailureClosed = "failure_closed",
        /// A directory that had become empty was removed.
        Pruned = "pruned",
        /// A deleted file that somebody had open was closed, so that its space came back.
        Closed = "closed",
        /// Something that a crash left was finished or put back.
        Settled = "settled",
        /// An identity marker was written or accepted.
        Marker = "marker",
        /// The journal or the database was rebuilt or repaired.
        Repaired = "repaired",
        /// The clock is not trusted, or is again.
        Clock = "clock",
        /// A person accepted the new state of a catalogue.
        CatalogueAccepted = "catalogue_accepted",
        /// Rows of a catalogue were inserted or removed.
        Rows = "rows",
        /// A stream's recording is stopped, so that the disk does not fill.
        RecordingStopped = "recording_stopped",
        /// It is no longer stopped because of us: it was begun again, or its stream has ended.
        RecordingReleased = "recording_released",
        /// A recording was brought back from an archive.
        ArchiveRestored = "archive_restored",
        /// A copy is about to be removed from a bucket, where it has come to its end.
        ArchiveRemoving = "archive_removing",
        /// It was removed, looked for and not found; the number is that of the note before.
        ArchiveRemoved = "archive_removed",
        /// It was not removed, or nobody knows; the number is that of the note before.
        ArchiveKept = "archive_kept",
        /// A file is in quarantine no more: it was put back, or found to be there, or found nowhere.
        Restored = "restored",
        /// A person's hold was made; the number is the hold's.
        HoldMade = "hold_made",
        /// A person's hold ended: somebody let go, or its time was over.
        HoldEnded = "hold_ended",
    }
}

/// The intention to delete one recording, on record before it is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// What is to go.
    pub target: Target,
    /// Who wanted it: `guard`, or a person's name.
    pub who: String,
    /// The job that it belongs to.
    pub job: Option<u64>,
    /// The run that it belongs to.
    pub run: u64,
    /// The first intent, if this is another attempt at a deletion that failed; for the deletion of a file in quarantine, the intent that
    /// set it aside.
    pub retry_of: Option<Seq>,
}

/// What one entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Before.
    Intent(Intent),
    /// After: the attempt at the intent with that number.
    Outcome {
        /// The intent.
        intent: Seq,
        /// What became of it.
        attempt: Attempt,
    },
    /// Anything else worth keeping.
    Note {
        /// What it is about.
        kind: NoteKind,
        /// The volume it concerns.
        volume: Option<VolumeId>,
        /// The tree it concerns.
        tree: Option<TreeId>,
        /// Who did it.
        who: String,
        /// The bytes it is about.
        bytes: Bytes,
        /// What it refers to: a run, the number of a failure or of an intent, or, for a cap that trips, the bytes that were
        /// available then.
        number: u64,
        /// In words.
        text: String,
    },
}

impl Entry {
    /// A failed deletion is closed: it is not tried again.
    #[must_use]
    pub fn failure_closed(id: u64, tree: TreeId, who: &str, reason: &str) -> Self {
        Self::Note {
            kind: NoteKind::FailureClosed,
            volume: None,
            tree: Some(tree),
            who: who.to_owned(),
            bytes: Bytes::ZERO,
            number: id,
            text: reason.to_owned(),
        }
    }

    /// A file is in quarantine no more, though it was not deleted. `how` says more than that it was put back.
    #[must_use]
    pub fn restored(quarantine: Seq, target: &Target, who: &str, how: Option<&str>) -> Self {
        let path = target.path.show().0;
        Self::Note {
            kind: NoteKind::Restored,
            volume: None,
            tree: Some(target.tree.clone()),
            who: who.to_owned(),
            bytes: target.bytes,
            number: quarantine.0,
            // A path that is shown has no line of its own.
            text: how.map_or_else(|| path.clone(), |how| format!("{path}\n{how}")),
        }
    }

    /// A hold was made, or, with `ended`, why it is in effect no more.
    #[must_use]
    pub fn hold(hold: &Hold, who: &str, ended: Option<&str>) -> Self {
        Self::Note {
            kind: if ended.is_some() { NoteKind::HoldEnded } else { NoteKind::HoldMade },
            volume: None,
            tree: Some(hold.tree.clone()),
            who: who.to_owned(),
            bytes: Bytes::ZERO,
            number: hold.id,
            // Neither a path that is shown nor a reason has a line of its own.
            text: format!("{}: {}", hold.scope.words(), ended.unwrap_or(&hold.reason)),
        }
    }

    /// A note of the guard's own.
    #[must_use]
    pub fn note(kind: NoteKind, text: impl Into<String>) -> Self {
        Self::Note {
            kind,
            volume: None,
            tree: None,
            who: GUARD.to_owned(),
            bytes: Bytes::ZERO,
            number: 0,
            text: text.into(),
        }
    }

    /// A note that what somebody asked for is over: nothing more of it is begun, also after a restart.
    #[must_use]
    pub fn job_over(job: u64, who: &str, text: impl Into<String>) -> Self {
        Self::Note {
            kind: NoteKind::JobOver,
            volume: None,
            tree: None,
            who: who.to_owned(),
            bytes: Bytes::ZERO,
            number: job,
            text: text.into(),
        }
    }
}

/// Who the guard is in its own journal.
pub const GUARD: &str = "guard";

/// An entry as it stands in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its number.
    pub seq: Seq,
    /// When it was written.
    pub at: Timestamp,
    /// The chain: SHA-256 over the previous entry's hash and this entry.
    pub hash: [u8; 32],
    /// What it says.
    pub entry: Entry,
}

/// An intent without an outcome: what a crash left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenIntent {
    /// Its number; also the name of the file set aside.
    pub seq: Seq,
    /// When it was written.
    pub at: Timestamp,
    /// The intent.
    pub intent: Intent,
}

/// Which entries a reader wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalQuery {
    /// Of this tree only.
    pub tree: Option<String>,
    /// Of this stream only.
    pub stream: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// With this outcome only.
    pub outcome: Option<Outcome>,
    /// Only entries after this number.
    pub after: Seq,
    /// At most so many.
    pub limit: usize,
}

/// A line of the journal as people and programs read it: an outcome together with its intent, or a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalLine {
    /// Number of the outcome, the note, or the intent that has no outcome yet.
    pub seq: Seq,
    /// When.
    pub at: Timestamp,
    /// The chain's hash of that entry.
    pub hash: [u8; 32],
    /// The intent, for deletions.
    pub intent: Option<(Seq, Intent)>,
    /// The outcome; `None` for a note, or while it is open.
    pub attempt: Option<Attempt>,
    /// For notes: kind, volume, tree, who, bytes, text.
    pub note: Option<Entry>,
}

/// What `journal verify` found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Entries that are in order.
    pub entries: u64,
    /// Number of the first and last of them.
    pub range: Option<(Seq, Seq)>,
    /// What is wrong, in order; empty when the chain is intact.
    pub faults: Vec<String>,
}
