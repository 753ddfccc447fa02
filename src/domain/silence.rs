//! Which alerts are muted, and why: by a person's silence, or by a worse alert about the same thing.
//!
//! A muted alert fires, is listed and counted; only nobody is told of it. What was told before is still resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::alert::{AlertName, Condition, Subject};
use super::deletion::words;
use super::names::{TreeId, VolumeId};
use super::settings::Severity;
use super::text::steers;
use super::units::Timestamp;

/// A silence lasts no longer: what is muted for good is switched off in the configuration, where others see it.
pub const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// A silence that has ended is kept so long, to be shown.
pub const SHOWN: Duration = Duration::from_secs(30 * 86_400);

/// A reason has at most so many characters.
const REASON: usize = 1000;

/// On which volume each tree lies.
pub type Homes = BTreeMap<TreeId, VolumeId>;

/// Which alerts a silence is for: all that is given must be so; nothing given is every alert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matchers {
    /// Alerts of this name.
    pub alert: Option<AlertName>,
    /// Alerts about this tree.
    pub tree: Option<TreeId>,
    /// Alerts about this volume, and about the trees on it.
    pub volume: Option<VolumeId>,
}

impl Matchers {
    /// Whether an alert is one of these.
    #[must_use]
    pub fn cover(&self, alert: AlertName, subject: &Subject, homes: &Homes) -> bool {
        let (tree, volume) = match subject {
            // A catalogue or a media server may know several trees on several volumes, so it is about none of them.
            Subject::Guard | Subject::Catalogue(_) | Subject::MediaServer(_) => (None, None),
            Subject::Volume(volume) => (None, Some(volume)),
            Subject::Tree(tree) => (Some(tree), homes.get(tree)),
        };
        self.alert.is_none_or(|wanted| wanted == alert)
            && (self.tree.is_none() || self.tree.as_ref() == tree)
            && (self.volume.is_none() || self.volume.as_ref() == volume)
    }
}

impl fmt::Display for Matchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.alert {
            Some(alert) => write!(f, "{alert}")?,
            None => f.write_str("all alerts")?,
        }
        if let Some(tree) = &self.tree {
            write!(f, " of tree {tree}")?;
        }
        if let Some(volume) = &self.volume {
            write!(f, " {} volume {volume}", if self.tree.is_some() { "on" } else { "of" })?;
        }
        Ok(())
    }
}

/// A person's wish not to be told of some alerts for some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// Its number.
    pub id: u64,
    /// Which alerts.
    pub matchers: Matchers,
    /// When it ends by itself.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who made it.
    pub who: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ended, by itself or by a person.
    pub ended: Option<Timestamp>,
}

impl Silence {
    /// Whether it mutes at that moment.
    #[must_use]
    pub fn in_effect(&self, at: Timestamp) -> bool {
        self.ended.is_none() && at < self.until
    }

    /// A clock that went back behind its beginning must not make it longer. Says whether it was moved.
    pub fn clamp(&mut self, now: Timestamp) -> bool {
        let moved = self.ended.is_none() && now < self.created;
        if moved {
            self.until = now.plus(self.until.since(self.created));
            self.created = now;
        }
        moved
    }
}

words! {
    /// What happened to a silence.
    SilenceChange {
        /// A person made it.
        Made = "made",
        /// A person ended it.
        Removed = "removed",
        /// Its time is over.
        Expired = "expired",
    }
}

/// What a person asks for, in their own words.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The name of an alert.
    pub alert: Option<&'a str>,
    /// The name of a tree.
    pub tree: Option<&'a str>,
    /// The name of a volume.
    pub volume: Option<&'a str>,
    /// Every alert is meant.
    pub all: bool,
    /// Until when.
    pub until: Timestamp,
    /// Why.
    pub reason: &'a str,
}

impl Wanted<'_> {
    /// Which alerts are meant.
    ///
    /// # Errors
    /// A sentence that says what is wrong, and what would be right.
    pub fn check(&self, homes: &Homes, now: Timestamp) -> Result<Matchers, String> {
        let alerts = AlertName::ALL.iter().map(|alert| alert.as_str());
        known("alert", self.alert, alerts.collect())?;
        known("tree", self.tree, homes.keys().map(TreeId::as_str).collect())?;
        known("volume", self.volume, homes.values().map(VolumeId::as_str).collect())?;
        let named = self.alert.is_some() || self.tree.is_some() || self.volume.is_some();
        if named == self.all {
            let what = if named { "`all` cannot go with" } else { "say which alerts: every one (`all`), or name" };
            return Err(format!("{what} an `alert`, a `tree` or a `volume`"));
        }
        if self.until <= now {
            return Err(format!("`until` is {}, and that is over; it is {now} now", self.until));
        }
        if self.until.since(now) > LONGEST {
            return Err(format!(
                "`until` is {}, more than a year ahead; an alert that nobody wants is switched off by `notify.alerts`",
                self.until
            ));
        }
        let reason = self.reason.trim();
        if reason.is_empty() || reason.chars().count() > REASON || reason.chars().any(|c| c.is_control() || steers(c)) {
            return Err(format!("`reason` must be a line of 1 to {REASON} characters, for whoever wonders later"));
        }
        Ok(Matchers {
            alert: self.alert.and_then(AlertName::from_word),
            tree: self.tree.map(TreeId::new),
            volume: self.volume.map(VolumeId::new),
        })
    }
}

