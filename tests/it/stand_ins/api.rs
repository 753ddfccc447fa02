//! The API of the stand-in, its sockets, and what it serves beside it.

use std::time::Duration;

use serde_json::json;

use super::{PATIENCE, Site};
use crate::support::media_server::{Kind, LIVE, VHOST, capture};
use crate::support::wire::{Answer, Caller};

/// Two answers, or that the connection was closed after the first.
fn twice(site: &Site, target: &str) -> (Answer, bool) {
    let mut caller = site.caller();
    let first = caller.get(target).unwrap();
    assert_eq!(first.header("connection"), "keep-alive");
    (first, caller.get(target).is_ok())
}

#[test]
fn an_error_says_keep_alive_and_the_connection_is_closed() {
    let (site, _home) = Site::new();
    let secret = site.server.secret();
    let stream = format!("vhost={VHOST}&app=live&stream=test");
    for (target, code, kept) in [
        (format!("isRecording?{stream}&type=1"), json!(-100), false),
        (format!("isRecording?secret={secret}&app=live"), json!(-300), false),
        (format!("isRecording?secret={secret}&{stream}&type=1"), json!(-500), false),
        (format!("deleteRecordDirectory?secret={secret}&{stream}"), json!(-1), true),
        (format!("getMediaList?secret={secret}"), json!(0), true),
    ] {
        let (answer, again) = twice(&site, &format!("/index/api/{target}"));
        assert_eq!((answer.status, &answer.json()["code"], again), (200, &code, kept), "{target}");
        assert!(answer.header("set-cookie").starts_with("ZLM_UNLOGIN="));
    }
    for (target, text) in [("/index/api/noSuchCall", "api_unknown.json"), ("/nothing.mp4", "api_unknown.json")] {
        let (answer, again) = twice(&site, target);
        assert_eq!((answer.status, answer.text(), again), (404, capture(text), true));
        assert!(answer.header("content-type").starts_with("text/html"));
    }
}

#[test]
fn the_secret_may_be_anywhere_and_is_seen_where_it_was() {
    let (site, _home) = Site::new();
    let secret = site.server.secret();
    let post = |kind: &str, body: String| {
        let length = body.len();
        let head = format!("POST /index/api/version HTTP/1.1\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n");
        site.caller().call(&head, body.as_bytes()).unwrap()
    };
    let header = format!("GET /index/api/version HTTP/1.1\r\nCookie: ZLM_UNLOGIN=known\r\nsecret: {secret}\r\n");
    let by_header = site.caller().call(&header, b"").unwrap();
    assert_eq!(by_header.header("set-cookie"), "");
    let by_form = post("application/x-www-form-urlencoded", format!("secret={secret}"));
    let by_json = post("application/json", json!({ "secret": secret }).to_string());
    site.server.assert_no_secret_in_urls();
    let by_query = site.ask("version", "");
    for answer in [by_header, by_form, by_json, by_query] {
        assert_eq!(answer.text(), capture("api_version.json"));
    }
    let seen = site.server.requests_for("version");
    let ways: Vec<_> =
        seen.iter().map(|request| (request.method.as_str(), request.header("secret") == secret)).collect();
    assert_eq!(ways, [("GET", true), ("POST", false), ("POST", false), ("GET", false)]);
    assert!(seen[3].target.contains(&secret));
}

#[test]
#[should_panic(expected = "secret=")]
fn a_secret_in_a_url_is_found() {
    let (site, _home) = Site::new();
    site.ask("version", "");
    site.server.assert_no_secret_in_urls();
}

#[test]
fn the_configuration_says_where_it_records() {
    let (site, _home) = Site::new();
    let before = site.ask("getServerConfig", "").json();
    let about = &before["data"][0];
    assert_eq!(about["protocol.mp4_save_path"], site.home.join("rec").to_str().unwrap());
    assert_eq!(format!("http://127.0.0.1:{}", about["http.port"].as_str().unwrap()), site.server.url());
    // Nothing else is other than it was captured.
    let captured: serde_json::Value = serde_json::from_str(&capture("api_getServerConfig.json")).unwrap();
    let same = |key: &str| key.starts_with("hook.") || key == "http.port" || key.ends_with("_save_path");
    for (key, value) in captured["data"][0].as_object().unwrap().iter().filter(|(key, _)| !same(key)) {
        assert_eq!(&about[key], value, "{key}");
    }
    let changed = site.ask("setServerConfig", "&hook.enable=1&hook.timeoutSec=30&record.appName=r").json();
    assert_eq!(changed, json!({ "changed": 2, "code": 0 }));
    assert_eq!(site.ask("getServerConfig", "").json()["data"][0]["hook.timeoutSec"], "30");
    assert_eq!(site.server.folder("live", "test"), site.home.join("rec/r/live/test/"));
    site.server.set("general.enableVhost", "1");
    assert_eq!(site.server.folder("live", "test"), site.home.join("rec").join(VHOST).join("r/live/test/"));
}

