//! Which conditions follow from what is known, and which facts they carry. What is said of them is tested with the templates.

use std::sync::Arc;

use super::super::canary::ProbeFault;
use super::super::catalogue::{CatalogueKind, RowCounts};
use super::super::deletion::{Cap, Holder, RuleKind, RunResult, Seq, Target};
use super::super::ending::Ending;
use super::super::history::{Loss, Stopped};
use super::super::layout::Layout;
use super::super::live::{StreamTuple, Unreached};
use super::super::names::{CatalogueId, MediaServerId, TreeId, VolumeId};
use super::super::orphan::{LeftoverPolicy, OrphanPolicy, OrphanTally};
use super::super::path::RelPath;
use super::super::plan::Spared;
use super::super::recording::{Inventory, InventoryBuilder};
use super::super::retention::{Rule, TreePolicy, WhenOpen};
use super::super::status::{Foreign, RunSummary, Stall};
use super::super::survey::Survey;
use super::super::units::{Bytes, Percent};
use super::super::volume::{FilesystemTraits, Marks, Reading, Space};
use super::*;

const NOW: i64 = 100_000;

fn ago(secs: i64) -> Timestamp {
    Timestamp::from_secs(NOW - secs)
}

fn tree(mode: Mode) -> TreeView {
    let policy = TreePolicy {
        tree: TreeId::new("live"),
        mode,
        layout: Layout::parse("plain", &["mp4".to_owned()], jiff::tz::TimeZone::UTC).unwrap(),
        min_age: Duration::from_secs(600),
        when_open: WhenOpen::Wait,
        protect: Vec::new(),
        retention: Vec::new(),
        budget: None,
        max_share: Percent::new(20),
        catalogues: Vec::new(),
        orphans: OrphanPolicy::default(),
        leftovers: LeftoverPolicy::default(),
        archive: None,
    };
    TreeView {
        policy: Arc::new(policy),
        path: "/data/live".to_owned(),
        pick: None,
        inventory: scanned(0),
        survey: Survey::default(),
        gone: Tally::default(),
        unleased: false,
        fault: None,
        orphans: OrphanTally::default(),
        top: None,
        favourites: None,
    }
}

/// The rules of a tree whose streams are kept for so many days, by pattern.
pub(crate) fn kept(rules: &[(&str, u64)]) -> TreePolicy {
    let rule = |(stream, days): &(&str, u64)| Rule {
        keep: Duration::from_secs(days * 86_400),
        ..crate::domain::plan::tests::rule(stream)
    };
    TreePolicy { retention: rules.iter().map(rule).collect(), ..tree(Mode::Enforce).policy.as_ref().clone() }
}

/// A scan that began so many seconds ago.
fn scanned(secs: i64) -> Arc<Inventory> {
    let mut inventory = InventoryBuilder::new(TreeId::new("live"), ago(secs)).finish(ago(0));
    inventory.directories = 1;
    Arc::new(inventory)
}

/// A catalogue that is believed, unless it says why not, and was read so many seconds ago.
pub(crate) fn catalogue(name: &str, distrust: Option<Distrust>, read: Option<i64>) -> CatalogueView {
    CatalogueView {
        name: CatalogueId::new(name),
        kind: CatalogueKind::Wvp,
        since: distrust.as_ref().map(|_| ago(5)),
        distrust,
        counts: RowCounts { rows: 16_000, foreign: 3, bad: 2, collect: 1 },
        read_at: read.map(ago),
        remark: None,
    }
}

/// The same, which its tree names.
pub(crate) fn catalogued(name: &str) -> VolumeView {
    let mut volume = volume();
    let policy = volume.trees[0].policy.as_ref().clone();
    volume.trees[0].policy = Arc::new(TreePolicy { catalogues: vec![CatalogueId::new(name)], ..policy });
    volume
}

