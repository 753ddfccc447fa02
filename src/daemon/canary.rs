//! The reclaim canary of a volume: at start, and then hourly, a small file is written, deleted and looked for, so that a read-only
//! disk, a recycle bin, a snapshot or a quota is found before the emergency.
//!
//! It runs only where the guard may delete, while the volume is well and has room to spare; a crash leaves at most the probe file,
//! which the next start removes.

use std::time::Duration;

use super::volume::VolumeWorker;
use crate::domain::canary::{Measured, ProbeFault, judge, size};
use crate::domain::names::TreeId;
use crate::domain::pressure::Pressure;
use crate::domain::retention::Mode;
use crate::domain::units::{Bytes, Timestamp};
use crate::domain::volume::{Reading, Unusable};
use crate::reclaim::LAG;
use crate::system::WritableDir;

/// Between two probe files.
const EVERY: Duration = Duration::from_secs(3600);
/// After one that told nothing.
const AGAIN: Duration = Duration::from_secs(60);

/// When the next probe file is due, and what was wrong with the last.
#[derive(Debug, Clone, Default)]
pub(super) struct Canary {
    due: Duration,
    /// When the last one was heard, and what was wrong.
    pub(super) heard: Option<(Timestamp, Option<ProbeFault>)>,
}

/// One probe file told nothing.
struct Unclear;

impl VolumeWorker {
    /// Removes what a crash left of a probe file.
    pub(super) fn remove_canaries(&self) {
        for tree in self.trees.iter().filter(|tree| tree.policy.mode == Mode::Enforce && tree.fault.is_none()) {
            // If it cannot be removed now, the next probe file says why. Where one does not answer, none of the volume does.
            if tree.dir.remove_canary().is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut) {
                return;
            }
        }
    }

    /// Writes and deletes a probe file in each tree, if that is due and the volume is well.
    pub(super) fn run_canary(&mut self) {
        let boot = self.engine.clock.boottime();
        if boot < self.canary.due || self.pressure != Pressure::Normal || self.machine.busy() {
            return;
        }
        let Some(bytes) = self.reading.as_ref().ok().and_then(|reading| size(&reading.space, &self.marks)) else {
            return;
        };
        let trees = self.trees.iter().filter(|tree| tree.policy.mode == Mode::Enforce && tree.fault.is_none());
        let trees: Vec<_> = trees.map(|tree| (tree.policy.tree.clone(), tree.dir.clone())).collect();
        let mut wrong = None;
        for (name, dir) in trees {
            // Two in a row, since another process may have written in the one moment.
            let heard = match self.probe_file(&name, dir.as_ref(), bytes) {
                Ok(Some(_)) => self.probe_file(&name, dir.as_ref(), bytes),
                other => other,
            };
            match heard {
                Ok(found) => wrong = wrong.or(found),
                Err(Unclear) => {
                    self.canary.due = boot + AGAIN;
                    return;
                }
            }
        }
        self.canary = Canary { due: boot + EVERY, heard: Some((self.now(), wrong)) };
    }

    /// Writes and deletes one probe file; what is wrong.
    fn probe_file(
        &mut self,
        tree: &TreeId,
        dir: &dyn WritableDir,
        bytes: Bytes,
    ) -> Result<Option<ProbeFault>, Unclear> {
        let tree = tree.clone();
        if let Err(error) = dir.write_canary(bytes) {
            if error.kind() == std::io::ErrorKind::Unsupported {
                return Err(Unclear);
            }
            return Ok(Some(ProbeFault::NotWritten { tree, bytes, error: error.to_string() }));
        }
        let with = self.read_synced(dir);
        if let Err(error) = dir.remove_canary() {
            return Ok(Some(ProbeFault::NotDeleted { tree, error: error.to_string() }));
        }
        let with = with.map_err(|_| Unclear)?;
        let mut heard = Measured::Unclear;
        for pause in std::iter::once(Duration::ZERO).chain(LAG) {
            self.engine.clock.sleep(pause);
            let without = self.read_synced(dir).map_err(|_| Unclear)?;
            let written = without.written.zip(with.written).map(|(new, old)| new.saturating_sub(old));
            heard = judge(bytes, with.space.free, without.space.free, written);
            if heard == Measured::Back {
                break;
            }
        }
        match heard {
            Measured::Back => Ok(None),
            Measured::Unclear => Err(Unclear),
            Measured::Missing(missing) => Ok(Some(ProbeFault::NotBack { tree, bytes, missing })),
        }
    }

    fn read_synced(&mut self, dir: &dyn WritableDir) -> Result<Reading, Unusable> {
        dir.sync_filesystem().map_err(|error| Unusable::Failed(error.to_string()))?;
        self.prober.read(super::volume::DEADLINE)
    }
}
