//! Quantities with a type. Arithmetic on them saturates; integers decide, floats only show.

use std::fmt;
use std::time::Duration;

/// A number of bytes. On disk it means allocated blocks, never a file's apparent size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One KiB.
    pub const KIB: Self = Self(1 << 10);
    /// One MiB.
    pub const MIB: Self = Self(1 << 20);
    /// One GiB.
    pub const GIB: Self = Self(1 << 30);

    /// `n` MiB.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 20))
    }

    /// `n` GiB.
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 30))
    }

    /// The sum, or the largest value there is.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The product, or the largest value there is.
    #[must_use]
    pub const fn saturating_mul(self, factor: u64) -> Self {
        Self(self.0.saturating_mul(factor))
    }

    /// `self × numerator ÷ denominator`, rounded down, without overflow on the way; zero when the denominator is.
    #[must_use]
    pub fn scaled(self, numerator: u64, denominator: u64) -> Self {
        if denominator == 0 {
            return Self::ZERO;
        }
        let wide = u128::from(self.0) * u128::from(numerator) / u128::from(denominator);
        Self(u64::try_from(wide).unwrap_or(u64::MAX))
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Self::saturating_add)
    }
}

impl fmt::Display for Bytes {
    /// For people: `512 B`, `1.5 GiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let exponent = (63 - self.0.leading_zeros()) / 10;
        let unit = UNITS[exponent as usize - 1];
        let shift = 10 * exponent;
        let tenths = (u128::from(self.0) * 10) >> shift;
        if tenths >= 1000 || tenths.is_multiple_of(10) {
            write!(f, "{} {unit}", tenths / 10)
        } else {
            write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
        }
    }
}

/// A share of a whole, kept in hundredths of a percent so that `97.5%` is exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

impl Percent {
    /// The whole.
    pub const WHOLE: Self = Self(10_000);

    /// `n` percent.
    #[must_use]
    pub const fn new(n: u32) -> Self {
        Self(n.saturating_mul(100))
    }

    /// `n` hundredths of a percent.
    #[must_use]
    pub const fn from_hundredths(n: u32) -> Self {
        Self(n)
    }

    /// In hundredths of a percent.
    #[must_use]
    pub const fn hundredths(self) -> u32 {
        self.0
    }

    /// That share of `whole`, rounded down.
    #[must_use]
    pub fn of(self, whole: Bytes) -> Bytes {
        whole.scaled(u64::from(self.0), 10_000)
    }

    /// That share of a count, rounded down.
    #[must_use]
    pub fn of_count(self, whole: u64) -> u64 {
        self.of(Bytes(whole)).0
    }

    /// As a ratio from 0 to 1, to show.
    #[must_use]
    pub fn as_ratio(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match rest {
            0 => write!(f, "{whole}%"),
            r if r % 10 == 0 => write!(f, "{whole}.{}%", r / 10),
            r => write!(f, "{whole}.{r:02}%"),
        }
    }
}

/// A moment: milliseconds since the Unix epoch. It is handed in, never asked for, below this room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From seconds since the Unix epoch.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This moment and `span` more.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis_of(span)))
    }

    /// This moment less `span`.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis_of(span)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, to the second, or to the millisecond where there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

fn millis_of(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// A duration for people and configuration: `10s`, `5m`, `1h30m`, `7d`.
#[must_use]
pub fn show_duration(span: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let secs = span.as_secs();
    if secs == 0 {
        return match span.subsec_millis() {
            0 => "0s".to_owned(),
            ms => format!("{ms}ms"),
        };
    }
    let mut rest = secs;
    let mut out = String::new();
    let mut parts = 0;
    for (size, unit) in UNITS {
        let n = rest / size;
        if n > 0 && parts < 2 {
            out.push_str(&format!("{n}{unit}"));
            parts += 1;
        } else if parts > 0 {
            break;
        }
        rest %= size;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_print_for_people() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (1 << 30, "1 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
    }

    #[test]
    fn percentages_are_exact_and_never_overflow() {
        assert_eq!(Percent::new(90).of(Bytes(1000)), Bytes(900));
        assert_eq!(Percent::from_hundredths(9750).to_string(), "97.5%");
        assert_eq!(Percent::new(200).of(Bytes(u64::MAX)), Bytes(u64::MAX));
        assert_eq!(Percent::WHOLE.of(Bytes(u64::MAX)), Bytes(u64::MAX));
    }

    #[test]
    fn time_saturates() {
        let late = Timestamp::from_millis(i64::MAX);
        assert_eq!(late.plus(Duration::from_secs(1)), late);
        assert_eq!(Timestamp::from_secs(1).since(late), Duration::ZERO);
        assert_eq!(Timestamp::from_secs(0).to_string(), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn durations_print_as_they_are_written() {
        for (secs, shown) in [(0, "0s"), (90, "1m30s"), (86_400 * 7, "7d"), (3_600 * 25, "1d1h"), (3_601, "1h")] {
            assert_eq!(show_duration(Duration::from_secs(secs)), shown);
        }
    }
}
