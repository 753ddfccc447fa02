//! What the journal tells of a stream around a time. Entries are handed in one after the other, the oldest first, and what does not matter is
//! forgotten at once: a year of them need not fit into memory.

use std::collections::BTreeMap;
use std::time::Duration;

use super::deletion::{Attempt, Seq};
use super::gap_time::Span;
use super::history::{clock_offsets, stream_of};
use super::journal::{Entry, Intent, NoteKind, Recorded};
use super::layout::Layout;
use super::names::{StreamId, TreeId};
use super::path::RelPath;
use super::units::{Bytes, Timestamp};

/// No recording is longer.
pub const DAY: Duration = Duration::from_secs(86_400);
/// So many starts of the guard are remembered.
const STARTS: usize = 1000;

/// Something that was done with a recording, as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// The number of the entry.
    pub seq: Seq,
    /// When it was written.
    pub at: Timestamp,
    /// What was done.
    pub act: Act,
}

/// What was done with a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// It was to be deleted, or set aside.
    Intended(Box<Intent>),
    /// What became of that.
    Ended {
        /// The intent.
        intent: Seq,
        /// How it ended.
        attempt: Attempt,
    },
    /// It is in quarantine no more, though it was not deleted.
    Restored {
        /// Who wanted that.
        who: String,
        /// How it came about; empty if it was put back.
        how: String,
    },
    /// Its deletion had failed, and is not tried again.
    Closed {
        /// Who decided that.
        who: String,
        /// Why.
        why: String,
    },
    /// The row of a catalogue that lists it was inserted or removed.
    Row {
        /// Who wanted that.
        who: String,
        /// Which, and what was done.
        what: String,
    },
    /// Its copy was removed from an archive.
    CopyRemoved {
        /// From which, and why.
        what: String,
    },
}

/// A span in which a stream was not recorded because of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The note that says so, and since when.
    pub stopped: (Seq, Timestamp),
    /// The note that says that it is over, and since when.
    pub released: Option<(Seq, Timestamp)>,
    /// The media server.
    pub media_server: String,
    /// Why, in words.
    pub why: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// The note that says so.
    pub seq: Seq,
    /// When.
    pub at: Timestamp,
    /// What came back, as measured.
    pub reclaimed: Bytes,
    /// How, in words.
    pub text: String,
}

/// A tree, and the span that is asked about in it.
#[derive(Debug, Clone)]
pub struct Ground<'a> {
    /// The tree.
    pub tree: TreeId,
    /// How its names are read.
    pub layout: &'a Layout,
    /// The span.
    pub span: Span,
}

/// What the journal knows of the recordings of one tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deeds {
    /// Of each recording that may reach into the span, and of the nearest before and after it: when it begins, and what was done with it.
    pub of: BTreeMap<RelPath, (Timestamp, Vec<Deed>)>,
    /// When its recording was stopped.
    pub stops: Vec<Stop>,
    /// Deletions of recordings whose names tell no time, and the last of them.
    pub undated: Option<(u64, Seq)>,
    before: Option<(Timestamp, RelPath)>,
    after: Option<(Timestamp, RelPath)>,
}

/// What the journal tells.
#[derive(Debug)]
pub struct Story<'a> {
    stream: &'a StreamId,
    grounds: Vec<Ground<'a>>,
    /// What it tells of each ground.
    pub deeds: Vec<Deeds>,
    /// The first entry.
    pub first: Option<(Seq, Timestamp)>,
    /// Starts of the guard: the last before the spans, those in them, and the first after them.
    pub starts: Vec<(Seq, Timestamp)>,
    /// Runs that something of these was deleted in: how many deeds are of each, and how it ended.
    runs: BTreeMap<u64, (usize, Option<RunEnd>)>,
    /// From when to when the clock was not trusted, by the volume that saw it.
    pub clocks: Vec<(String, Timestamp, Option<Timestamp>)>,
    /// The ground and the recording that an intent is about.
    intents: BTreeMap<Seq, (usize, RelPath)>,
}

impl<'a> Story<'a> {
    /// Nothing was told yet.
    #[must_use]
    pub fn new(stream: &'a StreamId, grounds: Vec<Ground<'a>>) -> Self {
        Self {
            stream,
            deeds: vec![Deeds::default(); grounds.len()],
            grounds,
            first: None,
            starts: Vec::new(),
            runs: BTreeMap::new(),
            clocks: Vec::new(),
            intents: BTreeMap::new(),
        }
    }

