//! A request in the words of Chat Completions.

use serde_json::{Map, Value, json};

use crate::request::{Message, ModelRequest, Part, Role, Tool, ToolChoice};

/// The body of a call.
pub(crate) fn encode(max_tokens_field: &str, request: &ModelRequest) -> Value {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    let mut messages = Vec::new();
    if !request.system.text.is_empty() {
        messages.push(json!({"role": "system", "content": request.system.text}));
    }
    request.messages.iter().for_each(|message| add_turns(message, &mut messages));
    put("model", json!(request.model));
    put("messages", Value::Array(messages));
    put(max_tokens_field, json!(request.max_output_tokens));
    if !request.tools.is_empty() {
        put("tools", request.tools.iter().map(tool).collect());
        put("tool_choice", choice(&request.tool_choice));
    }
    if let Some(form) = &request.output {
        let form = json!({"name": form.name, "schema": form.schema, "strict": true});
        put("response_format", json!({"type": "json_schema", "json_schema": form}));
    }
    if let Some(effort) = request.effort {
        put("reasoning_effort", json!(effort.word()));
    }
    if let Some(temperature) = request.temperature {
        put("temperature", json!(temperature));
    }
    if !request.stop.is_empty() {
        put("stop", json!(request.stop));
    }
    if request.stream {
        put("stream", json!(true));
        // Without it a stream does not say what it cost.
        put("stream_options", json!({"include_usage": true}));
    }
    Value::Object(body)
}

/// A turn becomes one message, and each result of a tool one of its own before it.
fn add_turns(message: &Message, messages: &mut Vec<Value>) {
    let mut calls = Vec::new();
    let mut text = String::new();
    for part in &message.parts {
        match part {
            Part::Text { text: more } => {
                text.push_str(if text.is_empty() { "" } else { "\n" });
                text.push_str(more);
            }
            Part::ToolCall { id, name, arguments, malformed } => {
                let arguments = match arguments {
                    Value::String(raw) if *malformed => raw.clone(),
                    arguments => arguments.to_string(),
                };
                calls.push(json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}));
            }
            Part::ToolResult { call_id, content, is_error } => {
                // There is no other way to say that a tool failed.
                let content = if *is_error { format!("error: {content}") } else { content.clone() };
                messages.push(json!({"role": "tool", "tool_call_id": call_id, "content": content}));
            }
            // Thoughts have no place in this interface.
            Part::Thought { .. } => {}
        }
    }
    let content = if text.is_empty() { Value::Null } else { json!(text) };
    match message.role {
        Role::User if text.is_empty() => {}
        Role::User => messages.push(json!({"role": "user", "content": content})),
        Role::Assistant if calls.is_empty() && text.is_empty() => {}
        Role::Assistant if calls.is_empty() => messages.push(json!({"role": "assistant", "content": content})),
        Role::Assistant => messages.push(json!({"role": "assistant", "content": content, "tool_calls": calls})),
    }
}

fn tool(tool: &Tool) -> Value {
    let mut function = json!({"name": tool.name, "description": tool.description, "parameters": tool.parameters});
    if tool.strict {
        function["strict"] = json!(true);
    }
    json!({"type": "function", "function": function})
}

fn choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Any => json!("required"),
        ToolChoice::Tool(name) => json!({"type": "function", "function": {"name": name}}),
    }
}
