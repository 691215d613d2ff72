//! The modified z-score: distance from the median in units of the median absolute deviation.
//!
//! `M = 0.6745 (x - median) / MAD`, `MAD = median(|xᵢ - median|)`. Where more than half of the values are equal, MAD is 0 and
//! the mean absolute deviation takes its place: `M = (x - median) / (1.253314 MeanAD)`. Both from Iglewicz & Hoaglin, *How to
//! Detect and Handle Outliers* (1993), which labels outliers above 3.5 in one sample. A monitor judges every hour of a year,
//! so the default here is 5: at 3.5 an ordinary year has false alarms (see the tests).
//!
//! Half of the history may be rubbish before the median moves; a mean moves with the first odd value.

use crate::quantiles::{mean_deviation, median, median_deviation};
use crate::series::Series;
use crate::verdict::{Finding, Limits, SCORE_MAX, Side, Smallest};

/// Normal quantile of 0.75: makes MAD comparable with a standard deviation.
const MAD_SCALE: f64 = 0.6745;
/// √(π/2): the same for the mean absolute deviation.
const MEAN_SCALE: f64 = 1.253_314;

/// A score of 5 over at least 14 values.
pub const LIMITS: Limits =
    Limits { threshold: 5.0, smallest: Smallest { absolute: 0.0, share: 0.0 }, side: Side::Both, points_min: 14 };

/// Judges the newest value of a series by those before it.
pub fn judge(series: &Series, limits: &Limits) -> Finding {
    let (observed, history) = match series.judged(limits.points_min.max(1)) {
        Ok(judged) => judged,
        Err(finding) => return finding,
    };
    let centre = median(&history).unwrap_or(observed);
    limits.judge(score(&history, centre, observed), centre, observed, "a distance of")
}

fn score(history: &[f64], centre: f64, observed: f64) -> f64 {
    let distance = (observed - centre).abs();
    let spread = match median_deviation(history, centre).unwrap_or(0.0) / MAD_SCALE {
        0.0 => mean_deviation(history, centre) * MEAN_SCALE,
        spread => spread,
    };
    match distance {
        0.0 => 0.0,
        _ if spread == 0.0 => SCORE_MAX,
        _ => distance / spread,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::series_of;

    fn score_of(values: &[f64]) -> f64 {
        judge(&series_of(values), &Limits { points_min: 3, ..LIMITS }).verdict().unwrap().score
    }

    #[test]
    fn scores_are_those_of_the_formula() {
        // Median 3, MAD 1: 0.6745 · 7 / 1.
        assert!((score_of(&[1.0, 2.0, 3.0, 4.0, 5.0, 10.0]) - 4.7215).abs() < 1e-4);
        // Most are equal: MAD 0, MeanAD 2/5; 4 / (1.253314 · 0.4).
        assert!((score_of(&[3.0, 3.0, 3.0, 3.0, 5.0, 7.0]) - 7.9789).abs() < 1e-4);
        // All are equal: any other value is as unusual as can be, the same one is not.
        assert_eq!((score_of(&[3.0, 3.0, 3.0, 3.1]), score_of(&[3.0, 3.0, 3.0, 3.0])), (SCORE_MAX, 0.0));
    }

    proptest! {
        #[test]
        fn unit_and_origin_do_not_matter(values in prop::collection::vec(-100.0..100.0f64, 4..40), by in 0.1..10.0f64, to in -50.0..50.0f64) {
            let moved: Vec<f64> = values.iter().map(|value| value * by + to).collect();
            let (one, other) = (score_of(&values), score_of(&moved));
            // Where the spread is next to nothing, rounding is all there is.
            prop_assume!(one < 1e3);
            prop_assert!((one - other).abs() <= 1e-6 * one.max(1.0), "{one} {other}");
        }

        #[test]
        fn a_third_of_rubbish_hides_no_outlier(rubbish in prop::collection::vec(1e3..1e6f64, 0..10)) {
            let mut values: Vec<f64> = (0..30).map(|n| 100.0 + f64::from(n % 7)).collect();
            values.extend(rubbish);
            values.push(30.0);
            prop_assert!(judge(&series_of(&values), &LIMITS).alarm().is_some());
        }

        #[test]
        fn too_few_are_never_an_alarm(values in prop::collection::vec(-1e6..1e6f64, 0..14)) {
            let is_not_enough = matches!(judge(&series_of(&values), &LIMITS), Finding::NotEnough { .. });
            prop_assert!(is_not_enough);
        }
    }
}
