//! The graphs that worlds run: one for each kind of control flow, all of code nodes whose behaviour the seed scripts.

use std::sync::{Arc, LazyLock};

use graphs::{CompiledGraph, GraphDigest, OpenCatalog};
use runtime_core::run::GraphSource;

const CHAIN: &str = r"
graph: chain
state: { log: { merge: append }, total: { merge: sum } }
nodes:
  a: { function: work, then: b, retry: { attempts: 3, initial: 1s } }
  b: { function: work, then: c }
  c: { function: work, then: end, retry: { attempts: 3, initial: 1s } }
start: a
";

const FAN: &str = r"
graph: fan
state: { log: { merge: append }, total: { merge: sum }, items: { default: [1, 2, 3, 4] } }
nodes:
  split: { map: { over: items, as: item, to: part } }
  part: { function: work, then: join, retry: { attempts: 3, initial: 1s } }
  join: { function: work, then: end }
start: split
";

const JOIN: &str = r"
graph: join
state: { log: { merge: append }, total: { merge: sum } }
nodes:
  a: { function: work, then: [b, c] }
  b: { function: work, then: end }
  c: { function: work, then: d }
  d: { function: work, then: end, retry: { attempts: 3, initial: 1s } }
  meet: { function: work, after: [b, d], then: last }
  last: { function: work, defer: true, then: end }
start: a
";

const LOOP: &str = r#"
graph: loop
state: { log: { merge: append }, total: { merge: sum }, round: { default: 0 } }
nodes:
  work: { function: work, then: count, retry: { attempts: 3, initial: 1s } }
  count: { set: { round: "{{ round + 1 }}" }, then: [{ when: round < 3, to: work }, { to: end }] }
start: work
"#;

const NEST: &str = r#"
graph: nest
state: { log: { merge: append }, total: { merge: sum } }
nodes:
  a: { function: work, then: [child, b] }
  child: { graph: chain, output: { total: result.total, log: result.log }, then: end }
  b: { function: work, then: end }
start: a
"#;

const ASK: &str = r#"
graph: ask
state: { log: { merge: append }, total: { merge: sum }, said: {} }
nodes:
  a: { function: work, then: [ask, other] }
  ask: { approval: { title: "go on?", choices: [approve, reject] }, output: { said: answer.choice }, then: b }
  other: { function: work, then: end }
  b: { function: work, then: pause }
  pause: { wait: 90s, then: c }
  c: { function: work, then: end }
start: a
"#;

const HANDLE: &str = r"
graph: handle
state: { log: { merge: append }, total: { merge: sum } }
nodes:
  a: { function: work, then: b }
  b: { function: breaks, on_error: mend, then: end, retry: { attempts: 2, initial: 1s } }
  mend: { function: work, then: end }
start: a
";

/// The shapes as text.
pub const TEXTS: &[&str] = &[CHAIN, FAN, JOIN, LOOP, NEST, ASK, HANDLE];

/// Every shape, compiled once.
pub static SHAPES: LazyLock<Vec<Arc<CompiledGraph>>> = LazyLock::new(|| {
    TEXTS
        .iter()
        .map(|text| match graphs::check("shape.yaml", text.as_bytes(), &OpenCatalog) {
            Ok((graph, _)) => Arc::new(graph),
            Err(diagnostics) => panic!("a shape does not compile: {diagnostics:?}"),
        })
        .collect()
});

/// Graphs as a run finds them: its own, and the shapes.
pub struct Known(Arc<CompiledGraph>);

impl Known {
    /// The shapes, and `graph` before them.
    pub fn with(graph: &Arc<CompiledGraph>) -> Self {
        Self(Arc::clone(graph))
    }

    fn find(&self, fits: impl Fn(&CompiledGraph) -> bool) -> Option<Arc<CompiledGraph>> {
        std::iter::once(&self.0).chain(SHAPES.iter()).find(|graph| fits(graph)).cloned()
    }
}

impl GraphSource for Known {
    fn by_digest(&self, digest: &GraphDigest) -> Option<Arc<CompiledGraph>> {
        self.find(|graph| graph.digest() == digest)
    }

    fn by_name(&self, name: &str) -> Option<Arc<CompiledGraph>> {
        self.find(|graph| graph.name() == name)
    }
}
