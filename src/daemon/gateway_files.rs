//! Single files that are to be deleted: the platform asks for each by a call of its own, thousands of them, many at once. Those that come
//! together go together, as one job, so that the journal is synced for many at once.
//!
//! Invariant: who was told that a deletion was not begun has the truth. A caller gives up, and a job is asked for, only with the wish's turn
//! held: so a job either knows that its caller is gone and leaves the file out, or its number is there when the caller gives up.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, OwnedMutexGuard, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout, timeout_at};

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
/// A job that is being asked for is there within this, unless the disk of the state hangs.
const ASKED_WITHIN: Duration = Duration::from_secs(2);
/// A volume that has too many requests is asked again after this.
const FULL: Duration = Duration::from_millis(100);
/// Items of a page.
pub(super) const PAGE: usize = 1000;

/// How the deletion of a file ended: its item, or why there is none.
pub(super) type FileEnd = Result<JobItem, String>;

/// The job of a wish, once there is one; held while it is asked for.
type JobOfWish = Arc<Turn<Option<u64>>>;

/// A file that somebody waits for.
struct Wish {
    path: RelPath,
    job: JobOfWish,
    end: oneshot::Sender<FileEnd>,
}

/// The caller's side of a wish.
pub(super) struct Waiter {
    job: JobOfWish,
    end: oneshot::Receiver<FileEnd>,
}

/// How a wish stands when its caller has to answer.
pub(super) enum Stand {
    /// It came to its end, by the job if there was one.
    Over(Option<u64>, FileEnd),
    /// The job is still at it.
    Working(u64),
    /// It was not begun, and will not be.
    Unbegun,
    /// It is being begun, and nobody can say how that ends: the disk of the state does not answer.
    Unclear,
    /// Whoever worked at it is gone.
    Lost(Option<u64>),
}

impl Waiter {
    /// Waits for the end, and little longer than that.
    pub(super) async fn wait(mut self, until: Instant) -> Stand {
        match timeout_at(until, &mut self.end).await {
            Ok(told) => {
                let job = *self.job.lock().await;
                told.map_or(Stand::Lost(job), |end| Stand::Over(job, end))
            }
            Err(_) => self.give_up(ASKED_WITHIN).await,
        }
    }

    /// Wants it no more, unless there is a job already.
    async fn give_up(mut self, patience: Duration) -> Stand {
        let Ok(job) = timeout(patience, self.job.lock()).await else { return Stand::Unclear };
        self.end.close();
        match (self.end.try_recv(), *job) {
            // It came just now.
            (Ok(end), job) => Stand::Over(job, end),
            (Err(_), Some(job)) => Stand::Working(job),
            (Err(_), None) => Stand::Unbegun,
        }
    }
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

