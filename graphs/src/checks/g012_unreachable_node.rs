//! A node that no path from `start` leads to.
//!
//! It would never run. Usually a `then` was forgotten or names the wrong node.
//!
//! Lead a path to it or remove it.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   a: { emit: 1, then: end }
//!   b: { emit: 2, then: end }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::flow::{Flow, Point};
use crate::resolve::Cx;

pub(crate) const CODE: &str = "G012";

pub(crate) fn check(cx: &Cx<'_>, flow: &Flow, findings: &mut Vec<Finding>) {
    if flow.is_partial {
        return;
    }
    let reached = flow.reachable(Point::Start);
    for (ix, node) in cx.spec.nodes.iter().enumerate() {
        if !reached.contains(&Point::Node(ix)) {
            let message = format!("the node `{}` is unreachable: no path from `start` leads to it", node.name.text);
            findings.push(
                Finding::error(CODE, node.name.span, message)
                    .help("name it in a `then`, `after` or `on_error`, or remove it"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::{check_error, check_ok};

    #[test]
    fn unreachable() {
        check_error(
            "graph: g\nnodes:\n  a: { emit: 1, then: end }\n  b: { emit: 2, then: c }\n  c: { emit: 3, then: b }\nstart: a\n",
            expect![[r#"
                error[G012]: the node `b` is unreachable: no path from `start` leads to it
                 --> g.yaml:4:3
                  |
                4 |   b: { emit: 2, then: c }
                  |   ^
                  = help: name it in a `then`, `after` or `on_error`, or remove it

                error[G012]: the node `c` is unreachable: no path from `start` leads to it
                 --> g.yaml:5:3
                  |
                5 |   c: { emit: 3, then: b }
                  |   ^
                  = help: name it in a `then`, `after` or `on_error`, or remove it

            "#]],
        );
    }

    #[test]
    fn handlers_and_joins_are_reached() {
        check_ok(
            "graph: g\nnodes:\n  a: { tool: x.y, on_error: h, then: end }\n  h: { emit: 2, then: end }\n  j: { emit: 3, after: a, then: end }\nstart: a\n",
        );
    }
}
