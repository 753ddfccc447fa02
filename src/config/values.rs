//! How single values are written: durations, bytes, percentages, spans of the day, and `${NAME}`.

use std::time::Duration;

use crate::domain::settings::Window;
use crate::domain::text::distance;
use crate::domain::units::{Bytes, Percent};
use crate::domain::volume::Mark;

/// What a duration looks like, in a sentence `must be …`.
pub(super) const DURATION: &str = "a duration such as `200ms`, `10s`, `5m`, `1h30m` or `7d`";
/// What a number of bytes looks like.
pub(super) const BYTES: &str = "a number of bytes such as `50GiB`, `300GB` or `1024`";
/// What a share looks like.
pub(super) const PERCENT: &str = "a percentage of more than 0% and at most 100%, such as `90%` or `97.5%`";
/// What a mark looks like.
pub(super) const MARK: &str =
    "percent used such as `90%`, or bytes free such as `50GiB free`; more than 0, and at most 100%";
/// What a span of the day looks like.
pub(super) const WINDOW: &str = "a span of the day such as \"01:00-05:00\"";

/// A duration as it is written, `10s`, `5m`, `1h30m`, `7d`, `200ms`, `0`: whole numbers, the larger unit first.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut millis, mut last) = (text, 0_u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (_, size) = UNITS.iter().find(|(unit, _)| *unit == &rest[..letters])?;
        rest = &rest[letters..];
        if *size >= last {
            return None;
        }
        last = *size;
        millis = millis.checked_add(number.checked_mul(*size)?)?;
    }
    (last != u64::MAX).then_some(Duration::from_millis(millis))
}

