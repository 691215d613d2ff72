//! Guard: one decision on every call, from declared policy, before the effect. It sees who, what and where, never a prompt.

use graphs::EffectClass;
use serde_json::Value;

use crate::record::CallKind;

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
    /// Environment it acts on.
    pub env: Option<&'a str>,
    /// Role of the asking agent.
    pub role: Option<&'a str>,
    /// Graph it happens in.
    pub graph: &'a str,
    /// Node that asks.
    pub node: &'a str,
}

/// The decision, with the rule that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow { rule: String },
    /// Refused; the reason names the rule.
    Deny { rule: String, reason: String },
    /// People decide first.
    Ask { rule: String, reason: String, approvers: Vec<String>, quorum: u32, four_eyes: bool },
}

/// Declared policy. Pure: the same facts give the same decision.
pub trait Policy: Send + Sync {
    /// Decides on one call.
    fn decide(&self, call: &CallFacts<'_>) -> Decision;
}

/// Environment whose changes need approval by default.
pub const PRODUCTION: &str = "production";

/// The default policy: what only reads is allowed; changes are allowed in `staging`, asked for in `production`, denied where
/// no environment is named. Models, messages and threads of one's own are allowed.
#[derive(Debug, Clone, Default)]
pub struct DefaultPolicy {
    /// Who may approve production changes.
    pub approvers: Vec<String>,
}

impl Policy for DefaultPolicy {
    fn decide(&self, call: &CallFacts<'_>) -> Decision {
        if call.kind != CallKind::Tool {
            return Decision::Allow { rule: "own".to_owned() };
        }
        match (call.effect, call.env) {
            (EffectClass::ReadOnly, _) => Decision::Allow { rule: "read-only".to_owned() },
            (_, Some(PRODUCTION)) => Decision::Ask {
                rule: "production-changes".to_owned(),
                reason: format!("`{}` changes production", call.target),
                approvers: self.approvers.clone(),
                quorum: 1,
                four_eyes: false,
            },
            (_, Some("staging" | "sandbox" | "development" | "test")) => {
                Decision::Allow { rule: "staging-changes".to_owned() }
            }
            (_, Some(env)) => deny(call, &format!("environment `{env}` has no rule that allows changes")),
            (_, None) => deny(call, "it changes state and names no environment: set `env` on the node"),
        }
    }
}

fn deny(call: &CallFacts<'_>, why: &str) -> Decision {
    let reason = format!("`{}` in node `{}`: {why}", call.target, call.node);
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn decide(effect: EffectClass, env: Option<&str>) -> &'static str {
        let args = json!({"environment": "staging"});
        let call = CallFacts {
            kind: CallKind::Tool,
            target: "warehouse.write",
            args: &args,
            effect,
            env,
            role: Some("remediation"),
            graph: "g",
            node: "act",
        };
        match DefaultPolicy::default().decide(&call) {
            Decision::Allow { .. } => "allow",
            Decision::Deny { .. } => "deny",
            Decision::Ask { .. } => "ask",
        }
    }

    #[test]
    fn only_staging_changes_without_approval() {
        for (effect, env, expected) in [
            (EffectClass::ReadOnly, Some("production"), "allow"),
            (EffectClass::Idempotent, Some("production"), "ask"),
            (EffectClass::AtMostOnce, Some("production"), "ask"),
            (EffectClass::AtMostOnce, Some("staging"), "allow"),
            (EffectClass::Idempotent, None, "deny"),
            (EffectClass::AtMostOnce, Some("prod-eu"), "deny"),
        ] {
            assert_eq!(decide(effect, env), expected, "{effect:?} in {env:?}");
        }
    }
}
