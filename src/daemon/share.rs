//! How much of a volume's deficit is ours to give back.

use std::time::Duration;

use super::tree::TreeWatch;
use super::volume::VolumeWorker;
use crate::domain::history::History;
use crate::domain::journal::{Entry, GUARD, NoteKind};
use crate::domain::limits::{ENDED, Grant, Growth, our_share};
use crate::domain::pressure::{Deficit, Pressure, assess};
use crate::domain::units::Bytes;
use crate::domain::volume::Reading;

/// Only an inventory of this moment tells what grew: an older one makes our own growth look like that of others.
const FRESH: Duration = Duration::from_secs(2);

impl VolumeWorker {
    /// Keeps what a later deficit is shared by: what was used and held when all was well, and, since pressure began, what is ours
    /// to give back.
    pub(super) fn share(&mut self) {
        let Ok(reading) = self.reading.as_ref().copied() else { return };
        match &self.pressure {
            Pressure::Normal => {
                let boot = self.engine.clock.boottime();
                if self.trees.iter().all(|tree| tree.scanned_within(FRESH, boot)) {
                    self.normal = Some((reading.space.used(), self.held()));
                }
                self.grant = None;
                self.keep_grant();
                return;
            }
            Pressure::Blind { .. } => return,
            Pressure::Reclaiming { .. } | Pressure::Exhausted { .. } => {}
        }
        if self.grant.is_none() {
            // What was found to be others' stays theirs when the guard starts again.
            self.grant = self.journal().with_history(|history| history.grants.get(&self.name).copied());
        }
        if self.grant.is_none() {
            let deficit = self.pressure.deficit();
            let (bytes, inodes) = (self.our_share(&reading, deficit), self.our_inodes(&reading, deficit));
            let whole = bytes >= deficit.bytes && inodes >= deficit.inodes;
            self.grant = (!whole).then(|| Grant { bytes, held: self.held(), inodes, files: self.files() });
            self.keep_grant();
        }
    }

    /// Pressure begins, so that it must be known whose growth it is. A critical volume does not wait for that.
    pub(super) fn needs_scan(&self) -> bool {
        let Ok(reading) = &self.reading else { return false };
        let (above, deficit) = assess(reading, &self.marks, self.inflow());
        self.pressure == Pressure::Normal && above && !deficit.critical
    }

    /// Puts on record what is ours to give back, once for each time that others fill the volume, and that it is over. A note that
    /// cannot be written is missed only by the next start, which then shares by what our trees hold.
    fn keep_grant(&self) {
        let known = self.journal().with_history(|history| history.grants.get(&self.name).copied());
        if !self.writes || known == self.grant {
            return;
        }
        let note = Entry::Note {
            kind: NoteKind::Share,
            volume: Some(self.name.clone()),
            tree: None,
            who: GUARD.to_owned(),
            bytes: self.grant.map_or(Bytes::ZERO, |grant| grant.bytes),
            number: 0,
            text: self.grant.map_or_else(|| ENDED.to_owned(), |grant| grant.text()),
        };
        let _ = self.journal().append_synced(vec![note], self.now());
    }

    /// What is ours to give back of a deficit. Deleted files that are still open are promised already.
    pub(super) fn target(&self, reading: &Reading, deficit: Deficit, history: &History) -> Deficit {
        if self.stalled.is_some() {
            return Deficit { bytes: Bytes::ZERO, inodes: 0, critical: deficit.critical };
        }
        let promised = history.held_open(&self.names());
        let deficit = Deficit { bytes: deficit.bytes.saturating_sub(promised), ..deficit };
        let bytes = match self.grant {
            // Ours is what was granted when pressure began, and what our recorders have added since.
            Some(grant) => {
                let left = grant.bytes.saturating_add(self.held()).saturating_sub(grant.held);
                let least = if deficit.critical { self.batch_bytes() } else { Bytes::ZERO };
                deficit.bytes.min(left.max(least))
            }
            None => self.our_share(reading, deficit),
        };
        let inodes = match self.grant {
            Some(grant) => {
                let left = grant.inodes.saturating_add(self.files()).saturating_sub(grant.files);
                let least = if deficit.critical { self.engine.cleanup.batch_files as u64 } else { 0 };
                deficit.inodes.min(left.max(least))
            }
            None => self.our_inodes(reading, deficit),
        };
        Deficit { bytes, inodes, ..deficit }
    }

    pub(super) fn files(&self) -> u64 {
        self.trees.iter().map(TreeWatch::files).sum()
    }

    /// Our share of the inodes that are missing: of what is used, as our files are.
    pub(super) fn our_inodes(&self, reading: &Reading, deficit: Deficit) -> u64 {
        let used = reading.space.inodes.saturating_sub(reading.space.inodes_free);
        our_share(Bytes(deficit.inodes), None, Bytes(self.files()), Bytes(used), Bytes(1), false).0
    }

    /// A batch, in bytes, as far as files are of their usual size.
    pub(super) fn batch_bytes(&self) -> Bytes {
        let cleanup = &self.engine.cleanup;
        let mean = self.held().0.checked_div(self.files()).unwrap_or(0);
        cleanup.batch_bytes.min(Bytes(mean.saturating_mul(cleanup.batch_files as u64)))
    }

    /// Our share of a deficit that begins now.
    pub(super) fn our_share(&self, reading: &Reading, deficit: Deficit) -> Bytes {
        let (used, held) = (reading.space.used(), self.held());
        let boot = self.engine.clock.boottime();
        let fresh = self.trees.iter().all(|tree| tree.scanned_within(FRESH, boot));
        let growth = self.normal.filter(|_| fresh).map(|(used_then, held_then)| Growth {
            ours: held.saturating_sub(held_then),
            all: used.saturating_sub(used_then),
        });
        our_share(deficit.bytes, growth, held, used, self.batch_bytes(), deficit.critical)
    }
}
