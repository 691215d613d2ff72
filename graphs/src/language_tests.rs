//! Tests of the language as a whole.

use expect_test::{Expect, expect};

use crate::checks::testing::check_ok;
use crate::{CompiledGraph, OpenCatalog, check, parse};

/// The example of the design document, with the schemas it refers to.
pub(crate) const INCIDENT: &str = include_str!("language_tests/incident.yaml");

pub(crate) fn compiled(text: &str) -> CompiledGraph {
    match check("g.yaml", text.as_bytes(), &OpenCatalog) {
        Ok((graph, _)) => graph,
        Err(errors) => panic!("{errors}"),
    }
}

#[track_caller]
fn check_warnings(text: &str, expected: Expect) {
    let (_, warnings) = check("g.yaml", text.as_bytes(), &OpenCatalog).unwrap_or_else(|errors| panic!("{errors}"));
    expected.assert_eq(&warnings.to_string());
}

#[test]
fn the_design_example_compiles() {
    check_warnings(
        INCIDENT,
        expect![[r#"
        warning[G020]: the channel `actions` is neither written nor read
          --> g.yaml:26:3
           |
        26 |   actions:   { merge: append }
           |   ^^^^^^^
           = help: remove it

    "#]],
    );
}

#[test]
fn the_digest_is_of_the_meaning() {
    let digest = |text: &str| compiled(text).digest().clone();
    let text = "graph: g\nstate: { a: { default: 1 }, b: { default: 2 } }\nnodes:\n  x: { emit: \"{{ a }}\", then: y }\n  y: { emit: \"{{ b }}\", then: end }\nstart: x\n";
    let base = digest(text);
    let same = [
        "# a comment\nstart: x\nstate:\n  b: { default: 2, description: words }\n  a: { default: 1 }\ndescription: more words\ngraph: g\nnodes:\n  x:\n    then: y\n    emit: '{{ a }}'\n    description: words\n  y: { emit: \"{{ b }}\", then: end }\ntests: [{ name: t }]\n",
    ];
    for other in same {
        assert_eq!(base, digest(other));
    }
    let different = [
        text.replace("then: y", "then: [y, end]"),
        text.replace("{{ a }}", "{{ a + 1 }}"),
        text.replace("default: 2", "default: 3"),
        text.replace("then: end }", "then: end, timeout: 1s }"),
        text.replace("graph: g", "graph: h"),
        "graph: g\nstate: { a: { default: 1 }, b: { default: 2 } }\nnodes:\n  y: { emit: \"{{ b }}\", then: end }\n  x: { emit: \"{{ a }}\", then: y }\nstart: x\n".to_owned(),
    ];
    for other in different {
        assert_ne!(base, digest(&other), "{other}");
    }
}

#[test]
fn aliases_merge_keys_and_byte_order_marks() {
    check_ok(
        "\u{feff}graph: g\nmetadata:\n  common: &common { retry: { attempts: 2 }, then: end }\nnodes:\n  a: { emit: 1, <<: *common }\n  b: { <<: *common, emit: 1, then: a }\nstart: b\n",
    );
    let graph = compiled(
        "graph: g\nmetadata: { c: &c { attempts: 7 } }\nnodes:\n  a: { emit: 1, retry: *c, then: end }\nstart: a\n",
    );
    assert_eq!(graph.nodes()[0].retry[0].attempts, 7);
}

#[test]
fn every_problem_at_once() {
    let text = "graph: g\nstat: {}\nnodes:\n  a: { emit: \"{{ x | nope }}\", retrys: 1, then: bb }\n  b: { emit: \"{{ y }}\", timeout: 5 }\nstart: c\n";
    let errors = check("g.yaml", text.as_bytes(), &OpenCatalog).unwrap_err();
    let codes: Vec<&str> = errors.iter().map(|error| error.code).collect();
    assert_eq!(codes, ["G004", "G016", "G004", "G007", "G013", "G017", "G010", "G007"], "{errors}");
}

#[test]
fn parse_alone_keeps_the_spec() {
    let parsed = parse("g.yaml", b"graph: g\nnodes: { a: { emit: 1, bogus: 1, then: end } }\nstart: a\n");
    assert!(parsed.spec.is_some());
    assert!(parsed.diagnostics.has_errors());
}

#[test]
fn json_diagnostics() {
    let errors =
        check("g.yaml", b"graph: g\nnodes:\n  one: { emit: 1, then: en }\nstart: one\n", &OpenCatalog).unwrap_err();
    expect![[r#"
        [
          {
            "candidates": [
              "end"
            ],
            "code": "G007",
            "column": 25,
            "file": "g.yaml",
            "line": 3,
            "message": "unknown node `en`",
            "severity": "error",
            "source_line": "  one: { emit: 1, then: en }",
            "span": {
              "end": 42,
              "start": 40
            }
          }
        ]"#]]
    .assert_eq(&serde_json::to_string_pretty(&errors.to_json()).unwrap());
}
