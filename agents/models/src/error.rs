//! What went wrong with a call of a model: a class that decides the reaction, and never a key or a prompt.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::response::Usage;

/// Longest detail of an error.
pub(crate) const DETAIL_BYTES_MAX: usize = 300;

/// A call that brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelError {
    /// What it is, and so what to do.
    pub class: ErrorClass,
    /// The provider, by its name in the configuration.
    pub provider: String,
    /// The model that was asked.
    pub model: String,
    /// The provider's name of the call, for its support.
    pub request_id: Option<String>,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// What was seen, without anything of the request.
    pub detail: String,
    /// How long the provider asks to wait, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// What the call cost all the same.
    pub spent: Spent,
    /// Times the provider was asked.
    pub tries: u32,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Too many requests or tokens.
    RateLimited,
    /// The provider has too much to do.
    Overloaded,
    /// No answer in time.
    Timeout,
    /// The provider is not there, or broken.
    Unavailable,
    /// The provider does not understand the request.
    InvalidRequest,
    /// The request does not fit the context window.
    ContextOverflow,
    /// The key is wrong or may not do this.
    Auth,
    /// The account has no money left.
    QuotaSpent,
    /// The provider refuses the request for what it says.
    Refused,
    /// The answer cannot be read.
    MalformedAnswer,
    /// The answer broke off.
    CutStream,
    /// There is no such model, or no price for it.
    UnknownModel,
    /// The answer passed a bound of ours.
    OverBound,
}

/// What a call that failed cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spent {
    /// Nothing: the provider did no work.
    Nothing,
    /// What the provider counted.
    Known(Usage),
    /// Nobody knows; at most the worst case.
    Unknown,
}

impl ErrorClass {
    fn what(self) -> &'static str {
        match self {
            Self::RateLimited => "takes no more requests for now",
            Self::Overloaded => "is overloaded",
            Self::Timeout => "did not answer in time",
            Self::Unavailable => "is not available",
            Self::InvalidRequest => "does not accept the request",
            Self::ContextOverflow => "cannot take a request this long",
            Self::Auth => "does not accept the key",
            Self::QuotaSpent => "has no credit left for this account",
            Self::Refused => "refuses the request",
            Self::MalformedAnswer => "gave an answer that cannot be read",
            Self::CutStream => "broke off its answer",
            Self::UnknownModel => "has no such model",
            Self::OverBound => "gave an answer beyond a bound",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::RateLimited => "wait, or lower requests_per_minute and tokens_per_minute of the provider",
            Self::Overloaded | Self::Unavailable => "try later, or give the tier a second provider",
            Self::Timeout => "try later, ask for less output, or stream",
            Self::InvalidRequest => {
                "look the request id up with the provider; the model may not know one of the settings"
            }
            Self::ContextOverflow => "shorten the conversation, or use a model with a larger window",
            Self::Auth => "check the key and what it may do",
            Self::QuotaSpent => "raise the limit of the account; waiting does not help",
            Self::Refused => "ask differently, or hand it to a person",
            Self::MalformedAnswer | Self::CutStream => "try again; if it stays, check the url of the provider",
            Self::UnknownModel => "correct the model's name, or add it to the price table",
            Self::OverBound => "ask for less output, or raise the bound",
        }
    }

    /// Whether another provider may well answer the same request: overload and outage are one provider's own.
    pub fn is_sideways(self) -> bool {
        match self {
            Self::RateLimited | Self::Overloaded | Self::Timeout | Self::Unavailable => true,
            Self::MalformedAnswer | Self::CutStream | Self::QuotaSpent | Self::Auth => true,
            Self::InvalidRequest | Self::ContextOverflow | Self::Refused | Self::UnknownModel | Self::OverBound => {
                false
            }
        }
    }

    /// Whether the same provider may answer the same request a little later.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::RateLimited | Self::Overloaded | Self::Timeout | Self::Unavailable => true,
            Self::MalformedAnswer | Self::CutStream => true,
            Self::QuotaSpent | Self::Auth | Self::InvalidRequest | Self::ContextOverflow => false,
            Self::Refused | Self::UnknownModel | Self::OverBound => false,
        }
    }
}

