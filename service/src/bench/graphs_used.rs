//! The graphs and functions of the workloads.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use graphs::CompiledGraph;
use parking_lot::Mutex;
use runtime::{Context, EngineBuilder, NodeFn};
use runtime_core::event::{Goto, NodeOutput};
use runtime_core::record::Hop;
use serde_json::{Value, json};

use super::measure::Marks;

/// One node in a loop that replaces a counter and a fresh payload.
pub(super) const CHAIN: &str = r"
graph: bench-chain
state: { tid: {}, n: {}, size: {}, counter: {}, payload: {} }
output: [counter]
limits: { recursion: 1000000 }
nodes:
  step: { function: step, then: [{ when: counter < n, to: step }, { to: end }] }
start: step
";

/// Plan, many tasks, join; in rounds.
pub(super) const FANOUT: &str = r"
graph: bench-fanout
state: { n: {}, rounds: {}, round: {}, acc: { merge: sum } }
output: [acc, round]
limits: { recursion: 1000000 }
nodes:
  plan: { function: plan, then: work }
  work: { function: work, then: join }
  join: { function: join, then: [{ when: round < rounds, to: plan }, { to: end }] }
start: plan
";

/// One message appended in each step.
pub(super) const APPEND: &str = r"
graph: bench-append
state: { n: {}, size: {}, counter: {}, messages: { merge: append } }
output: [counter]
limits: { recursion: 1000000 }
nodes:
  step: { function: append, then: [{ when: counter < n, to: step }, { to: end }] }
start: step
";

/// One step, a question, one more step.
pub(super) const PARK: &str = r#"
graph: bench-park
input: { schema: { type: object } }
state: { size: {}, counter: {}, payload: {}, reply: {} }
output: [counter, reply]
nodes:
  a: { function: first, then: ask }
  ask: { approval: { title: approve?, choices: ["yes", "no"] }, output: { reply: answer.choice }, then: done }
  done: { set: { counter: "{{ counter + 1 }}" }, then: end }
start: a
"#;

/// Compiles one of the graphs above.
pub(super) fn compile(source: &str) -> anyhow::Result<Arc<CompiledGraph>> {
    let checked = graphs::check("bench.yaml", source.as_bytes(), &graphs::OpenCatalog);
    checked.map(|(graph, _)| Arc::new(graph)).map_err(|diagnostics| anyhow::anyhow!("{diagnostics:?}"))
}

/// Text of `size` hex digits, a pure function of `i`, that does not compress below half.
pub(super) fn payload(i: u64, size: usize) -> String {
    let mut state = i.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut text = Vec::with_capacity(size + 16);
    while text.len() < size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        text.extend_from_slice(&hex_of(z & 0xffff_ffff));
        text.extend_from_slice(&hex_of(z >> 32));
    }
    text.truncate(size);
    String::from_utf8(text).unwrap_or_default()
}

/// Eight hex digits of 32 bits, all at once: the generator must not be what W1 measures.
fn hex_of(bits: u64) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let halves = (bits | (bits << 16)) & 0x0000_ffff_0000_ffff;
    let bytes = (halves | (halves << 8)) & 0x00ff_00ff_00ff_00ff;
    let nibbles = (bytes | (bytes << 4)) & (0x0f * ONES);
    let letters = ((nibbles + 6 * ONES) >> 4) & ONES;
    let ascii = nibbles + u64::from(b'0') * ONES + letters * u64::from(b'a' - b'0' - 10);
    ascii.to_be_bytes()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn writes(pairs: Vec<(&str, Value)>) -> NodeOutput {
    let writes = pairs.into_iter().map(|(name, value)| (name.into(), value)).collect();
    NodeOutput { writes, ..NodeOutput::default() }
}

/// Registers every function of the workloads.
pub(super) fn functions(builder: EngineBuilder, marks: &Arc<Marks>, log: Option<File>) -> EngineBuilder {
    let log = Arc::new(Mutex::new(log));
    let step_marks = Arc::clone(marks);
    let step = move |ctx: Context| {
        let (marks, log) = (Arc::clone(&step_marks), Arc::clone(&log));
        async move {
            let counter = number(ctx.get("counter")) + 1;
            marks.stamp(number(ctx.get("tid")));
            if let Some(log) = log.lock().as_mut() {
                // One write call a line: with O_APPEND it survives SIGKILL whole.
                let line = format!("{} {counter}\n", number(ctx.get("tid")));
                drop(log.write_all(line.as_bytes()));
            }
            let size = usize::try_from(number(ctx.get("size"))).unwrap_or(0);
            Ok(writes(vec![("counter", counter.into()), ("payload", payload(counter, size).into())]))
        }
    };
    let append = |ctx: Context| async move {
        let counter = number(ctx.get("counter")) + 1;
        let size = usize::try_from(number(ctx.get("size"))).unwrap_or(0);
        let message = json!({"role": "assistant", "content": payload(counter, size)});
        Ok(writes(vec![("counter", counter.into()), ("messages", message)]))
    };
    let first = |ctx: Context| async move {
        let size = usize::try_from(number(ctx.get("size"))).unwrap_or(0);
        Ok(writes(vec![("counter", 1.into()), ("payload", payload(1, size).into())]))
    };
    fan_out(builder, marks)
        .function("step", Arc::new(NodeFn(step)))
        .function("append", Arc::new(NodeFn(append)))
        .function("first", Arc::new(NodeFn(first)))
}

fn fan_out(builder: EngineBuilder, marks: &Arc<Marks>) -> EngineBuilder {
    let (plan_marks, join_marks) = (Arc::clone(marks), Arc::clone(marks));
    let plan = move |ctx: Context| {
        let marks = Arc::clone(&plan_marks);
        async move {
            let to = (0..number(ctx.get("n"))).map(|i| Hop::Send("work".into(), Arc::new(json!({ "i": i }))));
            let goto = Goto { to: to.collect(), also: false, parent: false };
            marks.mark();
            let mut output = writes(vec![("round", (number(ctx.get("round")) + 1).into())]);
            output.goto = Some(goto);
            Ok(output)
        }
    };
    let work = |ctx: Context| async move { Ok(writes(vec![("acc", ctx.var("i").clone())])) };
    let join = move |_: Context| {
        let marks = Arc::clone(&join_marks);
        async move {
            marks.mark();
            Ok(NodeOutput::default())
        }
    };
    builder
        .function("plan", Arc::new(NodeFn(plan)))
        .function("work", Arc::new(NodeFn(work)))
        .function("join", Arc::new(NodeFn(join)))
}
