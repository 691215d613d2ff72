//! One run without faults: every commit is durable at once, and what the run asks for waits until the caller brings it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use runtime_core::effect::{Dispatch, Effect, Refusal, Reply};
use runtime_core::error::ErrorClass;
use runtime_core::event::{Command, Event, RequestId};
use runtime_core::ids::{Epoch, Seq, ThreadId, Timestamp};
use runtime_core::interlocks::guard::AllowAll;
use runtime_core::record::{Outcome, Record};
use runtime_core::run::{GraphSource, Parts, Run, Settings};
use runtime_core::state::ThreadState;

/// Events that one request may lead to before a run counts as endless.
const EVENTS_MAX: u32 = 20_000;

/// Where a thread stands.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Its state.
    pub state: ThreadState,
    /// Place of its newest record.
    pub seq: Seq,
    /// Epoch of its newest record.
    pub epoch: Epoch,
}

/// A run and what it has asked for.
pub struct Calm {
    run: Run,
    before: ThreadState,
    now: Timestamp,
    standing: Standing,
    records: Vec<Record>,
    /// Nodes that were started and have not come back.
    pub dispatched: VecDeque<Dispatch>,
    /// Answers to requests.
    pub replies: Vec<Result<Reply, Refusal>>,
}

impl Calm {
    /// A run over a thread that stands somewhere.
    pub fn new(from: &Standing, graphs: Arc<dyn GraphSource>) -> Self {
        let thread = ThreadId::new("t").unwrap_or_else(|error| panic!("{error}"));
        let run = Run::new(Parts {
            thread,
            state: from.state.clone(),
            seq: from.seq,
            epoch: from.epoch,
            weight: (0, 0),
            graphs,
            policy: Arc::new(AllowAll),
            settings: Settings { grace: Duration::from_secs(30), seed: 1 },
        });
        Self {
            run,
            before: from.state.clone(),
            now: Timestamp(1_000_000),
            standing: from.clone(),
            records: Vec::new(),
            dispatched: VecDeque::new(),
            replies: Vec::new(),
        }
    }

    /// A request from outside and all that follows from it.
    pub fn ask(&mut self, command: Command) {
        self.happen(Event::Asked { request: RequestId(1), command: Box::new(command) });
        self.happen(Event::Idle);
    }

    /// An event and the commits that follow from it.
    pub fn happen(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        for _ in 0..EVENTS_MAX {
            let Some(event) = events.pop_front() else { return };
            for effect in self.run.apply(self.now, event) {
                match effect {
                    Effect::Commit(commit) => {
                        (self.standing.seq, self.standing.epoch) = (commit.seq, commit.epoch);
                        events.push_back(Event::Persisted { seq: commit.seq });
                        self.records.push(commit.record);
                    }
                    Effect::Dispatch(dispatch) => self.dispatched.push_back(*dispatch),
                    Effect::CacheLook { task, token, key } => {
                        events.push_back(Event::CacheLooked { task, token, key, hit: None });
                    }
                    Effect::Reply { reply, .. } => self.replies.push(*reply),
                    _ => {}
                }
            }
        }
        panic!("one request led to more than {EVENTS_MAX} events");
    }

    /// The state so far.
    pub fn state(&self) -> &ThreadState {
        self.run.state()
    }

    /// Where the thread stands now.
    pub fn standing(&self) -> Standing {
        Standing { state: self.state().clone(), ..self.standing }
    }

    /// What must hold whatever was asked: the records give the state that is live (I-1), and no run ended by a defect.
    pub fn violation(&self) -> Option<String> {
        let mut folded = self.before.clone();
        self.records.iter().for_each(|record| folded.apply_record(record));
        let defect = self.state().run.as_ref().and_then(|run| match &run.outcome {
            Some(Outcome::Failed(error)) if error.class == ErrorClass::Bug => Some(error.message.clone()),
            _ => None,
        });
        let differs = || (folded != *self.state()).then(|| "the records do not give the live state".to_owned());
        defect.or_else(differs)
    }
}
