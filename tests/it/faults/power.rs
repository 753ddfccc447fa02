//! Section E of the fault catalogue: the power goes at a step of a run, and what was not synced is lost.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::crash::Records;
use crate::matrix::{Bench, Disk, Scenario, Template, sample};
use crate::support::{run, scale, total};

const RECLAIM: &[&str] = &["reclaim"];
/// Calls that change what is on the disk, or order it.
const STEPS: [&str; 15] = [
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "syncfs",
    "ftruncate",
    "fallocate",
    "fsetxattr",
];
const EXT4: Disk = Disk {
    mkfs: &["mkfs.ext4", "-q", "-m", "0", "-b", "4096", "-I", "512"],
    megabytes: 64,
    options: "loop",
    state_apart: false,
};
const XFS: Disk = Disk { mkfs: &["mkfs.xfs", "-q"], megabytes: 320, options: "loop,nouuid", state_apart: false };

/// What the cuts of a test came to.
#[derive(Default)]
struct Tally {
    cuts: u64,
    came_back: u64,
    lost: u64,
    broken: Vec<String>,
}

/// Deletions by the journal, and all that it holds.
fn journal(bench: &Bench) -> Result<(BTreeSet<String>, Records), String> {
    let listed = bench.json(&["journal", "list"])?;
    let items = listed["items"].as_array().unwrap();
    let verified = items.iter().filter(|entry| entry["kind"] == "deletion" && entry["outcome"] == "verified");
    let verified = verified.map(|entry| entry["path"].as_str().unwrap().to_owned()).collect();
    Ok((verified, Records::new(&listed)))
}

/// The run ends at a call, and the filesystem with it: nothing of what it has in memory is written. With `flushed` its own log still
/// is, without the data of files: unlinks last then, and what was written and not synced does not.
fn cut(template: &Template, scenario: &Scenario, (call, when): &(String, u64), flushed: bool, tally: &mut Tally) {
    let bench = Bench::mount(template);
    bench.write_config(scenario.tree, scenario.cleanup);
    let inject = format!("inject={call}:signal=KILL:when={when}");
    let (trace, _) = bench.trace(scenario.command, &["-e", &format!("trace={call}"), "-e", &inject]);
    if !trace.contains("killed by SIGKILL") {
        return;
    }
    let in_memory = bench.recordings();
    let shutdown = if flushed { "shutdown -f" } else { "shutdown" };
    run("xfs_io", &["-x", "-c", shutdown, bench.point().to_str().unwrap()]);
    bench.restart();
    tally.cuts += 1;
    let on_disk = bench.recordings();
    tally.came_back += on_disk.keys().filter(|path| !in_memory.contains_key(*path)).count() as u64;
    let mut broken = Vec::new();
    let seen = journal(&bench).unwrap_or_else(|why| {
        broken.push(format!("after the cut: {why}"));
        Default::default()
    });
    for path in seen.0.iter().filter(|path| on_disk.contains_key(*path)) {
        broken.push(format!("`{path}` was on record as deleted, and came back"));
    }
    broken.extend(bench.recover(scenario, &template.planned));
    match journal(&bench) {
        Ok((_, now)) => {
            let lost = seen.1.lost(&now);
            if lost > 0 {
                broken.push(format!("{lost} entries of the journal are lost"));
            }
            tally.lost += lost;
        }
        Err(why) => broken.push(why),
    }
    if !broken.is_empty() {
        let mut told = format!("{} at {call} {when}, flushed {flushed}:", scenario.name);
        broken.iter().for_each(|what| write!(told, "\n    {what}").unwrap());
        tally.broken.push(told);
    }
}

/// Cuts the power at each step of a run, at some of them in the short suite.
fn check(name: &'static str, disk: Disk) {
    let template = Template::on(disk);
    // What came back is found and planned again by the first run; what settling put back, by the second.
    const AFTER: &[(&[&str], &[i32])] = &[(RECLAIM, &[0, 4]), (&["failures", "retry"], &[0, 4]), (RECLAIM, &[0, 4])];
    let scenario = Scenario { name, command: RECLAIM, after: AFTER, tree: "", cleanup: "", stay: |_| false };
    let bench = Bench::mount(&template);
    bench.write_config("", "");
    let steps: Vec<_> = bench.calls(RECLAIM).into_iter().filter(|(call, _)| STEPS.contains(&call.as_str())).collect();
    drop(bench);
    let wanted = scale(12, 10_000);
    let mut tally = Tally::default();
    for (at, step) in sample(steps, usize::try_from(wanted).unwrap()).iter().enumerate() {
        for flushed in [false, true] {
            // The short suite takes the two by turns.
            if wanted > 100 || flushed == (at % 2 == 1) {
                cut(&template, &scenario, step, flushed, &mut tally);
            }
        }
    }
    let cuts = tally.cuts;
    assert!(tally.broken.is_empty(), "{} of {cuts} cuts break it:\n{}", tally.broken.len(), tally.broken.join("\n"));
    assert!(cuts >= wanted.min(40) / 2, "only {cuts} steps were met");
    total(&format!("power cuts, {name}"), cuts);
    total(&format!("deletions that came back and were planned again, {name}"), tally.came_back);
    total(&format!("records lost, {name}"), tally.lost);
    total(&format!("invariants broken, {name}"), 0);
}

/// Fault 68.
#[test]
#[ignore = "needs root, loop devices, strace and xfs_io"]
fn power_lost_at_any_step_leaves_an_ext4_and_its_journal_in_agreement() {
    check("ext4", EXT4);
}

/// Fault 68.
#[test]
#[ignore = "needs root, loop devices, strace and xfs_io"]
fn power_lost_at_any_step_leaves_an_xfs_and_its_journal_in_agreement() {
    check("xfs", XFS);
}

/// Fault 68: the state is on a disk that keeps what the tree's disk loses.
#[test]
#[ignore = "needs root, loop devices, strace and xfs_io"]
fn power_lost_by_an_ext4_alone_brings_back_nothing_that_is_on_record_as_deleted() {
    check("ext4, state apart", Disk { state_apart: true, ..EXT4 });
}

/// Fault 68: the same on XFS.
#[test]
#[ignore = "needs root, loop devices, strace and xfs_io"]
fn power_lost_by_an_xfs_alone_brings_back_nothing_that_is_on_record_as_deleted() {
    check("xfs, state apart", Disk { state_apart: true, ..XFS });
}
