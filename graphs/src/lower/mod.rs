//! From the YAML tree to a [`GraphSpec`]: every key and value is read by hand, so that every problem is found
//! at once and knows its place.

mod fields;
mod kinds;
mod node;
mod policies;
mod record;
mod routing;
mod templates;
mod tests;
mod values;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::checks::{g024_bad_name as g024, g025_bad_schema as g025, g036_bad_merge as g036};
use crate::compiled::{Limits, Merge, Retention};
use crate::diagnostics::Finding;
use crate::keys;
use crate::lower::fields::{Field, Fields};
use crate::schema::Schema;
use crate::source::{Source, Span};
use crate::spec::{ChannelSpec, GraphSpec, Name, Policies, RoutingSpec, SchemaSpec};
use crate::yaml::{Data, Entry, Yaml};

/// Supersteps of one run, if the graph does not say.
const RECURSION_DEFAULT: u32 = 1_000;

/// Reads a document. What cannot be read is reported and left out.
pub(crate) fn lower(source: &Source, root: &Yaml, findings: &mut Vec<Finding>) -> Option<GraphSpec> {
    let mut cx = Lower { source, findings, schemas: BTreeMap::new() };
    let start_of_file = Span::new(0, 0);
    let fields = cx.fields(root, &keys::GRAPH, start_of_file)?;
    cx.schemas = cx.named_schemas(&fields);
    let name = fields.get("graph").and_then(|field| cx.name(field));
    if let Some(name) = &name {
        g024::check_graph(name, cx.findings);
    }
    let start = fields.get("start").map_or(RoutingSpec::Broken, |field| cx.routing(field));
    Some(GraphSpec {
        name: name.unwrap_or(Name { text: String::new(), span: start_of_file }),
        description: fields.get("description").and_then(|field| cx.text(field)).unwrap_or_default(),
        input: fields.get("input").and_then(|field| cx.input(field)),
        output: fields.get("output").and_then(|field| cx.names(field)),
        channels: cx.channels(&fields),
        defaults: fields.get("defaults").map_or_else(Policies::default, |field| cx.defaults(field)),
        nodes: cx.nodes(&fields),
        start,
        limits: cx.limits(&fields),
        budget: fields.get("budget").and_then(|field| cx.budget(field)),
        retention: cx.retention(&fields),
        tests: fields.get("tests").map_or_else(Vec::new, |field| cx.tests(field)),
        metadata: fields.get("metadata").map_or_else(|| json!({}), |field| cx.object(field)),
        document: document(root),
    })
}

/// What is read so far, and where problems go.
pub(crate) struct Lower<'a> {
    source: &'a Source,
    findings: &'a mut Vec<Finding>,
    schemas: BTreeMap<String, Value>,
}

