//! A year of two hundred cameras, in seconds: what the rules promise is kept while the disk can hold it, and is given up in the stated order
//! when it cannot. Time and disk are in memory; pressure, plans, shares and caps are those that the guard decides by.
//!
//! `docs/year.svg` shows it. Where the year is another than the picture's, the test says so; `STORAGE_GUARD_REDRAW=1` draws it anew.

mod plot;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use storage_guard::domain::clock_watch::Skew;
use storage_guard::domain::deletion::{RuleKind, Trigger};
use storage_guard::domain::layout::Layout;
use storage_guard::domain::limits::CapFacts;
use storage_guard::domain::names::{TreeId, VolumeId};
use storage_guard::domain::orphan::{LeftoverPolicy, OrphanPolicy};
use storage_guard::domain::plan::{Plan, PlanItem, TreeFacts};
use storage_guard::domain::pressure::Pressure;
use storage_guard::domain::protection::Pattern;
use storage_guard::domain::recording::{FileIdentity, Gone, InventoryBuilder, Kind, Sighting};
use storage_guard::domain::retention::{Mode, Rule, TreePolicy, WhenOpen};
use storage_guard::domain::status::PlanBasis;
use storage_guard::domain::units::{Bytes, Percent, Timestamp};
use storage_guard::domain::volume::{Mark, Marks, Reading, Space, Unusable};
use storage_guard::system::Clock as _;
use storage_guard::testkit::{FakeClock, Power};

/// Cameras that have one rule.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    tree: usize,
    /// Megabits in a second, of each camera.
    rate: u64,
    pub(crate) keep: u64,
    /// Days.
    pub(crate) max_age: Option<u64>,
    pub(crate) priority: i32,
    /// Percent of the tree's bytes.
    share: Option<u32>,
}

pub(crate) const GROUPS: [Group; 4] = [
    Group { name: "entrances", tree: 0, rate: 2, keep: 30, max_age: Some(40), priority: 20, share: None },
    Group { name: "corridors", tree: 0, rate: 4, keep: 14, max_age: Some(16), priority: 10, share: None },
    Group { name: "car parks", tree: 1, rate: 4, keep: 7, max_age: None, priority: 0, share: None },
    Group { name: "yards", tree: 1, rate: 2, keep: 7, max_age: None, priority: 0, share: Some(3) },
];
const TREES: [&str; 2] = ["inside", "outside"];
/// Of each group.
const CAMERAS: u64 = 50;
/// A camera of the last group.
const LOUD: u64 = 3 * CAMERAS;
/// When it records ten times as much, in days.
pub(crate) const LOUDER: std::ops::Range<u64> = 90..150;
/// From which day on the volume has how many TB.
pub(crate) const SIZES: [(u64, u64); 4] = [(0, 130), (190, 87), (250, 65), (300, 130)];
pub(crate) const DAYS: u64 = 365;

const SLICE: Duration = Duration::from_secs(12 * 3600);
const SLICES_A_DAY: u64 = 2;
const TB: u64 = 1_000_000_000_000;
/// 2026-01-01.
const BEGAN: i64 = 1_767_225_600;
const REDRAW: &str = "STORAGE_GUARD_REDRAW";

/// A recording: the slice that it is, and its bytes.
#[derive(Debug, Clone, Copy)]
struct Recorded {
    slice: u64,
    bytes: u64,
}

/// What a day left.
#[derive(Debug, Clone, Default)]
pub(crate) struct Day {
    /// How many days back the worst camera of each group reaches, the loud one left out.
    pub(crate) worst: [f64; GROUPS.len()],
    /// How many the loud one does.
    pub(crate) loud: f64,
    pub(crate) size: u64,
    pub(crate) used: u64,
}