impl ModelError {
    /// See [`ErrorClass::is_sideways`].
    pub fn is_sideways(&self) -> bool {
        self.class.is_sideways()
    }

    /// See [`ErrorClass::is_retryable`]. A retry may cost again unless [`ModelError::spent`] is [`Spent::Nothing`].
    pub fn is_retryable(&self) -> bool {
        self.class.is_retryable()
    }

    /// How long the provider asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after_ms.map(Duration::from_millis)
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (model {}) {}", self.provider, self.model, self.class.what())?;
        if let Some(status) = self.status {
            write!(f, ", HTTP {status}")?;
        }
        if let Some(request_id) = &self.request_id {
            write!(f, ", request {request_id}")?;
        }
        if let Some(wait) = self.retry_after_ms {
            write!(f, ", retry after {} s", wait.div_ceil(1000))?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        write!(f, "; {}", self.class.remedy())
    }
}

impl std::error::Error for ModelError {}

/// What went wrong, before it is known whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) class: ErrorClass,
    /// Our own words, or the provider's; the latter are cleaned before they get into an error.
    pub(crate) detail: String,
    pub(crate) spent: Spent,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) status: Option<u16>,
    pub(crate) request_id: Option<String>,
}

impl Fault {
    pub(crate) fn new(class: ErrorClass, spent: Spent, detail: impl Into<String>) -> Self {
        Self { class, detail: detail.into(), spent, retry_after: None, status: None, request_id: None }
    }

    /// The error as callers see it: `clean` takes key and prompt out of what the provider of `(provider, model)` said.
    pub(crate) fn told(
        self,
        (provider, model): (&str, &str),
        clean: &dyn Fn(&str) -> String,
        tries: u32,
    ) -> ModelError {
        ModelError {
            class: self.class,
            provider: provider.to_owned(),
            model: model.to_owned(),
            // A name that carries the key or the prompt is not the provider's.
            request_id: self.request_id.filter(|id| clean(id) == *id),
            status: self.status,
            detail: clean(&self.detail),
            retry_after_ms: self.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            spent: self.spent,
            tries,
        }
    }

    /// An answer that cannot be read: it was made, so it may have been billed.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(ErrorClass::MalformedAnswer, Spent::Unknown, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_where_and_what_to_do() {
        let error = ModelError {
            class: ErrorClass::RateLimited,
            provider: "anthropic".into(),
            model: "m".into(),
            request_id: Some("req_1".into()),
            status: Some(429),
            detail: "rate_limit_error".into(),
            retry_after_ms: Some(1500),
            spent: Spent::Nothing,
            tries: 3,
        };
        assert_eq!(
            error.to_string(),
            "anthropic (model m) takes no more requests for now, HTTP 429, request req_1, retry after 2 s: \
             rate_limit_error; wait, or lower requests_per_minute and tokens_per_minute of the provider"
        );
        let stored = serde_json::to_string(&error).unwrap();
        assert_eq!(serde_json::from_str::<ModelError>(&stored).unwrap(), error);
    }

    #[test]
    fn what_is_wrong_with_the_request_is_wrong_everywhere() {
        for class in [ErrorClass::InvalidRequest, ErrorClass::ContextOverflow, ErrorClass::Refused] {
            assert!(!class.is_sideways() && !class.is_retryable(), "{class:?}");
        }
        for class in [ErrorClass::Overloaded, ErrorClass::Unavailable, ErrorClass::Timeout] {
            assert!(class.is_sideways() && class.is_retryable(), "{class:?}");
        }
        assert!(ErrorClass::QuotaSpent.is_sideways() && !ErrorClass::QuotaSpent.is_retryable());
    }
}
