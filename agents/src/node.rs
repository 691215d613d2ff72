//! The `agent:` node kind: one role at work on one task.
//!
//! A model takes the place of a role's judgement, never of its reach: tools stay those the node names, calls stay in the
//! journal, acts stay with `tool` nodes.

use std::sync::Arc;

use async_trait::async_trait;
use graphs::Kind;
use runtime::{Context, NodeKind};
use runtime_core::error::TaskError;
use runtime_core::event::NodeOutput;
use serde_json::{Value, json};
use tools::toolbox::ToolBox;

use crate::desk::Desk;
use crate::kit::Kit;
use crate::notebook::Notebook;
use crate::notification::Notifier;
use crate::reach::Reach;
use crate::reasoning::{self, Mind};
use crate::recollection::Memory;
use crate::{diagnostic, monitor, notification, remediation};

/// The roles there are.
pub const ROLES: [&str; 5] = ["monitor", "diagnostic", "remediation", "notification", "assistant"];

/// Code of the `agent` node kind.
#[derive(Clone)]
pub struct AgentNode {
    tools: Arc<dyn ToolBox>,
    kit: Arc<Kit>,
    notifier: Arc<dyn Notifier>,
    mind: Option<Mind>,
    memory: Option<Memory>,
    notebook: Option<Notebook>,
}

impl AgentNode {
    /// Agents with these tools, this knowledge and this way to reach people.
    pub fn new(tools: Arc<dyn ToolBox>, kit: Arc<Kit>, notifier: Arc<dyn Notifier>) -> Self {
        Self { tools, kit, notifier, mind: None, memory: None, notebook: None }
    }

    /// The same with models for the nodes that name a tier.
    #[must_use]
    pub fn with_mind(mut self, mind: Option<Mind>) -> Self {
        self.mind = mind;
        self
    }

    /// The same with something to remember.
    #[must_use]
    pub fn with_memory(mut self, memory: Option<Memory>) -> Self {
        self.memory = memory;
        self
    }

    /// The same with facts that people and the runtime note.
    #[must_use]
    pub fn with_notebook(mut self, notebook: Option<Notebook>) -> Self {
        self.notebook = notebook;
        self
    }

    async fn work(&self, agent: &graphs::AgentNode, desk: &Desk<'_>) -> Result<Value, TaskError> {
        match agent.role.as_str() {
            "monitor" => monitor::watch(desk).await,
            "diagnostic" => diagnostic::diagnose(desk, agent).await,
            "remediation" => remediation::remediate(desk),
            "notification" => notification::notify(desk, &self.notifier).await,
            "assistant" => reasoning::assist(desk, agent).await,
            other => {
                Err(TaskError::invalid(format!("there is no agent role `{other}`; roles are {}", ROLES.join(", "))))
            }
        }
    }
}

#[async_trait]
impl NodeKind for AgentNode {
    async fn run(&self, ctx: Context) -> Result<NodeOutput, TaskError> {
        let node = ctx.node()?;
        let Kind::Agent(agent) = &node.kind else {
            return Err(TaskError::bug(format!("node `{}` is no agent node", node.name)));
        };
        let reach = Reach::new(&ctx, &self.tools, &agent.role, &agent.tools);
        let (mind, memory, notebook) = (self.mind.as_ref(), self.memory.as_ref(), self.notebook.as_ref());
        let desk = Desk { ctx: &ctx, kit: &self.kit, mind, memory, notebook, reach };
        ctx.emit(json!({ "agent": agent.role, "node": node.name, "phase": "working" })).await?;
        let result = self.work(agent, &desk).await?;
        Ok(NodeOutput { result: Some(result), ..NodeOutput::default() })
    }
}
