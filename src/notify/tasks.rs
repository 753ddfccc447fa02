//! The tasks: one that queues what is due, and one for each channel that sends it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::delivery::{self, Answer, Failure, Outgoing, pause};
use super::notifier::{Health, Notifier, NotifyResult, about};
use super::queue::{Next, come};
use crate::domain::settings::{ChannelSettings, NotifySettings};
use crate::domain::units::Timestamp;
use crate::store::{Message, MessageState};

/// The longest sleep: the clock may be set meanwhile, and the tasks notice.
const NAP: Duration = Duration::from_secs(1);

/// How long a send that has begun may go on when the guard stops or its settings change.
const GRACE: Duration = Duration::from_secs(3);

impl Notifier {
    /// Delivers until `shutdown` is true, or its sender is gone. What is not sent by then is sent after the next start.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let mut settings = self.settings.subscribe();
        loop {
            let current = settings.borrow_and_update().clone();
            let (stop, stopped) = watch::channel(false);
            let mut tasks = JoinSet::new();
            tasks.spawn(Self::queue_task(self.clone(), stopped.clone()));
            for channel in &current.channels {
                let (channel, settings) = (channel.clone(), current.clone());
                tasks.spawn(Self::send_task(self.clone(), channel, settings, stopped.clone()));
            }
            drop(stopped);
            let again = tokio::select! {
                () = stopping(&mut shutdown) => false,
                _ = settings.changed() => true,
                ended = tasks.join_next() => {
                    if let Some(Err(error)) = ended {
                        tracing::error!(%error, "A task of the notifier failed and is begun anew.");
                    }
                    tokio::time::sleep(NAP).await;
                    true
                }
            };
            stop.send_replace(true);
            while tasks.join_next().await.is_some() {}
            if !again {
                blocking(&self, Self::write).await;
                return;
            }
        }
    }

    async fn queue_task(self: Arc<Self>, stop: watch::Receiver<bool>) {
        let mut woken = self.woken.subscribe();
        while !*stop.borrow() {
            woken.mark_unchanged();
            let Some(due) = blocking(&self, Self::queue_due).await else { return };
            self.rest(due, &mut woken, &stop).await;
        }
    }

    async fn send_task(
        self: Arc<Self>,
        channel: ChannelSettings,
        settings: Arc<NotifySettings>,
        stop: watch::Receiver<bool>,
    ) {
        let mut woken = self.woken.subscribe();
        while !*stop.borrow() {
            woken.mark_unchanged();
            let (name, by) = (channel.name.clone(), settings.clone());
            let Some(next) = blocking(&self, move |notifier| notifier.begin(&name, &by)).await else { return };
            match next {
                Next::At(at) => self.rest(Some(at), &mut woken, &stop).await,
                Next::Idle => self.rest(None, &mut woken, &stop).await,
                Next::Send(message) => {
                    let answer = tokio::select! {
                        answer = self.attempt(&channel, &settings, &message) => Some(answer),
                        () = grace(stop.clone()) => None,
                    };
                    let (name, settings) = (channel.name.clone(), settings.clone());
                    blocking(&self, move |notifier| notifier.end(&name, &settings, &message, answer)).await;
                }
            }
        }
    }

    async fn attempt(&self, channel: &ChannelSettings, settings: &NotifySettings, message: &Message) -> Answer {
        let outgoing = Outgoing {
            id: &message.id,
            reply_to: message.reply_to.as_deref(),
            body: &message.body,
            created: message.created,
            now: self.clock.now(),
        };
        delivery::send(channel, outgoing, settings.timeout).await
    }

    /// Waits until `due`, at most a nap, or until something is woken or stopped.
    async fn rest(&self, due: Option<Timestamp>, woken: &mut watch::Receiver<u64>, stop: &watch::Receiver<bool>) {
        let span = due.map_or(NAP, |at| at.since(self.clock.now()).clamp(Duration::from_millis(1), NAP));
        let mut stop = stop.clone();
        tokio::select! {
            () = tokio::time::sleep(span) => {}
            _ = woken.changed() => {}
            () = stopping(&mut stop) => {}
        }
    }

    /// The next message of a channel. Its attempt is written down before it is made.
    pub(super) fn begin(&self, channel: &str, settings: &NotifySettings) -> Next {
        let longest = settings.retry_max.max(delivery::LONGEST_WAIT);
        let (now, boottime) = (self.clock.now(), self.clock.boottime());
        let (expired, next) = {
            let mut state = self.lock();
            let expired = state.queue.expire(channel, boottime, settings.give_up_after);
            let health = state.health.entry(channel.to_owned()).or_default();
            let next = match health.not_before {
                Some(at) if !come(at, now, longest) => Next::At(at),
                Some(_) | None => state.queue.next(channel, now, longest),
            };
            (expired, next)
        };
        self.write();
        self.tell_dropped(expired);
        next
    }

    /// Records what became of an attempt; no answer means that it was broken off.
    pub(super) fn end(&self, channel: &str, settings: &NotifySettings, message: &Message, answer: Option<Answer>) {
        let now = self.clock.now();
        let (result, detail) = {
            let mut guard = self.lock();
            let state = &mut *guard;
            let health = state.health.entry(channel.to_owned()).or_default();
            let Some(answer) = answer else {
                state.queue.abandon(message.seq);
                return;
            };
            match answer {
                Ok(said) => {
                    *health = Health { works: true, ..Default::default() };
                    state.queue.finish(message.seq, MessageState::Sent, None);
                    (NotifyResult::Sent, said)
                }
                Err(failure) => {
                    health.failures = health.failures.saturating_add(1);
                    health.failing_since = Some(health.failing_since.map_or(now, |since| since.min(now)));
                    health.works = false;
                    match failure {
                        Failure::Retry { why, after, channel } => {
                            let failures = if channel { health.failures } else { message.attempts };
                            let span = pause(settings, failures, fastrand::u32(0..=1000));
                            let span = after.map_or(span, |after| after.max(span));
                            let at = now.plus(span);
                            if channel {
                                health.not_before = Some(at);
                            }
                            state.queue.retry(message.seq, at, &why);
                            (NotifyResult::Retried, why)
                        }
                        Failure::Refused { why } => {
                            state.queue.finish(message.seq, MessageState::Dropped, Some(&why));
                            (NotifyResult::Dropped, why)
                        }
                    }
                }
            }
        };
        self.write();
        self.tell(channel, result, about(message, &detail));
    }
}

/// Does something that may wait for the disk, where that holds up no other task. Nothing, if the guard is stopping.
async fn blocking<T: Send + 'static>(
    notifier: &Arc<Notifier>,
    work: impl FnOnce(&Notifier) -> T + Send + 'static,
) -> Option<T> {
    let notifier = notifier.clone();
    match tokio::task::spawn_blocking(move || work(&notifier)).await {
        Ok(done) => Some(done),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

/// Ends a while after `stop`.
async fn grace(mut stop: watch::Receiver<bool>) {
    stopping(&mut stop).await;
    tokio::time::sleep(GRACE).await;
}

/// Ends when `stop` is true, or nobody is left to set it.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
