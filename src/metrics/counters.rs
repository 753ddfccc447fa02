//! What only grows: made from events.

use std::time::Duration;

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry,
    core::{AtomicU64, GenericCounter},
};

use crate::domain::deletion::{Attempt, Cause, Outcome, RuleKind, RunResult, Trigger};
use crate::domain::event::{Delivery, Event};
use crate::domain::media::{GatewayResult, HookEvent, HookResult};
use crate::domain::names::{MediaServerId, TreeId, VolumeId};
use crate::domain::units::Timestamp;

/// Bounds of the histograms, in seconds: from a quick look to a run of hours.
const SECONDS: [f64; 12] = [0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 21600.0];

/// Counters, histograms, and the times of the last successes.
pub struct Counters {
    pub(super) registry: Registry,
    inflow: IntCounterVec,
    deletions: IntCounterVec,
    failures: IntCounterVec,
    expected: IntCounterVec,
    reclaimed: IntCounterVec,
    runs: IntCounterVec,
    run_seconds: HistogramVec,
    scan_seconds: HistogramVec,
    notifications: IntCounterVec,
    hooks: IntCounterVec,
    hooks_dropped: IntCounterVec,
    gateway: IntCounterVec,
    reload_ok: IntGauge,
    reload_time: IntGauge,
}

