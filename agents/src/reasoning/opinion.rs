//! What a model thinks of an incident, and what that is worth beside the evidence.
//!
//! ```text
//!  the rules' cause, named by the model too     p ← combine(rules, [0.5 · model's confidence])
//!  another known cause that fits the facts      its own diagnosis, p ← min(p, 0.69)
//!  a cause of the model's own, or none          p ← min(model's confidence, 0.69), no remedy
//!  no quote that stands where it is cited       nothing of the opinion counts
//!  only facts that people noted are cited       likewise: they explain, and prove nothing
//! ```
//!
//! 0.69 is below the lowest band that acts. So a model alone never starts a remedy: it agrees with what rules have found
//! evidence for, or it explains to a person.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::talk::Heard;
use crate::confidence::{AMBIGUOUS, combine};
use crate::diagnosis::{Class, Diagnosis, Status, transience};
use crate::facts::Facts;
use crate::incident::Evidence;
use crate::knowledge::Knowledge;
use crate::noted::FACT;

/// What agreement of a model that is certain weighs.
const AGREES: f64 = 0.5;
/// Longest text of an opinion's part.
const TEXT_CHARS_MAX: usize = 1_000;
/// Most pieces of evidence, and most gaps.
const PARTS_MAX: usize = 12;
/// Shortest quote: a shorter one stands in any text.
const QUOTE_CHARS_MIN: usize = 4;

/// A model's view of an incident.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Opinion {
    cause_id: Option<String>,
    class: Class,
    summary: String,
    cause: String,
    confidence: f64,
    evidence: Vec<Cited>,
    gaps: Vec<String>,
}

/// A claim and where it stands.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cited {
    source: String,
    quote: String,
    claim: String,
}

/// The form as a JSON Schema that strict providers take.
pub(super) fn form() -> Value {
    let text = json!({"type": "string"});
    let classes: Vec<&str> = Class::ALL.iter().map(|class| class.word()).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["cause_id", "class", "summary", "cause", "confidence", "evidence", "gaps"],
        "properties": {
            "cause_id": {"type": ["string", "null"], "description": "Id of a known cause, or null."},
            "class": {"type": "string", "enum": classes},
            "summary": {"type": "string", "description": "The cause in at most ten words."},
            "cause": {"type": "string", "description": "The cause in sentences."},
            "confidence": {"type": "number", "description": "From 0 to 1."},
            "evidence": {"type": "array", "items": {
                "type": "object",
                "additionalProperties": false,
                "required": ["source", "quote", "claim"],
                "properties": {"source": text, "quote": text, "claim": text},
            }},
            "gaps": {"type": "array", "items": text},
        },
    })
}

