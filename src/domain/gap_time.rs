//! The time that somebody asks about: a moment or a span, with an offset, or by the clock on the wall where the cameras are.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

use super::demand::day;
use super::units::Timestamp;

/// A span is no longer than this: what is asked about is looked at file by file.
const LONGEST: Duration = Duration::from_secs(48 * 3600);

/// What is accepted, for whoever wrote something else.
pub const FORMS: &str = "write it as 2026-11-22T08:30:00Z or with another offset, as `2026-11-22 08:30` by the clock of the tree's `timezone`, \
     as 2026-11-22 for that whole day, or as a span `FROM/TO` of these";

/// A span of time; a moment is one whose ends are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end, which is not part of it.
    pub to: Timestamp,
}

/// A time as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// With an offset: the same everywhere.
    At(Timestamp),
    /// By the clock on the wall.
    Local(DateTime),
    /// A day of the calendar on the wall.
    Day(Date),
}

/// What time is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    from: Written,
    to: Option<Written>,
}

impl When {
    /// Reads a time, which may be a span `FROM/TO`, or one that ends at `to`.
    ///
    /// # Errors
    /// A sentence that says what is accepted.
    pub fn parse(time: &str, to: Option<&str>) -> Result<Self, String> {
        let (from, to) = match (time.split_once('/'), to) {
            (Some(_), Some(_)) => return Err(format!("`{time}` has an end already; give only one")),
            (Some((from, to)), None) => (from, Some(to)),
            (None, to) => (time, to),
        };
        Ok(Self { from: written(from)?, to: to.map(written).transpose()? })
    }

    /// The span, where clocks show the time of `zone`. Where they are put back and a time is there twice, the later one is meant, as in names.
    ///
    /// # Errors
    /// A sentence, if it ends before it begins, or is too long.
    pub fn span(&self, zone: &TimeZone) -> Result<Span, String> {
        let (first, whole) = ends(self.from, zone)?;
        let to = match self.to {
            // The last day that is named is part of it.
            Some(written) => ends(written, zone)?.1,
            None => whole,
        };
        if to < first {
            return Err(format!("the span ends at {to}, before it begins at {first}"));
        }
        if to.since(first) > LONGEST {
            return Err("the span is longer than 48 hours; ask about each day".to_owned());
        }
        Ok(Span { from: first, to })
    }
}

fn written(text: &str) -> Result<Written, String> {
    let text = text.trim();
    if let Some(day) = day(text) {
        return Ok(Written::Day(day));
    }
    // A `+` that was not percent-encoded has become a space.
    let offset = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let plus = || text.rsplit_once(' ').and_then(|(head, tail)| offset(&format!("{head}+{tail}")));
    if let Some(at) = offset(text) {
        return Ok(Written::At(Timestamp::from_millis(at.as_millisecond())));
    }
    if let Ok(local) = text.parse::<DateTime>() {
        return Ok(Written::Local(local));
    }
    match plus() {
        Some(at) => Ok(Written::At(Timestamp::from_millis(at.as_millisecond()))),
        None => Err(format!("`{text}` is no time; {FORMS}")),
    }
}

/// The first moment, and where it ends: for a day that of the next, else the same.
fn ends(written: Written, zone: &TimeZone) -> Result<(Timestamp, Timestamp), String> {
    let moment = |at: DateTime| {
        let found = zone.to_ambiguous_timestamp(at).later();
        found.map(|at| Timestamp::from_millis(at.as_millisecond())).map_err(|_| format!("`{at}` is no time"))
    };
    let midnight = |day: Date| moment(day.to_datetime(Time::midnight()));
    match written {
        Written::At(at) => Ok((at, at)),
        Written::Local(at) => moment(at).map(|at| (at, at)),
        Written::Day(day) => {
            let next = day.tomorrow().map_err(|_| format!("`{day}` is the last day there is"))?;
            Ok((midnight(day)?, midnight(next)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(zone: &str, time: &str, to: Option<&str>, expected: Result<(&str, &str), &str>) {
        let found = When::parse(time, to).and_then(|when| when.span(&TimeZone::get(zone).unwrap()));
        match (found, expected) {
            (Ok(span), Ok((from, to))) => {
                assert_eq!((span.from.to_string(), span.to.to_string()), (from.into(), to.into()))
            }
            (Err(why), Err(part)) => assert!(why.contains(part), "{time}: {why}"),
            (found, expected) => panic!("{time} {to:?}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_time_is_a_moment_a_day_or_a_span_with_an_offset_or_by_the_trees_clock() {
        const EAST: &str = "Asia/Shanghai";
        let moment = |text| Ok((text, text));
        check(EAST, "2026-11-22T08:30:00Z", None, moment("2026-11-22T08:30:00Z"));
        check(EAST, "2026-11-22T08:30:00+02:00", None, moment("2026-11-22T06:30:00Z"));
        check(EAST, "2026-11-22T08:30:00 02:00", None, moment("2026-11-22T06:30:00Z"));
        check(EAST, "2026-11-22 08:30", None, moment("2026-11-22T00:30:00Z"));
        check(EAST, "2026-11-22T08:30:15", None, moment("2026-11-22T00:30:15Z"));
        check(EAST, "2026-11-22", None, Ok(("2026-11-21T16:00:00Z", "2026-11-22T16:00:00Z")));
        check(EAST, "2026-11-22 08:30/2026-11-22 09:30", None, Ok(("2026-11-22T00:30:00Z", "2026-11-22T01:30:00Z")));
        check(
            EAST,
            "2026-11-22 08:30",
            Some("2026-11-22T01:30:00Z"),
            Ok(("2026-11-22T00:30:00Z", "2026-11-22T01:30:00Z")),
        );
        check(EAST, "2026-11-22/2026-11-23", None, Ok(("2026-11-21T16:00:00Z", "2026-11-23T16:00:00Z")));
        // Put back at three: half past two is there twice, and the later one is meant.
        check("Europe/Berlin", "2026-10-25 02:30", None, moment("2026-10-25T01:30:00Z"));
        check("Europe/Berlin", "2026-10-25", None, Ok(("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z")));
    }

    #[test]
    fn what_is_no_time_is_told_what_is_one() {
        for bad in
            ["", "yesterday", "08:30", "2026-13-01", "2026-11-22/", "/2026-11-22", "2026-11-22 25:00", "1795351200"]
        {
            check("UTC", bad, None, Err("is no time; write it as 2026-11-22T08:30:00Z"));
        }
        check("UTC", "2026-11-22/2026-11-23", Some("2026-11-24"), Err("has an end already"));
        check("UTC", "2026-11-22 09:00/2026-11-22 08:00", None, Err("before it begins"));
        check("UTC", "2026-11-22/2026-11-24", None, Err("longer than 48 hours"));
    }
}
