//! An answer of Responses.

use serde_json::Value;

use crate::error::Fault;
use crate::request::Part;
use crate::response::{StopReason, Usage};
use crate::wire::{Answer, Origin, count_at, reported, room_for, text_at};

/// A whole answer.
pub(crate) fn decode(origin: &Origin, body: &Value) -> Result<Answer, Fault> {
    if text_at(body, "/status") == Some("failed") || body["error"].is_object() {
        return Err(reported(None, body));
    }
    let items = body["output"].as_array().ok_or_else(|| Fault::malformed("the answer has no output"))?;
    room_for(items.len())?;
    let (mut parts, mut refused) = (Vec::new(), false);
    for item in items {
        match text_at(item, "/type") {
            Some("message") => refused |= add_message(item, &mut parts)?,
            Some("function_call") => {
                let (Some(id), Some(name)) = (text_at(item, "/call_id"), text_at(item, "/name")) else {
                    return Err(Fault::malformed("a tool call has no call_id or no name"));
                };
                parts.push(Part::call(id.to_owned(), name.to_owned(), text_at(item, "/arguments").unwrap_or_default()));
            }
            // Thoughts, and whatever comes up beside them, go back as they came.
            Some(_) => parts.push(origin.thought(item.clone())),
            None => return Err(Fault::malformed("an item of the output has no type")),
        }
    }
    let calls = parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
    let stop = stop_of(body, refused, calls)?;
    let model = text_at(body, "/model").map(str::to_owned);
    Ok(Answer { parts, stop, usage: usage(&body["usage"]), model })
}

/// Adds the texts of a message; whether it is a refusal.
fn add_message(item: &Value, parts: &mut Vec<Part>) -> Result<bool, Fault> {
    let mut refused = false;
    for piece in item["content"].as_array().map(Vec::as_slice).unwrap_or_default() {
        room_for(parts.len())?;
        if let Some(text) = text_at(piece, "/text") {
            parts.push(Part::text(text));
        }
        if let Some(text) = text_at(piece, "/refusal") {
            refused = true;
            parts.push(Part::text(text));
        }
    }
    Ok(refused)
}

fn stop_of(body: &Value, refused: bool, calls: bool) -> Result<StopReason, Fault> {
    let status = text_at(body, "/status").ok_or_else(|| Fault::malformed("the answer has no status"))?;
    let reason = text_at(body, "/incomplete_details/reason");
    Ok(match (status, reason) {
        _ if refused => StopReason::Refusal,
        ("incomplete", Some("max_output_tokens")) => StopReason::MaxTokens,
        ("incomplete", Some("content_filter")) => StopReason::Refusal,
        ("incomplete", reason) => StopReason::Other(reason.unwrap_or("incomplete").to_owned()),
        ("completed", _) if calls => StopReason::ToolUse,
        ("completed", _) => StopReason::End,
        (other, _) => StopReason::Other(other.to_owned()),
    })
}

/// Cached tokens are counted among the input.
fn usage(value: &Value) -> Option<Usage> {
    value.get("input_tokens")?;
    let count = |pointer| count_at(value, pointer);
    let (read, write) =
        (count("/input_tokens_details/cached_tokens"), count("/input_tokens_details/cache_write_tokens"));
    Some(Usage::of_whole_prompt(count("/input_tokens"), count("/output_tokens"), read, write))
}
