//! A server that asks back: read, judged, and put to people by whoever made the call.
//!
//! Servers of 2026-07-28 end the call with their questions and take it up again with the answers; the call can wait for a
//! person as long as it must. Older ones ask while the call is under way: nobody can be waited for there, so the question
//! is answered with `cancel`, the call ends, and it is made again once there are answers. In both cases the caller sees the
//! same: [`InputRequest`]. Forms are data of a stranger, and one that asks for a secret is refused. Samples go to models and
//! not to people, by the same way.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::error::quote;
use super::limits::QUESTIONS_MAX;
use super::samples::{Sample, Sampling, read_sample};

/// Bytes of one form's schema.
const FORM_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the state a server wants back.
const STATE_BYTES_MAX: usize = 256 * 1024;
/// Words in a field that asks for what must never be typed into a form.
const SECRET_WORDS: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "api_key",
    "credential",
    "private_key",
    "pin code",
];

/// What a server is told that may not use our models.
pub(super) const NO_SAMPLING: &str = "the server wants to use our models, which is not allowed";

/// One question of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Form {
    /// Name of the question inside its call.
    pub key: String,
    /// What the server says. Untrusted text.
    pub message: String,
    /// Schema of the answer.
    pub schema: Value,
}

/// What a server wants to know before it goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputRequest {
    /// To be handed back unread.
    pub state: Option<String>,
    /// The questions to people.
    pub forms: Vec<Form>,
    /// The questions to models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
    /// What was answered before, as the protocol wants it; to be handed back too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub known: BTreeMap<String, Value>,
}

/// An answer of people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FormAnswer {
    /// The filled form.
    Accept(Value),
    /// A refusal.
    Decline,
}

impl FormAnswer {
    pub(super) fn wire(&self) -> Value {
        match self {
            Self::Accept(content) => json!({"action": "accept", "content": content}),
            Self::Decline => json!({"action": "decline"}),
        }
    }
}

/// Answers to an [`InputRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InputAnswers {
    /// The state of the request.
    pub state: Option<String>,
    /// Answers by the key of the form.
    pub answers: BTreeMap<String, FormAnswer>,
    /// What the request knew already, and what models answered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub known: BTreeMap<String, Value>,
}

impl InputAnswers {
    /// The responses as the protocol wants them.
    pub(super) fn responses(&self) -> BTreeMap<String, Value> {
        let said = self.answers.iter().map(|(key, answer)| (key.clone(), answer.wire()));
        self.known.clone().into_iter().chain(said).collect()
    }
}

/// Answers questions on the spot, where somebody is there to do so.
#[async_trait]
pub trait Host: Send + Sync {
    /// The answer; `None` leaves the question to the caller of the tool.
    async fn elicit(&self, server: &str, form: &Form) -> Option<FormAnswer>;
}

/// How one round of a call ended, other than with a result.
pub(super) enum Round {
    /// Everything was answered by ourselves.
    Again(InputAnswers),
    /// People have to answer.
    Ask(InputRequest),
    /// A question that is not put to anybody, and why.
    Refuse(String),
}

/// What we answer for one server.
pub(super) struct Answering<'a> {
    pub(super) server: &'a str,
    pub(super) elicitation: bool,
    pub(super) sampling: Option<&'a Sampling>,
    pub(super) roots: &'a [String],
    pub(super) host: Option<&'a Arc<dyn Host>>,
}

