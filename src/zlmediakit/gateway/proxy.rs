//! Passes a request to the media server, and its answer back, as they come.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{Method, StatusCode, Uri};
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::upgrade::{OnUpgrade, on};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy, split};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::debug;

use super::answer::fault;
use super::call::controls;

/// How long the media server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a WebSocket lasts after one side has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// What belongs to one connection and is not passed on (RFC 9110, 7.6.1), besides what `Connection` names.
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
/// The one protocol that a connection may change to. Another, such as HTTP/2, would carry requests that nobody has read.
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// Why an address is none that requests can be passed to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the gateway speaks plain HTTP to the media server, and `api` is another address; give it as `http://host:port`"
)]
pub struct BadUpstream;

/// The media server's HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Host and port.
    authority: String,
    /// What stands before each path.
    prefix: String,
}

/// Why a request was not answered by the media server.
#[derive(Debug)]
pub(super) struct Fault {
    status: StatusCode,
    msg: String,
}

impl Fault {
    pub(super) fn bad(msg: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, msg: msg.into() }
    }

    fn unanswered(msg: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_GATEWAY, msg: msg.into() }
    }

    /// It was the media server that failed.
    pub(super) fn is_theirs(&self) -> bool {
        self.status == StatusCode::BAD_GATEWAY
    }

    pub(super) fn msg(&self) -> &str {
        &self.msg
    }

    pub(super) fn answer(&self) -> Response {
        fault(self.status, &self.msg)
    }
}

impl Upstream {
    /// The media server at an address of the configuration.
    ///
    /// # Errors
    /// If it is not plain HTTP.
    pub fn new(api: &str) -> Result<Self, BadUpstream> {
        let uri: Uri = api.trim().parse().map_err(|_| BadUpstream)?;
        if uri.scheme_str() != Some("http") || uri.query().is_some() {
            return Err(BadUpstream);
        }
        let authority = uri.authority().ok_or(BadUpstream)?;
        if authority.as_str().contains('@') {
            return Err(BadUpstream);
        }
        let authority = match authority.port_u16() {
            Some(_) => authority.to_string(),
            None => format!("{}:80", authority.host()),
        };
        Ok(Self { authority, prefix: uri.path().trim_end_matches('/').to_owned() })
    }

    /// Passes a request on, and gives the answer.
    pub(super) async fn pass(&self, mut request: Request) -> Result<Response, Fault> {
        let tunnel = match wants_tunnel(&request)? {
            true => Some(on(&mut request)),
            false => None,
        };
        framed(&request)?;
        let (mut parts, body) = request.into_parts();
        parts.uri = self.uri(&parts.uri)?;
        parts.version = http::Version::HTTP_11;
        strip(&mut parts.headers);
        match tunnel {
            Some(_) => upgrading(&mut parts.headers),
            // The media server closes connections after some of its answers without saying so; none is used twice.
            None => drop(parts.headers.insert(CONNECTION, HeaderValue::from_static("close"))),
        }
        self.exchange(Request::from_parts(parts, body), tunnel).await
    }

    async fn exchange(&self, request: Request, tunnel: Option<OnUpgrade>) -> Result<Response, Fault> {
        let silent = |error: &dyn std::fmt::Display| {
            Fault::unanswered(format!("the media server at {} does not answer: {error}", self.authority))
        };
        let stream = self.connect().await.map_err(|error| silent(&error))?;
        let handshake = http1::Builder::new().preserve_header_case(true).handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(|error| silent(&error))?;
        let driver = Driver(tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                debug!(%error, "A connection to the media server broke.");
            }
        }));
        let mut response = sender.send_request(request).await.map_err(|error| silent(&error))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let websocket = response.headers().get(UPGRADE).is_some_and(|to| is_websocket(to.as_bytes()));
            let Some(theirs) = tunnel.filter(|_| websocket) else {
                return Err(Fault::unanswered("the media server changes to a protocol that nobody asked for"));
            };
            let ours = on(&mut response);
            tokio::spawn(join(theirs, ours, driver));
            let (mut parts, _) = response.into_parts();
            strip(&mut parts.headers);
            upgrading(&mut parts.headers);
            return Ok(Response::from_parts(parts, Body::new(NoBody)));
        }
        let (mut parts, body) = response.into_parts();
        strip(&mut parts.headers);
        parts.version = http::Version::HTTP_11;
        Ok(Response::from_parts(parts, Body::new(Passing { body, _driver: driver })))
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = match timeout(CONNECT, TcpStream::connect(&self.authority)).await {
            Ok(stream) => stream?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        stream.set_nodelay(true)?;
        rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
        Ok(stream)
    }

    fn uri(&self, asked: &Uri) -> Result<Uri, Fault> {
        let path = asked.path_and_query().map_or("/", |path| path.as_str());
        format!("{}{path}", self.prefix).parse().map_err(|_| Fault::bad("the path cannot be passed on"))
    }
}

