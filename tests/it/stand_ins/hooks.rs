//! Hooks between the two stand-ins: how they are sent, what is an answer, and what is lost for ever.

use std::time::Duration;

use serde_json::json;

use super::{PATIENCE, Site};
use crate::support::media_server::{EVENTS, Kind, capture, quoted};
use crate::support::platform::{Platform, Reply, event_of};
use crate::support::wire::{Caller, Request};

fn connected() -> (Site, tempfile::TempDir, Platform) {
    let (site, home) = Site::new();
    let platform = Platform::start();
    site.server.hooks_to(&platform.url());
    (site, home, platform)
}

/// How often the next hook is sent when it is answered so, and whether it arrives.
fn check(replies: &[Reply], attempts: u32, delivered: bool) {
    let (site, _home, platform) = connected();
    platform.answers_next(replies.iter().cloned());
    let sent = site.server.hook("on_record_mp4", &[]).unwrap();
    assert_eq!((sent.attempts, sent.delivered), (attempts, delivered), "{replies:?}");
    let said = sent.said();
    assert_eq!(said.is_some(), delivered);
    let seen = platform.taken().len() + platform.not_taken().len();
    assert_eq!(seen, attempts as usize);
}

#[test]
fn only_a_whole_number_is_an_answer_and_one_retry_is_all() {
    let bytes = |status, text: &str| Reply::Bytes(status, text.as_bytes().to_vec());
    check(&[], 1, true);
    check(&[Reply::json(r#"{"code":-3}"#)], 1, true);
    for wrong in [
        bytes(200, "no JSON"),
        bytes(200, ""),
        bytes(200, "{}"),
        bytes(200, r#"{"code":"0"}"#),
        bytes(204, ""),
        bytes(500, r#"{"code":0}"#),
        Reply::Closed,
        Reply::Lost,
    ] {
        check(std::slice::from_ref(&wrong), 2, true);
        check(&[wrong.clone(), wrong], 2, false);
    }
}

#[test]
fn who_answers_too_late_gets_it_twice() {
    let (site, _home, platform) = connected();
    site.server.set("hook.timeoutSec", "0.2");
    platform.answers_next([Reply::Late(Duration::from_millis(600), b"{\"code\":0}".to_vec())]);
    assert_eq!(site.server.hook("on_record_mp4", &[]).unwrap().attempts, 2);
    let taken = platform.wait("on_record_mp4", 2);
    let index = |at: usize| taken[at].json()["hook_index"].as_u64().unwrap();
    assert_eq!(index(0) + 1, index(1), "a retry is counted anew");
    platform.answers("on_record_mp4", Reply::Silence);
    assert!(!site.server.hook("on_record_mp4", &[]).unwrap().delivered);
}

#[test]
fn a_hook_looks_as_it_was_captured() {
    let (site, _home, platform) = connected();
    site.server.set("general.mediaServerId", "zlm-1");
    for name in ["on_record_mp4", "on_server_started", "on_server_exited", "on_stream_changed_regist_hls.fmp4"] {
        let sent = site.server.hook(name, &[]).unwrap();
        assert!(sent.delivered && EVENTS.contains(&sent.event.as_str()));
        let taken = platform.taken().pop().unwrap();
        assert_eq!(taken.text(), sent.body);
        assert_eq!((taken.method.as_str(), event_of(&taken)), ("POST", sent.event.as_str()));
        let strip = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.contains("\"hook_index\"")).map(str::to_owned).collect()
        };
        assert_eq!(strip(&sent.body), strip(&capture(&format!("hook_{name}.json"))));
        assert!(sent.body.starts_with("{\n\t\"") && sent.body.ends_with("}\n"));
        for (header, value) in [
            ("accept", "*/*"),
            ("accept-language", "zh-CN,zh;q=0.8"),
            ("connection", "keep-alive"),
            ("content-type", "application/json"),
            ("x-vhost", if name.starts_with("on_server") { "" } else { "__defaultVhost__" }),
        ] {
            assert_eq!(taken.header(header), value, "{name}: {header}");
        }
        assert!(taken.header("user-agent").starts_with("ZLMediaKit(git hash:"));
    }
}

#[test]
fn recording_tells_of_what_it_made() {
    let (site, _home, platform) = connected();
    platform.answers("on_publish", Reply::json(r#"{"code":0,"enable_mp4":true,"mp4_max_second":5}"#));
    assert!(site.server.push("live", "cam"));
    assert!(site.server.is_recording("live", "cam", Kind::Mp4));
    site.server.record("live", "cam", Kind::Hls);
    let made = site.server.cut("live", "cam").unwrap();
    site.server.unpublish("live", "cam");
    let sent = site.server.sent();
    assert!(sent.iter().all(|sent| sent.delivered));
    let of = |event: &str| sent.iter().filter(|sent| sent.event == event).count();
    assert_eq!([of("on_publish"), of("on_record_mp4"), of("on_record_ts"), of("on_stream_changed")], [1, 2, 1, 10]);
    let told: Vec<_> = platform.taken_of("on_record_mp4").iter().map(Request::json).collect();
    let told = told.iter().find(|told| told["file_path"] == made.to_str().unwrap()).unwrap();
    assert_eq!(told["file_size"], 65536);
    assert_eq!(told["folder"], format!("{}/", made.parent().unwrap().parent().unwrap().display()));
    assert!(told["url"].as_str().unwrap().starts_with("record/live/cam/"));
    let segment = &platform.taken_of("on_record_ts")[0].json();
    let (folder, file) = (segment["folder"].as_str().unwrap(), segment["file_name"].as_str().unwrap());
    assert_eq!(segment["file_path"], format!("{folder}/{file}"));
    assert_eq!(file.matches('/').count(), 2);
}

#[test]
fn a_platform_that_is_down_lets_nobody_publish_and_misses_what_was_recorded() {
    let (site, _home, platform) = connected();
    platform.down();
    assert!(!site.server.push("live", "cam"));
    site.server.publish("live", "cam");
    site.server.record("live", "cam", Kind::Mp4);
    let made = site.server.cut("live", "cam").unwrap();
    assert!(site.server.sent().iter().all(|sent| !sent.delivered && sent.attempts == 2));
    platform.up();
    let next = site.server.cut("live", "cam").unwrap();
    site.server.sent();
    let told: Vec<_> = platform.taken_of("on_record_mp4").iter().map(|hook| hook.json()["file_path"].clone()).collect();
    assert_eq!(told, [json!(next.to_str().unwrap())]);
    assert!(made.exists(), "it is on the disk, and nobody was told");

    platform.answers("on_publish", Reply::json(r#"{"code":-1,"msg":"no"}"#));
    assert!(!site.server.push("live", "other"));
    // Without an address nobody is asked.
    site.server.hooks_to("");
    assert!(site.server.push("live", "other"));
    assert!(site.server.hook("on_play", &[("stream", quoted("other"))]).is_none());
}

#[test]
fn a_restart_counts_hooks_anew() {
    let (site, _home, platform) = connected();
    site.server.hook("on_server_keepalive", &[]);
    site.server.hook("on_server_keepalive", &[]);
    site.server.kill();
    site.server.restart();
    let started = platform.wait("on_server_started", 1);
    assert_eq!(started[0].json()["hook_index"], 0);
    assert!(started[0].text().contains("\"api.secret\""));
}

#[test]
fn a_path_that_is_no_hook_is_not_found() {
    let platform = Platform::start();
    let port = platform.url().split(':').nth(2).unwrap().split('/').next().unwrap().parse().unwrap();
    let mut caller = Caller::to(port, PATIENCE).unwrap();
    assert_eq!(caller.get("/elsewhere").unwrap().status, 404);
}
