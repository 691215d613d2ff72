//! What a call to a tool may do to the world, and who said so.

use serde::{Deserialize, Serialize};

use super::inventory::Annotations;

/// Effect class of a tool: decides whether a call in doubt may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Changes nothing; may be repeated at will.
    ReadOnly,
    /// Repeating it with the same key and arguments changes nothing more.
    Idempotent,
    /// Anything else: never repeated without a probe or a person.
    AtMostOnce,
}

/// Where an [`Effect`] comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectSource {
    /// The operator's configuration names this tool.
    Operator,
    /// The annotations of a server the operator trusts.
    TrustedAnnotations,
    /// Nobody vouches for the tool.
    Default,
}

/// The class of one tool. `readOnlyHint` wins over every other hint: servers are known to mark read-only tools as
/// destructive too. The name of a tool never counts.
pub(super) fn decide(operator: Option<Effect>, trusted: bool, hints: &Annotations) -> (Effect, EffectSource) {
    if let Some(effect) = operator {
        return (effect, EffectSource::Operator);
    }
    let vouched = match (trusted, hints.read_only, hints.idempotent) {
        (true, Some(true), _) => Some(Effect::ReadOnly),
        (true, _, Some(true)) => Some(Effect::Idempotent),
        _ => None,
    };
    match vouched {
        Some(effect) => (effect, EffectSource::TrustedAnnotations),
        None => (Effect::AtMostOnce, EffectSource::Default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_effect(operator: Option<Effect>, trusted: bool, hints: (Option<bool>, Option<bool>), expected: Effect) {
        let annotations = Annotations { read_only: hints.0, idempotent: hints.1, ..Annotations::default() };
        assert_eq!(decide(operator, trusted, &annotations).0, expected, "{operator:?} {trusted} {hints:?}");
    }

    #[test]
    fn hints_count_only_from_a_trusted_server() {
        check_effect(None, false, (Some(true), Some(true)), Effect::AtMostOnce);
        check_effect(None, true, (Some(true), None), Effect::ReadOnly);
        check_effect(None, true, (Some(true), Some(true)), Effect::ReadOnly);
        check_effect(None, true, (Some(false), Some(true)), Effect::Idempotent);
        check_effect(None, true, (None, None), Effect::AtMostOnce);
        check_effect(None, true, (Some(false), Some(false)), Effect::AtMostOnce);
    }

    #[test]
    fn read_only_wins_over_destructive() {
        let slack = Annotations { read_only: Some(true), destructive: Some(true), ..Annotations::default() };
        assert_eq!(decide(None, true, &slack), (Effect::ReadOnly, EffectSource::TrustedAnnotations));
    }

    #[test]
    fn the_operator_overrides_in_both_directions() {
        check_effect(Some(Effect::AtMostOnce), true, (Some(true), None), Effect::AtMostOnce);
        check_effect(Some(Effect::ReadOnly), false, (None, None), Effect::ReadOnly);
    }
}
