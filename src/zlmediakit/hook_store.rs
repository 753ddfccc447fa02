//! What hooks told is kept before they are answered: many that wait together are written together.
//!
//! 1. A hook takes a place in the queue, or is refused at once: the queue is bounded, in events and in bytes.
//! 2. One thread takes all that wait, writes them in one transaction, and waits for the disk once for all of them.
//! 3. Only then is each told what became of it. Who waited too long was told no, and is not written any more.
//!
//! A disk that hangs holds up this thread alone: hooks are then refused at once, and what they would have told is found by the scan.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::domain::cause::chain;
use crate::domain::event::Event;
use crate::store::{Database, HookRecord};
use crate::system::Clock;

/// So many hooks may wait to be kept; beyond that they are refused at once.
pub const QUEUE: usize = 8_192;
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
    record: HookRecord,
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
    ) -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let state = Arc::new(State { clock, writing: AtomicU64::new(0) });
        let shared = state.clone();
        std::thread::Builder::new()
            .name("hooks".to_owned())
            .spawn(move || write_all(waiting, &database, &shared, events.as_ref()))?;
        Ok(Self { queue, state })
    }

    /// Keeps a record; says whether it is new. It is on the disk when this returns.
    pub(super) async fn keep(&self, record: HookRecord) -> Result<bool, Unkept> {
        if self.state.hangs() {
            return Err(Unkept::Hangs);
        }
        let (answer, kept) = oneshot::channel();
        self.queue.try_send(Waiting { record, answer }).map_err(|_| Unkept::Full)?;
        match timeout(PATIENCE, kept).await {
            Ok(Ok(kept)) => kept,
            Ok(Err(_)) | Err(_) => Err(Unkept::Hangs),
        }
    }
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
        let (records, answers): (Vec<_>, Vec<_>) = all
            .drain(..)
            .filter(|waiting| !waiting.answer.is_closed())
            .map(|waiting| (waiting.record, waiting.answer))
            .unzip();
        state.writing.store(state.now().max(1), Ordering::Relaxed);
        let kept = match database.in_memory() {
            true => Err("its disk has no room for a database".to_owned()),
            false => database.take_hooks(&records, state.clock.now()).map_err(|error| chain(&error)),
        };
        state.writing.store(0, Ordering::Relaxed);
        match kept {
            Ok((new, forgotten)) => {
                if forgotten > 0 {
                    let text = "more hook records were told than are kept, so the oldest are forgotten";
                    remark(text.to_owned());
                }
                for (answer, new) in answers.into_iter().zip(new) {
                    let _ = answer.send(Ok(new));
                }
            }
            Err(why) => {
                remark(format!("hooks cannot be kept, and are answered with 503: {why}"));
                let why: Arc<str> = why.into();
                for answer in answers {
                    let _ = answer.send(Err(Unkept::Refused(why.clone())));
                }
            }
        }
    }
}
