//! Hooks as ZLMediaKit sends them: a connection for each, one retry, and then nobody ever hears of it again.

use std::time::Duration;

use super::Shared;
use super::captures::{capture, filled, quoted};
use crate::support::pause;
use crate::support::wire::{Answer, Caller};

/// The events for which it can be told where they go.
pub(crate) const EVENTS: [&str; 17] = [
    "on_flow_report",
    "on_http_access",
    "on_play",
    "on_publish",
    "on_record_mp4",
    "on_record_ts",
    "on_rtp_server_timeout",
    "on_rtsp_auth",
    "on_rtsp_realm",
    "on_send_rtp_stopped",
    "on_server_exited",
    "on_server_keepalive",
    "on_server_started",
    "on_shell_login",
    "on_stream_changed",
    "on_stream_none_reader",
    "on_stream_not_found",
];

/// A hook that was sent, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) event: String,
    /// As it was sent the last time.
    pub(crate) body: String,
    pub(crate) attempts: u32,
    /// The last answer, if there was one.
    pub(crate) answer: Option<Answer>,
    /// It was answered as it must be: 200, and JSON with a whole number as `code`. Otherwise it is lost for ever.
    pub(crate) delivered: bool,
}

impl Sent {
    /// What the answer says; nothing if it was not answered as it must be.
    pub(crate) fn said(&self) -> Option<serde_json::Value> {
        self.answer.as_ref().filter(|_| self.delivered).map(Answer::json)
    }
}

impl Shared {
    /// Sends the hook of a capture, such as `on_record_mp4` or `on_stream_changed_regist_rtmp`, with changed values, and waits for what
    /// comes of it. Where the event goes nowhere, nothing comes of it.
    pub(super) fn hook(&self, name: &str, values: &[(&str, String)]) -> Option<Sent> {
        let text = filled(&capture(&format!("hook_{name}.json")), values);
        let event = EVENTS.iter().find(|event| name.starts_with(**event)).unwrap();
        self.send(event, &text)
    }

    /// The same for a body that is ready but for the counter, and the server's id.
    pub(super) fn send(&self, event: &str, text: &str) -> Option<Sent> {
        let url = self.setting(&format!("hook.{event}"));
        if url.is_empty() {
            return None;
        }
        let mut sent =
            Sent { event: event.to_owned(), body: String::new(), attempts: 0, answer: None, delivered: false };
        let (retries, delay, within) = self.patience();
        while sent.attempts <= retries && !sent.delivered {
            if sent.attempts > 0 {
                pause(delay);
            }
            sent.attempts += 1;
            // A retry is counted anew.
            let id = quoted(&self.setting("general.mediaServerId"));
            let counted = [("hook_index", self.next_hook().to_string()), ("mediaServerId", id)];
            sent.body = filled(text, &counted);
            sent.answer = self.post(&url, &sent.body, within);
            sent.delivered = sent.answer.as_ref().is_some_and(answered);
        }
        self.sent.lock().unwrap().push(sent.clone());
        Some(sent)
    }

    fn patience(&self) -> (u32, Duration, Duration) {
        let seconds = |key: &str| Duration::from_secs_f64(self.setting(key).parse().unwrap());
        (self.setting("hook.retry").parse().unwrap(), seconds("hook.retry_delay"), seconds("hook.timeoutSec"))
    }

    fn post(&self, url: &str, body: &str, within: Duration) -> Option<Answer> {
        let (host, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).unwrap();
        let port = host.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap();
        let vhost = body.lines().find_map(|line| line.strip_prefix("\t\"vhost\" : "));
        let vhost = vhost.map_or_else(String::new, |vhost| format!("X-VHOST: {}\r\n", vhost.trim_matches('"')));
        let head = format!(
            "POST /{path} HTTP/1.1\r\nAccept: */*\r\nAccept-Language: zh-CN,zh;q=0.8\r\nConnection: keep-alive\r\n\
             Content-Length: {}\r\nContent-Type: application/json\r\nHost: {host}\r\n\
             User-Agent: ZLMediaKit(git hash:fdaec26)\r\n{vhost}",
            body.len()
        );
        Caller::to(port, within).and_then(|mut caller| caller.call(&head, body.as_bytes())).ok()
    }
}

fn answered(answer: &Answer) -> bool {
    let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    answer.status == 200 && said["code"].is_i64()
}
