//! A tool that runs for an hour: its call ends at once with the name of a task, which is recorded like any result. From
//! then on the task is only looked at, so a restart in between begins nothing twice.

use std::sync::Arc;

use graphs::EffectClass;
use runtime::{CallSpec, Context, OnAbandon};
use runtime_core::digest_of;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::record::{CallHead, CallKind, CallOutcome};
use serde_json::{Value, json};

use crate::asking;
use crate::hub::{InputAnswers, Task};
use crate::marked;
use crate::sampling;
use crate::toolbox::{Followed, ToolBox};

/// Key of a journaled result that is no result but a task. A tool cannot use it: see [`forged`].
const MARKER: &str = "interlock/task";
/// Looks in a row that may fail for a passing reason, as while the server is restarted.
const FAILURES_MAX: u32 = 10;

/// A task in the place of a result.
pub fn marker(task: &Task) -> Value {
    marked::mark(MARKER, task)
}

/// The task in the place of a result, if that is what it is.
pub fn begun(result: &Value) -> Option<Task> {
    marked::content(MARKER, result)
}

/// Whether a result of a tool pretends to be a task of the runtime.
pub fn forged(result: &Value) -> bool {
    marked::is_forged(MARKER, result)
}

/// Waits for a task, as one call that only reads: made anew after a restart, recorded once it has ended or asks. Its questions
/// are put as those of a call are, and the answers are the beginning of the next wait. The whole time is that of the node.
///
/// # Errors
/// Whatever became of the task.
pub async fn wait(
    ctx: &Context,
    tools: &Arc<dyn ToolBox>,
    spec: &CallSpec,
    mut task: Task,
) -> Result<Arc<Value>, TaskError> {
    let mut answers = InputAnswers::default();
    for round in 0..asking::ROUNDS_MAX {
        let name = format!("task of {}", spec.target);
        let look = CallSpec::new(CallKind::Custom, &name, head(&spec.target, &task, round), EffectClass::ReadOnly);
        let looking = Looking { ctx: ctx.clone(), tools: Arc::clone(tools), target: spec.target.to_string() };
        let (looked, said) = (task.clone(), std::mem::take(&mut answers));
        let result = ctx.call(look, move |_| async move { looking.until_done(looked, &said).await }).await?;
        let Some(request) = asking::asked(&result) else { return Ok(result) };
        let sampled = sampling::answered(ctx, tools, spec, &request).await?;
        answers = asking::put_to_people(ctx, &spec.target, &request).await?;
        answers.known.extend(sampled);
        task.answered.extend(answers.answers.keys().chain(answers.known.keys()).cloned());
    }
    let message = format!("the task of `{}` asked {} times without an end", spec.target, asking::ROUNDS_MAX);
    Err(TaskError::new(ErrorClass::Permanent, message))
}

/// What a wait is in the journal. Its answers are not part of it: the journal has them already.
fn head(target: &str, task: &Task, round: usize) -> Value {
    match round {
        0 => json!({ "tool": target, "task": task.id }),
        _ => json!({ "tool": target, "task": task.id, "round": round }),
    }
}

/// One wait.
struct Looking {
    ctx: Context,
    tools: Arc<dyn ToolBox>,
    target: String,
}

impl Looking {
    /// Hands over the answers, if there are any, and looks until the task has ended or asks.
    async fn until_done(&self, mut task: Task, answers: &InputAnswers) -> Result<Value, TaskError> {
        let (mut failures, mut told) = (0, *answers == InputAnswers::default());
        loop {
            self.ctx.heartbeat().await?;
            let looked = match told {
                false => self.tools.answer(&self.target, &task, answers).await.map(|()| None),
                true => self.tools.follow(&self.target, &task).await.map(Some),
            };
            match looked {
                Ok(None) => told = true,
                Ok(Some(Followed::Done(value))) => return Ok(value),
                Ok(Some(Followed::Asks(request))) => return Ok(asking::marker(&request)),
                Ok(Some(Followed::Working(next))) => {
                    failures = 0;
                    task = next;
                }
                Err(error) if error.class.retried_by_default() && failures < FAILURES_MAX => failures += 1,
                Err(error) => return Err(error),
            }
            tokio::time::sleep(task.pause()).await;
        }
    }
}

