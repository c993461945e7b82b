//! Time as a parameter, so that expiry and ordering can be tested without waiting.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

/// Microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn as_micros(self) -> i64 {
        self.0
    }

    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Milliseconds for a `UUIDv7`; a clock before 1970 counts as 1970.
    pub fn as_unix_millis(self) -> u64 {
        u64::try_from(self.0.div_euclid(1_000)).unwrap_or(0)
    }

    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// When a day begins, in UTC.
    pub fn of_day(day: jiff::civil::Date) -> Self {
        let at = day.to_zoned(jiff::tz::TimeZone::UTC).map(|at| at.timestamp().as_microsecond());
        Self(at.unwrap_or(0))
    }

    /// The same day and time so many years ago, in UTC; of a leap day the one before it.
    #[must_use]
    pub fn years_ago(self, years: u16) -> Self {
        let span = jiff::Span::new().try_years(years).unwrap_or_default();
        let earlier = jiff::Timestamp::from_microsecond(self.0)
            .and_then(|at| at.to_zoned(jiff::tz::TimeZone::UTC).checked_sub(span));
        // Where there is no such day, nothing is so long ago.
        earlier.map_or(Self(i64::MIN), |at| Self(at.timestamp().as_microsecond()))
    }

    /// RFC 3339 in UTC with exactly six decimals, as audit entries and answers carry it.
    pub fn to_rfc3339(self) -> String {
        jiff::Timestamp::from_microsecond(self.0)
            .map_or_else(|_| String::from("9999-12-31T23:59:59.999999Z"), |at| format!("{at:.6}"))
    }

    /// Parses RFC 3339; anything finer than a microsecond is cut off.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|at| Self(at.as_microsecond()))
    }
}

/// Where "now" comes from.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;

    /// How long something takes is told by this: it counts from a moment of its own, and nobody sets it.
    fn steady(&self) -> Timestamp {
        self.now()
    }
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one home of the machine's clock")]
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_microsecond())
    }

    fn steady(&self) -> Timestamp {
        static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        Timestamp(i64::try_from(BEGIN.elapsed().as_micros()).unwrap_or(i64::MAX))
    }
}

pub type SharedClock = Arc<dyn Clock>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_has_six_decimals_and_comes_back() {
        let at = Timestamp::from_micros(1_700_000_000_000_000);
        assert_eq!(at.to_rfc3339(), "2023-11-14T22:13:20.000000Z");
        assert_eq!(Timestamp::parse_rfc3339(&at.to_rfc3339()), Some(at));
    }
}
