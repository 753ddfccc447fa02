//! Why one recording goes or stays, by which rule, and when it will go.

use std::time::Duration;

use super::archive::Cold;
use super::clock_watch::Moment;
use super::deletion::{Cap, RuleKind, SparedReason};
use super::history::History;
use super::path::RelPath;
use super::plan::{Plan, TreeFacts, newest_of_each, plan, spared_because};
use super::pressure::{Deficit, Pressure, assess};
use super::recording::{Kind, Recording};
use super::retention::{Mode, Rule};
use super::status::{Cut, PlanBasis, VolumeView};
use super::units::{Bytes, Timestamp, show_duration};

impl SparedReason {
    /// Why it stays, as the rest of "it stays: …".
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Protected => {
                "a `protect` pattern of the configuration covers it, or the platform marks it as a favourite"
            }
            Self::Hold => "a person's hold covers it",
            Self::Young => "it is younger than the tree's `min_age`",
            Self::Open => "somebody has it open; its deletion is tried again",
            Self::Live => "it is or may be being written, or was left unfinished",
            Self::Newest => "it is the newest of a stream that is live or wrote within a day",
            Self::Keep => "its stream's `keep` covers it",
            Self::Linked => "it has other names (hard links), so deleting it gives nothing back",
            Self::Unrecognised => "the tree's layout does not know its name",
            Self::Quarantined => "it is in quarantine",
            Self::Shared => "snapshots or reflink copies share its blocks, so deleting it gives nothing back",
            Self::ArchivePending => "it is not archived yet, or is the copy of a recording that has not gone yet",
        }
    }

    /// No rule and no pressure lets it go while that is so.
    fn for_good(self) -> bool {
        match self {
            Self::Protected | Self::Hold | Self::Linked | Self::Unrecognised | Self::Quarantined => true,
            Self::Young | Self::Open | Self::Live | Self::Newest | Self::Keep | Self::Shared | Self::ArchivePending => {
                false
            }
        }
    }
}

impl VolumeView {
    /// Why the recording at `path` goes or stays, by which rule, and when it will go: for each tree that has one of that name; empty if
    /// none has.
    #[must_use]
    pub fn explain(&self, path: &RelPath, history: &History, now: Timestamp) -> Vec<String> {
        let Some(basis) = &self.basis else { return Vec::new() };
        let find = |tree: &TreeFacts| {
            let at = |path: &RelPath| tree.inventory.files().find(|seen| tree.inventory.path(seen.index) == *path);
            at(path).or_else(|| tree.policy.layout.unit_of(path).and_then(|day| at(&day)))
        };
        let found: Vec<(usize, Recording)> =
            basis.trees.iter().enumerate().filter_map(|(index, tree)| Some((index, find(tree)?))).collect();
        let Some((cut, cuts)) = self.cut_plan_unasked(now, history).filter(|_| !found.is_empty()) else {
            return Vec::new();
        };
        let moment = basis.skew.at(now);
        let whole = |target| plan(&self.name, basis.trees.clone(), target, &moment);
        let all = Deficit { bytes: Bytes(u64::MAX), inodes: 0, critical: true };
        let (wanted, order) = (whole(basis.target), whole(all));
        let told = Told { view: self, basis, history, moment, cut, cuts, wanted, order };
        found.into_iter().map(|(index, seen)| told.tell(index, &seen)).collect()
    }
}

/// All that is needed to explain recordings of one volume.
struct Told<'a> {
    view: &'a VolumeView,
    basis: &'a PlanBasis,
    history: &'a History,
    moment: Moment,
    /// What goes now.
    cut: Plan,
    /// The caps that cut it.
    cuts: Vec<Cut>,
    /// What would go now if neither a cap nor the window kept it.
    wanted: Plan,
    /// What would go if everything had to.
    order: Plan,
}

/// Where an item stands in a plan.
fn place(plan: &Plan, tree: usize, seen: &Recording) -> Option<usize> {
    plan.items.iter().position(|item| (item.tree, item.file) == (tree, seen.index))
}

