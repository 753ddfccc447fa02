//! What a run expected to come back, what came back, and what to make of the difference.

use super::units::Bytes;

/// The account of one batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchAccount {
    /// Allocated bytes of what was verified as deleted.
    pub expected: Bytes,
    /// Of these, bytes whose absence is explained and that come back by themselves: files that are still open.
    pub explained: Bytes,
    /// Free bytes before, the reserve for root included: what unprivileged writers have is cut off at zero.
    pub before: Bytes,
    /// Free bytes after, once the filesystem was synced.
    pub after: Bytes,
    /// Bytes written to the volume meanwhile; an upper bound (the device's counter) where nothing better is known.
    pub written: Bytes,
}

impl BatchAccount {
    /// What came back: the rise of the free bytes, and what writers took meanwhile.
    #[must_use]
    pub fn came_back(&self) -> Bytes {
        self.after.saturating_add(self.written).saturating_sub(self.before)
    }
}

/// What the ledger says after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Too little was deleted, or too much written meanwhile, to tell; the next batch is added to it.
    TooEarly,
    /// It came back.
    Agrees,
    /// So much did not come back, and nothing explains it. One may be chance.
    Short(Bytes),
    /// The second in a row: the run must end (promise 5).
    Stalled(Bytes),
}

/// The ledger of one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Of the whole run.
    pub expected: Bytes,
    /// Of the whole run.
    pub came_back: Bytes,
    open: BatchAccount,
    shortfalls: u8,
}

impl Ledger {
    /// Enters a batch and judges. `size` is the volume's. A window is judged from 1 GiB or 1 % of the volume on, whichever is
    /// less, and from four times what was written in it.
    pub fn enter(&mut self, batch: &BatchAccount, size: Bytes) -> Judgement {
        if self.open == BatchAccount::default() {
            self.open = *batch;
        } else {
            self.open.expected = self.open.expected.saturating_add(batch.expected);
            self.open.explained = self.open.explained.saturating_add(batch.explained);
            self.open.written = self.open.written.saturating_add(batch.written);
            self.open.after = batch.after;
        }
        self.expected = self.expected.saturating_add(batch.expected);
        self.came_back = self.came_back.saturating_add(batch.came_back().min(batch.expected));
        let due = self.open.expected.saturating_sub(self.open.explained);
        let least = Bytes::GIB.min(size.scaled(1, 100)).max(self.open.written.saturating_mul(4));
        if due == Bytes::ZERO || due < least {
            return Judgement::TooEarly;
        }
        let missing = due.saturating_sub(self.open.came_back());
        self.open = BatchAccount::default();
        // A tenth is metadata, rounding and neighbours.
        if missing <= due.scaled(1, 10) {
            self.shortfalls = 0;
            return Judgement::Agrees;
        }
        self.shortfalls = self.shortfalls.saturating_add(1);
        if self.shortfalls >= 2 { Judgement::Stalled(missing) } else { Judgement::Short(missing) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(expected: u64, explained: u64, rise: u64, written: u64) -> BatchAccount {
        BatchAccount {
            expected: Bytes::mib(expected),
            explained: Bytes::mib(explained),
            before: Bytes::gib(10),
            after: Bytes::gib(10).saturating_add(Bytes::mib(rise)),
            written: Bytes::mib(written),
        }
    }

    fn check(batches: &[BatchAccount], last: Judgement) {
        let mut ledger = Ledger::default();
        let judged = batches.iter().map(|b| ledger.enter(b, Bytes::gib(1000))).last();
        assert_eq!(judged, Some(last));
    }

    #[test]
    fn two_unexplained_shortfalls_in_a_row_stall() {
        check(&[batch(2048, 0, 2048, 0)], Judgement::Agrees);
        check(&[batch(2048, 0, 0, 0)], Judgement::Short(Bytes::mib(2048)));
        check(&[batch(2048, 0, 0, 0), batch(2048, 0, 0, 0)], Judgement::Stalled(Bytes::mib(2048)));
        check(
            &[batch(2048, 0, 0, 0), batch(2048, 0, 2048, 0), batch(2048, 0, 0, 0)],
            Judgement::Short(Bytes::mib(2048)),
        );
    }

    #[test]
    fn what_is_explained_or_written_meanwhile_is_no_shortfall() {
        check(&[batch(2048, 1024, 1024, 0)], Judgement::Agrees);
        check(&[batch(2048, 0, 1600, 448)], Judgement::Agrees);
        check(&[batch(2048, 2048, 0, 0)], Judgement::TooEarly);
    }

    #[test]
    fn small_windows_and_busy_ones_wait_for_more() {
        check(&[batch(512, 0, 0, 0)], Judgement::TooEarly);
        check(&[batch(512, 0, 0, 0), batch(512, 0, 0, 0)], Judgement::Short(Bytes::mib(1024)));
        check(&[batch(2048, 0, 0, 1024)], Judgement::TooEarly);
    }
}
