//! The notifier: what the rest of the guard sees of this room, and its state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::body::Body;
use super::channel::{Channel, Parcel, describe, receiver};
use super::delivery::{Outcome, longest_pause, pause};
use super::groups::{Groups, Order};
use super::health::Health;
use super::queue::{Next, Queue, come};
use super::silences::Mutes;
use super::standing::Dropped;
use super::template::Templates;
use crate::domain::alert::{Condition, Wording};
use crate::domain::alert_book::Change;
use crate::domain::cause::chain;
use crate::domain::event::{Delivery, Event};
use crate::domain::rate::TokenBucket;
use crate::domain::settings::NotifySettings;
use crate::domain::silence::SilenceChange;
use crate::domain::units::{Timestamp, show_duration};
use crate::store::{Batch, Database, MUTED, Message, MessageKind, MessageState};
use crate::system::Clock;

/// A person who tries a channel waits for its turn no longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// And for its answer no longer, whatever `timeout` says: the server's deadline for a try, and the command's, are longer than both.
const LONGEST_TRY: Duration = Duration::from_secs(60);

/// Takes in what changes, and delivers it.
pub struct Notifier {
    pub(super) settings: ArcSwap<NotifySettings>,
    pub(super) templates: ArcSwap<Templates>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) database: Arc<Database>,
    events: Box<dyn Fn(Event) + Send + Sync>,
    state: Mutex<State>,
    /// One batch is written after the other.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    /// Counts what the planner must look at.
    pub(super) news: watch::Sender<u64>,
    /// Counts what the channels must look at.
    pub(super) work: watch::Sender<u64>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) groups: Groups,
    pub(super) queue: Queue,
    /// What is known of each channel; nothing of one that has not tried yet.
    pub(super) health: BTreeMap<String, Health>,
    /// Of which channels the database does not know it yet.
    pub(super) dirty_health: BTreeSet<String>,
    /// Since when nothing was delivered, in time that only moves forward, milliseconds, once that has lasted too long.
    pub(super) undelivered: Option<i64>,
    /// What each channel may still send.
    pub(super) buckets: BTreeMap<String, TokenBucket>,
    /// When a channel that forgets was last told of all that fires, or could not be, in time that only moves forward.
    pub(super) repeated: BTreeMap<String, Duration>,
    /// What each channel gave up.
    pub(super) dropped: BTreeMap<String, Dropped>,
    /// When the guard last looked at all that could be wrong, in time that only moves forward.
    pub(super) looked: Option<Duration>,
    /// Why the database could not be written.
    unwritten: Option<String>,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier").finish_non_exhaustive()
    }
}

impl Notifier {
    /// A notifier that goes on where the last one stopped. `events` is told of everything that happens, from any thread, and
    /// must not wait for long.
    pub fn new(
        settings: NotifySettings,
        database: Arc<Database>,
        clock: Arc<dyn Clock>,
        events: impl Fn(Event) + Send + Sync + 'static,
    ) -> Self {
        let (now, boottime) = (clock.now(), clock.boottime());
        let mut state = State::default();
        match database.read_outbox() {
            Ok(loaded) => {
                state.restore_health(loaded.channels, &loaded.alerts, &settings, (now, boottime));
                state.groups = Groups::restore(loaded.alerts, loaded.told, now);
                state.groups.mutes = Mutes::restore(loaded.silences);
                state.queue = Queue::restore(loaded.messages, loaded.next_seq, now, boottime);
                for message in loaded.dropped.iter().rev() {
                    state.dropped.entry(message.channel.clone()).or_default().show(message);
                }
            }
            Err(_) => events(Event::Remark {
                text: "The outbox cannot be read, so messages of the time before this start are not sent.".to_owned(),
                urgent: true,
            }),
        }
        state.furnish(&settings, boottime);
        let templates = templates(&settings, &events);
        Self {
            templates: ArcSwap::from_pointee(templates),
            settings: ArcSwap::from_pointee(settings),
            clock,
            database,
            events: Box::new(events),
            state: Mutex::new(state),
            turn: Arc::default(),
            news: watch::Sender::new(0),
            work: watch::Sender::new(0),
        }
    }

