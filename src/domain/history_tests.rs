//! What a journal adds up to.

use super::*;
use crate::domain::deletion::{Cause, RuleKind};
use crate::domain::path::RelPath;

fn intent(trigger: Trigger, retry_of: Option<u64>) -> Entry {
    let target = Target {
        tree: TreeId::new("t"),
        path: RelPath::new(b"a").unwrap(),
        stream: "s".to_owned(),
        recorded: None,
        bytes: Bytes(10),
        inode: 1,
        fingerprint: 2,
        rule: RuleKind::Pressure,
        trigger,
        reason: String::new(),
    };
    let retry_of = retry_of.map(Seq);
    Entry::Intent(Intent { target, who: "guard".to_owned(), job: None, run: 3, retry_of })
}

fn outcome(intent: u64, attempt: Attempt) -> Entry {
    Entry::Outcome { intent: Seq(intent), attempt }
}

fn note(kind: NoteKind, text: &str) -> Entry {
    let tree = Some(TreeId::new("t"));
    Entry::Note { kind, volume: None, tree, who: "ops".to_owned(), bytes: Bytes(7), number: 1, text: text.to_owned() }
}

fn history(entries: Vec<(i64, Entry)>) -> History {
    let mut history = History::default();
    for (seq, (at, entry)) in (1..).zip(entries) {
        history.enter(&Recorded { seq: Seq(seq), at: Timestamp::from_secs(at), hash: [0; 32], entry });
    }
    history
}

fn failed() -> Attempt {
    Attempt::Failed { cause: Cause::Locked, error: "no".to_owned(), holder: None }
}

fn verified(open: bool) -> Attempt {
    Attempt::Verified { freed: Bytes(10), shared: Bytes::ZERO, open }
}

/// Promise 14: what the guard stopped is known after a restart, or nobody would ever begin it again.
#[test]
fn what_is_not_recorded_because_of_us_is_known_until_it_is_released() {
    let stream = |name: &str| -> StreamOf {
        let names = StreamTuple { vhost: "v".to_owned(), app: "live".to_owned(), stream: name.to_owned() };
        (MediaServerId::new("zlm-1"), names)
    };
    let stopped = Stopped { since: Timestamp::from_secs(5), volume: VolumeId::new("data"), tree: TreeId::new("t") };
    let stop = |name| recording_note(&stream(name), Some(&stopped), "it is full");
    let release = |name| recording_note(&stream(name), None, "there is room");
    let found = history(vec![(5, stop("a")), (6, stop("b c")), (7, stop("a")), (8, release("b c")), (9, release("d"))]);
    assert_eq!(found.stopped, BTreeMap::from([(stream("a"), stopped.clone())]), "since it was stopped first");
    let found = history(vec![(5, note(NoteKind::RecordingStopped, "zlm-1"))]);
    assert!(found.stopped.is_empty(), "an entry of a later version is not guessed");
}

#[test]
fn what_a_person_has_tried_again_counts_against_no_cap() {
    for (who, counted) in [(GUARD, 10), ("root", 0)] {
        let Entry::Intent(again) = intent(Trigger::Pressure, Some(1)) else { panic!("it is an intent") };
        let again = Entry::Intent(Intent { who: who.to_owned(), ..again });
        let first = vec![(1, intent(Trigger::Pressure, None)), (1, outcome(1, failed()))];
        let found = history([first, vec![(2, again), (2, outcome(3, verified(false)))]].concat());
        let deleted = found.deleted_within_a_day(&TreeId::new("t"), Timestamp::from_secs(3));
        assert_eq!((deleted, found.failures.len()), (Bytes(counted), 0), "{who}");
    }
}

#[test]
fn what_is_shared_is_missed_until_the_volume_is_well() {
    let shared = Attempt::Verified { freed: Bytes(10), shared: Bytes(9), open: false };
    let stalled = vec![(1, intent(Trigger::Pressure, None)), (1, outcome(1, shared))];
    let tree = TreeId::new("t");
    assert_eq!(history(stalled.clone()).shared[&tree].bytes, Bytes(9));
    let well = Entry::Note {
        kind: NoteKind::Closed,
        volume: None,
        tree: Some(tree),
        who: "guard".to_owned(),
        bytes: Bytes(9),
        number: 0,
        text: String::new(),
    };
    assert!(history([stalled, vec![(2, well)]].concat()).shared.is_empty());
}

