//! What the guard refuses to do.

use std::time::Duration;

use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted, guard, pause, recording, run, wait_for};

fn code(args: &[&str]) -> (Option<i32>, String) {
    let output = guard(args);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_second_guard_a_wrong_plan_and_an_unnamed_layout_are_refused() {
    let bed = Bed::new(Mounted::ext4(64), 10);
    let config = bed.config("", "");
    let path = config.to_str().unwrap();
    let (wrong, said) = code(&["reclaim", "-c", path, "--plan", "0123456789abcdef"]);
    assert_eq!(wrong, Some(5), "{said}");
    let daemon = Daemon::start(&config, &bed.state());
    let other = bed.home.path().join("other");
    let tree = bed.tree();
    let second = ["run", "--enforce", "--layout", "zlmediakit", "--state", other.to_str().unwrap(), "--tree"];
    let (refused, said) = code(&[&second[..], &[tree.to_str().unwrap()]].concat());
    assert_eq!(refused, Some(5), "{said}");
    assert!(said.contains(&format!("process {}", daemon.pid())), "{said}");
    let auto = ["run", "--enforce", "--state", other.to_str().unwrap(), "--tree", tree.to_str().unwrap()];
    let (refused, said) = code(&auto);
    assert_eq!(refused, Some(5), "{said}");
    assert!(said.contains("zlmediakit"), "{said}");
}

#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it makes and takes away the test's own files")]
fn a_tree_without_its_marker_is_blind_until_somebody_accepts_it() {
    let bed = Bed::new(Mounted::ext4(400), 200);
    let config = bed.config("", "");
    let path = config.to_str().unwrap();
    assert_eq!(code(&["reclaim", "-c", path]).0, Some(0));
    // Another disk, so to say: the same tree, without what tells it from others.
    let folder = bed.tree().join(".storage-guard");
    std::fs::remove_file(folder.join("marker")).unwrap();
    std::fs::remove_dir(&folder).unwrap();
    for at in 0..100 {
        recording(&bed.tree(), "live/d", Duration::from_secs(20 * 86_400 + at), 1 << 20);
    }
    let before = bed.gone();
    let (failed, _) = code(&["reclaim", "-c", path]);
    assert_eq!((failed, bed.gone()), (Some(1), before));
    let (refused, said) = code(&["init", "-c", path]);
    assert_eq!(refused, Some(5), "{said}");
    assert_eq!(code(&["init", "--accept", "-c", path]).0, Some(0));
    assert_eq!(code(&["reclaim", "-c", path]).0, Some(0));
}

#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
fn a_bad_configuration_leaves_the_running_one_untouched() {
    let bed = Bed::new(Mounted::ext4(64), 10);
    let config = bed.config("", "");
    let daemon = Daemon::start(&config, &bed.state());
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, good.replace("low: 50%", "low: 99%")).unwrap();
    run("kill", &["-HUP", &daemon.pid().to_string()]);
    let log = config.with_extension("log");
    wait_for("the problem is in the log", || {
        std::fs::read_to_string(&log).unwrap().contains("the old one stays in force")
    });
    assert_eq!(daemon.status().unwrap()["mode"], "enforce");
    std::fs::write(&config, good.replace("mode: enforce", "mode: observe")).unwrap();
    run("kill", &["-HUP", &daemon.pid().to_string()]);
    wait_for("the new one is in force", || daemon.status().is_some_and(|status| status["mode"] == "observe"));
}

