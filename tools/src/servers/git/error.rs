//! The one error of this server: a code to branch on, the runtime's class, and a sentence that says what to do.

use serde_json::{Value, json};

use crate::servers::table::ServerError;

/// Result of anything this server does.
pub type Result<T> = std::result::Result<T, GitError>;

/// What kind of failure a caller sees; sent with every failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The arguments are wrong; the same call can never succeed.
    InvalidArguments,
    /// No such repository, commit or file.
    NotFound,
    /// The installation does not allow it, or the call would reach another environment.
    Denied,
    /// The repository is not as the call expects it, or the commit cannot be taken back as it stands.
    Conflict,
    /// A named limit was passed.
    LimitExceeded,
    /// Git did not end in time.
    TimedOut,
    /// Git could not be started, or said something that this server does not understand.
    Failed,
}

impl Code {
    /// The code as it appears on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArguments => "invalid_arguments",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Conflict => "conflict",
            Self::LimitExceeded => "limit_exceeded",
            Self::TimedOut => "timed_out",
            Self::Failed => "failed",
        }
    }

    /// The runtime's class.
    pub fn class(self) -> &'static str {
        match self {
            Self::InvalidArguments => "invalid",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Conflict => "conflict",
            Self::TimedOut => "timeout",
            Self::LimitExceeded | Self::Failed => "permanent",
        }
    }
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct GitError {
    /// What kind of failure it is.
    pub code: Code,
    /// What happened, where, and what to do.
    pub message: String,
}

impl GitError {
    /// An error with a code and its sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArguments, message)
    }

    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self::new(Code::Denied, message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(Code::Conflict, message)
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(Code::Failed, message)
    }

    /// The failure as data: what a caller branches on.
    pub fn to_value(&self) -> Value {
        json!({ "error": { "code": self.code.as_str(), "class": self.code.class(), "message": self.message } })
    }
}

impl ServerError for GitError {
    fn wrong_arguments(message: String) -> Self {
        Self::invalid(message)
    }

    fn wrong_result(message: String) -> Self {
        Self::failed(message)
    }
}