struct Year {
    clock: FakeClock,
    policies: Vec<Arc<TreePolicy>>,
    marks: Marks,
    pressure: Pressure,
    cameras: Vec<VecDeque<Recorded>>,
    /// What went of each tree: when, and how many bytes.
    deleted: Vec<VecDeque<(Timestamp, u64)>>,
    slice: u64,
    planned: Timestamp,
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

fn at(slice: u64) -> Timestamp {
    Timestamp::from_secs(BEGAN).plus(SLICE * u32::try_from(slice).unwrap())
}

fn group_of(camera: u64) -> usize {
    usize::try_from(camera / CAMERAS).unwrap()
}

fn policy(tree: usize) -> TreePolicy {
    let of_tree = GROUPS.iter().filter(|group| group.tree == tree);
    let rule = |group: &Group| Rule {
        stream: Pattern::new(&format!("{}/*", group.name)).unwrap(),
        max_age: group.max_age.map(days),
        max_bytes: None,
        max_files: None,
        keep: days(group.keep),
        priority: group.priority,
        stream_share: group.share.map(Percent::new),
    };
    TreePolicy {
        tree: TreeId::new(TREES[tree]),
        mode: Mode::Enforce,
        layout: Layout::parse("zlmediakit", &[], jiff::tz::TimeZone::UTC).unwrap(),
        min_age: Duration::from_secs(600),
        when_open: WhenOpen::Wait,
        protect: Vec::new(),
        retention: of_tree.map(rule).collect(),
        budget: None,
        // Outside so little has room in the worst weeks that most of it goes each day, and its owner says that it may.
        max_share: if tree == 0 { Percent::new(20) } else { Percent::WHOLE },
        catalogues: Vec::new(),
        orphans: OrphanPolicy::default(),
        leftovers: LeftoverPolicy::default(),
        archive: None,
    }
}

impl Year {
    fn new() -> Self {
        Self {
            clock: FakeClock::new(at(0), Power::new(BTreeMap::new())),
            policies: (0..TREES.len()).map(|tree| Arc::new(policy(tree))).collect(),
            marks: Marks {
                high: vec![Mark::Used(Percent::new(88))],
                low: vec![Mark::Used(Percent::new(84))],
                critical: vec![Mark::Used(Percent::new(92))],
                ..Marks::default()
            },
            pressure: Pressure::Normal,
            cameras: vec![VecDeque::new(); GROUPS.len() * usize::try_from(CAMERAS).unwrap()],
            deleted: vec![VecDeque::new(); TREES.len()],
            slice: 0,
            planned: at(0),
        }
    }

    fn day(&self) -> u64 {
        self.slice / SLICES_A_DAY
    }

    /// It does not shrink in a moment: what takes the room takes 2 TB a day of it.
    fn size(&self) -> u64 {
        let of = |(from, size): (u64, u64)| (self.day() >= from).then_some((from, size));
        let step = SIZES.iter().rposition(|one| of(*one).is_some()).unwrap();
        let (from, size) = SIZES[step];
        let before = SIZES[step.saturating_sub(1)].1;
        before.saturating_sub(2 * (self.day() - from)).max(size) * TB
    }

    fn used(&self) -> u64 {
        self.cameras.iter().flatten().map(|one| one.bytes).sum()
    }

    /// Every camera finishes a recording.
    fn record(&mut self) {
        for (camera, recordings) in (0..).zip(&mut self.cameras) {
            let louder = camera == LOUD && LOUDER.contains(&(self.slice / SLICES_A_DAY));
            let rate = GROUPS[group_of(camera)].rate * if louder { 10 } else { 1 };
            recordings.push_back(Recorded { slice: self.slice, bytes: rate * 1_000_000 / 8 * SLICE.as_secs() });
        }
        self.slice += 1;
        self.clock.sleep(SLICE);
    }

    fn reading(&self) -> Result<Reading, Unusable> {
        let (size, available) =
            (self.size(), self.size().checked_sub(self.used()).expect("nobody writes on a full disk"));
        let (size, free) = (Bytes(size), Bytes(available));
        let space = Space { size, free, available: free, inodes: 0, inodes_free: 0 };
        Ok(Reading { at: self.clock.shows(), space, readonly: false, written: None })
    }

