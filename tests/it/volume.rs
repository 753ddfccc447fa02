//! Decisions on real filesystems.

use crate::support::{Mounted, json, recording};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

#[test]
#[ignore = "needs root and a loop device"]
fn a_full_volume_is_planned_down_to_its_low_mark_and_no_further() {
    const MIB: usize = 1 << 20;
    let volume = Mounted::ext4(512);
    let tree = volume.path().join("record");
    let oldest = recording(&tree, "live/a", DAY * 200, 4 * MIB);
    let mut made = 1;
    // 4 MiB at a time until more than 92 % is used.
    loop {
        let stat = rustix::fs::statvfs(volume.path()).unwrap();
        let used = stat.f_blocks - stat.f_bfree;
        if used * 100 > (used + stat.f_bavail) * 92 {
            break;
        }
        let stream = if made % 2 == 0 { "live/a" } else { "live/b" };
        recording(&tree, stream, DAY * (199 - made), 4 * MIB);
        made += 1;
    }
    std::os::unix::fs::symlink("/etc", tree.join("live/a/etc")).unwrap();
    let path = tree.to_str().unwrap();
    let status = json(&["scan", "--tree", path]);
    assert_eq!(status["volumes"][0]["pressure"], "reclaiming");
    let plan = json(&["plan", "--tree", path]);
    let plan = &plan["items"][0];
    let items = plan["items"].as_array().unwrap();
    assert_eq!(items[0]["path"], oldest);
    let target = plan["target_bytes"].as_u64().unwrap();
    let bytes: Vec<u64> = items.iter().map(|item| item["bytes"].as_u64().unwrap()).collect();
    let all: u64 = bytes.iter().sum();
    assert!(all >= target && all - bytes.last().unwrap() < target, "{all} planned, {target} needed");
    assert_eq!(plan["shortfall_bytes"], 0);
    // 88 % used is the low mark of a small volume.
    let stat = rustix::fs::statvfs(volume.path()).unwrap();
    let usable = (stat.f_blocks - stat.f_bfree + stat.f_bavail) * stat.f_frsize;
    let expected = usable - usable * 88 / 100 - stat.f_bavail * stat.f_frsize;
    assert!(target.abs_diff(expected) <= 1, "{target}, {expected}");
}

#[test]
#[ignore = "needs root and a loop device"]
fn two_trees_on_one_filesystem_are_one_volume_and_other_mounts_are_passed_over() {
    let volume = Mounted::ext4(64);
    let (one, two) = (volume.path().join("one"), volume.path().join("two"));
    recording(&one, "live/a", DAY, 1000);
    recording(&two, "live/a", DAY, 1000);
    let status = json(&["scan", "--tree", one.to_str().unwrap(), two.to_str().unwrap()]);
    assert_eq!(status["volumes"].as_array().unwrap().len(), 1);
    assert_eq!(status["trees"].as_array().unwrap().len(), 2);
    let outside = tempfile::tempdir().unwrap();
    recording(outside.path(), "live/b", DAY, 1000);
    let over = json(&["scan", "--tree", outside.path().to_str().unwrap(), one.to_str().unwrap()]);
    assert_eq!(over["volumes"].as_array().unwrap().len(), 2);
    // A tree that holds a mount point is not entered there.
    let parent = volume.path().parent().unwrap();
    let around = json(&["scan", "--layout", "zlmediakit", "--tree", parent.to_str().unwrap()]);
    assert_eq!(around["trees"][0]["files"], 0);
}