#[test]
fn a_failure_lives_until_it_succeeds_or_is_closed() {
    let twice = vec![
        (1, intent(Trigger::Pressure, None)),
        (2, outcome(1, failed())),
        (3, intent(Trigger::Pressure, Some(1))),
        (4, outcome(3, failed())),
    ];
    let found = history(twice.clone());
    let failure = &found.failures[&1];
    assert_eq!((failure.attempts, failure.since.secs(), found.open.len()), (2, 2, 0));
    let more = |entries: Vec<(i64, Entry)>| history([twice.clone(), entries].concat());
    assert!(more(vec![(5, note(NoteKind::FailureClosed, "gone by hand"))]).failures.is_empty());
    let retried = vec![(5, intent(Trigger::Pressure, Some(1))), (6, outcome(5, verified(false)))];
    assert!(more(retried).failures.is_empty());
}

#[test]
fn own_deletions_of_a_day_count_and_those_of_persons_do_not() {
    let found = history(vec![
        (0, intent(Trigger::Pressure, None)),
        (0, outcome(1, verified(false))),
        (80_000, intent(Trigger::Retention, None)),
        (80_000, outcome(3, verified(true))),
        (80_001, intent(Trigger::Operator, None)),
        (80_001, outcome(5, verified(false))),
    ]);
    let tree = TreeId::new("t");
    assert_eq!(found.deleted_within_a_day(&tree, Timestamp::from_secs(80_002)), Bytes(20));
    assert_eq!(found.deleted_within_a_day(&tree, Timestamp::from_secs(90_000)), Bytes(10));
    assert_eq!(found.held_open(&[tree]), Bytes(10));
    assert_eq!(found.last_run, 3);
}

#[test]
fn a_cap_waits_for_a_person_and_their_leave_ends() {
    let tripped = (5, note(NoteKind::CapTripped, "run_share 5 6"));
    let found = history(vec![tripped.clone()]);
    let trip = &found.caps[&(TreeId::new("t"), Cap::RunShare)];
    assert_eq!((trip.wanted, trip.available, trip.allowed, trip.held), (Bytes(7), Bytes(1), Bytes(5), Bytes(6)));
    let found = history(vec![tripped, (10, note(NoteKind::CapAcknowledged, "run_share"))]);
    assert!(found.caps.is_empty());
    let tree = TreeId::new("t");
    assert_eq!(found.permitted(&tree, Cap::RunShare, Timestamp::from_secs(3000)), Some(Bytes(7)));
    assert_eq!(found.permitted(&tree, Cap::RunShare, Timestamp::from_secs(4000)), None);
    assert_eq!(found.permitted(&tree, Cap::OrphanShare, Timestamp::from_secs(3000)), None, "it is for one cap");
}

/// Fault 91: what is known of the clock outlives the process.
#[test]
fn a_clock_that_is_not_trusted_is_not_trusted_after_a_restart_either() {
    let note = |text: String| {
        let mut note = Entry::note(NoteKind::Clock, text);
        let Entry::Note { volume, .. } = &mut note else { unreachable!() };
        *volume = Some(VolumeId::new("v"));
        (1, note)
    };
    let suspect = note(clock_text("jumped forward [by a lot]", &[-5, 0, 86_400_000]));
    let found = history(vec![suspect.clone()]);
    let (text, offsets) = &found.clocks[&VolumeId::new("v")];
    assert_eq!((text.as_str(), offsets.as_slice()), ("jumped forward [by a lot]", &[-5, 0, 86_400_000][..]));
    assert!(history(vec![suspect, note("the clock is trusted again".to_owned())]).clocks.is_empty());
}

/// Fault 81.
#[test]
fn three_starts_in_five_minutes_are_a_storm() {
    let started = |times: &[i64]| {
        let notes = times.iter().map(|at| (*at, Entry::note(NoteKind::Started, String::new())));
        history(notes.collect()).restart_storm(Timestamp::from_secs(700))
    };
    assert!(!started(&[650]) && !started(&[300, 399, 650]));
    assert!(started(&[600, 650]) && started(&[0, 400, 500]));
}

/// What is over by the journal is not begun again by a row that outlived it; the guard's own runs are nobody's request.
#[test]
fn what_persons_asked_for_and_is_over_is_known_by_its_number() {
    let ended = |number: u64, who: &str| Entry::Note {
        kind: NoteKind::RunEnded,
        volume: None,
        tree: None,
        who: who.to_owned(),
        bytes: Bytes::ZERO,
        number,
        text: String::new(),
    };
    let history =
        history(vec![(1, ended(7, "ops")), (2, ended(8, GUARD)), (3, Entry::job_over(9, "ops", "cancelled"))]);
    assert_eq!(history.over.iter().copied().collect::<Vec<_>>(), [7, 9]);
    assert_eq!(history.last_run, 9);
}

