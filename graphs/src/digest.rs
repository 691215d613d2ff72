//! Canonical JSON: the same value always gives the same text.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::compiled::GraphDigest;

/// The digest of a document that holds only what has a meaning.
pub(crate) fn of(document: &Value) -> GraphDigest {
    GraphDigest(crate::hex_form::digits(Sha256::digest(canonical(document).as_bytes())))
}

/// JSON without spaces and with sorted keys.
pub(crate) fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (ix, item) in items.iter().enumerate() {
                if ix > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (ix, (key, field)) in sorted.into_iter().enumerate() {
                if ix > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(field, out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}
