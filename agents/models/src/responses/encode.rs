//! A request in the words of Responses.

use serde_json::{Map, Value, json};

use crate::request::{Message, ModelRequest, Part, Role, Tool, ToolChoice};
use crate::wire::Origin;

/// The body of a call.
pub(crate) fn encode(origin: &Origin, request: &ModelRequest) -> Value {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    put("model", json!(request.model));
    put("input", request.messages.iter().flat_map(|message| items(origin, message)).collect());
    put("max_output_tokens", json!(request.max_output_tokens));
    // The conversation is ours to keep, not the provider's.
    put("store", json!(false));
    if !request.system.text.is_empty() {
        put("instructions", json!(request.system.text));
    }
    if !request.tools.is_empty() {
        put("tools", request.tools.iter().map(tool).collect());
        put("tool_choice", choice(&request.tool_choice));
    }
    if let Some(form) = &request.output {
        let form = json!({"type": "json_schema", "name": form.name, "schema": form.schema, "strict": true});
        put("text", json!({"format": form}));
    }
    if let Some(effort) = request.effort {
        put("reasoning", json!({"effort": effort.word()}));
        // What is not stored there has to come back with the next call, sealed.
        put("include", json!(["reasoning.encrypted_content"]));
    }
    if let Some(temperature) = request.temperature {
        put("temperature", json!(temperature));
    }
    if request.stream {
        put("stream", json!(true));
    }
    Value::Object(body)
}

fn items(origin: &Origin, message: &Message) -> Vec<Value> {
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let item = |part: &Part| match part {
        Part::Text { text } => Some(json!({"role": role, "content": text})),
        Part::ToolCall { id, name, arguments, malformed } => {
            let arguments = match arguments {
                Value::String(raw) if *malformed => raw.clone(),
                arguments => arguments.to_string(),
            };
            Some(json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments}))
        }
        Part::ToolResult { call_id, content, is_error } => {
            // There is no other way to say that a tool failed.
            let output = if *is_error { format!("error: {content}") } else { content.clone() };
            Some(json!({"type": "function_call_output", "call_id": call_id, "output": output}))
        }
        Part::Thought { provider, model, data } => origin.had(provider, model).then(|| data.clone()),
    };
    message.parts.iter().filter_map(item).collect()
}

fn tool(tool: &Tool) -> Value {
    json!({
        "type": "function", "name": tool.name, "description": tool.description,
        "parameters": tool.parameters, "strict": tool.strict,
    })
}

fn choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Any => json!("required"),
        ToolChoice::Tool(name) => json!({"type": "function", "name": name}),
    }
}
