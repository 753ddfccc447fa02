//! The daemon, disturbed at single system calls while it runs.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted, guard, json, pause, run, scale, total, wait_for};

/// An strace that makes calls of a running process fail, until it is dropped.
struct Injector(Child);

impl Injector {
    fn new(pid: u32, trace: &Path, options: &[&str]) -> Self {
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", trace.to_str().unwrap(), "-p", &pid.to_string()])
            .args(options)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let traced = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        };
        wait_for("strace is attached", traced);
        Self(child)
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        // With SIGTERM it lets go of what it traces first.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Fault 87: a filesystem UUID that cannot be read makes the tree blind for that look, and nothing is written or given up for it;
/// a marker from a kernel that did not tell it is completed.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn a_uuid_that_cannot_be_read_for_a_moment_makes_blind_for_that_moment() {
    let bed = Bed::new(Mounted::ext4(64), 5);
    let config = bed.config("", "");
    let marker = bed.tree().join(".storage-guard/marker");
    let text = || std::fs::read_to_string(&marker).unwrap_or_default();
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("it is guarded", || daemon.pressure() == "normal" && !text().is_empty());
    let whole = text();
    let uuid = whole.lines().find_map(|line| line.strip_prefix("filesystem ")).unwrap();
    if uuid.is_empty() {
        // A kernel before 6.9 has nothing to fail.
        return;
    }
    let failing =
        Injector::new(daemon.pid(), Path::new("/dev/null"), &["-e", "trace=ioctl", "-e", "inject=ioctl:error=EACCES"]);
    wait_for("it is blind", || daemon.pressure() == "blind");
    assert!(daemon.get("/api/v1/status").contains("cannot read the filesystem UUID of tree `live`"));
    assert_eq!(text(), whole);
    drop(failing);
    wait_for("it sees again", || daemon.pressure() == "normal");
    #[expect(clippy::disallowed_methods, reason = "it makes the marker of an older kernel")]
    std::fs::write(&marker, whole.replace(uuid, "")).unwrap();
    wait_for("the marker is completed", || text() == whole);
    assert_eq!(daemon.pressure(), "normal");
}

/// One point: a call fails, or is the last, from a reload on that makes a run due. `None` if the call was not met.
fn reload_disturbed(call: &str, fate: &str, when: u64) -> Option<Vec<String>> {
    let bed = Bed::new(Mounted::ext4(64), 30);
    let config = bed.config("", "");
    let (path, trace) = (config.to_str().unwrap(), bed.home.path().join("trace"));
    let log = || std::fs::read_to_string(config.with_extension("log")).unwrap();
    let mut broken = Vec::new();
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("it is guarded", || daemon.pressure() == "normal");
    let inject = format!("inject={call}:{fate}:when={when}");
    let failing = Injector::new(daemon.pid(), &trace, &["-e", &format!("trace={call}"), "-e", &inject]);
    let text = std::fs::read_to_string(&config).unwrap();
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    std::fs::write(&config, text.replace("high: 70%, low: 50%", "high: 40%, low: 30%")).unwrap();
    run("kill", &["-HUP", &daemon.pid().to_string()]);
    pause(Duration::from_millis(2500));
    let killed = std::fs::read_to_string(&trace).unwrap().contains("killed by SIGKILL");
    drop(failing);
    if !killed && !std::fs::read_to_string(&trace).unwrap().contains("(INJECTED)") {
        return None;
    }
    if !killed {
        let metrics = daemon.get("/metrics");
        let says = |value: &str| metrics.contains(&format!("\nstorage_guard_config_last_reload_successful {value}\n"));
        if !says("0") && !says("1") {
            broken.push(format!("it ended by itself, or does not say which configuration is in force: {metrics}"));
        }
        if says("0") && bed.gone() > 0 {
            broken.push("the old configuration is in force, and something was deleted".to_owned());
        }
    }
    drop(daemon);
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("the new marks are kept", || daemon.pressure() == "normal" && bed.gone() > 0);
    drop(daemon);
    if !guard(&["journal", "verify", "-c", path]).status.success() {
        broken.push("the journal is not whole".to_owned());
    }
    let listed = json(&["journal", "list", "-c", path]);
    let deletions: Vec<_> =
        listed["items"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "deletion").collect();
    let open = deletions.iter().filter(|entry| entry["outcome"].is_null());
    broken.extend(open.map(|entry| format!("open: {entry}")));
    // What failed once gives way to the next oldest, so that the record, not the age, says what may be gone.
    let paths = |verified: bool| -> BTreeSet<&str> {
        let those = deletions.iter().filter(|entry| !verified || entry["outcome"] == "verified");
        those.filter_map(|entry| entry["path"].as_str()).collect()
    };
    // An intent whose sync failed is not on record, and still gets its `kept`; nothing else may lack its intent.
    let stray = deletions.iter().filter(|entry| entry["path"].is_null() && entry["outcome"] != "kept");
    broken.extend(stray.map(|entry| format!("no intent: {entry}")));
    let (intended, verified) = (paths(false), paths(true));
    for (at, made) in bed.made.iter().enumerate() {
        match (bed.exists(at), intended.contains(&**made), verified.contains(&**made)) {
            (true, _, true) => broken.push(format!("`{made}` is there, though its deletion is verified")),
            (false, false, _) => broken.push(format!("`{made}` is gone without an intent")),
            (true | false, true | false, true | false) => {}
        }
    }
    if bed.gone() > 25 {
        broken.push(format!("{} are gone, far more than the marks ask for", bed.gone()));
    }
    if log().contains("panicked") {
        broken.push(log());
    }
    Some(broken)
}

