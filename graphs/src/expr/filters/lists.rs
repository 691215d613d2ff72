//! Filters on lists and objects.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::expr::filters::{Filtered, Run, find, own, wants};
use crate::expr::ops;
use crate::expr::tests::{self, Run as TestRun};
use crate::expr::value::{Given, Work, as_integer, equal, is_truthy, kind_of, order, text_of, write_text};

/// The items of a list, or the keys of an object.
pub(super) fn list_items(work: &Work, value: Cow<'_, Value>) -> Result<Vec<Value>, String> {
    match work.own(value)? {
        Value::Array(items) => Ok(items),
        Value::Object(fields) => Ok(fields.into_iter().map(|(key, _)| Value::String(key)).collect()),
        other => wants("a list", &other),
    }
}

pub(super) fn list<'e>(work: &Work, value: Cow<'e, Value>, _: Given<'e>) -> Filtered<'e> {
    match &*value {
        Value::Array(_) => Ok(value),
        Value::String(text) => {
            work.spend(text.len() as u64)?;
            own(text.chars().map(|c| c.to_string()).collect::<Vec<_>>())
        }
        _ => own(list_items(work, value)?),
    }
}

pub(super) fn items<'e>(work: &Work, value: Cow<'e, Value>, _: Given<'e>) -> Filtered<'e> {
    match work.own(value)? {
        Value::Object(fields) => own(fields.into_iter().map(|(key, field)| json!([key, field])).collect::<Vec<_>>()),
        other => wants("an object", &other),
    }
}

pub(super) fn length<'e>(work: &Work, value: Cow<'e, Value>, _: Given<'e>) -> Filtered<'e> {
    match &*value {
        Value::Array(items) => own(items.len()),
        Value::Object(fields) => own(fields.len()),
        Value::String(text) => {
            work.spend_bytes(text.len())?;
            own(text.chars().count())
        }
        other => wants("a list, an object or text", other),
    }
}

pub(super) fn end_item(value: Cow<'_, Value>, ix: i64) -> Result<Option<Cow<'_, Value>>, String> {
    if !(value.is_array() || value.is_string()) {
        return wants("a list or text", &value);
    }
    Ok(ops::item(value, &Value::from(ix)))
}

pub(super) fn attribute<'e>(_: &Work, value: Cow<'e, Value>, mut given: Given<'e>) -> Filtered<'e> {
    let name = given.take(0).unwrap_or(Cow::Owned(Value::Null));
    ops::item(value, &name).ok_or_else(|| format!("there is no {name}"))
}

/// `value.a.b` for `a.b`, as the attribute of `map`, `sort` and others.
fn by<'v>(value: &'v Value, attribute: Option<&str>) -> Option<&'v Value> {
    let Some(attribute) = attribute else { return Some(value) };
    attribute.split('.').try_fold(value, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        other => other.get(step),
    })
}

fn by_or_fail<'v>(value: &'v Value, attribute: Option<&str>) -> Result<&'v Value, String> {
    by(value, attribute).ok_or_else(|| format!("an item has no `{}`", attribute.unwrap_or_default()))
}

pub(super) fn join<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let separator = given.text(0)?.unwrap_or("");
    let attribute = given.text(1)?;
    let mut joined = String::new();
    for (ix, item) in list_items(work, value)?.iter().enumerate() {
        if ix > 0 {
            work.spend_bytes(separator.len())?;
            joined.push_str(separator);
        }
        write_text(by_or_fail(item, attribute)?, &mut joined, work)?;
    }
    own(joined)
}

pub(super) fn map<'e>(work: &Work, value: Cow<'e, Value>, mut given: Given<'e>) -> Filtered<'e> {
    let rest = std::mem::take(&mut given.rest);
    let items = list_items(work, value)?;
    if let Some(attribute) = given.text(1)? {
        let other = given.get(2);
        let mapped = items.iter().map(|item| match by(item, Some(attribute)).or(other) {
            Some(found) => Ok(found.clone()),
            None => Err(format!("an item has no `{attribute}`")),
        });
        return own(mapped.collect::<Result<Vec<_>, _>>()?);
    }
    let name = given.text(0)?.ok_or("needs the name of a filter, or `attribute=`")?;
    let filter = find(name).ok_or_else(|| format!("unknown filter `{name}`"))?;
    let Run::Value(run) = filter.run else { return Err(format!("`{name}` cannot be used here")) };
    if rest.len() < filter.params.required || rest.len() > filter.params.positional.len() {
        return Err(format!("wrong arguments for `{name}`; {}", filter.params.describe()));
    }
    let n_slots = filter.params.positional.len() + filter.params.named.len();
    let mut mapped = Vec::with_capacity(items.len());
    for item in items {
        work.spend(1)?;
        let mut slots: Vec<_> = rest.iter().map(|arg| Some(Cow::Borrowed(&**arg))).collect();
        slots.resize(n_slots, None);
        let result = run(work, Cow::Owned(item), Given { slots, rest: Vec::new() })?;
        mapped.push(work.own(result)?);
    }
    own(mapped)
}