    /// How a run ended that something of the stream was deleted in.
    #[must_use]
    pub fn run(&self, number: u64) -> Option<&RunEnd> {
        self.runs.get(&number).and_then(|(_, end)| end.as_ref())
    }

    /// Takes one more entry into account.
    pub fn enter(&mut self, recorded: Recorded) {
        let Recorded { seq, at, entry, .. } = recorded;
        self.first.get_or_insert((seq, at));
        match entry {
            Entry::Intent(intent) => self.intended(seq, at, intent),
            Entry::Outcome { intent, attempt } => {
                self.of_intent(intent, Deed { seq, at, act: Act::Ended { intent, attempt } });
            }
            Entry::Note { kind, volume, tree, who, bytes, number, text } => match kind {
                NoteKind::Started => self.started(seq, at),
                NoteKind::RunEnded => {
                    if let Some((_, end)) = self.runs.get_mut(&number) {
                        *end = Some(RunEnd { seq, at, reclaimed: bytes, text });
                    }
                }
                NoteKind::Clock => {
                    let volume = volume.map_or_else(String::new, |volume| volume.to_string());
                    let open = self.clocks.iter_mut().rev().find(|(of, _, end)| *of == volume && end.is_none());
                    match (clock_offsets(&text), open) {
                        (Some(_), None) => self.clocks.push((volume, at, None)),
                        (None, Some(open)) => open.2 = Some(at),
                        (Some(_), Some(_)) | (None, None) => {}
                    }
                }
                NoteKind::RecordingStopped | NoteKind::RecordingReleased => {
                    self.switched(kind == NoteKind::RecordingStopped, (seq, at), tree.as_ref(), &text);
                }
                NoteKind::Restored => {
                    let how = text.split_once('\n').map_or("", |(_, how)| how).to_owned();
                    self.of_intent(Seq(number), Deed { seq, at, act: Act::Restored { who, how } });
                }
                NoteKind::FailureClosed => {
                    self.of_intent(Seq(number), Deed { seq, at, act: Act::Closed { who, why: text } });
                }
                NoteKind::Rows => {
                    let Some((path, what)) = text.split_once('\n') else { return };
                    self.row(Deed { seq, at, act: Act::Row { who, what: what.to_owned() } }, tree.as_ref(), path);
                }
                NoteKind::ArchiveRemoved => {
                    let mut lines = text.split('\n');
                    let (Some(path), Some(archive), Some(why)) = (lines.next(), lines.next(), lines.next()) else {
                        return;
                    };
                    let what = format!("from archive `{archive}` ({why})");
                    self.row(Deed { seq, at, act: Act::CopyRemoved { what } }, tree.as_ref(), path);
                }
                NoteKind::RunStarted
                | NoteKind::JobOver
                | NoteKind::Ledger
                | NoteKind::CapTripped
                | NoteKind::Share
                | NoteKind::CapAcknowledged
                | NoteKind::Pruned
                | NoteKind::Closed
                | NoteKind::Settled
                | NoteKind::Marker
                | NoteKind::Repaired
                | NoteKind::CatalogueAccepted
                | NoteKind::HoldMade
                | NoteKind::HoldEnded
                | NoteKind::ArchiveRestored
                | NoteKind::ArchiveRemoving
                | NoteKind::ArchiveKept => {}
            },
        }
    }

    /// Something that was done with the recording of an intent.
    fn of_intent(&mut self, intent: Seq, deed: Deed) {
        let Some((ground, path)) = self.intents.get(&intent) else { return };
        // What was forgotten since was farther away than another.
        if let Some((_, deeds)) = self.deeds[*ground].of.get_mut(path) {
            deeds.push(deed);
        }
    }

    fn ground(&self, tree: &TreeId) -> Option<usize> {
        self.grounds.iter().position(|ground| ground.tree == *tree)
    }

    fn intended(&mut self, seq: Seq, at: Timestamp, intent: Intent) {
        if intent.target.stream != self.stream.as_str() {
            return;
        }
        let Some(index) = self.ground(&intent.target.tree) else { return };
        let Some(begin) = begin_of(self.grounds[index].layout, &intent.target.path) else {
            // A day of segments goes segment by segment, and the lists that name them go with it.
            if !self.grounds[index].layout.has_units() {
                let count = self.deeds[index].undated.map_or(0, |(count, _)| count);
                self.deeds[index].undated = Some((count + 1, seq));
            }
            return;
        };
        let path = intent.target.path.clone();
        let run = intent.run;
        let deed = Deed { seq, at, act: Act::Intended(Box::new(intent)) };
        if self.enter_deed(index, path.clone(), begin, deed) {
            self.intents.insert(seq, (index, path));
            self.runs.entry(run).or_insert((0, None)).0 += 1;
        }
    }

