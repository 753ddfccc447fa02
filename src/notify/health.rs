//! Whether the channels deliver. What is known of a channel survives restarts and changes of its settings.

use std::time::Duration;

use super::notifier::{Notifier, State};
use super::queue::millis;
use crate::domain::alert::AlertName;
use crate::domain::settings::{ChannelSettings, NotifySettings};
use crate::domain::units::Timestamp;
use crate::store::{Batch, StoredAlert, StoredHealth};

/// How a channel does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    /// Its last send was accepted.
    Working {
        /// Since then all were, in time that only moves forward, milliseconds.
        since: i64,
    },
    /// Its last sends were not.
    Failing {
        /// The first of them, in time that only moves forward, milliseconds.
        since: i64,
        /// How many.
        times: u32,
        /// Nothing is sent before.
        not_before: Option<Timestamp>,
        /// Why the last one was not.
        error: String,
    },
}

impl Health {
    /// How many sends in a row were not accepted.
    pub(super) fn failures(health: Option<&Self>) -> u32 {
        match health {
            Some(Self::Failing { times, .. }) => *times,
            Some(Self::Working { .. }) | None => 0,
        }
    }

    /// After one more send, which was accepted if there is no error.
    fn after(before: Option<&Self>, boottime: i64, error: Option<&str>, not_before: Option<Timestamp>) -> Self {
        let times = Self::failures(before).saturating_add(1);
        let since = match (before, error) {
            (Some(Self::Working { since }), None) | (Some(Self::Failing { since, .. }), Some(_)) => *since,
            (Some(Self::Working { .. }), Some(_)) | (Some(Self::Failing { .. }), None) | (None, _) => boottime,
        };
        match error {
            None => Self::Working { since },
            Some(error) => Self::Failing { since, times, not_before, error: error.to_owned() },
        }
    }

    /// As the database kept it; the channel is tried at once.
    fn restore(row: StoredHealth, now: Timestamp, boottime: Duration) -> Self {
        let since = past(row.since, now, boottime);
        match row.error {
            None => Self::Working { since },
            Some(error) => Self::Failing { since, times: row.failures, not_before: None, error },
        }
    }

    fn row(&self, now: Timestamp, boottime: Duration) -> StoredHealth {
        match self {
            Self::Working { since } => StoredHealth { since: moment(*since, now, boottime), failures: 0, error: None },
            Self::Failing { since, times, error, .. } => {
                let since = moment(*since, now, boottime);
                StoredHealth { since, failures: *times, error: Some(error.clone()) }
            }
        }
    }
}

/// A moment in time that only moves forward, milliseconds.
fn past(at: Timestamp, now: Timestamp, boottime: Duration) -> i64 {
    millis(boottime).saturating_sub(millis(now.since(at)))
}

/// The other way round.
pub(super) fn moment(since: i64, now: Timestamp, boottime: Duration) -> Timestamp {
    now.minus(lasted(since, boottime))
}

fn lasted(since: i64, boottime: Duration) -> Duration {
    Duration::from_millis(u64::try_from(millis(boottime).saturating_sub(since)).unwrap_or(0))
}

impl State {
    /// What the database kept of the channels, and whether nothing was delivered: the alert that says so still fires.
    pub(super) fn restore_health(
        &mut self,
        rows: Vec<(String, StoredHealth)>,
        alerts: &[StoredAlert],
        settings: &NotifySettings,
        (now, boottime): (Timestamp, Duration),
    ) {
        for (channel, row) in rows {
            self.health.insert(channel, Health::restore(row, now, boottime));
        }
        let failing =
            alerts.iter().find(|alert| alert.ended.is_none() && alert.condition.alert == AlertName::DeliveryFailing);
        let works = |channel: &ChannelSettings| matches!(self.health.get(&channel.name), Some(Health::Working { .. }));
        if let Some(alert) = failing
            && !settings.channels.iter().any(|channel| channel.told() && works(channel))
        {
            let since = past(alert.since, now, boottime);
            self.undelivered = Some(self.none_works(settings).map_or(since, |known| known.min(since)));
        }
    }

    /// Since when no channel has delivered, of those that had something to deliver.
    fn none_works(&self, settings: &NotifySettings) -> Option<i64> {
        let mut latest = None;
        let told = settings.channels.iter().filter(|channel| channel.told());
        for health in told.filter_map(|channel| self.health.get(&channel.name)) {
            match health {
                Health::Working { .. } => return None,
                Health::Failing { since, .. } => latest = latest.max(Some(*since)),
            }
        }
        latest
    }

    /// A channel that was changed is tried at once; whether it works now is not known before.
    pub(super) fn try_at_once(&mut self, channel: &str) {
        match self.health.get_mut(channel) {
            Some(Health::Failing { not_before, .. }) => *not_before = None,
            Some(Health::Working { .. }) | None => {}
        }
    }

    /// Puts into `batch` what the database does not know of the channels yet.
    pub(super) fn collect_health(&mut self, batch: &mut Batch, now: Timestamp, boottime: Duration) {
        for channel in std::mem::take(&mut self.dirty_health) {
            let row = self.health.get(&channel).map(|health| health.row(now, boottime));
            batch.channels.push((channel, row));
        }
    }
}

impl Notifier {
    /// Records whether a channel works; gives what was known before.
    pub(super) fn note(&self, channel: &str, error: Option<&str>, not_before: Option<Timestamp>) -> Option<Health> {
        let boottime = millis(self.clock.boottime());
        let settings = self.settings.load();
        let mut state = self.lock();
        let now_is = Health::after(state.health.get(channel), boottime, error, not_before);
        if error.is_none() && settings.channel(channel).is_some_and(ChannelSettings::told) {
            state.undelivered = None;
        }
        if error.is_some() || state.health.get(channel) != Some(&now_is) {
            state.dirty_health.insert(channel.to_owned());
        }
        state.health.insert(channel.to_owned(), now_is)
    }

    /// Since when no channel that had something to deliver has delivered, once that has lasted for `delivery_failing_after`. From
    /// then on it is so until one delivers, whatever becomes of the channels, or none is left that could.
    #[must_use]
    pub fn failing_since(&self) -> Option<Timestamp> {
        let (now, boottime) = (self.clock.now(), self.clock.boottime());
        let mut state = self.lock();
        let settings = self.settings.load();
        if !settings.channels.iter().any(ChannelSettings::told) {
            state.undelivered = None;
        } else if state.undelivered.is_none() {
            let after = settings.delivery_failing_after;
            state.undelivered = state.none_works(&settings).filter(|since| lasted(*since, boottime) >= after);
        }
        state.undelivered.map(|since| moment(since, now, boottime))
    }

    /// Whether there is a channel that is told of alerts.
    #[must_use]
    pub fn tells_anybody(&self) -> bool {
        self.settings.load().channels.iter().any(ChannelSettings::told)
    }
}
