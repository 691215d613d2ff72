//! Operators on values.

use std::borrow::Cow;

use serde_json::{Number, Value};

use crate::expr::ast::{CompareOp, MathOp};
use crate::expr::value::{Work, as_integer, equal, from_f64, from_integer, kind_of, order, text_of};

/// Applies an arithmetic operator.
pub(crate) fn math(op: MathOp, left: &Value, right: &Value, work: &Work) -> Result<Value, String> {
    match (op, left, right) {
        (MathOp::Concat, left, right) => {
            let mut text = text_of(left, work)?;
            crate::expr::value::write_text(right, &mut text, work)?;
            work.spend_bytes(text.len())?;
            Ok(Value::String(text))
        }
        (_, Value::Number(left), Value::Number(right)) => numbers(op, left, right),
        (MathOp::Add, Value::String(left), Value::String(right)) => {
            work.spend_bytes(left.len() + right.len())?;
            Ok(Value::String(format!("{left}{right}")))
        }
        (MathOp::Add, Value::Array(left_items), Value::Array(right_items)) => {
            work.spend_value(left)?;
            work.spend_value(right)?;
            Ok(left_items.iter().chain(right_items).cloned().collect())
        }
        (MathOp::Mul, Value::String(_) | Value::Array(_), Value::Number(times)) => repeat(left, times, work),
        (MathOp::Mul, Value::Number(times), Value::String(_) | Value::Array(_)) => repeat(right, times, work),
        _ => Err(format!("`{}` does not work on {} and {}", op.symbol(), kind_of(left), kind_of(right))),
    }
}

fn numbers(op: MathOp, left: &Number, right: &Number) -> Result<Value, String> {
    if let (Some(left), Some(right), false) = (as_integer(left), as_integer(right), op == MathOp::Div) {
        return integers(op, left, right);
    }
    let (left, right) = (left.as_f64().unwrap_or(f64::NAN), right.as_f64().unwrap_or(f64::NAN));
    if right == 0.0 && matches!(op, MathOp::Div | MathOp::FloorDiv | MathOp::Rem) {
        return Err("cannot divide by 0".to_owned());
    }
    from_f64(match op {
        MathOp::Add => left + right,
        MathOp::Sub => left - right,
        MathOp::Mul => left * right,
        MathOp::Div => left / right,
        MathOp::FloorDiv => (left / right).floor(),
        MathOp::Rem => floored_rest(left, right),
        MathOp::Pow => left.powf(right),
        MathOp::Concat => f64::NAN,
    })
}

/// Both sides come from 64 bits, so only `*` and `**` can leave the 128 bits used here.
fn integers(op: MathOp, left: i128, right: i128) -> Result<Value, String> {
    let result = match op {
        MathOp::Add => left.checked_add(right),
        MathOp::Sub => left.checked_sub(right),
        MathOp::Mul => left.checked_mul(right),
        MathOp::FloorDiv | MathOp::Rem if right == 0 => return Err("cannot divide by 0".to_owned()),
        MathOp::FloorDiv => left.checked_sub(floored_rest_whole(left, right)).map(|even| even / right),
        MathOp::Rem => Some(floored_rest_whole(left, right)),
        MathOp::Pow => match u32::try_from(right) {
            Ok(exponent) => left.checked_pow(exponent),
            Err(_) => return from_f64((left as f64).powf(right as f64)),
        },
        MathOp::Div | MathOp::Concat => None,
    };
    from_integer(result.ok_or_else(|| "the result does not fit in 64 bits".to_owned())?)
}

/// What is left of dividing down: it has the sign of the divisor.
fn floored_rest(left: f64, right: f64) -> f64 {
    let rest = left % right;
    if rest != 0.0 && (rest < 0.0) != (right < 0.0) { rest + right } else { rest }
}

/// The same for whole numbers that come from 64 bits and are not divided by 0.
fn floored_rest_whole(left: i128, right: i128) -> i128 {
    let rest = left % right;
    if rest != 0 && (rest < 0) != (right < 0) { rest + right } else { rest }
}

/// `'-' * 20` and `[0] * 3`, paid for before anything is made.
fn repeat(what: &Value, times: &Number, work: &Work) -> Result<Value, String> {
    let times = as_integer(times).ok_or_else(|| "can only repeat a whole number of times".to_owned())?;
    let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
    match what {
        Value::String(text) => {
            work.spend_bytes(text.len().saturating_mul(times))?;
            Ok(Value::String(text.repeat(times)))
        }
        Value::Array(items) => {
            work.spend((items.len() as u64).saturating_mul(times as u64))?;
            let mut repeated = Vec::new();
            for _ in 0..if items.is_empty() { 0 } else { times } {
                work.spend_value(what)?;
                repeated.extend(items.iter().cloned());
            }
            Ok(Value::Array(repeated))
        }
        other => Err(format!("cannot repeat {}", kind_of(other))),
    }
}

