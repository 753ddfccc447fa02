//! The cap of orphans: what a run wants as orphans of a tree goes whole or not at all (promise 9).

use super::batch::Engine;
use crate::domain::deletion::Cap;
use crate::domain::event::Event;
use crate::domain::history::CapTrip;
use crate::domain::limits::orphan_cap;
use crate::domain::names::{TreeId, VolumeId};
use crate::domain::recording::Tally;
use crate::domain::units::{Bytes, Percent};
use crate::store::JournalError;

/// What a run wants to delete or set aside as orphans of one tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrphanWish {
    /// The volume.
    pub volume: VolumeId,
    /// The tree.
    pub tree: TreeId,
    /// The largest share of the tree in one run.
    pub max_share: Percent,
    /// What the tree holds, what is wanted included.
    pub held: Tally,
    /// All that is wanted.
    pub wanted: Tally,
    /// Bytes available on the volume now.
    pub available: Bytes,
}

impl Engine {
    /// Whether a run may begin with what it wants as orphans. Beyond the cap nothing of it may: the cap trips, which is on record and waits
    /// for a person. Whoever acknowledges it permits one run of that size.
    ///
    /// # Errors
    /// If the journal cannot be written; then nothing may go either.
    pub fn orphans_allowed(&self, wish: &OrphanWish) -> Result<bool, JournalError> {
        let now = self.clock.now();
        if wish.max_share >= Percent::WHOLE {
            return Ok(true);
        }
        let (tripped, permitted) = self.journal.with_history(|history| {
            let tripped = history.caps.contains_key(&(wish.tree.clone(), Cap::OrphanShare));
            (tripped, history.permitted(&wish.tree, Cap::OrphanShare, now))
        });
        if tripped {
            return Ok(false);
        }
        let Err(allowed) = orphan_cap(wish.max_share, wish.held, wish.wanted, permitted) else { return Ok(true) };
        let trip = CapTrip {
            cap: Cap::OrphanShare,
            tree: wish.tree.clone(),
            wanted: wish.wanted.bytes,
            allowed,
            held: wish.held.bytes,
            available: wish.available,
            since: now,
        };
        self.journal.append_synced(vec![trip.entry(Some(&wish.volume))], now)?;
        (self.events)(Event::CapTripped { tree: trip.tree, cap: trip.cap, wanted: trip.wanted, allowed: trip.allowed });
        Ok(false)
    }
}
