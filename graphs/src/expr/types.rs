//! Static types of expressions, as far as schemas and reducers tell them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value;

use crate::expr::{Ast, Code};
use crate::spec::GraphSpec;
use crate::uses::Wanted;

#[derive(Debug, Clone)]
pub(crate) struct Type {}

#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) at: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) candidates: Vec<String>,
}

pub(crate) struct Types {}

impl Types {
    pub(crate) fn new(_: &GraphSpec) -> Types {
        Types {}
    }
    pub(crate) fn wanted(&self, _: Wanted<'_>) -> Option<(Cow<'_, Type>, String)> {
        None
    }
    pub(crate) fn check(&self, _: &Ast, _: Option<(Cow<'_, Type>, String)>, _: &BTreeSet<&str>, _: &mut Vec<Problem>) {}
    pub(crate) fn check_code(
        &self,
        _: &Code,
        _: Option<(Cow<'_, Type>, String)>,
        _: &BTreeSet<&str>,
        _: &mut Vec<Problem>,
    ) {
    }
}

/// Whether an object of a schema may have a field: it declares it, or says nothing about its fields.
pub(crate) fn may_have_field(schema: &Value, name: &str) -> bool {
    let mut here = schema;
    // A reference leads to another schema of the same document at most once per named schema.
    for _ in 0..64 {
        let Some(target) = here.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#')) else {
            break;
        };
        match schema.pointer(target) {
            Some(next) => here = next,
            None => break,
        }
    }
    match here.get("properties") {
        Some(Value::Object(properties)) => properties.contains_key(name),
        _ => true,
    }
}
