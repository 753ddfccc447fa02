//! Who goes first under pressure, and what no pressure may do to whom.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{HOUR, NOW, found, policy, rule};
use super::*;
use crate::domain::clock_watch::Skew;
use crate::domain::layout::Layout;
use crate::domain::limits::Allowance;
use crate::domain::recording::{FileIdentity, InventoryBuilder, Sighting};
use crate::domain::status::PlanBasis;
use crate::domain::units::Timestamp;

/// A recording of a stream.
#[derive(Debug, Clone)]
struct File {
    stream: u8,
    /// From its beginning, in hours.
    age: i64,
    /// In hours.
    length: i64,
    bytes: u64,
    /// HLS beside MP4.
    segment: bool,
    linked: bool,
}

fn mp4(stream: u8, age: i64, bytes: u64) -> File {
    File { stream, age, length: 1, bytes, segment: false, linked: false }
}

fn segment(stream: u8, age: i64, bytes: u64) -> File {
    File { segment: true, ..mp4(stream, age, bytes) }
}

fn tree(name: &str, files: &[File], retention: Vec<Rule>) -> TreeFacts {
    let layout = Layout::parse("dated", &["mp4".to_owned(), "ts".to_owned()], jiff::tz::TimeZone::UTC).unwrap();
    let policy = TreePolicy { tree: TreeId::new(name), layout, ..policy(retention) };
    let mut builder = InventoryBuilder::new(policy.tree.clone(), Timestamp::from_secs(NOW));
    let top = builder.top();
    let mut files: Vec<(usize, &File)> = files.iter().enumerate().collect();
    files.sort_by_key(|(_, file)| file.stream);
    for (at, file) in files {
        let named = Timestamp::from_secs(NOW - file.age * HOUR);
        let modified = NOW - (file.age - file.length) * HOUR;
        let identity = FileIdentity {
            inode: at as u64 + 1,
            links: if file.linked { 2 } else { 1 },
            allocated: Bytes(file.bytes),
            modified: modified * 1_000_000_000,
            ..FileIdentity::default()
        };
        let name = format!("{at:06}.{}", if file.segment { "ts" } else { "mp4" });
        let (stream, kind) = (format!("cam{}", file.stream), Kind::Recording);
        let (name, named) = (name.as_bytes(), Some(named));
        builder.file(top, &Sighting { name, stream: &stream, kind, named, identity: &identity });
    }
    found(builder, policy)
}

fn now() -> Moment {
    Moment::trusted(Timestamp::from_secs(NOW))
}

fn run(trees: Vec<TreeFacts>, bytes: u64, critical: bool) -> Plan {
    plan(&VolumeId::new("v"), trees, Deficit { bytes: Bytes(bytes), inodes: 0, critical }, &now())
}

/// What goes, in order: its tree, its stream, its age in hours, and the rule.
fn goes(plan: &Plan) -> Vec<(usize, String, i64, RuleKind)> {
    let of = |item: &PlanItem| {
        let seen = plan.recording(item);
        let stream = plan.trees[item.tree].inventory.stream(seen.stream).to_string();
        (item.tree, stream, (NOW - seen.recorded().secs()) / HOUR, item.rule)
    };
    plan.items.iter().map(of).collect()
}

fn check(trees: Vec<TreeFacts>, bytes: u64, critical: bool, expected: &[(usize, &str, i64, RuleKind)]) {
    let found = goes(&run(trees, bytes, critical));
    let found: Vec<_> = found.iter().map(|(tree, stream, age, rule)| (*tree, stream.as_str(), *age, *rule)).collect();
    assert_eq!(found, expected);
}

fn hours(count: u64) -> Duration {
    Duration::from_secs(count * 3600)
}

fn shared(stream: &str, share: u32) -> Rule {
    Rule { stream_share: Some(Percent::new(share)), ..rule(stream) }
}

const BLOCK: u64 = 4096;
const ALL: u64 = u64::MAX;

