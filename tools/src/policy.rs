//! Declared rules as the guard: a rule that denies always wins, then the first that allows or asks, then the defaults.
//!
//! A rule sees who calls what, with which arguments, where, from which node. It never sees a prompt or a result, so
//! nothing that a log line or a model says can change a decision. The rule file of the demo is [`RulePolicy::etl_demo`].

mod arguments;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use graphs::EffectClass;
use runtime_core::interlocks::guard::{Approval, CallFacts, Decision, Hints, PRODUCTION, Policy, Unpinned, by_default};
use runtime_core::record::CallKind;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub use arguments::{ArgumentTest, Conditions, Expression};
pub use runtime_core::interlocks::guard::pattern_fits;

use self::arguments::PATTERN_BYTES_MAX;

/// Most rules of one policy.
pub const RULES_MAX: usize = 500;
/// Largest rule file in bytes.
pub const FILE_BYTES_MAX: usize = 256 * 1024;
/// How long an approval may be given where nobody says otherwise.
pub const EXPIRES_DEFAULT: Duration = Duration::from_secs(24 * 3600);

/// What a rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Go on.
    Allow,
    /// People decide first.
    Ask,
    /// People decide first, and not the one who asked.
    FourEyes,
    /// Refused.
    Deny,
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
    /// What the tool says about itself. Hints of a stranger: good for asking more, never for asking less.
    #[serde(default)]
    pub annotations: Annotated,
    /// Environments; a call that names none fits only `none`.
    #[serde(default)]
    pub envs: Option<Vec<String>>,
    /// Agents, as the graph names them; a node without an agent fits only `none`.
    #[serde(default)]
    pub agents: Option<Vec<String>>,
    /// Roles on whose behalf the call is made; a call of a tool node fits only `none`.
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
    /// How long the question stays open; absent takes the policy's.
    #[serde(default, deserialize_with = "span")]
    pub expires: Option<Duration>,
}

/// Annotations a rule looks for; an absent one matches everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotated {
    /// `readOnlyHint`.
    #[serde(default)]
    pub read_only: Option<bool>,
    /// `destructiveHint`.
    #[serde(default)]
    pub destructive: Option<bool>,
    /// `idempotentHint`.
    #[serde(default)]
    pub idempotent: Option<bool>,
    /// `openWorldHint`.
    #[serde(default)]
    pub open_world: Option<bool>,
}

impl Annotated {
    fn fits(self, hints: &Hints) -> bool {
        let fits = |wanted: Option<bool>, said: Option<bool>| wanted.is_none() || wanted == said;
        fits(self.read_only, hints.read_only)
            && fits(self.destructive, hints.destructive)
            && fits(self.idempotent, hints.idempotent)
            && fits(self.open_world, hints.open_world)
    }

    fn is_empty(self) -> bool {
        self == Self::default()
    }
}

fn one() -> u32 {
    1
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let span = crate::hub::parse_duration(&text).filter(|span| !span.is_zero());
    span.map(Some).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no time such as 30m, 4h or 90s")))
}

/// What happens to tools that are not pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// What happens to a tool of a server without pins.
    #[serde(default)]
    pub unpinned: Word,
    /// Who looks at a tool that is not the pinned one; empty takes the policy's.
    #[serde(default)]
    pub approvers: Vec<String>,
}

/// A word for [`Unpinned`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// It is used as the rules say; `interlock tools list` warns.
    #[default]
    Allow,
    /// People look at it first; their approval pins it.
    Ask,
    /// It is not used.
    Deny,
}

/// What happens to changes after a stranger's words came into a thread.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tainted {
    /// Tools whose results are a stranger's words, besides those that say so of themselves (`openWorldHint`).
    #[serde(default)]
    pub sources: Vec<String>,
    /// What a change that a rule allows needs from then on.
    pub changes: Closer,
}

/// How changes are looked at after a taint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closer {
    /// People decide first.
    #[default]
    Ask,
    /// Refused.
    Deny,
}

/// Which environment the calls of one server act on, as its configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label {
    /// The label of the whole connection.
    pub fixed: Option<String>,
    /// JSON pointer of the argument that chooses a connection, and the label of each.
    pub by_argument: Option<(String, BTreeMap<String, String>)>,
}

