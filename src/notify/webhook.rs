//! A signed POST: Standard Webhooks 1.0.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use sha2::Sha256;

use super::address::{GuardedResolver, REFUSED, refused_literal};
use super::body::one_line;
use super::channel::Parcel;
use super::delivery::{Outcome, judge};
use crate::domain::cause::chain;
use crate::domain::secret::Secret;
use crate::domain::units::Timestamp;

/// A receiver of webhooks.
pub(super) struct Hook {
    client: Client,
    url: Url,
    key: Option<Vec<u8>>,
}

impl Hook {
    /// The receiver at an address. Loads the system's certificates for `https`: may block.
    pub(super) fn new(url: &Secret, secret: Option<&Secret>) -> Result<Self, String> {
        let url = Url::parse(url.reveal()).map_err(|error| format!("the address of the receiver is none: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("the address of the receiver must begin with `http://` or `https://`".to_owned());
        }
        if refused_literal(&url) {
            return Err(REFUSED.to_owned());
        }
        let key = secret.map(|secret| key_of(secret.reveal())).transpose()?;
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
        Ok(Self { client, url, key })
    }

    /// Sends one message. The caller bounds the time that it may take.
    pub(super) async fn send(&self, parcel: &Parcel, now: Timestamp, log: &mut Vec<String>) -> Outcome {
        let stamp = now.secs().to_string();
        let mut request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", &parcel.id)
            .header("webhook-timestamp", &stamp);
        if let Some(key) = &self.key {
            request = request.header("webhook-signature", sign(key, &parcel.id, &stamp, &parcel.text));
        }
        log.push(format!(
            "POST {}://***, {} bytes, {}",
            self.url.scheme(),
            parcel.text.len(),
            if self.key.is_some() { "signed" } else { "not signed" }
        ));
        let answer = match request.body(parcel.text.to_string()).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let text = one_line(&mask(&chain(&error.without_url()), &self.url), 500);
                log.push(text.clone());
                return Outcome::unreachable(text);
            }
        };
        // The answer's text is not read: it may be long, and may repeat what is secret.
        let status = answer.status();
        let said = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
        let said = said.trim_end().to_owned();
        log.push(said.clone());
        let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
        judge(status.as_u16(), said, retry_after, now)
    }
}

/// The key of a secret: `whsec_` and base64, or its bytes.
fn key_of(secret: &str) -> Result<Vec<u8>, String> {
    let key = match secret.strip_prefix("whsec_") {
        Some(encoded) => STANDARD_PAD_INDIFFERENT
            .decode(encoded)
            .map_err(|_| "the secret begins with `whsec_`, but what follows is not base64".to_owned())?,
        None => secret.as_bytes().to_vec(),
    };
    if key.is_empty() { Err("the secret is empty".to_owned()) } else { Ok(key) }
}

/// The value of `webhook-signature`.
fn sign(key: &[u8], id: &str, stamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in [id, ".", stamp, ".", body] {
        mac.update(part.as_bytes());
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The text without the parts of an address that may be secret.
fn mask(text: &str, url: &Url) -> String {
    let path = url.path().trim_matches('/');
    let mut parts = vec![url.as_str(), path, url.username()];
    parts.extend(url.password());
    parts.extend(url.query());
    parts.extend(path.split('/'));
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts.into_iter().filter(|part| part.len() > 3).fold(text.to_owned(), |text, part| text.replace(part, "***"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    #[test]
    fn signs_as_the_specification_does() {
        let key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = r#"{"test": 2432232314}"#;
        let signature = sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_base64_only_if_it_says_so() {
        for (secret, expected) in [
            ("whsec_YWJj", Some(&b"abc"[..])),
            ("whsec_YWI", Some(b"ab")),
            ("plain", Some(b"plain")),
            ("whsec_!", None),
            ("whsec_", None),
            ("", None),
        ] {
            assert_eq!(key_of(secret).ok().as_deref(), expected, "{secret}");
        }
    }

    #[test]
    fn what_may_be_secret_in_an_address_is_masked() {
        let url = Url::parse("https://user:passw@hooks.example.org/T0KEN/part?key=s3cret").unwrap();
        let text =
            "cannot reach https://user:passw@hooks.example.org/T0KEN/part?key=s3cret (T0KEN/part, key=s3cret, passw)";
        let masked = mask(text, &url);
        for secret in ["T0KEN", "s3cret", "passw"] {
            assert!(!masked.contains(secret), "{masked}");
        }
    }

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
            assert_eq!(Hook::new(&Secret::new(url), None).is_ok(), fine, "{url}");
        }
    }
}
