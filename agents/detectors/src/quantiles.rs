//! Order statistics: middles and spreads that a few odd values do not move.

/// Values in ascending order.
pub(crate) fn ascending(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The value below which this share of the sorted values lies, between neighbours in proportion (Hyndman & Fan 1996, type 7).
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let below = place.floor();
    let (low, high) = (sorted.get(below as usize)?, sorted.get((below as usize + 1).min(last))?);
    Some(low + (high - low) * (place - below))
}

/// The middle value; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(&ascending(values), 0.5)
}

fn deviations(values: &[f64], centre: f64) -> Vec<f64> {
    values.iter().map(|value| (value - centre).abs()).collect()
}

/// The median distance from a centre.
pub(crate) fn median_deviation(values: &[f64], centre: f64) -> Option<f64> {
    median(&deviations(values, centre))
}

/// The mean distance from a centre.
pub(crate) fn mean_deviation(values: &[f64], centre: f64) -> f64 {
    deviations(values, centre).iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_are_those_of_the_definition() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(quantile(&sorted, 0.25), Some(1.75));
        assert_eq!(quantile(&sorted, 1.0), Some(4.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[]), None);
    }

    proptest! {
        #[test]
        fn a_quantile_lies_within_and_grows(values in prop::collection::vec(-1e6..1e6f64, 1..50), a in 0.0..1.0f64, b in 0.0..1.0f64) {
            let sorted = ascending(&values);
            let at = |share| quantile(&sorted, share).unwrap();
            prop_assert!(at(a.min(b)) <= at(a.max(b)));
            prop_assert!(sorted[0] <= at(a) && at(a) <= sorted[sorted.len() - 1]);
        }
    }
}
