//! The notifier as the rest of the guard sees it: what changed goes in, events come out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::body::Body;
use super::delivery::{self, Outgoing};
use super::groups::{Groups, Order};
use super::queue::Queue;
use super::webhook;
use crate::domain::alert_book::Change;
use crate::domain::deletion::words;
use crate::domain::settings::NotifySettings;
use crate::domain::units::Timestamp;
use crate::store::{Batch, Database, Loaded, Message, MessageKind, MessageState};
use crate::system::Clock;

words! {
    /// What became of an attempt to deliver.
    NotifyResult {
        /// The receiver accepted it.
        Sent = "sent",
        /// It will be tried again.
        Retried = "retried",
        /// It was given up.
        Dropped = "dropped",
    }
}

/// Something that happened to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyEvent {
    /// The channel's name.
    pub channel: String,
    /// What happened.
    pub result: NotifyResult,
    /// Which message, and what the receiver said. It holds no secret.
    pub detail: String,
}

/// Delivers alerts to the channels of the configuration.
pub struct Notifier {
    pub(super) settings: watch::Sender<Arc<NotifySettings>>,
    pub(super) clock: Arc<dyn Clock>,
    database: Arc<Database>,
    events: Box<dyn Fn(NotifyEvent) + Send + Sync>,
    /// Raised whenever something may be due earlier than the tasks know.
    pub(super) woken: watch::Sender<u64>,
    /// Held while the database writes, so that a later state is never overwritten by an earlier one.
    writer: Mutex<()>,
    pub(super) state: Mutex<State>,
}

/// How long a database that cannot be written is left alone.
const REWRITE: Duration = Duration::from_secs(5);

/// All that changes.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) groups: Groups,
    pub(super) queue: Queue,
    pub(super) health: BTreeMap<String, Health>,
    /// Why the database could not be written, while it cannot, and when that was tried (time that only moves forward).
    unwritten: Option<(String, Duration)>,
}

/// How a channel does.
#[derive(Debug, Default, Clone)]
pub(super) struct Health {
    /// Failures in a row.
    pub(super) failures: u32,
    /// Since when nothing was delivered although it was tried.
    pub(super) failing_since: Option<Timestamp>,
    /// The last attempt was a delivery.
    pub(super) works: bool,
    /// Nothing is sent before.
    pub(super) not_before: Option<Timestamp>,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier").finish_non_exhaustive()
    }
}

impl Notifier {
    /// A notifier that goes on where the database says the last one stopped.
    ///
    /// A database that cannot be read is logged, and all alerts are told as if they were new.
    pub fn new(
        settings: NotifySettings,
        database: Arc<Database>,
        clock: Arc<dyn Clock>,
        events: impl Fn(NotifyEvent) + Send + Sync + 'static,
    ) -> Self {
        webhook::install_provider();
        let loaded = database.read_outbox().unwrap_or_else(|error| {
            let error = in_words(&error);
            tracing::error!(%error, "The outbox cannot be read; alerts that fire are told again.");
            Loaded::default()
        });
        let (now, boottime) = (clock.now(), clock.boottime());
        let mut state = State {
            groups: Groups::restore(loaded.alerts, loaded.told, now),
            queue: Queue::restore(loaded.messages, loaded.next_seq, now, boottime),
            ..State::default()
        };
        for channel in &settings.channels {
            let failing_since = state.queue.oldest_tried(&channel.name).map(|message| message.created.min(now));
            state.health.insert(channel.name.clone(), Health { failing_since, ..Health::default() });
        }
        let notifier = Self {
            settings: watch::Sender::new(Arc::new(settings)),
            clock,
            database,
            events: Box::new(events),
            woken: watch::Sender::new(0),
            writer: Mutex::new(()),
            state: Mutex::new(state),
        };
        notifier.forget_removed();
        notifier
    }

    /// Takes in what the alert book says. It is durable when this returns, unless the database cannot be written.
    pub fn changed(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        self.lock().groups.apply(changes, self.clock.now());
        self.write();
        self.wake();
    }

    /// Works by other settings from now on. Messages to channels that are gone are dropped, and shown.
    pub fn set_settings(&self, settings: NotifySettings) {
        self.settings.send_replace(Arc::new(settings));
        self.forget_removed();
        self.wake();
    }

    /// The age of the oldest message of each channel; zero if nothing waits.
    pub fn outbox_oldest(&self) -> Vec<(String, Duration)> {
        let now = self.clock.now();
        let settings = self.settings.borrow().clone();
        let state = self.lock();
        let age = |name: &str| state.queue.oldest(name).map_or(Duration::ZERO, |message| now.since(message.created));
        settings.channels.iter().map(|channel| (channel.name.clone(), age(&channel.name))).collect()
    }

    /// Since when no channel works, if that has lasted for `delivery_failing_after`. A channel that was not needed says
    /// nothing; one whose last message was accepted works.
    pub fn failing_since(&self) -> Option<Timestamp> {
        let settings = self.settings.borrow().clone();
        let state = self.lock();
        let mut last = None;
        for channel in &settings.channels {
            let health = state.health.get(&channel.name).cloned().unwrap_or_default();
            match health.failing_since {
                Some(since) => last = last.max(Some(since)),
                None if health.works || state.queue.oldest(&channel.name).is_some() => return None,
                None => {}
            }
        }
        last.filter(|since| self.clock.now().since(*since) >= settings.delivery_failing_after)
    }

    /// Why alerts are kept in memory only, while the database cannot be written.
    pub fn unwritten(&self) -> Option<String> {
        self.lock().unwritten.as_ref().map(|(why, _)| why.clone())
    }

