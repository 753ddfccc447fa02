//! Single files that are to be deleted: the platform asks for each by a call of its own, thousands of them, many at once. Those that come
//! together go together, as one job, so that the journal is synced for many at once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::hub::{Hub, lock};
use crate::domain::deletion::Trigger;
use crate::domain::demand::{Demand, Wanted};
use crate::domain::names::TreeId;
use crate::domain::path::RelPath;
use crate::server::records::{Job, JobItem, JobState};
use crate::server::{PageQuery, Refusal};

/// Files of one job: its items are all remembered.
const TOGETHER: usize = 500;
/// Jobs of a tree at once.
const AT_ONCE: usize = 4;
/// What comes within this goes together.
const GATHER: Duration = Duration::from_millis(3);
/// Between two looks at a job, at first and at most.
const FIRST: Duration = Duration::from_millis(10);
const LATER: Duration = Duration::from_millis(250);
/// A job that takes longer keeps nobody waiting for it.
const SLOW: Duration = Duration::from_secs(1);
/// A volume that has too many requests is asked again after this.
const FULL: Duration = Duration::from_millis(100);
/// Items of a page.
const PAGE: usize = 1000;

/// How the deletion of a file ended: its item, or why there is none.
pub(super) type FileEnd = Result<JobItem, String>;

/// A file that somebody waits for.
struct Wish {
    path: RelPath,
    job: Arc<AtomicU64>,
    end: oneshot::Sender<FileEnd>,
}

/// The files of a tree.
#[derive(Default)]
struct Waiting {
    wishes: VecDeque<Wish>,
    /// Tasks that make jobs of them.
    jobs: usize,
    /// Of these, those whose job takes long.
    slow: usize,
}

impl Waiting {
    /// Another task is needed.
    fn needs_more(&self) -> bool {
        let idle = self.jobs == self.slow || self.wishes.len() >= TOGETHER;
        !self.wishes.is_empty() && self.jobs < AT_ONCE && idle
    }
}

/// All files that somebody waits for.
pub(super) struct FileCalls {
    hub: Arc<Hub>,
    who: String,
    trees: Mutex<HashMap<TreeId, Waiting>>,
}

impl FileCalls {
    pub(super) fn new(hub: Arc<Hub>, who: &str) -> Arc<Self> {
        Arc::new(Self { hub, who: who.to_owned(), trees: Mutex::default() })
    }

    /// A file is to be deleted. Gives the number of its job, 0 while there is none, and what tells of its end. Whoever drops that before
    /// there is a job does not want it any more.
    pub(super) fn ask(self: &Arc<Self>, tree: &TreeId, path: RelPath) -> (Arc<AtomicU64>, oneshot::Receiver<FileEnd>) {
        let (job, (end, told)) = (Arc::<AtomicU64>::default(), oneshot::channel());
        let mut trees = lock(&self.trees);
        let waiting = trees.entry(tree.clone()).or_default();
        waiting.wishes.push_back(Wish { path, job: job.clone(), end });
        self.help(tree, waiting);
        drop(trees);
        (job, told)
    }

    /// Begins another task where one is needed.
    fn help(self: &Arc<Self>, tree: &TreeId, waiting: &mut Waiting) {
        if waiting.needs_more() {
            waiting.jobs += 1;
            tokio::spawn(self.clone().work(tree.clone()));
        }
    }

    /// A job takes long, or did and is over.
    fn slow(self: &Arc<Self>, tree: &TreeId, slow: bool) {
        let mut trees = lock(&self.trees);
        let Some(waiting) = trees.get_mut(tree) else { return };
        waiting.slow = if slow { waiting.slow + 1 } else { waiting.slow.saturating_sub(1) };
        self.help(tree, waiting);
    }

    /// Makes jobs of what waits, one after the other, until nothing does.
    async fn work(self: Arc<Self>, tree: TreeId) {
        loop {
            sleep(GATHER).await;
            let wishes = self.take(&tree);
            if wishes.is_empty() {
                return;
            }
            self.carry(&tree, wishes).await;
        }
    }

