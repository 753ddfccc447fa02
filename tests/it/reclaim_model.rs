//! The model: random trees, policies and failures, and a power cut or a kill at any call; then settling, and the invariants.
//!
//! Everything but the filesystem, the clock and the volume is real: the scan, the plan, the door, the batches, the journal.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use storage_guard::domain::clock_watch::Moment;
use storage_guard::domain::deletion::{Attempt, RuleKind, Seq, Target};
use storage_guard::domain::history::History;
use storage_guard::domain::journal::{Entry, GUARD, JournalLine, JournalQuery, NoteKind};
use storage_guard::domain::names::{TreeId, VolumeId};
use storage_guard::domain::path::RelPath;
use storage_guard::domain::plan::{TreeFacts, plan};
use storage_guard::domain::pressure::Deficit;
use storage_guard::domain::protection::{HOLD_ATTRIBUTE, Pattern};
use storage_guard::domain::recording::{Gone, Inventory};
use storage_guard::domain::retention::{Mode, Rule, TreePolicy, WhenOpen};
use storage_guard::domain::settings::Cleanup;
use storage_guard::domain::units::{Bytes, Timestamp};
use storage_guard::domain::volume::{Mark, Marks};
use storage_guard::reclaim::{Brake, Engine, Order, TreeHandle, Trees, settle};
use storage_guard::scan::scan;
use storage_guard::store::{Journal, JournalError};
use storage_guard::system::{Dir as _, Volumes as _};
use storage_guard::testkit::{Cut, Disk, FakeClock, FakeDir, FakeHolders, FakeVolumes, Power, Strike, policy};

use crate::quarantine::expire;
use crate::support::{scale, total};

const NOW: i64 = 1_800_000_000;
const HOUR: i64 = 3600;
const BLOCK: u64 = 4096;
const OTHERS: Bytes = Bytes::mib(1);
const SIZE: Bytes = Bytes::mib(64);
const DIRS: [&str; 5] = ["cam0", "cam1", "cam1/2026-01-01", "vip", "cam2/a/b"];
/// The same for days of HLS.
const HOURS: [&str; 5] = [
    "live/cam0/2026-01-01/10",
    "live/cam0/2026-01-01/11",
    "live/cam0/2026-01-02/10",
    "vip/cam/2026-01-01/23",
    "live/cam1/2026-01-03/00",
];
const ERRORS: [i32; 9] = [
    libc::EIO,
    libc::EACCES,
    libc::EROFS,
    libc::ENOENT,
    libc::ESTALE,
    libc::EDQUOT,
    libc::EINTR,
    libc::EMFILE,
    libc::ENOTEMPTY,
];

/// What is special about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    Plain,
    Young,
    Linked,
    Held,
    Immutable,
    Read,
    Written,
    Unrecognised,
    /// It names the segments of its day; where there are no days, nobody's.
    Playlist,
}

#[derive(Debug, Clone)]
struct FileSpec {
    dir: usize,
    /// Hours.
    age: i64,
    blocks: u64,
    nature: Nature,
}

/// One life of the guard.
#[derive(Debug, Clone)]
struct Life {
    strikes: BTreeMap<u64, Strike>,
    /// At its end the power fails, and so much of what was not durable stays; otherwise it was only killed.
    power: Option<u16>,
    /// How much of a batch that was being written to the journal stays.
    torn: u16,
    /// Today's rules: nothing is changed; the `vip` files are protected.
    observe: bool,
    protect: bool,
    orphans: Orphans,
}

/// Which files, by the bits of their numbers, are set aside as orphans, put back, and deleted where they are set aside.
#[derive(Debug, Clone, Copy, Default)]
struct Orphans {
    quarantine: u16,
    restore: u16,
    expire: u16,
}

impl Orphans {
    fn picks(mask: u16, number: u64) -> bool {
        mask & (1 << (number % 16)) != 0
    }
}

#[derive(Debug, Clone)]
struct Case {
    /// Its recordings are days of HLS.
    days: bool,
    files: Vec<FileSpec>,
    enforce: bool,
    delete_open: bool,
    keep: u64,
    max_files: Option<u64>,
    critical: bool,
    /// Blocks that are wanted.
    wanted: u64,
    batch: usize,
    apart: bool,
    leases: bool,
    lags: bool,
    lives: Vec<Life>,
}

