//! Agents as a graph declares them: role, tools, tiers, and how an assistant comes to its answer.

use std::borrow::Cow;

/// An agent of a role.
#[derive(Debug)]
pub struct AgentNode {
    /// The role.
    pub role: String,
    /// Tools it may see, as patterns such as `airflow.*`.
    pub tools: Vec<String>,
    /// Which model tiers it uses.
    pub tier: Option<Tier>,
    /// The prompt, if not the role's own.
    pub prompt: Option<String>,
    /// How an assistant comes to its answer.
    pub pattern: Pattern,
    /// When its models are asked.
    pub schedule: Schedule,
    /// Whom a supervisor may ask.
    pub specialists: Vec<Specialist>,
}

impl AgentNode {
    /// Patterns of every tool that the node can come to call, those of its specialists among them.
    pub fn within_reach(&self) -> Cow<'_, [String]> {
        if self.specialists.is_empty() {
            return Cow::Borrowed(&self.tools);
        }
        let theirs = self.specialists.iter().flat_map(|specialist| &specialist.tools);
        Cow::Owned(self.tools.iter().chain(theirs).cloned().collect())
    }
}

/// How an assistant comes to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pattern {
    /// One question to the model, without tools.
    Single,
    /// The model reads with tools until it answers.
    #[default]
    React,
    /// A plan, each step with tools, a look at what is left, an answer.
    Plan,
    /// An answer, a critic, and the answer again.
    Reflect,
    /// The model asks specialists.
    Supervise,
}

/// When the models of an agent are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Schedule {
    /// At once.
    #[default]
    Now,
    /// With others in a batch, which takes up to a day and costs half.
    Batch,
}

/// Whom a supervisor may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Specialist {
    /// Its name.
    pub name: String,
    /// What it is good at.
    pub description: String,
    /// Its prompt, if not `assistant`.
    pub prompt: Option<String>,
    /// Tools it may see, as patterns.
    pub tools: Vec<String>,
}

/// Where an agent starts among the model tiers and how far it may climb.
#[derive(Debug, Clone, PartialEq)]
pub struct Tier {
    /// The first tier.
    pub start: String,
    /// The highest tier.
    pub max: String,
    /// Climb when the confidence is lower than this.
    pub climb_below: Option<f64>,
}
