//! When which channel is told of which alert. Pure: time is handed in.
//!
//! A group is what its alerts are about. Its first message waits `group_wait` for others, the next ones `group_interval`;
//! a critical alert waits for its own last message only. A firing alert is told again after `repeat_interval`. A channel
//! hears of a resolution if, and only if, it was told of the alert, and knows of resolutions at all; where the message that told it was lost, it was not, and what still
//! fires is told again after `repeat_interval` as if for the first time.
//!
//! A muted alert is not told, and not told again; when that ends and it still fires, it is news as if it had waited all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::silences::Mutes;
use crate::domain::alert::{AlertName, Condition, Subject};
use crate::domain::alert_book::{Active, Change};
use crate::domain::settings::{NotifySettings, Severity};
use crate::domain::silence::Mute;
use crate::domain::units::Timestamp;
use crate::store::{Batch, Message, MessageKind, StoredAlert, Told};

type Key = (Subject, AlertName);

/// A message that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) id: String,
    pub(super) channel: String,
    pub(super) kind: MessageKind,
    pub(super) condition: Condition,
    pub(super) since: Timestamp,
    /// Id of the first message of this alert, if this is a later one.
    pub(super) first: Option<String>,
}

/// One alert and its channels.
#[derive(Debug)]
struct Tracked {
    condition: Condition,
    since: Timestamp,
    /// When it became news.
    fired: Timestamp,
    ended: Option<Timestamp>,
    lines: BTreeMap<String, Line>,
}

/// One channel's knowledge of one alert.
#[derive(Debug)]
struct Line {
    /// What it was told, while it owes the resolution.
    told: Option<Told>,
    /// When the last message was queued.
    last: Timestamp,
}

impl Line {
    /// What the channel heard, or may have heard.
    fn heard(&self) -> Option<&Told> {
        self.told.as_ref().filter(|told| !told.lost)
    }
}

/// What would be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    News(MessageKind),
    Repeat,
}

/// All alerts that some channel may still have to hear of.
#[derive(Debug, Default)]
pub(super) struct Groups {
    alerts: BTreeMap<Key, Tracked>,
    /// What nobody wants to hear of.
    pub(super) mutes: Mutes,
    dirty_alerts: BTreeSet<Key>,
    dirty_told: BTreeSet<(String, Subject, AlertName)>,
}

impl Groups {
    /// As they were when the guard stopped.
    pub(super) fn restore(
        alerts: Vec<StoredAlert>,
        told: Vec<(String, AlertName, Subject, Told)>,
        now: Timestamp,
    ) -> Self {
        let mut groups = Self::default();
        for StoredAlert { since, ended, condition } in alerts {
            let key = (condition.subject.clone(), condition.alert);
            groups.alerts.insert(key, Tracked { condition, since, fired: now, ended, lines: BTreeMap::new() });
        }
        for (channel, alert, subject, told) in told {
            if let Some(tracked) = groups.alerts.get_mut(&(subject, alert)) {
                let last = told.at;
                tracked.lines.insert(channel, Line { told: Some(told), last });
            }
        }
        groups
    }

    /// Takes in what the alert book says.
    pub(super) fn apply(&mut self, changes: Vec<Change>, now: Timestamp) {
        for change in changes {
            let (Change::Fired(active) | Change::Updated(active) | Change::Resolved(active)) = &change;
            let key = (active.subject().clone(), active.alert());
            self.dirty_alerts.insert(key.clone());
            match change {
                Change::Fired(active) => self.fire(key, active, now),
                Change::Updated(active) => match self.alerts.get_mut(&key) {
                    Some(tracked) if tracked.ended.is_none() => tracked.condition = active.condition,
                    Some(_) | None => self.fire(key, active, now),
                },
                Change::Resolved(active) => {
                    if let Some(tracked) = self.alerts.get_mut(&key) {
                        tracked.condition = active.condition;
                        tracked.ended = Some(now);
                        self.forgive(&key);
                    }
                }
            }
        }
    }

    fn fire(&mut self, key: Key, active: Active, now: Timestamp) {
        // Whoever still owes a resolution of the last time, or had one just now, keeps its line.
        let lines = self.alerts.remove(&key).map(|tracked| tracked.lines).unwrap_or_default();
        let Active { since, condition, .. } = active;
        self.alerts.insert(key, Tracked { condition, since, fired: now, ended: None, lines });
    }