impl Told<'_> {
    fn tell(&self, index: usize, seen: &Recording) -> String {
        let tree = &self.basis.trees[index];
        let name = &tree.policy.tree;
        let day = seen.unit.then(|| tree.inventory.path(seen.index));
        let whole = day.map(|day| format!(", as all {} files of `{day}` do", seen.files)).unwrap_or_default();
        if tree.gone.contains(seen.index) {
            return format!("tree {name}: it has gone since the last scan{whole}");
        }
        let mut said = Vec::new();
        let spared = spared_because(tree, seen, &self.moment);
        let mut caps_told = false;
        if let Some(at) = place(&self.cut, index, seen) {
            let reason = self.cut.reason(&self.cut.items[at]);
            said.push(format!("it goes now{whole}, as number {} of {}: {reason}", at + 1, self.cut.items.len()));
        } else if tree.waiting.contains(&seen.index) {
            said.push(format!(
                "it stays for now{whole}: its deletion failed or was refused; see `failures list` and `journal explain`"
            ));
        } else if let Some(at) = place(&self.wanted, index, seen) {
            let (why, by_cap) = self.kept_back(index, at);
            caps_told = by_cap;
            said.push(format!("it stays for now{whole}: {why}"));
        } else if let Some(reason) = spared.or_else(|| self.spared_from_pressure(tree, seen)) {
            said.push(format!("it stays{whole}: {}", reason.sentence()));
        } else if let Some(why) = self.covered(tree, seen) {
            said.push(format!("it stays{whole}: {why}"));
        } else {
            let age = show_duration(self.moment.now.since(seen.recorded()));
            said.push(format!("it stays for now{whole}: nothing asks for its space; it is {age} old"));
        }
        said.push(rule_of(tree, seen));
        said.extend(self.archived(tree, seen));
        let goes = place(&self.cut, index, seen).is_some() || place(&self.wanted, index, seen).is_some();
        if !goes && seen.kind == Kind::Recording && !spared.is_some_and(SparedReason::for_good) {
            said.extend(self.by_rules(tree, seen));
            said.extend(self.by_pressure(index, seen));
        }
        if let Some(trip) = self.history.caps.get(&(name.clone(), Cap::RunShare)).filter(|_| !caps_told) {
            said.push(format!(
                "Cap {} of tree {name} tripped at {} and waits for a person: until then retention deletes nothing there, and pressure only as much as flows in; `storage-guard cap acknowledge {name} {}` lets go of it",
                trip.cap, trip.since, trip.cap
            ));
        }
        if tree.policy.mode == Mode::Observe {
            said.push("The tree is only observed, so nothing is deleted there".to_owned());
        }
        format!("tree {name}: {}", said.join(". "))
    }

    /// Why something that is wanted does not go, and whether that is a cap.
    fn kept_back(&self, index: usize, at: usize) -> (String, bool) {
        let item = &self.wanted.items[at];
        let reason = self.wanted.reason(item);
        let (past, copied) = self.wanted.retention_bytes()[index];
        let refused = past.saturating_add(copied) > self.basis.allowances[index].retention;
        let shut = !self.basis.open[index];
        if item.rule.waits_for_window() && !refused && (shut || !self.basis.retention) {
            let why = match self.basis.window.filter(|_| shut) {
                Some(window) => format!("it waits for `cleanup.window`, {window}"),
                None => "it waits until it is known what the tree's catalogues protect".to_owned(),
            };
            return (format!("{reason}; {why}"), false);
        }
        let tree = &self.basis.trees[index].policy.tree;
        match self.cuts.iter().find(|cut| cut.tree == *tree) {
            Some(cut) => (format!("{reason}; {}", cut.sentence()), true),
            None => (format!("{reason}; it goes with one of the next runs"), false),
        }
    }

    /// Why it may not go for pressure, though a rule of retention may take it.
    fn spared_from_pressure(&self, tree: &TreeFacts, seen: &Recording) -> Option<SparedReason> {
        if newest_of_each(tree, &self.moment)[seen.stream.0 as usize] == Some(seen.index) {
            return Some(SparedReason::Newest);
        }
        (seen.bytes > Bytes::ZERO && tree.gives_back(seen) == Bytes::ZERO).then_some(SparedReason::Shared)
    }

    /// How its stream's `keep` covers it.
    fn covered(&self, tree: &TreeFacts, seen: &Recording) -> Option<String> {
        let keep = rule(tree, seen)?.keep;
        if self.moment.age(seen.recorded()) >= keep {
            return None;
        }
        let reading = self.view.reading.as_ref().ok();
        let critical = reading.is_some_and(|reading| assess(reading, &self.view.marks, self.view.inflow()).1.critical);
        let volume = match (critical, self.basis.target.is_zero()) {
            (false, _) => "the volume is not critical",
            (true, false) => "though the volume is critical, what goes before it is enough",
            (true, true) => "though the volume is critical, nothing is to be given back now",
        };
        let until = seen.recorded().plus(keep);
        Some(format!("{} until {until}, and {volume}", SparedReason::Keep.sentence()))
    }

    /// How it stands to its tree's archive.
    fn archived(&self, tree: &TreeFacts, seen: &Recording) -> Option<String> {
        let terms = tree.policy.archive.as_ref()?;
        let archive = &terms.archive;
        Some(match tree.cold(seen, &self.moment) {
            Cold::Unneeded => format!("Archive `{archive}` would not keep it any more, so it needs no copy"),
            Cold::Copied => format!("A verified copy of it is in archive `{archive}`"),
            Cold::Restored | Cold::RestoredUnsure => format!(
                "It was brought back from archive `{archive}`, and stays for {} unless pressure takes it",
                show_duration(terms.after)
            ),
            Cold::Due => format!("It waits to be copied to archive `{archive}`; see `status`"),
            Cold::Young if seen.ages_disagree() => {
                format!(
                    "It is copied to archive `{archive}` only under pressure: the times of its name and its file disagree by more than a day"
                )
            }
            Cold::Young => {
                let at = seen.recorded().plus(terms.after);
                format!(
                    "It is copied to archive `{archive}` at {at}, or sooner under pressure, and goes once the copy is verified"
                )
            }
        })
    }

    /// When retention takes it.
    fn by_rules(&self, tree: &TreeFacts, seen: &Recording) -> Vec<String> {
        let Some(rule) = rule(tree, seen) else { return Vec::new() };
        let mut said = Vec::new();
        if let Some(max) = rule.max_age {
            let named = seen.named.filter(|_| seen.ages_disagree());
            said.push(match named {
                Some(named) => format!(
                    "It never goes by age: the time in its name, {named}, and the file's, {}, disagree by more than a day",
                    seen.modified
                ),
                None => format!("By `max_age` it goes at {}{}", seen.recorded().plus(max), self.condition()),
            });
        }
        if rule.max_bytes.is_none() && rule.max_files.is_none() {
            return said;
        }
        // The oldest go first: what is newer has to fill the stream before it is the oldest that is too much.
        let place = |seen: &Recording| (seen.recorded(), seen.index);
        let counts = |other: &Recording| {
            other.stream == seen.stream
                && place(other) >= place(seen)
                && !tree.gone.contains(other.index)
                && !tree.waiting.contains(&other.index)
                && spared_because(tree, other, &self.moment).is_none()
        };
        let (mut bytes, mut files) = (Bytes::ZERO, 0_u64);
        for other in tree.inventory.files().filter(counts) {
            (bytes, files) = (bytes.saturating_add(other.bytes), files.saturating_add(u64::from(other.files)));
        }
        let (lately, over) = self.lately(tree, seen);
        if let Some(max) = rule.max_bytes {
            let room = max.saturating_sub(bytes);
            let when = after(room.0, lately.0, over);
            said.push(format!("By `max_bytes`, {max} a stream, it goes once {room} more are recorded: {when}"));
        }
        if let Some(max) = rule.max_files {
            let room = max.saturating_sub(files);
            let when = after(room, lately.1, over);
            said.push(format!("By `max_files`, {max} a stream, it goes once {room} files more are recorded: {when}"));
        }
        said
    }

    /// What else retention waits for.
    fn condition(&self) -> String {
        if !self.moment.trusted {
            return ", once the clock is trusted again".to_owned();
        }
        self.basis.window.map(|window| format!(", or in the next `cleanup.window`, {window}")).unwrap_or_default()
    }

    /// Bytes and files that its stream recorded lately, and within which span.
    fn lately(&self, tree: &TreeFacts, seen: &Recording) -> ((u64, u64), Duration) {
        let view = self.view.trees.iter().find(|view| view.policy.tree == tree.policy.tree);
        let name = tree.inventory.stream(seen.stream);
        let stream = view.and_then(|view| view.survey.streams.iter().find(|stream| stream.name == *name));
        stream.map_or(((0, 0), Duration::ZERO), |stream| ((stream.lately.bytes.0, stream.lately.files), stream.over))
    }

    /// When pressure takes it.
    fn by_pressure(&self, index: usize, seen: &Recording) -> Option<String> {
        let at = place(&self.order, index, seen)?;
        let item = self.order.items[at];
        match item.rule {
            RuleKind::BelowKeep => {
                return Some(
                    "Pressure takes it before that only once the volume is critical and nothing beyond `keep` is left"
                        .to_owned(),
                );
            }
            RuleKind::Unarchived => {
                return Some(
                    "Pressure takes it without a copy only once the volume is critical and nothing that has one is left"
                        .to_owned(),
                );
            }
            RuleKind::Pressure | RuleKind::StreamShare | RuleKind::Duplicate | RuleKind::Budget => {}
            RuleKind::Archived
            | RuleKind::MaxAge
            | RuleKind::MaxBytes
            | RuleKind::MaxFiles
            | RuleKind::Requested
            | RuleKind::Orphan
            | RuleKind::Leftover
            | RuleKind::Quarantine => return None,
        }
        let earlier = self.order.items[..at].iter();
        let before: Bytes =
            earlier.map(|item| self.basis.trees[item.tree].gives_back(&self.order.recording(item))).sum();
        let space = self.view.reading.as_ref().ok()?.space;
        let marks = self.view.marks.thresholds(&space);
        // Each run takes what lies between the marks, and then as much flows in again.
        let step = marks.low.saturating_sub(marks.high);
        let reclaiming = match self.view.pressure {
            Pressure::Reclaiming { .. } | Pressure::Exhausted { .. } => true,
            Pressure::Normal | Pressure::Blind { .. } => false,
        };
        let (first, left) = if reclaiming {
            (step, before.saturating_sub(marks.low.saturating_sub(space.available)))
        } else {
            (space.available.saturating_sub(marks.high), before)
        };
        let runs = left.0.checked_div(step.0).map_or(left, |runs| step.saturating_mul(runs));
        let flows = first.saturating_add(runs);
        let when = after(flows.0, self.view.inflow().0, Duration::from_secs(1));
        let nothing = rule(&self.basis.trees[index], seen).is_none_or(|rule| rule.keep.is_zero());
        let why = if nothing { "nothing keeps its stream" } else { "it is beyond what its stream keeps" };
        Some(format!(
            "It may go under pressure, since {why}: {before} go before it, and {flows} have to flow in: {when}"
        ))
    }
}

