//! Jobs that are about orphans: their numbers, and what is kept of their items.

use super::*;
use crate::daemon::jobs::Jobs;
use crate::domain::deletion::{Failure, Seq, Target, Trigger};
use crate::domain::journal::Intent;
use crate::domain::remedy::RemedyKind;
use crate::domain::units::Timestamp;
use crate::server::PageQuery;
use crate::server::records::{JobState, Problem};

fn path(name: &str) -> RelPath {
    RelPath::new(name.as_bytes()).unwrap()
}

fn done(name: &str, outcome: Outcome) -> ItemDone {
    let detail = (outcome != Outcome::Verified).then(|| format!("why {name}"));
    ItemDone { tree: TreeId::new("live"), path: path(name), bytes: Bytes(1), outcome, cause: None, detail }
}

fn target(name: &str, rule: RuleKind) -> Target {
    Target {
        tree: TreeId::new("live"),
        path: path(name),
        stream: "live/cam".to_owned(),
        recorded: None,
        bytes: Bytes(10),
        inode: 1,
        fingerprint: 1,
        rule,
        trigger: rule.trigger(),
        reason: String::new(),
    }
}

fn settled(seq: u64, name: &str, rule: RuleKind, attempt: Attempt) -> Settled {
    let intent = Intent { target: target(name, rule), who: "ops".to_owned(), job: Some(1), run: 1, retry_of: None };
    Settled { seq: Seq(seq), intent, attempt }
}

fn failed(error: &str) -> Attempt {
    Attempt::Failed { cause: Cause::InUse, error: error.to_owned(), holder: None }
}

fn verified() -> Attempt {
    Attempt::Verified { freed: Bytes(10), shared: Bytes::ZERO, open: false }
}

fn failing(id: u64) -> Failure {
    Failure {
        id,
        target: target("x", RuleKind::Orphan),
        cause: Cause::Locked,
        error: "it is immutable".to_owned(),
        holder: None,
        attempts: 3,
        next_attempt: Timestamp::from_secs(60),
        since: Timestamp::from_secs(0),
    }
}

/// total, verified, failed, waiting, kept
fn numbers(jobs: &Jobs, history: &History) -> [u64; 5] {
    let job = jobs.get(1, history).unwrap();
    [job.total, job.verified, job.failed, job.waiting, job.kept]
}

fn expanded(jobs: &mut Jobs, items: usize) {
    jobs.expand(1, Tally { files: items as u64, bytes: Bytes(10 * items as u64) });
}

#[test]
fn a_remedy_is_counted_as_it_goes_on_and_ends_as_done() {
    let (mut jobs, history) = (Jobs::default(), History::default());
    jobs.add_remedy(1, RemedyKind::Adopt);
    let state = |jobs: &Jobs| jobs.get(1, &history).unwrap().state;
    assert_eq!((state(&jobs), numbers(&jobs, &history)), (JobState::Queued, [0; 5]));
    jobs.begin(1, Timestamp::from_secs(0)).unwrap();
    expanded(&mut jobs, 3);
    expanded(&mut jobs, 1);
    jobs.item(1, done("a", Outcome::Verified));
    jobs.item(1, done("b", Outcome::Failed));
    assert_eq!((state(&jobs), numbers(&jobs, &history)), (JobState::Running, [4, 1, 1, 0, 0]));
    jobs.item(1, done("c", Outcome::Kept));
    jobs.item(1, done("d", Outcome::AlreadyGone));
    let problem = Problem { code: "failed", message: "the database does not answer".to_owned() };
    jobs.end_remedy(1, Bytes(7), Some(problem.clone()), Timestamp::from_secs(9));
    let job = jobs.get(1, &history).unwrap();
    assert_eq!((job.state, numbers(&jobs, &history)), (JobState::Done, [4, 2, 1, 0, 1]));
    assert_eq!((job.kind, job.expected_bytes, job.reclaimed_bytes), ("adopt", 40, 7));
    assert_eq!((job.problem, job.finished.as_deref()), (Some(problem), Some("1970-01-01T00:00:09Z")));
    let items = |outcome| {
        let page = PageQuery { limit: 10, cursor: None };
        let items = jobs.items(1, outcome, &page, &history).unwrap().items;
        items.into_iter().map(|item| (item.path.path, item.outcome.unwrap(), item.detail)).collect::<Vec<_>>()
    };
    let why = |name: &str, outcome: &'static str| (name.to_owned(), outcome, Some(format!("why {name}")));
    assert_eq!(
        items(None),
        [why("b", "failed"), why("c", "kept"), ("a".to_owned(), "verified", None), why("d", "already_gone")]
    );
    assert_eq!(items(Some(Outcome::Kept)), [why("c", "kept")]);
}

