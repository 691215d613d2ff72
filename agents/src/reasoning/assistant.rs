//! An agent of one's own: a prompt, tools that read, and an answer in the form of the channel it is written to.
//!
//! ```text
//!  single      question ─▶ answer
//!  react       question ─▶ (tools ─▶)* answer
//!  plan        plan ─▶ step* ─▶ plan again, until nothing is left ─▶ answer
//!  reflect     answer ─▶ critic ─▶ answer again, until the critic accepts
//!  supervise   question ─▶ (specialists ─▶)* answer
//! ```
//!
//! An assistant reads and says; acts are `tool:` nodes. What it says of its own certainty (`confidence`) decides whether the next tier
//! is asked, and a critic can only lower it.

use graphs::{AgentNode, Output, Pattern, Schema, Tier};
use models::OutputSchema;
use runtime::CallSpec;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::interlocks::redact;
use runtime_core::record::CallKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::climb::{CLIMB_BELOW, between};
use super::talk::{Heard, Question, Stopped, Talk};
use super::team::{Member, Team, finding_form};
use super::{Mind, beginning};
use crate::confidence::AMBIGUOUS;
use crate::desk::Desk;
use crate::estate::render_text;

/// The prompt of an assistant that names none.
const OWN: &str = "assistant";
/// Most steps of one plan.
const STEPS_MAX: usize = 8;
/// Plans after the first one.
const REPLANS_MAX: usize = 2;
/// Answers after the first one, when a critic asks for them.
const REVISIONS_MAX: usize = 2;
/// Longest text of a finding that is handed on.
const FINDING_CHARS_MAX: usize = 4_000;
/// Most of what was read that a critic sees.
const READ_MAX: usize = 20;

/// An assistant on one tier.
struct Assistant<'a> {
    desk: &'a Desk<'a>,
    mind: &'a Mind,
    agent: &'a AgentNode,
    tier: &'a str,
    form: &'a Form<'a>,
    task: Value,
}

/// What the answer must look like.
struct Form<'a> {
    schema: Value,
    check: Option<&'a Schema>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    steps: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Finding {
    finding: String,
    confidence: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critique {
    accept: bool,
    problems: Vec<String>,
    confidence_at_most: f64,
}

/// The answer of the cheapest tier that is sure enough, or the best there is.
///
/// # Errors
/// No model is configured, a tier or prompt is not there, a budget or the guard says no, or no tier brought an answer.
pub(crate) async fn assist(desk: &Desk<'_>, agent: &AgentNode) -> Result<Value, TaskError> {
    let node = desk.ctx.node()?;
    let Some(mind) = desk.mind else {
        let text =
            format!("agent node `{}` is an assistant and needs a model: add `models:` to interlock.yaml", node.name);
        return Err(TaskError::new(ErrorClass::Resource, text));
    };
    let form = form_of(desk)?;
    let cheapest = Tier { start: super::RULES.to_owned(), max: first_tier(mind)?, climb_below: None };
    let tier = agent.tier.as_ref().unwrap_or(&cheapest);
    let threshold = tier.climb_below.unwrap_or(CLIMB_BELOW);
    let (mut best, mut why): (Option<(f64, Value)>, Vec<String>) = (None, Vec::new());
    for (nth, name) in between(mind, tier)?.into_iter().enumerate() {
        if nth > 0 {
            climbed(desk, name, why.last().map_or("", String::as_str)).await?;
        }
        let assistant = Assistant { desk, mind, agent, tier: name, form: &form, task: task_of(desk) };
        match assistant.answer().await {
            Ok(answer) => {
                let sure = answer.get("confidence").and_then(Value::as_f64).unwrap_or(1.0);
                if best.as_ref().is_none_or(|(known, _)| *known < sure) {
                    best = Some((sure, answer));
                }
                if sure >= threshold {
                    break;
                }
                why.push(format!("{name}: confidence {sure:.2} is below {threshold:.2}"));
            }
            Err(Stopped::Unable(reason)) => why.push(format!("{name}: {reason}")),
            Err(Stopped::Task(error)) => return Err(error),
            Err(Stopped::Forbidden(error)) if best.is_none() => return Err(error),
            Err(Stopped::Forbidden(_)) => break,
        }
    }
    let none = || TaskError::new(ErrorClass::Permanent, format!("no tier has an answer: {}", why.join("; ")));
    best.map(|(_, answer)| answer).ok_or_else(none)
}

