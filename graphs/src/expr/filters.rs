//! The filters an expression may use.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::expr::ops;
use crate::expr::tests::{self, Run as TestRun};
use crate::expr::value::{
    Given, Params, Work, as_integer, equal, from_f64, from_integer, is_truthy, kind_of, order, text_of, write_text,
};

/// A filter.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) name: &'static str,
    pub(crate) params: Params,
    pub(crate) gives: Gives,
    pub(crate) run: Run,
}

/// How a filter is evaluated.
#[derive(Debug)]
pub(crate) enum Run {
    /// On a value that exists.
    Value(for<'e> fn(&Work, Cow<'e, Value>, Given<'e>) -> Filtered<'e>),
    /// The first or last item, which may be missing.
    Item(fn(Cow<'_, Value>) -> Result<Option<Cow<'_, Value>>, String>),
    /// On a value that may be missing.
    Default,
}

/// What kind of value a filter gives, as far as that is always the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gives {
    Anything,
    Bool,
    Number,
    Text,
    List,
    /// The kind it was given.
    Same,
}

type Filtered<'e> = Result<Cow<'e, Value>, String>;

const NONE: Params = Params::NONE;
const BY: Params = Params::of(&[], 0).named(&["attribute"]);

macro_rules! filters {
    ($($name:literal $params:expr, $gives:ident => $run:expr;)*) => {
        static FILTERS: &[Filter] = &[$(Filter { name: $name, params: $params, gives: Gives::$gives, run: $run }),*];
    };
}

filters! {
    "abs" NONE, Number => Run::Value(|_, value, _| absolute(&value));
    "attr" Params::of(&["name"], 1), Anything => Run::Value(attribute);
    "bool" NONE, Bool => Run::Value(|_, value, _| own(is_truthy(&value)));
    "capitalize" NONE, Text => Run::Value(|work, value, _| text_filter(work, &value, capitalized));
    "count" NONE, Number => Run::Value(length);
    "d" Params::of(&["default", "boolean"], 0), Anything => Run::Default;
    "default" Params::of(&["default", "boolean"], 0), Anything => Run::Default;
    "digest" NONE, Text => Run::Value(digest);
    "first" NONE, Anything => Run::Item(|value| end_item(value, 0));
    "float" NONE, Number => Run::Value(|_, value, _| to_float(&value));
    "fromjson" NONE, Anything => Run::Value(from_json);
    "groupby" Params::of(&["attribute"], 1), List => Run::Value(group_by);
    "indent" Params::of(&["width"], 1), Text => Run::Value(indent);
    "int" NONE, Number => Run::Value(|_, value, _| to_int(&value));
    "items" NONE, List => Run::Value(items);
    "join" Params::of(&["separator"], 0).named(&["attribute"]), Text => Run::Value(join);
    "last" NONE, Anything => Run::Item(|value| end_item(value, -1));
    "length" NONE, Number => Run::Value(length);
    "lines" NONE, List => Run::Value(|work, value, _| pieces(work, &value, |text| text.lines().collect()));
    "list" NONE, List => Run::Value(list);
    "lower" NONE, Text => Run::Value(|work, value, _| text_filter(work, &value, |text| text.to_lowercase()));
    "map" Params::of(&["filter"], 0).named(&["attribute", "default"]).rest(), List => Run::Value(map);
    "max" BY, Anything => Run::Value(|work, value, given| extreme(work, value, &given, Extreme::Largest));
    "min" BY, Anything => Run::Value(|work, value, given| extreme(work, value, &given, Extreme::Smallest));
    "reject" Params::of(&["test"], 0).rest(), List => Run::Value(|work, value, given| pick(work, value, given, (0, false)));
    "rejectattr" Params::of(&["attribute", "test"], 1).rest(), List => Run::Value(|work, value, given| pick(work, value, given, (1, false)));
    "replace" Params::of(&["from", "to"], 2), Text => Run::Value(replace);
    "reverse" NONE, Same => Run::Value(reverse);
    "round" Params::of(&["precision"], 0), Number => Run::Value(round);
    "select" Params::of(&["test"], 0).rest(), List => Run::Value(|work, value, given| pick(work, value, given, (0, true)));
    "selectattr" Params::of(&["attribute", "test"], 1).rest(), List => Run::Value(|work, value, given| pick(work, value, given, (1, true)));
    "sort" Params::of(&["reverse"], 0).named(&["attribute"]), List => Run::Value(sort);
    "split" Params::of(&["separator"], 0), List => Run::Value(split);
    "string" NONE, Text => Run::Value(|work, value, _| own(text_of(&value, work)?));
    "sum" BY, Number => Run::Value(sum);
    "title" NONE, Text => Run::Value(|work, value, _| text_filter(work, &value, titled));
    "tojson" Params::of(&["indent"], 0), Text => Run::Value(to_json);
    "trim" Params::of(&["chars"], 0), Text => Run::Value(trim);
    "truncate" Params::of(&["length"], 1), Text => Run::Value(truncate);
    "unique" BY, List => Run::Value(unique);
    "upper" NONE, Text => Run::Value(|work, value, _| text_filter(work, &value, |text| text.to_uppercase()));
}

