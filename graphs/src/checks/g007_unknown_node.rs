//! A node is named that does not exist.
//!
//! `then`, `start`, `to`, `after`, `on_error`, `on_expire` and `on_timeout` name nodes of the same graph. Where
//! the run goes on, `end` ends the path.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   first: { emit: 1, then: secnod }
//!   second: { emit: 2, then: end }
//! start: first
//! ```

use crate::diagnostics::Finding;
use crate::resolve::Cx;
use crate::source::Span;

pub(crate) const CODE: &str = "G007";

pub(crate) fn check(cx: &Cx<'_>, findings: &mut Vec<Finding>) {
    for node in cx.node_refs() {
        let name = &node.name.text;
        if cx.node(name).is_some() || (name == "end" && node.may_end) {
            continue;
        }
        let finding = Finding::error(CODE, node.name.span, format!("unknown node `{name}`"));
        findings.push(match (name.as_str(), cx.candidates(name)) {
            ("end", _) => finding.help("`end` is not a node: here a node of this graph must be named"),
            ("start", _) => finding.help("`start` is not a node: name the node the run starts with"),
            (_, []) if cx.spec.nodes.is_empty() => finding,
            (_, []) => finding.help(known(cx)),
            (_, candidates) => finding.candidates(candidates.to_vec()),
        });
    }
}

/// What is said if a name does not resolve and no check has noticed: a graph is then refused all the same.
pub(crate) fn unresolved() -> Finding {
    Finding::error(CODE, Span::default(), "a name in this graph does not resolve")
        .help("report this: a check is missing")
}

/// A few of the nodes there are.
fn known(cx: &Cx<'_>) -> String {
    const SHOWN_MAX: usize = 10;
    let names: Vec<&str> = cx.spec.nodes.iter().take(SHOWN_MAX).map(|node| node.name.text.as_str()).collect();
    let more = if cx.spec.nodes.len() > SHOWN_MAX { ", …" } else { "" };
    format!("this graph has {}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn misspelt() {
        check_error(
            "graph: g\nnodes:\n  first: { emit: 1, then: secnod }\n  second: { emit: 2, then: end }\nstart: first\n",
            expect![[r#"
                error[G007]: unknown node `secnod`
                 --> g.yaml:3:27
                  |
                3 |   first: { emit: 1, then: secnod }
                  |                           ^^^^^^
                  = help: did you mean `second`?

            "#]],
        );
    }

    #[test]
    fn everywhere() {
        check_error(
            "graph: g\nnodes:\n  a: { emit: 1, on_error: end, then: [{ when: \"true\", to: nope }, { to: end }] }\n  b: { emit: 1, after: [zzzzzz], then: end }\nstart: [a, b]\n",
            expect![[r#"
                error[G007]: unknown node `end`
                 --> g.yaml:3:27
                  |
                3 |   a: { emit: 1, on_error: end, then: [{ when: "true", to: nope }, { to: end }] }
                  |                           ^^^
                  = help: `end` is not a node: here a node of this graph must be named

                error[G007]: unknown node `nope`
                 --> g.yaml:3:59
                  |
                3 |   a: { emit: 1, on_error: end, then: [{ when: "true", to: nope }, { to: end }] }
                  |                                                           ^^^^
                  = help: this graph has a, b

                error[G007]: unknown node `zzzzzz`
                 --> g.yaml:4:25
                  |
                4 |   b: { emit: 1, after: [zzzzzz], then: end }
                  |                         ^^^^^^
                  = help: this graph has a, b

            "#]],
        );
    }
}