/// A volume that is well, with one tree.
pub(crate) fn volume() -> VolumeView {
    let space = Space { size: Bytes::gib(100), available: Bytes::gib(9), ..Space::default() };
    VolumeView {
        name: VolumeId::new("data"),
        traits: FilesystemTraits::default(),
        reading: Ok(Reading { at: ago(0), space, readonly: false, written: None }),
        pressure: Pressure::Normal,
        marks: Marks::default(),
        trees: vec![tree(Mode::Enforce)],
        basis: None,
        spared: Arc::default(),
        running: None,
        last_run: None,
        stalled: None,
        foreign: None,
        canary: None,
        clock_suspect: None,
    }
}

fn reclaiming(secs: i64) -> Pressure {
    let deficit = Deficit { bytes: Bytes::gib(10), inodes: 3, critical: false };
    Pressure::Reclaiming { since: ago(secs), deficit }
}

fn others(gib: u64) -> Option<Foreign> {
    let largest = vec![("/data/backup".to_owned(), Bytes::gib(gib))];
    Some(Foreign { bytes: Bytes::gib(gib), largest, complete: true })
}

fn ran(took: u64) -> Option<RunSummary> {
    Some(RunSummary {
        at: ago(9),
        result: RunResult::ReachedLow,
        why: Ending::ReachedLow,
        took: Duration::from_secs(took),
        deleted: Tally::default(),
        reclaimed: Bytes::ZERO,
    })
}

fn told(conditions: &[Condition]) -> Vec<String> {
    let facts = |found: &Condition| found.facts.keys().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
    conditions.iter().map(|found| format!("{} {}: {}", found.alert, found.case, facts(found))).collect()
}

/// Each expected condition: its alert and case, and the names of its facts.
fn check(change: impl FnOnce(&mut VolumeView), expected: &[&str]) -> Vec<Condition> {
    let mut volume = volume();
    change(&mut volume);
    let found = conditions(&[volume], &[], &[], &History::default(), ago(0));
    assert_eq!(told(&found), expected);
    assert!(found.iter().all(|found| found.severity == found.alert.severity()));
    found
}

#[test]
fn pressure_is_told_when_nobody_acts_when_others_cause_it_and_when_it_lasts() {
    const LATE: &str = "VolumePressure late: available size missing missing_inodes lasting";
    let with = |pressure| move |volume: &mut VolumeView| volume.pressure = pressure;
    check(|_| (), &[]);
    check(with(reclaiming(1800)), &[]);
    let found = check(with(reclaiming(1801)), &[LATE]);
    assert_eq!(found[0].subject, Subject::Volume(VolumeId::new("data")));
    assert_eq!(found[0].facts[&FactName::Available], Fact::Bytes(Bytes::gib(9)));
    assert_eq!(found[0].facts[&FactName::Missing], Fact::Bytes(Bytes::gib(10)));
    assert_eq!(found[0].facts[&FactName::MissingInodes], Fact::Count(3));
    assert_eq!(found[0].facts[&FactName::Lasting], Fact::Span(Duration::from_secs(1801)));

    // A run that usually takes an hour is late after three.
    let slow = |secs| move |volume: &mut VolumeView| (volume.pressure, volume.last_run) = (reclaiming(secs), ran(3600));
    check(slow(10_800), &[]);
    let found = check(slow(10_801), &["VolumePressure late: available size missing missing_inodes lasting last_run"]);
    assert_eq!(found[0].facts[&FactName::LastRun], Fact::Reason((&Ending::ReachedLow).into()));

    let observed = |volume: &mut VolumeView| {
        (volume.pressure, volume.trees) = (reclaiming(0), vec![tree(Mode::Observe)]);
    };
    check(observed, &["VolumePressure observed: available size missing missing_inodes"]);

    let shared =
        |gib, secs| move |volume: &mut VolumeView| (volume.pressure, volume.foreign) = (reclaiming(secs), others(gib));
    check(shared(4, 0), &[]);
    check(
        shared(4, 1801),
        &["VolumePressure late: available size missing missing_inodes lasting foreign largest complete"],
    );
    let foreign = "VolumePressure foreign: available size missing missing_inodes foreign largest complete";
    let found = check(shared(5, 0), &[foreign]);
    assert_eq!(found[0].facts[&FactName::Foreign], Fact::Bytes(Bytes::gib(5)));
}

