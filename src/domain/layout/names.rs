//! The grammars of single names and of dated directories.

use jiff::civil::{Date, Time};

use super::civil::{Reader, civil_date, civil_time, dashed_date, whole};

/// A name without the dot that hides it, and whether there was one.
pub(super) fn unhide(name: &[u8]) -> (bool, &[u8]) {
    match name.strip_prefix(b".") {
        Some(rest) => (true, rest),
        None => (false, name),
    }
}

/// `YYYY-MM-DD-HH-MM-SS-N.mp4`, of older servers `HH-MM-SS.mp4` or `HH-MM-SS-N.mp4`, in the directory of `day`.
pub(super) fn zlmediakit(name: &[u8], day: Date) -> Option<Time> {
    whole(name.strip_suffix(b".mp4")?, |r| {
        let mut dated = *r;
        if let Some(date) = dated.date(b"-") {
            (date == day).then_some(())?;
            dated.literal(b"-")?;
            *r = dated;
        }
        let time = r.time(b"-")?;
        if r.literal(b"-").is_some() {
            r.number()?;
        }
        Some(time)
    })
}

/// `MM-SS_N.ts` (or `.mp4`, `.m4s`) in the directory of `hour`. Playlists and `init.mp4` are nobody's recording.
pub(super) fn hls(name: &[u8], hour: i64) -> Option<Time> {
    let stem = [&b".ts"[..], b".mp4", b".m4s"].into_iter().find_map(|end| name.strip_suffix(end))?;
    whole(stem, |r| {
        let minute = r.digits(2)?;
        r.literal(b"-")?;
        let second = r.digits(2)?;
        r.literal(b"_")?;
        r.number()?;
        civil_time(hour, minute, second)
    })
}

/// `MM.SS.mp4` in the directory of `hour`.
pub(super) fn frigate(name: &[u8], hour: i64) -> Option<Time> {
    whole(name.strip_suffix(b".mp4")?, |r| {
        let minute = r.digits(2)?;
        r.literal(b".")?;
        civil_time(hour, minute, r.digits(2)?)
    })
}

/// `YYYY-MM-DD_HH-MM-SS-MICROSECONDS.mp4` (or `.ts`).
pub(super) fn mediamtx(name: &[u8]) -> Option<(Date, Time)> {
    let stem = name.strip_suffix(b".mp4").or_else(|| name.strip_suffix(b".ts"))?;
    whole(stem, |r| {
        let date = r.date(b"-")?;
        r.literal(b"_")?;
        let time = r.time(b"-")?;
        r.literal(b"-")?;
        r.number()?;
        Some((date, time))
    })
}

/// A directory that bears an hour.
pub(super) fn hour(text: &[u8]) -> Option<i64> {
    whole(text, |r| r.digits(2)).filter(|hour| *hour < 24)
}

/// The date that the last one or three of these directories bear (`2026-11-22`, `20261122`, `2026/11/22`), and how many they
/// are.
pub(super) fn date_at(dirs: &[&[u8]]) -> Option<(Date, usize)> {
    let last = dirs.last()?;
    if let Some(date) = dashed_date(last).or_else(|| whole(last, |r| r.date(b""))) {
        return Some((date, 1));
    }
    let [.., year, month, day] = dirs else { return None };
    let part = |text: &[u8], count| whole(text, |r: &mut Reader<'_>| r.digits(count));
    Some((civil_date(part(year, 4)?, part(month, 2)?, part(day, 2)?)?, 3))
}

/// The date of the last two directories as Frigate named them before 0.12: `2026-11/22`.
pub(super) fn frigate_day(dirs: &[&[u8]]) -> Option<Date> {
    let [.., month, day] = dirs else { return None };
    let (year, month) = whole(month, |r| {
        let year = r.digits(4)?;
        r.literal(b"-")?;
        Some((year, r.digits(2)?))
    })?;
    civil_date(year, month, whole(day, |r| r.digits(2))?)
}

/// What a name in a dated directory says of its time: a date and a time anywhere in it, or a time at its beginning. A date
/// that is not `day` nor beside it is not believed, and then nothing in the name is.
pub(super) fn time_in(stem: &[u8], day: Date) -> Option<(Date, Time)> {
    let starts =
        (0..stem.len()).filter(|at| stem[*at].is_ascii_digit() && (*at == 0 || !stem[*at - 1].is_ascii_digit()));
    for at in starts {
        if let Some((date, time)) = date_and_time(Reader(&stem[at..])) {
            let near = date == day || day.tomorrow().ok() == Some(date) || day.yesterday().ok() == Some(date);
            return near.then_some((date, time));
        }
    }
    Some((day, time_alone(Reader(stem))?))
}

/// `2026-11-22-12-21-41`, `20261122_122141`, `2026-11-22T12.21.41` and their like.
fn date_and_time(from: Reader<'_>) -> Option<(Date, Time)> {
    [&b"-"[..], b".", b"_", b""].into_iter().find_map(|between| {
        let mut r = from;
        let date = r.date(between)?;
        let _ = [&b"-"[..], b"_", b"T", b" ", b"."].into_iter().find_map(|between| r.literal(between));
        Some((date, time_alone(r)?))
    })
}

/// `12-21-41`, `12.21.41`, `12_21_41`, `12:21:41` or `122141`, and no further digit: a longer number is a counter.
fn time_alone(from: Reader<'_>) -> Option<Time> {
    [&b"-"[..], b".", b"_", b":", b""].into_iter().find_map(|between| {
        let mut r = from;
        let time = r.time(between)?;
        (!r.0.first().is_some_and(u8::is_ascii_digit)).then_some(time)
    })
}
