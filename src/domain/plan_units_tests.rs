//! Days of HLS are planned whole.

use proptest::prelude::*;

use super::tests::{HOUR, NOW, found, policy, rule};
use super::*;
use crate::domain::deletion::Trigger;
use crate::domain::explain::tests::planned;
use crate::domain::history::History;
use crate::domain::layout::Layout;
use crate::domain::limits::Allowance;
use crate::domain::path_set::DigestKey;
use crate::domain::protection::{Hold, HoldScope, Pattern};
use crate::domain::recording::{FileIdentity, InventoryBuilder, Sighting};
use crate::domain::units::Timestamp;

/// A day of a stream.
#[derive(Debug, Clone)]
struct Day {
    stream: u8,
    /// Of its newest segment, in hours; the others are each an hour older.
    age: i64,
    segments: u32,
    /// One of its segments was written a minute ago.
    touched: bool,
    linked: bool,
    protected: bool,
    partial: bool,
}

fn day(age: i64) -> Day {
    Day { stream: 0, age, segments: 3, touched: false, linked: false, protected: false, partial: false }
}

fn name(day: &Day) -> String {
    format!("live/cam{}/2026-{:02}-{:02}", day.stream, 1 + day.age / 24 / 28 % 12, 1 + day.age / 24 % 28)
}

fn enter(builder: &mut InventoryBuilder, at: usize, day: &Day) {
    let top = builder.top();
    let unit = builder.begin_unit(top, name(day).as_bytes(), 1000 + at as u64);
    for segment in 0..day.segments {
        let recorded = Timestamp::from_secs(NOW - (day.age + i64::from(segment)) * HOUR);
        let touched = day.touched && segment == 0;
        let modified = if touched { Timestamp::from_secs(NOW - 60) } else { recorded };
        let identity = FileIdentity {
            inode: (at as u64 * 100) + u64::from(segment),
            links: if day.linked && segment == 0 { 2 } else { 1 },
            allocated: Bytes(4096),
            modified: modified.millis() * 1_000_000,
            ..FileIdentity::default()
        };
        let (stream, kind) = (format!("live/cam{}", day.stream), Kind::Recording);
        let sighting = Sighting { name: b"x.ts", stream: &stream, kind, named: Some(recorded), identity: &identity };
        builder.segment(unit, &sighting);
    }
    builder.unit(unit).protected = day.protected;
    builder.unit(unit).partial = day.partial;
}

fn facts(days: &[Day], policy: TreePolicy) -> TreeFacts {
    let layout = Layout::parse("hls", &[], jiff::tz::TimeZone::UTC).unwrap();
    let mut builder = InventoryBuilder::new(policy.tree.clone(), Timestamp::from_secs(NOW));
    days.iter().enumerate().for_each(|(at, day)| enter(&mut builder, at, day));
    found(builder, TreePolicy { layout, ..policy })
}

fn moment() -> Moment {
    Moment::trusted(Timestamp::from_secs(NOW))
}

fn run(tree: TreeFacts, bytes: u64, critical: bool) -> Plan {
    plan(&VolumeId::new("v"), vec![tree], Deficit { bytes: Bytes(bytes), inodes: 0, critical }, &moment())
}

/// Ages in hours of what goes, in order.
fn goes(plan: &Plan) -> Vec<i64> {
    plan.items.iter().map(|i| (NOW - plan.recording(i).recorded().secs()) / HOUR).collect()
}

fn spared(plan: &Plan) -> Vec<(SparedReason, u64)> {
    plan.spared.iter().map(|one| (one.reason, one.tally.files)).collect()
}

#[test]
fn the_oldest_day_goes_whole_and_is_one_item() {
    let days = [day(48), day(96), day(72)];
    let one = run(facts(&days, policy(vec![])), 1, false);
    assert_eq!(goes(&one), [96]);
    assert_eq!((one.items.len(), one.bytes(), one.recording(&one.items[0]).files), (1, Bytes(3 * 4096), 3));
    assert_eq!(one.path(&one.items[0]).to_string(), name(&days[1]));
    assert_eq!(goes(&run(facts(&days, policy(vec![])), 3 * 4096 + 1, false)), [96, 72]);
    let inodes = Deficit { bytes: Bytes::ZERO, inodes: 4, critical: true };
    let plan = plan(&VolumeId::new("v"), vec![facts(&days, policy(vec![]))], inodes, &moment());
    assert_eq!((goes(&plan), plan.shortfall.inodes), (vec![96, 72], 0), "each of its files is an inode");
}

