//! What is wrong now, from all that is known. Each condition names numbers, causes and holders, and what to do.

use std::collections::BTreeSet;
use std::time::Duration;

use super::alert::{AlertName, Condition, ITEMS, Subject, UnreclaimedItem};
use super::deletion::{Cause, Failure, SparedReason, Unreclaimed};
use super::history::{CapTrip, HeldOpen, History};
use super::pressure::Pressure;
use super::recording::Tally;
use super::retention::Mode;
use super::status::{Foreign, VolumeView};
use super::units::{Timestamp, show_duration};
use super::volume::Unusable;

/// A run that has not reached its low mark by then takes too long.
const RUN: Duration = Duration::from_secs(30 * 60);
/// A failed deletion is told of after so many attempts …
const ATTEMPTS: u32 = 3;
/// … or after so long.
const FAILING: Duration = Duration::from_secs(600);
/// So many processes are named in a sentence.
const HOLDERS: usize = 5;

/// All conditions of the volumes and their trees.
#[must_use]
pub fn conditions(volumes: &[VolumeView], history: &History, now: Timestamp) -> Vec<Condition> {
    let mut out = Vec::new();
    for volume in volumes {
        of_volume(volume, now, &mut out);
        for tree in &volume.trees {
            of_tree(&tree.policy.tree, history, now, &mut out);
            if let (Some(why), Ok(_)) = (&tree.fault, &volume.reading) {
                let name = &tree.policy.tree;
                let description = format!(
                    "Nothing is deleted in tree `{name}`, because {why}. The other trees of its volume are not concerned."
                );
                let subject = Subject::Tree(name.clone());
                out.push(condition(
                    AlertName::VolumeBlind,
                    subject,
                    format!("Tree {name} cannot be trusted"),
                    description,
                ));
            }
        }
    }
    if let Some(since) = volumes.iter().filter_map(|volume| volume.clock_suspect).min() {
        let description = format!(
            "The time of day went back or jumped at {since}. Nothing is deleted because of its age until it has run evenly for an hour. Check the time synchronisation of this machine."
        );
        out.push(condition(AlertName::ClockSuspect, Subject::Guard, "The clock is not trusted", description));
    }
    out.extend(history.caps.values().map(tripped));
    out
}

/// A condition that is about no single file.
#[must_use]
pub fn condition(alert: AlertName, subject: Subject, summary: impl Into<String>, description: String) -> Condition {
    Condition {
        alert,
        severity: alert.severity(),
        subject,
        summary: summary.into(),
        description,
        unreclaimed: Tally::default(),
        items: Vec::new(),
    }
}

fn tripped(trip: &CapTrip) -> Condition {
    let description = format!(
        "{} were to be deleted from tree `{}`, and the cap allowed {}. Until somebody acknowledges, retention deletes nothing there, and pressure only as much as flows in. Look at `storage-guard plan`; if it is right: `storage-guard cap acknowledge {} {}`.",
        trip.wanted, trip.tree, trip.allowed, trip.tree, trip.cap
    );
    let summary = format!("Cap {} of tree {} tripped", trip.cap, trip.tree);
    condition(AlertName::CapTripped, Subject::Tree(trip.tree.clone()), summary, description)
}

fn of_volume(volume: &VolumeView, now: Timestamp, out: &mut Vec<Condition>) {
    let name = &volume.name;
    let mut push = |alert, summary: String, description| {
        out.push(condition(alert, Subject::Volume(name.clone()), summary, description));
    };
    let space = volume.reading.as_ref().ok().map(|reading| reading.space);
    let available = space.map_or_else(String::new, |s| format!("{} of {} are available. ", s.available, s.size));
    let foreign = volume.foreign.as_ref().map_or_else(String::new, foreign);
    match &volume.pressure {
        Pressure::Normal => {}
        Pressure::Reclaiming { since, deficit } => {
            let usual = volume.last_run.as_ref().map_or(Duration::ZERO, |run| run.took.saturating_mul(3));
            if volume.trees.iter().all(|tree| tree.policy.mode == Mode::Observe) {
                let description = format!(
                    "{available}{} are missing to the low mark, and nothing is deleted, since every tree is only observed. `storage-guard plan` shows what would go; set `mode: enforce` to let it.",
                    deficit.bytes
                );
                push(AlertName::VolumePressure, format!("Volume {name} is above its high mark"), description);
            } else if volume.foreign.as_ref().is_some_and(|foreign| foreign.bytes >= deficit.bytes.scaled(1, 2)) {
                let description = format!("{available}{} are missing to the low mark.{foreign}", deficit.bytes);
                push(AlertName::VolumePressure, format!("Volume {name} is filled by others"), description);
            } else if now.since(*since) > RUN.max(usual) {
                let last =
                    volume.last_run.as_ref().map_or_else(String::new, |run| format!(" The last run: {}.", run.why));
                let description = format!(
                    "{available}{} are still missing to the low mark after {}.{last}{foreign} `storage-guard status` and `storage-guard failures list` say what is in the way.",
                    deficit.bytes,
                    show_duration(now.since(*since))
                );
                push(AlertName::VolumePressure, format!("Volume {name} does not reach its low mark"), description);
            }
        }
        Pressure::Exhausted { deficit, .. } => {
            let shared = volume.spared_as(SparedReason::Shared);
            let shared = match shared.files {
                0 => String::new(),
                files => format!(
                    " {files} recordings, {}, would give nothing back, because snapshots or reflink copies share their blocks; remove those first.",
                    shared.bytes
                ),
            };
            let description = format!(
                "{available}{} and {} inodes are missing to the low mark, and nothing eligible is left to delete: all else is protected, young, in use, or not ours.{shared}{foreign} Recording will fail when the volume is full. Remove other files, add space, or loosen `protect`, `keep` and `min_age`; `storage-guard plan` says what is spared and why.",
                deficit.bytes, deficit.inodes
            );
            push(AlertName::VolumeExhausted, format!("Volume {name} has nothing left to delete"), description);
        }
        Pressure::Blind { why: Unusable::ReadOnly, .. } => {
            let description = format!(
                "{available}The filesystem is read-only, so neither recording nor deleting works. It often means that the kernel found an error on the disk: see `dmesg`, check the disk, and mount it again."
            );
            push(AlertName::VolumeReadOnly, format!("Volume {name} is read-only"), description);
        }
        Pressure::Blind { why, .. } => {
            let description =
                format!("Nothing is deleted on volume `{name}`, because {why}. Recording goes on and may fill it.");
            push(AlertName::VolumeBlind, format!("Volume {name} cannot be judged"), description);
        }
    }
    if let Some(stall) = &volume.stalled {
        let description = format!(
            "{available}{} that were deleted did not come back: {}. No run begins for pressure until space comes back, six hours have passed, or somebody applies a plan. Look for snapshots, reflink copies, and processes that hold deleted files (`lsof +L1`).",
            stall.missing, stall.why
        );
        push(AlertName::SpaceNotReclaimed, format!("Deleted space of volume {name} does not come back"), description);
    } else if let Some((_, Some(wrong))) = &volume.canary {
        let description = format!(
            "{available}{wrong}. When the volume fills, deleting recordings would not help. Look for a read-only mount, the recycle bin of a network share, snapshots, a quota of the tree's user or project, and processes that keep deleted files open. It is looked at again every hour."
        );
        push(AlertName::SpaceNotReclaimed, format!("Volume {name} does not give back what is deleted"), description);
    }
}

