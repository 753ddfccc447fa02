use super::*;
use crate::domain::deletion::{Attempt, Cause, RuleKind, Target, Trigger};
use crate::domain::gap_story::Act;

/// The moment that is asked about; recordings are five minutes long.
const ASKED: i64 = 1_000_100;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn trace(name: &str, begin: i64) -> Trace {
    Trace {
        path: path(name),
        begin: at(begin),
        end: Some(at(begin + 300)),
        bytes: Bytes::MIB,
        presence: Presence::Absent,
        deeds: Vec::new(),
        witnesses: Vec::new(),
        heard: None,
    }
}

fn there(name: &str, begin: i64) -> Trace {
    Trace { presence: Presence::There { unfinished: false, remarks: Vec::new() }, ..trace(name, begin) }
}

fn heard(trace: Trace) -> Trace {
    let (told, text) = (trace.begin.plus(Duration::from_secs(300)), "media server zlm-1 told of it");
    Trace { heard: Some(told), witnesses: vec![Proof::new(ProofSource::Hooks, Some(told), text)], ..trace }
}

fn intended(seq: u64, rule: RuleKind, trigger: Trigger) -> Deed {
    let target = Target {
        tree: TreeId::new("live"),
        path: path("asked.mp4"),
        stream: "live/cam".to_owned(),
        bytes: Bytes::MIB,
        inode: 1,
        fingerprint: 2,
        rule,
        trigger,
        reason: "older than 30d".to_owned(),
        recorded: None,
    };
    let intent = Intent { target, who: "guard".to_owned(), job: None, run: 7, retry_of: None };
    Deed { seq: Seq(seq), at: at(2_000_000), act: Act::Intended(Box::new(intent)) }
}

fn ended(seq: u64, intent: u64, attempt: Attempt) -> Deed {
    Deed { seq: Seq(seq), at: at(2_000_001), act: Act::Ended { intent: Seq(intent), attempt } }
}

fn restored(seq: u64, how: &str) -> Deed {
    Deed { seq: Seq(seq), at: at(2_000_002), act: Act::Restored { who: "ops".to_owned(), how: how.to_owned() } }
}

fn verified() -> Attempt {
    Attempt::Verified { freed: Bytes::MIB, shared: Bytes::ZERO, open: false }
}

fn failed() -> Attempt {
    Attempt::Failed { cause: Cause::Io, error: "bad sector".to_owned(), holder: None }
}

/// Neighbours that a hook told of, on both sides of a hole of one slice.
fn neighbours() -> Vec<Trace> {
    vec![heard(there("before.mp4", 999_700)), heard(there("after.mp4", 1_000_300))]
}

fn evidence(traces: Vec<Trace>) -> Evidence {
    let run = RunEnd { seq: Seq(90), at: at(2_000_009), reclaimed: Bytes::MIB, text: "reached_low".to_owned() };
    Evidence {
        tree: TreeId::new("live"),
        span: Span { from: at(ASKED), to: at(ASKED) },
        traces,
        slice: Duration::from_secs(300),
        stops: Vec::new(),
        runs: BTreeMap::from([(7, run)]),
        starts: vec![(Seq(1), at(900_000))],
        doubts: Vec::new(),
        deaf: Vec::new(),
        context: Vec::new(),
    }
}

fn stop(from: i64, to: Option<i64>) -> Stop {
    Stop {
        stopped: (Seq(50), at(from)),
        released: to.map(|to| (Seq(51), at(to))),
        media_server: "zlm-1".to_owned(),
        why: "the volume is critical".to_owned(),
    }
}

/// The only answer, whether its sentence has a part, and whether any of its proofs has another.
fn check(name: &str, evidence: &Evidence, verdict: GapVerdict, summary: &str, proof: &str) {
    let found = explain(evidence);
    let [one] = found.as_slice() else { panic!("{name}: {found:?}") };
    assert_eq!(one.verdict, verdict, "{name}: {one:?}");
    assert!(one.summary.contains(summary), "{name}: {}", one.summary);
    assert!(one.proofs.iter().any(|one| one.text.contains(proof)), "{name}: {proof}: {:?}", one.proofs);
}

