//! An answer of Responses in pieces: its last event holds the whole.

use std::collections::BTreeMap;

use serde_json::Value;

use super::decode::decode;
use crate::error::Fault;
use crate::provider::{Delta, Sink};
use crate::sse::Event;
use crate::wire::{Answer, Origin, StreamReader, cut, json_of, reported, room_for, text_at};

pub(crate) struct Stream {
    origin: Origin,
    /// Items as they were finished, for servers whose last event names none.
    items: BTreeMap<u64, Value>,
    last: Option<Value>,
}

impl Stream {
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, items: BTreeMap::new(), last: None }
    }
}

fn index_of(data: &Value) -> usize {
    data["output_index"].as_u64().and_then(|index| usize::try_from(index).ok()).unwrap_or(0)
}

impl StreamReader for Stream {
    fn take(&mut self, event: &Event, sink: &mut Sink<'_>) -> Result<(), Fault> {
        if event.data.trim() == "[DONE]" {
            return Ok(());
        }
        let data = json_of(event)?;
        match text_at(&data, "/type").unwrap_or(&event.name) {
            "response.output_text.delta" | "response.refusal.delta" => {
                let text = text_at(&data, "/delta").ok_or_else(|| Fault::malformed("a piece of text has no text"))?;
                sink(Delta::Text(text.to_owned()));
            }
            "response.output_item.added" if text_at(&data, "/item/type") == Some("function_call") => {
                let text = |pointer| text_at(&data, pointer).unwrap_or_default().to_owned();
                sink(Delta::ToolCall { index: index_of(&data), id: text("/item/call_id"), name: text("/item/name") });
            }
            "response.function_call_arguments.delta" => {
                let text = text_at(&data, "/delta").unwrap_or_default().to_owned();
                sink(Delta::Arguments { index: index_of(&data), text });
            }
            "response.output_item.done" => {
                room_for(self.items.len())?;
                self.items.insert(data["output_index"].as_u64().unwrap_or(0), data["item"].clone());
            }
            "response.completed" | "response.incomplete" => self.last = Some(data["response"].clone()),
            "response.failed" => return Err(reported(None, &data["response"])),
            "error" => return Err(reported(None, &data)),
            _ => {}
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.last.is_some()
    }

    fn end(self: Box<Self>) -> Result<Answer, Fault> {
        let mut whole = self.last.ok_or_else(cut)?;
        if whole["output"].as_array().is_none_or(Vec::is_empty) && whole.is_object() {
            whole["output"] = self.items.into_values().collect();
        }
        decode(&self.origin, &whole)
    }
}