pub(crate) fn find(name: &str) -> Option<&'static Filter> {
    FILTERS.iter().find(|filter| filter.name == name)
}

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FILTERS.iter().map(|filter| filter.name)
}

fn own<'e>(value: impl Into<Value>) -> Filtered<'e> {
    Ok(Cow::Owned(value.into()))
}

fn wants<T>(what: &str, value: &Value) -> Result<T, String> {
    Err(format!("needs {what}, not {}", kind_of(value)))
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().map_or_else(|| wants("text", value), Ok)
}

fn text_filter<'e>(work: &Work, value: &Value, change: fn(&str) -> String) -> Filtered<'e> {
    let text = text(value)?;
    work.spend_bytes(text.len())?;
    own(change(text))
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars.flat_map(char::to_lowercase)).collect())
}

fn titled(text: &str) -> String {
    let mut starts = true;
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        if starts {
            titled.extend(c.to_uppercase());
        } else {
            titled.extend(c.to_lowercase());
        }
        starts = !c.is_alphanumeric();
    }
    titled
}

/// The items of a list, or the keys of an object.
fn list_items(work: &Work, value: Cow<'_, Value>) -> Result<Vec<Value>, String> {
    match work.own(value)? {
        Value::Array(items) => Ok(items),
        Value::Object(fields) => Ok(fields.into_iter().map(|(key, _)| Value::String(key)).collect()),
        other => wants("a list", &other),
    }
}

fn list<'e>(work: &Work, value: Cow<'e, Value>, _: Given<'e>) -> Filtered<'e> {
    match &*value {
        Value::Array(_) => Ok(value),
        Value::String(text) => {
            work.spend(text.len() as u64)?;
            own(text.chars().map(|c| c.to_string()).collect::<Vec<_>>())
        }
        _ => own(list_items(work, value)?),
    }
}

fn items<'e>(work: &Work, value: Cow<'e, Value>, _: Given<'e>) -> Filtered<'e> {
    match work.own(value)? {
        Value::Object(fields) => own(fields.into_iter().map(|(key, field)| json!([key, field])).collect::<Vec<_>>()),
        other => wants("an object", &other),
    }
}

fn length<'e>(work: &Work, value: Cow<'e, Value>, _: Given<'e>) -> Filtered<'e> {
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

fn end_item(value: Cow<'_, Value>, ix: i64) -> Result<Option<Cow<'_, Value>>, String> {
    if !(value.is_array() || value.is_string()) {
        return wants("a list or text", &value);
    }
    Ok(ops::item(value, &Value::from(ix)))
}

fn attribute<'e>(_: &Work, value: Cow<'e, Value>, mut given: Given<'e>) -> Filtered<'e> {
    let name = given.take(0).unwrap_or(Cow::Owned(Value::Null));
    ops::item(value, &name).ok_or_else(|| format!("there is no {name}"))
}

fn absolute<'e>(value: &Value) -> Filtered<'e> {
    match (value.as_i64(), value.as_f64()) {
        (Some(integer), _) => from_integer(i128::from(integer).abs()).map(Cow::Owned),
        (None, Some(_)) if value.is_u64() => own(value.clone()),
        (None, Some(float)) => from_f64(float.abs()).map(Cow::Owned),
        (None, None) => wants("a number", value),
    }
}

fn to_float<'e>(value: &Value) -> Filtered<'e> {
    let float = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        _ => None,
    };
    float.map_or_else(|| wants("a number", value), |float| from_f64(float).map(Cow::Owned))
}

fn to_int<'e>(value: &Value) -> Filtered<'e> {
    if value.is_i64() || value.is_u64() {
        return own(value.clone());
    }
    if let Some(integer) = value.as_str().and_then(|text| text.trim().parse::<i64>().ok()) {
        return own(integer);
    }
    let float = to_float(value)?.as_f64().unwrap_or(f64::NAN).trunc();
    // Converting saturates; 2^127 is far outside of what `from_integer` lets pass.
    from_integer(float as i128).map(Cow::Owned)
}

fn round<'e>(_: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let precision = given.integer(0)?.unwrap_or(0);
    if value.is_i64() || value.is_u64() {
        return Ok(value);
    }
    let Some(float) = value.as_f64() else { return wants("a number", &value) };
    let scale = 10f64.powi(i32::try_from(precision.clamp(-300, 300)).unwrap_or(0));
    let rounded = (float * scale).round() / scale;
    from_f64(if rounded.is_finite() { rounded } else { float }).map(Cow::Owned)
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

fn join<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
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

fn map<'e>(work: &Work, value: Cow<'e, Value>, mut given: Given<'e>) -> Filtered<'e> {
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
fn pick<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>, (slot, wanted): (usize, bool)) -> Filtered<'e> {
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
enum Extreme {
    Smallest,
    Largest,
}

fn extreme<'e>(work: &Work, value: Cow<'e, Value>, given: &Given<'e>, wanted: Extreme) -> Filtered<'e> {
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

fn sum<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
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

fn sort<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
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

fn unique<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let attribute = given.text(0)?;
    let mut kept: Vec<Value> = Vec::new();
    let mut seen_text = std::collections::BTreeSet::new();
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

fn group_by<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let attribute = given.text(0)?;
    let mut groups: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
    for item in list_items(work, value)? {
        let grouper = by_or_fail(&item, attribute)?.clone();
        let key = text_of(&grouper, work)?;
        groups.entry(key).or_insert_with(|| (grouper, Vec::new())).1.push(item);
    }
    own(groups.into_values().map(|(grouper, list)| json!([grouper, list])).collect::<Vec<_>>())
}

fn reverse<'e>(work: &Work, value: Cow<'e, Value>, _: Given<'e>) -> Filtered<'e> {
    match work.own(value)? {
        Value::Array(mut items) => {
            items.reverse();
            own(items)
        }
        Value::String(text) => own(text.chars().rev().collect::<String>()),
        other => wants("a list or text", &other),
    }
}

fn replace<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let text = text(&value)?;
    let (from, to) = (given.text(0)?.unwrap_or(""), given.text(1)?.unwrap_or(""));
    work.spend_bytes(text.len())?;
    let n_found = text.matches(from).count();
    work.spend_bytes(text.len().saturating_add(n_found.saturating_mul(to.len())))?;
    own(text.replace(from, to))
}

