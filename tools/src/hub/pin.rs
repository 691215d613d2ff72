//! The fingerprint of a tool as its server describes it: changes when a letter does, and never with the order of keys.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The fields that make up a tool's identity, in hashing order.
const FIELDS: [&str; 8] =
    ["_meta", "annotations", "description", "icons", "inputSchema", "name", "outputSchema", "title"];

/// SHA-256 over the canonical form of a tool, in hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pin(String);

impl Pin {
    /// Reads a stored pin.
    pub fn from_hex(hex: impl Into<String>) -> Self {
        Self(hex.into())
    }

    /// The pin in hex.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts of a tool, as its server sent it, that make up its identity.
    pub(super) fn definition(tool: &Value) -> Value {
        let field = |field: &str| Some((field.to_owned(), tool.get(field).filter(|value| !value.is_null())?.clone()));
        Value::Object(FIELDS.into_iter().filter_map(field).collect())
    }

    /// The pin of a tool as the server sent it. A field that is `null` counts as absent.
    pub fn of(tool: &Value) -> Self {
        let mut text = String::from("{");
        for field in FIELDS {
            if let Some(value) = tool.get(field).filter(|value| !value.is_null()) {
                push_string(&mut text, field);
                text.push(':');
                canonical(value, &mut text);
                text.push(',');
            }
        }
        text.push('}');
        Self(hex::encode(Sha256::digest(text.as_bytes())))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Compact JSON with the keys of every object in byte order, whatever order the parser keeps.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_string(out, key);
                out.push(':');
                canonical(&map[key], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        Value::String(text) => push_string(out, text),
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
}

fn push_string(out: &mut String, text: &str) {
    out.push_str(&Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_same(left: &str, right: &str, same: bool) {
        let pin = |text: &str| Pin::of(&serde_json::from_str(text).unwrap());
        assert_eq!(pin(left) == pin(right), same, "{left}\n{right}");
    }

    #[test]
    fn key_order_null_and_foreign_fields_do_not_count() {
        check_same(
            r#"{"name": "q", "inputSchema": {"type": "object", "properties": {"a": 1, "b": 2}}}"#,
            r#"{"inputSchema": {"properties": {"b": 2, "a": 1}, "type": "object"}, "name": "q", "title": null, "x": {"x": 1}}"#,
            true,
        );
    }

    #[test]
    fn every_part_of_the_identity_counts() {
        let base = r#"{"name": "q", "description": "Reads."}"#;
        check_same(base, r#"{"name": "q", "description": "Reads!"}"#, false);
        check_same(base, r#"{"name": "q2", "description": "Reads."}"#, false);
        check_same(base, r#"{"name": "q", "description": "Reads.", "title": "Q"}"#, false);
        check_same(base, r#"{"name": "q", "description": "Reads.", "annotations": {"readOnlyHint": true}}"#, false);
        check_same(base, r#"{"name": "q", "description": "Reads.", "outputSchema": {}}"#, false);
        check_same(base, r#"{"name": "q", "description": "Reads.", "_meta": {"a": 1}}"#, false);
        check_same(base, r#"{"name": "q", "description": "Reads.", "icons": [{"src": "https://x"}]}"#, false);
    }

    #[test]
    fn the_order_of_a_list_is_meaning() {
        check_same(r#"{"inputSchema": {"enum": [1, 2]}}"#, r#"{"inputSchema": {"enum": [2, 1]}}"#, false);
    }

    #[test]
    fn the_form_is_fixed_for_ever() {
        let pin = Pin::of(&serde_json::json!({"name": "echo", "inputSchema": {"type": "object"}}));
        let canonical = r#"{"inputSchema":{"type":"object"},"name":"echo",}"#;
        assert_eq!(pin.as_str(), hex::encode(Sha256::digest(canonical)));
    }
}