    /// The next of them; none: this task ends.
    fn take(&self, tree: &TreeId) -> Vec<Wish> {
        let mut trees = lock(&self.trees);
        let Some(waiting) = trees.get_mut(tree) else { return Vec::new() };
        let mut out = Vec::new();
        while out.len() < TOGETHER {
            let Some(wish) = waiting.wishes.pop_front() else { break };
            if !wish.end.is_closed() {
                out.push(wish);
            }
        }
        if out.is_empty() {
            waiting.jobs -= 1;
            if waiting.jobs == 0 {
                trees.remove(tree);
            }
        }
        out
    }

    async fn carry(self: &Arc<Self>, tree: &TreeId, wishes: Vec<Wish>) {
        let paths: HashSet<RelPath> = wishes.iter().map(|wish| wish.path.clone()).collect();
        let demand = Demand {
            tree: tree.clone(),
            wanted: Wanted::Paths(paths.into_iter().collect()),
            trigger: Trigger::Gateway,
        };
        let asked = begin(&self.hub, &demand, &self.who, || wishes.iter().any(|wish| !wish.end.is_closed())).await;
        let job = match asked {
            Ok(Some(job)) => job,
            Ok(None) => return,
            Err(refusal) => {
                wishes.into_iter().for_each(|wish| drop(wish.end.send(Err(refusal.message.clone()))));
                return;
            }
        };
        wishes.iter().for_each(|wish| wish.job.store(job, Ordering::Relaxed));
        let ended = match timeout(SLOW, over(&self.hub, job)).await {
            Ok(ended) => ended,
            Err(_) => {
                self.slow(tree, true);
                let ended = over(&self.hub, job).await;
                self.slow(tree, false);
                ended
            }
        };
        let hub = self.hub.clone();
        let items = spawn_blocking(move || hub.job_items(job, None, &PageQuery { limit: PAGE, cursor: None }));
        let items = items.await.ok().and_then(Result::ok).map(|page| page.items).unwrap_or_default();
        let items: HashMap<RelPath, JobItem> = items
            .into_iter()
            .filter_map(|item| Some((RelPath::parse(&item.path.path, item.path.encoded).ok()?, item)))
            .collect();
        let problem = match ended {
            Ok(ended) => ended.problem.map(|problem| problem.message),
            Err(refusal) => Some(refusal.message),
        };
        let problem = problem.unwrap_or_else(|| "the deletion was ended before this file had its turn".to_owned());
        for wish in wishes {
            let item = items.get(&wish.path).filter(|item| item.outcome.is_some()).cloned();
            drop(wish.end.send(item.ok_or_else(|| problem.clone())));
        }
    }
}

/// Puts a demand into its volume's queue, once there is room, as long as somebody wants it; gives the job.
///
/// # Errors
/// Why it cannot be.
pub(super) async fn begin(
    hub: &Arc<Hub>,
    demand: &Demand,
    who: &str,
    wanted: impl Fn() -> bool,
) -> Result<Option<u64>, Refusal> {
    loop {
        let (asked, demand, who) = (hub.clone(), demand.clone(), who.to_owned());
        let call = spawn_blocking(move || asked.demand(demand, &who, None)).await;
        match call.unwrap_or_else(|_| Err(Refusal::unavailable("internal", "the guard met a fault of its own"))) {
            Err(refusal) if refusal.status == 503 && wanted() => sleep(FULL).await,
            Err(refusal) if refusal.status == 503 => return Ok(None),
            result => return result.map(Some),
        }
    }
}

/// Waits until nothing is left of a job but retries.
///
/// # Errors
/// If it is not known any more.
pub(super) async fn over(hub: &Arc<Hub>, job: u64) -> Result<Job, Refusal> {
    let mut pause = FIRST;
    loop {
        let asked = hub.clone();
        let call = spawn_blocking(move || asked.job(job)).await;
        let found =
            call.unwrap_or_else(|_| Err(Refusal::unavailable("internal", "the guard met a fault of its own")))?;
        match found.state {
            JobState::Queued | JobState::Running => {}
            JobState::Waiting | JobState::Done | JobState::Cancelled => return Ok(found),
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LATER);
    }
}
