//! What is told of muted alerts, and when: on two channels alike, second by second, through restarts and jumps of the clock.

use std::collections::BTreeMap;

use super::super::body::tests::condition;
use super::*;
use crate::domain::alert_book::AlertState;
use crate::domain::names::VolumeId;
use crate::domain::silence::Matchers;
use crate::store::Database;

use AlertName::{CapTripped, VolumeExhausted, VolumePressure};
use Do::{Clock, Fire, Remove, Resolve, Restart, Silence, Worsen};
use MessageKind::{Firing, Resolved};

/// What happens at a moment.
#[derive(Clone, Copy)]
enum Do {
    Fire(AlertName),
    /// It becomes critical.
    Worsen(AlertName),
    Resolve(AlertName),
    /// Alerts of this name, or all of the volume, until then.
    Silence(Option<AlertName>, i64),
    Remove(u64),
    /// The guard is killed, and starts again with what the database has.
    Restart,
    /// The clock is set, by so many seconds.
    Clock(i64),
}

struct Run {
    groups: Groups,
    database: Database,
    /// How far the clock is off.
    off: i64,
}

impl Run {
    fn now(&self, secs: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + secs + self.off)
    }

    fn act(&mut self, what: Do, secs: i64) {
        let now = self.now(secs);
        let active = |alert: AlertName, severity| Active {
            state: AlertState::Firing,
            since: now,
            condition: Condition { severity, ..condition(alert, 0, b"x") },
        };
        match what {
            Fire(alert) => self.groups.apply(vec![Change::Fired(active(alert, alert.severity()))], now),
            Worsen(alert) => self.groups.apply(vec![Change::Updated(active(alert, Severity::Critical))], now),
            Resolve(alert) => self.groups.apply(vec![Change::Resolved(active(alert, alert.severity()))], now),
            Silence(alert, until) => {
                let volume = alert.is_none().then(|| VolumeId::new("data"));
                let matchers = Matchers { alert, tree: None, volume };
                self.groups.mutes.add(matchers, (self.now(until), now), "why", "root");
            }
            Remove(id) => assert!(self.groups.mutes.end(id, now).is_some(), "silence {id} is not in effect"),
            Restart => {
                let loaded = self.database.read_outbox().unwrap();
                self.groups = Groups::restore(loaded.alerts, loaded.told, now);
                self.groups.mutes = Mutes::restore(loaded.silences);
            }
            Clock(by) => self.off += by,
        }
    }
}

fn check(steps: &[(i64, Do)], end: i64, expected: &[(i64, AlertName, MessageKind)]) {
    let channels = ["a".to_owned(), "b".to_owned()];
    let settings = NotifySettings { repeat_interval: Duration::from_secs(600), ..NotifySettings::default() };
    let mut run = Run { groups: Groups::default(), database: Database::memory().unwrap(), off: 0 };
    let mut seen: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for secs in 0..=end {
        steps.iter().filter(|(at, _)| *at == secs).for_each(|(_, what)| run.act(*what, secs));
        let now = run.now(secs);
        run.groups.mutes.pass(now);
        let due = run.groups.due(&channels, &settings).is_some_and(|at| at <= now);
        let orders = run.groups.flush(&channels, &settings, now, |_, _, _| false, || format!("msg_{secs}"));
        assert_eq!(!orders.is_empty(), due, "at {secs} s");
        for order in orders {
            seen.entry(order.channel).or_default().push((secs, order.condition.alert, order.kind));
        }
        let mut batch = Batch::default();
        run.groups.collect(&mut batch);
        run.database.write_outbox(&batch).unwrap();
    }
    for channel in channels {
        assert_eq!(seen.remove(&channel).unwrap_or_default(), expected, "channel {channel}");
    }
}

#[test]
fn a_silence_before_the_alert_mutes_it_and_its_resolution() {
    let steps = [(0, Silence(Some(VolumePressure), 9000)), (10, Fire(VolumePressure)), (800, Resolve(VolumePressure))];
    check(&steps, 1500, &[]);
}

#[test]
fn a_silence_in_between_leaves_the_resolution_and_stops_the_repetition() {
    let steps = [(0, Fire(VolumePressure)), (100, Silence(None, 9000)), (800, Resolve(VolumePressure))];
    check(&steps, 1500, &[(30, VolumePressure, Firing), (800, VolumePressure, Resolved)]);
    let steps = [(0, Fire(VolumePressure)), (100, Silence(Some(CapTripped), 9000)), (800, Resolve(VolumePressure))];
    let told = [(30, VolumePressure, Firing), (630, VolumePressure, Firing), (930, VolumePressure, Resolved)];
    check(&steps, 1500, &told);
}

