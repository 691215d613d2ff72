//! Fixtures that ask back: over the open stream in the older era, as a result in the newer one.

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ErrorData, GetPromptRequestParams, GetPromptResponse,
    GetPromptResult, InputRequests, InputRequiredResult, InputResponses, RequestMetaObject, RequestStateCodec,
};
use serde_json::{Value, json};

use super::content::{complete, text_result, typed};

/// Signs the state of a conversation. Fixed: this server keeps nothing worth a secret.
const STATE_KEY: &[u8] = b"a-key-for-fixtures-that-guards-nothing!!";

fn codec() -> RequestStateCodec {
    RequestStateCodec::new_unchecked(STATE_KEY)
}

/// A form with one field.
pub(crate) fn form(message: &str, field: &str, kind: &str) -> Value {
    let schema = json!({"type": "object", "properties": {field: {"type": kind}}, "required": [field]});
    json!({"message": message, "requestedSchema": schema})
}

pub(crate) fn form_with_defaults() -> Value {
    let schema = json!({"type": "object", "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": true},
    }});
    json!({"message": "Every field has a default", "requestedSchema": schema})
}

pub(crate) fn form_with_enums() -> Value {
    let titled = |names: [&str; 3]| {
        let values = ["value1", "value2", "value3"];
        values.iter().zip(names).map(|(value, title)| json!({"const": value, "title": title})).collect::<Vec<_>>()
    };
    let options = json!(["option1", "option2", "option3"]);
    let schema = json!({"type": "object", "properties": {
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": titled(["First Option", "Second Option", "Third Option"])},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled(["First Choice", "Second Choice", "Third Choice"])}},
    }});
    json!({"message": "Every kind of choice", "requestedSchema": schema})
}

fn elicit(params: Value) -> Value {
    json!({"method": "elicitation/create", "params": params})
}

fn sample(prompt: &str) -> Value {
    let message = json!({"role": "user", "content": {"type": "text", "text": prompt}});
    json!({"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": 100}})
}

fn roots() -> Value {
    json!({"method": "roots/list"})
}

fn ask(requests: Value, state: Option<Value>) -> Result<InputRequiredResult, ErrorData> {
    let requests: InputRequests = typed(requests)?;
    let sealed = state.map(|state| codec().seal_json(&state)).transpose();
    let sealed = sealed.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    Ok(InputRequiredResult::new(Some(requests), sealed))
}

/// The state as we sealed it; anything else is refused.
fn state(sealed: Option<&str>) -> Result<Option<Value>, ErrorData> {
    let opened = sealed.map(|sealed| codec().open_json::<Value>(sealed)).transpose();
    opened.map_err(|_| ErrorData::invalid_params("requestState was changed on its way", None))
}

/// A response counts only as an object; anything else is asked for again.
fn response<'a>(responses: Option<&'a InputResponses>, key: &str) -> Option<&'a Value> {
    responses.and_then(|responses| responses.get(key)).filter(|response| response.is_object())
}

fn said(responses: Option<&InputResponses>, key: &str, pointer: &str) -> Option<String> {
    let response = response(responses, key)?;
    Some(
        response
            .pointer(pointer)
            .map_or_else(|| "nothing".to_owned(), |value| value.as_str().map_or(value.to_string(), str::to_owned)),
    )
}

/// The tools whose names begin with `test_input_required_result_`.
pub(crate) fn call(request: &CallToolRequestParams, meta: &RequestMetaObject) -> Result<CallToolResponse, ErrorData> {
    let kind = request.name.strip_prefix("test_input_required_result_").unwrap_or_default();
    let responses = request.input_responses.as_ref();
    let known = state(request.request_state.as_deref())?;
    let name = || elicit(form("What is your name?", "name", "string"));
    let done: Result<CallToolResult, ErrorData> = match kind {
        "elicitation" => match said(responses, "user_name", "/content/name") {
            Some(name) => text_result(format!("Hello, {name}!")),
            None => return ask(json!({"user_name": name()}), None).map(Into::into),
        },
        "sampling" => match said(responses, "capital_question", "/content/text") {
            Some(text) => text_result(format!("Sampling response: {text}")),
            None => {
                return ask(json!({"capital_question": sample("What is the capital of France?")}), None)
                    .map(Into::into);
            }
        },
        "list_roots" => match said(responses, "client_roots", "/roots") {
            Some(roots) => text_result(format!("Client roots: {roots}")),
            None => return ask(json!({"client_roots": roots()}), None).map(Into::into),
        },
        "request_state" | "tampered_state" => match known {
            Some(_) => text_result("Confirmed: state-ok"),
            None => {
                let confirm = elicit(form("Please confirm", "ok", "boolean"));
                return ask(json!({ "confirm": confirm }), Some(json!({"stage": "confirm"}))).map(Into::into);
            }
        },
        "multiple_inputs" => {
            let all = ["user_name", "greeting", "client_roots"].iter().all(|key| response(responses, key).is_some());
            if !all || known.is_none() {
                let requests =
                    json!({"user_name": name(), "greeting": sample("Generate a greeting"), "client_roots": roots()});
                return ask(requests, Some(json!({"stage": "gather"}))).map(Into::into);
            }
            text_result("All inputs received")
        }
        "multi_round" => match known.as_ref().and_then(|state| state["round"].as_u64()).unwrap_or(0) {
            0 => return ask(json!({"step1": name()}), Some(json!({"round": 1}))).map(Into::into),
            1 => {
                let color = elicit(form("What is your favorite color?", "color", "string"));
                return ask(json!({ "step2": color }), Some(json!({"round": 2}))).map(Into::into);
            }
            _ => text_result("Multi-round flow complete"),
        },
        "capabilities" => return capabilities(responses, meta),
        _ => return Err(ErrorData::invalid_params(format!("Unknown tool: {}", request.name), None)),
    };
    done.map(Into::into)
}

/// Asks only for what the client says it can answer.
fn capabilities(responses: Option<&InputResponses>, meta: &RequestMetaObject) -> Result<CallToolResponse, ErrorData> {
    let declared = serde_json::to_value(meta.client_capabilities().unwrap_or_default()).unwrap_or_default();
    let all = [
        ("elicitation", "user_name", elicit(form("What is your name?", "name", "string"))),
        ("sampling", "greeting", sample("Generate a greeting")),
        ("roots", "client_roots", roots()),
    ];
    let wanted = all.into_iter().filter(|(capability, ..)| declared.get(capability).is_some());
    let wanted: serde_json::Map<String, Value> = wanted.map(|(_, key, request)| (key.to_owned(), request)).collect();
    if responses.is_some() || wanted.is_empty() {
        return text_result("Capability-aware flow complete").map(Into::into);
    }
    ask(Value::Object(wanted), None).map(Into::into)
}

pub(crate) fn streaming() -> Result<CallToolResponse, ErrorData> {
    ask(json!({"streaming_elicitation": elicit(form("Provide a value", "value", "string"))}), None).map(Into::into)
}

/// The prompt that asks back.
pub(crate) fn prompt(request: &GetPromptRequestParams) -> Result<GetPromptResponse, ErrorData> {
    match said(request.input_responses.as_ref(), "user_context", "/content/context") {
        Some(context) => {
            let text = json!({"type": "text", "text": format!("Prompt with elicited context: {context}")});
            typed::<GetPromptResult>(complete(json!({"messages": [{"role": "user", "content": text}]}))).map(Into::into)
        }
        None => {
            let form = elicit(form("What context should the prompt use?", "context", "string"));
            ask(json!({ "user_context": form }), None).map(Into::into)
        }
    }
}
