//! Calibration: whether "0.9 sure" comes true nine times in ten.
//!
//! The Brier score is the mean squared distance between what was said and what came (0 is perfect, 0.25 is what a coin that
//! always says 0.5 gets). It splits exactly into three parts:
//!
//! ```text
//!  Brier = reliability − resolution + uncertainty
//!        = Σ nₖ(fₖ − oₖ)²/N − Σ nₖ(oₖ − o)²/N + o(1 − o)      k over the distinct confidences that were said
//! ```
//!
//! `fₖ` is a confidence, `oₖ` how often it came true, `o` how often anything did. Reliability is the distance from the truth
//! (small is good), resolution how much the confidences tell apart (large is good), uncertainty what nobody can change.
//! G. W. Brier, *Monthly Weather Review* 78 (1950) 1–3; A. H. Murphy, *A new vector partition of the probability score*,
//! Journal of Applied Meteorology 12 (1973) 595–600.

use std::collections::BTreeMap;

/// Reliability bins.
pub const BINS: u32 = 10;
/// With fewer outcomes the numbers say little, and people are told so.
pub const FEW: u32 = 30;

/// How well confidences fitted outcomes.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// Predictions with an outcome.
    pub n: u32,
    /// Share that came true.
    pub rate: f64,
    /// Mean squared error.
    pub brier: f64,
    /// Distance from the truth.
    pub reliability: f64,
    /// What the confidences tell apart.
    pub resolution: f64,
    /// Spread of the outcomes themselves.
    pub uncertainty: f64,
    /// The bins, lowest first; empty ones too.
    pub bins: Vec<Bin>,
}

/// One reliability bin: confidences of at least `from` and below `to` (the last one includes 1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Lowest confidence.
    pub from: f64,
    /// Confidence above it.
    pub to: f64,
    /// Predictions in it.
    pub n: u32,
    /// Mean confidence; 0 when it is empty.
    pub said: f64,
    /// Share that came true; 0 when it is empty.
    pub came: f64,
}

/// Predictions that belong together.
#[derive(Default, Clone, Copy)]
struct Group {
    n: u32,
    said: f64,
    came: u32,
}

impl Group {
    fn take(&mut self, said: f64, came: bool) {
        self.n = self.n.saturating_add(1);
        self.said += said;
        self.came = self.came.saturating_add(u32::from(came));
    }

    fn rate(self) -> f64 {
        share(f64::from(self.came), self.n)
    }
}

impl Calibration {
    /// The calibration of confidences, each with whether it came true. A confidence outside of 0 to 1 counts as the nearer end.
    pub fn of(predictions: impl IntoIterator<Item = (f64, bool)>) -> Self {
        let (mut all, mut squares) = (Group::default(), 0.0);
        let mut distinct: BTreeMap<u64, Group> = BTreeMap::new();
        let mut bins = [Group::default(); BINS as usize];
        for (said, came) in predictions {
            let said = if said.is_nan() { 0.0 } else { said.clamp(0.0, 1.0) };
            all.take(said, came);
            squares += (said - f64::from(u8::from(came))).powi(2);
            // Bits of numbers from 0 up are in the order of the numbers.
            distinct.entry(said.to_bits()).or_default().take(said, came);
            if let Some(bin) = bins.iter_mut().enumerate().rfind(|(ix, _)| edge(*ix) <= said).map(|(_, bin)| bin) {
                bin.take(said, came);
            }
        }
        let rate = all.rate();
        let sum = |part: &dyn Fn(Group) -> f64| distinct.values().map(|group| f64::from(group.n) * part(*group)).sum();
        let reliability: f64 = sum(&|group| (share(group.said, group.n) - group.rate()).powi(2));
        let resolution: f64 = sum(&|group| (group.rate() - rate).powi(2));
        Self {
            n: all.n,
            rate,
            brier: share(squares, all.n),
            reliability: share(reliability, all.n),
            resolution: share(resolution, all.n),
            uncertainty: rate * (1.0 - rate),
            bins: bins.iter().enumerate().map(|(ix, group)| bin(ix, *group)).collect(),
        }
    }
}

fn bin(ix: usize, group: Group) -> Bin {
    Bin { from: edge(ix), to: edge(ix + 1), n: group.n, said: share(group.said, group.n), came: group.rate() }
}

/// The lower edge of a bin. Divided, not multiplied: 3/10 is the double that `0.3` is.
fn edge(ix: usize) -> f64 {
    f64::from(u32::try_from(ix).unwrap_or(BINS)) / f64::from(BINS)
}

fn share(sum: f64, n: u32) -> f64 {
    sum / f64::from(n.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn known_forecasts_have_known_scores() {
        let perfect = Calibration::of([(1.0, true), (0.0, false), (1.0, true)]);
        assert_eq!((perfect.n, perfect.brier, perfect.reliability), (3, 0.0, 0.0));
        assert!(close(perfect.resolution, perfect.uncertainty));
        let coin = Calibration::of([(0.5, true), (0.5, false)]);
        assert_eq!((coin.brier, coin.reliability, coin.resolution, coin.uncertainty), (0.25, 0.0, 0.0, 0.25));
        let sure_and_wrong = Calibration::of([(1.0, false)]);
        assert_eq!((sure_and_wrong.brier, sure_and_wrong.reliability), (1.0, 1.0));
        // Ten times 0.9 of which nine came, ten times 0.6 of which three came: by hand 0.09 and 0.30.
        let nine = (0..10).map(|n| (0.9, n < 9));
        let three = (0..10).map(|n| (0.6, n < 3));
        let mixed = Calibration::of(nine.chain(three));
        assert!(close(mixed.brier, (0.09 + 0.30) / 2.0), "{mixed:?}");
        assert!(close(mixed.reliability, 0.045) && close(mixed.resolution, 0.09) && close(mixed.uncertainty, 0.24));
    }

    #[test]
    fn bins_hold_their_lower_edge_and_the_last_one_both() {
        let said = [0.0, 0.1, 0.3, 0.7, 0.899_999, 0.9, 1.0, 7.0];
        let found = Calibration::of(said.map(|said| (said, true)));
        let n: Vec<u32> = found.bins.iter().map(|bin| bin.n).collect();
        assert_eq!(n, [1, 1, 0, 1, 0, 0, 0, 1, 1, 3]);
        assert_eq!((found.bins[3].from, found.bins[3].to, found.bins[2].came), (0.3, 0.4, 0.0));
    }

    #[test]
    fn nothing_said_is_no_number() {
        let none = Calibration::of([]);
        assert_eq!((none.n, none.brier, none.rate, none.bins.len()), (0, 0.0, 0.0, BINS as usize));
    }

    proptest! {
        #[test]
        fn the_parts_add_up_to_the_score(said in prop::collection::vec((0..=100u32, any::<bool>()), 1..200)) {
            let found = Calibration::of(said.iter().map(|(said, came)| (f64::from(*said) / 100.0, *came)));
            prop_assert!(close(found.brier, found.reliability - found.resolution + found.uncertainty), "{found:?}");
            prop_assert_eq!(found.bins.iter().map(|bin| bin.n).sum::<u32>(), found.n);
            prop_assert!(found.resolution <= found.uncertainty + 1e-9);
        }
    }
}
