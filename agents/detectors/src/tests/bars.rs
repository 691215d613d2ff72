//! Precision and recall of each detector with its defaults. `cargo nextest run -p detectors bars --no-capture` prints the figures.

use super::weeks::{Year, amounts, day_of_metrics, durations};
use super::{sample_of, series_of};
use crate::calendar::{DAY_S, Moment, Weekday};
use crate::chance::Chance;
use crate::freshness::Contract;
use crate::seasonal::SeasonalRule;
use crate::verdict::{Finding, Limits, Side};
use crate::{forest, freshness, iqr, kl, mad, psi, seasonal};

/// Days of history that durations are judged by.
const HISTORY_DAYS: usize = 60;
/// Days of a year.
const YEAR_DAYS: usize = 364;
/// Injected anomalies of one kind and seed.
const INJECTED: usize = 200;

/// What was found of what was there.
#[derive(Default)]
pub(super) struct Tally {
    judged: usize,
    pub(super) false_alarms: usize,
    injected: usize,
    found: usize,
}

impl Tally {
    pub(super) fn ordinary(&mut self, finding: &Finding) {
        self.judged += 1;
        self.false_alarms += usize::from(finding.alarm().is_some());
    }

    pub(super) fn anomaly(&mut self, finding: &Finding) {
        self.injected += 1;
        self.found += usize::from(finding.alarm().is_some());
    }

    pub(super) fn recall(&self) -> f64 {
        self.found as f64 / self.injected.max(1) as f64
    }

    /// Prints the figures; fails below the bar, or at the first false alarm.
    fn shown(&self, name: &str, recall_min: f64) {
        let precision = self.found as f64 / (self.found + self.false_alarms).max(1) as f64;
        let figures = match self.injected {
            0 => String::new(),
            n => format!("injected {n:>5}  recall {:.3}  precision {precision:.3}", self.recall()),
        };
        println!("{name:<46} ordinary {:>6}  false alarms {:>2}  {figures}", self.judged, self.false_alarms);
        assert!(self.judged > 0 || self.injected > 0, "{name}: nothing was judged");
        assert_eq!(self.false_alarms, 0, "{name}: false alarms");
        assert!(self.recall() >= recall_min, "{name}: recall {:.3} is below {recall_min}", self.recall());
    }
}

fn rule_of(year: &Year) -> SeasonalRule {
    SeasonalRule { holidays: year.holidays.clone(), ..SeasonalRule::default() }
}

#[test]
fn seasonal_bars() {
    let mut kinds = [
        ("drop by 20 %", 0.8, 0.6),
        ("drop by 30 %", 0.7, 0.95),
        ("drop by half", 0.5, 0.95),
        ("spike by half", 1.5, 0.95),
    ]
    .map(|(name, by, bar)| (name, by, bar, Tally::default()));
    let mut quiet = Tally::default();
    for seed in 0..3 {
        let (year, mut chance) = (Year::of(seed), Chance::new(seed + 100));
        let rule = rule_of(&year);
        for place in year.judged() {
            quiet.ordinary(&seasonal::judge(&year.until(place, |value| value), &rule));
        }
        for (_, by, _, tally) in &mut kinds {
            for place in year.drawn(INJECTED, &mut chance) {
                tally.anomaly(&seasonal::judge(&year.until(place, |value| value * *by), &rule));
            }
        }
    }
    assert_eq!(quiet.judged, 3 * 52 * 7 * 24);
    quiet.shown("seasonal: 3 × 52 ordinary weeks by the hour", 0.0);
    for (name, _, bar, mut tally) in kinds {
        tally.judged = quiet.judged;
        tally.shown(&format!("seasonal: {name}"), bar);
    }
}

/// Durations have no season: judged by the sixty days before.
fn over_durations(judge: impl Fn(&[f64]) -> Finding, odd: usize) -> [Tally; 3] {
    let [mut quiet, mut longer, mut shorter] = [Tally::default(), Tally::default(), Tally::default()];
    for seed in 0..5 {
        let mut chance = Chance::new(seed + 7);
        let minutes = durations(HISTORY_DAYS + YEAR_DAYS, odd, &mut chance);
        for day in HISTORY_DAYS..minutes.len() {
            let mut window = minutes[day - HISTORY_DAYS..=day].to_vec();
            // An odd day is history; whether it is an alarm itself is another question.
            if minutes[day] < 60.0 {
                quiet.ordinary(&judge(&window));
            }
            window[HISTORY_DAYS] = 30.0 * 1.5;
            longer.anomaly(&judge(&window));
            window[HISTORY_DAYS] = 30.0 * 0.7;
            shorter.anomaly(&judge(&window));
        }
    }
    [quiet, longer, shorter]
}

