//! An answer of Messages.

use serde_json::Value;

use crate::error::Fault;
use crate::request::Part;
use crate::response::{StopReason, Usage};
use crate::wire::{Answer, Origin, reported, room_for, text_at};

/// A whole answer.
pub(crate) fn decode(origin: &Origin, body: &Value) -> Result<Answer, Fault> {
    if text_at(body, "/type") == Some("error") {
        return Err(reported(None, body));
    }
    let blocks = body["content"].as_array().ok_or_else(|| Fault::malformed("the answer has no content"))?;
    room_for(blocks.len())?;
    let parts = blocks.iter().map(|block| part(origin, block)).collect::<Result<_, _>>()?;
    let stop = text_at(body, "/stop_reason").ok_or_else(|| Fault::malformed("the answer has no stop_reason"))?;
    let model = text_at(body, "/model").map(str::to_owned);
    Ok(Answer { parts, stop: stop_of(stop), usage: usage(&body["usage"]), model })
}

fn part(origin: &Origin, block: &Value) -> Result<Part, Fault> {
    match text_at(block, "/type") {
        Some("text") => {
            text_at(block, "/text").map(Part::text).ok_or_else(|| Fault::malformed("a text block has no text"))
        }
        Some("tool_use") => {
            let (Some(id), Some(name)) = (text_at(block, "/id"), text_at(block, "/name")) else {
                return Err(Fault::malformed("a tool call has no id or no name"));
            };
            let arguments = block["input"].clone();
            Ok(Part::ToolCall { id: id.to_owned(), name: name.to_owned(), arguments, malformed: false })
        }
        // Thoughts, and whatever comes up beside them, go back as they came.
        Some(_) => Ok(origin.thought(block.clone())),
        None => Err(Fault::malformed("a block has no type")),
    }
}

pub(super) fn stop_of(word: &str) -> StopReason {
    match word {
        "end_turn" => StopReason::End,
        "max_tokens" => StopReason::MaxTokens,
        "stop_sequence" => StopReason::StopSequence,
        "tool_use" => StopReason::ToolUse,
        "refusal" => StopReason::Refusal,
        "model_context_window_exceeded" => StopReason::ContextFull,
        "pause_turn" => StopReason::Paused,
        other => StopReason::Other(other.to_owned()),
    }
}

fn usage(value: &Value) -> Option<Usage> {
    let mut usage = None;
    add_usage(&mut usage, value);
    usage
}

/// A stream reports twice, and the later counts replace the earlier ones.
pub(super) fn add_usage(usage: &mut Option<Usage>, value: &Value) {
    let Some(fields) = value.as_object().filter(|fields| !fields.is_empty()) else { return };
    let usage = usage.get_or_insert_default();
    for (name, slot) in [
        ("input_tokens", &mut usage.input),
        ("output_tokens", &mut usage.output),
        ("cache_read_input_tokens", &mut usage.cache_read),
        ("cache_creation_input_tokens", &mut usage.cache_write),
    ] {
        if let Some(count) = fields.get(name).and_then(Value::as_u64) {
            *slot = count;
        }
    }
}