#[test]
fn others_are_blamed_only_above_the_high_mark_and_by_a_scan_that_began_after_it_was_crossed() {
    // The volume crossed its mark a minute ago; 100 GiB have their high mark at 10 GiB.
    let blamed = |available, scans: [i64; 2]| {
        move |volume: &mut VolumeView| {
            (volume.pressure, volume.foreign) = (reclaiming(60), others(9));
            let space = &mut volume.reading.as_mut().unwrap().space;
            (space.free, space.available) = (available, available);
            volume.trees = scans.map(|secs| TreeView { inventory: scanned(secs), ..tree(Mode::Enforce) }).into();
        }
    };
    let foreign = "VolumePressure foreign: available size missing missing_inodes foreign largest complete";
    let high = Bytes::gib(10);
    check(blamed(high.saturating_sub(Bytes(1)), [60, 0]), &[foreign]);
    check(blamed(high.saturating_sub(Bytes(1)), [61, 0]), &[]);
    check(blamed(high, [60, 0]), &[]);
}

#[test]
fn an_exhausted_volume_carries_what_is_shared() {
    let exhausted = |shared: u64| {
        move |volume: &mut VolumeView| {
            let deficit = Deficit { bytes: Bytes::gib(1), inodes: 0, critical: true };
            volume.pressure = Pressure::Exhausted { since: ago(0), deficit };
            let tally = Tally { files: shared, bytes: Bytes(shared) };
            let spared = Spared { tree: TreeId::new("live"), reason: SparedReason::Shared, tally };
            volume.spared = Arc::new(vec![spared]);
        }
    };
    check(exhausted(0), &["VolumeExhausted only: available size missing missing_inodes"]);
    check(exhausted(2), &["VolumeExhausted only: available size missing missing_inodes shared_files shared"]);
}

#[test]
fn what_cannot_be_judged_carries_why() {
    let blind = |why: Unusable| move |volume: &mut VolumeView| volume.pressure = Pressure::Blind { since: ago(0), why };
    let unread = |volume: &mut VolumeView| {
        blind(Unusable::NoSize)(volume);
        volume.reading = Err(Unusable::NoSize);
        // One that cannot be read says so once, not for each tree.
        volume.trees[0].fault = Some(Unusable::NoSize);
    };
    let found = check(unread, &["VolumeBlind volume: why"]);
    assert_eq!(found[0].facts[&FactName::Why], Fact::Reason((&Unusable::NoSize).into()));
    check(blind(Unusable::ReadOnly), &["VolumeReadOnly only: available size"]);
    let found = check(|volume| volume.trees[0].fault = Some(Unusable::NotYet), &["VolumeBlind tree: why"]);
    assert_eq!(found[0].subject, Subject::Tree(TreeId::new("live")));
    let found = check(|volume| volume.clock_suspect = Some(ago(60)), &["ClockSuspect only: since"]);
    assert_eq!(found[0].facts[&FactName::Since], Fact::Time(ago(60)));
}

#[test]
fn a_stall_is_told_before_what_the_probe_file_showed() {
    let fault = || ProbeFault::NotDeleted { tree: TreeId::new("live"), error: "EPERM".to_owned() };
    let probe = |volume: &mut VolumeView| volume.canary = Some((ago(0), Some(fault())));
    check(|volume| volume.canary = Some((ago(0), None)), &[]);
    let found = check(probe, &["SpaceNotReclaimed probe: available size why"]);
    assert_eq!(found[0].facts[&FactName::Why], Fact::Reason((&fault()).into()));
    let both = |volume: &mut VolumeView| {
        probe(volume);
        let why = Ending::Unexplained { missing: Bytes(7) };
        volume.stalled = Some(Stall { since: ago(0), available: Bytes::ZERO, missing: Bytes(7), why });
    };
    check(both, &["SpaceNotReclaimed stalled: available size missing why"]);
}

