//! How requests go to the store: with a limit on every one, and never over what is there.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use reqwest::redirect::Policy;

use crate::domain::cause::chain;

/// A store that takes or gives less in a second is given up.
const SLOWEST: u64 = 64 << 10;
/// More of an answer is not read. Content is read in ranges that are shorter.
const ANSWER: usize = 32 << 20;

/// How long the store is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For one answer, beside the time that its bytes take at 64 KiB a second.
    pub answer: Duration,
    /// How long a request that failed for a passing reason is tried again.
    pub retry: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { answer: Duration::from_secs(30), retry: Duration::from_secs(60) }
    }
}

impl Patience {
    /// For one request with so many bytes, there or back.
    pub(super) fn once(self, bytes: u64) -> Duration {
        self.answer.saturating_add(Duration::from_secs(bytes / SLOWEST))
    }

    /// For putting parts together, at which a store works for a while.
    fn completing(self) -> Duration {
        self.answer.saturating_mul(4)
    }

    /// For a request and all its repetitions.
    pub(super) fn whole(self, bytes: u64) -> Duration {
        self.retry.saturating_add(self.completing()).saturating_add(self.once(bytes).saturating_mul(2))
    }
}

/// The headers of an answer, for those who want more of them than `object_store` hands on.
#[derive(Debug, Clone)]
pub(super) struct Told(pub(super) HeaderMap);

/// What carries requests.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    http: reqwest::Client,
    patience: Patience,
    /// Whether the store knows conditions, as far as it has said.
    conditions: Arc<AtomicBool>,
}

impl Wire {
    /// One that reaches a store with TLS, or without.
    pub(super) fn new(tls: bool, patience: Patience) -> Result<Self, String> {
        // Only the first one is taken; that there is one already is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(patience.answer)
            .http1_only()
            .user_agent(concat!("storage-guard/", env!("CARGO_PKG_VERSION")));
        let builder = if tls { builder } else { builder.tls_certs_only([]) };
        let http = builder.build().map_err(|error| {
            format!("cannot prepare TLS; are the system's CA certificates installed? {}", chain(&error.without_url()))
        })?;
        Ok(Self { http, patience, conditions: Arc::new(AtomicBool::new(true)) })
    }

    /// Sends a request once.
    pub(super) async fn send(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if !creates(&request) || !self.conditions.load(Ordering::Relaxed) {
            return self.within(request).await;
        }
        let plain = request.clone();
        // Not signed, and need not be, as it is no header of Amazon's own.
        request.headers_mut().insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        let answer = self.within(request).await?;
        if answer.status() != StatusCode::NOT_IMPLEMENTED {
            return Ok(answer);
        }
        // Then only the look before stands between two who write the same key.
        self.conditions.store(false, Ordering::Relaxed);
        self.within(plain).await
    }

    /// Sends a request and reads all of its answer, within its limit.
    async fn within(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let head = request.method() == Method::HEAD;
        let limit = match *request.method() {
            Method::POST if creates(&request) => self.patience.completing(),
            _ => self.patience.once(request.body().content_length().max(ranged(&request)) as u64),
        };
        let answer = async {
            let (mut parts, body) = self.http.call(request).await?.into_parts();
            let body = Limited::new(body, ANSWER).collect().await.map_err(|source| {
                let text = chain(&*source);
                HttpError::new(HttpErrorKind::Interrupted, std::io::Error::other(text))
            })?;
            if head {
                parts.extensions.insert(Told(parts.headers.clone()));
            }
            Ok(HttpResponse::from_parts(parts, body.to_bytes().into()))
        };
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
            let late = std::io::Error::other(format!("no answer within {} s", limit.as_secs_f32()));
            Err(HttpError::new(HttpErrorKind::Timeout, late))
        })
    }
}

/// Whether it makes an object.
fn creates(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    match *request.method() {
        Method::PUT => !query.contains("partNumber="),
        Method::POST => query.contains("uploadId="),
        _ => false,
    }
}

/// How many bytes a request for a range of a content asks for.
fn ranged(request: &HttpRequest) -> usize {
    let range = request.headers().get(http::header::RANGE).and_then(|range| range.to_str().ok());
    let bounds = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    bounds.and_then(|(from, to)| to.parse::<usize>().ok()?.checked_sub(from.parse().ok()?)).unwrap_or(0)
}

impl HttpService for Wire {
    fn call<'wire, 'answer>(
        &'wire self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'answer>>
    where
        'wire: 'answer,
        Self: 'answer,
    {
        Box::pin(self.send(request))
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}
