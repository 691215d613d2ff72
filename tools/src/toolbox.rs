//! The tools port: what nodes and agents need of a tool server, and the hub behind it.
//!
//! A node never sees the hub: it asks a [`ToolBox`], so a graph's tests can script results and run without a process.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use graphs::EffectClass;
use parking_lot::Mutex;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::interlocks::guard::{ToolFacts, Version};
use serde_json::{Value, json};

use crate::asking::{self, Questions};
use crate::hub::{
    CallOptions, Delivery, Effect, Hub, InputAnswers, InputRequest, Pin, Reply, StepSink, Task, TaskState, ToolError,
    ToolErrorClass, ToolOutcome,
};
use crate::policy::pattern_fits;
use crate::sampling::Sampler;
use crate::tasking;
use crate::untrusted::Untrusted;

/// Longest text of a failed tool that becomes an error message.
const FAILURE_CHARS_MAX: usize = 2_000;
/// Most calls a scripted toolbox remembers.
const REMEMBERED_MAX: usize = 100_000;

/// One permitted call.
#[derive(Debug, Clone)]
pub struct ToolRequest {
    /// `server.tool`.
    pub target: String,
    /// Arguments, exactly as permitted.
    pub args: Arc<Value>,
    /// Stable key of the call, handed to the tool.
    pub key: String,
    /// Effect class the call was permitted with.
    pub effect: EffectClass,
    /// The version of the tool that was permitted; no other one is called.
    pub pin: Option<String>,
    /// Where steps of a long call are reported, and what its server logs meanwhile.
    pub steps: Option<StepSink>,
    /// Whether the tool may ask back; if it does, the result is an [`asking::marker`](crate::asking::marker).
    pub questions: Questions,
}

/// What a look at a task came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed {
    /// It goes on.
    Working(Task),
    /// It stands still until these questions are answered.
    Asks(InputRequest),
    /// The result of the call that began it.
    Done(Value),
}

/// A tool as a list shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolBrief {
    /// `server.tool`.
    pub target: String,
    /// What its server says it does.
    pub description: Untrusted,
    /// Effect class.
    pub effect: EffectClass,
    /// Schema of its arguments.
    pub input_schema: Value,
}

/// Tools by name. Contract: [`ToolBox::call`] makes at most one call and never repeats it; a failure says by its class
/// whether it may be repeated, and is [`ErrorClass::OutcomeUnknown`] when an act that must not be made twice may or may
/// not have happened.
#[async_trait]
pub trait ToolBox: Send + Sync + 'static {
    /// Makes one call.
    async fn call(&self, request: ToolRequest) -> Result<Value, TaskError>;
    /// Looks once at a task that a call began; see [`tasking`](crate::tasking).
    async fn follow(&self, target: &str, _task: &Task) -> Result<Followed, TaskError> {
        Err(TaskError::invalid(format!("`{target}` cannot have begun a task here")))
    }
    /// Hands answers to a task that asked for them. Contract: telling twice is telling once.
    async fn answer(&self, target: &str, _task: &Task, _answers: &InputAnswers) -> Result<(), TaskError> {
        Err(TaskError::invalid(format!("`{target}` cannot have begun a task here")))
    }
    /// Says that nobody waits for a task any more.
    async fn cancel(&self, target: &str, _task: &Task) -> Result<(), TaskError> {
        Err(TaskError::invalid(format!("`{target}` cannot have begun a task here")))
    }
    /// Effect class of a tool, from declared configuration.
    async fn effect(&self, target: &str) -> Result<EffectClass, TaskError>;
    /// What the guard wants to know of a tool, as it is now.
    async fn facts(&self, _target: &str) -> Result<ToolFacts, TaskError> {
        Ok(ToolFacts::default())
    }
    /// The call of a tool in a version that was not pinned is permitted now. Where people have looked at it for that, it is
    /// the pinned one from now on; another version than this is refused.
    async fn accept(&self, _target: &str, _permitted: &Version) -> Result<(), TaskError> {
        Ok(())
    }
    /// Who asks models for the servers of these tools, if anybody does.
    fn sampler(&self) -> Option<&Arc<dyn Sampler>> {
        None
    }
    /// Tools whose name fits one of the patterns.
    async fn list(&self, patterns: &[String]) -> Result<Vec<ToolBrief>, TaskError>;
}

