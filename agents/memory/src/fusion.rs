//! Reciprocal rank fusion: one order of several, by ranks alone, because their scores cannot be compared.
//!
//! `score(d) = Σ 1 / (60 + rank of d)` over the lists that have it, ranks from 1. Cormack, Clarke and Büttcher, "Reciprocal
//! Rank Fusion outperforms Condorcet and individual Rank Learning Methods" (SIGIR 2009), whose value k = 60 is.

use std::collections::BTreeMap;

/// Damps the first ranks.
const K: f64 = 60.0;

/// All that any list has, the best first; of two that are equal the one with the smaller number.
pub(crate) fn fused(lists: &[Vec<usize>]) -> Vec<(usize, f64)> {
    let mut scores: BTreeMap<usize, f64> = BTreeMap::new();
    for list in lists {
        for (rank, item) in list.iter().enumerate() {
            *scores.entry(*item).or_default() += 1.0 / (K + 1.0 + rank as f64);
        }
    }
    let mut all: Vec<(usize, f64)> = scores.into_iter().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(lists: &[Vec<usize>]) -> Vec<usize> {
        fused(lists).into_iter().map(|(item, _)| item).collect()
    }

    #[test]
    fn what_both_lists_have_goes_before_what_one_has() {
        assert_eq!(order(&[vec![1, 2, 3], vec![4, 2, 5]]), [2, 1, 4, 3, 5]);
        assert_eq!(order(&[vec![7, 8], vec![]]), [7, 8]);
        let scores = fused(&[vec![1], vec![1]]);
        assert!((scores[0].1 - 2.0 / 61.0).abs() < 1e-12);
    }
}
