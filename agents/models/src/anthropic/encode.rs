//! A request in the words of Messages.

use serde_json::{Map, Value, json};

use crate::request::{Message, ModelRequest, Part, Role, Tool, ToolChoice};
use crate::wire::Origin;

/// The body of a call.
pub(crate) fn encode(origin: &Origin, request: &ModelRequest) -> Value {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    put("model", json!(request.model));
    put("max_tokens", json!(request.max_output_tokens));
    // A turn of nothing but another model's thoughts is none, and an empty one would be refused.
    let turns = request.messages.iter().map(|message| turn(origin, message));
    put("messages", turns.filter(|turn| turn["content"] != json!([])).collect());
    if !request.system.text.is_empty() {
        let block = json!({"type": "text", "text": request.system.text});
        put("system", json!([marked(block, request.system.cache)]));
    }
    if !request.tools.is_empty() {
        // Without a system text the tools are all that stands before the conversation.
        let mark_last = request.system.cache && request.system.text.is_empty();
        let last = request.tools.len() - 1;
        put(
            "tools",
            request.tools.iter().enumerate().map(|(at, one)| marked(tool(one), mark_last && at == last)).collect(),
        );
        put("tool_choice", choice(&request.tool_choice));
    }
    let mut output = Map::new();
    if let Some(form) = &request.output {
        output.insert("format".to_owned(), json!({"type": "json_schema", "schema": form.schema}));
    }
    if let Some(effort) = request.effort {
        output.insert("effort".to_owned(), json!(effort.word()));
    }
    if !output.is_empty() {
        put("output_config", Value::Object(output));
    }
    if let Some(temperature) = request.temperature {
        put("temperature", json!(temperature));
    }
    if !request.stop.is_empty() {
        put("stop_sequences", json!(request.stop));
    }
    if request.stream {
        put("stream", json!(true));
    }
    Value::Object(body)
}

fn turn(origin: &Origin, message: &Message) -> Value {
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    // Results have to come first in their turn.
    let (results, others): (Vec<_>, Vec<_>) =
        message.parts.iter().partition(|part| matches!(part, Part::ToolResult { .. }));
    let mut blocks: Vec<Value> = results.into_iter().chain(others).filter_map(|part| block(origin, part)).collect();
    if message.cache {
        // Thoughts cannot carry a mark.
        let last = blocks.iter_mut().rev().find(|block| block["cache_control"].is_null() && takes_mark(block));
        if let Some(last) = last {
            *last = marked(last.take(), true);
        }
    }
    json!({"role": role, "content": blocks})
}

fn takes_mark(block: &Value) -> bool {
    matches!(block["type"].as_str(), Some("text" | "tool_use" | "tool_result"))
}

fn block(origin: &Origin, part: &Part) -> Option<Value> {
    match part {
        // An empty text is refused.
        Part::Text { text } => (!text.is_empty()).then(|| json!({"type": "text", "text": text})),
        Part::ToolCall { id, name, arguments, malformed } => {
            let input =
                if *malformed || !arguments.is_object() { json!({"unreadable": arguments}) } else { arguments.clone() };
            Some(json!({"type": "tool_use", "id": id, "name": name, "input": input}))
        }
        Part::ToolResult { call_id, content, is_error } => {
            Some(json!({"type": "tool_result", "tool_use_id": call_id, "content": content, "is_error": is_error}))
        }
        Part::Thought { provider, model, data } => origin.had(provider, model).then(|| data.clone()),
    }
}

fn tool(tool: &Tool) -> Value {
    let mut value = json!({"name": tool.name, "description": tool.description, "input_schema": tool.parameters});
    if tool.strict {
        value["strict"] = json!(true);
    }
    value
}

fn choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!({"type": "auto"}),
        ToolChoice::None => json!({"type": "none"}),
        ToolChoice::Any => json!({"type": "any"}),
        ToolChoice::Tool(name) => json!({"type": "tool", "name": name}),
    }
}

fn marked(mut block: Value, mark: bool) -> Value {
    if mark {
        block["cache_control"] = json!({"type": "ephemeral"});
    }
    block
}