/// Rules, and what holds for all of them.
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
    /// How long questions stay open where a rule does not say.
    #[serde(default, deserialize_with = "span")]
    pub expires: Option<Duration>,
    /// Tools that changed, and tools nobody has looked at.
    #[serde(default)]
    pub pins: Pins,
    /// Changes after a stranger's words.
    #[serde(default)]
    pub tainted: Option<Tainted>,
    /// The rules.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Rules that are looked at when none of `rules` fits, in order.
    #[serde(skip)]
    pub fallbacks: Vec<Rule>,
    /// Environments of servers.
    #[serde(skip)]
    pub labels: BTreeMap<String, Label>,
    /// An environment that a graph computes counts although its server has no label: only where tools are scripted.
    #[serde(skip)]
    pub computed_environments: bool,
    /// Groups and who is in them; `None` where nobody says.
    #[serde(skip)]
    pub groups: Option<BTreeMap<String, Vec<String>>>,
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

    /// What the tests of a graph run under where an installation declares nothing: staging may change, the rest is as by
    /// default. Their tools are scripted, so nothing is freed by it.
    pub fn for_tests() -> Self {
        let envs = ["staging", "sandbox", "development", "test"].map(str::to_owned).to_vec();
        let trying = Rule { envs: Some(envs), ..Rule::of("staging-is-for-trying", Verb::Allow) };
        Self { fallbacks: vec![trying], computed_environments: true, ..Self::default() }
    }

    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.fallbacks.is_empty()
    }

    fn checked(self) -> Result<Self, PolicyError> {
        if self.rules.len() > RULES_MAX {
            return Err(PolicyError(format!("{} rules; at most {RULES_MAX} are allowed", self.rules.len())));
        }
        if let Some(bad) = self.environment_arguments.iter().find(|pointer| !pointer.starts_with('/')) {
            return Err(PolicyError(format!("environment_arguments: `{bad}` is not a JSON pointer; write `/{bad}`")));
        }
        let mut names = BTreeSet::new();
        for rule in &self.rules {
            if !names.insert(rule.name.as_str()) {
                return Err(PolicyError(format!(
                    "two rules are named `{}`; decisions quote names, so they must differ",
                    rule.name
                )));
            }
            if let Some(problem) = rule.problem() {
                return Err(PolicyError(format!("rule `{}`: {problem}", rule.name)));
            }
        }
        Ok(self)
    }

    fn approval(&self, approvers: &[String]) -> Approval {
        let approvers = if approvers.is_empty() { self.approvers.clone() } else { approvers.to_vec() };
        Approval { expires: Some(self.expires.unwrap_or(EXPIRES_DEFAULT)), ..Approval::of(approvers) }
    }

    /// Where a call acts.
    fn place(&self, call: &CallFacts<'_>) -> Result<Option<String>, String> {
        let server = call.target.split('.').next().unwrap_or_default();
        let label = self.labels.get(server).filter(|_| call.kind == CallKind::Tool);
        let known = match label {
            Some(label) => label.of(call.args)?,
            None => None,
        };
        let named = self.environment_arguments.iter().filter_map(|pointer| call.args.pointer(pointer));
        let mut named: Vec<&str> = named.filter_map(Value::as_str).collect();
        named.extend(call.env);
        let env = known.as_deref().or_else(|| named.first().copied());
        let computed = call.tool.computed_env && call.env.is_some() && !self.computed_environments;
        match named.iter().find(|named| Some(**named) != env) {
            Some(other) => Err(format!(
                "it acts on environment `{}` and is said to act on `{other}`: give node and arguments the same",
                env.unwrap_or("none")
            )),
            // An environment that was computed, for a connection without a label, is a word of whoever computed it.
            None if known.is_none() && computed && self.names_no_environment(call) => Err(format!(
                "its environment is computed and server `{server}` has no label: give the server an `environment`"
            )),
            None => Ok(env.map(str::to_owned)),
        }
    }

    /// Whether other arguments may lead to another decision on this call.
    pub fn depends_on_arguments(&self, call: &CallFacts<'_>) -> bool {
        let env = self.environment(call);
        let rules = self.rules.iter().chain(&self.fallbacks);
        let by_place =
            self.labels.values().any(|label| label.by_argument.is_some()) || !self.environment_arguments.is_empty();
        (call.changes() && by_place && env.is_none())
            || rules.into_iter().any(|rule| !rule.args.is_empty() && rule.fits_beside_arguments(call, env.as_deref()))
    }

    fn names_no_environment(&self, call: &CallFacts<'_>) -> bool {
        !self.environment_arguments.iter().any(|pointer| call.args.pointer(pointer).is_some_and(Value::is_string))
    }

    fn by_rule(&self, rule: &Rule, call: &CallFacts<'_>, env: Option<&str>) -> Decision {
        let name = rule.name.clone();
        let reason = || {
            let why = rule.reason.as_deref().unwrap_or("declared policy");
            format!("`{}` in node `{}`: {why} (rule `{}`)", call.target, call.node, rule.name)
        };
        match rule.decide {
            Verb::Allow if call.changes() && env == Some(PRODUCTION) && !rule.names(PRODUCTION) => Decision::Ask {
                reason: format!("{}; it changes production, which the rule does not name", reason()),
                rule: name,
                who: self.approval(&rule.approvers),
            },
            Verb::Allow => Decision::Allow { rule: name },
            Verb::Deny => Decision::Deny { rule: name, reason: reason() },
            Verb::Ask | Verb::FourEyes => {
                let who = self.approval(&rule.approvers);
                let who = Approval {
                    quorum: rule.quorum,
                    four_eyes: rule.four_eyes || rule.decide == Verb::FourEyes,
                    expires: rule.expires.or(who.expires),
                    ..who
                };
                Decision::Ask { rule: name, reason: reason(), who }
            }
        }
    }

    fn by_rules(&self, call: &CallFacts<'_>, env: Option<&str>) -> Decision {
        let denies = |rule: &&Rule| rule.decide == Verb::Deny && rule.matches(call, env);
        let rules = || self.rules.iter();
        let rule = rules().find(denies).or_else(|| rules().find(|rule| rule.matches(call, env)));
        match rule.or_else(|| self.fallbacks.iter().find(|rule| rule.matches(call, env))) {
            Some(rule) => self.by_rule(rule, call, env),
            None => by_default(call, env, &self.approval(&[])),
        }
    }

    /// A change that is free is looked at after a stranger's words came into the thread.
    fn looked_at(&self, decision: Decision, call: &CallFacts<'_>) -> Decision {
        let (Decision::Allow { rule }, Some(by), Some(tainted)) = (&decision, call.tainted_by, &self.tainted) else {
            return decision;
        };
        if !call.changes() {
            return decision;
        }
        let reason = format!(
            "`{}` in node `{}`: the thread has read `{by}`, whose words are a stranger's (rule `{rule}` allows it otherwise)",
            call.target, call.node
        );
        let rule = format!("{rule}+tainted");
        match tainted.changes {
            Closer::Ask => Decision::Ask { rule, reason, who: self.approval(&[]) },
            Closer::Deny => Decision::Deny { rule, reason },
        }
    }
}

