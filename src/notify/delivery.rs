//! What an answer means, and when a message is tried again.

use std::time::Duration;

use crate::domain::settings::NotifySettings;
use crate::domain::units::Timestamp;

/// The longest pause that a receiver can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// A wait that is longer comes from a clock that went back.
pub(super) fn longest_pause(settings: &NotifySettings) -> Duration {
    settings.retry_max.max(settings.retry_first).max(RETRY_AFTER_MAX)
}

/// How one send ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver has it. What it said.
    Delivered(String),
    /// It is worth another attempt, not before `after`.
    Again {
        /// What went wrong.
        error: String,
        /// What the receiver asked for.
        after: Option<Duration>,
        /// It is about the receiver rather than this message: the others wait too.
        channel: bool,
    },
    /// Another attempt would end the same way.
    GivenUp(String),
}

impl Outcome {
    /// The receiver cannot be reached, or not now.
    pub(super) fn unreachable(error: String) -> Self {
        Self::Again { error, after: None, channel: true }
    }
}

/// What a status of HTTP means for the message.
pub(super) fn judge(status: u16, said: String, retry_after: Option<&str>, now: Timestamp) -> Outcome {
    match status {
        200..=299 => Outcome::Delivered(said),
        408 | 425 | 429 | 500..=599 => {
            let after = retry_after.and_then(|text| wanted_pause(text, now)).map(|span| span.min(RETRY_AFTER_MAX));
            // Whoever is busy or down, or names a time, means all of our messages.
            Outcome::Again { error: said, after, channel: after.is_some() || matches!(status, 429 | 502..=504) }
        }
        300..=399 => Outcome::GivenUp(format!("{said}; redirects are not followed, give the final address")),
        _ => Outcome::GivenUp(said),
    }
}

/// `Retry-After`: seconds, or a date.
fn wanted_pause(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_millisecond();
    Some(Timestamp::from_millis(at).since(now))
}

/// The pause after so many failed attempts: full jitter between the first pause and one that doubles, up to the longest.
/// `random` is a number from 0 to 1000. A receiver that asks for more gets it.
pub(super) fn pause(settings: &NotifySettings, attempts: u32, after: Option<Duration>, random: u32) -> Duration {
    let least = settings.retry_first.max(Duration::from_millis(1));
    let most = settings.retry_max.max(least);
    let full = least.saturating_mul(2u32.saturating_pow(attempts.min(30))).min(most);
    let chosen = least + full.saturating_sub(least) * random.min(1000) / 1000;
    chosen.max(after.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_decides_between_done_again_and_never() {
        for (status, expected) in [
            (200, "done"),
            (204, "done"),
            (301, "never"),
            (307, "never"),
            (400, "never"),
            (404, "never"),
            (410, "never"),
            (408, "again"),
            (425, "again"),
            (429, "again"),
            (500, "again"),
            (502, "again"),
            (599, "again"),
        ] {
            let got = match judge(status, String::new(), None, Timestamp::default()) {
                Outcome::Delivered(_) => "done",
                Outcome::Again { .. } => "again",
                Outcome::GivenUp(_) => "never",
            };
            assert_eq!(got, expected, "{status}");
        }
    }

    /// Fault 117.
    #[test]
    fn a_receiver_may_ask_for_a_pause_of_an_hour_at_most() {
        let now = Timestamp::from_secs(784_111_777);
        for (text, secs) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("7200", Some(3600)),
            ("99999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 00:00:00 GMT", Some(0)),
            ("soon", None),
            ("", None),
        ] {
            let expected = secs.map(Duration::from_secs);
            let got = judge(429, String::new(), Some(text), now);
            assert_eq!(got, Outcome::Again { error: String::new(), after: expected, channel: true }, "{text:?}");
        }
    }

    #[test]
    fn pauses_grow_from_the_first_to_the_longest() {
        let settings = NotifySettings::default();
        for (attempts, random, after, millis) in [
            (1, 0, None, 1000),
            (1, 1000, None, 2000),
            (3, 1000, None, 8000),
            (3, 500, None, 4500),
            (60, 1000, None, 600_000),
            (60, 0, None, 1000),
            (1, 0, Some(120), 120_000),
            (u32::MAX, 1000, Some(120), 600_000),
        ] {
            let after = after.map(Duration::from_secs);
            assert_eq!(pause(&settings, attempts, after, random), Duration::from_millis(millis), "{attempts} {random}");
        }
        // Fault 117: what fails together comes back spread over the whole span.
        let spread: Vec<u128> = (0..=1000).map(|random| pause(&settings, 5, None, random).as_millis() / 3101).collect();
        for tenth in 1..9 {
            let share = spread.iter().filter(|of| **of == tenth).count();
            assert!((95..=105).contains(&share), "{tenth}: {share}");
        }
        let slow = NotifySettings { retry_max: Duration::from_secs(86_400), ..settings };
        assert_eq!(pause(&slow, 99, None, 1000), longest_pause(&slow));
    }
}
