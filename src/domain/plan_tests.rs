//! The plan held to its laws.

use super::super::orphan::{LeftoverPolicy, OrphanPolicy};
use super::*;
use crate::domain::clock_watch::ClockWatch;
use crate::domain::layout::Layout;
use crate::domain::live::{LiveStream, MediaServerView, Reach, StreamTuple};
use crate::domain::names::MediaServerId;
use crate::domain::protection::Pattern;
use crate::domain::recording::{FileIdentity, InventoryBuilder, Sighting};
use crate::domain::retention::{Mode, WhenOpen};
use crate::domain::units::Timestamp;
use proptest::prelude::*;

pub(in crate::domain) const HOUR: i64 = 3600;
pub(in crate::domain) const NOW: i64 = 1_800_000_000;

#[derive(Debug, Clone)]
struct File {
    stream: u8,
    /// Hours.
    age: i64,
    bytes: u64,
    links: u32,
    unfinished: bool,
}

fn aged(age: i64) -> File {
    File { stream: 0, age, bytes: 4096, links: 1, unfinished: false }
}

fn facts(files: &[File], policy: TreePolicy) -> TreeFacts {
    facts_of("", files, policy)
}

fn facts_of(app: &str, files: &[File], policy: TreePolicy) -> TreeFacts {
    let mut builder = InventoryBuilder::new(policy.tree.clone(), Timestamp::from_secs(NOW));
    let top = builder.top();
    let mut by_stream: Vec<(usize, &File)> = files.iter().enumerate().collect();
    by_stream.sort_by_key(|(_, f)| f.stream);
    for (i, file) in by_stream {
        let recorded = Timestamp::from_secs(NOW - file.age * HOUR);
        let identity = FileIdentity {
            inode: i as u64 + 1,
            links: file.links,
            allocated: Bytes(file.bytes),
            modified: recorded.millis() * 1_000_000,
            ..FileIdentity::default()
        };
        let sighting = Sighting {
            name: format!("{i:06}.mp4").as_bytes().to_vec().leak(),
            stream: format!("{app}cam{}", file.stream).leak(),
            kind: if file.unfinished { Kind::Unfinished } else { Kind::Recording },
            named: Some(recorded),
            identity: &identity,
        };
        builder.file(top, &sighting);
    }
    found(builder, policy)
}

/// What a scan found in a tree of which nothing else is known.
pub(in crate::domain) fn found(builder: InventoryBuilder, policy: TreePolicy) -> TreeFacts {
    TreeFacts {
        favourites: Arc::default(),
        policy: Arc::new(policy),
        inventory: Arc::new(builder.finish(Timestamp::from_secs(NOW))),
        gone: Gone::default(),
        holds: Arc::default(),
        open: HashSet::new(),
        waiting: HashSet::new(),
        shared: HashMap::new(),
        live: Arc::default(),
        writing: Arc::default(),
        archived: Arc::default(),
        copies_stay: false,
        awaited: Arc::default(),
    }
}

pub(in crate::domain) fn rule(stream: &str) -> Rule {
    Rule {
        stream: Pattern::new(stream).unwrap(),
        max_age: None,
        max_bytes: None,
        max_files: None,
        keep: Duration::ZERO,
        priority: 0,
        stream_share: None,
    }
}

pub(in crate::domain) fn policy(retention: Vec<Rule>) -> TreePolicy {
    TreePolicy {
        tree: TreeId::new("live"),
        mode: Mode::Enforce,
        layout: Layout::parse("plain", &["mp4".to_owned()], jiff::tz::TimeZone::UTC).unwrap(),
        min_age: Duration::from_secs(600),
        when_open: WhenOpen::Wait,
        protect: Vec::new(),
        retention,
        budget: None,
        max_share: Percent::new(20),
        catalogues: Vec::new(),
        orphans: OrphanPolicy::default(),
        leftovers: LeftoverPolicy::default(),
        archive: None,
    }
}

fn run(files: &[File], policy: TreePolicy, bytes: u64, critical: bool) -> Plan {
    let target = Deficit { bytes: Bytes(bytes), inodes: 0, critical };
    plan(&VolumeId::new("v"), vec![facts(files, policy)], target, &Moment::trusted(Timestamp::from_secs(NOW)))
}

