//! What becomes of each call.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{CONTENT_LENGTH, SEC_WEBSOCKET_KEY};
use http::request::Parts;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Bytes;
use serde_json::Value;
use tokio::time::timeout;

use super::answer::{Answer, answered, not_allowed, refused};
use super::arguments::Arguments;
use super::asked::Asked;
use super::call::{Call, call};
use super::proxy::{Fault, Upstream, well_formed};
use crate::domain::media::GatewayResult;
use crate::domain::secret::Secret;

/// Bytes of the body of a deletion.
const BODY: usize = 64 << 10;
/// Bytes of the media server's answer to one.
const ANSWER: usize = 64 << 10;
/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);

/// A future of an answer.
pub type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;
/// A call that is passed to the media server when it is awaited; gives the `code` of its answer.
pub type Passing = Pin<Box<dyn Future<Output = Result<i64, String>> + Send>>;

/// What the gateway asks of the daemon.
pub trait Deleter: Send + Sync {
    /// Carries a deletion out, within the time that it may take; where the trees are only observed, lets the media server do it and looks
    /// what became of the files.
    fn delete(self: Arc<Self>, asked: Asked, pass: Passing) -> Answering;
    /// A call came to its end.
    fn counted(&self, result: GatewayResult);
}

/// The media server that a gateway stands before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fronted {
    /// Its API.
    pub upstream: Upstream,
    /// Its secret, which deletions must give.
    pub secret: Secret,
}

#[derive(Clone)]
struct Gateway {
    fronted: Arc<ArcSwap<Fronted>>,
    deleter: Arc<dyn Deleter>,
}

/// Makes the router of a gateway. What it stands before may be another from one request to the next.
pub fn gateway_router(fronted: Arc<ArcSwap<Fronted>>, deleter: Arc<dyn Deleter>) -> Router {
    Router::new().fallback(handle).with_state(Gateway { fronted, deleter })
}

async fn handle(State(gateway): State<Gateway>, request: Request) -> Response {
    let fronted = gateway.fronted.load_full();
    let (result, response) = gateway.answer(&fronted, request).await;
    gateway.deleter.counted(result);
    response
}

impl Gateway {
    async fn answer(&self, fronted: &Arc<Fronted>, request: Request) -> (GatewayResult, Response) {
        if let Err(fault) = well_formed(&request) {
            return (GatewayResult::Refused, fault.answer());
        }
        match call(request.uri().path()) {
            Call::Theirs => pass(fronted, request).await,
            // Nothing is asked for by it; a browser sends it before the call itself.
            Call::Deletion if request.method() == Method::OPTIONS => pass(fronted, request).await,
            Call::Deletion => self.delete(fronted, request).await,
            Call::Unclear => {
                let msg = "the path could mean `/index/api/deleteRecordDirectory`; write it so";
                (GatewayResult::Refused, refused(msg))
            }
        }
    }

    async fn delete(&self, fronted: &Arc<Fronted>, request: Request) -> (GatewayResult, Response) {
        let (parts, body) = request.into_parts();
        let body = match collect(body).await {
            Ok(body) => body,
            Err(fault) => return (GatewayResult::Refused, fault.answer()),
        };
        let given = Arguments::gather(parts.uri.query(), &parts.headers, &body);
        if !given.allowed(&fronted.secret) {
            return (GatewayResult::Denied, not_allowed(&cookie()));
        }
        let asked = match understood(&parts, &given) {
            Ok(asked) => asked,
            Err(msg) => return (GatewayResult::Refused, refused(&msg)),
        };
        let pass = Box::pin(pass_on(fronted.clone(), parts, body));
        let answer = self.deleter.clone().delete(asked, pass).await;
        let result = match answer.code() {
            0 => GatewayResult::Done,
            1 => GatewayResult::Working,
            _ => GatewayResult::Failed,
        };
        (result, answered(&answer))
    }
}

async fn pass(fronted: &Fronted, request: Request) -> (GatewayResult, Response) {
    match fronted.upstream.pass(request).await {
        Ok(response) => (GatewayResult::Passed, response),
        Err(fault) if fault.is_theirs() => (GatewayResult::Unanswered, fault.answer()),
        Err(fault) => (GatewayResult::Refused, fault.answer()),
    }
}

/// What is asked for, if that is clear.
fn understood(parts: &Parts, given: &Arguments) -> Result<Asked, String> {
    // The media server carries calls out with these methods, and with two more that nobody uses for it.
    if parts.method != Method::GET && parts.method != Method::POST {
        return Err("a deletion is asked for by GET or POST".to_owned());
    }
    if parts.headers.contains_key(SEC_WEBSOCKET_KEY) {
        return Err("a deletion begins no WebSocket".to_owned());
    }
    if let Some(why) = given.objection() {
        return Err(why.to_owned());
    }
    Asked::of(given)
}

/// Reads a body to its end.
async fn collect(body: Body) -> Result<Bytes, Fault> {
    match timeout(ARRIVAL, Limited::new(body, BODY).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(_)) => Err(Fault::bad(format!("the body is broken, or longer than {BODY} bytes"))),
        Err(_) => Err(Fault::bad(format!("the body did not arrive within {} s", ARRIVAL.as_secs()))),
    }
}

/// Lets the media server carry a deletion out, whose arguments were validated.
async fn pass_on(fronted: Arc<Fronted>, mut parts: Parts, body: Bytes) -> Result<i64, String> {
    // It was read whole, however it came.
    parts.headers.remove(http::header::TRANSFER_ENCODING);
    parts.headers.insert(CONTENT_LENGTH, body.len().into());
    let response = fronted.upstream.pass(Request::from_parts(parts, Body::from(body))).await;
    let response = response.map_err(|fault| fault.msg().to_owned())?;
    if response.status() != StatusCode::OK {
        return Err(format!("the media server answers with HTTP {}", response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), ANSWER).collect().await;
    let body = body.map_err(|_| "the media server's answer is broken".to_owned())?.to_bytes();
    let answer: Value = serde_json::from_slice(&body).map_err(|_| "the media server's answer is no JSON".to_owned())?;
    answer["code"].as_i64().ok_or_else(|| "the media server's answer has no `code`".to_owned())
}

/// What the media server makes up for a login: it stands in the answer, and is of no use here.
fn cookie() -> String {
    format!("{:032x}", fastrand::u128(..))
}