fn known(what: &str, name: Option<&str>, there: BTreeSet<&str>) -> Result<(), String> {
    match name {
        Some(name) if !there.contains(name) => {
            let there: Vec<&str> = there.into_iter().collect();
            Err(format!("there is no {what} `{}`; there are: {}", name.escape_debug(), there.join(", ")))
        }
        Some(_) | None => Ok(()),
    }
}

/// Why nobody is told of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mute {
    /// A person does not want to be.
    Silence {
        /// The number of the silence; of several, the one that lasts longest.
        id: u64,
        /// Until when.
        until: Timestamp,
    },
    /// A critical alert about the same thing fires, and says more.
    Alert(AlertName),
}

/// Why nobody is told of an alert at `now`; nothing if everybody is. `firing` are the alerts that fire.
#[must_use]
pub fn muted_by<'a, 'b>(
    condition: &Condition,
    silences: impl IntoIterator<Item = &'a Silence>,
    firing: impl IntoIterator<Item = &'b Condition>,
    homes: &Homes,
    now: Timestamp,
) -> Option<Mute> {
    let covers = |silence: &&Silence| silence.matchers.cover(condition.alert, &condition.subject, homes);
    let silences = silences.into_iter().filter(|silence| silence.in_effect(now)).filter(covers);
    if let Some(silence) = silences.max_by_key(|silence| silence.until) {
        return Some(Mute::Silence { id: silence.id, until: silence.until });
    }
    // What is about the guard as a whole is not one thing: that nothing is delivered says nothing about the clock.
    if condition.severity == Severity::Critical || condition.subject == Subject::Guard {
        return None;
    }
    let mut worse = firing.into_iter().filter(|other| {
        other.severity == Severity::Critical && other.subject == condition.subject && other.alert != condition.alert
    });
    worse.next().map(|other| Mute::Alert(other.alert))
}

#[cfg(test)]
mod tests {
    use super::super::alert::Case;
    use super::super::conditions::condition;
    use super::super::names::CatalogueId;
    use super::*;

    fn homes() -> Homes {
        BTreeMap::from([(TreeId::new("live"), VolumeId::new("data")), (TreeId::new("old"), VolumeId::new("cold"))])
    }

    fn tree(name: &str) -> Subject {
        Subject::Tree(TreeId::new(name))
    }

    fn volume(name: &str) -> Subject {
        Subject::Volume(VolumeId::new(name))
    }

