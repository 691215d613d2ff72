//! Variants that lack one idea each, on the same data: each must miss or raise a false alarm, or the idea is not needed.

use std::collections::BTreeSet;

use super::bars::{Tally, a_day, daily, over_deliveries, samples};
use super::weeks::{Year, day_of_metrics, durations};
use super::{sample_of, series_of};
use crate::chance::Chance;
use crate::forest::{self, ForestRule};
use crate::freshness::Contract;
use crate::seasonal::SeasonalRule;
use crate::verdict::{Finding, Limits};
use crate::{ShiftRule, mad, psi, seasonal};

/// Mean and standard deviation in place of median and MAD.
fn z_score(values: &[f64]) -> f64 {
    let (newest, history) = values.split_last().unwrap();
    let n = history.len() as f64;
    let mean = history.iter().sum::<f64>() / n;
    let deviation = (history.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    (newest - mean).abs() / deviation
}

#[test]
fn mean_and_standard_deviation_miss_what_odd_days_hide() {
    let (mut weak, mut strong) = (0, 0);
    for seed in 0..100 {
        let mut values = durations(60, 10, &mut Chance::new(seed));
        values.push(30.0 * 1.5);
        weak += usize::from(z_score(&values) > 3.0);
        strong += usize::from(mad::judge(&series_of(&values), &mad::LIMITS).alarm().is_some());
    }
    assert!(strong >= 95, "median and MAD find {strong} of 100");
    assert!(weak <= 10, "mean and standard deviation find {weak} of 100, although laxer");
}

#[test]
fn a_lower_threshold_has_false_alarms_in_an_ordinary_year() {
    let labels = Limits { threshold: 3.5, ..mad::LIMITS };
    let mut tally = Tally::default();
    for seed in 0..5 {
        let minutes = durations(424, 0, &mut Chance::new(seed));
        for window in minutes.windows(61) {
            tally.ordinary(&mad::judge(&series_of(window), &labels));
        }
    }
    assert!(tally.false_alarms > 0, "then 3.5 could be the default");
}

/// One baseline for all hours in place of one for each.
#[test]
fn a_baseline_without_seasons_misses_and_false_alarms() {
    let year = Year::of(1);
    let (mut misses, mut alarms) = (Tally::default(), Tally::default());
    let share = Limits { threshold: 0.0, smallest: crate::Smallest { absolute: 0.0, share: 0.10 }, ..mad::LIMITS };
    for place in year.judged().step_by(97).filter(|place| year.points[*place].value.is_some()) {
        misses.anomaly(&mad::judge(&year.until(place, |value| value * 0.7), &mad::LIMITS));
        alarms.ordinary(&mad::judge(&year.until(place, |value| value), &share));
    }
    assert!(misses.recall() < 0.2, "by distance it finds {:.2} of the drops", misses.recall());
    assert!(alarms.false_alarms > 20, "by share it has {} false alarms", alarms.false_alarms);
}

#[test]
fn holidays_that_nobody_declared_are_alarms() {
    let year = Year::of(2);
    let (mut declared, mut silent) = (Tally::default(), Tally::default());
    for place in year.judged() {
        let day = year.points[place].at.div_euclid(crate::calendar::DAY_S);
        if year.holidays.contains(&day) {
            let series = year.until(place, |value| value);
            declared.ordinary(&seasonal::judge(
                &series,
                &SeasonalRule { holidays: year.holidays.clone(), ..SeasonalRule::default() },
            ));
            silent.ordinary(&seasonal::judge(
                &series,
                &SeasonalRule { holidays: BTreeSet::new(), ..SeasonalRule::default() },
            ));
        }
    }
    assert_eq!(declared.false_alarms, 0);
    assert!(silent.false_alarms > 20, "{}", silent.false_alarms);
}

/// The declared threshold alone, on a measure that is noisier than it.
#[test]
fn a_threshold_that_does_not_know_the_noise_has_false_alarms() {
    let mut year = Year::of(3);
    let mut chance = Chance::new(3);
    for point in &mut year.points {
        point.value = point.value.map(|value| value * (0.85 + 0.3 * chance.unit()));
    }
    let rule =
        |spread_factor| SeasonalRule { holidays: year.holidays.clone(), spread_factor, ..SeasonalRule::default() };
    let (mut with, mut without) = (Tally::default(), Tally::default());
    for place in year.judged().step_by(11) {
        let series = year.until(place, |value| value);
        with.ordinary(&seasonal::judge(&series, &rule(SeasonalRule::default().spread_factor)));
        without.ordinary(&seasonal::judge(&series, &rule(0.0)));
    }
    assert_eq!(with.false_alarms, 0);
    assert!(without.false_alarms > 50, "{}", without.false_alarms);
}

#[test]
fn a_contract_without_days_of_rest_is_late_each_weekend() {
    let strict = over_deliveries(&Contract { rests_on: Vec::new(), ..daily() }, None);
    assert!(strict.false_alarms > 52, "{}", strict.false_alarms);
}

/// All segments in one sample: the small one drowns.
#[test]
fn a_sample_without_segments_misses_the_small_one() {
    let mut chance = Chance::new(5);
    let together = |days: &[(&'static str, Vec<f64>)]| {
        let all: Vec<f64> = days.iter().flat_map(|(_, values)| values.iter().copied()).collect();
        sample_of(&[("", &all)])
    };
    let (before, now) = (a_day(&mut chance, 1.0), a_day(&mut chance, 2.0));
    let by_segment = psi::judge(&samples(&before), &samples(&now), &psi::RULE).unwrap();
    assert_eq!(by_segment.alarm().and_then(|verdict| verdict.subject.as_deref()), Some("mobile"));
    assert!(psi::judge(&together(&before), &together(&now), &psi::RULE).unwrap().alarm().is_none());
}

/// A threshold that takes small samples for large ones: what a textbook's 0.25 does with a hundred values.
#[test]
fn small_samples_differ_by_chance() {
    let mut chance = Chance::new(17);
    let hundred = |chance: &mut Chance| sample_of(&[("", &super::weeks::amounts(100, 40.0, chance))]);
    let (mut declared_only, mut with_chance) = (0, 0);
    for _ in 0..400 {
        let found =
            psi::judge(&hundred(&mut chance), &hundred(&mut chance), &ShiftRule { threshold: 0.0, ..psi::RULE });
        let Ok(Finding::Ordinary(verdict) | Finding::Alarm(verdict)) = found else { panic!("a hundred are enough") };
        declared_only += usize::from(verdict.score > psi::RULE.threshold);
        with_chance += usize::from(verdict.score > verdict.threshold.max(psi::RULE.threshold));
    }
    assert_eq!(with_chance, 0);
    assert!(declared_only > 20, "{declared_only} of 400");
}

/// The score alone: the most extreme of ordinary days is isolated too.
#[test]
fn a_forest_that_does_not_ask_how_far_has_false_alarms() {
    let metrics = ["volume", "minutes", "cost", "nulls"];
    let near = ForestRule { distance_min: 0.0, ..forest::RULE };
    let mut chance = Chance::new(41);
    let days: Vec<Vec<f64>> = (0..240).map(|_| day_of_metrics(&mut chance)).collect();
    let mut tally = Tally::default();
    for window in days.windows(121) {
        tally.ordinary(&forest::judge(&metrics, &window[..120], &window[120], &near, 1).unwrap());
    }
    assert!(tally.false_alarms > 2, "{}", tally.false_alarms);
}

/// The paper's forest: each metric is drawn as often as any other.
fn drawn_evenly(history: &[Vec<f64>], row: &[f64], chance: &mut Chance) -> f64 {
    let depth_max = ((history.len() + 1) as f64).log2().ceil() as usize;
    let path = |chance: &mut Chance| {
        let mut left: Vec<&Vec<f64>> = history.iter().collect();
        let mut depth = 0;
        while depth < depth_max && !left.is_empty() {
            let metric = chance.below(row.len());
            let of = |row: &Vec<f64>| row[metric];
            let low = left.iter().map(|other| of(other)).fold(row[metric], f64::min);
            let high = left.iter().map(|other| of(other)).fold(row[metric], f64::max);
            let cut = high - chance.unit() * (high - low);
            left.retain(|other| (of(other) < cut) == (row[metric] < cut));
            depth += 1;
        }
        depth as f64 + forest::search_length(left.len() + 1)
    };
    let mean = (0..100).map(|_| path(chance)).sum::<f64>() / 100.0;
    2.0_f64.powf(-mean / forest::search_length(history.len() + 1))
}

#[test]
fn a_forest_that_draws_evenly_misses_one_metric_of_eight() {
    let metrics = ["volume", "minutes", "cost", "nulls", "a", "b", "c", "d"];
    let (mut even, mut by_range) = (0, 0);
    for seed in 0..20 {
        let mut chance = Chance::new(seed);
        let mut day = || {
            let mut row = day_of_metrics(&mut chance);
            row.extend(day_of_metrics(&mut chance));
            row
        };
        let history: Vec<Vec<f64>> = (0..120).map(|_| day()).collect();
        let mut odd = day();
        odd[1] *= 2.0;
        even += usize::from(drawn_evenly(&history, &odd, &mut Chance::new(seed)) > forest::RULE.threshold);
        by_range +=
            usize::from(forest::judge(&metrics, &history, &odd, &forest::RULE, seed).unwrap().alarm().is_some());
    }
    assert_eq!(by_range, 20);
    assert!(even <= 10, "drawn evenly it finds {even} of 20");
}
