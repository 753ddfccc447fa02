//! What is a copy, and what only looks like one.

use std::collections::HashSet;
use std::sync::Arc;

use crate::domain::clock_watch::Moment;
use crate::domain::deletion::RuleKind;
use crate::domain::layout::Layout;
use crate::domain::names::{TreeId, VolumeId};
use crate::domain::plan::tests::{NOW, found, policy, rule};
use crate::domain::plan::{TreeFacts, plan};
use crate::domain::pressure::Deficit;
use crate::domain::recording::{FileIdentity, FileIndex, InventoryBuilder, Kind, Sighting};
use crate::domain::retention::{Rule, TreePolicy};
use crate::domain::units::{Bytes, Timestamp};

/// All times count in seconds from here, a week ago.
const BEGAN: i64 = NOW - 7 * 86_400;
const BYTES: u64 = 1 << 20;

/// A recording: its name's ending, from when to when, and its bytes.
type Seen = (&'static str, i64, i64, u64);

fn tree(name: &str, layout: &str, stream: &str, files: &[Seen]) -> TreeFacts {
    let layout = Layout::parse(layout, &["mp4".to_owned(), "ts".to_owned()], jiff::tz::TimeZone::UTC).unwrap();
    let days = layout.has_units();
    let policy = TreePolicy { tree: TreeId::new(name), layout, ..policy(vec![]) };
    let mut builder = InventoryBuilder::new(policy.tree.clone(), Timestamp::from_secs(NOW));
    let top = builder.top();
    let day = builder.begin_unit(top, b"live/cam/2027-01-08", 7);
    for (at, (ending, from, to, bytes)) in files.iter().enumerate() {
        let identity = FileIdentity {
            inode: at as u64 + 100,
            links: 1,
            allocated: Bytes(*bytes),
            modified: (BEGAN + to) * 1_000_000_000,
            ..FileIdentity::default()
        };
        let name = format!("{at:04}.{ending}");
        let named = Some(Timestamp::from_secs(BEGAN + from));
        let seen = Sighting { name: name.as_bytes(), stream, kind: Kind::Recording, named, identity: &identity };
        if days {
            builder.segment(day, &seen);
        } else {
            builder.file(top, &seen);
        }
    }
    found(builder, policy)
}

/// How many are chosen as copies, when everything goes.
fn copies(trees: Vec<TreeFacts>) -> usize {
    let target = Deficit { bytes: Bytes(u64::MAX), inodes: 0, critical: true };
    let plan = plan(&VolumeId::new("v"), trees, target, &Moment::trusted(Timestamp::from_secs(NOW)));
    plan.items.iter().filter(|item| item.rule == RuleKind::Duplicate).count()
}

fn check(files: &[Seen], expected: usize) {
    assert_eq!(copies(vec![tree("a", "dated", "live/cam", files)]), expected, "{files:?}");
}

/// A minute of HLS, beside MP4 that begins and ends then.
fn beside(from: i64, to: i64, expected: usize) {
    check(&[("ts", 600, 660, BYTES), ("mp4", from, to, (to - from).unsigned_abs() * BYTES / 60)], expected);
}

#[test]
fn the_whole_span_must_be_covered_to_within_ten_seconds() {
    beside(600, 660, 1);
    beside(0, 3600, 1);
    beside(610, 650, 1);
    beside(611, 660, 0);
    beside(600, 649, 0);
    beside(0, 600, 0);
    beside(660, 720, 0);
    check(&[("ts", 600, 660, BYTES)], 0);
    check(&[("ts", 600, 660, BYTES), ("ts", 600, 660, BYTES)], 0);
    check(&[("m4s", 600, 660, BYTES), ("mp4", 600, 660, BYTES)], 1);
}

#[test]
fn slices_may_follow_each_other_with_small_gaps() {
    let slices = |gap: i64| [("ts", 0, 1200, BYTES), ("mp4", 0, 600, BYTES), ("mp4", 600 + gap, 1200, BYTES)];
    check(&slices(0), 1);
    check(&slices(10), 1);
    check(&slices(11), 0);
}

#[test]
fn what_holds_much_less_or_too_long_a_time_is_no_original() {
    check(&[("ts", 600, 660, BYTES), ("mp4", 600, 660, BYTES / 2)], 1);
    check(&[("ts", 600, 660, BYTES), ("mp4", 600, 660, BYTES / 2 - 512)], 0);
    check(&[("ts", 600, 660, BYTES), ("mp4", 0, 7200, 200 * BYTES)], 1);
    check(&[("ts", 600, 660, BYTES), ("mp4", 0, 7201, 200 * BYTES)], 0);
}

/// Somebody touched the first: it covers no more than until the second begins, and the third was recorded after a pause.
#[test]
fn a_file_that_was_touched_later_covers_nothing_that_it_did_not_record() {
    let touched = [("mp4", 0, 5000, BYTES), ("mp4", 600, 1200, BYTES), ("mp4", 3000, 3600, BYTES)];
    check(&[&touched[..], &[("ts", 1300, 2900, 1024)]].concat(), 0);
    check(&[&touched[..], &[("ts", 0, 1200, BYTES)]].concat(), 1);
}

#[test]
fn an_original_stays_itself_and_is_finished() {
    let facts = || tree("a", "dated", "live/cam", &[("ts", 600, 660, BYTES), ("mp4", 600, 660, BYTES)]);
    assert_eq!(copies(vec![facts()]), 1);
    let original = HashSet::from([FileIndex(1)]);
    assert_eq!(copies(vec![TreeFacts { open: original.clone(), ..facts() }]), 0);
    assert_eq!(copies(vec![TreeFacts { waiting: original.clone(), ..facts() }]), 0);
    assert_eq!(copies(vec![TreeFacts { writing: Arc::new(original), ..facts() }]), 0);
    let mut gone = facts();
    gone.gone.insert(FileIndex(1));
    assert_eq!(copies(vec![gone]), 0);
    let week = 7 * 86_400;
    let young = [("ts", week - 900, week - 700, BYTES), ("mp4", week - 900, week - 500, BYTES)];
    check(&young, 0);
}

fn with(mut tree: TreeFacts, rule: Rule) -> TreeFacts {
    tree.policy = Arc::new(TreePolicy { retention: vec![rule], ..tree.policy.as_ref().clone() });
    tree
}

/// ZLMediaKit's two trees on one volume.
#[test]
fn a_day_of_hls_is_a_copy_where_mp4_of_its_stream_lies_in_the_other_tree() {
    let day = || tree("hls", "hls", "live/cam", &[("ts", 0, 1800, BYTES), ("ts", 1800, 3600, BYTES)]);
    let mp4 = |name: &str, stream: &str| {
        tree(name, "zlmediakit", stream, &[("mp4", 0, 1800, BYTES), ("mp4", 1802, 3599, BYTES)])
    };
    assert_eq!(copies(vec![day(), mp4("mp4", "live/cam")]), 1);
    assert_eq!(copies(vec![mp4("mp4", "live/cam"), day()]), 1);
    assert_eq!(copies(vec![day(), mp4("mp4", "live/other")]), 0);
    assert_eq!(copies(vec![day(), mp4("mp4", "live/cam"), mp4("more", "live/else")]), 0, "whose is it?");
    assert_eq!(copies(vec![day(), mp4("mp4", "live/cam"), tree("more", "hls", "live/else", &[])]), 0);
    // The originals would go before it.
    let higher = || Rule { priority: 1, ..rule("**") };
    assert_eq!(copies(vec![with(day(), higher()), mp4("mp4", "live/cam")]), 0);
    assert_eq!(copies(vec![day(), with(mp4("mp4", "live/cam"), higher())]), 1);
}
