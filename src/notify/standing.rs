//! How the channels stand: what each may send, what it is told again, and what is shown of it.

use std::collections::VecDeque;
use std::time::Duration;

use super::delivery::{Outcome, pause};
use super::health::{Health, moment};
use super::notifier::{Notifier, State};
use super::queue::Next;
use crate::domain::alert::{AlertName, Condition, Subject};
use crate::domain::event::{Delivery, Event};
use crate::domain::rate::{Rate, TokenBucket};
use crate::domain::settings::{ChannelKind, ChannelSettings, NotifySettings};
use crate::domain::units::Timestamp;
use crate::store::{Message, MessageKind};

/// So many messages that were given up are shown of each channel.
const SHOWN: usize = 5;

/// How a channel does, for whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelReport {
    /// Its name.
    pub name: String,
    /// What it is, in the configuration's words.
    pub kind: &'static str,
    /// Whether it works.
    pub state: ChannelState,
    /// Messages that wait.
    pub queued: usize,
    /// How long the oldest of them has been waiting.
    pub oldest: Duration,
    /// Messages that were given up since the guard was started.
    pub dropped: u64,
    /// The last of them, the newest first; also those of before.
    pub last_dropped: Vec<DroppedMessage>,
}

/// Whether a channel works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelState {
    /// Nothing was sent yet.
    Unknown,
    /// Its last send was accepted.
    Working {
        /// Since then all were.
        since: Timestamp,
    },
    /// Its last send was not.
    Failing {
        /// Since then none was.
        since: Timestamp,
        /// Why the last one was not.
        error: String,
    },
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedMessage {
    /// When it was made.
    pub at: Timestamp,
    /// Of which alert.
    pub alert: AlertName,
    /// What the alert is about.
    pub subject: Subject,
    /// What it told.
    pub kind: MessageKind,
    /// Why it was given up.
    pub error: String,
}

/// What one channel gave up.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    count: u64,
    last: VecDeque<DroppedMessage>,
}

impl Dropped {
    /// Keeps a message to be shown.
    pub(super) fn show(&mut self, message: &Message) {
        self.last.push_front(DroppedMessage {
            at: message.created,
            alert: message.alert,
            subject: message.subject.clone(),
            kind: message.kind,
            error: message.last_error.clone().unwrap_or_default(),
        });
        self.last.truncate(SHOWN);
    }
}

/// What an Alertmanager is told again, and how often; of other channels nothing.
fn repeats(of: &ChannelSettings) -> Option<Duration> {
    match of.kind {
        ChannelKind::Alertmanager { every, .. } => Some(every),
        ChannelKind::Email { .. }
        | ChannelKind::Webhook { .. }
        | ChannelKind::Robot { .. }
        | ChannelKind::WvpRedis { .. }
        | ChannelKind::Heartbeat { .. } => None,
    }
}

impl State {
    /// Each channel has a bucket, empty at first, and nothing is known of those that are gone.
    pub(super) fn furnish(&mut self, settings: &NotifySettings, boottime: Duration) {
        let known = |name: &String| settings.channel(name).is_some();
        let gone: Vec<String> = self.health.keys().filter(|name| !known(name)).cloned().collect();
        self.health.retain(|name, _| known(name));
        self.dirty_health.extend(gone);
        self.buckets.retain(|name, _| known(name));
        self.repeated.retain(|name, _| known(name));
        self.dropped.retain(|name, _| known(name));
        for channel in &settings.channels {
            let empty = || TokenBucket::empty(Rate::per_minute(channel.per_minute), boottime);
            self.buckets.entry(channel.name.clone()).or_insert_with(empty);
        }
    }

    /// A message was given up.
    pub(super) fn drop_of(&mut self, message: &Message) {
        let dropped = self.dropped.entry(message.channel.clone()).or_default();
        dropped.count = dropped.count.saturating_add(1);
        dropped.show(message);
    }

    /// A message was dropped, and of so many sends of it nobody knows how they ended. If it told of its alert first, and certainly did
    /// not arrive, nothing follows it, and the alert is to be told anew.
    pub(super) fn lose(&mut self, message: &Message, unknown: u32) {
        if message.kind == MessageKind::Firing && message.reply_to.is_none() && unknown == 0 {
            let heir = self.queue.succeed(&message.id);
            self.groups.lose(message, heir);
        }
    }

    /// What a channel does now, if nothing keeps it from sending but its limit.
    pub(super) fn next(
        &mut self,
        of: &ChannelSettings,
        (now, boottime): (Timestamp, Duration),
        longest: Duration,
    ) -> Next {
        let rate = Rate::per_minute(of.per_minute);
        let Some(mut bucket) = self.buckets.get(&of.name).copied() else { return Next::Idle };
        let wait = bucket.wait(rate, boottime);
        if !wait.is_zero() {
            return Next::At(now.plus(wait));
        }
        let next = self.queue_or_again(of, (now, boottime), longest);
        if matches!(next, Next::Send(_) | Next::Again(_)) {
            bucket.take(rate, boottime);
            self.buckets.insert(of.name.clone(), bucket);
        }
        next
    }

