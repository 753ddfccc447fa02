//! The body of `POST /api/v1/deletions`.

use serde::{Deserialize, Serialize};

use super::orphans::NamedPath;
use super::refusal::Refusal;
use crate::domain::deletion::Trigger;
use crate::domain::demand::{Demand, OfStream, Wanted, day};
use crate::domain::names::{StreamId, TreeId};
use crate::domain::units::Timestamp;

/// Recordings that are to be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeletionRequest {
    /// The tree.
    pub tree: String,
    /// These.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<NamedPath>>,
    /// All of this stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Of the stream, those of this day: the name of its directory, such as `2026-11-22`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
    /// Of the stream, those whose time is before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Where the job's states are told to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
}

impl DeletionRequest {
    /// What is asked for, and, in words, each path that is none.
    ///
    /// # Errors
    /// 400 unless exactly one of `paths` and `stream` is given, and for a `period` or `before` that is none or belongs to no stream.
    pub fn demand(&self) -> Result<(Demand, Vec<String>), Refusal> {
        let mut malformed = Vec::new();
        let wanted = match (&self.paths, &self.stream) {
            (Some(paths), None) => {
                if self.period.is_some() || self.before.is_some() {
                    let message = "`period` and `before` go with `stream`; with `paths`, each is named";
                    return Err(Refusal::bad_request("bad_request", message));
                }
                let (out, wrong) = NamedPath::read(paths);
                malformed = wrong;
                Wanted::Paths(out)
            }
            (None, Some(stream)) => Wanted::Stream(OfStream {
                stream: StreamId::new(stream),
                period: self.period.as_deref().map(period).transpose()?,
                before: self.before.as_deref().map(|text| moment("before", "bad_before", text)).transpose()?,
                within: None,
            }),
            (Some(_), Some(_)) | (None, None) => {
                let message = "give either `paths` or `stream`, and not both";
                return Err(Refusal::bad_request("bad_request", message));
            }
        };
        Ok((Demand { tree: TreeId::new(&self.tree), wanted, trigger: Trigger::Operator }, malformed))
    }
}

fn period(text: &str) -> Result<jiff::civil::Date, Refusal> {
    day(text).ok_or_else(|| {
        let message = format!("`period` is {text:?}, but must be the name of a day's directory such as 2026-11-22");
        Refusal::bad_request("bad_period", message)
    })
}

/// A time of a request, under the name `name`; `code` says what is wrong where it is none.
pub(super) fn moment(name: &str, code: &'static str, text: &str) -> Result<Timestamp, Refusal> {
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    parsed.map(|at| Timestamp::from_millis(at.as_millisecond())).map_err(|_| {
        let message = format!("`{name}` is {text:?}, but must be a time such as 2026-11-22T08:00:00Z");
        Refusal::bad_request(code, message)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(body: Value, expected: Result<&str, &str>) {
        let request: Result<DeletionRequest, _> = serde_json::from_value(body.clone());
        let got = match request {
            Ok(request) => request.demand().map_err(|refusal| format!("{} {refusal}", refusal.code)),
            Err(error) => Err(error.to_string()),
        };
        match (got, expected) {
            (Ok((demand, malformed)), Ok(words)) => {
                assert_eq!(format!("{} {malformed:?}", demand.wanted.words()), words)
            }
            (Err(got), Err(wanted)) => assert!(got.contains(wanted), "{body}: {got}"),
            (got, expected) => panic!("{body}: {got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_request_names_paths_or_a_stream_and_nothing_else() {
        check(
            json!({"tree": "live", "paths": ["a/b.mp4", {"path": "a%FF", "encoded": true}]}),
            Ok("2 paths that were named []"),
        );
        check(
            json!({"tree": "live", "paths": ["../x", "a"]}),
            Ok("1 paths that were named [\"\\\"../x\\\" (has a component that is empty, `.` or `..`)\"]"),
        );
        check(json!({"tree": "live", "stream": "live/cam"}), Ok("stream live/cam []"));
        check(
            json!({"tree": "live", "stream": "live/cam", "period": "2026-11-22", "before": "1970-01-01T00:01:00Z"}),
            Ok("stream live/cam of 2026-11-22 before 1970-01-01T00:01:00Z []"),
        );
        check(json!({"tree": "live"}), Err("bad_request"));
        check(json!({"tree": "live", "paths": [], "stream": "x"}), Err("bad_request"));
        check(json!({"tree": "live", "paths": ["a"], "period": "2026-11-22"}), Err("bad_request"));
        check(json!({"tree": "live", "stream": "x", "period": "2026-13-22"}), Err("bad_period"));
        check(json!({"tree": "live", "stream": "x", "period": "../2026-11-22"}), Err("bad_period"));
        check(json!({"tree": "live", "stream": "x", "before": "yesterday"}), Err("bad_before"));
        check(json!({"tree": "live", "stream": "x", "colour": "red"}), Err("unknown field"));
        check(json!({"stream": "x"}), Err("missing field `tree`"));
    }
}
