//! A tool node has a `record` and no `verify`, so nothing would ever prove whether its act healed.
//!
//! A record counts what the runtime's own check found after the act: it held, or it did not and the act was taken back.
//! Without a check every act would count as a heal, and the class would soon be trusted for nothing.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   a: { tool: pipes.clear, record: { class: clear, at_least: 0.80 }, then: end }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::resolve::Cx;
use crate::spec::KindSpec;

pub(crate) const CODE: &str = "G037";

pub(crate) fn check(cx: &Cx<'_>, findings: &mut Vec<Finding>) {
    for node in &cx.spec.nodes {
        let KindSpec::Tool(tool) = &node.kind else { continue };
        if let (Some(record), None) = (&tool.record, &tool.verify) {
            let message = format!("node `{}` has a `record` and no `verify`", node.name.text);
            let help = "add `verify`: a record counts what a check proved, or remove `record`";
            findings.push(Finding::error(CODE, record.span, message).help(help));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::{check_error, check_ok, check_with_catalog};

    #[test]
    fn a_record_needs_a_proof() {
        check_error(
            "graph: g\nnodes:\n  a: { tool: p.clear, record: { class: clear, at_least: 0.8 }, then: end }\nstart: a\n",
            expect![[r#"
                error[G037]: node `a` has a `record` and no `verify`
                 --> g.yaml:3:23
                  |
                3 |   a: { tool: p.clear, record: { class: clear, at_least: 0.8 }, then: end }
                  |                       ^^^^^^
                  = help: add `verify`: a record counts what a check proved, or remove `record`

            "#]],
        );
    }

    #[test]
    fn what_a_record_says_is_checked() {
        check_error(
            "graph: g\nnodes:\n  a:\n    tool: p.clear\n    verify: { tool: p.state, expect: result.ok }\n    record: { clas: x, at_leest: 0.8, prior: { heeled: 3, failed: 0 } }\n    then: b\n  b: { emit: 1, record: { class: x }, then: end }\nstart: a\n",
            expect![[r#"
                error[G005]: `record` needs the key `class`
                 --> g.yaml:6:5
                  |
                6 |     record: { clas: x, at_leest: 0.8, prior: { heeled: 3, failed: 0 } }
                  |     ^^^^^^
                  = help: `class`: The class whose outcomes are counted, such as the name of a remedy.

                error[G004]: `record` has no key `clas`
                 --> g.yaml:6:15
                  |
                6 |     record: { clas: x, at_leest: 0.8, prior: { heeled: 3, failed: 0 } }
                  |               ^^^^
                  = help: did you mean `class`?

                error[G004]: `record` has no key `at_leest`
                 --> g.yaml:6:24
                  |
                6 |     record: { clas: x, at_leest: 0.8, prior: { heeled: 3, failed: 0 } }
                  |                        ^^^^^^^^
                  = help: did you mean `at_least`?

                error[G005]: `prior` needs the key `healed`
                 --> g.yaml:6:39
                  |
                6 |     record: { clas: x, at_leest: 0.8, prior: { heeled: 3, failed: 0 } }
                  |                                       ^^^^^
                  = help: `healed`: Acts that healed.

                error[G004]: `prior` has no key `heeled`
                 --> g.yaml:6:48
                  |
                6 |     record: { clas: x, at_leest: 0.8, prior: { heeled: 3, failed: 0 } }
                  |                                                ^^^^^^
                  = help: did you mean `healed`?

                error[G031]: `record` belongs to `tool` nodes, and this one is `emit`
                 --> g.yaml:8:17
                  |
                8 |   b: { emit: 1, record: { class: x }, then: end }
                  |                 ^^^^^^
                  = help: remove it

            "#]],
        );
        check_error(
            "graph: g\nnodes:\n  a:\n    tool: p.clear\n    verify: { tool: p.state, expect: result.ok }\n    record: { class: x, at_least: 80, confidence: \"'high'\", prior: 5 }\n    then: b\n  b:\n    tool: p.clear\n    verify: { tool: p.state, expect: result.ok }\n    record: { class: \"{{ who }}\", approvers: ana, expires: 5m }\n    then: end\nstart: a\n",
            expect![[r#"
                error[G032]: `at_least` must be at most 1
                 --> g.yaml:6:35
                  |
                6 |     record: { class: x, at_least: 80, confidence: "'high'", prior: 5 }
                  |                                   ^^

                error[G018]: `'high'` must be a number, but it is text
                 --> g.yaml:6:52
                  |
                6 |     record: { class: x, at_least: 80, confidence: "'high'", prior: 5 }
                  |                                                    ^^^^^^

                error[G006]: `prior` must be `{ healed, failed }`, or one `{{ expression }}` that gives it, not a number
                 --> g.yaml:6:68
                  |
                6 |     record: { class: x, at_least: 80, confidence: "'high'", prior: 5 }
                  |                                                                    ^

                error[G017]: unknown variable `who`
                  --> g.yaml:11:26
                   |
                11 |     record: { class: "{{ who }}", approvers: ana, expires: 5m }
                   |                          ^^^
                   = help: declare a channel under `state:`, or a variable under `with:`

                error[G031]: `approvers` has no effect on a record without `at_least`
                  --> g.yaml:11:35
                   |
                11 |     record: { class: "{{ who }}", approvers: ana, expires: 5m }
                   |                                   ^^^^^^^^^
                   = help: such a record counts and asks nobody; add `at_least`, or remove it

                error[G031]: `expires` has no effect on a record without `at_least`
                  --> g.yaml:11:51
                   |
                11 |     record: { class: "{{ who }}", approvers: ana, expires: 5m }
                   |                                                   ^^^^^^^
                   = help: such a record counts and asks nobody; add `at_least`, or remove it

            "#]],
        );
        check_with_catalog(
            "graph: g\nnodes:\n  a:\n    tool: airflow.clear\n    verify: { tool: airflow.runs, expect: result.ok }\n    record: { class: x, at_least: 0.8, approvers: \"group:data-oncal\" }\n    then: end\nstart: a\n",
            expect![[r#"
                error[G030]: unknown approver `group:data-oncal`
                 --> g.yaml:6:51
                  |
                6 |     record: { class: x, at_least: 0.8, approvers: "group:data-oncal" }
                  |                                                   ^^^^^^^^^^^^^^^^^^
                  = help: did you mean `group:data-oncall`?

            "#]],
        );
    }

    #[test]
    fn a_whole_record_is_fine() {
        check_ok(
            "graph: g\nstate: { plan: { default: {} }, sure: { default: 1 } }\nnodes:\n  a:\n    tool: p.clear\n    verify: { tool: p.state, expect: result.ok }\n    record: { class: \"{{ plan.remedy }}\", at_least: 0.80, confidence: sure, prior: \"{{ plan.prior }}\", heals: false, approvers: [ana], expires: 30m }\n    then: b\n  b:\n    tool: p.run\n    verify: { tool: p.state, expect: result.ok }\n    record: { class: \"{{ plan.remedy }}\", confidence: sure }\n    then: end\nstart: a\n",
        );
    }
}
