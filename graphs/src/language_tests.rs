//! Tests of the language as a whole.

use expect_test::{Expect, expect};

use crate::checks::testing::check_ok;
use crate::{CompiledGraph, Kind, Merge, OpenCatalog, SetValue, check, parse};

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

#[test]
fn a_large_graph_is_checked() {
    let n_nodes = 5_000;
    let mut text = "graph: g\nnodes:\n".to_owned();
    for ix in 0..n_nodes {
        let next = if ix + 1 < n_nodes { format!("n{}", ix + 1) } else { "end".to_owned() };
        text.push_str(&format!("  n{ix}: {{ emit: 1, then: {next} }}\n"));
    }
    text.push_str("start: n0\n");
    assert_eq!(compiled(&text).nodes().len(), n_nodes);
}

#[test]
fn defaults_reach_every_node_and_its_own_policy_wins() {
    let graph = compiled(
        "graph: g\ndefaults: { retry: { attempts: 5 }, timeout: 30s, on_error: h, breaker: {} }\nnodes:\n  a: { tool: x.y, timeout: { idle: 5s }, then: end }\n  h: { emit: 1, then: end }\nstart: a\n",
    );
    let (a, h) = (graph.node_by_name("a").unwrap(), graph.node_by_name("h").unwrap());
    assert_eq!((a.retry[0].attempts, a.timeout.run, a.on_error), (5, None, Some(h.ix)));
    assert_eq!((h.retry[0].attempts, h.timeout.run.map(|run| run.as_secs()), h.on_error), (5, Some(30), None));
    assert_eq!(a.breaker.map(|breaker| (breaker.failures, breaker.cooldown.as_secs())), Some((3, 900)));
}

#[test]
fn waiters_and_positions() {
    let graph = compiled(
        "graph: g\nstate: { x: { merge: sum } }\nnodes:\n  j: { emit: 1, after: [a, b], then: end }\n  a: { set: { x: { overwrite: 1 } } }\n  b: { set: { x: 2 } }\nstart: [a, b]\n",
    );
    let ix = |name: &str| graph.node_ix(name).unwrap();
    assert_eq!(graph.waiters(ix("a")), [ix("j")]);
    assert_eq!(graph.waiters(ix("j")), []);
    assert_eq!(graph.nodes().iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["j", "a", "b"]);
    assert!(
        matches!(&graph.node_by_name("a").unwrap().kind, Kind::Set(writes) if matches!(writes[0].1, SetValue::Overwrite(_)))
    );
    assert_eq!(graph.channel("x").map(|(ix, channel)| (ix.index(), &channel.merge)), Some((0, &Merge::Sum)));
    assert_eq!(graph.limits().recursion, 1_000);
}

#[test]
fn a_compiled_graph_can_be_shared() {
    fn is_shared<T: Send + Sync + 'static>() {}
    is_shared::<CompiledGraph>();
    is_shared::<crate::Expr>();
    is_shared::<crate::Template>();
    is_shared::<crate::Schema>();
    is_shared::<crate::Diagnostics>();
}
