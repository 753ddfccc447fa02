//! Days of HLS move to the second disk whole, come back whole, and go from there whole once they are too old for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::support::asking::{ask, until};
use crate::support::{Daemon, Mounted, guard, json as printed, pause, run, wait_for};
use crate::units::{Hls, at, deletions, playlists_first};

/// Every file below a directory, by its path.
fn files(top: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut out, mut pending) = (BTreeMap::new(), vec![top.to_owned()]);
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else {
                let path = entry.path().strip_prefix(top).unwrap().to_str().unwrap().to_owned();
                out.insert(path, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    out
}

#[test]
#[ignore = "needs root and two loop devices"]
fn a_day_moves_whole_comes_back_whole_and_goes_from_the_archive_whole() {
    let (hls, disk) = (Hls::new(100), Mounted::ext4(100));
    let [nine, eight, other, four, young] = [("live/a", 9), ("live/a", 8), ("live/b", 9), ("live/b", 4), ("live/b", 1)]
        .map(|(stream, ago)| hls.day(stream, ago));
    hls.write(&format!("{nine}/init.mp4"), at(9, 12).1, 100);
    let made: BTreeMap<&str, _> =
        [&nine, &eight, &other, &four].map(|day| (day.as_str(), files(&hls.tree().join(day)))).into();
    assert_eq!((made[&*nine].len(), made[&*eight].len()), (11, 10));
    let archive = format!(
        "    archive: cold\nscan_interval: 1s\narchives:\n  - {{ name: cold, kind: directory, path: {}, after: 3d }}\n",
        disk.path().display()
    );
    let config = hls.config("high: 99%, low: 98%, critical: 100%", "batch_files: 5", &archive);
    let daemon = Daemon::start(Path::new(&config), &hls.state());
    wait_for("all old days have moved", || made.keys().all(|day| !hls.exists(day)));
    let copy = |day: &str| disk.path().join("live").join(day);
    for (day, wanted) in &made {
        assert!(files(&copy(day)) == *wanted, "the copy of {day} is another: {:?}", files(&copy(day)).keys());
    }
    assert!(hls.whole(&young) && !copy(&young).exists());
    let of = deletions(&config);
    for day in [&eight, &other] {
        playlists_first(&of, day);
    }
    let of_nine: Vec<_> = of.iter().filter(|(path, _)| path.starts_with(&*nine)).collect();
    assert_eq!(of_nine.len(), 11);
    assert!(
        of_nine.iter().all(|(_, (_, outcome, entry))| outcome == "verified" && entry["trigger"] == "archive"),
        "{of_nine:?}"
    );
    let state = hls.state();
    let state = state.to_str().unwrap();
    let listed = || {
        let all = printed(&["archive", "list", "live", "--state", state])["items"].as_array().unwrap().clone();
        all.iter().filter(|item| made.contains_key(item["path"].as_str().unwrap_or_default())).count()
    };
    wait_for("the archive lists its days", || listed() == 4);

    // By its own name.
    let out = guard(&["archive", "restore", "live", &nine, "--state", state]);
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(files(&hls.tree().join(&nine)) == made[&*nine], "{nine} came back as another");
    assert!(!hls.exists(&eight));
    // Of a stream, what reaches into a span: one day, and not the other.
    let moment = |ago, hour| jiff::Timestamp::try_from(at(ago, hour).1).unwrap().to_string();
    let body = json!({"tree": "live", "stream": "live/b", "from": moment(9, 8), "to": moment(9, 20)});
    let answer = ask(&hls.state(), "POST", "/api/v1/archive/restore", &body);
    assert_eq!(answer.status, 202, "{}", answer.body);
    let over = until(&daemon, answer.body["job"].as_u64().unwrap(), "done");
    assert_eq!((&over["verified"], &over["failed"]), (&json!(10), &json!(0)), "{over}");
    assert!(files(&hls.tree().join(&other)) == made[&*other], "{other} came back as another");
    assert!(!hls.exists(&four));
    // What was brought back stays for a while.
    pause(Duration::from_secs(5));
    assert!(hls.exists(&nine) && hls.exists(&other));

    // The archive's own retention.
    let text = std::fs::read_to_string(&config).unwrap().replace("after: 3d", "after: 3d, max_age: 6d");
    std::fs::write(&config, text).unwrap();
    run("kill", &["-HUP", &daemon.pid().to_string()]);
    wait_for("what is too old for it goes", || [&nine, &eight, &other].iter().all(|day| !copy(day).exists()));
    assert!(files(&copy(&four)) == made[&*four], "{four} is not as it was");
    let of = deletions(&config);
    playlists_first(&of, &format!("live/{eight}"));
}