#[test]
fn what_a_loud_stream_has_beyond_its_share_goes_before_older_recordings_of_others() {
    use RuleKind::{Pressure, StreamShare};
    let loud = (40..44).map(|age| mp4(0, age, 10 * BLOCK));
    let quiet = (50..54).map(|age| mp4(1, age, BLOCK));
    let files: Vec<File> = loud.chain(quiet).collect();
    let order = |share: u32, bytes, expected: &[(usize, &str, i64, RuleKind)]| {
        check(vec![tree("a", &files, vec![shared("cam0", share)])], bytes * BLOCK, false, expected);
    };
    // Of 44 blocks half are 22: of the 40 that it has, 18 are beyond, which two recordings hold.
    order(50, 20, &[(0, "cam0", 43, StreamShare), (0, "cam0", 42, StreamShare)]);
    order(50, 21, &[(0, "cam0", 43, StreamShare), (0, "cam0", 42, StreamShare), (0, "cam1", 53, Pressure)]);
    order(100, 1, &[(0, "cam1", 53, Pressure)]);
}

#[test]
fn a_share_breaks_neither_a_promise_nor_a_priority_nor_promise_three() {
    use RuleKind::{BelowKeep, Pressure};
    let files = [mp4(0, 40, 100 * BLOCK), File { linked: true, ..mp4(0, 45, 100 * BLOCK) }, mp4(1, 50, BLOCK)];
    let kept = vec![Rule { keep: hours(48), ..shared("cam0", 1) }];
    check(vec![tree("a", &files, kept.clone())], ALL, false, &[(0, "cam1", 50, Pressure)]);
    check(vec![tree("a", &files, kept)], ALL, true, &[(0, "cam1", 50, Pressure), (0, "cam0", 40, BelowKeep)]);
    let higher = vec![Rule { priority: 1, ..shared("cam0", 1) }];
    let expected = [(0, "cam1", 50, Pressure), (0, "cam0", 40, RuleKind::StreamShare)];
    check(vec![tree("a", &files, higher)], ALL, false, &expected);
}

/// A stream that is alone in its tree is all of it, whatever its share: it must not pay for that with its recordings.
#[test]
fn a_tree_with_one_stream_loses_no_more_for_its_share() {
    let alone: Vec<File> = (40..60).map(|age| mp4(0, age, BLOCK)).collect();
    let others: Vec<File> = (40..60).map(|age| mp4(age as u8 % 4, age, BLOCK)).collect();
    let order = |rules: Vec<Rule>| {
        let plan = run(vec![tree("a", &alone, rules), tree("b", &others, vec![])], 20 * BLOCK, false);
        goes(&plan).into_iter().map(|(tree, stream, age, _)| (tree, stream, age)).collect::<Vec<_>>()
    };
    assert_eq!(order(vec![shared("**", 50)]), order(vec![]));
}

#[test]
fn a_share_counts_within_a_budget_too() {
    let loud = (40..44).map(|age| mp4(0, age, 10 * BLOCK));
    let files: Vec<File> = loud.chain((50..54).map(|age| mp4(1, age, BLOCK))).collect();
    let mut tree = tree("a", &files, vec![shared("cam0", 50)]);
    let policy = TreePolicy { budget: Some(Bytes(30 * BLOCK)), ..tree.policy.as_ref().clone() };
    tree.policy = Arc::new(policy);
    check(vec![tree], 0, false, &[(0, "cam0", 43, RuleKind::Budget), (0, "cam0", 42, RuleKind::Budget)]);
}

#[test]
fn a_copy_goes_before_its_original_and_before_what_is_older() {
    use RuleKind::{Duplicate, Pressure};
    let files = [mp4(0, 40, BLOCK), segment(0, 40, BLOCK), mp4(1, 60, BLOCK)];
    let expected = [(0, "cam0", 40, Duplicate), (0, "cam1", 60, Pressure), (0, "cam0", 40, Pressure)];
    check(vec![tree("a", &files, vec![])], ALL, false, &expected);
    let higher = vec![Rule { priority: 1, ..rule("cam0") }];
    let expected = [(0, "cam1", 60, Pressure), (0, "cam0", 40, Duplicate), (0, "cam0", 40, Pressure)];
    check(vec![tree("a", &files, higher)], ALL, false, &expected);
}

