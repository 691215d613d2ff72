//! A `function` node names a function that is not registered with the runtime.
//!
//! Checked where the registered functions are known.
//!
//! Register it, or correct the name.

use crate::checks::check_names;
use crate::diagnostics::Finding;
use crate::resolve::Cx;
use crate::spec::KindSpec;

pub(crate) const CODE: &str = "G027";

pub(crate) fn check(cx: &Cx<'_>, findings: &mut Vec<Finding>) {
    let named = cx.spec.nodes.iter().filter_map(|node| match &node.kind {
        KindSpec::Function(name) => Some(name),
        _ => None,
    });
    check_names((CODE, "function"), named, cx.catalog.functions(), findings);
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_with_catalog;

    #[test]
    fn functions() {
        check_with_catalog(
            "graph: g\nnodes:\n  a: { function: scor, then: end }\nstart: a\n",
            expect![[r#"
            error[G027]: unknown function `scor`
             --> g.yaml:3:18
              |
            3 |   a: { function: scor, then: end }
              |                  ^^^^
              = help: did you mean `score`?

        "#]],
        );
    }
}
