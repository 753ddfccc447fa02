//! The cold tier on a second disk: what is old is copied, verified, and only then goes; whatever fails on the way, the source stays.
#![expect(clippy::disallowed_methods, reason = "it makes and changes the test's own files")]

mod days;
pub(crate) mod lying;
mod troubled;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::reclaim::Bed;
use crate::support::asking::{ask, items, until};
use crate::support::{Daemon, Mounted, guard, json as printed, now, pause, recording, run, wait_for};

const HOUR: Duration = Duration::from_secs(3600);

/// A bed whose recordings differ from each other, and a second disk.
pub(crate) struct Cold {
    pub(crate) bed: Bed,
    pub(crate) disk: Mounted,
    /// What each recording held, by its path.
    pub(crate) content: BTreeMap<String, Vec<u8>>,
}

impl Cold {
    pub(crate) fn new(hot: Mounted, disk: Mounted, count: u32) -> Self {
        let bed = Bed::new(hot, count);
        let mut content = BTreeMap::new();
        for path in &bed.made {
            let file = bed.tree().join(path);
            let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
            let mut film = vec![0; 1 << 20];
            fastrand::Rng::with_seed(path.bytes().map(u64::from).sum::<u64>() + content.len() as u64).fill(&mut film);
            std::fs::write(&file, &film).unwrap();
            std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
            content.insert(path.clone(), film);
        }
        run("sync", &["-f", bed.volume.path().to_str().unwrap()]);
        Self { bed, disk, content }
    }

    /// The bed's configuration, with the second disk as its archive; `archive` and `rest` are added.
    pub(crate) fn config(&self, archive: &str, rest: &str) -> PathBuf {
        let text = format!(
            "{rest}archives:\n  - {{ name: cold, kind: directory, path: {}, {archive} }}\n",
            self.disk.path().display()
        );
        self.bed.config("    archive: cold\n", &text)
    }

    pub(crate) fn copy(&self, at: usize) -> PathBuf {
        self.disk.path().join("live").join(&self.bed.made[at])
    }

    /// How many recordings have a copy that is the same, byte for byte. A copy that is not is none that may ever be there.
    pub(crate) fn copies(&self) -> usize {
        let mut count = 0;
        for (at, path) in self.bed.made.iter().enumerate() {
            if let Ok(found) = std::fs::read(self.copy(at)) {
                assert!(found == self.content[path], "the copy of {path} is another");
                count += 1;
            }
        }
        count
    }

    /// No recording is in neither place, and none that is here changed.
    pub(crate) fn nothing_is_lost(&self) {
        for (at, path) in self.bed.made.iter().enumerate() {
            match std::fs::read(self.bed.file(at)) {
                Ok(found) => assert!(found == self.content[path], "{path} changed"),
                Err(_) => {
                    assert!(std::fs::read(self.copy(at)).is_ok_and(|copy| copy == self.content[path]), "{path} is lost")
                }
            }
        }
    }

    pub(crate) fn state(&self) -> String {
        self.bed.state().to_str().unwrap().to_owned()
    }
}

pub(crate) fn archive_of(daemon: &Daemon) -> Value {
    serde_json::from_str::<Value>(&daemon.get("/api/v1/archives")).unwrap()["items"][0].clone()
}

fn metric(daemon: &Daemon, start: &str) -> Option<f64> {
    daemon.get("/metrics").lines().find_map(|line| line.strip_prefix(start)?.trim().parse().ok())
}

pub(crate) fn restore(cold: &Cold, body: &Value) -> u64 {
    restore_from(&cold.bed, body)
}

fn restore_from(bed: &Bed, body: &Value) -> u64 {
    let answer = ask(&bed.state(), "POST", "/api/v1/archive/restore", body);
    assert_eq!(answer.status, 202, "{}", answer.body);
    answer.body["job"].as_u64().unwrap()
}

