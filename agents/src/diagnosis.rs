//! What a diagnosis says, and how sure it is.

use memory::{Recommendation, Similar};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::incident::Evidence;
use crate::noted::Noted;
use crate::reasoning::Step;
use crate::recollection::Cited;

/// Class of a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Passes by itself.
    Transient,
    /// The shape of a source changed.
    SchemaDrift,
    /// Bad records.
    DataQuality,
    /// Privileges, credentials or settings.
    Configuration,
    /// The source system did not do its part.
    Upstream,
    /// Memory, disk or another quantity ran out.
    Resource,
    /// Nobody can tell from the evidence. A valid answer.
    Unknown,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 7] = [
        Self::Transient,
        Self::SchemaDrift,
        Self::DataQuality,
        Self::Configuration,
        Self::Upstream,
        Self::Resource,
        Self::Unknown,
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::SchemaDrift => "schema_drift",
            Self::DataQuality => "data_quality",
            Self::Configuration => "configuration",
            Self::Upstream => "upstream",
            Self::Resource => "resource",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether it goes away by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transience {
    /// It passes.
    Transient,
    /// It stays until something changes.
    Permanent,
    /// Nobody can tell.
    #[default]
    Unknown,
}

/// Whether a class goes away by itself.
pub(crate) fn transience(class: Class) -> Transience {
    match class {
        Class::Transient => Transience::Transient,
        Class::Unknown => Transience::Unknown,
        _ => Transience::Permanent,
    }
}

/// What the evidence is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Independent evidence agrees.
    Confirmed,
    /// Likely, with gaps.
    Hypothesis,
    /// Not enough to act on.
    #[default]
    Insufficient,
}

/// A cause that explains the incident too, but less well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Possible {
    /// Id of the cause.
    pub cause: String,
    /// How well it explains the incident.
    pub confidence: f64,
}

/// What is affected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlastRadius {
    /// Days.
    pub business_dates: Vec<String>,
    /// Tables that are wrong or missing.
    pub tables: Vec<String>,
    /// Whether people can already read something wrong.
    pub published_wrong: bool,
}

/// Why an incident happened, as far as the evidence goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Class of the cause.
    pub class: Class,
    /// The known cause; `None` when no entry explains the incident.
    #[serde(default)]
    pub cause_id: Option<String>,
    /// The cause in sentences.
    pub cause: String,
    /// The cause in a few words.
    pub summary: String,
    /// How sure, from 0 to 1; see [`crate::confidence`].
    pub confidence: f64,
    /// Whether it goes away by itself.
    #[serde(default)]
    pub transience: Transience,
    /// What the evidence is worth.
    #[serde(default)]
    pub evidence_status: Status,
    /// What supports it (or, for an unknown cause, what was ruled out).
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// What could not be seen, or speaks against it.
    #[serde(default)]
    pub gaps: Vec<String>,
    /// Other causes that fit.
    #[serde(default)]
    pub also_possible: Vec<Possible>,
    /// Declared remedies, the preferred first.
    #[serde(default)]
    pub remedies: Vec<String>,
    /// What remedies are filled in with.
    #[serde(default)]
    pub params: Map<String, Value>,
    /// What is affected.
    #[serde(default)]
    pub blast_radius: BlastRadius,
    /// Model tiers that were asked, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Step>,
    /// Runbooks that are about it. No evidence: nothing here has moved the confidence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runbooks: Vec<Cited>,
    /// Past incidents that looked like it, one with another cause among them if there is one. No evidence either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub similar: Vec<Similar>,
    /// The remedy of this cause that past incidents recommend to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended: Option<Recommendation>,
    /// What people and the runtime noted about its pipeline, tables and team. No evidence either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub noted: Vec<Noted>,
}