/// A climb stands in the journal and in the audit log, with its reason.
async fn climbed(desk: &Desk<'_>, tier: &str, why: &str) -> Result<(), TaskError> {
    desk.ctx.emit(json!({"agent": OWN, "phase": "climbing", "tier": tier, "why": why})).await?;
    let args = json!({"tier": tier, "why": why});
    let spec = CallSpec::new(CallKind::Custom, "tier.climb", args, graphs::EffectClass::Idempotent);
    desk.ctx.call(spec, |_| async { Ok(Value::Null) }).await.map(drop)
}

fn first_tier(mind: &Mind) -> Result<String, TaskError> {
    let first = mind.tiers().order().first().cloned();
    first.ok_or_else(|| TaskError::invalid("`models.order` names no tier"))
}

/// What the node sets in `with`, or all of the state where it sets nothing.
fn task_of(desk: &Desk<'_>) -> Value {
    let vars = desk.ctx.vars();
    redact::whole(&if vars.is_empty() { desk.ctx.state() } else { Value::Object(vars.clone()) })
}

/// The schema of the channel that the answer is written to.
fn form_of<'a>(desk: &'a Desk<'_>) -> Result<Form<'a>, TaskError> {
    let node = desk.ctx.node()?;
    let channel = match &node.output {
        Output::Channel(ix) => desk.ctx.graph().channel_at(*ix),
        _ => None,
    };
    if let Some(schema) = channel.and_then(|channel| channel.schema.as_ref()) {
        return Ok(Form { schema: schema.json().clone(), check: Some(schema) });
    }
    let schema = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["answer", "confidence"],
        "properties": {
            "answer": {"type": "string"},
            "confidence": {"type": "number", "description": "How sure you are, from 0 to 1."},
        },
    });
    Ok(Form { schema, check: None })
}

impl Form<'_> {
    fn check(&self, answer: &Value) -> Result<(), String> {
        let certainty = answer.get("confidence").and_then(Value::as_f64).unwrap_or(0.0);
        if !(0.0..=1.0).contains(&certainty) {
            return Err(format!("confidence is {certainty}, it goes from 0 to 1"));
        }
        match self.check {
            Some(schema) => schema.check(answer).map_err(|error| error.to_string()),
            None if answer.get("answer").is_some_and(Value::is_string) => Ok(()),
            None => Err("`answer` is missing".to_owned()),
        }
    }
}

impl<'a> Assistant<'a> {
    async fn answer(&self) -> Result<Value, Stopped> {
        let own = self.agent.prompt.as_deref().unwrap_or(OWN);
        match self.agent.pattern {
            Pattern::Single => Ok(self.said(own, self.task.clone(), "", false).await?.0),
            Pattern::React => Ok(self.said(own, self.task.clone(), "", true).await?.0),
            Pattern::Plan => self.planned(own).await,
            Pattern::Reflect => self.reflected(own).await,
            Pattern::Supervise => self.supervised(own).await,
        }
    }

