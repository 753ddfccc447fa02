//! What is known, for people: one screen. Made from the API's shapes, so that it says the same of a running guard and of trees that
//! this process looked at itself.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde_json::Value;

use super::alerts::about;
use super::media;
use super::records::word;
use crate::domain::path::show_bytes;
use crate::domain::settings::Severity;
use crate::domain::units::{Bytes, show_duration};
use crate::server::archive::Archive;
use crate::server::relays::Relay;
use crate::server::shapes::{Catalogue, Channel, Plan, PlanItem, Status, Tally, Tree, Volume};

/// How many recordings are named of those that would go first.
const FIRST: usize = 20;

/// How many alerts are shown of those that fire.
const ALERTS: usize = 10;

/// The first screen: everything a person wants to know before trusting the guard with these trees.
pub(super) fn first(status: &Status, plans: &[Plan]) -> Result<String, fmt::Error> {
    let mut out = scan(status)?;
    out.push('\n');
    out.push_str(&plan(status, plans)?);
    if status.mode == "observe" {
        writeln!(out, "\nObserve mode: nothing is deleted, moved or written in a tree.")?;
    } else {
        let trees: Vec<&str> =
            status.trees.iter().filter(|tree| tree.mode == "enforce").map(|tree| tree.name.as_str()).collect();
        writeln!(out, "\nEnforce mode: the guard deletes in {} what its plans name.", trees.join(", "))?;
    }
    Ok(out)
}

/// What is there.
pub(super) fn scan(status: &Status) -> Result<String, fmt::Error> {
    let mut out = String::new();
    for volume in &status.volumes {
        describe_volume(&mut out, volume)?;
        for tree in status.trees.iter().filter(|tree| tree.volume == volume.name) {
            describe_tree(&mut out, tree)?;
        }
    }
    for catalogue in &status.catalogues {
        describe_catalogue(&mut out, catalogue)?;
    }
    for server in &status.media_servers {
        media::describe(&mut out, server)?;
    }
    Ok(out)
}

/// What a person wants to know first.
pub(super) fn status(status: &Status, firing: Option<&[Value]>, channels: &[Channel]) -> Result<String, fmt::Error> {
    let mut out = String::new();
    if let Some(since) = &status.delivery_failing_since {
        writeln!(out, "ALERTS ARE NOT DELIVERED since {since}: no channel works; the channels below say why")?;
    }
    writeln!(out, "mode {}", status.mode)?;
    describe_alerts(&mut out, firing)?;
    if let Some(alerts) = status.alerts.filter(|alerts| alerts.muted + alerts.silences > 0) {
        writeln!(
            out,
            "MUTED: {} of {} firing alerts; silences in effect: {}; see `storage-guard alerts list`",
            alerts.muted, alerts.firing, alerts.silences
        )?;
    }
    for volume in &status.volumes {
        describe_volume(&mut out, volume)?;
        if let Some(since) = &volume.running_since {
            writeln!(out, "  a run is being carried out since {since}")?;
        }
        if let Some(run) = &volume.last_run {
            writeln!(
                out,
                "  last run {}: {} ({}); {} recordings deleted, {} of {} came back, in {}",
                run.finished,
                run.result,
                run.why,
                run.deleted.files,
                Bytes(run.reclaimed_bytes),
                Bytes(run.deleted.bytes),
                show_duration(Duration::from_secs(run.seconds))
            )?;
        }
        for tree in status.trees.iter().filter(|tree| tree.volume == volume.name) {
            writeln!(
                out,
                "  tree {} ({}): {} recordings, {}, oldest {}",
                tree.name,
                tree.mode,
                tree.files,
                Bytes(tree.bytes),
                tree.oldest.as_deref().unwrap_or("none")
            )?;
            if tree.unreclaimed.files > 0 {
                writeln!(
                    out,
                    "    UNRECLAIMED: {} recordings, {}; see `storage-guard failures list`",
                    tree.unreclaimed.files,
                    Bytes(tree.unreclaimed.bytes)
                )?;
            }
            describe_orphans(&mut out, tree, "    ")?;
            warn(&mut out, tree)?;
        }
    }
    for catalogue in &status.catalogues {
        describe_catalogue(&mut out, catalogue)?;
    }
    for server in &status.media_servers {
        media::describe(&mut out, server)?;
    }
    for archive in &status.archives {
        describe_archive(&mut out, archive)?;
    }
    for relay in &status.relays {
        describe_relay(&mut out, relay)?;
    }
    for channel in channels {
        describe_channel(&mut out, channel)?;
    }
    Ok(out)
}

