//! One tree that is watched: its handle, what the last scan found, and whether it can be trusted.

mod handle;
mod marking;

pub(super) use marking::{marker_fault, marker_for, wanted};

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::inspect::{Compared, FavouritesOf};
use super::volume::VolumeWorker;
use crate::domain::deletion::{Attempt, NOT_BEGUN, Seq};
use crate::domain::event::Event;
use crate::domain::history::History;
use crate::domain::layout::{LayoutKind, Pick};
use crate::domain::live::{LiveStreams, being_written, grown};
use crate::domain::orphan::{Orphan, OrphanTally};
use crate::domain::path::RelPath;
use crate::domain::path_set::PathSet;
use crate::domain::plan::TreeFacts;
use crate::domain::recording::{FileIndex, Gone, Inventory, InventoryBuilder, Tally};
use crate::domain::retention::TreePolicy;
use crate::domain::sightings::Sightings;
use crate::domain::survey::{Survey, survey};
use crate::domain::units::{Bytes, Timestamp};
use crate::domain::volume::Unusable;
use crate::reclaim::{Settled, held};
use crate::scan::Progress;
use crate::store::{ArchiveBook, HoldBook};
use crate::system::{Clock, DirEntry, Lease, LeaseKind, WritableDir, any_segment, list_unit};

/// A scan takes at most a twentieth of the time.
const REST_FACTOR: u32 = 19;
/// An orphan that was kept at the door is not wanted again by the policy for so long.
const KEPT_FOR: Duration = Duration::from_secs(86_400);

/// Called after each directory of a scan, which leaves the volume to it meanwhile; `Break` ends the scan.
pub(super) type Report<'a> = &'a mut dyn FnMut(&mut VolumeWorker, &TreePolicy, Progress) -> ControlFlow<()>;

/// A tree that is watched.
pub(super) struct TreeWatch {
    pub(super) dir: Arc<dyn WritableDir>,
    pub(super) policy: Arc<TreePolicy>,
    pub(super) pick: Option<Pick>,
    pub(super) fault: Option<Unusable>,
    inventory: Arc<Inventory>,
    survey: Survey,
    /// When the last scan ended, and how long it took, by the clock that does not jump.
    scanned: Option<(Duration, Duration)>,
    /// The last entry of the journal when the last scan began: what was begun by then, the scan saw as it left it.
    begun: Seq,
    /// The same of the scan that goes on.
    scanning: Seq,
    /// Its recordings that are directories.
    units: HashMap<RelPath, FileIndex>,
    gone: Gone,
    gone_tally: Tally,
    /// What has gone while it is being scanned: the scan may have seen it before. Less than the scan itself holds.
    meanwhile: Option<HashSet<(u64, u64)>>,
    waiting: HashSet<FileIndex>,
    /// What of its files' blocks others share, as far as it was asked since the scan.
    shared: HashMap<FileIndex, Bytes>,
    /// The kernel gives no leases on its files.
    unleased: bool,
    /// What scans saw, where time stands in for leases.
    sightings: Sightings,
    /// What is known of its orphans.
    pub(super) orphans: OrphanTally,
    /// Device and inode of its top, as the last scan found it.
    top: Option<(u64, u64)>,
    /// What its catalogues were last compared with.
    pub(super) compared: Option<Compared>,
    /// What was known of its orphans is of this revision of the findings.
    pub(super) counted: u64,
    /// The comparison after which its policy was last carried out.
    pub(super) cleared: Option<Compared>,
    /// Orphans that its policy wanted, and the door kept: since when, by the clock that does not jump.
    kept: HashMap<(u64, u64), Duration>,
    /// Recordings that persons want kept, as its catalogues say.
    pub(super) favourites: Arc<PathSet>,
    /// What the favourites were taken from.
    pub(super) favourites_of: Option<FavouritesOf>,
    /// What persons hold.
    pub(super) holds: Arc<HoldBook>,
    /// Verified copies of its recordings.
    archived: Arc<ArchiveBook>,
    /// How many files had come into it, copied or brought back, when its last scan began.
    pub(super) came: u64,
    /// The platform's favourites are held as they were at this scan, as its catalogues said then.
    pub(super) mirrored_as_of: Option<(Timestamp, FavouritesOf)>,
    /// Files bear the marks of the holds as they were at this scan and this revision.
    pub(super) held_as_of: Option<(Timestamp, u64)>,
    /// What was last said of marks that could not be set or taken off.
    pub(super) unmarked: Option<String>,
    /// Streams that are live, as media servers last said.
    pub(super) live: Arc<LiveStreams>,
    /// Files that changed between the last two scans.
    growing: HashSet<FileIndex>,
    /// Finished files that may be being written, and the scan that it was taken from.
    writing: (Arc<HashSet<FileIndex>>, Option<Timestamp>),
    /// What was recorded since its orphans were last counted.
    pub(super) fresh: Bytes,
    /// The marker was seen, or written, by this process.
    marked: bool,
    /// What was left open is settled, and its process was lost so often by then; `None` before it was settled once.
    pub(super) settled_breaks: Option<u64>,
}

