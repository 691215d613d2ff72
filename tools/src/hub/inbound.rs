//! What a message from a server means, whatever transport it came over.
//!
//! The library decodes results into an untagged union in which one malformed tool, or a valid result of an unlucky shape,
//! is lost. Results of watched requests therefore pass through as raw JSON; `inventory` and `outcome` read them. Progress
//! and log lines end here: they go to whoever waits and to the log, not through the library's queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;
use rmcp::model::{CustomResult, ErrorData, ProgressNotificationParam, RequestId, ServerJsonRpcMessage, ServerResult};
use serde_json::{Map, Value};

use super::flood::FloodGate;
use super::front::{LogLine, Progress};
use super::limits::{
    GARBAGE_LINES_MAX, NOTIFICATION_BURST_MAX, NOTIFICATIONS_PER_SECOND, ODDITY_BYTES_MAX, QUOTE_BYTES_MAX,
};
use super::wire::{Fault, WireState};

/// The reading side of one connection.
pub(super) struct Inbound {
    state: Arc<WireState>,
    gate: Mutex<FloodGate>,
}

impl Inbound {
    pub(super) fn new(state: Arc<WireState>) -> Self {
        let gate = FloodGate::new(NOTIFICATION_BURST_MAX, NOTIFICATIONS_PER_SECOND, Instant::now());
        Self { state, gate: Mutex::new(gate) }
    }

    pub(super) fn line(&self, line: &[u8]) -> Option<ServerJsonRpcMessage> {
        let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line).trim_ascii();
        if line.is_empty() {
            return None;
        }
        let Ok(Value::Object(message)) = serde_json::from_slice(line) else {
            return self.garbage(&String::from_utf8_lossy(line));
        };
        self.message(message, None)
    }

    /// One decoded message, from the stream of the request `about` where each has its own.
    pub(super) fn message(
        &self,
        message: Map<String, Value>,
        about: Option<&RequestId>,
    ) -> Option<ServerJsonRpcMessage> {
        match (message.get("method").and_then(Value::as_str), message.contains_key("id")) {
            (None, true) => self.response(message),
            (None, false) => self.garbage("a message with neither a method nor an id"),
            (Some(_), _) if !self.gate.lock().admit(Instant::now()) => {
                self.state.fail(Fault::Flood);
                None
            }
            (Some(_), true) => self.typed(Value::Object(message)),
            (Some(method), false) => {
                let method = method.to_owned();
                self.notification(&method, message, about)
            }
        }
    }

    fn notification(
        &self,
        method: &str,
        mut message: Map<String, Value>,
        about: Option<&RequestId>,
    ) -> Option<ServerJsonRpcMessage> {
        let params = message.get_mut("params").map(Value::take).unwrap_or_default();
        match method {
            "notifications/progress" => {
                if let Ok(step) = serde_json::from_value::<ProgressNotificationParam>(params) {
                    let progress = Progress {
                        done: step.progress,
                        total: step.total,
                        message: step.message.map(|text| self.state.shown(&text, QUOTE_BYTES_MAX)),
                    };
                    self.state.taps.progressed(&step.progress_token, progress);
                }
                None
            }
            "notifications/message" => {
                let line = self.log_line(&params);
                tracing::info!(target: "interlock::mcp::log", server = self.state.server, level = line.level, message = line.message);
                self.state.taps.logged(about, line);
                None
            }
            _ => {
                if method == "notifications/tools/list_changed" {
                    self.state.tools_changed.store(true, Ordering::Release);
                }
                message.insert("params".into(), params);
                // Unknown notifications are allowed by the protocol; one that does not decode is none of ours.
                serde_json::from_value(Value::Object(message)).ok()
            }
        }
    }

    fn log_line(&self, params: &Value) -> LogLine {
        let word = |key: &str| {
            let text = params.get(key).and_then(Value::as_str)?;
            Some(self.state.shown(text, ODDITY_BYTES_MAX))
        };
        let text = params.get("data").map(|data| data.as_str().map_or_else(|| data.to_string(), str::to_owned));
        LogLine {
            level: word("level").unwrap_or_default(),
            logger: word("logger"),
            message: self.state.shown(&text.unwrap_or_default(), QUOTE_BYTES_MAX),
        }
    }

    fn response(&self, mut message: Map<String, Value>) -> Option<ServerJsonRpcMessage> {
        let id = message.get("id").cloned().and_then(|id| serde_json::from_value::<RequestId>(id).ok());
        let Some(tapped) = id.as_ref().and_then(|id| self.state.taps.answered(id)) else {
            if self.state.attached.load(Ordering::Acquire) {
                let id = message.get("id").map(Value::to_string).unwrap_or_default();
                let text = format!("an answer to request {}", self.state.shown(&id, ODDITY_BYTES_MAX));
                tracing::debug!(server = self.state.server, text, "unexpected message");
                self.state.odd(&self.state.strays, text);
            }
            return self.typed(Value::Object(message));
        };
        let id = tapped.0;
        if let Some(result) = message.remove("result") {
            return Some(ServerJsonRpcMessage::response(ServerResult::CustomResult(CustomResult::new(result)), id));
        }
        let error = message.remove("error").and_then(|error| serde_json::from_value::<ErrorData>(error).ok());
        let error = error
            .unwrap_or_else(|| ErrorData::internal_error("the answer has neither a result nor a readable error", None));
        Some(ServerJsonRpcMessage::error(error, Some(id)))
    }

    fn typed(&self, message: Value) -> Option<ServerJsonRpcMessage> {
        match serde_json::from_value(message) {
            Ok(message) => Some(message),
            Err(error) => self.garbage(&format!("a message that does not decode: {error}")),
        }
    }

    fn garbage<T>(&self, text: &str) -> Option<T> {
        let text = self.state.shown(text, ODDITY_BYTES_MAX);
        tracing::debug!(server = self.state.server, text, "line is not an MCP message");
        if self.state.odd(&self.state.garbage, text) > GARBAGE_LINES_MAX {
            self.state.fail(Fault::Garbage);
        }
        None
    }
}