#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
fn with_a_cap_in_its_way_the_disk_still_never_fills() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    // The shipped cap, which a way from 78 to 50 % does not fit through.
    let text = std::fs::read_to_string(&config).unwrap().replace("max_share: 100%", "max_share: 10%");
    std::fs::write(&config, text).unwrap();
    // What is not on disk yet reserves more than it will use, and the line would be drawn too low by so much.
    run("sync", &["-f", bed.volume.path().to_str().unwrap()]);
    let daemon = Daemon::start(&config, &bed.state());
    let caps = || {
        let output = guard(&["cap", "list", "--json", "--state", bed.state().to_str().unwrap()]);
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["items"].as_array().unwrap().len()
    };
    wait_for("the cap trips", || caps() == 1);
    wait_for("what it allows is gone", || bed.gone() >= 25);
    let free = || rustix::fs::statvfs(bed.volume.path()).unwrap().f_bavail * 4096;
    pause(Duration::from_secs(2));
    let (line, gone) = (free(), bed.gone());
    assert!(gone <= 30, "{gone} are gone, though a tenth of 300 was allowed");
    // More flows in than would fit into what is left.
    let mut least = u64::MAX;
    for at in 0..120 {
        recording(&bed.tree(), "live/new", Duration::from_secs(900 + at), 1 << 20);
        least = least.min(free());
        pause(Duration::from_millis(100));
    }
    assert!(least > 0, "the disk was full");
    wait_for("the line is held", || free() + (8 << 20) > line);
    assert!(free() < line + (8 << 20), "more went than flowed in");
    let state = bed.state();
    let acknowledged = guard(&["cap", "acknowledge", "live", "run_share", "--state", state.to_str().unwrap()]);
    assert!(acknowledged.status.success(), "{}", String::from_utf8_lossy(&acknowledged.stderr));
    wait_for("the low mark is reached", || daemon.reached_low());
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_tree_that_is_not_there_is_blind_until_it_comes_back() {
    let bed = Bed::new(Mounted::ext4(64), 0);
    let config = bed.config("", "");
    let daemon = Daemon::start(&config, &bed.state());
    let pressure = || daemon.status().unwrap()["volumes"][0]["pressure"].clone();
    wait_for("it is blind", || pressure() == "blind");
    assert!(!bed.tree().exists(), "it is not made by the guard");
    recording(&bed.tree(), "live/a", Duration::from_secs(86_400), 1 << 20);
    wait_for("it is guarded", || {
        daemon
            .status()
            .is_some_and(|status| status["trees"][0]["files"] == 1 && status["volumes"][0]["pressure"] == "normal")
    });
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_filesystem_that_turns_read_only_is_blind_and_nothing_is_tried_on_it() {
    let bed = Bed::new(Mounted::ext4(64), 10);
    let config = bed.config("", "");
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("it is guarded", || daemon.status().unwrap()["volumes"][0]["pressure"] == "normal");
    run("mount", &["-o", "remount,ro", bed.volume.path().to_str().unwrap()]);
    wait_for("it is blind", || {
        let volume = &daemon.status().unwrap()["volumes"][0];
        volume["pressure"] == "blind" && volume["blind_because"].as_str().unwrap().contains("read-only")
    });
    run("mount", &["-o", "remount,rw", bed.volume.path().to_str().unwrap()]);
    wait_for("it is guarded again", || daemon.status().unwrap()["volumes"][0]["pressure"] == "normal");
}

#[test]
#[ignore = "needs root and a loop device"]
fn with_the_shipped_defaults_the_disk_never_fills_though_the_cap_trips() {
    let bed = Bed::new(Mounted::ext4(400), 334);
    let stat = || rustix::fs::statvfs(bed.volume.path()).unwrap();
    let full = stat();
    let used = (full.f_blocks - full.f_bfree) * 100 / (full.f_blocks - full.f_bfree + full.f_bavail);
    assert!(used >= 97, "{used}");
    let (state, tree) = (bed.state(), bed.tree());
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_storage-guard"))
        .args(["run", "--enforce", "--layout", "zlmediakit", "--listen", "127.0.0.1:0", "--state"])
        .arg(&state)
        .arg("--tree")
        .arg(&tree)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the first run", || bed.gone() >= 30);
    let mut least = u64::MAX;
    for at in 0..160 {
        recording(&bed.tree(), "live/new", Duration::from_secs(900 + at), 1 << 20);
        least = least.min(stat().f_bavail);
        pause(Duration::from_millis(500));
    }
    let output = guard(&["cap", "list", "--json", "--state", state.to_str().unwrap()]);
    let _ = child.kill();
    let _ = child.wait();
    assert!(least > 0, "the disk was full");
    let caps: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(caps["items"][0]["cap"], "run_share", "{caps}");
    // A fifth at first, and then as much as flowed in.
    assert!(bed.gone() <= 75 + 160 + 10, "{} are gone", bed.gone());
}

#[test]
#[ignore = "needs root and a loop device"]
fn what_was_locked_does_not_all_go_when_nobody_needs_it_any_more() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    let locked: Vec<String> = (0..100).map(|at| bed.file(at).to_str().unwrap().to_owned()).collect();
    let all: Vec<&str> = locked.iter().map(String::as_str).collect();
    run("chattr", &[&["+i"], &all[..]].concat());
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("the low mark is reached", || daemon.reached_low());
    let open = || {
        let failures: serde_json::Value = serde_json::from_str(&daemon.get("/api/v1/failures?limit=1000")).unwrap();
        failures["items"].as_array().unwrap().len()
    };
    assert_eq!(open(), 100);
    run("chattr", &[&["-i"], &all[10..]].concat());
    let gone = || (0..100).filter(|at| !bed.exists(*at)).count();
    wait_for("some are deleted", || gone() > 0);
    // What nothing hinders is a recording like any other again; what is still locked stays a failure (promise 8).
    wait_for("the others lapse", || open() == 10);
    assert!(gone() <= 8, "{} of them are gone, and the low mark was reached without them", gone());
    let lapsed = guard(&["journal", "list", "--json", "--state", bed.state().to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&lapsed.stdout).contains("a recording like any other again"));
    pause(Duration::from_secs(2));
    assert_eq!((open(), gone() <= 8), (10, true));
}

