//! HTTP to Airflow: log in, log in again when the token is refused, bounded answers, failures with their class.
//!
//! A missing token is answered with 401 and a bad one with 403 `Invalid JWT token`; both lead to one new login and one
//! repetition of the request, which Airflow has not looked at yet.

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{ACCEPT, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::config::{Config, Login};
use super::error::{AirflowError, Code, Result};
use super::hide::Own;

/// Longest a connection may take to be made.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// Largest answer that is kept.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Largest stream that is read through.
const STREAM_BYTES_MAX: usize = 256 << 20;
/// Largest line of a stream; what is longer is cut.
const LINE_BYTES_MAX: usize = 256 << 10;
/// Most of Airflow's explanation in an error.
const DETAIL_CHARS_MAX: usize = 600;
/// What Airflow says about a token it does not accept.
const BAD_TOKEN: &str = "Invalid JWT token";

/// Whose rights a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    /// The account that only reads.
    Reader,
    /// The account that acts. Variables need its rights even for reading.
    Actor,
}

/// One request.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// Path under `/api/v2`, part by part; each is encoded.
    pub(super) path: &'a [&'a str],
    pub(super) query: Vec<(&'a str, String)>,
    pub(super) body: Option<Value>,
}

impl<'a> Request<'a> {
    pub(super) fn get(path: &'a [&'a str]) -> Self {
        Self { method: Method::GET, path, query: Vec::new(), body: None }
    }

    pub(super) fn post(path: &'a [&'a str], body: Value) -> Self {
        Self { method: Method::POST, path, query: Vec::new(), body: Some(body) }
    }

    pub(super) fn patch(path: &'a [&'a str], body: Value) -> Self {
        Self { method: Method::PATCH, path, query: Vec::new(), body: Some(body) }
    }

    pub(super) fn delete(path: &'a [&'a str]) -> Self {
        Self { method: Method::DELETE, path, query: Vec::new(), body: None }
    }

    #[must_use]
    pub(super) fn with(mut self, key: &'a str, value: impl ToString) -> Self {
        self.query.push((key, value.to_string()));
        self
    }

    #[must_use]
    pub(super) fn with_some(self, key: &'a str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }
}

/// One account with its token.
struct Session {
    username: String,
    password: SecretString,
    token: Mutex<Option<SecretString>>,
}

impl Session {
    fn of(login: &Login) -> Result<Self> {
        Ok(Self { username: login.username.clone(), password: login.password()?, token: Mutex::new(None) })
    }
}

/// Airflow over HTTP.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    reader: Session,
    actor: Option<Session>,
    /// What must never be said.
    pub(super) own: Own,
}

