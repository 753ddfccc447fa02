//! What is known of a stream around a time in one tree: what lies on disk now, what hooks told, what catalogues list.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::catalogues::Catalogues;
use super::hub::Hub;
use crate::catalogue::Keeper;
use crate::domain::catalogue::{CatalogueKind, CatalogueRow, Place, RowId};
use crate::domain::cause::chain;
use crate::domain::demand::OfStream;
use crate::domain::gap::{Presence, Proof, ProofSource, Trace};
use crate::domain::gap_story::{DAY, begin_of};
use crate::domain::gap_time::Span;
use crate::domain::layout::Layout;
use crate::domain::names::{StreamId, TreeId};
use crate::domain::path::RelPath;
use crate::domain::recording::Kind;
use crate::domain::retention::TreePolicy;
use crate::domain::units::{Bytes, Timestamp, show_duration};
use crate::scan::StreamWalk;
use crate::store::{DatabaseError, KeptHook};
use crate::system::{Volumes, WritableDir, list_unit};

/// So many files are taken from a directory at once.
const FILES: usize = 4096;
/// What was written to so lately is still being written.
const LATELY: std::time::Duration = std::time::Duration::from_secs(600);

/// One tree.
pub(super) struct Site {
    pub(super) policy: Arc<TreePolicy>,
    pub(super) span: Span,
    pub(super) traces: BTreeMap<RelPath, Trace>,
    pub(super) slice: std::time::Duration,
    pub(super) doubts: Vec<String>,
    pub(super) deaf: Vec<String>,
    /// Anybody knows the stream.
    pub(super) known: bool,
    /// The tree; `None` where it cannot be looked at.
    dir: Option<Arc<dyn WritableDir>>,
    /// What lies there now.
    there: BTreeSet<RelPath>,
    /// The last scan, and what it saw of these.
    scanned: (Timestamp, BTreeSet<RelPath>),
}

impl Site {
    pub(super) fn new(policy: Arc<TreePolicy>, span: Span) -> Self {
        Self {
            policy,
            span,
            traces: BTreeMap::new(),
            slice: std::time::Duration::ZERO,
            doubts: Vec::new(),
            deaf: Vec::new(),
            known: false,
            dir: None,
            there: BTreeSet::new(),
            scanned: (Timestamp::default(), BTreeSet::new()),
        }
    }

    pub(super) fn tree(&self) -> &TreeId {
        &self.policy.tree
    }

    fn near(&self, begin: Timestamp) -> bool {
        begin >= self.span.from.minus(DAY) && begin <= self.span.to
    }

    /// The trace of a recording, if it may reach into the span.
    pub(super) fn trace(&mut self, path: &RelPath, begin: Timestamp) -> &mut Trace {
        self.known = true;
        self.traces.entry(path.clone()).or_insert_with(|| Trace {
            path: path.clone(),
            begin,
            end: None,
            bytes: Bytes::ZERO,
            presence: Presence::Absent,
            deeds: Vec::new(),
            witnesses: Vec::new(),
            heard: None,
        })
    }

    /// Whether a recording is wanted: it may reach into the span, or is the nearest of its kind before or after it. `nearest` are these two so
    /// far; what is not the nearest any more is forgotten, unless others know it too.
    fn wanted(&mut self, begin: Timestamp, path: &RelPath, nearest: &mut Nearest) -> bool {
        if self.near(begin) {
            return true;
        }
        let before = begin < self.span.from;
        let slot = if before { &mut nearest.before } else { &mut nearest.after };
        if slot.as_ref().is_some_and(|(known, _)| if before { *known >= begin } else { *known <= begin }) {
            return false;
        }
        if let Some((_, farther)) = slot.replace((begin, path.clone()))
            && let Some(trace) = self.traces.get(&farther)
            && trace.deeds.is_empty()
            && !nearest.kept.contains(&farther)
        {
            self.traces.remove(&farther);
        }
        true
    }

