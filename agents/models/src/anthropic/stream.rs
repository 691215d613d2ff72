//! An answer of Messages in pieces.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::decode::{add_usage, stop_of};
use crate::error::Fault;
use crate::provider::{Delta, Sink};
use crate::request::Part;
use crate::response::{StopReason, Usage};
use crate::sse::Event;
use crate::wire::{Answer, Origin, StreamReader, cut, json_of, reported, room_for, text_at};

pub(crate) struct Stream {
    origin: Origin,
    blocks: BTreeMap<u64, Block>,
    stop: Option<StopReason>,
    usage: Option<Usage>,
    model: Option<String>,
    is_done: bool,
}

enum Block {
    Text(String),
    Call { id: String, name: String, input: Value, json: String },
    Thought(Value),
}

impl Stream {
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, blocks: BTreeMap::new(), stop: None, usage: None, model: None, is_done: false }
    }

    fn start_block(&mut self, data: &Value, sink: &mut Sink<'_>) -> Result<(), Fault> {
        room_for(self.blocks.len())?;
        let index = index_of(data)?;
        let start = &data["content_block"];
        let text = |name: &str| text_at(start, name).unwrap_or_default().to_owned();
        let block = match text_at(start, "/type") {
            Some("text") => Block::Text(text("/text")),
            Some("tool_use") => {
                let (id, name) = (text("/id"), text("/name"));
                if id.is_empty() || name.is_empty() {
                    return Err(Fault::malformed("a tool call has no id or no name"));
                }
                sink(Delta::ToolCall { index: place(index), id: id.clone(), name: name.clone() });
                Block::Call { id, name, input: start["input"].clone(), json: String::new() }
            }
            Some(_) => Block::Thought(start.clone()),
            None => return Err(Fault::malformed("a block has no type")),
        };
        if self.blocks.insert(index, block).is_some() {
            return Err(Fault::malformed("a block starts twice"));
        }
        Ok(())
    }

    fn grow_block(&mut self, data: &Value, sink: &mut Sink<'_>) -> Result<(), Fault> {
        let index = index_of(data)?;
        let delta = &data["delta"];
        let block =
            self.blocks.get_mut(&index).ok_or_else(|| Fault::malformed("more of a block that never started"))?;
        match (block, text_at(delta, "/type")) {
            (Block::Text(text), Some("text_delta")) => {
                let more = text_at(delta, "/text").unwrap_or_default();
                text.push_str(more);
                sink(Delta::Text(more.to_owned()));
            }
            (Block::Call { json, .. }, Some("input_json_delta")) => {
                let more = text_at(delta, "/partial_json").unwrap_or_default();
                json.push_str(more);
                sink(Delta::Arguments { index: place(index), text: more.to_owned() });
            }
            (Block::Thought(thought), Some("thinking_delta")) => append(thought, "thinking", delta),
            (Block::Thought(thought), Some("signature_delta")) => append(thought, "signature", delta),
            // Citations and what comes up beside them are no part of the answer's text.
            _ => {}
        }
        Ok(())
    }
}

fn append(thought: &mut Value, field: &str, delta: &Value) {
    let so_far = thought[field].as_str().unwrap_or_default();
    thought[field] = json!(format!("{so_far}{}", delta[field].as_str().unwrap_or_default()));
}

fn index_of(data: &Value) -> Result<u64, Fault> {
    data["index"].as_u64().ok_or_else(|| Fault::malformed("an event of a block has no index"))
}

fn place(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

impl StreamReader for Stream {
    fn take(&mut self, event: &Event, sink: &mut Sink<'_>) -> Result<(), Fault> {
        let data = json_of(event)?;
        match text_at(&data, "/type").unwrap_or(&event.name) {
            "message_start" => {
                self.model = text_at(&data, "/message/model").map(str::to_owned);
                add_usage(&mut self.usage, &data["message"]["usage"]);
            }
            "content_block_start" => self.start_block(&data, sink)?,
            "content_block_delta" => self.grow_block(&data, sink)?,
            "message_delta" => {
                self.stop = text_at(&data, "/delta/stop_reason").map(stop_of).or(self.stop.take());
                add_usage(&mut self.usage, &data["usage"]);
            }
            "message_stop" => self.is_done = true,
            "error" => return Err(reported(None, &data)),
            // Pings, ends of blocks, and events that are new: the interface promises to add some.
            _ => {}
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn end(self: Box<Self>) -> Result<Answer, Fault> {
        let (true, Some(stop)) = (self.is_done, self.stop) else { return Err(cut()) };
        let parts = self.blocks.into_values().map(|block| match block {
            Block::Text(text) => Part::Text { text },
            Block::Call { id, name, input, json } if json.is_empty() => {
                Part::ToolCall { id, name, arguments: input, malformed: false }
            }
            Block::Call { id, name, json, .. } => Part::call(id, name, &json),
            Block::Thought(data) => self.origin.thought(data),
        });
        Ok(Answer { parts: parts.collect(), stop, usage: self.usage, model: self.model })
    }
}