#[test]
#[ignore = "needs root and two loop devices"]
fn what_is_old_moves_to_the_second_disk_and_comes_back_the_same() {
    let cold = Cold::new(Mounted::ext4(64), Mounted::xfs(320), 20);
    let young = recording(&cold.bed.tree(), "live/a", 2 * HOUR, 1 << 20);
    let config = cold.config("after: 1d", "scan_interval: 1s\n");
    let daemon = Daemon::start(&config, &cold.bed.state());
    wait_for("all that is old has moved", || cold.bed.gone() == 20);
    assert_eq!(cold.copies(), 20);
    assert!(cold.bed.tree().join(&young).exists(), "what is young stays");
    let of_cold = std::fs::metadata(cold.copy(3)).unwrap().modified().unwrap();
    let age = now().duration_since(of_cold).unwrap();
    assert!(age > 50 * HOUR, "the copy bears the time of its source");
    let count =
        || metric(&daemon, "storage_guard_deletions_total{outcome=\"verified\",tree=\"live\",trigger=\"archive\"}");
    wait_for("the metric says so", || count() == Some(20.0));
    assert!(metric(&daemon, "storage_guard_last_success_timestamp_seconds{task=\"archive\"}").unwrap() > 1e9);
    // The journal keeps where it went, and what it was.
    let why = guard(&["journal", "explain", &cold.bed.made[0], "--state", &cold.state()]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("archive `cold`") && why.contains("SHA-256"), "{why}");
    wait_for("the archive was scanned", || {
        printed(&["archive", "list", "live", "--state", &cold.state()])["items"].as_array().unwrap().len() == 20
    });

    // By its path.
    let out = guard(&["archive", "restore", "live", &cold.bed.made[5], "--state", &cold.state()]);
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(std::fs::read(cold.bed.file(5)).unwrap(), cold.content[&cold.bed.made[5]]);
    // Those of a stream that reach into a span: all of one camera.
    let span =
        json!({"tree": "live", "stream": "live/b", "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"});
    let over = until(&daemon, restore(&cold, &span), "done");
    assert_eq!((&over["verified"], &over["failed"]), (&json!(7), &json!(0)), "{over}");
    let back: Vec<usize> = (0..20).filter(|at| cold.bed.exists(*at)).collect();
    assert_eq!(back, [1, 4, 5, 7, 10, 13, 16, 19]);
    assert!(back.iter().all(|at| std::fs::read(cold.bed.file(*at)).unwrap() == cold.content[&cold.bed.made[*at]]));
    // Whoever had them brought back sees them for a while: they do not move again at once.
    pause(Duration::from_secs(5));
    assert_eq!((0..20).filter(|at| cold.bed.exists(*at)).count(), 8);
    assert_eq!(cold.copies(), 20, "the copies stay");
    // Never over another file, and what is not there is said.
    std::fs::create_dir_all(cold.bed.file(0).parent().unwrap()).unwrap();
    std::fs::write(cold.bed.file(0), "somebody else's").unwrap();
    let job = restore(
        &cold,
        &json!({"tree": "live", "paths": [cold.bed.made[0], "live/a/2020-01-01/2020-01-01-00-00-00-0.mp4", cold.bed.made[4]]}),
    );
    let over = until(&daemon, job, "done");
    assert_eq!((&over["verified"], &over["failed"], &over["kept"]), (&json!(1), &json!(1), &json!(1)), "{over}");
    assert_eq!(std::fs::read(cold.bed.file(0)).unwrap(), b"somebody else's");
    let details: Vec<String> = items(&daemon, job).iter().map(|item| item["detail"].to_string()).collect();
    assert!(details.iter().any(|text| text.contains("not overwritten")), "{details:?}");
    assert!(details.iter().any(|text| text.contains("not in the archive")), "{details:?}");
    for (body, status, word) in [
        (json!({"tree": "none", "paths": ["a"]}), 404, "none"),
        (json!({"tree": "cold", "paths": ["a"]}), 409, "archive"),
        (json!({"tree": "live", "paths": ["../a"]}), 400, "below a tree"),
        (json!({"tree": "live"}), 400, "either"),
    ] {
        let answer = ask(&cold.bed.state(), "POST", "/api/v1/archive/restore", &body);
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.body["error"]["message"].as_str().unwrap().contains(word), "{}", answer.body);
    }
}