fn show_durations(name: &str, [quiet, mut longer, mut shorter]: [Tally; 3]) {
    (longer.judged, shorter.judged) = (quiet.judged, quiet.judged);
    quiet.shown(&format!("{name}: 5 ordinary years of runs"), 0.0);
    longer.shown(&format!("{name}: half again as long"), 0.95);
    shorter.shown(&format!("{name}: 30 % shorter"), 0.95);
}

#[test]
fn mad_bars() {
    show_durations("mad", over_durations(|values| mad::judge(&series_of(values), &mad::LIMITS), 0));
    show_durations("mad, 10 % odd days", over_durations(|values| mad::judge(&series_of(values), &mad::LIMITS), 10));
}

#[test]
fn iqr_bars() {
    show_durations("iqr", over_durations(|values| iqr::judge(&series_of(values), &iqr::LIMITS), 0));
    show_durations("iqr, 10 % odd days", over_durations(|values| iqr::judge(&series_of(values), &iqr::LIMITS), 10));
}

#[test]
fn a_side_that_does_not_count_is_quiet() {
    let drops = Limits { side: Side::Drop, ..mad::LIMITS };
    let [_, longer, shorter] = over_durations(|values| mad::judge(&series_of(values), &drops), 0);
    assert_eq!((longer.recall(), shorter.recall()), (0.0, 1.0));
}

/// Deliveries at five on working days, twenty minutes more or less; looked at every hour of a year.
pub(super) fn over_deliveries(contract: &Contract, missed: Option<usize>) -> Tally {
    let mut tally = Tally::default();
    let mut chance = Chance::new(11);
    let mut newest = None;
    for hour in 0..YEAR_DAYS as i64 * 24 {
        let now = 4 * DAY_S + hour * 3_600;
        let moment = Moment::new(now, 0);
        let is_due = moment.hour() == 6 && !contract_rests(moment.weekday);
        let is_missed = missed.is_some_and(|every| (moment.day as usize).is_multiple_of(every));
        let delivered = now - 3_600 + chance.below(2_400) as i64 - 1_200;
        if is_due && !is_missed {
            newest = Some(delivered);
        }
        match (is_due && is_missed && newest.is_some(), missed) {
            // Noticed two hours after it was due.
            (true, _) => tally.anomaly(&freshness::judge(newest, now + 2 * 3_600, contract)),
            (false, None) => tally.ordinary(&freshness::judge(newest, now, contract)),
            (false, Some(_)) => {}
        }
    }
    tally
}

fn contract_rests(weekday: Weekday) -> bool {
    matches!(weekday, Weekday::Saturday | Weekday::Sunday)
}

pub(super) fn daily() -> Contract {
    Contract { max_age_s: 26 * 3_600, rests_on: vec![Weekday::Saturday, Weekday::Sunday], offset_min: 0 }
}

#[test]
fn freshness_bars() {
    let mut tally = over_deliveries(&daily(), None);
    let missed = over_deliveries(&daily(), Some(10));
    (tally.injected, tally.found) = (missed.injected, missed.found);
    assert!(tally.injected > 20);
    tally.shown("freshness: a delivery that did not come", 1.0);
}

/// Three segments of different size; the smallest one may go wrong.
pub(super) const SEGMENTS: [(&str, usize, f64); 3] =
    [("web", 2_000, 40.0), ("store", 600, 60.0), ("mobile", 150, 30.0)];

pub(super) fn a_day(chance: &mut Chance, mobile_by: f64) -> Vec<(&'static str, Vec<f64>)> {
    let by = |name: &str| if name == "mobile" { mobile_by } else { 1.0 };
    SEGMENTS.iter().map(|(name, n, middle)| (*name, amounts(*n, middle * by(name), chance))).collect()
}