#[test]
fn a_deletion_that_failed_counts_by_how_it_stands_now() {
    let (mut jobs, mut history) = (Jobs::default(), History::default());
    jobs.add_remedy(1, RemedyKind::Delete);
    jobs.begin(1, Timestamp::from_secs(0)).unwrap();
    expanded(&mut jobs, 4);
    let rule = RuleKind::Orphan;
    let kept = Attempt::Kept { why: "it changed".to_owned() };
    jobs.settle(1, vec![settled(5, "a", rule, verified()), settled(6, "b", rule, failed("busy"))], &history);
    jobs.settle(1, vec![settled(7, "c", rule, failed("busy")), settled(8, "d", rule, kept)], &history);
    history.failures.extend([(6, failing(6)), (7, failing(7))]);
    jobs.end_remedy(1, Bytes(10), None, Timestamp::from_secs(9));
    let check = |history: &History, state, expected| {
        assert_eq!((jobs.get(1, history).unwrap().state, numbers(&jobs, history)), (state, expected));
    };
    check(&history, JobState::Waiting, [4, 1, 0, 2, 1]);
    let page = PageQuery { limit: 10, cursor: None };
    let item = &jobs.items(1, Some(Outcome::Failed), &page, &history).unwrap().items[0];
    assert_eq!((item.cause, item.attempts, item.detail.as_deref()), (Some("locked"), 3, Some("it is immutable")));
    // One succeeds at last, the other is closed by a person.
    history.failures.clear();
    history.closed.insert(7);
    check(&history, JobState::Done, [4, 2, 1, 0, 1]);
    let outcomes = |outcome| jobs.items(1, outcome, &page, &history).unwrap().items.len();
    assert_eq!((outcomes(Some(Outcome::Verified)), outcomes(Some(Outcome::Failed))), (2, 1));
}

#[test]
fn what_is_set_aside_has_succeeded_and_what_could_not_be_is_not_tried_again() {
    let (mut jobs, history) = (Jobs::default(), History::default());
    jobs.add_remedy(1, RemedyKind::Quarantine);
    expanded(&mut jobs, 4);
    let kept = |why: &str| Attempt::Kept { why: why.to_owned() };
    let rule = RuleKind::Quarantine;
    jobs.settle(
        1,
        vec![
            settled(5, "a", rule, kept("quarantined")),
            settled(6, "b", rule, failed("no room")),
            settled(7, "c", rule, kept("hold")),
            settled(8, "d", rule, Attempt::AlreadyGone),
        ],
        &history,
    );
    assert_eq!(numbers(&jobs, &history), [4, 2, 1, 0, 1]);
}

