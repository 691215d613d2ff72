//! What runs next: the whole meaning of edges, joins, sends and deferred nodes, in one pure function.

use std::collections::BTreeSet;
use std::sync::Arc;

use graphs::CompiledGraph;
use serde_json::Value;

use crate::error::{ErrorClass, TaskError};
use crate::ids::Name;
use crate::record::{Hop, Plan, PlannedTask};
use crate::state::FAN_OUT_MAX;

/// Pseudo-node that stands for the graph's entry in the checkpoint of an input.
pub const START: &str = "__start__";

/// The plan of the checkpoint of an input: nothing but the entry.
pub fn entry() -> Plan {
    Plan { tasks: vec![PlannedTask { node: START.into(), send: None }], ..Plan::default() }
}

/// A finished task as planning sees it.
pub struct Finished<'a> {
    /// Its node; empty when its failure was handled: that arms no join.
    pub node: &'a str,
    /// Where it leads.
    pub route: &'a [Hop],
}

/// Plans the superstep after `finished` (in path order), given what waited before.
///
/// Edge-started tasks come first, in declaration order, each node once; then sends by emitting task and index. A node with
/// `after` runs when every source has finished since it last ran. Deferred nodes start when nothing else is left.
pub fn next(graph: &CompiledGraph, before: &Plan, finished: &[Finished<'_>]) -> Result<Plan, TaskError> {
    beside(graph, before, finished, &[])
}

/// As [`next`], with tasks that are still to run in the same superstep.
pub fn beside(
    graph: &CompiledGraph,
    before: &Plan,
    finished: &[Finished<'_>],
    unfinished: &[PlannedTask],
) -> Result<Plan, TaskError> {
    let mut plan = Plan { tasks: Vec::new(), joins: before.joins.clone(), deferred: before.deferred.clone() };
    let mut edges: BTreeSet<graphs::NodeIx> = BTreeSet::new();
    let (pushed, pulled): (Vec<&PlannedTask>, Vec<&PlannedTask>) =
        unfinished.iter().partition(|task| task.send.is_some());
    let mut sends: Vec<PlannedTask> = pushed.into_iter().cloned().collect();
    for task in pulled {
        edges.insert(known(graph, &task.node)?);
    }
    for task in finished {
        for hop in task.route {
            match hop {
                Hop::Node(name) => drop(edges.insert(known(graph, name)?)),
                Hop::Send(name, args) => sends.push(send(graph, name, args)?),
            }
        }
        join(graph, &mut plan, task.node, &mut edges);
    }
    for ix in edges {
        let Some(node) = graph.node(ix) else { continue };
        // A node that runs, by whatever edge, begins to wait anew.
        plan.joins.remove(node.name.as_str());
        let pending = unfinished.iter().any(|task| *task.node == *node.name && task.send.is_none());
        if node.defer && !pending {
            plan.deferred.insert(node.name.as_str().into());
        } else {
            plan.tasks.push(PlannedTask { node: node.name.as_str().into(), send: None });
        }
    }
    plan.tasks.append(&mut sends);
    if plan.tasks.is_empty() {
        start_deferred(graph, &mut plan);
    }
    if plan.tasks.len() > FAN_OUT_MAX {
        let n_tasks = plan.tasks.len();
        let text = format!(
            "the superstep would have {n_tasks} tasks; at most {FAN_OUT_MAX} are allowed: send fewer items at once"
        );
        return Err(TaskError::new(ErrorClass::Limit, text));
    }
    Ok(plan)
}

/// Joins that can never complete once nothing is left to run: each with the sources it still waits for.
pub fn starved(graph: &CompiledGraph, plan: &Plan) -> Vec<(Name, Vec<Name>)> {
    if !plan.tasks.is_empty() || !plan.deferred.is_empty() {
        return Vec::new();
    }
    let waiting = plan.joins.iter().filter(|(_, seen)| !seen.is_empty());
    let missing = waiting.map(|(node, seen)| {
        let sources = graph.node_by_name(node).map_or(&[][..], |node| node.after.as_slice());
        let missing = sources.iter().filter_map(|ix| graph.node(*ix)).map(|node| Name::from(node.name.as_str()));
        (node.clone(), missing.filter(|name| !seen.contains(name)).collect())
    });
    missing.collect()
}

fn known(graph: &CompiledGraph, name: &str) -> Result<graphs::NodeIx, TaskError> {
    graph.node_ix(name).ok_or_else(|| unknown_node(graph, name))
}

/// The error for a target that the graph does not have, with the nearest name.
pub fn unknown_node(graph: &CompiledGraph, name: &str) -> TaskError {
    let names: Vec<&str> = graph.nodes().iter().map(|node| node.name.as_str()).collect();
    TaskError::invalid(format!("graph `{}` has no node `{name}`{}", graph.name(), nearest(name, &names)))
}

/// `; did you mean …?` for the nearest of `names`, or nothing.
pub fn nearest(wanted: &str, names: &[&str]) -> String {
    let scored = names.iter().map(|name| (distance(wanted, name), name));
    match scored.min() {
        Some((cost, name)) if cost <= wanted.len().max(3) / 2 => format!("; did you mean `{name}`?"),
        _ if names.is_empty() => String::new(),
        _ => format!("; it has {}", names.join(", ")),
    }
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, cb) in row.iter_mut().skip(1).zip(&b) {
            let cost = (diagonal + usize::from(ca != *cb)).min(left + 1).min(*slot + 1);
            diagonal = std::mem::replace(slot, cost);
            left = cost;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

fn send(graph: &CompiledGraph, name: &Name, args: &Arc<Value>) -> Result<PlannedTask, TaskError> {
    known(graph, name)?;
    Ok(PlannedTask { node: name.clone(), send: Some(Arc::clone(args)) })
}

fn join(graph: &CompiledGraph, plan: &mut Plan, source: &str, edges: &mut BTreeSet<graphs::NodeIx>) {
    let Some(ix) = graph.node_ix(source) else { return };
    for waiter in graph.waiters(ix) {
        let Some(node) = graph.node(*waiter) else { continue };
        let name: Name = node.name.as_str().into();
        let seen = plan.joins.entry(name.clone()).or_default();
        seen.insert(source.into());
        if seen.len() == node.after.len() {
            plan.joins.remove(&name);
            edges.insert(*waiter);
        }
    }
}

fn start_deferred(graph: &CompiledGraph, plan: &mut Plan) {
    let deferred = std::mem::take(&mut plan.deferred);
    let mut order: Vec<graphs::NodeIx> = deferred.iter().filter_map(|name| graph.node_ix(name)).collect();
    order.sort();
    let nodes = order.into_iter().filter_map(|ix| graph.node(ix));
    plan.tasks = nodes.map(|node| PlannedTask { node: node.name.as_str().into(), send: None }).collect();
}