/// Promise 8: only what was locked or in use, and is not any more, is let go; whatever else fails stays a failure.
#[test]
#[ignore = "needs root and a loop device"]
fn what_still_fails_does_not_lapse() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let refusing = bed.file(40).parent().unwrap().to_owned();
    let locked: Vec<String> = (0..20).map(|at| bed.file(at).to_str().unwrap().to_owned()).collect();
    let all: Vec<&str> = locked.iter().map(String::as_str).collect();
    run("chattr", &[&["+i", refusing.to_str().unwrap()], &all[..]].concat());
    let daemon = Daemon::start(&bed.config("", ""), &bed.state());
    wait_for("the low mark is reached", || daemon.reached_low());
    run("chattr", &[&["-i"], &all[..]].concat());
    let causes = || {
        let failures: serde_json::Value = serde_json::from_str(&daemon.get("/api/v1/failures?limit=1000")).unwrap();
        let cause = |failure: &serde_json::Value| failure["cause"].as_str().unwrap().to_owned();
        failures["items"].as_array().unwrap().iter().map(cause).collect::<Vec<_>>()
    };
    wait_for("nothing is locked any more", || !causes().contains(&"locked".to_owned()));
    pause(Duration::from_secs(5));
    let left = causes();
    run("chattr", &["-i", refusing.to_str().unwrap()]);
    assert_eq!(left, ["permission", "permission"], "they stand for their directory, which still refuses");
}

/// What is spared waits, and takes nobody's place.
#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn failures_that_are_protected_now_keep_no_others_waiting() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    let locked: Vec<String> = (0..30).map(|at| bed.file(at).to_str().unwrap().to_owned()).collect();
    let all: Vec<&str> = locked.iter().map(String::as_str).collect();
    run("chattr", &[&["+i"], &all[..]].concat());
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("the low mark is reached", || daemon.reached_low());
    let protected = std::fs::read_to_string(&config).unwrap() + "    protect: [\"live/a/**\"]\n";
    std::fs::write(&config, protected).unwrap();
    run("kill", &["-HUP", &daemon.pid().to_string()]);
    // Nothing while the guard does not answer.
    let open = |stream: &str| {
        let failures: serde_json::Value = serde_json::from_str(&daemon.get("/api/v1/failures?limit=1000")).ok()?;
        let of = |failure: &&serde_json::Value| failure["path"].as_str().unwrap().starts_with(stream);
        Some(failures["items"].as_array()?.iter().filter(of).count())
    };
    let protected =
        |line: &str| line.contains("spared_bytes{tree=\"live\",reason=\"protected\"}") && !line.ends_with(" 0");
    wait_for("the configuration is in force", || daemon.get("/metrics").lines().any(protected));
    run("chattr", &[&["-i"], &all[..]].concat());
    wait_for("those of other cameras are settled", || ["live/b", "live/c"].iter().all(|of| open(of) == Some(0)));
    let there = (0..30).step_by(3).filter(|at| bed.exists(*at)).count();
    assert_eq!(there, 10, "what is protected stays");
    wait_for("it is still a failure", || open("live/a") == Some(10));
}

