//! Alerts as states: a condition that lasts becomes one, and it ends only when its condition has stayed away.
//!
//! Quiet is the absence of an entry, Resolved is a [`Change`] that ends one; between them an alert is pending or firing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::alert::{AlertName, Condition, Subject};
use super::settings::{AlertTuning, Severity};
use super::units::Timestamp;

/// How long a firing alert's condition must be absent before it resolves: one missed tick sends nothing.
pub const KEEP: Duration = Duration::from_secs(30);

/// How long the condition of an alert must last before it fires, unless the configuration says otherwise.
#[must_use]
pub fn hold_for(alert: AlertName) -> Duration {
    match alert {
        AlertName::VolumeBlind | AlertName::MediaServerUnreachable => Duration::from_secs(60),
        // A database that is started again, or a file that is just being replaced, is no reason to call anybody.
        AlertName::CatalogueUntrusted => Duration::from_secs(300),
        // `VolumePressure` is timed by whoever makes its condition; of the others one sighting is enough.
        AlertName::VolumePressure
        | AlertName::VolumeExhausted
        | AlertName::VolumeReadOnly
        | AlertName::SpaceNotReclaimed
        | AlertName::DeletionFailing
        | AlertName::RecordingLocked
        | AlertName::OrphansGrowing
        | AlertName::CapTripped
        | AlertName::ClockSuspect
        | AlertName::RetentionBroken
        | AlertName::ArchiveFailing
        | AlertName::RecordingStopped
        | AlertName::DeliveryFailing => Duration::ZERO,
    }
}

/// Where an alert stands. A quiet one has no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertState {
    /// Its condition holds, and has not lasted long enough.
    Pending,
    /// It fires.
    Firing,
}

impl AlertState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// An alert that is not quiet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    /// Pending or firing.
    pub state: AlertState,
    /// When its condition was first seen.
    pub since: Timestamp,
    /// What is wrong, as seen last. The configuration's severity stands here, if it names one.
    pub condition: Condition,
}

impl Active {
    /// Which alert.
    #[must_use]
    pub fn alert(&self) -> AlertName {
        self.condition.alert
    }

    /// How bad.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.condition.severity
    }

    /// What it is about.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.condition.subject
    }
}

/// A firing alert that was kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// When its condition was first seen.
    pub since: Timestamp,
    /// As seen last.
    pub condition: Condition,
}

/// What one step changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It fires now and did not before.
    Fired(Active),
    /// It still fires; its severity, words or numbers are others.
    Updated(Active),
    /// It fires no more. The condition is the last one that was seen.
    Resolved(Active),
}

#[derive(Debug)]
struct Entry {
    active: Active,
    /// Since when the condition of a firing alert is absent.
    gone: Option<Timestamp>,
    /// Restored and not seen again yet.
    restored: bool,
}

/// All alerts that are not quiet.
#[derive(Debug, Default)]
pub struct AlertBook {
    entries: BTreeMap<(AlertName, Subject), Entry>,
}

impl AlertBook {
    /// A book without alerts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A book in which these fire already: a restart neither forgets an alert nor tells it again.
    #[must_use]
    pub fn restore(firing: Vec<Firing>) -> Self {
        let entry = |kept: Firing| {
            let key = (kept.condition.alert, kept.condition.subject.clone());
            let active = Active { state: AlertState::Firing, since: kept.since, condition: kept.condition };
            (key, Entry { active, gone: None, restored: true })
        };
        Self { entries: firing.into_iter().map(entry).collect() }
    }

    /// The alerts that are pending or firing.
    pub fn active(&self) -> impl Iterator<Item = &Active> {
        self.entries.values().map(|entry| &entry.active)
    }

    /// Moves every alert by all the conditions that hold at `now`, and says what changed. An alert whose condition is absent because
    /// nobody can tell yet, which `untold` says of an alert and whether it was restored and not seen again, stays as it is.
    pub fn step(
        &mut self,
        conditions: &[Condition],
        untold: impl Fn(&Active, bool) -> bool,
        tuning: &[AlertTuning],
        now: Timestamp,
    ) -> Vec<Change> {
        let mut held = BTreeMap::new();
        for condition in conditions {
            let tuned = tuning.iter().find(|t| t.alert == condition.alert);
            if tuned.is_some_and(|t| !t.enabled) {
                continue;
            }
            let mut condition = condition.clone();
            if let Some(severity) = tuned.and_then(|t| t.severity) {
                condition.severity = severity;
            }
            let wait = tuned.and_then(|t| t.hold_for).unwrap_or_else(|| hold_for(condition.alert));
            let key = (condition.alert, condition.subject.clone());
            // Of two with one name and subject the worse one speaks.
            let worse =
                held.get(&key).is_none_or(|(kept, _): &(Condition, Duration)| condition.severity > kept.severity);
            if worse {
                held.insert(key, (condition, wait));
            }
        }
        let mut changes = Vec::new();
        self.entries.retain(|key, entry| {
            held.contains_key(key) || untold(&entry.active, entry.restored) || entry.miss(now, &mut changes)
        });
        for (key, (condition, wait)) in held {
            let entry = self.entries.entry(key).or_insert_with(|| Entry {
                active: Active { state: AlertState::Pending, since: now, condition: condition.clone() },
                gone: None,
                restored: false,
            });
            entry.meet(condition, wait, now, &mut changes);
        }
        changes
    }
}

