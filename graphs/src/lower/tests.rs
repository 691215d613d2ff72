//! The tests a graph file carries.

use serde_json::{Value, json};

use crate::checks::g005_missing_key as g005;
use crate::compiled::GraphTest;
use crate::keys;
use crate::lower::Lower;
use crate::lower::fields::{Field, Fields};
use crate::spec::{Name, TestSpec};
use crate::yaml::{Data, Yaml};

impl Lower<'_> {
    /// All tests.
    pub(crate) fn tests(&mut self, field: Field<'_>) -> Vec<TestSpec> {
        match &field.value.data {
            Data::List(items) => items.iter().filter_map(|item| self.test(item)).collect(),
            Data::Null => Vec::new(),
            _ => {
                self.wrong_type(field, "a list of tests");
                Vec::new()
            }
        }
    }

    fn test(&mut self, item: &Yaml) -> Option<TestSpec> {
        let fields = self.fields(item, &keys::TEST, item.span)?;
        let (mut channels, mut nodes) = (Vec::new(), Vec::new());
        let name = fields.get("name").and_then(|field| self.text(field)).unwrap_or_default();
        channels.extend(keys_of(fields.get("start_state")));
        nodes.extend(keys_of(fields.get("agents")));
        let answers = fields.get("answers").map_or_else(Vec::new, |field| self.answers(field, &mut nodes));
        let expect = fields.get("expect").and_then(|field| self.fields(field.value, &keys::EXPECT, field.key_span));
        if let Some(expect) = expect {
            self.expect(&expect, &mut channels, &mut nodes);
        }
        let mut mapping = |key| fields.get(key).map_or_else(|| json!({}), |field| self.object(field));
        let (tools, agents, functions) = (mapping("tools"), mapping("agents"), mapping("functions"));
        let start_state = mapping("start_state");
        let json = |field: Option<Field<'_>>| field.map_or_else(|| json!({}), |field| field.value.json());
        let (input, expect) = (json(fields.get("input")), json(fields.get("expect")));
        let test = GraphTest { name, input, tools, agents, functions, answers, start_state, expect };
        Some(TestSpec { test, channels, nodes })
    }

    fn answers(&mut self, field: Field<'_>, nodes: &mut Vec<Name>) -> Vec<Value> {
        let Data::List(items) = &field.value.data else {
            self.wrong_type(field, "a list of answers");
            return Vec::new();
        };
        for item in items {
            if let Some(fields) = self.fields(item, &keys::ANSWER, item.span) {
                nodes.extend(fields.get("node").and_then(|field| self.name(field)));
                if fields.get("choice").is_none() && fields.get("expires").is_none() {
                    let finding =
                        g005::missing_key(item.span, "choice", keys::ANSWER.what, "The choice, or `expires: true`.");
                    self.findings.push(finding);
                }
            }
        }
        items.iter().map(Yaml::json).collect()
    }

    fn expect(&mut self, fields: &Fields<'_>, channels: &mut Vec<Name>, nodes: &mut Vec<Name>) {
        channels.extend(keys_of(fields.get("state")));
        for key in ["path", "visited", "not_visited"] {
            nodes.extend(fields.get(key).and_then(|field| self.names(field)).unwrap_or_default());
        }
        fields.get("calls").and_then(|field| self.names(field));
        if let Some(field) = fields.get("arguments") {
            self.called(field);
        }
        fields.get("status").and_then(|field| self.word(field, &["success", "failed", "interrupted"]));
        fields.get("state").map(|field| self.object(field));
    }

    fn called(&mut self, field: Field<'_>) {
        let Data::List(items) = &field.value.data else { return self.wrong_type(field, "a list of calls") };
        for item in items {
            if let Some(fields) = self.fields(item, &keys::CALLED, item.span) {
                fields.get("tool").and_then(|field| self.text(field));
                fields.get("args").map(|field| self.object(field));
            }
        }
    }
}

fn keys_of(field: Option<Field<'_>>) -> Vec<Name> {
    match field.map(|field| &field.value.data) {
        Some(Data::Map(entries)) => {
            entries.iter().map(|entry| Name { text: entry.key.clone(), span: entry.key_span }).collect()
        }
        _ => Vec::new(),
    }
}
