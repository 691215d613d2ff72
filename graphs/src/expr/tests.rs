//! The tests behind `is`, and the tests `select` and its relatives take by name.

use std::cmp::Ordering;

use serde_json::Value;

use crate::expr::ops::contains;
use crate::expr::value::{Given, Params, Work, equal, kind_of, order};

/// A test.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) params: Params,
    pub(crate) run: Run,
}

/// How a test is evaluated.
#[derive(Debug)]
pub(crate) enum Run {
    /// On a value that exists.
    Value(fn(&Work, &Value, Given<'_>) -> Result<bool, String>),
    /// Whether the value exists.
    Defined(bool),
}

const NONE: Params = Params::NONE;
const OTHER: Params = Params::of(&["other"], 1);

macro_rules! tests {
    ($($name:literal $params:expr => $run:expr;)*) => {
        static TESTS: &[Test] = &[$(Test { name: $name, params: $params, run: $run }),*];
    };
}

tests! {
    "defined" NONE => Run::Defined(true);
    "undefined" NONE => Run::Defined(false);
    "none" NONE => Run::Value(|_, value, _| Ok(value.is_null()));
    "null" NONE => Run::Value(|_, value, _| Ok(value.is_null()));
    "true" NONE => Run::Value(|_, value, _| Ok(value == &Value::Bool(true)));
    "false" NONE => Run::Value(|_, value, _| Ok(value == &Value::Bool(false)));
    "boolean" NONE => Run::Value(|_, value, _| Ok(value.is_boolean()));
    "number" NONE => Run::Value(|_, value, _| Ok(value.is_number()));
    "integer" NONE => Run::Value(|_, value, _| Ok(value.is_i64() || value.is_u64()));
    "int" NONE => Run::Value(|_, value, _| Ok(value.is_i64() || value.is_u64()));
    "float" NONE => Run::Value(|_, value, _| Ok(value.is_f64()));
    "string" NONE => Run::Value(|_, value, _| Ok(value.is_string()));
    "sequence" NONE => Run::Value(|_, value, _| Ok(value.is_array()));
    "iterable" NONE => Run::Value(|_, value, _| Ok(value.is_array() || value.is_object() || value.is_string()));
    "mapping" NONE => Run::Value(|_, value, _| Ok(value.is_object()));
    "odd" NONE => Run::Value(|_, value, _| Ok(whole(value)?.rem_euclid(2) == 1));
    "even" NONE => Run::Value(|_, value, _| Ok(whole(value)?.rem_euclid(2) == 0));
    "divisibleby" Params::of(&["number"], 1) => Run::Value(|_, value, given| {
        let by = given.integer(0)?.unwrap_or(0);
        whole(value)?.checked_rem_euclid(by).map(|rest| rest == 0).ok_or_else(|| "cannot divide by 0".to_owned())
    });
    "startingwith" OTHER => Run::Value(|_, value, given| Ok(text(value)?.starts_with(given.text(0)?.unwrap_or(""))));
    "endingwith" OTHER => Run::Value(|_, value, given| Ok(text(value)?.ends_with(given.text(0)?.unwrap_or(""))));
    "lower" NONE => Run::Value(|_, value, _| Ok(!text(value)?.contains(char::is_uppercase)));
    "upper" NONE => Run::Value(|_, value, _| Ok(!text(value)?.contains(char::is_lowercase)));
    "in" OTHER => Run::Value(|work, value, given| contains(given.get(0).unwrap_or(&Value::Null), value, work));
    "eq" OTHER => EQUAL;
    "equalto" OTHER => EQUAL;
    "==" OTHER => EQUAL;
    "ne" OTHER => UNEQUAL;
    "!=" OTHER => UNEQUAL;
    "lt" OTHER => LESS;
    "lessthan" OTHER => LESS;
    "<" OTHER => LESS;
    "le" OTHER => LESS_OR_EQUAL;
    "<=" OTHER => LESS_OR_EQUAL;
    "gt" OTHER => GREATER;
    "greaterthan" OTHER => GREATER;
    ">" OTHER => GREATER;
    "ge" OTHER => GREATER_OR_EQUAL;
    ">=" OTHER => GREATER_OR_EQUAL;
}

const EQUAL: Run = Run::Value(|work, value, given| equal(value, given.get(0).unwrap_or(&Value::Null), work));
const UNEQUAL: Run =
    Run::Value(|work, value, given| equal(value, given.get(0).unwrap_or(&Value::Null), work).map(|same| !same));
const LESS: Run = Run::Value(|work, value, given| Ok(ordered(work, value, &given)?.is_lt()));
const LESS_OR_EQUAL: Run = Run::Value(|work, value, given| Ok(ordered(work, value, &given)?.is_le()));
const GREATER: Run = Run::Value(|work, value, given| Ok(ordered(work, value, &given)?.is_gt()));
const GREATER_OR_EQUAL: Run = Run::Value(|work, value, given| Ok(ordered(work, value, &given)?.is_ge()));

pub(crate) fn find(name: &str) -> Option<&'static Test> {
    TESTS.iter().find(|test| test.name == name)
}

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TESTS.iter().map(|test| test.name)
}

fn ordered(work: &Work, value: &Value, given: &Given<'_>) -> Result<Ordering, String> {
    order(value, given.get(0).unwrap_or(&Value::Null), work)
}

fn whole(value: &Value) -> Result<i64, String> {
    value.as_i64().ok_or_else(|| format!("must be a whole number, not {}", kind_of(value)))
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("must be text, not {}", kind_of(value)))
}
