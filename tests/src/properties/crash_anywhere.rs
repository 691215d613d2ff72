//! G2 and G3 in one process: the store dies at every commit in turn, before or after the write; the thread goes on in a new
//! engine and ends in the same state, and no act that may happen once happens twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use runtime_core::record::{Durability, Outcome};
use serde_json::Value;

use super::graphs_drawn::*;
use crate::lab::*;
use crate::strict_store::{Death, Disk, StrictStore};

/// Drawn graphs of the short run.
const CASES: u32 = 24;

fn config() -> Config {
    let cases = std::env::var("INTERLOCK_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    Config { cases, failure_persistence: None, ..Config::default() }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// The end of a thread: outcome, values, and the values of each superstep.
#[derive(Debug, PartialEq)]
struct End {
    outcome: Option<Outcome>,
    values: Value,
    steps: Vec<String>,
}

async fn end_of(lab: &mut Lab, outcome: Option<Outcome>) -> End {
    let values = lab.values().await;
    let steps = lab.history_text().await.lines().map(str::to_owned).collect();
    End { outcome, values, steps }
}

fn undisturbed(text: &str, durability: Durability) -> (End, u64) {
    let disk = Disk::default();
    let mut lab = lab_for(text, Arc::new(StrictStore::on(&disk)));
    let end = runtime().block_on(async {
        let outcome = finish(&mut lab, true, durability).await;
        end_of(&mut lab, outcome).await
    });
    (end, disk.n_commits())
}

/// The end after one death, and how often each act happened that may happen once.
fn disturbed(text: &str, death: Death, durability: Durability) -> (End, BTreeMap<String, u32>) {
    let disk = Disk::default();
    let mut lab = lab_for(text, Arc::new(StrictStore::dying(&disk, death)));
    let died = runtime().block_on(async { finish(&mut lab, true, durability).await.is_none() });
    assert!(died || matches!(death, Death::LoseTail(_)), "{death:?} did not stop the thread");
    lab.restart_over(Arc::new(StrictStore::on(&disk)));
    let end = runtime().block_on(async {
        let outcome = finish(&mut lab, false, durability).await;
        end_of(&mut lab, outcome).await
    });
    let mut acts = BTreeMap::new();
    for act in lab.bench.acts() {
        *acts.entry(act).or_default() += 1;
    }
    (end, acts)
}

/// Acts of nodes that may act once: those of `leaf`, `again` and `reads` may be repeated with the same key.
fn may_happen_once(nodes: &[Drawn]) -> bool {
    !nodes.iter().any(|node| matches!(node.does, Does::Again | Does::Reads | Does::Sends))
}

#[test]
fn g2_g3_a_crash_at_any_commit_changes_nothing() {
    let mut runner = TestRunner::new(config());
    let modes = proptest::sample::select(vec![Durability::Sync, Durability::Async, Durability::Exit]);
    let result = runner.run(&(drawn(), modes), |(nodes, durability)| {
        let text = yaml(&nodes);
        let (wanted, n_commits) = undisturbed(&text, durability);
        for at in 1..=n_commits {
            for death in [Death::Before(at), Death::After(at)] {
                let (end, acts) = disturbed(&text, death, durability);
                prop_assert_eq!(&end, &wanted, "{:?} {:?} in\n{}", durability, death, text);
                if may_happen_once(&nodes) {
                    let twice: Vec<&String> = acts.iter().filter(|(_, n)| **n > 1).map(|(act, _)| act).collect();
                    prop_assert!(twice.is_empty(), "{:?}: {:?} happened twice in\n{}", death, twice, text);
                }
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn g2_g3_have_teeth_a_store_that_forgets_what_it_acknowledged_repeats_acts() {
    let text = "graph: drawn\nstate: {log: {merge: append}, n: {merge: sum}}\nstart: n0\nnodes:\n  n0: {function: once, then: n1}\n  n1: {function: once, then: end}\n";
    let (_, n_commits) = undisturbed(text, Durability::Sync);
    let repeated = (2..=n_commits).any(|at| {
        let (_, acts) = disturbed(text, Death::LoseTail(at), Durability::Sync);
        acts.values().any(|n| *n > 1)
    });
    assert!(repeated, "effects that do not wait for a durable intent must show");
}

#[test]
fn g10_the_same_draws_write_the_same_log() {
    let mut runner = TestRunner::new(config());
    let result = runner.run(&drawn(), |nodes| {
        let text = yaml(&nodes);
        let log = || {
            let disk = Disk::default();
            let mut lab = lab_for(&text, Arc::new(StrictStore::on(&disk)));
            runtime().block_on(async { finish(&mut lab, true, Durability::Sync).await });
            serde_json::to_string(&disk.log(&lab.thread)).expect("a log is JSON")
        };
        prop_assert_eq!(log(), log());
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
