//! Nodes: the keys every kind has, and which keys fit which kind.

use serde_json::json;

use crate::checks::{g011_node_kind as g011, g024_bad_name as g024, g031_misplaced_key as g031};
use crate::keys;
use crate::lower::Lower;
use crate::lower::fields::{Field, Fields};
use crate::source::Span;
use crate::spec::{KindSpec, Name, NodeSpec, OutputSpec, Policies, RoutingSpec};
use crate::yaml::{Data, Entry};

impl Lower<'_> {
    /// All nodes, in declaration order.
    pub(crate) fn nodes(&mut self, fields: &Fields<'_>) -> Vec<NodeSpec> {
        let Some(field) = fields.get("nodes") else { return Vec::new() };
        let entries = self.entries(field);
        entries.iter().map(|entry| self.node(entry)).collect()
    }

    fn node(&mut self, entry: &Entry) -> NodeSpec {
        let name = Name { text: entry.key.clone(), span: entry.key_span };
        g024::check_node(&name, self.findings);
        let Some(fields) = self.fields(&entry.value, &keys::NODE, entry.key_span) else { return broken(name) };
        let kinds: Vec<&Entry> =
            fields.entries.iter().filter(|entry| keys::KINDS.contains(&entry.key.as_str())).collect();
        let kind = match kinds.as_slice() {
            [kind] => {
                g031::check_keys(&kind.key, fields.entries, self.findings);
                self.kind(Field::of(kind), &fields)
            }
            [] => {
                self.findings.push(g011::no_kind(&name));
                KindSpec::Broken
            }
            [first, rest @ ..] => {
                rest.iter().for_each(|second| self.findings.push(g011::second_kind(&name, first, second)));
                KindSpec::Broken
            }
        };
        fields.get("description").and_then(|field| self.text(field));
        NodeSpec {
            description: fields
                .get("description")
                .and_then(|field| field.value.json().as_str().map(str::to_owned))
                .unwrap_or_default(),
            kind,
            then: fields.get("then").map_or(RoutingSpec::Unset, |field| self.routing(field)),
            after: fields.get("after").and_then(|field| self.names(field)).unwrap_or_default(),
            defer: fields.get("defer").and_then(|field| self.flag(field)).unwrap_or(false),
            policies: self.policies(&fields),
            with: self.with(&fields),
            output: fields.get("output").map_or(OutputSpec::None, |field| self.output(field)),
            metadata: fields.get("metadata").map_or_else(|| json!({}), |field| self.object(field)),
            name,
        }
    }

    fn with(&mut self, fields: &Fields<'_>) -> Vec<(Name, crate::spec::TemplateSpec)> {
        let Some(field) = fields.get("with") else { return Vec::new() };
        let with = self.writes(field);
        for (name, _) in &with {
            g024::check_variable(name, self.findings);
        }
        with
    }

    fn output(&mut self, field: Field<'_>) -> OutputSpec {
        match &field.value.data {
            Data::Text(_) => self.name(field).map_or(OutputSpec::Broken, OutputSpec::Channel),
            Data::Map(entries) => {
                let writes = entries.iter().map(|entry| {
                    let name = Name { text: entry.key.clone(), span: entry.key_span };
                    self.expression(Field::of(entry)).map(|expr| (name, expr))
                });
                let writes: Vec<_> = writes.collect();
                writes.into_iter().collect::<Option<Vec<_>>>().map_or(OutputSpec::Broken, OutputSpec::Map)
            }
            _ => {
                self.wrong_type(field, "a channel, or a mapping from channels to expressions");
                OutputSpec::Broken
            }
        }
    }

    /// A name that must be there; what stands in for it if it is not, so that reading can go on.
    pub(crate) fn required_name(&mut self, field: Option<Field<'_>>) -> Option<Name> {
        field.and_then(|field| self.name(field))
    }
}

/// A node of which only the name is known.
fn broken(name: Name) -> NodeSpec {
    NodeSpec {
        name,
        description: String::new(),
        kind: KindSpec::Broken,
        then: RoutingSpec::Broken,
        after: Vec::new(),
        defer: false,
        policies: Policies::default(),
        with: Vec::new(),
        output: OutputSpec::Broken,
        metadata: json!({}),
    }
}

/// Where a finding about a whole field goes.
pub(crate) fn place(field: Option<Field<'_>>, otherwise: Span) -> Span {
    field.map_or(otherwise, |field| field.value.span)
}
