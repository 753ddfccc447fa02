//! What persons ask to have deleted, with the whole program: what is refused, what goes, what stays, how a job tells how far it is, and how
//! it ends (promises 2, 3, 4 and 8).

mod interrupted;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::notify::{KEY, Seen, receiver};
use crate::reclaim::{Bed, Holder};
use crate::support::asking::{ask, counts, delete, items, job, until};
use crate::support::{Daemon, Mounted, json as printed, recording, run, wait_for};

const HOUR: Duration = Duration::from_secs(3600);

/// What became of an item, and why.
fn outcome(items: &[Value], path: &str) -> (String, String) {
    let item = items.iter().find(|item| item["path"] == path).unwrap_or_else(|| panic!("{path}: {items:?}"));
    let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
    (text("outcome"), text("detail"))
}

fn bed(count: u32) -> Bed {
    Bed::new(Mounted::ext4(u64::from(count) * 3 + 20), count)
}

/// The configuration with a text of it replaced.
#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn altered(config: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(config).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(config, text.replace(from, to)).unwrap();
}

/// The configuration of a bed whose files go so many a second.
fn slow(bed: &Bed, tree: &str, rest: &str) -> PathBuf {
    let config = bed.config(tree, rest);
    altered(&config, "pause: 0,", "pause: 0, max_files_per_second: 20,");
    config
}

/// Recordings of a bed by number, as a request names them.
fn named(bed: &Bed, which: &[usize]) -> Vec<String> {
    which.iter().map(|at| bed.made[*at].clone()).collect()
}

fn gone(bed: &Bed) -> BTreeSet<usize> {
    (0..bed.made.len()).filter(|at| !bed.exists(*at)).collect()
}

fn journal(bed: &Bed) -> Vec<Value> {
    printed(&["journal", "list", "--state", bed.state().to_str().unwrap()])["items"].as_array().unwrap().clone()
}

