//! G5: an engine is paused at any moment, another one takes its thread over and finishes, and the first one goes on: it can
//! neither commit nor answer, and makes no call beyond the permission it had in hand.
//!
//! Each engine has a runtime of its own; one that is not driven is as still as a process under SIGSTOP, between any two steps.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use checkpoints::open::{OpenOptions, memory};
use runtime::Engine;
use runtime::ports::store::{Store, StoreError};
use runtime_core::effect::Reply;
use runtime_core::event::AnswerInput;
use runtime_core::ids::{Epoch, Seq, ThreadId};
use runtime_core::record::{Commit, Durability, InterruptKind, Op, Outcome, Record, RunOptions};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::graphs_drawn::lab_on;
use crate::hooked_store::{Hook, HookedStore};
use crate::lab::*;
use crate::strict_store::{Disk, StrictStore};

/// Takeovers of the short run; `INTERLOCK_TAKEOVERS` sets another number.
const TAKEOVERS_SHORT: u64 = 200;
/// The first engine is paused after at most this many turns.
const TURNS_MAX: u64 = 70;
/// Turns before and after each commit of the first engine.
const TURNS_OF_A_COMMIT: u64 = 2;
/// Turns in which the first engine comes to rest after its pause.
const REST_TURNS: u64 = 400;
/// Rounds in which a thread comes to its end.
const ROUNDS_MAX: u32 = 100;
/// Records of one thread.
const RECORDS_MAX: usize = 10_000;
/// Pauses among which the weakened store must show.
const WEAK_PAUSES_MAX: u64 = 200;

const GRAPH: &str = "
graph: drawn
state: {log: {merge: append}, n: {merge: sum}}
start: n0
nodes:
  n0: {function: once, then: [n1, n2]}
  n1: {function: asks, then: n3}
  n2: {function: once, then: n3}
  n3: {function: once, then: n4}
  n4: {function: once, then: end}
";

/// A commit takes turns, as on a disk: a pause falls before it and after it, not only where the engine rests by itself.
async fn unhurried(inner: &dyn Store, commit: Commit) -> Result<(), StoreError> {
    turns(TURNS_OF_A_COMMIT).await;
    let done = inner.commit(commit).await;
    turns(TURNS_OF_A_COMMIT).await;
    done
}

/// A store whose commits take turns.
struct Unhurried;

#[async_trait]
impl Hook for Unhurried {
    async fn commit(&self, inner: &dyn Store, commit: Commit) -> Result<(), StoreError> {
        unhurried(inner, commit).await
    }
}

/// Weakened on purpose: a writer that was refused is told that all is well.
struct Unfenced;

#[async_trait]
impl Hook for Unfenced {
    async fn commit(&self, inner: &dyn Store, commit: Commit) -> Result<(), StoreError> {
        match unhurried(inner, commit).await {
            Err(StoreError::Fenced { .. }) => Ok(()),
            done => done,
        }
    }
}

fn still_runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

async fn turns(n: u64) {
    for _ in 0..n {
        tokio::task::yield_now().await;
    }
}

/// Answers of somebody who cannot know whether the engine that was paused still uses its permission: what is in doubt counts
/// as done, because it is done as soon as that engine goes on.
async fn answers(engine: &Engine, thread: &ThreadId) -> Vec<AnswerInput> {
    let state = engine.state(thread).await.ok().flatten().unwrap_or_default();
    let value = |kind| match kind {
        InterruptKind::InDoubt => json!({"choice": runtime_core::HAPPENED, "result": "made"}),
        _ => json!("yes"),
    };
    state.interrupts.values().map(|question| yes(question, value(question.kind))).collect()
}

/// Brings the thread to its end, from wherever it stands.
async fn to_the_end(engine: Engine, thread: ThreadId) -> Option<Outcome> {
    for _ in 0..ROUNDS_MAX {
        engine.recover().await.ok()?;
        drop(engine.join(&thread).await.ok()?);
        let open = answers(&engine, &thread).await;
        if open.is_empty() {
            let state = engine.store().load(&thread).await.ok()??.state;
            match state.run?.outcome {
                Some(Outcome::Interrupted) | None => continue,
                ended => return ended,
            }
        }
        engine.answer_and_join(&thread, open, Value::Null).await.ok()?;
    }
    None
}

/// What one pause showed.
#[derive(Default)]
struct Seen {
    /// The second engine began where the first was paused.
    taken_over: bool,
    stale_answers_refused: u64,
    /// The first engine used a permission it had before the takeover.
    permissions_used: u64,
}

fn epochs_rise(records: &[(Seq, Record)]) -> bool {
    records.windows(2).all(|pair| pair[0].1.epoch <= pair[1].1.epoch)
}

/// Keys of the calls whose intent the first owner made durable.
fn permitted(records: &[(Seq, Record)], owner: Epoch) -> BTreeSet<String> {
    let own = records.iter().filter(|(_, record)| record.epoch == owner);
    let begun = own.flat_map(|(_, record)| &record.ops).filter_map(|op| match op {
        Op::CallBegun { task, ix, .. } => Some(format!("t:{task}:{}:", ix.0)),
        _ => None,
    });
    begun.collect()
}

