//! The whole engine in one seeded world: same seed, same run. See `docs/testing.md` for how to bring a failure back.

pub mod calm;
pub mod disk;
pub mod inputs;
pub mod ledger;
pub mod mutants;
pub mod orders;
pub mod rng;
pub mod shapes;
pub mod world;

use std::collections::BTreeMap;

use serde_json::Value;

pub use world::{End, Weakness, World};

/// What many seeds showed.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Worlds that ran.
    pub seeds: u64,
    /// Crashes and thefts in them.
    pub faults: u64,
    /// Effects outside.
    pub effects: u64,
    /// In-doubt calls people were asked about.
    pub doubts: u64,
    /// The first violation: its seed and what it was.
    pub violation: Option<(u64, String)>,
}

/// Final channel values.
fn outcome(end: &End) -> BTreeMap<String, Value> {
    let Some(root) = end.state.root() else { return BTreeMap::new() };
    root.channels.iter().map(|(name, slot)| (name.to_string(), Value::clone(&slot.value))).collect()
}

/// Runs one seed with faults and holds it against the same seed without.
pub fn check_seed(seed: u64, weakness: Weakness) -> Result<End, String> {
    let calm = World::new(seed, false, Weakness::None).run().map_err(|why| format!("without faults: {why}"))?;
    let end = World::new(seed, true, weakness).run()?;
    if outcome(&calm) != outcome(&end) {
        return Err(format!("faults changed the result: {:?} without, {:?} with", outcome(&calm), outcome(&end)));
    }
    Ok(end)
}

/// Runs a range of seeds, stopping at the first violation.
pub fn check_seeds(from: u64, n_seeds: u64, weakness: Weakness) -> Summary {
    let mut summary = Summary::default();
    for seed in from..from.saturating_add(n_seeds) {
        summary.seeds += 1;
        match check_seed(seed, weakness) {
            Ok(end) => {
                summary.faults += u64::from(end.faults);
                summary.effects += end.effects as u64;
                summary.doubts += u64::from(end.doubts);
            }
            Err(why) => {
                summary.violation = Some((seed, why));
                return summary;
            }
        }
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_change_nothing_and_repeat_nothing() {
        let summary = check_seeds(0, 3_000, Weakness::None);
        assert_eq!(summary.violation, None);
        assert!(summary.faults > 1_000 && summary.effects > 3_000 && summary.doubts > 10, "too calm: {summary:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        for seed in 0..200 {
            let trace = |seed| World::new(seed, true, Weakness::None).traced().run().map(|end| end.trace);
            assert_eq!(trace(seed), trace(seed), "seed {seed}");
        }
    }

    #[test]
    fn weakened_worlds_are_caught() {
        for weakness in [Weakness::Early, Weakness::Unfenced] {
            assert!(check_seeds(0, 2_000, weakness).violation.is_some(), "{weakness:?} was not caught");
        }
    }
}
