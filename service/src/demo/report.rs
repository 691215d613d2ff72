//! How the demonstration came out: one row for each incident, with the truth beside what was found.

use std::time::Duration;

use runtime_core::ids::ThreadId;
use runtime_core::record::Outcome;
use serde_json::{Value, json};
use tools::servers::sandbox::{FaultClass, GroundTruth, Settlement, Verdict};

use super::plant::word;
use crate::cli::App;
use crate::failure::Exit;
use crate::ids::span;
use crate::out::ruled_table;
use crate::snapshot::outcome_word;

/// Width of the table where there is no terminal.
const WIDTH_DEFAULT: u16 = 150;

/// Calls that were made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    /// Of models.
    pub(super) n_model: usize,
    /// Of tools.
    pub(super) n_tool: usize,
}

/// One fault and what became of it.
pub(super) struct Incident {
    pub(super) thread: ThreadId,
    pub(super) truth: GroundTruth,
    pub(super) verdict: Verdict,
    /// The line of the round's report; null when nothing was found.
    pub(super) outcome: Value,
    pub(super) notices: Vec<Value>,
    /// People who answered.
    pub(super) deciders: Vec<String>,
    pub(super) ended: Option<Outcome>,
    pub(super) took: Duration,
    pub(super) cost: Cost,
}

impl Incident {
    fn text(&self, key: &str) -> &str {
        self.outcome[key].as_str().unwrap_or("-")
    }

    /// Whether the cause that was found is the true one: its class, and what a right diagnosis mentions.
    fn is_cause_right(&self) -> bool {
        if self.truth.class == FaultClass::Unknown {
            return self.text("class") == "unknown";
        }
        let said = self.said().to_lowercase();
        let mentions = self.truth.diagnosis_mentions.iter();
        let mentioned = mentions.clone().all(|words| words.iter().any(|word| said.contains(&word.to_lowercase())));
        self.text("class") == word_of(&self.truth.class) && mentioned
    }

    /// All that was said about the incident.
    fn said(&self) -> String {
        let notices = self.notices.iter().map(|notice| format!("{} {}", notice["title"], notice["text"]));
        format!("{} {}", self.text("cause"), notices.collect::<Vec<_>>().join(" "))
    }

    fn paged(&self) -> bool {
        self.notices.iter().any(|notice| notice["severity"] == "page")
    }

    fn decided_by(&self) -> String {
        let mut people = self.deciders.clone();
        people.dedup();
        if people.is_empty() { "policy".to_owned() } else { people.join(", ") }
    }

    /// What did not come out as it should; empty when all is well.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut expect = |holds: bool, what: &str| {
            if !holds {
                problems.push(what.to_owned());
            }
        };
        let ended = self.ended.as_ref().map_or("going on", outcome_word);
        expect(self.ended == Some(Outcome::Success), &format!("the run is {ended}"));
        expect(!self.outcome.is_null(), "the incident was not found");
        expect(!self.verdict.damaged, "something else was damaged");
        expect(self.is_cause_right(), "the cause is another one");
        if self.truth.must_page {
            expect(self.verdict.outcome == Settlement::Contained, "it is not contained");
            expect(self.paged(), "nobody was paged");
        } else {
            expect(self.verdict.healed, "it is not healed");
        }
        expect(!self.truth.must_ask_human || !self.deciders.is_empty(), "no person was asked");
        problems
    }

    fn cost_text(&self) -> String {
        // The rules tier costs nothing; a model's price is not known here.
        if self.cost.n_model == 0 { "$0.00".to_owned() } else { format!("{} model calls", self.cost.n_model) }
    }

    fn found(&self) -> String {
        if self.outcome.is_null() {
            "nothing".to_owned()
        } else {
            format!("{}: {}", self.text("class"), self.text("cause"))
        }
    }

    fn verified(&self) -> &'static str {
        if self.outcome["verified"] == true { "yes" } else { "no" }
    }

    fn result(&self) -> String {
        let settled = word_of(&self.verdict.outcome);
        let problems = self.problems();
        if problems.is_empty() { settled } else { format!("{settled}; WRONG: {}", problems.join(", ")) }
    }

    /// One line for the moment the incident is over.
    pub(super) fn line(&self) -> String {
        let confidence = &self.outcome["confidence"];
        format!(
            "→ {} (confidence {confidence}); {}; decided by {}; {}  {}",
            self.found(),
            self.text("action"),
            self.decided_by(),
            self.result(),
            span(self.took)
        )
    }

    fn row(&self) -> Vec<String> {
        let confidence =
            self.outcome["confidence"].as_f64().map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        vec![
            format!("{}\n{}", word(&self.truth.fault), self.truth.business_date),
            format!("found  {}\ntruth  {}: {}", self.found(), word_of(&self.truth.class), self.truth.cause),
            confidence,
            self.decided_by(),
            self.text("action").to_owned(),
            self.verified().to_owned(),
            span(self.took),
            self.cost_text(),
            self.result(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "fault": self.truth.fault,
            "business_date": self.truth.business_date,
            "thread_id": self.thread,
            "found": self.outcome,
            "cause_right": self.is_cause_right(),
            "decided_by": self.decided_by(),
            "paged": self.paged(),
            "ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "usd": if self.cost.n_model == 0 { Some(0.0) } else { None },
            "tool_calls": self.cost.n_tool,
            "model_calls": self.cost.n_model,
            "truth": self.truth,
            "verdict": self.verdict,
            "problems": self.problems(),
        })
    }
}

fn word_of(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Prints the table, or JSON.
pub(super) fn print(app: &App, incidents: &[Incident]) {
    let n_right = incidents.iter().filter(|incident| incident.problems().is_empty()).count();
    if app.out.json() {
        let rows: Vec<Value> = incidents.iter().map(Incident::json).collect();
        let exit = if n_right == incidents.len() { Exit::Done } else { Exit::Failed };
        app.out.json_line(&json!({"ok": exit == Exit::Done, "incidents": rows}));
        return;
    }
    let header = [
        "incident",
        "cause found, and the true one",
        "conf.",
        "decided by",
        "action",
        "verified",
        "time",
        "cost",
        "result",
    ];
    let width = app.out.width().unwrap_or(WIDTH_DEFAULT);
    let text = ruled_table(&header, incidents.iter().map(Incident::row).collect(), width);
    app.out.text(&app.out.paint(&text));
    app.out.line(&format!("\n{n_right} of {} came out as they should", incidents.len()));
}
