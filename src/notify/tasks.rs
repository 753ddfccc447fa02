//! The tasks: one plans, and for each channel one delivers. A channel that is slow or dead holds nobody up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use super::channel::{Channel, Parcel};
use super::delivery::Outcome;
use super::notifier::{Notifier, ready};
use super::queue::Next;
use crate::domain::settings::{ChannelSettings, NotifySettings};
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
type Prepared = Option<(ChannelSettings, Arc<Channel>)>;

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
                    let task = Arc::clone(&self).deliver(channel.name.clone(), shutdown.clone());
                    running.insert(tasks.spawn(task).id(), channel.name.clone());
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

    /// Delivers what is queued for one channel, in order, until there is no such channel any more.
    async fn deliver(self: Arc<Self>, name: String, mut shutdown: watch::Receiver<bool>) {
        let mut work = self.work.subscribe();
        let mut prepared: Prepared = None;
        while !*shutdown.borrow() {
            work.mark_unchanged();
            let settings = self.settings.load_full();
            let Some(channel) = settings.channels.iter().find(|channel| channel.name == name) else { return };
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
                Next::At(at) => at.since(self.clock.now()).clamp(SHORTEST_SLEEP, LONGEST_SLEEP),
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
        let known = prepared.take().filter(|(made_of, _)| made_of == channel).map(|(_, ready)| ready);
        let ready = match known {
            Some(ready) => ready,
            None => match ready(channel.clone()).await {
                Ok(ready) => ready,
                // What is missing may come: a certificate, a file.
                Err(error) => return Outcome::unreachable(error),
            },
        };
        let outcome =
            ready.send(&parcel, &self.templates.load_full(), self.clock.now(), settings.timeout, &mut Vec::new()).await;
        if let Outcome::Delivered(_) = outcome {
            *prepared = Some((channel.clone(), ready));
        }
        outcome
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

/// Ends when `stop` is true, or nobody is left to set it.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