/// The form of a request: a path, one host, and nothing that two programs read in two ways (fault 101).
pub(super) fn well_formed(request: &Request) -> Result<(), Fault> {
    let uri = request.uri();
    if uri.scheme().is_some() || uri.authority().is_some() || !uri.path().starts_with('/') {
        return Err(Fault::bad("give a path only; the gateway stands for one media server"));
    }
    if controls(uri.path()) {
        return Err(Fault::bad("the path holds control characters"));
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    if hosts.next().is_some() && hosts.next().is_some() {
        return Err(Fault::bad("`Host` is given twice; give it once"));
    }
    Ok(())
}

/// How long the body is must be clear to the media server too. A body without a length it takes for further requests, unless the method
/// is POST.
fn framed(request: &Request) -> Result<(), Fault> {
    let headers = request.headers();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next();
    if coding.is_some() && headers.contains_key(CONTENT_LENGTH) {
        return Err(Fault::bad("give `Content-Length` or `Transfer-Encoding`, not both"));
    }
    if codings.next().is_some() || coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(Fault::bad("the only `Transfer-Encoding` of a request is `chunked`"));
    }
    let length =
        headers.get(CONTENT_LENGTH).map(|length| length.to_str().ok().and_then(|text| text.parse::<i64>().ok()));
    if length == Some(None) {
        return Err(Fault::bad("`Content-Length` is no length"));
    }
    if coding.is_some() && request.method() != Method::POST {
        let msg = "a body without `Content-Length` is passed on with POST only";
        return Err(Fault { status: StatusCode::LENGTH_REQUIRED, msg: msg.to_owned() });
    }
    Ok(())
}

/// Whether a connection is to become a WebSocket. With a body it never does: the media server would read what follows as requests.
fn wants_tunnel(request: &Request) -> Result<bool, Fault> {
    let headers = request.headers();
    if !headers.contains_key(SEC_WEBSOCKET_KEY) {
        return Ok(false);
    }
    let empty =
        headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0") && !headers.contains_key(TRANSFER_ENCODING);
    if !empty || request.method() != Method::GET {
        return Err(Fault::bad("a WebSocket begins with GET and without a body"));
    }
    let mut wanted = headers.get_all(UPGRADE).iter();
    let websocket = wanted.next().is_some_and(|to| is_websocket(to.as_bytes())) && wanted.next().is_none();
    let named = named_by_connection(headers).any(|name| name == UPGRADE);
    if !websocket || !named || request.version() != http::Version::HTTP_11 {
        return Err(Fault::bad("a WebSocket begins with `Connection: Upgrade` and `Upgrade: websocket`, in HTTP/1.1"));
    }
    Ok(true)
}

fn is_websocket(protocol: &[u8]) -> bool {
    protocol.trim_ascii().eq_ignore_ascii_case(WEBSOCKET.as_bytes())
}

/// The headers that `Connection` names.
fn named_by_connection(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
}

/// Takes off what belongs to one connection.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = named_by_connection(headers).collect();
    // The length is the message's own, whoever names it.
    for name in named.into_iter().chain(HOP_BY_HOP).filter(|name| *name != CONTENT_LENGTH) {
        headers.remove(name);
    }
}

fn upgrading(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, WEBSOCKET);
}

/// Carries bytes between two connections that became a WebSocket. Once one side has ended, the other has a moment for its last words.
async fn join(theirs: OnUpgrade, ours: OnUpgrade, driver: Driver) {
    let (Ok(theirs), Ok(ours)) = tokio::join!(theirs, ours) else { return };
    let (from_client, to_client) = split(TokioIo::new(theirs));
    let (from_server, to_server) = split(TokioIo::new(ours));
    let (mut up, mut down) = (pin!(carry(from_client, to_server)), pin!(carry(from_server, to_client)));
    // Past its time the rest is dropped, and with it both connections.
    let _ = tokio::select! {
        () = &mut up => timeout(LAST_WORDS, down).await,
        () = &mut down => timeout(LAST_WORDS, up).await,
    };
    drop(driver);
}

