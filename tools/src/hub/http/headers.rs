//! What a request says in its headers besides its body (2026-07-28), and what of its arguments goes there.

use std::collections::HashSet;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage};
use serde_json::{Map, Value};

/// Key of a request's `_meta` with the revision it speaks.
const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
/// Annotation of a property whose value is repeated as a header.
const ANNOTATION: &str = "x-mcp-header";
pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
pub(super) const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// Arguments of a call that are repeated as headers, as name and value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Promoted(Vec<(String, String)>);

impl Promoted {
    /// What a tool's schema wants of these arguments.
    pub(crate) fn of(schema: &Value, arguments: &Map<String, Value>) -> Self {
        let mut promoted = Vec::new();
        let root = Value::Object(arguments.clone());
        for (path, header) in annotated(schema) {
            let value = path.iter().try_fold(&root, |value, key| value.get(key));
            if let (Some(header), Some(text)) = (header.as_str(), value.and_then(plain)) {
                promoted.push((format!("mcp-param-{header}"), text));
            }
        }
        Self(promoted)
    }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Annotated properties reached from the root through `properties` alone, with their path.
fn annotated(schema: &Value) -> Vec<(Vec<&str>, &Value)> {
    let mut found = Vec::new();
    let mut open = vec![(Vec::new(), schema)];
    while let Some((path, schema)) = open.pop() {
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let mut path: Vec<&str> = path.clone();
            path.push(name);
            found.extend(property.get(ANNOTATION).map(|header| (path.clone(), header)));
            open.push((path, property));
        }
    }
    found
}

/// What is wrong with the header annotations of a schema: a tool with a bad one must not be used.
///
/// # Errors
/// The first mistake.
pub(crate) fn check_annotations(schema: &Value) -> Result<(), String> {
    let proper = annotated(schema);
    if count(schema) != proper.len() {
        return Err(format!("`{ANNOTATION}` stands on something that is no property of the arguments"));
    }
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let mut seen = HashSet::new();
    for (path, header) in proper {
        let name = path.join(".");
        let header = header.as_str().unwrap_or_default();
        if header.is_empty() || !header.chars().all(token) {
            return Err(format!("`{ANNOTATION}` of `{name}` is not the name of a header"));
        }
        if !seen.insert(header.to_ascii_lowercase()) {
            return Err(format!("`{ANNOTATION}` of `{name}` is used twice"));
        }
        let kind = path.iter().try_fold(schema, |schema, key| schema.get("properties")?.get(key));
        let kind = kind.and_then(|property| property.get("type")).and_then(Value::as_str);
        if !matches!(kind, Some("string" | "integer" | "boolean")) {
            return Err(format!("`{ANNOTATION}` of `{name}` stands on a value that is no string, integer or boolean"));
        }
    }
    Ok(())
}

/// Annotations anywhere in a schema; instance data does not count.
fn count(schema: &Value) -> usize {
    match schema {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| match (key.as_str(), value) {
                (ANNOTATION, _) => 1,
                ("default" | "const" | "enum" | "examples", _) => 0,
                // A property may be called like the annotation.
                (
                    "properties" | "$defs" | "definitions" | "patternProperties" | "dependentSchemas",
                    Value::Object(named),
                ) => named.values().map(count).sum(),
                (_, value) => count(value),
            })
            .sum(),
        Value::Array(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

/// The headers of one message of the 2026-07-28 era; `None` for a message of the era before.
pub(super) fn of_message(message: &ClientJsonRpcMessage, body: &Value) -> Option<HeaderMap> {
    let version = body.pointer("/params/_meta").and_then(|meta| meta.get(VERSION_KEY)).and_then(Value::as_str)?;
    let mut headers = HeaderMap::new();
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(&encode(value)) {
            headers.insert(name, value);
        }
    };
    put(VERSION, version);
    let method = body.get("method").and_then(Value::as_str).unwrap_or_default();
    put(HeaderName::from_static("mcp-method"), method);
    let named_by = match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => "uri",
        "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
        _ => "",
    };
    if let Some(name) = body.pointer("/params").and_then(|params| params.get(named_by)).and_then(Value::as_str) {
        put(HeaderName::from_static("mcp-name"), name);
    }
    if let JsonRpcMessage::Request(request) = message
        && let Some(Promoted(promoted)) = rmcp::model::GetExtensions::extensions(&request.request).get::<Promoted>()
    {
        for (name, value) in promoted {
            if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                put(name, value);
            }
        }
    }
    Some(headers)
}

/// A value as it can travel in a header: itself, or wrapped in base64 where a header would not keep it.
fn encode(value: &str) -> String {
    use base64::Engine as _;
    let edge = |c: Option<char>| matches!(c, Some(' ' | '\t'));
    let wrapped = value.starts_with("=?base64?") && value.ends_with("?=");
    let odd = value.chars().any(|c| !(' '..='~').contains(&c));
    if odd || wrapped || edge(value.chars().next()) || edge(value.chars().next_back()) {
        format!("=?base64?{}?=", base64::engine::general_purpose::STANDARD.encode(value))
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(header: Value, kind: &str) -> Value {
        json!({"type": "object", "properties": {"region": {"type": kind, "x-mcp-header": header}}})
    }

    #[test]
    fn annotated_arguments_are_repeated_and_odd_ones_wrapped() {
        let nested = json!({"properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "deep": {"properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
        }});
        let arguments = json!({"region": "us west", "deep": {"n": 3}, "other": 1});
        let mut promoted = Promoted::of(&nested, arguments.as_object().unwrap()).0;
        promoted.sort();
        assert_eq!(
            promoted,
            [("mcp-param-N".into(), "3".into()), ("mcp-param-Region".to_owned(), "us west".to_owned())]
        );
        assert_eq!(encode("plain value"), "plain value");
        assert_eq!(encode(" é"), "=?base64?IMOp?=");
        assert_eq!(encode("=?base64?eA==?="), "=?base64?PT9iYXNlNjQ/ZUE9PT89?=");
    }

    #[test]
    fn a_bad_annotation_is_named() {
        assert_eq!(check_annotations(&schema(json!("Region"), "string")), Ok(()));
        for (header, kind) in [
            (json!(""), "string"),
            (json!("a b"), "string"),
            (json!(3), "string"),
            (json!("N"), "number"),
            (json!("a"), "array"),
        ] {
            assert!(check_annotations(&schema(header.clone(), kind)).is_err(), "{header} {kind}");
        }
        let twice = json!({"properties": {"a": {"type": "string", "x-mcp-header": "X"}, "b": {"type": "string", "x-mcp-header": "x"}}});
        assert!(check_annotations(&twice).unwrap_err().contains("twice"));
        let hidden = json!({"properties": {"a": {"type": "array", "items": {"type": "string", "x-mcp-header": "X"}}}});
        assert!(check_annotations(&hidden).unwrap_err().contains("no property"));
    }
}
