//! Many calls at once, long ones, and a tree that is only observed.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::site::{Immutable, OLD, Site, slice};
use crate::support::asking::ask;
use crate::support::media_server::{Kind, VHOST};
use crate::support::{free_port, run, wait_for};

/// The platform asks for each file by a call of its own.
#[test]
#[ignore = "needs root and a loop device"]
fn a_thousand_files_that_are_asked_for_at_once_go_together() {
    let site = Site::new(128);
    let files = site.record("many", OLD, 1000);
    let daemon = site.start("enforce", "20s", "");
    let port = site.port;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let calls: Vec<_> = files
        .iter()
        // Some twice.
        .chain(&files[..50])
        .map(|path| {
            let name = path.rsplit('/').next().unwrap();
            let head = format!(
                "GET /index/api/deleteRecordDirectory?vhost={VHOST}&app=live&stream=many&period={OLD}&name={name} HTTP/1.1\r\n\
                 Host: a\r\nsecret: {}\r\nConnection: close\r\n\r\n",
                site.server.secret()
            );
            runtime.spawn(async move {
                let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                stream.write_all(head.as_bytes()).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                let body = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}")).1.to_owned();
                serde_json::from_str::<Value>(&body).unwrap_or_else(|_| panic!("{body}"))
            })
        })
        .collect();
    let answers: Vec<Value> = runtime.block_on(async {
        let mut out = Vec::new();
        for call in calls {
            out.push(call.await.unwrap());
        }
        out
    });
    assert!(
        answers.iter().all(|answer| answer["code"] == 0),
        "{:?}",
        answers.iter().find(|answer| answer["code"] != 0)
    );
    assert!(files.iter().all(|path| !site.exists(path)));
    let jobs: std::collections::BTreeSet<u64> = answers.iter().filter_map(|answer| answer["job"].as_u64()).collect();
    assert!(jobs.len() < 100, "{} jobs", jobs.len());
    let deleted: u64 = answers.iter().map(|answer| answer["deleted"].as_u64().unwrap()).sum();
    assert!((1000..=1050).contains(&deleted), "{deleted}");
    let text = daemon.get("/metrics");
    let counted = "storage_guard_deletions_total{outcome=\"verified\",tree=\"live\",trigger=\"gateway\"} 1000";
    let also = "storage_guard_deletions_total{tree=\"live\",trigger=\"gateway\",outcome=\"verified\"} 1000";
    assert!(text.contains(counted) || text.contains(also), "each went once");
    drop(daemon);
}

#[test]
#[ignore = "needs root and a loop device"]
fn what_takes_longer_is_answered_with_its_job_and_goes_on() {
    let site = Site::new(128);
    let files = site.record("long", OLD, 3000);
    let daemon = site.start("enforce", "1ms", "");
    let answer = site.ask(&format!("&app=live&stream=long&period={OLD}"));
    assert!(answer["code"] == 1 && answer["msg"].is_string(), "{answer}");
    let job = answer["job"].as_u64().unwrap();
    let state = || -> Value { serde_json::from_str(&daemon.get(&format!("/api/v1/jobs/{job}"))).unwrap() };
    wait_for("the job is done", || state()["state"] == "done");
    assert_eq!((state()["verified"].clone(), state()["kind"].clone()), (3000.into(), "deletion".into()));
    assert!(files.iter().all(|path| !site.exists(path)));
    // A reload: where it listens stays, all else may be another.
    let other = |from: &str, to: &str| {
        let text = std::fs::read_to_string(site.config()).unwrap();
        assert!(text.contains(from), "{text}");
        write(&site.config(), &text.replace(from, to));
        run("kill", &["-HUP", &daemon.pid().to_string()]);
    };
    let (port, elsewhere) = (format!(":{}\"", site.port), format!(":{}\"", free_port()));
    other(&port, &elsewhere);
    wait_for("the reload is refused", || site.log().contains("gateway.listen, cannot be changed"));
    other(&elsewhere, &port);
    wait_for("it is read again", || site.log().contains("The configuration was loaded again."));
    site.record("long", OLD, 100);
    other("answer_within: 1ms", "answer_within: 20s");
    wait_for("the new settings are in force", || {
        let answer = site.ask(&format!("&app=live&stream=long&period={OLD}"));
        site.record("long", OLD, 100);
        answer["code"] == 0
    });
}