fn pieces<'e>(work: &Work, value: &Value, cut: impl Fn(&str) -> Vec<&str>) -> Filtered<'e> {
    let text = text(value)?;
    work.spend(text.len() as u64)?;
    own(cut(text).into_iter().map(str::to_owned).collect::<Vec<_>>())
}

fn split<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    match given.text(0)? {
        Some("") => Err("the separator must not be empty".to_owned()),
        Some(separator) => pieces(work, &value, |text| text.split(separator).collect()),
        None => pieces(work, &value, |text| text.split_whitespace().collect()),
    }
}

fn trim<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let text = text(&value)?;
    work.spend_bytes(text.len())?;
    match given.text(0)? {
        None => own(text.trim()),
        Some(chars) => {
            work.spend((text.len() as u64).saturating_mul(chars.len() as u64))?;
            own(text.trim_matches(|c| chars.contains(c)))
        }
    }
}

fn truncate<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let text = text(&value)?;
    work.spend_bytes(text.len())?;
    let n_chars = usize::try_from(given.integer(0)?.unwrap_or(0)).map_err(|_| "the length must not be negative")?;
    match text.char_indices().nth(n_chars) {
        None => own(text),
        Some((cut, _)) => own(format!("{}…", text.get(..cut).unwrap_or(""))),
    }
}

fn indent<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    let text = text(&value)?;
    let width = usize::try_from(given.integer(0)?.unwrap_or(0)).map_err(|_| "the width must not be negative")?;
    work.spend_bytes(text.len().saturating_add(width.saturating_mul(text.lines().count())))?;
    own(text.replace('\n', &format!("\n{}", " ".repeat(width))))
}

fn to_json<'e>(work: &Work, value: Cow<'e, Value>, given: Given<'e>) -> Filtered<'e> {
    work.spend_value(&value)?;
    let written = match given.get(0) {
        None | Some(Value::Bool(false) | Value::Null) => serde_json::to_string(&value),
        Some(_) => serde_json::to_string_pretty(&value),
    };
    written.map_or_else(|error| Err(error.to_string()), own)
}

fn from_json<'e>(work: &Work, value: Cow<'e, Value>, _: Given<'e>) -> Filtered<'e> {
    let text = text(&value)?;
    work.spend(text.len() as u64)?;
    serde_json::from_str::<Value>(text).map(Cow::Owned).map_err(|error| format!("not JSON: {error}"))
}

fn digest<'e>(work: &Work, value: Cow<'e, Value>, _: Given<'e>) -> Filtered<'e> {
    work.spend_value(&value)?;
    let canonical = crate::digest::canonical(&value);
    own(hex::encode(Sha256::digest(canonical.as_bytes())))
}