impl TreeWatch {
    pub(super) fn new(
        dir: Arc<dyn WritableDir>,
        policy: TreePolicy,
        pick: Option<Pick>,
        holds: Arc<HoldBook>,
        archived: Arc<ArchiveBook>,
    ) -> Self {
        let nothing = InventoryBuilder::new(policy.tree.clone(), Timestamp::default()).finish(Timestamp::default());
        Self {
            dir,
            policy: Arc::new(policy),
            pick,
            fault: None,
            inventory: Arc::new(nothing),
            survey: Survey::default(),
            scanned: None,
            begun: Seq::default(),
            scanning: Seq::default(),
            units: HashMap::new(),
            gone: Gone::default(),
            gone_tally: Tally::default(),
            meanwhile: None,
            waiting: HashSet::new(),
            shared: HashMap::new(),
            unleased: false,
            sightings: Sightings::default(),
            orphans: OrphanTally::default(),
            top: None,
            compared: None,
            counted: 0,
            cleared: None,
            kept: HashMap::new(),
            favourites: Arc::default(),
            favourites_of: None,
            holds,
            archived,
            came: 0,
            mirrored_as_of: None,
            held_as_of: None,
            unmarked: None,
            live: Arc::default(),
            growing: HashSet::new(),
            writing: Default::default(),
            fresh: Bytes::ZERO,
            marked: false,
            settled_breaks: None,
        }
    }

    /// Whether it is time for a scan.
    pub(super) fn due(&self, interval: Duration, boot: Duration) -> bool {
        self.scanned
            .is_none_or(|(ended, took)| boot.saturating_sub(ended) >= interval.max(took.saturating_mul(REST_FACTOR)))
    }

    /// A scan begins, after all that is in the journal up to `begun`.
    pub(super) fn begin_scan(&mut self, begun: Seq) {
        self.meanwhile = Some(HashSet::new());
        self.scanning = begun;
    }

    /// A scan that began then has ended; without an inventory it was ended early, and there is no event.
    pub(super) fn end_scan(
        &mut self,
        found: Option<Inventory>,
        began: Duration,
        clock: &dyn Clock,
        leases: bool,
    ) -> Option<Event> {
        let meanwhile = self.meanwhile.take().unwrap_or_default();
        let (policy, found) = (self.policy.clone(), found?);
        let ended = clock.boottime();
        // What an incomplete scan did not see was not recorded since.
        let comparable = self.scanned.is_some() && self.inventory.complete();
        let before = self.survey.recordings.bytes.saturating_sub(self.gone_tally.bytes);
        self.scanned = Some((ended, ended.saturating_sub(began)));
        self.survey = survey(&found, policy.leftovers.grace, clock.now());
        // Compared with nothing, nothing grows.
        self.growing = grown(&self.inventory, &found);
        self.begun = self.scanning;
        self.units = found.units().map(|unit| (found.path(unit), unit)).collect();
        self.inventory = Arc::new(found);
        (self.gone, self.gone_tally) = (Gone::default(), Tally::default());
        if !meanwhile.is_empty() {
            let inventory = self.inventory.clone();
            for seen in inventory.files().filter(|seen| meanwhile.contains(&(seen.inode, seen.fingerprint))) {
                self.gone.insert(seen.index);
                self.gone_tally.add(seen.bytes);
            }
        }
        self.waiting.clear();
        self.shared.clear();
        self.unleased = self.ask_leases();
        if self.unleased || !leases {
            let files = self.inventory.files().map(|seen| (seen.inode, seen.fingerprint));
            self.sightings.scanned(files, ended, policy.min_age);
        }
        self.top = self.dir.top().ok().map(|top| (top.device, top.inode));
        let recordings = self.survey.recordings;
        let there = recordings.bytes.saturating_sub(self.gone_tally.bytes);
        let inflow = if comparable { there.saturating_sub(before) } else { Bytes::ZERO };
        self.fresh = self.fresh.saturating_add(inflow);
        Some(Event::Scanned {
            tree: policy.tree.clone(),
            took: ended.saturating_sub(began),
            files: recordings.files,
            bytes: recordings.bytes,
            inflow,
            problems: self.inventory.problem_count,
        })
    }

