//! An answer of Chat Completions in pieces.

use std::collections::BTreeMap;

use serde_json::Value;

use super::decode::{call_part, stop_of, usage};
use crate::error::Fault;
use crate::provider::{Delta, Sink};
use crate::request::Part;
use crate::response::Usage;
use crate::sse::Event;
use crate::wire::{Answer, StreamReader, cut, json_of, reported, room_for, text_at};

/// Ends a stream.
const DONE: &str = "[DONE]";

#[derive(Default)]
pub(crate) struct Stream {
    text: String,
    refusal: String,
    calls: BTreeMap<usize, Call>,
    finish: Option<String>,
    usage: Option<Usage>,
    model: Option<String>,
    is_done: bool,
}

#[derive(Default)]
struct Call {
    id: Option<String>,
    name: String,
    arguments: String,
    is_told: bool,
}

impl Stream {
    fn grow(&mut self, choice: &Value, sink: &mut Sink<'_>) -> Result<(), Fault> {
        let delta = &choice["delta"];
        if let Some(more) = text_at(delta, "/content").filter(|more| !more.is_empty()) {
            self.text.push_str(more);
            sink(Delta::Text(more.to_owned()));
        }
        if let Some(more) = text_at(delta, "/refusal").filter(|more| !more.is_empty()) {
            self.refusal.push_str(more);
            sink(Delta::Text(more.to_owned()));
        }
        for call in delta["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default() {
            self.grow_call(call, sink)?;
        }
        if let Some(word) = text_at(choice, "/finish_reason") {
            self.finish = Some(word.to_owned());
        }
        Ok(())
    }

    fn grow_call(&mut self, piece: &Value, sink: &mut Sink<'_>) -> Result<(), Fault> {
        room_for(self.calls.len())?;
        let id = text_at(piece, "/id").filter(|id| !id.is_empty());
        let last = self.calls.last_key_value().map(|(index, _)| *index);
        let index = match piece["index"].as_u64() {
            Some(index) => usize::try_from(index).unwrap_or(usize::MAX),
            // Servers that count no calls send each of them whole, with its id.
            None if id.is_some() => last.map_or(0, |last| last.saturating_add(1)),
            None => last.unwrap_or(0),
        };
        let call = self.calls.entry(index).or_default();
        call.id = id.map(str::to_owned).or(call.id.take());
        call.name.push_str(text_at(piece, "/function/name").unwrap_or_default());
        if !call.is_told && !call.name.is_empty() {
            call.is_told = true;
            let id = call.id.clone().unwrap_or_else(|| format!("call_{index}"));
            sink(Delta::ToolCall { index, id, name: call.name.clone() });
        }
        let more = text_at(piece, "/function/arguments").unwrap_or_default();
        if !more.is_empty() {
            call.arguments.push_str(more);
            sink(Delta::Arguments { index, text: more.to_owned() });
        }
        Ok(())
    }
}

impl StreamReader for Stream {
    fn take(&mut self, event: &Event, sink: &mut Sink<'_>) -> Result<(), Fault> {
        if event.data.trim() == DONE {
            self.is_done = true;
            return Ok(());
        }
        let data = json_of(event)?;
        if data["error"].is_object() || event.name == "error" {
            return Err(reported(None, &data));
        }
        if self.model.is_none() {
            self.model = text_at(&data, "/model").filter(|model| !model.is_empty()).map(str::to_owned);
        }
        self.usage = usage(&data["usage"]).or(self.usage);
        match data.pointer("/choices/0") {
            Some(choice) => self.grow(choice, sink),
            None => Ok(()),
        }
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn end(self: Box<Self>) -> Result<Answer, Fault> {
        let refused = !self.refusal.is_empty();
        // A stream without its last word is whole when the reason of its end has come.
        let stop = stop_of(self.finish.as_deref(), refused, !self.calls.is_empty()).ok_or_else(cut)?;
        let texts = [self.text, self.refusal].into_iter().filter(|text| !text.is_empty());
        let mut parts: Vec<Part> = texts.map(Part::text).collect();
        for (index, call) in self.calls {
            if call.name.is_empty() {
                return Err(Fault::malformed("a tool call has no name"));
            }
            parts.push(call_part(call.id.as_deref(), index, &call.name, &Value::String(call.arguments)));
        }
        Ok(Answer { parts, stop, usage: self.usage, model: self.model })
    }
}
