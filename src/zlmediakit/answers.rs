//! Answers to hooks, in the form that ZLMediaKit wants: JSON with an integer `code`. Anything else it asks again, and then takes for a no.

use serde_json::{Value, json};

use crate::domain::media::{HookEvent, RelayDefault};

/// What is answered once an event that tells was taken.
pub(super) const SUCCESS: &str = r#"{"code":0,"msg":"success"}"#;

/// Why something is denied while nobody can say that it is allowed.
const SILENT: &str = "no platform answers, so access cannot be granted";

/// What is answered to an event that asks if nobody says otherwise: recording goes on, a stream is kept, and nobody gets access because
/// the platform is down.
pub(super) fn usual(event: HookEvent) -> RelayDefault {
    match event {
        HookEvent::Publish | HookEvent::StreamNotFound | HookEvent::RtpServerTimeout => RelayDefault::Allow,
        HookEvent::StreamNoneReader => RelayDefault::Keep,
        HookEvent::Play
        | HookEvent::RtspAuth
        | HookEvent::RtspRealm
        | HookEvent::HttpAccess
        | HookEvent::ShellLogin
        | HookEvent::Other => RelayDefault::Deny,
        // These only tell: whatever is answered has no effect.
        HookEvent::RecordMp4
        | HookEvent::RecordTs
        | HookEvent::ServerStarted
        | HookEvent::ServerExited
        | HookEvent::ServerKeepalive
        | HookEvent::StreamChanged
        | HookEvent::FlowReport
        | HookEvent::SendRtpStopped => RelayDefault::Allow,
    }
}

/// The body of an answer that nobody but us gives.
pub(super) fn ours(event: HookEvent, answer: RelayDefault) -> Vec<u8> {
    let body = match (event, answer) {
        (HookEvent::StreamNoneReader, RelayDefault::Keep | RelayDefault::Allow) => json!({"code": 0, "close": false}),
        (HookEvent::StreamNoneReader, RelayDefault::Close | RelayDefault::Deny) => json!({"code": 0, "close": true}),
        (HookEvent::StreamNotFound, RelayDefault::Keep | RelayDefault::Allow) => {
            json!({"code": 0, "msg": "success", "close": false})
        }
        (HookEvent::StreamNotFound, RelayDefault::Close | RelayDefault::Deny) => {
            json!({"code": 0, "msg": "success", "close": true})
        }
        // Without a realm no login is asked for.
        (HookEvent::RtspRealm, RelayDefault::Keep | RelayDefault::Allow) => {
            json!({"code": 0, "msg": "success", "realm": ""})
        }
        (HookEvent::RtspRealm, RelayDefault::Close | RelayDefault::Deny) => {
            json!({"code": 0, "msg": SILENT, "realm": "storage-guard"})
        }
        // `err` is what whoever asked for a file gets to read; `second`: for how long the answer holds.
        (HookEvent::HttpAccess, RelayDefault::Keep | RelayDefault::Allow) => {
            json!({"code": 0, "err": "", "path": "", "second": 0})
        }
        (HookEvent::HttpAccess, RelayDefault::Close | RelayDefault::Deny) => {
            json!({"code": 0, "err": SILENT, "path": "", "second": 0})
        }
        (
            HookEvent::Publish
            | HookEvent::Play
            | HookEvent::RtspAuth
            | HookEvent::ShellLogin
            | HookEvent::RtpServerTimeout
            | HookEvent::RecordMp4
            | HookEvent::RecordTs
            | HookEvent::ServerStarted
            | HookEvent::ServerExited
            | HookEvent::ServerKeepalive
            | HookEvent::StreamChanged
            | HookEvent::FlowReport
            | HookEvent::SendRtpStopped
            | HookEvent::Other,
            RelayDefault::Keep | RelayDefault::Allow,
        ) => json!({"code": 0, "msg": "success"}),
        (_, RelayDefault::Close | RelayDefault::Deny) => json!({"code": -1, "msg": SILENT}),
    };
    body.to_string().into_bytes()
}