    /// Takes in what the alert book says. Nothing is sent or written before [`Notifier::run`] does it.
    pub fn changed(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        self.lock().groups.apply(changes, self.clock.now());
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Takes over other settings. A channel that was changed is tried at once, and one that goes to another receiver tells it what
    /// fires as new; what waits for one that is gone is dropped, and shown as dropped.
    pub fn set_settings(&self, settings: NotifySettings) {
        self.templates.store(Arc::new(templates(&settings, &self.events)));
        let mut state = self.lock();
        let before = self.settings.swap(Arc::new(settings));
        let settings = self.settings.load();
        for channel in &settings.channels {
            if !before.channels.contains(channel) {
                state.try_at_once(&channel.name);
                state.repeated.remove(&channel.name);
                state.queue.hurry(&channel.name, self.clock.now());
            }
            if before.channel(&channel.name).is_some_and(|before| receiver(before) != receiver(channel)) {
                let State { groups, queue, .. } = &mut *state;
                groups.redirect(&channel.name, &queue.redirect(&channel.name));
            }
        }
        drop(state);
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// For each channel, how long its oldest message has been waiting; zero if none is.
    #[must_use]
    pub fn outbox_oldest(&self) -> Vec<(String, Duration)> {
        let (settings, boottime, state) = (self.settings.load(), self.clock.boottime(), self.lock());
        let age = |name: &str| state.queue.age(name, boottime).unwrap_or_default();
        settings.channels.iter().map(|channel| (channel.name.clone(), age(&channel.name))).collect()
    }

    /// What an alert says, as its messages say it.
    #[must_use]
    pub fn wording(&self, condition: &Condition) -> Wording {
        self.templates.load().wording(condition)
    }

    /// Why alerts and messages are in memory only, while the database cannot be written.
    #[must_use]
    pub fn unwritten(&self) -> Option<String> {
        self.lock().unwritten.clone()
    }

    /// Sends a message by one channel now, past the outbox, and says what happened, step by step and without secrets.
    ///
    /// # Errors
    /// The same, if it was not delivered.
    pub async fn test(&self, channel: &str) -> Result<String, String> {
        let settings = self.settings.load_full();
        let Some(of) = settings.channel(channel).cloned() else {
            let names: Vec<&str> = settings.channels.iter().map(|other| other.name.as_str()).collect();
            let known =
                if names.is_empty() { "there are none".to_owned() } else { format!("there are: {}", names.join(", ")) };
            return Err(format!("there is no channel `{channel}` in the configuration; {known}"));
        };
        let mut log = vec![format!("channel `{channel}`: {}", describe(&of))];
        if let Err(wait) = self.wait_for_token(&of, PATIENCE).await {
            let (limit, wait) = (of.per_minute, show_duration(wait));
            return Err(format!("channel `{channel}` may send {limit} messages a minute; the next in {wait}"));
        }
        let outcome = match ready(of).await {
            Ok(ready) => {
                let (now, templates) = (self.clock.now(), self.templates.load_full());
                let parcel = Parcel::test(new_id(), channel, now, &templates);
                ready.send(&parcel, &templates, now, settings.timeout.min(LONGEST_TRY), &mut log).await
            }
            Err(error) => {
                log.push(error.clone());
                Outcome::GivenUp(error)
            }
        };
        match outcome {
            Outcome::Delivered(_) => {
                if Health::failures(self.note(channel, None, None).as_ref()) > 0 {
                    self.lock().queue.hurry(channel, self.clock.now());
                    self.work.send_modify(|count| *count = count.wrapping_add(1));
                }
                log.push("delivered".to_owned());
                Ok(log.join("\n"))
            }
            Outcome::Again { .. } | Outcome::GivenUp(_) => {
                log.push("not delivered".to_owned());
                Err(log.join("\n"))
            }
        }
    }

    /// Whether there is a channel of that name.
    #[must_use]
    pub fn has_channel(&self, name: &str) -> bool {
        self.settings.load().channel(name).is_some()
    }

    /// Queues what is due, and says when something will be next.
    pub(super) fn plan(&self) -> Option<Duration> {
        let (now, boottime) = (self.clock.now(), self.clock.boottime());
        let templates = self.templates.load_full();
        let mut dropped = Vec::new();
        let mut state = self.lock();
        let settings = self.settings.load_full();
        let told = settings.channels.iter().filter(|channel| channel.told());
        let channels: Vec<String> = told.map(|channel| channel.name.clone()).collect();
        state.furnish(&settings, boottime);
        let State { groups, queue, .. } = &mut *state;
        dropped.extend(queue.retain_channels(&channels));
        groups.retain_channels(&channels);
        let over = groups.mutes.pass(now);
        groups.take_back(now, |channel, alert, subject| queue.take_back((channel, alert, subject), MUTED));
        let queued = |channel: &str, alert, subject: &_| queue.has_firing(channel, alert, subject);
        for order in groups.flush(&channels, &settings, now, queued, new_id) {
            dropped.extend(queue.push(message(order, now, &templates), boottime));
        }
        // Only now, when all that continues them is queued.
        dropped.iter().for_each(|message| state.lose(message, message.attempts));
        let groups = &state.groups;
        let due = groups.due(&channels, &settings);
        drop(state);
        self.tell_dropped(dropped);
        for silence in over {
            self.tell(Event::Silenced { silence, change: SilenceChange::Expired, who: String::new() });
        }
        due.map(|at| at.since(now))
    }

    /// What a channel does next. Drops what it could not deliver for too long.
    pub(super) fn next(&self, channel: &str, settings: &NotifySettings) -> Next {
        let (now, longest) = (self.clock.now(), longest_pause(settings));
        let mut state = self.lock();
        let dropped = state.queue.expire(channel, self.clock.boottime(), settings.give_up_after);
        dropped.iter().for_each(|message| state.lose(message, message.attempts));
        let next = match state.health.get(channel) {
            Some(Health::Failing { not_before: Some(at), .. }) if !come(*at, now, longest) => Next::At(*at),
            Some(Health::Failing { .. } | Health::Working { .. }) | None => match settings.channel(channel) {
                Some(channel) => state.next(channel, (now, self.clock.boottime()), longest),
                None => Next::Idle,
            },
        };
        drop(state);
        self.tell_dropped(dropped);
        next
    }

    /// Records how a send ended. The answer is to be told once it is written.
    pub(super) fn settle(&self, message: &Message, outcome: Outcome, settings: &NotifySettings) -> Event {
        let now = self.clock.now();
        let mut state = self.lock();
        let times = Health::failures(state.health.get(&message.channel)).saturating_add(1);
        // The channel was set up anew meanwhile: what an old receiver says binds nobody.
        let stale = self.settings.load().channel(&message.channel) != settings.channel(&message.channel);
        let (result, said, not_before) = match outcome {
            Outcome::Delivered(said) => {
                state.queue.finish(message.seq, MessageState::Sent, None);
                // It works again: what was refused meanwhile need not wait for its own next attempt.
                if times > 1 {
                    state.queue.hurry(&message.channel, now);
                }
                (Delivery::Sent, said, None)
            }
            Outcome::Again { error, .. } | Outcome::GivenUp(error) if stale => {
                state.queue.retry(message.seq, now, &error);
                (Delivery::Retried, error, None)
            }
            Outcome::Again { error, after, channel } => {
                let failures = if channel { times } else { message.attempts };
                let at = now.plus(pause(settings, failures, after, fastrand::u32(0..=1000)));
                state.queue.retry(message.seq, at, &error);
                (Delivery::Retried, error, channel.then_some(at))
            }
            Outcome::GivenUp(error) => {
                let given_up = state.queue.finish(message.seq, MessageState::Dropped, Some(&error));
                if let Some(message) = &given_up {
                    state.drop_of(message);
                    // How this send ended is known.
                    state.lose(message, message.attempts.saturating_sub(1));
                }
                (Delivery::Dropped, error, None)
            }
        };
        drop(state);
        self.note(&message.channel, (result != Delivery::Sent).then_some(said.as_str()), not_before);
        event(message, result, &said)
    }

    /// A send that nobody waits for any more; the message stays queued.
    pub(super) fn abandon(&self, message: &Message) {
        self.lock().queue.abandon(message.seq);
    }

    /// Writes what has changed. Only one caller at a time, and it may block.
    pub(super) fn write(&self) {
        let mut batch = Batch::default();
        let (now, boottime) = (self.clock.now(), self.clock.boottime());
        let mut state = self.lock();
        state.collect_health(&mut batch, now, boottime);
        state.groups.collect(&mut batch);
        state.queue.collect(&mut batch);
        drop(state);
        if batch.is_empty() {
            return;
        }
        let written = self.database.write_outbox(&batch);
        let mut state = self.lock();
        let remark = match &written {
            Ok(()) => {
                let before = state.unwritten.take();
                before.is_some().then_some(("The outbox is written to the database again.", false))
            }
            Err(error) => {
                state.dirty_health.extend(batch.channels.iter().map(|(channel, _)| channel.clone()));
                state.groups.put_back(&batch);
                state.queue.put_back(batch);
                let first = state.unwritten.replace(chain(error)).is_none();
                let text = if error.full() {
                    "The disk has no room for the outbox, so alerts and messages are kept in memory for now."
                } else {
                    "The outbox cannot be written, so alerts and messages are kept in memory for now."
                };
                first.then_some((text, true))
            }
        };
        drop(state);
        if let Some((text, urgent)) = remark {
            self.tell(Event::Remark { text: text.to_owned(), urgent });
        }
    }

    fn tell_dropped(&self, dropped: Vec<Message>) {
        for message in dropped {
            self.lock().drop_of(&message);
            let why = message.last_error.as_deref().unwrap_or_default();
            self.tell(event(&message, Delivery::Dropped, why));
        }
    }

    /// Tells everybody else what happened.
    pub(super) fn tell(&self, event: Event) {
        (self.events)(event);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change; if it did, an old state is better than none.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prepares a channel, beside the tasks since it reads files.
pub(super) async fn ready(of: crate::domain::settings::ChannelSettings) -> Result<Arc<Channel>, String> {
    let built = tokio::task::spawn_blocking(move || Channel::new(&of)).await;
    built.unwrap_or_else(|error| Err(format!("the channel could not be prepared: {error}"))).map(Arc::new)
}

/// The texts, as the settings want them; what is wrong with the user's own is told.
fn templates(settings: &NotifySettings, events: &dyn Fn(Event)) -> Templates {
    let (templates, problems) = Templates::of(settings);
    for problem in problems {
        events(Event::Remark { text: format!("{problem}; the built-in text is used"), urgent: true });
    }
    templates
}

fn message(order: Order, now: Timestamp, templates: &Templates) -> Message {
    let kind = match order.kind {
        MessageKind::Firing => "alert.firing",
        MessageKind::Resolved => "alert.resolved",
    };
    Message {
        seq: 0,
        id: order.id,
        channel: order.channel,
        alert: order.condition.alert,
        kind: order.kind,
        severity: order.condition.severity,
        body: Body::new(kind, &order.condition, order.since, now, templates).json().into(),
        subject: order.condition.subject,
        reply_to: order.first,
        created: now,
        next_attempt: now,
        attempts: 0,
        last_error: None,
        state: MessageState::Queued,
    }
}

fn event(message: &Message, result: Delivery, said: &str) -> Event {
    let detail = format!("{} {} ({}): {said}", message.alert, message.kind, message.id);
    Event::Notified { channel: message.channel.clone(), result, detail }
}

/// An id that no other message has.
fn new_id() -> String {
    let mut random = [0u8; 16];
    if getrandom::fill(&mut random).is_err() {
        fastrand::fill(&mut random);
    }
    format!("msg_{:032x}", u128::from_be_bytes(random))
}

#[cfg(test)]
#[path = "notifier_tests.rs"]
pub(super) mod tests;
