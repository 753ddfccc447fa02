//! Section B of the fault catalogue: recordings that somebody has open.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted, guard, json, now, pause, recording, run, scale, total, wait_for};

const MIB: usize = 1 << 20;
const DAY: Duration = Duration::from_secs(86_400);

/// A process, ended when dropped.
struct Process(Child);

impl Process {
    /// Starts it, and waits until it says that it is ready.
    fn ready(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        assert_eq!(line.trim(), "ready");
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A loop device over a file, detached when dropped.
struct Loop(String);

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

/// What `failures list` says of a recording.
fn failure(config: &Path, path: &str) -> serde_json::Value {
    let listed = json(&["failures", "list", "-c", config.to_str().unwrap()]);
    let found = listed["items"].as_array().unwrap().iter().find(|item| item["path"] == path);
    found.unwrap_or_else(|| panic!("no failure of {path} in {listed}")).clone()
}

/// Fault 28.
#[test]
#[ignore = "needs root, a loop device and python3"]
fn what_is_mapped_passed_around_or_attached_is_kept() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    let mut python = Command::new("python3");
    python.args([
        "-c",
        "import mmap, os, socket, sys, time\n\
         mapped = os.open(sys.argv[1], os.O_RDWR)\n\
         held = mmap.mmap(mapped, 4096)\n\
         os.close(mapped)\n\
         ours, theirs = socket.socketpair()\n\
         sent = os.open(sys.argv[2], os.O_RDONLY)\n\
         socket.send_fds(ours, [b'x'], [sent])\n\
         os.close(sent)\n\
         print('ready', flush=True)\n\
         time.sleep(600)",
    ]);
    let holder = Process::ready({
        python.args([bed.file(2), bed.file(4)]);
        python
    });
    let attached = Command::new("losetup").args(["-f", "--show"]).arg(bed.file(6)).output().unwrap();
    assert!(attached.status.success(), "{}", String::from_utf8_lossy(&attached.stderr));
    let device = Loop(String::from_utf8(attached.stdout).unwrap().trim().to_owned());
    let output = guard(&["reclaim", "-c", config.to_str().unwrap()]);
    assert!(bed.gone() > 90, "{}", String::from_utf8_lossy(&output.stdout));
    for at in [2, 4, 6] {
        assert!(bed.exists(at), "{at}");
        assert_eq!(failure(&config, &bed.made[at])["cause"], "in_use", "{at}");
    }
    drop((holder, device));
}

/// Faults 26, 29. The guard, in a namespace of its own, sees no other process; the lease tells.
#[test]
#[ignore = "needs root and a loop device"]
fn a_writer_in_another_namespace_keeps_its_file() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    let file = std::fs::File::options().append(true).open(bed.file(1)).unwrap();
    let mut writer = Command::new("sh");
    writer.args(["-c", "echo ready; exec sleep 600"]).stderr(file);
    let writer = Process::ready(writer);
    let mut alone = Command::new("unshare");
    alone.args(["--pid", "--fork", "--mount-proc", env!("CARGO_BIN_EXE_storage-guard"), "reclaim", "-c"]);
    let output = alone.arg(&config).output().unwrap();
    assert!(bed.gone() > 90, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(bed.exists(1));
    let failure = failure(&config, &bed.made[1]);
    assert_eq!((&failure["cause"], &failure["holder"]), (&"in_use".into(), &serde_json::Value::Null));
    drop(writer);
}

/// Fault 27. Who reads keeps a file only where the policy says so; who writes keeps it always.
#[test]
#[ignore = "needs root and a loop device"]
fn a_reader_keeps_its_file_only_if_the_policy_waits_and_a_writer_always() {
    for (policy, kept) in [("wait", true), ("delete", false)] {
        let bed = Bed::new(Mounted::ext4(400), 300);
        let config = bed.config(&format!("    when_open: {policy}\n"), "");
        let reader = std::fs::File::open(bed.file(1)).unwrap();
        let writer = std::fs::File::options().append(true).open(bed.file(2)).unwrap();
        guard(&["reclaim", "-c", config.to_str().unwrap()]);
        assert_eq!((bed.exists(1), bed.exists(2)), (kept, true), "{policy}");
        drop((reader, writer));
    }
}

/// Starts a guard without rights, of another user than the recordings' owner.
fn nobody(bed: &Bed, config: &Path) -> Daemon {
    let mut open = vec![bed.volume.path().parent().unwrap().to_owned(), bed.home.path().to_owned()];
    open.extend([bed.volume.path().to_owned(), bed.tree(), bed.tree().join("live")]);
    open.extend((0..bed.made.len()).flat_map(|at| {
        let day = bed.file(at).parent().unwrap().to_owned();
        [day.parent().unwrap().to_owned(), day]
    }));
    for path in open {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let log = std::fs::File::options().create(true).append(true).open(config.with_extension("log")).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", env!("CARGO_BIN_EXE_storage-guard")]);
    command.stderr(log);
    Daemon::under(command, config, &bed.state())
}

/// Fault 30. Two sightings stand in for the lease, and it is said.
#[test]
#[ignore = "needs root, a loop device and setpriv"]
fn without_the_right_to_leases_a_recording_goes_only_once_it_was_seen_unchanged_twice() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("    min_age: 1h\n", "");
    let daemon = nobody(&bed, &config);
    wait_for("it is announced", || {
        let status = daemon.status().unwrap();
        status["volumes"][0]["traps"].to_string().contains("no leases")
    });
    wait_for("the first are tried", || {
        let list = daemon.get("/api/v1/failures");
        list.contains("in_use") && list.contains("cannot be asked")
    });
    pause(Duration::from_secs(2));
    assert_eq!(bed.gone(), 0, "nothing says yet that nobody writes them");
    drop(daemon);
    // No `min_age` is shorter than a minute, so the second sighting is for the long suite.
    if scale(0, 1) == 1 {
        // Scans in between, as there are with the usual intervals, make no sighting younger.
        let config = bed.config("    min_age: 1m\n", "scan_interval: 10s\n");
        let daemon = nobody(&bed, &config);
        pause(Duration::from_secs(55));
        wait_for("the low mark is reached", || daemon.pressure() == "normal");
        assert!(bed.gone() > 90);
    }
}

/// Fault 31. A filesystem that knows no leases.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn where_leases_do_not_work_nothing_goes_that_was_not_seen_twice() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", "trace=fcntl", "-e", "inject=fcntl:error=EINVAL"]);
    let output =
        command.arg(env!("CARGO_BIN_EXE_storage-guard")).args(["reclaim", "-c"]).arg(&config).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(bed.gone(), 0);
    assert!(failure(&config, &bed.made[0])["error"].as_str().unwrap().contains("cannot be asked"));
}

