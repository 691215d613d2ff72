//! What can go wrong between a caller and a tool, and whether the tool can have run.

use serde::Serialize;

use super::limits::QUOTE_BYTES_MAX;

/// Whether a request can have reached the server. The journal depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Not one byte of the request was written: the tool did not run.
    NotSent,
    /// The server answered; the failure is its answer, or what we make of it. The tool may have run, and nothing more
    /// will come.
    Answered,
    /// At least part of the request was written and no answer came: the tool may or may not have run.
    Unknown,
}

/// Kind of a failure. Reactions are decided by class and [`Delivery`], never by message text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolErrorClass {
    /// May pass by itself.
    Transient,
    /// A deadline passed. [`ToolError::delivery`] says whether the request had left.
    Timeout,
    /// No such server or tool.
    NotFound,
    /// Arguments or configuration do not fit.
    Invalid,
    /// The tool is not the one that was approved, or is blocked.
    Denied,
    /// The server cannot be started or reached now. The request was not sent.
    Unavailable,
    /// The server broke the protocol or its own schema.
    Protocol,
    /// The request left and the connection ended without an answer.
    OutcomeUnknown,
    /// The caller cancelled the call.
    Cancelled,
    /// The server answered with an error of its own.
    Failed,
    /// The server asks for input before it goes on.
    InputRequired,
}

impl ToolErrorClass {
    /// The word of this class in logs, events and graph files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Timeout => "timeout",
            Self::NotFound => "not_found",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
            Self::Protocol => "protocol",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::InputRequired => "input_required",
        }
    }
}

/// A failed use of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{} ({}): {message}{}", self.target(), self.class.word(), self.remedy_suffix())]
pub struct ToolError {
    /// Kind of the failure.
    pub class: ToolErrorClass,
    /// Whether the request can have reached the server.
    pub delivery: Delivery,
    /// Configured name of the server.
    pub server: String,
    /// Name of the tool; `None` when the failure is the server's.
    pub tool: Option<String>,
    /// What happened.
    pub message: String,
    /// JSON pointer into the arguments or the structured result, where one value is at fault.
    pub pointer: Option<Box<str>>,
    /// What to do about it.
    pub remedy: Option<Box<str>>,
}

impl ToolError {
    /// A failure of a server as a whole, before anything was sent.
    pub(super) fn server(class: ToolErrorClass, server: &str, message: impl Into<String>) -> Self {
        Self {
            class,
            delivery: Delivery::NotSent,
            server: server.into(),
            tool: None,
            message: message.into(),
            pointer: None,
            remedy: None,
        }
    }

    pub(super) fn about(mut self, tool: &str) -> Self {
        self.tool = Some(tool.into());
        self
    }

    pub(super) fn delivered(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    pub(super) fn at(mut self, pointer: impl Into<Box<str>>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    pub(super) fn fix(mut self, remedy: impl Into<Box<str>>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Whether the tool may or may not have run, and nobody will ever say: the journal must keep the call in doubt.
    pub fn outcome_unknown(&self) -> bool {
        self.delivery == Delivery::Unknown
    }

    fn target(&self) -> String {
        match &self.tool {
            Some(tool) => format!("{}.{tool}", self.server),
            None => self.server.clone(),
        }
    }

    fn remedy_suffix(&self) -> String {
        self.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default()
    }
}

/// A short, printable form of text that came from a server.
pub(super) fn quote(text: &str) -> String {
    quote_within(text, QUOTE_BYTES_MAX)
}

/// As [`quote`], with another limit.
pub(super) fn quote_within(text: &str, bytes_max: usize) -> String {
    let cut = floor_char_boundary(text, bytes_max);
    let mut shown: String =
        text[..cut].chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect();
    if cut < text.len() {
        shown.push_str(" …");
    }
    shown
}

/// The largest index not above `limit` at which `text` can be cut.
pub(super) fn floor_char_boundary(text: &str, limit: usize) -> usize {
    if text.len() <= limit {
        return text.len();
    }
    (0..=limit).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_target_class_and_remedy() {
        let error = ToolError::server(ToolErrorClass::NotFound, "warehouse", "no tool of this name")
            .about("qurey")
            .fix("did you mean query?");
        assert_eq!(error.to_string(), "warehouse.qurey (not_found): no tool of this name; did you mean query?");
        assert!(!error.outcome_unknown());
    }

    #[test]
    fn quotes_are_short_and_printable() {
        let long = format!("\u{1b}[31m{}", "é".repeat(QUOTE_BYTES_MAX));
        let shown = quote(&long);
        assert!(shown.starts_with('\u{fffd}') && shown.ends_with('…'));
        assert!(shown.len() <= QUOTE_BYTES_MAX + 8);
    }
}
