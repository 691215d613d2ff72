//! The process that the crash suite kills: 100 threads that make calls, ask people and acknowledge supersteps in a ledger.
//!
//! Usage: `crash_child STORE FOLDER LEDGER THREADS STEPS [eager]`. It starts what is missing, recovers what a dead process
//! left, answers what is asked, and prints `finished` when every thread is done. With `eager` it is weakened on purpose: calls
//! are made before their intent is durable. The ledger is appended with one write a line, so that it survives SIGKILL and
//! its order is the order of events: `life` (this process began), `load TID COUNTER`, `run TID STEP` (the node began),
//! `idem TID STEP KEY`, `ack TID COUNTER`, and for the once-only call `want TID STEP`, `permit TID STEP` (its intent is
//! durable), `once TID STEP KEY` (it happened), `told TID STEP` (its answer is here), `doubt TID STEP` (a person was asked).

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use runtime::ports::store::{InterruptRow, PAGE_MAX, Store};
use runtime::{CallSpec, Context, Engine, NodeFn, Start};
use runtime_core::error::TaskError;
use runtime_core::event::{AnswerInput, NodeOutput, Principal, Question};
use runtime_core::ids::ThreadId;
use runtime_core::record::{CallKind, InterruptKind, Outcome, RunOptions};
use runtime_core::stream::{Mode, Modes};
use serde_json::{Value, json};
use tests::hooked_store::{EagerIntents, HookedStore};

/// One node in a loop; each round makes an idempotent, a once-only and a read-only call, and now and then asks.
const GRAPH: &str = r"
graph: crash
state: { tid: {}, n: {}, counter: {}, seen: { merge: append } }
output: [counter, seen]
nodes:
  step: { function: step, then: [{ when: counter < n, to: step }, { to: end }] }
start: step
";

/// Every so many steps a thread asks a person.
const ASK_EVERY: u64 = 4;

/// How long a call is under way: kills must fall before it, in it and after it.
const CALL_TAKES: Duration = Duration::from_millis(6);

type Ledger = Arc<Mutex<std::fs::File>>;

