//! Small random graphs of every node kind, and a driver that brings a thread to its end through any number of engines.

use std::sync::Arc;
use std::time::Duration;

use graphs::EffectClass;
use proptest::prelude::*;
use runtime::ports::store::Store;
use runtime::{CallSpec, Context, Engine};
use runtime_core::event::{Goto, NodeOutput};
use runtime_core::record::{CallKind, Durability, Interrupt, InterruptKind, Outcome, RunOptions};
use runtime_core::state::ThreadState;
use serde_json::{Value, json};

use crate::lab::*;

/// Polls of a run that must come to rest.
const POLLS_MAX: u32 = 10_000;

/// Rounds in which a thread must come to its end.
const ROUNDS_MAX: u32 = 400;

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    Plain,
    Once,
    Again,
    Reads,
    Asks,
    Flaky,
    Sends,
    Child,
    Waits,
    Approves,
    Fails,
    ChildFails,
    Leaves,
    Kept,
}

const KINDS: [Does; 14] = [
    Does::Plain,
    Does::Once,
    Does::Again,
    Does::Reads,
    Does::Asks,
    Does::Flaky,
    Does::Sends,
    Does::Child,
    Does::Waits,
    Does::Approves,
    Does::Fails,
    Does::ChildFails,
    Does::Leaves,
    Does::Kept,
];

/// A node of a drawn graph.
#[derive(Debug, Clone)]
pub(crate) struct Drawn {
    pub(crate) does: Does,
    /// Earlier nodes that lead here.
    pub(crate) from: Vec<usize>,
    pub(crate) joins: bool,
    pub(crate) defer: bool,
}

/// Graphs of 2 to 6 nodes without cycles; each node but the first has one or two nodes before it.
pub(crate) fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let node = (0..KINDS.len(), any::<[u8; 2]>(), any::<bool>(), 0..6_u8);
    proptest::collection::vec(node, 2..=6).prop_map(|rows| {
        let draw = |(at, (kind, from, joins, defer)): (usize, (usize, [u8; 2], bool, u8))| {
            let mut sources: Vec<usize> = from.iter().take(at).map(|byte| usize::from(*byte) % at.max(1)).collect();
            sources.sort_unstable();
            sources.dedup();
            Drawn { does: KINDS[kind], joins: joins && sources.len() > 1, from: sources, defer: defer == 0 && at > 0 }
        };
        rows.into_iter().enumerate().map(draw).collect()
    })
}

fn body(at: usize, does: Does) -> String {
    match does {
        Does::Plain => "function: plain".to_owned(),
        Does::Once => "function: once".to_owned(),
        Does::Again => "function: again".to_owned(),
        Does::Reads => "function: reads".to_owned(),
        Does::Asks => "function: asks".to_owned(),
        Does::Flaky => "function: flaky, retry: {attempts: 3, initial: 1ms}".to_owned(),
        Does::Sends => "map: {over: \"[1, 2]\", as: item, to: leaf}".to_owned(),
        Does::Child => "graph: child, output: {log: result.log}".to_owned(),
        Does::Fails => "function: fails, on_error: rescue".to_owned(),
        Does::ChildFails => "graph: failing, retry: {attempts: 2, initial: 1ms}, on_error: rescue".to_owned(),
        Does::Leaves => "graph: leaving".to_owned(),
        Does::Kept => "graph: child, scope: thread, output: {log: result.log}".to_owned(),
        Does::Waits => "wait: 10m".to_owned(),
        Does::Approves => {
            format!("approval: {{title: n{at}, choices: [approve, reject]}}, output: {{log: \"[answer.choice]\"}}")
        }
    }
}

/// The graph as text.
pub(crate) fn yaml(nodes: &[Drawn]) -> String {
    let mut text = "graph: drawn\nstate: {log: {merge: append}, n: {merge: sum}}\nstart: n0\nnodes:\n".to_owned();
    for (at, node) in nodes.iter().enumerate() {
        let to: Vec<String> = nodes
            .iter()
            .enumerate()
            .filter(|(_, other)| !other.joins && other.from.contains(&at))
            .map(|(to, _)| format!("n{to}"))
            .collect();
        let awaited = nodes.iter().any(|other| other.joins && other.from.contains(&at));
        let then = match (to.is_empty(), awaited) {
            (true, true) => String::new(),
            (true, false) => ", then: end".to_owned(),
            _ => format!(", then: [{}]", to.join(", ")),
        };
        let after: Vec<String> = node.from.iter().map(|from| format!("n{from}")).collect();
        let after = if node.joins { format!(", after: [{}]", after.join(", ")) } else { String::new() };
        let defer = if node.defer { ", defer: true" } else { "" };
        text.push_str(&format!("  n{at}: {{{}{then}{after}{defer}}}\n", body(at, node.does)));
    }
    if nodes.iter().any(|node| node.does == Does::Sends) {
        text.push_str("  leaf: {function: again}\n");
    }
    if nodes.iter().any(|node| matches!(node.does, Does::Fails | Does::ChildFails)) {
        text.push_str("  rescue: {function: rescue, then: end}\n");
    }
    text
}

const FAILING: &str = "
graph: failing
state: {log: {merge: append}}
nodes:
  one: {function: once, then: [two, beside]}
  two: {function: fails, then: end}
  beside: {function: once, then: end}
start: one
";

const LEAVING: &str = "
graph: leaving
state: {log: {merge: append}}
nodes:
  one: {function: asks, then: two}
  two: {function: leaves, then: end}
start: one
";

const CHILD: &str = "
graph: child
state: {log: {merge: append}}
nodes:
  one: {function: once, then: two}
  two: {function: asks, then: end}