/// What others caused, and where it may have gone.
fn foreign(foreign: &Foreign) -> String {
    let mut out = format!(
        " {} of what is missing are not ours to give back, since files that are in no guarded tree grew; the guard deletes no more than its share for them.",
        foreign.bytes
    );
    if !foreign.largest.is_empty() {
        let named: Vec<String> = foreign.largest.iter().map(|(path, bytes)| format!("`{path}` ({bytes})")).collect();
        let seen = if foreign.complete { "" } else { ", as far as they were found in 2 s" };
        out.push_str(&format!(" The largest directories of others{seen}: {}.", named.join(", ")));
    }
    out
}

fn of_tree(tree: &super::names::TreeId, history: &History, now: Timestamp, out: &mut Vec<Condition>) {
    let told = |failure: &&Failure| failure.attempts >= ATTEMPTS || now.since(failure.since) >= FAILING;
    let failures: Vec<&Failure> =
        history.failures.values().filter(|failure| failure.target.tree == *tree).filter(told).collect();
    let locked = |failure: &&&Failure| matches!(failure.cause, Cause::Locked | Cause::InUse);
    let groups = [
        (
            AlertName::RecordingLocked,
            failures.iter().filter(locked).map(|failure| item(failure)).collect::<Vec<_>>(),
            format!("Recordings of tree {tree} are locked or in use"),
            "They are tried again by themselves. For a locked file: `chattr -i -a FILE`. For one in use: end the process that is named, or wait. `storage-guard failures close ID --reason R` gives one up.",
        ),
        (
            AlertName::DeletionFailing,
            failures.iter().filter(|failure| !locked(failure)).map(|failure| item(failure)).collect(),
            format!("Deletions in tree {tree} fail"),
            "They are tried again by themselves. Permissions: the guard must own the files or have CAP_DAC_OVERRIDE and CAP_FOWNER. I/O errors: check the disk. `storage-guard failures list` shows all.",
        ),
        (
            AlertName::SpaceNotReclaimed,
            history.held.values().filter(|held| held.target.tree == *tree).map(held_open).collect(),
            format!("Deleted recordings of tree {tree} are still open"),
            "Their space comes back when the process that is named closes them, or ends. Nothing more is deleted to make up for it.",
        ),
    ];
    for (alert, items, summary, remedy) in groups {
        if items.is_empty() {
            continue;
        }
        let mut all = Tally::default();
        items.iter().for_each(|item| all.add(item.bytes));
        let description = format!("{} recordings, {}.{} {remedy}", all.files, all.bytes, holders(&items));
        let mut found = condition(alert, Subject::Tree(tree.clone()), summary, description);
        found.unreclaimed = all;
        found.items = items.into_iter().take(ITEMS).collect();
        out.push(found);
    }
}

/// Who has the files open, as far as that is known.
fn holders(items: &[UnreclaimedItem]) -> String {
    let known: BTreeSet<&str> = items.iter().filter_map(|item| item.holder.as_deref()).collect();
    match known.len() {
        0 => String::new(),
        _ => format!(" Open in: {}.", known.into_iter().take(HOLDERS).collect::<Vec<_>>().join(", ")),
    }
}

fn item(failure: &Failure) -> UnreclaimedItem {
    UnreclaimedItem {
        tree: failure.target.tree.clone(),
        path: failure.target.path.clone(),
        bytes: failure.target.bytes,
        cause: failure.cause.unreclaimed(),
        detail: format!("{}: {}", failure.cause, failure.error),
        holder: failure.holder.as_ref().map(ToString::to_string),
    }
}

fn held_open(held: &HeldOpen) -> UnreclaimedItem {
    UnreclaimedItem {
        tree: held.target.tree.clone(),
        path: held.target.path.clone(),
        bytes: held.bytes,
        cause: Unreclaimed::HeldOpen,
        detail: "deleted, and still open".to_owned(),
        holder: held.holder.as_ref().map(ToString::to_string),
    }
}
