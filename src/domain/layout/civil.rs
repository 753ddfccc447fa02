//! Dates and times as they stand in names.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

use crate::domain::units::Timestamp;

/// Reads text from the left, piece by piece.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// Exactly `count` digits, as a number.
    pub(super) fn digits(&mut self, count: usize) -> Option<i64> {
        let text = self.0.get(..count)?;
        if count == 0 || count > 18 || !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.0 = &self.0[count..];
        Some(text.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
    }

    /// One digit or more, as a number.
    pub(super) fn number(&mut self) -> Option<i64> {
        let count = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        self.digits(count)
    }

    /// Exactly this text.
    pub(super) fn literal(&mut self, text: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// `YYYY-MM-DD`, with `between` instead of the hyphens.
    pub(super) fn date(&mut self, between: &[u8]) -> Option<Date> {
        let year = self.digits(4)?;
        self.literal(between)?;
        let month = self.digits(2)?;
        self.literal(between)?;
        civil_date(year, month, self.digits(2)?)
    }

    /// `HH-MM-SS`, with `between` instead of the hyphens.
    pub(super) fn time(&mut self, between: &[u8]) -> Option<Time> {
        let hour = self.digits(2)?;
        self.literal(between)?;
        let minute = self.digits(2)?;
        self.literal(between)?;
        civil_time(hour, minute, self.digits(2)?)
    }

    /// Nothing is left.
    pub(super) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// A date that exists.
pub(super) fn civil_date(year: i64, month: i64, day: i64) -> Option<Date> {
    Date::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?).ok()
}

/// A time of day that exists.
pub(super) fn civil_time(hour: i64, minute: i64, second: i64) -> Option<Time> {
    Time::new(hour.try_into().ok()?, minute.try_into().ok()?, second.try_into().ok()?, 0).ok()
}

/// A whole text as `YYYY-MM-DD`.
pub(super) fn dashed_date(text: &[u8]) -> Option<Date> {
    whole(text, |r| r.date(b"-"))
}

/// The moment of a civil time. Where the clock was put back and the time is there twice, the later moment counts: a recording is
/// then taken for younger than it may be, never for older.
pub(super) fn moment(zone: &TimeZone, at: DateTime) -> Option<Timestamp> {
    let zoned = zone.to_ambiguous_timestamp(at).later().ok()?;
    Some(Timestamp::from_millis(zoned.as_millisecond()))
}

/// Makes moments of civil times in one zone. It remembers the day it was asked for last: names of one directory mostly share
/// theirs, and on a day without a change of the clock a moment is its start and the seconds since.
#[derive(Debug)]
pub(super) struct Calendar {
    zone: TimeZone,
    /// A day, and its first moment if the clock was not changed in it.
    day: Option<(Date, Option<Timestamp>)>,
}

impl Calendar {
    pub(super) fn new(zone: TimeZone) -> Self {
        Self { zone, day: None }
    }

    /// As [`moment`].
    pub(super) fn moment(&mut self, date: Date, time: Time) -> Option<Timestamp> {
        let start = match self.day {
            Some((known, start)) if known == date => start,
            Some(_) | None => {
                let start = even_start(&self.zone, date);
                self.day = Some((date, start));
                start
            }
        };
        let Some(start) = start else { return moment(&self.zone, date.to_datetime(time)) };
        let minutes = i64::from(time.hour()) * 60 + i64::from(time.minute());
        Some(Timestamp::from_secs(start.secs() + minutes * 60 + i64::from(time.second())))
    }

    /// The moment a day ends.
    pub(super) fn end_of(&mut self, date: Date) -> Option<Timestamp> {
        self.moment(date.tomorrow().ok()?, Time::midnight())
    }
}

/// The first moment of a day in which the clock is not changed; `None` for any other day.
fn even_start(zone: &TimeZone, date: Date) -> Option<Timestamp> {
    let midnight = |date: Date| date.to_datetime(Time::midnight());
    let first = |date| zone.to_ambiguous_timestamp(midnight(date)).later().ok();
    let (start, end) = (first(date)?, first(date.tomorrow().ok()?)?);
    let even = zone.to_datetime(start) == midnight(date)
        && end.as_second() - start.as_second() == 86_400
        && zone.following(start).next().is_none_or(|change| change.timestamp() > end);
    even.then(|| Timestamp::from_secs(start.as_second()))
}

/// Reads a whole text.
pub(super) fn whole<'a, T>(text: &'a [u8], read: impl FnOnce(&mut Reader<'a>) -> Option<T>) -> Option<T> {
    let mut reader = Reader(text);
    let value = read(&mut reader)?;
    reader.end()?;
    Some(value)
}