impl Answering<'_> {
    /// Reads a result of type `input_required`.
    pub(super) async fn round(&self, result: &Value) -> Round {
        let state = result.get("requestState").and_then(Value::as_str).map(str::to_owned);
        if state.as_ref().is_some_and(|state| state.len() > STATE_BYTES_MAX) {
            return Round::Refuse(format!("the server wants more than {STATE_BYTES_MAX} bytes kept for it"));
        }
        let empty = Map::new();
        let requests = result.get("inputRequests").and_then(Value::as_object).unwrap_or(&empty);
        if requests.len() > QUESTIONS_MAX {
            return Round::Refuse(format!("the server asks more than {QUESTIONS_MAX} questions at once"));
        }
        let (mut answered, mut forms, mut samples) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (key, request) in requests {
            match request.get("method").and_then(Value::as_str) {
                Some("roots/list") => {
                    answered.insert(key.clone(), roots_result(self.roots));
                }
                Some("elicitation/create") if self.elicitation => match read_form(key, request.get("params")) {
                    Ok(form) => match self.on_the_spot(&form).await {
                        Some(answer) => {
                            answered.insert(key.clone(), answer.wire());
                        }
                        None => forms.push(form),
                    },
                    Err(refusal) => return Round::Refuse(refusal),
                },
                Some("elicitation/create") => {
                    return Round::Refuse("the server asks for input before it goes on".to_owned());
                }
                Some("sampling/createMessage") => {
                    let Some(allowed) = self.sampling else { return Round::Refuse(NO_SAMPLING.to_owned()) };
                    match read_sample(key, request.get("params"), allowed) {
                        Ok(sample) => samples.push(sample),
                        Err(refusal) => return Round::Refuse(refusal),
                    }
                }
                other => {
                    let other = quote(other.unwrap_or("nothing"));
                    return Round::Refuse(format!("the server asks for `{other}`, which is not supported"));
                }
            }
        }
        if forms.is_empty() && samples.is_empty() {
            return Round::Again(InputAnswers { state, known: answered, ..InputAnswers::default() });
        }
        Round::Ask(InputRequest { state, forms, samples, known: answered })
    }

    async fn on_the_spot(&self, form: &Form) -> Option<FormAnswer> {
        match self.host {
            Some(host) => host.elicit(self.server, form).await,
            None => None,
        }
    }
}

/// The result of `roots/list`.
pub(super) fn roots_result(roots: &[String]) -> Value {
    json!({"roots": roots.iter().map(|uri| json!({"uri": uri})).collect::<Vec<_>>()})
}

/// Reads the parameters of one `elicitation/create`.
///
/// # Errors
/// Why this question is not put to anybody.
pub(super) fn read_form(key: &str, params: Option<&Value>) -> Result<Form, String> {
    let params = params.unwrap_or(&Value::Null);
    if params.get("mode").and_then(Value::as_str).is_some_and(|mode| mode != "form") {
        return Err("the server wants a person to open an address, which is not supported".to_owned());
    }
    let message = quote(params.get("message").and_then(Value::as_str).unwrap_or_default());
    let schema = params.get("requestedSchema").cloned().unwrap_or_else(|| json!({"type": "object"}));
    if schema.to_string().len() > FORM_BYTES_MAX {
        return Err(format!("the server's form has more than {FORM_BYTES_MAX} bytes"));
    }
    if let Some(field) = secret_field(&schema) {
        return Err(format!(
            "the server's form asks for a secret (`{}`); secrets are never typed into forms",
            quote(&field)
        ));
    }
    Ok(Form { key: key.into(), message, schema })
}

/// A field that asks for a password or the like, by name, title, description or format.
fn secret_field(schema: &Value) -> Option<String> {
    let fields = schema.get("properties").and_then(Value::as_object)?;
    let is_secret = |name: &String, field: &Value| {
        let texts = ["title", "description", "format"].iter().filter_map(|key| field.get(*key)?.as_str());
        std::iter::once(name.as_str()).chain(texts).any(|text| {
            let text = text.to_ascii_lowercase().replace(['-', ' '], "_");
            SECRET_WORDS.iter().any(|word| text.contains(&word.replace(' ', "_")))
        })
    };
    fields.iter().find(|(name, field)| is_secret(name, field)).map(|(name, _)| name.clone())
}

/// The questions that a server of the era before asks while one call is under way.
#[derive(Debug, Default)]
pub(super) struct Dialog {
    /// Everything that was answered in earlier rounds, as the protocol wants it: the server asks it all again.
    known: BTreeMap<String, Value>,
    asked: Mutex<(Vec<Form>, Vec<Sample>)>,
    refused: Mutex<Option<String>>,
}

impl Dialog {
    pub(super) fn new(known: BTreeMap<String, Value>) -> Arc<Self> {
        Arc::new(Self { known, ..Self::default() })
    }

