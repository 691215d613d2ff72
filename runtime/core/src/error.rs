//! What can go wrong in a task, with the class that decides the reaction.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest stored error message in bytes; the rest is cut with a mark.
pub const MESSAGE_MAX: usize = 4096;

/// Class of a failure. Retry policies and breakers decide by class, never by message text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Likely to pass by itself: connection lost, 5xx, upstream not ready.
    Transient,
    /// The other side asked for a pause (HTTP 429).
    RateLimited,
    /// A run, idle or call limit of time was reached.
    Timeout,
    /// Memory, disk or another quantity ran out.
    Resource,
    /// Arguments, output or state do not fit their schema, or a name is unknown.
    Invalid,
    /// Policy, privilege or an approver said no.
    Denied,
    /// The thing asked for does not exist.
    NotFound,
    /// Two writers collided.
    Conflict,
    /// The declared check after an act did not hold.
    VerifyFailed,
    /// The act was begun and nobody knows whether it happened.
    OutcomeUnknown,
    /// The task asked for other calls than the journal has.
    NonDeterminism,
    /// A limit of supersteps, calls, money or size was reached.
    Limit,
    /// Repeating will not help.
    Permanent,
    /// No better word.
    Unknown,
    /// A defect of the runtime itself.
    Bug,
}

impl ErrorClass {
    /// Every class with the word used in graph files.
    pub const WORDS: [(&'static str, Self); 15] = [
        ("transient", Self::Transient),
        ("rate_limited", Self::RateLimited),
        ("timeout", Self::Timeout),
        ("resource", Self::Resource),
        ("invalid", Self::Invalid),
        ("denied", Self::Denied),
        ("not_found", Self::NotFound),
        ("conflict", Self::Conflict),
        ("verify_failed", Self::VerifyFailed),
        ("outcome_unknown", Self::OutcomeUnknown),
        ("non_determinism", Self::NonDeterminism),
        ("limit", Self::Limit),
        ("permanent", Self::Permanent),
        ("unknown", Self::Unknown),
        ("bug", Self::Bug),
    ];

    /// The word of this class.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, class)| *class == self).map_or("unknown", |(word, _)| word)
    }

    /// The class of a word; `None` for a word that names none.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(name, _)| *name == word).map(|(_, class)| *class)
    }

    /// Whether a call that ended so may have happened all the same.
    pub fn leaves_doubt(self) -> bool {
        matches!(self, Self::Timeout | Self::OutcomeUnknown)
    }

    /// Whether a task is tried again when its node declares no `on:` list.
    pub fn retried_by_default(self) -> bool {
        matches!(self, Self::Transient | Self::RateLimited | Self::Timeout)
    }
}

/// A failure of a task, as stored and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct TaskError {
    /// Decides the reaction.
    pub class: ErrorClass,
    /// What happened, where, and what to do.
    pub message: String,
    /// How long the other side asked to wait.
    pub retry_after: Option<Duration>,
}

impl TaskError {
    /// A failure of `class`; an overlong message is cut at a character boundary.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        if message.len() > MESSAGE_MAX {
            let mut cut = MESSAGE_MAX;
            while !message.is_char_boundary(cut) {
                cut -= 1;
            }
            message.truncate(cut);
            message.push_str(" … [cut]");
        }
        Self { class, message, retry_after: None }
    }

    /// Adds the pause the other side asked for.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// Arguments, output or state that do not fit.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Invalid, message)
    }

    /// A defect of the runtime, reported instead of a panic.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Bug, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_one_word() {
        for (word, class) in ErrorClass::WORDS {
            assert_eq!(class.word(), word);
            assert_eq!(ErrorClass::from_word(word), Some(class));
        }
        assert_eq!(ErrorClass::from_word("transcient"), None);
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let error = TaskError::new(ErrorClass::Unknown, "é".repeat(MESSAGE_MAX));
        assert!(error.message.len() < MESSAGE_MAX + 20 && error.message.ends_with("[cut]"));
    }
}
