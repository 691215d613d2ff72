//! Isolation forest: several metrics at once.
//!
//! `score = 2^(-E[h(x)] / c(ψ))` in 0..1, where `h(x)` is the number of random cuts that part `x` from a sample of `ψ` rows, averaged
//! over the trees, and `c(ψ) = 2H(ψ-1) - 2(ψ-1)/ψ` what an unsuccessful search in a binary tree takes (Liu, Ting & Zhou, *Isolation
//! Forest*, 2008: near 1 an anomaly, below 0.5 ordinary). As there, the row that is judged is among those a tree is grown of: a tree
//! that never saw a value so large would treat it as its largest one. Only the path of that row is grown, since nothing else is asked.
//!
//! Two things differ, each because an ordinary year had false alarms or an odd day was missed without it (see the tests). The metric
//! of a cut is drawn in proportion to its range in spreads of the history (Guha et al., *Robust Random Cut Forest*, 2016), where the
//! paper draws evenly: evenly, the eighth metric of a row hides what the first one shows. And a score ranks without saying how far: the most
//! extreme of ordinary days is isolated too. So a row is ordinary up to `distance_min`, the root of its summed squared distances from the
//! medians in spreads (`IQR / 1.349`).
//!
//! The metric that contributes most is the one without which (at its median) the score falls most.

use crate::chance::Chance;
use crate::quantiles::{ascending, quantile};
use crate::series::{POINTS_MAX, Refused};
use crate::verdict::{Direction, Finding, SCORE_MAX, Verdict, direction_of, plain};

/// Most metrics of a row.
pub const METRICS_MAX: usize = 32;
/// Most trees.
pub const TREES_MAX: usize = 1_000;
/// Largest sample of a tree.
pub const SAMPLE_MAX: usize = 1_024;
/// The middle half of a normal distribution, in standard deviations.
const IQR_OF_NORMAL: f64 = 1.349;
/// Smallest spread, as a share of the middle.
const SPREAD_SHARE_MIN: f64 = 1e-6;
/// The constant of Euler and Mascheroni.
const EULER: f64 = 0.577_215_664_9;

/// How rows are judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ForestRule {
    /// The score up to which a row is ordinary.
    pub threshold: f64,
    /// Trees; up to [`TREES_MAX`].
    pub trees: usize,
    /// Rows of a tree; up to [`SAMPLE_MAX`].
    pub sample: usize,
    /// The distance from the medians up to which a row is ordinary, in spreads of all metrics together.
    pub distance_min: f64,
    /// Fewest rows to compare with.
    pub rows_min: usize,
}

/// A score above 0.6 and a distance above 7, by 100 trees of up to 256 rows, over at least 60.
pub const RULE: ForestRule = ForestRule { threshold: 0.60, trees: 100, sample: 256, distance_min: 7.0, rows_min: 60 };

/// Judges a row by those before it. The same seed gives the same score.
///
/// # Errors
/// If there are too many rows or metrics, a row is of another length, or a value is not finite.
pub fn judge(
    metrics: &[&str],
    history: &[Vec<f64>],
    row: &[f64],
    rule: &ForestRule,
    seed: u64,
) -> Result<Finding, Refused> {
    check(metrics, history, row)?;
    let need = rule.rows_min.max(2);
    if history.len() < need {
        return Ok(Finding::NotEnough { have: history.len(), need });
    }
    let usual: Vec<Usual> = (0..metrics.len()).map(|at| Usual::of(history, at)).collect();
    let forest = Forest { history, usual: &usual, rule, seed };
    let score = forest.score(row);
    let distance = distance(row, &usual);
    let is_alarm = score > rule.threshold && distance > rule.distance_min;
    let (at, expected) = forest.most(row, score);
    let observed = row.get(at).copied().unwrap_or(0.0);
    let name = metrics.get(at).copied().unwrap_or_default();
    let direction = if is_alarm { direction_of(observed - expected) } else { Direction::Different };
    let verdict = Verdict {
        score,
        threshold: rule.threshold,
        expected,
        observed,
        direction,
        subject: Some(name.to_owned()),
        factor: (expected > 0.0 && observed >= 0.0).then(|| observed / expected),
        reason: format!(
            "{} metrics together are unusual by {}, {} is usual, {} spreads from their middle; most of it is {name}: {} instead of about {}",
            metrics.len(),
            plain(score),
            plain(rule.threshold),
            plain(distance),
            plain(observed),
            plain(expected)
        ),
    };
    Ok(if is_alarm { Finding::Alarm(verdict) } else { Finding::Ordinary(verdict) })
}

/// Middle and spread of a metric.
struct Usual {
    middle: f64,
    spread: f64,
}

