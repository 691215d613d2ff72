//! Relative change against the same weekday and hour of the weeks before.
//!
//! `score = |x - m| / m`, where `m` is the median of the same slot in the newest `weeks_max` weeks before. Ordinary is a score
//! up to `max(threshold, spread_factor · s)`, where `s = 1.4826 · median(|rᵢ|)` over all relative residuals `rᵢ` of those weeks
//! from the medians of their slots (Rousseeuw & Croux 1993 for the constant). One slot has too few weeks to know its noise; all
//! slots together have enough. A measure that jumps by a tenth every hour thus needs no threshold of its own, and a calm one
//! keeps the declared one.
//!
//! A declared holiday is compared with Sundays and is in no weekday's baseline.

use std::collections::{BTreeMap, BTreeSet};

use crate::calendar::{Moment, WEEK_S, Weekday};
use crate::quantiles::median;
use crate::series::{Point, Series};
use crate::verdict::{Finding, Limits, Side, Smallest};

/// Makes a median absolute deviation comparable with a standard deviation.
const SPREAD_SCALE: f64 = 1.4826;
/// Fewest residuals that say something about noise.
const RESIDUALS_MIN: usize = 20;
/// Most weeks that are looked back.
pub const WEEKS_MAX: usize = 104;

/// What is compared with what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Slot {
    /// The same hour of the same weekday.
    #[default]
    WeekdayHour,
    /// The same weekday, whatever the hour.
    Weekday,
}

/// How a season is judged.
#[derive(Debug, Clone, PartialEq)]
pub struct SeasonalRule {
    /// Smallest threshold, as a share; `points_min` is the fewest weeks.
    pub limits: Limits,
    /// Most weeks that are looked back, up to [`WEEKS_MAX`].
    pub weeks_max: usize,
    /// How many spreads of the noise are ordinary.
    pub spread_factor: f64,
    /// What is compared with what.
    pub slot: Slot,
    /// Minutes east of UTC of the clock that people and jobs go by.
    pub offset_min: i32,
    /// Days since 1970 that are like a Sunday.
    pub holidays: BTreeSet<i64>,
}

impl Default for SeasonalRule {
    fn default() -> Self {
        let smallest = Smallest::default();
        Self {
            limits: Limits { threshold: 0.10, smallest, side: Side::Both, points_min: 4 },
            weeks_max: 8,
            spread_factor: 6.0,
            slot: Slot::default(),
            offset_min: 0,
            holidays: BTreeSet::new(),
        }
    }
}

/// Weekday and hour that a moment counts as.
type Place = (Weekday, i64);

impl SeasonalRule {
    fn place(&self, at: i64) -> Place {
        let moment = Moment::new(at, self.offset_min);
        let weekday = if self.holidays.contains(&moment.day) { Weekday::Sunday } else { moment.weekday };
        match self.slot {
            Slot::WeekdayHour => (weekday, moment.hour()),
            Slot::Weekday => (weekday, 0),
        }
    }

    /// The values of each slot within the weeks before a moment.
    fn slots(&self, before: &[Point], at: i64) -> BTreeMap<Place, Vec<f64>> {
        let weeks = i64::try_from(self.weeks_max.clamp(1, WEEKS_MAX)).unwrap_or(1);
        // An hour of grace: a job that ends a minute earlier each week is still of the same week.
        let since = at.saturating_sub(weeks * WEEK_S + 3_600);
        let mut slots: BTreeMap<Place, Vec<f64>> = BTreeMap::new();
        for point in before.iter().rev().take_while(|point| point.at >= since) {
            if let Some(value) = point.value {
                slots.entry(self.place(point.at)).or_default().push(value);
            }
        }
        slots
    }
}

/// Judges the newest value of a series by the same slot in the weeks before.
pub fn judge(series: &Series, rule: &SeasonalRule) -> Finding {
    let (at, observed, before) = match series.newest() {
        Ok(newest) => newest,
        Err(finding) => return finding,
    };
    let slots = rule.slots(before, at);
    let place = rule.place(at);
    let same: &[f64] = slots.get(&place).map_or(&[], Vec::as_slice);
    let need = rule.limits.points_min.max(1);
    let usual = median(same).filter(|usual| *usual > 0.0);
    let Some(usual) = usual.filter(|_| same.len() >= need) else {
        return Finding::NotEnough { have: same.len().min(need - 1), need };
    };
    let threshold = rule.limits.threshold.max(rule.spread_factor * spread(&slots));
    let limits = Limits { threshold, ..rule.limits };
    let hour = if rule.slot == Slot::Weekday { String::new() } else { format!(" at {:02} h", place.1) };
    let how = format!("on a {}{hour}, {} weeks before; a relative change of", place.0.word(), same.len());
    limits.judge((observed - usual).abs() / usual, usual, observed, &how)
}