/// Splits `server.tool`; the tool may contain dots, the server not.
pub(crate) fn split(target: &str) -> Result<(&str, &str), TaskError> {
    let parts = target.split_once('.').filter(|(server, tool)| !server.is_empty() && !tool.is_empty());
    parts.ok_or_else(|| TaskError::invalid(format!("`{target}` names no tool: write `server.tool`")))
}

#[async_trait]
impl ToolBox for Hub {
    async fn call(&self, request: ToolRequest) -> Result<Value, TaskError> {
        let (server, tool) = split(&request.target)?;
        let mut options = CallOptions {
            idempotency_key: Some(request.key),
            steps: request.steps,
            expected_pin: request.pin.map(Pin::from_hex),
            ..CallOptions::default()
        };
        let may_ask = request.questions != Questions::Refused;
        if let Questions::Welcome(answers) = request.questions {
            options.input = (answers != InputAnswers::default()).then_some(answers);
        }
        let args = Arc::unwrap_or_clone(request.args);
        let reply = match may_ask {
            true => Hub::converse(self, server, tool, args, options).await,
            false => Hub::call(self, server, tool, args, options).await.map(Reply::Done),
        };
        match reply.map_err(|error| hub_error(&error, request.effect))? {
            Reply::Done(outcome) => read_outcome(&request.target, outcome),
            Reply::Asks(asked) => Ok(asking::marker(&asked)),
            Reply::Began(task) => Ok(tasking::marker(&task)),
        }
    }

    async fn follow(&self, target: &str, task: &Task) -> Result<Followed, TaskError> {
        let (server, tool) = split(target)?;
        match Hub::follow(self, server, tool, task).await {
            Ok(TaskState::Working(task)) => Ok(Followed::Working(task)),
            Ok(TaskState::Asks(request)) => Ok(Followed::Asks(request)),
            Ok(TaskState::Done(outcome)) => read_outcome(target, outcome).map(Followed::Done),
            // Whether the act happened is what nobody knows then; a look that failed may be repeated.
            Err(error) if error.class == ToolErrorClass::OutcomeUnknown => {
                Err(hub_error(&error, EffectClass::AtMostOnce))
            }
            Err(error) => Err(hub_error(&error, EffectClass::ReadOnly)),
        }
    }

    async fn answer(&self, target: &str, task: &Task, answers: &InputAnswers) -> Result<(), TaskError> {
        let (server, tool) = split(target)?;
        let told = Hub::answer_task(self, server, tool, task, answers).await;
        told.map_err(|error| hub_error(&error, EffectClass::ReadOnly))
    }

    async fn cancel(&self, target: &str, task: &Task) -> Result<(), TaskError> {
        let (server, tool) = split(target)?;
        let told = Hub::cancel_task(self, server, tool, task).await;
        told.map_err(|error| hub_error(&error, EffectClass::ReadOnly))
    }

    async fn effect(&self, target: &str) -> Result<EffectClass, TaskError> {
        let (server, tool) = split(target)?;
        let info = self.tool(server, tool).await.map_err(|error| hub_error(&error, EffectClass::ReadOnly))?;
        Ok(effect_class(info.effect))
    }

    async fn list(&self, patterns: &[String]) -> Result<Vec<ToolBrief>, TaskError> {
        let mut found = Vec::new();
        for server in self.servers() {
            // A server that no pattern can reach is not started for a list.
            if !patterns.iter().any(|pattern| may_reach(pattern, server)) {
                continue;
            }
            let inventory = self.list_tools(server).await.map_err(|error| hub_error(&error, EffectClass::ReadOnly))?;
            found.extend(inventory.tools.into_iter().map(|tool| ToolBrief {
                target: format!("{server}.{}", tool.name),
                description: tool.description.unwrap_or_default().into(),
                effect: effect_class(tool.effect),
                input_schema: tool.input_schema,
            }));
        }
        found.retain(|tool| patterns.iter().any(|pattern| pattern_fits(pattern, &tool.target)));
        Ok(found)
    }
}