impl Counters {
    /// All of them, without any values yet.
    ///
    /// # Panics
    /// Never: the names are constant and distinct.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels).expect("the name is well formed");
            registry.register(Box::new(made.clone())).expect("the name is registered once");
            made
        };
        let histogram = |name: &str, help: &str, label: &str| {
            let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            let made = HistogramVec::new(options, &[label]).expect("the name is well formed");
            registry.register(Box::new(made.clone())).expect("the name is registered once");
            made
        };
        let gauge = |name: &str, help: &str| {
            let made = IntGauge::new(name, help).expect("the name is well formed");
            registry.register(Box::new(made.clone())).expect("the name is registered once");
            made
        };
        let out = Self {
            inflow: counter("storage_guard_inflow_bytes_total", "Bytes recorded into a tree", &["tree"]),
            deletions: counter(
                "storage_guard_deletions_total",
                "Attempts to delete a recording, by what wanted it and how it ended",
                &["tree", "trigger", "outcome"],
            ),
            failures: counter(
                "storage_guard_deletion_failures_total",
                "Failed attempts to delete a recording, by cause",
                &["tree", "cause"],
            ),
            expected: counter(
                "storage_guard_expected_bytes_total",
                "Allocated bytes of recordings that were verified as deleted",
                &["volume"],
            ),
            reclaimed: counter(
                "storage_guard_reclaimed_bytes_total",
                "Bytes that deletions gave back, as measured on the volume",
                &["volume"],
            ),
            runs: counter("storage_guard_runs_total", "Runs, by how they ended", &["volume", "result"]),
            run_seconds: histogram("storage_guard_run_duration_seconds", "How long runs took", "volume"),
            scan_seconds: histogram("storage_guard_scan_duration_seconds", "How long scans took", "tree"),
            notifications: counter(
                "storage_guard_notifications_total",
                "Messages, by what became of an attempt to deliver them",
                &["channel", "result"],
            ),
            hooks: counter(
                "storage_guard_hooks_total",
                "Hooks of a media server, by what became of them",
                &["media_server", "event", "result"],
            ),
            hooks_dropped: counter(
                "storage_guard_hook_relay_dropped_total",
                "Hooks that the platform was to hear and that were dropped for want of room",
                &["media_server"],
            ),
            gateway: counter(
                "storage_guard_gateway_calls_total",
                "Calls to the gateway before a media server, by what became of them",
                &["media_server", "result"],
            ),
            reload_ok: gauge(
                "storage_guard_config_last_reload_successful",
                "1 if the configuration that was loaded last is in force",
            ),
            reload_time: gauge(
                "storage_guard_config_last_reload_success_timestamp_seconds",
                "When a configuration was last put in force",
            ),
            registry,
        };
        out.reload_ok.set(1);
        out.reload_time.set(now.secs());
        out
    }

    /// Makes all values of these volumes, trees and channels exist, at zero where they did not.
    pub fn begin(&self, volumes: &[VolumeId], trees: &[TreeId], channels: &[String]) {
        for volume in volumes {
            let volume = volume.as_str();
            for vec in [&self.expected, &self.reclaimed] {
                vec.with_label_values(&[volume]);
            }
            for result in RunResult::ALL {
                self.runs.with_label_values(&[volume, result.as_str()]);
            }
            self.run_seconds.with_label_values(&[volume]);
        }
        for tree in trees {
            let tree = tree.as_str();
            self.inflow.with_label_values(&[tree]);
            for trigger in Trigger::ALL {
                for outcome in Outcome::ALL {
                    self.deletions.with_label_values(&[tree, trigger.as_str(), outcome.as_str()]);
                }
            }
            for cause in Cause::ALL {
                self.failures.with_label_values(&[tree, cause.as_str()]);
            }
            self.scan_seconds.with_label_values(&[tree]);
        }
        for channel in channels {
            for result in Delivery::ALL {
                self.notifications.with_label_values(&[channel.as_str(), result.as_str()]);
            }
        }
    }

    /// The same of these media servers.
    pub fn begin_hooks<'s>(&self, media_servers: impl Iterator<Item = &'s MediaServerId>) {
        for server in media_servers {
            self.hooks_dropped.with_label_values(&[server.as_str()]);
            for (event, result) in
                HookEvent::ALL.iter().flat_map(|event| HookResult::ALL.iter().map(move |r| (event, r)))
            {
                self.hooks.with_label_values(&[server.as_str(), event.as_str(), result.as_str()]);
            }
        }
    }

    /// The same of these media servers, which have a gateway.
    pub fn begin_gateways<'s>(&self, media_servers: impl Iterator<Item = &'s MediaServerId>) {
        for server in media_servers {
            for result in GatewayResult::ALL {
                self.gateway.with_label_values(&[server.as_str(), result.as_str()]);
            }
        }
    }

    /// Counts an event.
    pub fn observe(&self, event: &Event, now: Timestamp) {
        match event {
            Event::Scanned { tree, took, inflow, .. } => {
                self.scan_seconds.with_label_values(&[tree.as_str()]).observe(seconds(*took));
                grow(&self.inflow.with_label_values(&[tree.as_str()]), inflow.0);
            }
            // To set a file aside is no attempt to delete it.
            Event::Settled { target, .. } if target.rule == RuleKind::Quarantine => {}
            Event::Settled { target, attempt, .. } => {
                let (tree, outcome) = (target.tree.as_str(), attempt.outcome());
                self.deletions.with_label_values(&[tree, target.trigger.as_str(), outcome.as_str()]).inc();
                if let Attempt::Failed { cause, .. } = attempt {
                    self.failures.with_label_values(&[tree, cause.as_str()]).inc();
                }
            }
            Event::Measured { volume, account, .. } => {
                grow(&self.expected.with_label_values(&[volume.as_str()]), account.expected.0);
                let back = account.came_back().min(account.expected);
                grow(&self.reclaimed.with_label_values(&[volume.as_str()]), back.0);
            }
            Event::RunEnded { volume, result, took, .. } => {
                self.runs.with_label_values(&[volume.as_str(), result.as_str()]).inc();
                self.run_seconds.with_label_values(&[volume.as_str()]).observe(seconds(*took));
            }
            Event::Hooked { media_server, event, result, count } => {
                let labels = [media_server.as_str(), event.as_str(), result.as_str()];
                grow(&self.hooks.with_label_values(&labels), *count);
            }
            Event::HooksDropped { media_server, count } => {
                grow(&self.hooks_dropped.with_label_values(&[media_server.as_str()]), *count);
            }
            Event::GatewayAnswered { media_server, result } => {
                self.gateway.with_label_values(&[media_server.as_str(), result.as_str()]).inc();
            }
            Event::Closed { .. } => {}
            Event::Notified { channel, result, .. } | Event::Beat { channel, result } => {
                self.notifications.with_label_values(&[channel.as_str(), result.as_str()]).inc();
            }
            Event::Reloaded { problems } => {
                self.reload_ok.set(i64::from(problems.is_empty()));
                if problems.is_empty() {
                    self.reload_time.set(now.secs());
                }
            }
            Event::Probed { .. }
            | Event::RunStarted { .. }
            | Event::Pruned { .. }
            | Event::CapTripped { .. }
            | Event::CapAcknowledged { .. }
            | Event::FailureClosed { .. }
            | Event::Clock { .. }
            | Event::Alerted { .. }
            | Event::CatalogueRead { .. }
            | Event::CatalogueTrusted { .. }
            | Event::CatalogueDistrusted { .. }
            | Event::Compared { .. }
            | Event::RowsChanged { .. }
            | Event::Silenced { .. }
            | Event::Held { .. }
            | Event::MediaServer { .. }
            | Event::RecordingSwitched { .. }
            | Event::Archived { .. }
            | Event::ArchiveFailed { .. }
            | Event::Remark { .. } => {}
        }
    }
}

fn grow(counter: &GenericCounter<AtomicU64>, by: u64) {
    counter.inc_by(by);
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}
