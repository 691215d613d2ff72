//! A cycle that nothing leads out of.
//!
//! Whatever is chosen, the run goes round until `limits.recursion` stops it. A cycle needs a way out: a route,
//! a band or an expiry that leads to a node outside of it or to `end`.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   poll: { tool: jobs.status, then: rest }
//!   rest: { wait: 10s, then: poll }
//! start: poll
//! ```

use std::collections::BTreeSet;

use crate::diagnostics::Finding;
use crate::flow::{Flow, Point};
use crate::resolve::Cx;

pub(crate) const CODE: &str = "G014";

/// Nodes of a cycle that are named.
const SHOWN_MAX: usize = 8;

pub(crate) fn check(cx: &Cx<'_>, flow: &Flow, findings: &mut Vec<Finding>) {
    if flow.is_partial {
        return;
    }
    let reached = flow.reachable(Point::Start);
    for cycle in flow.cycles() {
        let in_use = cycle.iter().any(|point| reached.contains(point));
        if in_use && !has_exit(flow, &cycle) {
            findings.extend(finding(cx, &cycle));
        }
    }
}

/// Whether some choice at some node of the cycle leads to no node of the cycle.
fn has_exit(flow: &Flow, cycle: &BTreeSet<Point>) -> bool {
    cycle.iter().any(|point| {
        let steps = flow.steps(*point);
        steps.is_empty() || steps.iter().any(|step| step.is_disjoint(cycle))
    })
}

fn finding(cx: &Cx<'_>, cycle: &BTreeSet<Point>) -> Option<Finding> {
    let nodes = cycle.iter().filter_map(|point| match point {
        Point::Node(ix) => cx.spec.nodes.get(*ix),
        Point::Start | Point::End => None,
    });
    let nodes: Vec<_> = nodes.collect();
    let mut names: Vec<&str> = nodes.iter().take(SHOWN_MAX).map(|node| node.name.text.as_str()).collect();
    if nodes.len() > SHOWN_MAX {
        names.push("…");
    }
    let first = nodes.first()?;
    let message = format!("the cycle {} has no exit", names.join(" → "));
    Some(
        Finding::error(CODE, first.name.span, message)
            .help("give one of its nodes a route with `when` that leads out of the cycle or to `end`"),
    )
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::{check_error, check_ok};

    #[test]
    fn endless() {
        check_error(
            "graph: g\nnodes:\n  poll: { tool: jobs.status, then: rest }\n  rest: { wait: 10s, then: poll }\nstart: poll\n",
            expect![[r#"
                error[G014]: the cycle poll → rest has no exit
                 --> g.yaml:3:3
                  |
                3 |   poll: { tool: jobs.status, then: rest }
                  |   ^^^^
                  = help: give one of its nodes a route with `when` that leads out of the cycle or to `end`

            "#]],
        );
        check_error(
            "graph: g\nnodes:\n  a: { emit: 1, then: a }\nstart: a\n",
            expect![[r#"
            error[G014]: the cycle a has no exit
             --> g.yaml:3:3
              |
            3 |   a: { emit: 1, then: a }
              |   ^
              = help: give one of its nodes a route with `when` that leads out of the cycle or to `end`

        "#]],
        );
    }

    #[test]
    fn going_on_and_leaving_at_once_is_no_exit() {
        check_error(
            "graph: g\nnodes:\n  a: { emit: 1, then: [b, end] }\n  b: { emit: 1, then: a }\nstart: a\n",
            expect![[r#"
                error[G014]: the cycle a → b has no exit
                 --> g.yaml:3:3
                  |
                3 |   a: { emit: 1, then: [b, end] }
                  |   ^
                  = help: give one of its nodes a route with `when` that leads out of the cycle or to `end`

            "#]],
        );
    }

    #[test]
    fn exits() {
        check_ok(
            "graph: g\nnodes:\n  a: { tool: x.y, then: [{ when: \"result.ok\", to: end }, { to: b }] }\n  b: { wait: 1s, then: a }\nstart: a\n",
        );
        check_ok(
            "graph: g\nnodes:\n  a: { gate: input.score, bands: [{ at_least: 0.5, then: end }, { then: a }] }\nstart: a\n",
        );
    }
}
