//! Declared rules as the guard: first match wins, a change without a rule is denied.
//!
//! A rule sees who calls what, with which arguments, where, from which node. It never sees a prompt or a result, so
//! nothing that a log line or a model says can change a decision. The rule file of the demo is [`RulePolicy::etl_demo`].

use std::collections::BTreeMap;

use graphs::EffectClass;
use runtime_core::interlocks::guard::{CallFacts, Decision, Policy};
use runtime_core::record::CallKind;
use serde::Deserialize;
use serde_json::Value;

/// Most rules of one policy.
pub const RULES_MAX: usize = 500;
/// Largest rule file in bytes.
pub const FILE_BYTES_MAX: usize = 256 * 1024;
/// Longest pattern in bytes.
const PATTERN_BYTES_MAX: usize = 256;

/// What a rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Go on.
    Allow,
    /// People decide first.
    Ask,
    /// Refused.
    Deny,
}

/// What one argument must be for a rule to match.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum ArgumentTest {
    /// Text that fits one of these patterns.
    OneOf(Vec<String>),
    /// A number within limits.
    Within(Bounds),
}

/// Limits of a number, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Smallest value.
    #[serde(default)]
    pub at_least: Option<f64>,
    /// Largest value.
    #[serde(default)]
    pub at_most: Option<f64>,
}

/// One rule. An absent list matches everything; a list matches if one of its patterns does (`*` stands for any text).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name, as decisions quote it.
    pub name: String,
    /// What it decides.
    pub decide: Verb,
    /// Sorts of effect: `tool`, `model`, `notify`, `spawn`, `question`, `custom`.
    #[serde(default)]
    pub kinds: Option<Vec<String>>,
    /// Targets, such as `warehouse.*`.
    #[serde(default)]
    pub tools: Option<Vec<String>>,
    /// Effect classes.
    #[serde(default)]
    pub effects: Option<Vec<EffectClass>>,
    /// Environments; a call that names none fits only `none`.
    #[serde(default)]
    pub envs: Option<Vec<String>>,
    /// Roles of agents; a call of a tool node fits only `none`.
    #[serde(default)]
    pub roles: Option<Vec<String>>,
    /// Graphs.
    #[serde(default)]
    pub graphs: Option<Vec<String>>,
    /// Nodes.
    #[serde(default)]
    pub nodes: Option<Vec<String>>,
    /// Tests of arguments, by JSON pointer. An absent argument fails its test.
    #[serde(default)]
    pub args: BTreeMap<String, ArgumentTest>,
    /// Why, for the people who are asked or refused.
    #[serde(default)]
    pub reason: Option<String>,
    /// Who may approve: `user:NAME` or `group:NAME`; empty takes the policy's.
    #[serde(default)]
    pub approvers: Vec<String>,
    /// Approvals needed.
    #[serde(default = "one")]
    pub quorum: u32,
    /// The requester may not approve.
    #[serde(default)]
    pub four_eyes: bool,
}

fn one() -> u32 {
    1
}

/// Rules in order, and what holds for all of them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulePolicy {
    /// Who may approve where a rule names nobody. Empty means anyone who may use the surface.
    #[serde(default)]
    pub approvers: Vec<String>,
    /// JSON pointers of arguments that name an environment. A call whose argument names another environment than its
    /// node is denied before any rule, so that what the guard judges is what the tool will do.
    #[serde(default)]
    pub environment_arguments: Vec<String>,
    /// The rules; the first that matches decides.
    pub rules: Vec<Rule>,
}

/// Why a rule file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy file: {0}")]
pub struct PolicyError(String);

impl RulePolicy {
    /// Reads rules from YAML (or JSON, which is YAML too).
    ///
    /// # Errors
    /// If the text is too large, no YAML, has unknown keys, or a rule cannot mean what it says.
    pub fn from_yaml(text: &str) -> Result<Self, PolicyError> {
        if text.len() > FILE_BYTES_MAX {
            return Err(PolicyError(format!("larger than {FILE_BYTES_MAX} bytes: split it or drop rules")));
        }
        let policy: Self = serde_saphyr::from_str(text).map_err(|error| PolicyError(error.to_string()))?;
        policy.checked()
    }

    /// The rules of the demo: reading is free, staging may change, a pipeline may be run again, an approved change may
    /// be taken back, and every other change of production asks a person.
    ///
    /// # Errors
    /// Never with the file that ships; the type is honest about parsing.
    pub fn etl_demo() -> Result<Self, PolicyError> {
        Self::from_yaml(include_str!("../policy/etl-demo.yaml"))
    }