fn rule<'a>(tree: &'a TreeFacts, seen: &Recording) -> Option<&'a Rule> {
    tree.policy.rule_of(tree.inventory.stream(seen.stream)).map(|(_, rule)| rule)
}

/// Which rule applies.
fn rule_of(tree: &TreeFacts, seen: &Recording) -> String {
    let stream = tree.inventory.stream(seen.stream);
    match tree.policy.rule_of(stream) {
        Some((at, rule)) => {
            format!(
                "Rule {} of the tree's `retention` (`{}`) applies to stream `{stream}`",
                at + 1,
                rule.stream.as_str()
            )
        }
        None if tree.policy.retention.is_empty() => "The tree has no `retention`".to_owned(),
        None => format!("No rule of the tree's `retention` matches stream `{stream}`"),
    }
}

/// When so much has flowed in, of which so much did within a span.
fn after(amount: u64, flowed: u64, span: Duration) -> String {
    let millis = u128::from(amount) * span.as_millis();
    match millis.checked_div(u128::from(flowed)) {
        Some(millis) => {
            let secs = u64::try_from(millis / 1000).unwrap_or(u64::MAX);
            format!("at the inflow of now in about {}", show_duration(Duration::from_secs(secs)))
        }
        None => "nothing was recorded of late, so there is no telling when".to_owned(),
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
pub(super) mod tests;