    fn row(&mut self, deed: Deed, tree: Option<&TreeId>, shown: &str) {
        let Some(index) = tree.and_then(|tree| self.ground(tree)) else { return };
        let layout = self.grounds[index].layout;
        // How a path is shown tells not whether it is encoded: what can be read as it stands is meant so.
        let paths = [false, true].into_iter().filter_map(|encoded| RelPath::parse(shown, encoded).ok());
        let of_stream = |path: &RelPath| layout.stream_of(path).as_deref() == Some(self.stream.as_str());
        let found = paths.filter(of_stream).find_map(|path| Some((begin_of(layout, &path)?, path)));
        if let Some((begin, path)) = found {
            self.enter_deed(index, path, begin, deed);
        }
    }

    /// Keeps a deed if its recording may reach into the span, or is the nearest to it.
    fn enter_deed(&mut self, index: usize, path: RelPath, begin: Timestamp, deed: Deed) -> bool {
        let span = self.grounds[index].span;
        let deeds = &mut self.deeds[index];
        let (before, after) = (begin < span.from.minus(DAY), begin > span.to);
        if before || after {
            let nearest = if before { &mut deeds.before } else { &mut deeds.after };
            let farther = |known: &(Timestamp, RelPath)| if before { known.0 > begin } else { known.0 < begin };
            if nearest.as_ref().is_some_and(farther) {
                return false;
            }
            let before = nearest.replace((begin, path.clone())).filter(|(_, before)| *before != path);
            let forgotten = before.and_then(|(_, before)| deeds.of.remove(&before));
            for deed in forgotten.into_iter().flat_map(|(_, deeds)| deeds) {
                let Act::Intended(intent) = deed.act else { continue };
                self.intents.remove(&deed.seq);
                if let Some((uses, _)) = self.runs.get_mut(&intent.run) {
                    *uses -= 1;
                    if *uses == 0 {
                        self.runs.remove(&intent.run);
                    }
                }
            }
        }
        deeds.of.entry(path).or_insert_with(|| (begin, Vec::new())).1.push(deed);
        true
    }

    fn started(&mut self, seq: Seq, at: Timestamp) {
        let first = self.grounds.iter().map(|ground| ground.span.from).min().unwrap_or_default();
        let last = self.grounds.iter().map(|ground| ground.span.to).max().unwrap_or_default();
        if at <= first {
            self.starts.clear();
        }
        // The first after the spans ends it.
        if self.starts.len() < STARTS && self.starts.last().is_none_or(|(_, known)| *known <= last) {
            self.starts.push((seq, at));
        }
    }

    fn switched(&mut self, stop: bool, note: (Seq, Timestamp), tree: Option<&TreeId>, text: &str) {
        let Some((server, names)) = stream_of(text) else { return };
        let wanted = self.stream.as_str();
        if names.name() != wanted && format!("{}/{}", names.vhost, names.name()) != wanted {
            return;
        }
        let why = text.splitn(5, '\n').nth(4).unwrap_or_default().to_owned();
        for (ground, deeds) in self.grounds.iter().zip(&mut self.deeds) {
            // The note that it is over names no tree.
            if tree.is_some_and(|tree| *tree != ground.tree) {
                continue;
            }
            let of_server = |one: &&mut Stop| one.media_server == server.as_str() && one.released.is_none();
            match (stop, deeds.stops.iter_mut().rev().find(of_server)) {
                (true, None) => {
                    let media_server = server.to_string();
                    deeds.stops.push(Stop { stopped: note, released: None, media_server, why: why.clone() });
                }
                (false, Some(open)) => open.released = Some(note),
                (true, Some(_)) | (false, None) => {}
            }
            // What is long over before the span explains nothing in it.
            let over = |one: &Stop| one.released.is_some_and(|(_, at)| at < ground.span.from);
            deeds.stops.retain(|one| !over(one));
        }
    }
}

/// When a recording begins, as its path says.
#[must_use]
pub fn begin_of(layout: &Layout, path: &RelPath) -> Option<Timestamp> {
    layout.recognise(path, 1).and_then(|found| found.named)
}

#[cfg(test)]
#[path = "gap_story_tests.rs"]
mod tests;
