//! What persons hold stays, whoever wants it gone: by pressure, retention, request or gateway, with the state or without it (promise 3).

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::reclaim::Bed;
use crate::support::asking::{ask, counts, delete, items, until};
use crate::support::{Daemon, Mounted, guard, json as printed, now, recording, run, wait_for};

const HOUR: Duration = Duration::from_secs(3600);
const NAME: &str = "user.storage_guard.hold";

fn bed(count: u32) -> Bed {
    Bed::new(Mounted::ext4(u64::from(count) * 3 + 20), count)
}

/// A bed whose volume is above its high mark.
fn full(count: u32) -> Bed {
    Bed::new(Mounted::ext4(u64::from(count) + 20), count)
}

/// The mark that a file bears, if it does.
pub(crate) fn mark(path: &Path) -> Option<Value> {
    let mut value = [0; 4096];
    let length = rustix::fs::getxattr(path, NAME, &mut value[..]).ok()?;
    Some(serde_json::from_slice(&value[..length]).unwrap())
}

/// Holds, by the API; the answer.
fn hold(bed: &Bed, body: &Value) -> Value {
    let answer = ask(&bed.state(), "POST", "/api/v1/holds", body);
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.body
}

fn held(bed: &Bed) -> Vec<Value> {
    printed(&["hold", "list", "--state", bed.state().to_str().unwrap()])["items"].as_array().unwrap().clone()
}

fn let_go(bed: &Bed, id: &Value) {
    let answer = ask(&bed.state(), "DELETE", &format!("/api/v1/holds/{id}"), &Value::Null);
    assert_eq!((answer.status, &answer.body["removed"]), (200, id), "{}", answer.body);
}

fn paths(bed: &Bed, which: &[usize]) -> Vec<String> {
    which.iter().map(|at| bed.made[*at].clone()).collect()
}

/// When a recording of a bed was begun, and so many seconds later.
fn begun(bed: &Bed, at: usize, later: i64) -> String {
    let name = bed.made[at].rsplit('/').next().unwrap();
    let (date, time) = (&name[..10], name[11..19].replace('-', ":"));
    let at: jiff::civil::DateTime = format!("{date}T{time}").parse().unwrap();
    let zoned = at.to_zoned(jiff::tz::TimeZone::system()).unwrap();
    (zoned.timestamp() + jiff::SignedDuration::from_secs(later)).to_string()
}

fn scanned(daemon: &Daemon) {
    wait_for("it was scanned", || daemon.pressure() == "normal");
}

