//! How much a score keeps with age: `½ + ½ · 2^(−age / half-life)`. Age lowers, it never hides: the only text about a
//! trouble is found however old it is.
//!
//! | kind | half-life | because |
//! | --- | --- | --- |
//! | runbook | 730 days | procedures change with platforms |
//! | schema | 365 days | tables change with releases |
//! | incident | 180 days | what broke half a year ago was mended |
//!
//! A text without a date counts as one half-life old: who says no date gets neither the best nor the worst.

use jiff::civil::Date;

use crate::document::Kind;

/// What remains at any age.
const FLOOR: f64 = 0.5;

/// Days after which half of what age can take is taken.
pub fn half_life_days(kind: Kind) -> i32 {
    match kind {
        Kind::Runbook => 730,
        Kind::Schema => 365,
        Kind::Incident => 180,
    }
}

/// Days since then; what is dated ahead is new.
pub(crate) fn age_days(updated: Date, today: Date) -> i32 {
    let days = updated.until(today).map(|span| span.get_days()).unwrap_or_default();
    days.max(0)
}

/// What a score is multiplied with.
pub(crate) fn factor(kind: Kind, age: Option<i32>) -> f64 {
    let half_life = half_life_days(kind);
    let halves = f64::from(age.unwrap_or(half_life)) / f64::from(half_life);
    FLOOR + (1.0 - FLOOR) * (-halves).exp2()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_half_life_takes_half_of_what_age_can_take() {
        assert_eq!(factor(Kind::Incident, Some(0)), 1.0);
        assert_eq!(factor(Kind::Incident, Some(180)), 0.75);
        assert_eq!(factor(Kind::Runbook, None), 0.75);
        assert!(factor(Kind::Schema, Some(100_000)) >= FLOOR);
        assert!(factor(Kind::Incident, Some(200)) < factor(Kind::Schema, Some(200)));
    }

    #[test]
    fn ages_are_days_and_the_future_is_new() {
        assert_eq!(age_days(date(2025, 3, 31), date(2026, 3, 31)), 365);
        assert_eq!(age_days(date(2027, 1, 1), date(2026, 3, 31)), 0);
    }
}