/// Pauses the first engine after some turns. The error is what a stale engine could do.
fn pause_once(n_turns: u64, store: &Arc<dyn Store>, first_store: Arc<dyn Store>) -> Result<Seen, String> {
    let (first_rt, second_rt) = (still_runtime(), still_runtime());
    let bench = Bench::default();
    let mut first = lab_on(GRAPH, first_store, &bench);
    let mut second = lab_on(GRAPH, Arc::clone(store), &bench);
    let (thread, engine) = (first.thread.clone(), first.engine());
    let options = RunOptions { durability: Durability::Sync, ..RunOptions::default() };
    let start = first.what(json!({"log": ["in"]}), options);
    first_rt.block_on(first.load_graphs());
    let (own, of) = (engine.clone(), thread.clone());
    let life = first_rt.spawn(async move {
        drop(own.start(start).await.ok()?.ended().await);
        to_the_end(own, of).await
    });
    first_rt.block_on(turns(n_turns));
    let (known, owner, asked) = second_rt.block_on(async {
        let loaded = store.load(&thread).await.ok().flatten();
        let asked: Vec<AnswerInput> =
            loaded.iter().flat_map(|loaded| loaded.state.interrupts.values()).map(|q| yes(q, json!("yes"))).collect();
        (loaded.is_some(), loaded.map(|loaded| loaded.epoch).unwrap_or_default(), asked)
    });
    if !known || life.is_finished() {
        return Ok(Seen::default());
    }
    let outcome = second_rt.block_on(async {
        second.load_graphs().await;
        to_the_end(second.engine(), thread.clone()).await
    });
    if outcome != Some(Outcome::Success) {
        return Err(format!("the second engine ended as {outcome:?}"));
    }
    let (before, acts) = second_rt
        .block_on(async { (store.records(&thread, Seq(1), RECORDS_MAX).await.unwrap_or_default(), bench.acts()) });
    let mut seen = Seen { taken_over: true, ..Seen::default() };
    first_rt.block_on(async {
        if !asked.is_empty() {
            match engine.answer_and_join(&thread, asked, Value::Null).await {
                Ok((Reply::Answered(taken), _)) if taken.iter().any(Result::is_ok) => {
                    return Err("a stale engine took an answer".to_owned());
                }
                _ => seen.stale_answers_refused += 1,
            }
        }
        turns(REST_TURNS).await;
        Ok(())
    })?;
    let after = second_rt.block_on(async { store.records(&thread, Seq(1), RECORDS_MAX).await.unwrap_or_default() });
    if before.len() != after.len() || !epochs_rise(&after) {
        return Err(format!("a stale engine committed: {} records, then {}", before.len(), after.len()));
    }
    let allowed = permitted(&after, owner);
    for act in &bench.acts()[acts.len()..] {
        if !allowed.iter().any(|key| act.starts_with(key)) {
            return Err(format!("a stale engine made a call that nobody permitted: {act}"));
        }
        seen.permissions_used += 1;
    }
    let all = bench.acts();
    let once: BTreeSet<&String> = all.iter().collect();
    if once.len() != all.len() {
        return Err(format!("a call was made twice: {all:?}"));
    }
    Ok(seen)
}

fn shared_store(kind: &str) -> Arc<dyn Store> {
    match kind {
        "strict" => Arc::new(StrictStore::on(&Disk::default())),
        _ => Arc::new(memory(&OpenOptions::default())),
    }
}

fn stale_engines_can_do_nothing(kind: &'static str) {
    let wanted =
        std::env::var("INTERLOCK_TAKEOVERS").ok().and_then(|text| text.parse().ok()).unwrap_or(TAKEOVERS_SHORT);
    let (mut pauses, mut takeovers, mut refused, mut used) = (0_u64, 0, 0, 0);
    while takeovers < wanted {
        let store = shared_store(kind);
        let n_turns = 1 + pauses * 7_919 % TURNS_MAX;
        let first_store = Arc::new(HookedStore::new(Arc::clone(&store), Arc::new(Unhurried)));
        let seen = pause_once(n_turns, &store, first_store);
        let seen = seen.unwrap_or_else(|why| panic!("{kind}, paused after {n_turns} turns: {why}"));
        pauses += 1;
        takeovers += u64::from(seen.taken_over);
        refused += seen.stale_answers_refused;
        used += seen.permissions_used;
        assert!(pauses <= wanted * 20, "pauses hardly meet a thread under way: {takeovers} of {pauses}");
    }
    println!(
        "G5 store={kind} shared_by=2 takeovers={takeovers} stale_commits=0 stale_answers_refused={refused} \
         unpermitted_calls=0 permissions_in_hand={used}"
    );
    assert!(refused > 0, "no stale answer was tried");
}

#[test]
fn stale_engines_can_do_nothing_over_a_strict_store() {
    stale_engines_can_do_nothing("strict");
}

#[test]
fn stale_engines_can_do_nothing_over_a_memory_store() {
    stale_engines_can_do_nothing("memory");
}

/// Teeth of G5: a stale writer that is not told so goes on, and is caught.
#[test]
fn stale_engines_that_are_not_fenced_are_caught() {
    let caught = (0..WEAK_PAUSES_MAX).find_map(|pause| {
        let store = shared_store("memory");
        let weak = Arc::new(HookedStore::new(Arc::clone(&store), Arc::new(Unfenced)));
        pause_once(1 + pause * 7_919 % TURNS_MAX, &store, weak).err()
    });
    println!("G5 weakened=no_epoch_check teeth={}", if caught.is_some() { "ok" } else { "MISSING" });
    assert!(caught.is_some(), "{WEAK_PAUSES_MAX} pauses did not show a store that fences nobody");
}
