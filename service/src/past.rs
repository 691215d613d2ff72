//! Incidents that a thread has worked on, from its record.

use agents::{Diagnosis, Incident};
use runtime::history::{self, Checkpoint};
use runtime::ports::store::{Store, ThreadStatus};
use runtime::view;
use runtime_core::ids::{ThreadId, Timestamp};
use runtime_core::record::Outcome;
use runtime_core::state::ThreadState;
use serde_json::Value;

use crate::failure::Failure;
use crate::snapshot;

/// Most incidents of one thread.
const INCIDENTS_MAX: usize = 1_000;

/// One incident as its graph left it.
pub(crate) struct Past {
    /// What it was.
    pub(crate) incident: Incident,
    /// Why it was, if anybody found out.
    pub(crate) diagnosis: Option<Diagnosis>,
    /// Every channel of its graph at the last checkpoint.
    pub(crate) values: Value,
    /// The nodes that ran, in order, with the time and the checkpoint.
    pub(crate) steps: Vec<Step>,
}

/// A node that ran.
pub(crate) struct Step {
    pub(crate) at: Timestamp,
    pub(crate) node: String,
    pub(crate) checkpoint: String,
    pub(crate) error: Option<String>,
}

impl Past {
    /// A word of how it ended.
    pub(crate) fn status(&self) -> &str {
        self.values["outcome"]["status"].as_str().unwrap_or("unknown")
    }
}

/// The incidents of a thread that has ended well, in the order in which they were begun.
///
/// # Errors
/// The thread is still at work, ended with an error, or has no incident.
pub(crate) async fn incidents(store: &dyn Store, thread: &ThreadId, state: &ThreadState) -> Result<Vec<Past>, Failure> {
    let status = snapshot::status(state);
    let ended = state.run.as_ref().and_then(|run| run.outcome.as_ref());
    if status != ThreadStatus::Idle || !matches!(ended, Some(Outcome::Success)) {
        let word = ended.map_or(snapshot::status_word(status), snapshot::outcome_word);
        let failure = Failure::failed(format!("thread `{thread}` has not ended well: it is {word}"));
        return Err(failure.help("`interlock state` shows what it waits for or what went wrong"));
    }
    let mut past: Vec<(String, Past)> = Vec::new();
    for checkpoint in history::checkpoints(store, thread).await? {
        let seen = view::record(&checkpoint);
        let Ok(incident) = serde_json::from_value::<Incident>(seen.values["incident"].clone()) else { continue };
        let diagnosis = serde_json::from_value(seen.values["diagnosis"].clone()).ok();
        let ns = checkpoint.ns.to_string();
        let steps = steps(&checkpoint);
        let is_same =
            |(known, past): &(String, Past)| *known == ns && past.incident.fingerprint == incident.fingerprint;
        let known = past.iter().position(is_same);
        match known.and_then(|at| past.get_mut(at)) {
            Some((_, past)) => {
                past.values = seen.values;
                past.diagnosis = diagnosis;
                past.steps.extend(steps);
            }
            None => past.push((ns, Past { incident, diagnosis, values: seen.values, steps })),
        }
        if past.len() > INCIDENTS_MAX {
            return Err(Failure::failed(format!(
                "thread `{thread}` has worked on more than {INCIDENTS_MAX} incidents"
            )));
        }
    }
    if past.is_empty() {
        let failure =
            Failure::failed(format!("thread `{thread}` has worked on no incident, or its history was pruned"));
        return Err(
            failure.help("name a thread of `etl-incident` or `etl-reliability`; `interlock threads` lists them")
        );
    }
    Ok(past.into_iter().map(|(_, past)| past).collect())
}

fn steps(checkpoint: &Checkpoint) -> Vec<Step> {
    let short = crate::ids::short(checkpoint.id);
    let tasks = checkpoint.frame.plan.tasks.iter().zip(&checkpoint.tasks);
    let step = |(planned, task): (&runtime_core::record::PlannedTask, &runtime_core::state::TaskState)| Step {
        at: checkpoint.at,
        node: planned.node.to_string(),
        checkpoint: short.clone(),
        error: task.error.as_ref().map(ToString::to_string),
    };
    tasks.map(step).collect()
}
