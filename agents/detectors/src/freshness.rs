//! Freshness: the age of the newest record against a declared contract.
//!
//! `score = age / max_age`, ordinary up to 1. Time on declared days of rest does not count: what is due on working days is not
//! late on a Sunday. A contract is a promise and not a habit, so nothing is learnt and no mark widens it.

use crate::calendar::{DAY_S, Moment, Weekday, weekday_of};
use crate::verdict::{Direction, Finding, Verdict, plain};

/// Most days of an age that are counted; what is older is late anyway.
const DAYS_MAX: i64 = 400;

/// What was promised.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Contract {
    /// Largest age in seconds, on days that count.
    pub max_age_s: i64,
    /// Days on which nothing is due.
    pub rests_on: Vec<Weekday>,
    /// Minutes east of UTC of the clock whose days these are.
    pub offset_min: i32,
}

/// Judges the moment of the newest record.
pub fn judge(newest: Option<i64>, now: i64, contract: &Contract) -> Finding {
    let Some(newest) = newest.filter(|_| contract.max_age_s > 0) else {
        return Finding::NotEnough { have: 0, need: 1 };
    };
    let age = age_s(newest, now, contract);
    let (observed, expected) = (age as f64 / 3_600.0, contract.max_age_s as f64 / 3_600.0);
    let verdict = Verdict {
        score: observed / expected,
        threshold: 1.0,
        expected,
        observed,
        direction: Direction::Above,
        subject: None,
        factor: None,
        reason: format!("the newest record is {} h old, at most {} h are agreed", plain(observed), plain(expected)),
    };
    if age > contract.max_age_s { Finding::Alarm(verdict) } else { Finding::Ordinary(verdict) }
}

/// Seconds between two moments on days that count.
fn age_s(newest: i64, now: i64, contract: &Contract) -> i64 {
    let newest = newest.max(now.saturating_sub(DAYS_MAX * DAY_S));
    let (first, last) = (Moment::new(newest, contract.offset_min).day, Moment::new(now, contract.offset_min).day);
    let start = |day: i64| day * DAY_S - i64::from(contract.offset_min) * 60;
    let counted = (first..=last).filter(|day| !contract.rests_on.contains(&weekday_of(*day)));
    counted.map(|day| (now.min(start(day + 1)) - newest.max(start(day))).max(0)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::calendar::WEEK_S;

    const HOUR_S: i64 = 3_600;
    /// Friday, 1970-01-09, 18:00.
    const FRIDAY: i64 = 8 * DAY_S + 18 * HOUR_S;

    fn contract(rests_on: &[Weekday]) -> Contract {
        Contract { max_age_s: 26 * HOUR_S, rests_on: rests_on.to_vec(), offset_min: 0 }
    }

    #[test]
    fn a_late_record_is_late_from_the_second_after() {
        let late = |age| judge(Some(FRIDAY), FRIDAY + age, &contract(&[])).alarm().is_some();
        assert!(!late(26 * HOUR_S) && late(26 * HOUR_S + 1));
        assert!(!late(-5 * HOUR_S), "a clock ahead of ours is not late");
        assert_eq!(judge(None, FRIDAY, &contract(&[])), Finding::NotEnough { have: 0, need: 1 });
    }

    #[test]
    fn a_weekend_is_no_delay() {
        let rest = contract(&[Weekday::Saturday, Weekday::Sunday]);
        let monday = FRIDAY + 3 * DAY_S;
        assert!(judge(Some(FRIDAY), monday, &contract(&[])).alarm().is_some());
        assert_eq!(judge(Some(FRIDAY), monday, &rest).verdict().unwrap().observed, 24.0);
        assert!(judge(Some(FRIDAY), monday + 3 * HOUR_S, &rest).alarm().is_some());
    }

    proptest! {
        #[test]
        fn rest_only_shortens_and_time_only_adds(age in 0..3 * WEEK_S, more in 0..WEEK_S, offset in -720..840_i32) {
            let rest = Contract { offset_min: offset, ..contract(&[Weekday::Sunday, Weekday::Tuesday]) };
            let none = Contract { offset_min: offset, ..contract(&[]) };
            let (now, later) = (FRIDAY + age, FRIDAY + age + more);
            prop_assert_eq!(age_s(FRIDAY, now, &none), age);
            prop_assert!(age_s(FRIDAY, now, &rest) <= age);
            prop_assert!(age_s(FRIDAY, now, &rest) <= age_s(FRIDAY, later, &rest));
            prop_assert_eq!(age_s(FRIDAY, FRIDAY + WEEK_S, &rest), 5 * DAY_S);
        }
    }
}
