//! What was seen, for people: one screen.

use std::fmt::{self, Write as _};

use super::json::problem;
use crate::daemon::{TreeView, VolumeView};
use crate::domain::plan::Plan;
use crate::domain::survey::until_full;
use crate::domain::units::{Percent, show_duration};
use crate::domain::volume::Reading;

/// How many recordings are named of those that would go first.
const FIRST: usize = 20;
/// How many streams are named.
const STREAMS: usize = 10;

/// The first screen: everything a person wants to know before trusting the guard with these trees.
pub(super) fn first(seen: &[VolumeView]) -> Result<String, fmt::Error> {
    let mut out = scan(seen)?;
    out.push('\n');
    out.push_str(&plan(seen)?);
    writeln!(out, "\nObserve mode: nothing is deleted, moved or written.")?;
    Ok(out)
}

/// What is there.
pub(super) fn scan(seen: &[VolumeView]) -> Result<String, fmt::Error> {
    let mut out = String::new();
    for volume in seen {
        writeln!(out, "volume {} ({})", volume.name, volume.traits.kind)?;
        match &volume.reading {
            Ok(reading) => space(&mut out, volume, reading)?,
            Err(why) => writeln!(out, "  BLIND: {why}. Nothing is planned for a volume that cannot be read.")?,
        }
        for trap in volume.traits.traps() {
            writeln!(out, "  take care: {trap}")?;
        }
        for tree in &volume.trees {
            describe(&mut out, tree)?;
        }
    }
    Ok(out)
}

fn space(out: &mut String, volume: &VolumeView, reading: &Reading) -> fmt::Result {
    let space = &reading.space;
    let used = space.used();
    let share = if space.usable().0 == 0 { 0 } else { used.scaled(10_000, space.usable().0).0 };
    let share = Percent::from_hundredths(u32::try_from(share).unwrap_or(u32::MAX));
    let at = volume.marks.thresholds(space);
    writeln!(out, "  {} of {} available, {share} used: {}", space.available, space.size, volume.pressure.as_str())?;
    writeln!(out, "  reclaims below {} available, until {}; critical below {}", at.high, at.low, at.critical)?;
    match until_full(space.available, volume.inflow()) {
        Some(span) => writeln!(out, "  full in {} at {} a second", show_duration(span), volume.inflow()),
        None => writeln!(out, "  nothing was recorded within a day, so there is no telling when it is full"),
    }
}

fn describe(out: &mut String, tree: &TreeView) -> fmt::Result {
    let survey = &tree.survey;
    writeln!(out, "\ntree {} ({})", tree.policy.tree, tree.path)?;
    match &tree.pick {
        Some(pick) => writeln!(out, "  layout {} (picked: {})", tree.policy.layout.name(), pick.why)?,
        None => writeln!(out, "  layout {}", tree.policy.layout.name())?,
    }
    writeln!(
        out,
        "  {} recordings, {}, of {} streams",
        survey.recordings.files,
        survey.recordings.bytes,
        survey.streams.len()
    )?;
    if let (Some(oldest), Some(newest)) = (survey.oldest, survey.newest) {
        writeln!(out, "  from {oldest} to {newest}, {} a second", survey.inflow)?;
    }
    let mut streams: Vec<_> = survey.streams.iter().collect();
    streams.sort_by_key(|stream| std::cmp::Reverse(stream.recordings.bytes));
    for stream in streams.iter().take(STREAMS) {
        writeln!(out, "    {}: {} recordings, {}", stream.name, stream.recordings.files, stream.recordings.bytes)?;
    }
    if streams.len() > STREAMS {
        writeln!(out, "    and {} more streams", streams.len() - STREAMS)?;
    }
    if survey.in_progress.files > 0 {
        writeln!(out, "  {} files in progress", survey.in_progress.files)?;
    }
    if survey.leftovers.files > 0 {
        writeln!(out, "  {} leftovers, {}", survey.leftovers.files, survey.leftovers.bytes)?;
    }
    if !tree.inventory.complete() {
        writeln!(out, "  INCOMPLETE: {} places could not be read", tree.inventory.problem_count)?;
        for place in &tree.inventory.problems {
            writeln!(out, "    {}", problem(place))?;
        }
    }
    let over = &tree.inventory.passed_over;
    for mount in &over.mounts {
        writeln!(out, "  passed over: `{mount}` is another mount")?;
    }
    if over.symlinks + over.special > 0 {
        writeln!(out, "  passed over: {} symbolic links, {} pipes, sockets or devices", over.symlinks, over.special)?;
    }
    Ok(())
}

/// What would go.
pub(super) fn plan(seen: &[VolumeView]) -> Result<String, fmt::Error> {
    let mut out = String::new();
    for volume in seen {
        match &volume.plan {
            Some(plan) => one_plan(&mut out, plan)?,
            None => writeln!(out, "volume {}: blind, so there is no plan", volume.name)?,
        }
    }
    Ok(out)
}

fn one_plan(out: &mut String, plan: &Plan) -> fmt::Result {
    if plan.items.is_empty() {
        writeln!(out, "plan for {}: nothing has to go now", plan.volume)?;
    } else {
        writeln!(
            out,
            "plan {} for {}: {} recordings, {}, towards {}",
            plan.id,
            plan.volume,
            plan.items.len(),
            plan.bytes(),
            plan.target.bytes
        )?;
    }
    if !plan.shortfall.is_zero() {
        writeln!(
            out,
            "  SHORTFALL: {} and {} inodes cannot be given back",
            plan.shortfall.bytes, plan.shortfall.inodes
        )?;
    }
    let (title, items) =
        if plan.items.is_empty() { ("would go first", &plan.next) } else { ("goes first", &plan.items) };
    if !items.is_empty() {
        writeln!(out, "  {title}:")?;
    }
    for item in items.iter().take(FIRST) {
        let tree = &plan.trees[item.tree].policy.tree;
        writeln!(out, "    {} in {tree}: {}, {}", plan.path(item), plan.recording(item).bytes, plan.reason(item))?;
    }
    for spared in &plan.spared {
        writeln!(
            out,
            "  spared in {}: {} files, {}, {}",
            spared.tree, spared.tally.files, spared.tally.bytes, spared.reason
        )?;
    }
    Ok(())
}
