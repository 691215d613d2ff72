//! Channels: named pieces of state, and the concrete changes that tasks write to them.
//!
//! A [`Change`] is resolved from the channel's declaration when a task writes it, so the fold needs no graph.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use crate::ids::Name;

/// Most levels that a `deep` merge follows; deeper objects are replaced whole.
pub const DEEP_MERGE_LEVELS_MAX: usize = 64;

/// One write to one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The channel.
    pub channel: Name,
    /// What to do to it.
    pub op: ChangeOp,
}

/// What a write does. `Serialize` keeps values once; nothing here names a type to build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ChangeOp {
    /// The new value (`replace`, `last`).
    Set(Arc<Value>),
    /// The new value, whatever other tasks wrote in the same superstep.
    Overwrite(Arc<Value>),
    /// Items at the end of a list.
    Append(Vec<Value>),
    /// Items of a list, replaced where the key is equal.
    Union(Name, Vec<Value>),
    /// Object merged into an object, level by level.
    Deep(Arc<Value>),
    /// Number added.
    Add(Number),
    /// The smaller value stays.
    Min(Arc<Value>),
    /// The larger value stays.
    Max(Arc<Value>),
    /// Chat messages: replaced or removed by id, else appended.
    Messages(Vec<Value>),
    /// A value that is gone after the next superstep.
    Flash(Arc<Value>),
}

/// A channel's value and how often it changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// The value.
    pub value: Arc<Value>,
    /// Rises with each superstep that changed the channel.
    pub version: u64,
    /// Gone after the next superstep.
    pub flash: bool,
}

/// All channels that have a value.
pub type Channels = BTreeMap<Name, Slot>;

/// Applies one superstep's changes in order: old flashes go, an overwrite wins over the other writes of the step.
///
/// Returns whether anything changed.
pub fn apply(channels: &mut Arc<Channels>, changes: &[&Change], version: u64) -> bool {
    let has_flash = channels.values().any(|slot| slot.flash);
    if changes.is_empty() && !has_flash {
        return false;
    }
    let channels = Arc::make_mut(channels);
    if has_flash {
        channels.retain(|_, slot| !slot.flash);
    }
    let overwritten: Vec<&Name> =
        changes.iter().filter(|c| matches!(c.op, ChangeOp::Overwrite(_))).map(|c| &c.channel).collect();
    for change in changes {
        let loses = !matches!(change.op, ChangeOp::Overwrite(_)) && overwritten.contains(&&change.channel);
        if !loses {
            write(channels, change, version);
        }
    }
    true
}

/// Applies changes beside a superstep under way: flashes stay.
pub fn patch(channels: &mut Arc<Channels>, changes: &[Change], version: u64) {
    for change in changes {
        write(Arc::make_mut(channels), change, version);
    }
}

fn write(channels: &mut Channels, change: &Change, version: u64) {
    let flash = matches!(change.op, ChangeOp::Flash(_));
    match channels.get_mut(&change.channel) {
        Some(slot) => {
            fold(&mut slot.value, &change.op);
            slot.version = version;
            slot.flash = flash;
        }
        None => {
            let mut value = Arc::new(Value::Null);
            fold(&mut value, &change.op);
            channels.insert(change.channel.clone(), Slot { value, version, flash });
        }
    }
}

/// Folds one operation into a value; `Null` counts as empty.
pub fn fold(value: &mut Arc<Value>, op: &ChangeOp) {
    match op {
        ChangeOp::Set(new) | ChangeOp::Overwrite(new) | ChangeOp::Flash(new) => *value = Arc::clone(new),
        ChangeOp::Append(items) => edit_list(value, |list| list.extend(items.iter().cloned())),
        ChangeOp::Union(key, items) => edit_list(value, |list| {
            for item in items {
                upsert(list, item, |known| known.get(&**key).is_some() && known.get(&**key) == item.get(&**key));
            }
        }),
        ChangeOp::Deep(new) => deep_merge(Arc::make_mut(value), new, 0),
        ChangeOp::Add(number) => *value = Arc::new(add(value, number)),
        ChangeOp::Min(new) => keep(value, new, std::cmp::Ordering::Less),
        ChangeOp::Max(new) => keep(value, new, std::cmp::Ordering::Greater),
        ChangeOp::Messages(items) => edit_list(value, |list| messages(list, items)),
    }
}

