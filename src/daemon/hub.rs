//! What everybody shares: the last views, the queues of the workers, jobs, plans, and the recorder of events.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::buckets::Buckets;
use super::catalogues::Catalogues;
use super::cold::Desks;
use super::demand_task::Task;
use super::jobs::Jobs;
use super::log;
use super::queue::Queue;
use super::switch::Switch;
use super::systemd::Pulse;
use crate::domain::deletion::Cap;
use crate::domain::event::Event;
use crate::domain::history::History;
use crate::domain::journal::{Entry, JournalQuery, NoteKind};
use crate::domain::names::{TreeId, VolumeId};
use crate::domain::path::RelPath;
use crate::domain::plan::Plan;
use crate::domain::remedy::Remedy;
use crate::domain::retention::Mode;
use crate::domain::settings::AuthSettings;
use crate::domain::status::{TreeView, VolumeView};
use crate::domain::units::{Bytes, Timestamp};
use crate::domain::volume::Unusable;
use crate::metrics::Counters;
use crate::notify::Callback;
use crate::reclaim::Settled;
use crate::server::records::{Cap as CapShape, FailureItem, Job, JobItem, JournalEntry, Verification};
use crate::server::shapes::{Page, Plan as PlanShape, Status};
use crate::server::{Feed, PageQuery, Plans, Refusal};
use crate::store::Journal;
use crate::system::Clock;
use crate::zlmediakit::Live;

/// A plan can be applied for so long.
const PLAN_GOOD: Duration = Duration::from_secs(15 * 60);
/// So many plans are remembered.
const PLANS: usize = 64;
/// A text of a person is kept as far as this.
const REASON: usize = 2000;

/// What a volume's worker is asked to do.
pub(super) enum Command {
    /// Carry a plan out.
    Apply {
        /// The plan.
        plan: Box<Plan>,
        /// The job, and the number of its run.
        job: u64,
        /// Who wants it.
        who: String,
    },
    /// Try a failed deletion again, or all of them.
    Retry {
        /// Which.
        id: Option<u64>,
        /// Who wants it.
        who: String,
    },
    /// Do something about orphans, or about rows without a file.
    Remedy {
        /// The job.
        job: u64,
        /// What is to be done.
        remedy: Box<Remedy>,
        /// Who wants it.
        who: String,
    },
    /// Delete what a person or the gateway asked for.
    Demand(Box<Task>),
    /// Look now.
    Look,
}

impl Command {
    /// It has no turn before this, by the clock that does not jump.
    pub(super) fn rests_until(&self) -> Option<Duration> {
        match self {
            Self::Demand(task) => Some(task.rests_until),
            Self::Apply { .. } | Self::Retry { .. } | Self::Remedy { .. } | Self::Look => None,
        }
    }

    /// The job that it belongs to.
    pub(super) fn job(&self) -> Option<u64> {
        match self {
            Self::Apply { job, .. } | Self::Remedy { job, .. } => Some(*job),
            Self::Demand(task) => Some(task.job),
            Self::Retry { .. } | Self::Look => None,
        }
    }
}

/// A worker's queue, and its view.
pub(super) struct Seat {
    pub(super) queue: Option<Arc<Queue>>,
    view: Arc<VolumeView>,
    trees: Vec<TreeId>,
    pulse: Arc<Pulse>,
    /// It was asked for its space once.
    probed: bool,
}

