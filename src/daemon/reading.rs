//! The threads of the catalogues: each reads when it is due, and changes rows where that is asked for. No volume ever waits for a database.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::catalogues::{Catalogues, RowWish, RowWork};
use super::guard::Parts;
use super::hub::{Hub, lock};
use super::rows::Hand;
use super::volume::VolumeWorker;
use crate::catalogue::{Happened, Keeper, Presence};
use crate::config::Config;
use crate::domain::event::Event;
use crate::domain::names::{CatalogueId, TreeId};
use crate::domain::path::RelPath;
use crate::system::{Clock, Volumes, WritableDir};

/// Between two looks whether something is due.
const TICK: Duration = Duration::from_millis(250);
/// A reading waits so long for the first scan of its trees: what is on disk tells whether it can be believed.
const PATIENCE: Duration = Duration::from_secs(60);
/// A thread that is told to stop may take so long, then it is left to its database, and the next one waits for it.
const END: Duration = Duration::from_secs(2);

/// The threads of all catalogues.
#[derive(Default)]
pub(super) struct Readers {
    stop: Arc<AtomicBool>,
    threads: Vec<(CatalogueId, JoinHandle<()>)>,
}

impl Readers {
    /// Starts a thread for each catalogue. They begin once those of `before` have ended.
    pub(super) fn start(config: &Config, parts: &Parts, hub: &Arc<Hub>, before: Self) -> std::io::Result<Self> {
        let mut left = before.end(parts.clock.as_ref());
        let stop = Arc::new(AtomicBool::new(false));
        let config = Arc::new(config.clone());
        let mut threads = Vec::new();
        for keeper in parts.catalogues.keepers() {
            let reader = Reader {
                keeper: keeper.clone(),
                catalogues: parts.catalogues.clone(),
                hub: hub.clone(),
                clock: parts.clock.clone(),
                config: config.clone(),
                machine: parts.machine.clone(),
                stop: stop.clone(),
            };
            // One that hangs keeps only its own successor waiting.
            let name = keeper.name().clone();
            let (own, others) = std::mem::take(&mut left).into_iter().partition(|(one, _)| *one == name);
            left = others;
            let own: Vec<(CatalogueId, JoinHandle<()>)> = own;
            let thread = std::thread::Builder::new().name("catalogue".to_owned()).spawn(move || {
                for (_, thread) in own {
                    let _ = thread.join();
                }
                reader.work();
            });
            threads.push((name, thread?));
        }
        Ok(Self { stop, threads })
    }

    /// Tells all to stop; gives those that hang in their database.
    pub(super) fn end(self, clock: &dyn Clock) -> Vec<(CatalogueId, JoinHandle<()>)> {
        self.stop.store(true, Ordering::Relaxed);
        let began = clock.boottime();
        while self.threads.iter().any(|(_, thread)| !thread.is_finished())
            && clock.boottime().saturating_sub(began) < END
        {
            clock.sleep(Duration::from_millis(10));
        }
        self.threads.into_iter().filter(|(_, thread)| !thread.is_finished()).collect()
    }
}

/// What one thread has.
struct Reader {
    keeper: Arc<Keeper>,
    catalogues: Arc<Catalogues>,
    hub: Arc<Hub>,
    clock: Arc<dyn Clock>,
    config: Arc<Config>,
    machine: Arc<dyn Volumes>,
    stop: Arc<AtomicBool>,
}

impl Reader {
    fn work(&self) {
        let began = self.clock.boottime();
        let (mut looked_after, mut rechecked, mut hindered) = (None, HashMap::new(), HashMap::new());
        while !self.stop.load(Ordering::Relaxed) {
            let waited = self.clock.boottime().saturating_sub(began) >= PATIENCE;
            if self.keeper.due() && (waited || self.scanned()) {
                let happened = self.keeper.read(&self.disk());
                tell(&self.keeper, happened, &|event| self.hub.record(&event));
                looked_after = None;
                self.let_look();
            }
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            if let Some(work) = self.catalogues.next(&self.keeper) {
                self.do_with_rows(work);
                self.let_look();
            }
            let revision = self.catalogues.revision();
            if looked_after != Some(revision) && self.keeper.known().is_some() {
                // What could not be done is tried again after the next deletion or reading.
                looked_after = Some(revision);
                self.hand(&self.disk()).look_after_rows(&mut hindered);
                self.recheck(&mut rechecked);
            }
            self.clock.sleep(TICK);
        }
    }