/// Ages in hours of what goes, in order, and the bytes that stay missing.
fn check(files: &[File], policy: TreePolicy, bytes: u64, critical: bool, goes: &[i64], shortfall: u64) {
    let plan = run(files, policy, bytes, critical);
    let ages: Vec<i64> = plan.items.iter().map(|i| (NOW - plan.recording(i).recorded().secs()) / HOUR).collect();
    assert_eq!((ages.as_slice(), plan.shortfall.bytes), (goes, Bytes(shortfall)));
}

#[test]
fn takes_the_oldest_and_no_more_than_it_needs() {
    let files: Vec<File> = [30, 50, 40, 60].map(aged).to_vec();
    check(&files, policy(vec![]), 0, false, &[], 0);
    check(&files, policy(vec![]), 1, false, &[60], 0);
    check(&files, policy(vec![]), 8192, false, &[60, 50], 0);
    check(&files, policy(vec![]), 8193, true, &[60, 50, 40], 0);
    check(&files, policy(vec![]), u64::MAX, false, &[60, 50, 40, 30], u64::MAX - 4 * 4096);
}

#[test]
fn leaves_young_recordings_and_reports_the_shortfall() {
    check(&[aged(0)], policy(vec![]), 1, true, &[], 1);
    check(&[aged(-5)], policy(vec![]), 1, true, &[], 1);
}

#[test]
fn leaves_unfinished_linked_and_the_newest_of_a_lively_stream() {
    let files = [File { unfinished: true, ..aged(90) }, File { links: 2, ..aged(80) }, aged(20), aged(10)];
    check(&files, policy(vec![]), u64::MAX, true, &[20], u64::MAX - 4096);
}

/// Promise 3: what may be being written goes by no rule, at no pressure, and takes no other's place.
#[test]
fn what_may_be_being_written_stays_past_its_retention_and_at_any_pressure() {
    let moment = Moment::trusted(Timestamp::from_secs(NOW));
    let by_age = Rule { max_age: Some(Duration::from_secs(40 * 3600)), ..rule("*") };
    for (rules, goes) in [(vec![], [70, 50, 40]), (vec![by_age], [70, 50, 40])] {
        let mut tree = facts(&[70, 60, 50, 40].map(aged), policy(rules));
        tree.writing = Arc::new(HashSet::from([FileIndex(1)]));
        let target = Deficit { bytes: Bytes(u64::MAX), inodes: 0, critical: true };
        let plan = plan(&VolumeId::new("v"), vec![tree], target, &moment);
        let ages: Vec<i64> = plan.items.iter().map(|i| (NOW - plan.recording(i).recorded().secs()) / HOUR).collect();
        assert_eq!(ages, goes);
        assert_eq!(Spared::sum(&plan.spared, SparedReason::Live).files, 1);
    }
}

/// A camera that records on events only is live for weeks between two files.
#[test]
fn the_newest_of_a_live_stream_stays_though_it_wrote_long_ago() {
    let names = StreamTuple { vhost: "v".to_owned(), app: "a".to_owned(), stream: "cam0".to_owned() };
    let stream = LiveStream { names, mp4: Some(false), hls: Some(false), since: None };
    let mut server = MediaServerView::new(MediaServerId::new("zlm"));
    let now = Timestamp::from_secs(NOW);
    (server.reach, server.listed, server.streams) = (Reach::Up { since: now }, Some(now), vec![stream]);
    let mut tree = facts_of("a/", &[70, 60, 50].map(aged), policy(vec![]));
    let of = |views: &[MediaServerView]| Arc::new(LiveStreams::of(views, now));
    for (live, goes) in [(false, vec![70, 60, 50]), (true, vec![70, 60])] {
        tree.live = if live { of(std::slice::from_ref(&server)) } else { of(&[]) };
        let target = Deficit { bytes: Bytes(u64::MAX), inodes: 0, critical: true };
        let plan = plan(&VolumeId::new("v"), vec![tree.clone()], target, &Moment::trusted(now));
        let ages: Vec<i64> = plan.items.iter().map(|i| (NOW - plan.recording(i).recorded().secs()) / HOUR).collect();
        assert_eq!(ages, goes);
        assert_eq!(Spared::sum(&plan.spared, SparedReason::Newest).files, u64::from(live));
    }
}

