//! Deletions that a platform asks of its media server, carried out by us (promises 3, 4 and 12).
//!
//! 1. What is named is found among the trees; nothing that came from outside is opened.
//! 2. It becomes a job, through the door as every deletion. In a tree that is only observed the media server does it, in its own way.
//! 3. Then the disk is looked at, and that is the answer: never what somebody said of it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::gateway_files::{FileCalls, PAGE, Stand, begin, over};
use super::gateway_look::{LISTED, Seen, unfit};
use super::hub::Hub;
use crate::domain::catalogue::Placing;
use crate::domain::deletion::{Cause, Outcome, SparedReason, Trigger};
use crate::domain::demand::{Demand, OfStream, Wanted, day};
use crate::domain::event::Event;
use crate::domain::layout::LayoutKind;
use crate::domain::media::GatewayResult;
use crate::domain::names::{MediaServerId, StreamId, TreeId};
use crate::domain::path::RelPath;
use crate::domain::path_set::PathSet;
use crate::domain::retention::{Mode, TreePolicy};
use crate::domain::stream_place::{Grounds, StreamNames, StreamPlace, stream_places};
use crate::domain::units::Timestamp;
use crate::reclaim;
use crate::server::records::{Job, JobItem};
use crate::server::{PageQuery, Refusal};
use crate::system::{Volumes, WritableDir};
use crate::zlmediakit::{Answer, Answering, Asked, Deleter, Failed, Passing, Which};

/// Days and streams that are deleted at once; the others wait.
const AT_ONCE: usize = 16;
/// Deletions that a media server is at, at once: one that hangs must not cost ever more connections.
const PASSED: usize = 64;
/// The directory below the root, where the media server did not say another.
const RECORD: &str = "record";

/// What a gateway knows of the trees.
pub(super) struct Ground {
    /// A deletion that takes longer is answered with its job.
    pub(super) answer_within: Duration,
    /// All trees, and the way to them.
    pub(super) placing: Placing,
    /// Those with the media server's layout.
    pub(super) fitting: Vec<TreeId>,
    /// Of these, the media server's own.
    pub(super) own: Vec<TreeId>,
}

/// The deletions of one gateway.
pub(super) struct Calls {
    name: MediaServerId,
    who: String,
    ground: ArcSwap<Ground>,
    hub: Arc<Hub>,
    machine: Arc<dyn Volumes>,
    files: Arc<FileCalls>,
    turns: Semaphore,
    passes: Arc<Semaphore>,
}

/// What is named, and where it can lie.
struct Named {
    which: Which,
    places: Vec<(StreamPlace, Arc<TreePolicy>)>,
    /// As the media server would write it.
    path: String,
}

/// How the deletion of a day or a stream stands.
struct Work<'n> {
    jobs: Vec<(u64, &'n StreamPlace)>,
    over: Vec<Job>,
}

impl Calls {
    pub(super) fn new(name: &MediaServerId, ground: Ground, hub: Arc<Hub>, machine: Arc<dyn Volumes>) -> Self {
        let who = format!("gateway {name}");
        Self {
            name: name.clone(),
            ground: ArcSwap::from_pointee(ground),
            files: FileCalls::new(hub.clone(), &who),
            who,
            hub,
            machine,
            turns: Semaphore::new(AT_ONCE),
            passes: Arc::new(Semaphore::new(PASSED)),
        }
    }

    /// Other trees, or other ways to them.
    pub(super) fn set(&self, ground: Ground) {
        self.ground.store(Arc::new(ground));
    }

    async fn carry(self: Arc<Self>, asked: Asked, pass: Passing) -> Answer {
        let ground = self.ground.load_full();
        let named = match self.find(&ground, &asked) {
            Ok(named) => named,
            Err((path, why)) => return failed(&path, why),
        };
        let until = Instant::now() + ground.answer_within;
        let observed = named.places.iter().filter(|(_, policy)| policy.mode != Mode::Enforce).count();
        if observed == 0 {
            match named.which {
                Which::File { .. } => self.delete_file(&named, until).await,
                Which::Day(_) | Which::Stream => self.delete_many(&named, until).await,
            }
        } else if observed == named.places.len() {
            self.watch(named, pass, until).await
        } else {
            let text =
                "the stream may lie in a tree that is enforced and in one that is only observed; nothing was deleted";
            failed(&named.path, text)
        }
    }

