//! Bins whose edges are quantiles of the reference, and the smoothed shares of two samples in them.

use crate::segments::Counted;

/// Added to each bin: an empty one has a small share and no infinite logarithm (Krichevsky & Trofimov 1981).
const SMOOTHING: f64 = 0.5;

/// Upper edges, ascending; the last bin has none. A bin holds what is above the edge before it, up to its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bins(Vec<f64>);

/// A bin that is named to people.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moved {
    pub(crate) above: Option<f64>,
    pub(crate) up_to: Option<f64>,
    pub(crate) before: f64,
    pub(crate) now: f64,
}

impl Bins {
    /// About `n` bins of equal share. A value that fills several of them gets a bin of its own, so that values next to it are
    /// told apart from it.
    pub(crate) fn of(reference: &[Counted], n: usize) -> Self {
        let cuts: Vec<f64> = (1..n).filter_map(|k| weighted_quantile(reference, k as f64 / n as f64)).collect();
        let mut edges = Vec::new();
        for (at, cut) in cuts.iter().enumerate() {
            if cuts.get(at + 1) == Some(cut) {
                edges.push(cut.next_down());
            }
            edges.push(*cut);
        }
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        Self(edges)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len() + 1
    }

    /// The share of each bin, none of them 0.
    pub(crate) fn shares(&self, sample: &[Counted]) -> Vec<f64> {
        let mut counts = vec![SMOOTHING; self.len()];
        for counted in sample {
            let bin = self.0.partition_point(|edge| *edge < counted.value);
            if let Some(count) = counts.get_mut(bin) {
                *count += counted.count;
            }
        }
        let all: f64 = counts.iter().sum();
        counts.iter().map(|count| count / all).collect()
    }

    /// The bin whose share changed most.
    pub(crate) fn most_moved(&self, before: &[f64], now: &[f64]) -> Option<Moved> {
        let change = |pair: &(usize, (&f64, &f64))| (pair.1.1 - pair.1.0).abs();
        let pairs = before.iter().zip(now).enumerate();
        let (at, (before, now)) = pairs.max_by(|one, other| change(one).total_cmp(&change(other)))?;
        let above = at.checked_sub(1).and_then(|at| self.0.get(at)).copied();
        Some(Moved { above, up_to: self.0.get(at).copied(), before: *before, now: *now })
    }
}

pub(crate) fn total(sample: &[Counted]) -> f64 {
    sample.iter().map(|counted| counted.count).sum()
}

/// The smallest value up to which this share of the sample lies. The sample is in order of its values.
pub(crate) fn weighted_quantile(sorted: &[Counted], share: f64) -> Option<f64> {
    let wanted = share * total(sorted);
    let mut seen = 0.0;
    let reached = sorted.iter().find(|counted| {
        seen += counted.count;
        seen >= wanted
    });
    reached.or(sorted.last()).map(|counted| counted.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(values: &[f64]) -> Vec<Counted> {
        values.iter().map(|value| Counted { value: *value, count: 1.0 }).collect()
    }

    #[test]
    fn edges_are_quantiles_and_a_common_value_stands_alone() {
        let even = counted(&(0..100).map(f64::from).collect::<Vec<_>>());
        assert_eq!(Bins::of(&even, 4), Bins(vec![24.0, 49.0, 74.0]));
        assert_eq!(Bins::of(&counted(&[5.0; 10]), 10), Bins(vec![5.0_f64.next_down(), 5.0]));
    }

    #[test]
    fn shares_sum_up_and_none_is_nothing() {
        let bins = Bins(vec![1.0, 2.0]);
        let shares = bins.shares(&[Counted { value: 1.0, count: 7.0 }, Counted { value: 2.5, count: 1.5 }]);
        assert_eq!(shares, [0.75, 0.05, 0.2]);
        let moved = bins.most_moved(&[0.2, 0.6, 0.2], &[0.3, 0.2, 0.5]).unwrap();
        assert_eq!(moved, Moved { above: Some(1.0), up_to: Some(2.0), before: 0.6, now: 0.2 });
    }
}
