//! Calls that go on at the server: the tasks extension. A call ends with a task instead of a result; whoever holds the task
//! can look at it later, over another connection and from another process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CancelTaskParams, CancelTaskRequest, ClientRequest, ErrorCode, GetTaskParams, GetTaskRequest, UpdateTaskParams,
    UpdateTaskRequest,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::asks::{InputAnswers, InputRequest, Round};
use super::error::{Delivery, ToolError, ToolErrorClass, quote};
use super::front::CallOptions;
use super::outcome::ToolOutcome;
use super::server::{InFlight, Server};
use super::session::{NoResult, Session, Wait};

/// Bytes of a task's id.
const ID_BYTES_MAX: usize = 1024;
/// Pause between two looks when the server names none.
const PAUSE_DEFAULT: Duration = Duration::from_secs(2);
/// Shortest pause, so that a server cannot make us spin.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause, so that a result is not left lying.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Longest wait for the receipt of an answer or of a cancellation, so that nobody who has ended waits long.
const RECEIPT_WAIT_MAX: Duration = Duration::from_secs(10);

/// A call that goes on at the server: all that is needed to find it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Name the server gave it.
    pub id: String,
    /// Pause the server asks for between two looks, in milliseconds.
    #[serde(default)]
    pub poll_ms: Option<u64>,
    /// Questions of it that were answered. A server may show them for a while longer; they are not put again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub answered: BTreeSet<String>,
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
    /// It stands still until somebody has answered.
    Asks(InputRequest),
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
    Ok(Task {
        id: id.to_owned(),
        poll_ms: raw.get("pollIntervalMs").and_then(Value::as_u64),
        answered: BTreeSet::new(),
    })
}

