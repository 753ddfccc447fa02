//! What happens to the items of a job, for one listener: bounded, so that one who reads slowly holds nothing up, and misses some.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::records::JobItem;

/// So many items are kept for a listener.
const KEPT: usize = 2_000;

/// Items that came to an end, until the listener takes them.
#[derive(Debug, Default)]
pub struct Feed {
    waiting: Mutex<Waiting>,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<JobItem>,
    missed: u64,
}

impl Feed {
    /// Adds an item; where too many wait, the oldest goes, and is counted.
    pub fn push(&self, item: JobItem) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.items.len() >= KEPT {
            waiting.items.pop_front();
            waiting.missed += 1;
        }
        waiting.items.push_back(item);
    }

    /// What came since the last time, and how many items were missed.
    #[must_use]
    pub fn take(&self) -> (Vec<JobItem>, u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let items = std::mem::take(&mut waiting.items);
        (items.into(), std::mem::take(&mut waiting.missed))
    }

    /// Nothing comes any more: the guard ends.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether nothing comes any more.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::shapes::Path;

    #[test]
    fn a_listener_that_does_not_take_misses_the_oldest_and_hears_how_many() {
        let item = |at: usize| JobItem {
            tree: "live".to_owned(),
            path: Path { path: at.to_string(), encoded: false },
            outcome: Some("verified"),
            cause: None,
            holder: None,
            attempts: 1,
            next_attempt: None,
            bytes: 0,
            detail: None,
        };
        let feed = Feed::default();
        (0..KEPT + 3).for_each(|at| feed.push(item(at)));
        let (items, missed) = feed.take();
        assert_eq!((items.len(), missed, items[0].path.path.as_str()), (KEPT, 3, "3"));
        assert_eq!(feed.take(), (Vec::new(), 0));
        feed.push(item(7));
        assert_eq!(feed.take().0.len(), 1);
    }
}
