//! What failed, in the words of those who copy, and without secrets.

use object_store::Error;
use object_store::client::HttpError;
use quick_xml::escape::unescape;

use super::super::store::ColdError;
use crate::domain::cause::chain;
use crate::domain::secret::Secret;

/// Longer texts of a store are cut.
const LONGEST: usize = 500;
/// By which codes and status stores say that there is no room.
const NO_ROOM: [&str; 4] = ["507", "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"];

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// As `object_store` says it.
    #[error(transparent)]
    Store(#[from] Error),
    /// There was no answer in time.
    #[error("no answer in time")]
    Late,
    /// What was answered to a request of our own.
    #[error("status code: {status}: {body}")]
    Refused { status: http::StatusCode, body: String },
    /// What was answered makes no sense.
    #[error("{0}")]
    Nonsense(String),
}

/// What is shown of a failure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Shown(String);

impl Trouble {
    /// There is no such thing.
    pub(super) fn absent(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error, Error::NotFound { .. }),
            Self::Refused { status, .. } => *status == http::StatusCode::NOT_FOUND,
            Self::Late | Self::Nonsense(_) => false,
        }
    }

    /// There is something already, or something else.
    pub(super) fn condition_failed(&self) -> bool {
        matches!(
            self,
            Self::Store(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. })
        )
    }

    /// What those who copy make of it.
    pub(super) fn said(&self, action: &'static str, key: &str, secrets: &[Secret]) -> ColdError {
        let text = words(&chain(self), secrets);
        let unusable = match self {
            Self::Late => true,
            Self::Store(Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) => true,
            Self::Store(error) if carried_away(error) => true,
            Self::Store(_) | Self::Refused { .. } | Self::Nonsense(_) => {
                passing(&text) || text.contains("NoSuchBucket") || text.contains("answered 403")
            }
        };
        if NO_ROOM.iter().any(|word| text.contains(word)) {
            return ColdError::Full(std::io::Error::other(text));
        }
        if unusable {
            return ColdError::Unusable(format!("cannot {action} `{key}`: {text}"));
        }
        ColdError::Failed { action, key: key.to_owned(), source: Box::new(Shown(text)) }
    }
}

/// Whether the store itself has not answered.
fn carried_away(error: &Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if cause.is::<HttpError>() {
            return true;
        }
        next = cause.source();
    }
    false
}

/// Whether an answer is one that passes.
fn passing(text: &str) -> bool {
    let status = text.split_once("answered ").and_then(|(_, rest)| rest.split(' ').next());
    matches!(status.and_then(|status| status.trim_end_matches(':').parse::<u16>().ok()), Some(429 | 500..=599))
}

/// The words of a failure on one line: of an answer its status, code and message, or else all of it.
fn words(text: &str, secrets: &[Secret]) -> String {
    let between = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        let (inner, _) = rest.split_once(&format!("</{tag}>"))?;
        Some(unescape(inner).map_or_else(|_| inner.to_owned(), std::borrow::Cow::into_owned))
    };
    let status = text.split_once("status code: ").map(|(_, rest)| rest.split([':', '<']).next().unwrap_or(rest).trim());
    let mut out = match (status, between("Code")) {
        (Some(status), Some(code)) => {
            format!("the store answered {status}: {code}, {}", between("Message").unwrap_or_default())
        }
        (Some(status), None) => format!("the store answered {status}"),
        (None, Some(code)) => format!("the store answered {code}, {}", between("Message").unwrap_or_default()),
        (None, None) => text.to_owned(),
    };
    for secret in secrets.iter().map(Secret::reveal).filter(|secret| !secret.is_empty()) {
        out = out.replace(secret, "***");
    }
    let line: Vec<&str> = out.split_whitespace().collect();
    line.join(" ").chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Trouble {
        Trouble::Refused { status: http::StatusCode::from_u16(status).unwrap(), body: body.to_owned() }
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_store_and_without_secrets() {
        let secrets = [Secret::new("AKIA"), Secret::new("")];
        let xml = |code: &str, message: &str| {
            format!(
                "<?xml?>\n<Error><Code>{code}</Code><Message>{message}</Message><AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>"
            )
        };
        for (trouble, expected) in [
            (
                answer(403, &xml("AccessDenied", "AKIA &amp; others may not")),
                "the archive cannot be used: cannot write `a`: the store answered 403 Forbidden: AccessDenied, *** & others may not",
            ),
            (
                answer(503, &xml("SlowDown", "Please\nreduce")),
                "the archive cannot be used: cannot write `a`: the store answered 503 Service Unavailable: SlowDown, Please reduce",
            ),
            (
                answer(404, &xml("NoSuchBucket", "none")),
                "the archive cannot be used: cannot write `a`: the store answered 404 Not Found: NoSuchBucket, none",
            ),
            (answer(507, ""), "the archive has no room"),
            (answer(403, &xml("QuotaExceeded", "full")), "the archive has no room"),
            (answer(400, &xml("BadDigest", "no match")), "cannot write `a`"),
            (Trouble::Late, "the archive cannot be used: cannot write `a`: no answer in time"),
        ] {
            assert_eq!(trouble.said("write", "a", &secrets).to_string(), expected);
        }
        let failed = answer(400, &xml("BadDigest", "no match")).said("write", "a", &secrets);
        assert_eq!(chain(&failed), "cannot write `a`: the store answered 400 Bad Request: BadDigest, no match");
    }
}
