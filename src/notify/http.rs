//! What all receivers that speak HTTP have in common: where messages go, and never go; what was said, without secrets.

use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, Url};

use super::address::{GuardedResolver, REFUSED, refused_literal};
use super::body::one_line;
use super::delivery::{Outcome, judge};
use super::mask::Mask;
use crate::domain::cause::chain;
use crate::domain::secret::Secret;
use crate::domain::units::Timestamp;

/// More of an answer is not read.
const ANSWER: usize = 16 * 1024;

/// Where messages are sent to. Redirects are not followed, proxies not used, and no address is reached that
/// [`refused_literal`] and [`GuardedResolver`] refuse.
#[derive(Clone)]
pub(super) struct Target {
    client: Client,
    url: Url,
    /// What is shown nowhere.
    mask: Mask,
}

/// What a receiver answered.
pub(super) struct Answer {
    /// The status, such as `200 OK`.
    said: String,
    response: Response,
}

impl Target {
    /// The target at an address. Loads the system's certificates for `https`: may block.
    pub(super) fn new(url: &Secret) -> Result<Self, String> {
        let url = Url::parse(url.reveal()).map_err(|error| format!("the address of the receiver is none: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("the address of the receiver must begin with `http://` or `https://`".to_owned());
        }
        if refused_literal(&url) {
            return Err(REFUSED.to_owned());
        }
        // Only the first one is taken; that there is one already is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .retry(reqwest::retry::never())
            .dns_resolver(GuardedResolver)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("storage-guard/", env!("CARGO_PKG_VERSION")));
        // Redirects are not followed, so what begins without TLS needs no certificates.
        let builder = if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
        let client = builder.build().map_err(|error| {
            format!("cannot prepare TLS; are the system's CA certificates installed? {}", chain(&error.without_url()))
        })?;
        let mut mask = Mask::default();
        mask.address(&url);
        Ok(Self { client, url, mask })
    }

    /// The address, whose parts may be secret.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The same receiver at another address of its own.
    pub(super) fn at(self, url: Url) -> Self {
        let mut mask = self.mask;
        mask.address(&url);
        Self { client: self.client, url, mask }
    }

    /// The same, with something more that is shown nowhere.
    pub(super) fn hiding(mut self, secret: &str) -> Self {
        self.mask.hide(secret);
        self
    }

    /// A POST to it.
    pub(super) fn post(&self) -> RequestBuilder {
        self.client.post(self.url.clone())
    }

    /// A GET of it.
    pub(super) fn get(&self) -> RequestBuilder {
        self.client.get(self.url.clone())
    }

    /// Sends a request, made by [`Target::post`] or [`Target::get`], and adds to `log` what was said. The caller bounds the time
    /// that it may take.
    pub(super) async fn send(&self, request: RequestBuilder, log: &mut Vec<String>) -> Result<Answer, Outcome> {
        let request = request.build().map_err(|error| {
            Outcome::GivenUp(format!("cannot compose the request: {}", chain(&error.without_url())))
        })?;
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = self.url.host_str().unwrap_or_default();
        log.push(format!("> {} {}://{host}{port}/***", request.method(), self.url.scheme()));
        for (name, value) in request.headers() {
            // A login in the address becomes a header, in letters that no masking of the address finds.
            let shown =
                if value.is_sensitive() { "***".to_owned() } else { self.mask(value.to_str().unwrap_or("…")) };
            log.push(format!("> {name}: {shown}"));
        }
        if let Some(body) = request.body().and_then(reqwest::Body::as_bytes) {
            log.push(format!("> {}", self.mask(&String::from_utf8_lossy(body))));
        }
        match self.client.execute(request).await {
            Ok(response) => {
                let status = response.status();
                let said = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
                let said = said.trim_end().to_owned();
                log.push(format!("< {said}"));
                for (name, value) in response.headers() {
                    let value = if name == "set-cookie" { "***" } else { value.to_str().unwrap_or("…") };
                    log.push(format!("< {name}: {}", self.shown(value)));
                }
                Ok(Answer { said, response })
            }
            Err(error) => {
                let text = self.shown(&chain(&error.without_url()));
                log.push(text.clone());
                Err(Outcome::unreachable(text))
            }
        }
    }

    /// The text of an answer, without what is secret.
    pub(super) async fn text(&self, answer: &mut Answer, log: &mut Vec<String>) -> String {
        let text = self.raw(answer, log).await;
        self.mask(&text)
    }

    /// The text of an answer as it came, for those whose answers are read rather than shown; show it by [`Target::shown`].
    pub(super) async fn raw(&self, answer: &mut Answer, log: &mut Vec<String>) -> String {
        let mut bytes = Vec::new();
        while bytes.len() < ANSWER {
            match answer.response.chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => {
                    log.push(self.shown(&chain(&error.without_url())));
                    break;
                }
            }
        }
        bytes.truncate(ANSWER);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if !text.is_empty() {
            log.push(format!("< {}", self.shown(&text)));
        }
        text
    }

    /// What a receiver said, on one line, not for long, and without what is secret.
    pub(super) fn shown(&self, text: &str) -> String {
        one_line(&self.mask(text), 500)
    }

    /// The text without what is secret.
    pub(super) fn mask(&self, text: &str) -> String {
        self.mask.apply(text)
    }
}

impl Answer {
    /// Its status, such as `200 OK`.
    pub(super) fn said(&self) -> &str {
        &self.said
    }

    /// What its status means for the message.
    pub(super) fn judge(&self, now: Timestamp) -> Outcome {
        let retry_after = self.response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        judge(self.response.status().as_u16(), self.said.clone(), retry_after, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_messages_never_go_to_are_refused() {
        for (url, fine) in [
            ("http://127.0.0.1:9/x", true),
            ("http://10.0.0.1/x", true),
            ("http://169.254.169.254/latest", false),
            ("http://0xa9fea9fe/", false),
            ("ftp://host/x", false),
            ("nonsense", false),
        ] {
            assert_eq!(Target::new(&Secret::new(url)).is_ok(), fine, "{url}");
        }
    }
}