    /// The recording that is a directory, and that a path is, or lies in.
    fn unit_of(&self, path: &RelPath) -> Option<FileIndex> {
        self.policy.layout.unit_of(path).and_then(|unit| self.units.get(&unit)).copied()
    }

    /// Recordings that are directories, and that a deletion of this file concerns: the one it lies in; for what speaks of a whole stream,
    /// all of it.
    fn units_with(&self, path: &RelPath) -> Vec<FileIndex> {
        if let Some(unit) = self.unit_of(path) {
            return vec![unit];
        }
        let (dir, _) = path.split();
        self.units.iter().filter(|(unit, _)| unit.split().0 == dir).map(|(_, index)| *index).collect()
    }

    /// Whether leases are refused to us here: asked of the first, the middle and the last recording.
    fn ask_leases(&self) -> bool {
        let all = self.inventory.files().count();
        let asked = [0, all / 2, all.saturating_sub(1)].into_iter().filter_map(|at| self.inventory.files().nth(at));
        asked.into_iter().any(|seen| {
            let path = self.inventory.path(seen.index);
            let segment = || any_segment(self.dir.as_ref(), &self.policy.layout, &path).ok().flatten();
            let Some(path) = (if seen.unit { segment() } else { Some(path.clone()) }) else { return false };
            let Ok(Some(held)) = self.dir.open(&path) else { return false };
            let answer = held.lease(LeaseKind::NoOpener);
            let _ = held.release();
            matches!(answer, Ok(Lease::Unavailable))
        })
    }

    /// Takes over which streams are live, and so which of its files may be being written.
    pub(super) fn take_live(&mut self, live: &Arc<LiveStreams>) {
        let of = Some(self.inventory.started);
        if self.writing.1 == of && self.live == *live {
            return;
        }
        self.live = live.clone();
        let written = being_written(&self.policy, &self.inventory, &self.gone, &self.growing, live);
        self.writing = (Arc::new(written), of);
    }

    /// Inodes of the files that may be being written, whoever asks for them, as far as the last scan knows. What a media server writes
    /// bears a hidden name, or is held open, which leases tell, or grows. More is only supposed where that is no sign: see
    /// [`TreeWatch::signless`].
    pub(super) fn written(&self) -> HashSet<u64> {
        let files = if self.signless() { self.writing.0.as_ref() } else { &self.growing };
        files.iter().map(|file| self.inventory.get(*file).inode).collect()
    }

    /// Whether a file of a live stream may be in use without any sign of it: a segment of HLS bears its name from the start, and a playlist
    /// names it when it is whole; and there are filesystems that do not tell who has a file open.
    pub(super) fn signless(&self) -> bool {
        self.policy.layout.kind() == LayoutKind::Hls || self.unleased
    }

    /// It was scanned at least once.
    pub(super) fn scanned(&self) -> bool {
        self.scanned.is_some()
    }

    /// Whether the last scan is younger than `age`.
    pub(super) fn scanned_within(&self, age: Duration, boot: Duration) -> bool {
        self.scanned.is_some_and(|(ended, _)| boot.saturating_sub(ended) <= age)
    }

    /// What the last scan found.
    pub(super) fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// The same at a glance.
    pub(super) fn survey(&self) -> &Survey {
        &self.survey
    }

    /// What of it is there no more.
    pub(super) fn gone(&self) -> &Gone {
        &self.gone
    }

    /// Its recordings, less what has gone since the scan.
    pub(super) fn held(&self) -> Bytes {
        self.survey.recordings.bytes.saturating_sub(self.gone_tally.bytes)
    }

    /// How many they are.
    pub(super) fn files(&self) -> u64 {
        self.survey.recordings.files.saturating_sub(self.gone_tally.files)
    }

    /// What is recorded in a second.
    pub(super) fn inflow(&self) -> Bytes {
        self.survey.inflow
    }