    /// What is over and was never heard of is not owed.
    fn forgive(&mut self, key: &Key) {
        let Some(tracked) = self.alerts.get_mut(key).filter(|tracked| tracked.ended.is_some()) else { return };
        for (channel, line) in &mut tracked.lines {
            if line.told.take_if(|told| told.lost).is_some() {
                self.dirty_told.insert((channel.clone(), key.0.clone(), key.1));
            }
        }
    }

    /// The first message of an alert was lost. `heir`: the message that is the first one now.
    pub(super) fn lose(&mut self, message: &Message, heir: Option<String>) {
        let key = (message.subject.clone(), message.alert);
        let line = self.alerts.get_mut(&key).and_then(|tracked| tracked.lines.get_mut(&message.channel));
        let Some(told) = line.and_then(|line| line.told.as_mut()).filter(|told| told.message == message.id) else {
            return;
        };
        told.lost = heir.is_none();
        told.message = heir.unwrap_or_else(|| message.id.clone());
        self.dirty_told.insert((message.channel.clone(), key.0.clone(), key.1));
        self.dirty_alerts.insert(key.clone());
        self.forgive(&key);
    }

    /// A channel goes to another receiver, which was told nothing. `heard` gives for first messages that still lead to one which it
    /// is the first that it hears.
    pub(super) fn redirect(&mut self, channel: &str, heard: &BTreeMap<String, String>) {
        for (key, tracked) in &mut self.alerts {
            let Some(told) = tracked.lines.get_mut(channel).and_then(|line| line.told.as_mut()) else { continue };
            match heard.get(&told.message) {
                Some(first) => told.message.clone_from(first),
                None => drop(tracked.lines.remove(channel)),
            }
            self.dirty_told.insert((channel.to_owned(), key.0.clone(), key.1));
            self.dirty_alerts.insert(key.clone());
        }
    }

    /// Forgets all channels but these.
    pub(super) fn retain_channels(&mut self, channels: &[String]) {
        for ((subject, alert), tracked) in &mut self.alerts {
            tracked.lines.retain(|channel, _| {
                let stays = channels.contains(channel);
                if !stays {
                    self.dirty_told.insert((channel.clone(), subject.clone(), *alert));
                    self.dirty_alerts.insert((subject.clone(), *alert));
                }
                stays
            });
        }
    }

    /// When the next message of any channel is due.
    pub(super) fn due(&self, channels: &[String], settings: &NotifySettings) -> Option<Timestamp> {
        let each = self.alerts.iter().flat_map(|(key, tracked)| {
            channels.iter().filter_map(move |channel| {
                let (at, _) = self.due_for(key, tracked, channel, settings)?;
                self.unmuted(tracked, at)
            })
        });
        each.min()
    }

    /// Why nobody is told that an alert fires.
    pub(super) fn muted(&self, condition: &Condition, at: Timestamp) -> Option<Mute> {
        let firing = self.alerts.values().filter(|other| other.ended.is_none()).map(|other| &other.condition);
        self.mutes.of(condition, firing, at)
    }

    /// The first moment from `at` on at which somebody may be told of it; nothing while another alert mutes it.
    fn unmuted(&self, tracked: &Tracked, mut at: Timestamp) -> Option<Timestamp> {
        if tracked.ended.is_some() {
            return Some(at);
        }
        loop {
            match self.muted(&tracked.condition, at) {
                None => return Some(at),
                Some(Mute::Silence { until, .. }) => at = until,
                Some(Mute::Alert(_)) => return None,
            }
        }
    }

    /// Lets `queue` take back what is queued of alerts that have been muted since. It says whether the channel so never heard of
    /// the alert: then it owes no resolution, and is told when the mute ends.
    pub(super) fn take_back(&mut self, now: Timestamp, mut queue: impl FnMut(&str, AlertName, &Subject) -> bool) {
        let firing = self.alerts.iter().filter(|(_, tracked)| tracked.ended.is_none());
        let muted = firing.filter(|(_, tracked)| self.muted(&tracked.condition, now).is_some());
        let muted: Vec<Key> = muted.map(|(key, _)| key.clone()).collect();
        for key in muted {
            let Some(tracked) = self.alerts.get_mut(&key) else { continue };
            for (channel, line) in &mut tracked.lines {
                if line.told.is_some() && queue(channel, key.1, &key.0) {
                    line.told = None;
                    self.dirty_told.insert((channel.clone(), key.0.clone(), key.1));
                }
            }
        }
    }