/// Tells the servers of tasks that nobody comes back for. A server that cannot cancel costs one line of the log: its own time
/// to live ends the task then.
pub fn on_abandon(tools: Arc<dyn ToolBox>) -> OnAbandon {
    Arc::new(move |abandoned| {
        let tools = Arc::clone(&tools);
        let tell = async move {
            for (target, task) in left_running(&abandoned.calls) {
                match tools.cancel(&target, &task).await {
                    Ok(()) => tracing::info!(tool = %target, task = ?task.id, "cancelled at its server"),
                    Err(error) => tracing::warn!(
                        tool = %target, task = ?task.id, %error,
                        "nobody waits for this task any more, and its server could not be told: it may go on there"
                    ),
                }
            }
        };
        Box::pin(tell)
    })
}

/// The tasks that were begun and whose end is not recorded.
fn left_running(calls: &[(CallHead, CallOutcome)]) -> Vec<(String, Task)> {
    let begun = calls.iter().filter_map(|(head, outcome)| match outcome {
        CallOutcome::Ok(result) if head.kind == CallKind::Tool => Some((head.target.to_string(), begun(result)?)),
        _ => None,
    });
    begun.filter(|(target, task)| !has_ended(calls, target, task)).collect()
}

fn has_ended(calls: &[(CallHead, CallOutcome)], target: &str, task: &Task) -> bool {
    let waits: Vec<String> = (0..asking::ROUNDS_MAX).map(|round| digest_of(&head(target, task, round))).collect();
    calls.iter().any(|(head, outcome)| {
        let asks = matches!(outcome, CallOutcome::Ok(result) if asking::asked(result).is_some());
        head.kind == CallKind::Custom && waits.contains(&head.digest) && !asks
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_marker_is_read_back_and_nothing_else_is_one() {
        let task = Task { id: "t-1".into(), poll_ms: Some(50), answered: BTreeSet::new() };
        assert_eq!(begun(&marker(&task)), Some(task.clone()));
        for value in [json!({}), json!([1]), json!({"interlock/task": 1}), json!({"interlock/task": task, "x": 1})] {
            assert_eq!(begun(&value), None, "{value}");
        }
        assert!(forged(&marker(&task)) && !forged(&json!({"rows": []})));
    }

    #[test]
    fn a_task_is_left_running_until_its_end_is_recorded() {
        let task = Task { id: "t-1".into(), poll_ms: None, answered: BTreeSet::new() };
        let call = |kind, target: &str, args: &Value, result: Value| {
            let digest = digest_of(args);
            let head = CallHead { kind, target: target.into(), digest, effect: EffectClass::ReadOnly };
            (head, CallOutcome::Ok(Arc::new(result)))
        };
        let request = json!({"state": null, "forms": []});
        let began = call(CallKind::Tool, "s.t", &json!({}), marker(&task));
        let looked = |round, result| call(CallKind::Custom, "task of s.t", &head("s.t", &task, round), result);
        let asked = looked(0, json!({"interlock/asks": request}));
        let ended = looked(1, json!({"rows": 1}));
        let left = |calls: &[(CallHead, CallOutcome)]| left_running(calls).len();
        assert_eq!(left(std::slice::from_ref(&began)), 1);
        assert_eq!(left(&[began.clone(), asked.clone()]), 1, "a question is no end");
        assert_eq!(left(&[began.clone(), asked, ended.clone()]), 0);
        assert_eq!(left(&[ended]), 0);
        // Another task of the same tool is another one.
        let other = Task { id: "t-2".into(), ..task.clone() };
        let other = call(CallKind::Tool, "s.t", &json!({}), marker(&other));
        assert_eq!(left(&[began, other, looked(0, json!({}))]), 1);
    }
}
