//! What is wrong now, from all that is known. Each condition carries numbers, causes and holders; the words for them are templates.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::alert::{AlertName, Case, Condition, ITEMS, Subject, UnreclaimedItem};
use super::catalogue::{CatalogueView, Distrust};
use super::deletion::{Cause, Failure, SparedReason, Unreclaimed};
use super::fact::{Fact, FactName, Facts, Reason};
use super::history::{CapTrip, HeldOpen, History};
use super::live::{MediaServerView, Reach};
use super::names::TreeId;
use super::pressure::{Deficit, Pressure};
use super::promise::{Standing, standings};
use super::recording::Tally;
use super::retention::Mode;
use super::status::{TreeView, VolumeView};
use super::units::Timestamp;
use super::volume::{ABSENT, Unusable};

/// A run that has not reached its low mark by then takes too long.
const RUN: Duration = Duration::from_secs(30 * 60);
/// A failed deletion is told of after so many attempts …
const ATTEMPTS: u32 = 3;
/// … or after so long.
const FAILING: Duration = Duration::from_secs(600);
/// So many processes are named.
const HOLDERS: usize = 5;
/// So many streams are.
const STREAMS: usize = 5;

/// All conditions of the volumes and their trees, as far as they were looked at whole, of the catalogues and of the media servers.
#[must_use]
pub fn conditions(
    volumes: &[VolumeView],
    catalogues: &[CatalogueView],
    media: &[MediaServerView],
    history: &History,
    now: Timestamp,
) -> Vec<Condition> {
    let mut out = Vec::new();
    for volume in volumes.iter().filter(|volume| volume.seen()) {
        of_volume(volume, history, now, &mut out);
        for tree in &volume.trees {
            of_tree(tree, history, now, &mut out);
            out.extend(broken(volume, tree, history, now));
            if let (Some(why), Ok(_)) = (&tree.fault, &volume.reading) {
                let subject = Subject::Tree(tree.policy.tree.clone());
                out.push(condition(AlertName::VolumeBlind, subject, Case::Tree, [because(why)]));
            }
        }
    }
    if let Some(since) = volumes.iter().filter_map(|volume| volume.clock_suspect).min() {
        let facts = [(FactName::Since, Fact::Time(since))];
        out.push(condition(AlertName::ClockSuspect, Subject::Guard, Case::Only, facts));
    }
    // An alert is about its tree: of two caps that tripped there, it tells of the one that waits longer, and then of the other.
    let mut first: BTreeMap<&TreeId, &CapTrip> = BTreeMap::new();
    for trip in history.caps.values() {
        let known = first.entry(&trip.tree).or_insert(trip);
        if trip.since < known.since {
            *known = trip;
        }
    }
    out.extend(first.into_values().map(tripped));
    out.extend(catalogues.iter().filter_map(|catalogue| untrusted(catalogue, volumes)));
    for server in media {
        out.extend(unreachable(server));
        out.extend(stopped(server, history));
    }
    out
}

