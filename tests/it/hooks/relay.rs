//! The relay: what asks is answered by the platform, what tells reaches it in order, and a platform that is away stops nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Heard, captures, clock, count, event, everything, gauge};
use crate::support::platform::{Platform, Reply, event_of};
use crate::support::wire::Request;
use crate::support::{Daemon, scale, total, wait_for};

fn relayed(heard: &Heard, platform: &Platform, server: &str) -> Daemon {
    let relay = format!(", relay: \"{}\"", platform.url());
    Daemon::start(&heard.config(server, &relay, ""), &heard.state())
}

/// A platform that does not listen yet.
fn away() -> Platform {
    let platform = Platform::start();
    platform.down();
    platform
}

/// An answer with a status, a type and a body.
fn reply(status: &str, kind: &str, body: &str) -> Reply {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}");
    Reply::Raw(text.into_bytes())
}

/// All that it saw, in the order of the two lists.
fn seen(platform: &Platform) -> Vec<Request> {
    [platform.not_taken(), platform.taken()].concat()
}

/// A recording that was told of, by its number.
fn numbered(number: u64) -> String {
    captures()["hook_on_record_mp4"].replace("-0.mp4", &format!("-{number}.mp4"))
}

fn waiting(daemon: &Daemon) -> String {
    gauge(daemon, "storage_guard_hook_relay_waiting{media_server=\"zlm-1\"}").unwrap()
}

#[test]
fn the_platforms_answer_comes_back_byte_for_byte() {
    let heard = Heard::new();
    let platform = Platform::start();
    let daemon = relayed(&heard, &platform, "");
    let bodies = captures();
    let asks = [
        "hook_on_publish_rtmp",
        "hook_on_publish_rtsp",
        "hook_on_play",
        "hook_on_http_access",
        "hook_on_stream_none_reader",
        "hook_on_stream_not_found",
    ];
    let others = ["on_rtsp_auth", "on_rtsp_realm", "on_shell_login", "on_rtp_server_timeout", "on_what_comes_later"];
    let asked: Vec<(&str, &str)> = asks
        .iter()
        .map(|name| (event(name), bodies[*name].as_str()))
        .chain(others.iter().map(|event| (*event, bodies["hook_on_play"].as_str())))
        .collect();
    for (at, (event, body)) in asked.iter().enumerate() {
        let odd =
            format!("{{ \"msg\" : \"\u{5f55}\u{50cf} {at}\",\r\n\t\"code\":{at}, \"enable_mp4\" :true,\"x\":1.10}}\n");
        for (status, kind) in
            [("200 OK", "application/json;charset=UTF-8"), ("500 Internal Server Error", "text/plain")]
        {
            platform.answers_next([reply(status, kind, &odd)]);
            let answer = heard.send(event, body);
            assert_eq!((answer.status.to_string(), &answer.body), (status[..3].to_owned(), &odd), "{event}");
            assert!(answer.head.contains(&format!("content-type: {kind}")), "{event}: {answer:?}");
        }
        let last = platform.not_taken().pop().unwrap();
        assert_eq!((event_of(&last), last.text().as_str()), (*event, *body));
        assert_eq!(last.header("content-type"), "application/json");
        assert!(last.header("user-agent").starts_with("ZLMediaKit(git hash:"), "{last:?}");
        assert_eq!(last.header("x-vhost"), if body.contains("\"vhost\"") { "__defaultVhost__" } else { "" });
    }
    assert_eq!(count(&daemon, "on_publish", "relayed"), 4);
    assert_eq!(count(&daemon, "other", "relayed"), 2);
    assert_eq!(count(&daemon, "on_publish", "relay_failed"), 0);
}

