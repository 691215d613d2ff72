//! The `tool:` node kind: one act, its proof, and its reversal when the proof fails.
//!
//! Each of the three is a journaled call of its own, so a crash between them repeats none of them. The check is declared
//! before the act and run by the runtime, never by a model.
//!
//! ```text
//!  render ─▶ act ─▶ check ─holds─▶ result
//!                     └─does not hold, or cannot be made─▶ undo ─▶ verify_failed, saying what was undone
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use graphs::{EffectClass, Kind, Node, Template, ToolNode as Declared, Verify};
use runtime::{CallSpec, Context, NodeKind};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::event::NodeOutput;
use runtime_core::interlocks::guard::{ToolFacts, Version};
use runtime_core::record::CallKind;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::asking::{self, Questions};
use crate::hub::InputAnswers;
use crate::sampling;
use crate::tasking;
use crate::toolbox::{ToolBox, ToolRequest};

/// Role that the guard sees on an undo. No agent can have it: it is set here and nowhere else.
pub const UNDO_ROLE: &str = "undo";
/// Steps of a running call that wait to be streamed.
const STEPS_QUEUE_MAX: usize = 32;
/// Longest excerpt of a check's result in an error message.
const EXCERPT_CHARS_MAX: usize = 400;

/// Code of the `tool` node kind, over any [`ToolBox`].
#[derive(Clone)]
pub struct ToolNode {
    tools: Arc<dyn ToolBox>,
}

impl ToolNode {
    /// Tool nodes that call through `tools`.
    pub fn new(tools: Arc<dyn ToolBox>) -> Self {
        Self { tools }
    }
}

#[async_trait]
impl NodeKind for ToolNode {
    async fn run(&self, ctx: Context) -> Result<NodeOutput, TaskError> {
        let node = ctx.node()?;
        let Kind::Tool(declared) = &node.kind else {
            return Err(TaskError::bug(format!("node `{}` is no tool node", node.name)));
        };
        let work = Work { ctx: &ctx, node, declared, tools: &self.tools };
        work.run().await.map(|result| NodeOutput { result: Some(result), ..NodeOutput::default() })
    }
}

/// Makes one call through the journal, streaming its steps as custom events. A tool that asks back is answered, by people or
/// by models, and called again.
///
/// # Errors
/// Whatever the guard or the tool says.
pub async fn call_tool(ctx: &Context, tools: &Arc<dyn ToolBox>, spec: CallSpec) -> Result<Arc<Value>, TaskError> {
    let mut answers = InputAnswers::default();
    for _ in 0..asking::ROUNDS_MAX {
        let result = call_once(ctx, tools, spec.clone(), answers).await?;
        if let Some(task) = tasking::begun(&result) {
            return tasking::wait(ctx, tools, &spec, task).await;
        }
        let Some(request) = asking::asked(&result) else { return Ok(result) };
        let sampled = sampling::answered(ctx, tools, &spec, &request).await?;
        answers = asking::put_to_people(ctx, &spec.target, &request).await?;
        answers.known.extend(sampled);
    }
    let message = format!("`{}` asked back {} times without an end", spec.target, asking::ROUNDS_MAX);
    Err(TaskError::new(ErrorClass::Permanent, message))
}