/// Whether nobody can tell yet that what an alert was about is over: its volume was not looked at whole since the start or the reload;
/// its catalogue was not read yet, its media server not asked, or its tree not compared with one; or the alert was restored, and its disk is away, or what it goes
/// by began anew with the start and the volume is not well.
#[must_use]
pub fn untold(
    alert: AlertName,
    subject: &Subject,
    restored: bool,
    volumes: &[VolumeView],
    catalogues: &[CatalogueView],
    media: &[MediaServerView],
) -> bool {
    if let Subject::MediaServer(name) = subject {
        return media.iter().any(|view| view.name == *name && view.reach == Reach::Unasked);
    }
    if let Subject::Catalogue(name) = subject {
        return catalogues.iter().any(|view| view.name == *name && view.distrust == Some(Distrust::NotYet));
    }
    // Where no catalogue can tell of orphans, none grow: one that could was taken out of the configuration.
    let told = |view: &CatalogueView, tree: &TreeView| {
        tree.policy.catalogues.contains(&view.name) && view.kind.proves_absence()
    };
    let uncompared = |tree: &TreeView| {
        *subject == Subject::Tree(tree.policy.tree.clone())
            && tree.orphans.growth.is_none()
            && catalogues.iter().any(|view| told(view, tree))
    };
    let mut trees = volumes.iter().flat_map(|volume| &volume.trees);
    if alert == AlertName::OrphansGrowing && trees.any(uncompared) {
        return true;
    }
    let about = |volume: &&VolumeView| match subject {
        Subject::Guard => alert == AlertName::ClockSuspect,
        Subject::Volume(name) => volume.name == *name,
        Subject::Tree(name) => volume.trees.iter().any(|tree| tree.policy.tree == *name),
        Subject::Catalogue(_) | Subject::MediaServer(_) => false,
    };
    let mut concerned = volumes.iter().filter(about).peekable();
    // A volume bears its name only while its disk is there.
    let away = matches!(subject, Subject::Volume(_))
        && concerned.peek().is_none()
        && volumes.iter().any(|volume| volume.traits.kind == ABSENT);
    let anew = matches!(alert, AlertName::VolumePressure | AlertName::SpaceNotReclaimed);
    (restored && away)
        || concerned.any(|volume| !volume.seen() || (restored && anew && volume.pressure != Pressure::Normal))
}

/// A condition that is about no single file.
#[must_use]
pub fn condition(
    alert: AlertName,
    subject: Subject,
    case: Case,
    facts: impl IntoIterator<Item = (FactName, Fact)>,
) -> Condition {
    Condition {
        alert,
        severity: alert.severity(),
        subject,
        case,
        facts: facts.into_iter().collect(),
        unreclaimed: Tally::default(),
        items: Vec::new(),
    }
}

fn because<'a, T>(why: &'a T) -> (FactName, Fact)
where
    Reason: From<&'a T>,
{
    (FactName::Why, Fact::Reason(why.into()))
}

fn tripped(trip: &CapTrip) -> Condition {
    let facts = [
        (FactName::Cap, Fact::Text(trip.cap.to_string())),
        (FactName::Wanted, Fact::Bytes(trip.wanted)),
        (FactName::Allowed, Fact::Bytes(trip.allowed)),
    ];
    condition(AlertName::CapTripped, Subject::Tree(trip.tree.clone()), Case::Only, facts)
}

/// A media server that cannot be asked. One that was not asked yet is no news.
fn unreachable(server: &MediaServerView) -> Option<Condition> {
    let Reach::Down { since, why } = &server.reach else { return None };
    let facts = [(FactName::Since, Fact::Time(*since)), because(why)];
    let subject = Subject::MediaServer(server.name.clone());
    Some(condition(AlertName::MediaServerUnreachable, subject, Case::Only, facts))
}

/// Recordings of a media server that are stopped because of us.
fn stopped(server: &MediaServerView, history: &History) -> Option<Condition> {
    let stopped: Vec<_> = history.stopped.iter().filter(|((name, _), _)| *name == server.name).collect();
    let since = stopped.iter().map(|(_, stopped)| stopped.since).min()?;
    let names = stopped.iter().take(STREAMS).map(|((_, stream), _)| stream.name());
    let volumes: BTreeSet<&str> = stopped.iter().map(|(_, stopped)| stopped.volume.as_str()).collect();
    let facts = [
        (FactName::Since, Fact::Time(since)),
        (FactName::Streams, Fact::Count(stopped.len() as u64)),
        (FactName::Names, Fact::Names(names.collect())),
        (FactName::Volumes, Fact::Names(volumes.into_iter().map(str::to_owned).collect())),
    ];
    let subject = Subject::MediaServer(server.name.clone());
    Some(condition(AlertName::RecordingStopped, subject, Case::Only, facts))
}

