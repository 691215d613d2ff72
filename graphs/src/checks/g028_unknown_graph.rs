//! A `graph` or `spawn` node names a graph that does not exist.
//!
//! Checked where the graphs are known. A graph may name itself.
//!
//! Add the file, or correct the name; it is the `graph:` of that file, not the file's name.

use crate::checks::check_names;
use crate::diagnostics::Finding;
use crate::resolve::Cx;
use crate::spec::KindSpec;

pub(crate) const CODE: &str = "G028";

pub(crate) fn check(cx: &Cx<'_>, findings: &mut Vec<Finding>) {
    let named = cx.spec.nodes.iter().filter_map(|node| match &node.kind {
        KindSpec::Graph { graph, .. } => Some(graph),
        KindSpec::Spawn(spawn) => Some(&spawn.graph),
        _ => None,
    });
    let known = cx.catalog.graphs().map(|mut graphs| {
        graphs.push(cx.spec.name.text.clone());
        graphs
    });
    check_names((CODE, "graph"), named, known, findings);
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_with_catalog;

    #[test]
    fn graphs() {
        check_with_catalog(
            "graph: g\nnodes:\n  a: { graph: etl-incidnt, then: b }\n  b: { spawn: { graph: other }, then: c }\n  c: { spawn: { graph: g }, then: end }\nstart: a\n",
            expect![[r#"
                error[G028]: unknown graph `etl-incidnt`
                 --> g.yaml:3:15
                  |
                3 |   a: { graph: etl-incidnt, then: b }
                  |               ^^^^^^^^^^^
                  = help: did you mean `etl-incident`?

                error[G028]: unknown graph `other`
                 --> g.yaml:4:24
                  |
                4 |   b: { spawn: { graph: other }, then: c }
                  |                        ^^^^^
                  = help: known are etl-incident, report, g

            "#]],
        );
    }
}