fn target(number: u64) -> Target {
    Target {
        tree: TreeId::new("live"),
        path: RelPath::new(format!("{number}.mp4").as_bytes()).unwrap(),
        stream: "cam".to_owned(),
        recorded: None,
        bytes: Bytes(10),
        inode: number,
        fingerprint: 0,
        rule: RuleKind::Pressure,
        trigger: RuleKind::Pressure.trigger(),
        reason: String::new(),
    }
}

fn failure(number: u64, cause: Cause, holder: bool, attempts: u32, secs: i64) -> (u64, Failure) {
    let failure = Failure {
        id: number,
        target: target(number),
        cause,
        error: "no".to_owned(),
        holder: holder.then(|| Holder { pid: 7, name: "vlc".to_owned() }),
        attempts,
        next_attempt: ago(0),
        since: ago(secs),
    };
    (number, failure)
}

#[test]
fn failures_are_told_once_they_last_with_causes_holders_and_the_first_twenty() {
    let check = |history: History, expected: &[&str]| {
        let found = conditions(&[volume()], &[], &[], &history, ago(0));
        assert_eq!(told(&found), expected);
        found
    };
    let failing = |failures: Vec<_>| {
        let mut history = History::default();
        history.failures.extend(failures);
        history
    };
    check(failing(vec![failure(1, Cause::Io, false, 2, 599)]), &[]);
    check(failing(vec![failure(1, Cause::Io, false, 3, 0)]), &["DeletionFailing only: causes directory"]);
    check(failing(vec![failure(1, Cause::Io, false, 1, 600)]), &["DeletionFailing only: causes directory"]);
    let locked = vec![
        failure(1, Cause::Locked, false, 3, 0),
        failure(2, Cause::InUse, true, 3, 0),
        failure(3, Cause::InUse, true, 3, 0),
    ];
    let found = check(failing(locked), &["RecordingLocked only: holders causes directory"]);
    assert_eq!(found[0].facts[&FactName::Holders], Fact::Names(vec!["vlc (pid 7)".to_owned()]));
    let causes = vec![("in_use".to_owned(), 2), ("locked".to_owned(), 1)];
    assert_eq!(found[0].facts[&FactName::Causes], Fact::Counts(causes));
    assert_eq!(found[0].unreclaimed, Tally { files: 3, bytes: Bytes(30) });
    assert_eq!(found[0].facts[&FactName::Directory], Fact::Text("/data/live".to_owned()));

    // One that lasts tells of all of its kind, and of no other kind.
    let one_lasts = vec![
        failure(1, Cause::Locked, false, 3, 0),
        failure(2, Cause::InUse, false, 1, 0),
        failure(3, Cause::Io, false, 1, 0),
    ];
    let found = check(failing(one_lasts), &["RecordingLocked only: causes directory"]);
    assert_eq!((found[0].unreclaimed.files, found[0].items.len()), (2, 2));

    let many = (0..10_000).map(|number| failure(number, Cause::Permission, false, 3, 0)).collect();
    let found = check(failing(many), &["DeletionFailing only: causes directory"]);
    assert_eq!((found[0].unreclaimed.files, found[0].items.len()), (10_000, ITEMS));

    let held = HeldOpen { seq: Seq(1), target: target(1), bytes: Bytes(10), since: ago(0), holder: None };
    let mut history = History::default();
    history.held.insert(Seq(1), held);
    check(history, &["SpaceNotReclaimed open: "]);
}

#[test]
fn an_item_names_its_cause_once_and_what_the_system_said_only_where_that_says_more() {
    for cause in Cause::ALL {
        let mut history = History::default();
        history.failures.extend([failure(1, *cause, false, 3, 0)]);
        let found = conditions(&[volume()], &[], &[], &history, ago(0));
        let item = &found[0].items[0];
        let said = if matches!(cause, Cause::Locked | Cause::InUse) { "" } else { "no" };
        assert_eq!((item.word(), item.detail.as_str()), (cause.as_str(), said));
    }
}

