//! Two samples of each segment compared: which segment moved most, and by how much.
//!
//! Small samples differ by chance. The threshold is therefore the declared one or the largest difference that chance explains,
//! `(1/n + 1/m) χ²(bins - 1)` for PSI (Yurdakul 2018, *Statistical Properties of Population Stability Index*) and half of it for
//! KL (the G-test), whichever is larger, at four standard deviations.

use std::collections::BTreeMap;

use crate::bins::{Bins, Moved, total, weighted_quantile};
use crate::series::{POINTS_MAX, Refused};
use crate::verdict::{Finding, Verdict, direction_of, plain};

/// Most segments.
pub(crate) const SEGMENTS_MAX: usize = 200;
/// Most bins.
pub const BINS_MAX: usize = 50;
/// How far chance may reach, in standard deviations: once in thirty thousand.
const CHANCE_DEVIATIONS: f64 = 4.0;

/// A value and how often it occurs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counted {
    /// The value.
    pub value: f64,
    /// How often.
    pub count: f64,
}

/// Values by segment.
pub type Samples = BTreeMap<String, Vec<Counted>>;

/// How distributions are judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShiftRule {
    /// Smallest threshold.
    pub threshold: f64,
    /// Bins of the reference, up to [`BINS_MAX`].
    pub bins: usize,
    /// Fewest values of a segment, in either sample.
    pub samples_min: usize,
}

/// A measure of difference, and the part of `(1/n + 1/m) χ²` that chance gives it.
pub(crate) struct Divergence {
    pub(crate) name: &'static str,
    pub(crate) of: fn(&[f64], &[f64]) -> f64,
    pub(crate) by_chance: f64,
}

/// Judges every segment that has enough values; the finding is that of the one that moved most.
pub(crate) fn judge(
    reference: &Samples,
    current: &Samples,
    rule: &ShiftRule,
    divergence: &Divergence,
) -> Result<Finding, Refused> {
    let (reference, current) = (checked(reference)?, checked(current)?);
    let mut most: Option<(f64, Verdict)> = None;
    let (mut have, mut moved) = (0, Vec::new());
    for (segment, before) in &reference {
        let Some(now) = current.get(segment) else { continue };
        let smaller = total(before).min(total(now));
        have = have.max(smaller as usize);
        if smaller < rule.samples_min.max(1) as f64 {
            continue;
        }
        let verdict = compare(segment, (before, now), rule, divergence);
        let excess = verdict.score / verdict.threshold;
        if excess > 1.0 {
            moved.push(segment.as_str());
        }
        if most.as_ref().is_none_or(|(largest, _)| excess > *largest) {
            most = Some((excess, verdict));
        }
    }
    let Some((excess, mut verdict)) = most else {
        return Ok(Finding::NotEnough { have, need: rule.samples_min.max(1) });
    };
    if moved.len() > 1 {
        let others = moved.iter().filter(|segment| Some(**segment) != verdict.subject.as_deref());
        verdict.reason.push_str(&format!("; so have {}", others.copied().collect::<Vec<_>>().join(", ")));
    }
    Ok(if excess > 1.0 { Finding::Alarm(verdict) } else { Finding::Ordinary(verdict) })
}

/// Samples in order of their values, within limits.
fn checked(samples: &Samples) -> Result<Samples, Refused> {
    if samples.len() > SEGMENTS_MAX {
        return Err(Refused::Segments { have: samples.len() });
    }
    let have: usize = samples.values().map(Vec::len).sum();
    if have > POINTS_MAX {
        return Err(Refused::TooMany { have });
    }
    let is_bad = |c: &Counted| !c.value.is_finite() || !c.count.is_finite() || c.count < 0.0;
    let mut sorted = samples.clone();
    for (segment, sample) in &mut sorted {
        if sample.iter().any(is_bad) {
            return Err(Refused::BadSample { segment: segment.clone() });
        }
        sample.sort_by(|one, other| one.value.total_cmp(&other.value));
    }
    Ok(sorted)
}

fn compare(segment: &str, (before, now): (&[Counted], &[Counted]), rule: &ShiftRule, measure: &Divergence) -> Verdict {
    let bins = Bins::of(before, rule.bins.clamp(2, BINS_MAX));
    let (expected, observed) = (bins.shares(before), bins.shares(now));
    let score = (measure.of)(&observed, &expected).max(0.0);
    let chance = (1.0 / total(before) + 1.0 / total(now)) * measure.by_chance;
    let threshold = rule.threshold.max(chance * chi_squared(bins.len() - 1, CHANCE_DEVIATIONS));
    let middle = |sample| weighted_quantile(sample, 0.5).unwrap_or(0.0);
    let (usual, middle) = (middle(before), middle(now));
    let factor = (usual > 0.0 && middle >= 0.0).then(|| middle / usual);
    let times = factor.map(|factor| format!(", {} times the usual", plain(factor))).unwrap_or_default();
    let most = bins.most_moved(&expected, &observed).map(|moved| bin_text(&moved)).unwrap_or_default();
    Verdict {
        score,
        threshold,
        expected: usual,
        observed: middle,
        direction: direction_of(middle - usual),
        subject: Some(segment.to_owned()),
        factor,
        reason: format!(
            "{segment}: the middle is {} instead of {}{times}; {most}; {} {}, {} is usual",
            plain(middle),
            plain(usual),
            measure.name,
            plain(score),
            plain(threshold)
        ),
    }
}

fn bin_text(moved: &Moved) -> String {
    let range = match (moved.above, moved.up_to) {
        (Some(above), Some(up_to)) => format!("above {} up to {}", plain(above), plain(up_to)),
        (Some(above), None) => format!("above {}", plain(above)),
        (None, Some(up_to)) => format!("up to {}", plain(up_to)),
        (None, None) => "everywhere".to_owned(),
    };
    format!("values {range} went from {:.0} % to {:.0} %", moved.before * 100.0, moved.now * 100.0)
}

/// The value that χ² stays below but for `deviations` of a normal tail (Wilson & Hilferty 1931).
fn chi_squared(freedom: usize, deviations: f64) -> f64 {
    let k = freedom.max(1) as f64;
    let spread = 2.0 / (9.0 * k);
    k * (1.0 - spread + deviations * spread.sqrt()).powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_that_of_the_tables() {
        // χ² of 9 and of 4 at 0.999 (3.0902 deviations): 27.88 and 18.47. Of 1, where the formula is weakest, it says too much.
        assert!((chi_squared(9, 3.0902) - 27.88).abs() < 0.2);
        assert!((chi_squared(4, 3.0902) - 18.47).abs() < 0.3);
        assert!((10.83..11.5).contains(&chi_squared(1, 3.0902)));
    }

    #[test]
    fn bad_samples_are_refused_by_segment() {
        let samples = |value, count| Samples::from([("web".to_owned(), vec![Counted { value, count }])]);
        let refused = Refused::BadSample { segment: "web".to_owned() };
        assert_eq!(checked(&samples(f64::NAN, 1.0)), Err(refused.clone()));
        assert_eq!(checked(&samples(1.0, -1.0)), Err(refused));
        let many: Samples = (0..=SEGMENTS_MAX).map(|n| (n.to_string(), Vec::new())).collect();
        assert_eq!(checked(&many), Err(Refused::Segments { have: SEGMENTS_MAX + 1 }));
    }
}
