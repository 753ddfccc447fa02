//! What the captures say, read as they are.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::domain::names::MediaServerId;

fn capture(name: &str) -> Vec<u8> {
    let file = format!("{}/tests/data/zlmediakit/api_{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(file).unwrap()
}

fn answer(name: &str) -> Result<Value, ApiError> {
    read("call", StatusCode::OK, &capture(&format!("{name}.json")))
}

fn tuple() -> StreamTuple {
    StreamTuple { vhost: "__defaultVhost__".to_owned(), app: "live".to_owned(), stream: "test".to_owned() }
}

#[test]
fn streams_are_read_once_each_whatever_their_forms() {
    let streams = |name: &str| streams_of("call", answer(name).unwrap()).unwrap();
    assert_eq!(streams("getMediaList_nostream"), []);
    let since = Some(Timestamp::from_secs(1_795_350_098));
    let found = streams("getMediaList_recording");
    assert_eq!(found, [LiveStream { names: tuple(), mp4: Some(true), hls: Some(true), since }]);
    let found = streams("getMediaList_not_recording");
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].names, found[0].mp4, found[0].hls), (&tuple(), Some(false), Some(false)));
}

#[test]
fn one_form_that_is_recorded_or_says_nothing_is_enough() {
    let form =
        |mp4: Value| serde_json::json!({"app": "a", "stream": "s", "isRecordingMP4": mp4, "isRecordingHLS": false});
    let check = |forms: &[Value], mp4| {
        let found = streams_of("call", serde_json::json!({"code": 0, "data": forms})).unwrap();
        assert_eq!((found[0].mp4, found[0].hls, found.len()), (mp4, Some(false), 1), "{forms:?}");
    };
    let [yes, no, none] = [Value::Bool(true), Value::Bool(false), Value::Null].map(form);
    check(&[no.clone(), no.clone()], Some(false));
    check(&[no.clone(), yes.clone()], Some(true));
    check(&[none.clone(), yes], Some(true));
    check(&[none, no], None);
    for wrong in [serde_json::json!([{"app": "a"}]), serde_json::json!("x"), serde_json::json!([[]])] {
        let found = streams_of("call", serde_json::json!({"code": 0, "data": wrong}));
        assert!(matches!(found, Err(ApiError::Garbled { .. })), "{found:?}");
    }
}

