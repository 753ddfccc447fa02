//! The outbox in memory: the truth while we live. What changed is written to the database, and read back after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::domain::alert::{AlertName, Condition, Subject};
use crate::domain::settings::Severity;
use crate::domain::units::Timestamp;
use crate::store::{Batch, Message, MessageKind, MessageState, SUPERSEDED, UNHEARD};

/// How many messages may be queued.
pub(super) const LIMIT: usize = 10_000;

/// So often something critical is tried before all else.
const URGENT: u32 = 3;

/// What a channel's task does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Sends this one; its attempt is counted already.
    Send(Box<Message>),
    /// Tells a receiver that forgets once more of what still fires, and since when.
    Again(Vec<(Condition, Timestamp)>),
    /// Waits until then.
    At(Timestamp),
    /// Waits for a message.
    Idle,
}

/// All queued messages, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    queued: BTreeMap<i64, Entry>,
    sending: BTreeSet<i64>,
    next_seq: i64,
    /// What the database does not know yet.
    dirty: BTreeMap<i64, Message>,
}

#[derive(Debug)]
struct Entry {
    message: Message,
    /// Its birth in time that only moves forward, milliseconds: a clock that is set does not age it.
    born: i64,
}

/// Whether a moment has come, or lies further ahead than any wait is meant to be, so that the clock must have gone back.
pub(super) fn come(at: Timestamp, now: Timestamp, longest: Duration) -> bool {
    at <= now || at.since(now) > longest
}

pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl Queue {
    /// What the database kept.
    pub(super) fn restore(messages: Vec<Message>, next_seq: i64, now: Timestamp, boottime: Duration) -> Self {
        let entry = |message: Message| {
            let born = millis(boottime).saturating_sub(millis(now.since(message.created)));
            (message.seq, Entry { message, born })
        };
        Self { queued: messages.into_iter().map(entry).collect(), next_seq, ..Self::default() }
    }

    /// Queues a message; its number is given here. Returns what had to be dropped for want of room.
    ///
    /// A resolution takes the repetitions of its alert back that no send was begun for. An alert that came and went while its
    /// channel was away is told nevertheless, but once: if it comes and goes again meanwhile, that is taken back.
    pub(super) fn push(&mut self, mut message: Message, boottime: Duration) -> Option<Message> {
        if message.kind == MessageKind::Resolved {
            let of = (message.channel.as_str(), message.alert, &message.subject);
            let unsent = self.unsent_firings(of);
            let again = unsent.iter().any(|firing| firing.reply_to.is_none()) && self.waits_whole(of);
            for firing in unsent.iter().filter(|firing| again || firing.reply_to.is_some()) {
                self.finish(firing.seq, MessageState::Dropped, Some(SUPERSEDED));
            }
            if again {
                return None;
            }
        }
        let dropped = if self.queued.len() >= LIMIT { self.make_room() } else { None };
        message.seq = self.next_seq;
        self.next_seq = self.next_seq.saturating_add(1);
        self.dirty.insert(message.seq, message.clone());
        self.queued.insert(message.seq, Entry { message, born: millis(boottime) });
        dropped
    }

    /// Takes the firing messages of an alert back that no send was begun for. Says whether the channel so never heard of it.
    pub(super) fn take_back(&mut self, of: (&str, AlertName, &Subject), why: &str) -> bool {
        let taken = self.unsent_firings(of);
        for firing in &taken {
            self.finish(firing.seq, MessageState::Dropped, Some(why));
        }
        taken.iter().any(|firing| firing.reply_to.is_none())
    }

    /// A firing message of an alert and its resolution wait already.
    fn waits_whole(&self, (channel, alert, subject): (&str, AlertName, &Subject)) -> bool {
        let mut messages = self.queued.values().map(|entry| &entry.message);
        let resolved = |m: &Message| m.kind == MessageKind::Resolved && m.channel == channel && m.alert == alert;
        messages.any(|m| resolved(m) && m.subject == *subject)
    }

    fn unsent_firings(&self, (channel, alert, subject): (&str, AlertName, &Subject)) -> Vec<Message> {
        let same = |other: &&Message| other.channel == channel && other.alert == alert && other.subject == *subject;
        let messages = self.queued.values().rev().map(|entry| &entry.message);
        let unsent = messages.filter(same).take_while(|m| m.kind == MessageKind::Firing && m.attempts == 0);
        unsent.cloned().collect()
    }

    /// The channel never heard the first message of an alert, and what is queued to continue it must not: a firing message becomes
    /// the first one in its place, and its id is given; without any, the resolution is taken back.
    pub(super) fn succeed(&mut self, first: &str) -> Option<String> {
        let follows = |(_, entry): &(&i64, &Entry)| entry.message.reply_to.as_deref() == Some(first);
        let following: Vec<_> =
            self.queued.iter().filter(follows).map(|(seq, entry)| (*seq, entry.message.kind)).collect();
        let mut heir = None;
        for (seq, kind) in following {
            if kind == MessageKind::Resolved && heir.is_none() {
                // What is being sent cannot be taken back any more.
                if !self.sending.contains(&seq) {
                    self.finish(seq, MessageState::Dropped, Some(UNHEARD));
                }
            } else if let Some(entry) = self.queued.get_mut(&seq) {
                entry.message.reply_to.clone_from(&heir);
                self.dirty.insert(seq, entry.message.clone());
                heir = heir.or_else(|| Some(entry.message.id.clone()));
            }
        }
        heir
    }

    /// A channel goes to another receiver from now on, which never heard what the last one was told. Gives for each first message
    /// that still leads to one the first that the new receiver hears.
    pub(super) fn redirect(&mut self, channel: &str) -> BTreeMap<String, String> {
        let messages = self.queued.values().map(|entry| &entry.message).filter(|m| m.channel == channel);
        // What is being sent goes to the old one still.
        let own = messages.clone().filter(|m| !self.sending.contains(&m.seq));
        let own: BTreeSet<String> = own.map(|m| m.id.clone()).collect();
        let firsts: BTreeSet<String> = messages.map(|m| m.reply_to.as_ref().unwrap_or(&m.id).clone()).collect();
        let heard = |first: String| {
            let heir = if own.contains(&first) { Some(first.clone()) } else { self.succeed(&first) };
            Some((first, heir?))
        };
        firsts.into_iter().filter_map(heard).collect()
    }

    /// Drops the oldest that is not critical, or the oldest at all; never one that is being sent.
    fn make_room(&mut self) -> Option<Message> {
        let mut free = self.queued.iter().filter(|(seq, _)| !self.sending.contains(seq));
        let oldest = free.clone().next().map(|(seq, _)| *seq);
        let mild = free.find(|(_, entry)| entry.message.severity < Severity::Critical).map(|(seq, _)| *seq);
        let seq = mild.or(oldest)?;
        self.finish(seq, MessageState::Dropped, Some("the outbox is full"))
    }

    /// What the channel is to do now. Within a group the order is kept; of the groups those with something critical go first, a few times,
    /// and then the least tried: a message that is never accepted keeps nothing else back.
    pub(super) fn next(&mut self, channel: &str, now: Timestamp, longest: Duration) -> Next {
        let messages = || self.queued.values().map(|entry| &entry.message).filter(|m| m.channel == channel);
        let critical: BTreeSet<&Subject> =
            messages().filter(|m| m.severity == Severity::Critical).map(|m| &m.subject).collect();
        let mut seen = BTreeSet::new();
        let mut best: Option<(bool, u32, bool, i64)> = None;
        let mut soonest: Option<Timestamp> = None;
        for message in messages() {
            if !seen.insert(&message.subject) {
                continue;
            }
            if come(message.next_attempt, now, longest) {
                let mild = !critical.contains(&message.subject);
                let place = (mild || message.attempts >= URGENT, message.attempts, mild, message.seq);
                best = Some(best.map_or(place, |best| best.min(place)));
            } else {
                soonest = Some(soonest.map_or(message.next_attempt, |at| at.min(message.next_attempt)));
            }
        }
        match best.and_then(|(_, _, _, seq)| self.queued.get_mut(&seq)) {
            Some(entry) => {
                entry.message.attempts = entry.message.attempts.saturating_add(1);
                self.sending.insert(entry.message.seq);
                self.dirty.insert(entry.message.seq, entry.message.clone());
                Next::Send(Box::new(entry.message.clone()))
            }
            None => soonest.map_or(Next::Idle, Next::At),
        }
    }

    /// It will be tried again.
    pub(super) fn retry(&mut self, seq: i64, at: Timestamp, error: &str) {
        self.sending.remove(&seq);
        if let Some(entry) = self.queued.get_mut(&seq) {
            entry.message.next_attempt = at;
            entry.message.last_error = Some(error.to_owned());
            self.dirty.insert(seq, entry.message.clone());
        }
    }

    /// Nobody knows how the send would have ended; it is begun anew when somebody asks.
    pub(super) fn abandon(&mut self, seq: i64) {
        self.sending.remove(&seq);
    }

    /// It was sent or dropped.
    pub(super) fn finish(&mut self, seq: i64, state: MessageState, error: Option<&str>) -> Option<Message> {
        self.sending.remove(&seq);
        let mut message = self.queued.remove(&seq)?.message;
        message.state = state;
        message.last_error = error.map(str::to_owned);
        self.dirty.insert(seq, message.clone());
        Some(message)
    }

    /// Drops what a channel could not deliver for so long.
    pub(super) fn expire(&mut self, channel: &str, boottime: Duration, after: Duration) -> Vec<Message> {
        let limit = millis(boottime).saturating_sub(millis(after));
        let old = |(seq, entry): &(&i64, &Entry)| {
            entry.message.channel == channel && entry.born <= limit && !self.sending.contains(seq)
        };
        let old: Vec<_> = self.queued.iter().filter(old).map(|(_, entry)| entry.message.clone()).collect();
        let give_up = |message: Message| {
            let last = message.last_error.unwrap_or_else(|| "it was never tried".to_owned());
            self.finish(message.seq, MessageState::Dropped, Some(&format!("given up: {last}")))
        };
        old.into_iter().filter_map(give_up).collect()
    }

    /// Drops the messages of all channels but these.
    pub(super) fn retain_channels(&mut self, channels: &[String]) -> Vec<Message> {
        let other = |entry: &&Entry| !channels.contains(&entry.message.channel);
        let gone: Vec<_> = self.queued.values().filter(other).map(|entry| entry.message.seq).collect();
        let drop = |seq| self.finish(seq, MessageState::Dropped, Some("its channel is no longer configured"));
        gone.into_iter().filter_map(drop).collect()
    }

    /// Whether a firing message of the alert is still on its way.
    pub(super) fn has_firing(&self, channel: &str, alert: AlertName, subject: &Subject) -> bool {
        let mut messages = self.queued.values().map(|entry| &entry.message);
        messages
            .any(|m| m.kind == MessageKind::Firing && m.channel == channel && m.alert == alert && m.subject == *subject)
    }

    /// How many messages of a channel are queued.
    pub(super) fn count(&self, channel: &str) -> usize {
        self.queued.values().filter(|entry| entry.message.channel == channel).count()
    }

    /// How long the oldest queued message of a channel has been waiting; nothing if none is queued.
    pub(super) fn age(&self, channel: &str, boottime: Duration) -> Option<Duration> {
        let oldest = self.queued.values().find(|entry| entry.message.channel == channel)?;
        Some(Duration::from_millis(u64::try_from(millis(boottime).saturating_sub(oldest.born)).unwrap_or(0)))
    }

    /// The channel was set up anew: its messages are tried now.
    pub(super) fn hurry(&mut self, channel: &str, now: Timestamp) {
        for entry in self.queued.values_mut().filter(|entry| entry.message.channel == channel) {
            entry.message.next_attempt = entry.message.next_attempt.min(now);
        }
    }

    /// Puts into `batch` what has changed since the last time.
    pub(super) fn collect(&mut self, batch: &mut Batch) {
        batch.messages.extend(std::mem::take(&mut self.dirty).into_values());
    }

    /// The batch could not be written: its rows have to be written later, unless they have changed since.
    pub(super) fn put_back(&mut self, batch: Batch) {
        for message in batch.messages {
            self.dirty.entry(message.seq).or_insert(message);
        }
        // While the database cannot be written, what is done is remembered only as far as the memory is bounded.
        let done: Vec<_> = self.dirty.keys().filter(|seq| !self.queued.contains_key(seq)).copied().collect();
        for seq in done.iter().take(done.len().saturating_sub(LIMIT)) {
            self.dirty.remove(seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::names::VolumeId;

    const BOOT: Duration = Duration::from_secs(1000);
    const NOW: Timestamp = Timestamp::from_secs(100);
    const HOUR: Duration = Duration::from_secs(3600);

    fn message(kind: MessageKind, volume: &str, first: Option<&str>) -> Message {
        Message {
            seq: 0,
            id: "msg_1".to_owned(),
            channel: "a".to_owned(),
            subject: Subject::Volume(VolumeId::new(volume)),
            alert: AlertName::VolumeExhausted,
            kind,
            severity: Severity::Warning,
            body: "{}".into(),
            reply_to: first.map(str::to_owned),
            created: NOW,
            next_attempt: NOW,
            attempts: 0,
            last_error: None,
            state: MessageState::Queued,
        }
    }

    fn firing() -> Message {
        message(MessageKind::Firing, "data", None)
    }

    fn resolved() -> Message {
        message(MessageKind::Resolved, "data", Some("msg_1"))
    }

    fn take(queue: &mut Queue) -> Message {
        match queue.next("a", NOW, HOUR) {
            Next::Send(message) => *message,
            Next::At(_) | Next::Idle | Next::Again(_) => panic!("nothing is due"),
        }
    }

    fn left(queue: &Queue) -> Vec<MessageKind> {
        queue.queued.values().map(|entry| entry.message.kind).collect()
    }

    /// Fault 122.
    #[test]
    fn what_came_and_went_is_told_once_and_what_may_have_arrived_is_resolved() {
        use MessageKind::{Firing, Resolved};
        let mut queue = Queue::default();
        queue.push(firing(), BOOT);
        queue.push(resolved(), BOOT);
        assert_eq!(left(&queue), [Firing, Resolved], "nobody was told of it yet, and everybody is");
        queue.push(firing(), BOOT);
        assert_eq!(left(&queue), [Firing, Resolved, Firing]);
        queue.push(resolved(), BOOT);
        assert_eq!(left(&queue), [Firing, Resolved], "once");

        let mut queue = Queue::default();
        queue.push(firing(), BOOT);
        let tried = take(&mut queue);
        queue.retry(tried.seq, NOW, "no");
        queue.push(resolved(), BOOT);
        assert_eq!(left(&queue), [Firing, Resolved]);

        // The repeated message goes; the resolution of what was told stays.
        let mut queue = Queue::default();
        queue.push(message(Firing, "data", Some("msg_0")), BOOT);
        queue.push(resolved(), BOOT);
        assert_eq!(left(&queue), [Resolved]);
    }

    #[test]
    fn order_is_kept_within_a_group_and_one_group_does_not_hold_up_another() {
        let mut queue = Queue::default();
        queue.push(firing(), BOOT);
        let first = take(&mut queue);
        queue.push(resolved(), BOOT);
        queue.push(message(MessageKind::Firing, "other", None), BOOT);
        let later = NOW.plus(Duration::from_secs(60));
        queue.retry(first.seq, later, "no");
        let other = take(&mut queue);
        assert_eq!(other.subject, Subject::Volume(VolumeId::new("other")));
        queue.finish(other.seq, MessageState::Sent, None);
        assert_eq!(queue.next("a", NOW, HOUR), Next::At(later));
        assert!(matches!(queue.next("a", later, HOUR), Next::Send(m) if m.seq == first.seq && m.attempts == 2));
        assert_eq!(queue.next("b", later, HOUR), Next::Idle);
    }

    #[test]
    fn a_group_with_something_critical_goes_first_and_in_its_order() {
        let mut queue = Queue::default();
        for (volume, severity) in [("mild", Severity::Warning), ("bad", Severity::Warning), ("bad", Severity::Critical)]
        {
            queue.push(Message { severity, ..message(MessageKind::Firing, volume, None) }, BOOT);
        }
        let mut next = || {
            let sent = take(&mut queue);
            queue.finish(sent.seq, MessageState::Sent, None);
            (sent.subject, sent.severity)
        };
        let of = |volume: &str| Subject::Volume(VolumeId::new(volume));
        assert_eq!(next(), (of("bad"), Severity::Warning));
        assert_eq!(next(), (of("bad"), Severity::Critical));
        assert_eq!(next(), (of("mild"), Severity::Warning));
    }

    #[test]
    fn a_channel_that_was_set_up_anew_does_not_wait() {
        let mut queue = Queue::default();
        queue.push(firing(), BOOT);
        let tried = take(&mut queue);
        queue.retry(tried.seq, NOW.plus(Duration::from_secs(600)), "no");
        assert_eq!(queue.age("a", BOOT + Duration::from_secs(7)), Some(Duration::from_secs(7)));
        queue.hurry("a", NOW);
        assert_eq!(take(&mut queue).attempts, 2);
    }

    #[test]
    fn a_clock_that_goes_back_holds_nothing_up() {
        let mut queue = Queue::default();
        queue.push(firing(), BOOT);
        assert!(matches!(queue.next("a", Timestamp::from_secs(-1_000_000), HOUR), Next::Send(_)));
    }

    #[test]
    fn gives_up_by_time_that_only_moves_forward() {
        let week = Duration::from_secs(7 * 86_400);
        let mut queue = Queue::default();
        queue.push(firing(), BOOT);
        assert_eq!(queue.expire("a", BOOT + week / 2, week).len(), 0);
        let given_up = queue.expire("a", BOOT + week, week);
        assert_eq!(given_up.len(), 1);
        assert_eq!(given_up[0].last_error.as_deref(), Some("given up: it was never tried"));

        let mut queue = Queue::restore(vec![firing()], 1, NOW.plus(week), BOOT);
        assert_eq!(queue.expire("a", BOOT, week).len(), 1);
    }

    /// Fault 123.
    #[test]
    fn a_full_outbox_drops_the_oldest_that_is_not_critical_and_says_so() {
        let mut queue = Queue::default();
        queue.push(Message { severity: Severity::Critical, ..firing() }, BOOT);
        for n in 1..LIMIT {
            assert!(queue.push(message(MessageKind::Firing, &n.to_string(), None), BOOT).is_none());
        }
        let dropped = queue.push(message(MessageKind::Firing, "one too many", None), BOOT).unwrap();
        assert_eq!(dropped.subject, Subject::Volume(VolumeId::new("1")));
        assert_eq!(dropped.last_error.as_deref(), Some("the outbox is full"));
        assert_eq!(queue.queued.len(), LIMIT);
    }

    #[test]
    fn what_could_not_be_written_is_written_later_as_it_is_then() {
        let mut queue = Queue::default();
        queue.push(firing(), BOOT);
        let mut batch = Batch::default();
        queue.collect(&mut batch);
        let message = take(&mut queue);
        queue.finish(message.seq, MessageState::Sent, None);
        queue.put_back(batch);
        let mut batch = Batch::default();
        queue.collect(&mut batch);
        assert_eq!(batch.messages.len(), 1);
        assert_eq!(batch.messages[0].state, MessageState::Sent);
    }

    /// A receiver that is down for one message only, in its own words for all of them.
    #[test]
    fn something_critical_that_is_never_accepted_keeps_nothing_back() {
        let mut queue = Queue::default();
        queue.push(Message { severity: Severity::Critical, ..firing() }, BOOT);
        queue.push(message(MessageKind::Firing, "other", None), BOOT);
        let mut tried = Vec::new();
        for _ in 0..8 {
            let message = take(&mut queue);
            tried.push(message.severity == Severity::Critical);
            queue.retry(message.seq, NOW, "502 Bad Gateway");
        }
        assert_eq!(tried, [true, true, true, false, false, false, true, false]);
    }

    #[test]
    fn messages_of_a_removed_channel_are_shown_as_dropped() {
        let mut queue = Queue::default();
        queue.push(firing(), BOOT);
        assert_eq!(queue.retain_channels(&["b".to_owned()]).len(), 1);
        assert!(queue.age("a", BOOT).is_none());
    }
}