    /// What the planner needs of it.
    pub(super) fn facts(&self, history: &History) -> TreeFacts {
        let mut waiting = self.waiting.clone();
        let mut open = HashSet::new();
        let failing: Vec<_> = history.failures.values().filter(|f| f.target.tree == self.policy.tree).collect();
        if !failing.is_empty() {
            let by_file: HashMap<(u64, u64), _> =
                failing.iter().map(|f| ((f.target.inode, f.target.fingerprint), f)).collect();
            for seen in self.inventory.files() {
                let Some(failure) = by_file.get(&(seen.inode, seen.fingerprint)) else { continue };
                if failure.cause == crate::domain::deletion::Cause::InUse {
                    open.insert(seen.index);
                } else {
                    waiting.insert(seen.index);
                }
            }
            // What is left of a unit waits until all that failed of it is gone.
            for failure in failing.iter().filter(|_| !self.units.is_empty()) {
                let units = self.units_with(&failure.target.path);
                if failure.cause == crate::domain::deletion::Cause::InUse {
                    open.extend(units);
                } else {
                    waiting.extend(units);
                }
            }
            // A directory that refuses two deletions refuses all; their retries will tell when it does not. Counted by path, as a
            // batch does: what failed may be set aside, and in no inventory.
            let mut refusing: HashMap<_, usize> = HashMap::new();
            // What is in quarantine says nothing about the directory that it came from.
            let there = failing.iter().filter(|failure| !history.quarantined.contains_key(&Seq(failure.id)));
            for failure in there.filter(|failure| failure.cause.is_shared(&failure.error)) {
                *refusing.entry(failure.target.path.split().0).or_default() += 1;
            }
            refusing.retain(|_, count| *count >= 2);
            if !refusing.is_empty() {
                let mut known = HashMap::new();
                for seen in self.inventory.files() {
                    let dir = self.inventory.directory(seen.index);
                    let refuses = known
                        .entry(dir)
                        .or_insert_with(|| refusing.contains_key(&self.inventory.path(seen.index).split().0));
                    if *refuses {
                        waiting.insert(seen.index);
                    }
                }
            }
        }
        // What an open intent speaks of is settled first: chosen again, it would be counted twice.
        let intended = history.open.values().map(|open| &open.intent.target);
        let intended: Vec<_> = intended.filter(|target| target.tree == self.policy.tree).collect();
        if !self.units.is_empty() {
            waiting.extend(intended.iter().flat_map(|target| self.units_with(&target.path)));
        }
        let unsettled: HashSet<(u64, u64)> = intended.iter().map(|target| (target.inode, target.fingerprint)).collect();
        if !unsettled.is_empty() {
            let there = self.inventory.files().filter(|seen| unsettled.contains(&(seen.inode, seen.fingerprint)));
            waiting.extend(there.map(|seen| seen.index));
        }
        TreeFacts {
            policy: self.policy.clone(),
            inventory: self.inventory.clone(),
            gone: self.gone.clone(),
            holds: self.holds.of(&self.policy.tree),
            favourites: self.favourites.clone(),
            open,
            waiting,
            shared: self.shared.iter().filter(|(_, bytes)| **bytes > Bytes::ZERO).map(|(f, b)| (*f, *b)).collect(),
            live: self.live.clone(),
            writing: self.writing.0.clone(),
            archived: self.archived.of(&self.policy.tree),
            copies_stay: false,
            awaited: Arc::new(self.archived.awaited(&self.policy.layout)),
        }
    }