    /// What is on disk now.
    fn disk(&self) -> Disk<'_> {
        Disk::new(&self.config, self.machine.clone(), &self.hub)
    }

    fn hand<'a>(&'a self, disk: &'a Disk<'a>) -> Hand<'a> {
        Hand { keeper: &self.keeper, catalogues: &self.catalogues, hub: &self.hub, disk }
    }

    fn do_with_rows(&self, work: RowWork) {
        match work.wish {
            RowWish::Rehearse { answer } => {
                // Whoever asked may have given up waiting.
                let _ = answer.try_send(self.hand(&self.disk()).rehearse(&work.remedy));
            }
            RowWish::Change { job: None, who } => {
                if let Some(problem) = self.hand(&self.disk()).change(&work.remedy, None, &who, &|| false).problem {
                    let text = format!("catalogue {}: {}", self.keeper.name(), problem.message);
                    self.hub.record(&Event::Remark { text, urgent: false });
                }
            }
            RowWish::Change { job: Some(job), who } => {
                if let Some(cancelled) = self.hub.with_jobs(|jobs| jobs.begin(job, self.hub.now())) {
                    // Only a person ends it: a reload waits for the chunk at hand, and the job goes on.
                    let stop = || cancelled.load(Ordering::Relaxed);
                    let relief = self.hand(&self.disk()).change(&work.remedy, Some(job), &who, &stop);
                    let now = self.hub.now();
                    self.hub.with_jobs(|jobs| jobs.end_remedy(job, relief.reclaimed, relief.problem, now));
                }
            }
        }
    }

    /// Where more rows are without a file than before, the platform may have removed them.
    fn recheck(&self, rechecked: &mut HashMap<TreeId, u64>) {
        for tree in self.catalogues.trees_of(self.keeper.name()) {
            let missing = self.catalogues.findings.missing_in(&tree).unwrap_or_default();
            let before = rechecked.insert(tree.clone(), missing).unwrap_or_default();
            if missing > before
                && let Err(error) = self.hand(&self.disk()).recheck(&tree)
            {
                let text = format!("catalogue {}: {error}", self.keeper.name());
                self.hub.record(&Event::Remark { text, urgent: false });
            }
        }
    }

    fn scanned(&self) -> bool {
        self.catalogues.trees_of(self.keeper.name()).iter().all(|tree| self.hub.recordings(tree).is_some())
    }

    /// The volumes compare at once.
    fn let_look(&self) {
        for tree in self.catalogues.trees_of(self.keeper.name()) {
            self.hub.nudge(&tree);
        }
    }
}

/// Reads every catalogue once, for a command.
pub fn read_catalogues(config: &Config, parts: &Parts, hub: &Hub) {
    let disk = Disk::new(config, parts.machine.clone(), hub);
    for keeper in parts.catalogues.keepers() {
        let happened = keeper.read(&disk);
        tell(keeper, happened, parts.events.as_ref());
    }
}

/// Makes events of what a reading brought about.
pub(super) fn tell(keeper: &Keeper, happened: Vec<Happened>, told: &dyn Fn(Event)) {
    let catalogue = keeper.name().clone();
    for one in happened {
        told(match one {
            Happened::Read(rows, took) => Event::CatalogueRead { catalogue: catalogue.clone(), rows, took },
            Happened::Trusted => Event::CatalogueTrusted { catalogue: catalogue.clone() },
            Happened::Distrusted(why) => Event::CatalogueDistrusted { catalogue: catalogue.clone(), why },
            Happened::Remark(text) => Event::Remark { text: format!("catalogue {catalogue}: {text}"), urgent: false },
        });
    }
}

/// What is on disk, for whoever judges a catalogue or changes its rows.
pub(super) struct Disk<'h> {
    /// Where the last scans are seen.
    hub: &'h Hub,
    machine: Arc<dyn Volumes>,
    places: HashMap<TreeId, PathBuf>,
    /// Opened for one piece of work, so that an exchanged disk is seen by the next.
    open: Mutex<HashMap<TreeId, Option<Arc<dyn WritableDir>>>>,
}

impl<'h> Disk<'h> {
    fn new(config: &Config, machine: Arc<dyn Volumes>, hub: &'h Hub) -> Self {
        let places = config.trees.iter().map(|tree| (tree.name.clone(), tree.path.clone())).collect();
        Self { hub, machine, places, open: Mutex::default() }
    }

    /// The trees of a volume.
    pub(super) fn of(volume: &VolumeWorker, hub: &'h Hub) -> Self {
        let place = |tree: &super::tree::TreeWatch| (tree.policy.tree.clone(), tree.dir.path().to_owned());
        let places = volume.trees.iter().map(place).collect();
        Self { hub, machine: volume.machine.clone(), places, open: Mutex::default() }
    }

    /// The handle of a tree; `None` if it cannot be trusted now.
    pub(super) fn tree(&self, tree: &TreeId) -> Option<Arc<dyn WritableDir>> {
        let mut open = lock(&self.open);
        let handle = open.entry(tree.clone()).or_insert_with(|| {
            let path = self.places.get(tree).filter(|_| self.hub.sound(tree))?;
            let dir = self.machine.open_tree(path).ok()?;
            // What is there now must be what the volume's worker looks at: an empty place where its disk was holds nothing either.
            let top = dir.top().ok()?;
            let same = self.hub.with_tree(tree, |_, view| view.top == Some((top.device, top.inode))).unwrap_or(false);
            same.then_some(dir)
        });
        handle.clone()
    }
}

impl Presence for Disk<'_> {
    fn there(&self, tree: &TreeId, path: &RelPath) -> Option<bool> {
        self.tree(tree)?.look(path).ok().map(|found| found.is_some())
    }

    fn recordings(&self, tree: &TreeId) -> Option<u64> {
        self.hub.recordings(tree)
    }
}