/// Edits a value as a list: `Null` is empty, another value is a list of one.
fn edit_list(value: &mut Arc<Value>, edit: impl FnOnce(&mut Vec<Value>)) {
    match Arc::make_mut(value) {
        Value::Array(list) => edit(list),
        other => {
            let mut list = match other.take() {
                Value::Null => Vec::new(),
                single => vec![single],
            };
            edit(&mut list);
            *other = Value::Array(list);
        }
    }
}

fn upsert(list: &mut Vec<Value>, item: &Value, same: impl Fn(&Value) -> bool) {
    match list.iter_mut().find(|known| same(known)) {
        Some(known) => *known = item.clone(),
        None => list.push(item.clone()),
    }
}

fn deep_merge(into: &mut Value, from: &Value, level: usize) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) if level < DEEP_MERGE_LEVELS_MAX => {
            for (key, value) in from {
                match into.get_mut(key) {
                    Some(known) => deep_merge(known, value, level + 1),
                    None => drop(into.insert(key.clone(), value.clone())),
                }
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn add(value: &Value, number: &Number) -> Value {
    if let (Some(a), Some(b)) = (value.as_i64().or(value.is_null().then_some(0)), number.as_i64())
        && let Some(sum) = a.checked_add(b)
    {
        return sum.into();
    }
    let sum = value.as_f64().unwrap_or(0.0) + number.as_f64().unwrap_or(0.0);
    Number::from_f64(sum).map_or(Value::Null, Value::Number)
}

fn keep(value: &mut Arc<Value>, new: &Arc<Value>, wanted: std::cmp::Ordering) {
    let order = match (value.as_f64(), new.as_f64()) {
        (Some(old), Some(new)) => new.partial_cmp(&old),
        _ => match (value.as_str(), new.as_str()) {
            (Some(old), Some(new)) => Some(new.cmp(old)),
            _ => None,
        },
    };
    if value.is_null() || order == Some(wanted) {
        *value = Arc::clone(new);
    }
}

/// Marker that removes every earlier message.
pub const REMOVE_ALL: &str = "__remove_all__";

fn messages(list: &mut Vec<Value>, items: &[Value]) {
    for item in items {
        let id = item.get("id").and_then(Value::as_str);
        let removes = item.get("type").and_then(Value::as_str) == Some("remove");
        match (removes, id) {
            (true, Some(REMOVE_ALL)) => list.clear(),
            (true, _) => list.retain(|known| id.is_none() || known.get("id").and_then(Value::as_str) != id),
            (false, Some(id)) => upsert(list, item, |known| known.get("id").and_then(Value::as_str) == Some(id)),
            (false, None) => list.push(item.clone()),
        }
    }
}

/// Rough size of a value when stored, in bytes; used to decide when a snapshot pays.
pub fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 3,
        Value::Array(items) => items.iter().map(weight).sum::<usize>() + 3,
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + 1 + weight(value)).sum::<usize>() + 3,
    }
}

impl ChangeOp {
    /// The written value as people see it.
    pub fn shown(&self) -> Value {
        match self {
            Self::Set(v) | Self::Overwrite(v) | Self::Deep(v) | Self::Min(v) | Self::Max(v) | Self::Flash(v) => {
                Value::clone(v)
            }
            Self::Append(items) | Self::Union(_, items) | Self::Messages(items) => Value::Array(items.clone()),
            Self::Add(number) => Value::Number(number.clone()),
        }
    }

    /// Rough size when stored, in bytes.
    pub fn weight(&self) -> usize {
        match self {
            Self::Set(v) | Self::Overwrite(v) | Self::Deep(v) | Self::Min(v) | Self::Max(v) | Self::Flash(v) => {
                weight(v)
            }
            Self::Append(items) | Self::Union(_, items) | Self::Messages(items) => items.iter().map(weight).sum(),
            Self::Add(_) => 8,
        }
    }
}