/// What is held in memory does not grow with the job.
#[test]
fn a_job_about_very_many_keeps_those_that_a_person_would_ask_about() {
    let (mut jobs, history) = (Jobs::default(), History::default());
    jobs.add_remedy(1, RemedyKind::Adopt);
    let (bad, good) = (UNSUCCESSFUL as u64 + 5, SUCCESSFUL as u64 + 7);
    (0..bad).for_each(|n| jobs.item(1, done(&format!("bad{n}"), Outcome::Failed)));
    (0..good).for_each(|n| jobs.item(1, done(&format!("good{n}"), Outcome::Verified)));
    let job = jobs.get(1, &history).unwrap();
    assert_eq!((job.verified, job.failed, job.items_left_out), (good, bad, 12));
    let mut cursor = None;
    let mut seen = Vec::new();
    loop {
        let page = jobs.items(1, None, &PageQuery { limit: 1000, cursor }, &history).unwrap();
        seen.extend(page.items.into_iter().map(|item| item.path.path));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(
        (seen.len(), seen[0].as_str(), seen[UNSUCCESSFUL].as_str()),
        (UNSUCCESSFUL + SUCCESSFUL, "bad0", "good0")
    );
}

#[test]
fn what_is_cancelled_does_not_begin() {
    let (mut jobs, history) = (Jobs::default(), History::default());
    jobs.add_remedy(1, RemedyKind::Delete);
    jobs.cancel(1, Timestamp::from_secs(3)).unwrap();
    assert!(jobs.begin(1, Timestamp::from_secs(0)).is_none());
    let job = jobs.get(1, &history).unwrap();
    assert_eq!((job.state, job.finished.is_some()), (JobState::Cancelled, true));
}

#[test]
fn a_job_that_is_not_over_is_never_forgotten_and_one_that_waits_last() {
    let (mut jobs, mut history) = (Jobs::default(), History::default());
    let at = Timestamp::from_secs(0);
    jobs.add_demand(1, 3, Trigger::Operator, None);
    assert!(jobs.begin(1, at).is_some());
    for id in 2..=300 {
        jobs.add_demand(id, 1, Trigger::Operator, None);
        jobs.begin(id, at).unwrap();
        if id == 2 {
            jobs.settle(id, vec![settled(9, "a", RuleKind::Requested, failed("busy"))], &history);
            history.failures.insert(9, failing(9));
        }
        jobs.end_remedy(id, Bytes::ZERO, None, at);
    }
    let state = |id| jobs.get(id, &history).ok().map(|job| job.state);
    let expected = [Some(JobState::Running), Some(JobState::Waiting), None, None, Some(JobState::Done)];
    assert_eq!([1, 2, 3, 200, 300].map(state), expected);
}

#[test]
fn the_many_jobs_of_a_platform_push_out_none_of_a_person_and_nothing_pushes_out_what_is_not_over() {
    let (mut jobs, history) = (Jobs::default(), History::default());
    let at = Timestamp::from_secs(0);
    let known =
        |jobs: &Jobs, ids: std::ops::RangeInclusive<u64>| ids.filter(|id| jobs.get(*id, &history).is_ok()).count();
    let add = |jobs: &mut Jobs, trigger, ids: std::ops::RangeInclusive<u64>, over: bool| {
        for id in ids {
            jobs.add_demand(id, 1, trigger, None);
            if over {
                jobs.begin(id, at).unwrap();
                jobs.end_remedy(id, Bytes::ZERO, None, at);
            }
        }
    };
    add(&mut jobs, Trigger::Operator, 1..=100, true);
    add(&mut jobs, Trigger::Gateway, 1001..=2000, true);
    assert_eq!((known(&jobs, 1..=100), known(&jobs, 1001..=2000)), (100, 1000));
    // Each pushes out the oldest of its own.
    add(&mut jobs, Trigger::Gateway, 2001..=2007, true);
    assert_eq!((known(&jobs, 1..=100), known(&jobs, 1001..=1007), known(&jobs, 1008..=2007)), (100, 0, 1000));
    add(&mut jobs, Trigger::Operator, 101..=103, true);
    assert_eq!((known(&jobs, 1..=3), known(&jobs, 4..=103), known(&jobs, 1001..=2007)), (0, 100, 1000));
    // What waits for its turn goes beyond the limit, and takes the place of what is over.
    add(&mut jobs, Trigger::Operator, 201..=350, false);
    assert_eq!((known(&jobs, 1..=103), known(&jobs, 201..=350), known(&jobs, 1001..=2007)), (0, 150, 1000));
    add(&mut jobs, Trigger::Gateway, 3001..=4001, false);
    assert_eq!((known(&jobs, 1001..=2007), known(&jobs, 3001..=4001), known(&jobs, 201..=350)), (0, 1001, 150));
}

#[test]
fn who_listens_hears_what_came_before_and_what_comes_until_nobody_does() {
    let (mut jobs, history) = (Jobs::default(), History::default());
    jobs.add_demand(1, 3, Trigger::Operator, None);
    jobs.item(1, done("a", Outcome::AlreadyGone));
    let feed = jobs.feed(1, &history).unwrap();
    jobs.settle(1, vec![settled(5, "b", RuleKind::Requested, verified())], &history);
    jobs.item(1, done("c", Outcome::Kept));
    let heard: Vec<_> = feed.take().0.into_iter().map(|item| (item.path.path, item.outcome)).collect();
    let wanted = [("a", "already_gone"), ("b", "verified"), ("c", "kept")];
    assert_eq!(heard, wanted.map(|(path, outcome)| (path.to_owned(), Some(outcome))));
    jobs.close_feeds();
    assert!(feed.closed());
    drop(feed);
    jobs.item(1, done("d", Outcome::Kept));
    assert!(jobs.feed(2, &history).is_err());
}

/// A day of HLS is as many items as it has files; kept whole, it is one.
#[test]
fn a_plans_directory_is_counted_by_its_files() {
    let (mut jobs, mut history) = (Jobs::default(), History::default());
    let rule = RuleKind::MaxAge;
    let unit = |name: &str| ((TreeId::new("live"), path(name)), 2);
    let all = Tally { files: 5, bytes: Bytes(50) };
    jobs.enter_plan(1, all, [unit("day"), unit("kept")].into());
    assert_eq!(numbers(&jobs, &history), [5, 0, 0, 0, 0]);
    jobs.begin(1, Timestamp::from_secs(0)).unwrap();
    let outcomes = [
        settled(1, "day/all.m3u8", rule, verified()),
        settled(2, "day/10/0.ts", rule, verified()),
        settled(3, "day/10/1.ts", rule, failed("open")),
        settled(4, "kept", rule, Attempt::Kept { why: "changed".to_owned() }),
        settled(5, "a.mp4", rule, verified()),
    ];
    jobs.advance(1, &outcomes[..2], &history);
    assert_eq!(numbers(&jobs, &history), [5, 2, 0, 0, 0]);
    jobs.advance(1, &outcomes[2..], &history);
    jobs.end(1, None, Timestamp::from_secs(9));
    history.failures.insert(3, failing(3));
    assert_eq!(numbers(&jobs, &history), [5, 3, 0, 1, 1]);
    let items = jobs.items(1, None, &PageQuery { limit: 100, cursor: None }, &history).unwrap().items;
    let paths: Vec<&str> = items.iter().map(|item| item.path.path.as_str()).collect();
    assert_eq!(paths, ["day/10/1.ts", "kept", "day/all.m3u8", "day/10/0.ts", "a.mp4"]);
}
