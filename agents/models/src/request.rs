//! What a model is asked, in no provider's words.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most messages of a request; a conversation is shortened before.
pub(crate) const MESSAGES_MAX: usize = 4096;
/// Most tools of a request.
pub(crate) const TOOLS_MAX: usize = 512;
/// Most bytes of text in a request, everything counted.
pub(crate) const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most marks for the provider's prompt cache; Anthropic takes four.
pub(crate) const CACHE_MARKS_MAX: usize = 4;
/// Most words at which the answer stops.
pub(crate) const STOP_WORDS_MAX: usize = 4;

/// One call of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRequest {
    /// The provider's name of the model. A tier puts its own models here.
    #[serde(default)]
    pub model: String,
    /// What stands before the conversation.
    #[serde(default)]
    pub system: System,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// What the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// Whether it has to.
    #[serde(default)]
    pub tool_choice: ToolChoice,
    /// The form of the final answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputSchema>,
    /// Most tokens of the answer, thoughts included. There is no default: it bounds what the call may cost.
    pub max_output_tokens: u64,
    /// Chance in the answer; many models refuse to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// How long the model may think.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
    /// Words at which the answer stops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Whether the answer comes in pieces.
    #[serde(default)]
    pub stream: bool,
}

/// What stands before the conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// The text; empty is none.
    #[serde(default)]
    pub text: String,
    /// Everything up to here (tools and this text) is worth keeping in the provider's prompt cache.
    #[serde(default)]
    pub cache: bool,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// People and tools.
    User,
    /// The model.
    Assistant,
}

/// One turn of the conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
    /// Everything up to here is worth keeping in the provider's prompt cache.
    #[serde(default)]
    pub cache: bool,
}

/// A piece of a turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// The model wants a tool called. The name is what the model said, whether or not there is such a tool.
    ToolCall {
        /// Names the call for its result.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments. When they are not JSON, a string with what the model wrote.
        arguments: Value,
        /// The arguments are not JSON.
        #[serde(default)]
        malformed: bool,
    },
    /// What came of a call.
    ToolResult {
        /// The call.
        call_id: String,
        /// What the tool said.
        content: String,
        /// The tool failed.
        #[serde(default)]
        is_error: bool,
    },
    /// The model's thoughts in its provider's own form. They go back unread, and only to the model they came from.
    Thought {
        /// Whose they are.
        provider: String,
        /// Whose they are.
        model: String,
        /// The provider's own object.
        data: Value,
    },
}

/// Something the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
    /// The provider shall hold the model to the schema.
    #[serde(default)]
    pub strict: bool,
}

/// Whether the model has to call a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It must not.
    None,
    /// It must.
    Any,
    /// It must call this one.
    Tool(String),
}

/// The form of the final answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSchema {
    /// Name of the form.
    pub name: String,
    /// JSON Schema.
    pub schema: Value,
}

/// How long a model may think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
}

impl Effort {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Why a request cannot be sent to anybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the request cannot be sent: {0}")]
pub struct RequestProblem(pub String);

impl ModelRequest {
    /// A request with one text of a user.
    pub fn of_text(text: impl Into<String>, max_output_tokens: u64) -> Self {
        Self {
            model: String::new(),
            system: System::default(),
            messages: vec![Message::user(text)],
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            output: None,
            max_output_tokens,
            temperature: None,
            effort: None,
            stop: Vec::new(),
            stream: false,
        }
    }

    /// Whether the request keeps its bounds and hangs together.
    ///
    /// # Errors
    /// The first thing that is wrong, without any text of the request.
    pub fn check(&self) -> Result<(), RequestProblem> {
        let problem = |text: String| Err(RequestProblem(text));
        if self.messages.is_empty() || self.messages.len() > MESSAGES_MAX {
            return problem(format!("it has {} messages, 1 to {MESSAGES_MAX} are possible", self.messages.len()));
        }
        if self.tools.len() > TOOLS_MAX {
            return problem(format!("it has {} tools, {TOOLS_MAX} are possible", self.tools.len()));
        }
        if self.stop.len() > STOP_WORDS_MAX {
            return problem(format!("it has {} stop words, {STOP_WORDS_MAX} are possible", self.stop.len()));
        }
        if self.max_output_tokens == 0 {
            return problem("max_output_tokens is 0: nothing could be answered".to_owned());
        }
        let marks = self.messages.iter().filter(|message| message.cache).count() + usize::from(self.system.cache);
        if marks > CACHE_MARKS_MAX {
            return problem(format!("it has {marks} cache marks, {CACHE_MARKS_MAX} are possible"));
        }
        let bytes: usize = self.texts().iter().map(|text| text.len()).sum();
        if bytes > REQUEST_BYTES_MAX {
            return problem(format!(
                "it has {bytes} bytes, {REQUEST_BYTES_MAX} are possible: shorten the conversation"
            ));
        }
        self.check_calls()
    }

