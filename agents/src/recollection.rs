//! What the diagnostic agent is reminded of: runbooks that are about it, incidents that looked like it.
//!
//! Recollections stand beside a diagnosis and are no part of its judgement: they move no confidence, name no cause and add
//! no remedy. A remedy that past incidents recommend is shown only if the diagnosed cause declares it anyway. Looking is one
//! call in the journal, so a thread that goes on after a restart has been told what it was told.

use std::fmt;
use std::sync::Arc;

use graphs::EffectClass;
use jiff::civil::Date;
use memory::{Episodes, Gate, Hit, Kind, Library, Query, Recalled, Recommendation, Similar, Situation, recall};
use models::Amounts;
use runtime::CallSpec;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::interlocks::budget::Cost;
use runtime_core::interlocks::redact;
use runtime_core::record::CallKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::diagnosis::Diagnosis;
use crate::facts::Facts;
use crate::incident::Incident;
use crate::kit::Kit;
use crate::meaning::Meaning;
use crate::reasoning::beginning;
use crate::signature::signature;

/// Most pieces of runbooks beside a diagnosis.
const RUNBOOKS_MAX: usize = 3;
/// Longest piece in characters.
const TEXT_CHARS_MAX: usize = 1_500;
const MICROS: f64 = 1e6;
/// The call that looks.
const TARGET: &str = "memory.search";

/// Runbooks, schemas and past incidents of an installation.
#[derive(Clone)]
pub struct Memory {
    library: Arc<Library>,
    episodes: Arc<Episodes>,
    meaning: Option<Meaning>,
    today: fn() -> Date,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("documents", &self.library.documents().len()).finish_non_exhaustive()
    }
}

/// A piece of a runbook and where it stands. Written by people of the installation, and still data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cited {
    /// Id, version and lines.
    pub cites: String,
    /// Title of the document.
    pub title: String,
    /// What stands there.
    pub text: String,
    /// Days since somebody said that it is true; none if nobody did.
    #[serde(default)]
    pub age_days: Option<i32>,
}

/// What came to mind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recollection {
    pub(crate) runbooks: Vec<Cited>,
    pub(crate) similar: Vec<Similar>,
    #[serde(default)]
    pub(crate) recommended: Option<Recommendation>,
    #[serde(default)]
    gaps: Vec<String>,
}

impl Memory {
    /// What is remembered on the days that `today` says.
    pub fn new(library: Library, episodes: Episodes, meaning: Option<Meaning>, today: fn() -> Date) -> Self {
        Self { library: Arc::new(library), episodes: Arc::new(episodes), meaning, today }
    }

    async fn worst_case(&self, incident: &Incident, cause_id: Option<&str>) -> Amounts {
        match &self.meaning {
            Some(meaning) => meaning.worst_case(&self.library, &question(incident, cause_id)).await,
            None => Amounts::default(),
        }
    }

    async fn search(&self, incident: &Incident, cause_id: Option<&str>) -> (Recollection, Amounts) {
        let today = (self.today)();
        let text = question(incident, cause_id);
        let kinds = [Kind::Runbook, Kind::Schema];
        let query = Query { text: &text, kinds: &kinds, today, limit: RUNBOOKS_MAX };
        let search = self.meaning.as_ref().map(Meaning::search);
        let (hits, failed) = self.library.search_with(query, search.as_ref().map(|search| &search.vectors)).await;
        let subject = subject(incident);
        let now = Situation {
            signature: &subject,
            pipeline: &incident.pipeline,
            kind: incident.kind.word(),
            cause_id,
            today,
        };
        let Recalled { similar, recommended, closed } = recall(&self.episodes, now);
        let mut gaps: Vec<String> =
            failed.into_iter().map(|error| format!("memory was searched by words alone: {error}")).collect();
        if !closed.is_empty() {
            let why: Vec<&str> = closed.into_iter().map(why).collect();
            gaps.push(format!("past incidents recommend nothing: {}", why.join("; ")));
        }
        let spent = search.map(|search| search.spent()).unwrap_or_default();
        (Recollection { runbooks: hits.into_iter().map(cited).collect(), similar, recommended, gaps }, spent)
    }
}

