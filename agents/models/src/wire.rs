//! The seam between one HTTP client and three ways to speak: pure, so that each is tested on values alone.

use serde_json::Value;

use crate::error::{ErrorClass, Fault, Spent};
use crate::provider::Sink;
use crate::request::{ModelRequest, Part};
use crate::response::{StopReason, Usage};
use crate::sse::Event;

/// Most parts of one answer.
pub(crate) const PARTS_MAX: usize = 1024;

/// An answer before it is known who gave it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) parts: Vec<Part>,
    pub(crate) stop: StopReason,
    pub(crate) usage: Option<Usage>,
    /// As the answer names it.
    pub(crate) model: Option<String>,
}

/// Whose thoughts an answer holds.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) provider: String,
    pub(crate) model: String,
}

impl Origin {
    pub(crate) fn thought(&self, data: Value) -> Part {
        Part::Thought { provider: self.provider.clone(), model: self.model.clone(), data }
    }

    /// Whether thoughts may go back: they are bound to the model that had them.
    pub(crate) fn had(&self, provider: &str, model: &str) -> bool {
        self.provider == provider && self.model == model
    }
}

/// One way to speak with a provider.
pub(crate) trait Wire: Send + Sync {
    /// Behind the base of the provider's url.
    fn path(&self) -> &'static str;
    /// Headers that are always sent.
    fn headers(&self) -> &'static [(&'static str, &'static str)];
    /// The header that carries the key.
    fn key_header(&self, key: &str) -> (String, String);
    /// What this way cannot say.
    fn refuses(&self, request: &ModelRequest) -> Option<&'static str>;
    /// The body of a call.
    fn encode(&self, origin: &Origin, request: &ModelRequest) -> Value;
    /// A whole answer.
    fn decode(&self, origin: &Origin, body: &Value) -> Result<Answer, Fault>;
    /// Reads an answer in pieces.
    fn stream(&self, origin: Origin) -> Box<dyn StreamReader>;
}

