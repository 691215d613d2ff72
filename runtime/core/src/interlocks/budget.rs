//! Budget: the walls of a node, the accounts they stand on, and what a call takes from them.
//!
//! A wall per day is one account for all threads of a store; a wall per run is the thread's own and counts since its last
//! input. An agent's account belongs to its role in its graph, any other one to the node; the budget of a graph is spent by
//! all its nodes.

use graphs::{Budget, CompiledGraph, Kind, Node, OnExceed};
use serde::{Deserialize, Serialize};

use crate::ids::{Name, ThreadId, Timestamp};

/// Millionths of a dollar in a dollar.
const MICROS: f64 = 1_000_000.0;

/// Money and tokens of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Millionths of a US dollar.
    pub usd_micros: u64,
    /// Tokens, in and out.
    pub tokens: u64,
}

impl Cost {
    /// Costs nothing.
    pub const FREE: Self = Self { usd_micros: 0, tokens: 0 };
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Millionths of a US dollar.
    Usd,
    /// Tokens.
    Tokens,
    /// Calls.
    Calls,
}

impl Unit {
    /// Its word in account names.
    pub fn word(self) -> &'static str {
        match self {
            Self::Usd => "usd",
            Self::Tokens => "tokens",
            Self::Calls => "calls",
        }
    }

    /// How much of it a call with this cost takes.
    pub fn of(self, cost: Cost) -> u64 {
        match self {
            Self::Usd => cost.usd_micros,
            Self::Tokens => cost.tokens,
            Self::Calls => 1,
        }
    }

    /// An amount as people write it.
    pub fn show(self, amount: u64) -> String {
        match self {
            Self::Usd => format!("{}.{:06} USD", amount / 1_000_000, amount % 1_000_000),
            Self::Tokens => format!("{amount} tokens"),
            Self::Calls => format!("{amount} calls"),
        }
    }

    /// An amount as people write it in a graph file: dollars for money, else the number itself.
    pub fn amount(self, number: f64) -> u64 {
        let scaled = if self == Self::Usd { number * MICROS } else { number };
        // The conversion saturates: a number below zero is none, one that is too large is no wall.
        scaled.round() as u64
    }
}

/// One wall of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wall {
    /// Names it for people and for a raised limit: `etl/diagnose usd_per_day`.
    pub name: Name,
    /// Its account on the ledger.
    pub account: Name,
    /// Whether it is of a day and all threads, not of one run.
    pub is_daily: bool,
    /// What it counts.
    pub unit: Unit,
    /// How much may be spent.
    pub limit: u64,
    /// What happens when there is no room.
    pub on_exceed: OnExceed,
}

/// Where and when a wall is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The thread.
    pub thread: &'a ThreadId,
    /// Inputs the thread had since it first spent something.
    pub inputs: u64,
    /// Decides the day, in UTC.
    pub now: Timestamp,
}

/// Whether a budget needs the ledger: calls of a run are counted in the thread's own log.
pub fn uses_ledger(budget: &Budget) -> bool {
    budget.usd_per_day.is_some()
        || budget.usd_per_run.is_some()
        || budget.tokens_per_day.is_some()
        || budget.tokens_per_run.is_some()
        || budget.calls_per_day.is_some()
}

/// The account holder for all nodes of a graph.
pub fn graph_spender(graph: &CompiledGraph) -> String {
    format!("graph:{}", graph.name())
}

/// Who spends: an agent by its role, any other node by its name.
pub fn spender(graph: &str, node: &Node) -> String {
    match &node.kind {
        Kind::Agent(agent) => format!("agent:{graph}/{}", agent.role),
        _ => format!("node:{graph}/{}", node.name),
    }
}

/// Name of a wall of calls, which needs no account.
pub fn calls_wall(spender: &str) -> Name {
    format!("{spender} calls_per_run").into()
}

/// The walls before a node's calls that stand on the ledger, in the order in which they are asked: its own, its graph's.
pub fn walls(graph: &CompiledGraph, node: &Node, place: Place<'_>) -> Vec<Wall> {
    let own = node.budget.iter().flat_map(|budget| walls_of(&spender(graph.name(), node), budget, place));
    own.chain(graph_walls(graph, place)).collect()
}

/// The walls of a graph's own budget that stand on the ledger.
pub fn graph_walls(graph: &CompiledGraph, place: Place<'_>) -> Vec<Wall> {
    graph.budget().map(|budget| walls_of(&graph_spender(graph), budget, place)).unwrap_or_default()
}

fn walls_of(who: &str, budget: &Budget, place: Place<'_>) -> Vec<Wall> {
    let usd = |limit: Option<f64>| limit.map(|limit| Unit::Usd.amount(limit));
    let declared = [
        (Unit::Usd, "run", usd(budget.usd_per_run)),
        (Unit::Tokens, "run", budget.tokens_per_run),
        (Unit::Usd, "day", usd(budget.usd_per_day)),
        (Unit::Tokens, "day", budget.tokens_per_day),
        (Unit::Calls, "day", budget.calls_per_day),
    ];
    let wall = |(unit, period, limit): (Unit, &str, Option<u64>)| {
        let span = match period {
            "day" => place.now.to_string().chars().take(10).collect(),
            _ => format!("{}#{}", place.thread, place.inputs),
        };
        Some(Wall {
            name: format!("{who} {}_per_{period}", unit.word()).into(),
            account: format!("{who}:{}:{period}:{span}", unit.word()).into(),
            is_daily: period == "day",
            unit,
            limit: limit?,
            on_exceed: budget.on_exceed,
        })
    };
    declared.into_iter().filter_map(wall).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use graphs::OpenCatalog;

    #[test]
    fn walls_name_their_accounts() {
        let yaml = "{graph: etl, nodes: {d: {agent: diagnostic, budget: {usd_per_day: 0.5, tokens_per_run: 9, calls_per_run: 2}, then: end}}, start: d}";
        let (graph, _) = graphs::check("t.yaml", yaml.as_bytes(), &OpenCatalog).unwrap();
        let node = graph.node_by_name("d").unwrap();
        let thread = ThreadId::new("t1").unwrap();
        let place = Place { thread: &thread, inputs: 2, now: Timestamp(1_774_915_200_000_000) };
        let walls: Vec<_> =
            walls(&graph, node, place).into_iter().map(|w| format!("{} = {}", w.account, w.limit)).collect();
        assert_eq!(
            walls,
            ["agent:etl/diagnostic:tokens:run:t1#2 = 9", "agent:etl/diagnostic:usd:day:2026-03-31 = 500000"]
        );
        assert_eq!(&*calls_wall(&spender("etl", node)), "agent:etl/diagnostic calls_per_run");
    }

    #[test]
    fn amounts_are_whole_and_saturate() {
        assert_eq!(Unit::Usd.amount(0.1), 100_000);
        assert_eq!((Unit::Usd.amount(-1.0), Unit::Usd.amount(1e300)), (0, u64::MAX));
        assert_eq!(Unit::Usd.show(1_250_000), "1.250000 USD");
    }
}