impl Policy for RulePolicy {
    fn decide(&self, call: &CallFacts<'_>) -> Decision {
        let env = match self.place(call) {
            Ok(env) => env,
            Err(why) if call.changes() => {
                let reason = format!("`{}` in node `{}`: {why}", call.target, call.node);
                return Decision::Deny { rule: "environment-mismatch".to_owned(), reason };
            }
            Err(_) => call.env.map(str::to_owned),
        };
        self.looked_at(self.by_rules(call, env.as_deref()), call)
    }

    fn environment(&self, call: &CallFacts<'_>) -> Option<String> {
        self.place(call).unwrap_or(None)
    }

    fn keepers(&self) -> Approval {
        self.approval(&self.pins.approvers)
    }

    fn unpinned(&self) -> Unpinned {
        match self.pins.unpinned {
            Word::Allow => Unpinned::Allow,
            Word::Ask => Unpinned::Ask,
            Word::Deny => Unpinned::Deny,
        }
    }

    fn taints(&self, target: &str, hints: &Hints) -> bool {
        let named = |tainted: &Tainted| tainted.sources.iter().any(|pattern| pattern_fits(pattern, target));
        self.tainted.as_ref().is_some_and(|tainted| hints.open_world == Some(true) || named(tainted))
    }

    fn is_member(&self, user: &str, group: &str) -> Option<bool> {
        let groups = self.groups.as_ref()?;
        Some(groups.get(group).is_some_and(|members| members.iter().any(|member| member == user)))
    }
}

impl Label {
    /// The label of a call with these arguments; `None` when the connection has none.
    fn of(&self, args: &Value) -> Result<Option<String>, String> {
        let Some((pointer, labels)) = &self.by_argument else { return Ok(self.fixed.clone()) };
        match args.pointer(pointer) {
            None | Some(Value::Null) => Ok(self.fixed.clone()),
            Some(Value::String(name)) if labels.is_empty() => Ok(Some(name.clone())),
            Some(Value::String(name)) => match labels.get(name) {
                Some(label) => Ok(Some(label.clone())),
                None => Err(format!("`{pointer}` names `{name}`, which has no label in `environments` of its server")),
            },
            Some(_) => Err(format!("`{pointer}` is no text, so nobody can say where the call acts")),
        }
    }
}