/// A catalogue that is not believed. One that was not read yet is no news.
fn untrusted(catalogue: &CatalogueView, volumes: &[VolumeView]) -> Option<Condition> {
    let why = catalogue.distrust.as_ref().filter(|why| **why != Distrust::NotYet)?;
    let trees = volumes.iter().flat_map(|volume| &volume.trees).map(|tree| &tree.policy);
    let mut trees: Vec<String> = trees
        .filter(|policy| policy.catalogues.contains(&catalogue.name))
        .map(|policy| policy.tree.to_string())
        .collect();
    trees.sort();
    let mut facts = Facts::from([
        (FactName::Kind, Fact::Text(catalogue.kind.to_string())),
        (FactName::Trees, Fact::Names(trees)),
        because(why),
    ]);
    if let Some(read_at) = catalogue.read_at {
        facts.insert(FactName::LastRead, Fact::Time(read_at));
        facts.insert(FactName::Rows, Fact::Count(catalogue.counts.rows));
    }
    let subject = Subject::Catalogue(catalogue.name.clone());
    Some(condition(AlertName::CatalogueUntrusted, subject, Case::Only, facts))
}

/// Proven orphans grew within a day by more than a hundredth of what was recorded: what counts is growth, not that there are some.
fn growing(view: &TreeView) -> Option<Condition> {
    let (grown, recorded) = view.orphans.growth?;
    if u128::from(grown.0) * 100 <= u128::from(recorded.0) {
        return None;
    }
    let mut facts = Facts::from([(FactName::Grown, Fact::Bytes(grown)), (FactName::Recorded, Fact::Bytes(recorded))]);
    let kinds = [
        (view.orphans.uncatalogued.unwrap_or_default(), FactName::Uncatalogued, FactName::UncataloguedBytes),
        (view.orphans.leftovers, FactName::Leftovers, FactName::LeftoverBytes),
    ];
    for (tally, files, bytes) in kinds.into_iter().filter(|(tally, ..)| tally.files > 0) {
        facts.insert(files, Fact::Count(tally.files));
        facts.insert(bytes, Fact::Bytes(tally.bytes));
    }
    Some(condition(AlertName::OrphansGrowing, Subject::Tree(view.policy.tree.clone()), Case::Only, facts))
}

/// Streams that lost what they are promised.
fn broken(volume: &VolumeView, view: &TreeView, history: &History, now: Timestamp) -> Option<Condition> {
    if !history.lost.keys().any(|(tree, _)| *tree == view.policy.tree) {
        return None;
    }
    let standings = standings(&view.policy, &view.survey, history, now);
    let broken: Vec<&Standing> = standings.iter().take_while(|stream| stream.broken()).collect();
    let worst = broken.first()?;
    let names = broken.iter().take(STREAMS).map(|stream| stream.stream.to_string());
    let mut facts = Facts::from([
        (FactName::Streams, Fact::Count(broken.len() as u64)),
        (FactName::Names, Fact::Names(names.collect())),
        (FactName::Promised, Fact::Span(worst.promised)),
        (FactName::Achieved, Fact::Span(worst.achieved)),
    ]);
    if let Some(promises) = volume.promises().filter(|promises| !promises.fit()) {
        facts.insert(FactName::Fits, Fact::Span(promises.fits));
    }
    Some(condition(AlertName::RetentionBroken, Subject::Tree(view.policy.tree.clone()), Case::Only, facts))
}

