//! Which streams are live and which of them are being recorded, as media servers tell; and what of a tree may be being written for that.
//!
//! What a media server says protects, and never condemns by itself: whether a file is open a lease tells, and whom nobody can ask keeps
//! what was last known of it for a while.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::time::Duration;

use super::layout::LayoutKind;
use super::names::{MediaServerId, StreamId};
use super::recording::{FileIndex, Gone, Inventory, Kind};
use super::retention::TreePolicy;
use super::units::Timestamp;

/// A media server that cannot be asked may still record what it recorded: so long that is believed.
pub const PERHAPS: Duration = Duration::from_secs(3600);
/// A file of a live stream that was changed so long ago, or less, may be being written: some recorders write in bursts.
const LATELY: Duration = Duration::from_secs(600);
/// Clocks of two machines, and of a file and a process, differ by no more than this.
const APART: Duration = Duration::from_secs(60);
/// Segments of an HLS stream that are kept while nobody knows how many its playlist names.
const WINDOW: usize = 32;

/// Whether a media server can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// It was not asked yet.
    Unasked,
    /// It answers.
    Up {
        /// Since when.
        since: Timestamp,
    },
    /// It does not, or not as it should.
    Down {
        /// Since when.
        since: Timestamp,
        /// Why.
        why: Unreached,
    },
}

/// Why a media server cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreached {
    /// No connection, or no answer in time.
    Unanswered {
        /// What the system said.
        error: String,
    },
    /// It does not take our secret.
    Refused,
    /// It answers, and not as a ZLMediaKit does.
    Garbled {
        /// What it answered.
        error: String,
    },
}

impl Unreached {
    /// The word for it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unanswered { .. } => "unanswered",
            Self::Refused => "refused",
            Self::Garbled { .. } => "garbled",
        }
    }
}

impl std::fmt::Display for Unreached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unanswered { error } => write!(f, "it does not answer: {error}"),
            Self::Refused => f.write_str("it refuses the secret"),
            Self::Garbled { error } => write!(f, "it answers something else than a ZLMediaKit does: {error}"),
        }
    }
}

/// A stream by the names that its media server gives it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamTuple {
    /// The virtual host.
    pub vhost: String,
    /// The app.
    pub app: String,
    /// The stream.
    pub stream: String,
}

impl StreamTuple {
    /// As layouts name it: `app/stream`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.app, self.stream)
    }
}

/// A stream that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveStream {
    /// Its names.
    pub names: StreamTuple,
    /// It is being recorded to MP4; `None` if the media server did not say.
    pub mp4: Option<bool>,
    /// It is being recorded to HLS; `None` if the media server did not say.
    pub hls: Option<bool>,
    /// When it began, by the media server's clock; what was written for it is no older.
    pub since: Option<Timestamp>,
}

/// A media server as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaServerView {
    /// Its name.
    pub name: MediaServerId,
    /// Whether it can be asked.
    pub reach: Reach,
    /// When it last said which streams it has; they are those of then, and what its hooks told since.
    pub listed: Option<Timestamp>,
    /// It told that it ends, and was not seen since: it writes nothing.
    pub exited: bool,
    /// Its streams, in the order of their names.
    pub streams: Vec<LiveStream>,
    /// How many segments of an HLS stream it may still read or write; `None` if it was not asked.
    pub window: Option<usize>,
}

impl MediaServerView {
    /// A server of which nothing is known yet.
    #[must_use]
    pub fn new(name: MediaServerId) -> Self {
        Self { name, reach: Reach::Unasked, listed: None, exited: false, streams: Vec::new(), window: None }
    }

    /// It answers.
    #[must_use]
    pub fn up(&self) -> bool {
        matches!(self.reach, Reach::Up { .. })
    }

    /// Its streams are believed to be there, at least perhaps.
    fn believed(&self, now: Timestamp) -> bool {
        match &self.reach {
            Reach::Unasked | Reach::Up { .. } => true,
            Reach::Down { since, .. } => !self.exited && now.since(*since) <= PERHAPS,
        }
    }
}

