//! A tool that runs for an hour: its call ends at once with the name of a task, which is recorded like any result. From
//! then on the task is only looked at, so a restart in between begins nothing twice.

use std::sync::Arc;

use graphs::EffectClass;
use runtime::{CallSpec, Context};
use runtime_core::error::TaskError;
use runtime_core::record::CallKind;
use serde_json::{Value, json};

use crate::hub::Task;
use crate::marked;
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

/// Waits for a task, as one call that only reads: made anew after a restart, recorded once it has ended. The whole time is
/// that of the node.
///
/// # Errors
/// Whatever became of the task.
pub async fn wait(ctx: &Context, tools: &Arc<dyn ToolBox>, target: &str, task: Task) -> Result<Arc<Value>, TaskError> {
    let name = format!("task of {target}");
    let spec =
        CallSpec::new(CallKind::Custom, &name, json!({ "tool": target, "task": task.id }), EffectClass::ReadOnly);
    let beating = ctx.clone();
    let (tools, target) = (Arc::clone(tools), target.to_owned());
    ctx.call(spec, move |_| async move { look_until_done(&beating, tools.as_ref(), &target, task).await }).await
}

async fn look_until_done(ctx: &Context, tools: &dyn ToolBox, target: &str, mut task: Task) -> Result<Value, TaskError> {
    let mut failures = 0;
    loop {
        ctx.heartbeat().await?;
        match tools.follow(target, &task).await {
            Ok(Followed::Done(value)) => return Ok(value),
            Ok(Followed::Working(next)) => {
                failures = 0;
                task = next;
            }
            Err(error) if error.class.retried_by_default() && failures < FAILURES_MAX => failures += 1,
            Err(error) => return Err(error),
        }
        tokio::time::sleep(task.pause()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_back_and_nothing_else_is_one() {
        let task = Task { id: "t-1".into(), poll_ms: Some(50) };
        assert_eq!(begun(&marker(&task)), Some(task.clone()));
        for value in [json!({}), json!([1]), json!({"interlock/task": 1}), json!({"interlock/task": task, "x": 1})] {
            assert_eq!(begun(&value), None, "{value}");
        }
        assert!(forged(&marker(&task)) && !forged(&json!({"rows": []})));
    }
}