#[test]
#[ignore = "needs root and a loop device"]
fn what_is_named_goes_and_nothing_else_and_the_journal_says_who_wanted_it() {
    let bed = bed(12);
    let daemon = Daemon::start(&bed.config("", ""), &bed.state());
    let absent = "live/a/2026-01-01/2026-01-01-00-00-00-0.mp4".to_owned();
    let mut paths = named(&bed, &[2, 5, 7, 5]);
    paths.push(absent.clone());
    let id = delete(&bed.state(), &json!({"tree": "live", "paths": paths}));
    let over = until(&daemon, id, "done");
    assert_eq!((counts(&over), gone(&bed)), ([4, 4, 0, 0, 0], BTreeSet::from([2, 5, 7])), "{over}");
    assert_eq!((over["kind"].as_str(), over["problem"].is_null()), (Some("deletion"), true));
    assert!(
        over["expected_bytes"].as_u64() >= Some(3 << 20) && over["reclaimed_bytes"].as_u64() >= Some(3 << 20),
        "{over}"
    );
    assert!(over["started"].is_string() && over["finished"].is_string());
    let items = items(&daemon, id);
    assert_eq!(outcome(&items, &absent).0, "already_gone");
    assert_eq!(outcome(&items, &bed.made[5]).0, "verified");
    let entries = journal(&bed);
    let of_job: Vec<&Value> =
        entries.iter().filter(|entry| entry["job"] == id && entry["kind"] == "deletion").collect();
    assert_eq!(of_job.len(), 3, "{entries:?}");
    let asked = |entry: &Value| {
        entry["rule"] == "requested"
            && entry["trigger"] == "operator"
            && entry["outcome"] == "verified"
            && entry["who"] == "root"
            && entry["stream"].as_str().is_some_and(|stream| stream.starts_with("live/"))
    };
    assert!(of_job.iter().all(|entry| asked(entry)), "{of_job:?}");
    let again = delete(&bed.state(), &json!({"tree": "live", "paths": named(&bed, &[2])}));
    assert_eq!(counts(&until(&daemon, again, "done")), [1, 1, 0, 0, 0]);
    let metrics = daemon.get("/metrics");
    for (outcome, count) in [("verified", 3), ("already_gone", 2), ("kept", 0), ("failed", 0)] {
        let line = format!(
            "storage_guard_deletions_total{{outcome=\"{outcome}\",tree=\"live\",trigger=\"operator\"}} {count}\n"
        );
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_request_that_cannot_be_meant_names_each_path_and_deletes_nothing() {
    let bed = bed(6);
    let daemon = Daemon::start(&bed.config("", ""), &bed.state());
    wait_for("it was scanned", || daemon.pressure() == "normal");
    let strange = ["../etc/passwd", "/etc/passwd", "live/a", "live/a/notes.txt", ".storage-guard/marker"];
    let mut paths = named(&bed, &[0, 1]);
    paths.extend(strange.map(str::to_owned));
    let refused = ask(&bed.state(), "POST", "/api/v1/deletions", &json!({"tree": "live", "paths": paths}));
    let message = refused.body["error"]["message"].as_str().unwrap();
    assert_eq!((refused.status, refused.body["error"]["code"].as_str()), (400, Some("not_a_recording")));
    assert!(strange.iter().all(|path| message.contains(path)) && !message.contains(&bed.made[0]), "{message}");
    for (body, status, code) in [
        (json!({"tree": "other", "paths": named(&bed, &[0])}), 404, "not_found"),
        (json!({"tree": "live", "paths": []}), 400, "bad_paths"),
        (json!({"tree": "live"}), 400, "bad_request"),
        (json!({"tree": "live", "stream": "live/../a"}), 400, "bad_stream"),
        (json!({"tree": "live", "stream": "live/a", "period": "../../x"}), 400, "bad_period"),
        (json!({"tree": "live", "stream": "live/a", "before": "soon"}), 400, "bad_before"),
        (json!({"tree": "live", "stream": "live/a", "colour": 1}), 400, "bad_json"),
        (json!({"tree": "live", "stream": "live/a", "callback_url": "http://127.0.0.1:1/"}), 400, "bad_callback"),
    ] {
        let answer = ask(&bed.state(), "POST", "/api/v1/deletions", &body);
        assert_eq!((answer.status, answer.body["error"]["code"].as_str()), (status, Some(code)), "{body}");
    }
    drop(daemon);
    let daemon = Daemon::start(&bed.config("    mode: observe\n", ""), &bed.state());
    let observed = ask(&bed.state(), "POST", "/api/v1/deletions", &json!({"tree": "live", "paths": named(&bed, &[0])}));
    assert_eq!((observed.status, observed.body["error"]["code"].as_str()), (409, Some("observe")));
    assert_eq!(bed.gone(), 0);
    drop(daemon);
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_stream_goes_by_its_day_before_a_moment_or_whole() {
    let bed = bed(30);
    let daemon = Daemon::start(&bed.config("", ""), &bed.state());
    let of = |at: usize| bed.made[at].split('/').collect::<Vec<_>>();
    let day = of(9)[2].to_owned();
    let is_a = |at: &usize| of(*at)[1] == "a";
    let here: BTreeSet<usize> = (0..30).filter(|at| is_a(at) && of(*at)[2] == day).collect();
    let id = delete(&bed.state(), &json!({"tree": "live", "stream": "live/a", "period": day}));
    let over = until(&daemon, id, "done");
    assert_eq!((counts(&over)[1], gone(&bed)), (here.len() as u64, here.clone()), "{over}");
    // The moment of a recording is not before itself.
    let name = of(18)[3];
    let (date, time) = (&name[..10], name[11..19].replace('-', ":"));
    let at: jiff::civil::DateTime = format!("{date}T{time}").parse().unwrap();
    let before = at.to_zoned(jiff::tz::TimeZone::system()).unwrap().timestamp();
    let id = delete(&bed.state(), &json!({"tree": "live", "stream": "live/a", "before": before.to_string()}));
    until(&daemon, id, "done");
    let earlier: BTreeSet<usize> = (0..18).filter(is_a).chain(here.iter().copied()).collect();
    assert_eq!(gone(&bed), earlier);
    let reasons = journal(&bed);
    let reason =
        |entry: &Value| entry["reason"].as_str().is_some_and(|why| why.starts_with("asked for: stream live/a before"));
    assert!(reasons.iter().any(reason), "{reasons:?}");
    // What was recorded since the last scan is found as well.
    let fresh = recording(&bed.tree(), "live/a", Duration::from_secs(5), 4096);
    let id = delete(&bed.state(), &json!({"tree": "live", "stream": "live/a"}));
    let over = until(&daemon, id, "done");
    let all: BTreeSet<usize> = (0..30).filter(is_a).collect();
    assert_eq!((gone(&bed), bed.tree().join(&fresh).exists()), (all, false), "{over}");
    assert_eq!(
        counts(&until(&daemon, delete(&bed.state(), &json!({"tree": "live", "stream": "live/nobody"})), "done")),
        [0; 5]
    );
}

/// Promise 3: what is being written or protected stays, whoever asks; what is young, or the newest, goes.
#[test]
#[ignore = "needs root and a loop device"]
#[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
fn what_protects_a_recording_stands_against_persons_too_but_its_age_does_not() {
    let bed = bed(12);
    let (young, written) = (
        recording(&bed.tree(), "live/a", Duration::from_secs(2), 4096),
        recording(&bed.tree(), "live/b", Duration::from_secs(3), 4096),
    );
    let dir = Path::new(&young).parent().unwrap();
    let live = format!(
        "{}/.{}",
        dir.display(),
        Path::new(&young).file_name().unwrap().to_str().unwrap().replace("-0.mp4", "-1.mp4")
    );
    std::fs::write(bed.tree().join(&live), [7; 4096]).unwrap();
    let linked = bed.file(3);
    std::fs::hard_link(&linked, bed.tree().join("another name")).unwrap();
    let link = bed.made[4].replace("-0.mp4", "-9.mp4");
    std::os::unix::fs::symlink("/etc/passwd", bed.tree().join(&link)).unwrap();
    let folder = bed.made[4].replace("-0.mp4", "-8.mp4");
    std::fs::create_dir(bed.tree().join(&folder)).unwrap();
    let config = bed.config("    min_age: 1h\n    protect: [\"live/c/**\"]\n", "");
    let daemon = Daemon::start(&config, &bed.state());
    let holder = Holder::new(&bed.tree().join(&written), true);
    let mut paths = named(&bed, &[2, 3, 6]);
    paths.extend([&young, &written, &live, &link, &folder].map(String::clone));
    let id = delete(&bed.state(), &json!({"tree": "live", "paths": paths}));
    let waits = until(&daemon, id, "waiting");
    let all = items(&daemon, id);
    assert_eq!(counts(&waits), [8, 2, 0, 1, 5], "{all:?}");
    for (path, expected, why) in [
        (&bed.made[2], "kept", "protected"),
        (&bed.made[3], "kept", "linked"),
        (&bed.made[6], "verified", ""),
        (&young, "verified", ""),
        (&live, "kept", "live"),
        (&link, "kept", "symbolic link"),
        (&folder, "kept", "no regular file"),
        (&written, "failed", "open"),
    ] {
        let (got, detail) = outcome(&all, path);
        assert!(got == expected && detail.contains(why), "{path}: {got} {detail}");
    }
    let item = all.iter().find(|item| item["path"] == written.as_str()).unwrap();
    let held = item["cause"] == "in_use" && item["holder"].as_str().is_some_and(|name| name.contains("sleep"));
    assert!(held && item["next_attempt"].is_string() && item["attempts"].as_u64() >= Some(1), "{item}");
    assert_eq!(gone(&bed), BTreeSet::from([6]));
    // Once it is closed it goes, though it is young.
    drop(holder);
    assert_eq!(counts(&until(&daemon, id, "done")), [8, 3, 0, 0, 5]);
    assert!(!bed.tree().join(&written).exists());
}

/// Promise 8.
#[test]
#[ignore = "needs root, a loop device and chattr"]
fn a_locked_file_is_tried_again_and_the_job_waits_for_it() {
    let bed = bed(9);
    let daemon = Daemon::start(&bed.config("", ""), &bed.state());
    run("chattr", &["+i", bed.file(4).to_str().unwrap()]);
    let id = delete(&bed.state(), &json!({"tree": "live", "paths": named(&bed, &[3, 4, 5])}));
    let waits = until(&daemon, id, "waiting");
    let found = items(&daemon, id);
    let locked = found.iter().find(|item| item["outcome"] == "failed").unwrap();
    assert_eq!((counts(&waits), locked["cause"].as_str()), ([3, 2, 0, 1, 0], Some("locked")));
    // Whoever asks for it again is told the same, and waits for the same deletion.
    let again = delete(&bed.state(), &json!({"tree": "live", "paths": named(&bed, &[4])}));
    assert_eq!(counts(&until(&daemon, again, "waiting")), [1, 0, 0, 1, 0]);
    run("chattr", &["-i", bed.file(4).to_str().unwrap()]);
    assert_eq!(counts(&until(&daemon, id, "done")), [3, 3, 0, 0, 0]);
    assert_eq!(counts(&until(&daemon, again, "done")), [1, 1, 0, 0, 0]);
    assert_eq!(gone(&bed), BTreeSet::from([3, 4, 5]));
    let failures = || -> Value { serde_json::from_str(&daemon.get("/api/v1/failures")).unwrap() };
    assert_eq!(failures()["items"], json!([]));
    // Of a directory that refuses all, each is tried again, since nobody would choose them again by itself (promise 8).
    let age = |at: u64| Duration::from_secs(3 * 86_400 + at);
    let more: Vec<String> = (0..4).map(|at| recording(&bed.tree(), "live/z", age(at), 4096)).collect();
    let day = bed.tree().join(&more[0]).parent().unwrap().to_owned();
    run("chattr", &["+i", day.to_str().unwrap()]);
    let all = more.len() as u64;
    let id = delete(&bed.state(), &json!({"tree": "live", "paths": more}));
    assert_eq!(counts(&until(&daemon, id, "waiting")), [all, 0, 0, all, 0]);
    run("chattr", &["-i", day.to_str().unwrap()]);
    assert_eq!(counts(&until(&daemon, id, "done")), [all, all, 0, 0, 0]);
    assert_eq!(failures()["items"], json!([]));
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_job_that_is_cancelled_begins_no_further_file_and_one_that_waits_goes_on_over_a_reload() {
    let bed = bed(60);
    let config = slow(&bed, "", "");
    let daemon = Daemon::start(&config, &bed.state());
    let id = delete(&bed.state(), &json!({"tree": "live", "stream": "live/a"}));
    wait_for("some are gone", || bed.gone() >= 3);
    let cancelled = ask(&bed.state(), "DELETE", &format!("/api/v1/jobs/{id}"), &json!(null));
    assert_eq!((cancelled.status, cancelled.body["state"].as_str()), (200, Some("cancelled")));
    let before = bed.gone();
    wait_for("it is over", || job(&daemon, id)["finished"].is_string());
    let over = job(&daemon, id);
    assert!(bed.gone() <= before + 1 && bed.gone() < 20, "one file more than {before} at most: {over}");
    assert_eq!((counts(&over)[1], over["state"].as_str()), (bed.gone() as u64, Some("cancelled")), "{over}");
    assert!(over["reclaimed_bytes"].as_u64() >= Some(2 << 20), "{over}");
    assert_eq!(ask(&bed.state(), "DELETE", &format!("/api/v1/jobs/{id}"), &json!(null)).status, 409);
    // Another goes on where it was when everything was opened again.
    let id = delete(&bed.state(), &json!({"tree": "live", "paths": bed.made.clone()}));
    wait_for("it has begun", || counts(&job(&daemon, id))[1] > 0);
    assert_eq!(ask(&bed.state(), "POST", "/-/reload", &json!(null)).status, 200);
    assert!(bed.gone() < 60, "the reload came too late to show anything");
    assert_eq!(counts(&until(&daemon, id, "done")), [60, 60, 0, 0, 0]);
    assert_eq!(bed.gone(), 60);
}

/// A client that reads what the guard writes, ended when dropped.
struct Listener {
    child: Child,
}

impl Listener {
    fn new(bed: &Bed, id: u64) -> Self {
        let mut command = Command::new("curl");
        command.args(["-s", "-N", "-m", "60", "--unix-socket"]).arg(bed.state().join("control.sock"));
        command.arg(format!("http://localhost/api/v1/jobs/{id}/events")).stdout(Stdio::piped());
        Self { child: command.spawn().unwrap() }
    }

    /// Everything until the end: names of events, and their data.
    fn all(mut self) -> Vec<(String, Value)> {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.child.stdout.take().unwrap(), &mut text).unwrap();
        let event = |block: &str| {
            let name = block.lines().find_map(|line| line.strip_prefix("event: "))?;
            let data = block.lines().find_map(|line| line.strip_prefix("data: "))?;
            Some((name.to_owned(), serde_json::from_str(data).unwrap()))
        };
        text.split("\n\n").filter_map(event).collect()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs root, a loop device and curl"]
fn progress_is_told_while_it_happens_and_ends_with_the_job() {
    let bed = bed(40);
    let config = slow(&bed, "", "");
    let daemon = Daemon::start(&config, &bed.state());
    let id = delete(&bed.state(), &json!({"tree": "live", "paths": bed.made.clone()}));
    let (one, two) = (Listener::new(&bed, id), Listener::new(&bed, id));
    for events in [one.all(), two.all()] {
        let of =
            |name: &str| events.iter().filter(|(event, _)| event == name).map(|(_, data)| data).collect::<Vec<_>>();
        let paths: BTreeSet<&str> = of("item").iter().map(|item| item["path"].as_str().unwrap()).collect();
        assert_eq!((of("item").len(), paths.len()), (40, 40), "each item once");
        assert!(of("progress").len() > 1, "{events:?}");
        let (name, last) = events.last().unwrap();
        assert_eq!((name.as_str(), last["state"].as_str(), counts(last)), ("done", Some("done"), [40, 40, 0, 0, 0]));
        assert_eq!(of("done").len(), 1);
    }
    // Who comes late hears how it ended, and of its items.
    let late = Listener::new(&bed, id).all();
    assert_eq!(late.iter().filter(|(name, _)| name == "item").count(), 40);
    assert_eq!(late.last().unwrap().0, "done");
    assert!(daemon.get("/api/v1/jobs/999/events").contains("there is no job 999"));
}

/// All that was told of a job until the end.
async fn heard(seen: &mut tokio::sync::mpsc::UnboundedReceiver<Seen>) -> Vec<(Seen, Value)> {
    let mut out = Vec::new();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), seen.recv()).await.unwrap().unwrap();
        next.verify();
        let job: Value = serde_json::from_str(&next.body).unwrap();
        let over = job["state"] == "done";
        out.push((next, job));
        if over {
            return out;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a loop device"]
async fn a_callback_hears_of_the_start_the_way_and_the_end_signed() {
    let bed = bed(60);
    let (port, mut seen) = receiver(&["200 OK"]).await;
    let secret = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, KEY);
    let auth = format!("auth: {{ callback_hosts: [127.0.0.1], callback_secret: \"whsec_{secret}\" }}\n");
    let config = slow(&bed, "", &auth);
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
    let daemon = Daemon::start(&config, &bed.state());
    let url = format!("http://127.0.0.1:{port}/told?token=x");
    let id = delete(&bed.state(), &json!({"tree": "live", "paths": bed.made.clone(), "callback_url": url}));
    let told = heard(&mut seen).await;
    assert!((3..=8).contains(&told.len()), "about three seconds: {told:?}");
    assert_eq!(told[0].0.line(), "POST /told?token=x HTTP/1.1");
    let (first, last) = (&told[0].1, &told[told.len() - 1].1);
    assert_eq!(
        (first["id"].as_u64(), first["state"].as_str(), counts(first)),
        (Some(id), Some("running"), [60, 0, 0, 0, 0])
    );
    assert_eq!((*last).clone(), job(&daemon, id));
    assert_eq!(counts(last), [60, 60, 0, 0, 0]);
    let ids: BTreeSet<&str> = told.iter().map(|(seen, _)| seen.header("webhook-id")).collect();
    assert_eq!(ids.len(), told.len(), "each state is a message of its own");
    // One that is through at once is told of as well.
    let url = format!("http://127.0.0.1:{port}/again");
    delete(&bed.state(), &json!({"tree": "live", "paths": named(&bed, &[0]), "callback_url": url}));
    let told = heard(&mut seen).await;
    assert_eq!((told.len(), told[0].1["state"].as_str()), (2, Some("running")), "start and end");
    for url in ["http://169.254.169.254/x", "http://localhost.evil/x", "http://127.0.0.1@evil/x", "file:///etc/passwd"]
    {
        let body = json!({"tree": "live", "paths": named(&bed, &[0]), "callback_url": url});
        let refused = ask(&bed.state(), "POST", "/api/v1/deletions", &body);
        assert_eq!((refused.status, refused.body["error"]["code"].as_str()), (400, Some("bad_callback")), "{url}");
    }
}

/// The scan of the tree takes its time, since each reading of a directory does; who asks for a deletion does not wait for it.
#[test]
#[ignore = "needs root, a loop device and strace"]
fn a_deletion_begins_and_ends_while_the_tree_is_being_scanned() {
    let bed = bed(60);
    let config = bed.config("", "");
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("it was scanned, and bears its marker", || daemon.pressure() == "normal");
    drop(daemon);
    let mut slow = Command::new("strace");
    // The program is the child itself (-D), so that it ends when the test does.
    slow.args(["-D", "-f", "-o", "/dev/null", "-e", "trace=getdents64", "-e", "inject=getdents64:delay_enter=150000"]);
    slow.arg(env!("CARGO_BIN_EXE_storage-guard"));
    let daemon = Daemon::under(slow, &config, &bed.state());
    let id = delete(&bed.state(), &json!({"tree": "live", "paths": named(&bed, &[7])}));
    until(&daemon, id, "done");
    let status = daemon.status().unwrap();
    assert!(status["trees"][0]["last_scan"].is_null(), "{status}");
    assert_eq!(gone(&bed), BTreeSet::from([7]));
    // What the scan saw and went meanwhile is not there for it either.
    wait_for("the scan ends", || daemon.status().is_some_and(|status| status["trees"][0]["last_scan"].is_string()));
    assert_eq!(daemon.status().unwrap()["trees"][0]["files"], 59);
}

/// The story: 16,000 recordings in one request.
#[test]
#[ignore = "needs root and a loop device"]
fn sixteen_thousand_named_recordings_go_as_one_job_of_many_batches() {
    let volume = Mounted::new(300, "mkfs.ext4", &["-q", "-N", "40000"]);
    let tree = volume.path().join("record");
    let made: Vec<String> = (0..16_000_u32)
        .map(|at| recording(&tree, &format!("live/{}", at % 8), HOUR * 30 + Duration::from_secs(u64::from(at)), 1))
        .collect();
    let bed = Bed { volume, home: tempfile::tempdir().unwrap(), made };
    let config = bed.config("", "");
    altered(&config, "batch_files: 5,", "");
    let daemon = Daemon::start(&config, &bed.state());
    wait_for("it was scanned", || daemon.pressure() == "normal");
    let id = delete(&bed.state(), &json!({"tree": "live", "paths": bed.made.clone()}));
    wait_for("it is over", || job(&daemon, id)["state"] == "done");
    assert_eq!((counts(&job(&daemon, id)), bed.gone()), ([16_000, 16_000, 0, 0, 0], 16_000));
}
