//! Verdicts: whether a file is proven to be an orphan, and what is still wanted. `docs/decisions/0008-orphans.md` tells the rules.

use std::time::Duration;

use super::live::Recorder;
use super::orphan::{OrphanKind, Verdict, Witness};
use super::units::Timestamp;

/// Beyond the longest slice, a recorder may hold a file back for so long; and no camera writes so little that its file stands still
/// for longer.
pub const MARGIN: Duration = Duration::from_secs(600);

const DAY: Duration = Duration::from_secs(86_400);

/// What is known of a file that may be an orphan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// What it may be.
    pub kind: OrphanKind,
    /// The later of the time in its name and the file's.
    pub touched: Timestamp,
    /// The scan that first missed it in the catalogue, or first saw it as it is.
    pub first_seen: Timestamp,
    /// When the last scan began, which found it so still.
    pub scan_started: Timestamp,
    /// Of the catalogues that can prove absence, the earliest moment that one speaks of; `None` if there is none.
    pub as_of: Option<Timestamp>,
    /// When the databases among them were last asked whole, the least recent; `None` if there is none.
    pub asked: Option<Timestamp>,
    /// All catalogues of its tree are trusted.
    pub all_trusted: bool,
    /// The tree's grace for its kind.
    pub grace: Duration,
    /// The longest slice known.
    pub longest_slice: Duration,
    /// Whether somebody has it open; `None` if that was not asked or cannot be told.
    pub opened: Option<bool>,
    /// Hook records or relays of its stream wait to be read.
    pub undrained: bool,
    /// Its stream writes now, by its files or as a media server says.
    pub live: bool,
    /// Who writes its stream's files, as media servers say.
    pub recorder: Recorder,
    /// When its stream was last touched.
    pub newest: Option<Timestamp>,
    /// The time of day can be believed.
    pub clock_trusted: bool,
}

impl Facts {
    /// Whether a witness speaks for it; `None` if its kind needs none such.
    fn speaks(&self, witness: Witness) -> Option<bool> {
        match self.kind {
            OrphanKind::Uncatalogued => Some(self.uncatalogued(witness)),
            OrphanKind::Leftover => self.leftover(witness),
        }
    }

    fn uncatalogued(&self, witness: Witness) -> bool {
        match witness {
            // No catalogue, an empty or a partial one proves nothing (faults 76 and 89), and a file is known if any of several knows it.
            Witness::Catalogue => self.as_of.is_some() && self.all_trusted,
            // The row of a recording that was just made is not there yet: peers were seen to delete such (D17).
            Witness::Age => self.as_of.is_some_and(|as_of| apart(self.touched, as_of, self.grace)),
            // A row may be on its way, and a file time may be wrong: our own two looks are not. A database is asked whole so long after the
            // first look too: rows that were dropped by mistake come back.
            Witness::TwoScans => {
                self.first_seen < self.scan_started
                    && apart(self.first_seen, self.scan_started, self.grace)
                    && self.asked.is_none_or(|asked| apart(self.first_seen, asked, self.grace))
            }
            // What somebody writes or plays is not forgotten (faults 27 and 34). Whom nobody can ask says nothing.
            Witness::Unopened => self.opened == Some(false),
            // The row may wait in a hook that we took and nobody read yet.
            Witness::HooksDrained => !self.undrained,
            // A stream that writes now has rows on their way. One that went on for a day since has them no more; without this a camera
            // that records around the clock would never have a provable orphan.
            Witness::StreamIdle => !self.live || self.newest.is_some_and(|newest| apart(self.touched, newest, DAY)),
            // An inventory holds nothing else: what a recorder derives, merges or keeps in directories is not judged (MiBeeNvr#117).
            Witness::Grammar => true,
            // After a jump no age is an age.
            Witness::Clock => self.clock_trusted,
        }
    }

    fn leftover(&self, witness: Witness) -> Option<bool> {
        Some(match witness {
            Witness::Age => {
                let span = match self.recorder {
                    // Nobody is there any more who would finish it: nothing has to be waited for but the grace.
                    Recorder::Ceased => self.grace,
                    // A recorder that still lives finishes its slice, and renames it, within this time (faults 34 and 35).
                    Recorder::Unknown | Recorder::Records => self.grace.max(self.longest_slice.saturating_add(MARGIN)),
                };
                apart(self.touched, self.scan_started, span)
            }
            // One that runs since before the file was last changed may still have it, though it does not write: for a day.
            Witness::StreamIdle => match self.recorder {
                Recorder::Records => apart(self.touched, self.scan_started, DAY),
                // Other files of its stream say nothing of it: the recorder that was started again writes a new one.
                Recorder::Unknown | Recorder::Ceased => return None,
            },
            // A file time can be set, ours cannot: it was seen unchanged for as long as a recorder may hold bytes back, or for the grace
            // where somebody chose less. The age, which is never less than that, bears the rest.
            Witness::TwoScans => {
                self.first_seen < self.scan_started && apart(self.first_seen, self.scan_started, self.grace.min(MARGIN))
            }
            // A recorder that waits for its camera holds its file open for hours.
            Witness::Unopened => self.opened == Some(false),
            Witness::Grammar => true,
            Witness::Clock => self.clock_trusted,
            // It is no recording yet, so no catalogue need know it, and no hook tells of it: a killed recorder sends none.
            Witness::Catalogue | Witness::HooksDrained => return None,
        })
    }
}

/// `to` is not before `from`, and at least `span` after it.
fn apart(from: Timestamp, to: Timestamp, span: Duration) -> bool {
    from <= to && to.since(from) >= span
}

/// Judges a file by what is known of it.
#[must_use]
pub fn judge(facts: &Facts) -> Verdict {
    let mut verdict = Verdict::default();
    for witness in Witness::ALL {
        match facts.speaks(*witness) {
            Some(true) => verdict.witnesses.push(*witness),
            Some(false) => verdict.wanted.push(*witness),
            None => {}
        }
    }
    verdict
}

impl Witness {
    /// Why it does not say so, as part of a sentence.
    fn want(self) -> &'static str {
        match self {
            Self::Catalogue => {
                "no trusted catalogue that can prove absence was read whole, or another of the tree is not trusted"
            }
            Self::Age => "it is not old enough",
            Self::TwoScans => "it was not yet found so in two scans far enough apart",
            Self::Unopened => "somebody has it open, or nobody can tell",
            Self::HooksDrained => "hook records of its stream wait to be read",
            Self::StreamIdle => "its stream writes now and did not go on for a day since",
            Self::Grammar => "its name is none that the layout gives",
            Self::Clock => "the clock is not trusted",
        }
    }
}

impl Verdict {
    /// Why the file is not proven to be an orphan, in a sentence; `None` if it is.
    #[must_use]
    pub fn why_not(&self) -> Option<String> {
        if self.proven() {
            return None;
        }
        if self.wanted.is_empty() {
            return Some("It is not proven: it was not judged yet.".to_owned());
        }
        let wants: Vec<&str> = self.wanted.iter().map(|witness| witness.want()).collect();
        Some(format!("It is not proven: {}.", wants.join("; ")))
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
