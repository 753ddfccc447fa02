//! Whether a volume has room for what is promised on it is told once it is known, and again when it changes.

use std::time::Duration;

use super::volume::VolumeWorker;
use crate::domain::event::Event;
use crate::domain::forecast::{Promises, promises_on};

/// What was last told of a volume's promises.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PromisesTold(Option<Promises>);

impl PromisesTold {
    /// Whether this is news: promises that do not fit, others that do not, or by much more or less; and that they fit again.
    fn news(&self, now: &Promises) -> bool {
        match &self.0 {
            None => !now.fit(),
            Some(told) if told.fit() != now.fit() => true,
            Some(_) if now.fit() => false,
            Some(told) => {
                let moved = told.fits.abs_diff(now.fits);
                told.promised != now.promised || (moved > told.fits / 4 && moved >= HOUR)
            }
        }
    }
}

/// A smaller change is no news.
const HOUR: Duration = Duration::from_secs(3600);

impl VolumeWorker {
    /// Tells whether what is promised fits, once all its trees were scanned.
    pub(super) fn tell_promises(&mut self) {
        let Ok(reading) = &self.reading else { return };
        if !self.trees.iter().all(|tree| tree.scanned() && tree.fault.is_none()) {
            return;
        }
        let trees = self.trees.iter().map(|tree| (tree.policy.as_ref(), tree.survey(), tree.held()));
        let now = promises_on(&reading.space, &self.marks, trees).filter(|now| self.promises_told.news(now));
        let Some(now) = now else { return };
        self.promises_told = PromisesTold(Some(now));
        self.emit(Event::Remark { text: format!("volume {}: {}", self.name, now.sentence()), urgent: !now.fit() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::units::Bytes;

    #[test]
    fn what_does_not_fit_is_told_once_and_again_only_when_it_is_news() {
        let hours = |hours: u64| HOUR * u32::try_from(hours).unwrap();
        let promises = |(promised, fits): (u64, u64)| Promises {
            promised: hours(promised),
            fits: hours(fits),
            needed: Bytes::GIB,
            room: Bytes::GIB,
        };
        let check = |told: Option<(u64, u64)>, now, news| {
            let told_before = PromisesTold(told.map(promises));
            assert_eq!(told_before.news(&promises(now)), news, "{told:?} {now:?}");
        };
        check(None, (72, 72), false);
        check(None, (72, 40), true);
        check(Some((72, 40)), (72, 40), false);
        check(Some((72, 40)), (72, 30), false);
        check(Some((72, 40)), (72, 29), true);
        check(Some((72, 2)), (72, 3), true);
        check(Some((72, 40)), (96, 40), true);
        check(Some((72, 40)), (72, 72), true);
        check(Some((72, 72)), (48, 48), false);
        check(Some((72, 72)), (72, 71), true);
    }
}
