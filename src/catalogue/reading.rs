//! One reading: whole or of what is new, and the judgement over a whole one.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::gather::{Favourites, Gathered};
use super::keeper::{Believed, Keeper, Pending, Presence, lock};
use super::place::{Building, Files};
use super::source::{Source, Wanted};
use crate::domain::catalogue::{CatalogueKind, Distrust};
use crate::domain::cause::chain;
use crate::domain::trust::{Before, TreeReading, WholeReading, judge, may_be_lost};
use crate::store::{CatalogueIndex, DatabaseError, IndexState};

/// Before what is new is read, so many known rows are asked for; if one of them is gone, it is read whole.
const SAMPLE: usize = 1000;

/// A reading that is believed.
pub(super) struct Done {
    pub(super) rows: u64,
    pub(super) whole: bool,
    pub(super) remark: Option<String>,
}

pub(super) fn no_index(error: DatabaseError) -> Distrust {
    Distrust::Index { error: chain(&error) }
}

impl Keeper {
    /// Reads, judges, and puts what is believed in its place.
    pub(super) fn attempt(
        &self,
        source: &mut dyn Source,
        presence: &dyn Presence,
        begun: Duration,
    ) -> Result<Done, Distrust> {
        let now = self.clock.now();
        let (believed, whole, doubts) = {
            let state = lock(&self.state);
            let too_old = state.believed.as_ref().is_none_or(|believed| match state.whole_at {
                Some(at) => begun.saturating_sub(at) >= self.settings.full,
                // Of an earlier process only the time of day is left, which may have jumped.
                None => believed.state.whole > now || now.since(believed.state.whole) >= self.settings.full,
            });
            (state.believed.clone(), too_old || state.suspicious || state.doubts > state.answered, state.doubts)
        };
        if !whole
            && let Some(believed) = &believed
            && let Some(last) = believed.state.last
            && let Some(done) = self.read_new(source, believed, last)?
        {
            return Ok(done);
        }
        self.read_whole(source, presence, begun, doubts)
    }

    /// Reads what is new into the index in its place. `None` if it has to be read whole.
    fn read_new(&self, source: &mut dyn Source, believed: &Believed, last: i64) -> Result<Option<Done>, Distrust> {
        let sample = believed.index.sample(SAMPLE).map_err(no_index)?;
        let there = source.still_there(&sample)?;
        let lost = sample.len().saturating_sub(there.len());
        if lost > 0 {
            return Ok(None);
        }
        let before = Favourites::of(&believed.index, &self.placing).map_err(no_index)?;
        let mut gathered = Gathered::new(&believed.index, &self.placing, Some(last), Some(before));
        let pass = source.read(Wanted::After(last), &mut |rows| gathered.take(rows))?;
        // An older state was restored, or the table was emptied. A table tells again what was known last, as long as it is there.
        let again = match self.kind() {
            CatalogueKind::Wvp => gathered.highest >= Some(last),
            CatalogueKind::Frigate | CatalogueKind::Hooks | CatalogueKind::Manifest => true,
        };
        if pass.last < Some(last) || !again {
            return Ok(None);
        }
        let new = gathered.counts();
        let mut state = believed.state;
        state.counts.foreign = state.counts.foreign.saturating_add(new.foreign);
        state.counts.bad = state.counts.bad.saturating_add(new.bad);
        (state.as_of, state.last) = (pass.as_of, pass.last);
        believed.index.set_state(&state).map_err(no_index)?;
        let state = believed.index.state().map_err(no_index)?;
        let remark = gathered.remark(self.kind(), state.counts.rows, false);
        lock(&self.state).believed = Some(Believed { index: believed.index.clone(), state });
        Ok(Some(Done { rows: gathered.rows, whole: false, remark }))
    }