async fn call_once(
    ctx: &Context,
    tools: &Arc<dyn ToolBox>,
    spec: CallSpec,
    answers: InputAnswers,
) -> Result<Arc<Value>, TaskError> {
    let (target, effect) = (spec.target.to_string(), spec.effect);
    let (ctx, tools) = (ctx.clone(), Arc::clone(tools));
    let streamed = ctx.clone();
    let facts = tools.facts(&target).await?;
    let version = facts.version.clone();
    let spec = CallSpec { tool: ToolFacts { computed_env: spec.tool.computed_env, ..facts }, ..spec };
    ctx.call(spec, move |permit| async move {
        // A version that nobody had looked at is permitted only after somebody has.
        if let Version::Differs { .. } | Version::Unpinned { .. } = &version {
            tools.accept(&target, &version).await?;
        }
        let (sink, mut steps) = mpsc::channel(STEPS_QUEUE_MAX);
        let request = ToolRequest {
            target: target.clone(),
            args: permit.args,
            key: permit.key,
            effect,
            pin: version.pin().map(str::to_owned),
            steps: Some(sink),
            questions: Questions::Welcome(answers),
        };
        let call = tools.call(request);
        tokio::pin!(call);
        loop {
            tokio::select! {
                biased;
                outcome = &mut call => return outcome,
                Some(step) = steps.recv() => {
                    streamed.emit(json!({ "tool": target, "phase": step.phase(), "step": step })).await?;
                }
            }
        }
    })
    .await
}

/// A call with its names and arguments in place.
struct Ready {
    target: String,
    args: Value,
}

/// One run of one tool node.
struct Work<'a> {
    ctx: &'a Context,
    node: &'a Node,
    declared: &'a Declared,
    tools: &'a Arc<dyn ToolBox>,
}