/// The noise of all slots together, as a share; 0 where too little is known.
fn spread(slots: &BTreeMap<Place, Vec<f64>>) -> f64 {
    let mut residuals = Vec::new();
    for values in slots.values().filter(|values| values.len() > 2) {
        let Some(usual) = median(values).filter(|usual| *usual > 0.0) else { continue };
        // A value is nearer to a median that it has helped to make.
        let freed = (values.len() as f64 / (values.len() - 1) as f64).sqrt();
        residuals.extend(values.iter().map(|value| freed * (value - usual).abs() / usual));
    }
    let enough = residuals.len() >= RESIDUALS_MIN;
    median(&residuals).filter(|_| enough).map_or(0.0, |middle| SPREAD_SCALE * middle)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::calendar::DAY_S;

    /// Noon of Monday, 1970-01-05.
    const MONDAY_NOON: i64 = 4 * DAY_S + 12 * 3_600;

    fn mondays(values: &[f64]) -> Series {
        let at = |n: usize| MONDAY_NOON + n as i64 * WEEK_S;
        Series::new(values.iter().enumerate().map(|(n, value)| Point { at: at(n), value: Some(*value) }).collect())
            .unwrap()
    }

    #[test]
    fn a_drop_is_counted_from_the_median_of_such_hours() {
        let found = judge(&mondays(&[1000.0, 10.0, 1000.0, 1010.0, 1000.0, 690.0]), &SeasonalRule::default());
        let verdict = found.alarm().unwrap();
        assert!((verdict.score - 0.31).abs() < 1e-9 && verdict.expected == 1000.0);
        assert_eq!(
            verdict.reason,
            "690 instead of about 1000: on a Monday at 12 h, 5 weeks before; a relative change of 0.31, 0.1 is usual"
        );
        assert!(judge(&mondays(&[1000.0, 1000.0, 1000.0, 1000.0, 910.0]), &SeasonalRule::default()).alarm().is_none());
    }

    #[test]
    fn other_hours_are_not_compared_and_a_baseline_of_nothing_is_none() {
        let mut points = mondays(&[1000.0; 6]).points().to_vec();
        points.push(Point { at: MONDAY_NOON + 6 * WEEK_S + 3_600, value: Some(1.0) });
        let other = Series::new(points).unwrap();
        assert_eq!(judge(&other, &SeasonalRule::default()), Finding::NotEnough { have: 0, need: 4 });
        let by_day = SeasonalRule { slot: Slot::Weekday, ..SeasonalRule::default() };
        assert!(judge(&other, &by_day).alarm().is_some());
        assert_eq!(
            judge(&mondays(&[0.0, 0.0, 0.0, 0.0, 0.0, 5.0]), &SeasonalRule::default()),
            Finding::NotEnough { have: 3, need: 4 }
        );
    }

    #[test]
    fn a_holiday_is_like_a_sunday() {
        let (sunday, holiday) = (MONDAY_NOON - DAY_S, MONDAY_NOON + 5 * WEEK_S);
        let mut points: Vec<Point> = (0..5).map(|n| Point { at: sunday + n * WEEK_S, value: Some(200.0) }).collect();
        points.extend((0..5).map(|n| Point { at: MONDAY_NOON + n * WEEK_S, value: Some(1000.0) }));
        points.push(Point { at: holiday, value: Some(205.0) });
        let series = Series::new(points).unwrap();
        assert!(judge(&series, &SeasonalRule::default()).alarm().is_some());
        let declared = SeasonalRule { holidays: BTreeSet::from([holiday / DAY_S]), ..SeasonalRule::default() };
        assert_eq!(judge(&series, &declared).verdict().unwrap().expected, 200.0);
        assert!(judge(&series, &declared).alarm().is_none());
    }

    proptest! {
        #[test]
        fn the_unit_does_not_matter(values in prop::collection::vec(1.0..1e4f64, 5..12), by in 0.01..100.0f64) {
            let scaled: Vec<f64> = values.iter().map(|value| value * by).collect();
            let score = |values: &[f64]| judge(&mondays(values), &SeasonalRule::default()).verdict().unwrap().score;
            prop_assert!((score(&values) - score(&scaled)).abs() < 1e-9 * score(&values).max(1.0));
        }

        #[test]
        fn too_few_weeks_are_never_an_alarm(values in prop::collection::vec(0.0..1e4f64, 0..5)) {
            let is_not_enough = matches!(judge(&mondays(&values), &SeasonalRule::default()), Finding::NotEnough { .. });
            prop_assert!(is_not_enough);
        }
    }
}
