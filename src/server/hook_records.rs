//! `POST /api/v1/hook-records`: what a media server tells of recordings, in its own words.

use serde::Serialize;
use serde_json::Value;

use super::refusal::Refusal;
use crate::domain::units::Timestamp;
use crate::store::HookRecord;

/// So many records may come in one request.
const RECORDS: usize = 1000;
/// Bytes of a path, as Linux has them.
const PATH: usize = 4096;
/// Bytes of any other text.
const TEXT: usize = 1024;
/// A recording is no longer than this many seconds, and begins before this time: beyond it, a number is something else.
const SPAN: f64 = 1e9;
const LATEST: i64 = 1 << 37;

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookKept {
    /// It is new, and durable.
    Stored,
    /// It was known.
    Duplicate,
    /// It is not wanted: why.
    Rejected(String),
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HooksKept {
    /// Records that are new, and durable.
    pub stored: u64,
    /// Records that were known.
    pub duplicate: u64,
    /// Records that were not taken.
    pub rejected: Vec<RejectedHook>,
}

/// A record that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedHook {
    /// Its place in the array, from 0.
    pub index: usize,
    /// Why.
    pub reason: String,
}

/// A body that was read: records that can be kept, with their places in it, and what is to be answered for the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Posted {
    places: Vec<usize>,
    pub(super) records: Vec<HookRecord>,
    rejected: Vec<RejectedHook>,
}

impl Posted {
    /// Reads a body: one record, or an array of them.
    ///
    /// # Errors
    /// 400 if it is neither, or holds too many.
    pub(super) fn read(body: &Value) -> Result<Self, Refusal> {
        let all = match body {
            Value::Object(_) => std::slice::from_ref(body),
            Value::Array(all) => all,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let message =
                    "the body must be the media server's own `on_record_mp4` or `on_record_ts`, or an array of such";
                return Err(Refusal::bad_request("bad_json", message));
            }
        };
        if all.len() > RECORDS {
            let message = format!(
                "the body holds {} records, but at most {RECORDS} may come at once; send the others after them",
                all.len()
            );
            return Err(Refusal::bad_request("too_many", message));
        }
        let mut posted = Self::default();
        for (index, one) in all.iter().enumerate() {
            match record(one) {
                Ok(record) => {
                    posted.places.push(index);
                    posted.records.push(record);
                }
                Err(reason) => posted.rejected.push(RejectedHook { index, reason }),
            }
        }
        Ok(posted)
    }

    /// The answer, from what became of each record.
    pub(super) fn answer(self, kept: Vec<HookKept>) -> HooksKept {
        let mut out = HooksKept { rejected: self.rejected, ..HooksKept::default() };
        for (index, kept) in self.places.into_iter().zip(kept) {
            match kept {
                HookKept::Stored => out.stored += 1,
                HookKept::Duplicate => out.duplicate += 1,
                HookKept::Rejected(reason) => out.rejected.push(RejectedHook { index, reason }),
            }
        }
        out.rejected.sort_by_key(|one| one.index);
        out
    }
}

/// Reads one record. Keys that are not needed are another program's business.
fn record(body: &Value) -> Result<HookRecord, String> {
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
mod tests {
    use serde_json::json;

    use super::*;

    fn hook() -> Value {
        json!({
            "app": "live", "stream": "cam", "mediaServerId": "zlm-1", "file_path": "/rec/live/cam/a.mp4",
            "start_time": 60, "file_size": 5, "time_len": 1.5, "hook_index": 7, "what_comes_later": {"any": [1]},
        })
    }

    fn with(key: &str, value: Value) -> Value {
        let mut body = hook();
        body[key] = value;
        body
    }

    #[test]
    fn a_record_is_read_or_every_key_that_is_wrong_is_named() {
        let check = |body: Value, expected: Result<(), &[&str]>| match (record(&body), expected) {
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

    #[test]
    fn each_record_has_its_place_in_the_answer() {
        let body = json!([{}, hook(), with("app", json!(7)), hook(), hook()]);
        let posted = Posted::read(&body).unwrap();
        assert_eq!(posted.records.len(), 3);
        let kept = vec![HookKept::Stored, HookKept::Rejected("of another".to_owned()), HookKept::Duplicate];
        let answer = posted.answer(kept);
        assert_eq!((answer.stored, answer.duplicate), (1, 1));
        assert_eq!(answer.rejected.iter().map(|one| one.index).collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!(answer.rejected[2].reason, "of another");
    }

    #[test]
    fn a_body_that_is_none_is_refused_whole() {
        for (body, code) in
            [(json!("x"), "bad_json"), (json!(null), "bad_json"), (json!(vec![hook(); RECORDS + 1]), "too_many")]
        {
            assert_eq!(Posted::read(&body).unwrap_err().code, code);
        }
        assert!(Posted::read(&json!([])).unwrap().records.is_empty());
    }
}
