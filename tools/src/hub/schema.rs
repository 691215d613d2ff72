//! Checks values against the schemas of strangers: nothing is fetched, no pattern runs away.

use jsonschema::{PatternOptions, Retrieve, Uri, Validator};
use serde_json::Value;

use super::error::quote;
use super::limits::{PATTERN_BACKTRACK_MAX, SCHEMA_BYTES_MAX};

/// A compiled schema.
#[derive(Debug)]
pub(super) struct Schema(Validator);

/// The first value that does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    pub(super) pointer: String,
    pub(super) message: String,
}

/// A reference to another document is never followed: a schema would choose where we connect.
struct Nowhere;

impl Retrieve for Nowhere {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("references to other documents are not followed: {}", quote(uri.as_str())).into())
    }
}

impl Schema {
    /// Compiles a schema, draft 2020-12 unless it names another.
    pub(super) fn compile(schema: &Value) -> Result<Self, String> {
        let bytes = schema.to_string().len();
        if bytes > SCHEMA_BYTES_MAX {
            return Err(format!("{bytes} bytes; the limit is {SCHEMA_BYTES_MAX}"));
        }
        if let Some(pointer) = endless_reference(schema) {
            return Err(format!("the reference at `{pointer}` leads back to itself"));
        }
        let patterns = PatternOptions::fancy_regex().backtrack_limit(PATTERN_BACKTRACK_MAX);
        let compiled = jsonschema::options().with_retriever(Nowhere).with_pattern_options(patterns).build(schema);
        compiled.map(Self).map_err(|error| quote(&error.to_string()))
    }

    /// The first misfit of a value, by JSON pointer.
    pub(super) fn check(&self, value: &Value) -> Result<(), Misfit> {
        match self.0.iter_errors(value).next() {
            None => Ok(()),
            Some(error) => {
                Err(Misfit { pointer: error.instance_path().to_string(), message: quote(&error.to_string()) })
            }
        }
    }
}

/// A `$ref` that is reached again without going into the value would recurse for ever.
fn endless_reference(schema: &Value) -> Option<String> {
    let mut found = None;
    walk(schema, schema, &mut String::new(), &mut found);
    found
}

fn walk(root: &Value, node: &Value, path: &mut String, found: &mut Option<String>) {
    if found.is_some() {
        return;
    }
    match node {
        Value::Object(map) => {
            if map.contains_key("$ref") && leads_back(root, node) {
                *found = Some(if path.is_empty() { "/".into() } else { path.clone() });
                return;
            }
            for (key, child) in map {
                let length = path.len();
                path.push('/');
                path.push_str(key);
                walk(root, child, path, found);
                path.truncate(length);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(root, item, path, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Follows references and the applicators that stay on the same value, depth first.
fn leads_back(root: &Value, start: &Value) -> bool {
    let mut open: Vec<&Value> = same_value_children(root, start);
    let mut seen: Vec<*const Value> = Vec::new();
    while let Some(node) = open.pop() {
        let address: *const Value = node;
        if std::ptr::eq(node, start) {
            return true;
        }
        if !seen.contains(&address) {
            seen.push(address);
            open.extend(same_value_children(root, node));
        }
    }
    false
}

/// The subschemas that judge the same value as `node` does.
fn same_value_children<'a>(root: &'a Value, node: &'a Value) -> Vec<&'a Value> {
    const LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
    const SINGLES: [&str; 4] = ["not", "if", "then", "else"];
    let mut children: Vec<&Value> = Vec::new();
    if let Some(target) = node.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#')) {
        children.extend(root.pointer(target));
    }
    children.extend(LISTS.iter().filter_map(|key| node.get(key)?.as_array()).flatten());
    children.extend(SINGLES.iter().filter_map(|key| node.get(key)));
    children.extend(node.get("dependentSchemas").and_then(Value::as_object).into_iter().flat_map(|map| map.values()));
    children
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn check_schema(schema: Value, value: Value, expected: Expect) {
        let shown = match Schema::compile(&schema) {
            Err(error) => format!("schema: {error}"),
            Ok(schema) => match schema.check(&value) {
                Ok(()) => "fits".to_owned(),
                Err(misfit) => format!("{}: {}", misfit.pointer, misfit.message),
            },
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn a_misfit_has_a_pointer() {
        let schema =
            json!({"type": "object", "properties": {"rows": {"items": {"type": "integer"}}}, "required": ["rows"]});
        check_schema(schema.clone(), json!({"rows": [1, 2]}), expect!["fits"]);
        check_schema(schema.clone(), json!({"rows": [1, "x"]}), expect![[r#"/rows/1: "x" is not of type "integer""#]]);
        check_schema(schema, json!({}), expect![[r#": "rows" is a required property"#]]);
    }

    #[test]
    fn other_documents_are_not_fetched() {
        check_schema(
            json!({"$ref": "http://127.0.0.1:9/x.json"}),
            json!({}),
            expect![
                "schema: Resource 'http://127.0.0.1:9/x.json' is not present in a registry and retrieving it failed: references to other documents are not followed: http://127.0.0.1:9/x.json"
            ],
        );
        check_schema(
            json!({"$ref": "file:///etc/passwd"}),
            json!({}),
            expect![
                "schema: Resource 'file:///etc/passwd' is not present in a registry and retrieving it failed: references to other documents are not followed: file:///etc/passwd"
            ],
        );
    }

    #[test]
    fn a_schema_cannot_make_us_recurse_for_ever() {
        check_schema(json!({"$ref": "#"}), json!({}), expect!["schema: the reference at `/` leads back to itself"]);
        let mutual = json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"});
        check_schema(mutual, json!({}), expect!["schema: the reference at `/$defs/a/allOf` leads back to itself"]);
        let tree = json!({"type": "object", "properties": {"child": {"$ref": "#"}}});
        check_schema(tree, json!({"child": {"child": {}}}), expect!["fits"]);
    }

    #[test]
    fn a_pattern_cannot_run_away() {
        let schema = json!({"type": "string", "pattern": "^(a+)+(?=b)$"});
        check_schema(
            schema,
            json!("a".repeat(200)),
            expect![[
                r#": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" does not match "^(a+)+(?=b)$""#
            ]],
        );
    }
}
