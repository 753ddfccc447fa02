//! The guard is killed under load: what was answered is there.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Heard, captures, send};
use crate::support::{Daemon, pause, scale, total, wait_for};

/// Senders at the same time.
const SENDERS: u64 = 24;

/// Sends hooks of one recording each until it is told to stop; gives the numbers of those that were answered as taken.
fn answered(port: u16, body: &str, next: &AtomicU64, stop: &AtomicBool) -> Vec<u64> {
    let mut out = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let told = body.replace("-0.mp4", &format!("-{number}.mp4"));
        if send(port, "/index/hook/on_record_mp4", &told).is_ok_and(|answer| answer.status == 200 && answer.code() == 0)
        {
            out.push(number);
        }
    }
    out
}

#[test]
fn no_hook_that_was_answered_is_lost_by_a_kill() {
    let heard = Heard::new();
    let config = heard.config("", "", "");
    let body: Arc<str> = captures()["hook_on_record_mp4"].as_str().into();
    let next = Arc::new(AtomicU64::new(0));
    let (mut told, kills) = (Vec::new(), scale(3, 30));
    for kill in 0..kills {
        let mut command = Command::new(env!("CARGO_BIN_EXE_storage-guard"));
        command.args(["run", "-c", config.to_str().unwrap()]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut guard = command.spawn().unwrap();
        wait_for("it listens", || std::net::TcpStream::connect(("127.0.0.1", heard.port)).is_ok());
        let stop = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let (body, next, stop, port) = (body.clone(), next.clone(), stop.clone(), heard.port);
                std::thread::spawn(move || answered(port, &body, &next, &stop))
            })
            .collect();
        pause(std::time::Duration::from_millis(300 + 70 * (kill % 7)));
        guard.kill().unwrap();
        guard.wait().unwrap();
        stop.store(true, Ordering::Relaxed);
        let before = told.len();
        for sender in senders {
            told.extend(sender.join().unwrap());
        }
        assert!(told.len() > before, "nothing was answered in round {kill}");
    }
    let daemon = Daemon::start(&config, &heard.state());
    wait_for("the guard is up", || daemon.status().is_some());
    drop(daemon);
    let database = rusqlite::Connection::open(heard.state().join("guard.db")).unwrap();
    let mut statement = database.prepare("SELECT 1 FROM hook_records WHERE path = ?1").unwrap();
    let path = "/data/zlm/rec/record/live/test/2026-11-22/2026-11-22-12-21-41-";
    let lost = told.iter().filter(|number| !statement.exists([format!("{path}{number}.mp4").as_bytes()]).unwrap());
    assert_eq!(lost.count(), 0, "of {} that were answered", told.len());
    total("hooks answered before a kill -9, none lost", told.len() as u64);
}