impl Opinion {
    /// What a JSON Schema cannot say to every provider.
    pub(super) fn check(&self, knowledge: &Knowledge) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.confidence) {
            return Err(format!("confidence is {}, it goes from 0 to 1", self.confidence));
        }
        if let Some(id) = self.cause_id.as_deref().filter(|id| !knowledge.has(id)) {
            let id: String = id.chars().take(64).collect();
            return Err(format!("there is no known cause `{id}`; use an id of known_causes, or null"));
        }
        let long = |text: &String| text.chars().count() > TEXT_CHARS_MAX;
        let cited = self.evidence.iter().flat_map(|cited| [&cited.source, &cited.quote, &cited.claim]);
        if [&self.summary, &self.cause].into_iter().chain(cited).chain(&self.gaps).any(long) {
            return Err(format!("a text has more than {TEXT_CHARS_MAX} characters"));
        }
        if self.evidence.len() > PARTS_MAX || self.gaps.len() > PARTS_MAX {
            return Err(format!("more than {PARTS_MAX} pieces of evidence, or gaps"));
        }
        Ok(())
    }

    /// The diagnosis of rules and model together.
    pub(super) fn weigh(self, rules: &Diagnosis, knowledge: &Knowledge, facts: &Facts, heard: &Heard) -> Diagnosis {
        let (proven, missing) = self.proven(facts, heard);
        let noted = if proven.is_empty() { Vec::new() } else { self.noted(facts, heard) };
        let mut diagnosis = match (&self.cause_id, proven.is_empty()) {
            (_, true) => rules.clone(),
            (Some(id), false) if rules.cause_id.as_ref() == Some(id) => {
                let confidence = combine(rules.confidence, &[AGREES * self.confidence], &[]);
                Diagnosis { confidence, ..rules.clone() }
            }
            (Some(id), false) => match knowledge.diagnose_as(id, facts) {
                Some(other) => {
                    let confidence = combine(other.confidence, &[AGREES * self.confidence], &[]).min(AMBIGUOUS);
                    Diagnosis { confidence, ..other }
                }
                None => self.alone(rules),
            },
            (None, false) => self.alone(rules),
        };
        if diagnosis.cause_id != rules.cause_id {
            diagnosis.gaps.push(format!("the rules find: {}", rules.cause_id.as_deref().unwrap_or("no known cause")));
        }
        diagnosis.evidence.extend(proven);
        diagnosis.evidence.extend(noted);
        diagnosis.gaps.extend(missing);
        diagnosis.gaps.extend(self.gaps.into_iter().map(|gap| format!("a model notes: {gap}")));
        diagnosis
    }

    /// An explanation for people. It brings no remedy, whatever it says.
    fn alone(&self, rules: &Diagnosis) -> Diagnosis {
        let confidence = self.confidence.min(AMBIGUOUS);
        Diagnosis {
            class: self.class,
            cause_id: None,
            cause: format!("A model thinks: {}", self.cause),
            summary: self.summary.clone(),
            confidence,
            transience: transience(self.class),
            evidence_status: Status::Insufficient,
            also_possible: Vec::new(),
            remedies: Vec::new(),
            ..rules.clone()
        }
    }

    /// The citations that stand where they are said to stand, and a gap for each that does not.
    fn proven(&self, facts: &Facts, heard: &Heard) -> (Vec<Evidence>, Vec<String>) {
        let incident = serde_json::to_value(&facts.incident).unwrap_or_default();
        let (mut proven, mut missing) = (Vec::new(), Vec::new());
        for cited in &self.evidence {
            if cited.source.starts_with(FACT) && Self::names_fact(cited, facts, heard) {
                continue;
            }
            let quoted = cited.quote.chars().count() >= QUOTE_CHARS_MIN;
            let told = heard.answers.iter().rev().filter(|answer| answer.tool == cited.source);
            let answers = facts.source(&cited.source).into_iter().chain(told);
            let found = answers.filter(|answer| heard.shows(&answer.value, &cited.quote)).find(|_| quoted);
            match found {
                Some(answer) => proven.push(Evidence::new(cited.claim.as_str(), answer, json!(cited.quote))),
                None if quoted && cited.source == "incident" && heard.shows(&incident, &cited.quote) => {
                    proven.extend(facts.incident.evidence.first().map(|seen| Evidence {
                        claim: cited.claim.clone(),
                        excerpt: json!(cited.quote),
                        ..seen.clone()
                    }));
                }
                None => {
                    let source: String = cited.source.chars().take(64).collect();
                    missing.push(format!("a model cites `{source}` for what does not stand there"));
                }
            }
        }
        (proven, missing)
    }

    /// The citations of facts that say what is quoted. Beside evidence they are shown; alone they are none.
    fn noted(&self, facts: &Facts, heard: &Heard) -> Vec<Evidence> {
        let stands = |cited: &&Cited| Self::names_fact(cited, facts, heard);
        let shown = self.evidence.iter().filter(stands).map(|cited| Evidence {
            claim: cited.claim.clone(),
            tool: cited.source.clone(),
            call: 0,
            excerpt: json!(cited.quote),
        });
        shown.collect()
    }

    fn names_fact(cited: &Cited, facts: &Facts, heard: &Heard) -> bool {
        cited.quote.chars().count() >= QUOTE_CHARS_MIN
            && facts.noted.iter().any(|fact| fact.source == cited.source && heard.shows(&fact.value, &cited.quote))
    }
}

/// The known causes that could explain incidents of this kind, as the model is shown them.
pub(super) fn menu(knowledge: &Knowledge, facts: &Facts) -> BTreeMap<String, Value> {
    let known = knowledge.of_kind(facts.incident.kind);
    known.map(|(id, class, text)| (id.to_owned(), json!({"class": class.word(), "cause": text}))).collect()
}
