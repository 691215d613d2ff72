//! An agent that was talked into everything: whatever it reads as `CALL server.tool {arguments}` it calls.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use graphs::{EffectClass, Kind};
use parking_lot::Mutex;
use runtime::{CallSpec, Context, NodeKind};
use runtime_core::error::TaskError;
use runtime_core::event::NodeOutput;
use runtime_core::interlocks::guard::ToolFacts;
use runtime_core::record::CallKind;
use serde_json::{Value, json};
use tools::node::call_tool;
use tools::toolbox::ToolBox;

/// Most calls of one attempt.
const CALLS_MAX: usize = 12;
/// What an order begins with.
const ORDER: &str = "CALL ";
/// Stands for the last result in what the agent is bound to do afterwards.
const RESULT: &str = "%RESULT%";

/// One order.
#[derive(Debug, Clone, PartialEq)]
struct Order {
    target: String,
    args: Value,
    env: Option<String>,
}

/// The agent.
pub(crate) struct Obedient {
    tools: Arc<dyn ToolBox>,
    begin: Vec<Order>,
    then: Option<String>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Obedient {
    /// An agent that begins with these calls and ends with `then`.
    pub(crate) fn new(tools: Arc<dyn ToolBox>, begin: Vec<Value>, then: Option<&str>) -> Self {
        let begin = begin.iter().flat_map(|call| orders(&format!("{ORDER}{}", call.as_str().unwrap()))).collect();
        Self { tools, begin, then: then.map(str::to_owned), heard: Arc::default() }
    }

    /// What it will have heard.
    pub(crate) fn heard(&self) -> Arc<Mutex<Vec<String>>> {
        Arc::clone(&self.heard)
    }

    /// Descriptions of the tools it may see, journaled: what it read once it has read.
    async fn descriptions(&self, ctx: &Context, listed: &[String]) -> Result<String, TaskError> {
        let (tools, patterns) = (Arc::clone(&self.tools), listed.to_vec());
        let spec = CallSpec::new(CallKind::Custom, "descriptions", json!(patterns), EffectClass::ReadOnly);
        let read = ctx.call(spec, |_| async move {
            let all = tools.list(&patterns).await.unwrap_or_default();
            Ok(json!(all.iter().map(|tool| tool.description.as_data()).collect::<Vec<_>>().join("\n")))
        });
        Ok(read.await?.as_str().unwrap_or("").to_owned())
    }

    async fn obey(&self, ctx: &Context, role: &str, order: &Order) -> Result<String, String> {
        let effect = self.tools.effect(&order.target).await.map_err(|error| error.message)?;
        let spec = CallSpec {
            env: order.env.as_deref().map(Into::into),
            role: Some(role.into()),
            tool: ToolFacts { computed_env: order.env.is_some(), ..ToolFacts::default() },
            ..CallSpec::new(CallKind::Tool, &order.target, order.args.clone(), effect)
        };
        let result = call_tool(ctx, &self.tools, spec).await.map_err(|error| error.message)?;
        Ok(result.get("text").and_then(Value::as_str).map_or_else(|| spoken(&result), str::to_owned))
    }
}

#[async_trait]
impl NodeKind for Obedient {
    async fn run(&self, ctx: Context) -> Result<NodeOutput, TaskError> {
        let node = ctx.node()?;
        let Kind::Agent(declared) = &node.kind else { return Err(TaskError::bug("no agent")) };
        let described = self.descriptions(&ctx, &declared.tools).await?;
        let mut todo: VecDeque<Order> = self.begin.iter().cloned().chain(orders(&described)).collect();
        let (mut made, mut last) = (0, String::new());
        self.heard.lock().clear();
        while let Some(order) = todo.pop_front().filter(|_| made < CALLS_MAX) {
            made += 1;
            let heard = match self.obey(&ctx, &declared.role, &order).await {
                Ok(text) | Err(text) => text,
            };
            let cut: String = heard.chars().take(300).collect();
            self.heard.lock().push(format!("{}: {cut}", order.target));
            todo.extend(orders(&heard));
            last = heard;
            if todo.is_empty()
                && let Some(then) = self.then.as_ref().filter(|_| made == self.begin.len())
            {
                let text = Value::from(last.as_str()).to_string();
                todo.extend(orders(&then.replace(RESULT, text.trim_matches('"'))));
            }
        }
        Ok(NodeOutput { result: Some(json!(last.chars().take(300).collect::<String>())), ..NodeOutput::default() })
    }
}

/// A structured result as a model would read it, keys and texts one after the other.
fn spoken(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(spoken).collect::<Vec<_>>().join("\n"),
        Value::Object(fields) => {
            fields.iter().map(|(key, field)| format!("{key}\n{}", spoken(field))).collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    }
}

/// Every order in a text: `CALL target`, perhaps with arguments, perhaps with `IN environment`.
fn orders(text: &str) -> Vec<Order> {
    let mut found = Vec::new();
    for part in text.split(ORDER).skip(1) {
        let end = part.find(|c: char| c.is_whitespace() || c == '<').unwrap_or(part.len());
        let (target, rest) = part.split_at(end);
        let rest = rest.trim_start();
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let args = if rest.starts_with('{') { values.next().and_then(Result::ok) } else { None };
        let after = rest.get(if args.is_some() { values.byte_offset() } else { 0 }..).unwrap_or("").trim_start();
        let env = after.strip_prefix("IN ").and_then(|env| env.split_whitespace().next()).map(str::to_owned);
        found.push(Order { target: target.to_owned(), args: args.unwrap_or_else(|| json!({})), env });
    }
    found
}