#[test]
fn an_intent_without_outcome_stays_open() {
    assert_eq!(history(vec![(1, intent(Trigger::Pressure, None))]).open.len(), 1);
}

/// An entry about one file: of an intent of this rule, by this person, for what has this number.
fn of(rule: RuleKind, who: &str, retry_of: Option<u64>) -> Entry {
    let Entry::Intent(mut intent) = intent(rule.trigger(), retry_of) else { unreachable!() };
    (intent.target.rule, intent.who) = (rule, who.to_owned());
    Entry::Intent(intent)
}

fn restored(number: u64) -> Entry {
    let Entry::Intent(intent) = of(RuleKind::Quarantine, GUARD, None) else { unreachable!() };
    Entry::restored(Seq(number), &intent.target, "ops", None)
}

/// Promises 4 and 8: to be set aside is no deletion, and to fail at it no failed deletion.
#[test]
fn what_is_set_aside_is_known_until_it_is_deleted_or_put_back() {
    let aside = vec![(1, of(RuleKind::Quarantine, GUARD, None)), (2, outcome(1, Attempt::quarantined()))];
    let after = |more: Vec<Entry>| {
        let found = history([aside.clone(), more.into_iter().map(|entry| (3, entry)).collect()].concat());
        (
            found.quarantined.len(),
            found.failures.len(),
            found.deleted_within_a_day(&TreeId::new("t"), Timestamp::from_secs(4)),
        )
    };
    assert_eq!(after(vec![]), (1, 0, Bytes::ZERO));
    let expiry = of(RuleKind::Orphan, GUARD, Some(1));
    assert_eq!(after(vec![expiry.clone(), outcome(3, failed())]), (1, 1, Bytes::ZERO));
    assert_eq!(
        after(vec![expiry.clone(), outcome(3, Attempt::Kept { why: "protected".to_owned() })]),
        (1, 0, Bytes::ZERO)
    );
    assert_eq!(after(vec![expiry.clone(), outcome(3, verified(false))]), (0, 0, Bytes(10)));
    assert_eq!(after(vec![expiry.clone(), outcome(3, Attempt::AlreadyGone)]), (0, 0, Bytes::ZERO));
    assert_eq!(after(vec![expiry, outcome(3, failed()), restored(1)]), (0, 0, Bytes::ZERO));
    // A person who deletes orphans by name is no guard, whose cap counts.
    let by_name = of(RuleKind::Orphan, "ops", Some(1));
    assert_eq!(after(vec![by_name, outcome(3, verified(false))]), (0, 0, Bytes::ZERO));
    for attempt in [failed(), Attempt::AlreadyGone, Attempt::Kept { why: "hold".to_owned() }] {
        let found = history(vec![(1, of(RuleKind::Quarantine, GUARD, None)), (2, outcome(1, attempt.clone()))]);
        assert_eq!((found.quarantined.len(), found.failures.len(), found.open.len()), (0, 0, 0), "{attempt:?}");
    }
}

#[test]
fn what_has_been_in_quarantine_long_enough_is_due_once_and_only_by_a_clock_that_is_trusted() {
    let aside = vec![(1, of(RuleKind::Quarantine, GUARD, None)), (100, outcome(1, Attempt::quarantined()))];
    let due = |more: Vec<Entry>, now: i64| {
        let found = history([aside.clone(), more.into_iter().map(|entry| (101, entry)).collect()].concat());
        let moment = Moment::trusted(Timestamp::from_secs(now));
        let mut suspect = moment;
        suspect.trusted = false;
        assert!(found.past_quarantine(&TreeId::new("t"), Duration::ZERO, &suspect).is_empty());
        assert!(found.past_quarantine(&TreeId::new("other"), Duration::ZERO, &moment).is_empty());
        found.past_quarantine(&TreeId::new("t"), Duration::from_secs(60), &moment)
    };
    assert_eq!(due(vec![], 159), []);
    assert_eq!(due(vec![], 160), [Seq(1)]);
    let expiry = of(RuleKind::Orphan, GUARD, Some(1));
    assert_eq!(due(vec![expiry.clone()], 160), [], "it is being deleted");
    assert_eq!(due(vec![expiry.clone(), outcome(3, failed())], 160), [], "it is tried again by itself");
    let closed = note(NoteKind::FailureClosed, "let it be");
    assert_eq!(due(vec![expiry, outcome(3, failed()), closed], 160), [], "a person closed it");
}

