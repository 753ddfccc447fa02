//! Why a recording goes or stays, by which rule, and when it goes, in words.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::*;
use crate::domain::clock_watch::Skew;
use crate::domain::conditions::tests::{kept, volume};
use crate::domain::history::CapTrip;
use crate::domain::limits::Allowance;
use crate::domain::names::TreeId;
use crate::domain::protection::Pattern;
use crate::domain::recording::{FileIdentity, Gone, InventoryBuilder, Sighting};
use crate::domain::retention::TreePolicy;
use crate::domain::settings::Window;
use crate::domain::survey::survey;

const HOUR: i64 = 3600;
const NOW: i64 = 1_800_000_000;
const GIB: u64 = 1 << 30;

/// A volume with one tree, of which so many bytes are to be given back.
pub(crate) fn planned(tree: TreeFacts, bytes: u64, critical: bool) -> VolumeView {
    let mut view = volume();
    let now = Timestamp::from_secs(NOW);
    view.trees[0].survey = survey(&tree.inventory, Duration::from_secs(86_400), now);
    (view.trees[0].policy, view.trees[0].inventory) = (tree.policy.clone(), tree.inventory.clone());
    let all = Allowance { retention: Bytes(u64::MAX), pressure: Bytes(u64::MAX) };
    view.basis = Some(PlanBasis {
        trees: vec![tree],
        target: Deficit { bytes: Bytes(bytes), inodes: 0, critical },
        allowances: vec![all],
        skew: Skew::NONE,
        retention: true,
        window: None,
        open: vec![true],
    });
    view
}

