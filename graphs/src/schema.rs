//! JSON Schemas of a graph: compiled once, without IO, with patterns of linear time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// Schemas a graph file may pull in by reference from one schema.
const REFERENCES_MAX: usize = 1_000;
/// Memory of one compiled `pattern`, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A compiled JSON Schema.
#[derive(Debug, Clone)]
pub struct Schema {
    json: Arc<Value>,
    validator: Arc<Validator>,
}

/// A value that does not satisfy a schema. The message never shows the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", if .pointer.is_empty() { "the value" } else { .pointer })]
pub struct SchemaError {
    /// Where in the value, as a JSON pointer.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

impl Schema {
    /// Compiles a schema that stands alone.
    pub fn new(schema: &Value) -> Result<Schema, SchemaError> {
        Schema::with_named(schema, &BTreeMap::new())
    }

    /// Compiles a schema; `#/schemas/X` refers to `named[X]`. Nothing is ever fetched.
    pub(crate) fn with_named(schema: &Value, named: &BTreeMap<String, Value>) -> Result<Schema, SchemaError> {
        let json = bundle(schema, named)?;
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX))
            .build(&json)
            .map_err(|error| SchemaError { pointer: error.instance_path().to_string(), message: error.to_string() })?;
        Ok(Schema { json: Arc::new(json), validator: Arc::new(validator) })
    }

    /// Checks a value.
    pub fn check(&self, value: &Value) -> Result<(), SchemaError> {
        match self.validator.iter_errors(value).next() {
            None => Ok(()),
            Some(error) => Err(SchemaError {
                pointer: error.instance_path().to_string(),
                message: error.masked_with("the value").to_string(),
            }),
        }
    }

    /// The properties it lists, when that list is all it says about an object's keys: with none of the keywords that
    /// speak of further keys, a key outside the list is more likely a slip than a wish.
    pub fn listed_properties(&self) -> Option<impl Iterator<Item = &str>> {
        const ABOUT_OTHER_KEYS: [&str; 12] = [
            "additionalProperties",
            "allOf",
            "anyOf",
            "dependentSchemas",
            "else",
            "if",
            "not",
            "oneOf",
            "patternProperties",
            "propertyNames",
            "then",
            "unevaluatedProperties",
        ];
        let root = self.json.as_object()?;
        let named = root.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
        let shape = match named {
            Some(pointer) => self.json.pointer(pointer)?.as_object()?,
            None => root,
        };
        if ABOUT_OTHER_KEYS.iter().any(|keyword| shape.contains_key(*keyword)) || shape.contains_key("$ref") {
            return None;
        }
        Some(shape.get("properties")?.as_object()?.keys().map(String::as_str))
    }

    /// The schema, with every named schema it refers to under `schemas`.
    pub fn json(&self) -> &Value {
        &self.json
    }
}

/// Adds the named schemas that `schema` reaches, so that the result stands alone.
fn bundle(schema: &Value, named: &BTreeMap<String, Value>) -> Result<Value, SchemaError> {
    let mut reached = BTreeSet::new();
    let mut open = vec![schema];
    let mut names = Vec::new();
    while let Some(value) = open.pop() {
        names.clear();
        collect_references(value, &mut names)?;
        for name in names.drain(..) {
            let Some((name, target)) = named.get_key_value(&name) else {
                let message = format!("`#/schemas/{name}` names no entry of `schemas:`");
                return Err(SchemaError { pointer: String::new(), message });
            };
            if reached.len() < REFERENCES_MAX && reached.insert(name.clone()) {
                open.push(target);
            }
        }
    }
    let mut json = schema.clone();
    if let (Value::Object(root), false) = (&mut json, reached.is_empty()) {
        let schemas = reached.into_iter().filter_map(|name| Some((name.clone(), named.get(&name)?.clone())));
        root.insert("schemas".to_owned(), Value::Object(schemas.collect()));
    }
    Ok(json)
}

/// The names `X` of every `$ref: "#/schemas/X"` in a schema; a reference to another document is refused.
fn collect_references(value: &Value, names: &mut Vec<String>) -> Result<(), SchemaError> {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match field {
                    Value::String(target) if key == "$ref" || key == "$dynamicRef" => {
                        if !target.starts_with('#') {
                            let message =
                                format!("`{target}` is outside this file; only `#/schemas/Name` can be referred to");
                            return Err(SchemaError { pointer: String::new(), message });
                        }
                        if let Some(name) = target.strip_prefix("#/schemas/") {
                            names.push(name.split('/').next().unwrap_or(name).to_owned());
                        }
                    }
                    _ => collect_references(field, names)?,
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                collect_references(item, names)?;
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(schemas: Value) -> BTreeMap<String, Value> {
        serde_json::from_value(schemas).unwrap()
    }

    #[test]
    fn named_schemas_resolve() {
        let named = named(json!({
            "Plan": { "type": "object", "properties": { "steps": { "type": "array", "items": { "$ref": "#/schemas/Step" } } } },
            "Step": { "type": "object", "required": ["id"], "properties": { "next": { "$ref": "#/schemas/Step" } } },
            "Unused": { "type": "string" },
        }));
        let schema = Schema::with_named(&json!({ "$ref": "#/schemas/Plan" }), &named).unwrap();
        assert!(schema.check(&json!({ "steps": [{ "id": 1, "next": { "id": 2 } }] })).is_ok());
        let error = schema.check(&json!({ "steps": [{ "id": 1, "next": { "secret": "s3cr3t" } }] })).unwrap_err();
        assert_eq!(error.pointer, "/steps/0/next");
        assert!(!error.to_string().contains("s3cr3t"), "{error}");
        assert!(schema.json().pointer("/schemas/Step").is_some());
        assert!(schema.json().pointer("/schemas/Unused").is_none());
    }

    #[test]
    fn schemas_that_refer_to_themselves_end() {
        let named = named(json!({
            "A": { "$ref": "#/schemas/B" },
            "B": { "$ref": "#/schemas/A" },
            "C": { "allOf": [{ "$ref": "#/schemas/C" }] },
            "D": { "type": "object", "additionalProperties": { "$ref": "#/schemas/D" } },
        }));
        for name in ["A", "B", "C", "D"] {
            let schema = json!({ "$ref": format!("#/schemas/{name}") });
            if let Ok(schema) = Schema::with_named(&schema, &named) {
                let _ = schema.check(&json!({ "x": { "y": {} } }));
            }
        }
    }

    #[test]
    fn nothing_is_fetched() {
        for reference in ["https://example.com/s.json", "file:///etc/passwd", "other.json#/x"] {
            let error = Schema::new(&json!({ "properties": { "x": { "$ref": reference } } })).unwrap_err();
            assert!(error.message.contains("outside this file"), "{error}");
        }
        assert!(Schema::new(&json!({ "$id": "https://example.com/", "$ref": "#/nowhere" })).is_err());
    }

    #[test]
    fn patterns_are_linear() {
        assert!(Schema::new(&json!({ "pattern": "(?=a)b" })).is_err(), "look-around");
        assert!(Schema::new(&json!({ "pattern": "(a{1000}){1000}{1000}" })).is_err(), "size");
        let schema = Schema::new(&json!({ "pattern": "^(a+)+$" })).unwrap();
        assert!(schema.check(&json!(format!("{}b", "a".repeat(50_000)))).is_err());
    }
}
