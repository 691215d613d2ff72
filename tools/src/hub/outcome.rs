//! The result of a call: read from raw JSON, checked against the tool's own schema, cut to size.

use serde::Serialize;
use serde_json::{Map, Value};

use super::artifacts::{Artifact, Artifacts};
use super::error::{Delivery, ToolError, ToolErrorClass, floor_char_boundary, quote};
use super::limits::RESULT_PARTS_MAX;
use super::reference::Secrets;
use super::schema::{Checker, Schema, Unfit};

/// One part of a result. All of it is data of a stranger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Content {
    /// Text, also of an embedded resource.
    Text {
        /// The text.
        text: String,
    },
    /// An image, sound or binary resource, in base64.
    Media {
        /// MIME type, where the server names one.
        mime_type: Option<String>,
        /// Base64, empty when it was cut.
        data: String,
        /// Size of the base64 text as it came.
        bytes: usize,
    },
    /// A link to a resource of the server. Never followed.
    Link {
        /// Address.
        uri: String,
        /// Name for people.
        name: Option<String>,
    },
}

/// A result as the server gave it, error results of the tool itself included.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolOutcome {
    /// Parts in order.
    pub content: Vec<Content>,
    /// Structured result; fits the tool's output schema if it has one.
    pub structured: Option<Value>,
    /// The tool says it failed.
    pub is_error: bool,
    /// Something was cut.
    pub truncated: bool,
    /// What was cut, whole, where artifacts are kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
}

impl ToolOutcome {
    /// All text parts, joined by newlines.
    pub fn text(&self) -> String {
        let parts = self.content.iter().filter_map(|part| match part {
            Content::Text { text } => Some(text.as_str()),
            Content::Media { .. } | Content::Link { .. } => None,
        });
        parts.collect::<Vec<_>>().join("\n")
    }
}

/// Where a result came from, and what is allowed of it.
pub(super) struct Reading<'a> {
    pub(super) server: &'a str,
    pub(super) tool: &'a str,
    pub(super) output: Option<&'a Schema>,
    pub(super) checker: &'a Checker,
    pub(super) bytes_max: usize,
    pub(super) secrets: &'a Secrets,
    pub(super) artifacts: Option<&'a Artifacts>,
}