/// The body of an answer that refuses, with its reason.
pub(super) fn refusal(why: &str) -> Vec<u8> {
    json!({"code": -1, "msg": why}).to_string().into_bytes()
}

/// Whether ZLMediaKit takes this for an answer: JSON with an integer `code`.
pub(super) fn code(body: &[u8]) -> Option<i64> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body.get("code")?.as_i64()
}

/// The answer to `on_publish` of a stream that is not to be recorded now: the same, but for `enable_mp4`. Nothing if the stream may not be
/// published anyway.
pub(super) fn without_recording(body: &[u8]) -> Option<Vec<u8>> {
    if code(body)? != 0 {
        return None;
    }
    let mut answer: Value = serde_json::from_slice(body).ok()?;
    answer.as_object_mut()?.insert("enable_mp4".to_owned(), Value::Bool(false));
    serde_json::to_vec(&answer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise 14: recording goes on. And nobody gets access because the platform is down.
    #[test]
    fn a_silent_platform_stops_no_recording_and_lets_nobody_in() {
        let answered = |event| serde_json::from_slice::<Value>(&ours(event, usual(event))).unwrap();
        for event in HookEvent::ALL {
            assert!(answered(*event)["code"].is_i64(), "{event}: otherwise it is asked again, and then refused");
        }
        assert_eq!(answered(HookEvent::Publish)["code"], 0);
        assert_eq!(answered(HookEvent::StreamNotFound)["code"], 0);
        assert_eq!(answered(HookEvent::StreamNoneReader), json!({"code": 0, "close": false}));
        for event in [HookEvent::Play, HookEvent::RtspAuth, HookEvent::ShellLogin, HookEvent::Other] {
            assert_eq!(answered(event)["code"], -1, "{event}");
        }
        assert_eq!(answered(HookEvent::RtspRealm)["realm"], "storage-guard", "a login is asked for, and then denied");
        assert_eq!(answered(HookEvent::HttpAccess)["err"], SILENT);
    }

    #[test]
    fn every_answer_that_may_be_chosen_has_a_form() {
        for event in HookEvent::ALL.iter().filter(|event| event.asks()) {
            let [allow, deny] = [RelayDefault::Allow, RelayDefault::Deny].map(|answer| ours(*event, answer));
            assert!(code(&allow) == Some(0) && code(&deny).is_some(), "{event}");
            assert_ne!(allow, deny, "{event}");
            assert_eq!(allow, ours(*event, RelayDefault::Keep));
            assert_eq!(deny, ours(*event, RelayDefault::Close));
        }
    }

    #[test]
    fn only_json_with_an_integer_code_is_an_answer() {
        for (body, expected) in [
            (r#"{"code":0}"#, Some(0)),
            (" {\n\"code\": -1, \"msg\": \"no\"}\n", Some(-1)),
            (r#"{"code":"0"}"#, None),
            (r#"{"code":0.5}"#, None),
            ("{}", None),
            ("", None),
            ("<html>", None),
            ("[0]", None),
        ] {
            assert_eq!(code(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn a_stream_that_is_not_to_be_recorded_is_published_all_the_same() {
        let merged = |body: &str| without_recording(body.as_bytes()).map(|body| String::from_utf8(body).unwrap());
        let read = |body: &str| serde_json::from_str::<Value>(&merged(body).unwrap()).unwrap();
        let answer = r#"{"code":0,"enable_mp4":true,"mp4_max_second":300}"#;
        assert_eq!(read(answer), json!({"code": 0, "enable_mp4": false, "mp4_max_second": 300}));
        assert_eq!(read(SUCCESS), json!({"code": 0, "msg": "success", "enable_mp4": false}));
        assert_eq!(merged(r#"{"code":-1,"msg":"no"}"#), None);
        assert_eq!(merged("nonsense"), None);
    }
}
