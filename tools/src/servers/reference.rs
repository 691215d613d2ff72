//! For tests: the page of a server's tools, and whether arguments and answers are as the schemas say.

use std::fmt::Write as _;

use rmcp::model::JsonObject;
use serde_json::Value;

use super::table::ToolSpec;

/// The text of `TOOLS.md`.
pub(super) fn page<S, E>(title: &str, tools: &[ToolSpec<S, E>]) -> String {
    let mut text = format!(
        "# {title}\n\nWritten by the test `reference`; `UPDATE_EXPECT=1` rewrites it. `?` marks optional \
         arguments.\n\n| tool | effect | arguments | what it does |\n| --- | --- | --- | --- |\n",
    );
    for spec in tools {
        let input = spec.describe().input_schema;
        let required = input.get("required").cloned().unwrap_or_default();
        let is_required = |name: &str| required.as_array().is_some_and(|list| list.iter().any(|r| r == name));
        let names = input["properties"].as_object().unwrap().keys();
        let names: Vec<String> = names.map(|n| if is_required(n) { n.clone() } else { format!("{n}?") }).collect();
        writeln!(text, "| `{}` | {:?} | {} | {} |", spec.name, spec.effect, names.join(", "), spec.description)
            .unwrap();
    }
    text
}

/// Whether `value` is as `schema` says.
#[track_caller]
pub(super) fn check(tool: &str, schema: &JsonObject, value: &Value) {
    let validator = jsonschema::validator_for(&Value::Object(schema.clone())).unwrap();
    let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{tool}: {errors:?} in {value}");
}
