//! G13: whatever order tasks finish in, the state is the same; all permutations of five parallel tasks.

use std::collections::BTreeSet;
use std::sync::Arc;

use runtime_core::record::{Outcome, RunOptions};
use runtime_core::stream::Mode;
use serde_json::{Value, json};

use crate::lab::*;
use crate::strict_store::{Disk, StrictStore};

/// Tasks that run at once.
const TASKS: usize = 5;

const GRAPH: &str = "
graph: orders
state:
  log: {merge: append}
  total: {merge: sum}
  last: {merge: last}
  deep: {merge: deep}
  rows: {merge: union, key: id}
  least: {merge: min}
  most: {merge: max}
  talk: {merge: messages}
start: [t0, t1, t2, t3, t4]
nodes:
  t0: {function: work, then: after}
  t1: {function: work, then: after}
  t2: {function: work, then: end}
  t3: {function: work, then: [leaf, after]}
  t4: {function: work, then: end}
  leaf: {function: leaf, then: end}
  after: {function: leaf, then: end}
";

fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (at, first) in items.iter().enumerate() {
        let mut rest = items.to_vec();
        rest.remove(at);
        all.extend(permutations(&rest).into_iter().map(|mut tail| {
            tail.insert(0, *first);
            tail
        }));
    }
    all
}

/// Final values and the order in which updates were streamed.
fn run_in(order: Vec<usize>) -> (Value, Vec<String>) {
    let mut lab = Lab::over(Arc::new(StrictStore::on(&Disk::default())));
    lab.graph(GRAPH).writes("leaf", json!({"total": 0.5}));
    lab.node("work", move |ctx, bench| {
        let order = order.clone();
        async move {
            let me: usize = ctx.node()?.name[1..].parse().unwrap();
            let place = order.iter().position(|task| *task == me).unwrap();
            if place > 0 {
                bench.after(&format!("{}", order[place - 1])).await;
            }
            bench.mark(&format!("{me}"));
            let values = json!({
                "log": [me], "total": me, "last": me, "deep": {"a": {me.to_string(): me}, "who": me},
                "rows": [{"id": me % 2, "by": me}], "least": me, "most": me,
                "talk": [{"id": format!("m{}", me % 3), "content": me}],
            });
            if me == 4 { send(values, "leaf", &[json!(1)]) } else { out(values) }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (outcome, events) = lab.stream(json!({}), RunOptions::default(), modes(&[Mode::Updates])).await;
        assert_eq!(outcome, Outcome::Success);
        let names = events.iter().map(|event| event.data.as_object().unwrap().keys().next().unwrap().clone());
        (lab.values().await, names.take(TASKS).collect())
    })
}

#[test]
fn g13_every_order_of_completion_ends_in_one_state() {
    let tasks: Vec<usize> = (0..TASKS).collect();
    let mut states = BTreeSet::new();
    let mut orders = BTreeSet::new();
    for order in permutations(&tasks) {
        let (state, streamed) = run_in(order);
        states.insert(state.to_string());
        orders.insert(streamed);
    }
    assert_eq!(states.len(), 1, "{states:#?}");
    assert_eq!(orders.len(), 120, "the orders were really different");
}
