//! The second disk full, away, read-only, and the guard killed, in the middle of copying: the sources stay, and it goes on afterwards.

use std::time::Duration;

use serde_json::json;

use super::{Cold, archive_of, restore};
use crate::support::asking::{items, until};
use crate::support::{Daemon, Mounted, guard, pause, run, wait_for};

const SLOW: &str = "after: 1d, max_bytes_per_second: 2MiB";

fn problem(daemon: &Daemon) -> String {
    archive_of(daemon)["problem"].as_str().unwrap_or_default().to_owned()
}

/// Fault 62.
#[test]
#[ignore = "needs root and two loop devices"]
fn a_second_disk_that_is_full_keeps_the_sources_and_takes_them_once_it_has_room() {
    let cold = Cold::new(Mounted::ext4(100), Mounted::ext4(60), 40);
    std::fs::write(cold.disk.path().join("ballast"), vec![1; 30 << 20]).unwrap();
    run("sync", &["-f", cold.disk.path().to_str().unwrap()]);
    let config = cold.config("after: 1d", "");
    // Its critical mark would end it before the disk is full.
    let text = std::fs::read_to_string(&config).unwrap();
    let text =
        text.replace("after: 1d", "after: 1d, watermarks: { high: 80KiB free, low: 90KiB free, critical: 50KiB free }");
    std::fs::write(&config, text).unwrap();
    let daemon = Daemon::start(&config, &cold.bed.state());
    wait_for("it is full", || problem(&daemon).contains("no room"));
    cold.nothing_is_lost();
    let there = cold.copies();
    assert!(there > 5 && there < 40, "{there}");
    assert_eq!(std::fs::read_dir(cold.disk.path().join(".storage-guard")).unwrap().count(), 1, "only the marker");
    std::fs::remove_file(cold.disk.path().join("ballast")).unwrap();
    wait_for("all have moved", || cold.bed.gone() == 40);
    assert_eq!((cold.copies(), problem(&daemon)), (40, String::new()));
}

/// Fault 64: nothing is written below the mount point meanwhile.
#[test]
#[ignore = "needs root and two loop devices"]
fn a_second_disk_that_goes_away_keeps_the_sources_and_takes_them_once_it_is_back() {
    let cold = Cold::new(Mounted::ext4(100), Mounted::ext4(100), 30);
    let daemon = Daemon::start(&cold.config(SLOW, "scan_interval: 1s\n"), &cold.bed.state());
    wait_for("some have moved", || cold.bed.gone() > 2);
    run("umount", &["-l", cold.disk.path().to_str().unwrap()]);
    wait_for("it is said", || !problem(&daemon).is_empty());
    pause(Duration::from_secs(3));
    assert_eq!(std::fs::read_dir(cold.disk.path()).unwrap().count(), 0, "something was written below the mount point");
    cold.disk.mount();
    // What was verified before may have gone, and nothing else.
    cold.nothing_is_lost();
    wait_for("all have moved", || cold.bed.gone() == 30);
    assert_eq!(cold.copies(), 30);
}

#[test]
#[ignore = "needs root and two loop devices"]
fn a_second_disk_that_is_read_only_keeps_the_sources_until_it_is_not() {
    let cold = Cold::new(Mounted::ext4(100), Mounted::ext4(100), 30);
    let config = cold.config("after: 1d", "scan_interval: 1s\n");
    let marked = guard(&["init", "cold", "-c", config.to_str().unwrap()]);
    assert!(marked.status.success(), "{}", String::from_utf8_lossy(&marked.stderr));
    let mount = |how: &str| run("mount", &["-o", how, cold.disk.path().to_str().unwrap()]);
    mount("remount,ro");
    let daemon = Daemon::start(&config, &cold.bed.state());
    wait_for("it is said", || problem(&daemon).contains("ead-only"));
    pause(Duration::from_secs(2));
    assert_eq!(cold.bed.gone(), 0);
    mount("remount,rw");
    wait_for("all have moved", || cold.bed.gone() == 30);
    assert_eq!((cold.copies(), problem(&daemon)), (30, String::new()));
}