    /// Sends a message that tries a channel, once. Both answers are for people, and hold no secret.
    ///
    /// # Errors
    /// There is no such channel, or the receiver did not accept the message; the text says what it said.
    pub async fn test(&self, channel: &str) -> Result<String, String> {
        let settings = self.settings.borrow().clone();
        let Some(found) = settings.channels.iter().find(|c| c.name == channel) else {
            let known: Vec<_> = settings.channels.iter().map(|c| format!("`{}`", c.name)).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(format!("there is no channel `{channel}`; configured: {known}"));
        };
        let now = self.clock.now();
        let (id, body) = (new_id(), Body::test(channel, now).json());
        let outgoing = Outgoing { id: &id, reply_to: None, body: &body, created: now, now };
        let about = format!("channel `{channel}`: {}\nmessage {id}", delivery::describe(found));
        match delivery::send(found, outgoing, settings.timeout).await {
            Ok(said) => Ok(format!("{about}\naccepted: {said}")),
            Err(failure) => Err(format!("{about}\nnot delivered: {}", failure.why())),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(&self) {
        self.woken.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn tell(&self, channel: &str, result: NotifyResult, detail: String) {
        match result {
            NotifyResult::Sent => tracing::info!(channel, detail, "A message was delivered."),
            NotifyResult::Retried => tracing::warn!(channel, detail, "A message will be sent again."),
            NotifyResult::Dropped => tracing::error!(channel, detail, "A message was dropped."),
        }
        (self.events)(NotifyEvent { channel: channel.to_owned(), result, detail });
    }

    /// Writes what has changed. What cannot be written stays in memory, and is written when that works again.
    pub(super) fn write(&self) {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::default();
        {
            let mut state = self.lock();
            let recently = |(_, at): &(String, Duration)| self.clock.boottime().saturating_sub(*at) < REWRITE;
            if state.unwritten.as_ref().is_some_and(recently) {
                return;
            }
            state.groups.collect(&mut batch);
            state.queue.collect(&mut batch);
        }
        if batch.is_empty() {
            return;
        }
        let result = self.database.write_outbox(&batch);
        let mut state = self.lock();
        match result {
            Ok(()) => {
                if state.unwritten.take().is_some() {
                    tracing::info!("The outbox is written again.");
                }
            }
            Err(error) => {
                state.groups.put_back(&batch);
                state.queue.put_back(batch);
                let error = in_words(&error);
                if state.unwritten.is_none() {
                    tracing::error!(error, "The outbox cannot be written; alerts are kept in memory.");
                }
                state.unwritten = Some((error, self.clock.boottime()));
            }
        }
    }

    /// Turns what is due into messages, and says when the next one is.
    pub(super) fn queue_due(&self) -> Option<Timestamp> {
        let settings = self.settings.borrow().clone();
        let channels = names(&settings);
        let (now, boottime) = (self.clock.now(), self.clock.boottime());
        let mut dropped = Vec::new();
        let (due, any) = {
            let mut guard = self.lock();
            let State { groups, queue, .. } = &mut *guard;
            let sent = |channel: &str, alert, subject: &_| queue.has_firing(channel, alert, subject);
            let orders = groups.flush(&channels, &settings, now, sent, new_id);
            let any = !orders.is_empty();
            for order in orders {
                dropped.extend(queue.push(message(order, now), boottime));
            }
            (groups.due(&channels, &settings), any)
        };
        // Also tries again what could not be written before.
        self.write();
        self.tell_dropped(dropped);
        if any {
            self.wake();
        }
        due
    }

    pub(super) fn tell_dropped(&self, dropped: Vec<Message>) {
        for message in dropped {
            let why = message.last_error.as_deref().unwrap_or_default();
            self.tell(&message.channel, NotifyResult::Dropped, about(&message, why));
        }
    }

    fn forget_removed(&self) {
        let channels = names(&self.settings.borrow());
        let dropped = {
            let mut state = self.lock();
            state.groups.retain_channels(&channels);
            state.health.retain(|name, _| channels.contains(name));
            state.queue.retain_channels(&channels)
        };
        self.write();
        self.tell_dropped(dropped);
    }
}

fn names(settings: &NotifySettings) -> Vec<String> {
    settings.channels.iter().map(|channel| channel.name.clone()).collect()
}

/// A message in the words of a log line.
pub(super) fn about(message: &Message, said: &str) -> String {
    format!("{} {} {}: {said}", message.id, message.kind, message.alert)
}

/// An id that no other message has.
fn new_id() -> String {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // Without the system's randomness another source will do: the id need only be unique.
        bytes = fastrand::u128(..).to_be_bytes();
    }
    bytes.iter().fold("msg_".to_owned(), |mut id, byte| {
        let _ = std::fmt::Write::write_fmt(&mut id, format_args!("{byte:02x}"));
        id
    })
}

fn message(order: Order, now: Timestamp) -> Message {
    let Order { id, channel, kind, condition, since, first } = order;
    let word = match kind {
        MessageKind::Firing => "alert.firing",
        MessageKind::Resolved => "alert.resolved",
    };
    Message {
        seq: 0,
        id,
        channel,
        alert: condition.alert,
        kind,
        severity: condition.severity,
        body: Body::new(word, &condition, since, now).json().into(),
        subject: condition.subject,
        reply_to: first,
        created: now,
        next_attempt: now,
        attempts: 0,
        last_error: None,
        state: MessageState::Queued,
    }
}

/// An error with all of its causes.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut at = error.source();
    while let Some(inner) = at {
        out.push_str(": ");
        out.push_str(&inner.to_string());
        at = inner.source();
    }
    out
}