#[expect(clippy::disallowed_methods, reason = "it makes the test's own file")]
fn write(path: &std::path::Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

/// In observe mode the arguments are validated, the media server deletes, and what is said is what is on disk.
#[test]
#[ignore = "needs root and a loop device"]
fn a_tree_that_is_only_observed_is_looked_at_after_the_media_server_was_asked() {
    let site = Site::new(64);
    let daemon = site.start("observe", "20s", "");
    let asked = || site.server.requests_for("deleteRecordDirectory").len();
    for (arguments, said) in [
        ("&app=live&stream=first&period=../first", "`period`"),
        ("&app=..&stream=first", "`app`"),
        (&format!("&app=live&stream=first&period={OLD}&name=x.mp4") as &str, "`name`"),
    ] {
        let answer = site.ask(arguments);
        assert!(answer["code"] == -300 && answer["msg"].as_str().unwrap().contains(said), "{answer}");
    }
    assert_eq!(asked(), 0, "nothing was passed on");
    // It lies: the stream is being recorded, and a file stays.
    site.server.publish("live", "lie");
    site.server.record("live", "lie", Kind::Mp4);
    let files = site.record("lie", OLD, 3);
    let locked = Immutable::new(&site.path("rec/record").join(&files[1]));
    let answer = site.ask(&format!("&app=live&stream=lie&period={OLD}"));
    assert_eq!((answer["code"].clone(), answer["deleted"].clone()), ((-1).into(), 2.into()), "{answer}");
    assert!(answer["failed"][0]["path"].as_str().unwrap().ends_with(&files[1]), "{answer}");
    drop(locked);
    // It fails where nothing is to do: all that is named is gone.
    let answer = site.ask(&format!("&app=live&stream=never&period={OLD}"));
    assert_eq!(answer["code"], 0, "{answer}");
    let answer = site.ask(&format!("&app=live&stream=lie&period={OLD}&name={}", files[1].rsplit('/').next().unwrap()));
    assert_eq!((answer["code"].clone(), answer["deleted"].clone()), (0.into(), 1.into()), "{answer}");
    assert_eq!(asked(), 3);
    let body = site.server.requests_for("deleteRecordDirectory")[0].text();
    assert!(body.contains(&format!("&app=live&stream=lie&period={OLD}")), "as it came: {body}");
    // One that does not answer is no success.
    site.server.kill();
    let answer = site.ask(&format!("&app=live&stream=first&period={OLD}"));
    assert!(answer["code"] == -1 && answer["msg"].as_str().unwrap().contains("does not answer"), "{answer}");
    assert!(site.exists(&slice("first", OLD, 0)));
    let text = daemon.get("/metrics");
    assert!(text.contains("storage_guard_deletions_total"), "{text}");
    assert!(daemon.get("/api/v1/failures").contains("[]"), "nothing of it is ours to try again");
    assert!(!site.log().contains(&site.server.secret()));
}

/// Promise 3 holds where the media server deletes, too: it would ask nobody.
#[test]
#[ignore = "needs root and a loop device"]
fn what_is_protected_is_not_passed_on_either() {
    let site = Site::new(64);
    site.file("kept/rec/record", &slice("vip", OLD, 0));
    let more = format!(
        "  - {{ name: kept, path: {}, layout: zlmediakit, protect: [\"record/live/vip/**\"] }}\n",
        site.path("kept/rec").display()
    );
    site.file("kept/rec/record", &slice("other", OLD, 0));
    let _daemon = site.start("observe", "20s", &more);
    let root = site.path("kept/rec");
    let below = format!("&app=live&period={OLD}&customized_path={}", root.display());
    let vip = root.join("record").join(slice("vip", OLD, 0));
    for asked in [
        format!("&app=live&stream=vip&customized_path={}", root.display()),
        format!("{below}&stream=vip"),
        format!("{below}&stream=vip&name={}", vip.file_name().unwrap().to_str().unwrap()),
    ] {
        let answer = site.ask(&asked);
        assert_eq!((answer["code"].clone(), answer["deleted"].clone()), ((-1).into(), 0.into()), "{answer}");
        let msg = answer["msg"].as_str().unwrap();
        let said = format!("`record/{}`: it is protected, by a pattern of `protect`", slice("vip", OLD, 0));
        assert!(msg.contains(&said) && msg.ends_with("nothing was passed on"), "{answer}");
    }
    let other = root.join("record").join(slice("other", OLD, 0));
    rustix::fs::setxattr(&other, "user.storage_guard.hold", b"case 7", rustix::fs::XattrFlags::empty()).unwrap();
    let answer = site.ask(&format!("{below}&stream=other"));
    assert!(answer["code"] == -1 && answer["msg"].as_str().unwrap().contains("a person holds it"), "{answer}");
    rustix::fs::removexattr(&other, "user.storage_guard.hold").unwrap();
    // In a tree that is only observed the state alone keeps a hold.
    let held = json!({"tree": "kept", "stream": "live/other", "from": "2025-12-31T00:00:00Z", "to": "2026-01-03T00:00:00Z", "reason": "x"});
    let made = ask(&site.state(), "POST", "/api/v1/holds", &held);
    assert_eq!(made.status, 201, "{}", made.body);
    let answer = site.ask(&format!("{below}&stream=other"));
    assert!(answer["code"] == -1 && answer["msg"].as_str().unwrap().contains("a person holds it"), "{answer}");
    assert!(site.server.requests_for("deleteRecordDirectory").is_empty() && vip.exists());
    let gone = ask(&site.state(), "DELETE", &format!("/api/v1/holds/{}", made.body["id"]), &Value::Null);
    assert_eq!(gone.status, 200, "{}", gone.body);
    let answer = site.ask(&format!("{below}&stream=other"));
    assert_eq!((answer["code"].clone(), answer["deleted"].clone()), (0.into(), 1.into()), "{answer}");
}

/// Promise 3: the platform is told which of them somebody holds.
#[test]
#[ignore = "needs root and a loop device"]
fn what_a_person_holds_no_platform_deletes() {
    let site = Site::new(64);
    let files = site.record("held", OLD, 3);
    let _daemon = site.start("enforce", "20s", "");
    let held = json!({"tree": "live", "paths": [format!("record/{}", files[1])], "reason": "case 7"});
    let made = ask(&site.state(), "POST", "/api/v1/holds", &held);
    assert_eq!((made.status, &made.body["recordings"]), (201, &json!(1)), "{}", made.body);
    let name = files[1].rsplit('/').next().unwrap();
    for (asked, deleted) in [(String::new(), 2), (format!("&name={name}"), 0)] {
        let answer = site.ask(&format!("&app=live&stream=held&period={OLD}{asked}"));
        assert_eq!((&answer["code"], &answer["deleted"]), (&json!(-1), &json!(deleted)), "{answer}");
        assert_eq!(answer["failed"][0]["cause"], "hold", "{answer}");
        assert_eq!(files.iter().map(|path| site.exists(path)).collect::<Vec<_>>(), [false, true, false]);
    }
}

#[test]
#[ignore = "needs root and a loop device"]
fn a_media_server_that_takes_long_is_answered_for_in_time_and_goes_on() {
    let site = Site::new(64);
    let _daemon = site.start("observe", "2s", "");
    let files = site.record("long", OLD, 2);
    let asked = format!("&app=live&stream=long&period={OLD}");
    site.server.pause();
    let answer = site.ask(&asked);
    assert_eq!((answer["code"].clone(), answer["deleted"].clone()), (1.into(), 0.into()), "{answer}");
    assert!(answer.get("job").is_none(), "there is none: {answer}");
    assert!(answer["msg"].as_str().unwrap().contains("the media server is still at it"), "{answer}");
    assert!(files.iter().all(|path| site.exists(path)));
    site.server.resume();
    wait_for("it goes on to its end", || files.iter().all(|path| !site.exists(path)));
    let answer = site.ask(&asked);
    assert_eq!((answer["code"].clone(), answer["deleted"].clone()), (0.into(), 0.into()), "{answer}");
}
