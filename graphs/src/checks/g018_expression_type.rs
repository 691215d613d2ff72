//! An expression can only give a value of the wrong type.
//!
//! The types of channels come from their JSON Schemas and reducers. `when` and `expect` must give true or false,
//! `gate` a number, `over` a list; a value that is written must fit its channel. Comparing a number with text,
//! or taking a field of a number, is always a mistake. Where a type is not known, nothing is reported.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! state:
//!   score: { schema: { type: number }, default: 0 }
//! nodes:
//!   a: { emit: 1, then: [{ when: "score > 'high'", to: end }, { to: end }] }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::expr::types::Types;
use crate::resolve::Cx;
use crate::uses::{Use, UsedCode};
use crate::yaml::part_of_scalar;

pub(crate) const CODE: &str = "G018";

pub(crate) fn check(cx: &Cx<'_>, types: &Types<'_>, uses: &[Use<'_>], findings: &mut Vec<Finding>) {
    for used in uses {
        let (text, problems) = match used.code {
            UsedCode::Expr(expr) => (expr.source(), types.check(expr.source(), expr.ast(), used.wanted, &used.extra)),
            UsedCode::Template(code) => (code.source(), types.check_code(code, used.wanted, &used.extra)),
        };
        for problem in problems {
            let place = part_of_scalar(cx.source, used.span, text, problem.at);
            findings.push(Finding::error(CODE, place, problem.message).candidates(problem.candidates));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::{check_error, check_ok};

    const STATE: &str = "graph: g
schemas:
  Diagnosis:
    type: object
    additionalProperties: false
    properties:
      confidence: { type: number }
      summary: { type: string }
      steps: { type: array, items: { type: object, properties: { id: { type: string } }, additionalProperties: false } }
state:
  diagnosis: { schema: { $ref: \"#/schemas/Diagnosis\" }, default: {} }
  count: { merge: sum, default: 0 }
  log: { merge: append, default: [] }
  title: { schema: { type: string }, default: \"\" }
  free: { default: 1 }
";

    fn error(nodes: &str, expected: expect_test::Expect) {
        check_error(&format!("{STATE}nodes:\n{nodes}\nstart: a\n"), expected);
    }

    #[test]
    fn wanted_types() {
        error(
            "  a: { emit: 1, then: [{ when: diagnosis.confidence, to: b }, { to: c }] }\n  b: { gate: title, bands: [{ then: c }] }\n  c: { map: { over: count, as: x, to: d } }\n  d: { emit: 1 }",
            expect![[r#"
                error[G018]: `diagnosis.confidence` must be true or false, but it is a number
                  --> g.yaml:17:32
                   |
                17 |   a: { emit: 1, then: [{ when: diagnosis.confidence, to: b }, { to: c }] }
                   |                                ^^^^^^^^^^^^^^^^^^^^

                error[G018]: `title` must be a number, but it is text
                  --> g.yaml:18:14
                   |
                18 |   b: { gate: title, bands: [{ then: c }] }
                   |              ^^^^^

                error[G018]: `count` must be a list, but it is a number
                  --> g.yaml:19:21
                   |
                19 |   c: { map: { over: count, as: x, to: d } }
                   |                     ^^^^^

            "#]],
        );
    }

    #[test]
    fn comparisons_and_operators() {
        error(
            "  a: { emit: \"{{ title - 1 }}\", then: [{ when: \"diagnosis.confidence > '0.5'\", to: end }, { when: \"title == 3\", to: end }, { to: end }] }",
            expect![[r#"
                error[G018]: `-` does not work on text and a number
                  --> g.yaml:17:18
                   |
                17 |   a: { emit: "{{ title - 1 }}", then: [{ when: "diagnosis.confidence > '0.5'", to: end }, { when: "title == 3", to: end }, { to: end }] }
                   |                  ^^^^^^^^^

                error[G018]: `>` cannot compare them: `diagnosis.confidence` is a number, `'0.5'` is text
                  --> g.yaml:17:49
                   |
                17 |   a: { emit: "{{ title - 1 }}", then: [{ when: "diagnosis.confidence > '0.5'", to: end }, { when: "title == 3", to: end }, { to: end }] }
                   |                                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^

                error[G018]: the two sides of `==` can never be equal: `title` is text, `3` is a number
                  --> g.yaml:17:100
                   |
                17 |   a: { emit: "{{ title - 1 }}", then: [{ when: "diagnosis.confidence > '0.5'", to: end }, { when: "title == 3", to: end }, { to: end }] }
                   |                                                                                                    ^^^^^^^^^^

            "#]],
        );
    }

    #[test]
    fn fields() {
        error(
            "  a: { emit: [\"{{ diagnosis.confidense }}\", \"{{ count.x }}\", \"{{ diagnosis.steps[0].name }}\", \"{{ log.first }}\"], then: end }",
            expect![[r#"
                error[G018]: `diagnosis` has no field `confidense`: its schema allows no other fields
                  --> g.yaml:17:19
                   |
                17 |   a: { emit: ["{{ diagnosis.confidense }}", "{{ count.x }}", "{{ diagnosis.steps[0].name }}", "{{ log.first }}"], then: end }
                   |                   ^^^^^^^^^^^^^^^^^^^^
                   = help: did you mean `confidence`?

                error[G018]: `count` is a number and has no field `x`
                  --> g.yaml:17:49
                   |
                17 |   a: { emit: ["{{ diagnosis.confidense }}", "{{ count.x }}", "{{ diagnosis.steps[0].name }}", "{{ log.first }}"], then: end }
                   |                                                 ^^^^^^^

                error[G018]: `diagnosis.steps[0]` has no field `name`: its schema allows no other fields
                  --> g.yaml:17:66
                   |
                17 |   a: { emit: ["{{ diagnosis.confidense }}", "{{ count.x }}", "{{ diagnosis.steps[0].name }}", "{{ log.first }}"], then: end }
                   |                                                                  ^^^^^^^^^^^^^^^^^^^^^^^

                error[G018]: `log` is a list and has no field `first`
                  --> g.yaml:17:99
                   |
                17 |   a: { emit: ["{{ diagnosis.confidense }}", "{{ count.x }}", "{{ diagnosis.steps[0].name }}", "{{ log.first }}"], then: end }
                   |                                                                                                   ^^^^^^^^^

            "#]],
        );
    }

    #[test]
    fn writes() {
        error(
            "  a: { set: { count: \"{{ title }}\", title: \"{{ count }}\" }, then: b }\n  b: { tool: x.y, output: { log: \"title\", count: \"result.n > 1\" }, then: end }",
            expect![[r#"
                error[G018]: `title` is written to the channel `count`, which takes a number, but it is text
                  --> g.yaml:17:26
                   |
                17 |   a: { set: { count: "{{ title }}", title: "{{ count }}" }, then: b }
                   |                          ^^^^^

                error[G018]: `count` is written to the channel `title`, which takes text, but it is a number
                  --> g.yaml:17:48
                   |
                17 |   a: { set: { count: "{{ title }}", title: "{{ count }}" }, then: b }
                   |                                                ^^^^^

                error[G018]: `result.n > 1` is written to the channel `count`, which takes a number, but it is true or false
                  --> g.yaml:18:51
                   |
                18 |   b: { tool: x.y, output: { log: "title", count: "result.n > 1" }, then: end }
                   |                                                   ^^^^^^^^^^^^

            "#]],
        );
    }

    #[test]
    fn unknown_types_pass() {
        check_ok(&format!(
            "{STATE}nodes:\n  a: {{ emit: \"{{{{ free.x.y }}}} {{{{ input.z > 3 }}}} {{{{ log }}}}\", then: [{{ when: \"free\", to: end }}, {{ when: \"title == 'x' and count > 2 and diagnosis.confidence >= 0.5\", to: end }}, {{ to: end }}] }}\nstart: a\n"
        ));
    }
}
