//! Why a span of a stream is missing. What is known is gathered elsewhere, and judged here: each recording by itself, and each hole between
//! two of them. Where that does not suffice the answer is unknown, and says what is known all the same (promise 10).

use std::collections::BTreeMap;
use std::time::Duration;

use super::deletion::{Seq, words};
use super::gap_judge::{fate, holes, plural, shown};
use super::gap_story::{DAY, Deed, RunEnd, Stop};
use super::gap_time::Span;
use super::journal::Intent;
use super::names::TreeId;
use super::path::RelPath;
use super::units::{Bytes, Timestamp};

/// Between the end of a slice and the beginning of the next nothing is missing that is shorter than this: files bear seconds.
pub const SEAM: Duration = Duration::from_secs(5);
/// How long a slice is taken for where no other tells.
const USUAL: Duration = Duration::from_secs(3600);

words! {
    /// What became of a span of a stream.
    GapVerdict {
        /// There is a recording of it.
        Recorded = "recorded",
        /// Its recording is set aside, and can be put back.
        Quarantined = "quarantined",
        /// Its recording was copied to an archive, and then deleted here.
        Archived = "archived",
        /// Its recording was deleted by this guard.
        Deleted = "deleted",
        /// Its recording was there, is gone, and was not deleted by this guard.
        Removed = "removed",
        /// It was never recorded.
        NeverRecorded = "never_recorded",
        /// Nobody can tell.
        Unknown = "unknown",
    }
}

words! {
    /// Who says something.
    ProofSource {
        /// What lies in the tree.
        Disk = "disk",
        /// The guard's journal.
        Journal = "journal",
        /// What a media server told when it happened.
        Hooks = "hooks",
        /// A catalogue.
        Catalogue = "catalogue",
        /// A media server, asked now.
        MediaServer = "media_server",
        /// The guard itself, of what it can and cannot know.
        Guard = "guard",
    }
}

/// One thing that speaks for an answer, or is known besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Who says it.
    pub source: ProofSource,
    /// When it was said or seen.
    pub at: Option<Timestamp>,
    /// The number of the journal's entry.
    pub seq: Option<Seq>,
    /// What is said.
    pub text: String,
}

impl Proof {
    /// Something that is said.
    #[must_use]
    pub fn new(source: ProofSource, at: Option<Timestamp>, text: impl Into<String>) -> Self {
        Self { source, at, seq: None, text: text.into() }
    }

    /// An entry of the journal.
    pub(super) fn entry(seq: Seq, at: Timestamp, text: impl Into<String>) -> Self {
        Self { seq: Some(seq), ..Self::new(ProofSource::Journal, Some(at), text) }
    }
}

/// Whether a recording is where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// It is there.
    There {
        /// It is still being written, or was left over.
        unfinished: bool,
        /// What else is to be said of it: holds, that no catalogue lists it.
        remarks: Vec<String>,
    },
    /// It was looked for, and is not there.
    Absent,
    /// It could not be looked for: why.
    Unclear(String),
}

/// A recording that anybody knows or knew of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Its path below the tree.
    pub path: RelPath,
    /// When it begins.
    pub begin: Timestamp,
    /// When it ends, where somebody measured that.
    pub end: Option<Timestamp>,
    /// Its bytes; zero where nobody knows.
    pub bytes: Bytes,
    /// Whether it is there.
    pub presence: Presence,
    /// What this guard did with it.
    pub deeds: Vec<Deed>,
    /// Who else knew of it.
    pub witnesses: Vec<Proof>,
    /// When a hook told of it, at the earliest.
    pub heard: Option<Timestamp>,
}

/// All that is known of a span of a stream in one tree.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The tree.
    pub tree: TreeId,
    /// The span.
    pub span: Span,
    /// Every recording that may reach into it, and the nearest known before and after; in no order.
    pub traces: Vec<Trace>,
    /// The longest slice known in the tree; zero where none tells.
    pub slice: Duration,
    /// When recording was stopped by us.
    pub stops: Vec<Stop>,
    /// How runs ended, by their numbers.
    pub runs: BTreeMap<u64, RunEnd>,
    /// Starts of the guard: the last before the span, those in it, and the first after it.
    pub starts: Vec<(Seq, Timestamp)>,
    /// Why nothing can be said to be nowhere: what could not be looked at or read.
    pub doubts: Vec<String>,
    /// Why it proves nothing that no hook told of a recording.
    pub deaf: Vec<String>,
    /// What else is known.
    pub context: Vec<Proof>,
}

/// The deletion that explains an absence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The entry that says what became of it.
    pub outcome: Seq,
    /// When that was.
    pub at: Timestamp,
    /// The entry of the intent.
    pub intent: Seq,
    /// What was intended: the rule, why, who asked.
    pub intended: Intent,
    /// How its run ended, if it has.
    pub run: Option<RunEnd>,
}