    fn inventory(&self, tree: usize) -> TreeFacts {
        let now = self.clock.shows();
        let mut builder = InventoryBuilder::new(TreeId::new(TREES[tree]), now);
        for (camera, recordings) in (0_u64..).zip(&self.cameras) {
            let group = &GROUPS[group_of(camera)];
            if group.tree != tree {
                continue;
            }
            let stream = format!("{}/{camera}", group.name);
            let top = builder.top();
            let dir = builder.directory(top, stream.as_bytes());
            for one in recordings {
                let identity = FileIdentity {
                    // From it the recording is found again.
                    inode: camera << 32 | one.slice,
                    modified: at(one.slice + 1).millis() * 1_000_000,
                    allocated: Bytes(one.bytes),
                    links: 1,
                    ..FileIdentity::default()
                };
                let name = format!("{:04}.mp4", one.slice);
                let (named, kind) = (Some(at(one.slice)), Kind::Recording);
                builder
                    .file(dir, &Sighting { name: name.as_bytes(), stream: &stream, kind, named, identity: &identity });
            }
        }
        TreeFacts {
            policy: self.policies[tree].clone(),
            inventory: Arc::new(builder.finish(now)),
            gone: Gone::default(),
            holds: Arc::default(),
            open: HashSet::new(),
            waiting: HashSet::new(),
            shared: HashMap::new(),
            favourites: Arc::default(),
            live: Arc::default(),
            writing: Arc::default(),
            archived: Arc::default(),
            copies_stay: false,
            awaited: Arc::default(),
        }
    }

    fn cap(&self, tree: usize) -> CapFacts {
        let of_tree = (0_u64..).zip(&self.cameras).filter(|(camera, _)| GROUPS[group_of(*camera)].tree == tree);
        let since = self.clock.shows().minus(days(1));
        let deleted = self.deleted[tree].iter().filter(|(when, _)| *when > since).map(|(_, bytes)| *bytes).sum();
        CapFacts {
            max_share: self.policies[tree].max_share,
            held: Bytes(of_tree.flat_map(|(_, recordings)| recordings).map(|one| one.bytes).sum()),
            deleted: Bytes(deleted),
            permitted: None,
            tripped: None,
            available: Bytes(self.size() - self.used()),
        }
    }

    /// What the guard does at each look: read, judge, and, under pressure and once a day, plan, delete, and read again.
    fn look(&mut self) -> Option<Plan> {
        let inflow = Bytes(GROUPS.iter().map(|group| group.rate * CAMERAS).sum::<u64>() * 1_000_000 / 8);
        let now = self.clock.shows();
        let before = std::mem::replace(&mut self.pressure, Pressure::Normal);
        self.pressure = before.next(&self.reading(), &self.marks, inflow, true, now);
        if self.pressure == Pressure::Normal && now.since(self.planned) < days(1) {
            return None;
        }
        self.planned = now;
        let basis = PlanBasis {
            trees: (0..TREES.len()).map(|tree| self.inventory(tree)).collect(),
            target: self.pressure.deficit(),
            allowances: (0..TREES.len()).map(|tree| self.cap(tree).allowance()).collect(),
            skew: Skew::NONE,
            retention: true,
            window: None,
            open: vec![true; TREES.len()],
        };
        let (plan, over) = basis.plan(&VolumeId::new("disk"), now);
        assert!(over.is_empty(), "day {}: a cap tripped", self.day());
        for item in &plan.items {
            let seen = plan.recording(item);
            let (camera, slice) = (seen.inode >> 32, seen.inode & 0xffff_ffff);
            let first = self.cameras[usize::try_from(camera).unwrap()].pop_front().unwrap();
            assert_eq!(first.slice, slice, "the oldest of a stream goes first");
            self.deleted[item.tree].push_back((now, seen.bytes.0));
        }
        let eligible = !plan.items.is_empty() || !plan.next.is_empty();
        let before = std::mem::replace(&mut self.pressure, Pressure::Normal);
        self.pressure = before.next(&self.reading(), &self.marks, inflow, eligible, now);
        Some(plan)
    }

    /// How many days back a camera reaches.
    fn achieved(&self, camera: usize) -> f64 {
        let oldest = self.cameras[camera].front().map_or(self.slice, |oldest| oldest.slice);
        f64::from(u32::try_from(self.slice - oldest).unwrap()) / 2.0
    }