#[test]
fn what_still_fires_when_its_silence_ends_is_told_without_waiting_again() {
    let steps = [(0, Silence(None, 200)), (10, Fire(VolumePressure)), (400, Resolve(VolumePressure))];
    check(&steps, 900, &[(200, VolumePressure, Firing), (500, VolumePressure, Resolved)]);
    let steps = [(0, Silence(None, 9000)), (10, Fire(VolumePressure)), (150, Remove(1))];
    check(&steps, 400, &[(150, VolumePressure, Firing)]);
    // Two silences: the later end counts.
    let steps = [(0, Silence(None, 100)), (0, Silence(Some(VolumePressure), 250)), (10, Fire(VolumePressure))];
    check(&steps, 400, &[(250, VolumePressure, Firing)]);
    // What was told before is told again when its time has come, and not before.
    let steps = [(0, Fire(VolumePressure)), (100, Silence(None, 900))];
    check(&steps, 1000, &[(30, VolumePressure, Firing), (900, VolumePressure, Firing)]);
    let steps = [(0, Fire(VolumePressure)), (100, Silence(None, 200))];
    check(&steps, 1000, &[(30, VolumePressure, Firing), (630, VolumePressure, Firing)]);
}

#[test]
fn a_muted_alert_does_not_go_along_with_others_of_its_group() {
    let steps = [(0, Silence(Some(VolumePressure), 9000)), (0, Fire(VolumePressure)), (10, Fire(CapTripped))];
    check(&steps, 400, &[(40, CapTripped, Firing)]);
}

#[test]
fn a_restart_keeps_silences_and_what_is_owed() {
    let steps = [(0, Silence(None, 300)), (10, Fire(VolumePressure)), (100, Restart), (200, Restart)];
    check(&steps, 400, &[(300, VolumePressure, Firing)]);
    let steps = [(0, Fire(VolumePressure)), (100, Silence(None, 9000)), (200, Restart), (800, Resolve(VolumePressure))];
    check(&steps, 1500, &[(30, VolumePressure, Firing), (800, VolumePressure, Resolved)]);
    let steps = [(0, Silence(None, 9000)), (10, Fire(VolumePressure)), (100, Remove(1)), (101, Restart)];
    check(&steps, 400, &[(100, VolumePressure, Firing)]);
}

#[test]
fn a_clock_that_jumps_makes_no_silence_longer() {
    // Back by a day: from then on it lasts for its whole span, and no longer.
    let steps = [(0, Silence(None, 300)), (10, Fire(VolumePressure)), (100, Clock(-86_400))];
    check(&steps, 900, &[(400, VolumePressure, Firing)]);
    // Ahead: it is over, and the alert is told rather than lost; back again it stays over.
    let steps = [(0, Silence(None, 300)), (10, Fire(VolumePressure)), (100, Clock(86_400)), (110, Clock(-86_400))];
    check(&steps, 300, &[(100, VolumePressure, Firing)]);
}

#[test]
fn a_critical_alert_mutes_a_lesser_one_about_the_same_thing() {
    // The critical one is there first.
    let steps = [(0, Fire(VolumeExhausted)), (10, Fire(VolumePressure)), (500, Resolve(VolumePressure))];
    check(&steps, 600, &[(30, VolumeExhausted, Firing)]);
    // It comes before the lesser one is told, and is over before that one: which is told along with the resolution.
    let steps = [(0, Fire(VolumePressure)), (20, Fire(VolumeExhausted)), (500, Resolve(VolumeExhausted))];
    let told = [(50, VolumeExhausted, Firing), (500, VolumePressure, Firing), (500, VolumeExhausted, Resolved)];
    check(&steps, 600, &told);
    // It comes after the lesser one was told, whose resolution is still owed.
    let steps = [
        (0, Fire(VolumePressure)),
        (100, Fire(VolumeExhausted)),
        (700, Resolve(VolumePressure)),
        (720, Resolve(VolumeExhausted)),
    ];
    let told = [
        (30, VolumePressure, Firing),
        (130, VolumeExhausted, Firing),
        (700, VolumePressure, Resolved),
        (1000, VolumeExhausted, Resolved),
    ];
    check(&steps, 1200, &told);
}

#[test]
fn an_alert_that_becomes_critical_mutes_others_and_not_itself() {
    let steps = [(0, Fire(VolumePressure)), (100, Worsen(VolumePressure)), (110, Fire(CapTripped))];
    check(&steps, 500, &[(30, VolumePressure, Firing), (100, VolumePressure, Firing)]);
    // Muted until it is critical itself.
    let steps = [(0, Fire(VolumeExhausted)), (10, Fire(VolumePressure)), (200, Worsen(VolumePressure))];
    check(&steps, 500, &[(30, VolumeExhausted, Firing), (200, VolumePressure, Firing)]);
    // A person's silence holds for what becomes worse, too.
    let steps = [(0, Silence(Some(VolumePressure), 9000)), (10, Fire(VolumePressure)), (200, Worsen(VolumePressure))];
    check(&steps, 500, &[]);
}
