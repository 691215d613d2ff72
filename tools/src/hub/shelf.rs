//! Resources and prompts: what a server has to read, as data.
//!
//! Lists have the limits of tool lists; contents have the limits of results and are data of a stranger like them. A server
//! that offers neither has empty lists.

use rmcp::model::{
    ClientRequest, GetPromptRequest, GetPromptRequestParams, ListPromptsRequest, ListResourcesRequest,
    PaginatedRequestParams, ReadResourceRequest, ReadResourceRequestParams,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::error::quote;
use super::outcome::Content;

/// Something a server has to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceInfo {
    /// Its address, meaningful to the server only.
    pub uri: String,
    /// Name for people.
    pub name: String,
    /// What the server says it is. Untrusted text.
    pub description: Option<String>,
    /// MIME type, where the server names one.
    pub mime_type: Option<String>,
}

/// A prompt a server offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PromptInfo {
    /// Its name.
    pub name: String,
    /// What the server says it is for. Untrusted text.
    pub description: Option<String>,
    /// Names of its arguments, and whether each has to be given.
    pub arguments: Vec<(String, bool)>,
}

/// One message of a prompt. Its words are the server's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PromptMessage {
    /// `user` or `assistant`.
    pub role: String,
    /// What it says.
    pub content: Content,
}

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shelf {
    Resources,
    Prompts,
}

impl Shelf {
    /// Key of the list in an answer.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Resources => "resources",
            Self::Prompts => "prompts",
        }
    }

    pub(super) fn request(self, cursor: Option<String>) -> ClientRequest {
        let params = cursor.map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
        match self {
            Self::Resources => {
                ClientRequest::ListResourcesRequest(ListResourcesRequest { params, ..Default::default() })
            }
            Self::Prompts => ClientRequest::ListPromptsRequest(ListPromptsRequest { params, ..Default::default() }),
        }
    }
}

pub(super) fn read_request(uri: &str) -> ClientRequest {
    ClientRequest::ReadResourceRequest(ReadResourceRequest::new(ReadResourceRequestParams::new(uri.to_owned())))
}

/// # Errors
/// If the arguments are no object.
pub(super) fn prompt_request(name: &str, arguments: Map<String, Value>) -> ClientRequest {
    let params = GetPromptRequestParams::new(name.to_owned());
    let params = if arguments.is_empty() { params } else { params.with_arguments(arguments) };
    ClientRequest::GetPromptRequest(GetPromptRequest::new(params))
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// # Errors
/// Which entry is none.
pub(super) fn read_resources(items: &[Value]) -> Result<Vec<ResourceInfo>, String> {
    let read = |item: &Value| {
        let uri =
            text(item, "uri").ok_or_else(|| format!("a resource has no address: {}", quote(&item.to_string())))?;
        let name = text(item, "title").or_else(|| text(item, "name")).unwrap_or_else(|| uri.clone());
        Ok(ResourceInfo { uri, name, description: text(item, "description"), mime_type: text(item, "mimeType") })
    };
    items.iter().map(read).collect()
}

/// # Errors
/// Which entry is none.
pub(super) fn read_prompts(items: &[Value]) -> Result<Vec<PromptInfo>, String> {
    let read = |item: &Value| {
        let name = text(item, "name").ok_or_else(|| format!("a prompt has no name: {}", quote(&item.to_string())))?;
        let arguments = item.get("arguments").and_then(Value::as_array).into_iter().flatten();
        let arguments = arguments.filter_map(|argument| {
            let required = argument.get("required").and_then(Value::as_bool).unwrap_or(false);
            Some((text(argument, "name")?, required))
        });
        Ok(PromptInfo { description: text(item, "description"), arguments: arguments.collect(), name })
    };
    items.iter().map(read).collect()
}

/// The contents of a resource in the form of parts of a result.
///
/// # Errors
/// If the answer is none.
pub(super) fn resource_parts(answer: &Value) -> Result<Vec<Value>, String> {
    let contents = answer.get("contents").and_then(Value::as_array).ok_or("the answer has no contents")?;
    Ok(contents.iter().map(|content| serde_json::json!({"type": "resource", "resource": content})).collect())
}

/// Roles and parts of a prompt.
///
/// # Errors
/// If the answer is none.
pub(super) fn prompt_parts(answer: &Value) -> Result<Vec<(String, Value)>, String> {
    let messages = answer.get("messages").and_then(Value::as_array).ok_or("the answer has no messages")?;
    let read = |message: &Value| {
        let role = text(message, "role").filter(|role| role == "user" || role == "assistant");
        let role = role.ok_or_else(|| "a message of the prompt has no role".to_owned())?;
        Ok((role, message.get("content").cloned().unwrap_or_default()))
    };
    messages.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_read_and_what_is_no_entry_is_named() {
        let read = read_resources(&[json!({"uri": "a://b", "name": "B", "mimeType": "text/plain"})]).unwrap();
        assert_eq!((read[0].uri.as_str(), read[0].name.as_str()), ("a://b", "B"));
        assert!(read_resources(&[json!({"name": "B"})]).unwrap_err().contains("no address"));
        let prompts = json!([{"name": "p", "arguments": [{"name": "x", "required": true}, {"name": "y"}]}]);
        let read = read_prompts(prompts.as_array().unwrap()).unwrap();
        assert_eq!(read[0].arguments, [("x".to_owned(), true), ("y".to_owned(), false)]);
    }

    #[test]
    fn a_prompt_speaks_as_user_or_assistant_only() {
        let of = |role: &str| json!({"messages": [{"role": role, "content": {"type": "text", "text": "x"}}]});
        assert!(prompt_parts(&of("user")).is_ok() && prompt_parts(&of("system")).is_err());
    }
}
