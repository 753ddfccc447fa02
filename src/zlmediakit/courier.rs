//! Takes what hooks told to the platform: in order, again and again, until it took it.
//!
//! 1. The first events of the outbox are read, in their order.
//! 2. Each is sent, and forgotten once the platform took it, before the next is sent: so a guard that is killed sends one of them again at most.
//! 3. What fails is sent again, ever later. What the platform refuses while it takes the one behind it is put aside (`domain::relay`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::platform::{Relayed, headers_of};
use crate::domain::cause::chain;
use crate::domain::event::Event;
use crate::domain::media::{HookEvent, HookResult};
use crate::domain::names::MediaServerId;
use crate::domain::relay::{ASIDE, Heard, Line, RelayStatus, Step};
use crate::domain::units::Timestamp;
use crate::store::{Database, DatabaseError, WaitingHook};
use crate::system::Clock;

/// Events that are read at once.
const READ: u32 = 64;
/// Without news the outbox is looked at after this: something that was put aside may be due.
const LOOK: Duration = Duration::from_secs(60);
/// Between two attempts to read an outbox that cannot be read.
const UNREADABLE: Duration = Duration::from_secs(2);
/// What lasts shorter is no outage that the log would speak of.
const OUTAGE: Duration = Duration::from_secs(60);
/// Between two remarks about a platform that takes nothing.
const REMARK: Duration = Duration::from_secs(600);
/// Bodies that are kept in memory as they were told, beside what is kept without secrets.
const ORIGINALS: usize = 1000;

/// What queue and courier of one media server share.
#[derive(Default)]
pub struct Outlet {
    news: Notify,
    status: Mutex<RelayStatus>,
    originals: Mutex<HashMap<i64, Bytes>>,
}

impl Outlet {
    /// How the relay does.
    #[must_use]
    pub fn status(&self) -> RelayStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut RelayStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// An event was put into the outbox. Its body as it was told is delivered while this process lives; only what is kept has no secrets.
    pub(super) fn queued(&self, number: i64, original: Option<Bytes>, at: Timestamp) {
        self.change(|status| {
            status.waiting += 1;
            status.oldest.get_or_insert(at);
        });
        if let Some(original) = original {
            let mut originals = self.originals.lock().unwrap_or_else(PoisonError::into_inner);
            if originals.len() < ORIGINALS {
                originals.insert(number, original);
            }
        }
    }

    pub(super) fn dropped(&self, count: u64) {
        self.change(|status| {
            status.dropped += count;
            status.waiting = status.waiting.saturating_sub(count);
        });
    }

    /// There is something to deliver.
    pub(super) fn wake(&self) {
        // While the platform is away, each further event would be one more attempt.
        if self.status().failing.is_none() {
            self.news.notify_one();
        }
    }

    /// The platform answers: what waits for it need not wait longer.
    pub(super) fn answers(&self) {
        if self.status().failing.is_some() {
            self.news.notify_one();
        }
    }

    /// Other settings are in force.
    pub fn changed(&self) {
        self.news.notify_one();
    }

    fn original(&self, number: i64) -> Option<Bytes> {
        self.originals.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    fn gone(&self, number: i64) {
        self.originals.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }
}

/// Delivers the events of one media server.
pub struct Courier {
    /// The media server.
    pub media_server: MediaServerId,
    /// Where they go.
    pub relayed: Arc<ArcSwap<Relayed>>,
    /// Where they wait.
    pub database: Arc<Database>,
    /// What the queue tells.
    pub outlet: Arc<Outlet>,
    /// Where events of ours go.
    pub events: Arc<dyn Fn(Event) + Send + Sync>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Courier {
    /// Delivers until the shutdown; what is under way is finished, so that it need not be told again.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut line = Line::default();
        let mut remarked: Option<Duration> = None;
        loop {
            if *shutdown.borrow() {
                return;
            }
            let rest = self.round(&mut line, &mut remarked).await;
            tokio::select! {
                // An error says that the sender is gone, and with it whoever wanted us.
                _ = shutdown.wait_for(|stop| *stop) => return,
                _ = timeout(rest, self.outlet.news.notified()) => {}
            }
        }
    }

    /// Delivers what it can; says how long to rest then, unless there is news.
    async fn round(&self, line: &mut Line, remarked: &mut Option<Duration>) -> Duration {
        let batch = match self.read().await {
            Ok(batch) => batch,
            Err(error) => {
                self.failed(remarked, &chain(&error));
                return UNREADABLE;
            }
        };
        if batch.is_empty() || self.relayed.load().platform.is_none() {
            return LOOK;
        }
        let mut all = batch.iter().peekable();
        while let Some(first) = all.next() {
            let heard = self.send(first, remarked).await;
            match line.after(first.event, first.aside, heard, self.clock.boottime()) {
                Step::Next => {
                    self.forget(first).await;
                    *remarked = None;
                }
                Step::Aside => self.put_aside(first).await,
                Step::Wait(span) => return span,
                Step::Past => {
                    let (Some(behind), Heard::Refused(status)) = (all.peek(), heard) else { return line.wait() };
                    if self.send(behind, remarked).await != Heard::Taken {
                        return line.wait();
                    }
                    self.forget(behind).await;
                    line.passed(first.event, status);
                    self.put_aside(first).await;
                    all.next();
                }
            }
        }
        Duration::ZERO
    }