    /// Where what is asked for can lie; or what was named, and why that cannot be told.
    fn find(&self, ground: &Ground, asked: &Asked) -> Result<Named, (String, String)> {
        let servers = self.hub.live.servers();
        let config =
            servers.into_iter().find(|(settings, _)| settings.name == self.name).and_then(|(_, config)| config);
        // A root that is relative is so to the media server's program, and says nothing here.
        let told = config.as_ref().map(|config| PathBuf::from(&config.mp4_root)).filter(|root| root.is_absolute());
        let root = asked.root.clone().or(told);
        let record = config.as_ref().map_or(RECORD, |config| config.record_app.as_str());
        let grounds = Grounds {
            root: root.as_deref(),
            vhosts: config.as_ref().map(|config| config.vhosts),
            record,
            placing: &ground.placing,
            fitting: &ground.fitting,
            own: &ground.own,
        };
        let names = StreamNames { vhost: &asked.vhost, app: &asked.app, stream: &asked.stream };
        let said = format!("{}/{}/{}", asked.app, asked.stream, asked.below());
        let places = stream_places(names, &grounds).map_err(|why| (said.clone(), why))?;
        let path = places.first().map_or(said, |place| format!("{}{}", place.outside, asked.below()));
        let known = |place: StreamPlace| {
            let policy = self.hub.with_tree(&place.tree, |_, view| view.policy.clone())?;
            // What `auto` made of it may be another layout.
            (policy.layout.kind() == LayoutKind::Zlmediakit).then_some((place, policy))
        };
        let places: Vec<_> = places.into_iter().filter_map(known).collect();
        if places.is_empty() {
            return Err((path, "the tree that it lies in is not guarded now; nothing was deleted".to_owned()));
        }
        Ok(Named { which: asked.which.clone(), places, path })
    }

    async fn delete_file(&self, named: &Named, until: Instant) -> Answer {
        let mut answer = Answer { path: named.path.clone(), ..Answer::default() };
        let ask = |place: &StreamPlace| self.files.ask(&place.tree, file_of(place, &named.which));
        let asked: Vec<_> = named.places.iter().map(|(place, _)| (place, ask(place))).collect();
        let mut unbegun = false;
        for (place, waiter) in asked {
            let stand = waiter.wait(until).await;
            unbegun |= matches!(stand, Stand::Unbegun);
            end_of(place, stand, &mut answer);
        }
        if unbegun {
            let why = if answer.job.is_some() { "not all of it was begun" } else { "it was not begun" };
            answer.problem.get_or_insert(format!("the guard had no time for it; {why}"));
        }
        answer
    }

    async fn delete_many(&self, named: &Named, until: Instant) -> Answer {
        let started = self.hub.now();
        let Ok(Ok(turn)) = timeout_at(until, self.turns.acquire()).await else {
            return failed(&named.path, "too many days and streams are being deleted; this one was not begun");
        };
        let mut work = Work { jobs: Vec::new(), over: Vec::new() };
        let mut unbegun = None;
        for (place, policy) in &named.places {
            let Some(demand) = demand_of(place, policy, &named.which) else { continue };
            match begin(&self.hub, &demand, &self.who, || Instant::now() < until).await {
                Ok(Some(job)) => work.jobs.push((job, place)),
                Ok(None) => {
                    unbegun = Some("the volume has too many requests waiting; not all of it was begun".to_owned())
                }
                Err(refusal) => unbegun = Some(refusal.message),
            }
            if unbegun.is_some() {
                break;
            }
        }
        if let (Some(why), true) = (&unbegun, work.jobs.is_empty()) {
            return failed(&named.path, why.as_str());
        }
        let mut answer =
            Answer { path: named.path.clone(), job: work.jobs.first().map(|(job, _)| *job), ..Answer::default() };
        for (job, _) in &work.jobs {
            match timeout_at(until, over(&self.hub, *job)).await {
                Ok(Ok(job)) => work.over.push(job),
                Ok(Err(refusal)) => return failed(&named.path, refusal.message),
                Err(_) => {
                    (answer.working, answer.job) = (true, Some(*job));
                    return answer;
                }
            }
        }
        drop(turn);
        self.tell(named, &work, started, &mut answer).await;
        if let Some(why) = unbegun {
            answer.problem.get_or_insert(why);
        }
        answer
    }

