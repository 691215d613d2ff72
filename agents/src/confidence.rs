//! How sure a diagnosis is: the agreement of independent evidence, in one formula that a person can check by hand.
//!
//! ```text
//!  p ← prior of the matching cause
//!  p ← 1 − (1 − p)(1 − w)     for each piece of evidence that agrees, w its weight
//!  p ← p (1 − w)              for each that contradicts
//!  p ← min(p, 0.97)           nothing here is certain
//!  p ← min(p, 0.69)           if another cause explains the incident nearly as well (margin below 0.10)
//! ```
//!
//! Whether to *act* on a diagnosis takes one number more, and the runtime looks it up, at the act: what the record of the remedy
//! vouches for (the lower Wilson bound of how often it healed). What the two are worth together is the smaller of them.
//!
//! ```text
//!  a ← min(p, lower bound of the remedy's record)                [`with_record`]
//! ```
//!
//! A record can lower what the evidence says and never raise it: a remedy that always worked is no evidence for a cause.
//!
//! Evidence that could not be read changes nothing: it is a gap, named in the diagnosis. Agreement is taken before
//! contradiction, so the order in which evidence is declared does not matter.

/// Nothing is surer than this.
pub const CEILING: f64 = 0.97;
/// Below this lead over the next cause, people decide.
pub const MARGIN: f64 = 0.10;
/// What a diagnosis without such a lead is worth at most: below the lowest band that acts.
pub const AMBIGUOUS: f64 = 0.69;
/// A cause that is less likely than this is no diagnosis.
pub const FLOOR: f64 = 0.35;
/// What "unknown" is worth.
pub const UNKNOWN: f64 = 0.20;

/// The formula without the margin.
pub fn combine(prior: f64, agreeing: &[f64], contradicting: &[f64]) -> f64 {
    let agreed = agreeing.iter().fold(prior, |p, weight| 1.0 - (1.0 - p) * (1.0 - weight));
    let p = contradicting.iter().fold(agreed, |p, weight| p * (1.0 - weight));
    rounded(p.clamp(0.0, CEILING))
}

/// The formula's last line: the lead over the next cause.
pub fn with_margin(best: f64, next: Option<f64>) -> f64 {
    if next.is_some_and(|next| best - next < MARGIN) { best.min(AMBIGUOUS) } else { best }
}

/// How sure it is that acting on a diagnosis heals; the runtime's own function, so that there is one formula.
pub use runtime_core::interlocks::track_record::combined as with_record;

/// Two digits: more would pretend a precision that priors do not have.
fn rounded(p: f64) -> f64 {
    (p * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_moves_confidence_the_right_way_and_within_limits() {
        assert_eq!(combine(0.7, &[], &[]), 0.7);
        assert_eq!(combine(0.7, &[0.5], &[]), 0.85);
        assert_eq!(combine(0.7, &[0.5, 0.25], &[]), combine(0.7, &[0.25, 0.5], &[]));
        assert_eq!(combine(0.7, &[], &[0.5]), 0.35);
        assert!(combine(0.7, &[0.5], &[0.5]) < 0.7, "a contradiction outweighs equal agreement");
        assert_eq!(combine(0.9, &[0.9, 0.9], &[]), CEILING);
    }

    #[test]
    fn no_record_makes_a_diagnosis_surer() {
        for p in [combine(0.7, &[], &[]), with_margin(0.92, Some(0.85)), CEILING] {
            for bound in [0.0, 0.5, p, 0.99, 1.0] {
                assert!(with_record(Some(p), bound) <= p.min(bound));
            }
            assert_eq!(with_record(Some(p), 1.0), p, "a perfect record leaves it");
        }
    }

    #[test]
    fn a_rival_takes_the_right_to_act() {
        assert_eq!(with_margin(0.92, None), 0.92);
        assert_eq!(with_margin(0.92, Some(0.5)), 0.92);
        assert_eq!(with_margin(0.92, Some(0.85)), AMBIGUOUS);
        assert_eq!(with_margin(0.5, Some(0.45)), 0.5);
    }
}