/// What everybody shares.
pub struct Hub {
    pub(super) journal: Arc<Journal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Counters,
    pub(super) seats: Mutex<BTreeMap<VolumeId, Seat>>,
    /// What is asked of each volume; it outlives its worker.
    pub(super) queues: Mutex<BTreeMap<VolumeId, Arc<Queue>>>,
    plans: Mutex<HashMap<String, Plan>>,
    jobs: Mutex<Jobs>,
    /// What should exist, and how that compares; `None` until it is known.
    pub(super) catalogues: ArcSwapOption<Catalogues>,
    /// What media servers are known to do.
    pub live: Arc<Live>,
    /// What is not recorded because of us.
    pub(super) switch: Switch,
    /// What is to be copied to archives, and brought back.
    pub(super) cold: Desks,
    /// The archives that are asked what they hold.
    pub(super) buckets: Buckets,
    /// Where the states of jobs may be told to.
    callbacks: ArcSwapOption<AuthSettings>,
    reopen: AtomicBool,
    /// Numbers below this may have been given to jobs.
    pub(super) reserved: AtomicU64,
}

/// Locks what the daemon's threads share.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is shared is replaced whole, so a panic elsewhere leaves nothing half-done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// A hub without volumes.
    #[must_use]
    pub fn new(journal: Arc<Journal>, clock: Arc<dyn Clock>) -> Self {
        let counters = Counters::new(clock.now());
        let live = Arc::new(Live::new(clock.clone()));
        Self {
            journal,
            clock,
            counters,
            seats: Mutex::default(),
            queues: Mutex::default(),
            plans: Mutex::default(),
            jobs: Mutex::default(),
            catalogues: ArcSwapOption::empty(),
            live,
            switch: Switch::default(),
            cold: Desks::default(),
            buckets: Buckets::default(),
            callbacks: ArcSwapOption::empty(),
            reopen: AtomicBool::new(false),
            reserved: AtomicU64::new(0),
        }
    }

    /// Records an event: metrics and log are made of it here, and nowhere else.
    pub fn record(&self, event: &Event) {
        self.counters.observe(event, self.clock.now());
        log::write(event);
    }

    pub(super) fn seat(&self, view: VolumeView, queue: Option<Arc<Queue>>, pulse: Arc<Pulse>) {
        let trees = view.trees.iter().map(|tree| tree.policy.tree.clone()).collect();
        lock(&self.seats).insert(view.name.clone(), Seat { queue, view: Arc::new(view), trees, pulse, probed: false });
    }

    /// For how long each worker has shown no progress.
    pub(super) fn silent(&self) -> Vec<(VolumeId, Duration)> {
        let now = self.clock.boottime();
        lock(&self.seats).iter().map(|(name, seat)| (name.clone(), seat.pulse.silent(now))).collect()
    }

    /// The worker that has shown no progress for longest; `None` while there is no worker.
    pub(super) fn slowest(&self) -> Option<(VolumeId, Duration)> {
        self.silent().into_iter().max_by_key(|(_, silent)| *silent)
    }

    /// Shows what this process saw itself, where no worker does.
    pub fn show(&self, views: Vec<VolumeView>) {
        views.into_iter().for_each(|view| self.seat(view, None, Arc::default()));
    }

    /// Checks the journal's chain.
    ///
    /// # Errors
    /// 503 if it cannot be read.
    pub fn verify(&self) -> Result<Verification, Refusal> {
        let found = self.journal.verify().map_err(|error| Refusal::unavailable("journal", error.to_string()))?;
        Ok(Verification { entries: found.entries, faults: found.faults })
    }

    /// A tree that could not be opened can be now.
    pub(super) fn ask_reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Whether that was asked for since the last time.
    pub(super) fn take_reopen(&self) -> bool {
        self.reopen.swap(false, Ordering::Relaxed)
    }

    pub(super) fn clear(&self) {
        lock(&self.seats).clear();
    }

    pub(super) fn publish(&self, view: VolumeView) {
        if let Some(seat) = lock(&self.seats).get_mut(&view.name) {
            seat.view = Arc::new(view);
        }
    }

    /// The volumes as they were last seen.
    #[must_use]
    pub fn views(&self) -> Vec<VolumeView> {
        lock(&self.seats).values().map(|seat| seat.view.as_ref().clone()).collect()
    }

    /// Reads what the journal adds up to.
    pub fn with_history<T>(&self, read: impl FnOnce(&History) -> T) -> T {
        self.journal.with_history(read)
    }

    /// Every volume was asked for its space once.
    #[must_use]
    pub fn ready(&self) -> bool {
        lock(&self.seats).values().all(|seat| seat.probed || seat.view.reading != Err(Unusable::NotYet))
    }

    /// A volume was asked for its space.
    pub(super) fn probed(&self, volume: &VolumeId) {
        if let Some(seat) = lock(&self.seats).get_mut(volume) {
            seat.probed = true;
        }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> Status {
        let views = self.views();
        let (catalogues, media) = (self.catalogue_views(), self.live.views());
        self.with_history(|history| Status::of(&views, &catalogues, &media, history))
    }

    /// What would go now, of one volume or of all that are not blind.
    ///
    /// # Errors
    /// 404 if there is no such volume, 503 while it is blind.
    pub fn plans(&self, volume: Option<&str>) -> Result<Plans, Refusal> {
        let views = self.views();
        let plan = |view: &VolumeView| {
            let (plan, cuts) = self.with_history(|history| view.cut_plan(self.clock.now(), history))?;
            let shape = PlanShape::from(&plan).cut_by(&cuts);
            self.remember(plan);
            Some(shape)
        };
        let Some(name) = volume else {
            return Ok(Plans::All(Page { items: views.iter().filter_map(plan).collect(), next: None }));
        };
        let view = views.iter().find(|view| view.name.as_str() == name).ok_or_else(|| {
            let known: Vec<&str> = views.iter().map(|view| view.name.as_str()).collect();
            Refusal::not_found(format!("there is no volume `{name}`; there are: {}", known.join(", ")))
        })?;
        let shape = plan(view).ok_or_else(|| {
            Refusal::unavailable(
                "blind",
                format!("volume `{name}` cannot be judged now, so there is no plan; see its status"),
            )
        })?;
        Ok(Plans::One(Box::new(shape)))
    }

    fn remember(&self, plan: Plan) {
        let now = self.clock.now();
        let mut plans = lock(&self.plans);
        plans.retain(|_, plan| now.since(plan.made.now) <= PLAN_GOOD);
        if plans.len() >= PLANS {
            let oldest = plans.values().min_by_key(|plan| plan.made.now).map(|plan| plan.id.clone());
            oldest.map(|id| plans.remove(&id));
        }
        plans.insert(plan.id.clone(), plan);
    }

    /// The plan with that id, if it may be carried out now.
    ///
    /// # Errors
    /// 404 if it is unknown or too old, 409 if it no longer holds, or its trees are only observed.
    pub(super) fn applicable(&self, id: &str) -> Result<Plan, Refusal> {
        let now = self.clock.now();
        let plan = lock(&self.plans).get(id).filter(|plan| now.since(plan.made.now) <= PLAN_GOOD).cloned();
        let plan = plan.ok_or_else(|| {
            Refusal::not_found(format!("there is no plan `{id}`; plans are good for 15 minutes: ask for a new one"))
        })?;
        if plan.trees.iter().any(|tree| tree.policy.mode != Mode::Enforce) {
            return Err(Refusal::conflict(
                "observe",
                "the mode is observe: nothing is deleted; set `mode: enforce` to let the guard act",
            ));
        }
        let views = self.views();
        let fresh = views.iter().find(|view| view.name == plan.volume).and_then(|view| view.plan(now));
        let fresh = fresh.ok_or_else(|| {
            Refusal::conflict("blind", format!("volume `{}` cannot be judged now, so nothing is deleted", plan.volume))
        })?;
        if fresh.id == plan.id {
            return Ok(fresh);
        }
        let still: std::collections::HashSet<_> = fresh.items.iter().map(|item| key(&fresh, item)).collect();
        match plan.items.iter().find(|item| !still.contains(&key(&plan, item))) {
            Some(item) => Err(Refusal::conflict(
                "plan_changed",
                format!("`{}` would not be deleted any more; ask for a new plan", plan.path(item).show().0),
            )),
            None => Ok(plan),
        }
    }

    /// Puts a plan into its volume's queue; gives the job.
    ///
    /// # Errors
    /// 404 if it is unknown or too old, 409 if it no longer holds or its trees are only observed, 503 if the queue is full.
    pub fn apply(&self, id: &str, who: &str) -> Result<u64, Refusal> {
        let plan = self.applicable(id)?;
        let job = self.next_job();
        lock(&self.jobs).add_plan(job, &plan);
        let volume = plan.volume.clone();
        let sent = self.send(&volume, Command::Apply { plan: Box::new(plan), job, who: who.to_owned() });
        if sent.is_err() {
            lock(&self.jobs).remove(job);
        }
        sent.map(|()| job)
    }

    pub(super) fn with_jobs<T>(&self, change: impl FnOnce(&mut Jobs) -> T) -> T {
        change(&mut lock(&self.jobs))
    }

    /// Deletions of a job came to an outcome.
    pub(super) fn settled(&self, job: u64, settled: Vec<Settled>) {
        self.with_history(|history| lock(&self.jobs).settle(job, settled, history));
    }

    /// A plan that is carried out is so far.
    pub(super) fn advance(&self, job: u64, settled: &[Settled]) {
        self.with_history(|history| lock(&self.jobs).advance(job, settled, history));
    }

    /// What happens to the items of a job from now on, and what is known of them by now.
    ///
    /// # Errors
    /// 404 if there is none with that number.
    pub fn feed(&self, id: u64) -> Result<Arc<Feed>, Refusal> {
        self.with_history(|history| lock(&self.jobs).feed(id, history))
    }

    /// Where the states of jobs may be told to, from now on.
    pub(super) fn set_callbacks(&self, auth: &AuthSettings) {
        self.callbacks.store(Some(Arc::new(auth.clone())));
    }

    /// A receiver of a job's states, if it may be one.
    pub(super) fn callback(&self, url: &str) -> Result<Arc<Callback>, Refusal> {
        let settings = self.callbacks.load_full();
        let (hosts, secret) = match settings.as_deref() {
            Some(auth) => (auth.callback_hosts.as_slice(), auth.callback_secret.as_ref()),
            None => (&[][..], None),
        };
        let made = Callback::new(url, hosts, secret);
        made.map(Arc::new).map_err(|why| Refusal::bad_request("bad_callback", format!("`callback_url`: {why}")))
    }

    /// A job.
    ///
    /// # Errors
    /// 404 if there is none with that number.
    pub fn job(&self, id: u64) -> Result<Job, Refusal> {
        self.with_history(|history| lock(&self.jobs).get(id, history))
    }

    /// A job's recordings.
    ///
    /// # Errors
    /// 404 if there is no such job, 400 for a bad cursor.
    pub fn job_items(
        &self,
        id: u64,
        outcome: Option<crate::domain::deletion::Outcome>,
        page: &PageQuery,
    ) -> Result<Page<JobItem>, Refusal> {
        self.with_history(|history| lock(&self.jobs).items(id, outcome, page, history))
    }

    /// Lines of the journal.
    ///
    /// # Errors
    /// 503 if it cannot be read.
    pub fn journal(&self, query: &JournalQuery) -> Result<Page<JournalEntry>, Refusal> {
        let lines = self.journal.read(query).map_err(|error| Refusal::unavailable("journal", error.to_string()))?;
        let next = lines.last().filter(|_| lines.len() >= query.limit).map(|line| line.seq.0.to_string());
        Ok(Page { items: lines.iter().map(JournalEntry::from).collect(), next })
    }

    /// Tripped caps.
    #[must_use]
    pub fn caps(&self) -> Vec<CapShape> {
        self.with_history(|history| {
            let shape = |trip: &crate::domain::history::CapTrip| CapShape {
                tree: trip.tree.to_string(),
                cap: trip.cap.as_str(),
                wanted: trip.wanted.0,
                allowed: trip.allowed.0,
                since: trip.since.to_string(),
            };
            history.caps.values().map(shape).collect()
        })
    }

    /// Lets go of a tripped cap.
    ///
    /// # Errors
    /// 404 if there is no such cap, 409 if it has not tripped.
    pub fn acknowledge(&self, tree: &str, cap: &str, who: &str) -> Result<(), Refusal> {
        let cap = Cap::from_word(cap).ok_or_else(|| {
            Refusal::not_found(format!("there is no cap `{cap}`; there are: run_share, orphan_share"))
        })?;
        let tree = TreeId::new(tree);
        let trip = self.with_history(|history| history.caps.get(&(tree.clone(), cap)).cloned());
        let trip = trip.ok_or_else(|| {
            Refusal::conflict("not_tripped", format!("cap `{cap}` of tree `{tree}` has not tripped; see `cap list`"))
        })?;
        let note = Entry::Note {
            kind: NoteKind::CapAcknowledged,
            volume: None,
            tree: Some(tree.clone()),
            who: who.to_owned(),
            bytes: trip.wanted.max(self.wanted_now(&tree, cap)),
            number: 0,
            text: cap.to_string(),
        };
        self.append(note)?;
        self.record(&Event::CapAcknowledged { tree: tree.clone(), cap, who: who.to_owned() });
        self.nudge(&tree);
        Ok(())
    }

    /// What a plan of now wants of a tree beyond its cap: more may have been copied to its archive since it tripped.
    fn wanted_now(&self, tree: &TreeId, cap: Cap) -> Bytes {
        let wanted = |volume: &VolumeView| {
            let basis = volume.basis.as_ref().filter(|_| cap == Cap::RunShare)?;
            let index = basis.trees.iter().position(|facts| facts.policy.tree == *tree)?;
            let (_, over) = basis.plan_unasked(&volume.name, self.now());
            over.iter().find(|(over, _)| *over == index).map(|(_, bytes)| *bytes)
        };
        self.with_tree(tree, |volume, _| wanted(volume)).flatten().unwrap_or_default()
    }

    pub(super) fn append(&self, note: Entry) -> Result<(), Refusal> {
        let appended = self.journal.append_synced(vec![note], self.clock.now());
        appended.map(|_| ()).map_err(|error| Refusal::unavailable("journal", error.to_string()))
    }

    /// Lets the worker of a tree look now; if its queue is full it looks soon anyway.
    pub(super) fn nudge(&self, tree: &TreeId) {
        if let Some(volume) = self.home_of(tree) {
            let _ = self.send(&volume, Command::Look);
        }
    }

    /// The volume that a tree lies on.
    pub(super) fn home_of(&self, tree: &TreeId) -> Option<VolumeId> {
        lock(&self.seats).iter().find(|(_, seat)| seat.trees.contains(tree)).map(|(name, _)| name.clone())
    }

    /// Deletions that have not succeeded.
    ///
    /// # Errors
    /// 400 for a bad cursor.
    pub fn failures(&self, page: &PageQuery) -> Result<Page<FailureItem>, Refusal> {
        let items: Vec<FailureItem> =
            self.with_history(|history| history.failures.values().map(FailureItem::from).collect());
        page.page(items.into_iter(), |item| item.id)
    }

    /// Tries one of them again, or all; gives how many.
    ///
    /// # Errors
    /// 404 if there is none with that number, 503 if the queue is full.
    pub fn retry(&self, id: Option<u64>, who: &str) -> Result<u64, Refusal> {
        if !self.views().iter().any(VolumeView::enforces) {
            return Err(Refusal::conflict(
                "observe",
                "the mode is observe: nothing is deleted; set `mode: enforce` to let the guard act",
            ));
        }
        let trees: Vec<TreeId> = self.with_history(|history| {
            let wanted = history.failures.values().filter(|failure| id.is_none_or(|id| failure.id == id));
            wanted.map(|failure| failure.target.tree.clone()).collect()
        });
        if let (Some(id), true) = (id, trees.is_empty()) {
            return Err(Refusal::not_found(format!("there is no failed deletion {id}; see `failures list`")));
        }
        // Where no worker has a queue, this process does it itself.
        let asked: Vec<VolumeId> = lock(&self.seats)
            .iter()
            .filter(|(_, seat)| seat.queue.is_some() && seat.trees.iter().any(|tree| trees.contains(tree)))
            .map(|(name, _)| name.clone())
            .collect();
        for volume in asked {
            self.send(&volume, Command::Retry { id, who: who.to_owned() })?;
        }
        Ok(trees.len() as u64)
    }

    /// Closes one of them: it is not tried again.
    ///
    /// # Errors
    /// 404 if there is none with that number.
    pub fn close(&self, id: u64, reason: &str, who: &str) -> Result<(), Refusal> {
        let target = self.with_history(|history| history.failures.get(&id).map(|failure| failure.target.clone()));
        let target = target
            .ok_or_else(|| Refusal::not_found(format!("there is no failed deletion {id}; see `failures list`")))?;
        let reason: String = reason.chars().take(REASON).collect();
        self.append(Entry::failure_closed(id, target.tree.clone(), who, &reason))?;
        self.record(&Event::FailureClosed { target, who: who.to_owned(), reason });
        Ok(())
    }

    /// Reads the view of a tree as it was last seen.
    pub(super) fn with_tree<T>(&self, tree: &TreeId, read: impl FnOnce(&VolumeView, &TreeView) -> T) -> Option<T> {
        let seat = lock(&self.seats).values().find(|seat| seat.trees.contains(tree)).map(|seat| seat.view.clone())?;
        let found = seat.trees.iter().find(|view| view.policy.tree == *tree)?;
        Some(read(&seat, found))
    }

    /// Reads what every tree, with its volume, is seen as.
    pub(super) fn of_all<T>(&self, mut read: impl FnMut(&VolumeView, &TreeView) -> Option<T>) -> Vec<T> {
        let seats = lock(&self.seats);
        let all = seats.values().flat_map(|seat| seat.view.trees.iter().map(|tree| (seat.view.as_ref(), tree)));
        all.filter_map(|(volume, tree)| read(volume, tree)).collect()
    }

    /// Reads what every tree is seen as.
    pub(super) fn of_all_trees<T>(&self, read: impl Fn(&TreeView) -> T) -> Vec<T> {
        lock(&self.seats).values().flat_map(|seat| seat.view.trees.iter().map(&read)).collect()
    }

    /// A tree can be trusted to show what is there: its volume can be read, and it is the one that it was.
    pub(super) fn sound(&self, tree: &TreeId) -> bool {
        self.with_tree(tree, |volume, tree| volume.reading.is_ok() && tree.fault.is_none()).unwrap_or(false)
    }

    /// How many recordings the last complete scan of a sound tree found.
    pub(super) fn recordings(&self, tree: &TreeId) -> Option<u64> {
        self.with_tree(tree, |volume, tree| {
            let whole = tree.inventory.directories > 0 && tree.inventory.complete();
            (volume.reading.is_ok() && tree.fault.is_none() && whole).then(|| tree.recordings().files)
        })?
    }

    /// The time in the name of a recording.
    pub(super) fn named(&self, tree: &TreeId, path: &RelPath, size: u64) -> Option<Timestamp> {
        self.with_tree(tree, |_, tree| tree.policy.layout.recognise(path, size).and_then(|found| found.named))?
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

fn key(plan: &Plan, item: &crate::domain::plan::PlanItem) -> (TreeId, u64, u64) {
    let seen = plan.recording(item);
    (plan.trees[item.tree].policy.tree.clone(), seen.inode, seen.fingerprint)
}