/// An answer in pieces.
pub(crate) trait StreamReader: Send {
    /// Takes one event and tells the caller what is new.
    fn take(&mut self, event: &Event, sink: &mut Sink<'_>) -> Result<(), Fault>;
    /// Whether all has come.
    fn is_done(&self) -> bool;
    /// The whole answer, or why there is none.
    fn end(self: Box<Self>) -> Result<Answer, Fault>;
}

/// The data of an event.
pub(crate) fn json_of(event: &Event) -> Result<Value, Fault> {
    serde_json::from_str(&event.data).map_err(|_| Fault::malformed("an event of the stream is not JSON"))
}

/// A string of an object, if there is one.
pub(crate) fn text_at<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// A number of an object; what is missing is none.
pub(crate) fn count_at(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// An error that a provider reports, in either of the two forms there are (`error.type`, `error.code`), from the status of
/// the answer or, within a stream, without one.
pub(crate) fn reported(status: Option<u16>, body: &Value) -> Fault {
    let error = if body["error"].is_object() { &body["error"] } else { body };
    let kind = text_at(error, "/type").unwrap_or_default();
    let code = text_at(error, "/code").or_else(|| text_at(error, "/details/error_code")).unwrap_or_default();
    let message = text_at(error, "/message").or_else(|| body["error"].as_str()).unwrap_or_default();
    // Within a stream some gateways put the status where a code belongs.
    let said = status.or_else(|| code.parse().ok().filter(|code| (400..600).contains(code)));
    let class = class_of(said, &[kind, code], &message.to_lowercase());
    let spent = match status {
        // Between us and the provider: it may have worked and billed all the same.
        Some(408 | 502 | 504) | None => Spent::Unknown,
        Some(_) => Spent::Nothing,
    };
    let words = [kind, code, text_at(error, "/param").unwrap_or_default(), message];
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let mut fault = Fault::new(class, spent, words.join(" "));
    fault.status = status;
    fault.request_id = text_at(body, "/request_id").map(str::to_owned);
    fault
}

fn class_of(status: Option<u16>, words: &[&str], message: &str) -> ErrorClass {
    let is = |known: &[&str]| words.iter().any(|word| known.contains(word));
    let says = |known: &[&str]| known.iter().any(|known| message.contains(known));
    let too_long = [
        "maximum context length",
        "prompt is too long",
        "exceeds the context",
        "exceed context limit",
        "context window exceeded",
        "contextwindowexceeded",
    ];
    if is(&["context_length_exceeded", "context_window_exceeded", "request_too_large"]) || says(&too_long) {
        return ErrorClass::ContextOverflow;
    }
    let spent = ["insufficient_quota", "billing_error", "billing_hard_limit_reached", "enforced_spend_limit_reached"];
    if is(&spent) || status == Some(402) || says(&["api usage limits", "credit balance is too low"]) {
        return ErrorClass::QuotaSpent;
    }
    if is(&["content_filter", "content_policy_violation", "invalid_prompt"]) {
        return ErrorClass::Refused;
    }
    if is(&["overloaded_error", "server_overloaded", "slow_down"]) {
        return ErrorClass::Overloaded;
    }
    if is(&["model_not_found", "not_found_error"]) || says(&["invalid model name"]) {
        return ErrorClass::UnknownModel;
    }
    match status {
        Some(401 | 403) => ErrorClass::Auth,
        Some(404) => ErrorClass::UnknownModel,
        Some(413) => ErrorClass::ContextOverflow,
        Some(429) => ErrorClass::RateLimited,
        Some(529) => ErrorClass::Overloaded,
        Some(408 | 504) => ErrorClass::Timeout,
        Some(409 | 500..=599) => ErrorClass::Unavailable,
        Some(_) => ErrorClass::InvalidRequest,
        None if is(&["rate_limit_error", "rate_limit_exceeded"]) => ErrorClass::RateLimited,
        None if is(&["invalid_request_error"]) => ErrorClass::InvalidRequest,
        None if is(&["authentication_error", "permission_error"]) => ErrorClass::Auth,
        None if is(&["timeout_error"]) => ErrorClass::Timeout,
        None => ErrorClass::Unavailable,
    }
}

/// A stream that ended before its end.
pub(crate) fn cut() -> Fault {
    Fault::new(ErrorClass::CutStream, Spent::Unknown, "the stream ended before the answer did")
}

/// A bound on the parts of an answer, for streams that open parts without end.
pub(crate) fn room_for(parts: usize) -> Result<(), Fault> {
    if parts < PARTS_MAX {
        return Ok(());
    }
    Err(Fault::new(ErrorClass::OverBound, Spent::Unknown, format!("more than {PARTS_MAX} parts in one answer")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_reported_error_has_its_class() {
        let both =
            |kind: &str, code: &str, message: &str| json!({"error": {"type": kind, "code": code, "message": message}});
        for (status, body, class) in [
            (Some(429), both("rate_limit_error", "", ""), ErrorClass::RateLimited),
            (
                Some(429),
                json!({"error": {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}}),
                ErrorClass::QuotaSpent,
            ),
            (Some(429), both("insufficient_quota", "insufficient_quota", ""), ErrorClass::QuotaSpent),
            (
                Some(400),
                both("invalid_request_error", "", "You have reached your specified API usage limits."),
                ErrorClass::QuotaSpent,
            ),
            (Some(529), both("overloaded_error", "", ""), ErrorClass::Overloaded),
            (Some(503), both("", "slow_down", ""), ErrorClass::Overloaded),
            (Some(500), both("api_error", "", ""), ErrorClass::Unavailable),
            (Some(503), Value::Null, ErrorClass::Unavailable),
            (Some(504), Value::Null, ErrorClass::Timeout),
            (Some(401), both("authentication_error", "", ""), ErrorClass::Auth),
            (Some(404), both("not_found_error", "", "model: x"), ErrorClass::UnknownModel),
            (Some(400), both("invalid_request_error", "", "temperature is deprecated"), ErrorClass::InvalidRequest),
            (Some(400), both("invalid_request_error", "context_length_exceeded", ""), ErrorClass::ContextOverflow),
            (
                Some(400),
                both("invalid_request_error", "", "prompt is too long: 1000001 tokens > 1000000"),
                ErrorClass::ContextOverflow,
            ),
            (Some(413), both("request_too_large", "", ""), ErrorClass::ContextOverflow),
            (Some(400), both("invalid_request_error", "content_filter", ""), ErrorClass::Refused),
            (Some(418), json!({"error": "plain words"}), ErrorClass::InvalidRequest),
            (None, both("overloaded_error", "", ""), ErrorClass::Overloaded),
            (None, both("api_error", "", ""), ErrorClass::Unavailable),
            (None, both("throttling_error", "429", ""), ErrorClass::RateLimited),
            (
                Some(400),
                both("invalid_request_error", "400", "x.ContextWindowExceededError: no"),
                ErrorClass::ContextOverflow,
            ),
            (
                Some(400),
                both("invalid_request_error", "400", "Invalid model name passed in model=x"),
                ErrorClass::UnknownModel,
            ),
        ] {
            assert_eq!(reported(status, &body).class, class, "{status:?} {body}");
        }
    }

    #[test]
    fn only_a_providers_own_no_is_free() {
        for (status, spent) in [
            (Some(429), Spent::Nothing),
            (Some(500), Spent::Nothing),
            (Some(502), Spent::Unknown),
            (Some(504), Spent::Unknown),
            (None, Spent::Unknown),
        ] {
            assert_eq!(reported(status, &Value::Null).spent, spent, "{status:?}");
        }
    }
}