    /// The first of the outbox; and how much there is.
    async fn read(&self) -> Result<Vec<WaitingHook>, DatabaseError> {
        let (server, now) = (self.media_server.clone(), self.clock.now());
        let (batch, backlog) = self
            .with(move |database| Ok((database.waiting_hooks(&server, now, READ)?, database.hook_backlog(&server)?)))
            .await?;
        self.outlet.change(|status| {
            (status.waiting, status.aside, status.oldest) = (backlog.events, backlog.aside, backlog.oldest);
            if backlog.events == 0 {
                (status.failing, status.error) = (None, None);
            }
        });
        if backlog.events == 0 {
            self.outlet.originals.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        Ok(batch)
    }

    /// Does something with the database, on a thread that may wait for the disk.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let database = self.database.clone();
        match tokio::task::spawn_blocking(move || work(&database)).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    async fn send(&self, event: &WaitingHook, remarked: &mut Option<Duration>) -> Heard {
        let relayed = self.relayed.load_full();
        let Some(platform) = &relayed.platform else { return Heard::Silent };
        let body = self.outlet.original(event.number).unwrap_or_else(|| Bytes::copy_from_slice(&event.body));
        let (heard, why) = match platform.tell(event.event, &headers_of(&event.headers), &body).await {
            Ok((status, true)) if status.is_success() => (Heard::Taken, String::new()),
            Ok((status, _)) => (Heard::Refused(status.as_u16()), format!("it answers {status} to `{}`", event.event)),
            Err(why) => (Heard::Silent, why),
        };
        if heard == Heard::Taken {
            self.count(event.event, HookResult::Relayed);
            self.recovered();
        } else {
            self.count(event.event, HookResult::RelayFailed);
            self.failed(remarked, &why);
        }
        heard
    }

    fn count(&self, event: HookEvent, result: HookResult) {
        (self.events)(Event::Hooked { media_server: self.media_server.clone(), event, result, count: 1 });
    }

    /// A delivery succeeded; after an outage the log says so.
    fn recovered(&self) {
        let (now, status) = (self.clock.now(), self.outlet.status());
        self.outlet.change(|status| (status.failing, status.error) = (None, None));
        if let Some(since) = status.failing.filter(|since| now.since(*since) >= OUTAGE) {
            let (server, waiting) = (&self.media_server, status.waiting);
            let text = format!(
                "the platform of media server `{server}` takes hooks again, which it did not since {since}; {waiting} wait and are delivered in order"
            );
            (self.events)(Event::Remark { text, urgent: false });
        }
    }

    /// A delivery failed: the status says so at once, the log now and then.
    fn failed(&self, remarked: &mut Option<Duration>, why: &str) {
        let (now, today) = (self.clock.boottime(), self.clock.now());
        self.outlet.change(|status| {
            status.failing.get_or_insert(today);
            status.error = Some(why.to_owned());
        });
        if remarked.is_none_or(|at| now.saturating_sub(at) >= REMARK) {
            *remarked = Some(now);
            let waiting = self.outlet.status().waiting;
            let text = format!(
                "the platform of media server `{}` takes no hooks ({why}); {waiting} wait, and are delivered in order once it does",
                self.media_server
            );
            (self.events)(Event::Remark { text, urgent: false });
        }
    }

    async fn forget(&self, event: &WaitingHook) {
        let number = event.number;
        // What cannot be forgotten now must not be sent again: the disk is waited for.
        while let Err(error) = self.with(move |database| database.forget_waiting(number)).await {
            let text =
                format!("a hook that the platform took cannot be forgotten: {}; it is tried again", chain(&error));
            (self.events)(Event::Remark { text, urgent: false });
            sleep(UNREADABLE).await;
        }
        self.outlet.gone(number);
        self.outlet.change(|status| status.waiting = status.waiting.saturating_sub(1));
    }

    async fn put_aside(&self, event: &WaitingHook) {
        let (number, until) = (event.number, self.clock.now().plus(ASIDE));
        if !event.aside {
            let text = format!(
                "the platform of media server `{}` refuses a hook `{}` and takes others; it is put aside, and tried again each hour",
                self.media_server, event.event
            );
            (self.events)(Event::Remark { text, urgent: false });
        }
        let _ = self.with(move |database| database.put_aside(number, until)).await;
    }
}
