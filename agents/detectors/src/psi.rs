//! The population stability index, by segment.
//!
//! `PSI = Σ (aᵢ - eᵢ) ln(aᵢ / eᵢ)` over bins of the reference, `e` the reference's share and `a` today's (Siddiqi, *Credit Risk
//! Scorecards*, 2006: below 0.1 nothing, above 0.25 a shift). It is `KL(a‖e) + KL(e‖a)`: what appears counts as what goes.

use crate::segments::{Divergence, Samples, ShiftRule, judge as judge_segments};
use crate::series::Refused;
use crate::verdict::Finding;

/// A shift above 0.25, in ten bins, over at least 100 values.
pub const RULE: ShiftRule = ShiftRule { threshold: 0.25, bins: 10, samples_min: 100 };

/// Judges each segment of today's values by its reference.
///
/// # Errors
/// If there are too many segments or values, or one is no number.
pub fn judge(reference: &Samples, current: &Samples, rule: &ShiftRule) -> Result<Finding, Refused> {
    judge_segments(reference, current, rule, &Divergence { name: "PSI", of: psi, by_chance: 1.0 })
}

fn psi(actual: &[f64], expected: &[f64]) -> f64 {
    actual.iter().zip(expected).map(|(a, e)| (a - e) * (a / e).ln()).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kl::kl;
    use crate::tests::sample_of;

    #[test]
    fn the_index_is_that_of_the_formula() {
        let found = psi(&[0.5, 0.5], &[0.25, 0.75]);
        assert!((found - (0.25 * 2.0_f64.ln() - 0.25 * (2.0 / 3.0_f64).ln())).abs() < 1e-12);
    }

    #[test]
    fn the_segment_and_the_factor_are_named() {
        let even: Vec<f64> = (0..200).map(f64::from).collect();
        let fivefold: Vec<f64> = even.iter().map(|value| value * 5.0).collect();
        let before = sample_of(&[("web", &even), ("mobile", &even)]);
        let found = judge(&before, &sample_of(&[("web", &even), ("mobile", &fivefold)]), &RULE).unwrap();
        let verdict = found.alarm().unwrap();
        assert_eq!(
            verdict.reason,
            "mobile: the middle is 495 instead of 99, 5 times the usual; values above 179 went from 10 % to 80 %; PSI 2.53, 0.3713 is usual"
        );
        assert_eq!((verdict.subject.as_deref(), verdict.factor), (Some("mobile"), Some(5.0)));
        assert!(judge(&before, &before, &RULE).unwrap().alarm().is_none());
        let both = judge(&before, &sample_of(&[("web", &fivefold), ("mobile", &fivefold)]), &RULE).unwrap();
        assert!(both.alarm().unwrap().reason.ends_with("; so have web"));
    }

    #[test]
    fn a_constant_that_changes_is_a_shift() {
        let (before, now) = (sample_of(&[("", &[5.0; 150])]), sample_of(&[("", &[4.0; 150])]));
        assert!(judge(&before, &now, &RULE).unwrap().alarm().is_some());
        assert!(judge(&before, &before, &RULE).unwrap().alarm().is_none());
    }

    proptest! {
        #[test]
        fn it_is_kl_in_both_directions(counts in prop::collection::vec((1.0..100.0f64, 1.0..100.0f64), 2..20)) {
            let share = |of: fn(&(f64, f64)) -> f64| {
                let all: f64 = counts.iter().map(of).sum();
                counts.iter().map(|pair| of(pair) / all).collect::<Vec<_>>()
            };
            let (a, e) = (share(|pair| pair.0), share(|pair| pair.1));
            prop_assert!((psi(&a, &e) - (kl(&a, &e) + kl(&e, &a))).abs() < 1e-9);
            prop_assert!(psi(&a, &e) >= 0.0 && kl(&a, &e) >= -1e-12);
        }

        #[test]
        fn too_few_are_never_an_alarm(now in prop::collection::vec(-1e6..1e6f64, 0..100)) {
            let before = sample_of(&[("", &[1.0; 500])]);
            let is_not_enough = matches!(judge(&before, &sample_of(&[("", &now)]), &RULE), Ok(Finding::NotEnough { .. }));
            prop_assert!(is_not_enough);
        }
    }
}
