//! One request to a service: sent once, waited for no longer than it may take, read no further than it may be long. Whether
//! it is made again is for others to decide.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, redirect};
use serde_json::Value;

use crate::error::{Class, Fault};
use crate::secrets::{Secret, cleaned};

/// Longest wait that a service may ask for and that is passed on.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Bounds of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest time from the first byte sent to the last byte read.
    pub whole: Duration,
    /// Most bytes of an answer.
    pub answer_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), whole: Duration::from_secs(15), answer_bytes: 256 * 1024 }
    }
}

/// Where a service is reached.
pub(crate) struct Link {
    client: reqwest::Client,
    base: String,
    headers: HeaderMap,
    secrets: Vec<Secret>,
    bounds: Bounds,
}

/// A request.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<String>,
}

impl Call {
    /// A body of JSON.
    pub(crate) fn post(path: impl Into<String>, body: &Value) -> Self {
        Self { method: Method::POST, path: path.into(), headers: Vec::new(), body: Some(body.to_string()) }
    }
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) text: String,
    /// Null when it is no JSON.
    pub(crate) json: Value,
}

/// Whether a url is on this host.
fn is_here(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip: Result<std::net::IpAddr, _> = host.trim_matches(['[', ']']).parse();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// What is wrong with a url that secrets and incidents are sent to.
pub(crate) fn url_problem(text: &str, plaintext: bool) -> Option<&'static str> {
    let Ok(url) = reqwest::Url::parse(text) else { return Some("is no url") };
    if !matches!(url.scheme(), "http" | "https") {
        return Some("must begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Some("carries an account; use `headers`");
    }
    let is_open = url.scheme() == "http" && !is_here(&url) && !plaintext;
    is_open.then_some("would send incidents over the network in the clear; use https, or say `plaintext: true`")
}

impl Link {
    /// A link to `base`; what `headers` say is a secret, and so are `secrets`, which appear elsewhere.
    pub(crate) fn new(
        base: &str,
        headers: &[(String, Secret)],
        secrets: Vec<Secret>,
        bounds: Bounds,
    ) -> Result<Self, String> {
        let mut secrets = secrets;
        let mut map = HeaderMap::new();
        for (name, secret) in headers {
            let parsed: HeaderName = name.parse().map_err(|_| format!("`{name}` is no name of a header"))?;
            let mut value = HeaderValue::from_str(secret.expose())
                .map_err(|_| format!("the value of header `{name}` has characters that cannot be sent"))?;
            value.set_sensitive(true);
            map.insert(parsed, value);
            secrets.push(secret.clone());
        }
        let url = reqwest::Url::parse(base).map_err(|_| "url: is no url".to_owned())?;
        let client = reqwest::Client::builder().redirect(redirect::Policy::none()).connect_timeout(bounds.connect);
        // The environment's proxy is for the world, not for this host.
        let client = if is_here(&url) { client.no_proxy() } else { client };
        let client = client
            .build()
            .map_err(|_| "the HTTP client cannot be made: look at the certificates of the system".to_owned())?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), headers: map, secrets, bounds })
    }

    /// A service's words as they may be shown.
    pub(crate) fn clean(&self, text: &str) -> String {
        cleaned(text, &self.secrets)
    }

    /// Sends once. An answer of any status is an answer.
    pub(crate) async fn send(&self, call: Call, now: Timestamp) -> Result<Answer, Fault> {
        let whole = self.bounds.whole;
        tokio::time::timeout(whole, self.exchange(call, now))
            .await
            .unwrap_or_else(|_| Err(Fault::new(Class::Doubt, format!("no whole answer in {} ms", whole.as_millis()))))
    }

    async fn exchange(&self, call: Call, now: Timestamp) -> Result<Answer, Fault> {
        let mut request = self.client.request(call.method, format!("{}{}", self.base, call.path));
        request = request.headers(self.headers.clone());
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        if let Some(body) = call.body {
            request = request.header(CONTENT_TYPE, "application/json; charset=utf-8").body(body);
        }
        // The client's own words may name the url with what it carries, so ours are used.
        let mut response = request.send().await.map_err(|error| {
            if error.is_connect() || error.is_builder() {
                return Fault::new(Class::Unavailable, "no connection");
            }
            Fault::new(Class::Doubt, "the connection broke before an answer")
        })?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after = wish(header("retry-after"), now);
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|_| Fault::new(Class::Doubt, "the connection broke within the answer"))?
        {
            if bytes.len() + chunk.len() > self.bounds.answer_bytes {
                let text = format!("the answer is longer than {} bytes", self.bounds.answer_bytes);
                return Err(Fault::new(Class::Malformed, text));
            }
            bytes.extend_from_slice(&chunk);
        }
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Answer { status, retry_after, text, json })
    }

    /// The fault that a status alone reports; `detail` are the service's words.
    pub(crate) fn fault(&self, answer: &Answer, detail: &str) -> Fault {
        let class = match answer.status {
            401 | 403 => Class::Auth,
            404 | 410 => Class::Missing,
            429 => Class::Limited,
            503 => Class::Unavailable,
            408 | 500..=599 => Class::Doubt,
            400..=499 => Class::Invalid,
            _ => Class::Malformed,
        };
        let mut detail = self.clean(detail);
        if (300..400).contains(&answer.status) {
            detail = "it points elsewhere: correct the url".to_owned();
        }
        Fault { status: Some(answer.status), retry_after: answer.retry_after, ..Fault::new(class, detail) }
    }
}

/// What a service asks to wait: seconds, or an HTTP date.
fn wish(retry_after: Option<&str>, now: Timestamp) -> Option<Duration> {
    let text = retry_after?.trim();
    let wait = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => {
            let until = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_retry_after_is_read_and_bounded() {
        let now: Timestamp = "2026-11-27T10:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("20", Some(20)),
            ("Fri, 27 Nov 2026 10:00:30 GMT", Some(30)),
            ("Fri, 27 Nov 2026 09:00:00 GMT", Some(0)),
            ("1e9", Some(3600)),
            ("-5", None),
            ("soon", None),
        ] {
            assert_eq!(wish(Some(text), now), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn incidents_do_not_go_over_the_network_in_the_clear() {
        for url in ["https://x.example/y?z=1", "http://localhost:1", "http://127.0.0.1:9/x", "http://[::1]:1"] {
            assert_eq!(url_problem(url, false), None, "{url}");
        }
        assert!(url_problem("http://x.example", false).unwrap().contains("in the clear"));
        assert_eq!(url_problem("http://x.example", true), None);
        assert!(url_problem("https://me:secret@x.example", false).unwrap().contains("account"));
        assert!(url_problem("ftp://x", false).is_some() && url_problem("x", false).is_some());
    }
}