    /// Takes note of what became of targets: one pass for all of them.
    pub(super) fn settled(&mut self, settled: &[Settled]) {
        let own = || settled.iter().filter(|one| one.intent.target.tree == self.policy.tree);
        for one in own().filter(|one| !self.units.is_empty() && one.seq > self.begun) {
            let path = &one.intent.target.path;
            let Some(unit) = self.unit_of(path).filter(|unit| self.inventory.path(*unit) != *path) else { continue };
            match &one.attempt {
                // A unit of which a part is gone is not judged before it was scanned again.
                Attempt::Verified { .. } | Attempt::AlreadyGone => {
                    self.gone.insert(unit);
                    // Playlists were not counted as recordings.
                    if self.policy.layout.recognise(path, 1).is_some() {
                        self.gone_tally.add(one.intent.target.bytes);
                    }
                }
                Attempt::Kept { .. } => drop(self.waiting.insert(unit)),
                // The failure itself keeps it out of plans.
                Attempt::Failed { .. } => {}
            }
        }
        let by_file: HashMap<(u64, u64), &Attempt> =
            own().map(|one| ((one.intent.target.inode, one.intent.target.fingerprint), &one.attempt)).collect();
        if by_file.is_empty() {
            return;
        }
        if let Some(meanwhile) = &mut self.meanwhile {
            let gone = by_file.iter().filter(|(_, attempt)| {
                matches!(attempt, Attempt::Verified { .. } | Attempt::AlreadyGone) || attempt.is_quarantined()
            });
            meanwhile.extend(gone.map(|(file, _)| *file));
        }
        let inventory = self.inventory.clone();
        for seen in inventory.files() {
            match by_file.get(&(seen.inode, seen.fingerprint)) {
                Some(Attempt::Verified { .. } | Attempt::AlreadyGone) if !self.gone.contains(seen.index) => {
                    self.gone.insert(seen.index);
                    self.gone_tally.merge(seen.tally());
                }
                // It lies where no plan looks for it.
                Some(attempt) if attempt.is_quarantined() && !self.gone.contains(seen.index) => {
                    self.gone.insert(seen.index);
                    self.gone_tally.add(seen.bytes);
                }
                // The next scan will see why.
                Some(Attempt::Kept { .. }) => {
                    self.waiting.insert(seen.index);
                }
                // The failure itself keeps it out of plans.
                Some(Attempt::Verified { .. } | Attempt::AlreadyGone | Attempt::Failed { .. }) | None => {}
            }
        }
    }

    /// Remembers which orphans the door kept when its policy wanted them: why seldom changes, and each trial is two entries of the journal.
    pub(super) fn remember_kept(&mut self, settled: &[Settled], boot: Duration) {
        self.kept.retain(|_, since| boot.saturating_sub(*since) < KEPT_FOR);
        for one in settled {
            let target = &one.intent.target;
            match &one.attempt {
                Attempt::Kept { why } if why != NOT_BEGUN && !one.attempt.is_quarantined() => {
                    self.kept.insert((target.inode, target.fingerprint), boot);
                }
                Attempt::Kept { .. } | Attempt::Verified { .. } | Attempt::AlreadyGone | Attempt::Failed { .. } => {}
            }
        }
    }

    /// Its policy wanted this orphan within a day, and the door kept it.
    pub(super) fn was_kept(&self, orphan: &Orphan, boot: Duration) -> bool {
        let since = self.kept.get(&(orphan.inode, orphan.fingerprint));
        since.is_some_and(|since| boot.saturating_sub(*since) < KEPT_FOR)
    }

    /// A person or the platform wants it kept.
    pub(super) fn protects(&self, path: &RelPath) -> bool {
        self.policy.protects(path, &self.favourites)
    }

    /// A person holds it.
    pub(super) fn holds(&self, path: &RelPath) -> bool {
        held(&self.holds.of(&self.policy.tree), self.dir.as_ref(), &self.policy.layout, path)
    }

    /// Asks how much of a file others share, once for each scan; `true` if that was not known yet and matters. A file that cannot be
    /// asked, or is another by now, shares nothing: the door will see.
    pub(super) fn ask_shared(&mut self, file: FileIndex) -> bool {
        if self.shared.contains_key(&file) {
            return false;
        }
        let seen = self.inventory.get(file);
        if seen.unit {
            let shared = self.shared_of_unit(&self.inventory.path(file));
            self.shared.insert(file, shared);
            return shared > Bytes::ZERO;
        }
        let held = self.dir.open(&self.inventory.path(file)).ok().flatten();
        let same = held.filter(|held| {
            held.identity().is_ok_and(|now| (now.inode, now.fingerprint()) == (seen.inode, seen.fingerprint))
        });
        let shared = same.and_then(|held| held.shared()).unwrap_or(Bytes::ZERO);
        self.shared.insert(file, shared);
        shared > Bytes::ZERO
    }

    /// What the segments of a unit share.
    fn shared_of_unit(&self, unit: &RelPath) -> Bytes {
        let mut shared = Bytes::ZERO;
        let mut each = |hour: &RelPath, entry: &DirEntry, _| {
            let file = self.dir.open(&hour.join(&entry.name)).ok().flatten();
            shared = shared.saturating_add(file.and_then(|file| file.shared()).unwrap_or_default());
        };
        // What cannot be listed shares nothing: it is looked at again before it goes.
        let _ = list_unit(self.dir.as_ref(), &self.policy.layout, unit, self.inventory.started, &mut each);
        shared
    }

    /// Whether it is known what a file shares.
    pub(super) fn asked(&self, file: FileIndex) -> bool {
        self.shared.contains_key(&file)
    }
}
