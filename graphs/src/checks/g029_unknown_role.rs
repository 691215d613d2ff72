//! An `agent` node names a role that the installation does not have.
//!
//! Checked where the roles are known.
//!
//! Declare the role in the configuration, or correct the name.

use crate::checks::check_names;
use crate::diagnostics::Finding;
use crate::resolve::Cx;
use crate::spec::KindSpec;

pub(crate) const CODE: &str = "G029";

pub(crate) fn check(cx: &Cx<'_>, findings: &mut Vec<Finding>) {
    let named = cx.spec.nodes.iter().filter_map(|node| match &node.kind {
        KindSpec::Agent { role, .. } => Some(role),
        _ => None,
    });
    check_names((CODE, "role"), named, cx.catalog.roles(), findings);
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_with_catalog;

    #[test]
    fn roles() {
        check_with_catalog(
            "graph: g\nnodes:\n  a: { agent: diagnostc, then: end }\nstart: a\n",
            expect![[r#"
            error[G029]: unknown role `diagnostc`
             --> g.yaml:3:15
              |
            3 |   a: { agent: diagnostc, then: end }
              |               ^^^^^^^^^
              = help: did you mean `diagnostic`?

        "#]],
        );
    }
}
