//! Space that is reclaimed, on real filesystems.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;

use crate::notify::{KEY, MailServer, receiver};
use crate::support::{Daemon, Mounted, certificate, guard, pause, recording, run, wait_for};

const MIB: usize = 1 << 20;
const HOUR: Duration = Duration::from_secs(3600);
/// Files in a batch, in these tests.
const BATCH: usize = 5;

/// A volume with a tree, and a home for configuration and state beside it.
pub(crate) struct Bed {
    pub(crate) volume: Mounted,
    pub(crate) home: tempfile::TempDir,
    /// Paths below the tree, the oldest first.
    pub(crate) made: Vec<String>,
}

impl Bed {
    /// `count` recordings of one MiB over ten days, of three cameras.
    pub(crate) fn new(volume: Mounted, count: u32) -> Self {
        let tree = volume.path().join("record");
        let made = (0..count).map(|at| {
            let age = 240 * HOUR * (count - at) / count + 60 * HOUR;
            recording(&tree, ["live/a", "live/b", "live/c"][at as usize % 3], age, MIB)
        });
        let made = made.collect();
        run("sync", &["-f", volume.path().to_str().unwrap()]);
        Self { home: tempfile::tempdir().unwrap(), made, volume }
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.volume.path().join("record")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// Writes the configuration: marks at 70 and 50 %, small batches, quick retries; `tree` and `rest` are added.
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    pub(crate) fn config(&self, tree: &str, rest: &str) -> PathBuf {
        let path = self.home.path().join("guard.yaml");
        let text = format!(
            "mode: enforce\nlisten: 127.0.0.1:0\nstate: {{ path: {} }}\nprobe_interval: 1s\n\
             watermarks: {{ high: 70%, low: 50%, critical: 99% }}\n\
             cleanup: {{ batch_files: {BATCH}, pause: 0, max_share: 100%, retry: {{ first: 1s, max: 1s }} }}\n\
             trees:\n  - name: live\n    path: {}\n    layout: zlmediakit\n{tree}{rest}",
            self.state().display(),
            self.tree().display(),
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn file(&self, at: usize) -> PathBuf {
        self.tree().join(&self.made[at])
    }

    pub(crate) fn exists(&self, at: usize) -> bool {
        std::fs::symlink_metadata(self.file(at)).is_ok()
    }

    /// How many of those that were made are gone.
    pub(crate) fn gone(&self) -> usize {
        (0..self.made.len()).filter(|at| !self.exists(*at)).count()
    }

    /// The oldest eligible are gone, and no other.
    pub(crate) fn oldest_are_gone(&self, spared: &BTreeSet<usize>) {
        let eligible: Vec<usize> = (0..self.made.len()).filter(|at| !spared.contains(at)).collect();
        let gone = eligible.iter().take_while(|at| !self.exists(**at)).count();
        assert!(gone > 0, "nothing was deleted");
        let late: Vec<_> = eligible[gone..].iter().filter(|at| !self.exists(**at)).collect();
        assert!(late.is_empty(), "{late:?} are gone, though {} is not", eligible[gone]);
        assert!(spared.iter().all(|at| self.exists(*at)), "{spared:?}");
    }

    /// Half of the volume is free, and not more than a batch beyond that.
    pub(crate) fn at_the_low_mark(&self) {
        run("sync", &["-f", self.volume.path().to_str().unwrap()]);
        let stat = rustix::fs::statvfs(self.volume.path()).unwrap();
        let (used, available) = ((stat.f_blocks - stat.f_bfree) * stat.f_frsize, stat.f_bavail * stat.f_frsize);
        let low = (used + available) / 2;
        let batch = ((BATCH + 1) * MIB) as u64;
        assert!(available + (MIB as u64) >= low, "{available} of {low}");
        assert!(available < low + batch, "{} too much was deleted", available - low);
    }
}

/// A process that has a file open, ended when dropped.
pub(crate) struct Holder(Child);

impl Holder {
    pub(crate) fn new(path: &Path, writes: bool) -> Self {
        let file = std::fs::File::options().read(!writes).append(writes).open(path).unwrap();
        let mut command = Command::new("sleep");
        command.arg("600");
        if writes {
            command.stdin(Stdio::null()).stdout(file)
        } else {
            command.stdin(file)
        };
        Self(command.spawn().unwrap())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn reached_low(daemon: &Daemon) -> bool {
    let status = daemon.status().unwrap();
    let volume = &status["volumes"][0];
    volume["pressure"] == "normal" && volume["last_run"]["result"] == "reached_low"
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, a loop device and python3-aiosmtpd"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
async fn a_volume_that_filled_up_is_brought_to_its_low_mark_and_somebody_is_told() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let [ca, cert, key] = certificate(bed.home.path());
    let server = MailServer::start("starttls", &[&cert, &key]);
    let (port, mut hooks) = receiver(&["204 No Content"]).await;
    std::fs::write(bed.home.path().join("password"), "secret").unwrap();
    let secret = format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(KEY));
    std::fs::write(bed.home.path().join("key"), secret).unwrap();
    for file in ["password", "key"] {
        run("chmod", &["600", bed.home.path().join(file).to_str().unwrap()]);
    }
    let notify = format!(
        "notify:\n  group_wait: 5s\n  group_interval: 1s\n  channels:\n    - {{ name: mail, kind: email, server: \
         \"smtp://localhost:{}\", tls: required, ca_file: {}, username: guard, password_file: password, from: \
         guard@example.org, to: ops@example.org }}\n    - {{ name: hook, kind: webhook, url: \
         \"http://127.0.0.1:{port}/in\", secret_file: key }}\n",
        server.port,
        ca.display()
    );
    // Immutable, written, read, hard-linked, protected, and a link to a file outside.
    let spared = BTreeSet::from([3, 5, 8, 10, 12, 13]);
    run("chattr", &["+i", bed.file(3).to_str().unwrap()]);
    let held = [Holder::new(&bed.file(5), true), Holder::new(&bed.file(8), false)];
    std::fs::hard_link(bed.file(10), bed.volume.path().join("twin")).unwrap();
    let outside = bed.home.path().join("precious.mp4");
    std::fs::write(&outside, "precious").unwrap();
    std::fs::remove_file(bed.file(13)).unwrap();
    std::os::unix::fs::symlink(&outside, bed.file(13)).unwrap();
    let config = bed.config(&format!("    protect: [\"{}\"]\n", bed.made[12]), &notify);

    let daemon = Daemon::start(&config, &bed.state());
    wait_for("the low mark is reached", || reached_low(&daemon));
    bed.oldest_are_gone(&spared);
    bed.at_the_low_mark();
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "precious");

    let mail = server.mail();
    assert_eq!((&mail["tls"], &mail["login"]), (&true.into(), &true.into()));
    let text = mail["text"].as_str().unwrap();
    assert!(text.contains("RecordingLocked") && text.contains(&bed.made[3]), "{text}");
    let hook = hooks.recv().await.unwrap();
    hook.verify();
    let body: serde_json::Value = serde_json::from_str(&hook.body).unwrap();
    assert_eq!((&body["type"], &body["data"]["alert"]), (&"alert.firing".into(), &"RecordingLocked".into()));
    let items = body["data"]["unreclaimed"]["items"].as_array().unwrap();
    let of = |at: usize| items.iter().find(|item| item["path"] == bed.made[at].as_str()).unwrap();
    assert_eq!(of(3)["holder"], serde_json::Value::Null);
    assert!(of(5)["holder"].as_str().unwrap().contains("sleep"), "{}", of(5));

    run("chattr", &["-i", bed.file(3).to_str().unwrap()]);
    drop(held);
    wait_for("what was locked is deleted", || !bed.exists(3) && !bed.exists(5) && !bed.exists(8));
    let log = || std::fs::read_to_string(config.with_extension("log")).unwrap();
    let at_last =
        |line: &&str| line.contains("INFO") && line.contains("A recording whose deletion had failed is deleted.");
    wait_for("the log says so", || log().lines().filter(at_last).count() == 3);
    let resolved = loop {
        let hook = hooks.recv().await.unwrap();
        if hook.body.contains("alert.resolved") {
            break hook;
        }
    };
    resolved.verify();
    drop(daemon);
    let verified = guard(&["journal", "verify", "-c", config.to_str().unwrap()]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// One-shot, on a filesystem whose space comes back late.
fn check_lagging(volume: Mounted) {
    let bed = Bed::new(volume, 300);
    let config = bed.config("", "");
    let output = guard(&["reclaim", "-c", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    bed.oldest_are_gone(&BTreeSet::new());
    bed.at_the_low_mark();
}

#[test]
#[ignore = "needs root and a loop device"]
fn xfs_gives_space_back_late_and_nothing_more_is_deleted_for_it() {
    check_lagging(Mounted::xfs(400));
}

#[test]
#[ignore = "needs root and a loop device"]
fn btrfs_gives_space_back_late_and_a_subvolume_is_no_obstacle() {
    let volume = Mounted::btrfs(420);
    let tree = volume.path().join("record");
    std::fs::create_dir_all(tree.join("live")).unwrap();
    run("btrfs", &["-q", "subvolume", "create", tree.join("live/b").to_str().unwrap()]);
    check_lagging(volume);
}

/// Fault 40.
#[test]
#[ignore = "needs root and a loop device"]
fn a_snapshot_that_holds_everything_costs_no_recording() {
    let bed = Bed::new(Mounted::btrfs(420), 300);
    let top = bed.volume.path().to_str().unwrap().to_owned();
    run("btrfs", &["-q", "subvolume", "snapshot", "-r", &top, &format!("{top}/snapshot")]);
    let config = bed.config("", "");
    let output = guard(&["reclaim", "--json", "-c", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stdout));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["items"][0]["result"], "exhausted", "{report}");
    assert!(report["items"][0]["why"].as_str().unwrap().contains("snapshot"), "{report}");
    assert_eq!(bed.gone(), 0, "recordings were deleted in the hope of space");
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_writer_does_not_look_like_a_stall() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    let stop = Arc::new(AtomicBool::new(false));
    let (writing, tree) = (stop.clone(), bed.tree());
    let mark = rustix::time::ClockId::Monotonic;
    let now = move || {
        let at = rustix::time::clock_gettime(mark);
        Duration::new(at.tv_sec.unsigned_abs(), u32::try_from(at.tv_nsec).unwrap())
    };
    let sync = |path: &Path| std::fs::File::open(path).unwrap().sync_all().unwrap();
    // How long the disk takes for a recording; the writer rests as long after each. They are too young to be touched.
    let began = now();
    for at in 0..8 {
        sync(&tree.join(recording(&tree, "live/new", Duration::from_secs(at), MIB)));
    }
    let each = (now() - began) / 8;
    let writer = std::thread::spawn(move || {
        let mut written = 8;
        while !writing.load(Ordering::Relaxed) && written < 100 {
            sync(&tree.join(recording(&tree, "live/new", Duration::from_secs(written), MIB)));
            written += 1;
            pause(each);
        }
        written
    });
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("the low mark is reached", || reached_low(&daemon));
    stop.store(true, Ordering::Relaxed);
    assert!(writer.join().unwrap() > 8);
    let status = daemon.status().unwrap();
    assert!(status["volumes"][0].get("stalled_because").is_none(), "{status}");
    bed.oldest_are_gone(&BTreeSet::new());
}

#[test]
#[ignore = "needs root and a loop device"]
fn what_is_deleted_and_still_open_is_counted_and_nothing_more_goes_for_it() {
    let bed = Bed::new(Mounted::ext4(400), 200);
    // The oldest: a hundred MiB, and somebody reads it.
    let big = recording(&bed.tree(), "live/a", 400 * HOUR, 100 * MIB);
    let holder = Holder::new(&bed.tree().join(&big), false);
    let config = bed.config("    when_open: delete\n", "");
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("the recording is deleted", || !bed.tree().join(&big).exists());
    wait_for("it is counted", || {
        daemon.status().unwrap()["trees"][0]["unreclaimed"]["bytes"].as_u64() > Some(90 << 20)
    });
    pause(Duration::from_secs(3));
    let gone = bed.gone();
    // 300 of 380 MiB were used, and half is the mark: without the hundred MiB that are promised, more than a hundred would go.
    assert!(gone < 60, "{gone} more were deleted to make up for it");
    let alerts = api(&daemon, &bed, "alerts");
    let told = alerts["items"].as_array().unwrap().iter().find(|alert| alert["alert"] == "SpaceNotReclaimed");
    assert!(told.is_some(), "{alerts}");
    drop(holder);
    wait_for("closing it resolves it", || daemon.status().unwrap()["trees"][0]["unreclaimed"]["files"] == 0);
}

/// Asks the API through the control socket.
fn api(_: &Daemon, bed: &Bed, what: &str) -> serde_json::Value {
    let socket = bed.state().join("control.sock");
    let url = format!("http://localhost/api/v1/{what}");
    let output = Command::new("curl").args(["-s", "--unix-socket", socket.to_str().unwrap(), &url]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
#[ignore = "needs root, a loop device and promtool"]
fn prometheus_accepts_the_metrics() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("the low mark is reached", || reached_low(&daemon));
    let socket = bed.state().join("control.sock");
    let text = Command::new("curl")
        .args(["-s", "--unix-socket", socket.to_str().unwrap(), "http://localhost/metrics"])
        .output()
        .unwrap()
        .stdout;
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut check.stdin.take().unwrap(), &text).unwrap();
    let output = check.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(text).unwrap();
    let value = |start: &str| {
        let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in {text}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let deleted = "storage_guard_deletions_total{outcome=\"verified\",tree=\"live\",trigger=\"pressure\"}";
    assert_eq!(value(deleted), bed.gone() as f64);
    let expected = value("storage_guard_expected_bytes_total");
    let back = value("storage_guard_reclaimed_bytes_total");
    assert!(expected > 0.0 && (expected - back).abs() / expected < 0.1, "{expected} {back}");
    let used: u64 = (0..bed.made.len())
        .filter(|at| bed.exists(*at))
        .map(|at| bed.file(at).metadata().unwrap().blocks() * 512)
        .sum();
    assert_eq!(value("storage_guard_tree_bytes"), used as f64);
}
