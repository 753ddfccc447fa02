//! Days of HLS go whole or not at all, and what names their segments goes first (promises 2, 3, 6, 8 and 10).

mod interrupted;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::reclaim::Holder;
use crate::support::asking::{ask, counts, delete, items, job, until};
use crate::support::{Daemon, Mounted, guard, json as printed, now, pause, run, wait_for};

const MIB: usize = 1 << 20;
/// Segments of a day: half of them in each of two hours.
const SEGMENTS: usize = 8;
/// In its own directory, and in one of its hours.
const PLAYLISTS: [&str; 2] = ["day.m3u8", "10/hour.m3u8"];

/// A tree of HLS on a volume of its own.
pub(crate) struct Hls {
    pub(crate) volume: Mounted,
    home: tempfile::TempDir,
}

impl Hls {
    pub(crate) fn new(megabytes: u64) -> Self {
        Self { volume: Mounted::ext4(megabytes), home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.volume.path().join("hls")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// Makes a day of a stream, so many days ago, and what names its segments; returns its path below the tree.
    pub(crate) fn day(&self, stream: &str, ago: u64) -> String {
        let day = format!("{stream}/{}", at(ago, 10).0);
        for segment in 0..SEGMENTS {
            let (hour, minute) = (10 + segment / (SEGMENTS / 2), segment % (SEGMENTS / 2));
            self.write(&format!("{day}/{hour}/{minute:02}-00_{segment}.ts"), at(ago, hour).1, MIB);
        }
        for name in PLAYLISTS {
            self.write(&format!("{day}/{name}"), at(ago, 12).1, 100);
        }
        day
    }

    /// Writes a file that is as old as `modified` says.
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    pub(crate) fn write(&self, path: &str, modified: SystemTime, bytes: usize) {
        let file = self.tree().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        // No two are the same.
        let mut film = vec![0; bytes];
        fastrand::Rng::with_seed(
            path.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte))),
        )
        .fill(&mut film);
        std::fs::write(&file, film).unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    }

    /// Writes the configuration.
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    pub(crate) fn config(&self, marks: &str, cleanup: &str, tree: &str) -> String {
        let path = self.home.path().join("guard.yaml");
        let text = format!(
            "mode: enforce\nlisten: 127.0.0.1:0\nstate: {{ path: {} }}\nprobe_interval: 1s\nwatermarks: {{ {marks} }}\n\
             cleanup: {{ {cleanup}, pause: 0, max_share: 100%, retry: {{ first: 1s, max: 1s }} }}\n\
             trees:\n  - name: live\n    path: {}\n    layout: hls\n{tree}",
            self.state().display(),
            self.tree().display(),
        );
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        std::fs::symlink_metadata(self.tree().join(path)).is_ok()
    }

    /// How many segments of a day are there.
    pub(crate) fn segments(&self, day: &str) -> usize {
        let hours = ["10", "11"].map(|hour| std::fs::read_dir(self.tree().join(day).join(hour)));
        let names = hours.into_iter().flatten().flatten().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.as_encoded_bytes().ends_with(b".ts")).count()
    }

    pub(crate) fn whole(&self, day: &str) -> bool {
        self.segments(day) == SEGMENTS && PLAYLISTS.iter().all(|name| self.exists(&format!("{day}/{name}")))
    }
}

/// A date, and a moment of it.
pub(crate) fn at(ago: u64, hour: usize) -> (String, SystemTime) {
    let zone = jiff::tz::TimeZone::system();
    let then =
        jiff::Timestamp::try_from(now()).unwrap().to_zoned(zone) - jiff::Span::new().days(i64::try_from(ago).unwrap());
    let moment =
        then.with().hour(i8::try_from(hour).unwrap()).minute(0).second(0).subsec_nanosecond(0).build().unwrap();
    (moment.strftime("%Y-%m-%d").to_string(), moment.timestamp().into())
}

