//! Very many files, directories and streams, and very deep ones.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use crate::support::{Daemon, Mounted, json, scale, total, wait_for};

/// What the process took at most, in KiB.
fn peak(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn config(home: &Path, tree: &Path) -> std::path::PathBuf {
    let path = home.join("guard.yaml");
    let text = format!(
        "mode: observe\nlisten: 127.0.0.1:0\nstate: {{ path: {} }}\nprobe_interval: 1s\ntrees:\n  - {{ name: live, path: \
         {}, layout: plain }}\n",
        home.join("state").display(),
        tree.display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// A file that takes no block.
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn sparse(path: &Path) {
    std::fs::File::create(path).unwrap().set_len(1).unwrap();
}

/// Fault 13: a file of a directory costs a bounded number of bytes.
#[test]
#[ignore = "needs root and a loop device"]
fn a_directory_with_very_many_files_is_scanned_in_bounded_memory() {
    let files = scale(50_000, 1_000_000);
    let volume = Mounted::xfs(scale(400, 4000));
    let (tree, home) = (volume.path().join("record"), tempfile::tempdir().unwrap());
    let one = tree.join("cam");
    std::fs::create_dir_all(&one).unwrap();
    let peak_of = |config: &Path, expected: u64| {
        let daemon = Daemon::start(config, &home.path().join("state"));
        wait_for("it is scanned", || daemon.status().is_some_and(|status| status["trees"][0]["files"] == expected));
        peak(daemon.pid())
    };
    let config = config(home.path(), &tree);
    let empty = peak_of(&config, 0);
    for at in 0..files {
        sparse(&one.join(format!("{at:08}.mp4")));
    }
    let full = peak_of(&config, files);
    let each = full.saturating_sub(empty) * 1024 / files;
    total("bytes of memory for each file of a directory", each);
    assert!(each < 200, "{each} bytes for each of {files} files: {empty} KiB without them, {full} with");
}

/// Fault 22: whoever invents streams makes neither answers nor metrics grow.
#[test]
#[ignore = "needs root and a loop device"]
fn very_many_streams_do_not_show_in_answers_or_metrics() {
    let streams = scale(3_000, 100_000);
    let volume = Mounted::xfs(scale(400, 4000));
    let (tree, home) = (volume.path().join("record"), tempfile::tempdir().unwrap());
    for at in 0..streams {
        let dir = tree.join(format!("invented-{at}"));
        std::fs::create_dir_all(&dir).unwrap();
        sparse(&dir.join("a.mp4"));
    }
    let daemon = Daemon::start(&config(home.path(), &tree), &home.path().join("state"));
    wait_for("it is scanned", || daemon.status().is_some_and(|status| status["trees"][0]["files"] == streams));
    let status = daemon.status().unwrap();
    assert_eq!(status["trees"][0]["streams"], streams);
    assert!(status["trees"][0]["largest_streams"].as_array().unwrap().len() <= 10);
    let socket = home.path().join("state/control.sock");
    let metrics = std::process::Command::new("curl")
        .args(["-s", "--unix-socket", socket.to_str().unwrap(), "http://localhost/metrics"])
        .output()
        .unwrap()
        .stdout;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains("storage_guard_") && !metrics.contains("invented-"), "{metrics}");
}

/// Fault 11: depth costs neither stack nor the scan.
#[test]
#[ignore = "needs root and a loop device"]
fn ten_thousand_nested_directories_are_a_problem_and_no_crash() {
    let volume = Mounted::xfs(400);
    let tree = volume.path().join("record");
    crate::support::recording(&tree, "live/a", std::time::Duration::from_secs(86_400), 1000);
    let mut at = rustix::fs::openat(CWD, &tree, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..10_000 {
        rustix::fs::mkdirat(&at, OsStr::new("d"), Mode::RWXU).unwrap();
        at = rustix::fs::openat(at.as_fd(), OsStr::new("d"), OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let status = json(&["scan", "--layout", "zlmediakit", "--tree", tree.to_str().unwrap()]);
    let tree = &status["trees"][0];
    assert_eq!((&tree["files"], &tree["complete"]), (&1.into(), &false.into()), "{tree}");
    assert!(tree["problems"].to_string().contains("deeper than 64 directories"), "{tree}");
}