#[test]
fn protected_and_held_recordings_stay() {
    let protect = TreePolicy { protect: vec![Pattern::new("000001*").unwrap()], ..policy(vec![]) };
    check(&[aged(50), aged(60)], protect, u64::MAX, true, &[50], u64::MAX - 4096);
}

/// As many of the oldest four share all their blocks, or a part of them, as `shared` says.
fn check_shared(shared: &[u64], target: Deficit, goes: &[i64], shortfall: u64) {
    let mut tree = facts(&[70, 60, 50, 40].map(aged), policy(vec![]));
    tree.shared = (0u32..).map(FileIndex).zip(shared.iter().copied().map(Bytes)).collect();
    let moment = Moment::trusted(Timestamp::from_secs(NOW));
    let plan = plan(&VolumeId::new("v"), vec![tree], target, &moment);
    let ages: Vec<i64> = plan.items.iter().map(|i| (NOW - plan.recording(i).recorded().secs()) / HOUR).collect();
    assert_eq!((ages.as_slice(), plan.shortfall.bytes), (goes, Bytes(shortfall)), "{shared:?}");
    let useless = shared.iter().filter(|bytes| **bytes == 4096).count() as u64;
    let spared = Spared::sum(&plan.spared, SparedReason::Shared);
    assert_eq!(spared.files, useless - target.inodes);
}

#[test]
fn what_would_give_nothing_back_stays_and_a_part_counts_as_a_part() {
    let bytes = |bytes| Deficit { bytes: Bytes(bytes), inodes: 0, critical: true };
    check_shared(&[], bytes(4096), &[70], 0);
    check_shared(&[4096], bytes(4096), &[60], 0);
    check_shared(&[4096, 2048], bytes(4096), &[60, 50], 0);
    check_shared(&[4096; 4], bytes(4096), &[], 4096);
    check_shared(&[4096; 4], Deficit { inodes: 2, ..bytes(0) }, &[70, 60], 0);
}

#[test]
fn retention_needs_no_pressure_and_goes_first() {
    let by_age = Rule { max_age: Some(Duration::from_secs(40 * 3600)), ..rule("*") };
    check(&[aged(30), aged(50)], policy(vec![by_age]), 0, false, &[50], 0);
    let by_bytes = Rule { max_bytes: Some(Bytes(4096)), ..rule("*") };
    check(&[aged(30), aged(50)], policy(vec![by_bytes]), 0, false, &[50], 0);
    let by_count = Rule { max_files: Some(1), ..rule("*") };
    check(&[aged(30), aged(50), aged(40)], policy(vec![by_count]), 0, false, &[50, 40], 0);
}

#[test]
fn what_a_rule_keeps_goes_only_when_critical() {
    let keep = || vec![Rule { keep: Duration::from_secs(45 * 3600), ..rule("*") }];
    check(&[aged(30), aged(50), aged(40)], policy(keep()), 8192, false, &[50], 4096);
    check(&[aged(30), aged(50), aged(40)], policy(keep()), 8192, true, &[50, 40], 0);
}

#[test]
fn lower_priority_goes_first_and_the_first_match_counts() {
    let rules = vec![Rule { priority: 5, ..rule("cam0") }, Rule { priority: 1, ..rule("cam*") }];
    let files = [aged(90), File { stream: 1, ..aged(40) }, File { stream: 1, ..aged(50) }];
    check(&files, policy(rules), 3 * 4096, false, &[50, 40, 90], 0);
}

#[test]
fn a_budget_acts_as_a_mark_of_its_own() {
    let budget = TreePolicy { budget: Some(Bytes(3 * 4096)), ..policy(vec![]) };
    check(&[aged(50), aged(60), aged(70)], budget.clone(), 0, false, &[], 0);
    check(&[aged(50), aged(60), aged(70), aged(80)], budget, 0, false, &[80, 70], 0);
}