fn file() -> impl Strategy<Value = FileSpec> {
    let nature = prop_oneof![
        8 => Just(Nature::Plain),
        1 => Just(Nature::Young),
        1 => Just(Nature::Linked),
        1 => Just(Nature::Held),
        1 => Just(Nature::Immutable),
        1 => Just(Nature::Read),
        1 => Just(Nature::Written),
        1 => Just(Nature::Unrecognised),
        2 => Just(Nature::Playlist),
    ];
    (0..DIRS.len(), 30i64..900, 1u64..9, nature).prop_map(|(dir, age, blocks, nature)| FileSpec {
        dir,
        age,
        blocks,
        nature,
    })
}

fn strike() -> impl Strategy<Value = Strike> {
    let error = || proptest::sample::select(ERRORS.to_vec());
    prop_oneof![
        3 => Just(Strike::Cut),
        3 => error().prop_map(Strike::Refuse),
        2 => error().prop_map(Strike::Lie),
        1 => (0u32..64).prop_map(Strike::Meddle),
    ]
}

fn orphans() -> impl Strategy<Value = Orphans> {
    let mask = |weight| prop::option::weighted(weight, any::<u16>()).prop_map(Option::unwrap_or_default);
    (mask(0.6), mask(0.4), mask(0.7)).prop_map(|(quarantine, restore, expire)| Orphans { quarantine, restore, expire })
}