/// Fault 32.
#[test]
#[ignore = "needs root and a loop device"]
fn a_signal_that_somebody_opens_a_leased_file_ends_nothing() {
    let bed = Bed::new(Mounted::ext4(64), 10);
    let config = bed.config("", "");
    let daemon = Daemon::start(&config, &bed.state());
    for _ in 0..50 {
        run("kill", &["-IO", &daemon.pid().to_string()]);
    }
    pause(Duration::from_millis(200));
    assert!(daemon.status().is_some());
}

/// Fault 33. The guard stands still with a lease in its hand: who opens the file waits, and gets it, also if the guard never wakes.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn who_opens_a_file_that_a_stopped_guard_has_leased_gets_it() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    let trace = bed.home.path().join("trace");
    let mut command = Command::new("strace");
    // The origin is written between the lease and the rename.
    command.args(["-f", "-e", "trace=fsetxattr", "-e", "inject=fsetxattr:signal=STOP:when=1", "-o"]).arg(&trace);
    command.arg(env!("CARGO_BIN_EXE_storage-guard")).args(["reclaim", "-c"]).arg(&config).stdout(Stdio::null());
    let mut guard = Process(command.spawn().unwrap());
    wait_for("the guard stands still", || {
        std::fs::read_to_string(&trace).is_ok_and(|text| text.contains("stopped by SIGSTOP"))
    });
    let text = std::fs::read_to_string(&trace).unwrap();
    let pid = text.lines().find(|line| line.contains("fsetxattr(")).unwrap().split(' ').next().unwrap().to_owned();
    let began = now();
    let file = bed.file(0);
    let opener = std::thread::spawn(move || (std::fs::read(file).map(|bytes| bytes.len()), now()));
    // In the long suite nobody wakes it.
    let asleep = Duration::from_secs(scale(2, 60));
    while began.elapsed().unwrap() < asleep && !(scale(0, 1) == 1 && opener.is_finished()) {
        pause(Duration::from_millis(100));
    }
    run("kill", &["-CONT", &pid]);
    let (read, at) = opener.join().unwrap();
    let waited = at.duration_since(began).unwrap();
    assert!(waited >= Duration::from_secs(1), "nobody had leased it: {waited:?}");
    // The kernel's lease-break-time.
    assert!(waited < Duration::from_secs(50), "{waited:?}");
    guard.0.wait().unwrap();
    assert_eq!(read.unwrap(), MIB, "what was opened is there");
    assert!(bed.exists(0) && bed.gone() > 90, "and only that is kept: {}", bed.gone());
}

