//! Section E of the fault catalogue, first half: killed, or without power, at every step.

use crate::matrix::{Bench, Scenario, Template, immutable, matrix};
use crate::support::{run, scale, total};

const RECLAIM: &[&str] = &["reclaim"];
const RETRY: &[&str] = &["failures", "retry"];
/// An undisturbed run; then what failed is tried again; and what settling put back is seen by the next run only.
const AGAIN: &[(&[&str], &[i32])] = &[(RECLAIM, &[0, 4]), (RETRY, &[0, 4]), (RECLAIM, &[0, 4])];

fn plain(name: &'static str, command: &'static [&'static str]) -> Scenario {
    Scenario { name, command, after: AGAIN, tree: "", cleanup: "", stay: |_| false }
}

/// The second of its stream, and of its day.
fn locked(path: &str) -> bool {
    path.contains("live/b/") && path.ends_with("1.mp4")
}

fn lock(bench: &Bench, template: &Template, flag: &str) {
    for path in template.planned.keys().filter(|path| locked(path)) {
        immutable(&bench.tree().join(path), flag);
    }
}

/// Kills a run at a call; the filesystem keeps what it left.
fn kill(bench: &Bench, command: &[&str], call: &str, when: u64) {
    let (trace, _) = bench.trace(command, &["-e", &format!("inject={call}:signal=KILL:when={when}")]);
    assert!(trace.contains("killed by SIGKILL"), "it was not killed at {call} {when}");
}

fn check(template: &Template, scenario: &Scenario, short: u64, long: u64) {
    let injected = matrix(template, scenario, scale(short, long));
    assert!(injected >= scale(short, long).min(100) / 2, "only {injected} points were met");
    total(&format!("points injected, {}", scenario.name), injected);
    total(&format!("invariants broken, {}", scenario.name), 0);
}

/// Faults 51, 55, 58, 59, 66: a run that deletes, with one recording that cannot be deleted in each of two directories.
#[test]
#[ignore = "needs root, loop devices and strace"]
fn a_run_survives_each_of_its_calls_failing_or_being_its_last() {
    let template = Template::new().then(|bench, template| lock(bench, template, "+i"));
    check(&template, &Scenario { stay: locked, ..plain("reclaim", RECLAIM) }, 60, 1000);
}

/// Faults 51, 55, 59, 66: failed deletions that are tried again.
#[test]
#[ignore = "needs root, loop devices and strace"]
fn a_retry_survives_each_of_its_calls_failing_or_being_its_last() {
    let template = Template::new().then(|bench, template| {
        lock(bench, template, "+i");
        bench.write_config("", "");
        bench.must(RECLAIM);
        lock(bench, template, "-i");
    });
    check(&template, &plain("failures retry", RETRY), 20, 300);
}

/// Faults 51, 55, 59, 66: what a killed run left is settled.
#[test]
#[ignore = "needs root, loop devices and strace"]
fn settling_survives_each_of_its_calls_failing_or_being_its_last() {
    // One is unlinked, one set aside, one not begun; none has its outcome.
    let template = Template::new().then(|bench, _| {
        bench.write_config("", "");
        kill(bench, RECLAIM, "unlinkat", 2);
    });
    check(&template, &plain("settle", RECLAIM), 40, 600);
}

/// Faults 51, 55, 59, 66: what a killed run left set aside, and today's policy protects, is put back.
#[test]
#[ignore = "needs root, loop devices and strace"]
fn putting_back_survives_each_of_its_calls_failing_or_being_its_last() {
    let template = Template::new().then(|bench, _| {
        bench.write_config("", "");
        kill(bench, RECLAIM, "unlinkat", 1);
    });
    let protect = "    protect: [\"live/**\"]\n";
    check(&template, &Scenario { tree: protect, stay: |_| true, ..plain("put back", RECLAIM) }, 20, 300);
}

/// Faults 55, 59, 66: the identity marker is written, whole or not at all.
#[test]
#[ignore = "needs root, loop devices and strace"]
fn a_marker_survives_each_call_failing_or_being_the_last() {
    let template = Template::new().then(|bench, _| {
        for folder in [bench.tree().join(".storage-guard"), bench.point().join("state")] {
            run("rm", &["-r", folder.to_str().unwrap()]);
        }
    });
    // Also where the filesystem's UUID could not be read: nobody needs to accept anything.
    const AFTER: &[(&[&str], &[i32])] = &[(&["init"], &[0]), (RECLAIM, &[0])];
    check(&template, &Scenario { after: AFTER, ..plain("init", &["init"]) }, 10, 150);
}

/// Faults 55, 59, 66: a cap is acknowledged, and the run that it holds back can go on.
#[test]
#[ignore = "needs root, loop devices and strace"]
fn a_cap_survives_each_call_failing_or_being_the_last() {
    const ACKNOWLEDGE: &[&str] = &["cap", "acknowledge", "live", "run_share"];
    const AFTER: &[(&[&str], &[i32])] = &[(ACKNOWLEDGE, &[0, 5]), (RECLAIM, &[0])];
    let cleanup = "max_share: 10%, ";
    let template = Template::new().then(|bench, _| {
        bench.write_config("", cleanup);
        bench.must(RECLAIM);
        assert_eq!(bench.json(&["cap", "list"]).unwrap()["items"].as_array().unwrap().len(), 1);
    });
    check(&template, &Scenario { after: AFTER, cleanup, ..plain("cap acknowledge", ACKNOWLEDGE) }, 10, 150);
}

/// Faults 55, 59, 66: a failure is closed by a person, and stays closed.
#[test]
#[ignore = "needs root, loop devices and strace"]
fn closing_a_failure_survives_each_call_failing_or_being_the_last() {
    let mut id = String::new();
    let template = Template::new().then(|bench, template| {
        lock(bench, template, "+i");
        bench.write_config("", "");
        bench.must(RECLAIM);
        id = bench.json(&["failures", "list"]).unwrap()["items"][0]["id"].to_string();
    });
    // The scenario lives as long as the test's process.
    let close: &'static [&'static str] = vec!["failures", "close", &*id.leak(), "--reason", "let it be"].leak();
    let after: &'static [(&[&str], &[i32])] = vec![(close, &[0, 5][..])].leak();
    check(&template, &Scenario { after, stay: locked, ..plain("failures close", close) }, 10, 150);
}

