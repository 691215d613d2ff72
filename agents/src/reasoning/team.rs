//! A supervisor's specialists: each a conversation of its own, with its own prompt and tools, asked like a tool.
//!
//! What a specialist says is data for the supervisor, as any tool's result is: it quotes what strangers wrote.

use models::{OutputSchema, Tool};
use serde::Deserialize;
use serde_json::{Value, json};

use super::beginning;
use super::talk::{Question, Stopped, Talk, Told};
use crate::reach::Reach;

/// Names of specialists among the tools of a supervisor begin with this. No server can be called so: a target has a dot.
const ASK: &str = "ask__";
/// Longest question to a specialist, and longest answer of one.
const TEXT_CHARS_MAX: usize = 8_000;

/// One specialist at hand.
pub(super) struct Member<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    /// Its prompt, rendered.
    pub(super) system: String,
    pub(super) reach: Reach<'a>,
}

/// Whom a supervisor may ask.
pub(super) struct Team<'a> {
    pub(super) members: Vec<Member<'a>>,
}

/// What a specialist answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Finding {
    finding: String,
    confidence: f64,
}

/// The form of a finding, for a step of a plan and for a specialist.
pub(super) fn finding_form() -> OutputSchema {
    let schema = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["finding", "confidence"],
        "properties": {
            "finding": {"type": "string", "description": "What was found, with what it was read from."},
            "confidence": {"type": "number", "description": "From 0 to 1."},
        },
    });
    OutputSchema { name: "finding".to_owned(), schema }
}

impl Team<'_> {
    /// Whether a target is one of ours.
    pub(super) fn is_member(target: &str) -> bool {
        target.starts_with(ASK)
    }

    /// Each as a tool, with its target.
    pub(super) fn tools(&self) -> Vec<(Tool, String)> {
        let tool = |member: &Member<'_>| {
            let parameters = json!({
                "type": "object", "additionalProperties": false, "required": ["question"],
                "properties": {"question": {"type": "string", "description": "What you want to know, and what you know."}},
            });
            let name = format!("{ASK}{}", member.name);
            let description = format!("Asks a specialist: {}", member.description);
            (Tool { name: name.clone(), description, parameters, strict: false }, name)
        };
        self.members.iter().map(tool).collect()
    }

    /// Asks one of them; what it cannot do is told to the supervisor, what nobody may do ends the task.
    pub(super) async fn ask(
        &self,
        supervisor: &Talk<'_>,
        target: &str,
        arguments: &Value,
    ) -> Result<Result<Told, String>, Stopped> {
        let name = target.strip_prefix(ASK).unwrap_or(target);
        let member = self.members.iter().find(|member| member.name == name);
        let asked = arguments.get("question").and_then(Value::as_str);
        let (Some(member), Some(asked)) = (member, asked) else {
            return Ok(Err(format!("`{target}` takes `question`, a text")));
        };
        let label = format!("{}{name}", supervisor.label);
        let talk = Talk { reach: Some(&member.reach), team: None, label: &label, ..*supervisor };
        let question = Question {
            system: member.system.clone(),
            user: json!({"question": beginning(asked, TEXT_CHARS_MAX)}).to_string(),
            output: finding_form(),
        };
        // A specialist cannot ask specialists, so this is no endless recursion; its size is unknown to the compiler all the same.
        let said = Box::pin(talk.answer::<Finding>(question, |_| Ok(()))).await;
        match said {
            Ok((found, _)) => {
                let text = beginning(&found.finding, TEXT_CHARS_MAX);
                let told = json!({"specialist": name, "untrusted_finding": text, "confidence": found.confidence});
                Ok(Ok(Told::Specialist(told.to_string())))
            }
            Err(Stopped::Unable(why)) => Ok(Err(format!("specialist `{name}`: {why}"))),
            Err(stopped) => Err(stopped),
        }
    }
}
