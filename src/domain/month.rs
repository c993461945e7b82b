//! A month of the calendar, in UTC: what the log is kept and dropped by.

use std::fmt;

use jiff::civil::Date;

use super::clock::Timestamp;

/// From 1970 on, as the times in ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(Date);

impl Month {
    /// `YYYY-MM`, and nothing around it.
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let is_number = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        (is_number(year, 4) && is_number(month, 2)).then_some(())?;
        Self::of(Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok()?)
    }

    /// The one that a day is in.
    pub fn of(day: Date) -> Option<Self> {
        (1970..=9998).contains(&day.year()).then(|| Self(day.first_of_month()))
    }

    /// The one that a time is in.
    pub fn at(time: Timestamp) -> Option<Self> {
        let at = jiff::Timestamp::from_microsecond(time.as_micros()).ok()?;
        Self::of(at.to_zoned(jiff::tz::TimeZone::UTC).date())
    }

    /// Its first day.
    pub const fn first_day(self) -> Date {
        self.0
    }

    /// The one after it. The last that there is comes after itself.
    #[must_use]
    pub fn next(self) -> Self {
        self.later(1)
    }

    /// So many months later.
    #[must_use]
    pub fn later(self, months: u32) -> Self {
        let span = jiff::Span::new().try_months(i64::from(months)).unwrap_or_default();
        self.0.checked_add(span).ok().and_then(Self::of).unwrap_or(self)
    }

    /// When it begins, in UTC.
    pub fn begins_at(self) -> Timestamp {
        Timestamp::of_day(self.0)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), self.0.month())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn months_follow_one_another() {
        let month = |text: &str| Month::parse(text).unwrap();
        assert_eq!(month("2025-12").next(), month("2026-01"));
        assert_eq!(month("2024-01").later(14), month("2025-03"));
        assert_eq!(month("2025-02").begins_at().to_rfc3339(), "2025-02-01T00:00:00.000000Z");
        assert_eq!(Month::of(Date::constant(2025, 2, 28)), Some(month("2025-02")));
        assert_eq!(month("9998-12").next(), month("9998-12"));
        let last = month("2025-03").begins_at().as_micros() - 1;
        assert_eq!(Month::at(Timestamp::from_micros(last)), Some(month("2025-02")));
        assert_eq!(Month::at(Timestamp::from_micros(last + 1)), Some(month("2025-03")));
        assert_eq!(Month::at(Timestamp::from_micros(-1)), None);
    }

    #[test]
    fn what_is_no_month_is_refused() {
        for bad in [
            "",
            "2025",
            "2025-1",
            "2025-13",
            "2025-00",
            "25-01",
            "2025-01-01",
            " 2025-01",
            "2025-01\n",
            "+025-01",
            "1969-12",
            "9999-01",
            "2025_01",
            "２０２５-01",
        ] {
            assert_eq!(Month::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_month_comes_back(year in 1970_i16..=9998, month in 1_i8..=12) {
            let parsed = Month::of(Date::constant(year, month, 1)).unwrap();
            prop_assert_eq!(Month::parse(&parsed.to_string()), Some(parsed));
            prop_assert!(parsed.next() > parsed || year == 9998);
            prop_assert!(parsed.next().begins_at() >= parsed.begins_at());
        }

        #[test]
        fn nothing_else_is_one(text in ".{0,12}") {
            prop_assert!(Month::parse(&text).is_none_or(|month| month.to_string() == text));
        }
    }
}
