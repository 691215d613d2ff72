//! The one error of this server: a code to branch on, the runtime's class, and a sentence that says what to do.

use serde_json::{Value, json};

use crate::servers::table::ServerError;

/// Result of anything this server does.
pub type Result<T> = std::result::Result<T, AirflowError>;

/// What kind of failure a caller sees; sent with every failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The arguments are wrong (Airflow's 400 and 422 too); the same call can never succeed.
    InvalidArguments,
    /// No such DAG, run, task, try or pool.
    NotFound,
    /// The account may not, or the call would reach another environment.
    Denied,
    /// The state of the run, DAG or pool does not permit it now.
    Conflict,
    /// A named limit was passed.
    LimitExceeded,
    /// The account was not let in.
    LoginFailed,
    /// Airflow asked to slow down.
    RateLimited,
    /// Airflow did not answer, or answered that it cannot.
    Unavailable,
    /// The run that the call started or cleared has failed.
    RunFailed,
    /// The run goes on; the time to wait is over.
    StillRunning,
    /// The DAG's file could not be imported when it was last read.
    NotImported,
    /// Airflow answered something that this server does not understand.
    Protocol,
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
            Self::LoginFailed => "login_failed",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::RunFailed => "run_failed",
            Self::StillRunning => "still_running",
            Self::NotImported => "not_imported",
            Self::Protocol => "protocol",
        }
    }

    /// The runtime's class. A failed run says nothing about whether it passes by itself, so it is `unknown`.
    pub fn class(self) -> &'static str {
        match self {
            Self::InvalidArguments => "invalid",
            Self::NotFound => "not_found",
            Self::Denied | Self::LoginFailed => "denied",
            Self::Conflict => "conflict",
            Self::RateLimited => "rate_limited",
            // A file is read again and again, so a better one passes by itself.
            Self::Unavailable | Self::NotImported => "transient",
            Self::StillRunning => "timeout",
            Self::RunFailed => "unknown",
            Self::LimitExceeded | Self::Protocol => "permanent",
        }
    }
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct AirflowError {
    /// What kind of failure it is.
    pub code: Code,
    /// What happened, where, and what to do.
    pub message: String,
    /// How long to wait before the same call makes sense.
    pub retry_after_s: Option<u32>,
    /// The run it is about, as far as it is known.
    pub run: Option<Box<Value>>,
}

impl AirflowError {
    /// An error with a code and its sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_s: None, run: None }
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

    pub(super) fn after(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    pub(super) fn about(self, run: Value) -> Self {
        Self { run: Some(Box::new(run)), ..self }
    }

    /// The failure as data: what a caller branches on.
    pub fn to_value(&self) -> Value {
        let mut error = json!({ "code": self.code.as_str(), "class": self.code.class(), "message": self.message });
        if let Some(seconds) = self.retry_after_s {
            error["retry_after_s"] = seconds.into();
        }
        match &self.run {
            Some(run) => json!({ "error": error, "run": run }),
            None => json!({ "error": error }),
        }
    }
}

impl ServerError for AirflowError {
    fn wrong_arguments(message: String) -> Self {
        Self::invalid(message)
    }

    fn wrong_result(message: String) -> Self {
        Self::new(Code::Protocol, message)
    }
}