impl Work<'_> {
    async fn run(&self) -> Result<Value, TaskError> {
        let act = self.ready(("tool", &self.declared.tool), ("args", &self.declared.args), None)?;
        let act = act.ok_or_else(|| self.unnamed("tool"))?;
        let env = self.env()?;
        let effect = self.effect(&act.target).await?;
        if self.declared.dry_run {
            return Ok(json!({ "dry_run": true, "tool": act.target, "args": act.args, "env": env, "effect": effect }));
        }
        self.check_the_check().await?;
        let target = act.target.clone();
        self.say(&target, env.as_deref(), "calling").await?;
        let result = self.call(act, effect, (env.as_deref(), None)).await?;
        let Some(verify) = &self.declared.verify else { return Ok(Value::clone(&result)) };
        match self.verify(verify, &result, env.as_deref()).await? {
            None => {
                self.say(&target, env.as_deref(), "verified").await?;
                Ok(Value::clone(&result))
            }
            Some(why) => Err(self.take_back(&target, &why, &result, env.as_deref()).await),
        }
    }

    /// The node's word on how often the act may be made stands above the installation's, but no graph can declare that a
    /// tool only reads.
    async fn effect(&self, target: &str) -> Result<EffectClass, TaskError> {
        match self.declared.effect {
            Some(effect) if effect != EffectClass::ReadOnly => Ok(effect),
            _ => self.tools.effect(target).await,
        }
    }

    /// A check that is missing or that changes something is found out before the act.
    async fn check_the_check(&self) -> Result<(), TaskError> {
        let Some(verify) = &self.declared.verify else { return Ok(()) };
        let scope = self.ctx.scope();
        // A check may be named by the act's result; then it can only be looked at afterwards.
        let Ok(named) = verify.tool.render(&scope) else { return Ok(()) };
        drop(scope);
        let target = named.as_str().filter(|name| !name.is_empty()).ok_or_else(|| self.unnamed("verify.tool"))?;
        self.only_reads(target).await
    }

    async fn only_reads(&self, target: &str) -> Result<(), TaskError> {
        if self.tools.effect(target).await? == EffectClass::ReadOnly {
            return Ok(());
        }
        Err(TaskError::invalid(format!(
            "`verify` of node `{}` calls `{target}`, which is not declared read-only: a check must not change anything",
            self.node.name
        )))
    }

    /// Runs the declared check: `None` if it holds, else why it does not.
    async fn verify(&self, verify: &Verify, result: &Value, env: Option<&str>) -> Result<Option<String>, TaskError> {
        let place = (("verify.tool", &verify.tool), ("verify.args", &verify.args));
        let check = match self.ready(place.0, place.1, Some(result)) {
            Ok(Some(check)) => check,
            Ok(None) => return Ok(Some("the check names no tool".to_owned())),
            Err(error) => return Ok(Some(format!("the check could not be written down: {error}"))),
        };
        let target = check.target.clone();
        self.only_reads(&target).await?;
        let found = match self.call(check, EffectClass::ReadOnly, (env, None)).await {
            Ok(found) => found,
            Err(error) if self.tried_again(error.class) => return Err(error),
            Err(error) => return Ok(Some(format!("`{target}` could not be asked: {error}"))),
        };
        let mut scope = self.ctx.scope();
        scope.extra.push(("result", Value::clone(&found)));
        Ok(match verify.expect.eval_bool(&scope) {
            Ok(true) => None,
            Ok(false) => {
                Some(format!("`{}` does not hold; `{target}` gave {}", verify.expect.source(), excerpt(&found)))
            }
            Err(error) => {
                Some(format!("`{}`: {}; `{target}` gave {}", verify.expect.source(), error.message, excerpt(&found)))
            }
        })
    }

    /// Whether the node's own retry policy gives a failed check another try.
    fn tried_again(&self, class: ErrorClass) -> bool {
        let names = |policy: &graphs::RetryPolicy| match policy.on.as_slice() {
            [] => class.retried_by_default(),
            on => on.iter().any(|word| word == class.word()),
        };
        let policy = self.node.retry.iter().find(|policy| names(policy));
        policy.is_some_and(|policy| self.ctx.attempts() + 1 < policy.attempts)
    }

    /// Undoes the act and says what became of it.
    async fn take_back(&self, target: &str, why: &str, result: &Value, env: Option<&str>) -> TaskError {
        let what = match self.undo(result, env).await {
            Ok(Some(undone)) => format!("it was undone by `{undone}`"),
            Ok(None) => "no undo is declared: the change stands".to_owned(),
            Err(error) => format!("the undo failed too, so the change stands: {error}"),
        };
        let text = format!("node `{}`: `{target}` was made and its check failed: {why}; {what}", self.node.name);
        TaskError::new(ErrorClass::VerifyFailed, text)
    }

    async fn undo(&self, result: &Value, env: Option<&str>) -> Result<Option<String>, TaskError> {
        let Some(undo) = &self.declared.undo else { return Ok(None) };
        let ready = self.ready(("undo.tool", &undo.tool), ("undo.args", &undo.args), Some(result))?;
        let Some(ready) = ready else { return Ok(None) };
        let target = ready.target.clone();
        let effect = self.tools.effect(&target).await?;
        self.say(&target, env, "undoing").await?;
        self.call(ready, effect, (env, Some(UNDO_ROLE))).await?;
        Ok(Some(target))
    }

    async fn call(
        &self,
        ready: Ready,
        effect: EffectClass,
        (env, role): (Option<&str>, Option<&str>),
    ) -> Result<Arc<Value>, TaskError> {
        let spec = CallSpec {
            env: env.map(Into::into),
            role: role.map(Into::into),
            tool: ToolFacts { computed_env: self.computes_env(), ..ToolFacts::default() },
            ..CallSpec::new(CallKind::Tool, &ready.target, ready.args, effect)
        };
        call_tool(self.ctx, self.tools, spec).await
    }

    async fn say(&self, target: &str, env: Option<&str>, phase: &str) -> Result<(), TaskError> {
        self.ctx.emit(json!({ "tool": target, "env": env, "phase": phase })).await
    }

    /// Renders a call; `None` when its tool is rendered to nothing.
    fn ready(
        &self,
        (tool_place, tool): (&str, &Template),
        (args_place, args): (&str, &Template),
        result: Option<&Value>,
    ) -> Result<Option<Ready>, TaskError> {
        let target = match self.render(tool_place, tool, result)? {
            Value::String(name) if !name.is_empty() => name,
            Value::Null | Value::String(_) => return Ok(None),
            other => return Err(self.misfit(tool_place, "the name of a tool", &other)),
        };
        let args = match self.render(args_place, args, result)? {
            Value::Null => Value::Object(Map::new()),
            Value::Object(fields) => fill(Value::Object(fields), result).map_err(|pointer| {
                TaskError::invalid(format!(
                    "`{args_place}` of node `{}`: the act's result has nothing at `{pointer}`",
                    self.node.name
                ))
            })?,
            other => return Err(self.misfit(args_place, "an object", &other)),
        };
        Ok(Some(Ready { target, args }))
    }

    fn computes_env(&self) -> bool {
        self.declared.env.as_ref().is_some_and(|env| env.as_const().is_none())
    }

    fn env(&self) -> Result<Option<String>, TaskError> {
        let Some(template) = &self.declared.env else { return Ok(None) };
        match self.render("env", template, None)? {
            Value::String(name) if !name.is_empty() => Ok(Some(name)),
            Value::Null | Value::String(_) => Ok(None),
            other => Err(self.misfit("env", "the name of an environment", &other)),
        }
    }

    fn render(&self, place: &str, template: &Template, result: Option<&Value>) -> Result<Value, TaskError> {
        let mut scope = self.ctx.scope();
        scope.extra.extend(result.map(|result| ("result", result.clone())));
        template.render(&scope).map_err(|error| {
            TaskError::invalid(format!(
                "`{place}` of node `{}`: `{}`: {}",
                self.node.name, error.expression, error.message
            ))
        })
    }

    fn unnamed(&self, place: &str) -> TaskError {
        TaskError::invalid(format!(
            "`{place}` of node `{}` is rendered to nothing: it must name a tool",
            self.node.name
        ))
    }

    fn misfit(&self, place: &str, wanted: &str, found: &Value) -> TaskError {
        TaskError::invalid(format!(
            "`{place}` of node `{}` must be {wanted}, and is {}",
            self.node.name,
            excerpt(found)
        ))
    }
}