impl Entry {
    /// Its condition is absent. Says whether the entry stays.
    fn miss(&mut self, now: Timestamp, changes: &mut Vec<Change>) -> bool {
        match self.active.state {
            AlertState::Pending => false,
            AlertState::Firing => {
                // A clock that went back must not keep it for longer.
                let gone = self.gone.map_or(now, |at| at.min(now));
                self.gone = Some(gone);
                let stays = now.since(gone) < KEEP;
                if !stays {
                    changes.push(Change::Resolved(self.active.clone()));
                }
                stays
            }
        }
    }

    /// Its condition holds.
    fn meet(&mut self, condition: Condition, wait: Duration, now: Timestamp, changes: &mut Vec<Change>) {
        self.gone = None;
        self.restored = false;
        let changed = self.active.condition != condition;
        self.active.condition = condition;
        match self.active.state {
            AlertState::Pending => {
                self.active.since = self.active.since.min(now);
                if now.since(self.active.since) >= wait {
                    self.active.state = AlertState::Firing;
                    changes.push(Change::Fired(self.active.clone()));
                }
            }
            AlertState::Firing if changed => changes.push(Change::Updated(self.active.clone())),
            AlertState::Firing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::alert::Case;
    use super::super::fact::{Fact, FactName, Facts};
    use super::super::names::VolumeId;
    use super::super::recording::Tally;
    use super::*;

    fn condition(alert: AlertName, text: &str) -> Condition {
        Condition {
            alert,
            severity: alert.severity(),
            subject: Subject::Volume(VolumeId::new("data")),
            case: Case::Only,
            facts: said(text),
            unreclaimed: Tally::default(),
            items: Vec::new(),
        }
    }

    fn said(text: &str) -> Facts {
        Facts::from([(FactName::Detail, Fact::Text(text.to_owned()))])
    }

    fn told(changes: &[Change]) -> String {
        let one = |change: &Change| match change {
            Change::Fired(_) => 'F',
            Change::Updated(_) => 'U',
            Change::Resolved(_) => 'R',
        };
        changes.iter().map(one).collect()
    }

    /// Each moment: seconds, what the condition says (`-` for none), and the changes expected.
    fn check(mut book: AlertBook, alert: AlertName, tuning: &[AlertTuning], moments: &[(i64, &str, &str)]) {
        for (secs, text, expected) in moments {
            let held: Vec<_> = if *text == "-" { Vec::new() } else { vec![condition(alert, text)] };
            let changes = book.step(&held, |_, _| false, tuning, Timestamp::from_secs(*secs));
            assert_eq!(told(&changes), *expected, "at {secs} s");
        }
    }

    fn tuned(alert: AlertName) -> AlertTuning {
        AlertTuning { alert, enabled: true, hold_for: None, severity: None }
    }

    #[test]
    fn fires_once_and_resolves_when_its_condition_stays_away() {
        let moments = [(0, "a", "F"), (10, "a", ""), (20, "-", ""), (49, "-", ""), (50, "-", "R"), (60, "-", "")];
        check(AlertBook::new(), AlertName::VolumeReadOnly, &[], &moments);
    }

    #[test]
    fn a_flap_tells_nothing() {
        let moments = [(0, "a", "F"), (10, "-", ""), (20, "a", ""), (30, "-", ""), (40, "-", ""), (50, "a", "")];
        check(AlertBook::new(), AlertName::VolumeReadOnly, &[], &moments);
    }

    #[test]
    fn waits_until_its_condition_has_lasted() {
        let moments = [(0, "a", ""), (59, "a", ""), (60, "a", "F")];
        check(AlertBook::new(), AlertName::VolumeBlind, &[], &moments);
        let moments = [(0, "a", ""), (50, "-", ""), (55, "a", ""), (110, "a", ""), (115, "a", "F")];
        check(AlertBook::new(), AlertName::VolumeBlind, &[], &moments);
    }

    #[test]
    fn new_numbers_are_an_update() {
        check(AlertBook::new(), AlertName::CapTripped, &[], &[(0, "1 file", "F"), (1, "2 files", "U"), (2, "-", "")]);
    }

    #[test]
    fn a_clock_that_jumps_neither_hastens_nor_keeps() {
        let moments = [(1000, "a", "F"), (90_000, "-", ""), (1000, "-", ""), (1029, "-", ""), (1030, "-", "R")];
        check(AlertBook::new(), AlertName::ClockSuspect, &[], &moments);
        let moments = [(5000, "a", ""), (10, "a", ""), (70, "a", "F")];
        check(AlertBook::new(), AlertName::VolumeBlind, &[], &moments);
    }

    #[test]
    fn tuning_switches_off_delays_and_weighs() {
        let alert = AlertName::CapTripped;
        let off = AlertTuning { enabled: false, ..tuned(alert) };
        check(AlertBook::new(), alert, &[off], &[(0, "a", ""), (99, "a", "")]);
        let later = AlertTuning { hold_for: Some(Duration::from_secs(10)), ..tuned(alert) };
        check(AlertBook::new(), alert, &[later], &[(0, "a", ""), (9, "a", ""), (10, "a", "F")]);

        let mut book = AlertBook::new();
        let info = AlertTuning { severity: Some(Severity::Info), ..tuned(alert) };
        let changes = book.step(&[condition(alert, "a")], |_, _| false, &[info], Timestamp::from_secs(0));
        assert!(matches!(&changes[..], [Change::Fired(active)] if active.severity() == Severity::Info));
    }

    #[test]
    fn an_alert_that_is_switched_off_while_it_fires_resolves() {
        let alert = AlertName::CapTripped;
        let off = AlertTuning { enabled: false, ..tuned(alert) };
        let mut book = AlertBook::new();
        book.step(&[condition(alert, "a")], |_, _| false, &[], Timestamp::from_secs(0));
        book.step(&[condition(alert, "a")], |_, _| false, &[off], Timestamp::from_secs(10));
        let changes = book.step(&[condition(alert, "a")], |_, _| false, &[off], Timestamp::from_secs(40));
        assert_eq!(told(&changes), "R");
    }

    #[test]
    fn a_restart_neither_forgets_nor_repeats() {
        let alert = AlertName::DeletionFailing;
        let kept = || vec![Firing { since: Timestamp::from_secs(0), condition: condition(alert, "a") }];
        check(AlertBook::restore(kept()), alert, &[], &[(500, "a", ""), (510, "-", ""), (540, "-", "R")]);
        check(AlertBook::restore(kept()), alert, &[], &[(500, "-", ""), (529, "-", ""), (530, "-", "R")]);
        let book = AlertBook::restore(kept());
        let active: Vec<_> = book.active().collect();
        assert_eq!(active.len(), 1);
        assert_eq!((active[0].state, active[0].since), (AlertState::Firing, Timestamp::from_secs(0)));
    }

    #[test]
    fn what_nobody_can_tell_yet_stays_as_it_is() {
        let alert = AlertName::VolumeBlind;
        let kept = vec![Firing { since: Timestamp::from_secs(0), condition: condition(alert, "a") }];
        let mut book = AlertBook::restore(kept);
        let mut at = |secs, untold: bool| told(&book.step(&[], |_, _| untold, &[], Timestamp::from_secs(secs)));
        let seen: Vec<_> =
            [(10, true), (4000, true), (4010, false), (4039, false), (4040, false)].map(|(s, u)| at(s, u)).into();
        assert_eq!(seen, ["", "", "", "", "R"]);
        // One that waits to fire goes on waiting.
        let mut book = AlertBook::new();
        book.step(&[condition(alert, "a")], |_, _| false, &[], Timestamp::from_secs(0));
        book.step(&[], |_, _| true, &[], Timestamp::from_secs(30));
        let changes = book.step(&[condition(alert, "a")], |_, _| false, &[], Timestamp::from_secs(60));
        assert_eq!(told(&changes), "F");
    }

    #[test]
    fn subjects_are_told_apart_and_the_worse_of_two_speaks() {
        let mut book = AlertBook::new();
        let mild = Condition { severity: Severity::Info, ..condition(AlertName::CapTripped, "mild") };
        let bad = condition(AlertName::CapTripped, "bad");
        let guard = Condition { subject: Subject::Guard, ..condition(AlertName::CapTripped, "guard") };
        let changes = book.step(&[mild.clone(), bad, mild, guard], |_, _| false, &[], Timestamp::from_secs(0));
        assert_eq!(told(&changes), "FF");
        assert!(book.active().any(|a| a.condition.facts == said("bad")));
    }
}
