//! Silences: made and ended by persons, kept with the outbox, and asked before anybody is told of an alert.

use std::collections::{BTreeMap, BTreeSet};

use super::notifier::Notifier;
use crate::domain::alert::Condition;
use crate::domain::event::Event;
use crate::domain::silence::{Homes, Matchers, Mute, SHOWN, Silence, SilenceChange, Wanted, muted_by};
use crate::domain::units::Timestamp;
use crate::store::Batch;

/// All silences that are in effect, or ended lately.
#[derive(Debug, Default)]
pub(super) struct Mutes {
    silences: BTreeMap<u64, Silence>,
    homes: Homes,
    last: u64,
    /// What the database does not know yet.
    dirty: BTreeSet<u64>,
}

impl Mutes {
    /// What the database kept.
    pub(super) fn restore(silences: Vec<Silence>) -> Self {
        let last = silences.last().map_or(0, |silence| silence.id);
        Self { silences: silences.into_iter().map(|silence| (silence.id, silence)).collect(), last, ..Self::default() }
    }

    /// Makes one.
    pub(super) fn add(
        &mut self,
        matchers: Matchers,
        (until, now): (Timestamp, Timestamp),
        reason: &str,
        who: &str,
    ) -> Silence {
        self.last = self.last.saturating_add(1);
        let (id, reason, who) = (self.last, reason.to_owned(), who.to_owned());
        let silence = Silence { id, matchers, until, reason, who, created: now, ended: None };
        self.silences.insert(id, silence.clone());
        self.dirty.insert(id);
        silence
    }

    /// Ends one that is in effect.
    pub(super) fn end(&mut self, id: u64, now: Timestamp) -> Option<Silence> {
        let silence = self.silences.get_mut(&id).filter(|silence| silence.in_effect(now))?;
        silence.ended = Some(now);
        self.dirty.insert(id);
        Some(silence.clone())
    }

    /// Time passes: gives the silences that are over now, and forgets those that were over long ago.
    pub(super) fn pass(&mut self, now: Timestamp) -> Vec<Silence> {
        let mut over = Vec::new();
        let dirty = &mut self.dirty;
        self.silences.retain(|id, silence| {
            let mut changed = silence.clamp(now);
            if silence.ended.is_none() && !silence.in_effect(now) {
                silence.ended = Some(silence.until);
                over.push(silence.clone());
                changed = true;
            }
            let stays = silence.ended.is_none_or(|ended| now.since(ended) <= SHOWN);
            if changed || !stays {
                dirty.insert(*id);
            }
            stays
        });
        over
    }

    /// Why nobody is told of an alert.
    pub(super) fn of<'a>(
        &self,
        condition: &Condition,
        firing: impl Iterator<Item = &'a Condition>,
        at: Timestamp,
    ) -> Option<Mute> {
        muted_by(condition, self.silences.values(), firing, &self.homes, at)
    }

    /// Puts into `batch` what has changed since the last time.
    pub(super) fn collect(&mut self, batch: &mut Batch) {
        let dirty = std::mem::take(&mut self.dirty);
        batch.silences.extend(dirty.into_iter().map(|id| (id, self.silences.get(&id).cloned())));
    }

    /// The batch could not be written: its rows have to be written later.
    pub(super) fn put_back(&mut self, batch: &Batch) {
        self.dirty.extend(batch.silences.iter().map(|(id, _)| *id));
    }
}

impl Notifier {
    /// Says on which volume each tree lies, before anybody can be told of an alert.
    pub fn set_homes(&self, homes: Homes) {
        self.lock().groups.mutes.homes = homes;
    }

    /// Mutes alerts. Says whether a restart will know of it; if not, it is in effect all the same, and written once it can be.
    /// May block, and not in a task: it writes.
    ///
    /// # Errors
    /// What is wrong with the wish.
    pub fn silence(&self, wanted: &Wanted<'_>, who: &str) -> Result<(Silence, bool), String> {
        let now = self.clock.now();
        let mut state = self.lock();
        let mutes = &mut state.groups.mutes;
        let matchers = wanted.check(&mutes.homes, now)?;
        let silence = mutes.add(matchers, (wanted.until, now), wanted.reason.trim(), who);
        drop(state);
        let kept = self.keep();
        self.tell(Event::Silenced { silence: silence.clone(), change: SilenceChange::Made, who: who.to_owned() });
        Ok((silence, kept))
    }

    /// Ends a silence early; nothing if there is none with that number in effect. May block, and not in a task: it writes.
    pub fn end_silence(&self, id: u64, who: &str) -> Option<Silence> {
        let silence = self.lock().groups.mutes.end(id, self.clock.now())?;
        self.keep();
        self.tell(Event::Silenced { silence: silence.clone(), change: SilenceChange::Removed, who: who.to_owned() });
        Some(silence)
    }

    /// Writes at once what a person has changed, and lets the planner see it. Says whether it is written.
    fn keep(&self) -> bool {
        let turn = self.turn.blocking_lock();
        self.write();
        drop(turn);
        self.news.send_modify(|count| *count = count.wrapping_add(1));
        self.unwritten().is_none() && !self.database.in_memory()
    }

    /// The silences, as they are at this moment, the oldest first; those that ended are kept for a while.
    #[must_use]
    pub fn silences(&self) -> Vec<Silence> {
        let now = self.clock.now();
        let shown = |silence: &Silence| {
            let ended = silence.ended.or_else(|| (!silence.in_effect(now)).then_some(silence.until));
            Silence { ended, ..silence.clone() }
        };
        self.lock().groups.mutes.silences.values().map(shown).collect()
    }

    /// Why nobody is told of an alert; nothing if everybody is.
    #[must_use]
    pub fn muted_by(&self, condition: &Condition) -> Option<Mute> {
        self.lock().groups.muted(condition, self.clock.now())
    }
}
