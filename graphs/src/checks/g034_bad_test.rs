//! A test of the graph file names a node or channel that does not exist.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   a: { emit: 1, then: end }
//! start: a
//! tests:
//!   - { name: runs, expect: { path: [b] } }
//! ```

use crate::diagnostics::Finding;
use crate::names::nearest;
use crate::resolve::Cx;
use crate::spec::Name;

pub(crate) const CODE: &str = "G034";

pub(crate) fn check(cx: &Cx<'_>, findings: &mut Vec<Finding>) {
    for test in &cx.spec.tests {
        for name in &test.nodes {
            // A path may name nodes of subgraphs, which are not known here.
            let elsewhere = name.text.contains([':', '/', '|']);
            if cx.node(&name.text).is_none() && !elsewhere && !matches!(name.text.as_str(), "start" | "end") {
                findings.push(unknown("node", name, cx.node_names()));
            }
        }
        for name in &test.channels {
            if cx.channel(&name.text).is_none() {
                findings.push(unknown("channel", name, cx.channel_names()));
            }
        }
    }
}

fn unknown<'n>(what: &str, name: &Name, known: impl Iterator<Item = &'n str>) -> Finding {
    Finding::error(CODE, name.span, format!("the test names an unknown {what} `{}`", name.text))
        .candidates(nearest(&name.text, known))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn an_answer_chooses_or_says_that_nobody_answers() {
        check_error(
            "graph: g\nnodes:\n  a: { approval: { title: t, expires: 1h }, then: end }\nstart: a\ntests:\n  - name: runs\n    answers: [{ node: a }, { node: a, expires: true }]\n    expect: { arguments: [{ tool: w.q, arg: {} }] }\n",
            expect![[r#"
                error[G005]: an answer needs the key `choice`
                 --> g.yaml:7:15
                  |
                7 |     answers: [{ node: a }, { node: a, expires: true }]
                  |               ^^^^^^^^^^^
                  = help: `choice`: The choice, or `expires: true`.

                error[G005]: a call that is expected needs the key `args`
                 --> g.yaml:8:27
                  |
                8 |     expect: { arguments: [{ tool: w.q, arg: {} }] }
                  |                           ^^^^^^^^^^^^^^^^^^^^^^
                  = help: `args`: Arguments it is called with; others may be there too.

                error[G004]: a call that is expected has no key `arg`
                 --> g.yaml:8:40
                  |
                8 |     expect: { arguments: [{ tool: w.q, arg: {} }] }
                  |                                        ^^^
                  = help: did you mean `args`?

            "#]],
        );
    }

    #[test]
    fn names() {
        check_error(
            "graph: g\nstate: { total: { merge: sum } }\nnodes:\n  first: { set: { total: 1 }, then: end }\nstart: first\ntests:\n  - name: runs\n    agents: { frist: [1] }\n    answers: [{ node: x, choice: approve }]\n    expect: { path: [frist], state: { totl: 1 } }\n",
            expect![[r#"
                error[G034]: the test names an unknown node `frist`
                 --> g.yaml:8:15
                  |
                8 |     agents: { frist: [1] }
                  |               ^^^^^
                  = help: did you mean `first`?

                error[G034]: the test names an unknown node `x`
                 --> g.yaml:9:23
                  |
                9 |     answers: [{ node: x, choice: approve }]
                  |                       ^

                error[G034]: the test names an unknown node `frist`
                  --> g.yaml:10:22
                   |
                10 |     expect: { path: [frist], state: { totl: 1 } }
                   |                      ^^^^^
                   = help: did you mean `first`?

                error[G034]: the test names an unknown channel `totl`
                  --> g.yaml:10:39
                   |
                10 |     expect: { path: [frist], state: { totl: 1 } }
                   |                                       ^^^^
                   = help: did you mean `total`?

            "#]],
        );
    }
}
