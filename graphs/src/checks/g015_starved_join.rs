//! A join that waits for a node which a choice can skip.
//!
//! `after: [a, b]` runs once both have finished. If a route can lead to `a` and not to `b`, the join never runs
//! on that path, and the run would end without it and without a word.
//!
//! Let both routes lead to the join with `then`, let the join wait only for what always runs, or use
//! `defer: true`, which waits for whatever is running.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   choose: { emit: 1, then: [{ when: "input.x", to: a }, { to: b }] }
//!   a: { emit: 1 }
//!   b: { emit: 2 }
//!   join: { emit: 3, after: [a, b], then: end }
//! start: choose
//! ```

use std::collections::BTreeSet;

use crate::diagnostics::Finding;
use crate::flow::{Flow, Passed, Point};
use crate::resolve::Cx;
use crate::spec::NodeSpec;

pub(crate) const CODE: &str = "G015";

/// Sources times nodes that are looked at for one graph, so that a huge graph is still checked quickly.
const EFFORT_MAX: usize = 4_000_000;

pub(crate) fn check(cx: &Cx<'_>, flow: &Flow, findings: &mut Vec<Finding>) {
    if flow.is_partial {
        return;
    }
    let reached = flow.reachable(Point::Start);
    let passed = flow.dominators();
    let mut effort = 0;
    for (ix, node) in cx.spec.nodes.iter().enumerate() {
        let sources: BTreeSet<usize> =
            node.after.iter().filter_map(|name| cx.likely_node(&name.text)).map(|of| of.index()).collect();
        effort += sources.len() * cx.spec.nodes.len();
        if sources.len() < 2 || !reached.contains(&Point::Node(ix)) || effort > EFFORT_MAX {
            continue;
        }
        let join = Join { flow, passed: &passed, reached: &reached };
        findings.extend(join.starving(&sources).and_then(|(taken, skipped, at)| finding(cx, node, taken, skipped, at)));
    }
}

struct Join<'a> {
    flow: &'a Flow,
    passed: &'a Passed<'a>,
    reached: &'a BTreeSet<Point>,
}

impl Join<'_> {
    /// A source that a choice takes, one it skips, and where the choice is.
    fn starving(&self, sources: &BTreeSet<usize>) -> Option<(usize, usize, Point)> {
        let certain: Vec<(usize, BTreeSet<Point>)> =
            sources.iter().map(|source| (*source, self.flow.certain(Point::Node(*source)))).collect();
        for point in self.reached {
            for step in self.flow.steps(*point) {
                let runs =
                    |source: usize| certain.iter().any(|(of, points)| *of == source && !step.is_disjoint(points));
                let Some(taken) = sources.iter().copied().find(|source| runs(*source)) else { continue };
                let skipped =
                    sources.iter().copied().find(|source| !runs(*source) && !self.ran_before(*source, *point));
                let beside = |skipped: usize| self.runs_beside(skipped, *point, &certain);
                if let Some(skipped) = skipped.filter(|skipped| !beside(*skipped)) {
                    return Some((taken, skipped, *point));
                }
            }
        }
        None
    }

    /// Whether a source has always run when a point is reached.
    fn ran_before(&self, source: usize, point: Point) -> bool {
        Point::Node(source) == point || self.passed.always(Point::Node(source), point)
    }

    /// Whether some step that leads to a point also starts, beside it, a path that surely runs the source.
    fn runs_beside(&self, source: usize, point: Point, certain: &[(usize, BTreeSet<Point>)]) -> bool {
        let Some((_, certain)) = certain.iter().find(|(of, _)| *of == source) else { return false };
        let before = self.flow.before(point);
        before.iter().filter(|earlier| self.reached.contains(earlier)).any(|earlier| {
            self.flow
                .steps(*earlier)
                .iter()
                .any(|step| step.len() > 1 && !step.is_disjoint(&before) && !step.is_disjoint(certain))
        })
    }
}

fn finding(cx: &Cx<'_>, join: &NodeSpec, taken: usize, skipped: usize, at: Point) -> Option<Finding> {
    let name = |ix: usize| cx.spec.nodes.get(ix).map(|node| node.name.text.as_str());
    let chooser = match at {
        Point::Node(ix) => name(ix)?,
        Point::Start | Point::End => "start",
    };
    let (taken, skipped) = (name(taken)?, name(skipped)?);
    let message = format!(
        "the join `{}` can starve: `{chooser}` can lead to `{taken}` and skip `{skipped}`, for which it waits",
        join.name.text
    );
    let place = join.after.iter().find(|name| name.text == skipped).map_or(join.name.span, |name| name.span);
    Some(Finding::error(CODE, place, message).help(
        "let every route lead to all nodes it waits for, join with `then` instead of `after`, or use `defer: true`",
    ))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::{check_error, check_ok};

    #[test]
    fn one_or_the_other() {
        check_error(
            "graph: g\nnodes:\n  choose: { emit: 1, then: [{ when: \"input.x\", to: a }, { to: b }] }\n  a: { emit: 1 }\n  b: { emit: 2 }\n  join: { emit: 3, after: [a, b], then: end }\nstart: choose\n",
            expect![[r#"
                error[G015]: the join `join` can starve: `choose` can lead to `a` and skip `b`, for which it waits
                 --> g.yaml:6:31
                  |
                6 |   join: { emit: 3, after: [a, b], then: end }
                  |                               ^
                  = help: let every route lead to all nodes it waits for, join with `then` instead of `after`, or use `defer: true`

            "#]],
        );
    }

    #[test]
    fn a_branch_that_may_end_early() {
        check_error(
            "graph: g\nnodes:\n  a: { emit: 1 }\n  maybe: { emit: 1, then: [{ when: \"input.x\", to: b }, { to: end }] }\n  b: { emit: 2 }\n  join: { emit: 3, after: [a, b], then: end }\nstart: [a, maybe]\n",
            expect![[r#"
                error[G015]: the join `join` can starve: `start` can lead to `a` and skip `b`, for which it waits
                 --> g.yaml:6:31
                  |
                6 |   join: { emit: 3, after: [a, b], then: end }
                  |                               ^
                  = help: let every route lead to all nodes it waits for, join with `then` instead of `after`, or use `defer: true`

            "#]],
        );
    }

    #[test]
    fn fine_joins() {
        check_ok(
            "graph: g\nnodes:\n  a: { emit: 1 }\n  b: { emit: 2 }\n  j: { emit: 3, after: [a, b], then: end }\nstart: [a, b]\n",
        );
        check_ok(
            "graph: g\nnodes:\n  c: { emit: 0, then: [{ when: \"input.x\", to: [a, b] }, { to: end }] }\n  a: { emit: 1 }\n  b: { emit: 2 }\n  j: { emit: 3, after: [a, b], then: end }\nstart: c\n",
        );
        check_ok(
            "graph: g\nnodes:\n  a: { emit: 1, then: b }\n  b: { emit: 2, then: c }\n  c: { emit: 2 }\n  j: { emit: 3, after: [a, c], then: end }\nstart: a\n",
        );
        check_ok(
            "graph: g\nnodes:\n  x: { emit: 1, then: [{ when: \"input.x\", to: a }, { to: y }] }\n  y: { emit: 1, then: a }\n  a: { emit: 1 }\n  b: { emit: 2 }\n  j: { emit: 3, after: [a, b], then: end }\nstart: [x, b]\n",
        );
    }
}
