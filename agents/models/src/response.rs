//! What a model answered, in no provider's words.

use serde::{Deserialize, Serialize};

use crate::request::Part;

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelResponse {
    /// What is said and called, in order.
    pub parts: Vec<Part>,
    /// Why it ended.
    pub stop: StopReason,
    /// What the provider counted; none when it said nothing, and then the worst case is what was spent.
    pub usage: Option<Usage>,
    /// Who answered, by its name in the configuration.
    pub provider: String,
    /// The model, as the answer names it.
    pub model: String,
    /// The provider's name of the call, for its support.
    pub request_id: Option<String>,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// All is said.
    End,
    /// The bound on the answer was reached.
    MaxTokens,
    /// The model waits for the results of tools.
    ToolUse,
    /// A stop word.
    StopSequence,
    /// The model or its provider will not answer this.
    Refusal,
    /// The context window is full.
    ContextFull,
    /// The provider asks to be called again with what it said so far.
    Paused,
    /// Something new.
    Other(String),
}

/// Tokens as the provider reports them. Each token is counted once: `input` is what was read at the full price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Read, neither from the prompt cache nor into it.
    pub input: u64,
    /// Written, thoughts included.
    pub output: u64,
    /// Read from the prompt cache.
    #[serde(default)]
    pub cache_read: u64,
    /// Put into the prompt cache.
    #[serde(default)]
    pub cache_write: u64,
}

impl Usage {
    /// Everything that was read.
    pub fn prompt(&self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_write)
    }

    /// Everything that was read and written.
    pub fn total(&self) -> u64 {
        self.prompt().saturating_add(self.output)
    }

    /// From a provider that counts cached tokens among the input.
    pub(crate) fn of_whole_prompt(prompt: u64, output: u64, cache_read: u64, cache_write: u64) -> Self {
        let input = prompt.saturating_sub(cache_read).saturating_sub(cache_write);
        Self { input, output, cache_read, cache_write }
    }
}

impl ModelResponse {
    /// All text of the answer.
    pub fn text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| match part {
            Part::Text { text } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// The calls of the answer.
    pub fn tool_calls(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| matches!(part, Part::ToolCall { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_counted_once() {
        let usage = Usage::of_whole_prompt(100, 7, 60, 30);
        assert_eq!(usage, Usage { input: 10, output: 7, cache_read: 60, cache_write: 30 });
        assert_eq!((usage.prompt(), usage.total()), (100, 107));
        assert_eq!(Usage::of_whole_prompt(5, 0, 60, 0).input, 0);
    }
}
