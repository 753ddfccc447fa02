//! The threads of the archives: each copies what the volumes' workers offer, one recording after the other, and brings back what persons
//! want. None deletes a recording: a verified copy is entered into the book, and the worker of its volume does the rest. Of a bucket they
//! also remove the copies that have come to their end (`expiring`).

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::archive_calls::problem;
use super::catalogues::Catalogues;
use super::expiring::Expiry;
use super::guard::Parts;
use super::hub::Hub;
use super::tree::{marker_fault, marker_for};
use crate::archive::{Bucket, ColdError, ColdFolder, ColdStore, Copying, Patience, Ready, Throttle};
use crate::config::Config;
use crate::domain::archive::{ArchiveSettings, ArchivedCopy, ColdPlace, key_of};
use crate::domain::cause::chain;
use crate::domain::event::Event;
use crate::domain::marker::MarkerFault;
use crate::domain::names::TreeId;
use crate::domain::settings::{TreeSettings, Window};
use crate::system::{Clock, Volumes, WritableDir};

/// Between two looks whether something is to be done.
const TICK: Duration = Duration::from_millis(250);
/// How long a thread that is told to end is waited for: it ends between two pieces, unless its archive hangs.
const END: Duration = Duration::from_secs(3);

/// The threads of all archives.
#[derive(Default)]
pub(super) struct Archivers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Archivers {
    /// Another configuration is in force: its workers will offer what is to be copied.
    pub(super) fn clear(config: &Config, hub: &Hub) {
        hub.set_archives(&config.archives);
        let names: Vec<_> = config.archives.iter().map(|archive| archive.name.clone()).collect();
        for task in hub.cold.begin(&names) {
            let text = format!("archive of tree `{}` is not configured any more", task.tree);
            hub.with_jobs(|jobs| jobs.end_early(task.job, problem("gone", text), hub.now()));
        }
    }

    /// Starts a thread for each archive.
    pub(super) fn start(config: &Config, parts: &Parts, hub: &Arc<Hub>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for settings in &config.archives {
            let archiver = Archiver::new(settings, config, parts, hub, &stop);
            let thread = std::thread::Builder::new().name("archive".to_owned()).spawn(move || archiver.work());
            threads.push(thread?);
        }
        Ok(Self { stop, threads })
    }

    /// Tells all to end. One that hangs in its archive is left to it; it copies nothing any more.
    pub(super) fn end(self, clock: &dyn Clock) {
        self.stop.store(true, Ordering::Relaxed);
        let began = clock.boottime();
        while self.threads.iter().any(|thread| !thread.is_finished()) && clock.boottime().saturating_sub(began) < END {
            clock.sleep(Duration::from_millis(10));
        }
    }
}

/// Whether a copy that was verified a while ago is still there, as long as it was, and with the same digest where that is kept with it.
fn still_there(store: &dyn ColdStore, copy: &ArchivedCopy) -> Result<bool, ColdError> {
    let key = key_of(&copy.tree, &copy.path);
    if let Some(object) = store.look(&key)? {
        return Ok(object.size == copy.size && object.digest.is_none_or(|digest| digest == copy.digest));
    }
    // A directory that goes as one is many copies.
    let mut size = 0_u64;
    store.list(Some(&key), &mut |object| {
        size = size.saturating_add(object.size);
        ControlFlow::Continue(())
    })?;
    Ok(size > 0 && size == copy.size)
}

