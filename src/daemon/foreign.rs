//! What is missing on a volume because others write to it: how much, and where it may have gone.

use std::path::Path;
use std::time::Duration;

use super::volume::VolumeWorker;
use crate::domain::path::RelPath;
use crate::domain::pressure::Pressure;
use crate::domain::status::Foreign;
use crate::domain::units::Bytes;
use crate::scan::largest;

/// A walk ends by then.
const LIMIT: Duration = Duration::from_secs(2);
/// Between two walks.
const EVERY: Duration = Duration::from_secs(300);

/// What the last walk found.
#[derive(Debug, Clone, Default)]
pub(super) struct Walked {
    at: Option<Duration>,
    largest: Vec<(String, Bytes)>,
    complete: bool,
}

impl VolumeWorker {
    /// What of the deficit is not ours to give back; `None` if all is, or there is none.
    pub(super) fn foreign(&self) -> Option<Foreign> {
        match self.pressure {
            Pressure::Reclaiming { .. } | Pressure::Exhausted { .. } => {}
            Pressure::Normal | Pressure::Blind { .. } => return None,
        }
        let reading = self.reading.as_ref().ok().filter(|_| self.grant.is_some() && self.stalled.is_none())?;
        let deficit = self.pressure.deficit();
        let (ours, promised) = self
            .journal()
            .with_history(|history| (self.target(reading, deficit, history).bytes, history.held_open(&self.names())));
        let bytes = deficit.bytes.saturating_sub(promised).saturating_sub(ours);
        let Walked { largest, complete, .. } = self.walked.clone();
        (bytes > Bytes::ZERO).then_some(Foreign { bytes, largest, complete })
    }

    /// Looks for the largest directories of others, if they cause the pressure and it was not done lately.
    pub(super) fn look_for_foreign(&mut self) {
        let clock = self.engine.clock.clone();
        let now = clock.boottime();
        if self.walked.at.is_some_and(|at| now.saturating_sub(at) < EVERY) || self.foreign().is_none() {
            return;
        }
        self.walked = Walked { at: Some(now), ..Walked::default() };
        let mount = Path::new(&self.traits.mount_point);
        let Ok(top) = self.machine.open_tree(mount) else { return };
        let below = |path: &Path| RelPath::new(path.strip_prefix(mount).ok()?.as_os_str().as_encoded_bytes()).ok();
        let skip: Vec<RelPath> = self.trees.iter().filter_map(|tree| below(tree.dir.path())).collect();
        let found = largest(top.as_ref(), &skip, clock.as_ref(), now + LIMIT);
        let show = |path: Option<RelPath>| match path {
            Some(path) => format!("{}/{}", self.traits.mount_point.trim_end_matches('/'), path.show().0),
            None => self.traits.mount_point.clone(),
        };
        let largest = found.directories.into_iter().map(|(path, bytes)| (show(path), bytes)).collect();
        self.walked = Walked { at: Some(now), largest, complete: found.complete };
    }
}
