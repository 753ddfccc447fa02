//! The queues of all volumes: what is asked for finds the one of its tree, also where that tree lies on another volume by now.

use std::sync::Arc;

use super::hub::{Command, Hub, lock};
use super::queue::{Queue, Untaken};
use crate::domain::names::VolumeId;
use crate::server::Refusal;
use crate::server::records::Problem;

impl Hub {
    /// The queue of a volume; it outlives its workers.
    pub(super) fn queue_of(&self, volume: &VolumeId) -> Arc<Queue> {
        lock(&self.queues).entry(volume.clone()).or_default().clone()
    }

    /// Puts a request into its volume's queue.
    ///
    /// # Errors
    /// 503 if too many wait, or nobody works on it now.
    pub(super) fn send(&self, volume: &VolumeId, command: Command) -> Result<(), Refusal> {
        let queue = self.open_queue(volume).ok_or_else(|| gone(volume))?;
        queue.push(command).map_err(|untaken| match untaken {
            Untaken::Closed => gone(volume),
            Untaken::Full => full(volume),
        })
    }

    /// Whether a volume takes another request now, so that what is not taken leaves no trace.
    ///
    /// # Errors
    /// As [`Hub::send`].
    pub(super) fn room(&self, volume: &VolumeId) -> Result<(), Refusal> {
        let queue = self.open_queue(volume).ok_or_else(|| gone(volume))?;
        if queue.has_room() { Ok(()) } else { Err(full(volume)) }
    }

    fn open_queue(&self, volume: &VolumeId) -> Option<Arc<Queue>> {
        lock(&self.seats).get(volume)?.queue.clone()
    }

    /// Forgets the queues of volumes that nobody works any more. A deletion that waited in one goes on where its tree is now: a disk that came
    /// back, or bears another name. All else that waited is over.
    pub(super) fn forget_queues(&self) {
        let left: Vec<Arc<Queue>> = {
            let seats = lock(&self.seats);
            let mut queues = lock(&self.queues);
            let gone: Vec<VolumeId> = queues.keys().filter(|name| !seats.contains_key(*name)).cloned().collect();
            gone.iter().filter_map(|name| queues.remove(name)).collect()
        };
        for command in left.iter().flat_map(|queue| queue.drain()) {
            let Some(job) = command.job() else { continue };
            let home = match &command {
                Command::Demand(task) => self.home_of(&task.tree),
                Command::Apply { .. } | Command::Retry { .. } | Command::Remedy { .. } | Command::Look => None,
            };
            let problem = match home.map(|volume| self.send(&volume, command)) {
                Some(Ok(())) => continue,
                Some(Err(refusal)) => Problem { code: refusal.code, message: refusal.message },
                None => Problem { code: "gone", message: "its volume is not guarded any more".to_owned() },
            };
            self.forget_demand(job);
            self.with_jobs(|jobs| jobs.end_early(job, problem, self.now()));
        }
    }
}

fn gone(volume: &VolumeId) -> Refusal {
    Refusal::unavailable("stopping", format!("volume `{volume}` takes no requests now"))
}

fn full(volume: &VolumeId) -> Refusal {
    Refusal::unavailable("queue_full", format!("volume `{volume}` has too many requests waiting; try again later"))
}
