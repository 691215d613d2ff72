//! Secrets never leave: our own passwords and tokens, and what looks like one in a log, a note or a variable.

use std::sync::LazyLock;

use parking_lot::Mutex;
use regex::Regex;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

/// What a hidden value is replaced by.
pub(super) const HIDDEN: &str = "[hidden]";
/// Shortest own secret that is looked for: shorter ones hit ordinary words.
const OWN_BYTES_MIN: usize = 6;
/// Tokens that are remembered: the current ones and those just replaced.
const OWN_MAX: usize = 16;

/// Keys whose value is a secret by their name.
static SECRET_NAME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)(passw|secret|token|api_?-?key|credential|private|fernet|dsn)").ok());

/// Secrets inside a text: the user part of an address, `password=…`, a bearer token, a JWT.
static SECRET_TEXT: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        (r"://[^/\s:@]+:[^/\s@]+@", "://[hidden]@"),
        (
            r#"(?i)\b(password|passwd|pwd|secret|token|api[-_]?key|authorization)(["']?\s*[=:]\s*["']?)(bearer\s+)?[^\s"',;&}]+"#,
            "$1$2[hidden]",
        ),
        (r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+", "[hidden]"),
    ]
    .into_iter()
    .filter_map(|(pattern, hidden)| Some((Regex::new(pattern).ok()?, hidden)))
    .collect()
});

/// Whether the value of a key with this name is nobody's business.
pub(super) fn is_secret_name(name: &str) -> bool {
    SECRET_NAME.as_ref().is_none_or(|regex| regex.is_match(name))
}

/// What this server itself must not say.
#[derive(Default)]
pub(super) struct Own(Mutex<Vec<SecretString>>);

impl Own {
    pub(super) fn add(&self, secret: &SecretString) {
        let mut known = self.0.lock();
        if secret.expose_secret().len() >= OWN_BYTES_MIN {
            if known.len() >= OWN_MAX {
                known.remove(0);
            }
            known.push(secret.clone());
        }
    }

    /// The text without secrets.
    pub(super) fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.0.lock().iter() {
            if text.contains(secret.expose_secret()) {
                text = text.replace(secret.expose_secret(), HIDDEN);
            }
        }
        for (pattern, hidden) in SECRET_TEXT.iter() {
            if pattern.is_match(&text) {
                text = pattern.replace_all(&text, *hidden).into_owned();
            }
        }
        text
    }

    /// Every text of a value without secrets; values under a secret's name are hidden whole.
    pub(super) fn scrub_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.scrub(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.scrub_value(item)),
            Value::Object(fields) => {
                for (name, field) in fields.iter_mut() {
                    match field {
                        Value::String(text) if is_secret_name(name) => HIDDEN.clone_into(text),
                        _ => self.scrub_value(field),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_in_text_are_hidden_and_the_rest_stays() {
        let own = Own::default();
        own.add(&SecretString::from("s3cr3t-of-ours"));
        own.add(&SecretString::from("abc"));
        for (text, expected) in [
            ("connect postgresql://etl:pa55@db:5432/w failed", "connect postgresql://[hidden]@db:5432/w failed"),
            ("login with password=hunter2, retrying", "login with password=[hidden], retrying"),
            (r#"{"api_key": "k-1"}"#, r#"{"api_key": "[hidden]"}"#),
            ("Authorization: Bearer abc.def", "Authorization: [hidden]"),
            ("sent s3cr3t-of-ours away", "sent [hidden] away"),
            ("password authentication failed for user etl", "password authentication failed for user etl"),
            ("see https://x.example/abc?d=1", "see https://x.example/abc?d=1"),
        ] {
            assert_eq!(own.scrub(text), expected);
        }
    }

    #[test]
    fn values_under_a_secret_s_name_are_hidden() {
        let mut value = json!({ "db_password": "x", "rows": 3, "nested": [{ "token": "y", "note": "fine" }] });
        Own::default().scrub_value(&mut value);
        assert_eq!(value, json!({ "db_password": HIDDEN, "rows": 3, "nested": [{ "token": HIDDEN, "note": "fine" }] }));
    }
}