/// Whether a pattern such as `warehouse.*` can name a tool of this server.
fn may_reach(pattern: &str, server: &str) -> bool {
    match pattern.split_once('.') {
        Some((head, _)) => pattern_fits(head, server),
        None => pattern.contains('*'),
    }
}

pub(crate) fn effect_class(effect: Effect) -> EffectClass {
    match effect {
        Effect::ReadOnly => EffectClass::ReadOnly,
        Effect::Idempotent => EffectClass::Idempotent,
        Effect::AtMostOnce => EffectClass::AtMostOnce,
    }
}

/// A failure of the hub as the runtime judges it. Where the request may have arrived and must not be made twice, nothing
/// but "unknown" is true; where repeating is harmless, the cause decides.
pub(crate) fn hub_error(error: &ToolError, effect: EffectClass) -> TaskError {
    let in_doubt = error.delivery == Delivery::Unknown && effect == EffectClass::AtMostOnce;
    let class = match error.class {
        _ if in_doubt => ErrorClass::OutcomeUnknown,
        ToolErrorClass::Transient | ToolErrorClass::Unavailable | ToolErrorClass::OutcomeUnknown => {
            ErrorClass::Transient
        }
        ToolErrorClass::Timeout => ErrorClass::Timeout,
        ToolErrorClass::NotFound => ErrorClass::NotFound,
        ToolErrorClass::Invalid | ToolErrorClass::InputRequired => ErrorClass::Invalid,
        ToolErrorClass::Denied => ErrorClass::Denied,
        ToolErrorClass::Protocol => ErrorClass::Permanent,
        ToolErrorClass::Cancelled => ErrorClass::Transient,
        ToolErrorClass::Failed => ErrorClass::Unknown,
    };
    TaskError::new(class, error.to_string())
}

/// The result of a tool, or the failure it reports about itself.
fn read_outcome(target: &str, outcome: ToolOutcome) -> Result<Value, TaskError> {
    if outcome.is_error {
        return Err(reported_failure(target, outcome.structured.as_ref(), &outcome.text()));
    }
    let text = outcome.text();
    let value = outcome.structured.unwrap_or_else(|| {
        // Many servers put their object into the text; anything else stays text under a name.
        let object = text.trim_start().starts_with(['{', '[']).then(|| serde_json::from_str(&text).ok()).flatten();
        object.unwrap_or_else(|| json!({ "text": text }))
    });
    if asking::forged(&value) || tasking::forged(&value) {
        let message = format!("`{target}` answered with a key that is the runtime's own");
        return Err(TaskError::new(ErrorClass::Permanent, message));
    }
    Ok(value)
}

/// A failure that a tool reports. Its class comes from structured data (`error.class` or `class`), never from the text.
pub fn reported_failure(target: &str, structured: Option<&Value>, text: &str) -> TaskError {
    let named = structured.and_then(|data| data.pointer("/error/class").or_else(|| data.get("class")));
    let class = named.and_then(Value::as_str).and_then(ErrorClass::from_word);
    // A tool may not claim to be the runtime: classes that only the runtime gives are not taken from it.
    let class =
        class.filter(|class| !matches!(class, ErrorClass::Bug | ErrorClass::NonDeterminism | ErrorClass::VerifyFailed));
    let pause = structured.and_then(|data| data.pointer("/error/retry_after_s")).and_then(Value::as_f64);
    let said: String = match text.trim() {
        "" => structured.map_or_else(|| "no reason given".to_owned(), Value::to_string),
        text => text.to_owned(),
    };
    let said: String = said.chars().take(FAILURE_CHARS_MAX).collect();
    let error = TaskError::new(class.unwrap_or(ErrorClass::Unknown), format!("`{target}` failed: {said}"));
    match pause.and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok()) {
        Some(pause) => error.retry_after(pause),
        None => error,
    }
}