    /// What became of a day or a stream: by the job's items, and by a look at the disk, which has the last word.
    async fn tell(&self, named: &Named, work: &Work<'_>, started: Timestamp, answer: &mut Answer) {
        answer.deleted = work.over.iter().map(|job| job.verified).sum();
        answer.problem = work.over.iter().find_map(|job| job.problem.as_ref()).map(|problem| problem.message.clone());
        let mut told: HashSet<(TreeId, RelPath)> = HashSet::new();
        for (job, place) in &work.jobs {
            for item in self.unsuccessful(*job).await {
                let Ok(path) = RelPath::parse(&item.path.path, item.path.encoded) else { continue };
                let hidden = path.split().1.starts_with(b".");
                told.insert((place.tree.clone(), path.clone()));
                if !hidden {
                    fail(answer, still_there(place, &path, &item));
                }
            }
        }
        self.tell_left(named, started, &told, "it is still there", answer).await;
    }

    /// Looks what is left, and tells of it, but of what was told of already; gives how much that is.
    async fn tell_left(
        &self,
        named: &Named,
        started: Timestamp,
        told: &HashSet<(TreeId, RelPath)>,
        why: &str,
        answer: &mut Answer,
    ) -> u64 {
        let mut count = 0;
        for (place, seen) in self.look(named).await {
            let seen = match seen {
                Ok(seen) => seen,
                Err(why) => {
                    answer.problem.get_or_insert(why);
                    continue;
                }
            };
            count += seen.count;
            for (path, changed) in &seen.recordings {
                if told.contains(&(place.tree.clone(), path.clone())) {
                    continue;
                }
                // It was being written when the call came.
                if *changed >= started {
                    answer.live.push(shown(&place, path));
                } else {
                    fail(answer, unknown(&place, path, why));
                }
            }
            report(answer, &place, &seen);
        }
        count
    }

    /// The items of a job that are still there.
    async fn unsuccessful(&self, job: u64) -> Vec<JobItem> {
        let hub = self.hub.clone();
        let read = move || {
            let mut out = Vec::new();
            for outcome in [Outcome::Failed, Outcome::Kept] {
                let mut page = PageQuery { limit: PAGE, cursor: None };
                while let Ok(found) = hub.job_items(job, Some(outcome), &page) {
                    out.extend(found.items);
                    page.cursor = found.next;
                    if page.cursor.is_none() {
                        break;
                    }
                }
            }
            out
        };
        spawn_blocking(read).await.unwrap_or_default()
    }

    /// Looks at all places.
    async fn look(&self, named: &Named) -> Vec<(StreamPlace, Result<Seen, String>)> {
        let mut out = Vec::new();
        for (place, policy) in &named.places {
            let (layout, dir, which) = (policy.layout.clone(), place.dir.clone(), named.which.clone());
            let seen = self.in_tree(place, move |tree| Ok(Seen::of(tree, &layout, &dir, &which))).await;
            out.push((place.clone(), seen));
        }
        out
    }

    /// How much of what is named is there; `Err`: a media server may not be let at it.
    async fn passable(&self, named: &Named) -> Result<u64, String> {
        let mut count = 0;
        for (place, policy) in &named.places {
            let (policy, dir, which) = (policy.clone(), place.dir.clone(), named.which.clone());
            let favourites = self.favourites(&place.tree)?;
            let holds = self.hub.holds_of(&place.tree);
            let look = move |tree: &dyn WritableDir| {
                let held = |path: &RelPath| {
                    let held = reclaim::held(&holds, tree, &policy.layout, path) || reclaim::bears_hold(tree, path);
                    held.then_some("a person holds it")
                };
                let why = |path: &RelPath| protected(&policy, path, &favourites).or_else(|| held(path));
                match unfit(tree, &dir, &which, &why) {
                    Some(why) => Err(why),
                    None => Ok(Seen::of(tree, &policy.layout, &dir, &which).count),
                }
            };
            count += self.in_tree(place, look).await?;
        }
        Ok(count)
    }

    /// What persons want kept of a tree, once that is known.
    fn favourites(&self, tree: &TreeId) -> Result<Arc<PathSet>, String> {
        let known = self.hub.catalogues.load().as_ref().is_some_and(|all| all.favourites_known(tree));
        let taken = self.hub.with_tree(tree, |_, view| view.favourites.clone()).flatten();
        taken.filter(|_| known).ok_or_else(|| {
            format!("what persons want kept in tree `{tree}` is not known, since a catalogue of it was not read yet")
        })
    }

