//! One call by hand, on the path that graphs use: a thread of one node, so that guard, journal, approvals and audit are the
//! very same.

use std::sync::Arc;

use async_trait::async_trait;
use graphs::{CompiledGraph, OpenCatalog};
use runtime::{CallSpec, Context, NodeKind};
use runtime_core::error::TaskError;
use runtime_core::event::NodeOutput;
use runtime_core::record::CallKind;
use serde_json::Value;
use tools::node::call_tool;
use tools::toolbox::ToolBox;

use crate::failure::Failure;

/// Name of the function behind the graph's only node. No graph of a file can name it: running one refuses functions.
pub(crate) const CALL_AS: &str = "interlock_tools_call";

const GRAPH: &str = "
graph: interlock-tools-call
description: One call by hand, as `interlock tools call` makes it.
state: { tool: {}, args: {}, agent: {}, env: {}, returned: {} }
output: [returned]
nodes:
  call: { function: interlock_tools_call, output: returned, then: end }
start: call
";

/// The graph of one call.
pub(crate) fn graph() -> Result<CompiledGraph, Failure> {
    let checked = graphs::check("interlock-tools-call.yaml", GRAPH.as_bytes(), &OpenCatalog);
    checked.map(|(graph, _)| graph).map_err(|diagnostics| Failure::diagnostics(&diagnostics))
}

/// Makes the call that the thread's channels name.
pub(crate) struct CallAs(pub(crate) Arc<dyn ToolBox>);

#[async_trait]
impl NodeKind for CallAs {
    async fn run(&self, ctx: Context) -> Result<NodeOutput, TaskError> {
        let text = |channel: &str| ctx.get(channel).as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let target = text("tool").ok_or_else(|| TaskError::invalid("the thread names no tool to call"))?;
        let effect = self.0.effect(&target).await?;
        let spec = CallSpec {
            env: text("env").map(|env| env.as_str().into()),
            role: text("agent").map(|agent| agent.as_str().into()),
            ..CallSpec::new(CallKind::Tool, &target, ctx.get("args").clone(), effect)
        };
        let result = call_tool(&ctx, &self.0, spec).await?;
        Ok(NodeOutput { result: Some(Value::clone(&result)), ..NodeOutput::default() })
    }
}