impl Rule {
    /// A rule that matches everything.
    pub fn of(name: impl Into<String>, decide: Verb) -> Self {
        Self {
            name: name.into(),
            decide,
            kinds: None,
            tools: None,
            effects: None,
            annotations: Annotated::default(),
            envs: None,
            agents: None,
            roles: None,
            graphs: None,
            nodes: None,
            args: BTreeMap::new(),
            reason: None,
            approvers: Vec::new(),
            quorum: 1,
            four_eyes: false,
            expires: None,
        }
    }

    fn matches(&self, call: &CallFacts<'_>, env: Option<&str>) -> bool {
        self.fits_beside_arguments(call, env)
            && self.args.iter().all(|(pointer, test)| test.holds(call.args.pointer(pointer)))
    }

    fn fits_beside_arguments(&self, call: &CallFacts<'_>, env: Option<&str>) -> bool {
        fits(&self.kinds, kind_word(call.kind))
            && fits(&self.tools, call.target)
            && self.effects.as_ref().is_none_or(|effects| effects.contains(&call.effect))
            && self.annotations.fits(&call.tool.hints)
            && fits(&self.envs, env.unwrap_or("none"))
            && fits(&self.agents, call.agent.unwrap_or("none"))
            && fits(&self.roles, call.role.unwrap_or("none"))
            && fits(&self.graphs, call.graph)
            && fits(&self.nodes, call.node)
    }

    /// Whether the rule names this environment itself: a star does not.
    fn names(&self, environment: &str) -> bool {
        self.envs.as_ref().is_some_and(|envs| envs.iter().any(|env| env == environment))
    }

    /// Why this rule cannot mean what it says.
    fn problem(&self) -> Option<String> {
        if self.quorum == 0 {
            return Some("quorum 0 would approve by itself; use 1 or more".to_owned());
        }
        if let Some(bad) = self.args.keys().find(|pointer| !pointer.starts_with('/')) {
            return Some(format!("`{bad}` is not a JSON pointer; write `/{bad}`"));
        }
        if let Some((pointer, problem)) = self.args.iter().find_map(|(pointer, test)| Some((pointer, test.problem()?)))
        {
            return Some(format!("`{pointer}`: {problem}"));
        }
        let frees = self.decide == Verb::Allow && self.tools.is_none() && self.effects.is_none();
        if frees && !self.annotations.is_empty() {
            return Some("it would allow what tools say of themselves; name `tools` or `effects` too".to_owned());
        }
        let long = self.patterns().any(|pattern| pattern.len() > PATTERN_BYTES_MAX);
        long.then(|| format!("a pattern is longer than {PATTERN_BYTES_MAX} bytes"))
    }

    fn patterns(&self) -> impl Iterator<Item = &String> {
        let lists = [&self.kinds, &self.tools, &self.envs, &self.agents, &self.roles, &self.graphs, &self.nodes];
        lists.into_iter().flatten().flatten()
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

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use runtime_core::interlocks::guard::{ToolFacts, Version};

    use super::*;

    const NO_HINTS: Hints = Hints { read_only: None, destructive: None, idempotent: None, open_world: None };

    fn facts<'a>(target: &'a str, args: &'a Value, effect: EffectClass, env: Option<&'a str>) -> CallFacts<'a> {
        static NOTHING: ToolFacts = ToolFacts { hints: NO_HINTS, version: Version::Unkept, computed_env: false };
        CallFacts {
            kind: CallKind::Tool,
            target,
            args,
            effect,
            tool: &NOTHING,
            env,
            agent: None,
            role: None,
            listed: None,
            tainted_by: None,
            graph: "etl-incident",
            node: "change",
        }
    }

    fn shown(decision: &Decision) -> String {
        match decision {
            Decision::Allow { rule } => format!("allow by {rule}"),
            Decision::Deny { rule, .. } => format!("deny by {rule}"),
            Decision::Ask { rule, who, .. } => format!("ask {} of {:?} by {rule}", who.quorum, who.approvers),
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
            "rules:\n- { name: few, decide: allow, tools: [w.hold], envs: [production], args: { /rows: { at_most: 50 }, /table: ['src_*'] } }\n\
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
        assert_eq!(shown(&policy.decide(&notify)), "allow by own");
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