    /// Does something with the directory of a tree that can be trusted, on a thread that may wait for the disk.
    async fn in_tree<T: Send + 'static>(
        &self,
        place: &StreamPlace,
        work: impl FnOnce(&dyn WritableDir) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let (hub, machine, tree) = (self.hub.clone(), self.machine.clone(), place.tree.clone());
        let top = self.ground.load().placing.trees.iter().find(|(name, _)| *name == tree).cloned();
        let look = move || {
            let distrusted = || format!("tree `{tree}` cannot be trusted now, so that nobody knows what is there");
            let (_, top) = top.filter(|_| hub.sound(&tree)).ok_or_else(distrusted)?;
            let dir = machine.open_tree(&top).map_err(|_| distrusted())?;
            let identity = dir.top().map_err(|_| distrusted())?;
            // What is there now must be what the volume's worker works on.
            let known = hub.with_tree(&tree, |_, view| view.top).flatten();
            if known != Some((identity.device, identity.inode)) {
                return Err(distrusted());
            }
            work(dir.as_ref())
        };
        spawn_blocking(look).await.unwrap_or_else(|_| Err(Refusal::internal().message))
    }

    /// Lets the media server delete in its own way, and tells what became of it. What is protected it does not get (promise 3).
    async fn watch(self: Arc<Self>, named: Named, pass: Passing, until: Instant) -> Answer {
        let unpassed = |why: &str| failed(&named.path, format!("{why}; nothing was passed on"));
        let before = match timeout_at(until, self.passable(&named)).await {
            Ok(Ok(count)) => count,
            Ok(Err(why)) => return unpassed(&why),
            Err(_) => return unpassed("there was no time to look at all that is named"),
        };
        let Ok(Ok(turn)) = timeout_at(until, self.passes.clone().acquire_owned()).await else {
            return unpassed("the media server is at too many deletions already");
        };
        let mut answer = Answer { path: named.path.clone(), ..Answer::default() };
        let started = self.hub.now();
        // It goes to its end, whoever waits: a media server that was asked cannot be stopped.
        let passing = tokio::spawn(async move {
            let said = pass.await;
            drop(turn);
            said
        });
        let said = match timeout_at(until, passing).await {
            Ok(said) => said.unwrap_or_else(|_| Err(Refusal::internal().message)),
            Err(_) => {
                answer.working = true;
                return answer;
            }
        };
        let after = self.tell_left(&named, started, &HashSet::new(), "the media server left it", &mut answer).await;
        answer.deleted = before.saturating_sub(after);
        match said {
            Err(why) => answer.problem = Some(why),
            Ok(code) if code != 0 && answer.code() == 0 => {
                tracing::debug!(code, "The media server says less than it did.")
            }
            Ok(_) => {}
        }
        answer
    }
}

impl Deleter for Calls {
    fn delete(self: Arc<Self>, asked: Asked, pass: Passing) -> Answering {
        Box::pin(self.carry(asked, pass))
    }

    fn counted(&self, result: GatewayResult) {
        self.hub.record(&Event::GatewayAnswered { media_server: self.name.clone(), result });
    }
}

fn failed(path: &str, why: impl Into<String>) -> Answer {
    Answer { path: path.to_owned(), problem: Some(why.into()), ..Answer::default() }
}

/// Why a file may not be deleted by anybody, if so.
fn protected(policy: &TreePolicy, path: &RelPath, favourites: &PathSet) -> Option<&'static str> {
    if policy.protects(path, &PathSet::default()) {
        return Some("it is protected, by a pattern of `protect`");
    }
    policy.protects(path, favourites).then_some("it is protected: a person wants it kept, as the platform says")
}

/// The file that is named, in a directory of its stream.
fn file_of(place: &StreamPlace, which: &Which) -> RelPath {
    match which {
        Which::File { day, name } => place.dir.join(day.as_bytes()).join(name.as_bytes()),
        Which::Day(day) => place.dir.join(day.as_bytes()),
        Which::Stream => place.dir.clone(),
    }
}

/// What is to be deleted of a directory; `None` if nothing in it is a recording by the layout.
fn demand_of(place: &StreamPlace, policy: &TreePolicy, which: &Which) -> Option<Demand> {
    let period = match which {
        Which::Day(text) | Which::File { day: text, .. } => Some(day(text)?),
        Which::Stream => None,
    };
    // Whatever day and name: the layout reads the stream from what stands before them.
    let example = place.dir.join(b"2000-01-01").join(b"2000-01-01-00-00-00-0.mp4");
    let stream = policy.layout.recognise(&example, 1)?.stream;
    let wanted = OfStream { stream: StreamId::new(&stream), period, before: None, within: Some(place.dir.clone()) };
    Some(Demand { tree: place.tree.clone(), wanted: Wanted::Stream(wanted), trigger: Trigger::Gateway })
}