/// Promise 10, recording by recording.
#[test]
fn each_fate_of_a_recording_has_its_verdict() {
    use GapVerdict::{Archived, Deleted, Quarantined, Recorded, Removed, Unknown};
    use RuleKind::{MaxAge, Quarantine};
    let asked = || trace("asked.mp4", 1_000_000);
    let (gone, aside) = (|| intended(10, MaxAge, Trigger::Retention), || intended(10, Quarantine, Trigger::Orphan));
    let table: Vec<(&str, Trace, GapVerdict, &str, &str)> = vec![
        ("there", there("asked.mp4", 1_000_000), Recorded, "is there", "it is there"),
        (
            "unfinished",
            Trace { presence: Presence::There { unfinished: true, remarks: vec!["hold 3".to_owned()] }, ..asked() },
            Recorded,
            "not finished",
            "hold 3",
        ),
        (
            "unclear",
            Trace { presence: Presence::Unclear("it hangs".to_owned()), ..asked() },
            Unknown,
            "cannot be looked for (it hangs)",
            "it hangs",
        ),
        (
            "deleted",
            Trace { deeds: vec![gone(), ended(11, 10, verified())], ..asked() },
            Deleted,
            "rule max_age (older than 30d), trigger retention, run 7, wanted by guard",
            "the run ended, 1 MiB came back",
        ),
        (
            "archived",
            Trace { deeds: vec![intended(10, MaxAge, Trigger::Archive), ended(11, 10, verified())], ..asked() },
            Archived,
            "`archive restore` brings it back",
            "looked for and not found",
        ),
        (
            "deleted at last",
            Trace { deeds: vec![gone(), ended(11, 10, failed()), gone(), ended(13, 10, verified())], ..asked() },
            Deleted,
            "was deleted by this guard",
            "bad sector",
        ),
        ("open", Trace { deeds: vec![gone()], ..asked() }, Unknown, "has no outcome yet", "it was to be deleted"),
        (
            "gone before we came",
            Trace { deeds: vec![gone(), ended(11, 10, Attempt::AlreadyGone)], ..asked() },
            Removed,
            "was gone before this guard came",
            "it was gone before",
        ),
        (
            "gone after a failure",
            Trace {
                deeds: vec![gone(), ended(11, 10, failed()), gone(), ended(13, 10, Attempt::AlreadyGone)],
                ..asked()
            },
            Unknown,
            "or somebody else",
            "bad sector",
        ),
        (
            "failed, and then gone",
            Trace { deeds: vec![gone(), ended(11, 10, failed())], ..asked() },
            Unknown,
            "that attempt may have done it after all",
            "bad sector",
        ),
        (
            "kept, and then gone",
            Trace { deeds: vec![gone(), ended(11, 10, Attempt::Kept { why: "hold".to_owned() })], ..asked() },
            Removed,
            "was there and is not",
            "it was kept: hold",
        ),
        (
            "set aside",
            Trace { deeds: vec![aside(), ended(11, 10, Attempt::quarantined())], ..asked() },
            Quarantined,
            "`storage-guard orphans restore`",
            "it was set aside",
        ),
        (
            "put back, and then gone",
            Trace { deeds: vec![aside(), ended(11, 10, Attempt::quarantined()), restored(12, "")], ..asked() },
            Removed,
            "somebody else did",
            "put back from quarantine, by ops",
        ),
        (
            "lost from quarantine",
            Trace { deeds: vec![aside(), ended(11, 10, Attempt::quarantined()), restored(12, "nowhere")], ..asked() },
            Removed,
            "in quarantine no more: nowhere",
            "nowhere",
        ),
        ("known by a hook", heard(asked()), Removed, "was told of and is not there", "zlm-1 told of it"),
    ];
    for (name, trace, verdict, summary, proof) in table {
        let alone = evidence(vec![trace.clone()]);
        check(name, &alone, verdict, summary, proof);
        // Neighbours change nothing.
        check(name, &evidence([neighbours(), vec![trace]].concat()), verdict, summary, proof);
    }
    let doubtful = Evidence { doubts: vec!["the journal is not whole".to_owned()], ..evidence(vec![heard(asked())]) };
    check("not whole", &doubtful, Unknown, "whether this guard deleted it cannot be told", "the journal is not whole");
}

#[test]
fn never_recorded_needs_hooks_on_both_sides_and_a_guard_that_listened() {
    use GapVerdict::{NeverRecorded, Unknown};
    let sure = evidence(neighbours());
    check("heard on both sides", &sure, NeverRecorded, "none between", "before it: `before.mp4`");
    check("and its evidence", &sure, NeverRecorded, "nothing was recorded", "after it: `after.mp4`");
    let with = |change: &dyn Fn(&mut Evidence)| {
        let mut changed = sure.clone();
        change(&mut changed);
        changed
    };
    let silent = |at: usize| {
        with(&|evidence| {
            evidence.traces[at].heard = None;
        })
    };
    let table: Vec<(&str, Evidence, &str)> = vec![
        ("nothing known", evidence(Vec::new()), "no recording before it is known"),
        ("no hook before", silent(0), "told of a recording before it"),
        ("no hook after", silent(1), "told of a recording after it"),
        ("started in it", with(&|evidence| evidence.starts.push((Seq(2), at(ASKED + 50)))), "was started again"),
        ("started before it was told", with(&|e| e.starts.push((Seq(2), at(1_000_550)))), "was started again"),
        ("never started", with(&|evidence| evidence.starts.clear()), "no start of the guard"),
        ("no such catalogue", with(&|e| e.deaf.push("no catalogue of kind `hooks`".to_owned())), "kind `hooks`"),
        ("disk unread", with(&|e| e.doubts.push("a directory cannot be read".to_owned())), "cannot be read"),
    ];
    for (name, evidence, proof) in &table {
        check(name, evidence, Unknown, "nobody can tell", proof);
    }
    let later = with(&|evidence| evidence.starts.push((Seq(2), at(1_000_601))));
    check("started after it was told", &later, NeverRecorded, "nothing was recorded", "not again until that was told");
}

