//! The one error of the server: a code to branch on, the class that decides a reaction, and a sentence.

use schemars::JsonSchema;
use serde::Serialize;
use tokio_postgres::error::SqlState;

use crate::guard::{Decision, Verdict};

/// Result of anything the server does.
pub type Result<T> = std::result::Result<T, SqlError>;

/// What kind of failure a caller sees; sent with every failed tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The arguments are wrong.
    InvalidArguments,
    /// No such connection, table, migration or record.
    NotFound,
    /// A rule of the guard denies the statement.
    Denied,
    /// A person must approve it, and this role's caller does not ask one.
    NeedsApproval,
    /// The database refuses the account.
    Permission,
    /// The database reports an error in the statement.
    Statement,
    /// A constraint, or the state of a migration, forbids it.
    Conflict,
    /// Deadlock, serialization failure, lock timeout.
    Contention,
    /// The database cannot be reached or ended the session.
    Connection,
    /// The statement took longer than the role may.
    Timeout,
    /// The caller cancelled; the statement was ended on the server.
    Cancelled,
    /// The database has no memory, disk or connection left.
    Resource,
    /// The connection ended while a change was committed.
    OutcomeUnknown,
    /// The database failed in another way.
    Database,
}

impl Code {
    /// The code as it appears on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArguments => "invalid_arguments",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::NeedsApproval => "needs_approval",
            Self::Permission => "permission",
            Self::Statement => "statement",
            Self::Conflict => "conflict",
            Self::Contention => "contention",
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Resource => "resource",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Database => "database",
        }
    }

    /// The class, in the words that the runtime's retry policies use.
    pub fn class(self) -> &'static str {
        match self {
            Self::Contention | Self::Connection => "transient",
            Self::Timeout => "timeout",
            Self::Resource => "resource",
            Self::InvalidArguments | Self::Statement => "invalid",
            Self::NotFound => "not_found",
            Self::Denied | Self::NeedsApproval | Self::Permission => "denied",
            Self::Conflict => "conflict",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Cancelled | Self::Database => "permanent",
        }
    }
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// What kind of failure it is.
    pub code: Code,
    /// Name of the guard's rule, or the database's own code.
    pub rule: Option<String>,
    /// What happened, where, and what to do.
    pub message: String,
}

impl SqlError {
    /// An error with a code and its sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, rule: None, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArguments, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    pub(crate) fn denied(rule: &str, message: impl Into<String>) -> Self {
        Self { code: Code::Denied, rule: Some(rule.to_owned()), message: message.into() }
    }

    /// A change of which nobody heard whether it was made.
    pub(crate) fn unknown(what: impl std::fmt::Display) -> Self {
        Self::new(Code::OutcomeUnknown, format!("{what}; whether the change was made is not known"))
    }

    /// Turns a verdict that is no permission into an error.
    pub(crate) fn from_decision(decision: &Decision) -> Self {
        let (code, advice) = match decision.verdict {
            Verdict::NeedsApproval => (Code::NeedsApproval, "a person must approve it"),
            _ => (Code::Denied, "denied"),
        };
        let message = format!("{advice} by rule {}: {}", decision.rule, decision.reason);
        Self { code, rule: Some(decision.rule.to_owned()), message }
    }

    /// Takes secrets out of the sentence.
    #[must_use]
    pub(crate) fn without(mut self, secrets: &[String]) -> Self {
        self.message = redact(&self.message, secrets);
        self
    }
}

/// What stands in place of a secret.
const REDACTED: &str = "[redacted]";

/// A text without the given secrets.
pub(crate) fn redact(text: &str, secrets: &[String]) -> String {
    secrets
        .iter()
        .filter(|s| !s.is_empty())
        .fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), REDACTED))
}

impl From<tokio_postgres::Error> for SqlError {
    /// The message of the database, without its detail, which quotes rows.
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            let io = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<std::io::Error>());
            let tls = io.and_then(std::io::Error::get_ref).and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let code = match tls {
                Some(rustls::Error::InvalidCertificate(_)) => Code::Permission,
                _ if error.is_closed() || io.is_some() => Code::Connection,
                _ => Code::Database,
            };
            let source = std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
            return Self::new(code, format!("PostgreSQL: {error}{source}"));
        };
        let hint = db.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        Self {
            code: code_of(db.code()),
            rule: Some(db.code().code().to_owned()),
            message: format!("PostgreSQL: {}{hint}", db.message()),
        }
    }
}

fn code_of(state: &SqlState) -> Code {
    match state.code() {
        "40001" | "40P01" | "55P03" => Code::Contention,
        "57014" => Code::Timeout,
        // Nothing follows a failed statement in our transactions. If one is aborted all the same, its statement timeout fell
        // between two messages, where the driver has no request left to report it to.
        "25P02" => Code::Timeout,
        "57P01" | "57P02" | "57P03" | "25P03" => Code::Connection,
        "53300" => Code::Resource,
        "42501" | "25006" | "28000" | "28P01" => Code::Permission,
        other => match other.get(..2) {
            Some("08") => Code::Connection,
            Some("23") => Code::Conflict,
            Some("42" | "22" | "0A" | "21" | "25" | "26" | "34" | "3D" | "3F" | "44") => Code::Statement,
            Some("53" | "54") => Code::Resource,
            Some("40") => Code::Contention,
            _ => Code::Database,
        },
    }
}

impl From<rusqlite::Error> for SqlError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let text = match &error {
            rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
            rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
            other => other.to_string(),
        };
        let code = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Code::Contention,
            Some(ErrorCode::OperationInterrupted) => Code::Timeout,
            Some(ErrorCode::ConstraintViolation) => Code::Conflict,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
                Code::Permission
            }
            Some(ErrorCode::DiskFull | ErrorCode::OutOfMemory) => Code::Resource,
            Some(ErrorCode::CannotOpen) => Code::Connection,
            _ => Code::Statement,
        };
        Self::new(code, format!("SQLite: {text}"))
    }
}