/// Fault 33. How long a lease is held in a deletion, under a tracer that slows it down.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn a_lease_is_held_for_a_moment_only() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    let trace = bed.home.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-ttt", "-e", "trace=fcntl", "-e", "signal=none", "-o"]).arg(&trace);
    command.arg(env!("CARGO_BIN_EXE_storage-guard")).args(["reclaim", "-c"]).arg(&config);
    assert!(command.output().unwrap().status.success());
    let text = std::fs::read_to_string(&trace).unwrap();
    let mut began = None;
    let mut spans = Vec::new();
    for line in text.lines().filter(|line| line.contains("F_SETLEASE")) {
        let at: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        match (began, line.contains("F_UNLCK")) {
            (Some(then), true) => {
                spans.push(((at - then) * 1e6) as u64);
                began = None;
            }
            (None, true) => {}
            (_, false) => began = Some(at),
        }
    }
    spans.sort_unstable();
    assert!(spans.len() > 90, "{}", spans.len());
    let p99 = spans[spans.len() * 99 / 100];
    total("microseconds that a lease is held, p99", p99);
    assert!(p99 < 1_000_000, "{p99} microseconds");
}

/// Fault 34. Recordings that are finished, by a rename, while the tree is scanned.
#[test]
#[ignore = "needs root and a loop device"]
fn what_is_finished_during_a_scan_is_neither_deleted_nor_counted_twice() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    let fresh: Vec<_> =
        (0..200).map(|at| bed.tree().join(recording(&bed.tree(), "live/new", Duration::from_secs(at), 4096))).collect();
    let hidden = |path: &Path| path.with_file_name(format!(".{}", path.file_name().unwrap().to_str().unwrap()));
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, files) = (stop.clone(), fresh.clone());
    let recorder = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            for path in &files {
                rename(path, &hidden(path));
            }
            for path in &files {
                rename(&hidden(path), path);
            }
        }
    });
    let tree = bed.tree();
    for _ in 0..scale(10, 200) {
        let status = json(&["scan", "--layout", "zlmediakit", "--tree", tree.to_str().unwrap()]);
        let found = &status["trees"][0];
        let count = found["files"].as_u64().unwrap() + found["in_progress"]["files"].as_u64().unwrap();
        assert!(count <= 500, "{count} of 500 files");
    }
    guard(&["reclaim", "-c", config.to_str().unwrap()]);
    stop.store(true, Ordering::Relaxed);
    recorder.join().unwrap();
    assert!(bed.gone() > 90);
    assert!(fresh.iter().all(|path| path.exists()), "a recording that had just been finished is gone");
}

#[expect(clippy::disallowed_methods, reason = "the test is the recorder")]
fn rename(from: &Path, to: &Path) {
    std::fs::rename(from, to).unwrap();
}

/// Fault 35. What a crash of the recorder left unfinished is reported, and stays.
#[test]
#[ignore = "needs root and a loop device"]
fn a_stale_unfinished_file_is_reported_and_never_deleted() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("", "");
    let stale = bed.tree().join(recording(&bed.tree(), "live/a", 20 * DAY, MIB));
    let hidden = stale.with_file_name(format!(".{}", stale.file_name().unwrap().to_str().unwrap()));
    rename(&stale, &hidden);
    guard(&["reclaim", "-c", config.to_str().unwrap()]);
    assert!(bed.gone() > 90 && hidden.exists());
    let status = json(&["status", "-c", config.to_str().unwrap()]);
    assert_eq!(status["trees"][0]["leftovers"]["files"], 1, "{status}");
}

/// Fault 36. That nothing more goes for it is held by `what_is_deleted_and_still_open_is_counted_and_nothing_more_goes_for_it`.
#[test]
#[ignore = "needs root and a loop device"]
fn a_deleted_recording_that_is_still_open_names_its_holder_and_its_bytes() {
    let bed = Bed::new(Mounted::ext4(400), 300);
    let config = bed.config("    when_open: delete\n", "");
    let mut reader = Command::new("sh");
    reader.args(["-c", "echo ready; exec sleep 600"]).stdin(std::fs::File::open(bed.file(0)).unwrap());
    let reader = Process::ready(reader);
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("it is deleted", || !bed.exists(0));
    let mut told = String::new();
    wait_for("somebody is told", || {
        let alerts: serde_json::Value = serde_json::from_str(&daemon.get("/api/v1/alerts")).unwrap();
        let mut all = alerts["items"].as_array().unwrap().iter();
        let of_open = all.find(|alert| alert["labels"]["tree"] == "live" && alert["alert"] == "SpaceNotReclaimed");
        told = of_open.map_or_else(String::new, |alert| alert["description"].to_string());
        told.contains("Open in")
    });
    assert!(told.contains(&reader.0.id().to_string()) && told.contains("1 recordings, 1 MiB"), "{told}");
}