/// What a scripted tool answers.
#[derive(Debug, Clone)]
pub enum Scripted {
    /// This, every time.
    Always(Result<Value, TaskError>),
    /// These in turn; the last one again when they are used up.
    InTurn(Vec<Result<Value, TaskError>>),
}

/// A toolbox with scripted answers, for tests of graphs and nodes. Remembers every call.
#[derive(Default)]
pub struct ScriptedTools {
    tools: BTreeMap<String, (EffectClass, Scripted)>,
    turns: Mutex<BTreeMap<String, usize>>,
    calls: Mutex<Vec<ToolRequest>>,
}

impl ScriptedTools {
    /// A toolbox without tools.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tool.
    #[must_use]
    pub fn tool(mut self, target: &str, effect: EffectClass, answers: Scripted) -> Self {
        self.tools.insert(target.to_owned(), (effect, answers));
        self
    }

    /// Adds a tool that reads and always answers the same.
    #[must_use]
    pub fn reads(self, target: &str, answer: Value) -> Self {
        self.tool(target, EffectClass::ReadOnly, Scripted::Always(Ok(answer)))
    }

    /// Reads the `tools:` of a graph's test: `{target: [answer | {error: {class, message}}] | answer}`. Nobody declares
    /// effects there, so `effect` decides for each tool.
    #[must_use]
    pub fn from_test(tools: &Value, effect: impl Fn(&str) -> EffectClass) -> Self {
        let mut all = Self::new();
        for (target, answers) in tools.as_object().into_iter().flatten() {
            let answers = match answers {
                Value::Array(items) => Scripted::InTurn(items.iter().map(|item| scripted(target, item)).collect()),
                single => Scripted::Always(scripted(target, single)),
            };
            all = all.tool(target, effect(target), answers);
        }
        all
    }

    /// Targets of all calls so far, in order.
    pub fn called(&self) -> Vec<String> {
        self.calls.lock().iter().map(|call| call.target.clone()).collect()
    }

    /// All calls so far, in order.
    pub fn calls(&self) -> Vec<ToolRequest> {
        self.calls.lock().clone()
    }

    fn entry(&self, target: &str) -> Result<&(EffectClass, Scripted), TaskError> {
        self.tools.get(target).ok_or_else(|| {
            TaskError::new(
                ErrorClass::NotFound,
                format!("no tool `{target}`: the script has {}", names(self.tools.keys())),
            )
        })
    }
}

