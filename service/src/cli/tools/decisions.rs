//! What the guard would decide on a tool, for each agent in each environment, asked of the very policy that runs.

use runtime_core::interlocks::guard::{self, CallFacts, Decision, ToolFacts};
use runtime_core::record::CallKind;
use serde_json::{Value, json};
use tools::policy::RulePolicy;

use crate::graph_files::ROLES;

/// A call that no agent makes: that of a `tool` node.
pub(super) const NO_AGENT: &str = "none";

/// For whom and where.
pub(super) struct Wanted {
    pub(super) agents: Vec<String>,
    pub(super) envs: Vec<String>,
}

/// One decision.
pub(super) struct Row {
    pub(super) env: String,
    pub(super) agent: String,
    pub(super) decision: Decision,
    /// Other arguments may lead to another decision.
    pub(super) by_arguments: bool,
}

impl Row {
    pub(super) fn json(&self) -> Value {
        let (reason, who) = match &self.decision {
            Decision::Allow { .. } => (None, None),
            Decision::Deny { reason, .. } => (Some(reason), None),
            Decision::Ask { reason, who, .. } => (Some(reason), Some(who)),
        };
        json!({
            "env": self.env, "agent": self.agent, "decision": self.decision.word(), "rule": self.decision.rule(),
            "reason": reason, "approvers": who.map(|who| &who.approvers), "quorum": who.map(|who| who.quorum),
            "depends_on_arguments": self.by_arguments,
        })
    }
}

/// Environments and agents that matter for a server.
pub(super) fn wanted(
    policy: &RulePolicy,
    declared: &[String],
    server: &str,
    asked: (Option<&str>, Option<&str>),
) -> Wanted {
    let label = policy.labels.get(server);
    let fixed = label.and_then(|label| label.fixed.clone());
    let mut envs: Vec<String> = match (label.and_then(|label| label.by_argument.as_ref()), fixed) {
        (Some((_, labels)), fixed) if !labels.is_empty() => labels.values().cloned().chain(fixed).collect(),
        (None, Some(fixed)) => vec![fixed],
        _ => declared.iter().cloned().chain([guard::PRODUCTION.to_owned(), "none".to_owned()]).collect(),
    };
    envs.sort_unstable();
    envs.dedup();
    let agents = [NO_AGENT].into_iter().chain(ROLES).map(str::to_owned).collect();
    let only = |word: Option<&str>, all: Vec<String>| word.map_or(all, |word| vec![word.to_owned()]);
    Wanted { agents: only(asked.0, agents), envs: only(asked.1, envs) }
}

/// What would be decided on a call of this tool without arguments.
pub(super) fn decisions(
    policy: &RulePolicy,
    (target, effect, facts): (&str, graphs::EffectClass, &ToolFacts),
    wanted: &Wanted,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for env in &wanted.envs {
        for agent in &wanted.agents {
            let args = arguments(policy, target, env);
            let agent_fact = Some(agent.as_str()).filter(|agent| *agent != NO_AGENT);
            let call = CallFacts {
                kind: CallKind::Tool,
                target,
                args: &args,
                effect,
                tool: facts,
                env: Some(env.as_str()).filter(|env| *env != "none"),
                agent: agent_fact,
                role: agent_fact,
                listed: None,
                tainted_by: None,
                graph: "",
                node: "",
            };
            rows.push(Row {
                env: env.clone(),
                agent: agent.clone(),
                decision: guard::decide(policy, &call),
                by_arguments: policy.depends_on_arguments(&call),
            });
        }
    }
    rows
}

/// Arguments that lead to an environment, where an argument chooses it.
fn arguments(policy: &RulePolicy, target: &str, env: &str) -> Value {
    let server = target.split('.').next().unwrap_or_default();
    let chosen =
        policy.labels.get(server).and_then(|label| label.by_argument.as_ref()).and_then(|(pointer, labels)| {
            let name = labels.iter().find(|(_, label)| *label == env).map(|(name, _)| name.as_str());
            let name = name.or_else(|| (labels.is_empty() && env != "none").then_some(env))?;
            Some((pointer.trim_start_matches('/').to_owned(), name.to_owned()))
        });
    match chosen {
        Some((key, name)) => json!({ key: name }),
        None => json!({}),
    }
}

/// Decisions in a few words: what is the same for all agents is said once.
pub(super) fn summary(rows: &[Row]) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut envs: Vec<&str> = rows.iter().map(|row| row.env.as_str()).collect();
    envs.dedup();
    for env in envs {
        let here: Vec<&Row> = rows.iter().filter(|row| row.env == env).collect();
        let word = |row: &Row| format!("{}{}", row.decision.word(), if row.by_arguments { "*" } else { "" });
        let mut words: Vec<(String, Vec<&str>)> = Vec::new();
        for row in &here {
            match words.iter_mut().find(|(known, _)| *known == word(row)) {
                Some((_, agents)) => agents.push(&row.agent),
                None => words.push((word(row), vec![&row.agent])),
            }
        }
        let said = match words.as_slice() {
            [(word, _)] => word.clone(),
            many => many
                .iter()
                .map(|(word, agents)| format!("{word} ({})", agents.join(", ")))
                .collect::<Vec<_>>()
                .join("; "),
        };
        lines.push(format!("{env}: {said}"));
    }
    lines.join("\n")
}