#[test]
#[ignore = "needs root and two loop devices"]
fn under_pressure_the_oldest_are_copied_before_they_go() {
    let cold = Cold::new(Mounted::ext4(200), Mounted::ext4(400), 150);
    let config = cold.config("after: 300d", "");
    let daemon = Daemon::start(&config, &cold.bed.state());
    wait_for("the low mark is reached", || daemon.pressure() == "normal" && cold.bed.gone() > 20);
    cold.nothing_is_lost();
    let gone = cold.bed.gone();
    assert!((20..80).contains(&gone), "{gone} are gone");
    cold.bed.oldest_are_gone(&Default::default());
    let entries = printed(&["journal", "list", "--state", &cold.state()]);
    let rules = |rule: &str| {
        entries["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["rule"] == rule && entry["outcome"] == "verified")
            .count()
    };
    assert_eq!((rules("archived"), rules("pressure"), rules("unarchived")), (gone, 0, 0));
}

#[test]
#[ignore = "needs root and two loop devices"]
fn a_cap_holds_for_what_moves_too_and_the_copies_are_made_all_the_same() {
    let cold = Cold::new(Mounted::ext4(64), Mounted::ext4(64), 20);
    let config = cold.config("after: 1d", "scan_interval: 1s\n");
    let text = std::fs::read_to_string(&config).unwrap().replace("max_share: 100%", "max_share: 10%");
    std::fs::write(&config, text).unwrap();
    let _daemon = Daemon::start(&config, &cold.bed.state());
    let caps = || printed(&["cap", "list", "--state", &cold.state()])["items"].clone();
    wait_for("the cap trips", || caps()[0]["cap"] == "run_share");
    wait_for("all are copied", || cold.copies() == 20);
    assert!(cold.bed.gone() <= 2, "{}", cold.bed.gone());
    let all = || {
        let out = guard(&["cap", "acknowledge", "live", "run_share", "--state", &cold.state()]);
        let _ = out.status.success();
        cold.bed.gone() == 20
    };
    wait_for("a person lets them go", all);
    cold.nothing_is_lost();
}

#[test]
#[ignore = "needs root and two loop devices"]
fn where_no_copy_can_be_made_nothing_goes_before_the_volume_is_critical() {
    let cold = Cold::new(Mounted::ext4(200), Mounted::ext4(20), 150);
    // It bears another state's marker: it is not our disk.
    let config = cold.config("after: 1d", "");
    std::fs::create_dir(cold.disk.path().join(".storage-guard")).unwrap();
    run("chmod", &["700", cold.disk.path().join(".storage-guard").to_str().unwrap()]);
    std::fs::write(
        cold.disk.path().join(".storage-guard/marker"),
        "tree: other\nstate: another\nfilesystem: x\ntop: 1\n",
    )
    .unwrap();
    let daemon = Daemon::start(&config, &cold.bed.state());
    wait_for("it is said", || archive_of(&daemon)["problem"].as_str().is_some_and(|text| text.contains("marker")));
    pause(Duration::from_secs(3));
    assert_eq!(cold.bed.gone(), 0);
    let spared = || metric(&daemon, "storage_guard_spared_bytes{tree=\"live\",reason=\"archive_pending\"}");
    assert!(spared().unwrap() > 20e6, "{:?}", spared());
    // Above the critical mark a recording in the future is worth more than one in the past.
    let text = std::fs::read_to_string(&config).unwrap().replace("critical: 99%", "critical: 75%");
    std::fs::write(&config, text).unwrap();
    run("kill", &["-HUP", &daemon.pid().to_string()]);
    wait_for("it goes without a copy", || cold.bed.gone() > 0);
    let entry = || {
        let all = printed(&["journal", "list", "--state", &cold.state()]);
        all["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["rule"] == "unarchived" && entry["outcome"] == "verified")
    };
    wait_for("the journal says why", entry);
    assert!(!Path::new(&cold.copy(0)).exists());
}
