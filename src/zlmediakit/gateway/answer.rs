//! What is answered, in the media server's manner: HTTP 200, and the truth in the body.

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

/// Everything named was looked for and is gone.
const DONE: i64 = 0;
/// It is still being worked at.
const WORKING: i64 = 1;
/// Something named is still there, or nobody knows.
const FAILED: i64 = -1;
/// The secret is missing or wrong.
const NOT_ALLOWED: i64 = -100;
/// An argument is missing or cannot be meant.
const BAD_ARGUMENT: i64 = -300;

/// A file that is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Its path, as the media server sees it.
    pub path: String,
    /// Why, by one of the contract's words.
    pub cause: &'static str,
    /// Who has it open, where that is known.
    pub holder: Option<String>,
    /// What the system or the guard says.
    pub detail: Option<String>,
}

/// What became of a deletion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// What was named, as the media server would write it.
    pub path: String,
    /// The job that is still at it, or was.
    pub job: Option<u64>,
    /// It was not done in time: the job is still at it, or, where there is none, the media server.
    pub working: bool,
    /// Files that were looked for and are gone by this call.
    pub deleted: u64,
    /// Files that are still there.
    pub failed: Vec<Failed>,
    /// Files that are still there, of which only so many are listed.
    pub failed_count: u64,
    /// Hidden files that are being written: a day or a stream does not name them.
    pub live: Vec<String>,
    /// Files that are no recordings of the tree's layout: they stay.
    pub left: Vec<String>,
    /// Why it could not be done at all.
    pub problem: Option<String>,
}

impl Answer {
    /// The code: 0 only if everything named is gone.
    #[must_use]
    pub fn code(&self) -> i64 {
        if self.working {
            WORKING
        } else if self.problem.is_some() || self.failed_count > 0 || !self.failed.is_empty() {
            FAILED
        } else {
            DONE
        }
    }

    /// As JSON.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
        put("code", json!(self.code()));
        put("path", json!(self.path));
        put("deleted", json!(self.deleted));
        if let Some(job) = self.job {
            put("job", json!(job));
        }
        if let Some(msg) = self.sentence() {
            put("msg", json!(msg));
        }
        let failed = |failed: &Failed| {
            let mut out = Map::new();
            out.insert("path".to_owned(), json!(failed.path));
            out.insert("cause".to_owned(), json!(failed.cause));
            out.insert("holder".to_owned(), json!(failed.holder));
            out.extend(failed.detail.as_ref().map(|detail| ("detail".to_owned(), json!(detail))));
            Value::Object(out)
        };
        if self.code() == FAILED {
            put("failed", self.failed.iter().map(failed).collect());
        }
        for (key, paths) in [("live", &self.live), ("left", &self.left)] {
            if !paths.is_empty() {
                put(key, json!(paths));
            }
        }
        Value::Object(out)
    }

    fn sentence(&self) -> Option<String> {
        let mut said = Vec::new();
        if let Some(problem) = &self.problem {
            said.push(problem.clone());
        }
        if self.working {
            let who = match self.job {
                Some(_) => "the deletion goes on; ask for the job at the guard's `/api/v1/jobs/{job}`",
                None => {
                    "the media server is still at it, and nobody knows yet what becomes of the files; ask again later"
                }
            };
            said.push(who.to_owned());
        }
        let failed = self.failed_count.max(self.failed.len() as u64);
        if failed > 0 && !self.working {
            said.push(format!("{failed} of the files named are still there; see `failed`"));
        }
        if !self.live.is_empty() {
            said.push("what is being written stays; see `live`".to_owned());
        }
        if !self.left.is_empty() {
            said.push("files that are no recordings stay; see `left`".to_owned());
        }
        (!said.is_empty()).then(|| said.join("; "))
    }
}

/// Answers with HTTP 200, as the media server does.
pub(super) fn answered(answer: &Answer) -> Response {
    json_response(StatusCode::OK, &answer.body())
}

/// An argument is missing or refused.
pub(super) fn refused(msg: &str) -> Response {
    json_response(StatusCode::OK, &json!({"code": BAD_ARGUMENT, "msg": msg}))
}

/// The secret is missing or wrong. `cookie` is what the media server would make up for a login.
pub(super) fn not_allowed(cookie: &str) -> Response {
    json_response(StatusCode::OK, &json!({"code": NOT_ALLOWED, "cookie": cookie, "msg": "Please login first"}))
}

/// A request that is not passed on, or the media server does not answer.
pub(super) fn fault(status: StatusCode, msg: &str) -> Response {
    json_response(status, &json!({"code": FAILED, "msg": msg}))
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(format!("{body:#}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Failed {
        Failed { path: path.to_owned(), cause: "locked", holder: None, detail: Some("immutable".to_owned()) }
    }

    #[test]
    fn only_what_is_gone_is_answered_with_0() {
        let check = |answer: Answer, expected: Value| assert_eq!(answer.body(), expected);
        let done = Answer { path: "/rec/a/".to_owned(), deleted: 3, job: Some(7), ..Answer::default() };
        check(done.clone(), json!({"code": 0, "path": "/rec/a/", "deleted": 3, "job": 7}));
        check(
            Answer { live: vec!["/rec/a/.b.mp4".to_owned()], left: vec!["/rec/a/x".to_owned()], ..done.clone() },
            json!({"code": 0, "path": "/rec/a/", "deleted": 3, "job": 7, "live": ["/rec/a/.b.mp4"], "left": ["/rec/a/x"],
                "msg": "what is being written stays; see `live`; files that are no recordings stay; see `left`"}),
        );
        let working = Answer { working: true, ..done.clone() };
        assert_eq!((working.body()["code"].clone(), working.body()["job"].clone()), (json!(1), json!(7)));
        assert!(working.body()["msg"].as_str().unwrap().contains("ask for the job"));
        let passed = Answer { working: true, ..Answer::default() };
        let msg = "the media server is still at it, and nobody knows yet what becomes of the files; ask again later";
        check(passed, json!({"code": 1, "path": "", "deleted": 0, "msg": msg}));
        check(
            Answer { failed: vec![file("/rec/a/b.mp4")], failed_count: 1, ..done.clone() },
            json!({"code": -1, "path": "/rec/a/", "deleted": 3, "job": 7, "msg": "1 of the files named are still there; see `failed`",
                "failed": [{"path": "/rec/a/b.mp4", "cause": "locked", "holder": null, "detail": "immutable"}]}),
        );
        let unknown = Answer { problem: Some("no tree".to_owned()), ..Answer::default() };
        check(unknown, json!({"code": -1, "path": "", "deleted": 0, "failed": [], "msg": "no tree"}));
    }
}
