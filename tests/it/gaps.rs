//! Why a span of a stream is missing: every answer, by the running guard and by the command alone (promise 10).

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use storage_guard::domain::history::{Stopped, recording_note};
use storage_guard::domain::journal::{Entry, NoteKind};
use storage_guard::domain::live::StreamTuple;
use storage_guard::domain::names::{MediaServerId, TreeId, VolumeId};
use storage_guard::domain::units::Timestamp;
use storage_guard::store::{Database, HookRecord, open_state};

use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted, guard, json, now, wait_for};

const HOUR: i64 = 3600;

/// A tree with a past: a guard that has watched it for two days, and heard what its media server told.
struct Past {
    home: tempfile::TempDir,
    /// Two days ago, in seconds since the epoch.
    base: i64,
}

impl Past {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("record")).unwrap();
        let now = jiff::Timestamp::try_from(now()).unwrap().as_second();
        Self { home, base: now - 48 * HOUR }
    }

    fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    fn path(&self, stream: &str, later: i64) -> String {
        let at = jiff::Timestamp::from_second(self.base + later).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
        format!("{stream}/{}/{}-0.mp4", at.strftime("%Y-%m-%d"), at.strftime("%Y-%m-%d-%H-%M-%S"))
    }

    fn file(&self, stream: &str, later: i64) -> PathBuf {
        self.home.path().join("record").join(self.path(stream, later))
    }

    /// A slice of five minutes that begins so much later than two days ago.
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    fn record(&self, stream: &str, later: i64) {
        let file = self.file(stream, later);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, vec![7; 20_000]).unwrap();
        let modified = std::time::UNIX_EPOCH + Duration::from_secs((self.base + later + 300).unsigned_abs());
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    }

    fn at(&self, later: i64) -> Timestamp {
        Timestamp::from_secs(self.base + later)
    }

    /// What the guard wrote down while it ran.
    fn remember(&self, hooks: &[(&str, i64)]) {
        let state = open_state(&self.state()).unwrap();
        let append = |later: i64, entry: Entry| drop(state.journal.append_synced(vec![entry], self.at(later)).unwrap());
        append(-10 * HOUR, Entry::note(NoteKind::Started, "version 1"));
        let names = StreamTuple { vhost: "__defaultVhost__".into(), app: "live".into(), stream: "off".into() };
        let stream = (MediaServerId::new("zlm-1"), names);
        let stopped = Stopped { since: self.at(1000), volume: VolumeId::new("data"), tree: TreeId::new("live") };
        append(1000, recording_note(&stream, Some(&stopped), "volume data is critical"));
        append(2000, recording_note(&stream, None, "there is room again"));
        let database = Database::of(&self.state().join("guard.db"), state.dir.id()).unwrap().database;
        for (stream, later) in hooks {
            let record = HookRecord {
                path: format!("/zlm/record/{}", self.path(stream, *later)).into_bytes(),
                start: self.at(*later),
                media_server: "zlm-1".to_owned(),
                stream: (*stream).to_owned(),
                size: 20_000,
                length: 300_000,
            };
            database.keep_hooks(&[record], self.at(later + 301)).unwrap();
        }
    }

    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    fn config(&self) -> PathBuf {
        let path = self.home.path().join("guard.yaml");
        let text = format!(
            "mode: enforce\nlisten: 127.0.0.1:0\nstate: {{ path: {} }}\nprobe_interval: 1s\nscan_interval: 1s\n\
             watermarks: {{ high: 99.9%, low: 99.8%, critical: 99.95%, full_within: 0 }}\n\
             cleanup: {{ max_share: 100% }}\ntrees:\n  - name: live\n    path: {}\n    layout: zlmediakit\n    \
             timezone: UTC\n    catalogue: told\n    retention: [ {{ stream: \"live/old\", max_age: 1h }} ]\n\
             catalogues: [ {{ name: told, kind: hooks, interval: 1s, path_map: {{ /zlm: {} }} }} ]\n",
            self.state().display(),
            self.home.path().join("record").display(),
            self.home.path().display(),
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// The only finding of an answer.
fn only(gap: &Value) -> &Value {
    let items = gap["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{gap}");
    &items[0]
}

fn evidence(found: &Value) -> String {
    found["evidence"].as_array().unwrap().iter().map(|one| format!("{one}\n")).collect()
}

#[test]
fn every_absence_has_its_reason_by_the_running_guard_and_without_it() {
    let past = Past::new();
    for (stream, later) in [("live/cam", 0), ("live/cam", 900), ("live/hand", 0), ("live/old", 0), ("live/old", 300)] {
        past.record(stream, later);
    }
    past.record("live/off", 0);
    past.remember(&[("live/cam", 0), ("live/cam", 900), ("live/hand", 0)]);
    let config = past.config();
    let config = config.to_str().unwrap();
    let init = guard(&["init", "-c", config]);
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
    let daemon = Daemon::start(Path::new(config), &past.state());
    wait_for("retention is carried out", || !past.file("live/old", 0).exists() && !past.file("live/old", 300).exists());
    #[expect(clippy::disallowed_methods, reason = "somebody else removes it")]
    std::fs::remove_file(past.file("live/hand", 0)).unwrap();
    let journal = |kind: &str| {
        let listed = json(&["journal", "list", "--state", past.state().to_str().unwrap()]);
        listed["items"].as_array().unwrap().iter().filter(|entry| entry["kind"] == kind).count()
    };
    wait_for("its run is over", || journal("run_ended") >= 1 && journal("rows") == 0);
    let scanned_without = || {
        let status = daemon.status().unwrap();
        status["trees"][0]["files"] == 3
    };
    wait_for("it is scanned again", scanned_without);

    let span = format!("{}/{}", past.at(-60), past.at(1100));
    let (gap, off) = (past.at(600).to_string(), past.at(1500).to_string());
    let local = past.at(600).to_string().replace('T', " ").trim_end_matches('Z').to_owned();
    let questions: Vec<(&str, String, &[&str], &[&str])> = vec![
        ("live/cam", past.at(100).to_string(), &["recorded"], &["it is there", "record 1"]),
        ("live/cam", gap, &["never_recorded"], &["before it: ", "after it: ", "the guard was started, and not again"]),
        ("live/cam", local, &["never_recorded"], &["told of it (record 2)"]),
        ("live/cam", span, &["unknown", "recorded", "never_recorded", "recorded"], &[]),
        (
            "live/cam",
            past.at(-20 * HOUR).to_string(),
            &["unknown"],
            &["the journal begins only at", "told of a recording before it"],
        ),
        (
            "live/off",
            off,
            &["never_recorded"],
            &["recording was stopped by media server zlm-1: volume data is critical"],
        ),
        ("live/hand", past.at(10).to_string(), &["removed"], &["record 3", "looked for, and is not there"]),
        ("live/old", past.at(10).to_string(), &["deleted"], &["rule max_age", "the run ended"]),
        ("live/old", format!("{}/{}", past.at(10), past.at(600)), &["deleted"], &["rule max_age"]),
        ("live/old", past.at(2000).to_string(), &["unknown"], &["it was deleted, looked for and not found"]),
    ];
    let ask = |place: &[&str], stream: &str, time: &str| {
        json(&[&["journal", "explain"][..], place, &[stream, time]].concat())
    };
    let state = past.state();
    let running = ["--state", state.to_str().unwrap()];
    let mut answers = Vec::new();
    for (stream, time, verdicts, said) in &questions {
        let answer = ask(&running, stream, time);
        let found: Vec<&str> =
            answer["items"].as_array().unwrap().iter().map(|one| one["verdict"].as_str().unwrap()).collect();
        assert_eq!(found, *verdicts, "{stream} {time}: {answer:#}");
        for said in *said {
            assert!(evidence(only(&answer)).contains(said), "{stream} {time}: {said}: {answer:#}");
        }
        answers.push(answer);
    }
    let deleted = &only(&answers[8]);
    let deletion = &deleted["deletion"];
    assert_eq!(
        (&deleted["files"], &deletion["rule"], &deletion["who"]),
        (&2.into(), &"max_age".into(), &"guard".into())
    );
    assert!(deletion["intent"].as_u64() < deletion["outcome"].as_u64() && deletion["run_ended"].is_u64(), "{deletion}");
    let text = guard(&[&["journal", "explain"][..], &running, &["live/off", &questions[5].1]].concat());
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.starts_with(&format!("NEVER RECORDED: live/off in tree live, {}\n  nothing was recorded", questions[5].1)),
        "{text}"
    );
    let refusals = |place: &[&str]| {
        for (args, code, said) in [
            (&["live/can", "2026-01-01"][..], 5, "look most like it: live/cam, "),
            (&["live/cam", "yesterday"], 2, "is no time; write it as 2026-11-22T08:30:00Z"),
            (&["live/cam", "2026-01-01/2026-01-09"], 1, "longer than 48 hours"),
            (&["live/cam", "2026-01-01", "--of-tree", "cold"], 5, "there is no tree `cold`; there are: live"),
            (&["live/cam", "2999-01-01"], 1, "has not come yet"),
            (&["live/../cam", "2026-01-01"], 1, "no stream's name"),
        ] {
            let output = guard(&[&["journal", "explain"][..], place, args].concat());
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
            assert!(error.contains(said), "{args:?}: {error}");
        }
    };
    refusals(&running);
    drop(daemon);
    let alone = ["-c", config];
    for ((stream, time, ..), answer) in questions.iter().zip(&answers) {
        assert_eq!(ask(&alone, stream, time), *answer, "{stream} {time}");
    }
    refusals(&alone);
}

#[test]
#[ignore = "needs root and a loop device"]
fn what_went_under_pressure_or_was_asked_for_says_so_and_what_is_held_too() {
    let bed = Bed::new(Mounted::ext4(100), 80);
    let config = bed.config("", "");
    let state = bed.state();
    let stream_and_time = |at: usize| {
        let name = bed.made[at].rsplit('/').next().unwrap();
        let stream = bed.made[at].rsplitn(3, '/').nth(2).unwrap().to_owned();
        (stream, format!("{} {}", &name[..10], name[11..19].replace('-', ":")))
    };
    let daemon = Daemon::start(&config, &state);
    wait_for("the low mark is reached", || daemon.reached_low());
    let ask = |at: usize| {
        let (stream, time) = stream_and_time(at);
        json(&["journal", "explain", "--state", state.to_str().unwrap(), &stream, &time])
    };
    let gone = ask(0);
    let gone = only(&gone);
    assert_eq!((&gone["verdict"], &gone["path"]), (&"deleted".into(), &bed.made[0].as_str().into()));
    assert_eq!((&gone["deletion"]["trigger"], &gone["deletion"]["rule"]), (&"pressure".into(), &"pressure".into()));
    assert!(evidence(gone).contains("the run ended"), "{gone:#}");
    let held = bed.made.len() - 1;
    let args = ["hold", "add", "--state", state.to_str().unwrap(), "--reason", "case 7", "live", &bed.made[held]];
    assert!(guard(&args).status.success());
    let there = ask(held);
    assert_eq!(only(&there)["verdict"], "recorded");
    assert!(evidence(only(&there)).contains("hold 1 by root keeps it: case 7"), "{there:#}");
    let asked = held - 1;
    let body = serde_json::json!({"tree": "live", "paths": [bed.made[asked]]});
    let job = crate::support::asking::delete(&state, &body);
    crate::support::asking::until(&daemon, job, "done");
    let gone = ask(asked);
    let deletion = &only(&gone)["deletion"];
    assert_eq!(
        (&deletion["trigger"], &deletion["who"], &deletion["job"]),
        (&"operator".into(), &"root".into(), &job.into())
    );
}
