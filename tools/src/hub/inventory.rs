//! The tools of a server as data: read leniently one by one, judged strictly.
//!
//! A tool that is malformed, too large, or named like another is left out and reported; the rest stays usable.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::config::{ServerConfig, TransportConfig};
use super::effect::{Effect, EffectSource, decide};
use super::era::Era;
use super::error::quote;
use super::http::check_annotations;
use super::limits::{
    DEFECTS_MAX, DESCRIPTION_BYTES_MAX, LIST_BYTES_MAX, LIST_PAGES_MAX, TOOL_NAME_BYTES_MAX, TOOLS_MAX,
};
use super::pin::Pin;
use super::schema::Schema;

/// What a server says about a tool's behaviour. Hints of a stranger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Annotations {
    /// Title for people.
    pub title: Option<String>,
    /// Does not change anything.
    pub read_only: Option<bool>,
    /// May destroy; meaningless for a read-only tool.
    pub destructive: Option<bool>,
    /// Repeating changes nothing more.
    pub idempotent: Option<bool>,
    /// Talks to the outside world.
    pub open_world: Option<bool>,
}

/// One usable tool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolInfo {
    /// Name inside its server.
    pub name: String,
    /// Name for people.
    pub title: Option<String>,
    /// What the server says it does. Untrusted text.
    pub description: Option<String>,
    /// Hints of the server.
    pub annotations: Annotations,
    /// Schema of the arguments.
    pub input_schema: Value,
    /// Schema of the structured result.
    pub output_schema: Option<Value>,
    /// Effect class.
    pub effect: Effect,
    /// Who says so.
    pub effect_source: EffectSource,
    /// Fingerprint of the description.
    pub pin: Pin,
    /// Everything the fingerprint is of, as the server sent it. Untrusted.
    #[serde(skip)]
    pub definition: Arc<Value>,
}

/// A tool that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Defect {
    /// Its name, as far as it has one.
    pub tool: Option<String>,
    /// What is wrong.
    pub message: String,
}

/// Everything one fresh `tools/list` says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inventory {
    /// Configured name of the server.
    pub server: String,
    /// Label of the operator.
    pub environment: Option<String>,
    /// Revision in use.
    pub protocol_version: String,
    /// Era in use.
    pub era: Era,
    /// Name and version the server gives itself. Untrusted, not unique.
    pub identity: Option<String>,
    /// Instructions of the server for a model. Untrusted text.
    pub instructions: Option<String>,
    /// Usable tools, by name.
    pub tools: Vec<ToolInfo>,
    /// Tools left out; at most [`DEFECTS_MAX`].
    pub defects: Vec<Defect>,
}

impl Inventory {
    /// The tool of this name.
    pub fn tool(&self, name: &str) -> Option<&ToolInfo> {
        self.tools.binary_search_by(|tool| tool.name.as_str().cmp(name)).ok().map(|index| &self.tools[index])
    }
}

/// A tool with its compiled schemas.
#[derive(Debug)]
pub(super) struct Tool {
    pub(super) info: Arc<ToolInfo>,
    pub(super) input: Schema,
    pub(super) output: Option<Schema>,
}

/// Collects the pages of one list.
#[derive(Debug)]
pub(super) struct Pages {
    key: &'static str,
    raw: Vec<Value>,
    cursors: HashSet<String>,
    pages: usize,
    bytes: usize,
}

impl Default for Pages {
    fn default() -> Self {
        Self::of("tools")
    }
}

impl Pages {
    /// Pages of `tools/list`, `resources/list` or `prompts/list`.
    pub(super) fn of(key: &'static str) -> Self {
        Self { key, raw: Vec::new(), cursors: HashSet::new(), pages: 0, bytes: 0 }
    }

    /// Everything collected.
    pub(super) fn into_items(self) -> Vec<Value> {
        self.raw
    }