fn life() -> impl Strategy<Value = Life> {
    // A short life has few calls: the strikes lie within what it is likely to come to.
    let strikes = prop::collection::btree_map(1u64..160, strike(), 0..5);
    // A disk that fails, fails for a while.
    let outage = prop::option::weighted(0.3, (1u64..160, 2u64..40, proptest::sample::select(ERRORS.to_vec())));
    let rules = (prop::bool::weighted(0.1), any::<bool>(), orphans());
    (strikes, outage, prop::option::of(any::<u16>()), any::<u16>(), rules).prop_map(
        |(mut strikes, outage, power, torn, (observe, protect, orphans))| {
            if let Some((from, count, error)) = outage {
                for call in from..from + count {
                    strikes.entry(call).or_insert(Strike::Refuse(error));
                }
            }
            Life { strikes, power, torn, observe, protect, orphans }
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let policy =
        (prop::bool::weighted(0.93), any::<bool>(), 0u64..600, prop::option::weighted(0.2, 1u64..4), any::<bool>());
    let place = (prop::bool::weighted(0.3), prop::bool::weighted(0.8), any::<bool>(), prop::bool::weighted(0.3));
    let work = (prop::collection::vec(file(), 1..14), 0u64..60, 1usize..6, prop::collection::vec(life(), 1..4));
    (policy, place, work).prop_map(
        |(
            (enforce, delete_open, keep, max_files, critical),
            (apart, leases, lags, days),
            (files, wanted, batch, lives),
        )| {
            Case {
                days,
                files,
                enforce,
                delete_open,
                keep,
                max_files,
                critical,
                wanted,
                batch,
                apart,
                leases,
                lags,
                lives,
            }
        },
    )
}

/// What the test knows beside the guard.
#[derive(Debug, Default)]
struct Known {
    /// Inodes that somebody else unlinked.
    others: BTreeSet<u64>,
    /// Inodes that may not go.
    safe: BTreeSet<u64>,
    /// Inodes that somebody has opened to write to.
    opened: BTreeSet<u64>,
    /// The files that somebody else made, and where.
    made: BTreeMap<u64, RelPath>,
}

struct World {
    case: Case,
    disk: Arc<Disk>,
    home: tempfile::TempDir,
    paths: Vec<RelPath>,
    /// The files that there were at the beginning, and where.
    born: BTreeMap<u64, RelPath>,
    policy: Arc<TreePolicy>,
    marks: Marks,
    known: Arc<Mutex<Known>>,
    now: Timestamp,
}

/// A guard that runs.
struct Guard {
    engine: Engine,
    trees: Trees,
    dir: Arc<FakeDir>,
    volumes: FakeVolumes,
    clock: Arc<FakeClock>,
    power: Arc<Power>,
}

fn tree() -> TreeId {
    TreeId::new("live")
}

impl World {
    fn new(case: &Case) -> Self {
        let disk = Disk::new(case.apart, case.leases, case.lags);
        let mut known = Known::default();
        let (mut paths, mut born) = (Vec::new(), BTreeMap::new());
        for (at, file) in case.files.iter().enumerate() {
            let end = match file.nature {
                Nature::Unrecognised => "txt",
                Nature::Playlist => "m3u8",
                Nature::Plain
                | Nature::Young
                | Nature::Linked
                | Nature::Held
                | Nature::Immutable
                | Nature::Read
                | Nature::Written => ["mp4", "ts"][usize::from(case.days)],
            };
            let path = match case.days {
                true => format!("{}/{at:02}-00_{at}.{end}", HOURS[file.dir]),
                false => format!("{}/f{at:02}.{end}", DIRS[file.dir]),
            };
            let path = RelPath::new(path.as_bytes()).unwrap();
            let age = if file.nature == Nature::Young { 1 } else { file.age };
            let inode = disk.create(&path, file.blocks, Timestamp::from_secs(NOW - age * HOUR - at as i64));
            disk.alter(inode, |fake| match file.nature {
                Nature::Linked => fake.identity.links = 2,
                Nature::Held => drop(fake.attributes.insert(HOLD_ATTRIBUTE.to_owned(), b"case 7".to_vec())),
                Nature::Immutable => fake.immutable = true,
                Nature::Read => fake.readers = 1,
                Nature::Written => fake.writers = 1,
                Nature::Plain | Nature::Young | Nature::Unrecognised | Nature::Playlist => {}
            });
            let safe = match file.nature {
                Nature::Plain => false,
                Nature::Playlist => !case.days,
                Nature::Young | Nature::Linked | Nature::Held | Nature::Immutable | Nature::Unrecognised => true,
                Nature::Read => case.leases && !case.delete_open,
                Nature::Written => case.leases,
            };
            // A power cut closes every file.
            let lasts = !matches!(file.nature, Nature::Read | Nature::Written)
                || case.lives.iter().all(|life| life.power.is_none());
            let vip = path.as_bytes().starts_with(b"vip/");
            let protected = vip && case.lives.iter().all(|life| life.protect);
            if !case.enforce || (safe && lasts) || protected {
                known.safe.insert(inode);
            }
            born.insert(inode, path.clone());
            paths.push(path);
        }
        disk.sync();
        let rule = Rule {
            stream: Pattern::new("**").unwrap(),
            max_age: None,
            max_bytes: None,
            max_files: case.max_files,
            keep: Duration::from_secs(case.keep * 3600),
            priority: 0,
            stream_share: None,
        };
        let policy = TreePolicy {
            mode: if case.enforce { Mode::Enforce } else { Mode::Observe },
            min_age: Duration::from_secs(6 * 3600),
            when_open: if case.delete_open { WhenOpen::Delete } else { WhenOpen::Wait },
            retention: vec![rule],
            ..policy("live", if case.days { "hls" } else { "plain" })
        };
        let free = SIZE.saturating_sub(OTHERS).saturating_sub(disk.used());
        let low = vec![Mark::Free(free.saturating_add(Bytes(case.wanted * BLOCK)))];
        let critical = if case.critical { low.clone() } else { vec![Mark::Free(Bytes(1))] };
        let marks = Marks { high: low.clone(), low, critical, ..Marks::default() };
        let memory = Path::new("/dev/shm");
        let home = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        // A small first segment: it is read again in every life.
        let spare =
            std::fs::File::options().create(true).truncate(true).write(true).open(home.path().join("spare")).unwrap();
        spare.write_all_at(&vec![0; 96 << 10], 0).unwrap();
        Self {
            case: case.clone(),
            disk,
            home,
            paths,
            born,
            policy: Arc::new(policy),
            marks,
            known: Arc::new(Mutex::new(known)),
            now: Timestamp::from_secs(NOW),
        }
    }

    /// Today's rules.
    fn rule(&mut self, observe: bool, protect: bool) {
        let enforce = self.case.enforce && !observe;
        self.policy = Arc::new(TreePolicy {
            mode: if enforce { Mode::Enforce } else { Mode::Observe },
            protect: if protect { vec![Pattern::new("vip/**").unwrap()] } else { Vec::new() },
            ..TreePolicy::clone(&self.policy)
        });
    }

    /// What today's rules say may not go did not, whatever they said yesterday.
    fn spared(&self, before: &BTreeMap<RelPath, u64>) -> Result<(), String> {
        let (names, known) = (self.disk.names(), self.known.lock().unwrap());
        let there: BTreeSet<u64> = names.values().copied().collect();
        for (name, inode) in before.iter().filter(|(_, inode)| !known.others.contains(inode)) {
            let origin = self.born.get(inode).or_else(|| known.made.get(inode));
            let protected = origin.is_some_and(|path| self.policy.protect.iter().any(|p| p.matches_path(path)));
            if protected && !there.contains(inode) {
                return Err(format!("{name} was deleted, though it is protected now"));
            }
            if self.policy.mode == Mode::Observe && names.get(name) != Some(inode) {
                return Err(format!("{name} was touched, though its tree is only observed now"));
            }
        }
        Ok(())
    }

    /// Somebody else does something to a file.
    fn meddler(&self) -> Arc<dyn Fn(u32) + Send + Sync> {
        let (disk, known, paths) = (self.disk.clone(), self.known.clone(), self.paths.clone());
        let leases = self.case.leases;
        Arc::new(move |number| {
            let path = &paths[number as usize / 3 % paths.len()];
            let mut known = known.lock().unwrap();
            match number % 3 {
                0 => known.others.extend(disk.remove(path)),
                // The recorder writes a new file of the same name.
                1 => {
                    known.others.extend(disk.remove(path));
                    let at = NOW + i64::try_from(known.made.len()).unwrap();
                    let inode = disk.create(path, 1, Timestamp::from_secs(at));
                    known.made.insert(inode, path.clone());
                    known.safe.insert(inode);
                }
                _ => {
                    if let Some(inode) = disk.open_to_write(path).filter(|_| leases) {
                        known.opened.insert(inode);
                    }
                }
            }
        })
    }

    /// A guard begins.
    fn begin(&self, strikes: BTreeMap<u64, Strike>) -> Guard {
        let power = Power::new(strikes);
        power.meddle(self.meddler());
        let clock = Arc::new(FakeClock::new(self.now, power.clone()));
        let dir = Arc::new(FakeDir::new(self.disk.clone(), power.clone(), Path::new("/record")));
        let journal = Journal::open(self.home.path()).unwrap().journal;
        let engine = Engine {
            journal: Arc::new(journal),
            clock: clock.clone(),
            holders: Arc::new(FakeHolders::default()),
            events: Arc::new(|_| ()),
            cleanup: Cleanup { batch_files: self.case.batch, pause: Duration::ZERO, ..Cleanup::default() },
            brake: Arc::new(Brake::default()),
        };
        let volumes = FakeVolumes { disk: self.disk.clone(), size: SIZE, others: OTHERS, power: power.clone() };
        Guard { engine, trees: Trees::new(), dir, volumes, clock, power }
    }
}

impl Guard {
    fn scan(&mut self, policy: &Arc<TreePolicy>, leases: bool) -> Arc<Inventory> {
        let mut go_on = |_| std::ops::ControlFlow::Continue(());
        let found =
            scan(self.dir.as_ref(), &tree(), &policy.layout, &policy.protect, self.clock.as_ref(), &mut go_on).unwrap();
        let handle = TreeHandle {
            dir: self.dir.clone(),
            policy: policy.clone(),
            may_share: false,
            leases,
            sighted: Arc::new(move |_| !leases),
            sighted_units: std::collections::BTreeSet::new(),
            beside: found.passed_over.beside.clone(),
            favourites: Arc::default(),
            holds: Arc::default(),
            proven: Arc::new(|_| Ok(())),
        };
        self.trees = Trees::from([(tree(), handle)]);
        Arc::new(found)
    }

    /// The numbers of what is in quarantine.
    fn quarantined(&self, mask: u16) -> Vec<Seq> {
        let all: Vec<Seq> = self.engine.journal.with_history(|history| history.quarantined.keys().copied().collect());
        all.into_iter().filter(|seq| Orphans::picks(mask, seq.0)).collect()
    }

    /// Carries out targets, and deletes files in quarantine with them.
    fn run(&mut self, world: &World, run: u64, targets: Vec<Target>, expired: &[Seq]) -> Result<(), JournalError> {
        let order = Order {
            volume: VolumeId::new("fake"),
            run,
            who: "guard".to_owned(),
            job: None,
            targets,
            expiring: self.engine.expiries(&self.trees, expired)?.ready,
            marks: world.marks.clone(),
            promised: Bytes::ZERO,
            asked: None,
        };
        let mut run = self.engine.begin(order)?;
        let (volumes, clock, dir) = (&self.volumes, self.clock.clone(), self.dir.clone());
        let mut probe = || volumes.read(dir.path(), clock.shows());
        self.engine.carry_on(&mut run, Vec::new(), &self.trees, &mut probe, (&|| false, &|| false), &|| false)?;
        self.engine.end(run).map(|_| ())
    }

    /// What is done with orphans: some are set aside, some that are go back, and some are deleted, in a run or without; whether
    /// anything was.
    fn tidy(&mut self, world: &World, inventory: &Inventory, orphans: Orphans) -> Result<bool, JournalError> {
        let back = self.quarantined(orphans.restore);
        self.engine.restore(&self.trees, &back, "ops")?;
        let expired = self.quarantined(orphans.expire);
        let (alone, in_run) = expired.split_at(expired.len() / 2);
        expire(&self.engine, &self.trees, alone, GUARD)?;
        let now = self.clock.shows();
        let old = inventory.files().filter(|seen| {
            !seen.unit
                && now.since(seen.touched()) >= world.policy.min_age
                && Orphans::picks(orphans.quarantine, seen.inode)
        });
        let targets: Vec<Target> = old
            .map(|seen| {
                let stream = inventory.stream(seen.stream).as_str();
                let path = inventory.path(seen.index);
                Target::of(&tree(), path, stream, &seen, RuleKind::Quarantine, "unknown".to_owned())
            })
            .collect();
        if targets.is_empty() && in_run.is_empty() {
            return Ok(!back.is_empty());
        }
        self.run(world, 3, targets, in_run).map(|()| true)
    }

    /// What a daemon does at start, and then once more on each tick.
    fn live(&mut self, world: &World, orphans: Orphans) -> Result<(), JournalError> {
        self.scan(&world.policy, world.case.leases);
        settle(&self.engine, &self.trees)?;
        let inventory = self.scan(&world.policy, world.case.leases);
        let failures: Vec<_> = self.engine.journal.with_history(|history| history.failures.values().cloned().collect());
        if world.policy.mode == Mode::Enforce {
            self.engine.retry(&self.trees, failures, (1, GUARD), &|| false)?;
        }
        let inventory = if self.tidy(world, &inventory, orphans)? {
            self.scan(&world.policy, world.case.leases)
        } else {
            inventory
        };
        let failing: HashSet<RelPath> = self
            .engine
            .journal
            .with_history(|history| history.failures.values().map(|failure| failure.target.path.clone()).collect());
        let facts = TreeFacts {
            policy: world.policy.clone(),
            inventory,
            gone: Gone::default(),
            holds: Arc::default(),
            open: HashSet::new(),
            waiting: HashSet::new(),
            shared: Default::default(),
            favourites: Arc::default(),
            live: Arc::default(),
            writing: Arc::default(),
            archived: Arc::default(),
            copies_stay: false,
            awaited: Arc::default(),
        };
        let now = self.clock.shows();
        let Ok(reading) = self.volumes.read(self.dir.path(), now) else { return Ok(()) };
        let marks = world.marks.thresholds(&reading.space);
        let bytes = marks.low.saturating_sub(reading.space.available);
        let target = Deficit { bytes, inodes: 0, critical: world.case.critical };
        let volume = VolumeId::new("fake");
        let plan = plan(&volume, vec![facts], target, &Moment::trusted(now));
        let targets = plan.items.iter().map(|item| plan.target_of(item));
        let targets = targets.filter(|target| !failing.contains(&target.path)).collect();
        self.run(world, 1, targets, &[])
    }

    fn lines(&self) -> Vec<JournalLine> {
        self.engine.journal.read(&JournalQuery { limit: usize::MAX, ..JournalQuery::default() }).unwrap()
    }
}

/// Cuts off a part of the batch that the guard was writing to its journal when it ended, if that was so: nothing that the batch says
/// was acted upon.
fn tear(home: &Path, guard: &Guard, torn: u16) {
    if guard.power.last() != "now" {
        return;
    }
    let segments = std::fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path());
    let last = segments.filter(|path| path.extension().is_some_and(|end| end == "seg")).max().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    // After the header: length, checksum, then batch, number and time.
    let (mut at, mut batch) = (64, None::<(u32, i64, usize)>);
    while at + 28 < bytes.len() {
        let number = |from: usize| u32::from_le_bytes(bytes[at + from..at + from + 4].try_into().unwrap());
        let length = number(0) as usize;
        if length == 0 {
            break;
        }
        let time = i64::from_le_bytes(bytes[at + 20..at + 28].try_into().unwrap());
        if batch.is_none_or(|(known, _, _)| known != number(8)) {
            batch = Some((number(8), time, at));
        }
        at += 8 + length;
    }
    let Some((_, _, start)) = batch.filter(|(_, time, _)| *time == guard.clock.shows().millis()) else { return };
    let from = start + (at - start) * usize::from(torn) / 65_536;
    let file = std::fs::File::options().write(true).open(&last).unwrap();
    file.write_all_at(&vec![0; at - from], from as u64).unwrap();
}

/// What the journal says last of each inode, and whether it ever was done.
fn done(lines: &[JournalLine]) -> BTreeSet<u64> {
    let done = lines.iter().filter_map(|line| match (&line.intent, &line.attempt) {
        (Some((_, intent)), Some(Attempt::Verified { .. } | Attempt::AlreadyGone)) => Some(intent.target.inode),
        _ => None,
    });
    done.collect()
}

/// Where the files stand that were in quarantine at some time, by the journal; a file in quarantine may only be deleted as such.
fn quarantine(lines: &[JournalLine]) -> Result<Stands, String> {
    let mut out = Stands::default();
    for line in lines {
        match (&line.intent, &line.attempt, &line.note) {
            (Some((seq, intent)), Some(attempt), _) => {
                let (inode, rule) = (intent.target.inode, intent.target.rule);
                if rule == RuleKind::Quarantine && matches!(attempt, Attempt::Verified { .. }) {
                    return Err(format!("intent {} deleted a file that was to be set aside", seq.0));
                }
                if rule == RuleKind::Quarantine && attempt.is_quarantined() {
                    out.aside.insert(inode, *seq);
                    out.back.remove(&inode);
                }
                if let Attempt::Verified { .. } | Attempt::AlreadyGone = attempt {
                    let of = out.aside.remove(&inode);
                    if of.is_some() && intent.retry_of != of {
                        return Err(format!("intent {} deleted inode {inode}, which is in quarantine", seq.0));
                    }
                    out.expired += u64::from(of.is_some());
                }
            }
            (_, _, Some(Entry::Note { kind: NoteKind::Restored, number, .. })) => {
                let inode = out.aside.iter().find(|(_, seq)| seq.0 == *number).map(|(inode, _)| *inode);
                let inode = inode.ok_or_else(|| format!("{number} is restored, and was not in quarantine"))?;
                out.aside.remove(&inode);
                out.back.insert(inode, Seq(*number));
                out.restored += 1;
            }
            _ => {}
        }
    }
    Ok(out)
}

#[derive(Debug, Default)]
struct Stands {
    /// Inodes in quarantine, and their numbers.
    aside: BTreeMap<u64, Seq>,
    /// Inodes that were put back, last of all, and the numbers that they had.
    back: BTreeMap<u64, Seq>,
    expired: u64,
    restored: u64,
}

/// The number in a name of ours.
fn number(path: &RelPath) -> Option<u64> {
    if !ours(path) {
        return None;
    }
    let name = String::from_utf8_lossy(path.split().1).into_owned();
    let rest = name.strip_prefix(".storage-guard-").unwrap_or(&name);
    rest.split('-').next()?.parse().ok()
}

/// A name of ours.
fn ours(path: &RelPath) -> bool {
    path.components().any(|name| name.starts_with(b".storage-guard"))
}

impl World {
    /// What is in quarantine by the journal is set aside, or under its name, or on its way out; what was put back is back.
    fn kept_apart(&self, guard: &Guard, others: &BTreeSet<u64>) -> Result<Stands, String> {
        let names: BTreeMap<u64, RelPath> = self.disk.names().into_iter().map(|(path, inode)| (inode, path)).collect();
        let lines = guard.lines();
        let stands = quarantine(&lines)?;
        let (going, open) = guard.engine.journal.with_history(|history| {
            let open: BTreeSet<u64> = history.open.values().map(|open| open.intent.target.inode).collect();
            // A deletion that failed may have been done.
            let failed = history.failures.keys().map(|id| Seq(*id));
            (History::unsettled_retries(history).into_iter().chain(failed).collect::<BTreeSet<Seq>>(), open)
        });
        for (inode, seq) in stands.aside.iter().filter(|(inode, _)| !others.contains(inode)) {
            if !names.contains_key(inode) && !going.contains(seq) {
                return Err(format!("inode {inode} is in quarantine by the journal, and is nowhere"));
            }
        }
        for (inode, quarantine) in &stands.back {
            let Some((path, number)) = names.get(inode).and_then(|path| Some((path, number(path)?))) else { continue };
            // A later intent may have set it aside again, to delete it.
            let later = lines.iter().any(|line| {
                let of = line.intent.as_ref().filter(|(seq, _)| seq.0 == number && seq > quarantine);
                of.is_some_and(|(_, intent)| {
                    intent.target.inode == *inode && intent.target.rule != RuleKind::Quarantine
                })
            });
            if !later && !open.contains(inode) {
                return Err(format!("inode {inode} was put back by the journal from {}, and is {path}", quarantine.0));
            }
        }
        Ok(stands)
    }

    /// One life, up to its end; says whether it was cut short.
    fn live(&mut self, life: &Life) -> Result<bool, String> {
        self.rule(life.observe, life.protect);
        let before = self.disk.names();
        let mut guard = self.begin(life.strikes.clone());
        let ended = catch_unwind(AssertUnwindSafe(|| guard.live(self, life.orphans)));
        let cut = match ended {
            Ok(result) => {
                result.map_err(|error| format!("the journal failed: {error}"))?;
                false
            }
            Err(payload) if payload.is::<Cut>() => true,
            Err(payload) => resume_unwind(payload),
        };
        self.now = guard.clock.shows();
        if cut {
            tear(self.home.path(), &guard, life.torn);
        }
        let done = done(&guard.lines());
        drop(guard);
        let there: BTreeSet<u64> = self.disk.names().into_values().collect();
        self.playlists_first(&there, &done, &self.known.lock().unwrap())?;
        self.spared(&before)?;
        if let Some(keep) = life.power {
            self.lose_power(keep)?;
        }
        Ok(cut)
    }

    /// The power fails: what was on record as deleted does not come back.
    fn lose_power(&self, keep: u16) -> Result<(), String> {
        self.disk.lose_power(keep);
        let mut known = self.known.lock().unwrap();
        let there: BTreeSet<u64> = self.disk.names().into_values().collect();
        let guard = self.begin(BTreeMap::new());
        let done = done(&guard.lines());
        self.kept_apart(&guard, &known.others)?;
        drop(guard);
        if let Some(inode) = done.iter().find(|inode| there.contains(inode) && !known.others.contains(inode)) {
            return Err(format!("inode {inode} came back, though it is on record as deleted"));
        }
        // Nobody has them open any more.
        known.opened.clear();
        // What somebody else had made was not durable yet.
        let lost: Vec<u64> = known.made.keys().filter(|inode| !there.contains(inode)).copied().collect();
        known.others.extend(lost);
        Ok(())
    }

    /// Where a segment of a day is on record as deleted, what named it is gone.
    fn playlists_first(&self, there: &BTreeSet<u64>, done: &BTreeSet<u64>, known: &Known) -> Result<(), String> {
        let day = |path: &RelPath| self.policy.layout.unit_of(path);
        let playlist = |path: &RelPath| path.as_bytes().ends_with(b".m3u8");
        let begun: BTreeSet<RelPath> = self
            .born
            .iter()
            .filter(|(inode, path)| done.contains(inode) && !playlist(path))
            .filter_map(|(_, path)| day(path))
            .collect();
        for (inode, path) in self.born.iter().filter(|(inode, path)| playlist(path) && there.contains(inode)) {
            if day(path).is_some_and(|day| begun.contains(&day)) && !known.others.contains(inode) {
                return Err(format!("{path} is there, and segments that it names are gone"));
            }
        }
        Ok(())
    }

    /// Store and disk agree, and nothing is gone that may not go.
    fn check(&self, guard: &Guard) -> Result<Stands, String> {
        let names = self.disk.names();
        let there: BTreeSet<u64> = names.values().copied().collect();
        let known = self.known.lock().unwrap();
        let stands = self.kept_apart(guard, &known.others)?;
        let told: BTreeMap<u64, Seq> = guard
            .engine
            .journal
            .with_history(|history| history.quarantined.iter().map(|(seq, one)| (one.target.inode, *seq)).collect());
        if told != stands.aside {
            return Err(format!("the history has {told:?} in quarantine, and the lines have {:?}", stands.aside));
        }
        let origin = |inode: &u64| self.born.get(inode).or_else(|| known.made.get(inode));
        for (path, inode) in &names {
            let home = origin(inode).ok_or_else(|| format!("inode {inode} is nobody's"))?;
            // Where the name was taken meanwhile, it cannot go back.
            if stands.aside.contains_key(inode) {
                if !ours(path) {
                    return Err(format!("{path} is in quarantine by the journal"));
                }
                continue;
            }
            if path != home && names.get(home).is_none_or(|other| other == inode) {
                return Err(format!("{home} is left as {path}"));
            }
        }
        let done = done(&guard.lines());
        for (inode, path) in self.born.iter().chain(&known.made) {
            let others = known.others.contains(inode);
            match there.contains(inode) {
                true if done.contains(inode) && !others => {
                    return Err(format!("{path} is there, though it is on record as deleted"));
                }
                false if !others && !done.contains(inode) => {
                    return Err(format!("{path} is gone, and nothing says so"));
                }
                false if !others && (known.safe.contains(inode) || known.opened.contains(inode)) => {
                    return Err(format!("{path} is gone, though it may not go"));
                }
                true | false => {}
            }
        }
        self.playlists_first(&there, &done, &known)?;
        let (open, going): (Vec<_>, _) = guard
            .engine
            .journal
            .with_history(|history| (history.open.values().cloned().collect(), history.unsettled_retries()));
        if let Some(seq) = stands.aside.values().find(|seq| going.contains(seq)) {
            return Err(format!("the deletion of {} in quarantine is not settled", seq.0));
        }
        for one in open {
            if names.get(&one.intent.target.path).is_none_or(|inode| *inode == one.intent.target.inode) {
                return Err(format!("intent {} is not settled", one.seq.0));
            }
        }
        Ok(stands)
    }
}

/// How much the cases met.
#[derive(Debug, Default)]
struct Met {
    /// How often the guard was cut short.
    cuts: u64,
    /// Files that were in quarantine in the end, or were deleted there, or put back.
    quarantined: u64,
    expired: u64,
    restored: u64,
    /// Segments that went with their day.
    segments: u64,
}

/// Some lives with failures, then one without.
fn check(case: &Case) -> Result<Met, String> {
    let mut world = World::new(case);
    let mut cuts = 0;
    for life in &case.lives {
        cuts += u64::from(world.live(life)?);
    }
    world.rule(false, case.lives.last().is_some_and(|life| life.protect));
    let mut guard = world.begin(BTreeMap::new());
    let failed = |error: JournalError| error.to_string();
    guard.scan(&world.policy, case.leases);
    settle(&guard.engine, &guard.trees).map_err(failed)?;
    guard.live(&world, Orphans::default()).map_err(failed)?;
    guard.scan(&world.policy, case.leases);
    settle(&guard.engine, &guard.trees).map_err(failed)?;
    let stands = world.check(&guard)?;
    let before = (world.disk.names(), world.disk.directories(), guard.lines());
    let report = settle(&guard.engine, &guard.trees).map_err(failed)?;
    if before != (world.disk.names(), world.disk.directories(), guard.lines()) {
        return Err(format!("settling again changed something: {:?}", report.settled));
    }
    let done = done(&guard.lines());
    let segments = world.born.keys().filter(|inode| case.days && done.contains(inode)).count() as u64;
    drop(guard);
    world.lose_power(0)?;
    let quarantined = stands.aside.len() as u64;
    Ok(Met { cuts, quarantined, expired: stands.expired, restored: stands.restored, segments })
}

/// Faults 51, 53, 59, 66 and 68 at the traits, with what only they can produce: answers that are lies, as over NFS, `EDQUOT`, no leases.
#[test]
fn whatever_fails_and_whenever_it_is_cut_off_store_and_disk_agree() {
    let cases = scale(1500, 30_000);
    let config = Config {
        cases: u32::try_from(cases).unwrap(),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/data/reclaim_model.txt"))),
        max_shrink_iters: 4000,
        ..Config::default()
    };
    let met = std::cell::RefCell::new(Met::default());
    let found = TestRunner::new(config).run(&case(), |case| match check(&case) {
        Ok(more) => {
            let mut met = met.borrow_mut();
            met.cuts += more.cuts;
            met.quarantined += more.quarantined;
            met.expired += more.expired;
            met.restored += more.restored;
            met.segments += more.segments;
            Ok(())
        }
        Err(why) => Err(TestCaseError::fail(why)),
    });
    if let Err(error) = found {
        panic!("{error}");
    }
    total("model cases", cases);
    let met = met.into_inner();
    total("model cuts", met.cuts);
    for (what, count) in [
        ("gone with their day", met.segments),
        ("quarantined", met.quarantined),
        ("expired", met.expired),
        ("restored", met.restored),
    ] {
        assert!(count >= cases / 30, "only {count} files were {what} in {cases} cases");
        total(&format!("model files {what}"), count);
    }
}

/// Fault 59: a deletion of which only the last step failed is no less done because a new rule protects the file.
#[test]
fn what_is_gone_is_not_kept_by_a_rule_that_came_later() {
    let files = [0, 3, 4].map(|dir| FileSpec { dir, age: 99, blocks: 1, nature: Nature::Plain }).to_vec();
    let life =
        |strikes, protect| Life { strikes, power: None, torn: 0, observe: false, protect, orphans: Orphans::default() };
    for call in 1..100 {
        let failing = life(BTreeMap::from([(call, Strike::Refuse(libc::EIO))]), false);
        let case = Case {
            days: false,
            files: files.clone(),
            enforce: true,
            delete_open: false,
            keep: 0,
            max_files: None,
            critical: true,
            wanted: 3,
            batch: 2,
            apart: false,
            leases: true,
            lags: false,
            lives: vec![failing, life(BTreeMap::new(), true)],
        };
        check(&case).unwrap_or_else(|why| panic!("call {call}: {why}"));
    }
}
