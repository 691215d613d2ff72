//! Where expressions find the values of names.

use std::collections::BTreeMap;

use serde_json::Value;

/// The names an expression can see. Nothing is copied: only the names that are used are looked up.
pub trait Scope {
    /// The value of a name, or `None` if the name is not known here.
    fn get(&self, name: &str) -> Option<&Value>;
}

/// A scope of owned values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vars(BTreeMap<String, Value>);

impl Vars {
    /// No names at all.
    pub fn new() -> Vars {
        Vars::default()
    }

    /// Adds or replaces a name.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Value>) -> &mut Vars {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Adds or replaces a name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Vars {
        self.set(name, value);
        self
    }
}

impl FromIterator<(String, Value)> for Vars {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(pairs: I) -> Vars {
        Vars(pairs.into_iter().collect())
    }
}

impl Scope for Vars {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

impl Scope for BTreeMap<String, Value> {
    fn get(&self, name: &str) -> Option<&Value> {
        BTreeMap::get(self, name)
    }
}

impl Scope for serde_json::Map<String, Value> {
    fn get(&self, name: &str) -> Option<&Value> {
        serde_json::Map::get(self, name)
    }
}

impl<S: Scope + ?Sized> Scope for &S {
    fn get(&self, name: &str) -> Option<&Value> {
        (**self).get(name)
    }
}

/// Several scopes as one; the first that knows a name wins.
pub struct Layered<'a>(Vec<&'a dyn Scope>);

impl<'a> Layered<'a> {
    /// The layers, the strongest first.
    pub fn new(layers: impl IntoIterator<Item = &'a dyn Scope>) -> Layered<'a> {
        Layered(layers.into_iter().collect())
    }
}

impl Scope for Layered<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find_map(|layer| layer.get(name))
    }
}