/// What fires, the worst first.
fn describe_alerts(out: &mut String, firing: Option<&[Value]>) -> fmt::Result {
    let Some(firing) = firing else { return Ok(()) };
    if firing.is_empty() {
        return writeln!(out, "alerts: none");
    }
    let severity = |alert: &&Value| Severity::ALL.iter().find(|one| one.as_str() == word(alert, "severity"));
    let critical = firing.iter().filter(|alert| severity(alert) == Some(&Severity::Critical)).count();
    writeln!(out, "alerts: {} firing ({critical} critical)", firing.len())?;
    let mut firing: Vec<&Value> = firing.iter().collect();
    firing.sort_by_key(|alert| std::cmp::Reverse(severity(alert)));
    for alert in firing.iter().take(ALERTS) {
        let muted = if alert["muted_by"].is_object() { ", MUTED" } else { "" };
        writeln!(out, "  {}{muted}: {}", about(alert), word(alert, "summary"))?;
    }
    if firing.len() > ALERTS {
        writeln!(out, "  and {} more; see `storage-guard alerts list`", firing.len() - ALERTS)?;
    }
    Ok(())
}

/// What the platform behind a media server is still to hear.
fn describe_relay(out: &mut String, relay: &Relay) -> fmt::Result {
    write!(out, "relay of {}: ", relay.media_server)?;
    match &relay.oldest {
        None => write!(out, "nothing waits")?,
        Some(oldest) => write!(out, "{} hooks wait for the platform since {oldest}", relay.waiting)?,
    }
    if relay.set_aside > 0 {
        write!(out, ", {} of them refused", relay.set_aside)?;
    }
    if let (Some(since), Some(error)) = (&relay.failing_since, &relay.error) {
        write!(out, "; IT TAKES NONE since {since}: {error}")?;
    }
    if let (Some(since), Some(until)) = (&relay.unrelayed_since, &relay.kept_until) {
        write!(
            out,
            "; THERE IS NO RELAY since {since}: give it `hooks.relay` again and they are delivered, else they are dropped after {until}"
        )?;
    }
    if relay.dropped > 0 {
        write!(out, "; DROPPED: {}, for want of room", relay.dropped)?;
    }
    writeln!(out)
}

fn describe_channel(out: &mut String, channel: &Channel) -> fmt::Result {
    write!(out, "channel {} ({}): ", channel.name, channel.kind)?;
    let since = channel.since.as_deref().unwrap_or_default();
    match channel.state.as_str() {
        "working" => write!(out, "working since {since}")?,
        "failing" => {
            write!(out, "FAILING since {since}: {}", channel.last_error.as_deref().unwrap_or("no reason is known"))?;
        }
        _ => write!(out, "nothing was sent yet")?,
    }
    if channel.queued > 0 {
        let oldest = show_duration(Duration::from_secs(channel.oldest_seconds));
        write!(out, "; {} messages wait, the oldest for {oldest}", channel.queued)?;
    }
    writeln!(out)?;
    if channel.dropped > 0 {
        writeln!(out, "  DROPPED: {} messages since the guard was started", channel.dropped)?;
    }
    for message in &channel.last_dropped {
        let about: Vec<&str> = message.labels.values().map(String::as_str).collect();
        let about = if about.is_empty() { "the guard".to_owned() } else { about.join(", ") };
        let (alert, state, time) = (&message.alert, &message.state, &message.time);
        writeln!(out, "  dropped: {alert} of {about}, {state}, made {time}: {}", message.error)?;
    }
    Ok(())
}

fn describe_volume(out: &mut String, volume: &Volume) -> fmt::Result {
    writeln!(out, "volume {} ({})", volume.name, volume.filesystem)?;
    match (volume.size_bytes, volume.available_bytes) {
        (Some(size), Some(available)) => {
            let used = volume.used_ratio.unwrap_or(0.0) * 100.0;
            writeln!(out, "  {} of {} available, {used:.1}% used: {}", Bytes(available), Bytes(size), volume.pressure)?;
            if let Some(why) = &volume.blind_because {
                writeln!(out, "  BLIND: {why}. Nothing is planned for a volume that cannot be judged.")?;
            }
            let mark = |bytes: Option<u64>| Bytes(bytes.unwrap_or(0));
            writeln!(
                out,
                "  reclaims below {} available, until {}; critical below {}",
                mark(volume.high_bytes),
                mark(volume.low_bytes),
                mark(volume.critical_bytes)
            )?;
            match volume.seconds_until_full {
                Some(secs) => writeln!(
                    out,
                    "  full in {} at {} a second",
                    show_duration(Duration::from_secs(secs)),
                    Bytes(volume.inflow_bytes_per_second)
                )?,
                None => writeln!(out, "  nothing was recorded within a day, so there is no telling when it is full")?,
            }
            if let Some(promises) = &volume.promises {
                let loud = if promises.fits { "" } else { "PROMISES: " };
                writeln!(out, "  {loud}{}", promises.sentence)?;
            }
        }
        _ => {
            let why = volume.blind_because.as_deref().unwrap_or("it has not been read yet");
            writeln!(out, "  BLIND: {why}. Nothing is planned for a volume that cannot be judged.")?;
        }
    }
    if let Some(bytes) = volume.foreign_deficit_bytes {
        writeln!(out, "  NOT OURS: {} of what is missing was filled by others", Bytes(bytes))?;
        for directory in &volume.foreign_directories {
            writeln!(out, "    {} in {}", Bytes(directory.bytes), directory.path)?;
        }
    }
    if let Some(problem) = &volume.canary_problem {
        writeln!(out, "  WARNING: {problem}")?;
    }
    if let Some(why) = &volume.stalled_because {
        writeln!(out, "  STALLED: {why}")?;
    }
    for trap in &volume.traps {
        writeln!(out, "  take care: {trap}")?;
    }
    Ok(())
}