/// Takes in how the deletion of one file stands.
fn end_of(place: &StreamPlace, stand: Stand, answer: &mut Answer) {
    let (job, end) = match stand {
        Stand::Over(job, end) => (job, end),
        Stand::Working(job) => {
            (answer.working, answer.job) = (true, Some(job));
            return;
        }
        Stand::Unbegun => return,
        Stand::Unclear => {
            let why = "the disk of the guard's state does not answer; nobody knows whether it was begun".to_owned();
            (None, Err(why))
        }
        Stand::Lost(job) => (job, Err("the guard is ending; nobody knows what became of it".to_owned())),
    };
    answer.job = answer.job.or(job);
    match end {
        Err(why) => answer.problem = Some(why),
        Ok(item) => match item.outcome.and_then(Outcome::from_word) {
            Some(Outcome::Verified) => answer.deleted += 1,
            Some(Outcome::AlreadyGone) => {}
            Some(Outcome::Failed | Outcome::Kept) | None => {
                if let Ok(path) = RelPath::parse(&item.path.path, item.path.encoded) {
                    fail(answer, still_there(place, &path, &item));
                }
            }
        },
    }
}

/// A path as the media server sees it.
fn shown(place: &StreamPlace, path: &RelPath) -> String {
    let text = path.show().0;
    let below = text.strip_prefix(&format!("{}/", place.dir.show().0));
    below.map_or_else(|| text.clone(), |below| format!("{}{below}", place.outside))
}

/// A file that a job left where it is.
fn still_there(place: &StreamPlace, path: &RelPath, item: &JobItem) -> Failed {
    let spared = item.detail.as_deref().and_then(SparedReason::from_word).map(SparedReason::as_str);
    Failed {
        path: shown(place, path),
        cause: item.cause.or(spared).unwrap_or(Cause::Unknown.as_str()),
        holder: item.holder.clone(),
        detail: item.detail.clone(),
    }
}

fn unknown(place: &StreamPlace, path: &RelPath, why: &str) -> Failed {
    Failed { path: shown(place, path), cause: Cause::Unknown.as_str(), holder: None, detail: Some(why.to_owned()) }
}

fn fail(answer: &mut Answer, one: Failed) {
    answer.failed_count += 1;
    if answer.failed.len() < LISTED {
        answer.failed.push(one);
    }
}

/// Says what else is there.
fn report(answer: &mut Answer, place: &StreamPlace, seen: &Seen) {
    for (path, why) in &seen.closed {
        fail(answer, unknown(place, path, why));
    }
    answer.live.extend(seen.live.iter().map(|path| shown(place, path)));
    answer.left.extend(seen.left.iter().map(|path| shown(place, path)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::catalogues::Catalogues;
    use crate::domain::conditions::tests::volume;
    use crate::domain::path_set::DigestKey;
    use crate::store::Journal;
    use crate::system::{SystemClock, SystemVolumes};

    #[test]
    fn what_persons_want_kept_protects_as_soon_as_it_is_known_and_nothing_is_passed_on_before() {
        let home = tempfile::tempdir().unwrap();
        let journal = Journal::open(&home.path().join("journal")).unwrap().journal;
        let hub = Arc::new(Hub::new(Arc::new(journal), Arc::new(SystemClock)));
        let placing = Placing { trees: Vec::new(), path_map: Vec::new(), media_server: None, relative: false };
        let ground = Ground { answer_within: Duration::ZERO, placing, fitting: Vec::new(), own: Vec::new() };
        let calls = Calls::new(&MediaServerId::new("zlm-1"), ground, hub.clone(), Arc::new(SystemVolumes));
        let path = RelPath::new(b"cam/a.mp4").unwrap();
        let mut view = volume();
        let (tree, policy) = (view.trees[0].policy.tree.clone(), view.trees[0].policy.clone());
        let why = || calls.favourites(&tree).map(|favourites| protected(&policy, &path, &favourites));
        hub.show(vec![view.clone()]);
        hub.catalogues.store(Some(Arc::new(Catalogues::none().unwrap())));
        assert!(why().unwrap_err().contains("is not known"));
        for (kept, expected) in [(None, None), (Some(path.clone()), Some("a person wants it kept"))] {
            view.trees[0].favourites = Some(Arc::new(PathSet::new(DigestKey(7), kept.into_iter())));
            hub.show(vec![view.clone()]);
            let said = why().unwrap();
            assert_eq!(said.is_some(), expected.is_some());
            assert!(said.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
        hub.catalogues.store(None);
        assert!(why().is_err(), "nobody knows whether there is more");
    }
}