/// What is known of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// It is or may be being recorded to MP4.
    pub mp4: bool,
    /// It is or may be being recorded to HLS.
    pub hls: bool,
    /// The media server says so now; else it said so last.
    pub sure: bool,
    /// When it began.
    pub since: Option<Timestamp>,
    /// Its newest segments that are kept.
    pub window: usize,
}

/// Who writes a stream's files, as far as a leftover is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorder {
    /// Nobody can be asked.
    Unknown,
    /// A media server records the stream, and did when the file was last changed.
    Records,
    /// Every media server answers, and none records the stream, or the one that does began after the file was last changed.
    Ceased,
}

/// All streams that are live, or perhaps are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveStreams {
    /// By `app/stream`: a layout may put a virtual host before that.
    streams: BTreeMap<String, Life>,
    /// There are media servers, and each said which streams it has, or that it ends.
    all_asked: bool,
}

impl LiveStreams {
    /// What is known at `now`.
    #[must_use]
    pub fn of<'a>(servers: impl IntoIterator<Item = &'a MediaServerView>, now: Timestamp) -> Self {
        let told = |server: &MediaServerView| server.exited || (server.up() && server.listed.is_some());
        let (mut any, mut all_asked) = (false, true);
        let mut streams: BTreeMap<String, Life> = BTreeMap::new();
        for server in servers {
            (any, all_asked) = (true, all_asked && told(server));
            if !server.believed(now) {
                continue;
            }
            let (sure, window) = (server.up(), server.window.unwrap_or(WINDOW));
            for stream in &server.streams {
                let here = Life {
                    mp4: stream.mp4 != Some(false),
                    hls: stream.hls != Some(false),
                    sure,
                    since: stream.since,
                    window,
                };
                streams.entry(stream.names.name()).and_modify(|known| known.merge(&here)).or_insert(here);
            }
        }
        Self { streams, all_asked: any && all_asked }
    }

    /// What is known of a tree's stream; `None` if nobody says that it is live. A virtual host before it does not count.
    #[must_use]
    pub fn of_stream(&self, stream: &StreamId) -> Option<&Life> {
        let name = stream.as_str();
        let shorter = name.match_indices('/').map(|(at, _)| &name[at + 1..]);
        std::iter::once(name).chain(shorter).find_map(|name| self.streams.get(name))
    }

    /// It is or may be being recorded.
    #[must_use]
    pub fn records(&self, stream: &StreamId) -> bool {
        self.of_stream(stream).is_some_and(|life| life.mp4 || life.hls)
    }

    /// Who writes a file of a stream that was last changed at `touched`.
    #[must_use]
    pub fn recorder(&self, stream: &StreamId, touched: Timestamp) -> Recorder {
        match self.of_stream(stream) {
            Some(life) if life.sure && life.since.is_some_and(|since| touched.plus(APART) < since) => {
                if self.all_asked { Recorder::Ceased } else { Recorder::Unknown }
            }
            Some(life) if life.sure && (life.mp4 || life.hls) => Recorder::Records,
            Some(life) if !life.sure => Recorder::Unknown,
            Some(_) | None if self.all_asked => Recorder::Ceased,
            Some(_) | None => Recorder::Unknown,
        }
    }

    /// None is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

impl Life {
    fn merge(&mut self, other: &Self) {
        self.mp4 |= other.mp4;
        self.hls |= other.hls;
        self.sure |= other.sure;
        self.since = match (self.since, other.since) {
            (Some(one), Some(other)) => Some(one.min(other)),
            // Of one of them nobody knows when it began.
            (Some(_) | None, None) | (None, Some(_)) => None,
        };
        self.window = self.window.max(other.window);
    }
}

/// Recordings of a stream, the oldest first.
type Newest = BinaryHeap<Reverse<(Timestamp, FileIndex)>>;

