//! The tasks: one plans, and for each channel one delivers. A channel that is slow or dead holds nobody up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use super::body::Body;
use super::channel::{Channel, Parcel};
use super::delivery::Outcome;
use super::notifier::{Notifier, ready};
use super::queue::Next;
use crate::domain::alert::Condition;
use crate::domain::settings::{ChannelSettings, NotifySettings};
use crate::domain::units::Timestamp;
use crate::store::Message;

/// Nobody sleeps for longer, so that a clock that was set is noticed, and what could not be written is tried again.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Nor for less, whatever the settings say.
const SHORTEST_SLEEP: Duration = Duration::from_millis(20);

/// How long a write may hold up what waits for it. Then it goes on beside, and the message is sent nevertheless.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// The pause before a channel's task is begun anew that died.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// A channel that is ready, and the settings that it was made of.
pub(super) type Prepared = Option<(ChannelSettings, Arc<Channel>)>;

impl Notifier {
    /// Plans and delivers until `shutdown` is true, or its sender is gone. What was not delivered by then is delivered after
    /// the next start.
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let mut news = self.news.subscribe();
        let mut tasks = JoinSet::new();
        let mut running: HashMap<Id, String> = HashMap::new();
        loop {
            news.mark_unchanged();
            let due = self.plan();
            self.persist().await;
            for channel in &self.settings.load().channels {
                if !running.values().any(|name| *name == channel.name) {
                    let (this, name, stop) = (Arc::clone(&self), channel.name.clone(), shutdown.clone());
                    let task = if channel.told() {
                        tasks.spawn(this.deliver(name, stop))
                    } else {
                        tasks.spawn(this.beat(name, stop))
                    };
                    running.insert(task.id(), channel.name.clone());
                }
            }
            self.work.send_modify(|count| *count = count.wrapping_add(1));
            let sleep = due.unwrap_or(LONGEST_SLEEP).clamp(SHORTEST_SLEEP, LONGEST_SLEEP);
            tokio::select! {
                () = stopping(&mut shutdown) => break,
                _ = news.changed() => {}
                Some(ended) = tasks.join_next_with_id() => match ended {
                    Ok((id, ())) => drop(running.remove(&id)),
                    Err(error) => {
                        let name = running.remove(&error.id());
                        tracing::error!(channel = name, %error, "A channel's task died and is begun anew.");
                        tokio::time::sleep(AFTER_PANIC).await;
                    }
                },
                () = tokio::time::sleep(sleep) => {}
            }
        }
        while tasks.join_next().await.is_some() {}
        self.persist().await;
    }

    /// Delivers what is queued for one channel, in order, until there is no such channel any more that is told of alerts.
    async fn deliver(self: Arc<Self>, name: String, mut shutdown: watch::Receiver<bool>) {
        let mut work = self.work.subscribe();
        let mut prepared: Prepared = None;
        while !*shutdown.borrow() {
            work.mark_unchanged();
            let settings = self.settings.load_full();
            let Some(channel) = settings.channel(&name).filter(|channel| channel.told()) else { return };
            let sleep = match self.next(&name, &settings) {
                Next::Send(message) => {
                    self.persist().await;
                    let outcome = tokio::select! {
                        () = stopping(&mut shutdown) => {
                            self.abandon(&message);
                            return;
                        }
                        outcome = self.attempt(channel, &mut prepared, &message, &settings) => outcome,
                    };
                    let event = self.settle(&message, outcome, &settings);
                    self.persist().await;
                    self.tell(event);
                    continue;
                }
                Next::Again(standing) => {
                    let outcome = tokio::select! {
                        () = stopping(&mut shutdown) => return,
                        outcome = self.tell_again(channel, &mut prepared, &standing, &settings) => outcome,
                    };
                    let event = self.told_again(channel, outcome, &settings);
                    self.tell(event);
                    continue;
                }
                Next::At(at) => nap(at.since(self.clock.now())),
                Next::Idle => LONGEST_SLEEP,
            };
            tokio::select! {
                () = stopping(&mut shutdown) => return,
                _ = work.changed() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    async fn attempt(
        &self,
        channel: &ChannelSettings,
        prepared: &mut Prepared,
        message: &Message,
        settings: &NotifySettings,
    ) -> Outcome {
        let parcel = match Parcel::of(message) {
            Ok(parcel) => parcel,
            Err(error) => return Outcome::GivenUp(error),
        };
        let (now, templates) = (self.clock.now(), self.templates.load_full());
        with(channel, prepared, async |ready| {
            ready.send(&parcel, &templates, now, settings.timeout, &mut Vec::new()).await
        })
        .await
    }

    /// Tells a channel that forgets of all that fires.
    async fn tell_again(
        &self,
        channel: &ChannelSettings,
        prepared: &mut Prepared,
        standing: &[(Condition, Timestamp)],
        settings: &NotifySettings,
    ) -> Outcome {
        let (now, templates) = (self.clock.now(), self.templates.load_full());
        let body =
            |(condition, since): &(Condition, Timestamp)| Body::new("alert.firing", condition, *since, now, &templates);
        let bodies: Vec<Body> = standing.iter().map(body).collect();
        with(channel, prepared, async |ready| ready.send_again(&bodies, now, settings.timeout).await).await
    }

    /// Calls the address of a heartbeat.
    pub(super) async fn call(
        &self,
        channel: &ChannelSettings,
        prepared: &mut Prepared,
        settings: &NotifySettings,
    ) -> Outcome {
        let (now, templates) = (self.clock.now(), self.templates.load_full());
        let parcel = Parcel::test(String::new(), &channel.name, now, &templates);
        with(channel, prepared, async |ready| {
            ready.send(&parcel, &templates, now, settings.timeout, &mut Vec::new()).await
        })
        .await
    }

    /// Writes what has changed, or goes on without if that takes too long: then it is written later.
    async fn persist(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let written = tokio::time::timeout(WRITE_DEADLINE, async {
            let turn = Arc::clone(&this.turn).lock_owned().await;
            let write = move || {
                this.write();
                drop(turn);
            };
            // That it panicked is seen in the log; its rows stay unwritten and are written later.
            let _ = tokio::task::spawn_blocking(write).await;
        });
        // After the deadline the write goes on by itself, and keeps its turn.
        let _ = written.await;
    }
}

/// Sends by the channel as it is configured now; it is made anew after a failure.
async fn with(
    channel: &ChannelSettings,
    prepared: &mut Prepared,
    send: impl AsyncFnOnce(&Channel) -> Outcome,
) -> Outcome {
    let ready = match prepared.take().filter(|(made_of, _)| made_of == channel) {
        Some((_, ready)) => ready,
        None => match ready(channel.clone()).await {
            Ok(ready) => ready,
            // What is missing may come: a certificate, a file.
            Err(error) => return Outcome::unreachable(error),
        },
    };
    let outcome = send(&ready).await;
    if let Outcome::Delivered(_) = outcome {
        *prepared = Some((channel.clone(), ready));
    }
    outcome
}

/// A sleep that is neither so long that nothing would be noticed, nor so short that it would be none.
pub(super) fn nap(wait: Duration) -> Duration {
    wait.clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
}

/// Ends when `stop` is true, or nobody is left to set it.
pub(super) async fn stopping(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