#[test]
fn whether_it_records_and_did_as_it_was_asked_is_read_from_the_answers() {
    for (name, key, expected) in [
        ("isRecording_mp4_recording", "status", Ok(true)),
        ("isRecording_mp4_not_recording", "status", Ok(false)),
        ("isRecording_hls_recording", "status", Ok(true)),
        ("isRecording_hls_not_recording", "status", Ok(false)),
        ("isRecording_stream_absent", "status", Err("no such stream")),
        ("isRecording_bad_secret", "status", Err("refuses the secret")),
        ("isRecording_no_secret", "status", Err("refuses the secret")),
        ("isRecording_missing_arg", "status", Err("code -300: Required parameter missed")),
        ("startRecord_mp4", "result", Ok(true)),
        ("startRecord_mp4_again", "result", Ok(true)),
        ("startRecord_stream_absent", "result", Err("no such stream")),
        ("stopRecord_mp4", "result", Ok(true)),
        ("stopRecord_mp4_not_recording", "result", Ok(true)),
        ("stopRecord_stream_absent", "result", Err("no such stream")),
        ("version", "status", Err("it has no `status`")),
    ] {
        let found = answer(name).and_then(|answer| flag("call", &answer, key));
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(*found, expected, "{name}"),
            (Err(error), Err(word)) => assert!(error.to_string().contains(word), "{name}: {error}"),
            (found, expected) => panic!("{name}: {found:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn what_is_no_answer_of_a_zlmediakit_is_none() {
    let unknown = capture("unknown.json");
    for (status, body, word) in [
        (404, unknown.as_slice(), "HTTP status 404"),
        (200, unknown.as_slice(), "no JSON"),
        (302, b"{\"code\":0}", "HTTP status 302"),
        (200, b"", "no JSON"),
        (200, b"{}", "no `code`"),
        (200, b"[1]", "no `code`"),
        (200, b"{\"code\":\"0\"}", "no `code`"),
    ] {
        let found = read("call", StatusCode::from_u16(status).unwrap(), body);
        let Err(error @ ApiError::Garbled { .. }) = found else { panic!("{found:?}") };
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn the_configuration_says_where_it_records_and_no_secret() {
    let found = config_of("call", answer("getServerConfig").unwrap()).unwrap();
    assert_eq!((found.id.as_str(), found.vhosts, found.record_app.as_str()), ("zlm-1", false, "record"));
    assert_eq!((found.mp4_root.as_str(), found.hls_root.as_str()), ("/data/zlm/rec", "/data/zlm/hls"));
    assert_eq!((found.window, found.keeps_segments), (Some(10), false));
    assert!(found.hooks["on_record_mp4"].ends_with("/index/hook/on_record_mp4"), "{:?}", found.hooks);
    assert!(!found.hooks.contains_key("on_rtsp_auth"), "what is empty goes nowhere");
    assert!(!format!("{found:?}").contains("example-secret"), "{found:?}");
    let partial = config_of("call", serde_json::json!({"code": 0, "data": [{}]}));
    assert!(matches!(partial, Err(ApiError::Garbled { .. })), "{partial:?}");
}

/// A server that gives every request the same answer and keeps its connections open; what it was asked, a text for each connection.
async fn server(answer: String) -> (Client, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (at, answer, seen) = (seen.lock().unwrap().len(), answer.clone(), seen.clone());
            seen.lock().unwrap().push(String::new());
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = socket.read(&mut bytes).await {
                    seen.lock().unwrap()[at].push_str(std::str::from_utf8(&bytes[..count]).unwrap());
                    let _ = socket.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    let settings = MediaServerSettings {
        name: MediaServerId::new("zlm-1"),
        api: format!("http://{address}/behind"),
        secret: Some(Secret::new("very-hidden")),
        path_map: Vec::new(),
        hooks: None,
        gateway: None,
        recording_switch: None,
    };
    (Client::within(&settings, Duration::from_millis(500)).unwrap(), asked)
}

fn response(status: &str, length: usize, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: keep-alive\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The server closes what it said to keep alive: nobody goes on with such a connection.
#[tokio::test]
async fn each_call_has_a_connection_of_its_own_and_its_secret_in_a_header() {
    let body = r#"{"code":-500,"msg":"can not find the stream"}"#;
    let (client, asked) = server(response("200 OK", body.len(), body)).await;
    let stream = StreamTuple { app: "a&b=c".to_owned(), stream: "../\u{e9} x".to_owned(), ..tuple() };
    for _ in 0..2 {
        let found = client.is_recording(&stream, Recorded::Mp4).await;
        assert_eq!(found, Err(ApiError::NoStream { call: "isRecording" }));
    }
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 2, "{asked:?}");
    for one in asked.iter() {
        let line = one.lines().next().unwrap();
        let expected = "GET /behind/index/api/isRecording?type=1&vhost=__defaultVhost__&app=a%26b%3Dc&stream=..%2F%C3%A9+x HTTP/1.1";
        assert_eq!(line, expected);
        assert!(one.contains("\r\nsecret: very-hidden\r\n") && one.matches("very-hidden").count() == 1, "{one}");
    }
    assert!(!format!("{client:?}").contains("very-hidden"));
}

#[tokio::test]
async fn what_leads_elsewhere_is_too_long_or_never_ends_is_no_answer() {
    let elsewhere = "HTTP/1.1 302 Found\r\nLocation: /index/api/version\r\nContent-Length: 0\r\n\r\n".to_owned();
    let (client, asked) = server(elsewhere).await;
    let error = client.version().await.unwrap_err();
    assert!(matches!(&error, ApiError::Garbled { error, .. } if error == "HTTP status 302"), "{error}");
    assert_eq!(asked.lock().unwrap().len(), 1, "nobody follows it");

    let long = " ".repeat(ANSWER + 1);
    let (client, _) = server(response("200 OK", long.len(), &long)).await;
    let error = client.version().await.unwrap_err();
    assert!(matches!(&error, ApiError::Garbled { error, .. } if error.starts_with("it is longer than")), "{error}");

    for answer in [String::new(), response("200 OK", 100, "{")] {
        let (client, _) = server(answer).await;
        let error = client.version().await.unwrap_err();
        assert!(matches!(error, ApiError::Unanswered { .. }), "{error}");
    }

    let body = r#"{"code":-1,"msg":"bad very-hidden\n"}"#;
    let (client, _) = server(response("200 OK", body.len(), body)).await;
    let error = client.version().await.unwrap_err().to_string();
    assert!(error.ends_with("with code -1: bad ***"), "{error}");
}