impl Lower<'_> {
    fn named_schemas(&mut self, fields: &Fields<'_>) -> BTreeMap<String, Value> {
        let Some(field) = fields.get("schemas") else { return BTreeMap::new() };
        let named: BTreeMap<String, Value> =
            self.entries(field).iter().map(|entry| (entry.key.clone(), entry.value.json())).collect();
        for entry in self.entries(field) {
            if let Err(error) = Schema::with_named(&entry.value.json(), &named) {
                let place = entry.value.at_pointer(&error.pointer).span;
                self.findings.push(g025::bad_schema(place, &error));
            }
        }
        named
    }

    fn input(&mut self, field: Field<'_>) -> Option<SchemaSpec> {
        let fields = self.fields(field.value, &keys::INPUT, field.key_span)?;
        fields.get("schema").and_then(|field| self.schema(field))
    }

    /// A JSON Schema.
    fn schema(&mut self, field: Field<'_>) -> Option<SchemaSpec> {
        if !matches!(field.value.data, Data::Map(_) | Data::Bool(_)) {
            self.wrong_type(field, "a JSON Schema");
            return None;
        }
        match Schema::with_named(&field.value.json(), &self.schemas) {
            Ok(schema) => Some(SchemaSpec { schema }),
            Err(error) => {
                let place = field.value.at_pointer(&error.pointer).span;
                self.findings.push(g025::bad_schema(place, &error));
                None
            }
        }
    }

    fn channels(&mut self, fields: &Fields<'_>) -> Vec<ChannelSpec> {
        let Some(field) = fields.get("state") else { return Vec::new() };
        let entries = self.entries(field);
        entries.iter().filter_map(|entry| self.channel(entry)).collect()
    }

    fn channel(&mut self, entry: &Entry) -> Option<ChannelSpec> {
        let name = Name { text: entry.key.clone(), span: entry.key_span };
        g024::check_channel(&name, self.findings);
        let Some(fields) = self.fields(&entry.value, &keys::CHANNEL, entry.key_span) else {
            return Some(ChannelSpec { name, merge: Merge::Untracked, schema: None, default: None });
        };
        let word = fields.get("merge").and_then(|field| self.word(field, keys::MERGES)).unwrap_or("replace");
        let key = fields.get("key").and_then(|field| self.name(field));
        let place = fields.get("merge").map_or(name.span, |field| field.value.span);
        let merge = merge(word, key.as_ref(), place, self.findings);
        fields.get("description").and_then(|field| self.text(field));
        Some(ChannelSpec {
            name,
            merge,
            schema: fields.get("schema").and_then(|field| self.schema(field)),
            default: fields.get("default").map(|field| field.value.clone()),
        })
    }

    fn limits(&mut self, fields: &Fields<'_>) -> Limits {
        let mut limits = Limits { recursion: RECURSION_DEFAULT, concurrency: None };
        let Some(field) = fields.get("limits") else { return limits };
        let Some(fields) = self.fields(field.value, &keys::LIMITS, field.key_span) else { return limits };
        limits.recursion = fields.get("recursion").and_then(|field| self.whole(field, 1)).unwrap_or(RECURSION_DEFAULT);
        limits.concurrency = fields.get("concurrency").and_then(|field| self.whole(field, 1));
        limits
    }

    fn retention(&mut self, fields: &Fields<'_>) -> Retention {
        let mut retention = Retention { age: None, count: None, keep_latest: true, keep_approvals: true };
        let Some(field) = fields.get("retention") else { return retention };
        let Some(fields) = self.fields(field.value, &keys::RETENTION, field.key_span) else { return retention };
        retention.age = fields.get("age").and_then(|field| self.duration(field));
        retention.count = fields.get("count").and_then(|field| self.whole(field, 1));
        retention.keep_latest = fields.get("keep_latest").and_then(|field| self.flag(field)).unwrap_or(true);
        retention.keep_approvals = fields.get("keep_approvals").and_then(|field| self.flag(field)).unwrap_or(true);
        retention
    }
}

fn merge(word: &str, key: Option<&Name>, place: Span, findings: &mut Vec<Finding>) -> Merge {
    if let (Some(key), false) = (key, word == "union") {
        findings.push(g036::key_without_union(key, word));
    }
    match (word, key) {
        ("last", _) => Merge::Last,
        ("append", _) => Merge::Append,
        ("union", Some(key)) => Merge::Union { key: key.text.clone() },
        ("union", None) => {
            findings.push(g036::union_without_key(place));
            Merge::Union { key: String::new() }
        }
        ("deep", _) => Merge::Deep,
        ("sum", _) => Merge::Sum,
        ("min", _) => Merge::Min,
        ("max", _) => Merge::Max,
        ("messages", _) => Merge::Messages,
        ("ephemeral", _) => Merge::Ephemeral,
        ("untracked", _) => Merge::Untracked,
        _ => Merge::Replace,
    }
}

/// The document as JSON, with the order of `nodes` kept as a list of pairs and what has no meaning left out.
fn document(root: &Yaml) -> Value {
    let Data::Map(entries) = &root.data else { return Value::Null };
    let mut document = serde_json::Map::new();
    for entry in entries {
        let value = match (entry.key.as_str(), &entry.value.data) {
            ("description" | "tests", _) => continue,
            ("nodes", Data::Map(nodes)) => {
                nodes.iter().map(|node| json!([node.key, without_description(&node.value)])).collect()
            }
            ("state", Data::Map(channels)) => {
                Value::Object(channels.iter().map(|c| (c.key.clone(), without_description(&c.value))).collect())
            }
            _ => entry.value.json(),
        };
        document.insert(entry.key.clone(), value);
    }
    Value::Object(document)
}

fn without_description(value: &Yaml) -> Value {
    let mut json = value.json();
    if let Value::Object(fields) = &mut json {
        fields.remove("description");
    }
    json
}
