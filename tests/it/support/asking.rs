//! Asks a daemon for deletions, and how far they are.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Daemon, pause};

/// An answer: status, headers as they came, body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

/// Asks the daemon with this state through its control socket.
pub(crate) fn ask(state: &Path, method: &str, path: &str, body: &Value) -> Answer {
    let mut curl = Command::new("curl")
        .args(["-s", "-i", "-m", "30", "-X", method, "-H", "Content-Type: application/json", "--data-binary", "@-"])
        .arg("--unix-socket")
        .arg(state.join("control.sock"))
        .args(["-H", "Expect:", &format!("http://localhost{path}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    curl.stdin.take().unwrap().write_all(body.to_string().as_bytes()).unwrap();
    let text = String::from_utf8(curl.wait_with_output().unwrap().stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {text}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: serde_json::from_str(body).unwrap_or(Value::Null) }
}

/// Asks for a deletion that must be taken; gives the job.
pub(crate) fn delete(state: &Path, body: &Value) -> u64 {
    let answer = ask(state, "POST", "/api/v1/deletions", body);
    assert_eq!(answer.status, 202, "{}", answer.body);
    let job = answer.body["job"].as_u64().unwrap();
    assert!(answer.head.contains(&format!("\r\nlocation: /api/v1/jobs/{job}")), "{}", answer.head);
    job
}

pub(crate) fn job(daemon: &Daemon, id: u64) -> Value {
    serde_json::from_str(&daemon.get(&format!("/api/v1/jobs/{id}"))).unwrap()
}

pub(crate) fn items(daemon: &Daemon, id: u64) -> Vec<Value> {
    let page: Value = serde_json::from_str(&daemon.get(&format!("/api/v1/jobs/{id}/items?limit=1000"))).unwrap();
    page["items"].as_array().unwrap().clone()
}

/// Waits until a job is in a state; gives it.
pub(crate) fn until(daemon: &Daemon, id: u64, state: &str) -> Value {
    let mut last = Value::Null;
    for _ in 0..300 {
        last = job(daemon, id);
        if last["state"] == state {
            return last;
        }
        pause(Duration::from_millis(50));
    }
    panic!("never {state}: {last} {:?}", items(daemon, id));
}

/// total, verified, failed, waiting, kept
pub(crate) fn counts(job: &Value) -> [u64; 5] {
    ["total", "verified", "failed", "waiting", "kept"].map(|name| job[name].as_u64().unwrap())
}
