//! Plays a past thread again, against a changed graph, from its own log: the same input, every call answered with what it
//! gave then, people's answers and times as they were. Nothing is called and nothing is written.
//!
//! What the record does not tell has no answer here: a call that the past run did not make fails with class `not_found`, and
//! that is where the new run departs.

mod past;
mod record;
mod steps;

use std::sync::Arc;

use agents::Collected;
use checkpoints::open::{OpenOptions, memory};
use runtime::ports::store::Store;
use runtime::rehearsal::{self, Counted, JumpingClock};
use runtime::{Engine, Start};
use runtime_core::ids::ThreadId;
use runtime_core::record::Record;
use tools::node::ToolNode;
use tools::toolbox::ToolBox;

use crate::config::Config;
use crate::failure::Failure;
use crate::graph_files::GraphSet;
use crate::spawn::{Nursery, SpawnNode};
use crate::wiring;
use past::{Past, RecordedTools};
use record::Recorded;
pub(crate) use steps::{Departure, Trace, departure, nodes, shortened, trace};

/// Plays the thread of these records against the graphs of a set. It keeps its id, which nodes see, in a store of its own.
pub(crate) async fn play(
    (thread, records): (&ThreadId, &[Record]),
    set: &GraphSet,
    config: &Config,
) -> Result<Trace, Failure> {
    let recorded = Arc::new(Recorded::of(records)?);
    let clock = Arc::new(JumpingClock::starting(recorded.begun));
    let store: Arc<dyn Store> = Arc::new(memory(&OpenOptions::default()));
    let nursery = Arc::new(Nursery::default());
    let past = Arc::new(Past::new(Arc::clone(&recorded)));
    let toolbox: Arc<dyn ToolBox> = Arc::new(RecordedTools(Arc::clone(&recorded)));
    // Facts are looked up where the thread looked them up; what they were is in its record.
    let knew = recorded.effects.contains_key(agents::LOOK);
    let minds = wiring::Minds::of(config);
    let minds = if knew { minds.kept_in(&store, "replay".to_owned()) } else { minds };
    let agents = wiring::Agents::new(Arc::clone(&toolbox), Arc::new(Collected::default()), Arc::new(minds));
    let engine = Engine::builder(Arc::clone(&store))
        .clock(Arc::clone(&clock) as _)
        .entropy(Arc::new(Counted::default()))
        .policy(Arc::clone(&past) as _)
        .stand_in(Arc::clone(&past) as _)
        .kind("tool", Arc::new(ToolNode::new(toolbox)))
        .kind("agent", Arc::new(agents))
        .kind("spawn", Arc::new(SpawnNode(Arc::clone(&nursery))))
        .build();
    for graph in set.others.values() {
        engine.add_graph(Arc::clone(graph)).await?;
    }
    let mut people = record::Remembered::of(&recorded);
    for run in &recorded.runs {
        clock.jump_to(run.at);
        let start = Start {
            graph: Arc::clone(&set.root),
            thread: thread.clone(),
            input: (*run.input).clone(),
            options: run.options.clone(),
            metadata: recorded.metadata.clone(),
        };
        engine.start(start).await?.ended().await?;
        rehearsal::play_on(&engine, &clock, thread, &mut people).await?;
    }
    let trace = trace(&*store, thread).await?;
    engine.shutdown().await?;
    Ok(trace)
}
