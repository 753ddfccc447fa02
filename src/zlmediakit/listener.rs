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
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;
use tokio::time::timeout;

use super::answers::{SUCCESS, ours, refusal, usual, without_recording};
use super::courier::Outlet;
use super::hook_store::HookStore;
use super::live::names_of;
use super::platform::{Relayed, handed_on, lines_of};
use super::recorded::recorded;
use super::scrub::scrub;
use crate::domain::event::Event;
use crate::domain::live::StreamTuple;
use crate::domain::media::{HookEvent, HookResult};
use crate::domain::names::MediaServerId;
use crate::store::{Outgoing, ToldHook};
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

/// Whether a stream of a media server may be recorded now.
pub type MayRecord = Arc<dyn Fn(&MediaServerId, &StreamTuple) -> bool + Send + Sync>;

/// What the listener of one media server works with.
pub struct HookApp {
    /// The media server: its hooks bear this name.
    pub media_server: MediaServerId,
    /// What the configuration says of them, and the platform that they are relayed to; a reload replaces it.
    pub relayed: Arc<ArcSwap<Relayed>>,
    /// Who delivers what is told.
    pub outlet: Arc<Outlet>,
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
    let (parts, body) = request.into_parts();
    let bytes = match receive(body).await {
        Ok(bytes) => bytes,
        Err((status, why)) => return refused(status, why),
    };
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(body) if body.is_object() => {
            let hook = Hook { name, event, headers: parts.headers, bytes, body };
            if event.asks() { listener.asked(&hook).await } else { listener.told(hook).await }
        }
        Ok(_) => refused(StatusCode::BAD_REQUEST, "the body of a hook must be a JSON object"),
        Err(_) => refused(StatusCode::BAD_REQUEST, "the body of a hook must be JSON, nested no deeper than 128 levels"),
    }
}

/// A hook that was read.
struct Hook {
    /// Its event's name as it came.
    name: String,
    event: HookEvent,
    headers: HeaderMap,
    bytes: Bytes,
    body: Value,
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

    /// A hook was not taken: it is counted, and the log says why.
    fn reject(&self, event: HookEvent, why: &str) {
        self.count(event, HookResult::Rejected);
        self.remark(|server| format!("a hook `{event}` for media server `{server}` was not taken: {why}"));
    }

    /// The log says something, once a minute.
    fn remark(&self, text: impl FnOnce(&MediaServerId) -> String) {
        let now = u64::try_from(self.app.clock.boottime().as_millis()).unwrap_or(u64::MAX);
        let last = self.remarked.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= u64::try_from(REMARK.as_millis()).unwrap_or(u64::MAX);
        if due && self.remarked.compare_exchange(last, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            (self.app.events)(Event::Remark { text: text(&self.app.media_server), urgent: false });
        }
    }

    /// Something waits for the answer: the platform's own, or what stands for it while it is silent.
    async fn asked(&self, hook: &Hook) -> Response {
        let relayed = self.app.relayed.load_full();
        let asked = match &relayed.platform {
            Some(platform) => platform.ask(&hook.name, &handed_on(&hook.headers), &hook.bytes).await,
            None => Err("no `hooks.relay` is configured".to_owned()),
        };
        match asked {
            Ok(answered) => {
                self.count(hook.event, HookResult::Relayed);
                // It may have been away.
                self.app.outlet.answers();
                let body = self.switched(hook, &answered.body).map_or(answered.body, Bytes::from);
                let mut response = Response::new(Body::from(body));
                *response.status_mut() = answered.status;
                if let Some(kind) = answered.kind {
                    response.headers_mut().insert(header::CONTENT_TYPE, kind);
                }
                response
            }
            Err(why) => {
                self.count(hook.event, HookResult::RelayFailed);
                let chosen = relayed.settings.relay_default.get(&hook.event).copied();
                let chosen = chosen.unwrap_or_else(|| usual(hook.event));
                self.remark(|server| {
                    format!("a hook `{}` of media server `{server}` is answered with `{chosen}`: {why}", hook.event)
                });
                let ours = ours(hook.event, chosen);
                answer(StatusCode::OK, self.switched(hook, &ours).unwrap_or(ours))
            }
        }
    }

    /// The answer with recording switched off, where that is so now and the event is about it.
    fn switched(&self, hook: &Hook, answer: &[u8]) -> Option<Vec<u8>> {
        if hook.event != HookEvent::Publish {
            return None;
        }
        if (self.app.may_record)(&self.app.media_server, &names_of(&hook.body)?) {
            return None;
        }
        without_recording(answer)
    }

    /// What is told is taken whole, or not at all.
    async fn told(&self, hook: Hook) -> Response {
        let Hook { event, headers, bytes, mut body, .. } = hook;
        // What another media server tells is no business of this listener. It is told so once: it must not ask again for ever.
        let ours = self.app.media_server.as_str();
        if body.get("mediaServerId").and_then(Value::as_str) != Some(ours) {
            let why = format!("its `mediaServerId` is not `{ours}`, and hooks are taken of that one only");
            self.reject(event, &why);
            return answer(StatusCode::OK, refusal(&why));
        }
        (self.app.told)(&self.app.media_server, event, &body);
        let relays = self.app.relayed.load().platform.is_some();
        let tells_of_a_recording = matches!(event, HookEvent::RecordMp4 | HookEvent::RecordTs);
        let record = match tells_of_a_recording.then(|| recorded(&body)).transpose() {
            Ok(record) => record,
            // It is no record for us; what its platform makes of it is its own business.
            Err(_) if relays => None,
            Err(why) => {
                self.reject(event, &why);
                return answer(StatusCode::OK, refusal(&why));
            }
        };
        let (mut outgoing, mut original) = (None, None);
        if relays {
            let stream = tells_of_a_recording.then(|| stream_of(&body));
            let kept = if scrub(&mut body) {
                original = Some(bytes);
                body.to_string().into_bytes()
            } else {
                bytes.to_vec()
            };
            let headers = lines_of(&handed_on(&headers));
            let media_server = self.app.media_server.clone();
            outgoing = Some(Outgoing { media_server, event, stream, headers, body: kept });
        }
        if record.is_none() && outgoing.is_none() {
            // It says how things stand, which was heard: there is nothing to keep.
            self.count(event, HookResult::Stored);
            return success();
        }
        match self.app.store.keep(ToldHook { record, outgoing }, original).await {
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

/// `app/stream` of a body.
fn stream_of(body: &Value) -> String {
    let word = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}", word("app"), word("stream"))
}
