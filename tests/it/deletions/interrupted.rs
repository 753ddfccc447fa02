//! What was asked for and interrupted: by a restart, a reload, a person, or a disk that is away (promises 2, 3, 6 and 8).

use super::*;

/// What a restart interrupts is gone on with; but what was recorded since nobody asked for, and in another directory nobody asked for anything.
#[test]
#[ignore = "needs root, a loop device and curl"]
fn what_a_restart_interrupts_is_gone_on_with_and_takes_nothing_that_is_newer_or_elsewhere() {
    let bed = bed(60);
    let config = slow(&bed, "", "");
    let daemon = Daemon::start(&config, &bed.state());
    let over = delete(&bed.state(), &json!({"tree": "live", "paths": ["live/a/2020-01-01/2020-01-01-00-00-00-0.mp4"]}));
    until(&daemon, over, "done");
    let paths = delete(
        &bed.state(),
        &json!({"tree": "live", "paths": named(&bed, &(0..20).map(|at| at * 3).collect::<Vec<_>>())}),
    );
    let stream = delete(&bed.state(), &json!({"tree": "live", "stream": "live/b"}));
    wait_for("both have begun", || [paths, stream].iter().all(|id| counts(&job(&daemon, *id))[1] > 0));
    run("kill", &["-9", &daemon.pid().to_string()]);
    drop(daemon);
    let before = gone(&bed).len();
    assert!(before < 30, "it was killed too late to show anything");
    let newer = recording(&bed.tree(), "live/b", Duration::ZERO, 1 << 20);

    let daemon = Daemon::start(&config, &bed.state());
    let ended = until(&daemon, stream, "done");
    let [total, verified, _, _, kept] = counts(&ended);
    assert_eq!((total, kept), (verified + 1, 1), "{ended}");
    let item = items(&daemon, stream).into_iter().find(|item| item["outcome"] == "kept").unwrap();
    assert_eq!(item["path"], newer.as_str());
    assert!(item["detail"].as_str().unwrap().contains("recorded after the request"), "{item}");
    let ended = until(&daemon, paths, "done");
    assert_eq!(counts(&ended), [20, 20, 0, 0, 0], "what went before is gone already: {ended}");
    assert_eq!(job(&daemon, over)["error"]["code"], "not_found", "what was over is not begun again");
    let wanted: BTreeSet<usize> = (0..60).filter(|at| at % 3 != 2).collect();
    assert_eq!(gone(&bed), wanted);

    // The tree is another directory now, with recordings of the same names.
    let elsewhere = delete(&bed.state(), &json!({"tree": "live", "stream": "live/c"}));
    wait_for("it has begun", || counts(&job(&daemon, elsewhere))[1] > 0);
    run("kill", &["-9", &daemon.pid().to_string()]);
    drop(daemon);
    let other = bed.volume.path().join("other");
    run("cp", &["-a", bed.tree().to_str().unwrap(), other.to_str().unwrap()]);
    run("rm", &["-r", other.join(".storage-guard").to_str().unwrap()]);
    let there = |top: &Path| (0..60).filter(|at| top.join(&bed.made[*at]).exists()).count();
    let left = there(&other);
    altered(
        &config,
        &format!("path: {}\n    layout", bed.tree().display()),
        &format!("path: {}\n    layout", other.display()),
    );
    let daemon = Daemon::start(&config, &bed.state());
    assert_eq!(job(&daemon, elsewhere)["state"], "queued", "as long as nobody says that it is the right one");
    drop(daemon);
    run(env!("CARGO_BIN_EXE_storage-guard"), &["init", "--accept", "-c", config.to_str().unwrap()]);
    let daemon = Daemon::start(&config, &bed.state());
    let ended = until(&daemon, elsewhere, "done");
    assert_eq!((&ended["problem"]["code"], there(&other)), (&json!("changed"), left), "{ended}");
}

/// What a person ended stays ended, whatever ends the guard right afterwards.
#[test]
#[ignore = "needs root, a loop device and curl"]
fn what_was_cancelled_is_not_begun_again_by_a_restart() {
    let bed = bed(60);
    let config = slow(&bed, "", "");
    let daemon = Daemon::start(&config, &bed.state());
    let [running, queued] =
        ["live/a", "live/b"].map(|stream| delete(&bed.state(), &json!({"tree": "live", "stream": stream})));
    wait_for("one has begun", || counts(&job(&daemon, running))[1] > 0);
    for id in [queued, running] {
        assert_eq!(ask(&bed.state(), "DELETE", &format!("/api/v1/jobs/{id}"), &json!(null)).status, 200);
    }
    run("kill", &["-9", &daemon.pid().to_string()]);
    drop(daemon);
    let left = gone(&bed);
    assert!(left.len() < 40, "it was killed too late to show anything");
    let daemon = Daemon::start(&config, &bed.state());
    let after = delete(&bed.state(), &json!({"tree": "live", "paths": named(&bed, &[2])}));
    assert!(after > running.max(queued), "no number is given again");
    until(&daemon, after, "done");
    let settled: BTreeSet<usize> = gone(&bed).difference(&left).copied().collect();
    // What the kill left open is settled first.
    assert!(settled.len() <= 1 + 5 && settled.contains(&2), "{settled:?}");
    let all = journal(&bed);
    let over: Vec<&Value> = all.iter().filter(|entry| entry["kind"] == "job_over").collect();
    assert_eq!(over.len(), 2, "{over:?}");
    assert!(over.iter().all(|entry| entry["note"] == "cancelled" && entry["who"] != "guard"), "{over:?}");
}

/// A disk that is away when the guard starts again, and then comes back, perhaps as a volume of another name.
#[test]
#[ignore = "needs root, a loop device and curl"]
fn what_a_restart_interrupts_waits_for_its_disk() {
    let bed = bed(60);
    let config = slow(&bed, "", "");
    let daemon = Daemon::start(&config, &bed.state());
    let id = delete(&bed.state(), &json!({"tree": "live", "stream": "live/a"}));
    wait_for("it has begun", || counts(&job(&daemon, id))[1] > 0);
    run("kill", &["-9", &daemon.pid().to_string()]);
    drop(daemon);
    assert!(gone(&bed).len() < 20, "it was killed too late to show anything");
    run("umount", &["-l", bed.volume.path().to_str().unwrap()]);
    let daemon = Daemon::start(&config, &bed.state());
    assert_eq!(job(&daemon, id)["state"], "queued");
    bed.volume.mount();
    let ended = until(&daemon, id, "done");
    assert!(ended["problem"].is_null(), "{ended}");
    assert_eq!(gone(&bed), (0..60).filter(|at| at % 3 == 0).collect());
}

/// A batch that is cut by its bytes, many times over: each file is begun once.
#[test]
#[ignore = "needs root, a loop device and curl"]
fn what_does_not_fit_into_a_batch_is_begun_once_all_the_same() {
    let bed = bed(30);
    let config = bed.config("", "");
    altered(&config, "pause: 0,", "pause: 0, batch_bytes: 2MiB,");
    let daemon = Daemon::start(&config, &bed.state());
    let id = delete(&bed.state(), &json!({"tree": "live", "paths": bed.made.clone()}));
    let ended = until(&daemon, id, "done");
    assert_eq!(counts(&ended), [30, 30, 0, 0, 0], "{ended}");
    let bytes = ended["expected_bytes"].as_u64().unwrap();
    assert!((30 << 20..31 << 20).contains(&bytes), "{ended}");
    let entries = journal(&bed).into_iter().filter(|entry| entry["kind"] == "deletion").count();
    assert_eq!(entries, 30);
}
