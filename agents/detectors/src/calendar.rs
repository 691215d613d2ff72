//! Weekdays, hours and days of moments, at a fixed distance from UTC.

use serde::{Deserialize, Serialize};

/// Seconds of a day.
pub const DAY_S: i64 = 86_400;
/// Seconds of a week.
pub const WEEK_S: i64 = 7 * DAY_S;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "a week's days need no explanation")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// The week in order.
const WEEK: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

/// A moment as a wall clock shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Days since 1970-01-01.
    pub day: i64,
    /// Day of the week.
    pub weekday: Weekday,
    /// Minute of the day.
    pub minute: i64,
}

impl Moment {
    /// Of seconds since 1970, this many minutes east of UTC.
    pub fn new(at: i64, offset_min: i32) -> Self {
        let local = at.saturating_add(i64::from(offset_min) * 60);
        let day = local.div_euclid(DAY_S);
        Self { day, weekday: weekday_of(day), minute: local.rem_euclid(DAY_S) / 60 }
    }

    /// Hour of the day.
    pub fn hour(&self) -> i64 {
        self.minute / 60
    }
}

/// The weekday of a day since 1970, which began on a Thursday.
pub fn weekday_of(day: i64) -> Weekday {
    let index = usize::try_from(day.saturating_add(3).rem_euclid(7)).unwrap_or(0);
    WEEK.get(index).copied().unwrap_or(Weekday::Monday)
}

impl Weekday {
    /// The day before.
    pub fn before(self) -> Self {
        WEEK.iter().zip(WEEK.iter().cycle().skip(6)).find(|(day, _)| **day == self).map_or(self, |(_, before)| *before)
    }

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Monday => "Monday",
            Self::Tuesday => "Tuesday",
            Self::Wednesday => "Wednesday",
            Self::Thursday => "Thursday",
            Self::Friday => "Friday",
            Self::Saturday => "Saturday",
            Self::Sunday => "Sunday",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_on_a_clock_east_of_utc() {
        // 2026-03-31T23:30:00Z is a Tuesday, and Wednesday 01:30 two hours east.
        let at = 1_774_999_800;
        let utc = Moment::new(at, 0);
        assert_eq!((utc.weekday, utc.hour(), utc.minute), (Weekday::Tuesday, 23, 23 * 60 + 30));
        let east = Moment::new(at, 120);
        assert_eq!((east.weekday, east.hour(), east.day), (Weekday::Wednesday, 1, utc.day + 1));
        assert_eq!(Moment::new(-1, 0).weekday, Weekday::Wednesday);
        assert_eq!((Weekday::Monday.before(), Weekday::Sunday.before()), (Weekday::Sunday, Weekday::Saturday));
    }
}
