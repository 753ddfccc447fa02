//! What every request passes: its form, its origin, its caller, its body; and what every answer bears.

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{Method, Uri};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use tracing::{error, warn};

use super::auth::{Auth, Need};
use super::listen::{Limits, Peer};
use super::refusal::Refusal;
use super::throttle::Throttle;

/// What the gate needs to know.
pub(super) struct Gate {
    auth: Arc<Auth>,
    limits: Limits,
    told: Throttle,
}

impl Gate {
    pub(super) fn new(auth: Arc<Auth>, limits: Limits) -> Self {
        Self { auth, limits, told: Throttle::default() }
    }

    /// Logs a refusal; so many a minute for each address, so that nobody can fill a disk with them.
    fn tell(&self, peer: Option<&Peer>, method: &Method, uri: &Uri, refusal: &Refusal) {
        let address = match peer {
            Some(Peer::Tcp { remote, .. }) => remote.ip(),
            Some(Peer::Unix { .. }) | None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        if self.told.admit(address, self.auth.clock().boottime()) {
            let path: String = uri.path().chars().take(200).collect();
            let method: String = method.as_str().chars().take(20).collect();
            let peer = peer.map(ToString::to_string);
            warn!(peer, method, ?path, status = refusal.status, code = refusal.code, "A request was refused.");
        }
    }

    async fn admit(&self, request: Request) -> Result<Request, Refusal> {
        let (mut parts, body) = request.into_parts();
        let Some(peer) = parts.extensions.get::<Peer>().cloned() else {
            error!("A request came without its peer.");
            return Err(Refusal::internal());
        };
        well_formed(&parts.uri)?;
        let host = one_host(&parts.headers)?;
        let need = need(&parts.method, parts.uri.path());
        if need == Need::Changing && peer.over_loopback() && host.is_some_and(|host| !names_this_machine(host)) {
            let message = "over loopback, a change needs a `Host` that is an address or `localhost`";
            return Err(Refusal::new(403, "foreign_host", message));
        }
        let caller = self.auth.admit(&peer, &parts.headers, need)?;
        parts.extensions.insert(caller);
        let body = if need == Need::Changing { self.collect(body, self.most(parts.uri.path())).await? } else { body };
        Ok(Request::from_parts(parts, body))
    }

    /// How long a body may be.
    fn most(&self, path: &str) -> usize {
        if path == "/api/v1/deletions" {
            self.limits.paths_bytes.max(self.limits.body_bytes)
        } else {
            self.limits.body_bytes
        }
    }

    /// Reads a body to its end.
    async fn collect(&self, body: Body, most: usize) -> Result<Body, Refusal> {
        let too_large = || Refusal::new(413, "too_large", format!("the body may hold {most} bytes, and holds more"));
        if body.size_hint().lower() > u64::try_from(most).unwrap_or(u64::MAX) {
            return Err(too_large());
        }
        match tokio::time::timeout(self.limits.body_read, Limited::new(body, most).collect()).await {
            Ok(Ok(whole)) => Ok(Body::from(whole.to_bytes())),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(error)) => Err(Refusal::bad_request("bad_body", format!("the body cannot be read: {error}"))),
            Err(_) => {
                let seconds = self.limits.body_read.as_secs_f32();
                Err(Refusal::new(408, "too_slow", format!("the body did not arrive within {seconds} s")))
            }
        }
    }
}

/// Lets a request in, or answers why not.
pub(super) async fn gate(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let (peer, method, uri) =
        (request.extensions().get::<Peer>().cloned(), request.method().clone(), request.uri().clone());
    match gate.admit(request).await {
        Ok(request) => next.run(request).await,
        Err(refusal) => {
            gate.tell(peer.as_ref(), &method, &uri, &refusal);
            refusal.into_response()
        }
    }
}

/// Gives every answer the headers that keep browsers careful.
pub(super) async fn careful(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, HeaderValue); 5] = [
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    ];
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

/// The answer to a panic; the log has the rest.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    error!(error = said.unwrap_or("no text"), "A request met a fault of the guard.");
    Refusal::internal().into_response()
}