    /// What was said to this question in an earlier round.
    pub(super) fn answer<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.known.get(key).and_then(|known| serde_json::from_value(known.clone()).ok())
    }

    pub(super) fn ask(&self, form: Form) {
        let (forms, _) = &mut *self.asked.lock();
        if forms.len() < QUESTIONS_MAX && forms.iter().all(|known| known.key != form.key) {
            forms.push(form);
        }
    }

    pub(super) fn sample(&self, sample: Sample) {
        let (_, samples) = &mut *self.asked.lock();
        if samples.len() < QUESTIONS_MAX && samples.iter().all(|known| known.key != sample.key) {
            samples.push(sample);
        }
    }

    pub(super) fn refuse(&self, why: String) {
        self.refused.lock().get_or_insert(why);
    }

    /// What is open at the end of the call.
    pub(super) fn open(&self) -> Option<Round> {
        if let Some(why) = self.refused.lock().take() {
            return Some(Round::Refuse(why));
        }
        let (forms, samples) = std::mem::take(&mut *self.asked.lock());
        let asks = !forms.is_empty() || !samples.is_empty();
        asks.then(|| Round::Ask(InputRequest { state: None, forms, samples, known: self.known.clone() }))
    }
}

/// A name for a question that has none: the same question has the same name in the next round.
pub(super) fn question_key(params: &Value) -> String {
    let text = json!([params.get("message"), params.get("requestedSchema")]).to_string();
    format!("q-{}", &hex::encode(Sha256::digest(text.as_bytes()))[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: Value) -> Value {
        json!({"message": "Which one?", "requestedSchema": {"type": "object", "properties": fields}})
    }

    #[test]
    fn a_form_that_asks_for_a_secret_is_refused() {
        assert!(read_form("k", Some(&form(json!({"region": {"type": "string"}})))).is_ok());
        for fields in [
            json!({"db_password": {"type": "string"}}),
            json!({"x": {"type": "string", "title": "API key"}}),
            json!({"x": {"type": "string", "description": "Your access token, please"}}),
            json!({"x": {"type": "string", "format": "password"}}),
        ] {
            let refusal = read_form("k", Some(&form(fields.clone()))).unwrap_err();
            assert!(refusal.contains("secret"), "{fields}: {refusal}");
        }
        let page = json!({"mode": "url", "url": "https://x.test", "message": "go"});
        assert!(read_form("k", Some(&page)).unwrap_err().contains("open an address"));
    }

    async fn check_round(requests: Value, allowed: bool, expected: &str) {
        let sampling = Sampling::default();
        let answering = Answering {
            server: "s",
            elicitation: allowed,
            sampling: allowed.then_some(&sampling),
            roots: &["file:///data".to_owned()],
            host: None,
        };
        let result = json!({"resultType": "input_required", "inputRequests": requests, "requestState": "st"});
        let shown = match answering.round(&result).await {
            Round::Again(answers) => format!("again {} {:?}", json!(answers.responses()), answers.state),
            Round::Ask(request) => {
                let forms: Vec<_> = request.forms.iter().map(|form| &form.key).collect();
                let samples: Vec<_> = request.samples.iter().map(|sample| &sample.key).collect();
                format!("ask people {forms:?} and models {samples:?}")
            }
            Round::Refuse(why) => format!("refuse {why}"),
        };
        assert_eq!(shown, expected);
    }

    #[tokio::test]
    async fn what_we_know_is_answered_and_the_rest_goes_to_people() {
        let question = json!({"method": "elicitation/create", "params": form(json!({"region": {"type": "string"}}))});
        check_round(json!({}), true, r#"again {} Some("st")"#).await;
        check_round(
            json!({"r": {"method": "roots/list"}}),
            true,
            r#"again {"r":{"roots":[{"uri":"file:///data"}]}} Some("st")"#,
        )
        .await;
        check_round(json!({"q": question}), true, r#"ask people ["q"] and models []"#).await;
        check_round(json!({"q": question}), false, "refuse the server asks for input before it goes on").await;
        let said = json!([{"role": "user", "content": {"type": "text", "text": "Why?"}}]);
        let sample = json!({"s": {"method": "sampling/createMessage", "params": {"messages": said, "maxTokens": 10}}});
        check_round(sample.clone(), true, r#"ask people [] and models ["s"]"#).await;
        check_round(sample, false, "refuse the server wants to use our models, which is not allowed").await;
        let empty = json!({"s": {"method": "sampling/createMessage", "params": {}}});
        check_round(empty, true, "refuse the server wants to ask a model with no message, or more than 64").await;
    }
}
