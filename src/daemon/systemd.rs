//! What systemd is told: ready, how things stand, and that the workers work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

use super::hub::Hub;
use crate::domain::pressure::Pressure;
use crate::domain::status::VolumeView;
use crate::domain::units::show_duration;
use crate::system::Clock;

/// Between two lines for `systemctl status`, where there is no watchdog that asks more often.
const STATUS: Duration = Duration::from_secs(10);

/// Without a watchdog a worker may be silent for half as long before anybody is told.
const PATIENCE: Duration = Duration::from_secs(120);

/// When a worker last made progress: began a file, a directory, a wait for its next tick.
#[derive(Debug, Default)]
pub(super) struct Pulse(AtomicU64);

impl Pulse {
    pub(super) fn beat(&self, clock: &dyn Clock) {
        let millis = u64::try_from(clock.boottime().as_millis()).unwrap_or(u64::MAX);
        self.0.store(millis, Ordering::Relaxed);
    }

    /// How long ago that was.
    pub(super) fn silent(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.0.load(Ordering::Relaxed)))
    }
}

/// Every volume was looked at.
pub(super) fn ready() {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// The guard ends.
pub(super) fn stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}

/// Tells until the shutdown. The watchdog is fed only while every worker makes progress of its own: one that is stuck starves it, and
/// the guard is started again (fault 82). A volume that does not answer is no stuck worker: its reading has a deadline.
pub(super) async fn tell(hub: Arc<Hub>, mut shutdown: watch::Receiver<bool>) {
    let watchdog = sd_notify::watchdog_enabled();
    let mut ticks = tokio::time::interval(watchdog.map_or(STATUS, |limit| limit / 4).min(STATUS));
    let mut told = String::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = shutdown.changed() => return,
        }
        let mut line = status_line(&hub.views());
        match hub.slowest() {
            Some((volume, silent)) if silent >= watchdog.unwrap_or(PATIENCE) / 2 => {
                line = format!("the worker of {volume} has made no progress for {}; {line}", show_duration(silent));
            }
            Some(_) => {
                let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            }
            // A reload is under way; one that never ends is no progress either.
            None => {}
        }
        line.retain(|character| !character.is_control());
        if line != told {
            let _ = sd_notify::notify(&[NotifyState::Status(&line)]);
            told = line;
        }
    }
}

/// One line for `systemctl status`.
fn status_line(views: &[VolumeView]) -> String {
    let volume = |view: &VolumeView| match &view.pressure {
        Pressure::Normal => format!("{} normal", view.name),
        Pressure::Reclaiming { deficit, .. } => format!("{} reclaiming, {} missing", view.name, deficit.bytes),
        Pressure::Exhausted { deficit, .. } => format!("{} exhausted, {} missing", view.name, deficit.bytes),
        Pressure::Blind { why, .. } => format!("{} blind: {why}", view.name),
    };
    views.iter().map(volume).collect::<Vec<_>>().join("; ")
}
