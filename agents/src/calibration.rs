//! Whether a confidence means what it says: of the diagnoses that were 0.9 sure, nine in ten should be right.
//!
//! ```text
//!  Brier score   mean of (confidence − outcome)², outcome 1 if right, else 0: 0 is perfect, 0.25 is a coin's
//!  reliability   by tenths of confidence: how many there were, how sure they were on average, how many were right
//! ```

use serde::{Deserialize, Serialize};

/// Bins of a reliability table.
pub const BINS: usize = 10;

/// A confidence and what came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// From 0 to 1.
    pub confidence: f64,
    /// Whether it was right.
    pub right: bool,
}

/// Forecasts of about the same confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Lowest confidence.
    pub from: f64,
    /// Confidence below which they are; the last bin holds 1 as well.
    pub to: f64,
    /// How many there are.
    pub n: usize,
    /// How sure they were on average.
    pub confidence: f64,
    /// Share that was right.
    pub right: f64,
}

/// The Brier score; none without forecasts.
pub fn brier(forecasts: &[Forecast]) -> Option<f64> {
    let missed = |forecast: &Forecast| (forecast.confidence - outcome(*forecast)).powi(2);
    mean(forecasts.iter().map(missed))
}

/// The bins that have forecasts, the lowest first.
pub fn reliability(forecasts: &[Forecast]) -> Vec<Bin> {
    let width = 1.0 / BINS as f64;
    let filled = (0..BINS).filter_map(|ix| {
        let within: Vec<Forecast> =
            forecasts.iter().copied().filter(|forecast| bin_of(forecast.confidence) == ix).collect();
        Some(Bin {
            from: ix as f64 * width,
            to: (ix + 1) as f64 * width,
            n: within.len(),
            confidence: mean(within.iter().map(|forecast| forecast.confidence))?,
            right: mean(within.iter().copied().map(outcome))?,
        })
    });
    filled.collect()
}

fn bin_of(confidence: f64) -> usize {
    // A hair is added because 0.7 × 10 is 6.999…; what is not a number lands in the lowest bin.
    ((confidence * BINS as f64 + 1e-9).floor() as usize).min(BINS - 1)
}

fn outcome(forecast: Forecast) -> f64 {
    f64::from(u8::from(forecast.right))
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (n, sum) = values.fold((0_u32, 0.0), |(n, sum), value| (n + 1, sum + value));
    (n > 0).then(|| sum / f64::from(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecasts(list: &[(f64, bool)]) -> Vec<Forecast> {
        list.iter().map(|(confidence, right)| Forecast { confidence: *confidence, right: *right }).collect()
    }

    #[test]
    fn the_score_is_the_mean_square_of_what_was_missed() {
        assert_eq!(brier(&[]), None);
        assert_eq!(brier(&forecasts(&[(1.0, true), (0.0, false)])), Some(0.0));
        assert_eq!(brier(&forecasts(&[(0.5, true), (0.5, false)])), Some(0.25));
        let sure_and_wrong = brier(&forecasts(&[(0.9, true), (0.9, false)])).unwrap();
        assert!((sure_and_wrong - 0.41).abs() < 1e-12, "{sure_and_wrong}");
    }

    #[test]
    fn each_forecast_lands_in_the_bin_of_its_confidence() {
        let bins = reliability(&forecasts(&[(0.7, true), (0.72, false), (0.69, true), (1.0, true), (0.0, false)]));
        let shown: Vec<_> = bins.iter().map(|bin| ((bin.from * 10.0).round(), bin.n, bin.right)).collect();
        assert_eq!(shown, [(0.0, 1, 0.0), (6.0, 1, 1.0), (7.0, 2, 0.5), (9.0, 1, 1.0)]);
        assert!((bins[2].confidence - 0.71).abs() < 1e-12);
    }
}