    /// A file is to be deleted. Whoever drops the waiter before there is a job does not want it any more.
    pub(super) fn ask(self: &Arc<Self>, tree: &TreeId, path: RelPath) -> Waiter {
        let (job, (end, told)) = (JobOfWish::default(), oneshot::channel());
        let mut trees = lock(&self.trees);
        let waiting = trees.entry(tree.clone()).or_default();
        waiting.wishes.push_back(Wish { path, job: job.clone(), end });
        self.help(tree, waiting);
        drop(trees);
        Waiter { job, end: told }
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

    /// Asks for a job for those that are still wanted, until there is room for it; gives its number, and whose it is.
    async fn begin(&self, tree: &TreeId, mut wishes: Vec<Wish>) -> Option<(u64, Vec<Wish>)> {
        loop {
            // Nobody gives up between this look and the job.
            let mut turns: Vec<OwnedMutexGuard<Option<u64>>> = Vec::with_capacity(wishes.len());
            for wish in &wishes {
                turns.push(wish.job.clone().lock_owned().await);
            }
            wishes.retain(|wish| !wish.end.is_closed());
            if wishes.is_empty() {
                return None;
            }
            let paths: HashSet<RelPath> = wishes.iter().map(|wish| wish.path.clone()).collect();
            let demand = Demand {
                tree: tree.clone(),
                wanted: Wanted::Paths(paths.into_iter().collect()),
                trigger: Trigger::Gateway,
            };
            match put(&self.hub, &demand, &self.who).await {
                Ok(Some(job)) => {
                    turns.iter_mut().for_each(|turn| **turn = Some(job));
                    return Some((job, wishes));
                }
                Ok(None) => {
                    drop(turns);
                    sleep(FULL).await;
                }
                Err(refusal) => {
                    wishes.into_iter().for_each(|wish| drop(wish.end.send(Err(refusal.message.clone()))));
                    return None;
                }
            }
        }
    }

    async fn carry(self: &Arc<Self>, tree: &TreeId, wishes: Vec<Wish>) {
        let Some((job, wishes)) = self.begin(tree, wishes).await else { return };
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
        match put(hub, demand, who).await? {
            None if wanted() => sleep(FULL).await,
            put => return Ok(put),
        }
    }
}

/// Puts a demand into its volume's queue; `None` if there is no room now.
async fn put(hub: &Arc<Hub>, demand: &Demand, who: &str) -> Result<Option<u64>, Refusal> {
    let (asked, demand, who) = (hub.clone(), demand.clone(), who.to_owned());
    let call = spawn_blocking(move || asked.demand(demand, &who, None)).await;
    match call.unwrap_or_else(|_| Err(Refusal::internal())) {
        Err(refusal) if refusal.status == 503 => Ok(None),
        result => result.map(Some),
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
        let found = call.unwrap_or_else(|_| Err(Refusal::internal()))?;
        match found.state {
            JobState::Queued | JobState::Running => {}
            JobState::Waiting | JobState::Done | JobState::Cancelled => return Ok(found),
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LATER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::hub::Command;
    use crate::daemon::queue::Queue;
    use crate::daemon::systemd::Pulse;
    use crate::domain::conditions::tests::volume;
    use crate::store::Journal;
    use crate::system::SystemClock;

    fn path(name: &str) -> RelPath {
        RelPath::new(name.as_bytes()).unwrap()
    }

    async fn until(it_is_so: impl Fn() -> bool) {
        while !it_is_so() {
            tokio::task::yield_now().await;
        }
    }

    /// The others' demand goes into the queue long after its caller was told.
    #[tokio::test]
    async fn what_was_called_not_begun_is_not_asked_for_with_the_others() {
        let home = tempfile::tempdir().unwrap();
        let journal = Journal::open(&home.path().join("journal")).unwrap().journal;
        let hub = Arc::new(Hub::new(Arc::new(journal), Arc::new(SystemClock)));
        let queue = Arc::new(Queue::holding(1));
        hub.seat(volume(), Some(queue.clone()), Arc::new(Pulse::default()));
        assert!(queue.push(Command::Look).is_ok());
        let (files, tree) = (FileCalls::new(hub.clone(), "gateway zlm-1"), TreeId::new("live"));
        let [gone, asking] = ["cam/a.mp4", "cam/b.mp4"].map(|name| files.ask(&tree, path(name)));
        // Time for a first attempt, with both of them.
        assert!(matches!(gone.wait(Instant::now() + FULL / 2).await, Stand::Unbegun));
        assert!(queue.next(Duration::ZERO, &|| Duration::ZERO).is_some());
        until(|| queue.demanded(Duration::MAX) > 0).await;
        let Stand::Working(job) = asking.wait(Instant::now()).await else { panic!("there is no job") };
        assert_eq!(hub.job(job).unwrap().total, 1, "what nobody waits for is left out");
    }

    /// Whoever gives up while the job is being asked for has to know how that ends.
    #[tokio::test]
    async fn who_gives_up_while_the_job_is_asked_for_hears_what_came_of_it() {
        for asked in [Some(7), None] {
            let (job, (end, told)) = (JobOfWish::default(), oneshot::channel());
            let mut turn = job.clone().lock_owned().await;
            let waiter = tokio::spawn(Waiter { job, end: told }.wait(Instant::now()));
            until(|| Arc::strong_count(OwnedMutexGuard::mutex(&turn)) == 2).await;
            tokio::task::yield_now().await;
            assert!(!waiter.is_finished() && !end.is_closed());
            *turn = asked;
            drop(turn);
            let stand = waiter.await.unwrap();
            assert!(matches!((stand, asked), (Stand::Working(7), Some(_)) | (Stand::Unbegun, None)));
            assert!(end.is_closed());
        }
        let (job, (_end, told)) = (JobOfWish::default(), oneshot::channel());
        let _hangs = job.clone().lock_owned().await;
        assert!(matches!(Waiter { job, end: told }.give_up(Duration::ZERO).await, Stand::Unclear));
    }
}