#[test]
fn one_segment_that_must_stay_keeps_its_day() {
    let check = |change: fn(&mut Day), reason| {
        let mut days = [day(200), day(150), day(100)];
        change(&mut days[0]);
        let plan = run(facts(&days, policy(vec![])), u64::MAX, true);
        assert_eq!((goes(&plan), spared(&plan)), (vec![150, 100], vec![(reason, 3)]));
    };
    check(|day| day.touched = true, SparedReason::Young);
    check(|day| day.linked = true, SparedReason::Linked);
    check(|day| day.protected = true, SparedReason::Protected);
    check(|day| day.partial = true, SparedReason::Unrecognised);
}

#[test]
fn a_hold_or_a_favourite_of_one_segment_keeps_its_day() {
    let days = [day(200), day(150), day(100)];
    let check = |change: &dyn Fn(&mut TreeFacts), reason| {
        let mut tree = facts(&days, policy(vec![]));
        change(&mut tree);
        let plan = run(tree, u64::MAX, true);
        assert_eq!((goes(&plan), spared(&plan)), (vec![150, 100], vec![(reason, 3)]));
    };
    let segment = RelPath::new(format!("{}/10/21-41_0.ts", name(&days[0])).as_bytes()).unwrap();
    let hold = |scope| Hold {
        id: 1,
        tree: crate::domain::names::TreeId::new("live"),
        scope,
        reason: String::new(),
        who: String::new(),
        made: Timestamp::default(),
        until: None,
    };
    let held = |scope| Arc::new(Holds::new(vec![hold(scope)]));
    check(&|tree| tree.holds = held(HoldScope::Paths(vec![segment.clone()])), SparedReason::Hold);
    // Its oldest segment alone lies in this span.
    let [from, to] = [203, 201].map(|age| Timestamp::from_secs(NOW - age * HOUR));
    let span = HoldScope::Span { stream: crate::domain::names::StreamId::new("live/cam0"), from, to };
    check(&|tree| tree.holds = held(span.clone()), SparedReason::Hold);
    check(
        &|tree| {
            let unit = tree.policy.layout.unit_of(&segment);
            tree.favourites = Arc::new(PathSet::new(DigestKey(7), unit.into_iter()));
        },
        SparedReason::Protected,
    );
}

#[test]
fn retention_counts_segments_and_judges_by_the_newest() {
    let days = [day(96), day(72), day(48)];
    let by_count = Rule { max_files: Some(5), ..rule("**") };
    assert_eq!(goes(&run(facts(&days, policy(vec![by_count])), 0, false)), [96, 72]);
    // The oldest segment of the middle day is older than that.
    let by_age = Rule { max_age: Some(Duration::from_secs(73 * 3600)), ..rule("**") };
    assert_eq!(goes(&run(facts(&days, policy(vec![by_age])), 0, false)), [96]);
}

#[test]
fn the_newest_day_of_a_stream_that_wrote_within_a_day_stays_under_pressure() {
    let plan = run(facts(&[day(72), day(3)], policy(vec![])), u64::MAX, true);
    assert_eq!((goes(&plan), spared(&plan)), (vec![72], vec![(SparedReason::Newest, 3)]));
}

/// Promise 9: what cannot be cut goes as long as anything may, and the cap trips all the same.
#[test]
fn a_day_larger_than_its_cap_goes_alone_and_trips_it() {
    let allow = |bytes| [Allowance { retention: Bytes(bytes), pressure: Bytes(bytes) }];
    let check = |allowed, went: &[i64], tripped| {
        let mut plan = run(facts(&[day(96), day(72), day(48)], policy(vec![])), u64::MAX, true);
        let over = plan.cap(&allow(allowed));
        assert_eq!((goes(&plan).as_slice(), !over.is_empty()), (went, tripped), "{allowed}");
    };
    check(0, &[], true);
    check(1, &[96], true);
    check(3 * 4096, &[96], true);
    check(3 * 4096 + 1, &[96, 72], true);
    check(9 * 4096, &[96, 72, 48], false);
    // Retention goes whole or not at all.
    let old = Rule { max_age: Some(Duration::from_secs(3600)), ..rule("**") };
    let mut plan = run(facts(&[day(96)], policy(vec![old])), 0, false);
    assert_eq!(plan.cap(&allow(4096)).len(), 1);
    assert!(plan.items.is_empty());
}

