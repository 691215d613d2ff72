//! What filters, tests and functions work with: borrowed values, counted work, parameters.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

/// Steps one evaluation may take. A step is one small operation: a node of the expression, an item of a list
/// that is looked at, a value or 16 bytes of text that are copied. This many take well under a second.
pub(crate) const STEPS_MAX: u64 = 2_000_000;
/// Bytes of text that count as one step.
const STEP_BYTES: u64 = 16;

/// The work one evaluation has left.
#[derive(Debug)]
pub(crate) struct Work(Cell<u64>);

impl Work {
    pub(crate) fn new() -> Work {
        Work(Cell::new(STEPS_MAX))
    }

    /// Takes `n` steps, or fails if that is more than is left.
    pub(crate) fn spend(&self, n: u64) -> Result<(), String> {
        match self.0.get().checked_sub(n) {
            Some(left) => {
                self.0.set(left);
                Ok(())
            }
            None => Err(format!("too much work: an evaluation may take {STEPS_MAX} steps")),
        }
    }

    /// Takes the steps of copying `n` bytes of text.
    pub(crate) fn spend_bytes(&self, n: usize) -> Result<(), String> {
        self.spend(1 + n as u64 / STEP_BYTES)
    }

    /// Takes the steps of looking at or copying a whole value.
    pub(crate) fn spend_value(&self, value: &Value) -> Result<(), String> {
        match value {
            Value::String(text) => self.spend_bytes(text.len()),
            Value::Array(items) => {
                self.spend(1)?;
                items.iter().try_for_each(|item| self.spend_value(item))
            }
            Value::Object(fields) => {
                self.spend(1)?;
                fields.iter().try_for_each(|(key, field)| {
                    self.spend_bytes(key.len())?;
                    self.spend_value(field)
                })
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => self.spend(1),
        }
    }

    /// A copy that is paid for.
    pub(crate) fn own(&self, value: Cow<'_, Value>) -> Result<Value, String> {
        if let Cow::Borrowed(borrowed) = &value {
            self.spend_value(borrowed)?;
        }
        Ok(value.into_owned())
    }
}

/// What a filter, test or function takes.
#[derive(Debug)]
pub(crate) struct Params {
    /// Parameters that may be given by position or by name.
    pub(crate) positional: &'static [&'static str],
    /// Parameters that may only be given by name.
    pub(crate) named: &'static [&'static str],
    /// How many of the positional ones must be given.
    pub(crate) required: usize,
    /// Whether further positional arguments are allowed.
    pub(crate) rest: bool,
}

impl Params {
    /// No parameters.
    pub(crate) const NONE: Params = Params::of(&[], 0);

    /// Positional parameters, the first `required` of them needed.
    pub(crate) const fn of(positional: &'static [&'static str], required: usize) -> Params {
        Params { positional, named: &[], required, rest: false }
    }

    /// Adds parameters that are given by name only.
    pub(crate) const fn named(self, named: &'static [&'static str]) -> Params {
        Params { named, ..self }
    }

    /// Allows further positional arguments.
    pub(crate) const fn rest(self) -> Params {
        Params { rest: true, ..self }
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.positional.iter().chain(self.named).position(|param| *param == name)
    }

    pub(crate) fn describe(&self) -> String {
        let all: Vec<&str> = self.positional.iter().chain(self.named).copied().collect();
        if all.is_empty() { "it takes none".to_owned() } else { format!("it takes {}", all.join(", ")) }
    }
}

/// Evaluated arguments.
#[derive(Debug, Default)]
pub(crate) struct Given<'e> {
    pub(crate) slots: Vec<Option<Cow<'e, Value>>>,
    pub(crate) rest: Vec<Cow<'e, Value>>,
}

impl<'e> Given<'e> {
    pub(crate) fn get(&self, ix: usize) -> Option<&Value> {
        self.slots.get(ix)?.as_deref()
    }