impl Server {
    /// Looks at a task once. Reads only: looking twice is looking once.
    pub(super) async fn follow(self: &Arc<Self>, tool: &str, task: &Task) -> Result<TaskState, ToolError> {
        let _counted = InFlight::enter(&self.in_flight);
        let ready = self.ready_with(tool, &CallOptions::default()).await?;
        let known = ready.listed.tools.get(tool).ok_or_else(|| self.not_found(tool, &ready.listed))?;
        let request = ClientRequest::GetTaskRequest(GetTaskRequest::new(GetTaskParams::new(&*task.id)));
        let mut answer = match exchange(&ready.session, request, self.config.timeout).await {
            Ok(answer) => answer,
            Err(NoResult::Refused(error)) if forgot(error.code) => return Err(self.forgotten(tool, &error.message)),
            Err(lost) => return Err(self.lost_look(tool, &ready.session, lost).await),
        };
        let ended = |class, message: String| {
            Err(self.error(class, tool, ready.session.secrets.scrub(message)).delivered(Delivery::Answered))
        };
        match answer.get("status").and_then(Value::as_str).unwrap_or_default() {
            "working" => {
                let poll_ms = answer.get("pollIntervalMs").and_then(Value::as_u64).or(task.poll_ms);
                Ok(TaskState::Working(Task { poll_ms, ..task.clone() }))
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
            "input_required" => self.asked_by(tool, task, &ready.session, answer).await,
            other => ended(ToolErrorClass::Protocol, format!("its task has the unknown state `{}`", quote(other))),
        }
    }

    /// A task that stands still. What we know ourselves is answered at once; a question that nobody may be asked ends it.
    async fn asked_by(
        &self,
        tool: &str,
        task: &Task,
        session: &Session,
        mut answer: Value,
    ) -> Result<TaskState, ToolError> {
        if let Some(requests) = answer.get_mut("inputRequests").and_then(Value::as_object_mut) {
            requests.retain(|key, _| !task.answered.contains(key));
            if requests.is_empty() {
                return Ok(TaskState::Working(task.clone()));
            }
        }
        let refused = match self.answering().round(&answer).await {
            Round::Ask(request) => return Ok(TaskState::Asks(InputRequest { state: None, ..request })),
            Round::Again(answers) if !answers.known.is_empty() => {
                self.tell(tool, session, update(task, &answers)).await?;
                return Ok(TaskState::Working(task.clone()));
            }
            Round::Again(_) => "its task wants input and does not say which".to_owned(),
            Round::Refuse(why) => format!("its task cannot go on: {why}"),
        };
        let told = self.tell(tool, session, cancellation(task)).await;
        let and = told.err().map(|error| format!("; and could not be cancelled: {error}")).unwrap_or_default();
        let message = session.secrets.scrub(format!("{refused}{and}"));
        Err(self.error(ToolErrorClass::InputRequired, tool, message).delivered(Delivery::Answered))
    }

    /// Hands answers to the task that asked. Its questions have names of their own, so that telling twice is telling once.
    pub(super) async fn answer_task(
        self: &Arc<Self>,
        tool: &str,
        task: &Task,
        answers: &InputAnswers,
    ) -> Result<(), ToolError> {
        let _counted = InFlight::enter(&self.in_flight);
        let ready = self.ready_with(tool, &CallOptions::default()).await?;
        match exchange(&ready.session, update(task, answers), self.config.timeout.min(RECEIPT_WAIT_MAX)).await {
            Ok(_) => Ok(()),
            // It was told before we died, or has ended meanwhile: the next look shows which.
            Err(NoResult::Refused(error)) if error.code == ErrorCode::INVALID_PARAMS => {
                tracing::debug!(server = self.config.name, tool, said = quote(&error.message), "an answer came twice");
                Ok(())
            }
            Err(lost) => Err(self.lost_look(tool, &ready.session, lost).await),
        }
    }

    /// Tells the server that nobody waits for a task any more. What it makes of that is its own affair.
    pub(super) async fn cancel_task(self: &Arc<Self>, tool: &str, task: &Task) -> Result<(), ToolError> {
        let _counted = InFlight::enter(&self.in_flight);
        let ready = self.ready_with(tool, &CallOptions::default()).await?;
        self.tell(tool, &ready.session, cancellation(task)).await
    }

    async fn tell(&self, tool: &str, session: &Session, request: ClientRequest) -> Result<(), ToolError> {
        match exchange(session, request, self.config.timeout.min(RECEIPT_WAIT_MAX)).await {
            Ok(_) => Ok(()),
            Err(lost) => Err(self.lost_look(tool, session, lost).await),
        }
    }

    /// A request about a task that was lost changed nothing that making it again does not.
    async fn lost_look(&self, tool: &str, session: &Session, lost: NoResult) -> ToolError {
        let error = session.explain(&self.config, Some(tool), lost, self.config.timeout).await;
        let lost = error.class == ToolErrorClass::OutcomeUnknown;
        let class = if lost { ToolErrorClass::Unavailable } else { error.class };
        ToolError { class, delivery: Delivery::NotSent, ..error }
    }

    /// Whether the task ended well nobody will ever say.
    fn forgotten(&self, tool: &str, said: &str) -> ToolError {
        let message = format!("the server does not know its task any more: {}", quote(said));
        self.error(ToolErrorClass::OutcomeUnknown, tool, message).delivered(Delivery::Unknown)
    }
}

async fn exchange(session: &Session, request: ClientRequest, within: Duration) -> Result<Value, NoResult> {
    let never = CancellationToken::new();
    let wait = Wait { until: Instant::now() + within, idle: None, cancel: &never, steps: None, meta: None };
    session.request(request, wait).await
}

fn update(task: &Task, answers: &InputAnswers) -> ClientRequest {
    ClientRequest::UpdateTaskRequest(UpdateTaskRequest::new(UpdateTaskParams::new(&*task.id, answers.responses())))
}

fn cancellation(task: &Task) -> ClientRequest {
    ClientRequest::CancelTaskRequest(CancelTaskRequest::new(CancelTaskParams::new(&*task.id)))
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
        let slow = Task { poll_ms: Some(u64::MAX), ..task };
        assert_eq!(slow.pause(), PAUSE_MAX);
    }
}