impl Usual {
    fn of(history: &[Vec<f64>], at: usize) -> Self {
        let sorted = ascending(&history.iter().filter_map(|row| row.get(at)).copied().collect::<Vec<_>>());
        let quartile = |share| quantile(&sorted, share).unwrap_or(0.0);
        let (middle, spread) = (quartile(0.5), (quartile(0.75) - quartile(0.25)) / IQR_OF_NORMAL);
        // A metric that hardly ever changes has no spread of its own; what is unusual in it is so by its size.
        let least = f64::MIN_POSITIVE.max(SPREAD_SHARE_MIN * middle.abs());
        Self { middle, spread: spread.max(least) }
    }
}

/// How far a row is from the medians, in spreads.
fn distance(row: &[f64], usual: &[Usual]) -> f64 {
    let squared = |(value, usual): (&f64, &Usual)| ((value - usual.middle) / usual.spread).powi(2);
    row.iter().zip(usual).map(squared).sum::<f64>().sqrt().min(SCORE_MAX)
}

fn check(metrics: &[&str], history: &[Vec<f64>], row: &[f64]) -> Result<(), Refused> {
    if history.len() > POINTS_MAX {
        return Err(Refused::TooMany { have: history.len() });
    }
    let need = metrics.len().clamp(1, METRICS_MAX);
    if metrics.len() != need {
        return Err(Refused::Uneven { have: metrics.len(), need });
    }
    let mut rows = history.iter().map(Vec::as_slice).chain([row]);
    if let Some(odd) = rows.clone().find(|row| row.len() != need) {
        return Err(Refused::Uneven { have: odd.len(), need });
    }
    match rows.position(|row| row.iter().any(|value| !value.is_finite())) {
        Some(at) => Err(Refused::NotFinite { at: at as i64 }),
        None => Ok(()),
    }
}

struct Forest<'a> {
    history: &'a [Vec<f64>],
    usual: &'a [Usual],
    rule: &'a ForestRule,
    seed: u64,
}

impl Forest<'_> {
    fn score(&self, row: &[f64]) -> f64 {
        let size = (self.history.len() + 1).min(self.rule.sample.clamp(2, SAMPLE_MAX));
        let trees = self.rule.trees.clamp(1, TREES_MAX);
        let mut chance = Chance::new(self.seed);
        let sum: f64 = (0..trees).map(|_| self.path(row, size, &mut chance)).sum();
        2.0_f64.powf(-(sum / trees as f64) / search_length(size))
    }

    /// The metric without which the score falls most, and its middle.
    fn most(&self, row: &[f64], score: f64) -> (usize, f64) {
        let mut most: Option<(f64, usize, f64)> = None;
        for (at, usual) in self.usual.iter().enumerate() {
            let mut without = row.to_vec();
            if let Some(value) = without.get_mut(at) {
                *value = usual.middle;
            }
            let fall = score - self.score(&without);
            if most.is_none_or(|(largest, ..)| fall > largest) {
                most = Some((fall, at, usual.middle));
            }
        }
        most.map_or((0, 0.0), |(_, at, middle)| (at, middle))
    }

    /// The length of the row's path in one tree.
    fn path(&self, row: &[f64], size: usize, chance: &mut Chance) -> f64 {
        let mut left: Vec<&[f64]> = self.sample(size - 1, chance);
        let depth_max = (size as f64).log2().ceil() as usize;
        for depth in 0..depth_max {
            let Some((metric, cut)) = self.cut(&left, row, chance) else {
                return depth as f64 + search_length(left.len() + 1);
            };
            let is_below = |row: &[f64]| row.get(metric).is_some_and(|value| *value < cut);
            let side = is_below(row);
            left.retain(|other| is_below(other) == side);
            if left.is_empty() {
                return (depth + 1) as f64;
            }
        }
        depth_max as f64 + search_length(left.len() + 1)
    }

    /// Rows drawn without putting one back (Floyd, in Bentley 1987).
    fn sample(&self, n: usize, chance: &mut Chance) -> Vec<&[f64]> {
        let all = self.history.len();
        if n >= all {
            return self.history.iter().map(Vec::as_slice).collect();
        }
        let mut picked = std::collections::BTreeSet::new();
        for last in all.saturating_sub(n)..all {
            let drawn = chance.below(last + 1);
            if !picked.insert(drawn) {
                picked.insert(last);
            }
        }
        picked.into_iter().filter_map(|at| self.history.get(at)).map(Vec::as_slice).collect()
    }

    /// A metric among those that differ, drawn by its range, and a random place within it.
    fn cut(&self, rows: &[&[f64]], row: &[f64], chance: &mut Chance) -> Option<(usize, f64)> {
        let mut ranges: Vec<(f64, f64, f64)> = row.iter().map(|own| (*own, *own, 0.0)).collect();
        for row in rows {
            for ((low, high, _), value) in ranges.iter_mut().zip(*row) {
                (*low, *high) = (low.min(*value), high.max(*value));
            }
        }
        let mut all = 0.0;
        for ((low, high, so_far), usual) in ranges.iter_mut().zip(self.usual) {
            all += ((*high - *low) / usual.spread).min(SCORE_MAX);
            *so_far = all;
        }
        let drawn = chance.unit() * all;
        let (metric, (low, high, _)) = ranges.into_iter().enumerate().find(|(_, (.., so_far))| drawn < *so_far)?;
        // Never at the low end: a cut parts something from something.
        Some((metric, high - chance.unit() * (high - low)))
    }
}