    /// A result follows its call: providers refuse anything else, each in its own words.
    fn check_calls(&self) -> Result<(), RequestProblem> {
        let mut open = std::collections::BTreeSet::new();
        for part in self.messages.iter().flat_map(|message| &message.parts) {
            match part {
                Part::ToolCall { id, .. } => drop(open.insert(id.as_str())),
                Part::ToolResult { call_id, .. } if !open.remove(call_id.as_str()) => {
                    return Err(RequestProblem("a tool result stands without its call, or twice".to_owned()));
                }
                _ => {}
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        Err(RequestProblem(format!("{} tool calls have no result: answer each of them first", open.len())))
    }

    /// Every text a person, a tool or the model wrote, and every name; what must not appear in an error.
    pub(crate) fn texts(&self) -> Vec<&str> {
        let mut texts = vec![self.system.text.as_str()];
        for part in self.messages.iter().flat_map(|message| &message.parts) {
            match part {
                Part::Text { text } => texts.push(text),
                Part::ToolResult { content, .. } => texts.push(content),
                Part::ToolCall { arguments, .. } => strings_of(arguments, &mut texts),
                Part::Thought { data, .. } => strings_of(data, &mut texts),
            }
        }
        texts
    }
}

/// The strings of a value. Values here are at most as deep as the JSON reader lets them be (128 levels).
fn strings_of<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| strings_of(item, texts)),
        Value::Object(fields) => fields.values().for_each(|field| strings_of(field, texts)),
        _ => {}
    }
}

impl Message {
    /// A user's text.
    pub fn user(text: impl Into<String>) -> Self {
        Self { role: Role::User, parts: vec![Part::text(text)], cache: false }
    }
}

impl Part {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    /// A call, from the text that the model wrote as its arguments. No text at all is no arguments.
    pub(crate) fn call(id: String, name: String, arguments: &str) -> Self {
        if arguments.trim().is_empty() {
            return Self::ToolCall { id, name, arguments: Value::Object(serde_json::Map::new()), malformed: false };
        }
        match serde_json::from_str(arguments) {
            Ok(arguments) => Self::ToolCall { id, name, arguments, malformed: false },
            Err(_) => Self::ToolCall { id, name, arguments: Value::String(arguments.to_owned()), malformed: true },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with_parts(parts: Vec<Part>) -> ModelRequest {
        let mut request = ModelRequest::of_text("hello", 10);
        request.messages.push(Message { role: Role::Assistant, parts, cache: false });
        request
    }

    #[test]
    fn a_request_survives_its_own_form() {
        let mut request = with_parts(vec![Part::call("c1".into(), "clear".into(), "{\"run\": 1}")]);
        request.tool_choice = ToolChoice::Tool("clear".into());
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<ModelRequest>(&text).unwrap(), request);
    }

    #[test]
    fn arguments_that_are_not_json_are_kept_as_text() {
        let Part::ToolCall { arguments, malformed, .. } = Part::call("c".into(), "t".into(), "{\"run\": ") else {
            panic!("not a call")
        };
        assert_eq!((arguments, malformed), (json!("{\"run\": "), true));
        assert!(matches!(Part::call("c".into(), "t".into(), ""), Part::ToolCall { malformed: false, .. }));
    }

    #[test]
    fn what_no_provider_would_take_is_refused_before() {
        let result = |call_id: &str| Part::ToolResult { call_id: call_id.into(), content: "x".into(), is_error: false };
        let call = Part::call("c1".into(), "t".into(), "{}");
        assert!(with_parts(vec![call.clone(), result("c1")]).check().is_ok());
        assert!(with_parts(vec![result("c1")]).check().is_err());
        assert!(with_parts(vec![call.clone(), result("c1"), result("c1")]).check().is_err());
        assert!(with_parts(vec![call]).check().is_err());
        assert!(ModelRequest::of_text("x", 0).check().is_err());
        assert!(ModelRequest { messages: vec![], ..ModelRequest::of_text("x", 1) }.check().is_err());
        let long = "x".repeat(REQUEST_BYTES_MAX + 1);
        let problem = ModelRequest::of_text(long, 1).check().unwrap_err();
        assert!(problem.to_string().len() < 200, "the text itself is not repeated");
    }
}