pub(super) fn samples(days: &[(&'static str, Vec<f64>)]) -> crate::Samples {
    sample_of(&days.iter().map(|(name, values)| (*name, values.as_slice())).collect::<Vec<_>>())
}

type Judge = fn(&crate::Samples, &crate::Samples) -> Finding;

fn shift_bars(name: &str, judge: Judge) {
    let (mut tally, mut named) = (Tally::default(), 0);
    let mut chance = Chance::new(23);
    let reference = samples(&a_day(&mut chance, 1.0));
    for _ in 0..YEAR_DAYS {
        tally.ordinary(&judge(&reference, &samples(&a_day(&mut chance, 1.0))));
    }
    for _ in 0..INJECTED {
        let found = judge(&reference, &samples(&a_day(&mut chance, 2.0)));
        named += usize::from(found.alarm().and_then(|verdict| verdict.subject.as_deref()) == Some("mobile"));
        tally.anomaly(&found);
    }
    tally.shown(&format!("{name}: one small segment doubled"), 0.95);
    assert_eq!(named, tally.found, "{name}: another segment was named");
}

#[test]
fn psi_and_kl_bars() {
    shift_bars("psi", |before, now| psi::judge(before, now, &psi::RULE).unwrap());
    shift_bars("kl", |before, now| kl::judge(before, now, &kl::RULE).unwrap());
}

/// A drift of two in a hundred a day is in every baseline that moves along; against a reference that stays it is found.
#[test]
fn slow_drift_bars() {
    let (mut against_reference, mut against_last_days) = (Tally::default(), Tally::default());
    for seed in 0..20 {
        let mut chance = Chance::new(seed);
        let reference = sample_of(&[("", &amounts(2_000, 40.0, &mut chance))]);
        let mut middles = durations(HISTORY_DAYS, 0, &mut chance);
        let (mut by_psi, mut by_mad) = (None, None);
        for day in 1..=30 {
            let middle = 1.02_f64.powi(day);
            let now = sample_of(&[("", &amounts(300, 40.0 * middle, &mut chance))]);
            let found = psi::judge(&reference, &now, &psi::RULE).unwrap();
            by_psi = by_psi.or(found.alarm().is_some().then_some(found));
            middles.push(durations(1, 0, &mut chance)[0] * middle);
            let found = mad::judge(&series_of(&middles[middles.len() - 15..]), &mad::LIMITS);
            by_mad = by_mad.or(found.alarm().is_some().then_some(found));
        }
        let never = Finding::NotEnough { have: 0, need: 1 };
        against_reference.anomaly(&by_psi.unwrap_or(never.clone()));
        against_last_days.anomaly(&by_mad.unwrap_or(never));
    }
    against_reference.shown("psi: drift of 2 % a day, within a month", 0.95);
    println!("mad over the last fortnight finds {:.2} of these drifts", against_last_days.recall());
    assert!(against_last_days.recall() < 0.5, "a moving baseline follows a drift");
}

#[test]
fn forest_bars() {
    let metrics = ["volume", "minutes", "cost", "nulls"];
    let mut kinds =
        [("twice as long", 1, 2.0, 0.95), ("half the volume", 0, 0.5, 0.95), ("three times the nulls", 3, 3.0, 0.8)]
            .map(|(name, at, by, bar)| (name, at, by, bar, Tally::default(), 0));
    let mut quiet = Tally::default();
    for seed in 0..3 {
        let mut chance = Chance::new(seed + 31);
        let mut history: Vec<Vec<f64>> = (0..120).map(|_| day_of_metrics(&mut chance)).collect();
        for day in 0..YEAR_DAYS {
            let row = day_of_metrics(&mut chance);
            quiet.ordinary(&forest::judge(&metrics, &history, &row, &forest::RULE, day as u64).unwrap());
            for (_, at, by, _, tally, named) in kinds.iter_mut().filter(|_| day % 7 == 0) {
                let mut odd = row.clone();
                odd[*at] *= *by;
                let found = forest::judge(&metrics, &history, &odd, &forest::RULE, day as u64).unwrap();
                *named += usize::from(found.alarm().and_then(|v| v.subject.as_deref()) == Some(metrics[*at]));
                tally.anomaly(&found);
            }
            history.remove(0);
            history.push(row);
        }
    }
    quiet.shown("forest: 3 ordinary years", 0.0);
    for (name, _, _, bar, mut tally, named) in kinds {
        tally.judged = quiet.judged;
        tally.shown(&format!("forest: {name}"), bar);
        assert!(
            named as f64 >= 0.95 * tally.found as f64,
            "{name}: the metric is named {named} times of {}",
            tally.found
        );
    }
}