/// `-value`.
pub(crate) fn negate(value: &Value) -> Result<Value, String> {
    match value {
        Value::Number(number) => match as_integer(number) {
            Some(integer) => from_integer(-integer),
            None => from_f64(-number.as_f64().unwrap_or(f64::NAN)),
        },
        other => Err(format!("`-` does not work on {}", kind_of(other))),
    }
}

/// Applies a comparison. `<` and its relatives need two values of the same kind.
pub(crate) fn compare(op: CompareOp, left: &Value, right: &Value, work: &Work) -> Result<bool, String> {
    let ordered = |left: &Value, right: &Value| {
        order(left, right, work)
            .map_err(|_| format!("`{}` cannot compare {} with {}", op.symbol(), kind_of(left), kind_of(right)))
    };
    match op {
        CompareOp::Eq => equal(left, right, work),
        CompareOp::Ne => equal(left, right, work).map(|same| !same),
        CompareOp::Lt => Ok(ordered(left, right)?.is_lt()),
        CompareOp::Lte => Ok(ordered(left, right)?.is_le()),
        CompareOp::Gt => Ok(ordered(left, right)?.is_gt()),
        CompareOp::Gte => Ok(ordered(left, right)?.is_ge()),
        CompareOp::In => contains(right, left, work),
        CompareOp::NotIn => contains(right, left, work).map(|inside| !inside),
    }
}

/// Whether a list holds an item, an object a key, or text other text.
pub(crate) fn contains(container: &Value, item: &Value, work: &Work) -> Result<bool, String> {
    match (container, item) {
        (Value::Array(items), _) => {
            for candidate in items {
                if equal(candidate, item, work)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (Value::Object(fields), Value::String(key)) => Ok(fields.contains_key(key)),
        (Value::Object(_), _) => Ok(false),
        (Value::String(text), Value::String(part)) => {
            work.spend_bytes(text.len())?;
            Ok(text.contains(part.as_str()))
        }
        (container, item) => Err(format!("`in` cannot look for {} in {}", kind_of(item), kind_of(container))),
    }
}

/// `value[key]`; `None` if there is no such item.
pub(crate) fn item<'e>(of: Cow<'e, Value>, key: &Value) -> Option<Cow<'e, Value>> {
    match of {
        Cow::Borrowed(of) => lookup(of, key).map(Cow::Borrowed).or_else(|| character(of, key)),
        Cow::Owned(of) => lookup(&of, key).cloned().map(Cow::Owned).or_else(|| character(&of, key)),
    }
}

fn lookup<'e>(of: &'e Value, key: &Value) -> Option<&'e Value> {
    match (of, key) {
        (Value::Object(fields), Value::String(key)) => fields.get(key),
        (Value::Array(items), Value::Number(_)) => items.get(position(items.len(), key)?),
        _ => None,
    }
}

/// One character of text, as text.
fn character(of: &Value, key: &Value) -> Option<Cow<'static, Value>> {
    let text = of.as_str()?;
    let ix = position(text.chars().count(), key)?;
    text.chars().nth(ix).map(|c| Cow::Owned(Value::String(c.to_string())))
}

/// The index a whole number means in a list of `len`; negative ones count from the end.
fn position(len: usize, key: &Value) -> Option<usize> {
    let ix = key.as_i64()?;
    if ix >= 0 { usize::try_from(ix).ok() } else { len.checked_sub(usize::try_from(ix.unsigned_abs()).ok()?) }
}

/// `list[start:stop:step]` on a list or text.
pub(crate) fn slice(of: &Value, bounds: [Option<i64>; 3], work: &Work) -> Result<Value, String> {
    work.spend_value(of)?;
    match of {
        Value::Array(items) => {
            let picked = picks(items.len(), bounds)?;
            Ok(picked.into_iter().filter_map(|ix| items.get(ix).cloned()).collect())
        }
        Value::String(text) => {
            let chars: Vec<char> = text.chars().collect();
            work.spend(chars.len() as u64)?;
            let picked = picks(chars.len(), bounds)?;
            Ok(Value::String(picked.into_iter().filter_map(|ix| chars.get(ix)).collect()))
        }
        Value::Null => Ok(Value::Array(Vec::new())),
        other => Err(format!("cannot take a slice of {}", kind_of(other))),
    }
}

fn picks(len: usize, [start, stop, step]: [Option<i64>; 3]) -> Result<Vec<usize>, String> {
    let step = step.unwrap_or(1);
    if step < 1 {
        return Err("the step of a slice must be at least 1; use `reverse` to turn a list around".to_owned());
    }
    let bound = |at: i64| {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        let at = if at < 0 { at.saturating_add(len) } else { at };
        usize::try_from(at.clamp(0, len)).unwrap_or(0)
    };
    let (start, stop) = (start.map_or(0, bound), stop.map_or(len, bound));
    Ok((start..stop).step_by(usize::try_from(step).unwrap_or(usize::MAX)).collect())
}
