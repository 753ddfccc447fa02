//! What hooks told is kept before they are answered: many that wait together are written together.
//!
//! 1. A hook takes a place in the queue, or is refused at once: the queue is bounded, in events and in bytes.
//! 2. One thread takes all that wait, writes them in one transaction, and waits for the disk once for all of them.
//! 3. Only then is each told what became of it. Who waited too long was told no, and is not written any more.
//!
//! A disk that hangs holds up this thread alone: hooks are then refused at once, and what they would have told is found by the scan.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::courier::Outlet;
use crate::domain::cause::chain;
use crate::domain::event::Event;
use crate::domain::names::MediaServerId;
use crate::store::{Database, TakenHooks, ToldHook};
use crate::system::Clock;

/// So many hooks may wait to be kept; beyond that they are refused at once.
pub const QUEUE: usize = 8_192;
/// So many bytes of bodies may wait with them.
const BYTES: usize = 64 << 20;
/// So many are written at once: as many as are written within a few milliseconds.
const TOGETHER: usize = 1_024;
/// A hook waits no longer than this: less than the media server's own patience, so that it asks again and does not give up.
const PATIENCE: Duration = Duration::from_secs(4);
/// A write that takes longer than this hangs: hooks do not wait for it any more.
const HANGS: Duration = Duration::from_secs(2);
/// Between two remarks about the same.
const REMARK: Duration = Duration::from_secs(60);

/// Why a hook was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unkept {
    /// Too many wait.
    #[error("too many hooks wait to be kept")]
    Full,
    /// The disk does not answer.
    #[error("the disk of the guard's state does not answer")]
    Hangs,
    /// The database says no.
    #[error("the guard's state takes no hooks: {0}")]
    Refused(Arc<str>),
}

/// A hook that waits to be kept.
struct Waiting {
    told: ToldHook,
    /// The body as it was told, where what is kept of it is another.
    original: Option<Bytes>,
    answer: oneshot::Sender<Result<bool, Unkept>>,
}

/// Keeps what hooks told. Copies of it feed one thread, which ends with the last of them.
#[derive(Clone)]
pub struct HookStore {
    queue: mpsc::Sender<Waiting>,
    state: Arc<State>,
}

/// What queue and thread share.
struct State {
    clock: Arc<dyn Clock>,
    /// Bytes of bodies in the queue.
    bytes: AtomicUsize,
    /// Who delivers what is kept, by media server.
    outlets: BTreeMap<MediaServerId, Arc<Outlet>>,
    /// Since when a write is under way, in milliseconds since boot; 0 while none is.
    writing: AtomicU64,
}

impl State {
    fn now(&self) -> u64 {
        u64::try_from(self.clock.boottime().as_millis()).unwrap_or(u64::MAX)
    }

    fn hangs(&self) -> bool {
        let since = self.writing.load(Ordering::Relaxed);
        since != 0 && self.now().saturating_sub(since) > u64::try_from(HANGS.as_millis()).unwrap_or(u64::MAX)
    }
}

impl HookStore {
    /// Begins to keep hooks in a database.
    ///
    /// # Errors
    /// If there can be no thread for it.
    pub fn start(
        database: Arc<Database>,
        clock: Arc<dyn Clock>,
        events: Arc<dyn Fn(Event) + Send + Sync>,
        outlets: BTreeMap<MediaServerId, Arc<Outlet>>,
    ) -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let state = Arc::new(State { clock, bytes: AtomicUsize::new(0), outlets, writing: AtomicU64::new(0) });
        let shared = state.clone();
        std::thread::Builder::new()
            .name("hooks".to_owned())
            .spawn(move || write_all(waiting, &database, &shared, events.as_ref()))?;
        Ok(Self { queue, state })
    }

    /// Keeps what a hook told; says whether it is new. It is on the disk when this returns.
    pub(super) async fn keep(&self, told: ToldHook, original: Option<Bytes>) -> Result<bool, Unkept> {
        if self.state.hangs() {
            return Err(Unkept::Hangs);
        }
        let bytes = size(&told, original.as_ref());
        let _held = self.hold(bytes)?;
        let (answer, kept) = oneshot::channel();
        self.queue.try_send(Waiting { told, original, answer }).map_err(|_| Unkept::Full)?;
        match timeout(PATIENCE, kept).await {
            Ok(Ok(kept)) => kept,
            Ok(Err(_)) | Err(_) => Err(Unkept::Hangs),
        }
    }

    /// Takes room for so many bytes, until what is returned is dropped.
    fn hold(&self, bytes: usize) -> Result<Held<'_>, Unkept> {
        let held = Held { all: &self.state.bytes, bytes };
        match self.state.bytes.fetch_add(bytes, Ordering::Relaxed) {
            before if before.saturating_add(bytes) > BYTES => Err(Unkept::Full),
            _ => Ok(held),
        }
    }
}

