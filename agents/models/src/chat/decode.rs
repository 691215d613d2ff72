//! An answer of Chat Completions.

use serde_json::Value;

use crate::error::Fault;
use crate::request::Part;
use crate::response::{StopReason, Usage};
use crate::wire::{Answer, count_at, reported, room_for, text_at};

/// A whole answer.
pub(crate) fn decode(body: &Value) -> Result<Answer, Fault> {
    if body["error"].is_object() {
        return Err(reported(None, body));
    }
    let choice = body.pointer("/choices/0").ok_or_else(|| Fault::malformed("the answer has no choice"))?;
    let message = choice.get("message").ok_or_else(|| Fault::malformed("the choice has no message"))?;
    let mut parts: Vec<Part> =
        text_at(message, "/content").filter(|text| !text.is_empty()).map(Part::text).into_iter().collect();
    let refusal = text_at(message, "/refusal").filter(|text| !text.is_empty());
    parts.extend(refusal.map(Part::text));
    let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    room_for(calls.len())?;
    for (at, call) in calls.iter().enumerate() {
        let name = text_at(call, "/function/name").ok_or_else(|| Fault::malformed("a tool call has no name"))?;
        parts.push(call_part(text_at(call, "/id"), at, name, &call["function"]["arguments"]));
    }
    let stop = stop_of(text_at(choice, "/finish_reason"), refusal.is_some(), !calls.is_empty())
        .ok_or_else(|| Fault::malformed("the choice has no finish_reason"))?;
    let model = text_at(body, "/model").map(str::to_owned);
    Ok(Answer { parts, stop, usage: usage(&body["usage"]), model })
}

/// Some servers name no call, and some send arguments as an object.
pub(super) fn call_part(id: Option<&str>, at: usize, name: &str, arguments: &Value) -> Part {
    let id = id.filter(|id| !id.is_empty()).map_or_else(|| format!("call_{at}"), str::to_owned);
    match arguments {
        Value::String(text) => Part::call(id, name.to_owned(), text),
        Value::Null => Part::call(id, name.to_owned(), ""),
        other => Part::ToolCall { id, name: name.to_owned(), arguments: other.clone(), malformed: false },
    }
}

/// Some servers say `stop` although they want a tool called.
pub(super) fn stop_of(word: Option<&str>, refused: bool, calls: bool) -> Option<StopReason> {
    Some(match word? {
        _ if refused => StopReason::Refusal,
        "content_filter" => StopReason::Refusal,
        "length" => StopReason::MaxTokens,
        "stop" | "tool_calls" | "function_call" if calls => StopReason::ToolUse,
        "stop" | "tool_calls" | "function_call" => StopReason::End,
        other => StopReason::Other(other.to_owned()),
    })
}

/// Cached tokens are counted among the prompt's.
pub(super) fn usage(value: &Value) -> Option<Usage> {
    value.get("prompt_tokens")?;
    let count = |pointer| count_at(value, pointer);
    let (read, write) =
        (count("/prompt_tokens_details/cached_tokens"), count("/prompt_tokens_details/cache_write_tokens"));
    Some(Usage::of_whole_prompt(count("/prompt_tokens"), count("/completion_tokens"), read, write))
}
