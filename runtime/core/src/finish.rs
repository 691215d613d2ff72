//! From a node's output to changes and a route: schema checks, reducers, routing.

use std::sync::Arc;

use graphs::{Channel, Merge, Node, Output, Routing, Target};
use serde_json::{Map, Value, json};

use crate::channels::{Change, ChangeOp, Channels, fold};
use crate::error::TaskError;
use crate::event::NodeOutput;
use crate::ids::Name;
use crate::plan::nearest;
use crate::record::Hop;
use crate::run::View;
use crate::scope::TaskScope;

/// Key of the JSON form of an overwrite: `{"$overwrite": value}`.
pub const OVERWRITE: &str = "$overwrite";

/// The change that a written value means for a channel, schema-checked.
pub(crate) fn resolve(view: &View, channels: &Channels, name: &str, value: Value) -> Result<Change, TaskError> {
    let Some((ix, channel)) = view.graph.channel(name) else {
        let names: Vec<&str> = view.graph.channels().iter().map(|channel| channel.name.as_str()).collect();
        let hint = nearest(name, &names);
        return Err(TaskError::invalid(format!("graph `{}` has no channel `{name}`{hint}", view.graph.name())));
    };
    let value = crate::deep::bounded(value, &format!("channel `{name}`"))?;
    let op = match overwrite_of(value) {
        Ok(value) => ChangeOp::Overwrite(Arc::new(value)),
        Err(value) => operation(channel, value)?,
    };
    check_schema(channel, channels, &op)?;
    Ok(Change { channel: view.channel_name(ix), op })
}

fn overwrite_of(value: Value) -> Result<Value, Value> {
    match value {
        Value::Object(mut map) if map.len() == 1 && map.contains_key(OVERWRITE) => {
            Ok(map.remove(OVERWRITE).unwrap_or_default())
        }
        other => Err(other),
    }
}

fn operation(channel: &Channel, value: Value) -> Result<ChangeOp, TaskError> {
    let list = |value: Value| match value {
        Value::Array(items) => items,
        single => vec![single],
    };
    let number = |value: Value| match value {
        Value::Number(number) => Ok(number),
        other => Err(TaskError::invalid(format!(
            "channel `{}` sums numbers; {} was written: write a number",
            channel.name,
            sort_of(&other)
        ))),
    };
    Ok(match &channel.merge {
        Merge::Replace | Merge::Last | Merge::Untracked => ChangeOp::Set(Arc::new(value)),
        Merge::Append => ChangeOp::Append(list(value)),
        Merge::Union { key } => ChangeOp::Union(key.as_str().into(), list(value)),
        Merge::Deep => ChangeOp::Deep(Arc::new(value)),
        Merge::Sum => ChangeOp::Add(number(value)?),
        Merge::Min => ChangeOp::Min(Arc::new(value)),
        Merge::Max => ChangeOp::Max(Arc::new(value)),
        Merge::Messages => ChangeOp::Messages(list(value)),
        Merge::Ephemeral => ChangeOp::Flash(Arc::new(value)),
    })
}

fn sort_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A schema describes the channel's value. List channels are checked by what is added, so that a step costs what it
/// writes, not what is there.
fn check_schema(channel: &Channel, channels: &Channels, op: &ChangeOp) -> Result<(), TaskError> {
    let Some(schema) = &channel.schema else { return Ok(()) };
    let merged = |op: &ChangeOp| {
        let mut value = channels.get(&*channel.name).map_or_else(Arc::default, |slot| Arc::clone(&slot.value));
        fold(&mut value, op);
        value
    };
    let checked = match op {
        ChangeOp::Set(v) | ChangeOp::Overwrite(v) | ChangeOp::Flash(v) | ChangeOp::Min(v) | ChangeOp::Max(v) => {
            schema.check(v)
        }
        ChangeOp::Append(items) | ChangeOp::Union(_, items) | ChangeOp::Messages(items) => {
            schema.check(&Value::Array(items.clone()))
        }
        ChangeOp::Add(_) | ChangeOp::Deep(_) => schema.check(&merged(op)),
    };
    checked.map_err(|error| {
        let at = if error.pointer.is_empty() { String::new() } else { format!(" at {}", error.pointer) };
        TaskError::invalid(format!("channel `{}`{at}: {}; the write was refused", channel.name, error.message))
    })
}