fn names<'a>(targets: impl Iterator<Item = &'a String>) -> String {
    let all: Vec<&str> = targets.map(String::as_str).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

fn scripted(target: &str, item: &Value) -> Result<Value, TaskError> {
    match item.get("error").filter(|error| error.is_object() && item.as_object().is_some_and(|map| map.len() == 1)) {
        Some(error) => {
            let text = error.get("message").and_then(Value::as_str).unwrap_or_default();
            Err(reported_failure(target, Some(item), text))
        }
        None => Ok(item.clone()),
    }
}

#[async_trait]
impl ToolBox for ScriptedTools {
    async fn call(&self, request: ToolRequest) -> Result<Value, TaskError> {
        let (_, answers) = self.entry(&request.target)?;
        let turn = {
            let mut turns = self.turns.lock();
            let turn = turns.entry(request.target.clone()).or_default();
            *turn += 1;
            *turn - 1
        };
        let target = request.target.clone();
        let mut calls = self.calls.lock();
        if calls.len() < REMEMBERED_MAX {
            calls.push(request);
        }
        match answers {
            Scripted::Always(answer) => answer.clone(),
            Scripted::InTurn(answers) => answers.get(turn).or_else(|| answers.last()).cloned().unwrap_or_else(|| {
                Err(TaskError::new(ErrorClass::NotFound, format!("the script of `{target}` is empty")))
            }),
        }
    }

    async fn effect(&self, target: &str) -> Result<EffectClass, TaskError> {
        self.entry(target).map(|(effect, _)| *effect)
    }

    async fn list(&self, patterns: &[String]) -> Result<Vec<ToolBrief>, TaskError> {
        let fits = |target: &str| patterns.iter().any(|pattern| pattern_fits(pattern, target));
        let brief = |(target, (effect, _)): (&String, &(EffectClass, Scripted))| ToolBrief {
            target: target.clone(),
            description: Untrusted::default(),
            effect: *effect,
            input_schema: json!({ "type": "object" }),
        };
        Ok(self.tools.iter().filter(|(target, _)| fits(target)).map(brief).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(class: ToolErrorClass, delivery: Delivery) -> ToolError {
        ToolError {
            class,
            delivery,
            server: "w".to_owned(),
            tool: Some("t".to_owned()),
            message: "x".to_owned(),
            pointer: None,
            remedy: None,
        }
    }

    /// An act in doubt is never called anything that a retry policy could name by default.
    #[test]
    fn what_may_have_happened_is_unknown_unless_repeating_is_harmless() {
        use ToolErrorClass::{OutcomeUnknown, Timeout, Unavailable};
        for (class, delivery, effect, expected) in [
            (Timeout, Delivery::Unknown, EffectClass::AtMostOnce, ErrorClass::OutcomeUnknown),
            (OutcomeUnknown, Delivery::Unknown, EffectClass::AtMostOnce, ErrorClass::OutcomeUnknown),
            (OutcomeUnknown, Delivery::Unknown, EffectClass::Idempotent, ErrorClass::Transient),
            (Timeout, Delivery::Unknown, EffectClass::ReadOnly, ErrorClass::Timeout),
            (Timeout, Delivery::NotSent, EffectClass::AtMostOnce, ErrorClass::Timeout),
            (Unavailable, Delivery::NotSent, EffectClass::AtMostOnce, ErrorClass::Transient),
        ] {
            assert_eq!(hub_error(&hub(class, delivery), effect).class, expected, "{class:?} {delivery:?} {effect:?}");
        }
    }

    fn outcome(structured: Option<Value>, text: &str, is_error: bool) -> ToolOutcome {
        let content = vec![crate::hub::Content::Text { text: text.to_owned() }];
        ToolOutcome { content, structured, is_error, truncated: false, artifacts: Vec::new() }
    }

    #[test]
    fn a_reported_failure_has_the_class_of_its_data_and_no_other() {
        let class = |structured: Option<Value>, text: &str| {
            read_outcome("w.t", outcome(structured, text, true)).unwrap_err().class
        };
        assert_eq!(class(Some(json!({"error": {"class": "transient"}})), "x"), ErrorClass::Transient);
        assert_eq!(class(Some(json!({"class": "conflict"})), "x"), ErrorClass::Conflict);
        assert_eq!(class(Some(json!({"error": {"class": "bug"}})), "x"), ErrorClass::Unknown);
        assert_eq!(class(None, "transient: please retry"), ErrorClass::Unknown);
        let slow =
            reported_failure("w.t", Some(&json!({"error": {"class": "rate_limited", "retry_after_s": 2.5}})), "");
        assert_eq!(slow.retry_after, Some(std::time::Duration::from_millis(2500)));
    }

    #[test]
    fn results_are_structured_or_text_under_a_name() {
        let read = |structured, text| read_outcome("w.t", outcome(structured, text, false)).unwrap();
        assert_eq!(read(Some(json!({"n": 1})), "{\"n\": 2}"), json!({"n": 1}));
        assert_eq!(read(None, "{\"n\": 2}"), json!({"n": 2}));
        assert_eq!(read(None, "{not json"), json!({"text": "{not json"}));
    }

    #[test]
    fn targets_name_a_server_and_a_tool() {
        assert_eq!(split("w.a.b").unwrap(), ("w", "a.b"));
        for bad in ["w", ".t", "w.", ""] {
            assert_eq!(split(bad).unwrap_err().class, ErrorClass::Invalid, "{bad}");
        }
        assert!(may_reach("w*.t", "warehouse") && may_reach("*", "x") && !may_reach("air.*", "warehouse"));
    }
}