    fn checked(self) -> Result<Self, PolicyError> {
        if self.rules.len() > RULES_MAX {
            return Err(PolicyError(format!("{} rules; at most {RULES_MAX} are allowed", self.rules.len())));
        }
        if let Some(bad) = self.environment_arguments.iter().find(|pointer| !pointer.starts_with('/')) {
            return Err(PolicyError(format!("environment_arguments: `{bad}` is not a JSON pointer; write `/{bad}`")));
        }
        let mut names = std::collections::BTreeSet::new();
        for rule in &self.rules {
            if !names.insert(rule.name.as_str()) {
                return Err(PolicyError(format!(
                    "two rules are named `{}`; decisions quote names, so they must differ",
                    rule.name
                )));
            }
            if rule.quorum == 0 {
                return Err(PolicyError(format!(
                    "rule `{}`: quorum 0 would approve by itself; use 1 or more",
                    rule.name
                )));
            }
            if let Some(bad) = rule.args.keys().find(|pointer| !pointer.starts_with('/')) {
                return Err(PolicyError(format!(
                    "rule `{}`: `{bad}` is not a JSON pointer; write `/{bad}`",
                    rule.name
                )));
            }
            if rule.patterns().any(|pattern| pattern.len() > PATTERN_BYTES_MAX) {
                return Err(PolicyError(format!(
                    "rule `{}`: a pattern is longer than {PATTERN_BYTES_MAX} bytes",
                    rule.name
                )));
            }
        }
        Ok(self)
    }

    /// Another environment than the call's own, where an argument names one.
    fn other_environment<'a>(&self, call: &CallFacts<'a>) -> Option<&'a str> {
        let named = self.environment_arguments.iter().filter_map(|pointer| call.args.pointer(pointer));
        named.filter_map(Value::as_str).find(|named| Some(*named) != call.env)
    }

    fn by_rule(&self, rule: &Rule, call: &CallFacts<'_>) -> Decision {
        let name = rule.name.clone();
        let reason = || {
            let why = rule.reason.as_deref().unwrap_or("declared policy");
            format!("`{}` in node `{}`: {why} (rule `{}`)", call.target, call.node, rule.name)
        };
        match rule.decide {
            Verb::Allow => Decision::Allow { rule: name },
            Verb::Deny => Decision::Deny { rule: name, reason: reason() },
            Verb::Ask => Decision::Ask {
                rule: name,
                reason: reason(),
                approvers: if rule.approvers.is_empty() { self.approvers.clone() } else { rule.approvers.clone() },
                quorum: rule.quorum,
                four_eyes: rule.four_eyes,
            },
        }
    }
}

impl Policy for RulePolicy {
    fn decide(&self, call: &CallFacts<'_>) -> Decision {
        let changes = call.kind == CallKind::Tool && call.effect != EffectClass::ReadOnly;
        if let Some(other) = self.other_environment(call).filter(|_| changes) {
            let env = call.env.unwrap_or("none");
            let reason = format!(
                "`{}` in node `{}` is declared for environment `{env}` and its arguments name `{other}`: set `env` on the node",
                call.target, call.node
            );
            return Decision::Deny { rule: "environment-mismatch".to_owned(), reason };
        }
        if let Some(rule) = self.rules.iter().find(|rule| rule.matches(call)) {
            return self.by_rule(rule, call);
        }
        if changes {
            let reason = format!("`{}` in node `{}` changes state and no rule allows it", call.target, call.node);
            return Decision::Deny { rule: "default-deny".to_owned(), reason };
        }
        Decision::Allow { rule: "default-read".to_owned() }
    }
}

impl Rule {
    fn matches(&self, call: &CallFacts<'_>) -> bool {
        fits(&self.kinds, kind_word(call.kind))
            && fits(&self.tools, call.target)
            && self.effects.as_ref().is_none_or(|effects| effects.contains(&call.effect))
            && fits(&self.envs, call.env.unwrap_or("none"))
            && fits(&self.roles, call.role.unwrap_or("none"))
            && fits(&self.graphs, call.graph)
            && fits(&self.nodes, call.node)
            && self.args.iter().all(|(pointer, test)| call.args.pointer(pointer).is_some_and(|value| test.holds(value)))
    }