/// Bytes in the queue, given back when dropped.
struct Held<'a> {
    all: &'a AtomicUsize,
    bytes: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn size(told: &ToldHook, original: Option<&Bytes>) -> usize {
    told.outgoing.as_ref().map_or(0, |outgoing| outgoing.body.len()) + original.map_or(0, Bytes::len)
}

fn write_all(
    mut queue: mpsc::Receiver<Waiting>,
    database: &Database,
    state: &State,
    events: &(dyn Fn(Event) + Send + Sync),
) {
    let mut all = Vec::with_capacity(TOGETHER);
    let mut remarked: Option<Duration> = None;
    let mut remark = |text: String| {
        let now = state.clock.boottime();
        if remarked.is_none_or(|at| now.saturating_sub(at) >= REMARK) {
            remarked = Some(now);
            events(Event::Remark { text, urgent: false });
        }
    };
    while queue.blocking_recv_many(&mut all, TOGETHER) > 0 {
        // Who gave up was told no, and will tell it again.
        all.retain(|waiting| !waiting.answer.is_closed());
        let (mut told, mut rest) = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
        for Waiting { told: hook, original, answer } in all.drain(..) {
            told.push(hook);
            rest.push((original, answer));
        }
        let at = state.clock.now();
        state.writing.store(state.now().max(1), Ordering::Relaxed);
        let kept = match database.in_memory() {
            true => Err("its disk has no room for a database".to_owned()),
            false => database.take_hooks(&told, at).map_err(|error| chain(&error)),
        };
        state.writing.store(0, Ordering::Relaxed);
        match kept {
            Ok(taken) => {
                if taken.forgotten > 0 {
                    let text = "more hook records were told than are kept, so the oldest are forgotten";
                    remark(text.to_owned());
                }
                let (originals, answers): (Vec<_>, Vec<_>) = rest.into_iter().unzip();
                hand_over(&taken, &told, originals, state, events);
                for (answer, each) in answers.into_iter().zip(taken.each) {
                    let _ = answer.send(Ok(each.new));
                }
            }
            Err(why) => {
                remark(format!("hooks cannot be kept, and are answered with 503: {why}"));
                let why: Arc<str> = why.into();
                for (_, answer) in rest {
                    let _ = answer.send(Err(Unkept::Refused(why.clone())));
                }
            }
        }
    }
}

/// Tells those who deliver of what is new for them.
fn hand_over(
    taken: &TakenHooks,
    told: &[ToldHook],
    originals: Vec<Option<Bytes>>,
    state: &State,
    events: &(dyn Fn(Event) + Send + Sync),
) {
    let mut news = BTreeSet::new();
    for ((each, told), original) in taken.each.iter().zip(told).zip(originals) {
        let (Some(number), Some(outgoing)) = (each.number, &told.outgoing) else { continue };
        if let Some(outlet) = state.outlets.get(&outgoing.media_server) {
            outlet.queued(number, original, state.clock.now());
            news.insert(&outgoing.media_server);
        }
    }
    for (server, count) in &taken.dropped {
        if let Some(outlet) = state.outlets.get(server) {
            outlet.dropped(*count);
        }
        events(Event::HooksDropped { media_server: server.clone(), count: *count });
    }
    for outlet in news.into_iter().filter_map(|server| state.outlets.get(server)) {
        outlet.wake();
    }
}
