//! Redaction: what goes into the audit log shows no secret. A second net: secrets come in by reference and are hidden
//! where they are known; this one knows only how they look and what their keys are called.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// What a hidden value is replaced by.
pub const HIDDEN: &str = "[redacted]";
/// Longest text shown of one value.
const TEXT_CHARS_MAX: usize = 300;
/// Most parts of one list or object that are shown.
const PARTS_MAX: usize = 64;
/// Deepest nesting that is shown.
const DEPTH_MAX: usize = 16;
/// Most values shown in all.
const VALUES_MAX: usize = 100;
/// In the first and the last line of a private key.
const PRIVATE_KEY: &str = "PRIVATE KEY-----";
/// Shortest word that can be a key by its looks.
const WORD_BYTES_MIN: usize = 12;

/// Parts of key names whose text is a secret, compared without case, `_` and `-`.
const SECRET_KEYS: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "authorization",
    "credential",
    "cookie",
    "connectionstring",
    "dsn",
    "signature",
];

/// How keys of well-known makers begin.
const SECRET_HEADS: [&str; 16] = [
    "sk-",
    "pk_live_",
    "sk_live_",
    "rk_live_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
];

/// Whether the text under a key of this name is a secret.
pub fn is_secret_key(key: &str) -> bool {
    let plain: String = key.chars().filter(|c| !matches!(c, '_' | '-' | '.')).map(|c| c.to_ascii_lowercase()).collect();
    SECRET_KEYS.iter().any(|secret| plain.contains(secret))
}

/// A value as the audit log shows it: secrets hidden, long parts cut, and never large.
pub fn value(value: &Value) -> Value {
    let mut left = VALUES_MAX;
    part(value, DEPTH_MAX, &mut left)
}

fn part(value: &Value, depth: usize, left: &mut usize) -> Value {
    if *left == 0 || depth == 0 {
        return Value::from("…");
    }
    *left -= 1;
    match value {
        Value::String(shown) => Value::from(text(shown)),
        Value::Array(items) => {
            let mut shown: Vec<Value> = items.iter().take(PARTS_MAX).map(|item| part(item, depth - 1, left)).collect();
            if items.len() > PARTS_MAX {
                shown.push(Value::from(format!("… {} more", items.len() - PARTS_MAX)));
            }
            Value::Array(shown)
        }
        Value::Object(fields) => {
            let mut shown = Map::new();
            for (key, field) in fields.iter().take(PARTS_MAX) {
                let field = match field {
                    Value::String(secret) if !secret.is_empty() && is_secret_key(key) => Value::from(HIDDEN),
                    field => part(field, depth - 1, left),
                };
                shown.insert(text(key), field);
            }
            if fields.len() > PARTS_MAX {
                shown.insert("…".to_owned(), Value::from(format!("{} more", fields.len() - PARTS_MAX)));
            }
            Value::Object(shown)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// A text with what looks like a secret hidden, cut to a length that people read.
pub fn text(text: &str) -> String {
    // A key whose ending is cut off is still one.
    if text.contains(PRIVATE_KEY) {
        return HIDDEN.to_owned();
    }
    let end = text.char_indices().nth(TEXT_CHARS_MAX).map_or(text.len(), |(at, _)| at);
    let mut shown = whole_text(text.get(..end).unwrap_or(text));
    if end < text.len() {
        shown.push_str(&format!("… ({} bytes)", text.len()));
    }
    shown
}

/// A value with secrets hidden, by their keys and by their looks, and nothing cut: for a model that has to read it.
pub fn whole(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::from(whole_text(text)),
        Value::Array(items) => items.iter().map(whole).collect(),
        Value::Object(fields) => {
            let hidden = fields.iter().map(|(key, field)| match field {
                Value::String(secret) if !secret.is_empty() && is_secret_key(key) => (key.clone(), HIDDEN.into()),
                field => (key.clone(), whole(field)),
            });
            Value::Object(hidden.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// A text with what looks like a secret hidden, and nothing cut.
pub fn whole_text(text: &str) -> String {
    if text.contains(PRIVATE_KEY) {
        return HIDDEN.to_owned();
    }
    let is_word =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '/' | '=' | ':' | '@' | '%' | '~');
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = "";
    while !rest.is_empty() {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let follows_scheme = before.eq_ignore_ascii_case("bearer") || before.eq_ignore_ascii_case("basic");
        if word.len() >= WORD_BYTES_MIN && (follows_scheme || looks_secret(word)) {
            shown.push_str(HIDDEN);
        } else {
            shown.push_str(&without_password(word));
        }
        if !word.is_empty() {
            before = word.rsplit([':', '=']).next().unwrap_or(word);
        }
        let gap = after.find(is_word).unwrap_or(after.len());
        let (between, next) = after.split_at(gap);
        shown.push_str(between);
        rest = next;
    }
    shown
}

/// A key of a known maker, alone or after `name=` or `name:`, or a JSON web token.
fn looks_secret(word: &str) -> bool {
    let value = word.rsplit(['=', ':']).find(|part| !part.is_empty()).unwrap_or(word);
    let is_token = |word: &str| word.starts_with("eyJ") && word.matches('.').count() == 2;
    [word, value].iter().any(|word| {
        word.len() >= WORD_BYTES_MIN && (SECRET_HEADS.iter().any(|head| word.starts_with(head)) || is_token(word))
    })
}

/// An address without the password before its host.
fn without_password(word: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = word.split_once("://") else { return Cow::Borrowed(word) };
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
        Some((user, host)) => {
            let path = rest.strip_prefix(authority).unwrap_or("");
            Cow::Owned(format!("{scheme}://{user}:{HIDDEN}@{host}{path}"))
        }
        None => Cow::Borrowed(word),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_and_looks_give_secrets_away() {
        let args = json!({
            "api_key": "abc", "max_tokens": 5, "user": "ann", "nested": [{"Client-Secret": "x", "n": 1}],
            "sql": "set password = 'ghp_0123456789abcdef'; select 1",
            "header": "Authorization: Bearer abcdefghijklmnop", "url": "postgres://etl:hunter2@db:5432/wh?x=1",
            "pem": "-----BEGIN PRIVATE KEY-----\nMIIE", "jwt": "t=eyJhbGciOi.eyJzdWIiOi.c2ln",
        });
        assert_eq!(
            value(&args),
            json!({
                "api_key": HIDDEN, "max_tokens": 5, "user": "ann", "nested": [{"Client-Secret": HIDDEN, "n": 1}],
                "sql": "set password = '[redacted]'; select 1",
                "header": "Authorization: Bearer [redacted]", "url": "postgres://etl:[redacted]@db:5432/wh?x=1",
                "pem": HIDDEN, "jwt": HIDDEN,
            })
        );
    }

    #[test]
    fn ordinary_words_stay() {
        for plain in
            ["select * from risk-scores", "src_flights.dep_time", "2013-01-22T10:00:00Z", "https://host/a@b", "é — ok"]
        {
            assert_eq!(text(plain), plain);
        }
    }

    #[test]
    fn what_is_shown_is_never_large() {
        let wide: Vec<Value> = (0..1000).map(|n| json!({"n": n, "t": "x".repeat(10_000)})).collect();
        let mut deep = json!("end");
        for _ in 0..500 {
            deep = json!([deep]);
        }
        for large in [json!(wide), deep, json!("y".repeat(1 << 20))] {
            let shown = value(&large).to_string();
            assert!(shown.len() < 50_000, "{}", shown.len());
        }
    }
}
