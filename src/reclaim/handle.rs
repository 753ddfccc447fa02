//! The trees that deletions are carried out in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::deletion::{OBSERVED, Target};
use crate::domain::hold::{Holds, Reach};
use crate::domain::layout::Layout;
use crate::domain::names::{StreamId, TreeId};
use crate::domain::path::RelPath;
use crate::domain::path_set::PathSet;
use crate::domain::protection::HOLD_ATTRIBUTE;
use crate::domain::retention::{Mode, TreePolicy};
use crate::store::HoldBook;
use crate::system::door::DoorRules;
use crate::system::{Dir, WritableDir};

/// Says of a target whether what it goes for is true now; in words, if not.
pub type Proven = Arc<dyn Fn(&Target) -> Result<(), String> + Send + Sync>;

/// A tree, as a deletion needs it.
#[derive(Clone)]
pub struct TreeHandle {
    /// Its handle.
    pub dir: Arc<dyn WritableDir>,
    /// Its rules, as they are now.
    pub policy: Arc<TreePolicy>,
    /// Its files may share blocks.
    pub may_share: bool,
    /// Leases are believed here: the filesystem is local.
    pub leases: bool,
    /// Whether a file, by inode and fingerprint, was seen as it is so long ago that time may stand in for a lease, where none is to be had or
    /// is believed ([`Sightings`](crate::domain::sightings::Sightings)).
    pub sighted: Arc<dyn Fn((u64, u64)) -> bool + Send + Sync>,
    /// Likewise directories that go as one, all of whose files were.
    pub sighted_units: BTreeSet<RelPath>,
    /// What the last scan found set aside beside itself.
    pub beside: Vec<RelPath>,
    /// What its platforms protect.
    pub favourites: Arc<PathSet>,
    /// What persons hold, at the moment at which it is asked.
    pub holds: Arc<HoldBook>,
    /// Whether the copy that a target goes for is there now, in words if not.
    pub proven: Proven,
}

impl TreeHandle {
    pub(super) fn rules(&self, target: &Target) -> DoorRules {
        let in_sighted = || {
            let unit = self.policy.layout.unit_of(&target.path);
            unit.is_some_and(|unit| self.sighted_units.contains(&unit))
        };
        DoorRules {
            when_open: self.policy.when_open,
            leases: self.leases,
            without_lease: (self.sighted)((target.inode, target.fingerprint)) || in_sighted(),
            may_share: self.may_share,
            name_is_record: false,
        }
    }

    /// Why today's policy spares a path, if it does.
    pub(super) fn spares(&self, path: &RelPath) -> Option<&'static str> {
        if self.policy.mode != Mode::Enforce {
            return Some(OBSERVED);
        }
        if self.policy.protects(path, &self.favourites) {
            return Some("protected");
        }
        held(&self.holds.of(&self.policy.tree), self.dir.as_ref(), &self.policy.layout, path).then_some("hold")
    }
}

/// Whether a person holds a file, or the directory that it goes with. Only where a span of its stream is held is the file looked at, for
/// when it was finished.
#[must_use]
pub fn held(holds: &Holds, dir: &dyn Dir, layout: &Layout, path: &RelPath) -> bool {
    if holds.is_empty() {
        return false;
    }
    let unit = layout.unit_of(path);
    if holds.naming(path).next().is_some() || unit.is_some_and(|unit| holds.naming(&unit).next().is_some()) {
        return true;
    }
    // Of a directory its files tell when they were recorded, each for itself.
    let Some(found) = layout.recognise(path, 1) else { return false };
    let stream = StreamId::new(&found.stream);
    if !holds.know(&stream) {
        return false;
    }
    let modified = dir.look(path).ok().flatten().and_then(|seen| seen.modified_at());
    holds.spanning(&stream, Reach::of(found.named, modified)).next().is_some()
}

/// Whether a file bears a person's hold. What cannot be opened can hardly be asked; the door looks again.
#[must_use]
pub fn bears_hold(tree: &dyn WritableDir, path: &RelPath) -> bool {
    let file = tree.open(path).ok().flatten();
    file.is_some_and(|file| file.attribute(HOLD_ATTRIBUTE).is_ok_and(|hold| hold.is_some()))
}

/// Trees by name.
pub type Trees = BTreeMap<TreeId, TreeHandle>;
