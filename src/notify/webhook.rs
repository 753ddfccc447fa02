//! A signed POST: Standard Webhooks 1.0.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::RequestBuilder;
use sha2::Sha256;

use super::body::TEST;
use super::channel::Parcel;
use super::delivery::Outcome;
use super::http::Target;
use crate::domain::secret::Secret;
use crate::domain::units::Timestamp;

/// How long the text of an answer is waited for.
const EXPLANATION: Duration = Duration::from_secs(1);

/// A receiver of webhooks.
pub(super) struct Hook {
    target: Target,
    key: Option<Vec<u8>>,
}

impl Hook {
    /// The receiver at an address. Loads the system's certificates for `https`: may block.
    pub(super) fn new(url: &Secret, secret: Option<&Secret>) -> Result<Self, String> {
        let key = secret.map(key).transpose()?;
        let mut target = Target::new(url)?;
        if let Some(secret) = secret {
            target = target.hiding(secret.reveal());
        }
        Ok(Self { target, key })
    }

    /// Sends one message. The caller bounds the time that it may take.
    pub(super) async fn send(&self, parcel: &Parcel, now: Timestamp, log: &mut Vec<String>) -> Outcome {
        let request = headers(self.target.post(), self.key.as_deref(), &parcel.id, &parcel.text, now);
        match self.target.send(request.body(parcel.text.to_string()), log).await {
            Ok(mut answer) => {
                // The status has decided. What else is said helps whoever tries the channel, if it comes soon.
                if parcel.body.kind == TEST {
                    let _ = tokio::time::timeout(EXPLANATION, self.target.text(&mut answer, log)).await;
                }
                answer.judge(now)
            }
            Err(outcome) => outcome,
        }
    }
}

/// The key that a secret signs with.
pub(super) fn key(secret: &Secret) -> Result<Vec<u8>, String> {
    secret.signing_key().map_err(|error| format!("the secret {error}"))
}

/// A request with the headers of Standard Webhooks for a body of JSON: signed if there is a key.
pub(super) fn headers(
    request: RequestBuilder,
    key: Option<&[u8]>,
    id: &str,
    body: &str,
    now: Timestamp,
) -> RequestBuilder {
    let stamp = now.secs().to_string();
    let request =
        request.header("content-type", "application/json").header("webhook-id", id).header("webhook-timestamp", &stamp);
    match key {
        Some(key) => request.header("webhook-signature", sign(key, id, &stamp, body)),
        None => request,
    }
}

/// The value of `webhook-signature`.
fn sign(key: &[u8], id: &str, stamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in [id, ".", stamp, ".", body] {
        mac.update(part.as_bytes());
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    #[test]
    fn signs_as_the_specification_does() {
        let key = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").signing_key().unwrap();
        let body = r#"{"test": 2432232314}"#;
        let signature = sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
