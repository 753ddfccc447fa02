//! A day that was asked for and interrupted, over many turns (promises 2, 3 and 8).

use super::*;

/// A segment goes at a time, so that there is time to interrupt.
const SLOW: &str = "batch_files: 1, max_files_per_second: 4";
/// All of a day.
const FILES: u64 = (SEGMENTS + PLAYLISTS.len()) as u64;

/// Asks for a day; gives the job once some of the day is gone, and not all.
fn begun(hls: &Hls, day: &str) -> u64 {
    let job = delete(&hls.state(), &json!({"tree": "live", "paths": [day]}));
    wait_for("some of it is gone", || hls.segments(day) < SEGMENTS - 1);
    assert!(hls.segments(day) > 1, "too late to show anything");
    job
}

/// What was asked for goes on over a reload in the middle of a day, ends where it is cancelled, and where the layout is another meanwhile.
#[test]
#[ignore = "needs root, a loop device and curl"]
#[expect(clippy::disallowed_methods, reason = "it rewrites the test's own file")]
fn within_a_day_a_request_goes_on_over_a_reload_and_ends_where_it_is_cancelled() {
    let hls = Hls::new(100);
    let [first, second, third] = [5, 4, 3].map(|ago| hls.day("live/a", ago));
    let config = hls.config(QUIET, SLOW, "");
    let daemon = Daemon::start(Path::new(&config), &hls.state());
    let job = begun(&hls, &first);
    assert_eq!(ask(&hls.state(), "POST", "/-/reload", &json!(null)).status, 200);
    let done = until(&daemon, job, "done");
    assert_eq!(counts(&done), [FILES, FILES, 0, 0, 0], "{done} {:?}", items(&daemon, job));
    assert!(!hls.exists(&first));

    let job = begun(&hls, &second);
    assert_eq!(ask(&hls.state(), "DELETE", &format!("/api/v1/jobs/{job}"), &json!(null)).status, 200);
    wait_for("it ends", || self::job(&daemon, job)["finished"].is_string());
    let left = hls.segments(&second);
    assert!(left > 0, "nothing more of it was begun");
    pause(Duration::from_secs(1));
    assert_eq!(hls.segments(&second), left);
    let cancelled = until(&daemon, job, "cancelled");
    let [total, verified, ..] = counts(&cancelled);
    assert_eq!(verified, (SEGMENTS - left + PLAYLISTS.len()) as u64, "{cancelled}");
    assert_eq!(total, verified, "what was not begun is not counted: {cancelled}");

    let job = begun(&hls, &third);
    let text = std::fs::read_to_string(&config).unwrap().replace("layout: hls", "layout: plain");
    std::fs::write(&config, text).unwrap();
    assert_eq!(ask(&hls.state(), "POST", "/-/reload", &json!(null)).status, 200);
    let ended = until(&daemon, job, "done");
    assert_eq!(ended["problem"]["code"], "changed", "{ended}");
    assert!(hls.segments(&third) > 0);
}

/// Promise 3: what protects a day counts also where it comes when the day is half gone.
#[test]
#[ignore = "needs root, a loop device and curl"]
#[expect(clippy::disallowed_methods, reason = "it rewrites the test's own file")]
fn a_day_that_is_protected_while_it_goes_loses_no_more() {
    let hls = Hls::new(100);
    let day = hls.day("live/a", 5);
    let config = hls.config(QUIET, SLOW, "    protect: [ \"live/vip/**\" ]\n");
    let daemon = Daemon::start(Path::new(&config), &hls.state());
    let job = begun(&hls, &day);
    let text = std::fs::read_to_string(&config).unwrap().replace("live/vip/**", &day);
    std::fs::write(&config, text).unwrap();
    assert_eq!(ask(&hls.state(), "POST", "/-/reload", &json!(null)).status, 200);
    let ended = until(&daemon, job, "done");
    assert_eq!(counts(&ended)[4], 1, "{ended}");
    let left = hls.segments(&day);
    assert!(left > 0);
    let kept = items(&daemon, job).into_iter().find(|item| item["outcome"] == "kept").unwrap();
    assert_eq!((&kept["path"], &kept["detail"]), (&Value::from(day.as_str()), &Value::from("protected")));
}

/// What is left of a day after a restart goes: its last segments, or only what they begin with.
#[test]
#[ignore = "needs root, a loop device and curl"]
#[expect(clippy::disallowed_methods, reason = "it makes and removes the test's own files")]
fn what_a_restart_left_of_a_day_goes_too() {
    let hls = Hls::new(100);
    let [half, nearly, yesterday] =
        [("live/a", 5), ("live/b", 5), ("live/c", 1)].map(|(stream, ago)| hls.day(stream, ago));
    hls.write(&format!("{nearly}/init.mp4"), at(5, 9).1, 100);
    for hour in ["10", "11"] {
        std::fs::remove_dir_all(hls.tree().join(&nearly).join(hour)).unwrap();
    }
    std::fs::remove_file(hls.tree().join(&nearly).join("day.m3u8")).unwrap();
    let config = hls.config(QUIET, SLOW, "");
    let daemon = Daemon::start(Path::new(&config), &hls.state());
    let job = delete(&hls.state(), &json!({"tree": "live", "paths": [yesterday, half, nearly]}));
    wait_for("yesterday is gone", || hls.segments(&yesterday) == 0);
    wait_for("the next has begun", || hls.segments(&half) < SEGMENTS - 1);
    run("kill", &["-9", &daemon.pid().to_string()]);
    drop(daemon);
    assert!(hls.segments(&half) > 1, "too late to show anything");
    let daemon = Daemon::start(Path::new(&config), &hls.state());
    let ended = until(&daemon, job, "done");
    let [total, verified, rest @ ..] = counts(&ended);
    assert_eq!((total, rest), (verified, [0, 0, 0]), "{ended} {:?}", items(&daemon, job));
    assert!(hls.segments(&half) == 0 && !hls.exists(&format!("{nearly}/init.mp4")));
}