/// Key of a placeholder for a part of the act's result.
pub const RESULT_PLACEHOLDER: &str = "$result";

/// Puts parts of the act's result where data says `{"$result": "/pointer"}`: a plan made before the act can name what only
/// the act will give, such as the id of what it made. The error is the pointer that leads nowhere.
///
/// # Errors
/// If the result has nothing there.
pub fn fill(value: Value, result: Option<&Value>) -> Result<Value, String> {
    match value {
        Value::Object(fields) => {
            if let (1, Some(Value::String(pointer))) = (fields.len(), fields.get(RESULT_PLACEHOLDER)) {
                return result.and_then(|result| result.pointer(pointer)).cloned().ok_or_else(|| pointer.clone());
            }
            let fields = fields.into_iter().map(|(key, field)| Ok((key, fill(field, result)?)));
            fields.collect::<Result<Map<_, _>, String>>().map(Value::Object)
        }
        Value::Array(items) => {
            items.into_iter().map(|item| fill(item, result)).collect::<Result<_, _>>().map(Value::Array)
        }
        other => Ok(other),
    }
}

fn excerpt(value: &Value) -> String {
    let text = value.to_string();
    let mut shown: String = text.chars().take(EXCERPT_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_at_any_depth_and_nowhere_else() {
        let undo =
            json!({ "id": { "$result": "/made/0/id" }, "list": [{ "$result": "/n" }], "kept": { "$result": 1 } });
        let result = json!({ "made": [{ "id": 7 }], "n": null });
        assert_eq!(fill(undo.clone(), Some(&result)), Ok(json!({ "id": 7, "list": [null], "kept": { "$result": 1 } })));
        assert_eq!(fill(undo.clone(), Some(&json!({}))), Err("/made/0/id".to_owned()));
        assert_eq!(fill(undo, None), Err("/made/0/id".to_owned()));
        // A result that looks like a placeholder stays data.
        let sly = json!({ "a": { "$result": "/b" }, "b": { "$result": "/secret" }, "secret": 1 });
        assert_eq!(fill(json!({ "$result": "/a" }), Some(&sly)), Ok(json!({ "$result": "/b" })));
    }
}