/// Which finished files of a tree may be being written (promise 3): `growing` are those that were seen to change; of a live stream those
/// that were changed lately; of one that is recorded the newest; of an HLS stream all that its playlist may still name.
#[must_use]
pub fn being_written(
    policy: &TreePolicy,
    inventory: &Inventory,
    gone: &Gone,
    growing: &HashSet<FileIndex>,
    live: &LiveStreams,
) -> HashSet<FileIndex> {
    let mut out = growing.clone();
    if live.is_empty() {
        return out;
    }
    let lives: Vec<Option<&Life>> = inventory.streams().iter().map(|stream| live.of_stream(stream)).collect();
    if lives.iter().all(Option::is_none) {
        return out;
    }
    let segments = policy.layout.kind() == LayoutKind::Hls;
    let lately = inventory.started.minus(LATELY);
    // Of each stream the newest, the oldest of them first, and how many files they are: a day of HLS is many.
    let mut newest: Vec<(Newest, u64)> = vec![Default::default(); lives.len()];
    for seen in inventory.files().filter(|seen| seen.kind == Kind::Recording && !gone.contains(seen.index)) {
        let Some(life) = lives[seen.stream.0 as usize] else { continue };
        if seen.touched() >= lately {
            out.insert(seen.index);
        }
        let kept = match (segments && life.hls, life.mp4 || life.hls) {
            (true, _) => life.window.max(1),
            (false, true) => 1,
            (false, false) => continue,
        };
        let (heap, files) = &mut newest[seen.stream.0 as usize];
        heap.push(Reverse((seen.recorded(), seen.index)));
        *files = files.saturating_add(seen.tally().files);
        // Without the oldest of them they may be as many as are kept.
        while let Some(Reverse((_, oldest))) = heap.peek() {
            let without = files.saturating_sub(inventory.get(*oldest).tally().files);
            if without < kept as u64 {
                break;
            }
            heap.pop();
            *files = without;
        }
    }
    out.extend(newest.into_iter().flat_map(|(heap, _)| heap).map(|Reverse((_, index))| index));
    out
}

/// Whether a finished file that was just looked at may be being written (promise 3), beyond what [`being_written`] knows from a scan that
/// began at `scanned`: its stream is live, and it was changed lately, or is newer than that scan.
#[must_use]
pub fn may_be_written(life: Option<&Life>, touched: Timestamp, scanned: Timestamp, now: Timestamp) -> bool {
    life.is_some() && touched >= scanned.min(now.minus(LATELY))
}

/// The same of a directory of segments, where no file bears a sign of being written: it was changed lately, and nobody who would know says
/// that its recording has ended.
#[must_use]
pub fn unit_may_be_written(recorder: Recorder, touched: Timestamp, scanned: Timestamp, now: Timestamp) -> bool {
    recorder != Recorder::Ceased && touched >= scanned.min(now.minus(LATELY))
}

/// Which files of a tree were changed between two scans: they bear no other sign that somebody writes them.
#[must_use]
pub fn grown(before: &Inventory, now: &Inventory) -> HashSet<FileIndex> {
    // What was written since has a time of its own; only the order of the two clocks is not known to the second.
    let since = before.started.minus(APART);
    let mut young: HashMap<u64, (u64, FileIndex)> = now
        .files()
        .filter(|seen| seen.kind == Kind::Recording && seen.modified >= since)
        .map(|seen| (seen.inode, (seen.fingerprint, seen.index)))
        .collect();
    if young.is_empty() {
        return HashSet::new();
    }
    // What was unfinished before and now bears a recording's name was renamed when it was whole.
    let changed = before.files().filter(|seen| seen.kind == Kind::Recording).filter_map(|seen| {
        let (fingerprint, index) = young.remove(&seen.inode)?;
        (fingerprint != seen.fingerprint).then_some(index)
    });
    changed.collect()
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
