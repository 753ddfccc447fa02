//! What others get of a tree: a deletion, and whoever looks.

use std::sync::Arc;
use std::time::Duration;

use super::super::archiving::Proof;
use super::TreeWatch;
use crate::domain::path::show_bytes;
use crate::domain::recording::FileIndex;
use crate::domain::status::TreeView;
use crate::domain::volume::FilesystemTraits;
use crate::reclaim::TreeHandle;

impl TreeWatch {
    /// What a deletion needs of it.
    pub(in crate::daemon) fn handle(&self, traits: &FilesystemTraits, boot: Duration, proof: &Proof) -> TreeHandle {
        // Two sightings, a scan's and the door's, at least `min_age` apart.
        let (sightings, apart) = (self.sightings.clone(), self.policy.min_age);
        let sighted = move |file| sightings.hold(file, boot, apart);
        let of_unit = |index: &FileIndex| {
            let seen = self.inventory.get(*index);
            sighted((seen.inode, seen.fingerprint))
        };
        let units = self.units.iter().filter(|(_, index)| of_unit(index)).map(|(path, _)| path.clone());
        TreeHandle {
            dir: self.dir.clone(),
            policy: self.policy.clone(),
            may_share: traits.may_share(),
            leases: traits.leases,
            sighted_units: units.collect(),
            sighted: Arc::new(sighted),
            beside: self.inventory.passed_over.beside.clone(),
            favourites: self.favourites.clone(),
            holds: self.holds.clone(),
            proven: proof.of(&self.policy, &self.dir, &self.archived),
        }
    }

    pub(in crate::daemon) fn view(&self) -> TreeView {
        TreeView {
            policy: self.policy.clone(),
            path: show_bytes(self.dir.path().as_os_str().as_encoded_bytes()).0,
            pick: self.pick.clone(),
            inventory: self.inventory.clone(),
            survey: self.survey.clone(),
            gone: self.gone_tally,
            unleased: self.unleased,
            fault: self.fault.clone(),
            orphans: self.orphans.clone(),
            top: self.top,
            // What was taken over before protects still, and may not be all.
            favourites: self.favourites_of.as_ref().map(|_| self.favourites.clone()),
        }
    }
}
