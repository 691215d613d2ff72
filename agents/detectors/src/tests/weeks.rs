//! Ordinary weeks, drawn from a seed: a pattern of weekdays and hours, noise, holidays, holes; and what may go wrong in them.

use std::collections::BTreeSet;

use crate::calendar::{DAY_S, Moment, Weekday};
use crate::chance::Chance;
use crate::series::{Point, Series};

/// Weeks that are history before the first is judged.
pub(super) const WARM_WEEKS: i64 = 9;
/// Weeks that are judged.
pub(super) const JUDGED_WEEKS: i64 = 52;
/// Monday, 2024-01-01, in days.
const FIRST_DAY: i64 = 19_723;
/// Noise of an hour's volume.
const NOISE: f64 = 0.03;
/// One hour in so many has no value.
const HOLE_EVERY: usize = 200;

/// A normal number.
pub(super) fn normal(chance: &mut Chance) -> f64 {
    let (radius, angle) = ((1.0 - chance.unit()).ln(), chance.unit() * std::f64::consts::TAU);
    (-2.0 * radius).sqrt() * angle.cos()
}

/// A year of hours with its holidays.
pub(super) struct Year {
    pub(super) points: Vec<Point>,
    pub(super) holidays: BTreeSet<i64>,
}

/// The volume of an hour on an ordinary day.
fn usual(weekday: Weekday, hour: i64) -> f64 {
    let of_day = match weekday {
        Weekday::Saturday => 0.5,
        Weekday::Sunday => 0.35,
        Weekday::Friday => 1.15,
        _ => 1.0,
    };
    let of_hour = 0.55 - 0.45 * (std::f64::consts::TAU * (hour as f64 - 1.0) / 24.0).cos();
    20_000.0 * of_day * of_hour
}

impl Year {
    /// A year with ten holidays, none in its first weeks.
    pub(super) fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let days = (WARM_WEEKS + JUDGED_WEEKS) * 7;
        let a_day = |chance: &mut Chance| FIRST_DAY + WARM_WEEKS * 7 + chance.below((JUDGED_WEEKS * 7) as usize) as i64;
        let holidays: BTreeSet<i64> = (0..10).map(|_| a_day(&mut chance)).collect();
        let hour = |n: i64| {
            let at = FIRST_DAY * DAY_S + n * 3_600;
            let moment = Moment::new(at, 0);
            let weekday = if holidays.contains(&moment.day) { Weekday::Sunday } else { moment.weekday };
            let value = (usual(weekday, moment.hour()) * (1.0 + NOISE * normal(&mut chance))).round();
            Point { at, value: (chance.below(HOLE_EVERY) > 0).then_some(value) }
        };
        Self { points: (0..days * 24).map(hour).collect(), holidays }
    }

    /// Places of the hours that are judged.
    pub(super) fn judged(&self) -> std::ops::Range<usize> {
        (WARM_WEEKS * 7 * 24) as usize..self.points.len()
    }

    /// The weeks up to a place, with this value there.
    pub(super) fn until(&self, place: usize, change: impl Fn(f64) -> f64) -> Series {
        let from = place.saturating_sub((WARM_WEEKS * 7 * 24) as usize);
        let mut points = self.points[from..=place].to_vec();
        if let Some(last) = points.last_mut() {
            last.value = last.value.map(change);
        }
        Series::new(points).unwrap()
    }

    /// Places with a value, drawn among those that are judged.
    pub(super) fn drawn(&self, n: usize, chance: &mut Chance) -> Vec<usize> {
        let range = self.judged();
        let mut places = Vec::new();
        while places.len() < n {
            let place = range.start + chance.below(range.len());
            if self.points[place].value.is_some() {
                places.push(place);
            }
        }
        places
    }
}

/// Minutes that the runs of these days took: no season, some noise, and `odd` in a hundred that took five times as long.
pub(super) fn durations(days: usize, odd: usize, chance: &mut Chance) -> Vec<f64> {
    let one = |_| {
        let usual = 30.0 * (1.0 + 0.03 * normal(chance));
        if chance.below(100) < odd { usual * 5.0 } else { usual }
    };
    (0..days).map(one).collect()
}

/// Amounts of one segment on one day, around `middle`.
pub(super) fn amounts(n: usize, middle: f64, chance: &mut Chance) -> Vec<f64> {
    (0..n).map(|_| middle * (0.5 * normal(chance)).exp()).collect()
}

/// What a day of a pipeline costs: volume against its baseline, minutes and dollars that follow it, nulls that do not.
pub(super) fn day_of_metrics(chance: &mut Chance) -> Vec<f64> {
    let volume = 1.0 + 0.05 * normal(chance);
    let minutes = 30.0 * volume * (1.0 + 0.03 * normal(chance));
    let cost = 4.0 * volume * (1.0 + 0.05 * normal(chance));
    vec![volume, minutes, cost, 0.01 * (1.0 + 0.2 * normal(chance))]
}
