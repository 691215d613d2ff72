//! The bound on nesting, held where values come in: what is stored must be readable, and a stack is small.
//!
//! Records nest a value in a few dozen levels of their own; JSON readers stop at 128 levels and stores at 256.

use std::sync::Arc;

use serde_json::Value;

use crate::error::{ErrorClass, TaskError};
use crate::event::{Command, NodeOutput};
use crate::record::{CallOutcome, Hop};

/// Deepest nesting of lists and objects in a value.
pub const DEPTH_MAX: usize = 100;

/// Whether a value is nested at most [`DEPTH_MAX`] deep. Looks no deeper than that.
pub fn is_bounded(value: &Value) -> bool {
    fits(value, DEPTH_MAX)
}

/// The value, or the error that names the place it was meant for. A value that is too deep is taken apart here: dropping
/// it would go as deep as it is.
///
/// # Errors
/// The value is nested deeper than [`DEPTH_MAX`].
pub fn bounded(value: Value, place: &str) -> Result<Value, TaskError> {
    if is_bounded(&value) {
        return Ok(value);
    }
    dismantle(value);
    Err(too_deep(place))
}

fn fits(value: &Value, left: usize) -> bool {
    match value {
        Value::Array(items) => left > 0 && items.iter().all(|item| fits(item, left - 1)),
        Value::Object(fields) => left > 0 && fields.values().all(|field| fits(field, left - 1)),
        _ => true,
    }
}

fn too_deep(place: &str) -> TaskError {
    let text = format!(
        "{place}: the value is nested deeper than {DEPTH_MAX} levels; flatten it, or keep it as text or as an artifact"
    );
    TaskError::new(ErrorClass::Invalid, text)
}

/// Drops a value without recursion.
fn dismantle(value: Value) {
    let mut parts = vec![value];
    while let Some(part) = parts.pop() {
        match part {
            Value::Array(items) => parts.extend(items),
            Value::Object(fields) => parts.extend(fields.into_iter().map(|(_, field)| field)),
            _ => {}
        }
    }
}

/// The outcome of a call, or in its place the error that its result is too deep.
pub(crate) fn bounded_outcome(outcome: CallOutcome, target: &str) -> CallOutcome {
    match outcome {
        CallOutcome::Ok(value) if !is_bounded(&value) => {
            if let Ok(value) = Arc::try_unwrap(value) {
                dismantle(value);
            }
            CallOutcome::Err(too_deep(&format!("result of `{target}`")))
        }
        outcome => outcome,
    }
}

/// Refuses a node's output of which a part is too deep.
pub(crate) fn bounded_output(output: NodeOutput, node: &str) -> Result<NodeOutput, TaskError> {
    let hops = || output.goto.iter().flat_map(|goto| &goto.to);
    let sent = |hop: &Hop| matches!(hop, Hop::Send(_, vars) if !is_bounded(vars));
    let write = output.writes.iter().find(|(_, value)| !is_bounded(value));
    let place = if let Some((channel, _)) = write {
        format!("node `{node}` writes channel `{channel}`")
    } else if output.result.as_ref().is_some_and(|value| !is_bounded(value)) {
        format!("result of node `{node}`")
    } else if hops().any(sent) {
        format!("node `{node}` sends variables")
    } else {
        return Ok(output);
    };
    output.writes.into_iter().map(|(_, value)| value).chain(output.result).for_each(dismantle);
    for hop in output.goto.into_iter().flat_map(|goto| goto.to) {
        if let Hop::Send(_, vars) = hop
            && let Ok(vars) = Arc::try_unwrap(vars)
        {
            dismantle(vars);
        }
    }
    Err(too_deep(&place))
}

/// Refuses a command of which a value is too deep; nothing of it is looked at before.
pub(crate) fn bounded_command(command: Command) -> Result<Command, TaskError> {
    Ok(match command {
        Command::Start { run, graph, input, options, metadata } => {
            let (input, metadata) = both((input, "input"), (metadata, "metadata"))?;
            Command::Start { run, graph, input, options, metadata }
        }
        Command::Continue { run, options, mut steer } => {
            steer.update = bounded(steer.update, "update")?;
            Command::Continue { run, options, steer }
        }
        Command::Answer { run, answers, update } => {
            let update = bounded(update, "update");
            let answers = each(answers, |answer| (&mut answer.value, format!("answer to interrupt {}", answer.id)));
            Command::Answer { run, answers: answers?, update: update? }
        }
        Command::Signal { run, name, payload } => {
            let payload = bounded(payload, &format!("payload of signal `{name}`"))?;
            Command::Signal { run, name, payload }
        }
        Command::Update { ns, supersteps, at } => {
            let edits = supersteps.into_iter().map(|edits| {
                each(edits, |edit| {
                    let node = edit.as_node.as_deref().unwrap_or("nobody");
                    let place = format!("update as {node}");
                    (&mut edit.values, place)
                })
            });
            // All of them are taken apart before the first error is told.
            let edits: Vec<Result<_, _>> = edits.collect();
            Command::Update { ns, supersteps: edits.into_iter().collect::<Result<_, _>>()?, at }
        }
        Command::Tag { metadata } => Command::Tag { metadata: bounded(metadata, "metadata")? },
        Command::Note { actor, action, detail } => Command::Note { actor, action, detail: bounded(detail, "note")? },
        Command::Wake { .. }
        | Command::Replay { .. }
        | Command::Cancel { .. }
        | Command::Drain
        | Command::Migrate { .. } => command,
    })
}

fn both(first: (Value, &str), second: (Value, &str)) -> Result<(Value, Value), TaskError> {
    let (first, second) = (bounded(first.0, first.1), bounded(second.0, second.1));
    Ok((first?, second?))
}

fn each<T>(items: Vec<T>, mut part: impl FnMut(&mut T) -> (&mut Value, String)) -> Result<Vec<T>, TaskError> {
    let mut wrong = None;
    let mut kept = Vec::with_capacity(items.len());
    for mut item in items {
        let (value, place) = part(&mut item);
        match bounded(std::mem::take(value), &place) {
            Ok(bounded) => *value = bounded,
            Err(error) => wrong = wrong.or(Some(error)),
        }
        kept.push(item);
    }
    wrong.map_or(Ok(kept), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Map;

    fn nested(levels: usize) -> Value {
        (0..levels).fold(Value::Null, |inside, level| match level % 2 {
            0 => Value::Array(vec![inside]),
            _ => Value::Object(Map::from_iter([("a".to_owned(), inside)])),
        })
    }

    #[test]
    fn the_bound_is_exact_and_names_the_place() {
        assert!(bounded(nested(DEPTH_MAX), "input").is_ok());
        for levels in [DEPTH_MAX + 1, 257, 100_000] {
            let error = bounded(nested(levels), "channel `x`").unwrap_err();
            assert!(error.message.starts_with("channel `x`: the value is nested deeper than 100 levels"), "{error}");
        }
    }

    #[test]
    fn a_deep_part_of_an_output_is_refused_by_its_name() {
        let output = |levels| NodeOutput { writes: vec![("log".into(), nested(levels))], ..NodeOutput::default() };
        assert!(bounded_output(output(DEPTH_MAX), "a").is_ok());
        let error = bounded_output(output(100_000), "a").unwrap_err();
        assert!(error.message.starts_with("node `a` writes channel `log`"), "{error}");
        let CallOutcome::Err(error) = bounded_outcome(CallOutcome::Ok(Arc::new(nested(100_000))), "s.t") else {
            panic!("it was taken")
        };
        assert!(error.message.starts_with("result of `s.t`"), "{error}");
    }
}
