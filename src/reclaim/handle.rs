//! The trees that deletions are carried out in.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::domain::deletion::{OBSERVED, RuleKind, Target};
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::domain::path_set::PathSet;
use crate::domain::retention::{Mode, TreePolicy};
use crate::system::WritableDir;
use crate::system::door::DoorRules;

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
    /// Where no lease is to be had, or is believed, time and two unchanged sightings stand in, and both are there.
    pub without_lease: bool,
    /// Of what was asked for by name, the files, by inode and fingerprint, that the last scan saw as they are: only for these was there a
    /// sighting before that of the request, so that time may stand in for a lease.
    pub sighted: HashSet<(u64, u64)>,
    /// Likewise of what goes as one: directories all of whose files the last scan saw as they are.
    pub sighted_units: BTreeSet<RelPath>,
    /// What the last scan found set aside beside itself.
    pub beside: Vec<RelPath>,
    /// What its platforms protect.
    pub favourites: Arc<PathSet>,
}

impl TreeHandle {
    pub(super) fn rules(&self, target: &Target) -> DoorRules {
        // All else was chosen from a scan.
        let asked = target.rule == RuleKind::Requested;
        let in_sighted =
            || self.policy.layout.unit_of(&target.path).is_some_and(|unit| self.sighted_units.contains(&unit));
        let sighted = || self.sighted.contains(&(target.inode, target.fingerprint)) || in_sighted();
        DoorRules {
            when_open: self.policy.when_open,
            leases: self.leases,
            without_lease: self.without_lease && (!asked || sighted()),
            may_share: self.may_share,
            name_is_record: false,
        }
    }

    /// Why today's policy spares a path, if it does.
    pub(super) fn spares(&self, path: &RelPath) -> Option<&'static str> {
        if self.policy.mode != Mode::Enforce {
            return Some(OBSERVED);
        }
        self.policy.protects(path, &self.favourites).then_some("protected")
    }
}

/// Trees by name.
pub type Trees = BTreeMap<TreeId, TreeHandle>;
