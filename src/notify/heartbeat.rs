//! A dead man's switch: an address is called while all is well, and whoever watches it raises the alarm once it is not.
//!
//! All is well while the guard looks at what could be wrong, and its alerts are delivered. A beat is no message: it is in no outbox, and
//! what fails is not sent later.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::delivery::{Outcome, pause};
use super::health::Health;
use super::http::Target;
use super::notifier::Notifier;
use super::tasks::{Prepared, nap, stopping};
use crate::domain::event::{Delivery, Event};
use crate::domain::secret::Secret;
use crate::domain::settings::{ChannelKind, ChannelSettings, NotifySettings};
use crate::domain::units::Timestamp;

/// Whoever has not looked for so long is stuck.
const LOOKED: Duration = Duration::from_secs(10);

/// Between looks whether all is well again.
const AGAIN: Duration = Duration::from_secs(1);

/// The receiver of heartbeats.
pub(super) struct Heartbeat {
    target: Target,
}

impl Heartbeat {
    /// The receiver at an address. Loads the system's certificates for `https`: may block.
    pub(super) fn new(url: &Secret) -> Result<Self, String> {
        Ok(Self { target: Target::new(url)? })
    }

    /// Calls it, by GET: healthchecks.io, Uptime Kuma and Dead Man's Snitch all take that. The caller bounds the time that it may take.
    pub(super) async fn send(&self, now: Timestamp, log: &mut Vec<String>) -> Outcome {
        let request = self.target.get().header("cache-control", "no-store");
        match self.target.send(request, log).await {
            Ok(answer) => answer.judge(now),
            Err(outcome) => outcome,
        }
    }
}

/// What a heartbeat's task does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Calls.
    Now,
    /// Waits for so long.
    In(Duration),
}

/// Where one heartbeat stands.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// The next beat, in time that only moves forward.
    due: Duration,
    /// It was sent at least once.
    begun: bool,
    /// It is withheld, and that was told.
    withheld: bool,
}

impl Notifier {
    /// The guard has just looked at all that could be wrong.
    pub fn looked(&self) {
        let now = self.clock.boottime();
        self.lock().looked = Some(now);
    }

    /// Why no heartbeat may be sent.
    fn unwell(&self) -> Option<&'static str> {
        let now = self.clock.boottime();
        if self.lock().looked.is_none_or(|at| now.saturating_sub(at) > LOOKED) {
            return Some("the guard does not look at its volumes");
        }
        self.failing_since().map(|_| "no channel delivers its alerts")
    }

    /// Whether a beat is due. Tells once that it is withheld, and why.
    pub(super) fn pulse(&self, channel: &ChannelSettings, every: Duration, pulse: &mut Pulse) -> Beat {
        let now = self.clock.boottime();
        if pulse.due > now {
            return Beat::In(pulse.due - now);
        }
        let name = &channel.name;
        if let Some(why) = self.unwell() {
            if pulse.begun && !pulse.withheld {
                self.remark(format!("the heartbeat of channel `{name}` is withheld, because {why}"), true);
                pulse.withheld = true;
            }
            pulse.due = now.saturating_add(AGAIN.min(every));
            return Beat::In(AGAIN.min(every));
        }
        if let Err(wait) = self.token(channel) {
            return Beat::In(wait);
        }
        if std::mem::take(&mut pulse.withheld) {
            self.remark(format!("the heartbeat of channel `{name}` goes on"), false);
        }
        pulse.begun = true;
        pulse.due = now.saturating_add(every);
        Beat::Now
    }

    /// Records how a beat ended. Tells once that it does not arrive, and once that it does again.
    pub(super) fn beaten(
        &self,
        channel: &ChannelSettings,
        every: Duration,
        outcome: Outcome,
        settings: &NotifySettings,
        pulse: &mut Pulse,
    ) {
        let name = &channel.name;
        let error = match &outcome {
            Outcome::Delivered(_) => None,
            Outcome::Again { error, .. } | Outcome::GivenUp(error) => Some(error.as_str()),
        };
        let before = self.note(name, error, None);
        match (error, Health::failures(before.as_ref())) {
            (Some(error), 0) => {
                self.remark(format!("the heartbeat of channel `{name}` does not arrive: {error}"), true)
            }
            (None, 1..) => self.remark(format!("the heartbeat of channel `{name}` arrives again"), false),
            (Some(_), 1..) | (None, 0) => {}
        }
        let result = if error.is_some() { Delivery::Retried } else { Delivery::Sent };
        if let Outcome::Again { after, .. } = outcome {
            let times = Health::failures(before.as_ref()).saturating_add(1);
            let sooner = pause(settings, times, after, fastrand::u32(0..=1000)).min(every);
            pulse.due = self.clock.boottime().saturating_add(sooner);
        }
        self.tell(Event::Beat { channel: name.clone(), result });
    }

    fn remark(&self, text: String, urgent: bool) {
        self.tell(Event::Remark { text, urgent });
    }

    /// Calls the address of a heartbeat while all is well, until there is no such channel any more.
    pub(super) async fn beat(self: Arc<Self>, name: String, mut shutdown: watch::Receiver<bool>) {
        let mut work = self.work.subscribe();
        let mut prepared: Prepared = None;
        let mut pulse = Pulse::default();
        while !*shutdown.borrow() {
            work.mark_unchanged();
            let settings = self.settings.load_full();
            let Some(channel) = settings.channel(&name) else { return };
            let ChannelKind::Heartbeat { every, .. } = channel.kind else { return };
            let sleep = match self.pulse(channel, every, &mut pulse) {
                Beat::Now => {
                    let outcome = tokio::select! {
                        () = stopping(&mut shutdown) => return,
                        outcome = self.call(channel, &mut prepared, &settings) => outcome,
                    };
                    self.beaten(channel, every, outcome, &settings, &mut pulse);
                    continue;
                }
                Beat::In(wait) => nap(wait),
            };
            tokio::select! {
                () = stopping(&mut shutdown) => return,
                _ = work.changed() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }
}
