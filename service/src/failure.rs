//! How a command ends: exit codes that scripts can use, and errors that say what happened, where, and what to do.

use graphs::Diagnostics;
use runtime::EngineFault;
use runtime::ports::store::StoreError;
use runtime_core::effect::Refusal;
use serde_json::{Value, json};

/// How a command ended; the number is the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All that was asked for is done.
    Done = 0,
    /// It was tried and failed.
    Failed = 1,
    /// Wrong usage, or an invalid graph or configuration.
    Usage = 2,
    /// A thread waits for a person, a timer or a signal.
    Waiting = 3,
}

impl Exit {
    /// The worse of two ends, for commands over many things: wrong usage, then failure, then waiting.
    pub(crate) fn and(self, other: Self) -> Self {
        let rank = |exit| match exit {
            Self::Done => 0,
            Self::Waiting => 1,
            Self::Failed => 2,
            Self::Usage => 3,
        };
        if rank(other) > rank(self) { other } else { self }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Waiting => "waiting",
        }
    }
}

/// Why a command could not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What happened, and where.
    pub(crate) message: String,
    /// What to do.
    pub(crate) help: Option<String>,
    /// Diagnostics of a file, for machines; the message holds them for people.
    pub(crate) diagnostics: Option<Value>,
    /// What refused it, for machines.
    pub(crate) code: Option<&'static str>,
}

impl Failure {
    /// It was tried and failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into(), help: None, diagnostics: None, code: None }
    }

    /// It was asked for wrongly.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::failed(message) }
    }

    /// An invalid graph.
    pub(crate) fn diagnostics(diagnostics: &Diagnostics) -> Self {
        Self { diagnostics: Some(diagnostics.to_json()), ..Self::usage(diagnostics.to_string()) }
    }

    /// Adds what to do.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The failure for people.
    pub(crate) fn text(&self) -> String {
        let head = if self.diagnostics.is_some() { "" } else { "error: " };
        let help = self.help.as_ref().map(|help| format!("  help: {help}\n")).unwrap_or_default();
        format!("{head}{}\n{help}", self.message.trim_end())
    }

    /// The failure for machines.
    pub(crate) fn json(&self) -> Value {
        json!({"error": {
            "kind": self.exit.word(),
            "code": self.code,
            "exit_code": self.exit as u8,
            "message": self.message.trim_end(),
            "help": self.help,
            "diagnostics": self.diagnostics,
        }})
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let failure = Self::failed(error.to_string());
        match error {
            StoreError::Held { .. } => {
                failure.help("one process at a time: wait for it, or choose another store with --store")
            }
            StoreError::Corrupt { .. } => {
                failure.help("`interlock fsck` lists everything that is wrong with the store")
            }
            _ => failure,
        }
    }
}

impl From<EngineFault> for Failure {
    fn from(fault: EngineFault) -> Self {
        match fault {
            EngineFault::Refused(refusal) => refusal.into(),
            EngineFault::Store(error) => error.into(),
            EngineFault::Stopped => Self::failed(fault.to_string()),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let (message, code) = (refusal.to_string(), Some(refusal.code()));
        let failure = match refusal {
            Refusal::Invalid(_) => Self::usage(message),
            Refusal::Busy { .. } => {
                Self::failed(message).help("a process that died left it behind? `interlock recover` finishes it")
            }
            Refusal::UnknownInterrupt { .. } | Refusal::AlreadyAnswered { .. } => {
                Self::failed(message).help("`interlock interrupts` lists the open questions")
            }
            _ => Self::failed(message),
        };
        Self { code, ..failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_end_wins() {
        use Exit::{Done, Failed, Usage, Waiting};
        assert_eq!(Done.and(Waiting), Waiting);
        assert_eq!(Waiting.and(Failed), Failed);
        assert_eq!(Usage.and(Failed), Usage);
        assert_eq!(Failed.and(Done), Failed);
    }

    #[test]
    fn a_failure_says_what_and_what_to_do() {
        let failure = Failure::usage("--input is not JSON").help("quote it");
        assert_eq!(failure.text(), "error: --input is not JSON\n  help: quote it\n");
        assert_eq!(failure.json()["error"]["exit_code"], 2);
    }

    #[test]
    fn refusals_of_input_are_usage_and_others_are_failures() {
        let invalid = Refusal::Invalid(runtime_core::error::TaskError::invalid("no"));
        assert_eq!(Failure::from(invalid).exit, Exit::Usage);
        assert_eq!(Failure::from(Refusal::NotRunning).exit, Exit::Failed);
    }
}
