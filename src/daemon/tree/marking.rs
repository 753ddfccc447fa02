//! The identity marker of a tree: read at each look, written at first contact.

use std::io;

use super::TreeWatch;
use crate::domain::journal::{Entry, GUARD, NoteKind};
use crate::domain::layout::LayoutKind;
use crate::domain::marker::{Marker, MarkerFault};
use crate::domain::names::TreeId;
use crate::domain::retention::{Mode, TreePolicy};
use crate::domain::units::{Bytes, Timestamp};
use crate::domain::volume::{FilesystemTraits, Unusable};
use crate::store::{Journal, JournalError};
use crate::system::{WritableDir, is_full};

impl TreeWatch {
    /// Looks whether this is still the tree that it was (promise 6). Only the guard that may write, marks it.
    pub(in crate::daemon) fn check(
        &mut self,
        journal: &Journal,
        state: &str,
        traits: &FilesystemTraits,
        writes: bool,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        self.fault = match self.dir.still_there() {
            Err(why) => Some(why),
            Ok(()) if self.policy.mode == Mode::Observe => None,
            Ok(()) => self.check_marker(journal, state, traits, writes, now)?,
        };
        Ok(())
    }

    fn check_marker(
        &mut self,
        journal: &Journal,
        state: &str,
        traits: &FilesystemTraits,
        writes: bool,
        now: Timestamp,
    ) -> Result<Option<Unusable>, JournalError> {
        let tree = self.policy.tree.to_string();
        let marker = |fault| Some(Unusable::Marker { tree: tree.clone(), fault });
        let wanted = match wanted(self.dir.as_ref(), &self.policy, state) {
            Ok(wanted) => wanted,
            Err(error) => return Ok(Some(Unusable::Failed(error.to_string()))),
        };
        let found = match self.dir.read_marker() {
            Ok(found) => found,
            Err(error) => return Ok(marker(MarkerFault::Unreadable(error.to_string()))),
        };
        let known = self.marked || journal.with_history(|history| history.marked.contains(&self.policy.tree));
        match wanted.fault(found.as_deref()) {
            None => {
                if !known && writes {
                    journal.append_synced(vec![note(&self.policy, "seen")], now)?;
                }
                self.marked = true;
                // If it cannot be written, the next look tries again; what it already says holds.
                if writes
                    && found.is_some_and(|text| wanted.completes(&text))
                    && self.dir.write_marker(&wanted.show()).is_ok()
                {
                    journal.append_synced(vec![note(&self.policy, "completed with the filesystem's UUID")], now)?;
                }
                Ok(None)
            }
            // First contact.
            Some(_) if found.is_none() && !known => {
                if traits.mount_point == "/" {
                    return Ok(marker(MarkerFault::OnRoot));
                }
                // An archive is empty at first. A disk that is mounted for it and nothing else is meant; a directory may lie below one that is
                // not mounted now.
                let for_copies = self.policy.layout.kind() == LayoutKind::Archive
                    && self.dir.path() == std::path::Path::new(&traits.mount_point);
                if self.survey.recordings.files == 0 && !for_copies {
                    return Ok(marker(MarkerFault::Empty));
                }
                if !writes {
                    return Ok(None);
                }
                match self.dir.write_marker(&wanted.show()) {
                    Ok(()) => {}
                    // It is written once there is room; on first contact there is nothing to compare it with anyway.
                    Err(error) if is_full(&error) => {
                        return Ok(None);
                    }
                    Err(error) => return Ok(marker(MarkerFault::Unwritable(error.to_string()))),
                }
                journal.append_synced(vec![note(&self.policy, "written at first contact")], now)?;
                self.marked = true;
                Ok(None)
            }
            Some(fault) => Ok(marker(fault)),
        }
    }
}

/// The marker that this state would write into a tree.
pub(in crate::daemon) fn wanted(dir: &dyn WritableDir, policy: &TreePolicy, state: &str) -> io::Result<Marker> {
    marker_for(dir, &policy.tree, state)
}

/// The same, by the name of the tree alone.
pub(in crate::daemon) fn marker_for(dir: &dyn WritableDir, tree: &TreeId, state: &str) -> io::Result<Marker> {
    // A marker without it, or one that differs in it, would outlast an error of a moment.
    let filesystem = dir.filesystem_uuid().map_err(|error| {
        io::Error::new(error.kind(), format!("cannot read the filesystem UUID of tree `{tree}`: {error}"))
    })?;
    Ok(Marker {
        tree: tree.clone(),
        state: state.to_owned(),
        filesystem: filesystem.unwrap_or_default(),
        top: dir.top()?.inode,
    })
}

/// What is wrong with the marker that a tree bears, if anything is.
pub(in crate::daemon) fn marker_fault(
    dir: &dyn WritableDir,
    tree: &TreeId,
    state: &str,
) -> io::Result<Option<MarkerFault>> {
    Ok(marker_for(dir, tree, state)?.fault(dir.read_marker()?.as_deref()))
}

fn note(policy: &TreePolicy, text: &str) -> Entry {
    Entry::Note {
        kind: NoteKind::Marker,
        volume: None,
        tree: Some(policy.tree.clone()),
        who: GUARD.to_owned(),
        bytes: Bytes::ZERO,
        number: 0,
        text: text.to_owned(),
    }
}
