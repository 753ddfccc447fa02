//! The daemon, disturbed at single system calls while it runs.

use std::process::{Child, Command, Stdio};

use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted, wait_for};

/// An strace that makes calls of a running process fail, until it is dropped.
struct Injector(Child);

impl Injector {
    fn new(pid: u32, options: &[&str]) -> Self {
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-p", &pid.to_string()])
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

/// Faults 55, 59: a filesystem UUID that cannot be read makes the tree blind for that look, and nothing is written or given up for it;
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
    let failing = Injector::new(daemon.pid(), &["-e", "trace=ioctl", "-e", "inject=ioctl:error=EACCES"]);
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