/// `50GiB`, `1.5 TiB`, `300GB`, `1024`.
pub(super) fn bytes(text: &str) -> Option<Bytes> {
    const UNITS: [(&str, u64); 12] = [
        ("", 1),
        ("B", 1),
        ("kB", 1000),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("PiB", 1 << 50),
    ];
    let end = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = (&text[..end], text[end..].trim_start());
    let (_, size) = UNITS.iter().find(|(known, _)| *known == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if number.contains('.') && (fraction.is_empty() || fraction.len() > 6 || unit.len() < 2) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let parts = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let rest = Bytes(*size).scaled(fraction, parts);
    Some(Bytes(whole.checked_mul(*size)?.checked_add(rest.0)?))
}

/// `90%` or `97.5%`: more than nothing, and not more than all.
pub(super) fn percent(text: &str) -> Option<Percent> {
    let number = text.strip_suffix('%')?.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 2 {
        return None;
    }
    let whole: u32 = whole.parse().ok()?;
    let fraction: u32 = format!("{fraction:0<2}").parse().ok()?;
    let share = Percent::from_hundredths(whole.checked_mul(100)?.checked_add(fraction)?);
    (share > Percent::default() && share <= Percent::WHOLE).then_some(share)
}

/// `90%` or `50GiB free`.
pub(super) fn mark(text: &str) -> Option<Mark> {
    match text.strip_suffix("free") {
        Some(rest) if rest.ends_with(' ') => bytes(rest.trim_end()).filter(|b| *b > Bytes::ZERO).map(Mark::Free),
        Some(_) => None,
        None => percent(text).map(Mark::Used),
    }
}

/// `01:00-05:00`; it may pass midnight, and ends at `24:00` at the latest.
pub(super) fn window(text: &str) -> Option<Window> {
    let minute = |text: &str, latest: u16| {
        let (hours, minutes) = text.trim().split_once(':')?;
        let two = |part: &str| {
            (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<u16>().ok())
        };
        let (hours, minutes) = (two(hours)??, two(minutes)??);
        let minute = hours * 60 + minutes;
        (minutes < 60 && minute <= latest).then_some(minute)
    };
    let (from, to) = text.split_once('-')?;
    let window = Window { from: minute(from, 1439)?, to: minute(to, 1440)? };
    (window.from != window.to).then_some(window)
}

/// Puts in what `${NAME}` stands for; `$$` is `$`, any other `$` is itself.
///
/// # Errors
/// A sentence for each reference that cannot be resolved.
pub(super) fn expand(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, Vec<String>> {
    let (mut out, mut rest, mut problems) = (String::with_capacity(text.len()), text, Vec::new());
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some((name, after)) = after.split_once('}') else {
                problems.push("holds `${` without `}`; write `$$` for a `$` of its own".to_owned());
                break;
            };
            match environment(name) {
                Some(value) => out.push_str(&value),
                None => problems.push(format!(
                    "needs the environment variable `{}`, which is not set; write `$$` for a `$` of its own",
                    name.escape_default()
                )),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    if problems.is_empty() { Ok(out) } else { Err(problems) }
}

/// The word of `known` that `word` was probably meant to be.
pub(super) fn near<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let most = (word.chars().count() / 2).clamp(1, 2);
    known
        .into_iter()
        .map(|k| (distance(&word.to_lowercase(), &k.to_lowercase()), k))
        .filter(|(d, _)| *d <= most)
        .min()
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("200ms", Some(200)),
            ("10s", Some(10_000)),
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("7d", Some(604_800_000)),
            ("1d1ms", Some(86_400_001)),
            ("", None),
            ("10", None),
            ("-1s", None),
            ("1.5h", None),
            ("30m1h", None),
            ("1h1h", None),
            ("1 h", None),
            ("1y", None),
            ("99999999999999999999d", None),
            ("999999999999999d", None),
            ("１s", None),
        ] {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn numbers_of_bytes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("50GiB", Some(50 << 30)),
            ("1TiB", Some(1 << 40)),
            ("1.5 TiB", Some(3 << 39)),
            ("300GB", Some(300_000_000_000)),
            ("12B", Some(12)),
            ("", None),
            ("GiB", None),
            ("50G", None),
            ("-1GiB", None),
            ("1.5", None),
            ("1.GiB", None),
            ("1.2.3GiB", None),
            ("1e9", None),
            ("99999999PiB", None),
        ] {
            assert_eq!(bytes(text), expected.map(Bytes), "{text}");
        }
    }

    #[test]
    fn percentages_and_marks() {
        for (text, hundredths) in [
            ("90%", Some(9000)),
            ("97.5%", Some(9750)),
            ("0.05%", Some(5)),
            ("100%", Some(10_000)),
            ("0%", None),
            ("101%", None),
            ("-5%", None),
            ("+5%", None),
            ("90", None),
            ("NaN%", None),
            ("%", None),
            ("9.999%", None),
            ("99999999999%", None),
        ] {
            assert_eq!(percent(text), hundredths.map(Percent::from_hundredths), "{text}");
        }
        assert_eq!(mark("50GiB free"), Some(Mark::Free(Bytes::gib(50))));
        for text in ["0GiB free", "50GiBfree", "free", "50GiB", "90% free"] {
            assert_eq!(mark(text), None, "{text}");
        }
    }

    #[test]
    fn spans_of_the_day() {
        for (text, expected) in [
            ("01:00-05:00", Some((60, 300))),
            ("22:30-24:00", Some((1350, 1440))),
            ("22:00-06:00", Some((1320, 360))),
            ("01:00-01:00", None),
            ("24:00-05:00", None),
            ("1:00-5:00", None),
            ("01:60-05:00", None),
            ("25:00-26:00", None),
            ("01:00", None),
        ] {
            assert_eq!(window(text), expected.map(|(from, to)| Window { from, to }), "{text}");
        }
    }

    #[test]
    fn references_to_the_environment() {
        let environment = |name: &str| (name == "A").then(|| "x${B}".to_owned());
        for (text, expected) in [
            ("plain", Ok("plain")),
            ("${A}/${A}", Ok("x${B}/x${B}")),
            ("$$ $ 5$", Ok("$ $ 5$")),
            ("$${A}", Ok("${A}")),
            ("${B}${C}", Err(2)),
            ("${A", Err(1)),
        ] {
            let found = expand(text, &environment);
            assert_eq!(found.as_deref().map_err(Vec::len), expected, "{text}");
        }
    }

    #[test]
    fn near_words_are_found() {
        let known = ["watermarks", "trees", "high", "low"];
        for (word, expected) in [
            ("watermark", Some("watermarks")),
            ("Trees", Some("trees")),
            ("hihg", Some("high")),
            ("loww", Some("low")),
            ("hig", Some("high")),
            ("xyz", None),
        ] {
            assert_eq!(near(word, known), expected, "{word}");
        }
    }
}
