//! Fixed contents: what the plain tools, resources and prompts of the suite answer.

use rmcp::model::{
    CallToolResult, ErrorData, GetPromptResult, Prompt, ReadResourceResult, Resource, ResourceTemplate, Tool,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A red pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg==";
/// No sound at all.
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=";
/// How long lists may be kept.
pub(crate) const TTL_MS: u64 = 60_000;

/// Tools without arguments, and what they are for.
const PLAIN_TOOLS: [&str; 24] = [
    "test_simple_text",
    "test_image_content",
    "test_audio_content",
    "test_embedded_resource",
    "test_multiple_content_types",
    "test_tool_with_logging",
    "test_error_handling",
    "test_tool_with_progress",
    "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums",
    "test_reconnection",
    "test_trigger_tool_change",
    "test_trigger_prompt_change",
    "test_missing_capability",
    "test_streaming_elicitation",
    "test_logging_tool",
    "test_input_required_result_elicitation",
    "test_input_required_result_sampling",
    "test_input_required_result_list_roots",
    "test_input_required_result_request_state",
    "test_input_required_result_multiple_inputs",
    "test_input_required_result_multi_round",
    "test_input_required_result_tampered_state",
    "test_input_required_result_capabilities",
];

/// What every finished result of the newer era carries; the stack drops it for clients of the older one.
pub(crate) fn complete(mut value: Value) -> Value {
    value["resultType"] = json!("complete");
    value
}

/// Reads one of the types of the protocol from its JSON; fixtures are written as they travel.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value)
        .map_err(|error| ErrorData::internal_error(format!("a fixture is wrong: {error}"), None))
}

fn with_text_argument(name: &str, argument: &str) -> Value {
    let schema = json!({"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]});
    json!({"name": name, "description": format!("Fixture {name}"), "inputSchema": schema})
}

pub(crate) fn custom_header_tool() -> Value {
    let schema = json!({
        "type": "object",
        "properties": {"value": {"type": "string", "x-mcp-header": "Value"}},
        "required": ["value"],
    });
    json!({"name": "test_custom_header", "description": "Repeats a header", "inputSchema": schema})
}

fn rich_schema_tool() -> Value {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {"address": {
            "$anchor": "address",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }},
        "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
        "allOf": [{"anyOf": [{"required": ["name"]}, {"required": ["address"]}]}],
        "if": {"required": ["address"]},
        "then": {"properties": {"address": {"required": ["street"]}}},
        "else": {"required": ["name"]},
        "additionalProperties": false,
    });
    json!({"name": "json_schema_2020_12_tool", "description": "Every keyword travels", "inputSchema": schema})
}

pub(crate) fn tools() -> Result<Vec<Tool>, ErrorData> {
    let plain = PLAIN_TOOLS.iter().map(|name| {
        json!({"name": name, "description": format!("Fixture {name}"), "inputSchema": {"type": "object", "properties": {}}})
    });
    let others = [
        with_text_argument("test_sampling", "prompt"),
        with_text_argument("test_elicitation", "message"),
        custom_header_tool(),
        rich_schema_tool(),
    ];
    typed(plain.chain(others).collect())
}