#[test]
#[ignore = "needs root and two loop devices"]
fn killed_in_the_middle_again_and_again_it_loses_nothing_and_goes_on() {
    let cold = Cold::new(Mounted::ext4(100), Mounted::ext4(100), 30);
    let config = cold.config(SLOW, "scan_interval: 1s\n");
    for round in 0..8_u64 {
        let daemon = Daemon::start(&config, &cold.bed.state());
        pause(Duration::from_millis(700 + 130 * round));
        run("kill", &["-9", &daemon.pid().to_string()]);
        drop(daemon);
        cold.nothing_is_lost();
        cold.copies();
    }
    let text = std::fs::read_to_string(&config).unwrap().replace("2MiB", "400MiB");
    std::fs::write(&config, text).unwrap();
    let _daemon = Daemon::start(&config, &cold.bed.state());
    // Who is started again and again deletes slowly; copies are no deletions.
    wait_for("all are copied", || cold.copies() == 30);
    let left = || std::fs::read_dir(cold.disk.path().join(".storage-guard")).unwrap().count();
    wait_for("only the marker is left there", || left() == 1);
    cold.nothing_is_lost();
}

/// The last reading of the volume may be older than what was brought back since.
#[test]
#[ignore = "needs root and two loop devices"]
fn nothing_is_brought_back_that_would_bring_its_volume_beyond_the_critical_mark() {
    let cold = Cold::new(Mounted::ext4(64), Mounted::ext4(64), 20);
    let config = cold.config("after: 1d", "");
    let daemon = Daemon::start(&config, &cold.bed.state());
    wait_for("all have moved", || cold.bed.gone() == 20);
    // About eight of them have room below the critical mark.
    let text = std::fs::read_to_string(&config).unwrap();
    let marks = "high: 22MiB free, low: 24MiB free, critical: 20MiB free";
    std::fs::write(&config, text.replace("high: 70%, low: 50%, critical: 99%", marks)).unwrap();
    let stat = rustix::fs::statvfs(cold.bed.volume.path()).unwrap();
    let available = usize::try_from(stat.f_bavail * stat.f_frsize).unwrap();
    std::fs::write(cold.bed.volume.path().join("ballast"), vec![1; available - (28 << 20)]).unwrap();
    run("sync", &["-f", cold.bed.volume.path().to_str().unwrap()]);
    run("kill", &["-HUP", &daemon.pid().to_string()]);
    pause(Duration::from_secs(4));
    let job = restore(&cold, &json!({"tree": "live", "paths": cold.bed.made}));
    let over = until(&daemon, job, "done");
    let [back, refused] = ["verified", "failed"].map(|outcome| over[outcome].as_u64().unwrap());
    assert!((5..=8).contains(&back) && back + refused == 20, "{over}");
    let told = items(&daemon, job);
    let refused: Vec<_> = told.iter().filter(|item| item["outcome"] == "failed").collect();
    assert!(
        refused.iter().all(|item| item["detail"].as_str().unwrap().contains("beyond its critical mark")),
        "{refused:?}"
    );
    let left = std::fs::read_dir(cold.bed.tree().join(".storage-guard")).unwrap().count();
    assert_eq!(left, 1, "only the marker");
    cold.nothing_is_lost();
    assert_eq!(cold.copies(), 20);
}

/// Copies were verified, and their sources wait for a person. What happens to a copy by then counts.
#[test]
#[ignore = "needs root and two loop devices"]
fn no_source_goes_whose_copy_is_not_there_when_it_is_to_go() {
    let cold = Cold::new(Mounted::ext4(64), Mounted::ext4(64), 12);
    let config = cold.config("after: 1d", "scan_interval: 1s\n");
    let text = std::fs::read_to_string(&config).unwrap().replace("max_share: 100%", "max_share: 1%");
    std::fs::write(&config, text).unwrap();
    let daemon = Daemon::start(&config, &cold.bed.state());
    let acknowledge = || {
        let out = guard(&["cap", "acknowledge", "live", "run_share", "--state", &cold.state()]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    wait_for("all are copied, and wait", || {
        let caps: serde_json::Value = serde_json::from_str(&daemon.get("/api/v1/caps")).unwrap();
        cold.copies() == 12 && caps["items"][0]["wanted"].as_u64().is_some()
    });
    assert_eq!(cold.bed.gone(), 0);
    // The disk is gone: nothing goes, whatever a person lets go of.
    run("umount", &["-l", cold.disk.path().to_str().unwrap()]);
    acknowledge();
    pause(Duration::from_secs(6));
    assert_eq!(cold.bed.gone(), 0);
    cold.disk.mount();
    // One copy is gone: its recording is copied again, and then all go.
    std::fs::remove_file(cold.copy(3)).unwrap();
    wait_for("all are copied", || cold.copies() == 12);
    let gone = || {
        let caps: serde_json::Value = serde_json::from_str(&daemon.get("/api/v1/caps")).unwrap();
        if caps["items"][0]["cap"] == "run_share" {
            acknowledge();
        }
        cold.nothing_is_lost();
        cold.bed.gone() == 12
    };
    wait_for("all have moved", gone);
    assert_eq!(cold.copies(), 12);
}
