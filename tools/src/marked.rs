//! What is journaled in the place of a tool's result: an object whose only key is one of ours, which no tool may use.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// `content` in the place of a result.
pub(crate) fn mark(key: &str, content: &impl Serialize) -> Value {
    json!({ key: content })
}

/// The content in the place of a result, if that is what it is.
pub(crate) fn content<T: DeserializeOwned>(key: &str, result: &Value) -> Option<T> {
    let content = result.as_object().filter(|fields| fields.len() == 1)?.get(key)?;
    serde_json::from_value(content.clone()).ok()
}

/// Whether a result of a tool pretends to be the runtime's.
pub(crate) fn is_forged(key: &str, result: &Value) -> bool {
    result.get(key).is_some()
}
