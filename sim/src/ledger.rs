//! The outside world: it counts every effect by logical call and by key.

use std::collections::BTreeMap;

use graphs::EffectClass;

/// One logical call: node, visit, place.
pub type Logical = String;

/// What the outside has seen.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    effects: BTreeMap<Logical, (EffectClass, Vec<String>)>,
}

impl Ledger {
    /// An effect happens.
    pub fn happen(&mut self, logical: &Logical, effect: EffectClass, key: &str) {
        self.effects.entry(logical.clone()).or_insert((effect, Vec::new())).1.push(key.to_owned());
    }

    /// Whether it has happened.
    pub fn has(&self, logical: &Logical) -> bool {
        self.effects.contains_key(logical)
    }

    /// Effects in all.
    pub fn total(&self) -> usize {
        self.effects.values().map(|(_, keys)| keys.len()).sum()
    }

    /// The first once-only call that happened twice, or idempotent call that changed its key.
    pub fn violation(&self) -> Option<String> {
        self.effects.iter().find_map(|(logical, (effect, keys))| {
            let changed = keys.iter().any(|key| Some(key) != keys.first());
            match effect {
                EffectClass::AtMostOnce if keys.len() > 1 => {
                    Some(format!("once-only {logical} happened {} times", keys.len()))
                }
                EffectClass::Idempotent if changed => Some(format!("{logical} changed its key: {keys:?}")),
                _ => None,
            }
        })
    }
}
