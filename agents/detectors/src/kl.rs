//! The Kullback–Leibler divergence of today's values from the reference, by segment.
//!
//! `KL(a‖e) = Σ aᵢ ln(aᵢ / eᵢ)` in nats over bins of the reference (Kullback & Leibler 1951). It weighs what is there today: a
//! new kind of value counts more than one that went. Half of PSI's threshold is its own, because PSI is the sum of both directions.

use crate::segments::{Divergence, Samples, ShiftRule, judge as judge_segments};
use crate::series::Refused;
use crate::verdict::Finding;

/// A shift above 0.125 nats, in ten bins, over at least 100 values.
pub const RULE: ShiftRule = ShiftRule { threshold: 0.125, bins: 10, samples_min: 100 };

/// Judges each segment of today's values by its reference.
///
/// # Errors
/// If there are too many segments or values, or one is no number.
pub fn judge(reference: &Samples, current: &Samples, rule: &ShiftRule) -> Result<Finding, Refused> {
    judge_segments(reference, current, rule, &Divergence { name: "KL", of: kl, by_chance: 0.5 })
}

pub(crate) fn kl(actual: &[f64], expected: &[f64]) -> f64 {
    actual.iter().zip(expected).map(|(a, e)| a * (a / e).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::sample_of;

    #[test]
    fn the_divergence_is_that_of_the_formula() {
        assert!((kl(&[0.5, 0.5], &[0.25, 0.75]) - (0.5 * 2.0_f64.ln() + 0.5 * (2.0 / 3.0_f64).ln())).abs() < 1e-12);
        assert_eq!(kl(&[0.3, 0.7], &[0.3, 0.7]), 0.0);
    }

    #[test]
    fn a_shifted_segment_is_named() {
        let even: Vec<f64> = (0..300).map(f64::from).collect();
        let halved: Vec<f64> = even.iter().map(|value| value / 2.0).collect();
        let before = sample_of(&[("a", &even), ("b", &even)]);
        let found = judge(&before, &sample_of(&[("a", &halved), ("b", &even)]), &RULE).unwrap();
        assert_eq!(found.alarm().unwrap().subject.as_deref(), Some("a"));
        assert!(judge(&before, &before, &RULE).unwrap().alarm().is_none());
    }
}
