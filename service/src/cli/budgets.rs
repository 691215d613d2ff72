//! `interlock budgets`: what the walls of graphs are, and what is spent behind them.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use graphs::{Budget, CompiledGraph, GraphDigest};
use runtime::ports::store::{ThreadFilter, ThreadRow};
use runtime_core::ids::{Name, ThreadId, Timestamp};
use runtime_core::interlocks::budget::{Place, Unit, Wall, calls_wall, graph_spender, graph_walls, spender, walls};
use runtime_core::state::ThreadState;
use serde_json::{Value, json};

use super::App;
use crate::failure::{Exit, Failure};
use crate::wiring::Session;

/// Show what is spent and what may be spent
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock budgets\n  interlock budgets incident-42 --json")]
pub(crate) struct Budgets {
    /// The thread, or the end of its id: walls of a day are those of its graph, walls of a run its own [default: the walls of
    /// today of every graph that has threads, as its newest thread has it]
    thread: Option<String>,
}

/// Most threads that are looked through for their graphs.
const THREADS_MAX: usize = 100_000;

/// One wall as shown.
struct Row {
    wall: Name,
    unit: Unit,
    limit: u64,
    raised: Option<u64>,
    spent: u64,
    reserved: u64,
}

pub(crate) async fn run(args: Budgets, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let rows = match &args.thread {
        Some(thread) => of_thread(&session, thread).await?,
        None => of_today(&session).await?,
    };
    show(&rows, app);
    session.close().await?;
    Ok(Exit::Done)
}

async fn of_thread(session: &Session, thread: &str) -> Result<Vec<Row>, Failure> {
    let (thread, state) = session.thread(thread).await?;
    let mut rows: Vec<Row> = Vec::new();
    let root = session.graph_of(&state).await?;
    let mut graphs = vec![root];
    for digest in state.links.values() {
        graphs.push(session.stored_graph(digest).await?);
    }
    for graph in graphs {
        for wall in ledger_walls(&graph, &thread, &state, session.engine.clock().now()) {
            rows.push(row(session, wall, Some(&state)).await?);
        }
        rows.extend(calls_of(&graph, &state));
    }
    Ok(rows)
}

/// The walls of today, each account once. Threads of an older version of a graph have its older limits; what is spent is shared.
async fn of_today(session: &Session) -> Result<Vec<Row>, Failure> {
    let threads = super::threads::all(&*session.store, ThreadFilter::default(), THREADS_MAX).await?;
    let (nobody, now) = (ThreadState::default(), session.engine.clock().now());
    let mut rows: Vec<Row> = Vec::new();
    for (_, (digest, thread)) in newest(&threads) {
        let mut graphs: Vec<Arc<CompiledGraph>> = vec![session.stored_graph(&digest).await?];
        graphs.extend(session.linked_graphs(&digest).await?);
        for wall in graphs.iter().flat_map(|graph| ledger_walls(graph, thread, &nobody, now)) {
            if wall.is_daily && rows.iter().all(|known| known.wall != wall.name) {
                rows.push(row(session, wall, None).await?);
            }
        }
    }
    Ok(rows)
}

/// The version of each graph that its newest thread has, and that thread.
fn newest(threads: &[ThreadRow]) -> BTreeMap<Name, (GraphDigest, &ThreadId)> {
    let mut of_graphs: BTreeMap<Name, &ThreadRow> = BTreeMap::new();
    for row in threads {
        let known = of_graphs.entry(row.graph.clone()).or_insert(row);
        if row.created_at > known.created_at {
            *known = row;
        }
    }
    of_graphs.into_iter().map(|(graph, row)| (graph, (row.digest.clone(), &row.id))).collect()
}

async fn row(session: &Session, wall: Wall, state: Option<&ThreadState>) -> Result<Row, Failure> {
    let account = session.store.account(&wall.account).await?;
    let raised = state.and_then(|state| raised(state, &wall.name));
    let (spent, reserved) = (account.spent, account.reserved);
    Ok(Row { wall: wall.name, unit: wall.unit, limit: wall.limit, raised, spent, reserved })
}

/// Each wall of a graph and its nodes on the ledger once.
fn ledger_walls(graph: &CompiledGraph, thread: &ThreadId, state: &ThreadState, now: Timestamp) -> Vec<Wall> {
    let inputs = state.spending.as_ref().map_or(0, |spending| spending.inputs);
    let place = Place { thread, inputs, now };
    let mut all = graph_walls(graph, place);
    for wall in graph.nodes().iter().flat_map(|node| walls(graph, node, place)) {
        if all.iter().all(|known| known.account != wall.account) {
            all.push(wall);
        }
    }
    all
}

/// The walls of calls per run, which the thread counts itself.
fn calls_of(graph: &CompiledGraph, state: &ThreadState) -> Vec<Row> {
    let made = |name: &str| state.calls.get(name).copied().unwrap_or(0);
    let row = |who: String, budget: Option<&Budget>, spent: u64| {
        let (wall, limit) = (calls_wall(&who), budget?.calls_per_run?);
        let raised = raised(state, &wall);
        Some(Row { wall, unit: Unit::Calls, limit, raised, spent, reserved: 0 })
    };
    let total = graph.nodes().iter().map(|node| made(&node.name)).sum();
    let of_nodes = graph
        .nodes()
        .iter()
        .filter_map(|node| row(spender(graph.name(), node), node.budget.as_ref(), made(&node.name)));
    row(graph_spender(graph), graph.budget(), total).into_iter().chain(of_nodes).collect()
}

fn raised(state: &ThreadState, wall: &Name) -> Option<u64> {
    state.spending.as_ref()?.raised.get(wall).copied()
}

fn show(rows: &[Row], app: &App) {
    if app.out.json() {
        app.out.json_line(&rows.iter().map(shown).collect());
    } else if rows.is_empty() {
        app.out.note("no budget");
    } else {
        let cells = rows.iter().map(|row| {
            let limit = row.raised.map_or(row.limit, |raised| raised.max(row.limit));
            let show = |amount| row.unit.show(amount);
            vec![row.wall.to_string(), show(row.spent), show(row.reserved), show(limit)]
        });
        app.out.table(&["budget", "spent", "reserved", "limit"], cells.collect());
    }
}

fn shown(row: &Row) -> Value {
    json!({
        "budget": &*row.wall, "unit": row.unit, "spent": row.spent, "reserved": row.reserved, "limit": row.limit,
        "raised_to": row.raised,
    })
}
