//! Which copies of a bucket come to their end.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::layout::Layout;
use crate::domain::path_set::DigestKey;
use crate::domain::plan::tests::policy;
use crate::domain::protection::{Hold, HoldScope, Pattern};

const HOUR: i64 = 3600;

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn at(text: &str) -> Timestamp {
    Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn hold(scope: HoldScope) -> Hold {
    let (reason, who) = (String::new(), String::new());
    Hold { id: 1, tree: TreeId::new("live"), scope, reason, who, made: at("2026-01-01T00:00:00Z"), until: None }
}

fn layout(name: &str) -> TreePolicy {
    let layout = Layout::parse(name, &["mp4".to_owned()], jiff::tz::TimeZone::UTC).unwrap();
    TreePolicy { layout, ..policy(vec![]) }
}

/// What becomes of a copy that was made at noon of the 20th.
fn check(policy: &TreePolicy, holds: Vec<Hold>, name: &str, changed: Option<&str>, expected: Result<&str, Stays>) {
    let copied = at("2026-11-20T12:00:00Z");
    let favourites = PathSet::new(DigestKey(7), [path("live/cam/2026-11-20/2026-11-20-09-00-00-0.mp4")].into_iter());
    let sources = HashSet::from([path("live/cam/2026-11-20/2026-11-20-10-00-00-0.mp4")]);
    let tree = ColdTree { policy, favourites: &favourites, holds: &Holds::new(holds), sources: &sources };
    let judged = tree.judge(&path(name), Bytes(1), copied, changed.map(at));
    assert_eq!(judged, expected.map(at), "{name}");
}

#[test]
fn a_copy_stays_whatever_its_age_for_a_reason() {
    let live = layout("zlmediakit");
    let name = "live/cam/2026-11-20/2026-11-20-08-00-00-0.mp4";
    let eight = Ok("2026-11-20T08:00:00Z");
    check(&live, vec![], name, None, eight);
    check(&live, vec![], name, Some("2026-11-20T08:30:00Z"), eight);
    check(&live, vec![], name, Some("2026-11-22T08:30:00Z"), Err(Stays::Doubtful));
    check(&live, vec![], "live/cam/notes.txt", None, Err(Stays::Unrecognised));
    check(&live, vec![], "live/cam/2026-11-20/2026-11-20-09-00-00-0.mp4", None, Err(Stays::Protected));
    check(&live, vec![], "live/cam/2026-11-20/2026-11-20-10-00-00-0.mp4", None, Err(Stays::SourceThere));
    let protect = vec![Pattern::new("live/cam/**").unwrap()];
    check(&TreePolicy { protect, ..live.clone() }, vec![], name, None, Err(Stays::Protected));
    check(&TreePolicy { mode: Mode::Observe, ..live.clone() }, vec![], name, None, Err(Stays::Observed));
    let span = |stream: &str, from: &str, to: &str| {
        vec![hold(HoldScope::Span { stream: StreamId::new(stream), from: at(from), to: at(to) })]
    };
    check(&live, vec![hold(HoldScope::Paths(vec![path(name)]))], name, None, Err(Stays::Held));
    check(&live, vec![hold(HoldScope::Paths(vec![path("live/cam/other.mp4")]))], name, None, eight);
    let held = Err(Stays::Held);
    check(&live, span("live/cam", "2026-11-20T08:20:00Z", "2026-11-20T08:30:00Z"), name, None, held);
    check(&live, span("live/cam", "2026-11-20T07:00:00Z", "2026-11-20T08:00:00Z"), name, None, eight);
    check(&live, span("live/cam", "2026-11-22T07:00:00Z", "2026-11-23T08:00:00Z"), name, None, eight);
    check(&live, span("live/other", "2026-11-20T07:00:00Z", "2026-11-20T09:00:00Z"), name, None, eight);
}

#[test]
fn what_does_not_tell_its_time_is_as_young_as_its_copy() {
    let plain = layout("plain");
    let noon = Ok("2026-11-20T12:00:00Z");
    check(&plain, vec![], "cam/a.mp4", None, noon);
    check(&plain, vec![], "cam/a.mp4", Some("2026-10-01T00:00:00Z"), noon);
    check(&plain, vec![], "cam/a.mp4", Some("2026-11-21T00:00:00Z"), Ok("2026-11-21T00:00:00Z"));
    let (from, to) = (at("2020-01-01T00:00:00Z"), at("2020-01-02T00:00:00Z"));
    let any = hold(HoldScope::Span { stream: StreamId::new("cam"), from, to });
    check(&plain, vec![any], "cam/a.mp4", None, Err(Stays::Held));
}

#[test]
fn a_day_of_segments_is_held_and_protected_as_one() {
    let hls = layout("hls");
    let (list, day) = ("live/cam/2026-11-20/08/index.m3u8", "live/cam/2026-11-20");
    let unit = hls.layout.unit_of(&path(list));
    assert_eq!(unit, Some(path(day)), "else this tests nothing");
    check(&hls, vec![], list, None, Ok("2026-11-20T12:00:00Z"));
    check(&hls, vec![hold(HoldScope::Paths(vec![path(day)]))], list, None, Err(Stays::Held));
    let segment = path("live/cam/2026-11-20/08/00-00_1.ts");
    check(&hls, vec![hold(HoldScope::Paths(vec![segment]))], list, None, Err(Stays::Held));
    let protect = vec![Pattern::new(day).unwrap()];
    check(&TreePolicy { protect, ..hls }, vec![], list, None, Err(Stays::Protected));
}

fn listed(most: usize, ages: &[(i64, u64)], staying: u64) -> Oldest {
    let mut oldest = Oldest::new(most);
    oldest.stays(Bytes(staying));
    for (number, (age, size)) in ages.iter().enumerate() {
        oldest.goes(ColdCopy {
            recorded: Timestamp::from_secs(-age * HOUR),
            tree: TreeId::new("live"),
            path: path(&format!("{number:04}")),
            size: Bytes(*size),
            tag: None,
        });
    }
    oldest
}

/// Ages in hours, at the time 0, of what goes: by `max_age` in hours, then by `max_bytes`.
fn past(oldest: Oldest, max_age: Option<u64>, max_bytes: Option<u64>, moment: &Moment) -> (Vec<i64>, Vec<i64>) {
    let max_age = max_age.map(|hours| Duration::from_secs(hours * 3600));
    let all = oldest.past(max_age, max_bytes.map(Bytes), moment);
    let of = |rule: ColdRule| {
        let of_rule = all.iter().filter(|(_, by)| *by == rule);
        of_rule.map(|(copy, _)| -copy.recorded.secs() / HOUR).collect()
    };
    (of(ColdRule::MaxAge), of(ColdRule::MaxBytes))
}

#[test]
fn the_oldest_go_first_and_no_more_than_must() {
    let now = Moment::trusted(Timestamp::from_secs(0));
    let ages = [(1, 10), (5, 10), (3, 10), (4, 10), (2, 10)];
    for (max_age, max_bytes, staying, expected) in [
        (None, None, 0, (vec![], vec![])),
        (Some(5), None, 0, (vec![], vec![])),
        (Some(3), None, 0, (vec![5, 4], vec![])),
        (None, Some(50), 0, (vec![], vec![])),
        (None, Some(49), 0, (vec![], vec![5])),
        (None, Some(25), 0, (vec![], vec![5, 4, 3])),
        (None, Some(50), 15, (vec![], vec![5, 4])),
        (Some(4), Some(20), 0, (vec![5], vec![4, 3])),
        (Some(2), Some(45), 0, (vec![5, 4, 3], vec![])),
        (None, Some(0), 1, (vec![], vec![5, 4, 3, 2, 1])),
    ] {
        let found = past(listed(10, &ages, staying), max_age, max_bytes, &now);
        assert_eq!(found, expected, "{max_age:?} {max_bytes:?} {staying}");
    }
    let young = past(listed(10, &[(-5, 10)], 0), Some(1), None, &now);
    assert_eq!(young, (vec![], vec![]), "a time to come is no age");
}

#[test]
fn by_a_clock_that_is_not_trusted_nothing_goes() {
    let mut moment = Moment::trusted(Timestamp::from_secs(0));
    moment.trusted = false;
    assert_eq!(past(listed(10, &[(5, 10)], 0), Some(1), Some(1), &moment), (vec![], vec![]));
}

proptest! {
    /// However few are remembered: what goes is the oldest, all of it is beyond a limit, and what is remembered of it goes.
    #[test]
    fn what_goes_is_always_the_oldest(
        ages in prop::collection::vec((0_i64..100, 1_u64..50), 0..40),
        most in 1_usize..50,
        max_age in prop::option::of(1_u64..100),
        max_bytes in prop::option::of(0_u64..1000),
        staying in 0_u64..200,
    ) {
        let now = Moment::trusted(Timestamp::from_secs(0));
        let age = max_age.map(|hours| Duration::from_secs(hours * 3600));
        let gone = listed(most, &ages, staying).past(age, max_bytes.map(Bytes), &now);
        let mut sorted: Vec<ColdCopy> = listed(100, &ages, 0).kept.into_sorted_vec();
        let rest = sorted.split_off(gone.len());
        prop_assert!(gone.iter().map(|(copy, _)| copy).eq(&sorted));
        let left = |copies: &[ColdCopy]| copies.iter().map(|copy| copy.size).sum::<Bytes>().saturating_add(Bytes(staying));
        let beyond = |copy: &ColdCopy, left: Bytes| {
            age.is_some_and(|age| now.now.since(copy.recorded) > age) || max_bytes.is_some_and(|most| left > Bytes(most))
        };
        for (number, (copy, _)) in gone.iter().enumerate() {
            let before: Vec<ColdCopy> = sorted[number..].iter().chain(&rest).cloned().collect();
            prop_assert!(beyond(copy, left(&before)));
        }
        if gone.len() < most && let Some(next) = rest.first() {
            prop_assert!(!beyond(next, left(&rest)));
        }
    }
}
