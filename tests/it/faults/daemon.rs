//! The daemon started again and again, told to end, stuck, or with a worker that panics; and a clock that jumps.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use storage_guard::daemon::{Catalogues, Daemon as Inside, Hub, Parts};
use storage_guard::domain::event::Event;
use storage_guard::domain::units::Timestamp;
use storage_guard::domain::volume::{FilesystemTraits, Reading, Unusable};
use storage_guard::store::{Journal, StateDir};
use storage_guard::system::{ProcHolders, SystemClock, SystemVolumes, VolumeKey, Volumes, WritableDir};

use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted, guard, json, pause, recording, run, wait_for};

const DAY: Duration = Duration::from_secs(86_400);

/// Replaces text in a configuration.
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn change(config: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(config).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(config, text.replace(from, to)).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "another process is timed")]
fn now() -> Instant {
    Instant::now()
}

/// Fault 80: the file that it is at is finished, every intent has its outcome, and it ends at once.
#[test]
#[ignore = "needs root and a loop device"]
fn told_to_end_in_a_batch_it_finishes_the_file_and_closes_the_ledger() {
    let bed = Bed::new(Mounted::ext4(100), 75);
    let config = bed.config("", "");
    change(&config, "batch_files: 5", "batch_files: 20, max_files_per_second: 4");
    let mut daemon = Daemon::start(&config, &bed.state());
    wait_for("a batch is under way", || bed.gone() >= 2);
    let began = now();
    run("kill", &[&daemon.pid().to_string()]);
    assert!(daemon.ended().success());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let config = config.to_str().unwrap();
    let items = json(&["journal", "list", "-c", config])["items"].as_array().unwrap().clone();
    let of = |outcome: &str| items.iter().filter(|e| e["kind"] == "deletion" && e["outcome"] == outcome).count();
    assert!(bed.gone() < 20 && of("verified") == bed.gone() && of("kept") == 20 - bed.gone());
}

/// Fault 81: from the third start within five minutes on, one batch a minute; a command of a person is not bound.
#[test]
#[ignore = "needs root and a loop device"]
fn a_guard_that_is_started_again_and_again_deletes_slowly() {
    let bed = Bed::new(Mounted::ext4(100), 75);
    let config = bed.config("", "");
    change(&config, "mode: enforce", "mode: observe");
    for _ in 0..2 {
        drop(Daemon::start(&config, &bed.state()));
    }
    change(&config, "mode: observe", "mode: enforce");
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("the first batch", || bed.gone() >= 5);
    for _ in 0..50 {
        assert_eq!(bed.gone(), 5, "more than a batch in a minute");
        pause(Duration::from_millis(100));
    }
    assert!(std::fs::read_to_string(config.with_extension("log")).unwrap().contains("started three times"));
    drop(daemon);
    let done = guard(&["reclaim", "-c", config.to_str().unwrap()]);
    assert!(done.status.success() && bed.gone() > 20, "{}", String::from_utf8_lossy(&done.stderr));
}

/// What systemd would be told.
struct Systemd {
    socket: UnixDatagram,
    home: tempfile::TempDir,
}

impl Systemd {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(home.path().join("notify")).unwrap();
        Self { socket, home }
    }

    /// Everything that is told within `span`.
    fn told(&self, span: Duration) -> Vec<String> {
        let until = now() + span;
        let (mut out, mut buffer) = (Vec::new(), [0; 4096]);
        while let Some(rest) = until.checked_duration_since(now()).filter(|rest| !rest.is_zero()) {
            self.socket.set_read_timeout(Some(rest)).unwrap();
            if let Ok(length) = self.socket.recv(&mut buffer) {
                out.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
        }
        out
    }
}

/// The thread of a process whose name begins so.
fn thread(pid: u32, name: &str) -> String {
    let named = |task: &Path| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.starts_with(name));
    let mut tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
    let found = tasks.find(|task| named(task)).unwrap();
    found.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Fault 82: the watchdog is fed by the workers' own progress; while one is stuck the API answers, and the watchdog starves.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn a_stuck_worker_starves_the_watchdog() {
    let bed = Bed::new(Mounted::ext4(64), 10);
    let config = bed.config("", "");
    let systemd = Systemd::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_storage-guard"));
    command.env("NOTIFY_SOCKET", systemd.home.path().join("notify")).env("WATCHDOG_USEC", "4000000");
    command.stderr(std::process::Stdio::null());
    let daemon = Daemon::under(command, &config, &bed.state());
    let lively = systemd.told(Duration::from_secs(4));
    let fed = |told: &[String]| told.iter().filter(|line| line.contains("WATCHDOG=1")).count();
    assert!(fed(&lively) >= 2, "{lively:?}");
    assert!(lively.iter().any(|line| line.contains("READY=1")), "{lively:?}");
    assert!(lively.iter().any(|line| line.contains("STATUS=") && line.contains("normal")), "{lively:?}");
    let worker = thread(daemon.pid(), "volume");
    let mut stuck = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-p", &worker, "-e", "inject=all:delay_enter=60s"])
        .spawn()
        .unwrap();
    // What was on its way when the worker was stopped.
    systemd.told(Duration::from_secs(4));
    let silent = systemd.told(Duration::from_secs(4));
    let named = daemon.get("/api/v1/status").contains("volumes");
    stuck.kill().unwrap();
    stuck.wait().unwrap();
    assert_eq!(fed(&silent), 0, "{silent:?}");
    assert!(named, "the API answers while a worker is stuck");
    let again = systemd.told(Duration::from_secs(5));
    assert!(fed(&again) >= 2, "it goes on once the worker does: {again:?}");
}

