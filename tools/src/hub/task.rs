//! Calls that go on at the server: the tasks extension. A call ends with a task instead of a result; whoever holds the task
//! can look at it later, over another connection and from another process.

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{ClientRequest, ErrorCode, GetTaskParams, GetTaskRequest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::{Delivery, ToolError, ToolErrorClass, quote};
use super::front::CallOptions;
use super::outcome::ToolOutcome;
use super::server::{InFlight, Server};
use super::session::{NoResult, Wait};

/// Bytes of a task's id.
const ID_BYTES_MAX: usize = 1024;
/// Pause between two looks when the server names none.
const PAUSE_DEFAULT: Duration = Duration::from_secs(2);
/// Shortest pause, so that a server cannot make us spin.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause, so that a result is not left lying.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A call that goes on at the server: all that is needed to find it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Name the server gave it.
    pub id: String,
    /// Pause the server asks for between two looks, in milliseconds.
    #[serde(default)]
    pub poll_ms: Option<u64>,
}

impl Task {
    /// Pause until the next look, within bounds of ours.
    pub fn pause(&self) -> Duration {
        self.poll_ms.map_or(PAUSE_DEFAULT, Duration::from_millis).clamp(PAUSE_MIN, PAUSE_MAX)
    }
}

/// What a look at a task came to.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskState {
    /// It goes on; look again after its pause.
    Working(Task),
    /// Its result, read and checked as that of any call.
    Done(ToolOutcome),
}

/// The task in the place of a result.
///
/// # Errors
/// If what claims to be a task has no usable name.
pub(super) fn begun(raw: &Value) -> Option<Result<Task, String>> {
    (raw.get("resultType").and_then(Value::as_str) == Some("task")).then(|| read(raw))
}

fn read(raw: &Value) -> Result<Task, String> {
    let id = raw.get("taskId").and_then(Value::as_str).unwrap_or_default();
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Err(format!("the server began a task whose id has {} bytes; 1 to {ID_BYTES_MAX} are usable", id.len()));
    }
    Ok(Task { id: id.to_owned(), poll_ms: raw.get("pollIntervalMs").and_then(Value::as_u64) })
}

impl Server {
    /// Looks at a task once. Reads only: looking twice is looking once.
    pub(super) async fn follow(self: &Arc<Self>, tool: &str, task: &Task) -> Result<TaskState, ToolError> {
        let _counted = InFlight::enter(&self.in_flight);
        let ready = self.ready_with(tool, &CallOptions::default()).await?;
        let known = ready.listed.tools.get(tool).ok_or_else(|| self.not_found(tool, &ready.listed))?;
        let never = CancellationToken::new();
        let until = Instant::now() + self.config.timeout;
        let wait = Wait { until, idle: None, cancel: &never, steps: None, meta: None };
        let request = ClientRequest::GetTaskRequest(GetTaskRequest::new(GetTaskParams::new(&*task.id)));
        let mut answer = match ready.session.request(request, wait).await {
            Ok(answer) => answer,
            Err(NoResult::Refused(error)) if forgot(error.code) => return Err(self.forgotten(tool, &error.message)),
            Err(lost) => {
                let error = ready.session.explain(&self.config, Some(tool), lost, self.config.timeout).await;
                let lost = error.class == ToolErrorClass::OutcomeUnknown;
                // A look that was lost changed nothing.
                let class = if lost { ToolErrorClass::Unavailable } else { error.class };
                return Err(ToolError { class, delivery: Delivery::NotSent, ..error });
            }
        };
        let ended = |class, message: String| {
            Err(self.error(class, tool, ready.session.secrets.scrub(message)).delivered(Delivery::Answered))
        };
        match answer.get("status").and_then(Value::as_str).unwrap_or_default() {
            "working" => {
                let poll_ms = answer.get("pollIntervalMs").and_then(Value::as_u64).or(task.poll_ms);
                Ok(TaskState::Working(Task { id: task.id.clone(), poll_ms }))
            }
            "completed" => {
                let result = answer.get_mut("result").map(Value::take).unwrap_or_default();
                self.read(known, &ready.session, result, &CallOptions::default()).await.map(TaskState::Done)
            }
            "failed" => {
                let said = answer.pointer("/error/message").and_then(Value::as_str).unwrap_or("no reason given");
                ended(ToolErrorClass::Failed, format!("its task failed: {}", quote(said)))
            }
            "cancelled" => ended(ToolErrorClass::Failed, "the server cancelled its task".to_owned()),
            "input_required" => {
                ended(ToolErrorClass::InputRequired, "its task asks for input, which is not supported".to_owned())
            }
            other => ended(ToolErrorClass::Protocol, format!("its task has the unknown state `{}`", quote(other))),
        }
    }

    /// Whether the task ended well nobody will ever say.
    fn forgotten(&self, tool: &str, said: &str) -> ToolError {
        let message = format!("the server does not know its task any more: {}", quote(said));
        self.error(ToolErrorClass::OutcomeUnknown, tool, message).delivered(Delivery::Unknown)
    }
}

fn forgot(code: ErrorCode) -> bool {
    [ErrorCode::INVALID_PARAMS, ErrorCode::RESOURCE_NOT_FOUND, ErrorCode::METHOD_NOT_FOUND].contains(&code)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_task_is_read_from_its_own_type_only() {
        assert_eq!(begun(&json!({"taskId": "t"})), None);
        assert_eq!(begun(&json!({"resultType": "complete", "taskId": "t"})), None);
        let task = begun(&json!({"resultType": "task", "taskId": "t", "pollIntervalMs": 5})).unwrap().unwrap();
        assert_eq!((task.id.as_str(), task.pause()), ("t", PAUSE_MIN));
        for id in [json!(null), json!(""), json!(7), json!("x".repeat(ID_BYTES_MAX + 1))] {
            assert!(begun(&json!({"resultType": "task", "taskId": id})).unwrap().is_err());
        }
        let slow = Task { id: "t".into(), poll_ms: Some(u64::MAX) };
        assert_eq!(slow.pause(), PAUSE_MAX);
    }
}
