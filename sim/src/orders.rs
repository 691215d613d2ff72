//! G13: the state does not depend on the order in which parallel tasks finish. All orders of up to six tasks, drawn ones of more.

use std::sync::{Arc, LazyLock};

use graphs::{CompiledGraph, OpenCatalog};
use runtime_core::effect::Dispatch;
use runtime_core::event::{Command, Event, NodeOutput};
use runtime_core::ids::RunId;
use runtime_core::record::{Outcome, RunOptions};
use serde_json::{Value, json};

use crate::calm::{Calm, Standing};
use crate::rng::Rng;
use crate::shapes::Known;

/// Most tasks whose orders are all tried.
const ALL_ORDERS_MAX: usize = 6;
/// Most tasks at once.
const TASKS_MAX: usize = 12;
/// Orders drawn for more tasks than that.
const DRAWN_ORDERS: usize = 400;

const HEAD: &str = "
graph: orders
state:
  log: { merge: append }
  total: { merge: sum }
  last: { merge: last }
  deep: { merge: deep }
  rows: { merge: union, key: id }
  least: { merge: min }
  most: { merge: max }
  talk: { merge: messages }
nodes:
  join: { function: work, then: end }
";

/// One graph for each number of parallel tasks, 2 first.
static GRAPHS: LazyLock<Vec<Arc<CompiledGraph>>> = LazyLock::new(|| (2..=TASKS_MAX).map(graph_of).collect());

fn graph_of(n_tasks: usize) -> Arc<CompiledGraph> {
    let names: Vec<String> = (0..n_tasks).map(|at| format!("t{at}")).collect();
    let nodes: String = names.iter().map(|name| format!("  {name}: {{ function: work, then: join }}\n")).collect();
    let text = format!("{HEAD}{nodes}start: [{}]\n", names.join(", "));
    match graphs::check("orders.yaml", text.as_bytes(), &OpenCatalog) {
        Ok((graph, _)) => Arc::new(graph),
        Err(diagnostics) => panic!("the graph of orders does not compile: {diagnostics}"),
    }
}

/// Where writes are merged: by plan, or, weakened, as they arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merging {
    /// The real rules.
    ByPlan,
    /// A task writes what belongs to the place at which it arrives.
    OnArrival,
}

/// What task `who` writes in the world of `seed`.
fn writes(seed: u64, who: usize) -> NodeOutput {
    let mut rng = Rng::new(seed.wrapping_mul(31).wrapping_add(who as u64));
    let number = rng.below(50);
    let writes = vec![
        ("log".into(), json!([who, number])),
        ("total".into(), json!(number as f64 / 4.0)),
        ("last".into(), json!(who)),
        ("deep".into(), json!({"who": who, "a": {who.to_string(): number}})),
        ("rows".into(), json!([{"id": rng.below(4), "by": who}])),
        ("least".into(), json!(number)),
        ("most".into(), json!(number)),
        ("talk".into(), json!([{"id": format!("m{}", rng.below(4)), "content": who}])),
    ];
    NodeOutput { writes, ..NodeOutput::default() }
}

/// The final values when tasks finish in this order.
fn state_after(graph: &Arc<CompiledGraph>, seed: u64, order: &[usize], merging: Merging) -> Result<Value, String> {
    let mut calm = Calm::new(&Standing::default(), Arc::new(Known::with(graph)));
    let (options, graph) = (RunOptions::default(), Arc::clone(graph));
    calm.ask(Command::Start { run: RunId(1), graph, input: json!({}), options, metadata: Value::Null });
    let tasks: Vec<Dispatch> = calm.dispatched.drain(..).collect();
    if tasks.len() != order.len() {
        return Err(format!("{} of {} tasks were started", tasks.len(), order.len()));
    }
    for (place, at) in order.iter().enumerate() {
        let who = if merging == Merging::ByPlan { *at } else { place };
        let Some(task) = tasks.get(*at) else { continue };
        let output = Box::new(writes(seed, who));
        calm.happen(Event::TaskDone { task: task.task, token: task.token, output });
    }
    while let Some(join) = calm.dispatched.pop_front() {
        let (task, token) = (join.task, join.token);
        calm.happen(Event::TaskDone { task, token, output: Box::new(NodeOutput::default()) });
    }
    calm.happen(Event::Idle);
    let outcome = calm.state().run.as_ref().and_then(|run| run.outcome.clone());
    match (calm.violation(), outcome) {
        (Some(what), _) => Err(what),
        (None, Some(Outcome::Success)) => {
            Ok(calm.state().root().map(|root| runtime_core::channels::values(&root.channels)).unwrap_or_default())
        }
        (None, other) => Err(format!("the run ended as {other:?}")),
    }
}

/// The next order in the sequence of all; `false` after the last.
fn advance(order: &mut [usize]) -> bool {
    let Some(at) = order.windows(2).rposition(|pair| pair[0] < pair[1]) else { return false };
    let Some(next) = order.iter().rposition(|other| *other > order[at]) else { return false };
    order.swap(at, next);
    order[at + 1..].reverse();
    true
}

fn shuffled(n_tasks: usize, rng: &mut Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n_tasks).collect();
    for at in (1..n_tasks).rev() {
        order.swap(at, rng.below(at + 1));
    }
    order
}

/// Orders of one seed: its number, or the first one that changed the state.
pub fn check_orders(seed: u64, merging: Merging) -> Result<u64, String> {
    let n_tasks = 2 + usize::try_from(seed).unwrap_or(0) % (TASKS_MAX - 1);
    let Some(graph) = GRAPHS.get(n_tasks - 2) else { return Ok(0) };
    let mut order: Vec<usize> = (0..n_tasks).collect();
    let wanted = state_after(graph, seed, &order, Merging::ByPlan)?;
    let mut rng = Rng::new(seed);
    let mut n_orders = 0;
    loop {
        let found = state_after(graph, seed, &order, merging)?;
        if found != wanted {
            return Err(format!("seed {seed}: order {order:?} gives {found}, the plan's order {wanted}"));
        }
        n_orders += 1;
        let more = if n_tasks <= ALL_ORDERS_MAX {
            advance(&mut order)
        } else {
            order = shuffled(n_tasks, &mut rng);
            n_orders < DRAWN_ORDERS as u64
        };
        if !more {
            return Ok(n_orders);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_comes_once() {
        let mut order = vec![0, 1, 2, 3];
        let mut all = std::collections::BTreeSet::from([order.clone()]);
        while advance(&mut order) {
            assert!(all.insert(order.clone()));
        }
        assert_eq!(all.len(), 24);
    }

    #[test]
    fn orders_change_nothing_and_merging_on_arrival_is_caught() {
        for seed in 0..6 {
            assert!(check_orders(seed, Merging::ByPlan).unwrap() >= 2);
            assert!(check_orders(seed, Merging::OnArrival).is_err(), "seed {seed}");
        }
    }
}
