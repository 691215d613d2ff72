//! Notices of agents on standard error, beside the progress line.

use agents::{Notice, Notifier, Urgency};
use async_trait::async_trait;
use runtime_core::error::TaskError;
use serde_json::{Value, json};

/// Prints the first line of each notice. The text is in the thread's state.
pub(crate) struct OnStandardError;

#[async_trait]
impl Notifier for OnStandardError {
    async fn send(&self, notice: &Notice, _: &str) -> Result<Value, TaskError> {
        let mark = match notice.severity {
            Urgency::Page => "PAGE",
            Urgency::Summary => "note",
        };
        eprintln!("{mark}  {}", notice.title);
        Ok(json!({"channel": "standard error"}))
    }
}