impl Client {
    pub(super) fn new(config: &Config) -> Result<Self> {
        let base: Url = config
            .url
            .parse()
            .ok()
            .filter(|url: &Url| matches!(url.scheme(), "http" | "https") && !url.cannot_be_a_base())
            .ok_or_else(|| AirflowError::invalid(format!("url: `{}` is no http or https address", config.url)))?;
        // A token must not follow a redirection to another host.
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIME_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| AirflowError::new(Code::Protocol, format!("HTTP client: {error}")))?;
        let client = Self {
            http,
            base,
            reader: Session::of(&config.read)?,
            actor: config.act.as_ref().map(Session::of).transpose()?,
            own: Own::default(),
        };
        client.own.add(&client.reader.password);
        client.actor.iter().for_each(|actor| client.own.add(&actor.password));
        Ok(client)
    }

    fn session(&self, who: As) -> Result<&Session> {
        match who {
            As::Reader => Ok(&self.reader),
            As::Actor => self.actor.as_ref().ok_or_else(|| {
                AirflowError::denied("this server has no account that acts: declare `act` in its configuration")
            }),
        }
    }

    /// One request and its answer as JSON; an answer without a body is null.
    pub(super) async fn send<T: DeserializeOwned>(&self, who: As, request: Request<'_>) -> Result<T> {
        let answer = self.answered(who, &request, "application/json").await?;
        let place = place(&request);
        let body = collect(answer, &place).await?;
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(body).map_err(|error| {
            AirflowError::new(Code::Protocol, format!("{place}: the answer is not as expected: {error}"))
        })
    }

    /// One request without an account.
    pub(super) async fn open(&self, path: &[&str]) -> Result<Value> {
        let request = Request::get(path);
        let place = place(&request);
        let sent = self.http.get(self.url(&request)?).timeout(ANSWER_TIME_MAX).send().await;
        let answer = succeeded(sent.map_err(|error| unreachable(&place, &error))?, &place).await?;
        let body = collect(answer, &place).await?;
        serde_json::from_slice(&body).map_err(|error| AirflowError::new(Code::Protocol, format!("{place}: {error}")))
    }

    /// Visits the lines of a stream while `visit` wants more. A stream that is too long ends with an error.
    pub(super) async fn lines(
        &self,
        who: As,
        request: Request<'_>,
        mut visit: impl FnMut(&[u8]) -> Next + Send,
    ) -> Result<()> {
        let answer = self.answered(who, &request, "application/x-ndjson").await?;
        let place = place(&request);
        let mut chunks = answer.bytes_stream();
        let (mut line, mut read) = (Vec::new(), 0_usize);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| unreachable(&place, &error))?;
            read += chunk.len();
            if read > STREAM_BYTES_MAX {
                return Err(AirflowError::new(
                    Code::LimitExceeded,
                    format!("{place}: more than {STREAM_BYTES_MAX} bytes; what follows was not read"),
                ));
            }
            for part in chunk.split_inclusive(|byte| *byte == b'\n') {
                let room = LINE_BYTES_MAX.saturating_sub(line.len());
                line.extend_from_slice(part.get(..part.len().min(room)).unwrap_or(part));
                if part.ends_with(b"\n") {
                    if visit(&line) == Next::Enough {
                        return Ok(());
                    }
                    line.clear();
                }
            }
        }
        if !line.is_empty() {
            visit(&line);
        }
        Ok(())
    }

    /// Sends with a token; a refused token is replaced once.
    async fn answered(&self, who: As, request: &Request<'_>, accept: &str) -> Result<reqwest::Response> {
        let session = self.session(who)?;
        let place = place(request);
        let token = self.token(session, None).await?;
        let answer = self.once(request, &token, accept).await?;
        let status = answer.status();
        if status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN {
            return succeeded(answer, &place).await;
        }
        let detail = detail_of(&collect(answer, &place).await?);
        if status == StatusCode::FORBIDDEN && !detail.contains(BAD_TOKEN) {
            return Err(refused(status, &place, &format!("{detail} (as `{}`)", session.username)));
        }
        let token = self.token(session, Some(&token)).await?;
        succeeded(self.once(request, &token, accept).await?, &place).await
    }

    async fn once(&self, request: &Request<'_>, token: &SecretString, accept: &str) -> Result<reqwest::Response> {
        let mut outgoing = self
            .http
            .request(request.method.clone(), self.url(request)?)
            .header(ACCEPT, accept)
            .bearer_auth(token.expose_secret());
        // A stream may be open for long; its reader has its own limit.
        if accept == "application/json" {
            outgoing = outgoing.timeout(ANSWER_TIME_MAX);
        }
        if let Some(body) = &request.body {
            outgoing = outgoing.json(body);
        }
        outgoing.send().await.map_err(|error| unreachable(&place(request), &error))
    }

    /// The token of an account; a new one if there is none, or if it is the one that was refused.
    async fn token(&self, session: &Session, refused: Option<&SecretString>) -> Result<SecretString> {
        let mut kept = session.token.lock().await;
        let usable = |token: &&SecretString| refused.is_none_or(|old| old.expose_secret() != token.expose_secret());
        if let Some(token) = kept.as_ref().filter(usable) {
            return Ok(token.clone());
        }
        let mut url = self.base.clone();
        extend(&mut url, &["auth", "token"])?;
        let login = json!({ "username": session.username, "password": session.password.expose_secret() });
        let sent = self.http.post(url).timeout(ANSWER_TIME_MAX).json(&login).send().await;
        let answer = sent.map_err(|error| unreachable("POST /auth/token", &error))?;
        let status = answer.status();
        let body = collect(answer, "POST /auth/token").await?;
        if !status.is_success() {
            let code = if status.is_server_error() { Code::Unavailable } else { Code::LoginFailed };
            let text = format!("login of `{}` failed with {status}: {}", session.username, detail_of(&body));
            return Err(AirflowError::new(code, text));
        }
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let token = body.get("access_token").and_then(Value::as_str).map(SecretString::from).ok_or_else(|| {
            AirflowError::new(Code::Protocol, "POST /auth/token: the answer has no `access_token`".to_owned())
        })?;
        self.own.add(&token);
        *kept = Some(token.clone());
        Ok(token)
    }

    fn url(&self, request: &Request<'_>) -> Result<Url> {
        let mut url = self.base.clone();
        extend(&mut url, &["api", "v2"])?;
        extend(&mut url, request.path)?;
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(request.query.iter().map(|(key, value)| (*key, value.as_str())));
        }
        Ok(url)
    }
}