/// A budget may take the original first; then what was its copy is all that there is.
#[test]
fn a_copy_whose_original_goes_is_none_any_more() {
    let files = [mp4(0, 40, BLOCK), segment(0, 40, BLOCK), mp4(1, 60, BLOCK)];
    let retention = vec![Rule { max_files: Some(1), ..rule("cam0") }];
    let plan = run(vec![tree("a", &files, retention)], ALL, false);
    let rules: Vec<RuleKind> = plan.items.iter().map(|item| item.rule).collect();
    assert_eq!(rules, [RuleKind::MaxFiles, RuleKind::Pressure, RuleKind::Pressure]);
}

/// A tree of anything: its files, the rule of each of four streams, its budget in files, and its cap in bytes.
#[derive(Debug, Clone)]
struct Any {
    files: Vec<File>,
    rules: Vec<Rule>,
    budget: Option<u64>,
    allowed: u64,
}

prop_compose! {
    fn any_file()(stream in 0u8..4, age in 0i64..100, length in 0i64..3, blocks in 0u64..64, segment in any::<bool>(), linked in prop::bool::weighted(0.1))
        -> File { File { stream, age: age + length, length, bytes: blocks * BLOCK, segment, linked } }
}

prop_compose! {
    fn any_rule(stream: usize)(keep in 0u64..80, priority in -2i32..3, share in prop::option::of(1u32..100))
        -> Rule {
            let stream_share = share.map(Percent::new);
            Rule { keep: hours(keep), priority, stream_share, ..rule(&format!("cam{stream}")) }
        }
}

prop_compose! {
    fn any_tree()(
        files in prop::collection::vec(any_file(), 0..40),
        rules in (any_rule(0), any_rule(1), any_rule(2), any_rule(3)),
        budget in prop::option::of(0u64..40 * 32),
        allowed in prop_oneof![3 => Just(u64::MAX), 1 => 0u64..40 * 32 * BLOCK],
    ) -> Any {
        let rules = vec![rules.0, rules.1, rules.2, rules.3];
        Any { files, rules, budget: budget.map(|blocks| blocks * BLOCK), allowed }
    }
}

fn facts(any: &Any, index: usize) -> TreeFacts {
    let mut tree = tree(&format!("tree{index}"), &any.files, any.rules.clone());
    tree.policy = Arc::new(TreePolicy { budget: any.budget.map(Bytes), ..tree.policy.as_ref().clone() });
    tree
}

fn all_facts(trees: &[Any]) -> Vec<TreeFacts> {
    trees.iter().enumerate().map(|(index, any)| facts(any, index)).collect()
}

/// The plan as far as the caps allow, and the trees whose caps were in its way.
fn capped(trees: &[Any], bytes: u64, critical: bool) -> (Plan, Vec<usize>) {
    let allowance = |any: &Any| Allowance { retention: Bytes(any.allowed), pressure: Bytes(any.allowed) };
    let basis = PlanBasis {
        allowances: trees.iter().map(allowance).collect(),
        trees: all_facts(trees),
        target: Deficit { bytes: Bytes(bytes), inodes: 0, critical },
        skew: Skew::NONE,
        retention: true,
        window: None,
        open: vec![true; trees.len()],
    };
    let (plan, over) = basis.plan(&VolumeId::new("v"), Timestamp::from_secs(NOW));
    (plan, over.into_iter().map(|(tree, _)| tree).collect())
}