/// Carries the bytes of one direction to their end, and says that it is the end.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let carried = copy(&mut from, &mut to).await;
    if let Err(error) = carried.map(|_| ()).and(to.shutdown().await) {
        debug!(%error, "A WebSocket broke.");
    }
}

/// The task that drives a connection to the media server; ends with it, so that a client that leaves takes its stream along.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The body of an answer, as it arrives. It claims no length of its own: the headers have the media server's.
struct Passing {
    body: Incoming,
    _driver: Driver,
}

impl hyper::body::Body for Passing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Nothing, without saying so: an answer that changes the protocol bears no length.
struct NoBody;

impl hyper::body::Body for NoBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_server_is_at_a_plain_address() {
        for (api, expected) in [
            ("http://127.0.0.1:8080", Some(("127.0.0.1:8080", ""))),
            ("http://zlm", Some(("zlm:80", ""))),
            ("http://zlm/behind/", Some(("zlm:80", "/behind"))),
            ("http://[::1]:80", Some(("[::1]:80", ""))),
            ("https://zlm", None),
            ("zlm:80", None),
            ("http://user:password@zlm", None),
            ("http://zlm/?a=b", None),
        ] {
            let read = Upstream::new(api).ok();
            let read = read.as_ref().map(|upstream| (upstream.authority.as_str(), upstream.prefix.as_str()));
            assert_eq!(read, expected, "{api}");
        }
    }

    fn request(method: &str, headers: &[(&str, &str)]) -> Request {
        let mut builder = http::Request::builder().method(method).uri("/live/cam.flv");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(Body::empty()).unwrap()
    }

    #[test]
    fn what_belongs_to_one_connection_stays_there() {
        let given = [
            ("Connection", "close, X-Mine, content-length"),
            ("X-Mine", "1"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "gzip"),
            ("Upgrade", "h2c"),
            ("Proxy-Connection", "x"),
            ("X-Yours", "2"),
            ("Content-Length", "0"),
            ("Host", "zlm:80"),
        ];
        let mut headers = request("GET", &given).headers().clone();
        strip(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "x-yours"]);
    }

    /// Fault 101.
    #[test]
    fn a_body_has_one_length_that_both_sides_read_alike() {
        let check = |method: &str, headers: &[(&str, &str)], expected: Option<u16>| {
            let status = framed(&request(method, headers)).err().map(|fault| fault.status.as_u16());
            assert_eq!(status, expected, "{method} {headers:?}");
        };
        check("GET", &[], None);
        check("PUT", &[("Content-Length", "5")], None);
        check("POST", &[("Transfer-Encoding", "Chunked")], None);
        check("GET", &[("Transfer-Encoding", "chunked")], Some(411));
        check("PUT", &[("Transfer-Encoding", "chunked")], Some(411));
        check("POST", &[("Transfer-Encoding", "chunked"), ("Content-Length", "5")], Some(400));
        check("POST", &[("Transfer-Encoding", "gzip, chunked")], Some(400));
        check("POST", &[("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")], Some(400));
        check("POST", &[("Content-Length", "18446744073709551613")], Some(400));
    }

    #[test]
    fn only_a_websocket_changes_the_protocol() {
        let check = |method: &str, more: &[(&str, &str)], expected: Option<bool>| {
            let headers = [&[("Sec-WebSocket-Key", "x")], more].concat();
            assert_eq!(wants_tunnel(&request(method, &headers)).ok(), expected, "{method} {more:?}");
        };
        let fine = [("Connection", "keep-alive, Upgrade"), ("Upgrade", "WebSocket")];
        check("GET", &fine, Some(true));
        check("POST", &fine, None);
        check("GET", &[fine[0], fine[1], ("Content-Length", "3")], None);
        check("GET", &[fine[0], ("Upgrade", "h2c")], None);
        check("GET", &[fine[0], fine[1], ("Upgrade", "h2c")], None);
        check("GET", &[fine[1]], None);
        check("GET", &[], None);
        assert_eq!(wants_tunnel(&request("GET", &[("Connection", "Upgrade"), ("Upgrade", "h2c")])).ok(), Some(false));
    }
}
