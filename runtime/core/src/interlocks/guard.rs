//! Guard: one decision on every call, from declared policy, before the effect. It sees who, what and where, never a prompt.
//!
//! [`decide`] is the only way to a decision. Three walls stand one behind the other, and no later one opens an earlier:
//! the tools a node lists for its agent, the rules of the installation ([`Policy`]), and the version of the tool that
//! people have looked at.

use std::time::Duration;

use graphs::EffectClass;
use serde_json::Value;

use crate::record::CallKind;

/// What a server says about a tool's behaviour: hints of a stranger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hints {
    /// Changes nothing.
    pub read_only: Option<bool>,
    /// May destroy.
    pub destructive: Option<bool>,
    /// Repeating changes nothing more.
    pub idempotent: Option<bool>,
    /// Talks to the outside world.
    pub open_world: Option<bool>,
}

impl Hints {
    /// The tool itself says that it changes things, whatever anybody declares. `readOnlyHint` wins over the others.
    pub fn says_it_changes(&self) -> bool {
        match self.read_only {
            Some(read_only) => !read_only,
            None => self.destructive == Some(true),
        }
    }
}

/// The version of a tool that a call would reach, beside the one that people have looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Version {
    /// Nobody keeps versions of this tool: it is the host's own.
    #[default]
    Unkept,
    /// Nobody has looked at it: its server has no pins.
    Unpinned {
        /// Fingerprint of the description and schemas.
        pin: String,
    },
    /// The pinned one.
    Pinned {
        /// Fingerprint of the description and schemas.
        pin: String,
    },
    /// Not the pinned one, or new on a server whose tools are pinned.
    Differs {
        /// Fingerprint of what is there now.
        pin: String,
        /// What changed, escaped for people.
        diff: String,
    },
}

impl Version {
    /// The fingerprint of what is there now.
    pub fn pin(&self) -> Option<&str> {
        match self {
            Self::Unkept => None,
            Self::Unpinned { pin } | Self::Pinned { pin } | Self::Differs { pin, .. } => Some(pin),
        }
    }
}

/// What the tool side knows about a tool when a call is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolFacts {
    /// What its server says.
    pub hints: Hints,
    /// Which version it is.
    pub version: Version,
    /// The environment that the node claims was computed, so it may be anybody's word.
    pub computed_env: bool,
}

/// What happens to a tool that nobody has looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unpinned {
    /// It is used as policy says.
    #[default]
    Allow,
    /// People look at it first.
    Ask,
    /// It is not used.
    Deny,
}

/// What the guard decides on.
#[derive(Debug, Clone, Copy)]
pub struct CallFacts<'a> {
    /// Sort of effect.
    pub kind: CallKind,
    /// `server.tool`, model or graph.
    pub target: &'a str,
    /// Arguments, exactly as they would be sent.
    pub args: &'a Value,
    /// Effect class from declared configuration.
    pub effect: EffectClass,
    /// What the tool side knows.
    pub tool: &'a ToolFacts,
    /// Environment that the node claims; the policy knows better where the connection has a label.
    pub env: Option<&'a str>,
    /// The agent that the graph puts in the asking node.
    pub agent: Option<&'a str>,
    /// Role on whose behalf the call is asked for.
    pub role: Option<&'a str>,
    /// Tools that the graph lists for the node's agent; `None` for a node without an agent.
    pub listed: Option<&'a [String]>,
    /// A result of a tool that talks to the outside world is in this thread; its name.
    pub tainted_by: Option<&'a str>,
    /// Graph it happens in.
    pub graph: &'a str,
    /// Node that asks.
    pub node: &'a str,
}

impl CallFacts<'_> {
    /// Whether the call is one of a tool that may change something.
    pub fn changes(&self) -> bool {
        self.kind == CallKind::Tool && self.effect != EffectClass::ReadOnly
    }
}

/// Who decides in people's stead, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Approval {
    /// `user:NAME` or `group:NAME`; empty means anyone who may use the surface.
    pub approvers: Vec<String>,
    /// Approvals needed.
    pub quorum: u32,
    /// The requester may not approve.
    pub four_eyes: bool,
    /// How long the question stays open.
    pub expires: Option<Duration>,
}

impl Approval {
    /// One approval of one of these.
    pub fn of(approvers: Vec<String>) -> Self {
        Self { approvers, quorum: 1, ..Self::default() }
    }

    /// Whether more than one person must agree: then nobody may put other arguments in place of what all were shown.
    pub fn is_shared(&self) -> bool {
        self.quorum > 1 || self.four_eyes
    }
}

