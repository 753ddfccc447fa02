//! A state whose disk hangs or is full: 503, never a false answer.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use super::{Answer, Heard, captures, clock, count, read_answer, request};
use crate::support::{Daemon, Mounted, run, wait_for};

/// More than the queue holds, and what is written at once.
const FLOOD: usize = 9_600;

/// A filesystem that takes no writes; thawed when dropped, also when the test fails.
struct Frozen<'m>(&'m Mounted);

impl<'m> Frozen<'m> {
    fn new(mounted: &'m Mounted) -> Self {
        run("fsfreeze", &["-f", mounted.path().to_str().unwrap()]);
        Self(mounted)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(self.0.path()).status();
    }
}

/// Fault 111: beyond the queue the answer is 503 at once, nothing grows, and all is taken again when the disk answers.
#[test]
#[ignore = "needs root and a loop device"]
fn a_flood_beyond_the_queue_and_a_disk_that_hangs_are_answered_with_503() {
    storage_guard::system::raise_open_files();
    let heard = Heard::new();
    let disk = Mounted::ext4(256);
    let state = disk.path().join("state");
    let daemon = Daemon::start(&heard.config_at(&state, "", "", ""), &state);
    let body = captures()["hook_on_record_mp4"].clone();
    let numbered = |number: usize| body.replace("-0.mp4", &format!("-{number}.mp4"));
    assert_eq!(heard.send("on_record_mp4", &numbered(0)).code(), 0);
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let before = memory();
    let frozen = Frozen::new(&disk);
    let mut open: Vec<TcpStream> = (1..=FLOOD)
        .filter_map(|number| {
            let mut stream = TcpStream::connect(("127.0.0.1", heard.port)).ok()?;
            stream.write_all(&request("/index/hook/on_record_mp4", &numbered(number))).ok()?;
            Some(stream)
        })
        .collect();
    let begin = clock();
    let answers: Vec<Answer> = open
        .iter_mut()
        .filter_map(|stream| {
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            read_answer(stream).ok()
        })
        .collect();
    assert!(answers.len() > 8_000 && answers.iter().all(|answer| answer.status == 503), "{}", answers.len());
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    assert!(memory() < before + (512 << 10), "{} KiB before, {} now", before, memory());
    drop(open);
    // It is known by now that the disk hangs: nobody waits for it any more.
    let begin = clock();
    let answer = heard.send("on_record_mp4", &numbered(1));
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    // Who asks does not wait for the store.
    let begin = clock();
    assert_eq!(heard.send("on_publish", &captures()["hook_on_publish_rtmp"]).code(), 0);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    drop(frozen);
    wait_for("hooks are taken again", || heard.send("on_record_mp4", &numbered(FLOOD + 1)).status == 200);
    wait_for("metrics are answered", || count(&daemon, "on_record_mp4", "stored") >= 2);
    assert!(count(&daemon, "on_record_mp4", "rejected") > 8_000);
}

/// A full disk takes no record: it says so, and takes them again once there is room.
#[test]
#[ignore = "needs root and a loop device"]
fn a_full_disk_is_answered_with_503_until_it_has_room() {
    let heard = Heard::new();
    let disk = Mounted::ext4(192);
    let state = disk.path().join("state");
    let _daemon = Daemon::start(&heard.config_at(&state, "", "", ""), &state);
    let body = captures()["hook_on_record_mp4"].clone();
    assert_eq!(heard.send("on_record_mp4", &body).code(), 0);
    let filler = disk.path().join("filler");
    let path = filler.to_str().unwrap();
    let _ = Command::new("dd").args(["if=/dev/zero", &format!("of={path}"), "bs=4k"]).output().unwrap();
    let mut number = 0;
    // What the database has room for in itself is taken before.
    wait_for("there is no room", || {
        number += 1;
        let told = body.replace("-0.mp4", &format!("-{number}.mp4")).replace("live/test", &"x".repeat(900));
        heard.send("on_record_mp4", &told).status == 503
    });
    run("rm", &[path]);
    wait_for("it is taken again", || heard.send("on_record_mp4", &body.replace("-0.mp4", "-x.mp4")).code() == 0);
}