/// Recordings of stream `cam/a` as hours of the name and of the file, one GiB each; each path is `N.mp4`.
fn facts(files: &[(i64, i64)], policy: TreePolicy) -> TreeFacts {
    let mut builder = InventoryBuilder::new(policy.tree.clone(), Timestamp::from_secs(NOW));
    let top = builder.top();
    for (at, (named, modified)) in files.iter().enumerate() {
        let at_hour = |hours: i64| Timestamp::from_secs(NOW - hours * HOUR);
        let identity = FileIdentity {
            inode: at as u64 + 1,
            links: 1,
            allocated: Bytes::GIB,
            modified: at_hour(*modified).millis() * 1_000_000,
            ..FileIdentity::default()
        };
        let (name, named) = (format!("{at}.mp4"), Some(at_hour(*named)));
        let sighting =
            Sighting { name: name.as_bytes(), stream: "cam/a", kind: Kind::Recording, named, identity: &identity };
        builder.file(top, &sighting);
    }
    TreeFacts {
        policy: Arc::new(policy),
        inventory: Arc::new(builder.finish(Timestamp::from_secs(NOW))),
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

fn aged(hours: &[i64]) -> Vec<(i64, i64)> {
    hours.iter().map(|hours| (*hours, *hours)).collect()
}

/// Of streams `gate/*` a day, and of streams `cam/*` as it is changed.
fn rules(change: impl FnOnce(&mut Rule)) -> TreePolicy {
    let mut policy = kept(&[("gate/*", 1), ("cam/*", 0)]);
    change(&mut policy.retention[1]);
    policy
}

fn say(view: &VolumeView, history: &History, at: usize) -> String {
    let path = RelPath::new(format!("{at}.mp4").as_bytes()).unwrap();
    view.explain(&path, history, Timestamp::from_secs(NOW)).join("\n")
}

fn check(view: &VolumeView, at: usize, expected: &str) {
    assert_eq!(say(view, &History::default(), at), format!("tree live: {expected}"));
}

const RULE: &str = "Rule 2 of the tree's `retention` (`cam/*`) applies to stream `cam/a`";
/// 2 GiB in a day, as all tests here have: the files of 1 and 3 hours.
const ROOM: &str = "at the inflow of now in about";

#[test]
fn what_goes_now_says_its_place_and_its_rule() {
    let view = planned(facts(&aged(&[1, 3, 100]), rules(|_| ())), 1, false);
    check(&view, 2, &format!("it goes now, as number 1 of 1: 4d4h old; nothing keeps its stream. {RULE}"));
    assert_eq!(view.explain(&RelPath::new(b"9.mp4").unwrap(), &History::default(), Timestamp::from_secs(NOW)).len(), 0);
}

#[test]
fn which_rule_applies_or_that_none_does() {
    let of = |policy| say(&planned(facts(&aged(&[1, 3, 100]), policy), 1, false), &History::default(), 2);
    assert!(of(rules(|_| ())).ends_with(RULE));
    assert!(of(kept(&[])).ends_with("nothing keeps its stream. The tree has no `retention`"));
    assert!(of(kept(&[("gate/*", 1)])).ends_with("No rule of the tree's `retention` matches stream `cam/a`"));
}

#[test]
fn by_age_it_goes_at_a_time_or_never() {
    let policy = || rules(|rule| rule.max_age = Some(Duration::from_secs(30 * 86_400)));
    let view = planned(facts(&[(1, 1), (3, 3), (100, 100), (100, 10)], policy()), 0, false);
    let at = Timestamp::from_secs(NOW - 100 * HOUR + 30 * 86_400);
    let age = format!("By `max_age` it goes at {at}");
    assert!(say(&view, &History::default(), 2).contains(&format!("4d4h old. {RULE}. {age}. It may go under pressure")));
    let (named, file) = (Timestamp::from_secs(NOW - 100 * HOUR), Timestamp::from_secs(NOW - 10 * HOUR));
    let never = format!(
        "It never goes by age: the time in its name, {named}, and the file's, {file}, disagree by more than a day"
    );
    assert!(say(&view, &History::default(), 3).contains(&never));
    let mut waits = view.clone();
    waits.basis.as_mut().unwrap().window = Some(Window { from: 60, to: 300 });
    assert!(
        say(&waits, &History::default(), 2).contains(&format!("{age}, or in the next `cleanup.window`, 01:00-05:00"))
    );
}

#[test]
fn by_size_and_number_it_goes_once_so_much_more_is_recorded() {
    let policy = rules(|rule| (rule.max_bytes, rule.max_files) = (Some(Bytes::gib(5)), Some(4)));
    let view = planned(facts(&aged(&[1, 3, 100, 101]), policy), 0, false);
    let said = say(&view, &History::default(), 2);
    // Of this one and what is newer there are 3 GiB, and 2 GiB flow in a day.
    assert!(said.contains("By `max_bytes`, 5 GiB a stream, it goes once 2 GiB more are recorded: at the inflow of now in about 1d. By `max_files`, 4 a stream, it goes once 1 files more are recorded: at the inflow of now in about 12h"), "{said}");
    let idle = planned(facts(&aged(&[99, 100]), rules(|rule| rule.max_bytes = Some(Bytes::gib(5)))), 0, false);
    let said = say(&idle, &History::default(), 1);
    assert!(
        said.contains("once 3 GiB more are recorded: nothing was recorded of late, so there is no telling when"),
        "{said}"
    );
}

#[test]
fn under_pressure_it_goes_in_its_place_at_the_measured_inflow() {
    // Of 100 GiB the high mark leaves 10 and the low mark 12; the last hour brought one.
    let said = |available, at, change: &dyn Fn(&mut VolumeView)| {
        let mut view = planned(facts(&aged(&[1, 3, 100, 101, 102, 103]), rules(|_| ())), 0, false);
        let space = &mut view.reading.as_mut().unwrap().space;
        (space.free, space.available) = (Bytes::gib(available), Bytes::gib(available));
        change(&mut view);
        say(&view, &History::default(), at).rsplit(". ").next().unwrap().to_owned()
    };
    let expected = |before: &str, flow: &str, when: &str| {
        format!(
            "It may go under pressure, since nothing keeps its stream: {before} go before it, and {flow} have to flow in: {when}"
        )
    };
    // To the high mark; each run takes 2 GiB, and then as much flows in again.
    assert_eq!(said(13, 5, &|_| ()), expected("0 B", "3 GiB", &format!("{ROOM} 3h")));
    assert_eq!(said(13, 4, &|_| ()), expected("1 GiB", "3 GiB", &format!("{ROOM} 3h")));
    assert_eq!(said(13, 3, &|_| ()), expected("2 GiB", "5 GiB", &format!("{ROOM} 5h")));
    // A run that goes on takes what is missing to the low mark first.
    let since = Timestamp::from_secs(NOW);
    let reclaiming = move |view: &mut VolumeView| {
        view.pressure = Pressure::Reclaiming { since, deficit: Deficit::default() };
    };
    assert_eq!(said(11, 4, &reclaiming), expected("1 GiB", "2 GiB", &format!("{ROOM} 2h")));
    let idle = |view: &mut VolumeView| view.trees[0].survey.inflow = Bytes::ZERO;
    let unknown = "nothing was recorded of late, so there is no telling when";
    assert_eq!(said(13, 5, &idle), expected("0 B", "3 GiB", unknown));
}

#[test]
fn keep_covers_it_until_a_time_and_what_is_said_of_the_volume_is_true() {
    let keep = || rules(|rule| rule.keep = Duration::from_secs(10 * 86_400));
    let until = Timestamp::from_secs(NOW - 100 * HOUR + 10 * 86_400);
    let covered = |critical, bytes, available: u64| {
        let mut view = planned(facts(&aged(&[1, 3, 100, 300]), keep()), bytes, critical);
        let space = &mut view.reading.as_mut().unwrap().space;
        (space.free, space.available) = (Bytes::gib(available), Bytes::gib(available));
        say(&view, &History::default(), 2)
    };
    let last = "Pressure takes it before that only once the volume is critical and nothing beyond `keep` is left";
    let stays = |volume: &str| {
        format!("tree live: it stays: its stream's `keep` covers it until {until}, and {volume}. {RULE}. {last}")
    };
    assert_eq!(covered(false, 0, 50), stays("the volume is not critical"));
    assert_eq!(covered(true, 1, 1), stays("though the volume is critical, what goes before it is enough"));
    assert_eq!(covered(true, 0, 1), stays("though the volume is critical, nothing is to be given back now"));
    let goes = covered(true, 2 * GIB, 1);
    assert!(
        goes.contains(
            "it goes now, as number 2 of 2: 4d4h old; the volume is critical and nothing beyond `keep` is left"
        ),
        "{goes}"
    );
}

#[test]
fn a_cap_and_a_window_that_keep_it_are_named() {
    let policy = || rules(|rule| rule.max_age = Some(Duration::from_secs(86_400)));
    let mut view = planned(facts(&aged(&[1, 3, 100]), policy()), 0, false);
    view.basis.as_mut().unwrap().allowances[0].retention = Bytes::mib(100);
    view.basis.as_mut().unwrap().allowances[0].pressure = Bytes::mib(200);
    let old = "4d4h old; rule `cam/*` keeps 1d";
    let cap = "cap run_share of tree live: wanted 1 GiB, allowed 200 MiB";
    let acknowledge = "`storage-guard cap acknowledge live run_share`";
    check(
        &view,
        2,
        &format!(
            "it stays for now: {old}; {cap}; it trips when this plan is carried out, and then waits for {acknowledge}. {RULE}"
        ),
    );
    let trip = CapTrip {
        cap: Cap::RunShare,
        tree: TreeId::new("live"),
        wanted: Bytes::GIB,
        allowed: Bytes::mib(200),
        held: Bytes::ZERO,
        available: Bytes::ZERO,
        since: Timestamp::from_secs(NOW - 60),
    };
    let mut history = History::default();
    history.caps.insert((trip.tree.clone(), trip.cap), trip.clone());
    assert_eq!(
        say(&view, &history, 2),
        format!(
            "tree live: it stays for now: {old}; {cap}; it tripped and waits for a person: if this plan is right, {acknowledge}. {RULE}"
        )
    );
    let said = say(&view, &history, 1);
    let waits = format!(
        "Cap run_share of tree live tripped at {} and waits for a person: until then retention deletes nothing there, and pressure only as much as flows in; {acknowledge} lets go of it",
        trip.since
    );
    assert!(said.ends_with(&waits), "{said}");

    let mut view = planned(facts(&aged(&[1, 3, 100]), policy()), 0, false);
    let basis = view.basis.as_mut().unwrap();
    (basis.open, basis.window) = (vec![false], Some(Window { from: 1380, to: 90 }));
    check(&view, 2, &format!("it stays for now: {old}; it waits for `cleanup.window`, 23:00-01:30. {RULE}"));
    (view.basis.as_mut().unwrap().open, view.basis.as_mut().unwrap().retention) = (vec![true], false);
    check(
        &view,
        2,
        &format!("it stays for now: {old}; it waits until it is known what the tree's catalogues protect. {RULE}"),
    );
}

#[test]
fn what_is_protected_for_good_says_no_time_and_an_observed_tree_that_nothing_goes() {
    let max_age = |policy: TreePolicy| TreePolicy {
        mode: Mode::Observe,
        protect: vec![Pattern::new("2.mp4").unwrap()],
        ..policy
    };
    let policy = max_age(rules(|rule| rule.max_age = Some(Duration::from_secs(86_400))));
    let view = planned(facts(&aged(&[1, 3, 100]), policy), 0, false);
    check(
        &view,
        2,
        &format!(
            "it stays: {}. {RULE}. The tree is only observed, so nothing is deleted there",
            SparedReason::Protected.sentence()
        ),
    );
    let said = say(&view, &History::default(), 0);
    assert!(said.starts_with("tree live: it stays: it is the newest of a stream that is live"), "{said}");
    assert!(said.contains("By `max_age` it goes at"), "{said}");
}
