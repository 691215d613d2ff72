//! Secrets by reference: `${NAME}` in a configuration, resolved only when a server starts, hidden again in what it says.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

/// Shortest secret worth hiding: shorter values hit ordinary words.
const SECRET_BYTES_MIN: usize = 6;
/// Values remembered for one server: its references, and the tokens of a long life.
const SECRETS_MAX: usize = 1_000;
/// What a hidden value is replaced by.
const HIDDEN: &str = "[redacted]";

/// Where `${NAME}` is looked up.
pub type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Values that must not be shown, longest first. Clones share them: a token fetched later is hidden everywhere at once.
#[derive(Default, Clone)]
pub(super) struct Secrets(Arc<RwLock<Vec<String>>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} hidden)", self.0.read().len())
    }
}

impl Secrets {
    /// Remembers a value, and the forms in which it is often repeated.
    pub(super) fn add(&self, value: &str) {
        if value.len() < SECRET_BYTES_MIN {
            return;
        }
        let mut known = self.0.write();
        let forms = [value.to_owned(), percent(value), hex::encode(value)].into_iter().chain(base64_forms(value));
        for form in forms.filter(|form| form.len() >= SECRET_BYTES_MIN) {
            if !known.contains(&form) {
                known.push(form);
            }
        }
        known.sort_by_key(|known| std::cmp::Reverse(known.len()));
        known.truncate(SECRETS_MAX);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }

    /// The text with every known value replaced.
    pub(super) fn scrub(&self, text: String) -> String {
        self.0.read().iter().fold(text, |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret.as_str(), HIDDEN) } else { text }
        })
    }

    /// Scrubs every string of a JSON value, keys included.
    pub(super) fn scrub_value(&self, value: &mut serde_json::Value) {
        use serde_json::Value;
        match value {
            _ if self.is_empty() => {}
            Value::String(text) => *text = self.scrub(std::mem::take(text)),
            Value::Array(items) => items.iter_mut().for_each(|item| self.scrub_value(item)),
            Value::Object(map) => {
                let entries = std::mem::take(map).into_iter().map(|(key, mut item)| {
                    self.scrub_value(&mut item);
                    (self.scrub(key), item)
                });
                *map = entries.collect();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// As it stands in a URL.
fn percent(value: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    value.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The characters of base64 that a value alone decides, for each place at which it may stand among others.
fn base64_forms(value: &str) -> Vec<String> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..3)
        .map(|before| {
            let bits: Vec<bool> =
                value.bytes().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
            // Bits of the value that share a letter with what stands before it.
            let skip = (6 - before * 8 % 6) % 6;
            let letters = bits.get(skip..).unwrap_or_default().chunks_exact(6);
            let index = |bits: &[bool]| bits.iter().fold(0_usize, |index, bit| index * 2 + usize::from(*bit));
            letters.filter_map(|bits| LETTERS.get(index(bits)).map(|letter| char::from(*letter))).collect()
        })
        .collect()
}

/// `text` with every `${NAME}`, `${env:NAME}` and `${NAME:-default}` replaced.
///
/// # Errors
/// The name of the first variable that is not set and has no default, or what is wrong with a reference.
pub(super) fn expand(text: &str, lookup: &Lookup, secrets: &Secrets) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        out.push_str(before);
        let Some(end) = reference.find('}') else {
            return Err(format!("`{reference}` opens a reference and does not close it; write ${{NAME}}"));
        };
        let body = &reference[2..end];
        let (name, default) = body.split_once(":-").map_or((body, None), |(name, default)| (name, Some(default)));
        let name = name.strip_prefix("env:").unwrap_or(name);
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(format!("`${{{body}}}` is not a reference to an environment variable; write ${{NAME}}"));
        }
        match (lookup(name), default) {
            (Some(value), _) => {
                secrets.add(&value);
                out.push_str(&value);
            }
            (None, Some(default)) => out.push_str(default),
            (None, None) => {
                return Err(format!("environment variable {name} is not set; set it or remove ${{{body}}}"));
            }
        }
        rest = &reference[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check_expand(text: &str, expected: Expect) {
        let lookup = |name: &str| (name == "TOKEN").then(|| "s3cret-value".to_owned());
        let secrets = Secrets::default();
        let result = expand(text, &lookup, &secrets);
        expected.assert_eq(&format!("{result:?} {secrets:?}"));
    }

    #[test]
    fn references_are_replaced_and_remembered() {
        check_expand("plain $TOKEN", expect![[r#"Ok("plain $TOKEN") Secrets(0 hidden)"#]]);
        check_expand("Bearer ${TOKEN}!", expect![[r#"Ok("Bearer s3cret-value!") Secrets(5 hidden)"#]]);
        check_expand("${env:TOKEN}${TOKEN}", expect![[r#"Ok("s3cret-values3cret-value") Secrets(5 hidden)"#]]);
        check_expand("${PORT:-5432}", expect![[r#"Ok("5432") Secrets(0 hidden)"#]]);
    }

    #[test]
    fn a_bad_reference_says_which() {
        check_expand(
            "${NOPE}",
            expect![[r#"Err("environment variable NOPE is not set; set it or remove ${NOPE}") Secrets(0 hidden)"#]],
        );
        check_expand(
            "a${TOKEN",
            expect![[r#"Err("`${TOKEN` opens a reference and does not close it; write ${NAME}") Secrets(0 hidden)"#]],
        );
        check_expand(
            "${input:key}",
            expect![[
                r#"Err("`${input:key}` is not a reference to an environment variable; write ${NAME}") Secrets(0 hidden)"#
            ]],
        );
    }

    #[test]
    fn a_value_is_hidden_in_other_clothes_too() {
        let secrets = Secrets::default();
        secrets.add("s3cret/value+1");
        for said in [
            "user:s3cret/value+1",
            "https://h/?t=s3cret%2Fvalue%2B1",
            "7333637265742f76616c75652b31",
            "czNjcmV0L3ZhbHVlKzE=",
            "dTpzM2NyZXQvdmFsdWUrMQ==",
            "dXM6czNjcmV0L3ZhbHVlKzE=",
        ] {
            let shown = secrets.scrub(said.to_owned());
            assert!(shown.contains(HIDDEN), "{said} became {shown}");
        }
    }

    #[test]
    fn known_values_are_hidden_everywhere() {
        let secrets = Secrets::default();
        expand("${A}", &|_| Some("s3cret-value".into()), &secrets).unwrap();
        let mut value = serde_json::json!({"a s3cret-value": [1, "x s3cret-value y"]});
        secrets.scrub_value(&mut value);
        assert_eq!(value, serde_json::json!({"a [redacted]": [1, "x [redacted] y"]}));
    }
}
