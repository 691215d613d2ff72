//! The functions an expression may call.

use serde_json::Value;

use crate::expr::value::{Given, Params, Work};

/// Longest list `range` makes.
const RANGE_ITEMS_MAX: u64 = 100_000;

/// A function.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) params: Params,
    pub(crate) run: fn(&Work, Given<'_>) -> Result<Value, String>,
}

static FUNCTIONS: [Function; 1] =
    [Function { name: "range", params: Params::of(&["start", "stop", "step"], 1), run: range }];

pub(crate) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|function| function.name)
}

fn range(work: &Work, given: Given<'_>) -> Result<Value, String> {
    let first = given.integer(0)?.unwrap_or(0);
    let (start, stop) = given.integer(1)?.map_or((0, first), |stop| (first, stop));
    let step = given.integer(2)?.unwrap_or(1);
    if step == 0 {
        return Err("the step of `range` must not be 0".to_owned());
    }
    let distance = if step > 0 { i128::from(stop) - i128::from(start) } else { i128::from(start) - i128::from(stop) };
    let n_items = u64::try_from(distance.max(0)).unwrap_or(u64::MAX).div_ceil(step.unsigned_abs());
    if n_items > RANGE_ITEMS_MAX {
        return Err(format!("`range` makes at most {RANGE_ITEMS_MAX} items, not {n_items}"));
    }
    work.spend(n_items)?;
    Ok((0..n_items).map(|ix| Value::from(start.wrapping_add(step.wrapping_mul(ix.cast_signed())))).collect())
}