    /// Takes one page; the cursor of the next one, or `None` at the end.
    ///
    /// # Errors
    /// What is wrong with the list as a whole.
    pub(super) fn add(&mut self, page: Value) -> Result<Option<String>, String> {
        let key = self.key;
        let Value::Object(mut page) = page else { return Err(format!("the answer to {key}/list is not an object")) };
        let Some(Value::Array(items)) = page.remove(key) else {
            return Err(format!("the answer to {key}/list has no list of {key}"));
        };
        self.pages += 1;
        self.bytes += items.iter().map(|item| item.to_string().len()).sum::<usize>();
        if self.bytes > LIST_BYTES_MAX {
            return Err(format!("the list of {key} has more than {LIST_BYTES_MAX} bytes"));
        }
        self.raw.extend(items);
        if self.raw.len() > TOOLS_MAX {
            return Err(format!("the server lists more than {TOOLS_MAX} {key}"));
        }
        match page.remove("nextCursor") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(cursor)) => {
                if self.pages >= LIST_PAGES_MAX {
                    return Err(format!("the list of {key} has more than {LIST_PAGES_MAX} pages"));
                }
                if !self.cursors.insert(cursor.clone()) {
                    return Err(format!("the list of {key} repeats its cursor `{}`", quote(&cursor)));
                }
                Ok(Some(cursor))
            }
            Some(_) => Err(format!("the cursor of {key}/list is not a string")),
        }
    }

    /// Judges the collected tools one by one.
    pub(super) fn judge(self, config: &ServerConfig) -> (BTreeMap<String, Tool>, Vec<Defect>) {
        let mut tools = BTreeMap::new();
        let mut defects = Vec::new();
        let mut duplicates = HashSet::new();
        for raw in &self.raw {
            match read_tool(raw, config) {
                Ok(tool) => {
                    let name = tool.info.name.clone();
                    if tools.insert(name.clone(), tool).is_some() {
                        duplicates.insert(name);
                    }
                }
                Err(message) => {
                    let tool = raw.get("name").and_then(Value::as_str).map(quote);
                    defects.push(Defect { tool, message });
                }
            }
        }
        // Which of two tools is meant nobody can say, so neither is offered.
        let mut duplicates: Vec<String> = duplicates.into_iter().collect();
        duplicates.sort_unstable();
        for name in duplicates {
            tools.remove(&name);
            defects.push(Defect {
                tool: Some(name),
                message: "the server lists several tools of this name; none is offered".into(),
            });
        }
        if defects.len() > DEFECTS_MAX {
            let more = defects.len() - DEFECTS_MAX + 1;
            defects.truncate(DEFECTS_MAX - 1);
            defects.push(Defect { tool: None, message: format!("{more} more tools are left out") });
        }
        (tools, defects)
    }
}

fn read_tool(raw: &Value, config: &ServerConfig) -> Result<Tool, String> {
    let fields = raw.as_object().ok_or("a tool is not an object")?;
    let name = fields.get("name").and_then(Value::as_str).ok_or("the name is missing or not a string")?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/');
    if name.is_empty() || name.len() > TOOL_NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(format!("a name has 1 to {TOOL_NAME_BYTES_MAX} letters, digits, `_`, `-`, `.` or `/`"));
    }
    let text = |key: &str| match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("`{key}` is not a string")),
    };
    let (title, description) = (text("title")?, text("description")?);
    let bytes = title.as_deref().map_or(0, str::len) + description.as_deref().map_or(0, str::len);
    if bytes > DESCRIPTION_BYTES_MAX {
        return Err(format!("title and description have {bytes} bytes; the limit is {DESCRIPTION_BYTES_MAX}"));
    }
    let input_schema = fields
        .get("inputSchema")
        .filter(|schema| schema.is_object())
        .ok_or("`inputSchema` is missing or not an object")?;
    if matches!(config.transport, TransportConfig::Http { .. }) {
        check_annotations(input_schema)?;
    }
    let output_schema = fields.get("outputSchema").filter(|schema| !schema.is_null());
    let annotations = read_annotations(fields.get("annotations"))?;
    let (effect, effect_source) = decide(config.effects.get(name).copied(), config.trusted, &annotations);
    let input = Schema::compile(input_schema).map_err(|error| format!("`inputSchema` cannot be used: {error}"))?;
    let output = output_schema
        .map(Schema::compile)
        .transpose()
        .map_err(|error| format!("`outputSchema` cannot be used: {error}"))?;
    let info = ToolInfo {
        name: name.into(),
        title,
        description,
        annotations,
        input_schema: input_schema.clone(),
        output_schema: output_schema.cloned(),
        effect,
        effect_source,
        pin: Pin::of(raw),
        definition: Arc::new(Pin::definition(raw)),
    };
    Ok(Tool { info: Arc::new(info), input, output })
}