    fn talk(&self, label: &'a str, with_tools: bool) -> Talk<'_> {
        let reach = with_tools.then_some(&self.desk.reach);
        let (ctx, env) = (self.desk.ctx, self.desk.text("environment"));
        let (role, tier, schedule) = (self.agent.role.as_str(), self.tier, self.agent.schedule);
        Talk { ctx, mind: self.mind, reach, team: None, role, tier, env, schedule, label }
    }

    /// A prompt with the form of its answer. One that is not there is a mistake of the installation and no weakness of the model.
    fn system(&self, prompt: &str, form: &Value) -> Result<String, Stopped> {
        let text = self.mind.prompt(prompt).map_err(Stopped::Task)?;
        render_text("prompt", text, &json!({"form": form.to_string(), "remembers": false})).map_err(Stopped::Task)
    }

    /// The answer to what is asked, in the form of the channel.
    async fn said(&self, prompt: &str, user: Value, label: &str, with_tools: bool) -> Result<(Value, Heard), Stopped> {
        let talk = Talk { label, ..self.talk("", with_tools) };
        talk.answer::<Value>(self.question(prompt, &user)?, |answer| self.form.check(answer)).await
    }

    fn question(&self, prompt: &str, user: &Value) -> Result<Question, Stopped> {
        Ok(Question {
            system: self.system(prompt, &self.form.schema)?,
            user: user.to_string(),
            output: OutputSchema { name: "answer".to_owned(), schema: self.form.schema.clone() },
        })
    }

    async fn planned(&self, own: &str) -> Result<Value, Stopped> {
        let mut done: Vec<Value> = Vec::new();
        for round in 0..=REPLANS_MAX {
            let plan = self.plan(round, &done).await?;
            if plan.steps.is_empty() {
                break;
            }
            for (nth, step) in plan.steps.iter().take(STEPS_MAX).enumerate() {
                let label = format!("step{round}.{nth}");
                let user = json!({"task": self.task, "done": done, "step": step});
                let output = finding_form();
                let question =
                    Question { system: self.system("step", &output.schema)?, user: user.to_string(), output };
                let talk = Talk { label: &label, ..self.talk("", true) };
                let finding = match talk.answer::<Finding>(question, |_| Ok(())).await {
                    Ok((found, _)) => json!({
                        "step": step, "finding": beginning(&found.finding, FINDING_CHARS_MAX), "confidence": found.confidence,
                    }),
                    // A step that fails is known to have failed; the plan goes on without it.
                    Err(Stopped::Unable(why)) => json!({"step": step, "failed": why}),
                    Err(stopped) => return Err(stopped),
                };
                done.push(finding);
            }
        }
        Ok(self.said(own, json!({"task": self.task, "done": done}), "answer", false).await?.0)
    }

    async fn plan(&self, round: usize, done: &[Value]) -> Result<Plan, Stopped> {
        let text = json!({"type": "string", "description": "One thing to find out."});
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["steps"],
            "properties": {"steps": {"type": "array", "items": text}},
        });
        let user = json!({"task": self.task, "done": done, "steps_at_most": STEPS_MAX});
        let output = OutputSchema { name: "plan".to_owned(), schema };
        let question = Question { system: self.system("planner", &output.schema)?, user: user.to_string(), output };
        let label = format!("plan{round}");
        let talk = Talk { label: &label, ..self.talk("", false) };
        let bound = |plan: &Plan| match plan.steps.len() {
            n if n > STEPS_MAX => Err(format!("a plan has at most {STEPS_MAX} steps")),
            _ => Ok(()),
        };
        Ok(talk.answer::<Plan>(question, bound).await?.0)
    }

    async fn reflected(&self, own: &str) -> Result<Value, Stopped> {
        let (mut draft, mut heard) = self.said(own, self.task.clone(), "draft", true).await?;
        let mut at_most = 1.0_f64;
        for round in 0..=REVISIONS_MAX {
            let critique = self.critique(round, &draft, &heard).await?;
            at_most = at_most.min(critique.confidence_at_most.clamp(0.0, 1.0));
            if critique.accept {
                return Ok(capped(draft, at_most));
            }
            if round == REVISIONS_MAX {
                break;
            }
            let user = json!({"task": self.task, "draft": draft, "problems": critique.problems});
            (draft, heard) = self.said(own, user, &format!("draft{}", round + 1), true).await?;
        }
        // Nobody acts on what its critic never accepted.
        Ok(capped(draft, at_most.min(AMBIGUOUS)))
    }

    async fn critique(&self, round: usize, draft: &Value, heard: &Heard) -> Result<Critique, Stopped> {
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["accept", "problems", "confidence_at_most"],
            "properties": {
                "accept": {"type": "boolean"},
                "problems": {"type": "array", "items": {"type": "string"}},
                "confidence_at_most": {"type": "number", "description": "From 0 to 1: what the answer is worth at most."},
            },
        });
        let read = heard.answers.iter().rev().take(READ_MAX).map(|answer| {
            let text = beginning(&redact::whole(&answer.value).to_string(), FINDING_CHARS_MAX);
            json!({"tool": answer.tool, "untrusted_result": text})
        });
        let user = json!({"task": self.task, "draft": draft, "read": read.collect::<Vec<_>>()});
        let output = OutputSchema { name: "critique".to_owned(), schema };
        let question = Question { system: self.system("critic", &output.schema)?, user: user.to_string(), output };
        let label = format!("critic{round}");
        let talk = Talk { label: &label, ..self.talk("", false) };
        Ok(talk.answer::<Critique>(question, |_| Ok(())).await?.0)
    }

    async fn supervised(&self, own: &str) -> Result<Value, Stopped> {
        let mut members = Vec::new();
        for specialist in &self.agent.specialists {
            let system = self.system(specialist.prompt.as_deref().unwrap_or(OWN), &finding_form().schema)?;
            let reach = self.desk.reach.with_tools(&specialist.tools);
            members.push(Member { name: &specialist.name, description: &specialist.description, system, reach });
        }
        let team = Team { members };
        let talk = Talk { team: Some(&team), ..self.talk("", true) };
        let question = self.question(own, &self.task)?;
        Ok(talk.answer::<Value>(question, |answer| self.form.check(answer)).await?.0)
    }
}

/// A critic lowers certainty and never raises it.
fn capped(mut answer: Value, at_most: f64) -> Value {
    if let Some(sure) = answer.get("confidence").and_then(Value::as_f64)
        && let Some(confidence) = answer.get_mut("confidence")
    {
        *confidence = json!(sure.min(at_most));
    }
    answer
}