/// Fault 91.
#[test]
fn a_clock_that_jumped_makes_nothing_old_and_no_age_rule_applies() {
    let now = Timestamp::from_secs(NOW + 10 * 365 * 24 * HOUR);
    let mut watch = ClockWatch::new(Duration::ZERO);
    watch.observe(Timestamp::from_secs(NOW), Duration::ZERO, None);
    watch.observe(now, Duration::ZERO, None);
    let jumped = watch.skew().at(now);
    let rules = vec![Rule { max_age: Some(Duration::from_secs(3600)), ..rule("*") }];
    let planned = |target| {
        let facts = vec![facts(&[aged(0), aged(50), File { stream: 1, ..aged(0) }, aged(60)], policy(rules.clone()))];
        let plan = plan(&VolumeId::new("v"), facts, target, &jumped);
        plan.items.iter().map(|item| (NOW - plan.recording(item).recorded().secs()) / HOUR).collect::<Vec<_>>()
    };
    assert!(planned(Deficit::default()).is_empty());
    assert_eq!(
        planned(Deficit { bytes: Bytes(u64::MAX), inodes: 0, critical: true }),
        [60, 50],
        "by order, and no young one"
    );
}

prop_compose! {
    fn any_file()(stream in 0u8..4, age in -10i64..2000, blocks in 0u64..2048, links in 1u32..3, unfinished in any::<bool>())
        -> File { File { stream, age, bytes: blocks * 512, links, unfinished } }
}

proptest! {
    #[test]
    fn spares_what_it_must_and_takes_no_more_than_it_needs(
        files in prop::collection::vec(any_file(), 0..60),
        wanted in prop_oneof![Just(0u64), Just(u64::MAX), 0u64..50_000_000],
        critical in any::<bool>(),
        keep in 0u64..500,
    ) {
        let rules = vec![Rule { keep: Duration::from_secs(keep * 3600), ..rule("*") }];
        let plan = run(&files, policy(rules.clone()), wanted, critical);
        let mut sum = Bytes::ZERO;
        let mut seen = HashSet::new();
        for (at, item) in plan.items.iter().enumerate() {
            let recording = plan.recording(item);
            prop_assert!(seen.insert(recording.index));
            prop_assert_eq!(recording.kind, Kind::Recording);
            prop_assert!(!recording.linked);
            let age = Timestamp::from_secs(NOW).since(recording.touched());
            prop_assert!(age >= Duration::from_secs(600));
            prop_assert!(critical || age >= Duration::from_secs(keep * 3600));
            prop_assert!(sum < Bytes(wanted), "item {} was not needed", at);
            sum = sum.saturating_add(recording.bytes);
        }
        prop_assert_eq!(plan.shortfall.bytes, Bytes(wanted).saturating_sub(sum));
        let steps: Vec<_> = plan.items.iter().map(|i| (i.rule == RuleKind::BelowKeep, plan.recording(i).recorded())).collect();
        prop_assert!(steps.is_sorted());
        prop_assert_eq!(&plan.id, &run(&files, policy(rules), wanted, critical).id);
    }
}

/// Promise 3: a plan, and what is asked before a failed deletion is tried again.
#[test]
fn a_platforms_favourite_stays_past_its_retention_and_at_critical_pressure() {
    let files: Vec<File> = [40, 50, 60].map(aged).to_vec();
    let retention = Rule { max_age: Some(Duration::from_secs(1)), ..rule("**") };
    let mut tree = facts(&files, policy(vec![retention]));
    let favourite = tree.inventory.files().find(|seen| seen.inode == 2).unwrap();
    let paths = std::iter::once(tree.inventory.path(favourite.index));
    tree.favourites = Arc::new(PathSet::new(crate::domain::path_set::DigestKey(7), paths));
    let moment = Moment::trusted(Timestamp::from_secs(NOW));
    let target = |seen: Recording| {
        let (path, reason) = (tree.inventory.path(seen.index), String::new());
        Target::of(&tree.policy.tree, path, "cam0", &seen, RuleKind::Pressure, reason)
    };
    let all: Vec<Target> = tree.inventory.files().map(target).collect();
    let all: Vec<&Target> = all.iter().collect();
    let spared = HashMap::from([((favourite.inode, favourite.fingerprint), SparedReason::Protected)]);
    assert_eq!(spared_now(&tree, &all, &moment), spared);
    let target = Deficit { bytes: Bytes(u64::MAX), inodes: 0, critical: true };
    let plan = plan(&VolumeId::new("v"), vec![tree], target, &moment);
    let inodes: Vec<u64> = plan.items.iter().map(|item| plan.recording(item).inode).collect();
    assert_eq!(inodes, [3, 1]);
    assert_eq!(Spared::sum(&plan.spared, SparedReason::Protected), Tally { files: 1, bytes: Bytes(4096) });
}