const QUARANTINE: &[&str] = &["operation", "quarantine"];
const EXPIRE: &[&str] = &["operation", "expire"];
const RESTORE: &[&str] = &["operation", "restore"];

/// All that goes in the end is in quarantine.
fn quarantined() -> Template {
    Template::new().then(|bench, template| {
        bench.write_config("", "");
        bench.must(QUARANTINE);
        let there = bench.recordings();
        assert!(template.planned.keys().all(|path| !there.contains_key(path)), "they are set aside: {there:?}");
    })
}

/// Faults 51, 55, 59, 66: what is set aside as an orphan is under its name, or set aside and known.
#[test]
#[ignore = "needs root, loop devices and strace"]
fn quarantine_survives_each_of_its_calls_failing_or_being_its_last() {
    const AFTER: &[(&[&str], &[i32])] = &[(RESTORE, &[0]), (RECLAIM, &[0, 4]), (RETRY, &[0, 4]), (RECLAIM, &[0, 4])];
    let template = Template::new().then(|bench, _| bench.write_config("", ""));
    check(&template, &Scenario { after: AFTER, ..plain("quarantine", QUARANTINE) }, 40, 600);
}

/// Faults 51, 55, 59, 66: what is deleted in quarantine is deleted once.
#[test]
#[ignore = "needs root, loop devices and strace"]
fn the_end_of_quarantine_survives_each_of_its_calls_failing_or_being_its_last() {
    const AFTER: &[(&[&str], &[i32])] = &[(EXPIRE, &[0, 4]), (RETRY, &[0, 4]), (EXPIRE, &[0])];
    check(&quarantined(), &Scenario { after: AFTER, ..plain("expire", EXPIRE) }, 40, 600);
}

/// Faults 51, 55, 59, 66: what is put back from quarantine is an ordinary file afterwards.
#[test]
#[ignore = "needs root, loop devices and strace"]
fn a_restore_survives_each_of_its_calls_failing_or_being_its_last() {
    const AFTER: &[(&[&str], &[i32])] = &[(RESTORE, &[0]), (RECLAIM, &[0, 4]), (RETRY, &[0, 4]), (RECLAIM, &[0, 4])];
    check(&quarantined(), &Scenario { after: AFTER, ..plain("restore", RESTORE) }, 30, 400);
}

const COPY: &[&str] = &["operation", "cold copy"];
const BRING: &[&str] = &["operation", "cold bring"];
/// What bears its own name is whole at any time.
const WHOLE: &[&str] = &["operation", "cold whole"];
const BOTH: &[&str] = &["operation", "cold both"];

/// Faults 51, 55, 59, 66: a copy for the archive is whole, or has no name; the sources stay.
#[test]
#[ignore = "needs root, loop devices and strace"]
fn a_copy_survives_each_of_its_calls_failing_or_being_its_last() {
    const AFTER: &[(&[&str], &[i32])] = &[(WHOLE, &[0]), (COPY, &[0]), (WHOLE, &[0]), (BOTH, &[0])];
    let template = Template::new().then(|bench, _| bench.write_config("", ""));
    check(&template, &Scenario { after: AFTER, stay: |_| true, ..plain("copy", COPY) }, 60, 600);
}

/// Faults 51, 55, 59, 66: what comes back from the archive is whole, or has no name; the copies stay.
#[test]
#[ignore = "needs root, loop devices and strace"]
fn bringing_back_survives_each_of_its_calls_failing_or_being_its_last() {
    const AFTER: &[(&[&str], &[i32])] = &[(WHOLE, &[0]), (BRING, &[0]), (WHOLE, &[0]), (BOTH, &[0])];
    let template = Template::new().then(|bench, _| {
        bench.write_config("", "");
        bench.must(COPY);
        run("rm", &["-r", bench.tree().join("live/a").to_str().unwrap()]);
    });
    check(&template, &Scenario { after: AFTER, stay: |_| true, ..plain("bring back", BRING) }, 60, 600);
}

/// Promise 10: what became of an orphan can be told by its path, from the first time that it was set aside to its end.
#[test]
#[ignore = "needs root, loop devices and strace"]
fn the_journal_explains_what_became_of_an_orphan() {
    let template = Template::new();
    let bench = Bench::mount(&template);
    bench.write_config("", "");
    for what in [QUARANTINE, RESTORE, QUARANTINE, EXPIRE] {
        bench.must(what);
    }
    let path = template.planned.keys().next().unwrap();
    let told = bench.guard(&["journal", "explain", path]);
    let told = String::from_utf8(told.stdout).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    let wanted = ["quarantine set aside:", "restored from quarantine:", "quarantine set aside:", "orphan verified:"];
    assert_eq!(lines.len(), wanted.len(), "{told}");
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.contains(wanted) && line.contains(path.as_str()), "{line}");
    }
    assert!(lines[1].ends_with("by ops") && lines[3].contains("in quarantine since"), "{told}");
}
