//! Deletions that are asked for, and the events of their jobs, as the server speaks them.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use serde_json::json;
use storage_guard::domain::settings::AuthSettings;
use storage_guard::server::Limits;
use storage_guard::server::records::JobItem;
use storage_guard::server::shapes::Path;

use super::served::{OPERATOR, Served, request};

fn item(at: usize, detail: &str) -> JobItem {
    JobItem {
        tree: "live".to_owned(),
        path: Path { path: at.to_string(), encoded: false },
        outcome: Some("verified"),
        cause: None,
        holder: None,
        attempts: 1,
        next_attempt: None,
        bytes: 4096,
        detail: Some(detail.to_owned()),
    }
}

fn events(id: u64) -> String {
    request("GET", &format!("/api/v1/jobs/{id}/events"), &format!("Authorization: Bearer {OPERATOR}\r\n"), "")
}

#[test]
fn a_deletion_is_a_job_and_its_body_may_be_larger_than_others() {
    let limits = Limits { body_bytes: 1000, paths_bytes: 200_000, ..Limits::default() };
    let served = Served::with(&AuthSettings::default(), limits);
    let paths: Vec<String> = (0..5_000).map(|at| format!("live/cam/{at}")).collect();
    let body = json!({"tree": "live", "paths": paths}).to_string();
    assert!(body.len() > 50_000);
    let answer = served.operate("POST", "/api/v1/deletions", &body);
    assert_eq!((answer.status, answer.header("location")), (202, Some("/api/v1/jobs/42")), "{answer:?}");
    assert_eq!(answer.json(), json!({"job": 42}));
    assert_eq!(served.asked(), ["delete in live by operator"]);
    let refused = served.operate("POST", "/api/v1/deletions", r#"{"tree": "live", "paths": ["../x"]}"#);
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (400, Some("not_a_recording")));
    let large = served.operate("POST", "/api/v1/deletions", &" ".repeat(200_001));
    assert_eq!(large.status, 413);
    assert_eq!(served.operate("POST", "/api/v1/failures/7/close", &body).status, 413);
    assert_eq!(served.ask("POST", "/api/v1/deletions", "Content-Type: application/json\r\n", "{}").status, 401);
}

#[test]
fn a_listener_hears_items_and_states_until_nothing_comes_any_more() {
    let served = Served::new();
    served.backend.feed.push(item(1, "first"));
    let mut stream = served.connect();
    stream.write_all(events(42).as_bytes()).unwrap();
    let mut text = String::new();
    let mut until = |wanted: &str| {
        while !text.contains(wanted) {
            let mut part = [0; 4096];
            let n = stream.read(&mut part).unwrap();
            assert!(n > 0, "it ended before {wanted:?}: {text}");
            text.push_str(&String::from_utf8_lossy(&part[..n]));
        }
        text.clone()
    };
    let head = until("event: progress").to_lowercase();
    assert!(head.contains("content-type: text/event-stream") && head.contains("cache-control: no-store"), "{head}");
    assert!(head.contains("event: item") && head.contains("\"detail\":\"first\""), "{head}");
    served.backend.feed.push(item(2, "a line\nand another"));
    let later = until("a line\\nand another");
    assert_eq!(later.matches("event: progress").count(), 1, "it did not change: {later}");
    served.backend.feed.close();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(served.operate("GET", "/api/v1/jobs/43/events", "").status, 404);
}

/// Who listens and takes nothing holds nothing up, and loses the connection; places are limited, and given back.
#[test]
fn listeners_are_limited_and_one_that_takes_nothing_is_given_up() {
    let limits = Limits { write_stall: Duration::from_millis(200), ..Limits::default() };
    let served = Served::with(&AuthSettings::default(), limits);
    let listen = || {
        let mut stream = served.connect();
        stream.write_all(events(42).as_bytes()).unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        (String::from_utf8_lossy(&head[9..]).into_owned(), stream)
    };
    let mut listening: Vec<_> = (0..32).map(|_| listen()).collect();
    assert!(listening.iter().all(|(status, _)| status == "200"));
    assert_eq!(listen().0, "503");
    // Its own feed is all that fills up.
    let long = "x".repeat(10_000);
    for at in 0..2_000 {
        served.backend.feed.push(item(at, &long));
    }
    crate::support::wait_for("those that take nothing are given up", || {
        served.backend.feed.push(item(0, &long));
        let status = listen().0;
        status == "200"
    });
    listening.clear();
}
