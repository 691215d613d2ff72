//! From tier to tier: the cheapest that is sure enough answers.

use graphs::{AgentNode, Tier};
use models::OutputSchema;
use runtime_core::error::TaskError;
use runtime_core::interlocks::redact;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::opinion::{Opinion, form, menu};
use super::talk::{Question, Stopped, Talk};
use super::{Mind, RULES, TOP, beginning};
use crate::desk::Desk;
use crate::diagnosis::Diagnosis;
use crate::estate::render_text;
use crate::facts::Facts;
use crate::recollection::Recollection;

/// Below this confidence the next tier is asked, unless the node says otherwise: below it people are asked.
pub(super) const CLIMB_BELOW: f64 = 0.70;
/// Longest fact in a prompt.
const FACT_CHARS_MAX: usize = 8_000;

/// A tier that was asked, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The tier.
    pub tier: String,
    /// Why it was asked.
    pub why: String,
    /// How sure the diagnosis was after it; none when it brought nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Why it brought nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// The rules' diagnosis, or a better one of the tiers the node allows.
///
/// # Errors
/// A tier or a prompt that is not there, and the task's own failures. A model that fails is none: the next tier is asked, and in
/// the end what the rules say stands.
pub(crate) async fn diagnose(
    desk: &Desk<'_>,
    agent: &AgentNode,
    seen: (&Facts, Option<&Recollection>),
    rules: Diagnosis,
) -> Result<Diagnosis, TaskError> {
    let Some(tier) = &agent.tier else { return Ok(rules) };
    let Some(mind) = desk.mind else { return Ok(without_models(tier, rules)) };
    let threshold = tier.climb_below.unwrap_or(CLIMB_BELOW);
    let mut best = rules.clone();
    for name in between(mind, tier)? {
        let why = if tier.start != RULES && best.tiers.is_empty() {
            "the node starts here".to_owned()
        } else if best.confidence < threshold {
            format!("confidence {:.2} is below {threshold:.2}", best.confidence)
        } else {
            break;
        };
        desk.ctx.emit(json!({"agent": agent.role, "phase": "climbing", "tier": name, "why": why})).await?;
        let mut step = Step { tier: name.to_owned(), why, confidence: None, failed: None };
        let mut steps = std::mem::take(&mut best.tiers);
        match opinion(desk, mind, (agent, name), seen, &rules).await {
            Ok(found) => {
                step.confidence = Some(found.confidence);
                best = found;
            }
            Err(Stopped::Unable(failed)) => step.failed = Some(failed),
            Err(Stopped::Task(error)) => return Err(error),
            Err(Stopped::Forbidden(error)) => {
                step.failed = Some(error.message);
                steps.push(step);
                best.tiers = steps;
                break;
            }
        }
        steps.push(step);
        best.tiers = steps;
    }
    Ok(best)
}

async fn opinion(
    desk: &Desk<'_>,
    mind: &Mind,
    (agent, tier): (&AgentNode, &str),
    (facts, remembered): (&Facts, Option<&Recollection>),
    rules: &Diagnosis,
) -> Result<Diagnosis, Stopped> {
    let knowledge = &desk.kit.knowledge;
    let schema = form();
    // A prompt that is not there or does not render is a mistake of the installation and no weakness of the model.
    let prompt = mind.prompt(agent.prompt.as_deref().unwrap_or(&agent.role)).map_err(Stopped::Task)?;
    let told = json!({"form": schema.to_string(), "remembers": remembered.is_some(), "knows": !facts.noted.is_empty()});
    let system = render_text("prompt", prompt, &told).map_err(Stopped::Task)?;
    let mut shown = json!({
        "incident": facts.incident,
        "rules": rules,
        "known_causes": menu(knowledge, facts),
        "facts": shortened(&facts.names),
    });
    if let (Some(remembered), Some(shown)) = (remembered, shown.as_object_mut()) {
        shown.insert("untrusted_memory".to_owned(), remembered.shown());
    }
    if let (false, Some(shown)) = (facts.noted.is_empty(), shown.as_object_mut()) {
        shown.insert("untrusted_facts".to_owned(), json!(facts.noted));
    }
    let question = Question {
        system,
        user: redact::whole(&shown).to_string(),
        output: OutputSchema { name: "diagnosis".to_owned(), schema },
    };
    let (ctx, reach, env) = (desk.ctx, Some(&desk.reach), Some(facts.incident.environment.as_str()));
    let (role, schedule) = (agent.role.as_str(), agent.schedule);
    let talk = Talk { ctx, mind, reach, team: None, role, tier, env, schedule, label: "" };
    let (opinion, heard) = talk.answer::<Opinion>(question, |opinion| opinion.check(knowledge)).await?;
    let mut diagnosis = opinion.weigh(rules, knowledge, facts, &heard);
    diagnosis.gaps.extend(heard.notes);
    Ok(diagnosis)
}

/// The tiers that ask a model, from where the node starts to where it ends.
pub(super) fn between<'a>(mind: &'a Mind, tier: &Tier) -> Result<Vec<&'a str>, TaskError> {
    let order: Vec<&str> = std::iter::once(RULES).chain(mind.tiers().order().iter().map(String::as_str)).collect();
    let place = |name: &str| match order.iter().position(|known| *known == name) {
        None if name == TOP => Ok(order.len() - 1),
        None => {
            let known = order.join(", ");
            Err(TaskError::invalid(format!(
                "there is no model tier `{name}`; tiers are {known}; `{TOP}` is the highest"
            )))
        }
        Some(place) => Ok(place),
    };
    let (start, max) = (place(&tier.start)?, place(&tier.max)?);
    if start > max {
        let text = format!("tier `{}` is above `{}`: `start` must not be above `max`", tier.start, tier.max);
        return Err(TaskError::invalid(text));
    }
    Ok(order.into_iter().take(max + 1).skip(start.max(1)).collect())
}

/// Without models the rules answer, and say so where the node wanted more.
fn without_models(tier: &Tier, mut rules: Diagnosis) -> Diagnosis {
    if tier.start != RULES {
        rules.gaps.push(format!("no model is configured: tier `{}` was answered by the rules", tier.start));
    }
    rules
}

fn shortened(names: &Map<String, Value>) -> Map<String, Value> {
    let shown = names.iter().filter(|(name, _)| *name != "incident").map(|(name, value)| {
        let text = value.to_string();
        let fits = text.len() <= FACT_CHARS_MAX;
        (name.clone(), if fits { value.clone() } else { Value::String(beginning(&text, FACT_CHARS_MAX)) })
    });
    shown.collect()
}
