//! Promises: what fits is said before it breaks, and what breaks is named until it is kept again; and runs that begin early.

use std::path::Path;
use std::time::Duration;

use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted, guard, json, pause, recording, run, wait_for};

const MIB: usize = 1 << 20;

/// Writes `count` recordings of one MiB, evenly from `oldest` to `newest` ago.
fn record(bed: &Bed, stream: &str, count: u32, oldest: Duration, newest: Duration) {
    for at in 0..count {
        recording(&bed.tree(), stream, newest + (oldest - newest) * at / count, MIB);
    }
    run("sync", &["-f", bed.volume.path().to_str().unwrap()]);
}

#[expect(clippy::disallowed_methods, reason = "it changes the test's own file")]
fn change(config: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(config).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(config, text.replace(from, to)).unwrap();
}

fn reload(daemon: &Daemon) {
    run("kill", &["-HUP", &daemon.pid().to_string()]);
}

fn recordings(daemon: &Daemon) -> u64 {
    daemon.status().map_or(0, |status| status["trees"][0]["files"].as_u64().unwrap())
}

#[test]
#[ignore = "needs root and a loop device"]
fn promises_that_do_not_fit_are_told_before_they_break_and_broken_ones_until_they_are_kept() {
    const HOUR: Duration = Duration::from_secs(3600);
    let bed = Bed::new(Mounted::ext4(400), 0);
    record(&bed, "live/a", 300, 20 * HOUR, HOUR / 4);
    record(&bed, "live/young", 3, HOUR / 2, HOUR / 4);
    let retention = "    retention: [{ stream: \"live/*\", keep: 10d }]\n";
    let config = bed.config(retention, "");
    change(&config, "critical: 99%", "critical: 71%");
    let path = config.to_str().unwrap();

    // 15 MiB an hour, for ten days, on half of 400 MiB.
    let unfit = "what `keep` promises does not fit: up to 10d at the inflow of the last day need";
    let checked = || {
        let checked = guard(&["check", "--environment", "-c", path]);
        let said = String::from_utf8(checked.stderr).unwrap();
        assert_eq!(checked.status.code(), Some(0), "{said}");
        assert!(said.contains(unfit) && said.trim_end().ends_with(" fit"), "{said}");
    };
    checked();

    let mut daemon = Daemon::start(&config, &bed.state());
    let log = || std::fs::read_to_string(config.with_extension("log")).unwrap();
    wait_for("the log says it", || log().contains(unfit));
    // Also beside the guard that runs, whose marker the tree bears.
    checked();
    let state = bed.state();
    let state = state.to_str().unwrap();
    let promises = json(&["status", "--state", state])["volumes"][0]["promises"].clone();
    assert_eq!((&promises["fits"], &promises["promised_seconds"]), (&false.into(), &864_000.into()), "{promises}");
    let fits = promises["fits_seconds"].as_u64().unwrap();
    assert!((5 * 3600..16 * 3600).contains(&fits), "{promises}");
    let screen = String::from_utf8(guard(&["status", "--state", state]).stdout).unwrap();
    assert!(screen.contains(&format!("  PROMISES: {unfit}")), "{screen}");
    assert!(daemon.get("/").contains(unfit));

    let broken = |daemon: &Daemon| {
        let alerts: serde_json::Value = serde_json::from_str(&daemon.get("/api/v1/alerts")).ok()?;
        let found = alerts["items"].as_array()?.iter().find(|alert| alert["alert"] == "RetentionBroken")?.clone();
        (found["state"] == "firing").then_some(found)
    };
    wait_for("the promise is broken, and told", || broken(&daemon).is_some());
    wait_for("the low mark is reached", || daemon.reached_low());
    let alert = broken(&daemon).unwrap();
    let description = alert["description"].as_str().unwrap();
    assert!(
        description.starts_with("1 stream of tree `live` has less left than its `keep` promises: `live/a`."),
        "{description}"
    );
    assert_eq!(alert["labels"]["tree"], "live");
    let streams: serde_json::Value = serde_json::from_str(&daemon.get("/api/v1/streams?tree=live")).unwrap();
    let streams = streams["items"].as_array().unwrap();
    let broken_ones: Vec<_> = streams.iter().map(|one| (one["stream"].as_str().unwrap(), &one["broken"])).collect();
    assert_eq!(broken_ones, [("live/a", &true.into()), ("live/young", &false.into())], "a young stream lost nothing");
    let achieved = streams[0]["achieved_seconds"].as_u64().unwrap();
    assert!(achieved < 20 * 3600 && achieved > 3600 && streams[0]["promised_seconds"] == 864_000, "{streams:?}");
    assert!(streams[0]["inflow"].as_u64().unwrap() > 0 && streams[0]["files"].as_u64().unwrap() > 0, "{streams:?}");
    let metrics = daemon.get("/metrics");
    assert!(metrics.contains("storage_guard_retention_promised_seconds{tree=\"live\"} 864000"), "{metrics}");

    // The journal knows what was broken, also after a restart; and no longer once less is promised.
    drop(daemon);
    daemon = Daemon::start(&config, &bed.state());
    wait_for("it is known after a restart", || broken(&daemon).is_some());
    change(&config, "keep: 10d", "keep: 1h");
    reload(&daemon);
    wait_for("it is over", || broken(&daemon).is_none());
    wait_for("it fits", || log().contains("what `keep` promises fits: up to 1h"));
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_volume_below_its_high_mark_is_cleaned_early_when_it_is_full_within_an_hour() {
    const MINUTE: Duration = Duration::from_secs(60);
    let bed = Bed::new(Mounted::ext4(400), 0);
    record(&bed, "live/a", 240, 55 * MINUTE, 15 * MINUTE);
    let config = bed.config("", "");
    change(&config, "high: 70%, low: 50%, critical: 99%", "high: 95%, low: 40%, critical: 99%, full_within: 0");
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("it is scanned", || recordings(&daemon) == 240);
    pause(Duration::from_secs(3));
    assert_eq!((daemon.pressure(), recordings(&daemon)), ("normal".to_owned(), 240));
    let until = daemon.status().unwrap()["volumes"][0]["seconds_until_full"].as_u64().unwrap();
    assert!(until < 3600, "{until}");
    change(&config, "full_within: 0", "full_within: 1h");
    reload(&daemon);
    wait_for("it is cleaned early", || daemon.reached_low());
    wait_for("it is below its low mark", || daemon.pressure() == "normal" && recordings(&daemon) < 200);
}
