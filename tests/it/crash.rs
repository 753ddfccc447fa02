//! What a crash leaves: nothing that was not intended is gone, and every intent is settled.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::reclaim::Bed;
use crate::support::{Mounted, guard, pause};

/// How often the guard is killed.
const TIMES: usize = 200;

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
    for _ in 0..TIMES {
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
    }
    assert!(killed > TIMES / 2, "the guard was too quick: killed {killed} times");
    let last = guard(&["reclaim", "-c", path]);
    assert!(matches!(last.status.code(), Some(0 | 4)), "{}", String::from_utf8_lossy(&last.stderr));
    let verified = guard(&["journal", "verify", "-c", path]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let listed = guard(&["journal", "list", "--json", "-c", path]);
    let entries: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let entries = entries["items"].as_array().unwrap();
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
    let private = std::fs::read_dir(bed.tree().join(".storage-guard")).unwrap();
    let left: Vec<_> = private.map(|entry| entry.unwrap().file_name()).filter(|name| name != "marker").collect();
    assert!(left.is_empty(), "{left:?} are left in the private folder");
}
