//! What a media server tells of a finished recording, in its own words.

use serde_json::Value;

use crate::domain::units::Timestamp;
use crate::store::HookRecord;

/// Bytes of a path, as Linux has them.
const PATH: usize = 4096;
/// Bytes of any other text.
const TEXT: usize = 1024;
/// A recording is no longer than this many seconds, and begins before this time: beyond it, a number is something else.
const SPAN: f64 = 1e9;
const LATEST: i64 = 1 << 37;

/// Reads the body of `on_record_mp4` or `on_record_ts`. Keys that are not needed are another program's business.
///
/// # Errors
/// Names every key that is missing or wrong.
pub fn recorded(body: &Value) -> Result<HookRecord, String> {
    if !body.is_object() {
        return Err("it is no object".to_owned());
    }
    let mut wrong = Vec::new();
    let mut need = |key: &'static str, wanted: &'static str, fits: &dyn Fn(&Value) -> bool| match body.get(key) {
        None => wrong.push(format!("`{key}` is missing")),
        Some(value) if !fits(value) => wrong.push(format!("`{key}` must be {wanted}")),
        Some(_) => {}
    };
    let text = |value: &Value| value.as_str().is_some_and(|text| is_text(text, TEXT));
    for key in ["app", "stream", "mediaServerId"] {
        need(key, "a text without control characters", &text);
    }
    let path = |value: &Value| value.as_str().is_some_and(is_path);
    need("file_path", "an absolute path without control characters and `..`", &path);
    let start = |value: &Value| value.as_i64().is_some_and(|secs| (0..LATEST).contains(&secs));
    need("start_time", "a time in seconds since 1970", &start);
    need("file_size", "a number of bytes", &|value| value.as_u64().is_some());
    let span = |value: &Value| value.as_f64().is_some_and(|secs| (0.0..SPAN).contains(&secs));
    need("time_len", "a number of seconds", &span);
    if !wrong.is_empty() {
        return Err(wrong.join(", "));
    }
    let word = |key: &str| body[key].as_str().unwrap_or_default();
    Ok(HookRecord {
        path: word("file_path").as_bytes().to_vec(),
        start: Timestamp::from_secs(body["start_time"].as_i64().unwrap_or_default()),
        media_server: word("mediaServerId").to_owned(),
        stream: format!("{}/{}", word("app"), word("stream")),
        size: body["file_size"].as_u64().unwrap_or_default(),
        length: millis(body["time_len"].as_f64().unwrap_or_default()),
    })
}

fn is_text(text: &str, most: usize) -> bool {
    !text.is_empty() && text.len() <= most && !text.chars().any(char::is_control)
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && is_text(text, PATH) && !text.split('/').any(|component| component == "..")
}

/// Seconds, which were looked at before, as milliseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 10^12")]
fn millis(secs: f64) -> u64 {
    (secs * 1000.0).round() as u64
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A hook that tells of a recording.
    pub(crate) fn hook() -> Value {
        json!({
            "app": "live", "stream": "cam", "mediaServerId": "zlm-1", "file_path": "/rec/live/cam/a.mp4",
            "start_time": 60, "file_size": 5, "time_len": 1.5, "hook_index": 7, "what_comes_later": {"any": [1]},
        })
    }

    /// The same with another value.
    pub(crate) fn with(key: &str, value: Value) -> Value {
        let mut body = hook();
        body[key] = value;
        body
    }

    #[test]
    fn a_record_is_read_or_every_key_that_is_wrong_is_named() {
        let check = |body: Value, expected: Result<(), &[&str]>| match (recorded(&body), expected) {
            (Ok(_), Ok(())) => {}
            (Err(reason), Err(said)) => said.iter().for_each(|word| assert!(reason.contains(word), "{body}: {reason}")),
            (got, wanted) => panic!("{body}: {got:?} instead of {wanted:?}"),
        };
        check(hook(), Ok(()));
        check(json!([]), Err(&["no object"]));
        let needed = ["app", "stream", "mediaServerId", "file_path", "start_time", "file_size", "time_len"];
        let all: Vec<String> = needed.iter().map(|key| format!("`{key}` is missing")).collect();
        check(json!({}), Err(&all.iter().map(String::as_str).collect::<Vec<_>>()));
        for key in needed {
            let wrong = format!("`{key}` must be ");
            for value in [json!(null), json!([]), json!({}), json!(true), json!("a\nb"), json!("")] {
                check(with(key, value), Err(&[&wrong]));
            }
        }
        for path in ["rec/a.mp4", "/rec/../a.mp4", "/..", "/rec/a\u{0}.mp4", &format!("/{}", "x".repeat(PATH))] {
            check(with("file_path", json!(path)), Err(&["`file_path` must be an absolute path"]));
        }
        check(with("file_path", json!("/rec/a..b.mp4")), Ok(()));
        for number in [json!(-1), json!(LATEST), json!(1.5)] {
            check(with("start_time", number), Err(&["`start_time` must be a time"]));
        }
        check(with("file_size", json!(-1)), Err(&["`file_size` must be"]));
        for number in [json!(-0.5), json!(1e9)] {
            check(with("time_len", number), Err(&["`time_len` must be"]));
        }
        check(with("time_len", json!(0.0)), Ok(()));
        check(with("time_len", json!(2)), Ok(()));
    }
}