    fn end_of_day(&self) -> Day {
        let mut worst = [f64::MAX; GROUPS.len()];
        let loud = usize::try_from(LOUD).unwrap();
        for camera in (0..self.cameras.len()).filter(|camera| *camera != loud) {
            let of_group = &mut worst[group_of(camera as u64)];
            *of_group = of_group.min(self.achieved(camera));
        }
        Day { worst, loud: self.achieved(loud), size: self.size(), used: self.used() }
    }
}

/// Below `keep` goes what has the lowest priority of all that is left, and only once nobody has anything beyond his own.
fn check_order(plan: &Plan, day: u64) {
    let going: HashSet<u64> = plan.items.iter().map(|item| plan.recording(item).inode).collect();
    let of = |item: &PlanItem| {
        let tree = &plan.trees[item.tree];
        tree.policy.rule_of(tree.inventory.stream(plan.recording(item).stream)).map(|(_, rule)| rule.priority).unwrap()
    };
    for rules in [&[RuleKind::Pressure, RuleKind::StreamShare][..], &[RuleKind::BelowKeep]] {
        let chosen = plan.items.iter().filter(|item| rules.contains(&item.rule));
        assert!(chosen.map(of).is_sorted(), "day {day}: lowest priority first");
    }
    let Some(highest) = plan.items.iter().filter(|item| item.rule == RuleKind::BelowKeep).map(of).max() else { return };
    for tree in &plan.trees {
        let newest: HashMap<_, _> = tree.inventory.files().map(|seen| (seen.stream, seen.inode)).collect();
        for seen in tree.inventory.files().filter(|seen| !going.contains(&seen.inode)) {
            let (_, rule) = tree.policy.rule_of(tree.inventory.stream(seen.stream)).unwrap();
            let kept = plan.made.age(seen.recorded()) < rule.keep;
            let spared = newest[&seen.stream] == seen.inode;
            assert!(spared || (kept && rule.priority >= highest), "day {day}: another had to go first");
        }
    }
}

fn simulate() -> Vec<Day> {
    let mut year = Year::new();
    let mut all = Vec::new();
    for day in 0..DAYS {
        for _ in 0..SLICES_A_DAY {
            year.record();
            let Some(plan) = year.look() else { continue };
            check_order(&plan, day);
            let broken = plan.items.iter().any(|item| item.rule == RuleKind::BelowKeep);
            assert!(
                !broken || (SIZES[1].0..SIZES[3].0).contains(&day),
                "day {day}: a promise that could be kept was broken"
            );
            assert!(
                plan.items.iter().all(|item| matches!(item.rule.trigger(), Trigger::Pressure | Trigger::Retention))
            );
        }
        all.push(year.end_of_day());
    }
    all
}

#[test]
fn a_year_of_two_hundred_cameras_keeps_its_promises_and_gives_them_up_in_order() {
    let year = simulate();
    // What began before the span that is kept may go, so that one slice, half a day, may be missing of it.
    let kept = |day: usize, group: usize| year[day].worst[group] + 0.5 >= GROUPS[group].keep.min(day as u64 + 1) as f64;
    let always = |days: std::ops::Range<u64>, group: usize| days.clone().all(|day| kept(day as usize, group));
    let never = |days: std::ops::Range<u64>, group: usize| days.clone().all(|day| !kept(day as usize, group));

    // While the disk has room for what is promised, each group has it, and whoever is loud takes it from nobody.
    for (group, one) in GROUPS.iter().enumerate() {
        assert!(always(0..SIZES[1].0, group), "{}", one.name);
    }
    let louder = LOUDER.start as usize + 20..LOUDER.end as usize;
    assert!(
        year[louder].iter().all(|day| day.loud >= 6.5 && day.loud <= day.worst[3]),
        "its share bounds the loud one"
    );

    // Two thirds of the disk: the lowest priority pays. Half of it: the next one too. The highest keeps all.
    let (two_thirds, half) = (SIZES[1].0 + 25..SIZES[2].0, SIZES[2].0 + 25..SIZES[3].0);
    for low in [2, 3] {
        assert!(never(two_thirds.clone(), low) && never(half.clone(), low));
    }
    assert!(always(two_thirds, 1) && never(half, 1));
    assert!(always(0..DAYS, 0));

    // The disk is whole again, and a month later so are the promises.
    for (group, one) in GROUPS.iter().enumerate() {
        assert!(always(SIZES[3].0 + 30..DAYS, group), "{}", one.name);
    }

    let picture = plot::draw(&year);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/year.svg");
    if std::env::var_os(REDRAW).is_some() {
        #[expect(clippy::disallowed_methods, reason = "somebody asked for a new picture")]
        std::fs::write(&path, &picture).unwrap();
    }
    let shown = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        picture == shown,
        "docs/year.svg shows another year: look at what has changed, and draw it anew with {REDRAW}=1"
    );
}