/// The operator's first question: is it in the way, or am I?
#[test]
fn an_exhausted_volume_counts_what_was_chosen_and_could_not_be_deleted() {
    let mut volume = volume();
    let Pressure::Reclaiming { since, deficit } = reclaiming(0) else { unreachable!() };
    volume.pressure = Pressure::Exhausted { since, deficit };
    let mut history = History::default();
    // Nothing of it has lasted long enough to be told of by itself.
    history.failures.extend([failure(1, Cause::Locked, false, 1, 0), failure(2, Cause::Io, false, 1, 0)]);
    let mut elsewhere = failure(3, Cause::Io, false, 1, 0);
    elsewhere.1.target.tree = TreeId::new("other");
    history.failures.extend([elsewhere]);
    let found = conditions(&[volume], &[], &[], &history, ago(0));
    assert_eq!(
        told(&found),
        ["VolumeExhausted only: available size missing missing_inodes causes failed failed_bytes"]
    );
    assert_eq!(found[0].facts[&FactName::Failed], Fact::Count(2));
    assert_eq!(found[0].facts[&FactName::FailedBytes], Fact::Bytes(Bytes(20)));
    let causes = vec![("locked".to_owned(), 1), ("io".to_owned(), 1)];
    assert_eq!(found[0].facts[&FactName::Causes], Fact::Counts(causes));
}

#[test]
fn a_tripped_cap_carries_what_was_wanted_and_what_is_allowed() {
    let tree = TreeId::new("live");
    let trip = CapTrip {
        cap: Cap::RunShare,
        tree: tree.clone(),
        wanted: Bytes(300),
        allowed: Bytes(200),
        held: Bytes(1000),
        available: Bytes(1),
        since: ago(0),
    };
    let mut history = History::default();
    history.caps.insert((tree, Cap::RunShare), trip);
    let found = conditions(&[volume()], &[], &[], &history, ago(0));
    assert_eq!(told(&found), ["CapTripped only: cap wanted allowed"]);
    assert_eq!(found[0].facts[&FactName::Cap], Fact::Text("run_share".to_owned()));
    assert_eq!(found[0].facts[&FactName::Wanted], Fact::Bytes(Bytes(300)));
}

/// An alert has one subject, and two conditions of it would take turns.
#[test]
fn of_two_caps_of_a_tree_the_one_that_waits_longer_is_told_of() {
    let tree = TreeId::new("live");
    let trip = |cap, since| CapTrip {
        cap,
        tree: tree.clone(),
        wanted: Bytes(300),
        allowed: Bytes(200),
        held: Bytes(1000),
        available: Bytes(1),
        since: ago(since),
    };
    let mut history = History::default();
    for (cap, since) in [(Cap::RunShare, 5), (Cap::OrphanShare, 9)] {
        history.caps.insert((tree.clone(), cap), trip(cap, since));
    }
    let caps = |history: &History| -> Vec<Fact> {
        conditions(&[volume()], &[], &[], history, ago(0))
            .into_iter()
            .map(|mut found| found.facts.remove(&FactName::Cap).unwrap())
            .collect()
    };
    assert_eq!(caps(&history), [Fact::Text("orphan_share".to_owned())]);
    history.caps.remove(&(tree.clone(), Cap::OrphanShare));
    assert_eq!(caps(&history), [Fact::Text("run_share".to_owned())]);
}

