//! Sending one message: the token, the redirect, the refusal.

use std::error::Error as _;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use rmcp::model::ClientJsonRpcMessage;
use serde_json::Value;

use super::super::auth::Renewal;
use super::super::error::{Delivery, ToolErrorClass, quote};
use super::super::tap::{Tap, Trouble};
use super::super::wire::Fault;
use super::address::same_origin;
use super::{Link, headers, unknown};
use std::sync::atomic::Ordering;

/// Redirects within the server's own origin that one message follows.
const REDIRECTS_MAX: usize = 3;
/// Times one message is sent again with a new token or more rights.
const RENEWALS_MAX: usize = 3;
/// Bytes of a refusal's body that are read.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// An answer whose status is not a success, with its body as far as it is read.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
    retry_after: Option<String>,
}

/// What came back for one message.
pub(super) enum Posted {
    Accepted(Response),
    Refused(Refusal),
}

impl Link {
    /// Sends one message. Tells `tap` when the first byte leaves, and takes it back where nothing can have left.
    pub(super) async fn post(&self, message: &ClientJsonRpcMessage, tap: Option<&Tap>) -> Result<Posted, Trouble> {
        let body = serde_json::to_value(message).unwrap_or_default();
        let mut headers = self.address.headers.clone();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match headers::of_message(message, &body) {
            Some(modern) => {
                self.modern.store(true, Ordering::Release);
                headers.extend(modern);
            }
            None => {
                self.modern.store(false, Ordering::Release);
                self.session_headers(&mut headers);
            }
        }
        if tap.is_some_and(|tap| !tap.begin()) {
            return Err(Trouble::new(ToolErrorClass::Cancelled, Delivery::NotSent, "the request was withdrawn"));
        }
        self.post_on(&body.to_string(), headers, tap).await
    }

    async fn post_on(&self, body: &str, mut headers: HeaderMap, tap: Option<&Tap>) -> Result<Posted, Trouble> {
        let mut url = self.address.url.clone();
        let (mut redirects, mut renewals) = (0, 0);
        loop {
            let token = self.bearer(&mut headers).await;
            let request = self.client.post(url.clone()).headers(headers.clone()).body(body.to_owned());
            let response = request.send().await.map_err(|error| self.unreachable(&error, tap))?;
            let status = response.status();
            match status {
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT if redirects < REDIRECTS_MAX => {
                    redirects += 1;
                    url = self.redirect(&url, &response)?;
                }
                _ if status.is_redirection() => return Err(refused_redirect(&url, &response)),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if renewals < RENEWALS_MAX => {
                    renewals += 1;
                    let challenge = header(&response, &WWW_AUTHENTICATE);
                    match self.renew(status, challenge, token).await? {
                        Renewal::Again => {}
                        Renewal::Stands => return refusal(response).await.map(Posted::Refused),
                    }
                }
                StatusCode::NOT_FOUND if headers.contains_key(headers::SESSION) => {
                    tap.inspect(|tap| tap.nothing_written());
                    self.state.fail(Fault::SessionExpired);
                    let message = "the server ended the session and did not take the request";
                    return Err(Trouble::new(ToolErrorClass::Unavailable, Delivery::NotSent, message));
                }
                _ if status.is_success() => return Ok(Posted::Accepted(response)),
                _ => return refusal(response).await.map(Posted::Refused),
            }
        }
    }

    async fn renew(
        &self,
        status: StatusCode,
        challenge: Option<String>,
        sent: Option<String>,
    ) -> Result<Renewal, Trouble> {
        let Some(tokens) = &self.address.tokens else { return Ok(Renewal::Stands) };
        let renewed = match (status, challenge) {
            (StatusCode::UNAUTHORIZED, challenge) => tokens.renew(challenge.as_deref(), sent.as_deref()).await,
            (_, Some(challenge)) => tokens.step_up(&challenge).await,
            (_, None) => Ok(Renewal::Stands),
        };
        renewed.map_err(|message| {
            Trouble::new(ToolErrorClass::Unavailable, Delivery::NotSent, message)
                .fix("authorize this server again, or check its `oauth` settings")
        })
    }

    fn redirect(&self, from: &Url, response: &Response) -> Result<Url, Trouble> {
        let target = header(response, &LOCATION).and_then(|location| from.join(&location).ok());
        match target {
            Some(target) if same_origin(&self.address.url, &target) => Ok(target),
            _ => Err(refused_redirect(from, response)),
        }
    }

    fn unreachable(&self, error: &reqwest::Error, tap: Option<&Tap>) -> Trouble {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        // The library repeats the address; queries may hold secrets.
        let reason = quote(&reason.replace(self.address.url.as_str(), "the server"));
        if error.is_connect() || error.is_builder() {
            tap.inspect(|tap| tap.nothing_written());
            return Trouble::new(
                ToolErrorClass::Unavailable,
                Delivery::NotSent,
                format!("the server cannot be reached: {reason}"),
            );
        }
        unknown(format!("the connection broke before an answer: {reason}"))
    }
}

fn header(response: &Response, name: &reqwest::header::HeaderName) -> Option<String> {
    response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn refused_redirect(from: &Url, response: &Response) -> Trouble {
    let target = header(response, &LOCATION).and_then(|location| from.join(&location).ok());
    let origin = target.map_or_else(|| "nowhere".to_owned(), |url| url.origin().ascii_serialization());
    let message =
        format!("the server redirects ({}) to {}, which is not followed", response.status().as_u16(), quote(&origin));
    Trouble::new(ToolErrorClass::Protocol, Delivery::Answered, message).fix("give the final address in `url`")
}

async fn refusal(mut response: Response) -> Result<Refusal, Trouble> {
    let status = response.status();
    let retry_after = header(&response, &RETRY_AFTER);
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let left = REFUSAL_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(left)]);
        if body.len() >= REFUSAL_BYTES_MAX {
            break;
        }
    }
    Ok(Refusal { status, body, retry_after })
}

impl Refusal {
    /// The JSON-RPC error in the body, where there is one.
    pub(super) fn error(&self) -> Option<serde_json::Map<String, Value>> {
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(message)) if message.get("error").is_some_and(Value::is_object) => Some(message),
            _ => None,
        }
    }

    /// What the status alone says. A gateway that gave up says nothing about the request behind it.
    pub(super) fn trouble(&self) -> Trouble {
        let code = self.status.as_u16();
        let said = quote(String::from_utf8_lossy(&self.body).trim());
        let said = if said.is_empty() { said } else { format!(": {said}") };
        match self.status {
            StatusCode::UNAUTHORIZED => Trouble::new(
                ToolErrorClass::Unavailable,
                Delivery::NotSent,
                format!("the server wants to be logged in to (401){said}"),
            )
            .fix("set `headers` or `oauth` of this server"),
            StatusCode::FORBIDDEN => {
                Trouble::new(ToolErrorClass::Denied, Delivery::Answered, format!("the server refused us (403){said}"))
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let pause =
                    self.retry_after.as_deref().map(|pause| format!("; it says to try again in {}", quote(pause)));
                let message = format!("the server is busy ({code}){said}{}", pause.unwrap_or_default());
                Trouble::new(ToolErrorClass::Transient, Delivery::Answered, message)
            }
            status if status.is_server_error() => unknown(format!("the server failed (HTTP {code}){said}")),
            _ => Trouble::new(
                ToolErrorClass::Failed,
                Delivery::Answered,
                format!("the server answered HTTP {code}{said}"),
            ),
        }
    }
}
