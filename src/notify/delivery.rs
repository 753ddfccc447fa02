//! What an answer means, and when a message is tried again.

use std::time::Duration;

use super::{email, webhook};
use crate::domain::secret::Secret;
use crate::domain::settings::{ChannelKind, ChannelSettings, NotifySettings};
use crate::domain::units::{Timestamp, show_duration};

/// A receiver may ask us to wait for so long at most.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What goes to a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outgoing<'a> {
    /// The same in every attempt.
    pub(super) id: &'a str,
    /// The message that this one continues.
    pub(super) reply_to: Option<&'a str>,
    /// The webhook's body.
    pub(super) body: &'a str,
    /// When it was queued.
    pub(super) created: Timestamp,
    /// The time of this attempt.
    pub(super) now: Timestamp,
}

/// Why a send did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It may succeed later.
    Retry {
        /// What happened.
        why: String,
        /// How long the receiver asks us to wait.
        after: Option<Duration>,
        /// It concerns the receiver, not this message: the others wait too.
        channel: bool,
    },
    /// It never will.
    Refused {
        /// What happened.
        why: String,
    },
}

impl Failure {
    /// The receiver cannot be reached, or not now.
    pub(super) fn unreachable(why: impl Into<String>) -> Self {
        Self::Retry { why: why.into(), after: None, channel: true }
    }

    /// What happened.
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Retry { why, .. } | Self::Refused { why } => why,
        }
    }

    fn masked(self, secrets: &[&Secret]) -> Self {
        match self {
            Self::Retry { why, after, channel } => Self::Retry { why: mask(&why, secrets), after, channel },
            Self::Refused { why } => Self::Refused { why: mask(&why, secrets) },
        }
    }
}

/// What the receiver answered, or why it did not accept.
pub(super) type Answer = Result<String, Failure>;

/// Sends once, within the time that the configuration allows. No secret of the channel is in the answer.
pub(super) async fn send(channel: &ChannelSettings, message: Outgoing<'_>, timeout: Duration) -> Answer {
    let work = async {
        match &channel.kind {
            ChannelKind::Email { host, port, tls, ca_file, username, password, from, to } => {
                let server = email::Server {
                    host,
                    port: *port,
                    tls: *tls,
                    ca_file: ca_file.as_deref(),
                    username: username.as_deref(),
                    password: password.as_ref(),
                };
                email::send(server, from, to, message).await
            }
            ChannelKind::Webhook { url, secret } => webhook::send(url, secret.as_ref(), message).await,
        }
    };
    let answer = tokio::time::timeout(timeout, work)
        .await
        .unwrap_or_else(|_| Err(Failure::unreachable(format!("no answer within {}", show_duration(timeout)))));
    let secrets: Vec<&Secret> = match &channel.kind {
        ChannelKind::Email { password, .. } => password.iter().collect(),
        ChannelKind::Webhook { url, secret } => std::iter::once(url).chain(secret).collect(),
    };
    answer.map(|said| mask(&said, &secrets)).map_err(|failure| failure.masked(&secrets))
}

/// What the channel is, without its secrets.
pub(super) fn describe(channel: &ChannelSettings) -> String {
    match &channel.kind {
        ChannelKind::Email { host, port, tls, username, from, to, .. } => {
            let login = if username.is_some() { ", login ***" } else { "" };
            format!("email by {host}:{port} ({}{login}), from {from} to {}", email::words(*tls), to.join(", "))
        }
        ChannelKind::Webhook { secret, .. } => {
            let signed = if secret.is_some() { "signed" } else { "not signed" };
            format!("webhook, POST to ***, {signed}")
        }
    }
}

/// The text with every secret in it replaced.
fn mask(text: &str, secrets: &[&Secret]) -> String {
    let known = secrets.iter().map(|secret| secret.reveal()).filter(|secret| !secret.is_empty());
    known.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}

/// What an HTTP status means.
pub(super) fn verdict(status: u16, after: Option<Duration>) -> Answer {
    match status {
        200..=299 => Ok(format!("HTTP {status}")),
        408 | 425 | 429 | 500..=599 => {
            // Whoever is busy, is down, or names a time means all of our messages.
            let channel = after.is_some() || matches!(status, 429 | 502..=504);
            Err(Failure::Retry { why: format!("HTTP {status}"), after, channel })
        }
        300..=399 => Err(Failure::Refused { why: format!("HTTP {status}: redirects are not followed") }),
        _ => Err(Failure::Refused { why: format!("HTTP {status}") }),
    }
}

/// How long a `Retry-After` asks us to wait: seconds, or a date. Never longer than an hour.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let span = match text.parse::<u64>() {
        Ok(secs) => Duration::from_secs(secs),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?;
            Timestamp::from_millis(at.timestamp().as_millisecond()).since(now)
        }
    };
    Some(span.min(LONGEST_WAIT))
}

/// The pause after so many failures: anything from the first to the doubled one, so that what failed together does not
/// come back together. `jitter` is a random number from 0 to 1000.
pub(super) fn pause(settings: &NotifySettings, failures: u32, jitter: u32) -> Duration {
    let first = settings.retry_first.max(Duration::from_millis(1));
    let doubled = first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(30)));
    let top = doubled.min(settings.retry_max).max(first);
    first + (top - first) * jitter.min(1000) / 1000
}

/// The innermost cause of an error: outer ones repeat addresses.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(inner) = at.source() {
        at = inner;
    }
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_delivered_tried_again_or_given_up() {
        let word = |status| match verdict(status, None) {
            Ok(_) => "sent",
            Err(Failure::Retry { channel: true, .. }) => "all wait",
            Err(Failure::Retry { channel: false, .. }) => "retry",
            Err(Failure::Refused { .. }) => "refused",
        };
        for (status, expected) in [
            (200, "sent"),
            (204, "sent"),
            (301, "refused"),
            (307, "refused"),
            (400, "refused"),
            (401, "refused"),
            (404, "refused"),
            (410, "refused"),
            (408, "retry"),
            (425, "retry"),
            (429, "all wait"),
            (500, "retry"),
            (503, "all wait"),
            (599, "retry"),
            (101, "refused"),
        ] {
            assert_eq!(word(status), expected, "{status}");
        }
    }

    #[test]
    fn a_receiver_may_ask_for_an_hour_at_most() {
        let now = Timestamp::from_secs(784_111_777 - 60);
        for (text, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("86400", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(60)),
            ("Sun, 06 Nov 1983 08:49:37 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn pauses_grow_to_their_limit_and_are_spread() {
        let settings = NotifySettings::default();
        for (failures, jitter, secs) in
            [(0, 1000, 1), (1, 1000, 1), (2, 1000, 2), (4, 1000, 8), (4, 0, 1), (u32::MAX, 1000, 600), (99, 0, 1)]
        {
            assert_eq!(pause(&settings, failures, jitter), Duration::from_secs(secs), "{failures} {jitter}");
        }
        let odd = NotifySettings { retry_max: Duration::ZERO, ..NotifySettings::default() };
        assert_eq!(pause(&odd, 9, 1000), Duration::from_secs(1));
    }

    #[test]
    fn secrets_are_masked() {
        let (url, key) = (Secret::new("http://h/x?token=abc"), Secret::new(""));
        let text = "cannot reach http://h/x?token=abc now";
        assert_eq!(mask(text, &[&url, &key]), "cannot reach *** now");
    }
}