    fn due_for(
        &self,
        (subject, _): &Key,
        tracked: &Tracked,
        channel: &str,
        settings: &NotifySettings,
    ) -> Option<(Timestamp, What)> {
        let line = tracked.lines.get(channel);
        let own = line.map(|line| line.last);
        let not_before =
            |last: Option<Timestamp>, span: Duration| last.map_or(Timestamp::default(), |at| at.plus(span));
        let critical = tracked.condition.severity == Severity::Critical;
        let pace = settings.pace(channel);
        if tracked.ended.is_none() && !settings.hears(channel, &tracked.condition) {
            return None;
        }
        match (tracked.ended, line.and_then(|line| line.told.as_ref())) {
            (None, None) => {
                let last = if critical { own } else { self.last_of_group(subject, channel) };
                let at = tracked.fired.plus(pace.wait).max(not_before(last, pace.interval));
                Some((at, What::News(MessageKind::Firing)))
            }
            (None, Some(told)) if told.lost => {
                let worse = tracked.condition.severity > told.severity;
                let worse = worse.then_some(if critical { pace.wait } else { pace.interval });
                let (span, what) = match worse {
                    Some(span) => (span, What::News(MessageKind::Firing)),
                    None => (pace.repeat.unwrap_or(settings.repeat_interval), What::Repeat),
                };
                Some((not_before(own, span), what))
            }
            (None, Some(told)) if pace.renamed.is_some() && tracked.condition.severity != told.severity => {
                // What it was ends, and what it is now begins.
                let worse = tracked.condition.severity > told.severity;
                let span = pace.renamed.filter(|_| !worse).unwrap_or_default();
                Some((not_before(own, span), What::News(MessageKind::Resolved)))
            }
            (None, Some(told)) if tracked.condition.severity > told.severity => {
                let span = if critical { pace.wait } else { pace.interval };
                Some((not_before(own, span), What::News(MessageKind::Firing)))
            }
            (None, Some(_)) => Some((not_before(own, pace.repeat?), What::Repeat)),
            (Some(ended), Some(_)) => {
                let last = self.last_of_group(subject, channel);
                Some((ended.max(not_before(last, pace.interval)), What::News(MessageKind::Resolved)))
            }
            (Some(_), None) => None,
        }
    }

    /// What fires, and the channel was told so, as it was told; since when.
    pub(super) fn standing(&self, channel: &str) -> Vec<(Condition, Timestamp)> {
        let told = |tracked: &Tracked| {
            let told = tracked.lines.get(channel)?.heard().filter(|_| tracked.ended.is_none())?;
            Some((Condition { severity: told.severity, ..tracked.condition.clone() }, tracked.since))
        };
        self.alerts.values().filter_map(told).collect()
    }

    fn last_of_group(&self, subject: &Subject, channel: &str) -> Option<Timestamp> {
        let group = self.alerts.iter().filter(|((of, _), _)| of == subject);
        group.filter_map(|(_, tracked)| tracked.lines.get(channel).map(|line| line.last)).max()
    }

