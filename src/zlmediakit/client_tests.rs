//! What the captures say, read as they are.

use super::*;

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
