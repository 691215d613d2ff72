//! An approval, or the record of a tool node, names an approver or a group of approvers that the installation does not have.
//!
//! Checked where the approvers are known. With an unknown name nobody could answer, and the run would wait until
//! the question expires.
//!
//! Declare the group in the configuration, or correct the name.

use crate::checks::check_names;
use crate::diagnostics::Finding;
use crate::resolve::Cx;
use crate::spec::KindSpec;

pub(crate) const CODE: &str = "G030";

pub(crate) fn check(cx: &Cx<'_>, findings: &mut Vec<Finding>) {
    let named = cx.spec.nodes.iter().flat_map(|node| match &node.kind {
        KindSpec::Approval(approval) => approval.approvers.as_slice(),
        KindSpec::Tool(tool) => tool.record.as_ref().map_or(&[][..], |record| record.approvers.as_slice()),
        _ => &[],
    });
    check_names((CODE, "approver"), named, cx.catalog.approvers(), findings);
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_with_catalog;

    #[test]
    fn approvers() {
        check_with_catalog(
            "graph: g\nnodes:\n  a: { approval: { title: ok, approvers: [\"group:data-oncal\"] }, then: end }\nstart: a\n",
            expect![[r#"
                error[G030]: unknown approver `group:data-oncal`
                 --> g.yaml:3:43
                  |
                3 |   a: { approval: { title: ok, approvers: ["group:data-oncal"] }, then: end }
                  |                                           ^^^^^^^^^^^^^^^^^^
                  = help: did you mean `group:data-oncall`?

            "#]],
        );
    }
}