    /// Takes out what is due now. `queued` says whether a firing message is still on its way, so that it is not repeated.
    pub(super) fn flush(
        &mut self,
        channels: &[String],
        settings: &NotifySettings,
        now: Timestamp,
        queued: impl Fn(&str, AlertName, &Subject) -> bool,
        mut id: impl FnMut() -> String,
    ) -> Vec<Order> {
        self.clamp(now);
        let mut orders: Vec<(Timestamp, Order)> = Vec::new();
        for channel in channels {
            let pace = settings.pace(channel);
            let waiting: Vec<_> = self
                .alerts
                .iter()
                .filter(|(_, tracked)| tracked.ended.is_some() || self.muted(&tracked.condition, now).is_none())
                .filter_map(|(key, tracked)| {
                    let (at, what) = self.due_for(key, tracked, channel, settings)?;
                    Some((key.clone(), at, what))
                })
                .collect();
            let open: BTreeSet<_> =
                waiting.iter().filter(|(_, at, _)| *at <= now).map(|(key, _, _)| key.0.clone()).collect();
            for (key, at, what) in waiting {
                let Some(tracked) = self.alerts.get_mut(&key) else { continue };
                let last = tracked.lines.get(channel).map(|line| line.last);
                let rested = last.is_none_or(|last| last.plus(pace.interval) <= now);
                // News go along with a message of their group, unless they had one themselves just now.
                let along = what != What::Repeat && pace.renamed.is_none() && rested && open.contains(&key.0);
                if at > now && !along {
                    continue;
                }
                let kind = match what {
                    What::News(kind) => kind,
                    What::Repeat => MessageKind::Firing,
                };
                if kind == MessageKind::Resolved && !pace.ends {
                    if let Some(line) = tracked.lines.get_mut(channel) {
                        line.told = None;
                    }
                    self.dirty_told.insert((channel.clone(), key.0.clone(), key.1));
                    self.dirty_alerts.insert(key);
                    continue;
                }
                // Who hears of no end hears of what came, went and came again while it was away once.
                let again = what == What::Repeat || (kind == MessageKind::Firing && !pace.ends);
                if again && queued(channel, key.1, &key.0) {
                    tracked.lines.entry(channel.clone()).or_insert(Line { told: None, last: now }).last = now;
                    continue;
                }
                let told = tracked.lines.get(channel).and_then(Line::heard);
                // What ends is what was told, whatever it has become since.
                let ends = told.filter(|_| kind == MessageKind::Resolved);
                let severity = ends.map_or(tracked.condition.severity, |told| told.severity);
                let order = Order {
                    id: id(),
                    channel: channel.clone(),
                    kind,
                    condition: Condition { severity, ..tracked.condition.clone() },
                    since: tracked.since,
                    first: told.map(|told| told.message.clone()),
                };
                let told = (kind == MessageKind::Firing).then(|| Told {
                    severity: tracked.condition.severity,
                    at: now,
                    message: order.first.clone().unwrap_or_else(|| order.id.clone()),
                    lost: false,
                });
                tracked.lines.insert(channel.clone(), Line { told, last: now });
                self.dirty_told.insert((channel.clone(), key.0.clone(), key.1));
                self.dirty_alerts.insert(key);
                orders.push((tracked.ended.unwrap_or(tracked.fired), order));
            }
        }
        self.forget(settings, now);
        orders.sort_by_key(|(at, _)| *at);
        orders.into_iter().map(|(_, order)| order).collect()
    }

    /// After a clock that went back, nothing lies in the future.
    fn clamp(&mut self, now: Timestamp) {
        for tracked in self.alerts.values_mut() {
            tracked.fired = tracked.fired.min(now);
            tracked.ended = tracked.ended.map(|at| at.min(now));
            for line in tracked.lines.values_mut() {
                line.last = line.last.min(now);
            }
        }
    }

    /// Forgets what has ended, is told, and limits nothing any more.
    fn forget(&mut self, settings: &NotifySettings, now: Timestamp) {
        self.alerts.retain(|key, tracked| {
            let rests = |line: &Line| line.told.is_some() || line.last.plus(settings.group_interval) > now;
            let stays = tracked.ended.is_none() || tracked.lines.values().any(rests);
            if !stays {
                self.dirty_alerts.insert(key.clone());
            }
            stays
        });
    }

    /// Puts into `batch` what has changed since the last time.
    pub(super) fn collect(&mut self, batch: &mut Batch) {
        for key in std::mem::take(&mut self.dirty_alerts) {
            let kept = self.alerts.get(&key).and_then(|tracked| {
                let owed = tracked.ended.is_none() || tracked.lines.values().any(|line| line.told.is_some());
                let Tracked { since, ended, condition, .. } = tracked;
                owed.then(|| StoredAlert { since: *since, ended: *ended, condition: condition.clone() })
            });
            batch.alerts.push((key.1, key.0, kept));
        }
        for (channel, subject, alert) in std::mem::take(&mut self.dirty_told) {
            let line = self.alerts.get(&(subject.clone(), alert)).and_then(|tracked| tracked.lines.get(&channel));
            let told = line.and_then(|line| line.told.clone());
            batch.told.push((channel, alert, subject, told));
        }
        self.mutes.collect(batch);
    }

