//! Receives a media server's hooks: `POST /index/hook/{event}`.
//!
//! Events that tell are durable before they are answered. Events that ask are answered at once, and never wait for the store. A hook is
//! a hint: it opens no file, deletes nothing, and its paths are only ever compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Router, body::Bytes};
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;
use tokio::time::timeout;

use super::answers::{SUCCESS, ours, refusal, usual, without_recording};
use super::hook_store::HookStore;
use super::recorded::recorded;
use crate::domain::event::Event;
use crate::domain::media::{HookEvent, HookResult, HookSettings};
use crate::domain::names::MediaServerId;
use crate::system::Clock;

/// Bytes of a hook: the longest is `on_server_started`, with some ten thousand.
const BODY: usize = 256 << 10;
/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);
/// Letters of an event's name.
const NAME: usize = 64;
/// Between two remarks about hooks that were not taken.
const REMARK: Duration = Duration::from_secs(60);

/// Hears what events tell: the media server, the event, its body. It may hear the same twice, and must not make anybody wait.
pub type Told = Arc<dyn Fn(&MediaServerId, HookEvent, &Value) + Send + Sync>;

/// Whether a stream (`app`, `stream`) of a media server may be recorded now.
pub type MayRecord = Arc<dyn Fn(&MediaServerId, &str, &str) -> bool + Send + Sync>;

/// What the listener of one media server works with.
pub struct HookApp {
    /// The media server: its hooks bear this name.
    pub media_server: MediaServerId,
    /// What the configuration says of them; a reload replaces it.
    pub settings: Arc<ArcSwap<HookSettings>>,
    /// Where they are kept.
    pub store: HookStore,
    /// Who hears what they tell.
    pub told: Told,
    /// Who knows which streams may be recorded.
    pub may_record: MayRecord,
    /// Where events of ours go.
    pub events: Arc<dyn Fn(Event) + Send + Sync>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The addresses of a media server's hooks.
pub fn hook_router(app: HookApp) -> Router {
    let app = Arc::new(Listener { app, remarked: AtomicU64::new(0) });
    let unknown = || async { answer(StatusCode::NOT_FOUND, refusal("hooks are sent to /index/hook/EVENT")) };
    Router::new().route("/index/hook/{event}", post(hook)).fallback(unknown).with_state(app)
}

struct Listener {
    app: HookApp,
    /// When a hook that was not taken was last remarked on, in milliseconds since boot.
    remarked: AtomicU64,
}

/// A JSON answer.
fn answer(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

fn success() -> Response {
    answer(StatusCode::OK, SUCCESS)
}

async fn hook(State(listener): State<Arc<Listener>>, Path(name): Path<String>, request: Request) -> Response {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || name.len() > NAME || !name.bytes().all(plain) {
        listener.count(HookEvent::Other, HookResult::Rejected);
        return answer(StatusCode::NOT_FOUND, refusal("an event is named by letters, digits and `_`"));
    }
    let event = HookEvent::from_word(&name).unwrap_or(HookEvent::Other);
    let refused = |status, why: &str| {
        listener.reject(event, why);
        answer(status, refusal(why))
    };
    let bytes = match receive(request.into_body()).await {
        Ok(bytes) => bytes,
        Err((status, why)) => return refused(status, why),
    };
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(body) if body.is_object() => listener.take(event, &body).await,
        Ok(_) => refused(StatusCode::BAD_REQUEST, "the body of a hook must be a JSON object"),
        Err(_) => refused(StatusCode::BAD_REQUEST, "the body of a hook must be JSON, nested no deeper than 128 levels"),
    }
}

/// Reads a body, within its limits of bytes and time.
async fn receive(body: Body) -> Result<Bytes, (StatusCode, &'static str)> {
    match timeout(ARRIVAL, Limited::new(body, BODY).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err((StatusCode::PAYLOAD_TOO_LARGE, "the body of a hook holds at most 256 KiB"))
        }
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "the body of the hook did not arrive whole")),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body of the hook did not arrive in time")),
    }
}