fn read_annotations(raw: Option<&Value>) -> Result<Annotations, String> {
    let Some(raw) = raw.filter(|raw| !raw.is_null()) else { return Ok(Annotations::default()) };
    let fields = raw.as_object().ok_or("`annotations` is not an object")?;
    let hint = |key: &str| match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(hint)) => Ok(Some(*hint)),
        Some(_) => Err(format!("the annotation `{key}` is not true or false")),
    };
    Ok(Annotations {
        title: fields.get("title").and_then(Value::as_str).map(str::to_owned),
        read_only: hint("readOnlyHint")?,
        destructive: hint("destructiveHint")?,
        idempotent: hint("idempotentHint")?,
        open_world: hint("openWorldHint")?,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn check_list(pages: Vec<Value>, expected: Expect) {
        let mut collected = Pages::default();
        let mut shown = String::new();
        for page in pages {
            match collected.add(page) {
                Ok(cursor) => shown += &format!("next {cursor:?}\n"),
                Err(error) => shown += &format!("error {error}\n"),
            }
        }
        let mut config = ServerConfig::stdio("s", "s", &[]);
        config.trusted = true;
        let (tools, defects) = collected.judge(&config);
        for tool in tools.values() {
            shown += &format!("{} {:?} {:?}\n", tool.info.name, tool.info.effect, tool.info.effect_source);
        }
        for defect in defects {
            shown += &format!("defect {:?}: {}\n", defect.tool, defect.message);
        }
        expected.assert_eq(&shown);
    }

    #[test]
    fn one_bad_tool_costs_one_tool() {
        check_list(
            vec![json!({"tools": [
                {"name": "ok", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true}},
                {"name": "no_schema"},
                {"name": 7, "inputSchema": {}},
                {"name": "a b", "inputSchema": {}},
                {"name": "hint", "inputSchema": {}, "annotations": {"readOnlyHint": "yes"}},
                {"name": "bad_schema", "inputSchema": {"type": "objekt"}},
                "text",
                {"name": "any_output", "inputSchema": {}, "outputSchema": true},
            ]})],
            expect![[r#"
                next None
                any_output AtMostOnce Default
                ok ReadOnly TrustedAnnotations
                defect Some("no_schema"): `inputSchema` is missing or not an object
                defect None: the name is missing or not a string
                defect Some("a b"): a name has 1 to 128 letters, digits, `_`, `-`, `.` or `/`
                defect Some("hint"): the annotation `readOnlyHint` is not true or false
                defect Some("bad_schema"): `inputSchema` cannot be used: "objekt" is not valid under any of the schemas listed in the 'anyOf' keyword
                defect None: a tool is not an object
            "#]],
        );
    }

    #[test]
    fn neither_of_two_namesakes_is_offered() {
        check_list(
            vec![json!({"tools": [
                {"name": "x", "inputSchema": {}}, {"name": "y", "inputSchema": {}}, {"name": "x", "inputSchema": {}, "title": "X"},
            ]})],
            expect![[r#"
                next None
                y AtMostOnce Default
                defect Some("x"): the server lists several tools of this name; none is offered
            "#]],
        );
    }

    #[test]
    fn a_list_ends() {
        check_list(
            vec![json!({"tools": [], "nextCursor": "a"}), json!({"tools": [], "nextCursor": "a"})],
            expect![[r#"
            next Some("a")
            error the list of tools repeats its cursor `a`
        "#]],
        );
        check_list(
            vec![json!({"tools": {}})],
            expect![[r#"
            error the answer to tools/list has no list of tools
        "#]],
        );
        let mut pages = Pages::default();
        let last = (0..).find_map(|n| pages.add(json!({"tools": [], "nextCursor": n.to_string()})).err());
        assert_eq!(last.as_deref(), Some("the list of tools has more than 100 pages"));
        let many = vec![json!({}); TOOLS_MAX + 1];
        assert!(Pages::default().add(json!({"tools": many})).unwrap_err().contains("more than 2000 tools"));
    }
}