    /// The batch could not be written: its rows have to be written later.
    pub(super) fn put_back(&mut self, batch: &Batch) {
        self.dirty_alerts.extend(batch.alerts.iter().map(|(alert, subject, _)| (subject.clone(), *alert)));
        let told = batch.told.iter().map(|(channel, alert, subject, _)| (channel.clone(), subject.clone(), *alert));
        self.dirty_told.extend(told);
        self.mutes.put_back(batch);
    }
}

#[cfg(test)]
#[path = "mute_tests.rs"]
mod mute_tests;

#[cfg(test)]
mod tests {
    use super::super::body::tests::condition;
    use super::*;
    use crate::domain::alert_book::AlertState;

    const PRESSURE: AlertName = AlertName::VolumePressure;
    const EXHAUSTED: AlertName = AlertName::VolumeExhausted;
    const CAP: AlertName = AlertName::CapTripped;

    struct Case {
        groups: Groups,
        channels: Vec<String>,
        settings: NotifySettings,
        ids: u32,
    }

    impl Case {
        fn new() -> Self {
            let channels = vec!["a".to_owned()];
            Self { groups: Groups::default(), channels, settings: NotifySettings::default(), ids: 0 }
        }

        fn change(&mut self, make: impl Fn(Active) -> Change, alert: AlertName, secs: i64) {
            let at = Timestamp::from_secs(secs);
            let active = Active { state: AlertState::Firing, since: at, condition: condition(alert, 0, b"x") };
            self.groups.apply(vec![make(active)], at);
        }

        /// Flushes every second up to `to`, and compares what came out, and when.
        fn check(&mut self, from: i64, to: i64, expected: &[(i64, AlertName, MessageKind)]) {
            let mut seen = Vec::new();
            for secs in from..=to {
                let now = Timestamp::from_secs(secs);
                let due = self.groups.due(&self.channels, &self.settings);
                let ids = &mut self.ids;
                let id = || {
                    *ids += 1;
                    format!("msg_{ids}")
                };
                let orders = self.groups.flush(&self.channels, &self.settings, now, |_, _, _| false, id);
                assert_eq!(!orders.is_empty(), due.is_some_and(|at| at <= now), "at {secs} s");
                seen.extend(orders.into_iter().map(|order| (secs, order.condition.alert, order.kind)));
            }
            assert_eq!(seen, expected);
        }
    }

    use MessageKind::{Firing, Resolved};

    #[test]
    fn the_first_message_waits_for_others_of_its_group() {
        let mut case = Case::new();
        case.change(Change::Fired, PRESSURE, 0);
        case.change(Change::Fired, CAP, 20);
        case.check(0, 400, &[(30, PRESSURE, Firing), (30, CAP, Firing)]);
    }

    #[test]
    fn what_ends_before_it_was_told_sends_nothing() {
        let mut case = Case::new();
        case.change(Change::Fired, PRESSURE, 0);
        case.check(0, 10, &[]);
        case.change(Change::Resolved, PRESSURE, 10);
        case.check(10, 1000, &[]);
        assert!(case.groups.alerts.is_empty());
    }

    #[test]
    fn a_resolution_follows_its_firing_after_the_interval() {
        let mut case = Case::new();
        case.change(Change::Fired, PRESSURE, 0);
        case.check(0, 60, &[(30, PRESSURE, Firing)]);
        case.change(Change::Resolved, PRESSURE, 60);
        case.check(61, 1000, &[(330, PRESSURE, Resolved)]);
        assert!(case.groups.alerts.is_empty());
    }

    /// Fault 120.
    #[test]
    fn a_flapping_alert_is_at_most_one_pair_an_interval() {
        let mut case = Case::new();
        let mut count = 0;
        for round in 0..60 {
            let at = round * 60;
            case.change(Change::Fired, EXHAUSTED, at);
            case.change(Change::Resolved, EXHAUSTED, at + 35);
            for secs in at + 35..at + 60 {
                let now = Timestamp::from_secs(secs);
                count +=
                    case.groups.flush(&case.channels, &case.settings, now, |_, _, _| false, || "id".to_owned()).len();
            }
        }
        assert!(count <= 12, "{count} messages in an hour");
    }

    #[test]
    fn a_critical_alert_does_not_wait_for_its_group() {
        let mut case = Case::new();
        case.change(Change::Fired, PRESSURE, 0);
        case.check(0, 60, &[(30, PRESSURE, Firing)]);
        case.change(Change::Fired, CAP, 61);
        case.check(61, 99, &[]);
        case.change(Change::Fired, EXHAUSTED, 100);
        // It mutes the lesser one, which so waits for its end.
        case.check(100, 400, &[(130, EXHAUSTED, Firing)]);
    }