/// Faults 51, 55, 59, 66: whatever fails while a reload makes a run due, the daemon says which configuration is in force, lives unless
/// it is killed, and the next life finishes the work.
#[test]
#[ignore = "needs root, loop devices and strace"]
fn a_reload_survives_calls_failing_or_being_the_last() {
    let calls = ["openat", "openat2", "pwrite64", "fdatasync", "renameat2", "unlinkat", "fsync", "pread64"];
    let fates = ["signal=KILL", "error=EIO", "error=ENOSPC", "error=EROFS", "error=EACCES", "error=EINTR"];
    let mut points = Vec::new();
    for when in 1..=4 {
        for fate in fates {
            points.extend(calls.iter().map(|call| (*call, fate, when)));
        }
    }
    let wanted = usize::try_from(scale(12, 100)).unwrap();
    // A step without a common factor with the counts above meets every call and every fate.
    let points: Vec<_> = (0..wanted).map(|at| points[at * 77 % points.len()]).collect();
    let found: Vec<_> = std::thread::scope(|scope| {
        let halves: Vec<_> = points.chunks(wanted.div_ceil(2)).collect();
        let working: Vec<_> = halves
            .into_iter()
            .map(|half| scope.spawn(|| half.iter().map(|p| (p, reload_disturbed(p.0, p.1, p.2))).collect::<Vec<_>>()))
            .collect();
        working.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    let met: Vec<_> =
        found.iter().filter_map(|(point, broken)| broken.as_ref().map(|broken| (point, broken))).collect();
    let broken: Vec<_> = met.iter().filter(|(_, broken)| !broken.is_empty()).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(met.len() >= 4, "only {} points were met", met.len());
    total("points injected, reload", met.len() as u64);
    total("invariants broken, reload", 0);
}

/// Faults 66, 121: the guard fails or ends at each of the calls by which an alert is kept and told. It is told at least once, and always
/// under the same id.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs strace"]
async fn an_alert_is_delivered_whatever_fails_and_whenever_the_guard_ends() {
    let fates = ["signal=KILL", "error=EIO", "error=ENOSPC", "error=EROFS", "error=EACCES", "error=EINTR"];
    let calls = ["pwrite64", "sendto", "fdatasync"];
    let mut points = Vec::new();
    for at in 1..=8 {
        for call in calls {
            // A message that cannot be sent is sent again, and one that was sent may be: there only the end of the guard is of interest.
            let here = if call == "sendto" { &fates[..1] } else { &fates[..] };
            points.extend(here.iter().map(|fate| (at, call, *fate)));
        }
    }
    let every = points.len() / usize::try_from(scale(6, 60)).unwrap();
    let mut injected = 0;
    for (at, call, fate) in points.into_iter().step_by(every.max(1)) {
        let (port, mut hooks) = crate::notify::receiver(&["204 No Content"]).await;
        let home = tempfile::tempdir().unwrap();
        let (tree, state, config) =
            (home.path().join("record"), home.path().join("state"), home.path().join("guard.yaml"));
        crate::support::recording(&tree, "live/a", Duration::from_secs(86_400), 1000);
        // Observed and above its mark, so that an alert is due at once.
        let yaml = format!(
            "mode: observe\nlisten: 127.0.0.1:0\nstate: {{ path: {} }}\nprobe_interval: 1s\nwatermarks: {{ high: 2%, low: 1%, \
             critical: 99% }}\ntrees: [{{ name: live, path: {}, layout: zlmediakit }}]\nnotify:\n  group_wait: 1s\n  channels:\n    - {{ \
             name: hook, kind: webhook, url: \"http://127.0.0.1:{port}/in\" }}\n",
            state.display(),
            tree.display()
        );
        #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
        std::fs::write(&config, yaml).unwrap();
        let trace = home.path().join("trace");
        let mut disturbed = Command::new("strace")
            .args(["-f", "-qq", "-o", trace.to_str().unwrap(), "-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:{fate}:when={at}"), env!("CARGO_BIN_EXE_storage-guard")])
            .args(["run", "-c", config.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        pause(Duration::from_millis(3500));
        let _ = Command::new("pkill").args(["-KILL", "-P", &disturbed.id().to_string()]).status();
        let _ = disturbed.wait();
        let text = std::fs::read_to_string(&trace).unwrap_or_default();
        injected += u64::from(text.contains("INJECTED") || text.contains("killed by SIGKILL"));
        let daemon = Daemon::start(&config, &state);
        let first = tokio::time::timeout(Duration::from_secs(60), hooks.recv()).await;
        let first = first.unwrap_or_else(|_| panic!("{call} {at} {fate}: nobody was told")).unwrap();
        pause(Duration::from_millis(1500));
        drop(daemon);
        let mut ids = BTreeSet::from([first.header("webhook-id").to_owned()]);
        while let Ok(again) = hooks.try_recv() {
            ids.insert(again.header("webhook-id").to_owned());
        }
        // What could not be kept is told of anew, under another id.
        assert!(ids.len() == 1 || fate != "signal=KILL", "{call} {at} {fate}: {ids:?}");
    }
    total("points injected, alert delivery", injected);
}