/// Deletions of a journal by path: the number of the intent, the outcome, and what is said of it.
pub(crate) fn deletions(config: &str) -> BTreeMap<String, (u64, String, Value)> {
    let listed = printed(&["journal", "list", "-c", config]);
    let all = listed["items"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "deletion");
    all.map(|entry| {
        let outcome = entry["outcome"].as_str().unwrap_or("open").to_owned();
        let seq = entry["intent"].as_u64().or_else(|| entry["seq"].as_u64()).unwrap();
        (entry["path"].as_str().unwrap().to_owned(), (seq, outcome, entry.clone()))
    })
    .collect()
}

/// What names the segments of a day was on record, and gone, before any of them.
pub(crate) fn playlists_first(of: &BTreeMap<String, (u64, String, Value)>, day: &str) {
    let inside = of.iter().filter(|(path, _)| path.starts_with(&format!("{day}/")));
    let (names, segments): (Vec<_>, Vec<_>) = inside.partition(|(path, _)| path.ends_with(".m3u8"));
    assert_eq!((names.len(), segments.len()), (PLAYLISTS.len(), SEGMENTS), "{day}");
    assert!(names.iter().chain(&segments).all(|(_, (_, outcome, _))| outcome == "verified"), "{day}");
    // The number of an outcome is higher than those of all intents of its batch.
    let gone = names.iter().map(|(_, (_, _, entry))| entry["seq"].as_u64().unwrap()).max();
    let begun = segments.iter().map(|(_, (seq, _, _))| *seq).min();
    assert!(gone < begun, "{day}: {gone:?} {begun:?}");
    let order: Vec<_> = segments.iter().map(|(_, (seq, _, _))| *seq).collect();
    assert!(order.is_sorted(), "the oldest first");
    let reason = segments[0].1.2["reason"].as_str().unwrap();
    assert!(reason.contains(&format!("a part of `{day}`, which goes whole")), "{reason}");
}