#[test]
fn streams_are_listed_by_schema_and_say_whether_they_are_recorded() {
    let (site, _home) = Site::new();
    assert_eq!(site.ask("getMediaList", "").text(), capture("api_getMediaList_nostream.json"));
    site.server.publish("live", "test");
    let strip = |text: &str| -> Vec<(serde_json::Value, Vec<String>)> {
        let list: serde_json::Value = serde_json::from_str(text).unwrap();
        let entry = |entry: &serde_json::Value| {
            let says = json!([
                entry["app"],
                entry["stream"],
                entry["schema"],
                entry["isRecordingMP4"],
                entry["isRecordingHLS"]
            ]);
            (says, entry.as_object().unwrap().keys().cloned().collect())
        };
        list["data"].as_array().unwrap().iter().map(entry).collect()
    };
    let listed = |arguments: &str| site.ask("getMediaList", arguments).text();
    assert_eq!(strip(&listed("")), strip(&capture("api_getMediaList_not_recording.json")));
    site.server.record("live", "test", Kind::Mp4);
    site.server.record("live", "test", Kind::Hls);
    assert_eq!(strip(&listed("")), strip(&capture("api_getMediaList_recording.json")));
    site.server.publish("live", "other");
    assert_eq!(strip(&listed("")).len(), 9);
    assert_eq!(strip(&listed("&app=live&stream=other&schema=rtsp")).len(), 1);
    assert_eq!(
        site.ask("isMediaOnline", "&app=live&stream=other&schema=rtsp").text(),
        capture("api_isMediaOnline.json")
    );
}

#[test]
fn recording_begins_and_ends_on_demand() {
    let (site, _home) = Site::new();
    let about = "&app=live&stream=test&type=";
    let says = |call: &str, kind: u8, expected: &str| {
        assert_eq!(
            site.ask(call, &format!("{about}{kind}")).text(),
            capture(&format!("api_{expected}.json")),
            "{call}"
        );
    };
    says("isRecording", 1, "isRecording_stream_absent");
    says("startRecord", 1, "startRecord_stream_absent");
    says("stopRecord", 0, "stopRecord_stream_absent");
    says("isRecording", 9, "isRecording_missing_arg");
    site.server.publish("live", "test");
    says("isRecording", 1, "isRecording_mp4_not_recording");
    says("stopRecord", 1, "stopRecord_mp4_not_recording");
    says("startRecord", 1, "startRecord_mp4");
    says("startRecord", 1, "startRecord_mp4_again");
    says("isRecording", 1, "isRecording_mp4_recording");
    says("isRecording", 0, "isRecording_hls_not_recording");
    says("startRecord", 0, "startRecord_hls");
    says("isRecording", 0, "isRecording_hls_recording");
    assert!(site.home.join("hls/live/test/hls.m3u8").exists());

    // What is being written is hidden, whole buffers long, and not in the list of the day.
    let live = site.server.live("live", "test");
    site.server.grow("live", "test", 2);
    assert_eq!(std::fs::metadata(&live).unwrap().len(), 3 * 65536);
    let first = site.server.cut("live", "test").unwrap();
    assert!(first.exists() && !live.exists());
    let day = first.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let files = site.ask("getMP4RecordFile", &format!("&app=live&stream=test&period={day}")).json();
    assert_eq!(files["data"]["paths"], json!([first.file_name().unwrap().to_str().unwrap()]));
    let days = site.ask("getMP4RecordFile", "&app=live&stream=test").json();
    assert!(days["data"]["paths"].as_array().unwrap().contains(&json!(day)));
    let none = site.ask("getMP4RecordFile", "&app=live&stream=never&period=2020-13-99").json();
    assert_eq!(none["data"]["paths"], json!([]));

    says("stopRecord", 1, "stopRecord_mp4");
    says("stopRecord", 0, "stopRecord_hls");
    assert!(!site.home.join("hls").exists(), "HLS takes its root with it");
    assert!(!site.server.is_recording("live", "test", Kind::Mp4));
    assert!(!site.server.is_recording("live", "never", Kind::Mp4));
}