    fn read_whole(
        &self,
        source: &mut dyn Source,
        presence: &dyn Presence,
        begun: Duration,
        doubts: u64,
    ) -> Result<Done, Distrust> {
        let building = Building::begin(self.free_slot(), self.key).map_err(no_index)?;
        let index = building.index();
        let known = lock(&self.state).believed.clone();
        let before = known.map(|known| Favourites::of(&known.index, &self.placing)).transpose().map_err(no_index)?;
        let mut gathered = Gathered::new(index, &self.placing, None, before);
        let pass = source.read(Wanted::Whole, &mut |rows| gathered.take(rows))?;
        let read_at = self.clock.now();

        let _judgement = lock(&self.judgement);
        let (believed, same_settings) = {
            let state = lock(&self.state);
            (state.believed.clone(), state.same_settings)
        };
        let believed = believed.as_ref();
        let mut reading = self.weigh(index, believed, presence).map_err(no_index)?;
        if !same_settings {
            reading.trees.iter_mut().for_each(|tree| tree.accepted_empty = false);
        }
        reading.others = gathered.others;
        reading.servers.clone_from(&gathered.servers);
        reading.elsewhere = gathered.elsewhere;
        reading.bad = gathered.bad;
        reading.example.clone_from(&gathered.example);
        let state = IndexState {
            counts: gathered.counts(),
            as_of: pass.as_of,
            whole: pass.as_of,
            last: pass.last,
            // That a person accepted an empty tree counts on only as long as no other tree becomes empty.
            accepted: reading.trees.iter().any(|tree| tree.paths == 0)
                && reading.trees.iter().all(|tree| tree.paths > 0 || tree.accepted_empty),
        };
        index.set_state(&state).map_err(no_index)?;
        let state = index.state().map_err(no_index)?;
        let (rows, remark) = (gathered.rows, gathered.remark(self.kind(), state.counts.rows, true));
        if let Some(why) = judge(self.kind(), self.settings.media_server.as_deref(), self.settings.max_drop, &reading) {
            let mut held = lock(&self.state);
            let older = held.pending.replace(Pending { building, state, read_at, whole_at: begun });
            (held.suspicious, held.answered) = (true, doubts);
            drop(held);
            drop(older);
            return Err(why);
        }
        let place = self.files.as_ref().map(Files::believed);
        let index = building.place(place.as_deref()).map_err(|failed| no_index(failed.0))?;
        if !same_settings {
            self.note_mark();
        }
        let mut held = lock(&self.state);
        let older = held.pending.take();
        held.believed = Some(Believed { index: Arc::new(index), state });
        (held.suspicious, held.answered, held.whole_at, held.same_settings) = (false, doubts, Some(begun), true);
        drop(held);
        drop(older);
        Ok(Done { rows, whole: true, remark })
    }

    /// A place to build in, beside that of the state which waits to be accepted.
    fn free_slot(&self) -> Option<std::path::PathBuf> {
        let slots = self.files.as_ref()?.slots();
        let state = lock(&self.state);
        let taken = state.pending.as_ref().and_then(|pending| pending.building.path());
        slots.into_iter().find(|slot| taken != Some(slot.as_path()))
    }

    /// What the judgement goes by, as far as the indexes and the disk say it.
    fn weigh(
        &self,
        new: &CatalogueIndex,
        believed: Option<&Believed>,
        presence: &dyn Presence,
    ) -> Result<WholeReading, DatabaseError> {
        let mut reading = WholeReading::default();
        let mut paths = 0_u64;
        for (tree, _) in &self.placing.trees {
            let before = believed.map(|believed| believed.index.paths_in(tree)).transpose()?;
            paths = paths.saturating_add(before.unwrap_or(0));
            reading.trees.push(TreeReading {
                tree: tree.clone(),
                paths: new.paths_in(tree)?,
                files: presence.recordings(tree),
                accepted_empty: before == Some(0) && believed.is_some_and(|believed| believed.state.accepted),
            });
        }
        if let Some(believed) = believed.filter(|_| self.kind().proves_absence()) {
            let allowed = may_be_lost(paths, self.settings.max_drop);
            let mut lost = 0_u64;
            believed.index.lost_to(new, &mut |tree, path| {
                // A tree that names it no more loses nothing.
                let ours = self.placing.trees.iter().any(|(name, _)| name == tree);
                // When unsure, it is lost, and distrusted.
                lost += u64::from(ours && presence.there(tree, path) != Some(false));
                if lost > allowed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            reading.before = Some(Before { paths, lost });
        }
        Ok(reading)
    }
}