/// Promise 14: recording goes on; and nobody gets in because the platform is away.
#[test]
fn a_silent_platform_is_answered_for_within_its_time() {
    let heard = Heard::new();
    let platform = Platform::start();
    let daemon = relayed(&heard, &platform, ", relay_timeout: 1s, relay_default: { on_rtsp_auth: allow }");
    let body = captures()["hook_on_publish_rtmp"].clone();
    let replies = [
        Reply::Silence,
        Reply::Closed,
        Reply::json("{}"),
        reply("200 OK", "text/html", "<html>"),
        Reply::json(r#"{"code":"0"}"#),
        reply("500 Internal Server Error", "text/plain", "no"),
        reply("302 Found\r\nLocation: http://127.0.0.1:9/", "text/plain", ""),
        Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n{\"code\":0,".to_vec()),
        Reply::Raw(b"nonsense\r\n\r\n".to_vec()),
    ];
    let failed = replies.len() as u64;
    for reply in replies {
        platform.answers("on_publish", reply.clone());
        let begin = clock();
        let answer = heard.send("on_publish", &body);
        assert!(begin.elapsed() < Duration::from_secs(3), "{reply:?}");
        assert_eq!((answer.status, answer.code()), (200, 0), "{reply:?}");
    }
    assert_eq!(count(&daemon, "on_publish", "relay_failed"), failed);
    platform.down();
    for (event, code) in [
        ("on_publish", 0),
        ("on_stream_not_found", 0),
        ("on_stream_none_reader", 0),
        ("on_play", -1),
        ("on_rtsp_auth", 0),
        ("on_shell_login", -1),
        ("on_what_comes_later", -1),
    ] {
        assert_eq!(heard.send(event, &body).code(), code, "{event}");
    }
    assert_eq!(heard.send("on_stream_none_reader", &body).json(), json!({"code": 0, "close": false}));
    assert_ne!(heard.send("on_http_access", &body).json()["err"], "");
    assert_eq!(heard.send("on_rtsp_realm", &body).json()["realm"], "storage-guard");
    assert_eq!(count(&daemon, "on_play", "relay_failed"), 1);
}

/// The platform is away for as many hooks as an hour brings: each is heard afterwards, in order, once.
#[test]
fn a_platform_that_was_away_hears_everything_afterwards_in_order_and_nothing_twice() {
    let heard = Heard::new();
    let platform = away();
    let mut daemon = relayed(&heard, &platform, ", relay_timeout: 1s");
    let all = captures();
    let told: Vec<(&str, &String)> = all
        .iter()
        .map(|(name, body)| (event(name), body))
        .filter(|(event, _)| {
            storage_guard::domain::media::HookEvent::from_word(event).is_some_and(|event| !event.asks())
        })
        .collect();
    let mut sent: Vec<(String, Value)> = Vec::new();
    let mut send = |event: &str, body: String| {
        assert_eq!(heard.send(event, &body).code(), 0);
        // Told of again, as ZLMediaKit does when an answer was lost.
        if event == "on_record_mp4" && sent.len().is_multiple_of(5) {
            assert_eq!(heard.send(event, &body).code(), 0);
        }
        sent.push((event.to_owned(), serde_json::from_str(&body).unwrap()));
    };
    for (event, body) in &told {
        send(event, (*body).clone());
    }
    let hooks = scale(600, 20_000);
    for number in 0..hooks {
        if number % 3 == 0 {
            let alive =
                all["hook_on_server_keepalive"].replace("\"hook_index\" : 1,", &format!("\"hook_index\" : {number},"));
            send("on_server_keepalive", alive);
        } else {
            send("on_record_mp4", numbered(number));
        }
        if number == hooks / 2 {
            // A guard that was killed meanwhile delivers them all the same.
            wait_for("killed", || {
                std::process::Command::new("kill").args(["-9", &daemon.pid().to_string()]).status().unwrap().success()
            });
            daemon.ended();
            daemon = relayed(&heard, &platform, ", relay_timeout: 1s");
        }
    }
    wait_for("it says how many wait", || waiting(&daemon) == sent.len().to_string());
    let status = daemon.status().unwrap();
    assert_eq!(status["relays"][0]["waiting"], sent.len(), "{status}");
    assert!(status["relays"][0]["oldest"].is_string() && status["relays"][0]["failing_since"].is_string(), "{status}");
    assert!(heard.log().contains("takes no hooks"), "{}", heard.log());
    platform.up();
    wait_for("all are heard", || platform.taken().len() >= sent.len());
    wait_for("none waits", || waiting(&daemon) == "0");
    let heard_of = platform.taken();
    assert_eq!(heard_of.len(), sent.len(), "each once");
    for (at, (heard, (event, body))) in heard_of.iter().zip(&sent).enumerate() {
        let mut told: Value = heard.json();
        if event == "on_server_started" {
            // It was kept, so its secret is gone; its key is there.
            assert_eq!(told["api.secret"], "***");
            told["api.secret"] = body["api.secret"].clone();
        }
        assert_eq!((event_of(heard), &told), (event.as_str(), body), "{at}");
    }
    assert_eq!(daemon.status().unwrap()["relays"][0]["oldest"], Value::Null);
    total("hooks delivered after the platform was away, in order and once", sent.len() as u64);
    drop(daemon);
    let secret = "example-secret-0123456789abcdef";
    for (path, content) in everything(&heard.state()) {
        assert!(!content.windows(secret.len()).any(|part| part == secret.as_bytes()), "{}", path.display());
    }
    assert!(!heard.log().contains(secret));
}

/// What is told while the platform is there reaches it as it was told, byte for byte, also what is kept without its secrets.
#[test]
fn what_is_told_reaches_the_platform_as_it_was_told() {
    let heard = Heard::new();
    let platform = Platform::start();
    let daemon = relayed(&heard, &platform, "");
    let all = captures();
    let told = [
        "hook_on_server_started",
        "hook_on_stream_changed_regist_rtmp",
        "hook_on_record_mp4",
        "hook_on_server_keepalive",
        "hook_on_flow_report",
    ];
    for name in told {
        assert_eq!(heard.send(event(name), &all[name]).code(), 0);
    }
    wait_for("all are heard", || platform.taken().len() == told.len());
    let bodies: Vec<String> = platform.taken().iter().map(Request::text).collect();
    assert_eq!(bodies, told.map(|name| all[name].clone()));
    assert_eq!(count(&daemon, "on_record_mp4", "stored"), 1);
    wait_for("it is counted", || count(&daemon, "on_record_mp4", "relayed") == 1);
    // The same recording again is nothing new for the platform either.
    assert_eq!(heard.send("on_record_mp4", &all["hook_on_record_mp4"]).code(), 0);
    assert_eq!(heard.send("on_server_exited", &all["hook_on_server_exited"]).code(), 0);
    wait_for("the next is heard", || platform.taken().len() == told.len() + 1);
    assert_eq!(event_of(platform.taken().last().unwrap()), "on_server_exited");
}

/// An answer that was lost is the only reason to tell again; whatever else fails is tried until it is taken, and a code that is not 0 is taken.
#[test]
fn what_fails_is_tried_until_it_is_taken_and_only_a_lost_answer_makes_a_duplicate() {
    let heard = Heard::new();
    let platform = Platform::start();
    let daemon = relayed(&heard, &platform, "");
    platform.answers_next([
        Reply::Bytes(500, br#"{"code":500}"#.to_vec()),
        reply("404 Not Found", "text/html", "<html>"),
        Reply::Lost,
    ]);
    for number in 0..3 {
        assert_eq!(heard.send("on_record_mp4", &numbered(number)).code(), 0);
    }
    wait_for("all are heard", || seen(&platform).len() == 6);
    let bodies: Vec<String> = seen(&platform).iter().map(Request::text).collect();
    assert_eq!(bodies, [0, 0, 0, 0, 1, 2].map(numbered));
    assert_eq!(platform.not_taken().len(), 2);
    wait_for("it is counted", || count(&daemon, "on_record_mp4", "relayed") == 3);
    assert_eq!(count(&daemon, "on_record_mp4", "relay_failed"), 3);
    platform.answers("on_record_mp4", Reply::json(r#"{"code":-1,"msg":"I know it"}"#));
    assert_eq!(heard.send("on_record_mp4", &numbered(7)).code(), 0);
    wait_for("it is taken", || count(&daemon, "on_record_mp4", "relayed") == 4);
    assert_eq!(seen(&platform).len(), 7);
}

#[test]
fn nothing_depends_on_the_relay() {
    let heard = Heard::new();
    let platform = away();
    let daemon = relayed(&heard, &platform, ", relay_timeout: 1s");
    let begin = clock();
    for number in 0..50 {
        assert_eq!(heard.send("on_record_mp4", &numbered(number)).code(), 0);
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "a platform that is away holds up nobody");
    assert_eq!(count(&daemon, "on_record_mp4", "stored"), 50);
    // Off again: what waits stays, and nothing new is kept for it.
    heard.config("", "", "");
    assert!(std::process::Command::new("kill").args(["-HUP", &daemon.pid().to_string()]).status().unwrap().success());
    wait_for("it is loaded", || heard.log().contains("was loaded again"));
    assert_eq!(heard.send("on_record_mp4", &numbered(50)).code(), 0);
    platform.up();
    let relay = format!(", relay: \"{}\"", platform.url());
    heard.config("", &relay, "");
    assert!(std::process::Command::new("kill").args(["-HUP", &daemon.pid().to_string()]).status().unwrap().success());
    wait_for("what waited is heard", || platform.taken().len() == 50);
    let names: BTreeSet<String> = platform.taken().iter().map(Request::text).collect();
    assert_eq!(names.len(), 50);
    assert!(!names.contains(&numbered(50)));
}

/// Promise 7: while the platform has not heard of a recording, nothing of that stream is called an orphan.
#[test]
fn while_the_platform_has_not_heard_of_a_recording_its_stream_waits_for_it() {
    let heard = Heard::new();
    let platform = away();
    let list = heard.home().join("known.txt");
    let [told, other, listed] =
        ["test", "other", "listed"].map(|stream| format!("live/{stream}/2026-11-22/2026-11-22-12-21-41-0.mp4"));
    super::write(&list, &format!("{listed}\n# end 1\n"));
    let (told, other) = (told.as_str(), other.as_str());
    for path in [told, other, &listed] {
        super::file(&heard.tree(), path, 1000);
    }
    let config = heard.config(", relay_timeout: 1s", &format!(", relay: \"{}\"", platform.url()), "");
    let text = std::fs::read_to_string(&config).unwrap();
    let (before, rest) = text.split_once("catalogues:\n").unwrap();
    let (_, after) = rest.split_once("media_servers:\n").unwrap();
    let list = list.display();
    super::write(
        &config,
        &format!(
            "{before}catalogues:\n  - {{ name: told, kind: manifest, interval: 1s, max_drop: 90%, file: {list} }}\nmedia_servers:\n{after}"
        ),
    );
    let daemon = Daemon::start(&config, &heard.state());
    let body = captures()["hook_on_record_mp4"].clone();
    assert_eq!(heard.send("on_record_mp4", &body).code(), 0);
    let waits = |path: &str| {
        let all = super::items(&daemon, "/api/v1/orphans?tree=live");
        let found = all.iter().find(|item| item["path"] == path)?;
        Some(found["verdict"]["wanted"].as_array().unwrap().contains(&"hooks_drained".into()))
    };
    // The first verdict may be older than the hook.
    wait_for("one waits, the other does not", || (waits(told), waits(other)) == (Some(true), Some(false)));
    // Where no relay leads to the platform any more, a person is told so, and what to do. It may come back: until it was heard or dropped,
    // nothing is proven.
    let with = std::fs::read_to_string(&config).unwrap();
    let reload = |text: &str| {
        super::write(&config, text);
        let pid = daemon.pid().to_string();
        assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    };
    reload(&with.replace(&format!(", relay: \"{}\"", platform.url()), ""));
    wait_for("the log says so", || heard.log().contains("1 hooks of media server `zlm-1` wait for its platform"));
    let relay = || daemon.status().unwrap()["relays"][0].clone();
    wait_for("the status says so", || relay()["unrelayed_since"].is_string() && relay()["kept_until"].is_string());
    assert_eq!((relay()["media_server"].clone(), relay()["waiting"].clone()), ("zlm-1".into(), 1.into()));
    assert_eq!(waits(told), Some(true));
    reload(&with);
    wait_for("it is waited for", || waits(told) == Some(true) && relay()["unrelayed_since"].is_null());
    platform.up();
    wait_for("the platform heard of it", || platform.taken().len() == 1);
    wait_for("nothing is outstanding", || waits(told) == Some(false));
}
