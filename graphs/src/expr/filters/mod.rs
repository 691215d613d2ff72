//! The filters an expression may use.

mod lists;
mod scalars;

use std::borrow::Cow;

use serde_json::Value;

use crate::expr::value::{Given, Params, Work, is_truthy, kind_of, text_of};
use lists::{
    Extreme, attribute, end_item, extreme, group_by, items, join, length, list, map, pick, reverse, sort, sum, unique,
};
use scalars::{
    absolute, capitalized, digest, from_json, indent, pieces, replace, round, shift, similarity, split, text_filter,
    titled, to_float, to_int, to_json, trim, truncate,
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
    Item(for<'e> fn(Cow<'e, Value>) -> MaybeItem<'e>),
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

/// An item, if there is one.
type MaybeItem<'e> = Result<Option<Cow<'e, Value>>, String>;

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
    "shift" Params::of(&["by"], 1), Text => Run::Value(shift);
    "similarity" Params::of(&["other"], 1), Number => Run::Value(similarity);
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