/// What one thread has.
pub(super) struct Archiver {
    pub(super) settings: ArchiveSettings,
    pub(super) trees: Vec<TreeSettings>,
    /// Copies are removed within it.
    pub(super) window: Option<Window>,
    pub(super) machine: Arc<dyn Volumes>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) state: Arc<str>,
    pub(super) catalogues: Arc<Catalogues>,
    pub(super) hub: Arc<Hub>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Archiver {
    /// One for an archive of a configuration.
    pub(super) fn new(
        settings: &ArchiveSettings,
        config: &Config,
        parts: &Parts,
        hub: &Arc<Hub>,
        stop: &Arc<AtomicBool>,
    ) -> Self {
        Self {
            settings: settings.clone(),
            trees: config.trees.clone(),
            window: config.cleanup.window,
            machine: parts.machine.clone(),
            clock: parts.clock.clone(),
            state: parts.state.clone(),
            catalogues: parts.catalogues.clone(),
            hub: hub.clone(),
            stop: stop.clone(),
        }
    }

    fn work(&self) {
        let name = &self.settings.name;
        let mut throttle = Throttle::new(self.settings.rate, self.clock.clone());
        let mut store = None;
        let mut expiry = Expiry::default();
        while !self.stop.load(Ordering::Relaxed) {
            if let Some(task) = self.hub.cold.next_restore(name) {
                self.restore(&mut store, task);
                continue;
            }
            self.expire(&mut store, &mut expiry);
            let Some(wanted) = self.hub.cold.next(name, self.clock.boottime()) else {
                self.clock.sleep(TICK);
                continue;
            };
            let known = self.catalogues.archived.of(&wanted.policy.tree).get(wanted.source).cloned();
            // It was offered by a plan that did not know of the copy yet. Reading it now would stand in the way of its deletion.
            if known.as_ref().is_some_and(|copy| copy.sure(self.hub.now())) {
                continue;
            }
            let copied = self.opened(&mut store).and_then(|store| {
                if let Some(copy) = known
                    && still_there(store, &copy)?
                {
                    return Ok(ArchivedCopy { verified: self.hub.now(), ..copy });
                }
                let stop = || self.stop.load(Ordering::Relaxed);
                let mut copying =
                    Copying { archive: name, store, throttle: &mut throttle, stop: &stop, clock: self.clock.as_ref() };
                copying.copy(&wanted)
            });
            match copied {
                Ok(copy) => {
                    let event = Event::Archived { tree: copy.tree.clone(), archive: name.clone(), bytes: wanted.bytes };
                    if let Err(error) = self.catalogues.archived.enter(copy) {
                        let text = format!("{}; after a restart the copy is looked for again", chain(&error));
                        self.hub.record(&Event::Remark { text, urgent: false });
                    }
                    self.hub.cold.note_came(&TreeId::new(name.as_str()));
                    self.hub.record(&event);
                    if let Some(all) = self.hub.cold.copied(name, &wanted, self.hub.now()) {
                        let text = format!(
                            "archive {name}: all that waited is copied, {} recordings, {}",
                            all.files, all.bytes
                        );
                        self.hub.record(&Event::Remark { text, urgent: false });
                    }
                }
                Err(_) if self.stop.load(Ordering::Relaxed) => {}
                Err(error) => {
                    let all = match &error {
                        ColdError::Unusable(_) | ColdError::Full(_) | ColdError::Failed { .. } => true,
                        ColdError::Source(_)
                        | ColdError::Taken { .. }
                        | ColdError::Differs { .. }
                        | ColdError::Absent(_) => false,
                    };
                    let text = format!("`{}` of tree `{}`: {}", wanted.path, wanted.policy.tree, chain(&error));
                    let text = if all { chain(&error) } else { text };
                    if all {
                        // It is opened anew: another disk may be there by then.
                        store = None;
                    }
                    let at = (self.hub.now(), self.clock.boottime());
                    if self.hub.cold.failed(name, &wanted, all, &text, at) {
                        self.hub.record(&Event::ArchiveFailed { archive: name.clone(), why: text });
                    }
                }
            }
        }
    }

    /// The archive, opened and swept if it is not yet.
    pub(super) fn opened<'a>(&self, store: &'a mut Option<Box<dyn ColdStore>>) -> Result<&'a dyn ColdStore, ColdError> {
        if store.is_none() {
            let opened = self.open()?;
            let left = opened.tidy()?;
            if left > 0 {
                let text =
                    format!("archive `{}`: {left} copies that were left unfinished were removed", self.settings.name);
                self.hub.record(&Event::Remark { text, urgent: false });
            }
            *store = Some(opened);
        }
        store.as_deref().ok_or_else(|| ColdError::Unusable("it is not open".to_owned()))
    }

    fn open(&self) -> Result<Box<dyn ColdStore>, ColdError> {
        match &self.settings.place {
            ColdPlace::Directory { path, .. } => {
                let dir = self
                    .machine
                    .open_near(path)
                    .map_err(|error| ColdError::Unusable(format!("`{}` cannot be opened: {error}", path.display())))?;
                Ok(Box::new(ColdFolder::new(dir, self.ready())))
            }
            ColdPlace::Bucket(settings) => {
                Ok(Box::new(Bucket::open(&self.settings.name, settings, Patience::default())?))
            }
        }
    }

    /// Whether copies may be written into the directory: it is the one that it was, bears the marker, and has room above its volume's critical
    /// mark.
    fn ready(&self) -> Ready {
        let name = TreeId::new(self.settings.name.as_str());
        let (state, hub) = (self.state.clone(), self.hub.clone());
        Arc::new(move |dir: &dyn WritableDir| {
            dir.still_there().map_err(|why| why.to_string())?;
            let fault = |fault: MarkerFault| {
                format!("its identity marker {fault}; if this is right, run `storage-guard init --accept {name}`")
            };
            let wanted = marker_for(dir, &name, &state).map_err(|error| error.to_string())?;
            let found = dir.read_marker().map_err(|error| fault(MarkerFault::Unreadable(error.to_string())))?;
            if let Some(wrong) = wanted.fault(found.as_deref()) {
                return Err(match found {
                    Some(_) => fault(wrong),
                    None if hub.with_history(|history| history.marked.contains(&name)) => format!(
                        "the identity marker that it bore is not there: see that its disk is mounted; if this is right, run `storage-guard init --accept {name}`"
                    ),
                    None => format!("it bears no identity marker yet; run `storage-guard init {name}`"),
                });
            }
            let full = hub.with_tree(&name, |volume, _| {
                let space = volume.reading.as_ref().ok()?.space;
                (space.available < volume.marks.thresholds(&space).critical).then_some(space.available)
            });
            match full.flatten() {
                Some(available) => Err(format!("its volume is beyond its critical mark: {available} are available")),
                None => Ok(()),
            }
        })
    }

    /// The tree that something is brought back into, if it may be written to now.
    pub(super) fn tree_for(&self, tree: &TreeId) -> Result<Arc<dyn WritableDir>, String> {
        let settings = self.trees.iter().find(|one| one.name == *tree);
        let settings = settings.ok_or_else(|| format!("tree `{tree}` is not guarded any more"))?;
        if !self.hub.sound(tree) {
            return Err(format!("tree `{tree}` cannot be trusted now: nothing is written into it"));
        }
        let failed = |error: std::io::Error| format!("`{}` cannot be opened: {error}", settings.path.display());
        let dir = self.machine.open_near(Path::new(&settings.path)).map_err(failed)?;
        match marker_fault(dir.as_ref(), tree, &self.state).map_err(failed)? {
            None => Ok(dir),
            Some(fault) => Err(format!("the identity marker of tree `{tree}` {fault}: nothing is written into it")),
        }
    }
}
