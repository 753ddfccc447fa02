//! What a crash leaves: nothing that was not intended is gone, and every intent is settled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::reclaim::Bed;
use crate::support::{Mounted, guard, json, pause, recording, scale, total};

/// What a journal holds, as it is listed.
#[derive(Default)]
pub(crate) struct Records {
    /// The hash of each outcome and note, by its number.
    hashes: BTreeMap<u64, String>,
    /// Intents without an outcome; they are listed with their outcome, under its number, once there is one.
    open: BTreeSet<u64>,
    /// Intents that have one.
    settled: BTreeSet<u64>,
}

impl Records {
    /// Reads what `journal list --json` said.
    pub(crate) fn new(listed: &serde_json::Value) -> Self {
        let mut records = Self::default();
        for entry in listed["items"].as_array().unwrap() {
            let seq = entry["seq"].as_u64().unwrap();
            if entry["kind"] == "deletion" && entry["outcome"].is_null() {
                records.open.insert(seq);
                continue;
            }
            records.settled.extend(entry["intent"].as_u64());
            records.hashes.insert(seq, entry["hash"].as_str().unwrap().to_owned());
        }
        records
    }

    /// How many of these are not there any more later, or are others.
    pub(crate) fn lost(&self, later: &Self) -> u64 {
        let changed = self.hashes.iter().filter(|(seq, hash)| later.hashes.get(seq) != Some(hash)).count();
        let known = |seq: &u64| later.open.contains(seq) || later.settled.contains(seq);
        let forgotten = self.open.iter().chain(&self.settled).filter(|seq| !known(seq)).count();
        (changed + forgotten) as u64
    }
}

/// What was recorded meanwhile.
#[derive(Default)]
struct Added {
    /// The newest of all: these stay.
    young: Vec<String>,
    /// The oldest of all: these may go.
    old: Vec<String>,
}

/// A recorder that goes on while the guard is killed; ended when dropped.
struct Writer {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<Added>>,
}

impl Writer {
    /// Again and again a small recording that is too young to go, and a large one that is the oldest, while there is room.
    fn start(tree: PathBuf) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let mut added = Added::default();
            for at in 0.. {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                // Each has a second of its own, and with it a name of its own.
                let later = Duration::from_secs(at);
                added.young.push(recording(&tree, "live/new", Duration::from_secs(7200) - later, 4096));
                let stat = rustix::fs::statvfs(&tree).unwrap();
                if stat.f_bavail * stat.f_frsize > 60 << 20 {
                    added.old.push(recording(&tree, "live/old", Duration::from_secs(400 * 3600) - later, 1 << 20));
                }
                pause(Duration::from_millis(250));
            }
            added
        });
        Self { ended, thread: Some(thread) }
    }

    /// Ends it; returns what it made.
    fn stop(mut self) -> Added {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Fault 67: killed at random moments, while recordings come in.
#[test]
#[ignore = "needs root and a loop device"]
fn killed_at_any_moment_nothing_is_gone_that_was_not_intended() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    // One file a batch and a slow pace, so that a run is long enough to be killed in.
    let config = bed.config("", "");
    let text = std::fs::read_to_string(&config).unwrap();
    let slow = text.replace("batch_files: 5", "batch_files: 1, max_files_per_second: 30");
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    std::fs::write(&config, slow).unwrap();
    let path = config.to_str().unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut killed = 0;
    let times = scale(60, 1000);
    let (mut seen, mut records_lost) = (Records::default(), 0);
    let writer = Writer::start(bed.tree());
    for time in 1..=times {
        let mut child = Command::new(env!("CARGO_BIN_EXE_storage-guard"))
            .args(["reclaim", "-c", path])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        pause(Duration::from_micros(8_000 + (random >> 33) % 50_000));
        if child.try_wait().unwrap().is_none() {
            killed += 1;
        }
        let _ = child.kill();
        let _ = child.wait();
        if time % 50 == 0 {
            let now = Records::new(&json(&["journal", "list", "-c", path]));
            records_lost += seen.lost(&now);
            seen = now;
        }
    }
    let added = writer.stop();
    assert!(killed > times / 2, "the guard was too quick: killed {killed} times");
    assert!(!added.young.is_empty(), "nothing was recorded meanwhile");
    let last = guard(&["reclaim", "-c", path]);
    assert!(matches!(last.status.code(), Some(0 | 4)), "{}", String::from_utf8_lossy(&last.stderr));
    let verified = guard(&["journal", "verify", "-c", path]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let listed = json(&["journal", "list", "-c", path]);

    let entries = listed["items"].as_array().unwrap();
    let of = |outcome: &str| -> std::collections::BTreeSet<String> {
        let found = entries.iter().filter(|entry| entry["kind"] == "deletion" && entry["outcome"] == outcome);
        found.map(|entry| entry["path"].as_str().unwrap().to_owned()).collect()
    };
    let open = entries.iter().filter(|entry| entry["kind"] == "deletion" && entry["outcome"].is_null()).count();
    assert_eq!(open, 0, "every intent is settled");
    let deleted = of("verified");
    for (at, path) in bed.made.iter().enumerate() {
        assert_eq!(!bed.exists(at), deleted.contains(path), "{path}");
    }
    for path in &added.old {
        assert_eq!(!bed.tree().join(path).is_file(), deleted.contains(path), "{path}");
    }
    for path in &added.young {
        assert!(bed.tree().join(path).is_file(), "{path} is young, and gone");
        assert!(!deleted.contains(path), "{path} is young, and on record as deleted");
    }
    records_lost += seen.lost(&Records::new(&listed));
    assert_eq!(records_lost, 0, "entries of the journal are lost");
    let private = std::fs::read_dir(bed.tree().join(".storage-guard")).unwrap();
    let left: Vec<_> = private.map(|entry| entry.unwrap().file_name()).filter(|name| name != "marker").collect();
    assert!(left.is_empty(), "{left:?} are left in the private folder");
    total("kills", killed);
    total("recordings added between kills", (added.young.len() + added.old.len()) as u64);
    total("records lost by kills", records_lost);
}