    pub(crate) fn take(&mut self, ix: usize) -> Option<Cow<'e, Value>> {
        self.slots.get_mut(ix)?.take()
    }

    pub(crate) fn text(&self, ix: usize) -> Result<Option<&str>, String> {
        match self.get(ix) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(format!("an argument must be text, not {}", kind_of(other))),
        }
    }

    pub(crate) fn integer(&self, ix: usize) -> Result<Option<i64>, String> {
        match self.get(ix) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(integer) => Ok(Some(integer)),
                None => Err(format!("an argument must be a whole number, not {}", kind_of(value))),
            },
        }
    }

    pub(crate) fn flag(&self, ix: usize) -> Result<bool, String> {
        match self.get(ix) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(format!("an argument must be true or false, not {}", kind_of(other))),
        }
    }
}

/// The kind of a value, for messages.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Whether a value counts as true in `and`, `or`, `not` and `if`.
pub(crate) fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// A float as a value; infinities and not-a-number have no place in JSON.
pub(crate) fn from_f64(number: f64) -> Result<Value, String> {
    Number::from_f64(number).map(Value::Number).ok_or_else(|| "the result is not a finite number".to_owned())
}

/// The integer of a number that has no fraction part written.
pub(crate) fn as_integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// An integer as a value, if it fits in 64 bits.
pub(crate) fn from_integer(integer: i128) -> Result<Value, String> {
    i64::try_from(integer)
        .map(Value::from)
        .or_else(|_| u64::try_from(integer).map(Value::from))
        .map_err(|_| "the result does not fit in 64 bits".to_owned())
}

/// Orders numbers by value, whatever their form.
pub(crate) fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (as_integer(a), as_integer(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
    }
}

/// Equality by value: 1 equals 1.0, at every level.
pub(crate) fn equal(a: &Value, b: &Value, work: &Work) -> Result<bool, String> {
    work.spend(1)?;
    Ok(match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            as_integer(a).zip(as_integer(b)).map_or_else(|| a.as_f64() == b.as_f64(), |(a, b)| a == b)
        }
        (Value::String(a), Value::String(b)) => {
            work.spend_bytes(a.len().min(b.len()))?;
            a == b
        }
        (Value::Array(a), Value::Array(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (a, b) in a.iter().zip(b) {
                if !equal(a, b, work)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Object(a), Value::Object(b)) => equal_objects(a, b, work)?,
        (a, b) => a == b,
    })
}

fn equal_objects(a: &Map<String, Value>, b: &Map<String, Value>, work: &Work) -> Result<bool, String> {
    if a.len() != b.len() {
        return Ok(false);
    }
    for (key, value) in a {
        work.spend_bytes(key.len())?;
        match b.get(key) {
            Some(other) if equal(value, other, work)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Order of two values of the same kind; values of different kinds have none.
pub(crate) fn order(a: &Value, b: &Value, work: &Work) -> Result<Ordering, String> {
    work.spend(1)?;
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => Ok(compare_numbers(a, b)),
        (Value::String(a), Value::String(b)) => {
            work.spend_bytes(a.len().min(b.len()))?;
            Ok(a.cmp(b))
        }
        (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(b)),
        (Value::Null, Value::Null) => Ok(Ordering::Equal),
        (Value::Array(a), Value::Array(b)) => {
            for (a, b) in a.iter().zip(b) {
                match order(a, b, work)? {
                    Ordering::Equal => {}
                    unequal => return Ok(unequal),
                }
            }
            Ok(a.len().cmp(&b.len()))
        }
        (a, b) => Err(format!("{} and {} have no order", kind_of(a), kind_of(b))),
    }
}

/// The text of a value inside other text: text as it is, everything else as JSON.
pub(crate) fn write_text(value: &Value, out: &mut String, work: &Work) -> Result<(), String> {
    work.spend_value(value)?;
    match value {
        Value::String(text) => out.push_str(text),
        other => out.push_str(&other.to_string()),
    }
    Ok(())
}

/// The text of a value on its own.
pub(crate) fn text_of(value: &Value, work: &Work) -> Result<String, String> {
    let mut text = String::new();
    write_text(value, &mut text, work)?;
    Ok(text)
}