/// Whether a reader of lines wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Go on.
    More,
    /// It has what it needs.
    Enough,
}

fn extend(url: &mut Url, parts: &[&str]) -> Result<()> {
    // `.` and `..` would walk out of the API.
    if let Some(bad) = parts.iter().find(|part| matches!(**part, "" | "." | "..")) {
        return Err(AirflowError::invalid(format!("`{bad}` is no name of a DAG, run, task or pool")));
    }
    let mut segments = url.path_segments_mut().map_err(|()| AirflowError::invalid("url: it has no path"))?;
    segments.pop_if_empty().extend(parts);
    Ok(())
}

fn place(request: &Request<'_>) -> String {
    format!("{} /{}", request.method, request.path.join("/"))
}

fn unreachable(place: &str, error: &reqwest::Error) -> AirflowError {
    let what = if error.is_timeout() { "no answer in time" } else { "no connection" };
    // The address may hold a password; it is in the configuration anyway.
    let mut why = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        why = next.to_string();
        cause = next.source();
    }
    AirflowError::new(Code::Unavailable, format!("{place}: {what}: {why}"))
}

async fn succeeded(answer: reqwest::Response, place: &str) -> Result<reqwest::Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let pause = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let error = refused(status, place, &detail_of(&collect(answer, place).await?));
    Err(match pause {
        Some(seconds) => error.after(seconds),
        None => error,
    })
}

fn refused(status: StatusCode, place: &str, detail: &str) -> AirflowError {
    let code = match status.as_u16() {
        400 | 422 => Code::InvalidArguments,
        401 => Code::LoginFailed,
        403 => Code::Denied,
        404 => Code::NotFound,
        409 => Code::Conflict,
        429 => Code::RateLimited,
        500..=599 => Code::Unavailable,
        _ => Code::Protocol,
    };
    AirflowError::new(code, format!("{place}: {status}: {detail}"))
}

/// Airflow's explanation: a text, a list of mistakes, or an object with a reason.
fn detail_of(body: &[u8]) -> String {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = match parsed.get("detail") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(mistakes)) => {
            let mistake = |mistake: &Value| {
                let place = mistake.get("loc").map(Value::to_string).unwrap_or_default();
                Some(format!("{} at {place}", mistake.get("msg")?.as_str()?))
            };
            mistakes.iter().filter_map(mistake).collect::<Vec<_>>().join("; ")
        }
        Some(Value::Object(fields)) => fields.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned(),
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { "no explanation".to_owned() } else { text.chars().take(DETAIL_CHARS_MAX).collect() }
}

async fn collect(answer: reqwest::Response, place: &str) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(|error| unreachable(place, &error))?);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(AirflowError::new(
                Code::LimitExceeded,
                format!("{place}: the answer is larger than {ANSWER_BYTES_MAX} bytes: ask for less"),
            ));
        }
    }
    Ok(body)
}