impl Reading<'_> {
    /// Reads a raw `tools/call` result.
    ///
    /// # Errors
    /// Of class `protocol` when it is no result or breaks the tool's schema. The call was made in either case.
    pub(super) async fn read(&self, raw: Value) -> Result<ToolOutcome, ToolError> {
        let Value::Object(mut fields) = raw else { return Err(self.broken("the result is not an object")) };
        match fields.get("resultType").and_then(Value::as_str) {
            None | Some("complete") => {}
            Some(other) => return Err(self.broken(&format!("results of type `{}` are not supported", quote(other)))),
        }
        let is_error = fields.get("isError").and_then(Value::as_bool).unwrap_or(false);
        let structured = fields.remove("structuredContent");
        let parts = match fields.remove("content") {
            Some(Value::Array(parts)) => parts,
            None if structured.is_some() => Vec::new(),
            Some(_) => return Err(self.broken("`content` is not a list")),
            None => return Err(self.broken(&format!("the result has no content; its keys are: {}", keys(&fields)))),
        };
        let structured = if is_error { structured } else { self.check_structured(structured).await? };
        Ok(self.cut(parts, structured, is_error))
    }

    /// Parts that are no result of a tool: contents of resources and prompts.
    pub(super) fn parts(&self, parts: Vec<Value>) -> ToolOutcome {
        self.cut(parts, None, false)
    }

    async fn check_structured(&self, structured: Option<Value>) -> Result<Option<Value>, ToolError> {
        let (schema, value) = match (self.output, structured) {
            (None, structured) => return Ok(structured),
            (Some(_), None) => {
                return Err(self.broken("the tool declares an output schema and sent no structured result"));
            }
            (Some(schema), Some(value)) => (schema, value),
        };
        self.checker.check(schema, value).await.map(Some).map_err(|unfit| match unfit {
            Unfit::TooLong => {
                self.broken("the structured result could not be checked against the tool's schema in time")
            }
            Unfit::Misfit(misfit) => {
                let message = format!(
                    "the structured result breaks the tool's own schema: {}",
                    self.secrets.scrub(misfit.message)
                );
                self.broken(&message).at(misfit.pointer)
            }
        })
    }

    fn cut(&self, parts: Vec<Value>, structured: Option<Value>, is_error: bool) -> ToolOutcome {
        let mut budget = Budget { left: self.bytes_max, truncated: false, artifacts: Vec::new() };
        let structured = structured.map(|mut value| {
            self.secrets.scrub_value(&mut value);
            value
        });
        let structured = structured.filter(|value| {
            let text = value.to_string();
            let fits = budget.take_whole(text.len());
            if !fits {
                self.keep(&mut budget, text.as_bytes());
            }
            fits
        });
        let mut content = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            if index >= RESULT_PARTS_MAX {
                budget.truncated = true;
                break;
            }
            content.push(self.part(part, &mut budget));
        }
        let Budget { truncated, artifacts, .. } = budget;
        ToolOutcome { content, structured, is_error, truncated, artifacts }
    }

    fn part(&self, part: Value, budget: &mut Budget) -> Content {
        let text_of = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        match part.get("type").and_then(Value::as_str) {
            Some("text") => self.text(text_of(&part, "text").unwrap_or_default(), budget),
            Some("image" | "audio") => {
                self.media(text_of(&part, "mimeType"), text_of(&part, "data").unwrap_or_default(), budget)
            }
            Some("resource_link") => {
                let link =
                    Content::Link { uri: text_of(&part, "uri").unwrap_or_default(), name: text_of(&part, "name") };
                if budget.take_whole(part.to_string().len()) { link } else { Content::Text { text: cut_mark(0, None) } }
            }
            Some("resource") => {
                let resource = part.get("resource").unwrap_or(&Value::Null);
                match text_of(resource, "text") {
                    Some(text) => self.text(text, budget),
                    None => {
                        self.media(text_of(resource, "mimeType"), text_of(resource, "blob").unwrap_or_default(), budget)
                    }
                }
            }
            // A kind of a later revision: shown as it is rather than lost.
            _ => self.text(part.to_string(), budget),
        }
    }

    fn text(&self, text: String, budget: &mut Budget) -> Content {
        let bytes = text.len();
        let mut text = self.secrets.scrub(text);
        let kept = floor_char_boundary(&text, budget.left);
        budget.left -= kept;
        if kept < text.len() {
            let handle = self.keep(budget, text.as_bytes());
            text.truncate(kept);
            text.push_str(&cut_mark(bytes - kept.min(bytes), handle.as_deref()));
            budget.truncated = true;
        }
        Content::Text { text }
    }

    fn media(&self, mime_type: Option<String>, data: String, budget: &mut Budget) -> Content {
        let bytes = data.len();
        let fits = budget.take_whole(bytes);
        if !fits {
            self.keep(budget, data.as_bytes());
        }
        Content::Media { mime_type, data: if fits { data } else { String::new() }, bytes }
    }

    /// Keeps what does not fit, whole; without a place for it, it is gone, and the mark says so.
    fn keep(&self, budget: &mut Budget, content: &[u8]) -> Option<String> {
        let kept = self.artifacts?.keep(content);
        let kept = kept.inspect_err(|error| tracing::warn!(server = self.server, "an artifact is not kept: {error}"));
        let artifact = kept.ok()?;
        let handle = artifact.handle.clone();
        budget.artifacts.push(artifact);
        Some(handle)
    }

    fn broken(&self, message: &str) -> ToolError {
        self.error(ToolErrorClass::Protocol, message.into())
            .fix("the call was made: check its effect, and report this to the server's author")
    }

    fn error(&self, class: ToolErrorClass, message: String) -> ToolError {
        ToolError::server(class, self.server, message).about(self.tool).delivered(Delivery::Answered)
    }
}

struct Budget {
    left: usize,
    truncated: bool,
    artifacts: Vec<Artifact>,
}

impl Budget {
    fn take_whole(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.left;
        if fits {
            self.left -= bytes;
        } else {
            self.truncated = true;
        }
        fits
    }
}

fn cut_mark(bytes: usize, handle: Option<&str>) -> String {
    match handle {
        Some(handle) => format!("\n[cut: {bytes} more bytes; the whole is {handle}]"),
        None => format!("\n[cut: {bytes} more bytes]"),
    }
}