    /// Looks at the tree: what the last scan saw, and what lies there now.
    pub(super) fn look(&mut self, hub: &Hub, stream: &StreamId, machine: &dyn Volumes) {
        let tree = self.tree().clone();
        let seen = hub.with_tree(&tree, |volume, view| {
            let fault = view.fault.as_ref().or(volume.reading.as_ref().err()).map(ToString::to_string);
            (view.path.clone(), view.top, fault, view.inventory.clone(), view.survey.longest_slice)
        });
        let Some((path, top, fault, inventory, slice)) = seen else {
            self.doubts.push(format!("tree {tree} was not looked at yet"));
            return;
        };
        self.slice = slice;
        self.scanned.0 = inventory.finished;
        if let Some(index) = inventory.streams().iter().position(|name| name == stream) {
            self.known = true;
            let mut nearest = Nearest::default();
            for seen in inventory.files().filter(|seen| seen.stream.0 as usize == index) {
                let path = inventory.path(seen.index);
                let unit = inventory.unit(seen.index);
                if unit.is_some_and(|unit| self.near(unit.oldest.unwrap_or(seen.modified)) || self.near(seen.modified))
                {
                    // Its segments are looked at one by one.
                    continue;
                }
                let named = unit.map_or(seen.named, |unit| unit.oldest);
                let Some((begin, end)) = reach(named, Some(seen.modified)) else { continue };
                if self.wanted(begin, &path, &mut nearest) {
                    let trace = self.trace(&path, begin);
                    (trace.end, trace.bytes) = (end, seen.bytes);
                    self.scanned.1.insert(path);
                }
            }
        }
        let opened = match fault {
            Some(fault) => Err(fault),
            None => machine.open_tree(Path::new(&path)).map_err(|error| error.to_string()).and_then(|dir| {
                let same = top.is_none_or(|known| dir.top().is_ok_and(|top| (top.device, top.inode) == known));
                if same { Ok(dir) } else { Err("it is not the directory that it was".to_owned()) }
            }),
        };
        match opened {
            Ok(dir) => {
                self.walk(dir.as_ref(), stream, hub.now());
                self.dir = Some(dir);
            }
            Err(why) => self.doubts.push(format!("tree {tree} cannot be looked at now: {why}")),
        }
    }

    /// Reads the directories of the stream, day by day where they are ordered so.
    fn walk(&mut self, dir: &dyn WritableDir, stream: &StreamId, now: Timestamp) {
        let policy = self.policy.clone();
        let layout = &policy.layout;
        let days =
            if layout.of_one_day() { days(self.span, layout).into_iter().map(Some).collect() } else { vec![None] };
        for period in days {
            let wanted = OfStream { stream: stream.clone(), period, before: None, within: None };
            let mut walk = StreamWalk::new(wanted, layout);
            loop {
                let some = walk.next(dir, layout, FILES, &|| false);
                if some.is_empty() {
                    break;
                }
                for one in some {
                    if layout.is_unit(&one.path) {
                        self.segments(dir, &one.path, now);
                    } else {
                        let (kind, named) = (one.found.kind, one.found.named);
                        self.lies(&one.path, kind, named, one.identity.modified_at(), one.identity.allocated, now);
                    }
                }
            }
            if let Some((count, first)) = walk.problems() {
                self.doubts.push(format!("{count} directories of the stream cannot be read, the first: {first}"));
            }
        }
    }

    fn segments(&mut self, dir: &dyn WritableDir, unit: &RelPath, now: Timestamp) {
        let policy = self.policy.clone();
        let listed = list_unit(dir, &policy.layout, unit, now, &mut |hour, entry, kind| {
            let path = hour.join(&entry.name);
            let named = begin_of(&policy.layout, &path);
            self.lies(&path, kind, named, entry.identity.modified_at(), entry.identity.allocated, now);
        });
        if let Err(error) = listed {
            self.doubts.push(format!("`{unit}` cannot be read: {error}"));
        }
    }