/// The writes of a task: the node's explicit ones, then its result through `output`.
pub(crate) fn writes(
    view: &View,
    node: &Node,
    scope: &TaskScope<'_>,
    output: NodeOutput,
) -> Result<(Vec<Change>, Map<String, Value>), TaskError> {
    let mut pairs: Vec<(Name, Value)> = output.writes;
    let result = output.result.unwrap_or_default();
    match &node.output {
        Output::None => {}
        Output::Channel(ix) => pairs.push((view.channel_name(*ix), result)),
        Output::Map(map) => {
            for (ix, expr) in map {
                let value = expr.eval(scope).map_err(|e| expression_error(node, "output", &e))?;
                pairs.push((view.channel_name(*ix), value));
            }
        }
    }
    let mut changes = Vec::with_capacity(pairs.len());
    let mut untracked = Map::new();
    for (name, value) in pairs {
        match memory_only(view, resolve(view, scope.channels, &name, value)?) {
            Ok(change) => changes.push(change),
            Err((name, value)) => drop(untracked.insert(name, value)),
        }
    }
    Ok((changes, untracked))
}

/// Splits off a write to a channel that lives in memory only: its name and value.
pub(crate) fn memory_only(view: &View, change: Change) -> Result<Change, (String, Value)> {
    match change.op {
        ChangeOp::Set(value) | ChangeOp::Overwrite(value) if is_untracked(view, &change.channel) => {
            Err((change.channel.to_string(), Arc::unwrap_or_clone(value)))
        }
        op => Ok(Change { channel: change.channel, op }),
    }
}

fn is_untracked(view: &View, name: &str) -> bool {
    untracked_in(&view.graph, name)
}

fn untracked_in(graph: &graphs::CompiledGraph, name: &str) -> bool {
    graph.channel(name).is_some_and(|(_, channel)| channel.merge == Merge::Untracked)
}

/// An object without the keys that name channels of memory: what is stored of an input or of a send.
pub(crate) fn storable(graph: &graphs::CompiledGraph, value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(map.into_iter().filter(|(name, _)| !untracked_in(graph, name)).collect()),
        other => other,
    }
}

/// A hop whose variables may be stored.
pub(crate) fn storable_hop(graph: &graphs::CompiledGraph, hop: Hop) -> Hop {
    match hop {
        Hop::Send(node, vars)
            if vars.as_object().is_some_and(|map| map.keys().any(|name| untracked_in(graph, name))) =>
        {
            Hop::Send(node, Arc::new(storable(graph, Arc::unwrap_or_clone(vars))))
        }
        other => other,
    }
}

/// Where declared routing leads from a node, seen with its own writes.
pub(crate) fn route(view: &View, routing: &Routing, scope: &TaskScope<'_>, of: &str) -> Result<Vec<Hop>, TaskError> {
    let hops = |to: &[Target]| -> Vec<Hop> {
        to.iter()
            .filter_map(|target| match target {
                Target::Node(ix) => Some(Hop::Node(view.node_name(*ix))),
                Target::End => None,
            })
            .collect()
    };
    match routing {
        Routing::Unset => Ok(Vec::new()),
        Routing::Goto(to) => Ok(hops(to)),
        Routing::Routes(routes) => {
            for route in routes {
                let holds = match &route.when {
                    None => true,
                    Some(when) => when.eval_bool(scope).map_err(|e| {
                        TaskError::invalid(format!("`then` of node `{of}`: `{}`: {}", when.source(), e.message))
                    })?,
                };
                if holds {
                    return Ok(hops(&route.to));
                }
            }
            Err(TaskError::invalid(format!("no route of `{of}` matched; add a last route without `when`")))
        }
    }
}

/// An expression's failure, with its place.
pub(crate) fn expression_error(node: &Node, place: &str, error: &graphs::ExprError) -> TaskError {
    TaskError::invalid(format!("`{place}` of node `{}`: `{}`: {}", node.name, error.expression, error.message))
}

/// Variables of an error handler.
pub(crate) fn handler_vars(node: &str, error: &TaskError, attempts: u32) -> Value {
    json!({"error": {"node": node, "message": error.message, "class": error.class, "attempts": attempts}})
}
