//! The agents: monitor, diagnostic, remediation and notification; on rules, and on models where rules are not sure.
//!
//! ```text
//!  monitor ─incidents─▶ diagnostic ─cause, confidence─▶ remediation ─plan─▶ tool nodes of the graph ─▶ notification
//!   reads runs, tables    reads logs, shapes, grants      picks a remedy      guard, check, undo          tells people
//! ```
//!
//! Every read goes through the journal with the agent's role, limited to the tools its node names. No agent changes
//! anything. What they know is declared in `knowledge/*.yaml` and read into a [`Kit`].

pub mod confidence;
mod declared;
mod desk;
mod detect;
mod diagnosis;
mod diagnostic;
mod estate;
mod facts;
mod incident;
mod kit;
mod knowledge;
mod maintenance;
mod meaning;
mod monitor;
mod node;
mod notebook;
mod noted;
mod notification;
mod reach;
mod reasoning;
mod recollection;
mod remediation;
mod remedies;
mod signature;
mod storm;
mod survey;
mod yaml;

#[cfg(test)]
mod tests;

pub use detect::Detect;
pub use diagnosis::{BlastRadius, Class, Diagnosis, Possible, Status, Transience};
pub use estate::{Estate, Param, Pattern, Pipeline, Probe, Read, Reruns, Rule, Source, Thresholds};
pub use facts::Facts;
pub use incident::{Evidence, Incident, Kind, Severity};
pub use kit::Kit;
pub use knowledge::Knowledge;
pub use maintenance::Maintenance;
pub use meaning::{Meaning, Search};
pub use monitor::INCIDENTS_MAX;
pub use node::{AgentNode, ROLES};
pub use notebook::{Notebook, NotebookError, Placed, check as check_fact, cites as cites_fact};
pub use noted::{LOOK, Noted};
pub use notification::{Collected, Delivery, Notice, Notifier, Printed, Urgency};
pub use reach::Answer;
pub use reasoning::{
    Answers, Mind, PROMPT_BYTES_MAX, RULES, Step, TOP, prompt_problem, prompt_version, shipped_prompts,
};
pub use recollection::{Cited, Memory, subject};
pub use remediation::plan;
pub use remedies::{Action, ParamKind, Remedies, Remedy};
pub use signature::signature;
pub use storm::{Consequence, Lineage};
pub use yaml::Broken;