#[test]
#[ignore = "needs root and a loop device"]
fn what_is_held_survives_pressure_retention_and_a_request_and_goes_once_it_is_let_go() {
    let bed = bed(12);
    let daemon = Daemon::start(&bed.config("    mode: observe\n", ""), &bed.state());
    scanned(&daemon);
    let made = hold(&bed, &json!({"tree": "live", "paths": paths(&bed, &[0, 3]), "reason": "case 7"}));
    assert_eq!((&made["recordings"], &made["durable"]), (&json!(2), &json!(true)), "{made}");
    assert!(made["note"].as_str().unwrap().contains("only observed"), "{made}");
    drop(daemon);
    assert_eq!((mark(&bed.file(0)), bed.tree().join(".storage-guard").exists()), (None, false), "nothing is written");
    // Everything is past its retention now.
    let retention = "    retention:\n      - { stream: \"**\", max_age: 1h }\n";
    let daemon = Daemon::start(&bed.config(retention, "scan_interval: 1s\n"), &bed.state());
    wait_for("the others are gone", || bed.gone() == 10);
    wait_for("the mark is set", || mark(&bed.file(0)).is_some() && mark(&bed.file(3)).is_some());
    let told = mark(&bed.file(3)).unwrap();
    assert_eq!((&told["id"], &told["who"], &told["reason"]), (&made["id"], &json!("root"), &json!("case 7")));
    let id = delete(&bed.state(), &json!({"tree": "live", "paths": paths(&bed, &[0, 1, 3])}));
    let over = until(&daemon, id, "done");
    assert_eq!((counts(&over), bed.gone()), ([3, 1, 0, 0, 2], 10), "{over}");
    let details: BTreeSet<String> =
        items(&daemon, id).iter().filter_map(|item| item["detail"].as_str().map(str::to_owned)).collect();
    assert_eq!(details, BTreeSet::from(["hold".to_owned()]));
    let spared = r#"storage_guard_spared_bytes{tree="live",reason="hold"} "#;
    let bytes = |text: &str| text.lines().find_map(|line| line.strip_prefix(spared)?.parse::<f64>().ok());
    wait_for("the metric says so", || bytes(&daemon.get("/metrics")).is_some_and(|bytes| bytes >= (2 << 20) as f64));
    let_go(&bed, &made["id"]);
    wait_for("they go", || bed.gone() == 12);
    let notes = printed(&["journal", "list", "--state", bed.state().to_str().unwrap()]);
    let of = |kind: &str| {
        let entry = notes["items"].as_array().unwrap().iter().find(|entry| entry["kind"] == kind).cloned().unwrap();
        (entry["who"].as_str().unwrap().to_owned(), entry["note"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(of("hold_made").0, "root");
    assert!(of("hold_made").1.ends_with("and 1 more: case 7"), "{notes}");
    assert!(of("hold_ended").1.ends_with(": removed"), "{notes}");
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_held_recording_is_passed_over_under_pressure() {
    let bed = full(80);
    let config = bed.config("    mode: observe\n", "");
    let config = config.to_str().unwrap();
    let state = bed.state();
    // Without a daemon the command does it itself.
    let output = guard(
        &[&["hold", "add", "-c", config, "--reason", "case 7", "live"][..], &[&bed.made[0], &bed.made[4]]].concat(),
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("hold 1 is in effect; recordings that are there: 2\n"), "{text}{:?}", output.stderr);
    let listed = guard(&["hold", "list", "-c", config]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.starts_with(&format!("1 live: {} and 1 more, without end, made ", bed.made[0])), "{listed}");
    let daemon = Daemon::start(&bed.config("", ""), &state);
    wait_for("the low mark is reached", || daemon.reached_low());
    bed.oldest_are_gone(&BTreeSet::from([0, 4]));
    drop(daemon);
    let output = guard(&["hold", "remove", "-c", config, "1"]);
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("hold 1 is removed"));
    assert!(String::from_utf8(guard(&["hold", "list", "-c", config]).stdout).unwrap().starts_with("nothing is held"));
    assert_eq!(guard(&["hold", "remove", "-c", config, "1"]).status.code(), Some(5));
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_span_holds_what_reaches_into_it_and_what_comes_later() {
    let bed = bed(12);
    let daemon = Daemon::start(&bed.config("", "scan_interval: 1s\n"), &bed.state());
    scanned(&daemon);
    // Of the camera of the first, fourth and seventh recording: from just after the beginning of the fourth, which was written in a moment.
    let (from, to) = (begun(&bed, 3, 0), begun(&bed, 6, 0));
    let span = json!({"tree": "live", "stream": "live/a", "from": from, "to": to, "reason": "case 7"});
    let made = hold(&bed, &span);
    assert_eq!(made["recordings"], json!(1), "the end is not part of it: {made}");
    wait_for("the mark is set", || mark(&bed.file(3)).is_some());
    let over = until(&daemon, delete(&bed.state(), &json!({"tree": "live", "stream": "live/a"})), "done");
    assert_eq!((counts(&over)[4], bed.exists(3), bed.gone()), (1, true, 3), "{over}");
    let between: jiff::Timestamp = begun(&bed, 3, 600).parse().unwrap();
    let age = jiff::Timestamp::try_from(now()).unwrap().duration_since(between);
    let late = recording(&bed.tree(), "live/a", age.unsigned_abs(), 4096);
    let later = recording(&bed.tree(), "live/a", HOUR, 4096);
    wait_for("what comes later is marked too", || mark(&bed.tree().join(&late)).is_some());
    let over = until(&daemon, delete(&bed.state(), &json!({"tree": "live", "stream": "live/a"})), "done");
    assert_eq!((counts(&over)[1], counts(&over)[4]), (1, 2), "{over}");
    assert_eq!((bed.tree().join(&late).exists(), bed.tree().join(&later).exists()), (true, false));
    assert!(mark(&bed.file(1)).is_none(), "another camera");
}

/// Promise 3, also where the state was lost, or a backup was restored without it.
#[test]
#[ignore = "needs root and a loop device"]
fn a_mark_protects_where_the_state_is_lost_and_naming_the_file_takes_it_over() {
    let bed = bed(6);
    let daemon = Daemon::start(&bed.config("", ""), &bed.state());
    scanned(&daemon);
    hold(&bed, &json!({"tree": "live", "paths": paths(&bed, &[2]), "reason": "case 7"}));
    wait_for("the mark is set", || mark(&bed.file(2)).is_some());
    let before = mark(&bed.file(2)).unwrap();
    drop(daemon);
    for file in ["guard.db", "guard.db-wal"] {
        run("rm", &["-f", bed.state().join(file).to_str().unwrap()]);
    }
    let daemon = Daemon::start(&bed.config("", ""), &bed.state());
    scanned(&daemon);
    assert!(held(&bed).is_empty());
    let all = json!({"tree": "live", "paths": paths(&bed, &[1, 2])});
    let over = until(&daemon, delete(&bed.state(), &all), "done");
    assert_eq!((counts(&over), bed.exists(2)), ([2, 1, 0, 0, 1], true), "{over}");
    // A span does not take over what another state held; a name does.
    let span =
        json!({"tree": "live", "stream": "live/c", "from": begun(&bed, 2, 0), "to": begun(&bed, 2, 60), "reason": "x"});
    let by_span = hold(&bed, &span);
    let by_name = hold(&bed, &json!({"tree": "live", "paths": paths(&bed, &[2]), "reason": "case 8"}));
    wait_for("it is taken over", || mark(&bed.file(2)).is_some_and(|mark| mark["reason"] == "case 8"));
    assert_ne!(mark(&bed.file(2)).unwrap()["made"], before["made"]);
    let_go(&bed, &by_name["id"]);
    wait_for("the span's hold follows", || mark(&bed.file(2)).is_some_and(|mark| mark["reason"] == "x"));
    let_go(&bed, &by_span["id"]);
    wait_for("it bears none", || mark(&bed.file(2)).is_none());
    let over = until(&daemon, delete(&bed.state(), &all), "done");
    assert_eq!((counts(&over)[1], bed.exists(2)), (2, false), "{over}");
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_hold_ends_by_itself_and_says_what_is_already_gone() {
    let bed = bed(6);
    let daemon = Daemon::start(&bed.config("", ""), &bed.state());
    scanned(&daemon);
    let state = bed.state();
    let absent = "live/a/2026-01-01/2026-01-01-00-00-00-0.mp4".to_owned();
    let args = ["hold", "add", "--state", state.to_str().unwrap(), "--reason", "case 7", "--until", "4s", "live"];
    let made = printed(&[&args[..], &[&bed.made[1], &absent]].concat());
    assert_eq!((&made["already_gone"], &made["recordings"]), (&json!([absent]), &json!(1)), "{made}");
    wait_for("the mark is set", || mark(&bed.file(1)).is_some());
    assert_eq!(held(&bed).len(), 1);
    wait_for("it is over", || held(&bed).is_empty() && mark(&bed.file(1)).is_none());
    let over = until(&daemon, delete(&state, &json!({"tree": "live", "paths": paths(&bed, &[1])})), "done");
    assert_eq!((counts(&over)[1], bed.gone()), (1, 1), "{over}");
    let gone = json!({"tree": "live", "stream": "live/nobody", "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z",
        "reason": "case 8"});
    let made = hold(&bed, &gone);
    assert!(made["note"].as_str().unwrap().contains("already gone"), "{made}");
    let text = guard(&[&args[..6], &["live", &absent]].concat());
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains(&format!("  ALREADY GONE: {absent}\n")), "{text}");
    for (body, status, code) in [
        (json!({"tree": "live", "paths": ["live/a/notes.txt", "../x"], "reason": "x"}), 400, "not_a_recording"),
        (json!({"tree": "live", "paths": [absent]}), 400, "bad_reason"),
        (json!({"tree": "live", "paths": [absent], "reason": "x", "until": "2020-01-01T00:00:00Z"}), 400, "bad_until"),
        (
            json!({"tree": "live", "stream": "live/../a", "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "reason": "x"}),
            400,
            "bad_stream",
        ),
        (json!({"tree": "other", "paths": [absent], "reason": "x"}), 404, "not_found"),
    ] {
        let answer = ask(&state, "POST", "/api/v1/holds", &body);
        assert_eq!((answer.status, answer.body["error"]["code"].as_str()), (status, Some(code)), "{body}");
        if code == "not_a_recording" {
            let message = answer.body["error"]["message"].as_str().unwrap();
            assert!(message.contains("notes.txt") && message.contains("../x"), "{message}");
        }
    }
    assert_eq!(ask(&state, "DELETE", "/api/v1/holds/99", &Value::Null).status, 404);
}