/// Results that never change.
pub(crate) fn fixed(tool: &str) -> Option<Result<CallToolResult, ErrorData>> {
    let text = |text: &str| json!({"type": "text", "text": text});
    let image = json!({"type": "image", "data": PNG, "mimeType": "image/png"});
    let resource = |uri: &str, kind: &str, text: &str| json!({"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": text}});
    let content = match tool {
        "test_simple_text" => json!([text("This is a simple text response for testing.")]),
        "test_image_content" => json!([image]),
        "test_audio_content" => json!([{"type": "audio", "data": WAV, "mimeType": "audio/wav"}]),
        "test_embedded_resource" => {
            json!([resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")])
        }
        "test_multiple_content_types" => json!([
            text("Multiple content types test:"),
            image,
            resource("test://mixed-content-resource", "application/json", r#"{"test":"data","value":123}"#),
        ]),
        "test_error_handling" => {
            let error = text("This tool intentionally returns an error for testing");
            return Some(typed(complete(json!({"content": [error], "isError": true}))));
        }
        "json_schema_2020_12_tool" => json!([text("Hello")]),
        _ => return None,
    };
    Some(typed(complete(json!({ "content": content }))))
}

pub(crate) fn text_result(text: impl Into<String>) -> Result<CallToolResult, ErrorData> {
    typed(complete(json!({"content": [{"type": "text", "text": text.into()}]})))
}

pub(crate) fn resources() -> Result<Vec<Resource>, ErrorData> {
    typed(json!([
        {"uri": "test://static-text", "name": "Static text", "mimeType": "text/plain"},
        {"uri": "test://static-binary", "name": "Static binary", "mimeType": "image/png"},
        {"uri": "test://watched-resource", "name": "Watched", "mimeType": "text/plain"},
    ]))
}

pub(crate) fn templates() -> Result<Vec<ResourceTemplate>, ErrorData> {
    typed(json!([{"uriTemplate": "test://template/{id}/data", "name": "Template", "mimeType": "application/json"}]))
}

pub(crate) fn resource(uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let contents = match uri {
        "test://static-text" => {
            json!({"uri": uri, "mimeType": "text/plain", "text": "This is the content of the static text resource."})
        }
        "test://static-binary" => json!({"uri": uri, "mimeType": "image/png", "blob": PNG}),
        "test://watched-resource" => json!({"uri": uri, "mimeType": "text/plain", "text": "Watched."}),
        _ => match uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data")) {
            Some(id) => {
                let text = json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")}).to_string();
                json!({"uri": uri, "mimeType": "application/json", "text": text})
            }
            None => {
                let data = json!({ "uri": uri });
                return Err(ErrorData::resource_not_found(format!("Resource not found: {uri}"), Some(data)));
            }
        },
    };
    typed(complete(json!({ "contents": [contents] })))
}

pub(crate) fn prompts() -> Result<Vec<Prompt>, ErrorData> {
    typed(json!([
        {"name": "test_simple_prompt", "description": "No arguments"},
        {"name": "test_prompt_with_arguments", "description": "Two arguments", "arguments": [
            {"name": "arg1", "description": "First test argument", "required": true},
            {"name": "arg2", "description": "Second test argument", "required": true},
        ]},
        {"name": "test_prompt_with_embedded_resource", "description": "A resource inside", "arguments": [
            {"name": "resourceUri", "description": "Its address", "required": false},
        ]},
        {"name": "test_prompt_with_image", "description": "An image inside"},
        {"name": "test_input_required_result_prompt", "description": "Asks back"},
    ]))
}

pub(crate) fn prompt(name: &str, arguments: &Value) -> Result<GetPromptResult, ErrorData> {
    let user = |content: Value| json!({"role": "user", "content": content});
    let text = |text: String| json!({"type": "text", "text": text});
    let argument = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let messages = match name {
        "test_simple_prompt" => json!([user(text("This is a simple prompt for testing.".into()))]),
        "test_prompt_with_arguments" => {
            let said = format!("Prompt with arguments: arg1='{}', arg2='{}'", argument("arg1"), argument("arg2"));
            json!([user(text(said))])
        }
        "test_prompt_with_embedded_resource" => {
            let uri = Some(argument("resourceUri")).filter(|uri| !uri.is_empty());
            let uri = uri.unwrap_or_else(|| "test://example-resource".into());
            let resource =
                json!({"uri": uri, "mimeType": "text/plain", "text": "Embedded resource content for testing."});
            json!([
                user(json!({"type": "resource", "resource": resource})),
                user(text("Please process the embedded resource above.".into())),
            ])
        }
        "test_prompt_with_image" => json!([
            user(json!({"type": "image", "data": PNG, "mimeType": "image/png"})),
            user(text("Please analyze the image above.".into())),
        ]),
        _ => return Err(ErrorData::invalid_params(format!("Unknown prompt: {name}"), None)),
    };
    typed(complete(json!({ "messages": messages })))
}