fn of_volume(volume: &VolumeView, history: &History, now: Timestamp, out: &mut Vec<Condition>) {
    let space = space(volume);
    let mut push = |alert, case, facts: Facts| {
        let facts = space.clone().into_iter().chain(facts);
        out.push(condition(alert, Subject::Volume(volume.name.clone()), case, facts));
    };
    match &volume.pressure {
        Pressure::Normal => {}
        Pressure::Reclaiming { since, deficit } => {
            let usual = volume.last_run.as_ref().map_or(Duration::ZERO, |run| run.took.saturating_mul(3));
            let mut facts = missing(*deficit);
            if volume.trees.iter().all(|tree| tree.policy.mode == Mode::Observe) {
                push(AlertName::VolumePressure, Case::Observed, facts);
            } else if filled_by_others(volume, *since, *deficit) {
                facts.extend(foreign(volume));
                push(AlertName::VolumePressure, Case::Foreign, facts);
            } else if now.since(*since) > RUN.max(usual) {
                facts.extend(foreign(volume));
                facts.insert(FactName::Lasting, Fact::Span(now.since(*since)));
                let last = volume.last_run.as_ref().map(|run| (FactName::LastRun, Fact::Reason((&run.why).into())));
                facts.extend(last);
                push(AlertName::VolumePressure, Case::Late, facts);
            }
        }
        Pressure::Exhausted { deficit, .. } => {
            let mut facts = missing(*deficit);
            facts.extend(foreign(volume));
            let shared = volume.spared_as(SparedReason::Shared);
            if shared.files > 0 {
                facts.insert(FactName::SharedFiles, Fact::Count(shared.files));
                facts.insert(FactName::Shared, Fact::Bytes(shared.bytes));
            }
            facts.extend(failed(volume, history));
            push(AlertName::VolumeExhausted, Case::Only, facts);
        }
        Pressure::Blind { why: Unusable::ReadOnly, .. } => {
            push(AlertName::VolumeReadOnly, Case::Only, Facts::new());
        }
        Pressure::Blind { why, .. } => push(AlertName::VolumeBlind, Case::Volume, Facts::from([because(why)])),
    }
    if let Some(stall) = &volume.stalled {
        let facts = [(FactName::Missing, Fact::Bytes(stall.missing)), because(&stall.why)];
        push(AlertName::SpaceNotReclaimed, Case::Stalled, Facts::from(facts));
    } else if let Some((_, Some(wrong))) = &volume.canary {
        push(AlertName::SpaceNotReclaimed, Case::Probe, Facts::from([because(wrong)]));
    }
}

/// What is available, if that is known.
fn space(volume: &VolumeView) -> Facts {
    let space = volume.reading.as_ref().ok().map(|reading| reading.space);
    space.map_or_else(Facts::new, |space| {
        let size = (FactName::Size, Fact::Bytes(space.size));
        Facts::from([(FactName::Available, Fact::Bytes(space.available)), size])
    })
}

fn missing(deficit: Deficit) -> Facts {
    let inodes = (FactName::MissingInodes, Fact::Count(deficit.inodes));
    Facts::from([(FactName::Missing, Fact::Bytes(deficit.bytes)), inodes])
}

/// Others caused at least half of what is missing. Between its marks a volume is on its way down, and growth of ours that no scan has
/// seen yet looks like that of others.
fn filled_by_others(volume: &VolumeView, since: Timestamp, deficit: Deficit) -> bool {
    let above = volume.reading.as_ref().is_ok_and(|reading| {
        let space = &reading.space;
        space.available < volume.marks.thresholds(space).high
    });
    let scanned = volume.trees.iter().all(|tree| tree.inventory.started >= since);
    let foreign = volume.foreign.as_ref().is_some_and(|foreign| foreign.bytes >= deficit.bytes.scaled(1, 2));
    above && scanned && foreign
}

/// What was chosen on the volume and could not be deleted, and why.
fn failed(volume: &VolumeView, history: &History) -> Facts {
    let here = |failure: &&Failure| volume.trees.iter().any(|tree| tree.policy.tree == failure.target.tree);
    let failures: Vec<&Failure> = history.failures.values().filter(here).collect();
    if failures.is_empty() {
        return Facts::new();
    }
    let bytes = failures.iter().map(|failure| failure.target.bytes).sum();
    let all = [(FactName::Failed, Fact::Count(failures.len() as u64)), (FactName::FailedBytes, Fact::Bytes(bytes))];
    all.into_iter().chain([causes(&failures)]).collect()
}

/// What others caused, and where it may have gone.
fn foreign(volume: &VolumeView) -> Facts {
    volume.foreign.as_ref().map_or_else(Facts::new, |foreign| {
        Facts::from([
            (FactName::Foreign, Fact::Bytes(foreign.bytes)),
            (FactName::Largest, Fact::Sizes(foreign.largest.clone())),
            (FactName::Complete, Fact::Flag(foreign.complete)),
        ])
    })
}

