//! Holds, as they are asked for and shown.

use serde::{Deserialize, Serialize};

use super::deletions::moment;
use super::orphans::NamedPath;
use super::refusal::Refusal;
use crate::domain::names::StreamId;
use crate::domain::protection::{Hold as DomainHold, HoldScope};
use crate::domain::units::Timestamp;

/// What is no time.
const BAD: &str = "bad_time";
/// So many paths of one hold are shown.
const SHOWN: usize = 1000;

/// The body of `POST /api/v1/holds`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// The tree.
    pub tree: String,
    /// These recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<NamedPath>>,
    /// Recordings of this stream...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// ... from this time...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// ... to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl HoldRequest {
    /// What is to be held, and, in words, each path that is none.
    ///
    /// # Errors
    /// 400 unless either `paths`, or `stream` with `from` and `to`, is given, and for a time that is none.
    pub fn scope(&self) -> Result<(HoldScope, Vec<String>), Refusal> {
        scope(self.paths.as_deref(), &self.stream, &self.from, &self.to)
    }

    /// When it ends by itself.
    ///
    /// # Errors
    /// 400 for what is no time.
    pub fn end(&self) -> Result<Option<Timestamp>, Refusal> {
        self.until.as_deref().map(|until| moment("until", BAD, until)).transpose()
    }
}

/// Recordings by their paths, or by a stream and a span; and, in words, each path that is none.
///
/// # Errors
/// 400 unless one of the two is given whole, and for a time that is none.
pub(super) fn scope(
    paths: Option<&[NamedPath]>,
    stream: &Option<String>,
    from: &Option<String>,
    to: &Option<String>,
) -> Result<(HoldScope, Vec<String>), Refusal> {
    let mut malformed = Vec::new();
    let scope = match (paths, stream, from, to) {
        (Some(paths), None, None, None) => {
            let (out, wrong) = NamedPath::read(paths);
            malformed = wrong;
            HoldScope::Paths(out)
        }
        (None, Some(stream), Some(from), Some(to)) => {
            let (from, to) = (moment("from", BAD, from)?, moment("to", BAD, to)?);
            if from >= to {
                return Err(Refusal::bad_request("bad_span", "`from` must be before `to`"));
            }
            HoldScope::Span { stream: StreamId::new(stream), from, to }
        }
        _ => {
            let message = "give either `paths`, or `stream` with `from` and `to`";
            return Err(Refusal::bad_request("bad_request", message));
        }
    };
    Ok((scope, malformed))
}

/// The answer to `POST /api/v1/holds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HoldMade {
    /// Its number.
    pub id: u64,
    /// False while the state cannot be written: it is in effect, and a restart would forget it, but for what files bear.
    pub durable: bool,
    /// Of the paths, those where nothing is any more.
    pub already_gone: Vec<NamedPath>,
    /// How many recordings it covers now: those that are there, of the paths; of a span, those that the last scan found.
    pub recordings: u64,
    /// What else there is to know.
    pub note: Option<String>,
}

/// One of `GET /api/v1/holds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// Its number.
    pub id: u64,
    /// The tree.
    pub tree: String,
    /// The recordings that it names, the first thousand of them; `null` if it is about a span.
    pub paths: Option<Vec<NamedPath>>,
    /// How many it names.
    pub named: u64,
    /// The stream.
    pub stream: Option<String>,
    /// The beginning of the span.
    pub from: Option<String>,
    /// Its end.
    pub to: Option<String>,
    /// Why it was made.
    pub reason: String,
    /// Who made it.
    pub who: String,
    /// When it was made.
    pub made: String,
    /// When it ends by itself.
    pub until: Option<String>,
}

impl From<&DomainHold> for Hold {
    fn from(hold: &DomainHold) -> Self {
        let (paths, named, span) = match &hold.scope {
            HoldScope::Paths(paths) => {
                (Some(paths.iter().take(SHOWN).map(NamedPath::from).collect()), paths.len() as u64, None)
            }
            HoldScope::Span { stream, from, to } => (None, 0, Some((stream, from, to))),
        };
        Self {
            id: hold.id,
            tree: hold.tree.to_string(),
            paths,
            named,
            stream: span.map(|(stream, _, _)| stream.to_string()),
            from: span.map(|(_, from, _)| from.to_string()),
            to: span.map(|(_, _, to)| to.to_string()),
            reason: hold.reason.clone(),
            who: hold.who.clone(),
            made: hold.made.to_string(),
            until: hold.until.map(|until| until.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(body: Value, expected: Result<&str, &str>) {
        let request: Result<HoldRequest, _> = serde_json::from_value(body.clone());
        let got = match request {
            Ok(request) => request
                .scope()
                .and_then(|(scope, malformed)| {
                    Ok(format!("{} {malformed:?} {:?}", scope.words(), request.end()?.is_some()))
                })
                .map_err(|refusal| refusal.code.to_owned()),
            Err(error) => Err(error.to_string()),
        };
        match (&got, expected) {
            (Ok(got), Ok(wanted)) => assert_eq!(got, wanted, "{body}"),
            (Err(got), Err(wanted)) => assert!(got.contains(wanted), "{body}: {got}"),
            _ => panic!("{body}: {got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_hold_names_paths_or_a_span_of_a_stream_and_nothing_else() {
        let span = |from: &str, to: &str| json!({"tree": "live", "stream": "live/cam", "from": from, "to": to});
        check(
            json!({"tree": "live", "paths": ["a.mp4", "../b"]}),
            Ok("`a.mp4` [\"\\\"../b\\\" (has a component that is empty, `.` or `..`)\"] false"),
        );
        check(
            span("2026-11-22T08:00:00+08:00", "2026-11-22T01:00:00Z"),
            Ok("stream live/cam from 2026-11-22T00:00:00Z to 2026-11-22T01:00:00Z [] false"),
        );
        check(span("2026-11-22T08:00:00Z", "2026-11-22T08:00:00Z"), Err("bad_span"));
        check(span("yesterday", "2026-11-22T08:00:00Z"), Err("bad_time"));
        check(json!({"tree": "live", "stream": "live/cam"}), Err("bad_request"));
        check(json!({"tree": "live", "paths": ["a"], "stream": "live/cam"}), Err("bad_request"));
        check(json!({"tree": "live"}), Err("bad_request"));
        check(json!({"tree": "live", "paths": ["a"], "until": "never"}), Err("bad_time"));
        check(json!({"tree": "live", "paths": ["a"], "colour": 1}), Err("unknown field"));
    }
}