    #[test]
    fn a_firing_alert_is_told_again() {
        let mut case = Case::new();
        case.settings.repeat_interval = Duration::from_secs(600);
        case.change(Change::Fired, PRESSURE, 0);
        case.check(0, 1300, &[(30, PRESSURE, Firing), (630, PRESSURE, Firing), (1230, PRESSURE, Firing)]);
    }

    #[test]
    fn a_worse_severity_is_news() {
        let mut case = Case::new();
        case.change(Change::Fired, PRESSURE, 0);
        case.check(0, 40, &[(30, PRESSURE, Firing)]);
        case.change(Change::Updated, PRESSURE, 40);
        case.check(40, 100, &[]);
        let worse = |mut active: Active| {
            active.condition.severity = Severity::Critical;
            Change::Updated(active)
        };
        case.change(worse, PRESSURE, 100);
        case.check(100, 1000, &[(100, PRESSURE, Firing)]);
    }

    #[test]
    fn a_clock_that_goes_back_delays_nothing_for_long() {
        let mut case = Case::new();
        case.change(Change::Fired, PRESSURE, 1_000_000);
        case.check(1_000_000, 1_000_030, &[(1_000_030, PRESSURE, Firing)]);
        case.change(Change::Fired, CAP, 1_000_040);
        case.groups.clamp(Timestamp::from_secs(10));
        case.check(10, 400, &[(310, CAP, Firing)]);
    }

    #[test]
    fn a_new_channel_hears_of_what_fires_and_a_removed_one_is_forgotten() {
        let mut case = Case::new();
        case.change(Change::Fired, PRESSURE, 0);
        case.check(0, 40, &[(30, PRESSURE, Firing)]);
        case.channels = vec!["b".to_owned()];
        case.groups.retain_channels(&case.channels);
        case.check(41, 41, &[(41, PRESSURE, Firing)]);
        case.change(Change::Resolved, PRESSURE, 42);
        case.check(42, 1000, &[(341, PRESSURE, Resolved)]);
    }

    /// What a restart would find: the rows written so far, one over the other.
    #[test]
    fn a_restart_still_owes_the_resolution_and_repeats_nothing() {
        let mut case = Case::new();
        case.change(Change::Fired, PRESSURE, 0);
        case.change(Change::Fired, CAP, 0);
        case.check(0, 40, &[(30, PRESSURE, Firing), (30, CAP, Firing)]);
        case.change(Change::Resolved, PRESSURE, 40);
        let mut batch = Batch::default();
        case.groups.collect(&mut batch);
        let alerts = batch.alerts.into_iter().filter_map(|(_, _, kept)| kept).collect();
        let told = batch.told.into_iter().filter_map(|(c, a, s, told)| Some((c, a, s, told?))).collect();
        case.groups = Groups::restore(alerts, told, Timestamp::from_secs(50));
        case.check(50, 400, &[(330, PRESSURE, Resolved)]);
        let mut batch = Batch::default();
        case.groups.collect(&mut batch);
        assert_eq!(batch.told.len(), 1);
        assert!(batch.alerts.iter().any(|(alert, _, kept)| *alert == PRESSURE && kept.is_none()));
    }

    #[test]
    fn later_messages_name_the_first() {
        let mut case = Case::new();
        case.settings.group_interval = Duration::ZERO;
        case.settings.group_wait = Duration::ZERO;
        case.settings.repeat_interval = Duration::from_secs(10);
        case.change(Change::Fired, PRESSURE, 0);
        let mut firsts = Vec::new();
        for (at, id) in [(0, "one"), (10, "two"), (20, "three")] {
            if id == "three" {
                case.change(Change::Resolved, PRESSURE, 15);
            }
            let now = Timestamp::from_secs(at);
            let orders = case.groups.flush(&case.channels, &case.settings, now, |_, _, _| false, || id.to_owned());
            firsts.extend(orders.into_iter().map(|order| (order.id, order.first)));
        }
        let one = Some("one".to_owned());
        assert_eq!(firsts, [("one".to_owned(), None), ("two".to_owned(), one.clone()), ("three".to_owned(), one)]);
    }
}