/// The decision, with the rule that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow { rule: String },
    /// Refused; the reason names the rule.
    Deny { rule: String, reason: String },
    /// People decide first.
    Ask { rule: String, reason: String, who: Approval },
}

impl Decision {
    /// The rule that decided.
    pub fn rule(&self) -> &str {
        match self {
            Self::Allow { rule } | Self::Deny { rule, .. } | Self::Ask { rule, .. } => rule,
        }
    }

    /// `allow`, `deny`, `ask` or `four_eyes`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Allow { .. } => "allow",
            Self::Deny { .. } => "deny",
            Self::Ask { who, .. } if who.is_shared() => "four_eyes",
            Self::Ask { .. } => "ask",
        }
    }
}

/// Declared policy. Pure: the same facts give the same decision.
pub trait Policy: Send + Sync {
    /// Decides on one call.
    fn decide(&self, call: &CallFacts<'_>) -> Decision;

    /// The environment a call acts on: the connection's label, where the installation gives it one.
    fn environment(&self, call: &CallFacts<'_>) -> Option<String> {
        call.env.map(str::to_owned)
    }

    /// Who looks at a tool that is not the pinned one any more.
    fn keepers(&self) -> Approval {
        Approval::of(Vec::new())
    }

    /// What happens to a tool that nobody has looked at.
    fn unpinned(&self) -> Unpinned {
        Unpinned::Allow
    }

    /// Whether results of this tool are a stranger's words, after which changes are looked at more closely.
    fn taints(&self, _target: &str, _hints: &Hints) -> bool {
        false
    }

    /// Whether a person is in a group now; `None` when this policy does not know groups.
    fn is_member(&self, _user: &str, _group: &str) -> Option<bool> {
        None
    }
}

/// Rule that refuses what a node does not list for its agent.
pub const NOT_LISTED: &str = "tools-of-the-node";
/// Rule that asks about a tool that changed.
pub const PIN_DIFFERS: &str = "pin-differs";

/// The decision on one call.
pub fn decide(policy: &dyn Policy, call: &CallFacts<'_>) -> Decision {
    if call.kind == CallKind::Tool
        && let Some(listed) = call.listed
        && !listed.iter().any(|pattern| pattern_fits(pattern, call.target))
    {
        let named = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
        let reason = format!(
            "agent `{}` may not use `{}`: the tools of node `{}` are {named}",
            call.agent.unwrap_or("?"),
            call.target,
            call.node
        );
        return Decision::Deny { rule: NOT_LISTED.to_owned(), reason };
    }
    let decision = policy.decide(call);
    let target = call.target;
    let why = match (&call.tool.version, policy.unpinned()) {
        (Version::Differs { diff, .. }, _) => {
            format!("`{target}` is not the tool that was pinned; approving pins it as it is now:\n{diff}")
        }
        (Version::Unpinned { .. }, Unpinned::Ask) => {
            format!("`{target}` is not pinned; approving pins it as it is now")
        }
        (Version::Unpinned { .. }, Unpinned::Deny) => {
            let reason = format!("`{target}` is not pinned and unpinned tools are not used: `interlock tools pin`");
            return Decision::Deny { rule: PIN_DIFFERS.to_owned(), reason };
        }
        _ => return decision,
    };
    match decision {
        Decision::Deny { .. } => decision,
        Decision::Allow { .. } => Decision::Ask { rule: PIN_DIFFERS.to_owned(), reason: why, who: policy.keepers() },
        Decision::Ask { rule, reason, who } => {
            Decision::Ask { rule: format!("{rule}+{PIN_DIFFERS}"), reason: format!("{reason}\n{why}"), who }
        }
    }
}

/// Whether a person may approve now, as far as the policy knows people: `true` where it knows none, for then the answer
/// was judged when it was given.
pub fn still_entitled(policy: &dyn Policy, user: &str, approvers: &[String]) -> bool {
    approvers.is_empty()
        || approvers.iter().any(|approver| match approver.split_once(':') {
            Some(("group", group)) => policy.is_member(user, group).unwrap_or(true),
            Some(("user", name)) => name == user,
            _ => approver == user,
        })
}

/// Environment whose changes need approval by default.
pub const PRODUCTION: &str = "production";

/// The policy of an installation that declares nothing: what only reads is allowed, a change of production asks, every
/// other change is denied. Models, messages and threads of one's own are allowed.
#[derive(Debug, Clone, Default)]
pub struct DefaultPolicy {
    /// Who may approve production changes.
    pub approvers: Vec<String>,
}

impl Policy for DefaultPolicy {
    fn decide(&self, call: &CallFacts<'_>) -> Decision {
        by_default(call, call.env, &Approval::of(self.approvers.clone()))
    }
}

/// What holds where no rule says more. A tool reads only if it is declared so and does not itself say otherwise.
pub fn by_default(call: &CallFacts<'_>, env: Option<&str>, who: &Approval) -> Decision {
    if call.kind != CallKind::Tool {
        return Decision::Allow { rule: "own".to_owned() };
    }
    if call.effect == EffectClass::ReadOnly && !call.tool.hints.says_it_changes() {
        return Decision::Allow { rule: "default-read".to_owned() };
    }
    if env == Some(PRODUCTION) {
        let reason = format!("`{}` in node `{}` changes production", call.target, call.node);
        return Decision::Ask { rule: "production-changes".to_owned(), reason, who: who.clone() };
    }
    let place = env.map_or_else(|| "no environment".to_owned(), |env| format!("environment `{env}`"));
    let reason = format!("`{}` in node `{}` changes {place} and no rule allows it", call.target, call.node);
    Decision::Deny { rule: "default-deny".to_owned(), reason }
}

/// Allows everything: for graphs whose calls are code of the host itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Policy for AllowAll {
    fn decide(&self, _: &CallFacts<'_>) -> Decision {
        Decision::Allow { rule: "allow-all".to_owned() }
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
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts<'a>(args: &'a Value, tool: &'a ToolFacts, effect: EffectClass, env: Option<&'a str>) -> CallFacts<'a> {
        CallFacts {
            kind: CallKind::Tool,
            target: "warehouse.write",
            args,
            effect,
            tool,
            env,
            agent: None,
            role: Some("remediation"),
            listed: None,
            tainted_by: None,
            graph: "g",
            node: "act",
        }
    }

    #[test]
    fn nothing_changes_without_a_rule_and_production_asks() {
        let (args, tool) = (json!({"environment": "staging"}), ToolFacts::default());
        for (effect, env, expected) in [
            (EffectClass::ReadOnly, Some("production"), "allow"),
            (EffectClass::Idempotent, Some("production"), "ask"),
            (EffectClass::AtMostOnce, Some("production"), "ask"),
            (EffectClass::AtMostOnce, Some("staging"), "deny"),
            (EffectClass::Idempotent, None, "deny"),
            (EffectClass::AtMostOnce, Some("prod-eu"), "deny"),
        ] {
            let decision = decide(&DefaultPolicy::default(), &facts(&args, &tool, effect, env));
            assert_eq!(decision.word(), expected, "{effect:?} in {env:?}");
        }
    }

    #[test]
    fn a_tool_that_says_it_changes_is_no_reader_whatever_is_declared() {
        let args = json!({});
        for (read_only, destructive, expected) in [
            (None, None, "allow"),
            (Some(true), Some(true), "allow"),
            (Some(false), None, "deny"),
            (None, Some(true), "deny"),
            (None, Some(false), "allow"),
        ] {
            let tool =
                ToolFacts { hints: Hints { read_only, destructive, ..Hints::default() }, ..ToolFacts::default() };
            let decision = decide(&DefaultPolicy::default(), &facts(&args, &tool, EffectClass::ReadOnly, None));
            assert_eq!(decision.word(), expected, "{read_only:?} {destructive:?}");
        }
    }

    #[test]
    fn the_list_of_the_node_is_the_first_wall() {
        let (args, tool) = (json!({}), ToolFacts::default());
        let listed = vec!["warehouse.query".to_owned(), "air*.list".to_owned()];
        let call = facts(&args, &tool, EffectClass::ReadOnly, None);
        for (target, expected) in [("warehouse.query", "allow"), ("airflow.list", "allow"), ("warehouse.write", "deny")]
        {
            let call = CallFacts { target, listed: Some(&listed), ..call };
            assert_eq!(decide(&AllowAll, &call).word(), expected, "{target}");
        }
        assert_eq!(decide(&AllowAll, &CallFacts { listed: Some(&[]), ..call }).rule(), NOT_LISTED);
    }

    #[test]
    fn a_tool_that_changed_is_looked_at_by_people_and_never_freed_by_it() {
        let args = json!({});
        let version = Version::Differs { pin: "b".to_owned(), diff: "- a\n+ b".to_owned() };
        let tool = ToolFacts { version, ..ToolFacts::default() };
        let call = facts(&args, &tool, EffectClass::Idempotent, Some("production"));
        assert_eq!(decide(&AllowAll, &call).rule(), PIN_DIFFERS);
        assert_eq!(decide(&DefaultPolicy::default(), &call).rule(), "production-changes+pin-differs");
        let denied = CallFacts { env: None, ..call };
        assert_eq!(decide(&DefaultPolicy::default(), &denied).rule(), "default-deny");
    }

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
}