#[test]
#[ignore = "needs root and a loop device"]
fn pressure_takes_the_oldest_days_whole_and_what_names_their_segments_first() {
    let hls = Hls::new(100);
    let days: Vec<String> = (3..9).rev().map(|ago| hls.day("live/cam", ago)).collect();
    hls.write("live/cam/hls.m3u8", at(3, 12).1, 100);
    let config = hls.config("high: 50%, low: 40%, critical: 99%", "batch_files: 5", "");
    let plan = printed(&["plan", "-c", &config]);
    let items: Vec<(&str, u64)> = plan["items"][0]["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["path"].as_str().unwrap(), item["files"].as_u64().unwrap()))
        .collect();
    assert!(!items.is_empty() && items.len() < days.len(), "{items:?}");
    assert!(items.iter().zip(&days).all(|(item, day)| *item == (day.as_str(), SEGMENTS as u64)), "{items:?}");
    let text = guard(&["plan", "-c", &config, "--explain", &format!("{}/11/00-00_4.ts", days[0])]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains(&format!("it goes now, as all {SEGMENTS} files of `{}` do", days[0])), "{text}");

    let output = guard(&["reclaim", "-c", &config]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let gone = days.iter().take_while(|day| !hls.exists(day)).count();
    assert_eq!(gone, items.len(), "its directories are gone too");
    assert!(days[gone..].iter().all(|day| hls.whole(day)));
    let of = deletions(&config);
    days[..gone].iter().for_each(|day| playlists_first(&of, day));
    assert_eq!(of.len(), gone * (SEGMENTS + PLAYLISTS.len()), "and nothing else: {:?}", of.keys());
    assert!(hls.exists("live/cam/hls.m3u8"), "days remain");
    let status = printed(&["status", "-c", &config]);
    assert_eq!(status["trees"][0]["files"], ((days.len() - gone) * SEGMENTS) as u64, "{status}");
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_streams_own_playlist_goes_with_its_last_day_and_keeps_that_day_while_it_is_written() {
    let hls = Hls::new(100);
    let [old, last, kept_old, kept] =
        [("live/a", 9), ("live/a", 8), ("live/b", 9), ("live/b", 8)].map(|(s, ago)| hls.day(s, ago));
    for name in ["hls.m3u8", "hls.fmp4.m3u8", "init.mp4"] {
        hls.write(&format!("live/a/{name}"), at(8, 12).1, 100);
        hls.write(&format!("live/b/{name}"), now(), 100);
    }
    let retention = "    retention: [ { stream: \"**\", max_age: 5d } ]\n";
    let config = hls.config("high: 99%, low: 98%, critical: 100%", "batch_files: 50", retention);
    let output = guard(&["reclaim", "-c", &config]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!hls.exists("live/a"), "nothing is left of it");
    let of = deletions(&config);
    playlists_first(&of, &old);
    playlists_first(&of, &last);
    let outcome = |path: &str| of[path].2["seq"].as_u64().unwrap();
    let of_last = || of.iter().filter(|(path, _)| path.starts_with(&format!("{last}/")) && path.ends_with(".ts"));
    let first = of_last().map(|(_, (seq, _, _))| *seq).min().unwrap();
    assert!(outcome("live/a/hls.m3u8") < first && outcome("live/a/hls.fmp4.m3u8") < first, "before its segments");
    let done = of_last().map(|(_, (_, _, entry))| entry["seq"].as_u64().unwrap()).max().unwrap();
    assert!(of["live/a/init.mp4"].0 > done, "what they begin with goes last");

    assert!(!hls.exists(&kept_old), "one of several days");
    assert!(hls.whole(&kept) && hls.exists("live/b/hls.m3u8") && hls.exists("live/b/init.mp4"));
    let (_, outcome, entry) = &of[&kept];
    assert_eq!((outcome.as_str(), &entry["note"]), ("kept", &Value::from("live")), "{entry}");
}

/// Promises 3 and 8.
#[test]
#[ignore = "needs root and a loop device"]
fn a_segment_that_is_open_fails_the_rest_goes_and_one_with_a_hold_keeps_its_day() {
    let hls = Hls::new(100);
    let [open, held] = [9, 8].map(|ago| hls.day("live/cam", ago));
    hls.day("live/cam", 3);
    let segment = format!("{open}/10/02-00_2.ts");
    let hold = hls.tree().join(format!("{held}/11/01-00_5.ts"));
    rustix::fs::setxattr(&hold, "user.storage_guard.hold", b"case 7", rustix::fs::XattrFlags::empty()).unwrap();
    let retention = "    retention: [ { stream: \"**\", max_age: 5d } ]\n";
    let config = hls.config("high: 99%, low: 98%, critical: 100%", "batch_files: 50", retention);
    let holder = Holder::new(&hls.tree().join(&segment), true);
    guard(&["reclaim", "-c", &config]);
    assert_eq!(hls.segments(&open), 1, "the rest is gone");
    assert!(hls.exists(&segment) && hls.whole(&held));
    let failures = printed(&["failures", "list", "-c", &config]);
    let failures: Vec<_> =
        failures["items"].as_array().unwrap().iter().map(|one| (&one["path"], &one["cause"])).collect();
    assert_eq!(failures, [(&Value::from(segment.as_str()), &Value::from("in_use"))]);
    assert_eq!(deletions(&config)[&held].1, "kept");
    // What is left of it is tried again by itself, and is in no plan.
    let plan = printed(&["plan", "-c", &config]);
    let planned: Vec<_> =
        plan["items"][0]["items"].as_array().unwrap().iter().map(|item| item["path"].clone()).collect();
    assert_eq!(planned, [held.as_str()]);
    drop(holder);
    let daemon = Daemon::start(Path::new(&config), &hls.state());
    wait_for("what is left of it goes", || !hls.exists(&open));
    drop(daemon);
    assert!(hls.whole(&held));
}

/// Promise 2: what is not as it was when it was planned stays, whole.
#[test]
#[ignore = "needs root and a loop device"]
fn a_day_that_got_a_segment_since_the_scan_is_kept_and_the_next_goes() {
    let hls = Hls::new(100);
    let days: Vec<String> = (3..6).rev().map(|ago| hls.day("live/cam", ago)).collect();
    // A critical volume is not scanned again before anything goes.
    let config = hls.config("high: 60%, low: 50%, critical: 61%", "batch_files: 5", "");
    let text = std::fs::read_to_string(&config).unwrap() + "scan_interval: 1h\n";
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    std::fs::write(&config, text).unwrap();
    let daemon = Daemon::start(Path::new(&config), &hls.state());
    wait_for("the tree is scanned", || {
        daemon.status().is_some_and(|status| status["trees"][0]["files"] == (3 * SEGMENTS) as u64)
    });
    let late = format!("{}/11/59-00_9.ts", days[0]);
    hls.write(&late, at(5, 11).1, MIB);
    run("fallocate", &["-l", "30M", hls.volume.path().join("others").to_str().unwrap()]);
    wait_for("a day is gone", || !hls.exists(&days[1]));
    assert!(hls.exists(&late));
    assert_eq!(hls.segments(&days[0]), SEGMENTS + 1);
    assert!(PLAYLISTS.iter().all(|name| hls.exists(&format!("{}/{name}", days[0]))));
    drop(daemon);
    assert_eq!(deletions(&config)[&days[0]].1, "kept");
}

/// Fault 67: killed again and again, a day is whole, or what named its segments is gone; in the end only whole days are there.
#[test]
#[ignore = "needs root and a loop device"]
fn killed_at_any_moment_no_list_names_what_is_gone_and_the_rest_of_a_day_goes_next() {
    let hls = Hls::new(100);
    let days: Vec<String> = (3..9).rev().map(|ago| hls.day("live/cam", ago)).collect();
    let slow = "batch_files: 2, max_files_per_second: 60";
    let config = hls.config("high: 30%, low: 20%, critical: 99%", slow, "");
    let there = || days.iter().map(|day| hls.segments(day)).sum::<usize>();
    let mut cut = 0;
    for time in 0..8 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_storage-guard"));
        command.args(["reclaim", "-c", &config]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // Until it has deleted something, and a little longer each time.
        let before = there();
        while there() == before && child.try_wait().unwrap().is_none() {
            pause(Duration::from_millis(5));
        }
        pause(Duration::from_millis(time * 17));
        let _ = child.kill();
        let _ = child.wait();
        for day in &days {
            let (segments, names) = (hls.segments(day), PLAYLISTS.map(|name| hls.exists(&format!("{day}/{name}"))));
            assert!(segments == SEGMENTS || names == [false; 2], "{day}: {segments} segments, {names:?}");
            cut += u64::from(segments > 0 && segments < SEGMENTS);
        }
    }
    assert!(cut > 0, "never in the middle of a day");
    // It is begun anew only when its space is needed; then the rest of the day that was cut goes first.
    let config = hls.config("high: 20%, low: 10%, critical: 99%", "batch_files: 2", "");
    let output = guard(&["reclaim", "-c", &config]);
    assert!(matches!(output.status.code(), Some(0 | 4)), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let gone = days.iter().take_while(|day| hls.segments(day) == 0).count();
    assert!(gone > 0 && days[gone..].iter().all(|day| hls.whole(day)), "{gone} are gone: {text}");
    let verified = guard(&["journal", "verify", "-c", &config]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let of = deletions(&config);
    assert!(of.values().all(|(_, outcome, _)| outcome != "open"));
    let deleted: BTreeSet<&String> = of.iter().filter(|(_, (_, o, _))| o == "verified").map(|(path, _)| path).collect();
    assert_eq!(deleted.len(), gone * (SEGMENTS + PLAYLISTS.len()), "{deleted:?}");
}

/// Promise 6.
#[test]
#[ignore = "needs root, a loop device and setpriv"]
fn a_day_with_an_hour_that_cannot_be_read_stays_whole() {
    use std::os::unix::fs::PermissionsExt as _;

    let hls = Hls::new(100);
    let [hidden, seen] = [9, 8].map(|ago| hls.day("live/cam", ago));
    hls.day("live/cam", 3);
    let retention = "    retention: [ { stream: \"**\", max_age: 5d } ]\n";
    let config = hls.config("high: 99%, low: 98%, critical: 100%", "batch_files: 50", retention);
    std::fs::create_dir_all(hls.state()).unwrap();
    for path in [hls.volume.path().parent().unwrap(), hls.volume.path(), hls.home.path()] {
        run("chmod", &["a+rx", path.to_str().unwrap()]);
    }
    let hour = hls.tree().join(format!("{hidden}/11"));
    for path in [hls.tree(), hls.state()] {
        run("chown", &["-R", "65534:65534", path.to_str().unwrap()]);
    }
    run("chown", &["0:0", hour.to_str().unwrap()]);
    std::fs::set_permissions(&hour, std::fs::Permissions::from_mode(0o700)).unwrap();
    let program = hls.home.path().join("storage-guard");
    std::fs::copy(env!("CARGO_BIN_EXE_storage-guard"), &program).unwrap();
    let rights =
        ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all,+lease", "--ambient-caps=-all,+lease"];
    let output = Command::new("setpriv").args(rights).arg(&program).args(["reclaim", "-c", &config]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(hls.whole(&hidden), "{told}");
    assert!(!hls.exists(&seen), "{told}");
    let of = deletions(&config);
    assert!(of.keys().all(|path| !path.starts_with(&hidden)), "{:?}", of.keys());
}

/// The marks of a volume on which nothing is deleted by itself.
const QUIET: &str = "high: 97%, low: 96%, critical: 99%";

/// Asks for a deletion, and waits until the job is in a state.
fn asked(hls: &Hls, daemon: &Daemon, wanted: &Value, state: &str) -> Value {
    let mut body = wanted.clone();
    body["tree"] = "live".into();
    until(daemon, delete(&hls.state(), &body), state)
}

/// Promises 2 and 4.
#[test]
#[ignore = "needs root, a loop device and curl"]
fn a_day_that_is_asked_for_goes_whole_over_many_batches_and_what_names_its_segments_first() {
    let hls = Hls::new(100);
    let [old, middle, last, other] =
        [("live/a", 5), ("live/a", 4), ("live/a", 3), ("live/b", 5)].map(|(stream, ago)| hls.day(stream, ago));
    hls.write("live/a/hls.m3u8", at(3, 12).1, 100);
    let config = hls.config(QUIET, "batch_files: 3", "");
    let daemon = Daemon::start(Path::new(&config), &hls.state());

    let job = asked(&hls, &daemon, &json!({"paths": [middle, "live/a/2020-01-01"]}), "done");
    let files = (SEGMENTS + PLAYLISTS.len()) as u64;
    assert_eq!(counts(&job), [files + 1, files + 1, 0, 0, 0], "{job}");
    assert!(job["reclaimed_bytes"].as_u64() >= Some((SEGMENTS * MIB) as u64), "{job}");
    assert!(!hls.exists(&middle) && hls.whole(&old) && hls.whole(&last) && hls.whole(&other));

    let before = at(4, 0).1.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let before = jiff::Timestamp::from_second(i64::try_from(before).unwrap()).unwrap().to_string();
    let job = asked(&hls, &daemon, &json!({"stream": "live/a", "before": before}), "done");
    assert_eq!(counts(&job), [files, files, 0, 0, 0], "{job}");
    assert!(!hls.exists(&old) && hls.whole(&last) && hls.whole(&other) && hls.exists("live/a/hls.m3u8"));

    let job = asked(&hls, &daemon, &json!({"stream": "live/b", "period": at(4, 0).0}), "done");
    assert_eq!(counts(&job), [0; 5], "there is no such day: {job}");
    let job = asked(&hls, &daemon, &json!({"stream": "live/b", "period": at(5, 0).0}), "done");
    assert_eq!(counts(&job), [files, files, 0, 0, 0], "{job}");
    let job = asked(&hls, &daemon, &json!({"stream": "live/a"}), "done");
    assert_eq!(
        counts(&job),
        [files + 1, files + 1, 0, 0, 0],
        "the stream's own playlist goes with its last day: {job}"
    );
    assert!(!hls.exists("live/a") && !hls.exists("live/b"));
    drop(daemon);
    let told = guard(&["journal", "explain", "-c", &config, &middle]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert_eq!(told.lines().filter(|line| line.contains("operator verified")).count() as u64, files, "{told}");
    let of = deletions(&config);
    [&old, &middle, &last, &other].into_iter().for_each(|day| playlists_first(&of, day));
    let entry = &of[&format!("{middle}/10/00-00_0.ts")].2;
    assert_eq!((&entry["rule"], &entry["trigger"]), (&Value::from("requested"), &Value::from("operator")), "{entry}");
}

/// Promise 3: segment by segment nothing of a day goes, whoever asks for it, and what protects one of them protects the day.
#[test]
#[ignore = "needs root, a loop device and curl"]
fn a_day_cannot_be_asked_for_in_parts_and_what_protects_one_protects_all() {
    let hls = Hls::new(100);
    let [plain, held, protected] = [("live/a", 5), ("live/a", 4), ("live/a", 3)].map(|(s, ago)| hls.day(s, ago));
    let today = hls.day("live/now", 0);
    hls.write(&format!("{today}/11/59-00_9.ts"), now(), MIB);
    hls.write(&format!("{protected}/10/hour.m3u8"), at(3, 10).1, 100);
    let hold = hls.tree().join(format!("{held}/11/01-00_5.ts"));
    rustix::fs::setxattr(&hold, "user.storage_guard.hold", b"case 7", rustix::fs::XattrFlags::empty()).unwrap();
    let protect = format!("    protect: [ \"{protected}/11/02-00_6.ts\" ]\n");
    let config = hls.config(QUIET, "batch_files: 5", &protect);
    let daemon = Daemon::start(Path::new(&config), &hls.state());
    for path in [format!("{plain}/11/00-00_4.ts"), format!("{plain}/day.m3u8"), format!("{plain}/11")] {
        let answer = ask(&hls.state(), "POST", "/api/v1/deletions", &json!({"tree": "live", "paths": [path]}));
        let said = answer.body.to_string();
        assert_eq!(answer.status, 400, "{said}");
        assert!(said.contains("not_a_recording") && said.contains(&format!("a part of `{plain}`")), "{said}");
    }
    for (day, why) in [(&held, "hold"), (&protected, "protected"), (&today, "live")] {
        let job = asked(&hls, &daemon, &json!({"paths": [day]}), "done");
        assert_eq!(counts(&job), [1, 0, 0, 0, 1], "{job}");
        let items = items(&daemon, job["id"].as_u64().unwrap());
        assert_eq!(
            (&items[0]["path"], &items[0]["detail"]),
            (&Value::from(day.as_str()), &Value::from(why)),
            "{items:?}"
        );
        assert!(hls.whole(day) || day == &today, "{day}");
    }
    assert_eq!(hls.segments(&today), SEGMENTS + 1);
    let job = asked(&hls, &daemon, &json!({"stream": "live/a"}), "done");
    let files = (SEGMENTS + PLAYLISTS.len()) as u64;
    assert_eq!(counts(&job), [files + 2, files, 0, 0, 2], "{job}");
    assert!(!hls.exists(&plain) && hls.whole(&held) && hls.whole(&protected));
}

/// Any one segment bears the mark of a day that is held, and none does once it is let go of.
#[test]
#[ignore = "needs root, a loop device and curl"]
fn a_day_is_held_whole_by_its_name_or_a_span_and_one_segment_bears_the_mark() {
    let hls = Hls::new(100);
    let [plain, named, spanned] = [("live/a", 5), ("live/a", 4), ("live/b", 3)].map(|(s, ago)| hls.day(s, ago));
    let config = hls.config(QUIET, "batch_files: 5", "");
    let daemon = Daemon::start(Path::new(&config), &hls.state());
    let hold = |body: Value| ask(&hls.state(), "POST", "/api/v1/holds", &body);
    let part = hold(json!({"tree": "live", "paths": [format!("{named}/11/01-00_5.ts")], "reason": "case 7"}));
    assert_eq!((part.status, part.body["error"]["code"].as_str()), (400, Some("not_a_recording")), "{}", part.body);
    let by_name = hold(json!({"tree": "live", "paths": [named], "reason": "case 7"}));
    // It ends before the last hour of that day.
    let moment = |hour| jiff::Timestamp::try_from(at(3, hour).1).unwrap().to_string();
    let by_span =
        hold(json!({"tree": "live", "stream": "live/b", "from": moment(9), "to": moment(11), "reason": "case 8"}));
    assert_eq!((by_name.status, by_span.status), (201, 201), "{} {}", by_name.body, by_span.body);
    let marked = |day: &str| {
        let hours = ["10", "11"].map(|hour| std::fs::read_dir(hls.tree().join(day).join(hour)).unwrap());
        let bears = |path: &Path| rustix::fs::getxattr(path, "user.storage_guard.hold", &mut [0_u8; 4096][..]).is_ok();
        hours.into_iter().flatten().filter(|entry| bears(&entry.as_ref().unwrap().path())).count()
    };
    wait_for("one segment of each bears it", || [&named, &spanned].map(|day| marked(day)) == [1, 1]);
    assert_eq!(marked(&plain), 0);
    let job = asked(&hls, &daemon, &json!({"paths": [plain, named, spanned]}), "done");
    assert_eq!(counts(&job)[4], 2, "{job}");
    assert!(!hls.exists(&plain) && hls.whole(&named) && hls.whole(&spanned));
    for made in [by_name, by_span] {
        let path = format!("/api/v1/holds/{}", made.body["id"]);
        assert_eq!(ask(&hls.state(), "DELETE", &path, &Value::Null).status, 200);
    }
    wait_for("none does any more", || [&named, &spanned].map(|day| marked(day)) == [0, 0]);
    asked(&hls, &daemon, &json!({"paths": [named, spanned]}), "done");
    assert!(!hls.exists(&named) && !hls.exists(&spanned));
}

/// Promise 8.
#[test]
#[ignore = "needs root, a loop device and curl"]
fn a_segment_that_is_open_is_waited_for_and_asking_again_tries_it_at_once() {
    let hls = Hls::new(100);
    let day = hls.day("live/a", 3);
    let config = hls.config(QUIET, "batch_files: 3", "").replace("first: 1s, max: 1s", "first: 1h, max: 1h");
    let segment = format!("{day}/10/02-00_2.ts");
    let holder = Holder::new(&hls.tree().join(&segment), true);
    let daemon = Daemon::start(Path::new(&config), &hls.state());
    let files = (SEGMENTS + PLAYLISTS.len()) as u64;
    let job = asked(&hls, &daemon, &json!({"paths": [day]}), "waiting");
    assert_eq!(counts(&job), [files, files - 1, 0, 1, 0], "{job}");
    assert_eq!(hls.segments(&day), 1);
    let again = asked(&hls, &daemon, &json!({"paths": [day]}), "waiting");
    assert_eq!(counts(&again), [2, 0, 0, 1, 1], "the segment, and the rest of its day: {again}");
    drop(holder);
    let third = asked(&hls, &daemon, &json!({"paths": [day]}), "done");
    assert_eq!(counts(&third), [2, 2, 0, 0, 0], "the segment, and that nothing is left of its day: {third}");
    assert!(!hls.exists(&day));
    let first = until(&daemon, job["id"].as_u64().unwrap(), "done");
    assert_eq!(counts(&first), [files, files, 0, 0, 0], "{first}");
}