/// `select`, `reject` and their `attr` forms: `(slot of the test, what the test must give)`.
pub(super) fn pick<'e>(
    work: &Work,
    value: Cow<'e, Value>,
    given: Given<'e>,
    (slot, wanted): (usize, bool),
) -> Filtered<'e> {
    let attribute = if slot == 0 { None } else { given.text(0)? };
    let test = match given.text(slot)? {
        Some(name) => Some(tests::find(name).ok_or_else(|| format!("unknown test `{name}`"))?),
        None => None,
    };
    if test.is_some_and(|test| given.rest.len() != test.params.required) {
        return Err("wrong arguments for the test".to_owned());
    }
    let mut picked = Vec::new();
    for item in list_items(work, value)? {
        work.spend(1)?;
        let subject = by(&item, attribute);
        let holds = match (test.map(|test| &test.run), subject) {
            (None, subject) => subject.is_some_and(is_truthy),
            (Some(TestRun::Defined(defined)), subject) => subject.is_some() == *defined,
            (Some(TestRun::Value(_)), None) => {
                return Err(format!("an item has no `{}`", attribute.unwrap_or_default()));
            }
            (Some(TestRun::Value(run)), Some(subject)) => {
                let slots = given.rest.iter().map(|arg| Some(Cow::Borrowed(&**arg))).collect();
                run(work, subject, Given { slots, rest: Vec::new() })?
            }
        };
        if holds == wanted {
            picked.push(item);
        }
    }
    own(picked)
}

/// Which end of an order is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extreme {
    Smallest,
    Largest,
}

pub(super) fn extreme<'e>(work: &Work, value: Cow<'e, Value>, given: &Given<'e>, wanted: Extreme) -> Filtered<'e> {
    let attribute = given.text(0)?;
    let mut best: Option<Value> = None;
    for item in list_items(work, value)? {
        let better = match &best {
            None => true,
            Some(best) => {
                let order = order(by_or_fail(&item, attribute)?, by_or_fail(best, attribute)?, work)?;
                if wanted == Extreme::Largest { order.is_gt() } else { order.is_lt() }
            }
        };
        if better {
            best = Some(item);
        }
    }
    best.map(Cow::Owned).ok_or_else(|| "the list is empty".to_owned())
}

pub(super) fn sum<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let attribute = given.text(0)?;
    let mut total = Value::from(0);
    for item in list_items(work, value)? {
        let item = by_or_fail(&item, attribute)?;
        if !item.is_number() {
            return wants("numbers", item);
        }
        total = ops::math(crate::expr::ast::MathOp::Add, &total, item, work)?;
    }
    own(total)
}

/// What a list is sorted by. Within one list all keys are of one kind, so that their order is total.
#[derive(Debug, PartialEq, PartialOrd)]
enum SortKey {
    Whole(i128),
    Float(f64),
    Text(String),
    Flag(bool),
}

pub(super) fn sort<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let (descending, attribute) = (given.flag(0)?, given.text(1)?);
    let items = list_items(work, value)?;
    let keys = items.iter().map(|item| by_or_fail(item, attribute)).collect::<Result<Vec<_>, _>>()?;
    let n_rounds = u64::from(items.len().max(2).ilog2());
    for key in &keys {
        work.spend(n_rounds.saturating_mul(key.as_str().map_or(1, |text| 1 + text.len() as u64 / 16)))?;
    }
    let keys = sort_keys(&keys)?;
    let mut keyed: Vec<(SortKey, Value)> = keys.into_iter().zip(items).collect();
    keyed.sort_by(|(a, _), (b, _)| {
        let ordering = match (a, b) {
            (SortKey::Float(a), SortKey::Float(b)) => a.total_cmp(b),
            _ => a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal),
        };
        if descending { ordering.reverse() } else { ordering }
    });
    own(keyed.into_iter().map(|(_, item)| item).collect::<Vec<_>>())
}

fn sort_keys(keys: &[&Value]) -> Result<Vec<SortKey>, String> {
    let all_whole = keys.iter().all(|key| key.is_i64() || key.is_u64());
    let first_kind = keys.first().map_or("", |key| kind_of(key));
    let key = |key: &&Value| match key {
        other if kind_of(other) != first_kind => Err(format!("{first_kind} and {} have no order", kind_of(other))),
        Value::Number(number) if all_whole => Ok(SortKey::Whole(as_integer(number).unwrap_or(0))),
        Value::Number(number) => Ok(SortKey::Float(number.as_f64().unwrap_or(0.0) + 0.0)),
        Value::String(text) => Ok(SortKey::Text(text.clone())),
        Value::Bool(flag) => Ok(SortKey::Flag(*flag)),
        other => Err(format!("cannot sort by {}", kind_of(other))),
    };
    keys.iter().map(key).collect()
}

pub(super) fn unique<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let attribute = given.text(0)?;
    let mut kept: Vec<Value> = Vec::new();
    let mut seen_text = BTreeSet::new();
    'items: for item in list_items(work, value)? {
        let subject = by_or_fail(&item, attribute)?;
        if let Value::String(text) = subject {
            work.spend_bytes(text.len())?;
            if seen_text.insert(text.clone()) {
                kept.push(item);
            }
            continue;
        }
        for other in &kept {
            if equal(by_or_fail(other, attribute)?, subject, work)? {
                continue 'items;
            }
        }
        kept.push(item);
    }
    own(kept)
}

pub(super) fn group_by<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let attribute = given.text(0)?;
    let mut groups: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
    for item in list_items(work, value)? {
        let grouper = by_or_fail(&item, attribute)?.clone();
        let key = text_of(&grouper, work)?;
        groups.entry(key).or_insert_with(|| (grouper, Vec::new())).1.push(item);
    }
    own(groups.into_values().map(|(grouper, list)| json!([grouper, list])).collect::<Vec<_>>())
}

pub(super) fn reverse<'e>(work: &Work, value: Cow<'e, Value>, _: Given<'e>) -> Filtered<'e> {
    match work.own(value)? {
        Value::Array(mut items) => {
            items.reverse();
            own(items)
        }
        Value::String(text) => own(text.chars().rev().collect::<String>()),
        other => wants("a list or text", &other),
    }
}