/// All values as one JSON object.
pub fn values(channels: &Channels) -> Value {
    let map: Map<String, Value> =
        channels.iter().map(|(name, slot)| (name.to_string(), Value::clone(&slot.value))).collect();
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn change(channel: &str, op: ChangeOp) -> Change {
        Change { channel: channel.into(), op }
    }

    fn check(before: Value, ops: &[ChangeOp], after: &Value) {
        let mut value = Arc::new(before);
        for op in ops {
            fold(&mut value, op);
        }
        assert_eq!(&*value, after);
    }

    #[test]
    fn each_operation_does_what_it_says() {
        check(
            json!(null),
            &[ChangeOp::Append(vec![json!(1)]), ChangeOp::Append(vec![json!(2), json!(3)])],
            &json!([1, 2, 3]),
        );
        check(json!(1), &[ChangeOp::Add(2.into()), ChangeOp::Add(Number::from_f64(0.5).unwrap())], &json!(3.5));
        check(json!(null), &[ChangeOp::Max(json!(2).into()), ChangeOp::Max(json!(1).into())], &json!(2));
        check(json!("b"), &[ChangeOp::Min(json!("a").into())], &json!("a"));
        check(
            json!({"a": {"x": 1}}),
            &[ChangeOp::Deep(json!({"a": {"y": 2}}).into())],
            &json!({"a": {"x": 1, "y": 2}}),
        );
        let rows = vec![json!({"k": 1, "v": "new"}), json!({"k": 2})];
        check(
            json!([{"k": 1, "v": "old"}]),
            &[ChangeOp::Union("k".into(), rows)],
            &json!([{"k": 1, "v": "new"}, {"k": 2}]),
        );
    }

    #[test]
    fn messages_are_replaced_and_removed_by_id() {
        let start = json!([{"id": "a", "content": "1"}, {"id": "b", "content": "2"}]);
        let ops = [ChangeOp::Messages(vec![json!({"id": "a", "content": "x"}), json!({"type": "remove", "id": "b"})])];
        check(start.clone(), &ops, &json!([{"id": "a", "content": "x"}]));
        let all = [ChangeOp::Messages(vec![json!({"type": "remove", "id": REMOVE_ALL}), json!({"content": "n"})])];
        check(start, &all, &json!([{"content": "n"}]));
    }

    #[test]
    fn an_overwrite_wins_over_the_step_before_and_after_it() {
        let mut channels: Arc<Channels> = Arc::default();
        let a = change("l", ChangeOp::Append(vec![json!("a")]));
        let b = change("l", ChangeOp::Overwrite(json!(["b"]).into()));
        let c = change("l", ChangeOp::Append(vec![json!("c")]));
        apply(&mut channels, &[&a, &b, &c], 1);
        assert_eq!(values(&channels), json!({"l": ["b"]}));
    }

    #[test]
    fn a_flash_lives_for_one_superstep() {
        let mut channels: Arc<Channels> = Arc::default();
        apply(&mut channels, &[&change("f", ChangeOp::Flash(json!(1).into()))], 1);
        assert_eq!(values(&channels), json!({"f": 1}));
        assert!(apply(&mut channels, &[], 2));
        assert_eq!(values(&channels), json!({}));
    }

    proptest! {
        #[test]
        fn appends_and_sums_do_not_depend_on_how_they_are_batched(parts in proptest::collection::vec(-1000_i64..1000, 0..20), cut in 0_usize..20) {
            let cut = cut.min(parts.len());
            let whole: Vec<Value> = parts.iter().map(|n| json!(n)).collect();
            let mut once = Arc::new(Value::Null);
            fold(&mut once, &ChangeOp::Append(whole.clone()));
            let mut twice = Arc::new(Value::Null);
            fold(&mut twice, &ChangeOp::Append(whole[..cut].to_vec()));
            fold(&mut twice, &ChangeOp::Append(whole[cut..].to_vec()));
            prop_assert_eq!(once, twice);
            let mut sum = Arc::new(Value::Null);
            for n in &parts { fold(&mut sum, &ChangeOp::Add((*n).into())); }
            prop_assert_eq!(sum.as_i64().unwrap_or(0), parts.iter().sum::<i64>());
        }
    }
}