fn note(ledger: &Ledger, line: &str) {
    let written = ledger.lock().write_all(format!("{line}\n").as_bytes());
    assert!(written.is_ok(), "the ledger cannot be written: {written:?}");
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

async fn effect(ctx: &Context, ledger: &Ledger, word: &'static str, step: u64) -> Result<u64, TaskError> {
    let tid = number(ctx.get("tid"));
    let class = if word == "once" { graphs::EffectClass::AtMostOnce } else { graphs::EffectClass::Idempotent };
    let spec = CallSpec::new(CallKind::Tool, word, json!({"tid": tid, "step": step}), class);
    let ledger = Arc::clone(ledger);
    let is_once = word == "once";
    let phase = move |ledger: &Ledger, phase: &str| {
        if is_once {
            note(ledger, &format!("{phase} {tid} {step}"));
        }
    };
    phase(&ledger, "want");
    let made = ctx
        .call(spec, |permit| async move {
            phase(&ledger, "permit");
            tokio::time::sleep(CALL_TAKES / 2).await;
            note(&ledger, &format!("{word} {tid} {step} {}", permit.key));
            tokio::time::sleep(CALL_TAKES / 2).await;
            phase(&ledger, "told");
            Ok(json!(step * 7))
        })
        .await?;
    Ok(number(&made))
}

async fn step(ctx: Context, ledger: Ledger) -> Result<NodeOutput, TaskError> {
    let (tid, step) = (number(ctx.get("tid")), number(ctx.get("counter")) + 1);
    note(&ledger, &format!("run {tid} {step}"));
    let first = effect(&ctx, &ledger, "idem", step).await?;
    if (tid + step) % ASK_EVERY == 0 {
        let payload = json!({"tid": tid, "step": step});
        ctx.ask(Question {
            title: "go on?".to_owned(),
            payload,
            choices: vec!["yes".to_owned()],
            ..Question::default()
        })
        .await?;
    }
    let second = effect(&ctx, &ledger, "once", step).await?;
    let spec = CallSpec::new(CallKind::Tool, "look", json!({"step": step}), graphs::EffectClass::ReadOnly);
    let third = ctx.call(spec, |_| async move { Ok(json!(step)) }).await?;
    let seen = json!([first + second + number(&third)]);
    let writes = vec![("counter".into(), json!(step)), ("seen".into(), seen)];
    Ok(NodeOutput { writes, ..NodeOutput::default() })
}

/// The answer a careful person would give.
fn answer_to(row: &InterruptRow, (ledger, ledger_path): (&Ledger, &Path)) -> Value {
    if row.interrupt.kind != InterruptKind::InDoubt {
        return json!("yes");
    }
    let args = &row.interrupt.payload["args"];
    let (tid, step) = (number(&args["tid"]), number(&args["step"]));
    note(ledger, &format!("doubt {tid} {step}"));
    let wanted = format!("once {tid} {step} ");
    let ledger = std::fs::read_to_string(ledger_path).unwrap_or_default();
    match ledger.lines().any(|line| line.starts_with(&wanted)) {
        true => json!({"choice": runtime_core::HAPPENED, "result": step * 7}),
        false => json!({"choice": runtime_core::REPEAT}),
    }
}

fn acknowledge(engine: &Engine, tid: u64, thread: &ThreadId, ledger: &Ledger) -> tokio::task::JoinHandle<()> {
    let (engine, thread, ledger) = (engine.clone(), thread.clone(), Arc::clone(ledger));
    tokio::spawn(async move {
        let Ok(mut events) = engine.subscribe(&thread, Modes::default().with(Mode::Checkpoints)).await else { return };
        while let Some(event) = events.recv().await {
            note(&ledger, &format!("ack {tid} {}", number(&event.data["values"]["counter"])));
        }
    })
}

async fn thread(engine: Engine, graph: Arc<graphs::CompiledGraph>, plan: (u64, u64), ledger: (Ledger, Arc<Path>)) {
    let (tid, n) = plan;
    let (ledger, ledger_path) = ledger;
    let id = ThreadId::new(&format!("t{tid:03}")).unwrap_or_else(|error| panic!("{error}"));
    let acks = acknowledge(&engine, tid, &id, &ledger);
    let state = engine.state(&id).await.unwrap_or_else(|error| panic!("{error}"));
    if state.as_ref().is_none_or(|state| state.graph.is_none()) {
        let input = json!({"tid": tid, "n": n, "counter": 0});
        let start = Start { graph, thread: id.clone(), input, options: RunOptions::default(), metadata: Value::Null };
        let running = engine.start(start).await.unwrap_or_else(|error| panic!("{error}"));
        drop(running.ended().await);
    }
    loop {
        drop(engine.join(&id).await);
        let open = engine.store().interrupts(Some(&id), PAGE_MAX).await.unwrap_or_default();
        let Some(row) = open.first() else { break };
        let by = Principal { user: "person".to_owned(), groups: Vec::new() };
        let value = answer_to(row, (&ledger, &ledger_path));
        let answer = AnswerInput { id: row.interrupt.id, digest: Some(row.interrupt.digest.clone()), value, by };
        let resubscribed = acknowledge(&engine, tid, &id, &ledger);
        drop(engine.answer_and_join(&id, vec![answer], Value::Null).await);
        drop(resubscribed);
    }
    drop(acks);
    let state = engine.state(&id).await.ok().flatten().unwrap_or_default();
    let outcome = state.run.as_ref().and_then(|run| run.outcome.clone());
    assert_eq!(outcome, Some(Outcome::Success), "thread {tid} ended otherwise");
    let seen = state.root().and_then(|root| root.value("seen").cloned()).unwrap_or_default();
    let expected: Vec<u64> = (1..=n).map(|step| step * 15).collect();
    assert_eq!(*seen, json!(expected), "thread {tid} lost or repeated a superstep");
}

async fn all(store: Arc<dyn Store>, ledger_path: Arc<Path>, threads: u64, steps: u64) {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&ledger_path);
    let ledger: Ledger = Arc::new(Mutex::new(file.unwrap_or_else(|error| panic!("{error}"))));
    note(&ledger, "life");
    let node_ledger = Arc::clone(&ledger);
    let function = NodeFn(move |ctx| step(ctx, Arc::clone(&node_ledger)));
    let engine = Engine::builder(store).function("step", Arc::new(function)).build();
    let checked = graphs::check("crash.yaml", GRAPH.as_bytes(), &graphs::OpenCatalog);
    let graph = Arc::new(checked.unwrap_or_else(|diagnostics| panic!("{diagnostics:?}")).0);
    engine.add_graph(Arc::clone(&graph)).await.unwrap_or_else(|error| panic!("{error}"));
    for tid in 0..threads {
        let id = ThreadId::new(&format!("t{tid:03}")).unwrap_or_else(|error| panic!("{error}"));
        let loaded = engine.store().load(&id).await.unwrap_or_else(|error| panic!("{error}"));
        if let Some(root) = loaded.as_ref().and_then(|loaded| loaded.state.root()) {
            note(&ledger, &format!("load {tid} {}", root.value("counter").map_or(0, |value| number(value))));
        }
    }
    engine.recover().await.unwrap_or_else(|error| panic!("{error}"));
    let mut set = tokio::task::JoinSet::new();
    for tid in 0..threads {
        let ledger = (Arc::clone(&ledger), Arc::clone(&ledger_path));
        set.spawn(thread(engine.clone(), Arc::clone(&graph), (tid, steps), ledger));
    }
    while let Some(done) = set.join_next().await {
        done.unwrap_or_else(|error| panic!("{error}"));
    }
    println!("finished");
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [kind, folder, ledger, threads, steps, weak @ ..] = args.as_slice() else {
        eprintln!("usage: crash_child STORE FOLDER LEDGER THREADS STEPS [eager]");
        std::process::exit(2);
    };
    let mut store = tests::open_store(kind, Path::new(folder));
    if weak.iter().any(|word| word == "eager") {
        store = Arc::new(HookedStore::new(store, Arc::new(EagerIntents::default())));
    }
    let number = |text: &String| text.parse::<u64>().unwrap_or(0);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
    runtime.block_on(all(store, Path::new(ledger).into(), number(threads), number(steps)));
}