/// Volumes of this machine, until a worker is to panic.
struct Panicky(AtomicBool);

impl Volumes for Panicky {
    fn open_tree(&self, path: &Path) -> std::io::Result<Arc<dyn WritableDir>> {
        SystemVolumes.open_tree(path)
    }

    fn describe(&self, path: &Path) -> std::io::Result<(VolumeKey, FilesystemTraits)> {
        SystemVolumes.describe(path)
    }

    fn read(&self, path: &Path, at: Timestamp) -> Result<Reading, Unusable> {
        SystemVolumes.read(path, at)
    }

    fn io_pressure(&self) -> Option<f64> {
        assert!(!self.0.swap(false, Ordering::Relaxed), "as the test wants it");
        None
    }
}

/// Fault 83: a worker that panics is missed, told of, and replaced; all else lives.
#[test]
fn a_worker_that_panics_is_replaced() {
    let home = tempfile::tempdir().unwrap();
    let (tree, state) = (home.path().join("record"), home.path().join("state"));
    for at in 0..100 {
        recording(&tree, &format!("live/cam{at}"), DAY, 10);
    }
    let yaml = format!(
        "mode: observe\nlisten: 127.0.0.1:0\nstate: {{ path: {} }}\nprobe_interval: 1s\nscan_interval: 1s\n\
         trees: [{{ name: live, path: {}, layout: zlmediakit }}]\n",
        state.display(),
        tree.display()
    );
    let file = home.path().join("guard.yaml");
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    std::fs::write(&file, yaml).unwrap();
    let config = storage_guard::config::load(&file, &|_| None).unwrap();
    let folder = StateDir::open(&state).unwrap();
    let journal = Arc::new(Journal::open(&state.join("journal")).unwrap().journal);
    let clock = Arc::new(SystemClock);
    let hub = Arc::new(Hub::new(journal.clone(), clock.clone()));
    let machine = Arc::new(Panicky(AtomicBool::new(false)));
    let recorder = hub.clone();
    let parts = Parts {
        catalogues: Arc::new(Catalogues::none().unwrap()),
        machine: machine.clone(),
        clock,
        holders: Arc::new(ProcHolders),
        journal,
        state: folder.id().into(),
        events: Arc::new(move |event: Event| recorder.record(&event)),
        brake: Arc::default(),
        live: hub.live.clone(),
        writes: true,
        patient: true,
        running: false,
    };
    let daemon = Inside::start(config, state, parts, hub.clone(), Box::new(|| Err(Vec::new()))).unwrap();
    let serving = std::thread::spawn(move || daemon.serve(Box::new(|_| ())));
    let files =
        || hub.views().iter().flat_map(|view| view.trees.iter().map(|tree| tree.recordings().files)).sum::<u64>();
    wait_for("the tree is scanned", || files() == 100);
    machine.0.store(true, Ordering::Relaxed);
    wait_for("the worker panics", || !machine.0.load(Ordering::Relaxed));
    recording(&tree, "live/late", DAY, 10);
    wait_for("another worker goes on", || files() == 101);
    run("kill", &[&std::process::id().to_string()]);
    serving.join().unwrap().unwrap();
}

/// A clock that a file tells how far it is off.
fn faked(config: &Path, offset: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_storage-guard"));
    command
        .env("LD_PRELOAD", "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
        .env("FAKETIME_TIMESTAMP_FILE", offset)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("NO_FAKE_STAT", "1")
        .stderr(std::fs::File::options().create(true).append(true).open(config.with_extension("log")).unwrap());
    command
}

/// Fault 91: ten years forward, ten years back. Nothing goes for its age; a critical volume is reclaimed by order; and what has just
/// been recorded stays.
fn check_jump(offset: &str) {
    let bed = Bed::new(Mounted::ext4(200), 100);
    let tree = "    retention: [{ stream: \"live/*\", max_age: 400d }]\n";
    let config = bed.config(tree, "scan_interval: 1s\n");
    change(&config, "critical: 99%", "critical: 75%");
    change(&config, "high: 70%", "high: 72%");
    let clock = bed.home.path().join("clock");
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    let set = |text: &str| std::fs::write(&clock, text).unwrap();
    set("+0");
    let daemon = Daemon::under(faked(&config, &clock), &config, &bed.state());
    wait_for("it is guarded", || daemon.pressure() == "normal");
    set(offset);
    wait_for("the clock is suspected", || daemon.get("/api/v1/alerts").contains("ClockSuspect"));
    pause(Duration::from_secs(4));
    assert_eq!(bed.gone(), 0, "something went for its age");
    let young = recording(&bed.tree(), "live/young", Duration::from_secs(1), 1 << 20);
    for at in 0..60 {
        recording(&bed.tree(), "live/old", DAY * 2 + Duration::from_secs(at), 1 << 20);
    }
    wait_for("the volume is critical, and reclaimed by order", || bed.gone() > 20);
    assert!(!bed.exists(0), "the oldest goes first");
    assert!(bed.tree().join(young).exists(), "what was recorded a moment ago stays");
}

#[test]
#[ignore = "needs root, a loop device and libfaketime"]
fn a_clock_that_jumps_forward_deletes_nothing_for_its_age() {
    check_jump("+3650d");
}

#[test]
#[ignore = "needs root, a loop device and libfaketime"]
fn a_clock_that_goes_back_deletes_nothing_for_its_age() {
    check_jump("-3650d");
}