/// What an incident is found again by: its error, or what was noticed first, without what changes from day to day.
pub fn subject(incident: &Incident) -> String {
    let noticed = incident.symptoms.first().map(String::as_str);
    signature(incident.error.as_deref().or(noticed).unwrap_or(&incident.title))
}

fn question(incident: &Incident, cause_id: Option<&str>) -> String {
    let noticed = || format!("{}\n{}", incident.kind.word(), incident.symptoms.join("\n"));
    let seen = incident.error.as_deref().map_or_else(noticed, signature);
    format!("{seen}\n{}\n{}", incident.pipeline, cause_id.unwrap_or_default())
}

fn cited(hit: Hit) -> Cited {
    let text = beginning(&redact::whole_text(&hit.text), TEXT_CHARS_MAX);
    Cited { cites: hit.citation.to_string(), title: hit.title, text, age_days: hit.age_days }
}

fn why(gate: Gate) -> &'static str {
    match gate {
        Gate::Reviewed => "nobody has reviewed what is alike",
        Gate::Structure => "none is the same, only alike",
        Gate::Margin => "another cause looked nearly the same",
        Gate::TrackRecord => "no remedy has healed it often enough, and lately",
        Gate::Cause => "they had another cause than this diagnosis",
    }
}

/// Looks into the memory, if there is one.
///
/// # Errors
/// What ends the task. That the guard or a budget does not let the agent look is a gap.
pub(crate) async fn recollect(
    desk: &Desk<'_>,
    role: &str,
    facts: &Facts,
    rules: &Diagnosis,
) -> Result<Option<Recollection>, TaskError> {
    let Some(memory) = desk.memory else { return Ok(None) };
    let incident = &facts.incident;
    // The error itself stays out of the arguments: these go to the audit log.
    let args = json!({"incident": incident.fingerprint, "cause": rules.cause_id});
    let cause_id = rules.cause_id.as_deref();
    let spec = CallSpec {
        role: Some(role.into()),
        worst: cost(memory.worst_case(incident, cause_id).await),
        ..CallSpec::new(CallKind::Custom, TARGET, args, EffectClass::Idempotent)
    };
    let looked = desk
        .ctx
        .call(spec, |permit| async move {
            let (found, spent) = memory.search(incident, cause_id).await;
            permit.meter.spent(cost(spent));
            // What it cost stands in the audit log, as that of a model's turn.
            let usage = json!({"usd": spent.usd_micros as f64 / MICROS, "tokens": spent.tokens});
            Ok(json!({"found": found, "usage": usage}))
        })
        .await;
    match looked {
        Ok(recorded) => {
            let found = recorded.get("found").cloned().unwrap_or_default();
            let unread = |error| TaskError::invalid(format!("what was remembered cannot be read: {error}"));
            serde_json::from_value(found).map(Some).map_err(unread)
        }
        Err(error) if matches!(error.class, ErrorClass::Denied | ErrorClass::Limit) => {
            Ok(Some(Recollection { gaps: vec![format!("memory: {}", error.message)], ..Recollection::default() }))
        }
        Err(error) => Err(error),
    }
}

fn cost(amounts: Amounts) -> Cost {
    Cost { usd_micros: amounts.usd_micros, tokens: amounts.tokens }
}

impl Recollection {
    /// For a model: notes that may be wrong.
    pub(crate) fn shown(&self) -> Value {
        json!({"runbooks": self.runbooks, "similar_incidents": self.similar})
    }

    /// Puts it beside the diagnosis.
    pub(crate) fn stand_beside(self, diagnosis: &mut Diagnosis, kit: &Kit) {
        diagnosis.runbooks = self.runbooks;
        diagnosis.similar = self.similar;
        diagnosis.gaps.extend(self.gaps);
        let Some(recommended) = self.recommended else { return };
        let is_declared = diagnosis.cause_id.as_deref() == Some(recommended.cause_id.as_str())
            && kit
                .knowledge
                .remedies()
                .any(|(cause, remedy)| cause == recommended.cause_id && remedy == recommended.remedy);
        if is_declared {
            diagnosis.recommended = Some(recommended);
        } else {
            let Recommendation { remedy, cause_id, .. } = recommended;
            diagnosis.gaps.push(format!(
                "past incidents had `{remedy}` for `{cause_id}`, which is not declared for this diagnosis"
            ));
        }
    }
}
