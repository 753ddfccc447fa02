//! Events as log lines: a constant sentence and fields. Warnings are for what an operator should know, errors for what they must
//! act on.

use tracing::{debug, error, info, warn};

use crate::domain::deletion::{Attempt, RuleKind, RunResult};
use crate::domain::event::{Delivery, Event};
use crate::domain::ledger::Judgement;
use crate::domain::live::Reach;
use crate::domain::pressure::Pressure;
use crate::domain::recording_switch::SwitchStep;
use crate::domain::settings::Severity;
use crate::domain::silence::SilenceChange;
use crate::domain::units::show_duration;

/// Writes the line of an event.
pub(super) fn write(event: &Event) {
    match event {
        Event::Probed { volume, before, now } => {
            if before.as_str() != now.as_str() {
                changed(volume.as_str(), before, now);
            }
        }
        Event::Scanned { tree, took, files, bytes, problems, .. } => {
            if *problems > 0 {
                warn!(%tree, problems, "A tree could not be read whole; what could not be read is left alone.");
            }
            debug!(%tree, files, %bytes, ?took, "A tree was scanned.");
        }
        Event::RunStarted { volume, run, files, bytes, who } => {
            info!(%volume, run, files, %bytes, who, "A run begins.");
        }
        Event::Settled { target, attempt, again } => {
            let (tree, path) = (&target.tree, target.path.show().0);
            match attempt {
                attempt if attempt.is_quarantined() => info!(%tree, path, "A recording was set aside as an orphan."),
                Attempt::Failed { cause, error, holder } if target.rule == RuleKind::Quarantine => {
                    let holder = holder.as_ref().map(ToString::to_string).unwrap_or_default();
                    warn!(%tree, path, %cause, error, holder, "A recording could not be set aside as an orphan; it stays one.");
                }
                Attempt::Verified { freed, .. } if *again => {
                    info!(%tree, path, %freed, "A recording whose deletion had failed is deleted.");
                }
                Attempt::AlreadyGone if *again => {
                    info!(%tree, path, "A recording whose deletion had failed is gone.");
                }
                Attempt::Verified { freed, .. } => debug!(%tree, path, %freed, "A recording was deleted."),
                Attempt::AlreadyGone => debug!(%tree, path, "A recording was gone already."),
                Attempt::Kept { why } => info!(%tree, path, why, "A recording was kept."),
                Attempt::Failed { cause, error, holder } => {
                    let holder = holder.as_ref().map(ToString::to_string).unwrap_or_default();
                    warn!(%tree, path, %cause, error, holder, "A recording could not be deleted; it will be tried again.");
                }
            }
        }
        Event::Measured { volume, account, judgement } => match judgement {
            Judgement::Short(missing) => {
                warn!(%volume, expected = %account.expected, %missing, "Less space came back than was deleted.");
            }
            Judgement::Stalled(missing) => {
                error!(%volume, expected = %account.expected, %missing, "Deleted space does not come back; the run ends.");
            }
            Judgement::TooEarly | Judgement::Agrees => {
                debug!(%volume, expected = %account.expected, back = %account.came_back(), "A batch was measured.");
            }
        },
        Event::RunEnded { volume, run, result, why, took, files, expected, reclaimed } => match result {
            RunResult::ReachedLow | RunResult::Cancelled => {
                info!(%volume, run, %result, why, ?took, files, %expected, %reclaimed, "A run ended.");
            }
            RunResult::Exhausted | RunResult::Stalled | RunResult::Failed => {
                warn!(%volume, run, %result, why, ?took, files, %expected, %reclaimed, "A run ended without reaching its mark.");
            }
        },
        Event::Pruned { tree, path } => debug!(%tree, path = path.show().0, "An empty directory was removed."),
        Event::Closed { target, bytes } => {
            info!(tree = %target.tree, path = target.path.show().0, %bytes, "A deleted recording was closed.");
        }
        Event::CapTripped { tree, cap, wanted, allowed } => {
            error!(%tree, %cap, %wanted, %allowed, "A cap tripped; it waits for `cap acknowledge`.");
        }
        Event::CapAcknowledged { tree, cap, who } => info!(%tree, %cap, who, "A cap was acknowledged."),
        Event::FailureClosed { target, who, reason } => {
            info!(tree = %target.tree, path = target.path.show().0, who, reason, "A failed deletion was closed.");
        }
        Event::Clock { suspect, text } => match suspect {
            Some(_) => error!(text, "The clock is not trusted; nothing is deleted because of its age."),
            None => info!("The clock is trusted again."),
        },
        Event::Reloaded { problems } => {
            if problems.is_empty() {
                info!("The configuration was loaded again.");
            }
            for problem in problems {
                error!(problem, "The configuration was not loaded; the old one stays in force.");
            }
        }
        Event::Alerted { alert, subject, severity, summary, lasted } => {
            let word = severity.as_str();
            match (lasted, severity) {
                (Some(lasted), Severity::Critical | Severity::Warning | Severity::Info) => {
                    info!(%alert, %subject, severity = word, lasted = show_duration(*lasted), "An alert is over.");
                }
                (None, Severity::Critical) => error!(%alert, %subject, severity = word, summary, "An alert fires."),
                (None, Severity::Warning | Severity::Info) => {
                    warn!(%alert, %subject, severity = word, summary, "An alert fires.");
                }
            }
        }
        Event::Notified { channel, result, detail } => match result {
            Delivery::Sent => debug!(channel, detail, "A message was delivered."),
            Delivery::Retried => warn!(channel, detail, "A message was not delivered; it will be tried again."),
            Delivery::Dropped => error!(channel, detail, "A message was given up."),
        },
        // Once it fails, and once it works again, is a remark: a line for each would be a storm.
        Event::Beat { channel, result } => debug!(channel, %result, "A heartbeat was sent."),
        Event::CatalogueRead { catalogue, rows, took } => debug!(%catalogue, rows, ?took, "A catalogue was read."),
        Event::CatalogueTrusted { catalogue } => info!(%catalogue, "A catalogue is trusted."),
        Event::CatalogueDistrusted { catalogue, why } => {
            let why = why.sentence(catalogue);
            error!(%catalogue, why, "A catalogue is not trusted; nothing is called an orphan by it.");
        }
        Event::Compared { tree, orphans, missing, took } => {
            debug!(%tree, orphans = orphans.files, bytes = %orphans.bytes, missing, ?took, "A tree was compared with its catalogues.");
        }
        Event::RowsChanged { catalogue, tree, inserted, removed, who } => {
            info!(%catalogue, %tree, inserted, removed, who, "Rows of a catalogue were changed.");
        }
        Event::Hooked { media_server, event, result, count } => {
            debug!(%media_server, %event, %result, count, "Hooks were received.");
        }
        Event::HooksDropped { media_server, count } => {
            error!(%media_server, count, "Hooks that the platform was to hear are dropped: too many wait for it.");
        }
        Event::GatewayAnswered { media_server, result } => {
            debug!(%media_server, %result, "A call to the gateway was answered.");
        }
        Event::Silenced { silence, change, who } => {
            let (id, alerts, until, reason) = (silence.id, &silence.matchers, silence.until, &silence.reason);
            match change {
                SilenceChange::Made => info!(id, %alerts, %until, who, reason, "Alerts are silenced."),
                SilenceChange::Removed => info!(id, %alerts, %until, who, reason, "A silence was ended early."),
                SilenceChange::Expired => info!(id, %alerts, %until, reason, "A silence is over."),
            }
        }
        Event::Held { hold, ended, who } => {
            let (id, tree, what, reason) = (hold.id, &hold.tree, hold.scope.words(), &hold.reason);
            match ended {
                None => info!(id, %tree, what, reason, who, "Recordings are held."),
                Some(why) => info!(id, %tree, what, reason, who, why, "A hold has ended."),
            }
        }
        Event::MediaServer { server, reach } => match reach {
            Reach::Unasked => {}
            Reach::Up { .. } => info!(%server, "A media server answers."),
            Reach::Down { why, .. } => {
                let why = why.to_string();
                warn!(%server, why, "A media server cannot be asked; what it last said of its streams is believed for a while.");
            }
        },
        Event::RecordingSwitched { server, stream, step, why } => match step {
            SwitchStep::Stopped | SwitchStep::Withheld => {
                warn!(%server, stream, %step, why, "A stream is not recorded, so that the disk does not fill.");
            }
            SwitchStep::Started | SwitchStep::Released => {
                info!(%server, stream, %step, why, "A stream's recording is not stopped any more.");
            }
            SwitchStep::Failed => warn!(%server, stream, why, "A stream's recording could not be stopped or begun."),
        },
        Event::Archived { tree, archive, bytes } => debug!(%tree, %archive, %bytes, "A recording was archived."),
        Event::ArchiveFailed { archive, why } => {
            warn!(%archive, why, "A recording could not be archived; it stays, and is tried again.");
        }
        Event::Remark { text, urgent } => {
            if *urgent {
                error!(text, "The guard needs attention.");
            } else {
                warn!(text, "Something to know.");
            }
        }
    }
}

fn changed(volume: &str, before: &Pressure, now: &Pressure) {
    let (was, is) = (before.as_str(), now.as_str());
    match now {
        Pressure::Normal => info!(volume, was, "A volume is below its marks."),
        Pressure::Reclaiming { deficit, .. } => {
            info!(volume, was, missing = %deficit.bytes, inodes = deficit.inodes, "A volume is above its high mark.");
        }
        Pressure::Exhausted { deficit, .. } => {
            error!(volume, was, missing = %deficit.bytes, "A volume has nothing eligible left to delete.");
        }
        Pressure::Blind { why, .. } => error!(volume, was, is, %why, "A volume cannot be judged; nothing is deleted."),
    }
}