impl Listener {
    fn count(&self, event: HookEvent, result: HookResult) {
        (self.app.events)(Event::Hooked { media_server: self.app.media_server.clone(), event, result, count: 1 });
    }

    /// A hook was not taken: it is counted, and the log says why, once a minute.
    fn reject(&self, event: HookEvent, why: &str) {
        self.count(event, HookResult::Rejected);
        let now = u64::try_from(self.app.clock.boottime().as_millis()).unwrap_or(u64::MAX);
        let last = self.remarked.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= u64::try_from(REMARK.as_millis()).unwrap_or(u64::MAX);
        if due && self.remarked.compare_exchange(last, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let text = format!("a hook `{event}` for media server `{}` was not taken: {why}", self.app.media_server);
            (self.app.events)(Event::Remark { text, urgent: false });
        }
    }

    async fn take(&self, event: HookEvent, body: &Value) -> Response {
        if event.asks() { self.asked(event, body) } else { self.told(event, body).await }
    }

    /// Something waits for the answer.
    fn asked(&self, event: HookEvent, body: &Value) -> Response {
        let settings = self.app.settings.load();
        let chosen = settings.relay_default.get(&event).copied().unwrap_or_else(|| usual(event));
        self.count(event, HookResult::RelayFailed);
        let ours = ours(event, chosen);
        answer(StatusCode::OK, self.switched(event, body, &ours).unwrap_or(ours))
    }

    /// The answer with recording switched off, where that is so now and the event is about it.
    fn switched(&self, event: HookEvent, body: &Value, answer: &[u8]) -> Option<Vec<u8>> {
        if event != HookEvent::Publish {
            return None;
        }
        let (app, stream) = (body.get("app")?.as_str()?, body.get("stream")?.as_str()?);
        if (self.app.may_record)(&self.app.media_server, app, stream) {
            return None;
        }
        without_recording(answer)
    }

    /// What is told is taken whole, or not at all.
    async fn told(&self, event: HookEvent, body: &Value) -> Response {
        // What another media server tells is no business of this listener. It is told so once: it must not ask again for ever.
        let ours = self.app.media_server.as_str();
        if body.get("mediaServerId").and_then(Value::as_str) != Some(ours) {
            let why = format!("its `mediaServerId` is not `{ours}`, and hooks are taken of that one only");
            self.reject(event, &why);
            return answer(StatusCode::OK, refusal(&why));
        }
        (self.app.told)(&self.app.media_server, event, body);
        let record = match event {
            HookEvent::RecordMp4 | HookEvent::RecordTs => match recorded(body) {
                Ok(record) => record,
                Err(why) => {
                    self.reject(event, &why);
                    return answer(StatusCode::OK, refusal(&why));
                }
            },
            HookEvent::ServerStarted
            | HookEvent::ServerExited
            | HookEvent::ServerKeepalive
            | HookEvent::StreamChanged
            | HookEvent::FlowReport
            | HookEvent::SendRtpStopped => {
                self.count(event, HookResult::Stored);
                return success();
            }
            HookEvent::Publish
            | HookEvent::Play
            | HookEvent::RtspAuth
            | HookEvent::RtspRealm
            | HookEvent::StreamNotFound
            | HookEvent::StreamNoneReader
            | HookEvent::HttpAccess
            | HookEvent::ShellLogin
            | HookEvent::RtpServerTimeout
            | HookEvent::Other => return self.asked(event, body),
        };
        match self.app.store.keep(record).await {
            Ok(new) => {
                self.count(event, if new { HookResult::Stored } else { HookResult::Duplicate });
                success()
            }
            Err(unkept) => {
                let why = unkept.to_string();
                self.reject(event, &why);
                answer(StatusCode::SERVICE_UNAVAILABLE, refusal(&why))
            }
        }
    }
}