#[test]
fn a_failed_segment_is_spared_with_its_day() {
    let days = [Day { protected: true, ..day(96) }, day(72)];
    let tree = facts(&days, policy(vec![]));
    let target = |day: &Day, inode| Target {
        tree: tree.policy.tree.clone(),
        path: RelPath::new(format!("{}/10/21-41_0.ts", name(day)).as_bytes()).unwrap(),
        stream: "live/cam0".to_owned(),
        recorded: None,
        bytes: Bytes(4096),
        inode,
        fingerprint: 9,
        rule: RuleKind::Pressure,
        trigger: Trigger::Pressure,
        reason: String::new(),
    };
    let targets = [target(&days[0], 1), target(&days[1], 2)];
    assert_eq!(
        spared_now(&tree, &targets.iter().collect::<Vec<_>>(), &moment()),
        HashMap::from([((1, 9), SparedReason::Protected)])
    );
}

#[test]
fn a_segment_is_explained_by_its_day() {
    let days = [day(96), Day { protected: true, ..day(72) }];
    let view = planned(facts(&days, policy(vec![])), 1, false);
    let explain = |text: String| {
        let path = RelPath::new(text.as_bytes()).unwrap();
        view.explain(&path, &History::default(), Timestamp::from_secs(NOW)).join("; ")
    };
    for path in [name(&days[0]), format!("{}/10/21-41_0.ts", name(&days[0]))] {
        let text = explain(path);
        assert!(text.contains("it goes now, as all 3 files of `live/cam0/2026-01-05` do, as number 1 of 1"), "{text}");
    }
    let text = explain(format!("{}/10/21-41_0.ts", name(&days[1])));
    assert!(text.contains("it stays, as all 3 files of `live/cam0/2026-01-04` do: a `protect` pattern"), "{text}");
    assert_eq!(explain("live/cam0/2025-01-01/10/21-41_0.ts".to_owned()), "");
}

#[test]
fn a_pattern_over_the_days_directory_protects_it() {
    let protect = vec![Pattern::new("live/cam0/2026-01-05").unwrap()];
    let plan = run(facts(&[day(96), day(72)], TreePolicy { protect, ..policy(vec![]) }), u64::MAX, true);
    assert_eq!(goes(&plan), [72]);
}

prop_compose! {
    fn any_day()(
        stream in 0u8..3,
        age in 30i64..600,
        segments in 1u32..6,
        flags in (prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.1)),
    ) -> Day {
        let (touched, linked, protected, partial) = flags;
        Day { stream, age, segments, touched, linked, protected, partial }
    }
}

proptest! {
    #[test]
    fn days_go_whole_or_not_at_all_and_no_more_than_are_needed(
        days in prop::collection::vec(any_day(), 0..20),
        wanted in prop_oneof![Just(0u64), Just(u64::MAX), 0u64..300_000],
        critical in any::<bool>(),
    ) {
        let plan = run(facts(&days, policy(vec![])), wanted, critical);
        let mut sum = Bytes::ZERO;
        for item in &plan.items {
            let seen = plan.recording(item);
            let day = &days[seen.inode as usize - 1000];
            prop_assert_eq!((seen.unit, seen.files, seen.bytes), (true, day.segments, Bytes(u64::from(day.segments) * 4096)));
            prop_assert!(!day.touched && !day.linked && !day.protected && !day.partial);
            prop_assert!(sum < Bytes(wanted));
            sum = sum.saturating_add(seen.bytes);
        }
        prop_assert!(goes(&plan).is_sorted_by(|a, b| a >= b));
        let stay: u64 = days.iter().filter(|d| d.touched || d.linked || d.protected || d.partial).map(|d| u64::from(d.segments)).sum();
        prop_assert_eq!(plan.spared.iter().map(|one| one.tally.files).sum::<u64>(), stay);
    }
}