/// What became of a part of the span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What became of it.
    pub verdict: GapVerdict,
    /// From when: of recordings the beginning of the first.
    pub from: Timestamp,
    /// To when: of recordings the end of the last.
    pub to: Timestamp,
    /// Where the last recording ends was not measured.
    pub estimated: bool,
    /// How many recordings it is; none for a hole.
    pub files: u64,
    /// The first recording.
    pub path: Option<RelPath>,
    /// The last one, if there are several.
    pub last: Option<RelPath>,
    /// Their bytes, as far as they are known.
    pub bytes: Bytes,
    /// The deletion of the first, where one is the reason.
    pub done: Option<Done>,
    /// The answer in a sentence.
    pub summary: String,
    /// What speaks for it, and what is known besides.
    pub proofs: Vec<Proof>,
}

/// A trace with where it ends.
pub(super) struct Extent<'e> {
    pub(super) trace: &'e Trace,
    pub(super) end: Timestamp,
}

/// What became of each part of a span, in the order of time.
#[must_use]
pub fn explain(evidence: &Evidence) -> Vec<Finding> {
    let extents = extents(evidence);
    let Span { from, to } = evidence.span;
    let mut out: Vec<Group> = Vec::new();
    let mut reached = from;
    for extent in extents.iter().filter(|extent| covers(evidence.span, extent.trace.begin, extent.end)) {
        if extent.trace.begin > reached {
            out.extend(holes(evidence, &extents, reached, extent.trace.begin).into_iter().map(Group::new));
        }
        let next = fate(evidence, extent);
        match out.last_mut().filter(|last| last.goes_on_in(&next)) {
            Some(last) => last.take(next),
            None => out.push(Group::new(next)),
        }
        reached = reached.max(extent.end);
    }
    if reached < to || out.is_empty() {
        out.extend(holes(evidence, &extents, reached, to).into_iter().map(Group::new));
    }
    out.into_iter().map(Group::told).collect()
}

/// The traces that reach into the span, by their places.
#[must_use]
pub fn reaching(evidence: &Evidence) -> Vec<RelPath> {
    let all = extents(evidence).into_iter();
    let inside = all.filter(|extent| covers(evidence.span, extent.trace.begin, extent.end));
    inside.map(|extent| extent.trace.path.clone()).collect()
}

fn covers(span: Span, begin: Timestamp, end: Timestamp) -> bool {
    let before_end = if span.from == span.to { begin <= span.to } else { begin < span.to };
    before_end && end > span.from
}

/// Each trace with its end: as it was measured, else where the next begins, but not later than the longest slice.
fn extents(evidence: &Evidence) -> Vec<Extent<'_>> {
    let mut all: Vec<&Trace> = evidence.traces.iter().collect();
    all.sort_by(|a, b| (a.begin, &a.path).cmp(&(b.begin, &b.path)));
    let slice = if evidence.slice.is_zero() { USUAL } else { evidence.slice };
    let next = |at: usize| all[at + 1..].iter().map(|trace| trace.begin).find(|begin| *begin > all[at].begin);
    let end = |at: usize| {
        let (trace, next) = (all[at], next(at));
        let measured = trace.end.filter(|end| *end >= trace.begin && end.since(trace.begin) <= DAY);
        let bound = trace.begin.plus(slice);
        let end = measured.unwrap_or_else(|| next.map_or(bound, |next| next.min(bound)));
        let end = end.max(trace.begin.plus(Duration::from_secs(1)));
        next.filter(|next| *next > end && next.since(end) <= SEAM).unwrap_or(end)
    };
    (0..all.len()).map(|at| Extent { trace: all[at], end: end(at) }).collect()
}

/// Recordings of the very same fate that follow one another without a hole.
struct Group {
    first: Finding,
    last: Option<Finding>,
}

impl Group {
    fn new(first: Finding) -> Self {
        Self { first, last: None }
    }

    fn goes_on_in(&self, next: &Finding) -> bool {
        let why = |finding: &Finding| {
            finding.done.as_ref().map(|done| {
                let Intent { target, who, run, .. } = &done.intended;
                (target.rule, target.trigger, *run, who.clone())
            })
        };
        let first = &self.first;
        first.files > 0 && first.verdict == next.verdict && next.from <= first.to && why(first) == why(next)
    }

    fn take(&mut self, next: Finding) {
        self.first.to = self.first.to.max(next.to);
        self.first.estimated = next.estimated;
        self.first.files += next.files;
        self.first.bytes = self.first.bytes.saturating_add(next.bytes);
        self.last = Some(next);
    }

    /// One finding, with what speaks for the first and for the last of them.
    fn told(self) -> Finding {
        let Self { mut first, last: Some(last) } = self else { return self.first };
        first.last = last.path;
        let more = last.proofs.into_iter().filter(|proof| !first.proofs.contains(proof)).collect::<Vec<_>>();
        first.proofs.extend(more);
        let bytes = if first.bytes > Bytes::ZERO { format!(", {}", first.bytes) } else { String::new() };
        let (one, other) = (shown(first.path.as_ref()), shown(first.last.as_ref()));
        first.summary = format!("{} recordings, {one} to {other}{bytes}: {}", first.files, plural(&first));
        first
    }
}

#[cfg(test)]
#[path = "gap_tests.rs"]
mod tests;
