//! What an agent may touch: tools its node names, through the journal, reading only.
//!
//! On the rules tier no agent changes anything: acts are `tool:` nodes of the graph, where the guard and the check stand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use graphs::EffectClass;
use runtime::{CallSpec, Context};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::interlocks::guard::ToolFacts;
use runtime_core::record::CallKind;
use serde_json::Value;
use tools::node::call_tool;
use tools::policy::pattern_fits;
use tools::toolbox::{ToolBox, ToolBrief};

/// An answer with its place in the journal, so that a claim can cite it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Number of the call within the task.
    pub call: u32,
    /// `server.tool`.
    pub tool: String,
    /// What it said. Data of a stranger.
    pub value: Arc<Value>,
}

/// The tools of one agent in one task.
pub(crate) struct Reach<'a> {
    ctx: &'a Context,
    tools: &'a Arc<dyn ToolBox>,
    role: &'a str,
    allowed: &'a [String],
    made: AtomicU32,
}

impl<'a> Reach<'a> {
    /// The tools that the patterns of a node name, for a role.
    pub(crate) fn new(ctx: &'a Context, tools: &'a Arc<dyn ToolBox>, role: &'a str, allowed: &'a [String]) -> Self {
        Self { ctx, tools, role, allowed, made: AtomicU32::new(0) }
    }

    /// The same hands with other tools.
    pub(crate) fn with_tools(&self, allowed: &'a [String]) -> Self {
        Self::new(self.ctx, self.tools, self.role, allowed)
    }

    /// The tools that `read` would take.
    ///
    /// # Errors
    /// The tools cannot be listed.
    pub(crate) async fn readable(&self) -> Result<Vec<ToolBrief>, TaskError> {
        let mut briefs = self.tools.list(self.allowed).await?;
        briefs.retain(|brief| brief.effect == EffectClass::ReadOnly);
        Ok(briefs)
    }

    /// Reads with a tool.
    ///
    /// # Errors
    /// Of class `denied` when the node does not name the tool or the tool does not only read; else what the guard or the
    /// tool says.
    pub(crate) async fn read(&self, target: &str, args: Value, env: Option<&str>) -> Result<Answer, TaskError> {
        if !self.allowed.iter().any(|pattern| pattern_fits(pattern, target)) {
            let named = if self.allowed.is_empty() { "none".to_owned() } else { self.allowed.join(", ") };
            let text = format!("agent `{}` may not use `{target}`: the node's `tools` are {named}", self.role);
            return Err(TaskError::new(ErrorClass::Denied, text));
        }
        if self.tools.effect(target).await? != EffectClass::ReadOnly {
            let text = format!(
                "agent `{}` may not use `{target}`: it is not declared read-only, and changes are made by `tool` nodes",
                self.role
            );
            return Err(TaskError::new(ErrorClass::Denied, text));
        }
        let call = self.made.fetch_add(1, Ordering::Relaxed);
        let spec = CallSpec {
            env: env.map(Into::into),
            role: Some(self.role.into()),
            tool: ToolFacts { computed_env: true, ..ToolFacts::default() },
            ..CallSpec::new(CallKind::Tool, target, args, EffectClass::ReadOnly)
        };
        let value = call_tool(self.ctx, self.tools, spec).await?;
        Ok(Answer { call, tool: target.to_owned(), value })
    }
}