#[test]
fn nothing_is_over_that_nobody_can_tell_yet() {
    use AlertName::{VolumeBlind, VolumePressure};
    let data = || Subject::Volume(VolumeId::new("data"));
    let check = |change: &dyn Fn(&mut VolumeView), alert, subject: &Subject, restored, expected| {
        let mut volume = volume();
        change(&mut volume);
        assert_eq!(untold(alert, subject, restored, &[volume], &[], &[]), expected, "{alert} {subject:?} {restored}");
    };
    let well = |_: &mut VolumeView| ();
    check(&well, VolumeBlind, &data(), true, false);
    // Not looked at whole.
    let unscanned = |volume: &mut VolumeView| Arc::get_mut(&mut volume.trees[0].inventory).unwrap().directories = 0;
    let live = Subject::Tree(TreeId::new("live"));
    for (subject, expected) in
        [(data(), true), (live, true), (Subject::Guard, false), (Subject::Volume(VolumeId::new("other")), false)]
    {
        check(&unscanned, VolumeBlind, &subject, false, expected);
    }
    check(&unscanned, AlertName::ClockSuspect, &Subject::Guard, false, true);
    // What a pressure goes by began anew with the start.
    let pressed =
        |volume: &mut VolumeView| volume.pressure = Pressure::Exhausted { since: ago(1), deficit: Deficit::default() };
    for (alert, restored, expected) in
        [(VolumePressure, true, true), (VolumePressure, false, false), (VolumeBlind, true, false)]
    {
        check(&pressed, alert, &data(), restored, expected);
    }
    // Its disk is away, and it stands there by the name of its tree.
    let away = |volume: &mut VolumeView| {
        volume.name = VolumeId::new("/data/live");
        volume.traits.kind = ABSENT.to_owned();
        volume.reading = Err(Unusable::Failed("no such file".to_owned()));
    };
    for (restored, expected) in [(true, true), (false, false)] {
        check(&away, VolumeBlind, &data(), restored, expected);
    }
}

#[test]
fn a_catalogue_that_was_read_and_is_not_believed_is_told_with_its_trees_and_what_it_last_said() {
    let check = |catalogues: &[CatalogueView], expected: &[&str]| {
        let found = conditions(&[catalogued("wvp")], catalogues, &[], &History::default(), ago(0));
        assert_eq!(told(&found), expected);
        found
    };
    let down = || Some(Distrust::Unanswered { error: "ECONNREFUSED".to_owned() });
    check(&[catalogue("wvp", None, Some(9))], &[]);
    // Before the first attempt nothing is known to be wrong.
    check(&[catalogue("wvp", Some(Distrust::NotYet), None)], &[]);
    check(&[catalogue("wvp", Some(Distrust::NotYet), Some(9))], &[]);
    check(&[catalogue("wvp", down(), None)], &["CatalogueUntrusted only: why kind trees"]);
    let all = "CatalogueUntrusted only: why kind trees rows last_read";
    let found = check(&[catalogue("list", down(), Some(9)), catalogue("wvp", down(), Some(9))], &[all, all]);
    assert_eq!(found[0].subject, Subject::Catalogue(CatalogueId::new("list")));
    assert_eq!(found[0].facts[&FactName::Trees], Fact::Names(Vec::new()));
    assert_eq!(found[1].facts[&FactName::Trees], Fact::Names(vec!["live".to_owned()]));
    assert_eq!(found[1].facts[&FactName::Why], Fact::Reason((&down().unwrap()).into()));
    assert_eq!(found[1].facts[&FactName::Rows], Fact::Count(16_000));
    assert_eq!(found[1].facts[&FactName::LastRead], Fact::Time(ago(9)));
}