fn describe_tree(out: &mut String, tree: &Tree) -> fmt::Result {
    writeln!(out, "\ntree {} ({}), {}", tree.name, tree.path, tree.mode)?;
    match &tree.layout_because {
        Some(why) => writeln!(out, "  layout {} (picked: {why})", tree.layout)?,
        None => writeln!(out, "  layout {}", tree.layout)?,
    }
    writeln!(out, "  {} recordings, {}, of {} streams", tree.files, Bytes(tree.bytes), tree.streams)?;
    if let (Some(oldest), Some(newest)) = (&tree.oldest, &tree.newest) {
        writeln!(out, "  from {oldest} to {newest}, {} a second", Bytes(tree.inflow_bytes_per_second))?;
    }
    for stream in &tree.largest_streams {
        writeln!(out, "    {}: {} recordings, {}", stream.stream, stream.files, Bytes(stream.bytes))?;
    }
    if tree.streams > tree.largest_streams.len() {
        writeln!(out, "    and {} more streams", tree.streams - tree.largest_streams.len())?;
    }
    if tree.in_progress.files > 0 {
        writeln!(out, "  {} files in progress", tree.in_progress.files)?;
    }
    describe_orphans(out, tree, "  ")?;
    warn(out, tree)?;
    for mount in &tree.mounts {
        writeln!(out, "  passed over: `{mount}` is another mount")?;
    }
    if tree.symlinks + tree.special > 0 {
        writeln!(out, "  passed over: {} symbolic links, {} pipes, sockets or devices", tree.symlinks, tree.special)?;
    }
    Ok(())
}

/// What should not be there, what should be, and the command that says more.
fn describe_orphans(out: &mut String, tree: &Tree, indent: &str) -> fmt::Result {
    let name = &tree.name;
    let count = |of: Tally, what: &str| format!("{indent}{} {what}, {}", of.files, Bytes(of.bytes));
    match tree.orphans {
        Some(orphans) if orphans.files > 0 => {
            let orphans = count(orphans, "ORPHANS");
            writeln!(out, "{orphans}, which no catalogue knows; see `storage-guard orphans list {name}`")?;
        }
        Some(_) => {}
        None if tree.catalogues.is_empty() => {}
        None => writeln!(
            out,
            "{indent}orphans: not known, until a trusted catalogue that can prove it was compared; see `storage-guard catalogue list`"
        )?,
    }
    if tree.unproven.files > 0 {
        let unproven = count(tree.unproven, "recordings");
        writeln!(
            out,
            "{unproven}, that no catalogue knows, without proof; `storage-guard orphans list {name}` says what is wanted"
        )?;
    }
    if tree.quarantined.files > 0 {
        let quarantined = count(tree.quarantined, "files");
        writeln!(
            out,
            "{quarantined}, set aside as orphans; `storage-guard orphans restore {name} PATH` puts one back"
        )?;
    }
    if tree.leftovers.files > 0 {
        let leftovers = count(tree.leftovers, "leftovers");
        writeln!(out, "{leftovers}; see `storage-guard orphans list {name} --kind leftover`")?;
    }
    if tree.missing > 0 {
        writeln!(
            out,
            "{indent}{} MISSING: rows without a file that nobody here deleted; see `storage-guard missing list {name}`",
            tree.missing
        )?;
    }
    Ok(())
}

/// How far an archive is, and what keeps it.
fn describe_archive(out: &mut String, archive: &Archive) -> fmt::Result {
    write!(out, "archive {}: ", archive.name)?;
    match archive.waiting_files {
        0 => write!(out, "nothing waits to be copied")?,
        files => write!(out, "{files} recordings, {}, wait to be copied", Bytes(archive.waiting_bytes))?,
    }
    match &archive.copied_at {
        Some(at) => writeln!(out, "; {} since the guard was started, the last at {at}", archive.copied_files)?,
        None => writeln!(out, "; none since the guard was started")?,
    }
    if let Some(problem) = &archive.problem {
        let since = archive.problem_since.as_deref().unwrap_or("a while ago");
        writeln!(out, "  NOT COPIED since {since}: {}", show_bytes(problem.as_bytes()).0)?;
    }
    Ok(())
}