    fn wanted<'a>(alert: &'a str, tree: &'a str, volume: &'a str) -> Wanted<'a> {
        let given = |name: &'a str| (!name.is_empty()).then_some(name);
        let (alert, tree, volume) = (given(alert), given(tree), given(volume));
        let all = alert.is_none() && tree.is_none() && volume.is_none();
        Wanted { alert, tree, volume, all, until: Timestamp::from_secs(100), reason: "why" }
    }

    fn silence(id: u64, of: (&str, &str, &str), until: i64) -> Silence {
        Silence {
            id,
            matchers: wanted(of.0, of.1, of.2).check(&homes(), Timestamp::from_secs(0)).unwrap(),
            until: Timestamp::from_secs(until),
            reason: "why".to_owned(),
            who: "root".to_owned(),
            created: Timestamp::from_secs(0),
            ended: None,
        }
    }

    #[test]
    fn all_that_a_silence_names_must_be_so() {
        use AlertName::{CapTripped, CatalogueUntrusted, VolumePressure};
        let wvp = || Subject::Catalogue(CatalogueId::new("wvp"));
        let rows = [
            (("", "", ""), VolumePressure, Subject::Guard, true),
            (("", "", ""), CatalogueUntrusted, wvp(), true),
            (("CatalogueUntrusted", "", ""), CatalogueUntrusted, wvp(), true),
            (("", "live", ""), CatalogueUntrusted, wvp(), false),
            (("", "", "data"), CatalogueUntrusted, wvp(), false),
            (("VolumePressure", "", ""), VolumePressure, volume("cold"), true),
            (("VolumePressure", "", ""), CapTripped, volume("cold"), false),
            (("", "live", ""), CapTripped, tree("live"), true),
            (("", "live", ""), CapTripped, tree("old"), false),
            (("", "live", ""), VolumePressure, volume("data"), false),
            (("", "", "data"), VolumePressure, volume("data"), true),
            (("", "", "data"), CapTripped, tree("live"), true),
            (("", "", "data"), CapTripped, tree("old"), false),
            (("", "", "data"), CapTripped, tree("unknown"), false),
            (("", "", "data"), VolumePressure, Subject::Guard, false),
            (("", "live", "data"), CapTripped, tree("live"), true),
            (("", "live", "cold"), CapTripped, tree("live"), false),
            (("CapTripped", "live", "data"), CapTripped, tree("live"), true),
            (("CapTripped", "live", "data"), VolumePressure, tree("live"), false),
        ];
        for (of, alert, subject, expected) in rows {
            let got = silence(1, of, 100).matchers.cover(alert, &subject, &homes());
            assert_eq!(got, expected, "{of:?} {alert} {subject:?}");
        }
    }

    #[test]
    fn a_wish_that_cannot_be_meant_is_refused_with_what_would_be_right() {
        let fine = wanted("VolumePressure", "", "data");
        let year = Timestamp::from_secs(2 * 366 * 86_400);
        let long = "x".repeat(REASON + 1);
        let rows = [
            (fine, ""),
            (wanted("", "", ""), ""),
            (Wanted { all: true, ..fine }, "`all` cannot go with"),
            (Wanted { all: false, ..wanted("", "", "") }, "say which alerts"),
            (wanted("Volumepressure", "", ""), "there are: ArchiveFailing, CapTripped"),
            (wanted("", "dead\u{1b}", ""), "there is no tree `dead\\u{1b}`; there are: live, old"),
            (wanted("", "", "live"), "there is no volume `live`; there are: cold, data"),
            (Wanted { until: Timestamp::from_secs(50), ..fine }, "that is over; it is 1970-01-01T00:00:50Z now"),
            (Wanted { until: year, ..fine }, "more than a year ahead"),
            (Wanted { reason: "  ", ..fine }, "`reason` must be a line"),
            (Wanted { reason: "a\nb", ..fine }, "`reason` must be a line"),
            (Wanted { reason: "\u{200b}", ..fine }, "`reason` must be a line"),
            (Wanted { reason: &long, ..fine }, "`reason` must be a line"),
        ];
        for (wanted, expected) in rows {
            let got = wanted.check(&homes(), Timestamp::from_secs(50)).err().unwrap_or_default();
            assert!(got.contains(expected) && got.is_empty() == expected.is_empty(), "{wanted:?}: {got}");
        }
    }

    #[test]
    fn an_alert_is_muted_by_a_silence_or_by_a_worse_alert_about_the_same() {
        use AlertName::{CapTripped, ClockSuspect, DeliveryFailing, VolumeBlind, VolumeExhausted, VolumePressure};
        let short = silence(1, ("", "", "data"), 60);
        let long = silence(2, ("VolumePressure", "", ""), 90);
        let ended = Silence { ended: Some(Timestamp::from_secs(1)), ..silence(3, ("", "", ""), 99) };
        let fires = |alert, subject| condition(alert, subject, Case::Only, []);
        let (exhausted, blind) = (fires(VolumeExhausted, volume("data")), fires(VolumeBlind, volume("data")));
        let (other, guard) = (fires(VolumeExhausted, volume("cold")), fires(DeliveryFailing, Subject::Guard));
        let check = |now, alert, subject, silences: &[&Silence], firing: &[&Condition], expected| {
            let silences = silences.iter().copied();
            let now = Timestamp::from_secs(now);
            let got = muted_by(&fires(alert, subject), silences, firing.iter().copied(), &homes(), now);
            assert_eq!(got, expected, "{alert} at {now}");
        };
        let until = |id, secs| Some(Mute::Silence { id, until: Timestamp::from_secs(secs) });
        check(0, VolumePressure, volume("data"), &[&ended], &[], None);
        check(0, VolumePressure, volume("data"), &[&long, &short], &[&exhausted], until(2, 90));
        check(0, VolumeExhausted, volume("data"), &[&long, &short], &[], until(1, 60));
        check(60, VolumeExhausted, volume("data"), &[&long, &short], &[], None);
        check(90, VolumePressure, volume("data"), &[&long, &short], &[], None);
        check(90, VolumePressure, volume("data"), &[&long], &[&exhausted], Some(Mute::Alert(VolumeExhausted)));
        check(0, VolumePressure, volume("data"), &[], &[&other], None);
        check(0, CapTripped, tree("live"), &[], &[&exhausted], None);
        check(0, VolumeExhausted, volume("data"), &[], &[&blind], None);
        check(0, ClockSuspect, Subject::Guard, &[], &[&guard], None);
    }

    #[test]
    fn a_clock_that_goes_back_makes_no_silence_longer() {
        let made = |now: i64| Silence { created: Timestamp::from_secs(now), ..silence(1, ("", "", ""), now + 60) };
        for (now, until, moved) in [(1000, 1060, false), (1030, 1060, false), (999, 1059, true), (10, 70, true)] {
            let mut silence = made(1000);
            assert_eq!(silence.clamp(Timestamp::from_secs(now)), moved);
            assert_eq!(silence.until, Timestamp::from_secs(until), "at {now}");
        }
    }

    #[test]
    fn what_a_silence_is_for_reads_as_a_sentence() {
        for (of, expected) in [
            (("", "", ""), "all alerts"),
            (("CapTripped", "live", ""), "CapTripped of tree live"),
            (("", "", "data"), "all alerts of volume data"),
            (("CapTripped", "live", "data"), "CapTripped of tree live on volume data"),
        ] {
            assert_eq!(silence(1, of, 1).matchers.to_string(), expected);
        }
    }
}
