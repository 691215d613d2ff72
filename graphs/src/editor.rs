//! The JSON Schema of the graph language, for completion and checking in editors.
//!
//! Made from the tables that reading a graph uses. It is checked in as `graphs/schema.json`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::keys::{self, KINDS, Shape, Table};

/// The JSON Schema of a graph file.
pub fn editor_schema() -> Value {
    let mut definitions = BTreeMap::new();
    add_table(&keys::GRAPH, &mut definitions);
    add_table(&keys::ROUTE, &mut definitions);
    let definitions: Map<String, Value> = definitions.into_iter().collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Interlock graph",
        "$ref": format!("#/$defs/{}", keys::GRAPH.id),
        "$defs": definitions,
    })
}

fn add_table(table: &'static Table, definitions: &mut BTreeMap<String, Value>) {
    if definitions.contains_key(table.id) {
        return;
    }
    // Marks the table as seen, because tables may refer to each other.
    definitions.insert(table.id.to_owned(), Value::Null);
    let mut properties = Map::new();
    for key in table.keys {
        let mut schema = shape(&key.shape, definitions);
        if let Value::Object(fields) = &mut schema {
            fields.insert("description".to_owned(), Value::from(key.doc));
        }
        properties.insert(key.name.to_owned(), schema);
    }
    let required: Vec<&str> = table.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "required": required,
    });
    if let (true, Value::Object(fields)) = (table.id == keys::NODE.id, &mut schema) {
        let kinds: Vec<Value> = KINDS.iter().map(|kind| json!({ "required": [kind] })).collect();
        fields.insert("oneOf".to_owned(), Value::Array(kinds));
    }
    definitions.insert(table.id.to_owned(), schema);
}

fn reference(table: &'static Table, definitions: &mut BTreeMap<String, Value>) -> Value {
    add_table(table, definitions);
    json!({ "$ref": format!("#/$defs/{}", table.id) })
}

