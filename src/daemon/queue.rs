//! What a volume's worker is asked to do, in the order in which it was asked; a demand can be taken out of turn. It outlives the worker:
//! after a reload the next one goes on with what waits.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::demand_task::Task;
use super::hub::{Command, lock};

/// Requests that may wait for a volume.
const QUEUE: usize = 64;

/// A queue.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    come: Condvar,
    most: usize,
}

#[derive(Default)]
struct Waiting {
    commands: VecDeque<Command>,
    /// Nobody works on it any more: whoever has it still must not wait for that.
    closed: bool,
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Untaken {
    /// Too many wait.
    Full,
    /// Nobody works on it any more.
    Closed,
}

impl Default for Queue {
    fn default() -> Self {
        Self::holding(QUEUE)
    }
}

impl Queue {
    /// One that takes so many requests.
    pub(super) fn holding(most: usize) -> Self {
        Self { waiting: Mutex::default(), come: Condvar::new(), most }
    }

    /// Puts a request at the end.
    ///
    /// # Errors
    /// Why it was not taken.
    pub(super) fn push(&self, command: Command) -> Result<(), Untaken> {
        let mut waiting = lock(&self.waiting);
        if waiting.closed {
            return Err(Untaken::Closed);
        }
        if waiting.commands.len() >= self.most {
            return Err(Untaken::Full);
        }
        waiting.commands.push_back(command);
        drop(waiting);
        self.come.notify_all();
        Ok(())
    }

    /// Another request would be taken now.
    pub(super) fn has_room(&self) -> bool {
        let waiting = lock(&self.waiting);
        !waiting.closed && waiting.commands.len() < self.most
    }

    /// Puts a demand back that is not through: others have their turn before.
    ///
    /// # Errors
    /// The demand, if nobody works on it any more.
    pub(super) fn return_demand(&self, task: Box<Task>) -> Result<(), Box<Task>> {
        let mut waiting = lock(&self.waiting);
        if waiting.closed {
            return Err(task);
        }
        waiting.commands.push_back(Command::Demand(task));
        Ok(())
    }

    /// Puts a request back that was taken and not looked at.
    pub(super) fn return_first(&self, command: Command) {
        lock(&self.waiting).commands.push_front(command);
    }

    /// The next request, as soon as there is one, within `patience`. A demand that rests until later than `boot` does not count.
    pub(super) fn next(&self, patience: Duration, boot: &dyn Fn() -> Duration) -> Option<Command> {
        let mut waiting = lock(&self.waiting);
        let began = boot();
        loop {
            let now = boot();
            if let Some(at) = waiting.commands.iter().position(|command| ready(command, now)) {
                return waiting.commands.remove(at);
            }
            let rest = patience.checked_sub(now.saturating_sub(began)).filter(|rest| !rest.is_zero())?;
            let soonest = waiting.commands.iter().filter_map(Command::rests_until).min();
            let span = soonest.map_or(rest, |until| rest.min(until.saturating_sub(now).max(Duration::from_millis(1))));
            (waiting, _) = self.come.wait_timeout(waiting, span).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The first demand that does not rest.
    pub(super) fn demand(&self, boot: Duration) -> Option<Box<Task>> {
        let mut waiting = lock(&self.waiting);
        let at = waiting.commands.iter().position(|command| is_due(command, boot))?;
        match waiting.commands.remove(at)? {
            Command::Demand(task) => Some(task),
            Command::Apply { .. } | Command::Retry { .. } | Command::Remedy { .. } | Command::Look => None,
        }
    }

    /// How many demands wait, and do not rest.
    pub(super) fn demanded(&self, boot: Duration) -> usize {
        lock(&self.waiting).commands.iter().filter(|command| is_due(command, boot)).count()
    }

    /// Takes all that waits, since nobody will work on it, and closes it with that: no more is taken.
    pub(super) fn drain(&self) -> Vec<Command> {
        let mut waiting = lock(&self.waiting);
        waiting.closed = true;
        waiting.commands.drain(..).collect()
    }
}

/// A demand that does not rest.
fn is_due(command: &Command, boot: Duration) -> bool {
    command.rests_until().is_some_and(|until| until <= boot)
}

fn ready(command: &Command, boot: Duration) -> bool {
    command.rests_until().is_none_or(|until| until <= boot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::demand_task::task_of_test;

    fn word(command: Option<Command>) -> String {
        match command {
            Some(Command::Demand(task)) => format!("demand {}", task.job),
            Some(Command::Look) => "look".to_owned(),
            Some(Command::Retry { .. }) => "retry".to_owned(),
            Some(Command::Apply { .. } | Command::Remedy { .. }) => "other".to_owned(),
            None => "nothing".to_owned(),
        }
    }

    fn resting(job: u64, until: u64) -> Box<Task> {
        let mut task = task_of_test(job);
        task.rests_until = Duration::from_secs(until);
        Box::new(task)
    }

    #[test]
    fn requests_come_in_their_order_and_demands_out_of_turn() {
        let queue = Queue::default();
        let next = |boot: u64| word(queue.next(Duration::ZERO, &|| Duration::from_secs(boot)));
        let at = Duration::from_secs;
        for command in [Command::Look, Command::Demand(resting(1, 0)), Command::Demand(resting(2, 5))] {
            assert!(queue.push(command).is_ok());
        }
        assert_eq!(queue.demanded(at(0)), 1);
        let demand = |boot: u64| queue.demand(at(boot)).map(|task| task.job);
        assert_eq!((demand(0), demand(0), queue.demanded(at(0)), queue.demanded(at(5))), (Some(1), None, 0, 1));
        assert_eq!(
            (next(0), next(0), next(5), next(5)),
            ("look".into(), "nothing".into(), "demand 2".into(), "nothing".into())
        );
        assert!(queue.return_demand(resting(3, 0)).is_ok());
        queue.return_first(Command::Look);
        assert_eq!((next(0), next(0)), ("look".into(), "demand 3".into()));
    }

    #[test]
    fn a_full_queue_takes_no_more() {
        let queue = Queue::default();
        for _ in 0..QUEUE {
            assert!(queue.push(Command::Look).is_ok());
        }
        assert_eq!(queue.push(Command::Look), Err(Untaken::Full));
        assert_eq!(queue.drain().len(), QUEUE);
    }

    #[test]
    fn what_nobody_works_on_takes_no_more() {
        let queue = Queue::default();
        assert_eq!(queue.push(Command::Look), Ok(()));
        assert_eq!(queue.drain().len(), 1);
        assert_eq!((queue.push(Command::Look), queue.drain().len()), (Err(Untaken::Closed), 0));
        assert_eq!(queue.return_demand(resting(3, 0)).err().map(|task| task.job), Some(3));
    }
}