/// Promise 9.
#[test]
fn acknowledging_one_cap_permits_nothing_of_the_other_and_one_run_of_orphans() {
    let tree = TreeId::new("t");
    let permitted = |entries: Vec<Entry>| {
        let found = history(entries.into_iter().map(|entry| (10, entry)).collect());
        let of = |cap| found.permitted(&tree, cap, Timestamp::from_secs(20)).map(|bytes| bytes.0);
        (of(Cap::RunShare), of(Cap::OrphanShare))
    };
    let acknowledged = |cap: Cap| note(NoteKind::CapAcknowledged, cap.as_str());
    let both = || vec![acknowledged(Cap::RunShare), acknowledged(Cap::OrphanShare)];
    let with = |more: Entry| permitted([both(), vec![more]].concat());
    assert_eq!(permitted(vec![acknowledged(Cap::OrphanShare)]), (None, Some(7)));
    assert_eq!(permitted(both()), (Some(7), Some(7)));
    for rule in [RuleKind::Orphan, RuleKind::Leftover, RuleKind::Quarantine] {
        assert_eq!(with(of(rule, GUARD, None)), (Some(7), None), "{rule}: the run begins");
    }
    assert_eq!(
        with(of(RuleKind::Orphan, GUARD, Some(1))),
        (Some(7), Some(7)),
        "what is in quarantine was capped before"
    );
    assert_eq!(with(of(RuleKind::MaxAge, GUARD, None)), (Some(7), Some(7)));
    assert_eq!(with(note(NoteKind::CapTripped, "orphan_share 5 6")), (Some(7), None));
    assert_eq!(with(note(NoteKind::CapTripped, "run_share 5 6")), (None, Some(7)));
}

/// Promise 10: which promise was broken is known after a restart.
#[test]
fn what_a_stream_lost_below_its_keep_is_remembered_by_its_newest_recording() {
    let below = |recorded: Option<i64>, rule: RuleKind, retry_of: Option<u64>| {
        let Entry::Intent(mut intent) = intent(Trigger::Pressure, retry_of) else { unreachable!("it is one") };
        (intent.target.rule, intent.target.recorded) = (rule, recorded.map(Timestamp::from_secs));
        Entry::Intent(intent)
    };
    let check = |entries: Vec<(i64, Entry)>, expected: Option<(i64, i64)>| {
        let found = history(entries);
        let lost = found.lost.get(&(TreeId::new("t"), "s".to_owned()));
        let lost = lost.map(|loss| (loss.recorded.secs(), loss.at.secs()));
        assert_eq!((lost, found.lost.len()), (expected, usize::from(expected.is_some())));
    };
    let keep = RuleKind::BelowKeep;
    check(vec![(50, below(Some(9), keep, None)), (51, outcome(1, verified(false)))], Some((9, 51)));
    // What was beyond its `keep`, is still there, was gone before, or bears no time is no loss.
    check(vec![(50, below(Some(9), RuleKind::Pressure, None)), (51, outcome(1, verified(false)))], None);
    check(vec![(50, below(Some(9), keep, None)), (51, outcome(1, failed()))], None);
    check(vec![(50, below(Some(9), keep, None)), (51, outcome(1, Attempt::AlreadyGone))], None);
    check(vec![(50, below(None, keep, None)), (51, outcome(1, verified(false)))], None);
    // An older one that succeeds later changes nothing but when that was.
    check(
        vec![
            (50, below(Some(9), keep, None)),
            (51, below(Some(12), keep, None)),
            (52, outcome(1, failed())),
            (53, outcome(2, verified(false))),
            (60, below(Some(9), keep, Some(1))),
            (61, outcome(5, verified(false))),
        ],
        Some((12, 61)),
    );
}

#[test]
fn copies_that_come_to_their_end_count_against_the_cap_of_their_archive() {
    let archive = ArchiveId::new("bucket `7`: x");
    let path = RelPath::new(b"live/a\n`: .mp4").unwrap();
    let text = removal_text(&path, &archive, "max_age, recorded then");
    let found = history(vec![
        (1, note(NoteKind::ArchiveRemoving, &text)),
        (2, note(NoteKind::ArchiveRemoved, &text)),
        (3, note(NoteKind::ArchiveKept, &text)),
    ]);
    let of = |name: &str| found.deleted_within_a_day(&TreeId::new(name), Timestamp::from_secs(5));
    assert_eq!((of("bucket `7`: x"), of("t")), (Bytes(7), Bytes::ZERO));
}
