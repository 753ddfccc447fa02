//! The guard without descriptors, without memory, with a log that takes no line.

use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted, guard, json, wait_for};

/// The program, under another that sets its surroundings.
fn under(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).arg(env!("CARGO_BIN_EXE_storage-guard"));
    command
}

/// Every deletion is on record with its outcome, but for so many that are still to be settled, and the chain is whole.
fn nothing_is_lost(bed: &Bed, config: &str, most_open: usize) {
    let verified = guard(&["journal", "verify", "-c", config]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let listed = json(&["journal", "list", "-c", config]);
    let deletions = listed["items"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "deletion");
    let (mut deleted, mut open) = (0, 0);
    for entry in deletions {
        open += usize::from(entry["outcome"].is_null());
        deleted += usize::from(entry["outcome"] == "verified");
    }
    assert!(open <= most_open, "{open} are open");
    assert!((deleted..=deleted + open).contains(&bed.gone()), "{deleted} of {}", bed.gone());
}

/// Fault 56.
#[test]
#[ignore = "needs root and a loop device"]
fn with_few_descriptors_and_many_connections_it_reclaims_and_answers() {
    let bed = Bed::new(Mounted::ext4(200), 150);
    let config = bed.config("", "");
    let log = config.with_extension("log");
    let mut command = under("prlimit", &["--nofile=32:32"]);
    command.stderr(std::fs::File::options().create(true).append(true).open(&log).unwrap());
    let mut daemon = Daemon::under(command, &config, &bed.state());
    let text = std::fs::read_to_string(&log).unwrap();
    let address = text.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
    let idle: Vec<TcpStream> = (0..60).filter_map(|_| TcpStream::connect(address).ok()).collect();
    assert!(idle.len() > 40);
    wait_for("the low mark is reached", || daemon.pressure() == "normal" && bed.gone() > 0);
    assert!(daemon.get("/metrics").contains("storage_guard_build_info"));
    run_down(&mut daemon);
    nothing_is_lost(&bed, config.to_str().unwrap(), 0);
}

fn run_down(daemon: &mut Daemon) {
    crate::support::run("kill", &[&daemon.pid().to_string()]);
    daemon.ended();
}

/// How many directories a run opens before it deletes the first recording. That depends on the days that its recordings are of, and is
/// looked up in a twin.
fn opened_before_the_first_deletion() -> usize {
    let twin = Bed::new(Mounted::ext4(100), 75);
    let (config, trace) = (twin.config("", ""), twin.home.path().join("trace"));
    let options = ["-f", "-qq", "-e", "trace=openat2,renameat2", "-o", trace.to_str().unwrap()];
    let run = under("strace", &options).args(["reclaim", "-c", config.to_str().unwrap()]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let trace = std::fs::read_to_string(trace).unwrap();
    let calls: Vec<(&str, &str)> = trace.lines().filter_map(|line| line.split_once(' ')).collect();
    // A recording is set aside; the empty names are the question whether the kernel knows the call.
    let first = calls.iter().position(|(_, call)| call.contains("renameat2(") && call.contains(".mp4")).unwrap();
    let worker = calls[first].0;
    calls[..first].iter().filter(|(pid, call)| *pid == worker && call.contains("openat2(")).count()
}

/// Fault 57: what cannot be opened for want of memory is tried again, and nothing is lost.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn without_memory_a_deletion_fails_and_is_tried_again() {
    let bed = Bed::new(Mounted::ext4(100), 75);
    let config = bed.config("", "");
    let config = config.to_str().unwrap();
    let before = opened_before_the_first_deletion();
    let window = format!("inject=openat2:error=ENOMEM:when={}..{}", before + 1, before + 21);
    let inject = ["-f", "-qq", "-o", "/dev/null", "-e", &window];
    let first = under("strace", &inject).args(["reclaim", "-c", config]).output().unwrap();
    assert!(matches!(first.status.code(), Some(0 | 4)), "{}", String::from_utf8_lossy(&first.stderr));
    let failures = json(&["failures", "list", "-c", config]);
    let causes: Vec<_> = failures["items"].as_array().unwrap().iter().map(|item| item["cause"].clone()).collect();
    assert!(causes.iter().all(|cause| cause == "too_many_files") && !causes.is_empty(), "{causes:?}");
    nothing_is_lost(&bed, config, 30);
    let retried = guard(&["failures", "retry", "-c", config]);
    assert!(matches!(retried.status.code(), Some(0 | 4)), "{}", String::from_utf8_lossy(&retried.stderr));
    nothing_is_lost(&bed, config, 0);
}

/// Fault 84: a log on a full disk, and one that nobody reads.
#[test]
#[ignore = "needs root and a loop device"]
fn a_log_that_takes_nothing_holds_nobody_up() {
    let full: Stdio = std::fs::File::options().write(true).open("/dev/full").unwrap().into();
    let (unread, pipe) = std::io::pipe().unwrap();
    for log in [full, pipe.into()] {
        let bed = Bed::new(Mounted::ext4(100), 75);
        let config = bed.config("", "");
        let mut command = Command::new(env!("CARGO_BIN_EXE_storage-guard"));
        // More lines than a pipe holds.
        command.stderr(log).env("STORAGE_GUARD_LOG", "trace");
        let mut daemon = Daemon::under(command, &config, &bed.state());
        wait_for("the low mark is reached", || daemon.pressure() == "normal" && bed.gone() > 0);
        for _ in 0..50 {
            assert!(daemon.get("/metrics").contains("storage_guard_build_info"));
        }
        run_down(&mut daemon);
        nothing_is_lost(&bed, config.to_str().unwrap(), 0);
    }
    drop(unread);
}
