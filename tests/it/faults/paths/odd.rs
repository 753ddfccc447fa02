//! Odd names: what they are called changes neither what goes nor how it is told.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use super::mixed::{journal, left};
use crate::reclaim::Bed;
use crate::support::{Daemon, Mounted, guard, wait_for};

/// Names that have fooled programs.
fn names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "line\nbreak.mp4",
        "return\r.mp4",
        "\u{1b}[31mred\u{1b}]0;title\u{7}.mp4",
        "<img src=x onerror=alert(1)>.mp4",
        "\"quoted\".mp4",
        "'single'.mp4",
        "back\\slash.mp4",
        "emoji \u{1f4f7}.mp4",
        "right \u{202e}4pm.mp4",
        "tab\there.mp4",
        "-rf.mp4",
        "--help.mp4",
        "*.mp4",
        "?.mp4",
        " .mp4",
        "$(reboot).mp4",
        "`reboot`.mp4",
        "; reboot.mp4",
        "%2e%2e%2f.mp4",
        "=1+1.mp4",
        "{}.mp4",
        "..mp4.mp4",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect();
    names.push(b"\xff\xfe\x80.mp4".to_vec());
    names.push([&[b'x'; 251][..], b".mp4"].concat());
    names.push([&[0xf0; 251][..], b".mp4"].concat());
    names
}

#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn make(file: &Path, bytes: usize) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, vec![7; bytes]).unwrap();
    let old = crate::support::now() - std::time::Duration::from_secs(90 * 86_400);
    std::fs::File::options().write(true).open(file).unwrap().set_modified(old).unwrap();
}

/// What a terminal, a log or a page must never get as it is.
fn harmless(what: &str, text: &[u8]) {
    assert!(std::str::from_utf8(text).is_ok(), "{what} is no UTF-8");
    for bad in [&b"\x1b"[..], b"\r", b"line\nbreak", b"\x07"] {
        assert!(!text.windows(bad.len()).any(|at| at == bad), "{what} holds {bad:?}");
    }
}

/// Faults 14, 15, 16.
#[test]
#[ignore = "needs root and a loop device"]
fn odd_names_are_deleted_and_told_harmlessly() {
    let bed = Bed::new(Mounted::ext4(400), 0);
    let files: Vec<PathBuf> =
        names().into_iter().map(|name| bed.tree().join("cam").join(OsString::from_vec(name))).collect();
    for file in &files {
        make(file, 12 << 20);
    }
    let config = bed.config("", "");
    let path = config.to_str().unwrap();
    let text = std::fs::read_to_string(&config).unwrap().replace("layout: zlmediakit", "layout: plain");
    #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
    // Everything but the newest has to go.
    std::fs::write(&config, text.replace("low: 50%", "low: 9%")).unwrap();
    for command in ["scan", "plan"] {
        for json in [&[][..], &["--json"]] {
            let output = guard(&[&[command, "-c", path], json].concat());
            harmless(command, &output.stdout);
            harmless(command, &output.stderr);
        }
    }
    let daemon = Daemon::start(&config, &bed.state());
    let stand = || files.iter().filter(|file| std::fs::symlink_metadata(file).is_ok()).count();
    wait_for("all but a few are deleted", || stand() <= 4);
    let socket = bed.state().join("control.sock");
    for address in ["/metrics", "/api/v1/status", "/api/v1/plan", "/api/v1/journal?limit=1000"] {
        let output = std::process::Command::new("curl")
            .args(["-s", "--unix-socket", socket.to_str().unwrap(), &format!("http://localhost{address}")])
            .output()
            .unwrap();
        harmless(address, &output.stdout);
        assert!(address != "/metrics" || !String::from_utf8_lossy(&output.stdout).contains("reboot"));
    }
    drop(daemon);
    harmless("the log", &std::fs::read(config.with_extension("log")).unwrap());
    let listed = guard(&["journal", "list", "-c", path]);
    harmless("journal list", &listed.stdout);
    let entries = journal(&config);
    let of = |file: &PathBuf| {
        let name = file.file_name().unwrap().as_bytes();
        let wanted = storage_guard::domain::path::RelPath::new(&[b"cam/", name].concat()).unwrap().show();
        entries
            .iter()
            .find(|entry| entry["path"] == wanted.0.as_str() && entry["encoded"].as_bool().unwrap_or(false) == wanted.1)
    };
    for file in files.iter().filter(|file| std::fs::symlink_metadata(file).is_err()) {
        assert_eq!(of(file).unwrap()["outcome"], "verified", "{file:?}");
    }
    assert_eq!(left(&bed.tree()), 0);
}

/// A directory below `from`, made.
fn down(from: &OwnedFd, name: &OsStr) -> OwnedFd {
    rustix::fs::mkdirat(from, name, Mode::RWXU).unwrap();
    rustix::fs::openat(from.as_fd(), name, OFlags::DIRECTORY, Mode::empty()).unwrap()
}

/// Fault 15.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn a_path_longer_than_the_kernel_takes_is_deleted_like_any_other() {
    for inject in [&[][..], &["openat2:error=ENOSYS", "statx:error=ENOSYS"]] {
        let bed = Bed::new(Mounted::ext4(400), 0);
        let long = OsString::from("d".repeat(255));
        std::fs::create_dir_all(bed.tree()).unwrap();
        let mut at = rustix::fs::openat(CWD, bed.tree(), OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..20 {
            at = down(&at, &long);
        }
        let deep = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&at)));
        for number in 0..30 {
            make(&deep.join(format!("{number:02}{}.mp4", "x".repeat(249))), 10 << 20);
        }
        let config = bed.config("", "");
        let text = std::fs::read_to_string(&config).unwrap().replace("layout: zlmediakit", "layout: plain");
        #[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
        std::fs::write(&config, text).unwrap();
        let args = ["reclaim", "-c", config.to_str().unwrap()];
        let output = if inject.is_empty() { guard(&args) } else { super::kernels::traced(inject, &args) };
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
        let stand = std::fs::read_dir(&deep).unwrap().count();
        assert!((10..25).contains(&stand), "{stand} stand");
        assert_eq!(left(&bed.tree()), 0);
    }
}