start: one
";

fn label(ctx: &Context) -> String {
    let name = ctx.node().map(|node| node.name.clone()).unwrap_or_default();
    if ctx.var("item").is_null() { name } else { format!("{name}{}", ctx.var("item")) }
}

async fn called(ctx: &Context, bench: &Bench, effect: EffectClass) -> Result<Value, runtime_core::error::TaskError> {
    let spec = CallSpec::new(CallKind::Tool, "outside.act", json!(label(ctx)), effect);
    let bench = bench.clone();
    let made = ctx.call(spec, move |permit| async move {
        bench.act(&permit.key);
        Ok(json!("made"))
    });
    made.await.map(|value| Value::clone(&value))
}

/// A laboratory with the functions of drawn graphs.
pub(crate) fn lab_for(text: &str, store: Arc<dyn Store>) -> Lab {
    lab_on(text, store, &Bench::default())
}

/// The same, with a bench that other laboratories share.
pub(crate) fn lab_on(text: &str, store: Arc<dyn Store>, bench: &Bench) -> Lab {
    let mut lab = Lab::over(store);
    lab.bench = bench.clone();
    lab.clock.run_by_itself();
    lab.graph(CHILD).graph(FAILING).graph(LEAVING).graph(text);
    lab.function("plain", |ctx| async move { out(json!({"log": [label(&ctx)], "n": 1})) });
    lab.node("once", |ctx, bench| async move {
        let made = called(&ctx, &bench, EffectClass::AtMostOnce).await?;
        out(json!({"log": [format!("{} {made}", label(&ctx))]}))
    });
    lab.node("again", |ctx, bench| async move {
        let made = called(&ctx, &bench, EffectClass::Idempotent).await?;
        out(json!({"log": [format!("{} {made}", label(&ctx))]}))
    });
    lab.node("reads", |ctx, bench| async move {
        let made = called(&ctx, &bench, EffectClass::ReadOnly).await?;
        out(json!({"log": [format!("{} {made}", label(&ctx))]}))
    });
    lab.node("asks", |ctx, bench| async move {
        called(&ctx, &bench, EffectClass::AtMostOnce).await?;
        let answer = ask(&ctx, &label(&ctx)).await?;
        out(json!({"log": [answer]}))
    });
    lab.node("fails", |ctx, bench| async move {
        called(&ctx, &bench, EffectClass::AtMostOnce).await?;
        fatal("it never works")
    });
    lab.function("rescue", |ctx| async move { out(json!({"log": [ctx.var("error")["node"]]})) });
    lab.node("leaves", |ctx, bench| async move {
        called(&ctx, &bench, EffectClass::AtMostOnce).await?;
        let goto = Goto { to: Vec::new(), also: true, parent: true };
        Ok(NodeOutput { goto: Some(goto), ..output(json!({"log": ["left"]})) })
    });
    lab.node("flaky", |ctx, bench| async move {
        called(&ctx, &bench, EffectClass::AtMostOnce).await?;
        if ctx.attempts() < 2 { broken("hiccup") } else { out(json!({"log": [label(&ctx)]})) }
    });
    lab
}

/// What a person who can see the outside world answers.
fn answer_to(question: &Interrupt, acts: &[String]) -> Value {
    match question.kind {
        InterruptKind::InDoubt => {
            let key = format!("t:{}:{}:", question.task, question.ix.0);
            if acts.iter().any(|act| act.starts_with(&key)) {
                json!({"choice": "happened", "result": "made"})
            } else {
                json!({"choice": "repeat"})
            }
        }
        InterruptKind::Approval => json!({"choice": "approve"}),
        _ => json!(format!("to {}", question.title)),
    }
}

/// The state once no run is active. The engine is not asked meanwhile: a question would keep its clock from moving.
async fn at_rest(lab: &Lab, engine: &Engine) -> Option<ThreadState> {
    for _ in 0..POLLS_MAX {
        let state = engine.state(&lab.thread).await.ok()??;
        engine.store().load(&lab.thread).await.ok()?;
        if state.active_run().is_none() {
            return Some(state);
        }
        engine.join(&lab.thread).await.ok()?;
        tokio::task::yield_now().await;
    }
    panic!("the thread is stuck in\n{}", lab.main_graph().source());
}

/// Brings the thread to its end. `None` when the store died on the way.
pub(crate) async fn finish(lab: &mut Lab, fresh: bool, durability: Durability) -> Option<Outcome> {
    lab.try_load_graphs().await.ok()?;
    let engine = lab.engine();
    let known = engine.store().load(&lab.thread).await.ok()?.is_some();
    if fresh || !known {
        let started = engine
            .start(lab.what(json!({"log": ["in"]}), RunOptions { durability, ..RunOptions::default() }))
            .await
            .ok()?;
        drop(started.ended().await);
    } else {
        engine.recover().await.ok()?;
    }
    for _ in 0..ROUNDS_MAX {
        let state = at_rest(lab, &engine).await?;
        let acts = lab.bench.acts();
        match state.run.and_then(|run| run.outcome) {
            Some(Outcome::Interrupted) => {
                let answers = state.interrupts.values().map(|q| yes(q, answer_to(q, &acts))).collect();
                let (_, ended) = engine.answer_and_join(&lab.thread, answers, Value::Null).await.ok()?;
                drop(ended);
            }
            Some(Outcome::Waiting) => {
                lab.clock.advance(Duration::from_secs(600));
                engine.fire_timers().await.ok()?;
            }
            Some(ended) => return Some(ended),
            None => {}
        }
    }
    panic!("the thread never ends");
}