    /// A file lies there now.
    fn lies(
        &mut self,
        path: &RelPath,
        kind: Kind,
        named: Option<Timestamp>,
        modified: Option<Timestamp>,
        bytes: Bytes,
        now: Timestamp,
    ) {
        self.known = true;
        let Some((begin, end)) = reach(named, modified) else { return };
        if !self.near(begin) {
            return;
        }
        let unfinished = kind == Kind::Unfinished;
        let written = unfinished && modified.is_some_and(|modified| now.since(modified) <= LATELY);
        let trace = self.trace(path, begin);
        (trace.end, trace.bytes) = (if written { Some(now) } else { end }, bytes);
        trace.presence = Presence::There { unfinished, remarks: Vec::new() };
        self.there.insert(path.clone());
    }

    /// Takes in what a media server told.
    pub(super) fn hear(&mut self, hook: &KeptHook, stream: &StreamId, keepers: &[Arc<Keeper>], nearest: &mut Nearest) {
        let KeptHook { number, record, at } = hook;
        let row = CatalogueRow {
            id: RowId::Number(*number),
            path: Some(record.path.clone()),
            media_server: Some(record.media_server.clone()),
            collect: false,
            start: Some(record.start),
        };
        let here = |keeper: &Arc<Keeper>| match keeper.place(&row) {
            Place::Tree(tree, path) if tree == *self.tree() => Some(path),
            Place::Tree(..) | Place::Foreign | Place::Bad => None,
        };
        let Some(path) = keepers.iter().find_map(here) else { return };
        if stream_at(&self.policy.layout, &path).as_deref() != Some(stream.as_str()) {
            return;
        }
        let begin = begin_of(&self.policy.layout, &path).unwrap_or(record.start);
        let known = self.traces.contains_key(&path);
        if known {
            nearest.kept.insert(path.clone());
        }
        if !self.wanted(begin, &path, nearest) && !known {
            return;
        }
        let length = std::time::Duration::from_millis(record.length);
        let text = format!(
            "media server {} told of it (record {number}): it begins at {} and is {} long",
            record.media_server,
            record.start,
            show_duration(length)
        );
        let trace = self.trace(&path, begin);
        trace.end = trace.end.or_else(|| (!length.is_zero()).then(|| begin.plus(length)));
        trace.heard = Some(trace.heard.map_or(*at, |heard| heard.min(*at)));
        trace.witnesses.push(Proof::new(ProofSource::Hooks, Some(*at), text));
    }

    /// Takes in what the catalogues of the tree list.
    pub(super) fn listed(&mut self, catalogues: &Catalogues, stream: &StreamId) {
        let mut hooks = false;
        for keeper in catalogues.of_tree(self.tree()) {
            let (name, view) = (keeper.name().clone(), keeper.view());
            if keeper.kind() == CatalogueKind::Hooks {
                hooks = true;
                continue;
            }
            if let Some(why) = view.distrust {
                self.deaf.push(format!("catalogue {name} is not trusted, and may lack rows: {why}"));
            }
            let Some(known) = keeper.last() else { continue };
            let rows = self.rows(&known.index, stream);
            match rows {
                Ok(rows) => {
                    for (path, row, start) in rows {
                        let begin = begin_of(&self.policy.layout, &path).or(start);
                        let Some(begin) = begin.filter(|begin| self.near(*begin)) else { continue };
                        let text = format!("row {row} of catalogue {name} lists it");
                        let proof = Proof::new(ProofSource::Catalogue, Some(known.as_of), text);
                        self.trace(&path, begin).witnesses.push(proof);
                    }
                }
                Err(error) => self.deaf.push(format!("what catalogue {name} lists cannot be read: {}", chain(&error))),
            }
        }
        if !hooks {
            let tree = self.tree();
            self.deaf
                .push(format!("tree {tree} names no catalogue of kind `hooks`, so that no hook is expected to tell"));
        }
    }