fn of_tree(view: &TreeView, history: &History, now: Timestamp, out: &mut Vec<Condition>) {
    let tree = &view.policy.tree;
    out.extend(growing(view));
    let lasts = |failure: &&Failure| failure.attempts >= ATTEMPTS || now.since(failure.since) >= FAILING;
    let failures = history.failures.values().filter(|failure| failure.target.tree == *tree);
    let (locked, failing): (Vec<&Failure>, Vec<&Failure>) =
        failures.partition(|failure| matches!(failure.cause, Cause::Locked | Cause::InUse));
    let held: Vec<UnreclaimedItem> =
        history.held.values().filter(|held| held.target.tree == *tree).map(held_open).collect();
    let items = |failures: &[&Failure]| failures.iter().map(|failure| item(failure)).collect::<Vec<_>>();
    let facts = |failures| Facts::from([causes(failures), (FactName::Directory, Fact::Text(view.path.clone()))]);
    // Once one has lasted, all of its kind are told of: a message that names one of many misleads.
    let groups = [
        (AlertName::RecordingLocked, Case::Only, locked.iter().any(lasts), items(&locked), facts(&locked)),
        (AlertName::DeletionFailing, Case::Only, failing.iter().any(lasts), items(&failing), facts(&failing)),
        (AlertName::SpaceNotReclaimed, Case::Open, !held.is_empty(), held, Facts::new()),
    ];
    for (alert, case, told, items, mut facts) in groups {
        if !told {
            continue;
        }
        let mut all = Tally::default();
        items.iter().for_each(|item| all.add(item.bytes));
        facts.extend(holders(&items));
        let mut found = condition(alert, Subject::Tree(tree.clone()), case, facts);
        found.unreclaimed = all;
        found.items = items.into_iter().take(ITEMS).collect();
        out.push(found);
    }
}

/// How many files fail for which cause.
fn causes(failures: &[&Failure]) -> (FactName, Fact) {
    let mut counts = BTreeMap::<Cause, u64>::new();
    failures.iter().for_each(|failure| *counts.entry(failure.cause).or_default() += 1);
    let counts = counts.into_iter().map(|(cause, count)| (cause.to_string(), count)).collect();
    (FactName::Causes, Fact::Counts(counts))
}

/// Who has the files open, as far as that is known.
fn holders(items: &[UnreclaimedItem]) -> Option<(FactName, Fact)> {
    let known: BTreeSet<&str> = items.iter().filter_map(|item| item.holder.as_deref()).collect();
    let names: Vec<String> = known.into_iter().take(HOLDERS).map(str::to_owned).collect();
    (!names.is_empty()).then_some((FactName::Holders, Fact::Names(names)))
}

fn item(failure: &Failure) -> UnreclaimedItem {
    UnreclaimedItem {
        tree: failure.target.tree.clone(),
        path: failure.target.path.clone(),
        bytes: failure.target.bytes,
        cause: failure.cause.unreclaimed(),
        failure: Some(failure.cause),
        detail: match failure.cause {
            Cause::Locked | Cause::InUse => String::new(),
            Cause::Permission
            | Cause::ReadOnly
            | Cause::Io
            | Cause::Busy
            | Cause::Changed
            | Cause::TooManyFiles
            | Cause::Unknown => failure.error.clone(),
        },
        holder: failure.holder.as_ref().map(ToString::to_string),
    }
}

fn held_open(held: &HeldOpen) -> UnreclaimedItem {
    UnreclaimedItem {
        tree: held.target.tree.clone(),
        path: held.target.path.clone(),
        bytes: held.bytes,
        cause: Unreclaimed::HeldOpen,
        failure: None,
        detail: String::new(),
        holder: held.holder.as_ref().map(ToString::to_string),
    }
}

#[cfg(test)]
#[path = "conditions_tests.rs"]
pub(crate) mod tests;