    fn patterns(&self) -> impl Iterator<Item = &String> {
        let lists = [&self.kinds, &self.tools, &self.envs, &self.roles, &self.graphs, &self.nodes];
        lists.into_iter().flatten().flatten()
    }
}

impl ArgumentTest {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::OneOf(patterns) => value.as_str().is_some_and(|text| patterns.iter().any(|p| pattern_fits(p, text))),
            Self::Within(bounds) => value.as_f64().is_some_and(|number| {
                bounds.at_least.is_none_or(|low| number >= low) && bounds.at_most.is_none_or(|high| number <= high)
            }),
        }
    }
}

fn fits(patterns: &Option<Vec<String>>, text: &str) -> bool {
    patterns.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| pattern_fits(pattern, text)))
}

fn kind_word(kind: CallKind) -> &'static str {
    match kind {
        CallKind::Tool => "tool",
        CallKind::Model => "model",
        CallKind::Notify => "notify",
        CallKind::Spawn => "spawn",
        CallKind::Question => "question",
        CallKind::Custom => "custom",
    }
}

/// Whether `text` fits `pattern`, where `*` stands for any text, also none. Everything else stands for itself.
///
/// Time is linear in the text for each star, with no recursion.
pub fn pattern_fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(head) else { return false };
    let Some((middle, tail)) = rest.rsplit_once('*') else { return left.ends_with(rest) };
    for part in middle.split('*') {
        match left.find(part) {
            Some(at) => left = left.get(at + part.len()..).unwrap_or(""),
            None => return false,
        }
    }
    left.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns_know_only_the_star() {
        for (pattern, text, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "axb", false),
            ("a.*", "a.", true),
            ("a.*", "b.a.", false),
            ("*", "", true),
            ("*.rerun", "x.rerun", true),
            ("*.rerun", "x.rerun_all", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "ac", false),
            ("ab*ba", "aba", false),
            ("*é*", "caféx", true),
            ("**", "anything", true),
        ] {
            assert_eq!(pattern_fits(pattern, text), expected, "{pattern} on {text}");
        }
    }

    fn facts<'a>(target: &'a str, args: &'a Value, effect: EffectClass, env: Option<&'a str>) -> CallFacts<'a> {
        CallFacts { kind: CallKind::Tool, target, args, effect, env, role: None, graph: "etl-incident", node: "change" }
    }

    fn shown(decision: &Decision) -> String {
        match decision {
            Decision::Allow { rule } => format!("allow by {rule}"),
            Decision::Deny { rule, .. } => format!("deny by {rule}"),
            Decision::Ask { rule, approvers, quorum, .. } => format!("ask {quorum} of {approvers:?} by {rule}"),
        }
    }

    #[test]
    fn the_demo_frees_reads_staging_and_reruns_and_asks_for_the_rest() {
        use EffectClass::{AtMostOnce, Idempotent, ReadOnly};
        let policy = RulePolicy::etl_demo().unwrap();
        let cases = [
            ("query", ReadOnly, Some("production"), None),
            ("grant_privilege", Idempotent, Some("staging"), None),
            ("rerun_pipeline", Idempotent, Some("production"), None),
            ("rerun_pipeline", AtMostOnce, Some("production"), Some("diagnostic")),
            ("quarantine", Idempotent, Some("production"), None),
            ("apply_migration", Idempotent, Some("production"), None),
            ("grant_privilege", AtMostOnce, Some("production"), None),
            ("request_redelivery", Idempotent, Some("production"), None),
            ("release_quarantine", Idempotent, Some("production"), Some("undo")),
            ("grant_privilege", Idempotent, Some("production"), Some("undo")),
            ("grant_privilege", Idempotent, None, None),
            ("grant_privilege", Idempotent, Some("prod-eu"), None),
        ];
        let mut all = String::new();
        for (tool, effect, env, role) in cases {
            let target = format!("warehouse.{tool}");
            let args = json!({ "environment": env });
            let decision = policy.decide(&CallFacts { role, ..facts(&target, &args, effect, env) });
            all.push_str(&format!("{tool} {effect:?} {env:?} {role:?}: {}\n", shown(&decision)));
        }
        expect![[r#"
            query ReadOnly Some("production") None: allow by reading-is-free
            grant_privilege Idempotent Some("staging") None: allow by staging-is-for-trying
            rerun_pipeline Idempotent Some("production") None: allow by run-again
            rerun_pipeline AtMostOnce Some("production") Some("diagnostic"): deny by watchers-never-change
            quarantine Idempotent Some("production") None: ask 1 of ["group:data-oncall"] by production-asks
            apply_migration Idempotent Some("production") None: ask 1 of ["group:data-oncall"] by production-asks
            grant_privilege AtMostOnce Some("production") None: ask 1 of ["group:data-oncall"] by production-asks
            request_redelivery Idempotent Some("production") None: ask 1 of ["group:data-oncall"] by production-asks
            release_quarantine Idempotent Some("production") Some("undo"): allow by take-back
            grant_privilege Idempotent Some("production") Some("undo"): ask 1 of ["group:data-oncall"] by production-asks
            grant_privilege Idempotent None None: deny by default-deny
            grant_privilege Idempotent Some("prod-eu") None: deny by default-deny
        "#]]
        .assert_eq(&all);
    }

    #[test]
    fn arguments_may_not_name_another_environment_than_the_node() {
        let policy = RulePolicy::etl_demo().unwrap();
        let args = json!({ "environment": "production" });
        let call = facts("warehouse.quarantine", &args, EffectClass::Idempotent, Some("staging"));
        let Decision::Deny { rule, reason } = policy.decide(&call) else { panic!("allowed") };
        assert_eq!(rule, "environment-mismatch");
        assert!(reason.contains("`staging`") && reason.contains("`production`"), "{reason}");
        let read = facts("warehouse.query", &args, EffectClass::ReadOnly, Some("staging"));
        assert!(matches!(policy.decide(&read), Decision::Allow { .. }));
    }

    #[test]
    fn arguments_decide_within_bounds() {
        let policy = RulePolicy::from_yaml(
            "rules:\n- { name: few, decide: allow, tools: [w.hold], args: { /rows: { at_most: 50 }, /table: ['src_*'] } }\n\
             - { name: many, decide: ask, tools: [w.hold], approvers: ['user:ann'], quorum: 2 }\n",
        )
        .unwrap();
        let decide =
            |args: Value| shown(&policy.decide(&facts("w.hold", &args, EffectClass::AtMostOnce, Some("production"))));
        assert_eq!(decide(json!({ "rows": 50, "table": "src_flights" })), "allow by few");
        assert_eq!(decide(json!({ "rows": 51, "table": "src_flights" })), "ask 2 of [\"user:ann\"] by many");
        assert_eq!(decide(json!({ "table": "src_flights" })), "ask 2 of [\"user:ann\"] by many");
        assert_eq!(decide(json!({ "rows": 1, "table": "fact" })), "ask 2 of [\"user:ann\"] by many");
    }

    #[test]
    fn without_a_rule_reads_pass_and_changes_do_not() {
        let policy = RulePolicy::from_yaml("rules: []").unwrap();
        let args = Value::Null;
        let decide = |effect| shown(&policy.decide(&facts("w.t", &args, effect, Some("staging"))));
        assert_eq!(decide(EffectClass::ReadOnly), "allow by default-read");
        assert_eq!(decide(EffectClass::Idempotent), "deny by default-deny");
        let notify = CallFacts { kind: CallKind::Notify, ..facts("notify.page", &args, EffectClass::Idempotent, None) };
        assert_eq!(shown(&policy.decide(&notify)), "allow by default-read");
    }

    fn check_refused(yaml: &str, expected: Expect) {
        expected.assert_eq(&RulePolicy::from_yaml(yaml).unwrap_err().to_string());
    }

    #[test]
    fn a_rule_that_cannot_mean_what_it_says_is_refused() {
        check_refused(
            "rules: [{ name: a, decide: allow }, { name: a, decide: deny }]",
            expect!["policy file: two rules are named `a`; decisions quote names, so they must differ"],
        );
        check_refused(
            "rules: [{ name: a, decide: ask, quorum: 0 }]",
            expect!["policy file: rule `a`: quorum 0 would approve by itself; use 1 or more"],
        );
        check_refused(
            "rules: [{ name: a, decide: allow, args: { table: [x] } }]",
            expect!["policy file: rule `a`: `table` is not a JSON pointer; write `/table`"],
        );
        assert!(RulePolicy::from_yaml("rules: [{ name: a, decide: allow, tool: [x] }]").is_err(), "unknown key");
        assert!(RulePolicy::from_yaml("rules: [{ name: a, decide: maybe }]").is_err(), "unknown verb");
        assert!(RulePolicy::from_yaml(&"#".repeat(FILE_BYTES_MAX + 1)).is_err(), "too large");
    }
}