#[test]
fn a_task_writes_a_file_that_no_call_and_no_hook_tells_of() {
    let (site, _home) = Site::new();
    site.server.publish("live", "test");
    let said =
        site.ask("startRecordTask", "&app=live&stream=test&path=task/ev1.mp4&back_ms=3000&forward_ms=6000").json();
    let path = site.home.join("rec/record/live/test/task/ev1.mp4");
    assert_eq!(said["data"]["path"], path.to_str().unwrap());
    let size = || std::fs::metadata(&path).unwrap().len();
    let before = size();
    site.server.grow_tasks();
    assert!(size() > before);
    assert!(!site.server.is_recording("live", "test", Kind::Mp4));
    assert!(site.server.sent().is_empty());
}

#[test]
fn segments_of_hls_are_few_unless_all_are_kept() {
    let (site, _home) = Site::new();
    site.server.publish("live", "test");
    for (keep, count) in [("0", 9), ("1", 12)] {
        site.server.set("hls.segKeep", keep);
        site.server.record("live", "test", Kind::Hls);
        (0..11).for_each(|_| drop(site.server.cut("live", "test")));
        let made = site.left();
        assert_eq!(made.iter().filter(|path| path.ends_with(".ts")).count(), count, "{made:?}");
        site.server.stop("live", "test", Kind::Hls);
        assert_eq!(
            site.left().iter().filter(|path| path.ends_with(".ts")).count(),
            if keep == "0" { 0 } else { count }
        );
    }
}

#[test]
fn it_can_be_silent_slow_refuse_and_die() {
    let (site, _home) = Site::new();
    let asked = format!("/index/api/version?secret={}", site.server.secret());
    let within = |span: Duration| Caller::to(site.server.port(), span).and_then(|mut caller| caller.get(&asked));
    site.server.slow(Duration::from_millis(300));
    assert!(within(Duration::from_millis(100)).is_err());
    assert_eq!(within(PATIENCE).unwrap().status, 200);
    site.server.slow(Duration::ZERO);

    site.server.pause();
    let mut waiting = site.caller();
    waiting.send(&format!("GET {asked} HTTP/1.1\r\nHost: a\r\n"), b"").unwrap();
    assert!(within(Duration::from_millis(100)).is_err());
    site.server.resume();
    assert!(waiting.bytes(15).unwrap().starts_with(b"HTTP/1.1 200 OK"));

    site.server.publish("live", "test");
    site.server.record("live", "test", Kind::Mp4);
    let live = site.server.live("live", "test");
    site.server.kill();
    assert_eq!(within(PATIENCE).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    site.server.restart();
    assert_eq!(site.ask("getMediaList", "").text(), capture("api_getMediaList_nostream.json"));
    assert!(live.exists(), "nobody cleans up behind it");
}

#[test]
fn recordings_are_served_whole_and_in_part() {
    let (site, _home) = Site::new();
    site.file("rec/record/live/a/2026-01-01/x.mp4");
    let target = "/record/live/a/2026-01-01/x.mp4";
    assert_eq!(site.caller().get(target).unwrap().body, [7; 4096]);
    let part = format!("GET {target} HTTP/1.1\r\nRange: bytes=10-19\r\n");
    let part = site.caller().call(&part, b"").unwrap();
    assert_eq!((part.status, part.header("content-range"), part.body.len()), (206, "bytes 10-19/4096", 10));
    assert_eq!(site.caller().get("/record/../../../etc/passwd").unwrap().status, 404);
}

#[test]
fn a_live_stream_has_no_end_and_a_socket_sends_back_what_it_gets() {
    let (site, _home) = Site::new();
    assert_eq!(site.caller().get("/live/test.live.flv").unwrap().status, 404);
    site.server.publish("live", "test");
    let mut viewer = site.caller();
    viewer.send("GET /live/test.live.flv HTTP/1.1\r\nHost: a\r\n", b"").unwrap();
    let text = String::from_utf8(viewer.bytes(2000).unwrap()).unwrap();
    assert!(text.contains("chunked") && text.matches(std::str::from_utf8(LIVE).unwrap()).count() > 10, "{text}");

    let mut socket = site.caller();
    let upgrade = "GET /live/test.live.flv HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let agreed = socket.call(upgrade, b"").unwrap();
    // The example of RFC 6455.
    assert_eq!((agreed.status, agreed.header("sec-websocket-accept")), (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    socket.write(&[0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2]).unwrap();
    assert_eq!(socket.bytes(4).unwrap(), [0x81, 2, b'h', b'i']);
    socket.write(&[0x88, 0x80, 1, 2, 3, 4]).unwrap();
    assert_eq!(socket.bytes(2).unwrap(), [0x88, 0]);
    assert!(socket.closed());
}
