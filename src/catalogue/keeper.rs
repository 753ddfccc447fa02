//! Keeps one catalogue: reads it when it is due, judges whether it can be believed, and remembers what it last said that could be.
//!
//! Three locks, taken in this order; the last is never held while anything is waited for:
//! 1. the source, by a reading and by whoever changes rows: a database may hang for a minute;
//! 2. the judgement, from the end of a reading until its index is in its place or set apart, and by a person's acceptance;
//! 3. the state, for a moment: `known`, `last` and `view` take no other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::place::{Building, Files};
use super::source::{Source, open_source};
use crate::domain::catalogue::{CatalogueKind, CatalogueRow, CatalogueView, Distrust, Place, Placing};
use crate::domain::cause::chain;
use crate::domain::names::{CatalogueId, TreeId};
use crate::domain::path::RelPath;
use crate::domain::path_set::DigestKey;
use crate::domain::settings::{CatalogueSettings, CatalogueSource};
use crate::domain::units::Timestamp;
use crate::store::{CatalogueIndex, Database, IndexState};
use crate::system::Clock;

/// After a failure it is asked again this soon, then after twice as long, and so on up to its interval.
const AGAIN: Duration = Duration::from_secs(60);

/// What is on disk, as far as a keeper must know.
pub trait Presence: Send + Sync {
    /// Whether a recording is there; `None` if that cannot be told now.
    fn there(&self, tree: &TreeId, path: &RelPath) -> Option<bool>;
    /// How many recordings the last complete scan found; `None` before the first.
    fn recordings(&self, tree: &TreeId) -> Option<u64>;
}

/// What a catalogue said that could be believed.
#[derive(Debug, Clone)]
pub struct Known {
    /// The catalogue.
    pub name: CatalogueId,
    /// What it is.
    pub kind: CatalogueKind,
    /// Its rows.
    pub index: Arc<CatalogueIndex>,
    /// What is on disk and older than this should be in it.
    pub as_of: Timestamp,
}

/// What a reading brought about, for whoever tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// Read and believed: so many rows were handed over, and it took so long.
    Read(u64, Duration),
    /// It is believed again, or for the first time.
    Trusted,
    /// It is not believed any more, or for another reason than before.
    Distrusted(Distrust),
    /// Something that a person should know.
    Remark(String),
}

/// One catalogue.
pub struct Keeper {
    pub(super) settings: CatalogueSettings,
    pub(super) placing: Placing,
    pub(super) files: Option<Files>,
    pub(super) key: DigestKey,
    pub(super) hooks: Arc<Database>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) source: Mutex<Box<dyn Source>>,
    pub(super) judgement: Mutex<()>,
    pub(super) state: Mutex<State>,
}

/// What changes.
pub(super) struct State {
    /// What was believed last.
    pub(super) believed: Option<Believed>,
    /// A whole new state that is not believed, for a person to accept.
    pub(super) pending: Option<Pending>,
    pub(super) distrust: Option<Distrust>,
    pub(super) since: Option<Timestamp>,
    /// The next reading that counts is a whole one: the last whole one was not believed, or not finished, or the settings are others.
    pub(super) suspicious: bool,
    /// How often it was doubted, and how many of these doubts a judgement has answered.
    pub(super) doubts: u64,
    pub(super) answered: u64,
    pub(super) tried: bool,
    /// When it is due, by the clock that does not jump.
    pub(super) next: Duration,
    /// When the last whole reading of this process began.
    pub(super) whole_at: Option<Duration>,
    pub(super) failures: u32,
    pub(super) read_at: Option<Timestamp>,
    pub(super) remark: Option<String>,
    /// What was accepted was accepted under these settings.
    pub(super) same_settings: bool,
}

/// An index that is or was believed, and what it says of itself.
#[derive(Debug, Clone)]
pub(super) struct Believed {
    pub(super) index: Arc<CatalogueIndex>,
    pub(super) state: IndexState,
}