fn shape(shape: &Shape, definitions: &mut BTreeMap<String, Value>) -> Value {
    let name = json!({ "type": "string", "minLength": 1 });
    match shape {
        Shape::Any | Shape::Template => json!({}),
        Shape::Object => json!({ "type": ["object", "null"] }),
        Shape::Text => json!({ "type": "string" }),
        Shape::Name => name,
        Shape::Names => json!({ "anyOf": [name, { "type": "array", "items": name }] }),
        Shape::Expression => json!({ "type": ["string", "number", "boolean"] }),
        Shape::Templates => json!({ "type": ["object", "string", "null"] }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Number => json!({ "type": "number", "minimum": 0 }),
        Shape::Whole(min) => json!({ "type": "integer", "minimum": min }),
        Shape::Duration => json!({ "type": "string", "pattern": DURATION_PATTERN }),
        Shape::Word(words) => json!({ "enum": words }),
        Shape::Words(words) => json!({ "anyOf": [{ "enum": words }, { "type": "array", "items": { "enum": words } }] }),
        Shape::Schema => json!({ "type": ["object", "boolean"] }),
        Shape::Schemas => {
            json!({ "type": ["object", "null"], "additionalProperties": { "type": ["object", "boolean"] } })
        }
        Shape::Writes => json!({ "type": ["object", "null"] }),
        Shape::Routing => json!({ "anyOf": [
            name,
            { "type": "array", "minItems": 1, "items": name },
            { "type": "array", "minItems": 1, "items": reference(&keys::ROUTE, definitions) },
        ] }),
        Shape::Table(table) => reference(table, definitions),
        Shape::MapOf(table) => {
            let item = json!({ "anyOf": [reference(table, definitions), { "type": "null" }] });
            let item = if table.keys.iter().any(|key| key.required) || table.id == keys::NODE.id {
                reference(table, definitions)
            } else {
                item
            };
            json!({ "type": ["object", "null"], "additionalProperties": item })
        }
        Shape::ListOf(table) => json!({ "type": "array", "items": reference(table, definitions) }),
        Shape::Either(shapes) => {
            let choices: Vec<Value> = shapes.iter().map(|choice| self::shape(choice, definitions)).collect();
            json!({ "anyOf": choices })
        }
    }
}

/// Numbers with units, as `duration` reads them.
const DURATION_PATTERN: &str = r"^\s*([0-9]*\.?[0-9]*\s*[a-z]+\s*)+$";

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "tests compare with the checked-in file")]

    use std::path::Path;

    use super::*;
    use crate::{OpenCatalog, Schema, check};

    #[test]
    fn the_checked_in_schema_is_up_to_date() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.json");
        let text = format!("{}\n", serde_json::to_string_pretty(&editor_schema()).unwrap());
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(written, text, "run with UPDATE_EXPECT=1 to rewrite graphs/schema.json");
    }

    fn json_of(text: &str) -> Value {
        let source = crate::Source::new("g.yaml", text);
        crate::yaml::read(&source, &mut Vec::new()).unwrap().json()
    }

    const GOOD: &[&str] = &[
        crate::language_tests::INCIDENT,
        "graph: g\nnodes: { a: { emit: 1, then: end } }\nstart: a\n",
        "graph: g\nnodes: { a: { wait: 10m, then: [b, c] }, b: { wait: { signal: go, for: 1h, on_timeout: c }, then: end }, c: { fail: no } }\nstart: [a]\n",
        "graph: g\nstate: { xs: { merge: union, key: id }, n: }\nnodes: { a: { set: { xs: [1], n: { overwrite: 2 } }, then: [{ when: true, to: end }, { to: [a, b] }] }, b: { fail: { message: m, class: invalid } } }\nstart: a\n",
        "graph: g\nnodes:\n  a: { tool: x.y, args: \"{{ input }}\", retry: [{ attempts: 2, on: timeout }], timeout: { run: 1s, idle: 500ms }, cache: { ttl: 1h30m }, then: end }\nstart: a\n",
        "graph: g\nnodes:\n  a: { spawn: { graph: h, key: k, join: true }, output: r, then: b }\n  b: { graph: h, scope: thread, with: { x: 1 }, output: { r: result }, then: end }\nstate: { r: { merge: last } }\nstart: a\n",
        "graph: g\nnodes:\n  m: { map: { over: \"[1]\", as: x, index: i, to: w, max_concurrency: 2 } }\n  w: { function: f }\nstart: m\nlimits: { recursion: 5 }\nretention: { age: 7d, count: 3 }\n",
    ];

    const BAD: &[&str] = &[
        "nodes: { a: { emit: 1, then: end } }\nstart: a\n",
        "graph: g\nnodes: { a: { emit: 1, then: end, retrys: 1 } }\nstart: a\n",
        "graph: g\nnodes: { a: { then: end } }\nstart: a\n",
        "graph: g\nnodes: { a: { emit: 1, wait: 1s, then: end } }\nstart: a\n",
        "graph: g\nnodes: { a: { emit: 1, then: [] } }\nstart: a\n",
        "graph: g\nnodes: { a: { emit: 1, then: { to: end } } }\nstart: a\n",
        "graph: g\nnodes: { a: { emit: 1, defer: yes, then: end } }\nstart: a\n",
        "graph: g\nnodes: { a: { wait: 10, then: end } }\nstart: a\n",
        "graph: g\nnodes: { a: { emit: 1, retry: { attempts: 0 }, then: end } }\nstart: a\n",
        "graph: g\nnodes: { a: { emit: 1, retry: { on: [nope] }, then: end } }\nstart: a\n",
        "graph: g\nstate: { x: { merge: nope } }\nnodes: { a: { emit: 1, then: end } }\nstart: a\n",
        "graph: g\nnodes: { a: { approval: { body: x }, then: end } }\nstart: a\n",
    ];

    #[test]
    fn agrees_with_the_reader() {
        let schema = Schema::new(&editor_schema()).unwrap();
        for text in GOOD {
            schema.check(&json_of(text)).unwrap_or_else(|error| panic!("{error}\n{text}"));
            check("g.yaml", text.as_bytes(), &OpenCatalog).unwrap_or_else(|errors| panic!("{errors}"));
        }
        for text in BAD {
            assert!(schema.check(&json_of(text)).is_err(), "the schema accepts\n{text}");
            assert!(check("g.yaml", text.as_bytes(), &OpenCatalog).is_err(), "the reader accepts\n{text}");
        }
    }
}
