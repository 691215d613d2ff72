//! A server that asks back: read, judged, and put to people by whoever made the call.
//!
//! Servers of 2026-07-28 end the call with their questions and take it up again with the answers; the call can wait for a
//! person as long as it must. Older ones ask while the call is under way: nobody can be waited for there, so the question
//! is answered with `cancel`, the call ends, and it is made again once there are answers. In both cases the caller sees the
//! same: [`InputRequest`]. Forms are data of a stranger, and one that asks for a secret is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::error::quote;
use super::limits::QUESTIONS_MAX;

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
    /// The questions.
    pub forms: Vec<Form>,
    /// What was answered without people; to be handed back too.
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
    /// What the request knew already.
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
        let (mut answered, mut forms) = (BTreeMap::new(), Vec::new());
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
                    return Round::Refuse("the server wants to use our models, which is not allowed".to_owned());
                }
                other => {
                    let other = quote(other.unwrap_or("nothing"));
                    return Round::Refuse(format!("the server asks for `{other}`, which is not supported"));
                }
            }
        }
        if forms.is_empty() {
            return Round::Again(InputAnswers { state, known: answered, ..InputAnswers::default() });
        }
        Round::Ask(InputRequest { state, forms, known: answered })
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
    answers: BTreeMap<String, FormAnswer>,
    asked: Mutex<Vec<Form>>,
    refused: Mutex<Option<String>>,
}

impl Dialog {
    pub(super) fn new(answers: BTreeMap<String, FormAnswer>) -> Arc<Self> {
        Arc::new(Self { answers, ..Self::default() })
    }

    /// What people said to this question, in an earlier round.
    pub(super) fn answer(&self, form: &Form) -> Option<FormAnswer> {
        self.answers.get(&form.key).cloned()
    }

    pub(super) fn ask(&self, form: Form) {
        let mut asked = self.asked.lock();
        if asked.len() < QUESTIONS_MAX && asked.iter().all(|known| known.key != form.key) {
            asked.push(form);
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
        let forms = std::mem::take(&mut *self.asked.lock());
        (!forms.is_empty()).then_some(Round::Ask(InputRequest { state: None, forms, known: BTreeMap::new() }))
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

    async fn check_round(requests: Value, elicitation: bool, expected: &str) {
        let answering = Answering { server: "s", elicitation, roots: &["file:///data".to_owned()], host: None };
        let result = json!({"resultType": "input_required", "inputRequests": requests, "requestState": "st"});
        let shown = match answering.round(&result).await {
            Round::Again(answers) => format!("again {} {:?}", json!(answers.responses()), answers.state),
            Round::Ask(request) => format!("ask {:?}", request.forms.iter().map(|form| &form.key).collect::<Vec<_>>()),
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
        check_round(json!({"q": question}), true, r#"ask ["q"]"#).await;
        check_round(json!({"q": question}), false, "refuse the server asks for input before it goes on").await;
        check_round(
            json!({"s": {"method": "sampling/createMessage", "params": {}}}),
            true,
            "refuse the server wants to use our models, which is not allowed",
        )
        .await;
    }
}