/// What a request needs. Whatever changes something, and whatever is not known to be harmless, needs an operator.
fn need(method: &Method, path: &str) -> Need {
    let reads = *method == Method::GET || *method == Method::HEAD;
    match path {
        "/metrics" => Need::Metrics,
        "/" | "/-/healthy" | "/-/ready" => Need::Nothing,
        _ if !reads => Need::Changing,
        _ if path.starts_with("/api/") => Need::Reading,
        _ => Need::Nothing,
    }
}

/// Only paths are asked for, and no control characters stand in them.
fn well_formed(uri: &Uri) -> Result<(), Refusal> {
    if uri.authority().is_some() || uri.scheme().is_some() {
        return Err(Refusal::bad_request("bad_path", "give a path only; this server is no proxy"));
    }
    let mut rest = uri.path().bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        match digit().zip(digit()) {
            None => {
                return Err(Refusal::bad_request("bad_path", "in the path, two hexadecimal digits must follow a `%`"));
            }
            Some((high, low)) if high < 2 || (high, low) == (7, 15) => {
                return Err(Refusal::bad_request("bad_path", "the path holds control characters"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn one_host(headers: &http::HeaderMap) -> Result<Option<&HeaderValue>, Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(Refusal::bad_request("bad_host", "`Host` is given twice; give it once")),
        (host, None) => Ok(host),
    }
}

/// Whether a `Host` can only mean this machine: an address or `localhost`. A name could be anybody's, made to lead here.
fn names_this_machine(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let port_is_fine = |port: &str| port.is_empty() || port.parse::<u16>().is_ok();
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, port)| {
            address.parse::<std::net::Ipv6Addr>().is_ok()
                && port.strip_prefix(':').map_or(port.is_empty(), port_is_fine)
        });
    }
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    port_is_fine(port) && (name.parse::<Ipv4Addr>().is_ok() || name.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_name_this_machine() {
        let check = |host: &'static str| names_this_machine(&HeaderValue::from_static(host));
        for host in
            ["localhost", "LocalHost:10190", "127.0.0.1", "192.168.1.9:80", "[::1]", "[::1]:10190", "127.0.0.1:"]
        {
            assert!(check(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:10190",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "0x7f000001",
            "127.1",
            "[::1",
            "[evil]",
            "[::1]x",
            "::1",
            "localhost:port",
            "localhost@evil",
        ] {
            assert!(!check(host), "{host}");
        }
    }

    #[test]
    fn what_is_not_known_to_be_harmless_needs_an_operator() {
        let check = |method: Method, path: &str, expected| assert_eq!(need(&method, path), expected, "{method} {path}");
        check(Method::GET, "/metrics", Need::Metrics);
        check(Method::GET, "/-/ready", Need::Nothing);
        check(Method::POST, "/-/reload", Need::Changing);
        check(Method::PUT, "/-/reload", Need::Changing);
        check(Method::GET, "/api/v1/status", Need::Reading);
        check(Method::HEAD, "/api/v1/status", Need::Reading);
        check(Method::GET, "/api/v2/x", Need::Reading);
        check(Method::DELETE, "/api/v1/jobs/1", Need::Changing);
        check(Method::OPTIONS, "/api/v1/status", Need::Changing);
        check(Method::POST, "/unknown", Need::Changing);
        check(Method::GET, "/unknown", Need::Nothing);
    }

    #[test]
    fn paths_are_paths_without_control_characters() {
        for (uri, fine) in [
            ("/api/v1/caps/%2Fdata/run_share/acknowledge", true),
            ("/a%20b", true),
            ("/a%ff", true),
            ("/a%00b", false),
            ("/a%0ab", false),
            ("/a%1F", false),
            ("/a%7f", false),
            ("/a%", false),
            ("/a%g0", false),
            ("http://other/metrics", false),
            ("other:443", false),
        ] {
            assert_eq!(well_formed(&uri.parse().unwrap()).is_ok(), fine, "{uri}");
        }
    }
}
