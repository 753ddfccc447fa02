//! The platform behind the media server: it is asked in its place, and told what it told.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::answers::code;
use crate::domain::cause::chain;
use crate::domain::media::{HookEvent, HookSettings};

/// More of an answer is no answer.
const ANSWER: usize = 1 << 20;
/// Questions to a platform at the same time: each is a connection.
const AT_ONCE: usize = 512;
/// Connections that wait for the next question.
const IDLE: usize = 32;
/// How long they wait: less than what any platform allows, so that none is closed under a question.
const KEPT: Duration = Duration::from_secs(4);
/// The platform may take so long for what it is told: as long as a platform asks of its media server.
const TOLD: Duration = Duration::from_secs(30);
/// Headers that mean the same to the platform as to us.
const HEADERS: [&str; 5] = ["content-type", "user-agent", "x-vhost", "accept", "accept-language"];

/// A platform, and how it is reached.
pub(super) struct Platform {
    client: Client,
    address: String,
    /// How long a question may take.
    patience: Duration,
    places: Arc<Semaphore>,
}

/// What a platform answered.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) kind: Option<HeaderValue>,
    pub(super) body: Bytes,
}

/// Hooks as they are relayed now.
pub struct Relayed {
    pub(super) settings: HookSettings,
    pub(super) platform: Option<Platform>,
}

impl Relayed {
    /// What is made of a configuration. Loads the system's certificates for `https`: may block.
    ///
    /// # Errors
    /// Says why the platform cannot be reached in this way.
    pub fn new(settings: HookSettings) -> Result<Self, String> {
        let platform =
            settings.relay.as_deref().map(|address| Platform::new(address, settings.relay_timeout)).transpose()?;
        Ok(Self { settings, platform })
    }

    /// The configuration.
    #[must_use]
    pub fn settings(&self) -> &HookSettings {
        &self.settings
    }
}

impl Platform {
    fn new(address: &str, patience: Duration) -> Result<Self, String> {
        let url = Url::parse(address).map_err(|error| format!("`hooks.relay` is no address: {error}"))?;
        // Only the first one is taken; that there is one already is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(IDLE)
            .pool_idle_timeout(KEPT);
        // Redirects are not followed, so what begins without TLS needs no certificates.
        let builder = if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
        let client = builder.build().map_err(|error| {
            format!(
                "cannot prepare TLS for `hooks.relay`; are the system's CA certificates installed? {}",
                chain(&error)
            )
        })?;
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Ok(Self { client, address: address.to_owned(), patience, places })
    }

    /// Asks; what cannot be an answer to the media server is none.
    pub(super) async fn ask(&self, event: &str, headers: &HeaderMap, body: &Bytes) -> Result<Answered, String> {
        let asked = async {
            let _place = self.places.acquire().await;
            match self.send(event, headers, body).await {
                // A connection that was kept and had just been closed: nobody has the question.
                Err(error) if !error.is_timeout() && !error.is_connect() => self.send(event, headers, body).await,
                other => other,
            }
        };
        let answered = timeout(self.patience, asked).await;
        let answered = answered.map_err(|_| format!("no answer within {:?}", self.patience))?.map_err(shown)?;
        match code(&answered.body) {
            Some(_) => Ok(answered),
            None => Err(format!("{} without an integer `code`", answered.status)),
        }
    }

    /// Tells; gives the status, and whether what came with it is an answer.
    pub(super) async fn tell(
        &self,
        event: HookEvent,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<(StatusCode, bool), String> {
        let told = timeout(TOLD, self.send(event.as_str(), headers, body)).await;
        let answered = told.map_err(|_| format!("no answer within {TOLD:?}"))?.map_err(shown)?;
        Ok((answered.status, code(&answered.body).is_some()))
    }

    async fn send(&self, event: &str, headers: &HeaderMap, body: &Bytes) -> reqwest::Result<Answered> {
        // The name is letters, digits and `_`: it stays one part of the path.
        let request = self.client.post(format!("{}/{event}", self.address)).headers(headers.clone()).body(body.clone());
        let mut response = request.send().await?;
        let (status, kind) = (response.status(), response.headers().get(header::CONTENT_TYPE).cloned());
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await? {
            // What is cut off is no JSON.
            body.extend_from_slice(&part[..part.len().min(ANSWER - body.len())]);
            if body.len() == ANSWER {
                break;
            }
        }
        Ok(Answered { status, kind, body: body.into() })
    }
}

/// Why a platform cannot be asked, without its address, which may hold a secret.
fn shown(error: reqwest::Error) -> String {
    chain(&error.without_url())
}

/// The headers that are handed on.
pub(super) fn handed_on(from: &HeaderMap) -> HeaderMap {
    let known = HEADERS.iter().filter_map(|name| Some((HeaderName::from_static(name), from.get(*name)?.clone())));
    known.collect()
}

/// The same, as lines of text.
pub(super) fn lines_of(headers: &HeaderMap) -> String {
    let line = |(name, value): (&HeaderName, &HeaderValue)| Some(format!("{name}: {}\n", value.to_str().ok()?));
    headers.iter().filter_map(line).collect()
}

/// And back.
pub(super) fn headers_of(lines: &str) -> HeaderMap {
    let header = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
    };
    lines.lines().filter_map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_mean_something_elsewhere_are_handed_on_and_no_others() {
        let mut all = HeaderMap::new();
        for (name, value) in
            [("host", "guard"), ("x-vhost", "__defaultVhost__"), ("content-length", "7"), ("accept", "*/*")]
        {
            all.insert(name, HeaderValue::from_static(value));
        }
        let handed = handed_on(&all);
        assert_eq!(headers_of(&lines_of(&handed)), handed);
        assert_eq!(handed.len(), 2);
        assert_eq!(headers_of("nonsense\nx y: z\n"), HeaderMap::new());
    }
}
