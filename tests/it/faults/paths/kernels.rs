//! Kernels without `openat2`, `statx`, `renameat2`: the calls answer ENOSYS, as they do there.

use std::process::{Command, Output};

use super::mixed::{journal, left, verified};
use crate::reclaim::Bed;
use crate::support::{Mounted, guard};

/// Runs the program with these system calls failing or killing it.
pub(super) fn traced(inject: &[&str], args: &[&str]) -> Output {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]);
    let calls: Vec<&str> = inject.iter().map(|one| one.split(':').next().unwrap()).collect();
    command.args(["-e", &format!("trace={}", calls.join(","))]);
    for one in inject {
        command.args(["-e", &format!("inject={one}")]);
    }
    command.arg(env!("CARGO_BIN_EXE_storage-guard")).args(args).output().unwrap()
}

fn check(missing: &[&str]) {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    let path = config.to_str().unwrap();
    let inject: Vec<String> = missing.iter().map(|call| format!("{call}:error=ENOSYS")).collect();
    let inject: Vec<&str> = inject.iter().map(String::as_str).collect();
    let output = traced(&inject, &["reclaim", "-c", path]);
    assert_eq!(output.status.code(), Some(0), "{missing:?}: {}", String::from_utf8_lossy(&output.stderr));
    bed.oldest_are_gone(&std::collections::BTreeSet::new());
    bed.at_the_low_mark();
    assert_eq!(verified(&config).len(), bed.gone(), "{missing:?}");
    assert_eq!(left(&bed.tree()), 0, "{missing:?}");
    let told = traced(&inject, &["status", "--json", "-c", path]);
    let status: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(status["volumes"][0]["fallbacks"], serde_json::json!(missing), "{status}");
    let screen = traced(&inject, &["status", "-c", path]);
    let screen = String::from_utf8(screen.stdout).unwrap();
    assert!(screen.contains(&format!("the kernel has no {}", missing.join(", "))), "{screen}");
}

/// Promise 1, on kernels before Linux 5.6.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn without_openat2_a_run_ends_the_same_and_says_so() {
    check(&["openat2"]);
}

/// Promise 1, on kernels before Linux 4.11.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn without_statx_a_run_ends_the_same_and_says_so() {
    check(&["statx"]);
}

/// Promise 1, on kernels before Linux 3.15.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn without_renameat2_a_run_ends_the_same_and_says_so() {
    check(&["renameat2"]);
}

/// Promise 1, on the oldest kernels.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn without_any_of_them_a_run_ends_the_same_and_says_so() {
    check(&["openat2", "statx", "renameat2"]);
}

/// Kills a run at a system call, settles with other system calls, and says how many of the recordings are gone, and the journal's
/// outcomes.
fn settled(kill: &str, change: impl FnOnce(&Bed), inject: &[&str]) -> (usize, Vec<String>) {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    let path = config.to_str().unwrap();
    let killed = traced(&[kill], &["reclaim", "-c", path]);
    assert_ne!(killed.status.code(), Some(0), "it was not killed");
    change(&bed);
    // From now on there is no pressure, so that settling is all that happens.
    let text = std::fs::read_to_string(&config).unwrap().replace("high: 70%, low: 50%", "high: 98%, low: 97%");
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    std::fs::write(&config, text).unwrap();
    let output =
        if inject.is_empty() { guard(&["reclaim", "-c", path]) } else { traced(inject, &["reclaim", "-c", path]) };
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(left(&bed.tree()), 0, "{}", String::from_utf8_lossy(&output.stderr));
    let entries = journal(&config);
    let deletions = entries.iter().filter(|entry| entry["kind"] == "deletion");
    let outcomes = deletions.map(|entry| entry["outcome"].as_str().unwrap_or("open").to_owned());
    (bed.gone(), outcomes.collect())
}

/// A crash with one kernel, settled with another: a fingerprint that cannot be compared never ends in a deletion, nor in the claim
/// of one. The first rename of each run is the probe of the kernel, the second sets a file aside.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn what_another_kernel_left_open_is_kept() {
    let (gone, outcomes) = settled("renameat2:signal=KILL:when=2", |_| (), &["statx:error=ENOSYS"]);
    assert_eq!(gone, 0);
    assert!(!outcomes.is_empty() && outcomes.iter().all(|outcome| outcome == "kept"), "{outcomes:?}");
    // Killed before the unlink: the file is set aside. The first unlinks make room for marker and canary.
    let (gone, outcomes) = settled("unlinkat:signal=KILL:when=3", |_| (), &["statx:error=ENOSYS"]);
    assert_eq!(gone, 0);
    assert!(!outcomes.is_empty() && outcomes.iter().all(|outcome| outcome == "kept"), "{outcomes:?}");
}

/// Without `renameat2` a file that is put back has two names for a moment; a crash then costs it only the one that is ours.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn a_crash_between_link_and_unlink_costs_only_our_name() {
    let twice = |bed: &Bed| {
        let folder = std::fs::read_dir(bed.tree().join(".storage-guard")).unwrap();
        let aside = folder.map(|entry| entry.unwrap().path()).find(|path| !path.ends_with("marker")).unwrap();
        let missing = (0..bed.made.len()).find(|at| !bed.exists(*at)).unwrap();
        std::fs::hard_link(aside, bed.file(missing)).unwrap();
    };
    for inject in [&[][..], &["renameat2:error=ENOSYS"]] {
        let (gone, outcomes) = settled("unlinkat:signal=KILL:when=3", twice, inject);
        assert_eq!(gone, 0);
        assert!(outcomes.iter().all(|outcome| outcome == "kept"), "{outcomes:?}");
    }
}
