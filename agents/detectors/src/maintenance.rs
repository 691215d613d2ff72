//! Maintenance windows: times in which people know that something is being worked on.
//!
//! A window holds the page, not the eyes: what it says is asked about a finding after it was made.

use crate::calendar::{Moment, Weekday};

/// Most windows.
pub const WINDOWS_MAX: usize = 200;

/// When a window is open. Ends are exclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Open {
    /// Once.
    Once {
        /// First second.
        from: i64,
        /// The second after the last.
        to: i64,
    },
    /// On these weekdays from one minute of the day to another; past midnight when the second is not later.
    Weekly {
        /// Days on which it begins.
        weekdays: Vec<Weekday>,
        /// First minute of the day.
        from_min: i64,
        /// The minute after the last.
        to_min: i64,
        /// Minutes east of UTC of the clock that it goes by.
        offset_min: i32,
    },
}

/// A window with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// What people call it.
    pub name: String,
    /// When it is open.
    pub open: Open,
}

impl Window {
    /// Whether it is open at this moment.
    pub fn holds(&self, at: i64) -> bool {
        match &self.open {
            Open::Once { from, to } => (*from..*to).contains(&at),
            Open::Weekly { weekdays, from_min, to_min, offset_min } => {
                let Moment { weekday, minute, .. } = Moment::new(at, *offset_min);
                if from_min < to_min {
                    return weekdays.contains(&weekday) && (*from_min..*to_min).contains(&minute);
                }
                // It goes past midnight: its evening, or the morning after.
                (weekdays.contains(&weekday) && minute >= *from_min)
                    || (weekdays.contains(&weekday.before()) && minute < *to_min)
            }
        }
    }
}

/// The name of the first window that is open at this moment.
pub fn held_by<'w>(windows: impl IntoIterator<Item = &'w Window>, at: i64) -> Option<&'w str> {
    windows.into_iter().take(WINDOWS_MAX).find(|window| window.holds(at)).map(|window| window.name.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::calendar::{DAY_S, WEEK_S};

    const MINUTE_S: i64 = 60;
    /// Sunday, 1970-01-11, 00:00 in UTC.
    const SUNDAY: i64 = 10 * DAY_S;

    fn weekly(from_min: i64, to_min: i64, offset_min: i32) -> Window {
        let open = Open::Weekly { weekdays: vec![Weekday::Sunday], from_min, to_min, offset_min };
        Window { name: "patching".to_owned(), open }
    }

    #[test]
    fn a_weekly_window_is_open_on_its_clock() {
        let at = |window: &Window, minute: i64| window.holds(SUNDAY + minute * MINUTE_S);
        let utc = weekly(120, 240, 0);
        assert_eq!([119, 120, 239, 240].map(|minute| at(&utc, minute)), [false, true, true, false]);
        // Two in the morning of Sunday, one hour east, is one in UTC.
        let east = weekly(120, 240, 60);
        assert_eq!([59, 60, 179, 180].map(|minute| at(&east, minute)), [false, true, true, false]);
    }

    #[test]
    fn a_window_past_midnight_ends_in_the_morning() {
        let night = weekly(22 * 60, 2 * 60, 0);
        let at = |minute: i64| night.holds(SUNDAY + minute * MINUTE_S);
        assert_eq!([0, 21 * 60 + 59, 22 * 60, 26 * 60 - 1, 26 * 60].map(at), [false, false, true, true, false]);
    }

    #[test]
    fn the_first_open_window_is_named() {
        let once = Window { name: "move".to_owned(), open: Open::Once { from: SUNDAY, to: SUNDAY + 10 } };
        let windows = [once, weekly(0, 60, 0)];
        let named = [SUNDAY, SUNDAY + 10, SUNDAY + DAY_S].map(|at| held_by(&windows, at));
        assert_eq!(named, [Some("move"), Some("patching"), None]);
    }

    proptest! {
        #[test]
        fn a_week_is_open_as_long_as_declared_and_like_any_other(from in 0..1440_i64, to in 0..1440_i64, offset in -720..840_i32, minute in 0..10_080_i64) {
            let window = weekly(from, to, offset);
            let open = (0..10_080_i64).filter(|minute| window.holds(SUNDAY + minute * MINUTE_S)).count() as i64;
            prop_assert_eq!(open, if from < to { to - from } else { 1440 - from + to });
            let at = SUNDAY + minute * MINUTE_S;
            prop_assert_eq!(window.holds(at), window.holds(at + 52 * WEEK_S));
        }
    }
}