fn keys(fields: &Map<String, Value>) -> String {
    let keys: Vec<_> = fields.keys().map(String::as_str).collect();
    if keys.is_empty() { "none".into() } else { quote(&keys.join(", ")) }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    async fn check_read(raw: Value, output: Option<Value>, expected: Expect) {
        let schema = output.map(|schema| Schema::compile(&schema).unwrap());
        let secrets = Secrets::default();
        super::super::reference::expand("${T}", &|_| Some("tok-123456".into()), &secrets).unwrap();
        let reading = Reading {
            server: "s",
            tool: "t",
            output: schema.as_ref(),
            checker: &Checker::default(),
            bytes_max: 40,
            secrets: &secrets,
            artifacts: None,
        };
        let shown = match reading.read(raw).await {
            Ok(outcome) => serde_json::to_string(&outcome).unwrap(),
            Err(error) => format!("{error} at {:?}, {:?}", error.pointer, error.delivery),
        };
        expected.assert_eq(&shown);
    }

    #[tokio::test]
    async fn reads_every_kind_of_part() {
        check_read(
            json!({"content": [
                {"type": "text", "text": "hello"},
                {"type": "image", "data": "AAAA", "mimeType": "image/png"},
                {"type": "resource", "resource": {"uri": "file:///x", "text": "inside"}},
                {"type": "resource_link", "uri": "file:///y"},
            ], "isError": true}),
            None,
            expect![[
                r#"{"content":[{"kind":"text","text":"hello"},{"kind":"media","mime_type":"image/png","data":"AAAA","bytes":4},{"kind":"text","text":"inside"},{"kind":"text","text":"\n[cut: 0 more bytes]"}],"structured":null,"is_error":true,"truncated":true}"#
            ]],
        ).await;
    }

    #[tokio::test]
    async fn cuts_to_the_limit_and_says_so() {
        check_read(
            json!({"content": [{"type": "text", "text": "é".repeat(30)}]}),
            None,
            expect![[
                r#"{"content":[{"kind":"text","text":"éééééééééééééééééééé\n[cut: 20 more bytes]"}],"structured":null,"is_error":false,"truncated":true}"#
            ]],
        ).await;
        check_read(
            json!({"content": [], "structuredContent": "x".repeat(50)}),
            None,
            expect![[r#"{"content":[],"structured":null,"is_error":false,"truncated":true}"#]],
        )
        .await;
        check_read(
            json!({"content": [{"type": "image", "data": "A".repeat(50)}]}),
            None,
            expect![[
                r#"{"content":[{"kind":"media","mime_type":null,"data":"","bytes":50}],"structured":null,"is_error":false,"truncated":true}"#
            ]],
        ).await;
    }

    #[tokio::test]
    async fn a_structured_result_must_fit_its_schema() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
        check_read(
            json!({"content": [], "structuredContent": {"n": 1}}),
            Some(schema.clone()),
            expect![[r#"{"content":[],"structured":{"n":1},"is_error":false,"truncated":false}"#]],
        )
        .await;
        check_read(
            json!({"content": [], "structuredContent": {"n": "x"}}),
            Some(schema.clone()),
            expect![[
                r#"s.t (protocol): the structured result breaks the tool's own schema: "x" is not of type "integer"; the call was made: check its effect, and report this to the server's author at Some("/n"), Answered"#
            ]],
        ).await;
        check_read(
            json!({"content": []}),
            Some(schema.clone()),
            expect![
                "s.t (protocol): the tool declares an output schema and sent no structured result; the call was made: check its effect, and report this to the server's author at None, Answered"
            ],
        ).await;
        check_read(
            json!({"content": [{"type": "text", "text": "no"}], "isError": true}),
            Some(schema),
            expect![[
                r#"{"content":[{"kind":"text","text":"no"}],"structured":null,"is_error":true,"truncated":false}"#
            ]],
        )
        .await;
    }

    #[tokio::test]
    async fn what_is_no_result_is_an_error() {
        check_read(
            json!([]),
            None,
            expect![
                "s.t (protocol): the result is not an object; the call was made: check its effect, and report this to the server's author at None, Answered"
            ],
        ).await;
        check_read(
            json!({"weather": "fine"}),
            None,
            expect![
                "s.t (protocol): the result has no content; its keys are: weather; the call was made: check its effect, and report this to the server's author at None, Answered"
            ],
        ).await;
        check_read(
            json!({"content": "text"}),
            None,
            expect![
                "s.t (protocol): `content` is not a list; the call was made: check its effect, and report this to the server's author at None, Answered"
            ],
        ).await;
        check_read(
            json!({"resultType": "task", "taskId": "x"}),
            None,
            expect![
                "s.t (protocol): results of type `task` are not supported; the call was made: check its effect, and report this to the server's author at None, Answered"
            ],
        ).await;
    }

    #[tokio::test]
    async fn an_echoed_secret_is_hidden() {
        check_read(
            json!({"content": [{"type": "text", "text": "key tok-123456"}], "structuredContent": ["tok-123456"]}),
            None,
            expect![[
                r#"{"content":[{"kind":"text","text":"key [redacted]"}],"structured":["[redacted]"],"is_error":false,"truncated":false}"#
            ]],
        ).await;
    }

    #[tokio::test]
    async fn what_is_too_long_is_kept_whole_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(dir.path().join("artifacts"));
        let secrets = Secrets::default();
        super::super::reference::expand("${T}", &|_| Some("tok-123456".into()), &secrets).unwrap();
        let reading = Reading {
            server: "s",
            tool: "t",
            output: None,
            checker: &Checker::default(),
            bytes_max: 10,
            secrets: &secrets,
            artifacts: Some(&artifacts),
        };
        let long = format!("tok-123456 {}", "x".repeat(100));
        let outcome = reading.read(json!({"content": [{"type": "text", "text": long}]})).await.unwrap();
        let handle = &outcome.artifacts[0].handle;
        assert!(
            outcome.truncated && outcome.text().ends_with(&format!("the whole is {handle}]")),
            "{}",
            outcome.text()
        );
        let whole = String::from_utf8(artifacts.read(handle, 0, 1_000).unwrap()).unwrap();
        assert_eq!(whole, long.replace("tok-123456", "[redacted]"), "a secret is not kept either");
    }
}