    fn rows(
        &self,
        index: &crate::store::CatalogueIndex,
        stream: &StreamId,
    ) -> Result<Vec<(RelPath, RowId, Option<Timestamp>)>, DatabaseError> {
        let layout = &self.policy.layout;
        let roots = layout.roots(stream);
        let days = days(self.span, layout);
        let mut out = Vec::new();
        index.numbered_folders(self.tree(), &mut |number, dir, _| {
            let below = |root: &RelPath| dir.as_ref().is_some_and(|dir| dir == root || dir.lies_in(root));
            let of_stream = roots.as_ref().is_none_or(|roots| roots.iter().any(below));
            let borne = dir.as_ref().and_then(|dir| layout.date_of(dir)).filter(|_| layout.of_one_day());
            if of_stream && borne.is_none_or(|day| days.contains(&day)) {
                index.rows_of_folder(number, &mut |name, row| {
                    let path = RelPath::within(dir.as_ref(), name).ok();
                    let ours = path.filter(|path| stream_at(layout, path).as_deref() == Some(stream.as_str()));
                    out.extend(ours.map(|path| (path, row.id, row.start)));
                    Ok(())
                })?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(out)
    }

    /// Looks for every recording that was not met on disk.
    pub(super) fn find_out(&mut self) {
        let (seen_at, seen) = &self.scanned;
        for trace in self.traces.values_mut().filter(|trace| !self.there.contains(&trace.path)) {
            trace.presence = match &self.dir {
                None => Presence::Unclear(self.doubts.first().cloned().unwrap_or_default()),
                Some(dir) => match dir.look(&trace.path) {
                    Ok(Some(_)) => Presence::There { unfinished: false, remarks: Vec::new() },
                    Ok(None) => Presence::Absent,
                    Err(error) => Presence::Unclear(error.to_string()),
                },
            };
            if trace.presence == Presence::Absent && seen.contains(&trace.path) {
                let text = "the scan that ended then saw it there, and it is not any more";
                trace.witnesses.push(Proof::new(ProofSource::Disk, Some(*seen_at), text));
            }
        }
    }
}

/// The nearest recordings before and after a span, of those that one source knows.
#[derive(Default)]
pub(super) struct Nearest {
    before: Option<(Timestamp, RelPath)>,
    after: Option<(Timestamp, RelPath)>,
    /// Known by others too.
    kept: BTreeSet<RelPath>,
}

fn stream_at(layout: &Layout, path: &RelPath) -> Option<String> {
    layout.recognise(path, 1).map(|found| found.stream)
}

/// From when to when a recording goes, by the time in its name and its last change; the end is not known of a copy.
fn reach(named: Option<Timestamp>, modified: Option<Timestamp>) -> Option<(Timestamp, Option<Timestamp>)> {
    match (named, modified) {
        (Some(named), Some(modified)) if modified >= named => {
            Some((named, Some(modified).filter(|end| end.since(named) <= DAY)))
        }
        // A name that tells the day alone stands for its end.
        (Some(named), Some(modified)) if named.since(modified) <= DAY => Some((modified, Some(modified))),
        (Some(named), _) => Some((named, None)),
        (None, Some(modified)) => Some((modified, Some(modified))),
        (None, None) => None,
    }
}

/// The days whose directories may hold what reaches into a span: some layouts name them where the cameras are, others in UTC.
fn days(span: Span, layout: &Layout) -> BTreeSet<Date> {
    let date = |at: Timestamp, zone: &TimeZone| {
        jiff::Timestamp::from_millisecond(at.millis()).ok().map(|at| at.to_zoned(zone.clone()).date())
    };
    let mut out = BTreeSet::new();
    for zone in [layout.zone().clone(), TimeZone::UTC] {
        let (first, last) = (date(span.from.minus(DAY), &zone), date(span.to, &zone));
        let mut next = first;
        while let Some(day) = next.filter(|day| last.is_some_and(|last| *day <= last)) {
            out.insert(day);
            next = day.tomorrow().ok();
        }
    }
    out
}
