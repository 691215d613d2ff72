//! Tukey's fences: how far outside the middle half, in lengths of the middle half.
//!
//! `score = (Q₁ - x) / IQR` below it and `(x - Q₃) / IQR` above it, `IQR = Q₃ - Q₁`; 0 within. Tukey, *Exploratory Data
//! Analysis* (1977), calls more than 1.5 outside and more than 3 far out; the default is 3. Fences stand at each side by
//! themselves, so a skewed measure (durations, costs) is judged better than by one distance from its middle.

use crate::quantiles::{ascending, quantile};
use crate::series::Series;
use crate::verdict::{Finding, Limits, SCORE_MAX, Side, Smallest};

/// Far out, over at least 20 values: quartiles need them.
pub const LIMITS: Limits =
    Limits { threshold: 3.0, smallest: Smallest { absolute: 0.0, share: 0.0 }, side: Side::Both, points_min: 20 };

/// Judges the newest value of a series by those before it.
pub fn judge(series: &Series, limits: &Limits) -> Finding {
    let (observed, history) = match series.judged(limits.points_min.max(1)) {
        Ok(judged) => judged,
        Err(finding) => return finding,
    };
    let sorted = ascending(&history);
    let at = |share| quantile(&sorted, share).unwrap_or(observed);
    let (low, middle, high) = (at(0.25), at(0.5), at(0.75));
    let outside = (low - observed).max(observed - high).max(0.0);
    let score = match outside {
        0.0 => 0.0,
        _ if high == low => SCORE_MAX,
        _ => outside / (high - low),
    };
    limits.judge(score, middle, observed, "outside the middle half by")
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
    fn scores_are_those_of_the_fences() {
        // Quartiles 2 and 4.
        assert_eq!(score_of(&[1.0, 2.0, 3.0, 4.0, 5.0, 10.0]), 3.0);
        assert_eq!(score_of(&[1.0, 2.0, 3.0, 4.0, 5.0, 1.0]), 0.5);
        assert_eq!(score_of(&[1.0, 2.0, 3.0, 4.0, 5.0, 3.5]), 0.0);
        assert_eq!(score_of(&[3.0, 3.0, 3.0, 3.1]), SCORE_MAX);
    }

    proptest! {
        #[test]
        fn what_lies_between_the_values_is_ordinary(values in prop::collection::vec(-1e3..1e3f64, 20..60), share in 0.25..0.75f64) {
            let within = quantile(&ascending(&values), share).unwrap();
            let all: Vec<f64> = values.iter().copied().chain([within]).collect();
            prop_assert!(judge(&series_of(&all), &LIMITS).alarm().is_none());
        }

        #[test]
        fn farther_out_is_never_less_unusual(values in prop::collection::vec(-1e3..1e3f64, 20..60), near in 0.0..1e3f64, more in 0.0..1e3f64) {
            let at = |x: f64| score_of(&values.iter().copied().chain([1e3 + x]).collect::<Vec<_>>());
            prop_assert!(at(near) <= at(near + more));
        }

        #[test]
        fn too_few_are_never_an_alarm(values in prop::collection::vec(-1e6..1e6f64, 0..20)) {
            let is_not_enough = matches!(judge(&series_of(&values), &LIMITS), Finding::NotEnough { .. });
            prop_assert!(is_not_enough);
        }
    }
}
