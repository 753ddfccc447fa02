//! Secrets: what must never reach a log, a page or a metric.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;

/// What a secret begins with whose key is written in base64.
const ENCODED: &str = "whsec_";

/// A text that prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret; white space around it, as files end with, is dropped.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The key that it signs with, by Standard Webhooks: what stands behind `whsec_` in base64, or else its own bytes.
    ///
    /// # Errors
    /// What is wrong with it, to be said of it.
    pub fn signing_key(&self) -> Result<Vec<u8>, &'static str> {
        let key = match self.0.strip_prefix(ENCODED) {
            Some(encoded) => STANDARD_PAD_INDIFFERENT
                .decode(encoded)
                .map_err(|_| "begins with `whsec_`, but what follows is not base64")?,
            None => self.0.as_bytes().to_vec(),
        };
        if key.is_empty() { Err("is empty") } else { Ok(key) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(Secret::new(secret).signing_key().ok().as_deref(), expected, "{secret}");
        }
    }
}