/// An index that is not believed.
pub(super) struct Pending {
    pub(super) building: Building,
    pub(super) state: IndexState,
    pub(super) read_at: Timestamp,
    pub(super) whole_at: Duration,
}

pub(super) fn lock<T: ?Sized>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    // What was half done is in an index that nobody has put in its place.
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    /// Goes on with the index that was believed last. Without a folder everything is kept in memory. Nothing is read yet.
    #[must_use]
    pub fn open(
        settings: CatalogueSettings,
        trees: Vec<(TreeId, PathBuf)>,
        folder: Option<&Path>,
        key: DigestKey,
        hooks: &Arc<Database>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let source = open_source(&settings, hooks, &clock);
        Self::with_source(settings, trees, folder, key, hooks, clock, source)
    }

    /// As [`Keeper::open`], with a source of its own.
    pub(super) fn with_source(
        settings: CatalogueSettings,
        trees: Vec<(TreeId, PathBuf)>,
        folder: Option<&Path>,
        key: DigestKey,
        hooks: &Arc<Database>,
        clock: Arc<dyn Clock>,
        source: Box<dyn Source>,
    ) -> Self {
        let placing = Placing {
            trees,
            path_map: settings.path_map.clone(),
            media_server: settings.media_server.clone(),
            relative: settings.source.kind() == CatalogueKind::Manifest,
        };
        let files = folder.map(|folder| Files::new(folder, &settings.name));
        let mut interrupted = false;
        if let Some(files) = &files {
            files.make_folder();
            for slot in files.slots() {
                interrupted |= slot.symlink_metadata().is_ok();
                // What cannot be removed is in the way of the next reading, which says so.
                let _ = CatalogueIndex::discard(&slot);
            }
        }
        let believed = files.as_ref().and_then(|files| {
            let index = CatalogueIndex::open(&files.believed(), key).ok()??;
            let state = index.state().ok()?;
            Some(Believed { index: Arc::new(index), state })
        });
        let read_at = believed.as_ref().map(|believed| believed.state.as_of);
        let since = Some(clock.now());
        let state = State {
            believed,
            pending: None,
            distrust: Some(Distrust::NotYet),
            since,
            suspicious: interrupted,
            doubts: 0,
            answered: 0,
            tried: false,
            next: Duration::ZERO,
            whole_at: None,
            failures: 0,
            read_at,
            remark: None,
            same_settings: false,
        };
        let keeper = Self {
            settings,
            placing,
            files,
            key,
            hooks: hooks.clone(),
            clock,
            source: Mutex::new(source),
            judgement: Mutex::new(()),
            state: Mutex::new(state),
        };
        let same = keeper.hooks.get(&keeper.mark_key()).is_ok_and(|mark| mark == Some(keeper.mark()));
        let mut state = lock(&keeper.state);
        state.same_settings = same;
        state.suspicious |= !same;
        drop(state);
        keeper
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &CatalogueId {
        &self.settings.name
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> CatalogueKind {
        self.settings.source.kind()
    }

    /// It is time for a reading, by the clock that does not jump.
    #[must_use]
    pub fn due(&self) -> bool {
        self.clock.boottime() >= lock(&self.state).next
    }

    /// Reads: whole where that is due or doubt demands it, else what is new. Judges it, and remembers what could be believed.
    pub fn read(&self, presence: &dyn Presence) -> Vec<Happened> {
        let mut source = lock(&self.source);
        let begun = self.clock.boottime();
        let attempt = catch_unwind(AssertUnwindSafe(|| self.attempt(&mut **source, presence, begun)));
        drop(source);
        let outcome = attempt.unwrap_or_else(|_| {
            let error =
                "the guard met a fault of its own while it read; its log says which, and its makers want to know"
                    .to_owned();
            Err(Distrust::Unanswered { error })
        });
        let (now, boot) = (self.clock.now(), self.clock.boottime());
        let mut state = lock(&self.state);
        state.tried = true;
        match outcome {
            Ok(done) => {
                let mut happened = vec![Happened::Read(done.rows, boot.saturating_sub(begun))];
                happened.extend(state.distrust.take().map(|_| Happened::Trusted));
                (state.since, state.read_at, state.failures) = (None, Some(now), 0);
                if done.remark.is_some() || done.whole {
                    state.remark.clone_from(&done.remark);
                }
                happened.extend(done.remark.map(Happened::Remark));
                state.next =
                    if state.doubts > state.answered { boot } else { boot.saturating_add(self.settings.interval) };
                happened
            }
            Err(why) => {
                state.failures = state.failures.saturating_add(1);
                state.next = boot.saturating_add(self.pause(&why, state.failures));
                state.since.get_or_insert(now);
                let news = state.distrust.as_ref().map(Distrust::as_str) != Some(why.as_str());
                state.distrust = Some(why.clone());
                if news { vec![Happened::Distrusted(why)] } else { Vec::new() }
            }
        }
    }

    fn pause(&self, why: &Distrust, failures: u32) -> Duration {
        if why.acceptable() {
            // It answers, and what it says changes as fast as ever.
            return self.settings.interval;
        }
        AGAIN.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(30))).min(self.settings.interval)
    }

    /// It was read, or tried to be, since this process began.
    #[must_use]
    pub fn tried(&self) -> bool {
        lock(&self.state).tried
    }

    /// What it says, if it is believed now.
    #[must_use]
    pub fn known(&self) -> Option<Known> {
        let state = lock(&self.state);
        if state.distrust.is_some() {
            return None;
        }
        state.believed.as_ref().map(|believed| self.known_of(believed))
    }

    /// What it said when it was last believed; it may not be now.
    #[must_use]
    pub fn last(&self) -> Option<Known> {
        lock(&self.state).believed.as_ref().map(|believed| self.known_of(believed))
    }

    fn known_of(&self, believed: &Believed) -> Known {
        Known {
            name: self.settings.name.clone(),
            kind: self.kind(),
            index: believed.index.clone(),
            as_of: believed.state.as_of,
        }
    }

    /// Where a row of its source belongs.
    #[must_use]
    pub fn place(&self, row: &CatalogueRow) -> Place {
        self.placing.place(row)
    }

    /// How it stands.
    #[must_use]
    pub fn view(&self) -> CatalogueView {
        let state = lock(&self.state);
        CatalogueView {
            name: self.settings.name.clone(),
            kind: self.kind(),
            distrust: state.distrust.clone(),
            since: state.since,
            counts: state.believed.as_ref().map(|believed| believed.state.counts).unwrap_or_default(),
            read_at: state.read_at,
            remark: state.remark.clone(),
        }
    }

    /// A comparison met a tree with recordings of which it knows none: it is read and judged again at once.
    pub fn doubt(&self) {
        let boot = self.clock.boottime();
        let mut state = lock(&self.state);
        state.doubts = state.doubts.saturating_add(1);
        // While it fails anyway it is asked no faster.
        if state.failures == 0 {
            state.next = boot;
        }
    }

    /// What seems to be missing in it waits to be confirmed: the next reading that is due is a whole one.
    pub fn confirm(&self) {
        let mut state = lock(&self.state);
        state.doubts = state.doubts.saturating_add(1);
    }

    /// A person accepts its new state.
    ///
    /// # Errors
    /// A sentence that says why there is nothing to accept.
    pub fn accept(&self) -> Result<(), String> {
        let _judgement = lock(&self.judgement);
        let name = &self.settings.name;
        let mut state = lock(&self.state);
        match &state.distrust {
            None => return Err(format!("catalogue `{name}` is trusted; there is nothing to accept")),
            Some(why) if !why.acceptable() => {
                return Err(format!("there is no whole new state to accept: {}", why.sentence(name)));
            }
            Some(_) => {}
        }
        let Some(pending) = state.pending.take() else {
            return Err(format!("the new state of catalogue `{name}` was not kept; accept it after its next reading"));
        };
        drop(state);
        let Pending { building, state: mut accepted, read_at, whole_at } = pending;
        accepted.accepted = true;
        let place = self.files.as_ref().map(Files::believed);
        let placed = match building.index().set_state(&accepted) {
            Ok(()) => building.place(place.as_deref()),
            Err(error) => Err(Box::new((error, building))),
        };
        let (index, state) = match placed {
            Ok(index) => {
                let state = index.state().unwrap_or(accepted);
                (Arc::new(index), state)
            }
            Err(failed) => {
                let (error, building) = *failed;
                lock(&self.state).pending = Some(Pending { building, state: accepted, read_at, whole_at });
                let error = chain(&error);
                return Err(format!(
                    "the new state of catalogue `{name}` cannot be put in its place: {error}; try again"
                ));
            }
        };
        self.note_mark();
        let mut held = lock(&self.state);
        held.believed = Some(Believed { index, state });
        (held.distrust, held.since, held.failures, held.suspicious) = (None, None, 0, false);
        (held.read_at, held.whole_at, held.same_settings) = (Some(read_at), Some(whole_at), true);
        Ok(())
    }

    /// Streams of which something was told that is not in the index yet.
    #[must_use]
    pub fn undrained(&self) -> Vec<String> {
        if self.kind() != CatalogueKind::Hooks {
            return Vec::new();
        }
        let last = lock(&self.state).believed.as_ref().and_then(|believed| believed.state.last).unwrap_or(0);
        match self.hooks.hook_streams_after(last, self.settings.media_server.as_deref()) {
            Ok(streams) => streams,
            Err(error) => {
                // Nobody can say which streams are told of: then it is not known what it says, and nothing is proven by it.
                let now = self.clock.now();
                let mut state = lock(&self.state);
                state.distrust.get_or_insert(Distrust::Unanswered { error: chain(&error) });
                state.since.get_or_insert(now);
                state.next = Duration::ZERO;
                Vec::new()
            }
        }
    }

    /// Its rows can be inserted and removed.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.kind() == CatalogueKind::Wvp
    }

    /// Where the media server sees a recording: the way back through `path_map`. `None` if its tree is none of this catalogue's, or the path is
    /// no text.
    #[must_use]
    pub fn outside(&self, tree: &TreeId, path: &RelPath) -> Option<String> {
        self.placing.outside(tree, path)?.into_os_string().into_string().ok()
    }

    /// Under which key of the database it stands what the index was built by.
    fn mark_key(&self) -> String {
        format!("catalogue/{}", self.settings.name)
    }

    /// What an index depends on: another source, other trees, another map, and it has to be built anew.
    fn mark(&self) -> Vec<u8> {
        let source = match &self.settings.source {
            // The address may hold a login, and a digest of that belongs nowhere: what stands between is enough.
            CatalogueSource::Wvp { url, .. } => {
                let url = url.reveal();
                let url = url.split_once('?').map_or(url, |(place, _)| place);
                format!("wvp {}", url.rsplit_once('@').map_or(url, |(_, place)| place))
            }
            CatalogueSource::Frigate { file } => format!("frigate {}", file.display()),
            CatalogueSource::Hooks => "hooks".to_owned(),
            CatalogueSource::Manifest { file } => format!("manifest {}", file.display()),
        };
        let text = format!("{source}\n{:?}", self.placing);
        format!("{:016x}", self.key.digest(text.as_bytes())).into_bytes()
    }

    /// Notes under which settings the index was built. If that fails, the next process reads it whole, and asks a person again.
    pub(super) fn note_mark(&self) {
        let _ = self.hooks.put(&self.mark_key(), &self.mark());
    }
}

#[cfg(test)]
#[path = "keeper_fakes.rs"]
mod fakes;
#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "trust_tests.rs"]
mod trust_tests;
