//! What went wrong with a delivery: a class that decides the reaction, and never a secret.

use std::fmt;
use std::time::Duration;

use crate::text::cut;

/// Longest detail of an error in bytes.
pub(crate) const DETAIL_BYTES_MAX: usize = 300;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The service takes no more for now.
    Limited,
    /// It cannot be reached; nothing was sent.
    Unavailable,
    /// It was sent, and nobody knows whether it was taken.
    Doubt,
    /// The secret is wrong, missing, or may not do this.
    Auth,
    /// The service does not accept what was sent.
    Invalid,
    /// There is no such place, or it is closed to this sender.
    Missing,
    /// The answer cannot be read.
    Malformed,
    /// The own record of deliveries cannot be kept.
    Ledger,
}

impl Class {
    /// Whether the same may go well a little later.
    pub fn passes(self) -> bool {
        matches!(self, Self::Limited | Self::Unavailable | Self::Doubt | Self::Ledger)
    }

    fn what(self) -> &'static str {
        match self {
            Self::Limited => "takes no more for now",
            Self::Unavailable => "cannot be reached",
            Self::Doubt => "gave no clear answer, so the notice may have arrived",
            Self::Auth => "does not accept the secret",
            Self::Invalid => "does not accept the notice",
            Self::Missing => "has no such place",
            Self::Malformed => "gave an answer that cannot be read",
            Self::Ledger => "could not be used, because the record of deliveries could not be kept",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Limited => "wait, or lower `limit` of the channel",
            Self::Unavailable => "check the network and the url",
            Self::Doubt => "look whether it is there; it is looked for before it is sent again",
            Self::Auth => "check the secret and what it may do",
            Self::Invalid => "look the message up with the service",
            Self::Missing => "correct the channel's place, or invite the app to it",
            Self::Malformed => "check the url of the channel",
            Self::Ledger => "check the store",
        }
    }
}

/// A delivery that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendError {
    /// Decides the reaction.
    pub class: Class,
    /// The channel, by its name in the configuration.
    pub channel: String,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// What was seen.
    pub detail: String,
    /// How long the service asks to wait.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "channel `{}` {}", self.channel, self.class.what())?;
        if let Some(status) = self.status {
            write!(f, ", HTTP {status}")?;
        }
        if let Some(wait) = self.retry_after {
            write!(f, ", retry after {} s", wait.as_millis().div_ceil(1000))?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        write!(f, "; {}", self.class.remedy())
    }
}

impl std::error::Error for SendError {}

/// What went wrong, before it is known whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) class: Class,
    pub(crate) detail: String,
    pub(crate) status: Option<u16>,
    pub(crate) retry_after: Option<Duration>,
}

impl Fault {
    pub(crate) fn new(class: Class, detail: impl Into<String>) -> Self {
        Self { class, detail: cut(&detail.into(), DETAIL_BYTES_MAX), status: None, retry_after: None }
    }

    pub(crate) fn of(self, channel: &str) -> SendError {
        let Self { class, detail, status, retry_after } = self;
        SendError { class, channel: channel.to_owned(), status, detail, retry_after }
    }
}