#[test]
fn a_media_server_that_cannot_be_asked_and_what_it_does_not_record_are_told() {
    let name = || MediaServerId::new("zlm");
    let names = |stream: &str| StreamTuple { vhost: "v".to_owned(), app: "live".to_owned(), stream: stream.to_owned() };
    let stopped = |ago_secs| Stopped { since: ago(ago_secs), volume: VolumeId::new("data"), tree: TreeId::new("live") };
    let check = |reach: Reach, streams: &[&str], expected: &[&str]| {
        let view = MediaServerView { reach, ..MediaServerView::new(name()) };
        let mut history = History::default();
        history.stopped.extend((1..).zip(streams).map(|(at, stream)| ((name(), names(stream)), stopped(at))));
        // That of a media server which is configured no more is nobody's any more.
        history.stopped.insert((MediaServerId::new("other"), names("x")), stopped(1));
        let found = conditions(&[volume()], &[], &[view], &history, ago(0));
        assert_eq!(told(&found), expected);
        assert!(found.iter().all(|one| one.subject == Subject::MediaServer(name())));
        found
    };
    let down = || Reach::Down { since: ago(9), why: Unreached::Refused };
    check(Reach::Unasked, &[], &[]);
    check(Reach::Up { since: ago(9) }, &[], &[]);
    let found = check(down(), &[], &["MediaServerUnreachable only: since why"]);
    assert_eq!(found[0].facts[&FactName::Why], Fact::Reason((&Unreached::Refused).into()));
    let all = ["a", "b", "c", "d", "e", "f"];
    let found = check(Reach::Up { since: ago(9) }, &all, &["RecordingStopped only: since streams names volumes"]);
    assert_eq!(found[0].facts[&FactName::Streams], Fact::Count(6));
    assert_eq!(found[0].facts[&FactName::Since], Fact::Time(ago(6)));
    assert_eq!(
        found[0].facts[&FactName::Names],
        Fact::Names(all[..5].iter().map(|one| format!("live/{one}")).collect())
    );
    check(
        down(),
        &["a"],
        &["MediaServerUnreachable only: since why", "RecordingStopped only: since streams names volumes"],
    );
    // One that was not asked yet may be well.
    let unasked = MediaServerView::new(name());
    let subject = Subject::MediaServer(name());
    for (views, expected) in
        [(vec![unasked.clone()], true), (vec![MediaServerView { reach: down(), ..unasked }], false), (vec![], false)]
    {
        assert_eq!(untold(AlertName::MediaServerUnreachable, &subject, true, &[volume()], &[], &views), expected);
    }
}

#[test]
fn orphans_are_told_by_their_growth_and_not_because_there_are_some() {
    const PLAIN: &str = "OrphansGrowing only: grown recorded";
    let tally = |files| Tally { files, bytes: Bytes(files * 10) };
    let of = |growth: Option<(u64, u64)>, uncatalogued: Option<u64>, leftovers: u64| {
        move |volume: &mut VolumeView| {
            let orphans = &mut volume.trees[0].orphans;
            orphans.growth = growth.map(|(grown, recorded)| (Bytes(grown), Bytes(recorded)));
            (orphans.uncatalogued, orphans.leftovers) = (uncatalogued.map(tally), tally(leftovers));
        }
    };
    check(of(None, Some(1000), 9), &[]);
    check(of(Some((0, 0)), Some(1000), 9), &[]);
    check(of(Some((0, 5000)), Some(1000), 9), &[]);
    // A hundredth of what was recorded is no more than that.
    check(of(Some((50, 5000)), None, 0), &[]);
    check(of(Some((51, 5000)), None, 0), &[PLAIN]);
    check(of(Some((50, 4999)), None, 0), &[PLAIN]);
    check(of(Some((1, 0)), None, 0), &[PLAIN]);
    check(of(Some((u64::MAX, u64::MAX)), Some(0), 0), &[PLAIN]);
    let uncatalogued = "OrphansGrowing only: grown recorded uncatalogued uncatalogued_bytes";
    check(of(Some((7, 9)), Some(3), 0), &[uncatalogued]);
    let found = check(of(Some((7, 9)), Some(3), 4), &[&format!("{uncatalogued} leftovers leftover_bytes")]);
    assert_eq!(found[0].subject, Subject::Tree(TreeId::new("live")));
    for (name, expected) in [
        (FactName::Grown, Fact::Bytes(Bytes(7))),
        (FactName::Recorded, Fact::Bytes(Bytes(9))),
        (FactName::Uncatalogued, Fact::Count(3)),
        (FactName::UncataloguedBytes, Fact::Bytes(Bytes(30))),
        (FactName::Leftovers, Fact::Count(4)),
        (FactName::LeftoverBytes, Fact::Bytes(Bytes(40))),
    ] {
        assert_eq!(found[0].facts[&name], expected, "{name}");
    }
}