/// Whether a catalogue is believed, and what it is about. What it says itself is on one line.
fn describe_catalogue(out: &mut String, catalogue: &Catalogue) -> fmt::Result {
    let said = |text: &str| show_bytes(text.as_bytes()).0;
    write!(out, "catalogue {} ({}): ", catalogue.name, catalogue.kind)?;
    if !catalogue.trusted {
        let since = catalogue.since.as_deref().map(|since| format!(" since {since}")).unwrap_or_default();
        write!(out, "NOT TRUSTED{since}: {}; ", said(catalogue.reason.as_deref().unwrap_or("no reason is known")))?;
    }
    match &catalogue.read_at {
        Some(at) => write!(out, "{} rows at {at}", catalogue.rows)?,
        None => write!(out, "no rows yet")?,
    }
    let others = [(catalogue.foreign_rows, "of others"), (catalogue.bad_rows, "without a usable path")];
    for (rows, what) in others.into_iter().filter(|(rows, _)| *rows > 0) {
        write!(out, ", {rows} {what}")?;
    }
    writeln!(out)?;
    if !catalogue.trusted {
        writeln!(out, "  nothing is called an orphan by it meanwhile")?;
    }
    match &catalogue.remark {
        Some(remark) => writeln!(out, "  take care: {}", said(remark)),
        None => Ok(()),
    }
}

fn warn(out: &mut String, tree: &Tree) -> fmt::Result {
    if let Some(fault) = &tree.fault {
        writeln!(out, "  NOT TRUSTED: {fault}")?;
    }
    if !tree.complete {
        writeln!(out, "  INCOMPLETE: {} places could not be read", tree.problems.len())?;
        for place in &tree.problems {
            writeln!(out, "    {place}")?;
        }
    }
    if tree.set_aside.files > 0 {
        writeln!(
            out,
            "  {} files, {}, are set aside and wait to be settled",
            tree.set_aside.files,
            Bytes(tree.set_aside.bytes)
        )?;
    }
    Ok(())
}

/// What would go.
pub(super) fn plan(status: &Status, plans: &[Plan]) -> Result<String, fmt::Error> {
    let mut out = String::new();
    for plan in plans {
        one_plan(&mut out, plan)?;
    }
    for volume in status.volumes.iter().filter(|volume| volume.pressure == "blind") {
        writeln!(out, "volume {}: blind, so there is no plan", volume.name)?;
    }
    Ok(out)
}

fn one_plan(out: &mut String, plan: &Plan) -> fmt::Result {
    if plan.items.is_empty() {
        writeln!(out, "plan {} for {}: nothing has to go now", plan.id, plan.volume)?;
    } else {
        let bytes: Bytes = plan.items.iter().map(|item| Bytes(item.bytes)).sum();
        let (recordings, files) = (plan.items.len(), plan.items.iter().map(|item| item.files).sum::<u64>());
        let files = if files > recordings as u64 { format!(" of {files} files") } else { String::new() };
        writeln!(
            out,
            "plan {} for {}: {recordings} recordings{files}, {bytes}, towards {}",
            plan.id,
            plan.volume,
            Bytes(plan.target_bytes)
        )?;
    }
    if plan.shortfall_bytes > 0 {
        writeln!(out, "  SHORTFALL: {} cannot be given back", Bytes(plan.shortfall_bytes))?;
    }
    for cut in &plan.cut {
        writeln!(out, "  CUT: {}", cut.sentence)?;
    }
    let (title, items) =
        if plan.items.is_empty() { ("would go first", &plan.next) } else { ("goes first", &plan.items) };
    if !items.is_empty() {
        writeln!(out, "  {title}:")?;
    }
    for item in items.iter().take(FIRST) {
        writeln!(out, "    {}", show(item))?;
    }
    if items.len() > FIRST && !plan.items.is_empty() {
        writeln!(out, "    and {} more", items.len() - FIRST)?;
    }
    for spared in &plan.spared {
        writeln!(out, "  spared: {} files, {}, {}", spared.files, Bytes(spared.bytes), spared.reason)?;
    }
    Ok(())
}

fn show(item: &PlanItem) -> String {
    let files = if item.files > 1 { format!(" in {} files", item.files) } else { String::new() };
    format!("{} in {}: {}{files}, {}", item.path.path, item.tree, Bytes(item.bytes), item.reason)
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
