//! `lineage:` of an estate: what is made of what, so that what follows from a failure is told with it.

use std::collections::BTreeMap;

use detectors::correlation::{Symptom, correlate};
use detectors::lineage::Lineage as Edges;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::declared::seconds_of;
use crate::estate::Pipeline;
use crate::incident::Incident;

/// Symptoms of a storm that are listed.
const SYMPTOMS_MAX: usize = 60;
/// Pieces of evidence of a storm.
const EVIDENCE_MAX: usize = 40;
/// Consequences that are listed.
const CONSEQUENCES_MAX: usize = 200;
/// Longest span in hours: a month.
const WITHIN_HOURS_MAX: f64 = 31.0 * 24.0;

/// What is made of what, and how near in time a consequence is.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "LineageText")]
pub struct Lineage {
    within_s: i64,
    upstream: BTreeMap<String, Vec<String>>,
    edges: Edges,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineageText {
    /// Hours between a failure and what follows from it.
    #[serde(default = "a_day")]
    within_hours: f64,
    /// A pipeline or table, with the pipelines and tables that it is made of.
    upstream: BTreeMap<String, Vec<String>>,
}

fn a_day() -> f64 {
    24.0
}

impl TryFrom<LineageText> for Lineage {
    type Error = String;

    fn try_from(text: LineageText) -> Result<Self, String> {
        if !(0.0..=WITHIN_HOURS_MAX).contains(&text.within_hours) {
            return Err(format!(
                "`within_hours` of `lineage` is {}, from 0 to {WITHIN_HOURS_MAX} are allowed",
                text.within_hours
            ));
        }
        let edges = Edges::new(text.upstream.clone()).map_err(|error| format!("`lineage`: {error}"))?;
        Ok(Self { within_s: (text.within_hours * 3_600.0) as i64, upstream: text.upstream, edges })
    }
}

impl Lineage {
    /// The same, where each table of a pipeline is also made by it.
    pub(crate) fn with_tables(mut self, pipelines: &BTreeMap<String, Pipeline>) -> Result<Self, String> {
        for (name, pipeline) in pipelines {
            for table in pipeline.facts.iter().filter(|table| *table != name) {
                // A pipeline that reads what it wrote the day before is not made of itself.
                if let Some(uppers) = self.upstream.get_mut(name) {
                    uppers.retain(|upper| upper != table);
                }
                self.upstream.entry(table.clone()).or_default().push(name.clone());
            }
        }
        self.edges = Edges::new(self.upstream.clone())
            .map_err(|error| format!("`lineage`, with the tables of each pipeline: {error}"))?;
        Ok(self)
    }
}

/// What followed from an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Consequence {
    /// Pipeline.
    pub pipeline: String,
    /// Day.
    pub business_date: String,
    /// The identity that it would have by itself, and has when it outlives its root.
    pub fingerprint: String,
    /// One line.
    pub title: String,
}

/// Puts incidents that follow from another one under it.
pub(crate) fn grouped(incidents: Vec<Incident>, lineage: &Lineage) -> Vec<Incident> {
    let symptoms: Vec<Symptom> = incidents.iter().map(symptom).collect();
    let groups = correlate(&symptoms, &lineage.edges, lineage.within_s);
    let mut left: Vec<Option<Incident>> = incidents.into_iter().map(Some).collect();
    let mut take = |at: usize| left.get_mut(at).and_then(Option::take);
    let mut roots = Vec::new();
    for group in groups {
        let Some(mut root) = take(group.root) else { continue };
        for at in group.consequences.into_iter().chain(group.repetitions) {
            if let Some(follows) = take(at) {
                absorb(&mut root, follows);
            }
        }
        roots.push(root);
    }
    roots.sort_by(|one, other| (&one.business_date, &one.pipeline).cmp(&(&other.business_date, &other.pipeline)));
    roots
}

/// An incident is the same only with its day: two days of one pipeline are two runs to heal.
fn symptom(incident: &Incident) -> Symptom {
    let names = [&incident.pipeline].into_iter().chain(&incident.tables).cloned();
    Symptom {
        at: seconds_of(&Value::from(incident.business_date.as_str())).unwrap_or_default(),
        pipeline: format!("{} {}", incident.pipeline, incident.business_date),
        kind: incident.kind.word().to_owned(),
        fingerprint: incident.fingerprint.clone(),
        tables: names.collect(),
    }
}

fn absorb(root: &mut Incident, follows: Incident) {
    let place = format!("{} {}", follows.pipeline, follows.business_date);
    root.severity = root.severity.max(follows.severity);
    root.symptoms.extend(follows.symptoms.iter().map(|symptom| format!("{place}: {symptom}")));
    root.symptoms.truncate(SYMPTOMS_MAX);
    root.evidence.extend(follows.evidence);
    root.evidence.truncate(EVIDENCE_MAX);
    if root.consequences.len() < CONSEQUENCES_MAX {
        let Incident { pipeline, business_date, fingerprint, title, .. } = follows;
        root.consequences.push(Consequence { pipeline, business_date, fingerprint, title });
    }
}