/// A restart resolves neither alert before the catalogue was read, and the tree compared.
#[test]
fn what_a_catalogue_would_tell_is_not_over_before_it_was_read_and_compared() {
    use AlertName::{CapTripped, CatalogueUntrusted, OrphansGrowing};
    let down = || Some(Distrust::Unanswered { error: "ECONNREFUSED".to_owned() });
    let subject = Subject::Catalogue(CatalogueId::new("wvp"));
    for (distrust, expected) in [(Some(Distrust::NotYet), true), (down(), false), (None, false)] {
        let views = [catalogue("list", Some(Distrust::NotYet), None), catalogue("wvp", distrust, None)];
        for restored in [false, true] {
            assert_eq!(untold(CatalogueUntrusted, &subject, restored, &[volume()], &views, &[]), expected, "{views:?}");
        }
    }
    // One that is configured no more is over.
    assert!(!untold(CatalogueUntrusted, &subject, true, &[volume()], &[], &[]));

    let live = Subject::Tree(TreeId::new("live"));
    let check = |name: &str, growth, kind, alert, expected| {
        let mut volume = catalogued(name);
        volume.trees[0].orphans.growth = growth;
        let view = CatalogueView { kind, ..catalogue("wvp", None, Some(9)) };
        assert_eq!(untold(alert, &live, true, &[volume], &[view], &[]), expected, "{name} {growth:?} {kind} {alert}");
    };
    let known = Some((Bytes::ZERO, Bytes::ZERO));
    check("wvp", None, CatalogueKind::Wvp, OrphansGrowing, true);
    check("wvp", known, CatalogueKind::Wvp, OrphansGrowing, false);
    check("wvp", None, CatalogueKind::Wvp, CapTripped, false);
    // Nobody will ever tell of orphans here.
    check("wvp", None, CatalogueKind::Hooks, OrphansGrowing, false);
    check("other", None, CatalogueKind::Wvp, OrphansGrowing, false);
}

#[test]
fn a_broken_promise_names_the_streams_and_what_does_fit_and_ends_when_it_is_kept_or_lowered() {
    const HOUR: i64 = 3600;
    let loss = |hours: i64| Loss { recorded: ago(hours * HOUR), at: ago(0) };
    let lost = |streams: &[(&str, i64)]| {
        let mut history = History::default();
        for (name, hours) in streams {
            history.lost.insert((TreeId::new("live"), (*name).to_owned()), loss(*hours));
        }
        history
    };
    let check = |keep: &[(&str, u64)], history: &History, expected: &[&str]| {
        let mut volume = volume();
        volume.trees[0].policy = Arc::new(kept(keep));
        let found = conditions(&[volume], &[], &[], history, ago(0));
        assert_eq!(told(&found), expected);
        found
    };
    let broken = "RetentionBroken only: streams names promised achieved";
    let found = check(&[("cam/*", 1)], &lost(&[("cam/a", 23), ("cam/b", 5), ("cam/c", 24), ("hall/a", 1)]), &[broken]);
    assert_eq!(found[0].subject, Subject::Tree(TreeId::new("live")));
    assert_eq!(found[0].facts[&FactName::Streams], Fact::Count(2));
    assert_eq!(found[0].facts[&FactName::Names], Fact::Names(vec!["cam/a".to_owned(), "cam/b".to_owned()]));
    assert_eq!(found[0].facts[&FactName::Promised], Fact::Span(Duration::from_secs(86_400)));
    assert_eq!(found[0].facts[&FactName::Achieved], Fact::Span(Duration::ZERO));
    check(&[("cam/*", 1)], &lost(&[("cam/a", 24)]), &[]);
    check(&[("cam/*", 0)], &lost(&[("cam/a", 2)]), &[]);
    check(&[("gate/*", 1)], &lost(&[("cam/a", 2)]), &[]);
}
