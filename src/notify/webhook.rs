//! The webhook: one signed POST (Standard Webhooks 1.0), no redirects, no proxies, and its URL in no text.

use std::net::IpAddr;
use std::sync::{Arc, Once};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::address::{Filtered, allowed};
use super::delivery::{Answer, Failure, Outgoing, innermost, retry_after, verdict};
use crate::domain::secret::Secret;

/// Decodes keys with or without their padding.
const KEYS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Makes ring the provider of cryptography for everything in this process; once is enough.
pub(super) fn install_provider() {
    static ONCE: Once = Once::new();
    // An error only says that there is a provider already.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// Sends once. The caller sets the deadline.
pub(super) async fn send(url: &Secret, secret: Option<&Secret>, message: Outgoing<'_>) -> Answer {
    let refused = |why: &str| Failure::Refused { why: why.to_owned() };
    let url = reqwest::Url::parse(url.reveal()).map_err(|error| refused(&format!("its URL is not valid: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused("its URL must begin with `http://` or `https://`"));
    }
    // A literal address is never resolved, so the resolver does not see it.
    let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    if literal.is_some_and(|address| !allowed(address)) {
        return Err(refused("its URL names a link-local or metadata address, which is refused"));
    }
    let at = message.now.secs();
    let mut request = client()?
        .post(url)
        .header("content-type", "application/json")
        .header("webhook-id", message.id)
        .header("webhook-timestamp", at.to_string())
        .body(message.body.to_owned());
    if let Some(secret) = secret {
        request = request.header("webhook-signature", sign(secret, message.id, at, message.body)?);
    }
    let answer = request.send().await.map_err(|error| unreachable(&error))?;
    let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
    verdict(answer.status().as_u16(), after.and_then(|text| retry_after(text, message.now)))
}

fn client() -> Result<reqwest::Client, Failure> {
    install_provider();
    reqwest::Client::builder()
        .user_agent(concat!("storage-guard/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(0)
        .dns_resolver(Arc::new(Filtered))
        .build()
        .map_err(|error| Failure::unreachable(format!("the HTTP client cannot be built: {}", innermost(&error))))
}

fn unreachable(error: &reqwest::Error) -> Failure {
    let what = if error.is_connect() { "cannot connect" } else { "the connection failed" };
    Failure::unreachable(format!("{what}: {}", innermost(error)))
}

/// The signature: `v1,` and the HMAC-SHA-256 of id, time and body.
fn sign(secret: &Secret, id: &str, at: i64, body: &str) -> Result<String, Failure> {
    let key = match secret.reveal().strip_prefix("whsec_") {
        None => secret.reveal().as_bytes().to_vec(),
        Some(text) => KEYS.decode(text).map_err(|_| Failure::unreachable("its secret is not base64 after `whsec_`"))?,
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{at}.{body}").as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::units::Timestamp;

    fn outgoing() -> Outgoing<'static> {
        let now = Timestamp::from_secs(1_614_265_330);
        Outgoing { id: "msg_1", reply_to: None, body: "{}", created: now, now }
    }

    /// The example of the Standard Webhooks specification.
    #[test]
    fn signs_as_the_specification_does() {
        for secret in ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"] {
            let body = r#"{"test": 2432232314}"#;
            let signed = sign(&Secret::new(secret), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).unwrap();
            assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        }
    }

    #[test]
    fn a_secret_without_prefix_is_its_bytes_and_a_bad_one_is_said() {
        let raw = sign(&Secret::new("plain"), "i", 1, "b").unwrap();
        let coded = sign(&Secret::new(&format!("whsec_{}", STANDARD.encode("plain"))), "i", 1, "b").unwrap();
        let unpadded = sign(&Secret::new("whsec_cGxhaW4"), "i", 1, "b").unwrap();
        assert_eq!((&raw, &raw), (&coded, &unpadded));
        assert!(sign(&Secret::new("whsec_!"), "i", 1, "b").is_err());
    }

    /// Fault 109.
    #[tokio::test]
    async fn refuses_literal_addresses_in_any_spelling() {
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "http://0xa9fea9fe/",
            "http://2852039166/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fe80::1]/",
            "file:///etc/passwd",
            "not a url",
        ] {
            let failure = send(&Secret::new(url), None, outgoing()).await.unwrap_err();
            assert!(matches!(failure, Failure::Refused { .. }), "{url}: {failure:?}");
        }
    }
}