/// What of a tree its streams have beyond their `keep`, and may go: said once more, and independently of the plan.
fn surplus(any: &Any) -> Vec<u64> {
    let newest = |stream: u8| {
        let of = any.files.iter().enumerate().filter(|(_, f)| f.stream == stream);
        of.min_by_key(|(at, f)| (f.age, std::cmp::Reverse(*at))).map(|(at, _)| at)
    };
    let may_go = |at: usize, f: &File| {
        let lively = f.age - f.length <= 24;
        !f.linked && f.age - f.length > 0 && !(lively && newest(f.stream) == Some(at))
    };
    let beyond = |f: &File| hours(f.age.unsigned_abs()) >= any.rules[usize::from(f.stream)].keep;
    let of = any.files.iter().enumerate().filter(|(at, f)| may_go(*at, f) && beyond(f));
    of.map(|(at, _)| at as u64 + 1).collect()
}

fn bytes_of(any: &Any, inodes: &[u64]) -> u64 {
    any.files.iter().enumerate().filter(|(at, _)| inodes.contains(&(*at as u64 + 1))).map(|(_, f)| f.bytes).sum()
}

proptest! {
    /// Whatever the priorities, shares, copies, budgets and caps: across all trees of a volume.
    #[test]
    fn no_stream_falls_below_its_keep_while_another_has_surplus(
        trees in prop::collection::vec(any_tree(), 1..4),
        wanted in prop_oneof![Just(u64::MAX), 0u64..120 * 64 * BLOCK],
        critical in any::<bool>(),
    ) {
        let (plan, over) = capped(&trees, wanted, critical);
        let mut gone: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for item in &plan.items {
            let seen = plan.recording(item);
            let tree = &plan.trees[item.tree];
            let keep = tree.policy.rule_of(tree.inventory.stream(seen.stream)).map_or(Duration::ZERO, |(_, rule)| rule.keep);
            let kept = plan.made.age(seen.recorded()) < keep;
            prop_assert_eq!(kept, item.rule == RuleKind::BelowKeep);
            prop_assert!(critical || !kept);
            gone.entry(item.tree).or_default().push(seen.inode);
        }
        if plan.items.iter().any(|item| item.rule == RuleKind::BelowKeep) {
            for (index, any) in trees.iter().enumerate().filter(|(index, _)| !over.contains(index)) {
                let going = gone.get(&index).cloned().unwrap_or_default();
                let left = surplus(any).into_iter().find(|inode| !going.contains(inode));
                prop_assert_eq!(left, None, "tree {}", index);
            }
        }
    }

    /// Where the promises of all fit, nobody is pushed below his, though one camera records ten times as much, at any priority.
    #[test]
    fn a_camera_at_ten_times_the_bitrate_pushes_nobody_below_a_promise(
        mut trees in prop::collection::vec(any_tree(), 1..4),
        part in 0u64..=100,
    ) {
        for any in &mut trees {
            any.allowed = u64::MAX;
        }
        for file in trees[0].files.iter_mut().filter(|file| file.stream == 0) {
            file.bytes *= 10;
        }
        let all: u64 = trees.iter().map(|any| bytes_of(any, &surplus(any))).sum();
        let (plan, _) = capped(&trees, all * part / 100, true);
        prop_assert!(plan.items.iter().all(|item| item.rule != RuleKind::BelowKeep));
        prop_assert_eq!(plan.shortfall.bytes, Bytes::ZERO);
    }

    /// A share says whose recordings of a tree go, and never how many, nor before which of other trees.
    #[test]
    fn a_share_moves_no_other_tree_and_no_priority(trees in prop::collection::vec(any_tree(), 1..4)) {
        let mut without = trees.clone();
        for any in &mut without {
            any.budget = None;
            any.rules.iter_mut().for_each(|rule| rule.stream_share = None);
        }
        let mut with = trees;
        with.iter_mut().for_each(|any| any.budget = None);
        let places = |trees: &[Any]| {
            let plan = run(all_facts(trees), u64::MAX, true);
            let place = |item: &PlanItem| {
                let tree = &plan.trees[item.tree];
                let rule = tree.policy.rule_of(tree.inventory.stream(plan.recording(item).stream));
                (item.tree, rule.map(|(_, rule)| rule.priority), item.rule == RuleKind::BelowKeep)
            };
            plan.items.iter().map(place).collect::<Vec<_>>()
        };
        prop_assert_eq!(places(&with), places(&without));
    }
}