/// A person's request is not bound by what pressure still needs.
#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn what_was_locked_goes_when_a_person_asks_for_it() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    let slow = std::fs::read_to_string(&config).unwrap().replace("first: 1s, max: 1s", "first: 1h, max: 1h");
    std::fs::write(&config, slow).unwrap();
    let locked: Vec<String> = (0..50).map(|at| bed.file(at).to_str().unwrap().to_owned()).collect();
    let all: Vec<&str> = locked.iter().map(String::as_str).collect();
    run("chattr", &[&["+i"], &all[..]].concat());
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("the low mark is reached", || daemon.reached_low());
    run("chattr", &[&["-i"], &all[..]].concat());
    let retry = guard(&["failures", "retry", "--state", bed.state().to_str().unwrap()]);
    assert_eq!(retry.status.code(), Some(0), "{}", String::from_utf8_lossy(&retry.stderr));
    wait_for("all of them are deleted", || (0..50).all(|at| !bed.exists(at)));
    let journal = guard(&["journal", "list", "--json", "--state", bed.state().to_str().unwrap()]);
    let who = |line: &str| line.contains("\"who\": \"root\"") || line.contains("\"who\":\"root\"");
    assert!(String::from_utf8_lossy(&journal.stdout).lines().any(who), "it is on record who asked");
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_tree_above_its_budget_is_brought_below_it() {
    let bed = Bed::new(Mounted::ext4(400), 100);
    let config = bed.config("    budget: 50MiB\n", "");
    let output = guard(&["reclaim", "-c", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    // 95 % of it is where a budget's run ends.
    assert_eq!(bed.gone(), 53);
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_tree_that_is_unmounted_is_blind_and_guarded_again_once_it_is_mounted() {
    let bed = Bed::new(Mounted::ext4(64), 10);
    let config = bed.config("", "");
    let daemon = Daemon::start(&config, &bed.state());
    let pressure = || daemon.status().map(|status| status["volumes"][0]["pressure"].clone());
    wait_for("it is guarded", || pressure() == Some("normal".into()));
    let point = bed.volume.path().to_str().unwrap();
    run("umount", &["-l", point]);
    wait_for("it is blind", || pressure() == Some("blind".into()));
    assert!(!bed.tree().exists());
    bed.volume.mount();
    wait_for("it is guarded again", || pressure() == Some("normal".into()));
    assert_eq!(bed.gone(), 0);
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_directory_that_refuses_deletions_does_not_hold_up_the_rest() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    // Not the first day, of which there may be a few minutes only.
    let refusing = bed.file(40).parent().unwrap().to_owned();
    run("chattr", &["+i", refusing.to_str().unwrap()]);
    let output = guard(&["reclaim", "-c", config.to_str().unwrap()]);
    run("chattr", &["-i", refusing.to_str().unwrap()]);
    assert!(matches!(output.status.code(), Some(0 | 4)), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(bed.gone() > 90, "{} are gone", bed.gone());
    let kept = (0..300).filter(|at| bed.file(*at).parent() == Some(&refusing)).collect::<Vec<_>>();
    assert!(kept.iter().all(|at| bed.exists(*at)));
    let listed = guard(&["failures", "list", "--json", "-c", config.to_str().unwrap()]);
    let failures: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(failures["items"].as_array().unwrap().len(), 2, "two stand for all of their directory: {failures}");
}

#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
fn a_retention_that_wants_more_than_its_cap_does_not_stop_pressure() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("    retention: [ { stream: \"**\", max_age: 1d } ]\n", "");
    let text = std::fs::read_to_string(&config).unwrap().replace("max_share: 100%", "max_share: 10%");
    std::fs::write(&config, text).unwrap();
    let path = config.to_str().unwrap();
    let output = guard(&["reclaim", "-c", path]);
    assert!(bed.gone() >= 25 && bed.gone() <= 30, "{}: {}", bed.gone(), String::from_utf8_lossy(&output.stdout));
    let caps = guard(&["cap", "list", "--json", "-c", path]);
    let caps: serde_json::Value = serde_json::from_slice(&caps.stdout).unwrap();
    assert!(caps["items"][0]["wanted"].as_u64() > Some(290 << 20), "{caps}");
}

#[test]
#[ignore = "needs root and a loop device"]
fn an_empty_tree_beside_a_full_one_does_not_hold_it_up() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let new = bed.volume.path().join("new");
    std::fs::create_dir(&new).unwrap();
    let config = bed.config("", &format!("  - {{ name: new, path: {}, layout: zlmediakit }}\n", new.display()));
    let output = guard(&["reclaim", "-c", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(bed.gone() > 90 && !new.join(".storage-guard").exists());
}

/// Reaching `high` is a rolling recorder's normal day: the space comes back, and nobody is told.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a loop device"]
async fn a_normal_day_is_silent() {
    let (port, mut hooks) = crate::notify::receiver(&["204 No Content"]).await;
    let bed = Bed::new(Mounted::ext4(100), 60);
    let notify = format!(
        "scan_interval: 1s\nnotify:\n  group_wait: 1s\n  channels:\n    - {{ name: hook, kind: webhook, url: \"http://127.0.0.1:{port}/in\" }}\n"
    );
    let daemon = Daemon::start(&bed.config("", &notify), &bed.state());
    let free = || {
        let space = rustix::fs::statvfs(bed.volume.path()).unwrap();
        space.f_bavail * 100 / space.f_blocks
    };
    for day in 0..3 {
        for at in 0..25 {
            recording(&bed.tree(), "live/d", Duration::from_secs(900 + day * 100 + at), 1 << 20);
        }
        wait_for("the low mark is reached again", || free() >= 45 && daemon.pressure() == "normal");
    }
    pause(Duration::from_secs(3));
    assert_eq!(hooks.try_recv().ok().map(|told| told.body), None, "somebody was told of a normal day");
}
