//! The one error of the sandbox: a code an agent can branch on, and a sentence that says what happened and what to do.

use serde::Serialize;

use crate::servers::table::ServerError;

/// Result of anything the sandbox does.
pub type Result<T> = std::result::Result<T, SandboxError>;

/// What kind of failure a caller sees; sent with every failed tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The arguments are wrong; the same call can never succeed.
    InvalidArguments,
    /// No such tool, run, table, migration or quarantine.
    NotFound,
    /// The statement or script is not allowed by the server.
    Denied,
    /// The state of the warehouse does not permit it now.
    Conflict,
    /// The database reported an error in the given SQL.
    Sql,
    /// A named size or time limit was passed.
    LimitExceeded,
    /// The pipeline run that the call started has failed.
    RunFailed,
    /// The pipeline run that the call started has failed because the upstream did not answer.
    UpstreamTimeout,
    /// The server cannot read or write its own files.
    Storage,
}

impl Code {
    /// The code as it appears on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArguments => "invalid_arguments",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Conflict => "conflict",
            Self::Sql => "sql",
            Self::LimitExceeded => "limit_exceeded",
            Self::RunFailed => "run_failed",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Storage => "storage",
        }
    }

    /// `transient` where the same call may succeed later, else `permanent`.
    pub fn class(self) -> &'static str {
        match self {
            Self::UpstreamTimeout | Self::Storage => "transient",
            _ => "permanent",
        }
    }
}

/// A failed operation of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SandboxError {
    /// What kind of failure it is.
    pub code: Code,
    /// What happened, where, and what to do.
    pub message: String,
}

impl SandboxError {
    /// An error with a code and its sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArguments, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    pub(crate) fn denied(message: impl Into<String>) -> Self {
        Self::new(Code::Denied, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(Code::Conflict, message)
    }

    pub(crate) fn storage(what: &str, cause: impl std::fmt::Display) -> Self {
        Self::new(Code::Storage, format!("{what}: {cause}"))
    }
}

impl From<rusqlite::Error> for SandboxError {
    fn from(error: rusqlite::Error) -> Self {
        Self::new(Code::Sql, sql_text(&error))
    }
}

/// The engine's own words, without the echo of the whole statement that the driver adds.
pub(crate) fn sql_text(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
        other => other.to_string(),
    }
}

impl ServerError for SandboxError {
    fn wrong_arguments(message: String) -> Self {
        Self::invalid(message)
    }

    fn wrong_result(message: String) -> Self {
        Self::new(Code::Storage, message)
    }
}