/// Steps of an unsuccessful search in a binary search tree of `n` leaves.
pub(crate) fn search_length(n: usize) -> f64 {
    match n {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let n = n as f64;
            2.0 * ((n - 1.0).ln() + EULER) - 2.0 * (n - 1.0) / n
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cloud(n: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut chance = Chance::new(seed);
        (0..n).map(|_| vec![100.0 + 10.0 * chance.unit(), 5.0 + chance.unit(), chance.unit()]).collect()
    }

    const METRICS: [&str; 3] = ["rows", "minutes", "nulls"];

    fn found(row: &[f64], seed: u64) -> Finding {
        judge(&METRICS, &cloud(200, 1), row, &RULE, seed).unwrap()
    }

    #[test]
    fn the_length_of_a_search_is_that_of_the_paper() {
        assert_eq!((search_length(1), search_length(2)), (0.0, 1.0));
        assert!((search_length(256) - 10.2448).abs() < 1e-3);
    }

    #[test]
    fn an_odd_row_is_an_alarm_that_names_its_metric() {
        assert!(found(&[105.0, 5.5, 0.5], 3).alarm().is_none());
        let odd = found(&[105.0, 55.0, 0.5], 3);
        let verdict = odd.alarm().unwrap();
        assert_eq!((verdict.subject.as_deref(), verdict.direction), (Some("minutes"), Direction::Above));
        assert!(verdict.reason.contains("most of it is minutes: 55 instead of about 5.48"), "{}", verdict.reason);
    }

    #[test]
    fn a_metric_that_never_changed_and_does_now_is_named() {
        let still: Vec<Vec<f64>> = cloud(100, 1).into_iter().map(|row| vec![row[0], 3.0, row[2]]).collect();
        let judged = |row: &[f64]| judge(&METRICS, &still, row, &RULE, 1).unwrap();
        assert_eq!(judged(&[105.0, 4.0, 0.5]).alarm().unwrap().subject.as_deref(), Some("minutes"));
        assert!(judged(&[105.0, 3.0, 0.5]).alarm().is_none());
    }

    #[test]
    fn what_is_no_row_is_refused() {
        let rows = cloud(100, 1);
        assert_eq!(judge(&METRICS, &rows, &[1.0], &RULE, 0), Err(Refused::Uneven { have: 1, need: 3 }));
        assert_eq!(judge(&[], &[], &[], &RULE, 0), Err(Refused::Uneven { have: 0, need: 1 }));
        assert_eq!(judge(&METRICS, &rows, &[1.0, f64::NAN, 1.0], &RULE, 0), Err(Refused::NotFinite { at: 100 }));
        assert_eq!(
            judge(&METRICS, &rows[..10], &[1.0, 1.0, 1.0], &RULE, 0),
            Ok(Finding::NotEnough { have: 10, need: 60 })
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_score_is_a_share_and_repeats(a in -1e3..1e3f64, b in -1e3..1e3f64, seed in any::<u64>()) {
            let score = found(&[a, b, 0.5], seed).verdict().unwrap().score;
            prop_assert!(score > 0.0 && score < 1.0);
            prop_assert_eq!(score, found(&[a, b, 0.5], seed).verdict().unwrap().score);
        }

        #[test]
        fn the_unit_of_a_metric_does_not_matter(by in 0.001..1e3f64, seed in 0..100_u64) {
            let scaled: Vec<Vec<f64>> = cloud(200, 1).iter().map(|row| vec![row[0] * by, row[1], row[2]]).collect();
            let one = found(&[140.0, 5.5, 0.5], seed).verdict().unwrap().score;
            let other = judge(&METRICS, &scaled, &[140.0 * by, 5.5, 0.5], &RULE, seed).unwrap().verdict().unwrap().score;
            prop_assert!((one - other).abs() < 0.02, "{one} {other}");
        }
    }
}
