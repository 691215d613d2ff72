//! A path ends at a node that does not say so.
//!
//! A node without `then`, for which no other node waits with `after`, would end its path without a word. Since a
//! forgotten `then` looks the same, the end must be written.
//!
//! Write `then: end`, or name the node that follows.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   a: { emit: 1 }
//! start: a
//! ```

use std::collections::BTreeSet;

use crate::diagnostics::Finding;
use crate::node::NodeIx;
use crate::resolve::Cx;
use crate::spec::{KindSpec, RoutingSpec};

pub(crate) const CODE: &str = "G013";

pub(crate) fn check(cx: &Cx<'_>, findings: &mut Vec<Finding>) {
    let sent_to: BTreeSet<NodeIx> = cx.spec.nodes.iter().filter_map(|node| map_target(cx, &node.kind)).collect();
    for (node, ix) in cx.spec.nodes.iter().zip(0..) {
        let ix = NodeIx(ix);
        let ends_by_itself =
            matches!(node.kind, KindSpec::Broken | KindSpec::Fail { .. } | KindSpec::Gate { .. } | KindSpec::Map(_));
        let goes_on = !matches!(node.then, RoutingSpec::Unset) || !cx.waiters(ix).is_empty() || sent_to.contains(&ix);
        if !ends_by_itself && !goes_on {
            let message = format!("dead end: nothing follows the node `{}`", node.name.text);
            findings.push(
                Finding::error(CODE, node.name.span, message).help("write `then: end`, or name the node that follows"),
            );
        }
    }
}

/// The tasks a `map` sends end where they are sent, unless their node says more.
fn map_target(cx: &Cx<'_>, kind: &KindSpec) -> Option<NodeIx> {
    match kind {
        KindSpec::Map(map) => cx.likely_node(&map.to.text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::{check_error, check_ok};

    #[test]
    fn dead_end() {
        check_error(
            "graph: g\nnodes:\n  a: { emit: 1, then: b }\n  b: { emit: 2 }\nstart: a\n",
            expect![[r#"
            error[G013]: dead end: nothing follows the node `b`
             --> g.yaml:4:3
              |
            4 |   b: { emit: 2 }
              |   ^
              = help: write `then: end`, or name the node that follows

        "#]],
        );
    }

    #[test]
    fn not_a_dead_end() {
        check_ok(
            "graph: g\nnodes:\n  m: { map: { over: \"[1, 2]\", as: x, to: w } }\n  w: { emit: \"{{ x }}\" }\n  a: { emit: 1 }\n  j: { fail: broken, after: a }\nstart: [m, a]\n",
        );
    }
}
