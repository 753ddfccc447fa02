//! Section C of the fault catalogue: space that is not what it seems.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted, guard, json, pause, recording, run, wait_for};

const MIB: usize = 1 << 20;
const DAY: Duration = Duration::from_secs(86_400);

/// Bytes used and available.
fn space(path: &Path) -> (u64, u64) {
    run("sync", &["-f", path.to_str().unwrap()]);
    let stat = rustix::fs::statvfs(path).unwrap();
    ((stat.f_blocks - stat.f_bfree) * stat.f_frsize, stat.f_bavail * stat.f_frsize)
}

fn alerts(daemon: &Daemon) -> Vec<serde_json::Value> {
    let all: serde_json::Value = serde_json::from_str(&daemon.get("/api/v1/alerts")).unwrap();
    all["items"].as_array().unwrap().clone()
}

fn alert(daemon: &Daemon, name: &str) -> Option<serde_json::Value> {
    alerts(daemon).into_iter().find(|alert| alert["alert"] == name)
}

/// The oldest are shared with copies, and would give nothing back.
fn check_copies(volume: Mounted) {
    let bed = Bed::new(volume, 300);
    let copies = bed.volume.path().join("copies");
    std::fs::create_dir(&copies).unwrap();
    for at in 0..50 {
        let copy = copies.join(at.to_string());
        run("cp", &["--reflink=always", bed.file(at).to_str().unwrap(), copy.to_str().unwrap()]);
    }
    run("sync", &["-f", copies.to_str().unwrap()]);
    let config = bed.config("", "");
    let plan = json(&["plan", "-c", config.to_str().unwrap()]);
    let spared = plan["items"][0]["spared"].as_array().unwrap();
    let shared = spared.iter().find(|spared| spared["reason"] == "shared");
    assert_eq!(shared.unwrap()["files"], 50, "{spared:?}");
    let output = guard(&["reclaim", "-c", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert!((0..50).all(|at| bed.exists(at)), "some went, and gave nothing back");
    assert!((50..100).all(|at| !bed.exists(at)));
    let (used, available) = space(bed.volume.path());
    assert!(available + (MIB as u64) >= used, "{used} used, {available} available");
}

/// Fault 40.
#[test]
#[ignore = "needs root and a loop device"]
fn recordings_that_are_shared_with_copies_stay_while_others_give_space_back() {
    check_copies(Mounted::xfs(400));
    check_copies(Mounted::btrfs(420));
}

/// Fault 40. What nobody counts on may go: retention is no matter of space.
#[test]
#[ignore = "needs root and a loop device"]
fn retention_deletes_what_is_shared() {
    let bed = Bed::new(Mounted::btrfs(420), 30);
    let top = bed.volume.path().to_str().unwrap().to_owned();
    run("btrfs", &["-q", "subvolume", "snapshot", "-r", &top, &format!("{top}/snapshot")]);
    let config = bed.config("    retention: [ { stream: \"**\", max_age: 6d } ]\n", "");
    guard(&["reclaim", "-c", config.to_str().unwrap()]);
    assert!(bed.gone() > 10, "{}", bed.gone());
}

/// The probe file comes back, and is gone.
fn check_canary(volume: Mounted) {
    let bed = Bed::new(volume, 30);
    let config = bed.config("", "");
    let daemon = Daemon::start(&config, &bed.state());
    let mut volume = serde_json::Value::Null;
    wait_for("the probe file was heard", || {
        volume = daemon.status().unwrap()["volumes"][0].clone();
        volume.get("canary_at").is_some()
    });
    assert_eq!(volume.get("canary_problem"), None, "{volume}");
    assert!(!bed.tree().join(".storage-guard/canary").exists());
    assert!(alerts(&daemon).is_empty());
    assert_eq!(bed.gone(), 0);
}

/// Faults 38, 39.
#[test]
#[ignore = "needs root and a loop device"]
fn where_space_comes_back_the_canary_says_nothing() {
    check_canary(Mounted::ext4(400));
    check_canary(Mounted::xfs(400));
    check_canary(Mounted::btrfs(420));
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_recycle_bin_is_found_before_the_emergency() {
    let bed = Bed::new(Mounted::ext4(400), 30);
    let config = bed.config("", "");
    let bin = bed.volume.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let (stop, canary) = (Arc::new(AtomicBool::new(false)), bed.tree().join(".storage-guard/canary"));
    let stopped = stop.clone();
    let keeper = std::thread::spawn(move || {
        let mut kept = 0;
        while !stopped.load(Ordering::Relaxed) {
            kept += u32::from(std::fs::hard_link(&canary, bin.join(kept.to_string())).is_ok());
            pause(Duration::from_millis(1));
        }
    });
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("somebody is told", || alert(&daemon, "SpaceNotReclaimed").is_some());
    stop.store(true, Ordering::Relaxed);
    keeper.join().unwrap();
    let told = alert(&daemon, "SpaceNotReclaimed").unwrap();
    assert_eq!(told["severity"], "warning");
    let text = told.to_string();
    assert!(text.contains("did not come back") && text.contains("recycle bin"), "{text}");
    assert_eq!(bed.gone(), 0);
}

/// Fault 50. `statvfs` shows room, and whoever writes in the tree gets none: nothing is deleted blindly, and it is said.
#[test]
#[ignore = "needs root and a loop device"]
fn a_quota_is_found_before_the_recorder_runs_into_it() {
    let volume = Mounted::btrfs(420);
    let tree = volume.path().join("record");
    run("btrfs", &["-q", "subvolume", "create", tree.to_str().unwrap()]);
    let bed = Bed::new(volume, 30);
    let config = bed.config("", "");
    // First contact writes the marker.
    drop(Daemon::start(&config, &bed.state()));
    run("btrfs", &["quota", "enable", bed.volume.path().to_str().unwrap()]);
    run("btrfs", &["quota", "rescan", "-w", bed.volume.path().to_str().unwrap()]);
    run("btrfs", &["qgroup", "limit", "31M", tree.to_str().unwrap()]);
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("somebody is told", || alert(&daemon, "SpaceNotReclaimed").is_some());
    let text = alert(&daemon, "SpaceNotReclaimed").unwrap().to_string();
    assert!(text.contains("could not be written") && text.contains("quota"), "{text}");
    assert!(!tree.join(".storage-guard/canary").exists());
    assert_eq!((bed.gone(), daemon.pressure().as_str()), (0, "normal"));
}

#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn a_probe_file_that_a_crash_left_is_removed_and_nothing_else() {
    // Too small for a probe file.
    let bed = Bed::new(Mounted::ext4(64), 10);
    let config = bed.config("", "");
    drop(Daemon::start(&config, &bed.state()));
    let folder = bed.tree().join(".storage-guard");
    std::fs::write(folder.join("canary"), vec![1; MIB]).unwrap();
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("it is removed", || !folder.join("canary").exists());
    assert!(folder.join("marker").exists());
    assert!(daemon.status().unwrap()["volumes"][0].get("canary_at").is_none());
    assert_eq!(bed.gone(), 0);
}

/// Fault 41.
#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn a_sparse_recording_counts_with_what_it_occupies() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    let sparse = recording(&bed.tree(), "live/a", 30 * DAY, 4096);
    let file = std::fs::File::options().write(true).open(bed.tree().join(&sparse)).unwrap();
    file.set_len(1 << 40).unwrap();
    file.set_modified(crate::support::now() - 30 * DAY).unwrap();
    drop(file);
    let plan = json(&["plan", "-c", config.to_str().unwrap()]);
    let item = &plan["items"][0]["items"][0];
    assert_eq!((&item["path"], &item["bytes"]), (&sparse.into(), &4096.into()));
    let output = guard(&["reclaim", "-c", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(bed.gone() > 90, "a terabyte that is none made up for {} recordings", 300 - bed.gone());
}

/// Fault 42.
#[test]
#[ignore = "needs root and a loop device"]
fn what_is_reserved_for_root_is_no_room_for_a_recorder() {
    let bed = Bed::new(Mounted::new(400, "mkfs.ext4", &["-q", "-m", "50"]), 150);
    let (used, available) = space(bed.volume.path());
    // By all free blocks it would be far from its high mark.
    assert!(used * 10 > (used + available) * 7, "{used} {available}");
    let config = bed.config("", "");
    let output = guard(&["reclaim", "-c", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let (used, available) = space(bed.volume.path());
    assert!(available + (MIB as u64) >= used && bed.gone() < 75, "{used} {available} {}", bed.gone());
    assert!(bed.gone() > 30);
}

/// Fault 43.
#[test]
#[ignore = "needs root and a loop device"]
fn few_free_inodes_start_a_run_though_there_is_space() {
    let volume = Mounted::new(400, "mkfs.ext4", &["-q", "-N", "200"]);
    let inodes = rustix::fs::statvfs(volume.path()).unwrap();
    let count = inodes.f_ffree - 30;
    let bed = Bed::new(volume, 0);
    let made: Vec<String> =
        (0..count).map(|at| recording(&bed.tree(), "live/a", 20 * DAY - Duration::from_secs(at), 4096)).collect();
    let free = || rustix::fs::statvfs(bed.volume.path()).unwrap().f_ffree;
    while free() > inodes.f_files * 8 / 100 {
        recording(&bed.tree(), "live/a", 19 * DAY - Duration::from_secs(free()), 4096);
    }
    let config = bed.config("", "");
    let before = free();
    let output = guard(&["reclaim", "-c", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let low = inodes.f_files - inodes.f_files * 88 / 100;
    assert!(before < low && free() >= low && free() <= low + 6, "{before} {low} {}", free());
    assert!(!bed.tree().join(&made[0]).exists());
}

/// Fault 45.
#[test]
#[ignore = "needs root and a loop device"]
fn where_everything_is_protected_nothing_goes_and_somebody_is_told() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("    protect: [\"**\"]\n", "");
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("somebody is told", || alert(&daemon, "VolumeExhausted").is_some());
    let told = alert(&daemon, "VolumeExhausted").unwrap();
    assert_eq!(told["severity"], "critical", "{told}");
    pause(Duration::from_secs(3));
    assert_eq!((bed.gone(), daemon.pressure().as_str()), (0, "exhausted"));
}

/// Fault 47.
#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "the test's own image grows")]
fn a_volume_that_grows_is_measured_anew() {
    // The kernel lets XFS grow with fewer rights than ext4.
    let bed = Bed::new(Mounted::xfs(400), 300);
    let config = bed.config("    protect: [\"**\"]\n", "");
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("it is above its mark", || daemon.pressure() == "exhausted");
    let point = bed.volume.path();
    let image = point.parent().unwrap().join("image");
    std::fs::File::options().write(true).open(&image).unwrap().set_len(900 << 20).unwrap();
    let found = Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(point).output().unwrap();
    let device = String::from_utf8(found.stdout).unwrap().trim().to_owned();
    run("losetup", &["-c", &device]);
    run("xfs_growfs", &[point.to_str().unwrap()]);
    wait_for("there is room", || daemon.pressure() == "normal");
    assert!(daemon.status().unwrap()["volumes"][0]["size_bytes"].as_u64() > Some(800 << 20));
    assert_eq!(bed.gone(), 0);
}

/// Fault 49. A size of zero is held by the unit tests of `domain::pressure`.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn a_volume_that_cannot_be_read_is_blind_and_not_full() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", "trace=statfs,fstatfs", "-e", "inject=statfs,fstatfs:error=EIO"]);
    let output =
        command.arg(env!("CARGO_BIN_EXE_storage-guard")).args(["reclaim", "-c"]).arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!((output.status.code(), bed.gone()), (Some(1), 0), "{said}");
    assert!(said.contains("blind"), "{said}");
}

/// Others fill the volume: our recordings are not deleted for it, also not by a guard that starts again, and whoever looks finds out
/// where the space went.
#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "the test is the other writer")]
fn what_others_fill_is_theirs_also_after_a_restart() {
    let bed = Bed::new(Mounted::ext4(400), 100);
    // Nobody is blamed before a scan of after the crossing.
    let config = bed.config("", "scan_interval: 1s\n");
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("it is guarded", || daemon.pressure() == "normal");
    for (dir, mib) in [("backup/daily", 170), ("logs", 20)] {
        let dir = bed.volume.path().join(dir);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("dump"), vec![1; mib * MIB]).unwrap();
    }
    let check = |daemon: &Daemon| {
        wait_for("somebody is told", || alert(daemon, "VolumePressure").is_some());
        let text = alert(daemon, "VolumePressure").unwrap()["description"].to_string();
        assert!(text.contains("not ours to give back") && text.contains("backup/daily"), "{text}");
        assert!(!text.contains("record"), "our own tree is no foreign directory: {text}");
        let mut volume = serde_json::Value::Null;
        wait_for("all of it is not ours", || {
            volume = daemon.status().unwrap()["volumes"][0].clone();
            volume["foreign_deficit_bytes"].as_u64() > Some(80 << 20)
        });
        let first = &volume["foreign_directories"][0];
        assert!(first["path"].as_str().unwrap().ends_with("backup/daily"), "{volume}");
        // It was looked for as soon as there was pressure, while the other still wrote.
        assert!(first["bytes"].as_u64() >= Some(40 << 20), "{volume}");
        pause(Duration::from_secs(3));
        assert_eq!(bed.gone(), 0, "recordings went for what others wrote");
    };
    check(&daemon);
    let screen = guard(&["status", "--state", bed.state().to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&screen.stdout).contains("NOT OURS"));
    drop(daemon);
    check(&Daemon::start(&config, &bed.state()));
}
