//! Section F of the fault catalogue: mounts and the environment.

use std::path::Path;
use std::time::Duration;

use crate::misbehaving::unshare_mounts;
use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted, guard, json, now, pause, recording, run, wait_for};

const DAY: Duration = Duration::from_secs(86_400);

/// Exit code of a command, and what it said.
fn code(args: &[&str]) -> (Option<i32>, String) {
    let output = guard(args);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Mounts `what` once more, over `point`.
fn bind(what: &Path, point: &Path) {
    run("mount", &["--bind", what.to_str().unwrap(), point.to_str().unwrap()]);
}

fn umount(point: &Path) {
    run("umount", &["-l", point.to_str().unwrap()]);
}

/// Fault 85: the recorder writes on, into the directory below.
#[test]
#[ignore = "needs root and a loop device"]
fn what_lies_below_an_unmounted_disk_is_not_the_tree() {
    unshare_mounts();
    let bed = Bed::new(Mounted::ext4(64), 10);
    let config = bed.config("", "");
    let path = config.to_str().unwrap();
    assert_eq!(code(&["init", "-c", path]).0, Some(0));
    umount(bed.volume.path());
    let (failed, _) = code(&["reclaim", "-c", path]);
    assert!(failed != Some(0) && !bed.tree().exists(), "it is not made by the guard");
    let below = recording(&bed.tree(), "live/a", 30 * DAY, 1 << 20);
    let (failed, said) = code(&["reclaim", "-c", path]);
    assert_eq!(failed, Some(1), "{said}");
    assert!(bed.tree().join(below).exists() && !bed.tree().join(".storage-guard").exists());
    bed.volume.mount();
    let (done, said) = code(&["reclaim", "-c", path]);
    assert!(matches!(done, Some(0 | 3)), "{done:?} {said}");
}

/// Fault 87: all that can be copied was copied.
#[test]
#[ignore = "needs root and a loop device"]
fn another_disk_in_the_place_of_the_first_is_blind_though_it_bears_its_marker() {
    unshare_mounts();
    let bed = Bed::new(Mounted::ext4(64), 10);
    let config = bed.config("", "");
    let daemon = Daemon::start(&config, &bed.state());
    let volume = || daemon.status().map(|status| status["volumes"][0].clone()).unwrap_or_default();
    wait_for("it is guarded", || volume()["pressure"] == "normal");
    let copy = Mounted::ext4(64);
    run("cp", &["-a", bed.tree().to_str().unwrap(), copy.path().to_str().unwrap()]);
    // It is above its mark.
    let full: Vec<_> = (0..40)
        .map(|at| recording(&copy.path().join("record"), "live/d", 20 * DAY + at * DAY / 100, 1 << 20))
        .collect();
    umount(bed.volume.path());
    wait_for("it is blind", || volume()["pressure"] == "blind");
    bind(copy.path(), bed.volume.path());
    wait_for("the marker is another's", || {
        volume()["blind_because"].as_str().is_some_and(|why| why.contains("another filesystem"))
    });
    let (refused, said) = code(&["init", "-c", config.to_str().unwrap()]);
    assert_eq!(refused, Some(5), "{said}");
    assert!(bed.gone() == 0 && full.iter().all(|file| bed.tree().join(file).exists()));
    umount(bed.volume.path());
    bed.volume.mount();
    wait_for("the first is guarded again", || volume()["pressure"] == "normal");
}

/// Fault 88.
#[test]
#[ignore = "needs root and a loop device"]
fn two_disks_that_changed_places_are_both_refused() {
    unshare_mounts();
    let (one, two) = (Bed::new(Mounted::ext4(64), 50), Mounted::ext4(64));
    let (here, there) = (one.tree(), two.path().join("record"));
    let other: Vec<_> = (0..50).map(|at| recording(&there, "live/z", 20 * DAY + at * DAY / 100, 1 << 20)).collect();
    let config = one.config("", &format!("  - {{ name: other, path: {}, layout: zlmediakit }}\n", there.display()));
    let path = config.to_str().unwrap();
    assert_eq!(code(&["init", "-c", path]).0, Some(0));
    let (first, second) = (one.home.path().join("first"), one.home.path().join("second"));
    for (keep, disk) in [(&first, one.volume.path()), (&second, two.path())] {
        std::fs::create_dir(keep).unwrap();
        bind(disk, keep);
        umount(disk);
    }
    bind(&second, one.volume.path());
    bind(&first, two.path());
    let (failed, said) = code(&["reclaim", "-c", path]);
    assert_eq!(failed, Some(1), "{said}");
    assert!(one.made.iter().all(|file| there.join(file).exists()) && other.iter().all(|file| here.join(file).exists()));
    for disk in [one.volume.path(), two.path()] {
        umount(disk);
    }
    bind(&first, one.volume.path());
    bind(&second, two.path());
    let (done, said) = code(&["reclaim", "-c", path]);
    assert_eq!(done, Some(0), "{said}");
    assert!(one.gone() > 0 && other.iter().any(|file| !there.join(file).exists()));
    for point in [one.volume.path(), two.path(), &first, &second] {
        umount(point);
    }
}

/// Fault 90.
#[test]
#[ignore = "needs root and a loop device"]
fn how_a_filesystem_is_mounted_elsewhere_and_what_it_may_not_do_is_no_fault() {
    unshare_mounts();
    let bed = Bed::new(Mounted::ext4(64), 50);
    let point = bed.volume.path();
    run("mount", &["-o", "remount,noexec,nosuid,nodev", point.to_str().unwrap()]);
    let view = bed.home.path().join("view");
    std::fs::create_dir(&view).unwrap();
    bind(point, &view);
    run("mount", &["-o", "remount,bind,ro", view.to_str().unwrap()]);
    // Through the read-only view it can be watched and planned.
    let seen = view.join("record");
    let state = bed.home.path().join("other");
    let watch = ["--layout", "zlmediakit", "--state", state.to_str().unwrap(), "--tree", seen.to_str().unwrap()];
    let plan = json(&[&["scan"], &watch[..]].concat());
    assert_ne!(plan["volumes"][0]["pressure"], "blind", "{plan}");
    let (done, said) = code(&["reclaim", "-c", bed.config("", "").to_str().unwrap()]);
    assert_eq!(done, Some(0), "{said}");
    assert!(bed.gone() > 5);
    umount(&view);
}

/// Fault 92.
#[test]
#[ignore = "needs root and a loop device"]
fn a_file_time_that_cannot_be_makes_no_recording_the_oldest() {
    let bed = Bed::new(Mounted::ext4(64), 50);
    let stamp = |at: usize, time| {
        let file = std::fs::File::options().write(true).open(bed.file(at)).unwrap();
        file.set_modified(time).unwrap();
    };
    stamp(49, std::time::SystemTime::UNIX_EPOCH);
    stamp(0, now() + 3650 * DAY);
    let (done, said) = code(&["reclaim", "-c", bed.config("", "").to_str().unwrap()]);
    assert_eq!(done, Some(0), "{said}");
    assert!(bed.exists(49), "its name says when it was recorded");
    assert!(bed.exists(0), "it may be written now");
    assert!(!bed.exists(1) && bed.gone() > 5);
}

/// Fault 89.
#[test]
#[ignore = "needs root and a loop device"]
fn a_tree_that_was_emptied_with_its_marker_is_blind_also_when_it_fills_again() {
    unshare_mounts();
    let bed = Bed::new(Mounted::ext4(64), 10);
    let daemon = Daemon::start(&bed.config("", ""), &bed.state());
    let pressure = || daemon.status().map(|status| status["volumes"][0]["pressure"].clone());
    wait_for("it is guarded", || pressure() == Some("normal".into()));
    let tree = bed.tree();
    run("find", &[tree.to_str().unwrap(), "-mindepth", "1", "-delete"]);
    wait_for("it is blind", || pressure() == Some("blind".into()));
    let new: Vec<_> = (0..50).map(|at| recording(&tree, "live/d", 20 * DAY + at * DAY / 100, 1 << 20)).collect();
    pause(Duration::from_secs(3));
    assert_eq!(pressure(), Some("blind".into()));
    assert!(new.iter().all(|file| tree.join(file).exists()) && !tree.join(".storage-guard").exists());
}
