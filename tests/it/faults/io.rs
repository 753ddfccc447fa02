//! Section D of the fault catalogue: filesystems that answer with errors, late, or not at all.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::misbehaving::{EACH, Misbehaving, Op, Stage, Trouble};
use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted, guard, pause, recording, run, scale, wait_for};

const DAY: Duration = Duration::from_secs(86_400);

/// Asks a daemon through its control socket: the text of the answer, and how long it took.
fn ask(state: &Path, what: &str) -> (String, Duration) {
    let (socket, url) = (state.join("control.sock"), format!("http://localhost{what}"));
    let output = Command::new("curl")
        .args(["-s", "-m", "30", "-w", "\n%{time_total}", "--unix-socket", socket.to_str().unwrap(), &url])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, took) = text.rsplit_once('\n').unwrap();
    (body.to_owned(), Duration::from_secs_f64(took.parse().unwrap()))
}

/// The sum of a metric over all series whose labels hold `of`.
fn metric(state: &Path, name: &str, of: &str) -> u64 {
    let (text, _) = ask(state, "/metrics");
    let series = text.lines().filter(|line| line.starts_with(name) && line.contains(of));
    series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

fn verified(stage: &Stage) -> u64 {
    metric(&stage.state(), "storage_guard_deletions_total", "outcome=\"verified\"")
}

fn pressure(daemon: &Daemon) -> String {
    daemon.status().map_or_else(String::new, |status| status["volumes"][0]["pressure"].as_str().unwrap().to_owned())
}

/// Fault 51.
#[test]
#[ignore = "needs root and FUSE"]
fn a_deletion_that_fails_is_tried_again_and_the_others_go_on() {
    let stage = Stage::new(32, 100);
    stage.disk.set(Op::Unlink, Trouble::Fails(libc::EIO), Some(stage.inode(0)));
    let daemon = stage.daemon("");
    wait_for("the low mark is reached without it", || daemon.reached_low());
    assert!(stage.exists(0), "it stands under its own name");
    let failures = stage.failures();
    assert_eq!((failures.len(), &failures[0]["path"]), (1, &stage.made[0].as_str().into()));
    assert_eq!(failures[0]["cause"], "io", "{failures:?}");
    assert_eq!(verified(&stage), stage.gone() as u64, "what failed is not counted");
    let (before, attempts) = (stage.disk.calls(Op::Unlink), failures[0]["attempts"].as_u64().unwrap());
    wait_for("it is tried again", || stage.failures()[0]["attempts"].as_u64() > Some(attempts + 1));
    assert!(stage.disk.calls(Op::Unlink) - before < 10, "with pauses");
    assert!(stage.aside().is_empty(), "{:?}", stage.aside());
    stage.disk.behave();
    wait_for("it is deleted", || stage.failures().is_empty());
    assert!(!stage.exists(0) && stage.aside().is_empty());
}

/// Fault 51: the way back is closed too.
#[test]
#[ignore = "needs root and FUSE"]
fn what_can_neither_be_deleted_nor_put_back_is_not_forgotten() {
    let stage = Stage::new(32, 100);
    let inode = stage.inode(0);
    stage.disk.set(Op::Unlink, Trouble::Fails(libc::EIO), Some(inode));
    stage.disk.set(Op::PutBack, Trouble::Fails(libc::EIO), Some(inode));
    let daemon = stage.daemon("");
    wait_for("the low mark is reached without it", || daemon.reached_low());
    wait_for("it is tried again", || stage.failures().first().is_none_or(|one| one["attempts"].as_u64() > Some(2)));
    let failures = stage.failures();
    assert_eq!(failures.len(), 1, "it is set aside as {:?}, and that shows", stage.aside());
    assert!(failures[0]["error"].as_str().unwrap().contains("set aside"), "{failures:?}");
    stage.disk.behave();
    wait_for("it is deleted", || stage.failures().is_empty());
    assert!(!stage.exists(0) && stage.aside().is_empty(), "{:?}", stage.aside());
}

/// A recorder's disk that answers 0 to every deletion; promise 4.
#[test]
#[ignore = "needs root and FUSE"]
fn a_filesystem_that_says_deleted_and_keeps_the_file_is_not_believed() {
    let stage = Stage::new(32, 100);
    stage.disk.set(Op::Unlink, Trouble::Lies, Some(stage.inode(0)));
    let daemon = stage.daemon("");
    wait_for("the low mark is reached without it", || daemon.reached_low());
    assert!(stage.exists(0), "it stands under its own name");
    let failures = stage.failures();
    assert_eq!((failures.len(), &failures[0]["path"]), (1, &stage.made[0].as_str().into()));
    assert!(failures[0]["error"].as_str().unwrap().contains("still there"), "{failures:?}");
    assert_eq!(verified(&stage), stage.gone() as u64);
    stage.disk.behave();
    wait_for("it is deleted", || stage.failures().is_empty());
    assert!(!stage.exists(0) && stage.aside().is_empty());
}

/// Fault 59.
#[test]
#[ignore = "needs root and FUSE"]
fn what_cannot_be_synced_does_not_count_as_deleted() {
    use std::os::unix::fs::MetadataExt as _;
    let stage = Stage::new(32, 100);
    let dir = stage.file(0).parent().unwrap().to_owned();
    let there = |at: &usize| stage.file(*at).parent() == Some(dir.as_path());
    let unsynced = (0..stage.made.len()).filter(there).count() as u64;
    stage.disk.set(Op::Fsyncdir, Trouble::Fails(libc::EIO), Some(std::fs::metadata(&dir).unwrap().ino()));
    let daemon = stage.daemon("");
    wait_for("the low mark is reached", || daemon.reached_low());
    let (gone, sure) = (stage.gone() as u64, verified(&stage));
    assert_eq!(sure, gone - unsynced, "{unsynced} of {gone} may come back after a power loss");
    let failed = metric(&stage.state(), "storage_guard_deletions_total", "outcome=\"failed\"");
    assert_eq!(failed, unsynced);
    stage.disk.behave();
    wait_for("they are looked for again", || stage.failures().is_empty());
    assert_eq!(verified(&stage), sure, "what was not there at the second look was not deleted by it");
}

/// Fault 53.
#[test]
#[ignore = "needs root and FUSE"]
fn a_filesystem_that_is_gone_is_blind_and_guarded_again_when_it_is_back() {
    let stage = Stage::new(32, 40);
    let daemon = stage.daemon("");
    wait_for("it is guarded", || pressure(&daemon) == "normal");
    for (round, error) in [libc::ESTALE, libc::ENODEV, libc::ENXIO, libc::ENOTCONN].into_iter().enumerate() {
        stage.disk.set_all(Trouble::Fails(error));
        wait_for("it is blind", || pressure(&daemon) == "blind");
        let status = daemon.status().unwrap();
        assert!(status["volumes"][0]["blind_because"].is_string(), "{status}");
        if round == 0 {
            // It fills up meanwhile.
            let tree = stage.disk.below().join("record");
            for at in 0..60 {
                recording(&tree, "live/d", 2 * DAY + Duration::from_secs(at), EACH);
            }
        }
        pause(Duration::from_secs(2));
        assert_eq!(stage.gone(), 0, "nothing is deleted without a reading");
        assert!(stage.failures().is_empty() && stage.disk.calls(Op::Unlink) == 0);
    }
    stage.disk.behave();
    wait_for("the low mark is reached", || daemon.reached_low());
    assert!(stage.gone() > 0 && stage.failures().is_empty());
    let checked = guard(&["journal", "verify", "--state", stage.state().to_str().unwrap()]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// Fault 58.
#[test]
#[ignore = "needs root and FUSE"]
fn a_directory_that_is_read_halfway_makes_the_scan_incomplete_and_nothing_new_of_it_counts_as_recorded() {
    use std::os::unix::fs::MetadataExt as _;
    let stage = Stage::new(64, 100);
    let camera = stage.disk.below().join("record/live/b");
    let daemon = stage.daemon("");
    let tree = || daemon.status().unwrap()["trees"][0].clone();
    wait_for("all is seen", || tree()["files"] == 100);
    stage.disk.set(Op::Readdir, Trouble::Halfway(libc::EIO), Some(std::fs::metadata(&camera).unwrap().ino()));
    wait_for("it is incomplete, and says so", || tree()["complete"] == false);
    let seen = tree();
    assert!(seen["problems"][0].as_str().unwrap().contains("live/b"), "{seen}");
    assert!(seen["files"].as_u64() < Some(100), "{seen}");
    stage.disk.behave();
    wait_for("all is seen again", || tree()["complete"] == true && tree()["files"] == 100);
    assert_eq!(stage.gone(), 0);
    assert_eq!(metric(&stage.state(), "storage_guard_inflow_bytes_total", ""), 0, "nothing was recorded");
}

/// Fault 60.
#[test]
#[ignore = "needs root, a loop device and FUSE"]
fn a_disk_that_hangs_is_blind_and_keeps_nobody_waiting() {
    let stage = Stage::new(32, 40);
    let other = Mounted::ext4(64);
    let beside = other.path().join("record");
    recording(&beside, "live/x", 20 * DAY, 1 << 20);
    let daemon = stage.daemon(&format!("  - {{ name: other, path: {}, layout: zlmediakit }}\n", beside.display()));
    let volume = |name: &str| {
        let status = daemon.status().unwrap();
        let volumes = status["volumes"].as_array().unwrap().clone();
        volumes.into_iter().find(|volume| volume["name"].as_str().unwrap().starts_with(name)).unwrap()
    };
    let (hung, well) = (stage.disk.path().to_str().unwrap(), other.path().to_str().unwrap());
    wait_for("both are guarded", || volume(hung)["pressure"] == "normal" && volume(well)["pressure"] == "normal");
    stage.disk.set(Op::Statfs, Trouble::Hangs, None);
    wait_for("it is blind", || volume(hung)["pressure"] == "blind");
    let why = volume(hung)["blind_because"].as_str().unwrap().to_owned();
    assert!(why.contains("hangs"), "{why}");
    stage.disk.set_all(Trouble::Hangs);
    let before = threads(&daemon);
    // The other one fills up meanwhile.
    for at in 0..50 {
        recording(&beside, "live/x", 10 * DAY + Duration::from_secs(at), 1 << 20);
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..scale(8, 60) {
        for what in ["/metrics", "/api/v1/status", "/-/healthy"] {
            let (text, took) = ask(&stage.state(), what);
            assert!(!text.is_empty(), "{what} says nothing");
            slowest = slowest.max(took);
        }
        pause(Duration::from_secs(1));
    }
    assert!(slowest < Duration::from_secs(5), "the slowest answer took {slowest:?}");
    assert!(threads(&daemon) <= before + 4, "{before} threads became {}", threads(&daemon));
    assert_eq!(volume(hung)["pressure"], "blind");
    assert!(std::fs::read_dir(beside.join("live/x")).unwrap().count() > 0);
    wait_for("the other one is brought to its low mark", || volume(well)["last_run"]["result"] == "reached_low");
    stage.disk.behave();
    wait_for("it is guarded again", || volume(hung)["pressure"] == "normal");
    assert_eq!(stage.gone(), 0);
}

/// Fault 60: the disk of somebody else.
#[test]
#[ignore = "needs root, a loop device and FUSE"]
fn a_hung_disk_that_nobody_guards_does_not_keep_the_guard_from_starting() {
    let hung = Misbehaving::new(32);
    let bed = Bed::new(Mounted::ext4(64), 45);
    let config = bed.config("", "");
    hung.set_all(Trouble::Hangs);
    let daemon = hung.daemon(&config, &bed.state());
    wait_for("the low mark is reached", || daemon.reached_low());
    run("kill", &[&daemon.pid().to_string()]);
    let state = Path::new("/proc").join(daemon.pid().to_string()).join("stat");
    wait_for("it ends, though the disk still hangs", || {
        std::fs::read_to_string(&state).is_ok_and(|text| text.contains(") Z ")) && threads(&daemon) <= 1
    });
}

fn threads(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().count()
}

/// Fault 60: in the middle of a deletion.
#[test]
#[ignore = "needs root and FUSE"]
fn a_deletion_that_hangs_leaves_the_api_alone_and_goes_on_when_the_disk_does() {
    let stage = Stage::new(32, 100);
    stage.disk.set(Op::Rename, Trouble::Hangs, Some(stage.inode(3)));
    let daemon = stage.daemon("");
    wait_for("the run is at the file that hangs", || !stage.exists(2));
    for _ in 0..scale(3, 20) {
        let (text, took) = ask(&stage.state(), "/api/v1/status");
        assert!(text.contains("\"volumes\"") && took < Duration::from_secs(5), "{took:?}: {text}");
        pause(Duration::from_secs(1));
    }
    assert!(stage.exists(3));
    stage.disk.behave();
    wait_for("the low mark is reached", || daemon.reached_low());
    assert_eq!(verified(&stage), stage.gone() as u64);
    assert!(!stage.exists(3) && stage.aside().is_empty());
}

/// Fault 61.
#[test]
#[ignore = "needs root and FUSE"]
fn a_slow_filesystem_is_scanned_and_reclaimed_all_the_same() {
    let stage = Stage::new(2, 6);
    stage.disk.set_all(Trouble::Slow(Duration::from_millis(scale(40, 200))));
    let daemon = stage.daemon("");
    let mut slowest = Duration::ZERO;
    let mut tree = |what: &str, so: &dyn Fn(&serde_json::Value) -> bool| {
        wait_for(what, || {
            let (text, took) = ask(&stage.state(), "/api/v1/status");
            slowest = slowest.max(took);
            so(&serde_json::from_str(&text).unwrap())
        });
    };
    tree("all is seen", &|status| status["trees"][0]["files"] == 6);
    tree("a run is begun", &|status| {
        let volume = &status["volumes"][0];
        volume["running_since"].is_string() || volume["last_run"].is_object()
    });
    tree("the low mark is reached", &|_| daemon.reached_low());
    assert!(slowest < Duration::from_secs(5), "the slowest answer took {slowest:?}");
    assert!(stage.gone() > 0 && stage.failures().is_empty());
}

/// Fault 54.
#[test]
#[ignore = "needs root and FUSE"]
fn a_directory_that_is_busy_stays_and_is_no_failure() {
    let stage = Stage::new(32, 100);
    stage.disk.set(Op::Rmdir, Trouble::Fails(libc::EBUSY), None);
    let daemon = stage.daemon("");
    wait_for("the low mark is reached", || daemon.reached_low());
    assert!(stage.disk.calls(Op::Rmdir) > 0, "an empty directory was tried");
    assert!(stage.file(0).parent().unwrap().is_dir() && stage.failures().is_empty());
}

/// Fault 52, by the filesystem's own error.
#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it makes the error, and the test's own configuration")]
fn a_filesystem_that_stops_itself_after_an_error_is_told_of_once_and_left_alone() {
    let bed = Bed::new(Mounted::ext4(64), 20);
    let point = bed.volume.path().to_str().unwrap().to_owned();
    run("mount", &["-o", "remount,errors=remount-ro", &point]);
    let config = bed.config("", "");
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("it is guarded", || pressure(&daemon) == "normal");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let source = mounts.lines().find(|line| line.contains(&point)).unwrap().split(' ').next().unwrap();
    let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", source.trim_start_matches("/dev/"));
    std::fs::write(trigger, "a test").unwrap();
    wait_for("it is blind", || pressure(&daemon) == "blind");
    assert_eq!(daemon.status().unwrap()["volumes"][0]["blind_because"], "it is mounted read-only");
    // Now it is above its mark.
    let text = std::fs::read_to_string(&config).unwrap().replace("high: 70%, low: 50%", "high: 20%, low: 10%");
    std::fs::write(&config, text).unwrap();
    run("kill", &["-HUP", &daemon.pid().to_string()]);
    pause(Duration::from_secs(4));
    let (alerts, _) = ask(&bed.state(), "/api/v1/alerts");
    let alerts: serde_json::Value = serde_json::from_str(&alerts).unwrap();
    let names: Vec<&str> =
        alerts["items"].as_array().unwrap().iter().map(|alert| alert["alert"].as_str().unwrap()).collect();
    assert_eq!(names, ["VolumeReadOnly"]);
    assert_eq!(metric(&bed.state(), "storage_guard_deletions_total", ""), 0, "nothing was tried");
    assert_eq!(bed.gone(), 0);
}

/// Fault 55.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn a_call_that_is_interrupted_or_must_be_made_again_is_made_again() {
    for inject in ["openat2:error=EAGAIN:when=3+3", "openat2:error=EINTR:when=2+3"] {
        let bed = Bed::new(Mounted::ext4(64), 45);
        let config = bed.config("", "");
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=openat2", "-e", &format!("inject={inject}")])
            .args([env!("CARGO_BIN_EXE_storage-guard"), "reclaim", "--json", "-c", config.to_str().unwrap()])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{inject}: {text}{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["items"][0]["result"], "reached_low", "{inject}: {report}");
        assert!(bed.gone() > 5);
    }
}