#[test]
fn what_was_stopped_by_us_was_never_recorded_for_that_reason() {
    use GapVerdict::{NeverRecorded, Unknown};
    // Nobody needs to hear of what was not to be.
    let stopped = |stops: Vec<Stop>| Evidence { stops, deaf: vec!["no hooks".to_owned()], ..evidence(neighbours()) };
    let covering = stopped(vec![stop(ASKED - 10, Some(ASKED + 10))]);
    check("stopped", &covering, NeverRecorded, "the volume is critical", "recording was stopped by media server zlm-1");
    check("still stopped", &stopped(vec![stop(ASKED, None)]), NeverRecorded, "had recording stopped", "before it");
    check("released before", &stopped(vec![stop(ASKED - 10, Some(ASKED))]), Unknown, "nobody can tell", "no hooks");
    check("stopped later", &stopped(vec![stop(ASKED + 1, None)]), Unknown, "nobody can tell", "no hooks");
    let doubtful = Evidence { doubts: vec!["it hangs".to_owned()], ..covering };
    check("but the disk hangs", &doubtful, Unknown, "recording was stopped by this guard", "it hangs");
}

/// Verdict, beginning, end and files of each finding of a span.
fn parts(evidence: &Evidence) -> Vec<(GapVerdict, i64, i64, u64)> {
    explain(evidence).iter().map(|one| (one.verdict, one.from.secs(), one.to.secs(), one.files)).collect()
}

#[test]
fn a_span_is_told_part_by_part() {
    use GapVerdict::{Deleted, NeverRecorded, Recorded};
    let deleted = |name: &str, begin: i64, seq: u64| {
        let deeds = vec![intended(seq, RuleKind::MaxAge, Trigger::Retention), ended(seq + 1, seq, verified())];
        Trace { deeds, ..heard(trace(name, begin)) }
    };
    let traces = vec![
        heard(there("e.mp4", 1_001_500)),
        heard(there("a.mp4", 1_000_000)),
        deleted("b.mp4", 1_000_302, 10),
        deleted("c.mp4", 1_000_602, 12),
        heard(there("d.mp4", 1_001_200)),
    ];
    let span = Span { from: at(1_000_100), to: at(1_001_300) };
    let whole = Evidence { span, ..evidence(traces) };
    // Two seconds between two slices are no hole; three hundred are one.
    let expected = [
        (Recorded, 1_000_000, 1_000_302, 1),
        (Deleted, 1_000_302, 1_000_902, 2),
        (NeverRecorded, 1_000_902, 1_001_200, 0),
        (Recorded, 1_001_200, 1_001_500, 1),
    ];
    assert_eq!(parts(&whole), expected);
    let found = explain(&whole);
    assert_eq!((found[1].path.as_ref(), found[1].last.as_ref()), (Some(&path("b.mp4")), Some(&path("c.mp4"))));
    assert!(
        found[1].summary.starts_with("2 recordings, `b.mp4` to `c.mp4`, 2 MiB: they were deleted"),
        "{}",
        found[1].summary
    );
    // Where it was stopped in the middle of a hole, that is a part of its own.
    let stopped = Evidence { stops: vec![stop(1_001_000, Some(1_001_100))], ..whole };
    let holes: Vec<_> =
        parts(&stopped).into_iter().filter(|(.., files)| *files == 0).map(|(_, from, to, _)| (from, to)).collect();
    assert_eq!(holes, [(1_000_902, 1_001_000), (1_001_000, 1_001_100), (1_001_100, 1_001_200)]);
}

#[test]
fn an_end_that_nobody_measured_is_where_the_next_begins_but_not_beyond_the_longest_slice() {
    let open = |name: &str, begin: i64| Trace { end: None, ..there(name, begin) };
    let asked = |moment: i64, slice: u64, traces: Vec<Trace>| {
        let span = Span { from: at(moment), to: at(moment) };
        let found = explain(&Evidence { span, slice: Duration::from_secs(slice), ..evidence(traces) });
        (found[0].verdict == GapVerdict::Recorded).then(|| found[0].to.secs())
    };
    let two = || vec![open("a.mp4", 1000), open("b.mp4", 1200)];
    assert_eq!(asked(1100, 300, two()), Some(1200));
    assert_eq!(asked(1100, 60, two()), None);
    assert_eq!(asked(1250, 60, two()), Some(1260));
    assert_eq!(asked(4000, 0, two()), Some(1200 + 3600), "an hour where no slice tells");
    // A copy bears the time at which it was made.
    let copied = Trace { end: Some(at(1000 + 90_000)), ..there("a.mp4", 1000) };
    assert_eq!(asked(5000, 300, vec![copied]), None);
}