    /// Messages go first, unless what fires was not told again, nor tried to, for so long that it would soon be forgotten.
    fn queue_or_again(
        &mut self,
        of: &ChannelSettings,
        (now, boottime): (Timestamp, Duration),
        longest: Duration,
    ) -> Next {
        let name = &of.name;
        let Some(every) = repeats(of) else { return self.queue.next(name, now, longest) };
        let standing = self.standing(name);
        if standing.is_empty() {
            self.repeated.insert(name.clone(), boottime);
            return self.queue.next(name, now, longest);
        }
        let age = self.repeated.get(name).map(|at| boottime.saturating_sub(*at));
        if age.is_none_or(|age| age >= every.saturating_mul(2)) {
            return Next::Again(standing);
        }
        let left = every.saturating_sub(age.unwrap_or_default());
        match self.queue.next(name, now, longest) {
            Next::Send(message) => Next::Send(message),
            Next::At(_) | Next::Idle | Next::Again(_) if left.is_zero() => Next::Again(standing),
            Next::At(at) => Next::At(at.min(now.plus(left))),
            Next::Idle | Next::Again(_) => Next::At(now.plus(left)),
        }
    }

    /// What fires and was told to a channel; not what is still on its way, since that may be taken back.
    fn standing(&self, channel: &str) -> Vec<(Condition, Timestamp)> {
        let mut standing = self.groups.standing(channel);
        standing.retain(|(condition, _)| !self.queue.has_firing(channel, condition.alert, &condition.subject));
        standing
    }
}

impl Notifier {
    /// Records how it ended to tell a channel again.
    pub(super) fn told_again(&self, of: &ChannelSettings, outcome: Outcome, settings: &NotifySettings) -> Event {
        let (now, boottime) = (self.clock.now(), self.clock.boottime());
        let times = Health::failures(self.lock().health.get(&of.name)).saturating_add(1);
        let (result, said, not_before) = match outcome {
            Outcome::Delivered(said) => (Delivery::Sent, said, None),
            Outcome::Again { error, after, channel } => {
                let at = now.plus(pause(settings, times, after, fastrand::u32(0..=1000)));
                (Delivery::Retried, error, channel.then_some(at))
            }
            Outcome::GivenUp(error) => (Delivery::Retried, error, None),
        };
        // However it ended, messages have the first turn now: what fails again and again must not keep news back.
        self.lock().repeated.insert(of.name.clone(), boottime);
        self.note(&of.name, (result != Delivery::Sent).then_some(said.as_str()), not_before);
        Event::Notified { channel: of.name.clone(), result, detail: format!("all that fires: {said}") }
    }

    /// Takes a token of a channel, or says how long until there is one.
    pub(super) fn token(&self, of: &ChannelSettings) -> Result<(), Duration> {
        self.token_by(of, TokenBucket::take)
    }

    fn token_by(
        &self,
        of: &ChannelSettings,
        take: fn(&mut TokenBucket, Rate, Duration) -> bool,
    ) -> Result<(), Duration> {
        let (rate, boottime) = (Rate::per_minute(of.per_minute), self.clock.boottime());
        let mut state = self.lock();
        let empty = || TokenBucket::empty(rate, boottime);
        let bucket = state.buckets.entry(of.name.clone()).or_insert_with(empty);
        if take(bucket, rate, boottime) { Ok(()) } else { Err(bucket.wait(rate, boottime)) }
    }

    /// Waits for a token for a message by hand, but no longer than that; else says how long it would have been.
    pub(super) async fn wait_for_token(&self, of: &ChannelSettings, patience: Duration) -> Result<(), Duration> {
        let until = self.clock.boottime().saturating_add(patience);
        while let Err(wait) = self.token_by(of, TokenBucket::take_by_hand) {
            if self.clock.boottime().saturating_add(wait) > until {
                return Err(wait);
            }
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// How each channel does.
    #[must_use]
    pub fn channels(&self) -> Vec<ChannelReport> {
        let (settings, now, boottime) = (self.settings.load(), self.clock.now(), self.clock.boottime());
        let at = |since: i64| moment(since, now, boottime);
        let state = self.lock();
        let report = |channel: &ChannelSettings| {
            let name = &channel.name;
            let dropped = state.dropped.get(name);
            ChannelReport {
                name: name.clone(),
                kind: channel.kind.as_str(),
                state: match state.health.get(name) {
                    None => ChannelState::Unknown,
                    Some(Health::Working { since }) => ChannelState::Working { since: at(*since) },
                    Some(Health::Failing { since, error, .. }) => {
                        ChannelState::Failing { since: at(*since), error: error.clone() }
                    }
                },
                queued: state.queue.count(name),
                oldest: state.queue.age(name, boottime).unwrap_or_default(),
                dropped: dropped.map_or(0, |dropped| dropped.count),
                last_dropped: dropped.map(|dropped| dropped.last.iter().cloned().collect()).unwrap_or_default(),
            }
        };
        settings.channels.iter().map(report).collect()
    }
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
