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
use crate::expr::types::{Problem, Types};
use crate::resolve::Cx;
use crate::uses::{Use, UsedCode, Wanted};
use crate::yaml::part_of_scalar;

pub(crate) const CODE: &str = "G018";

pub(crate) fn check(cx: &Cx<'_>, types: &Types, uses: &[Use<'_>], findings: &mut Vec<Finding>) {
    for used in uses {
        let mut problems = Vec::new();
        let text = match used.code {
            UsedCode::Expr(expr) => {
                types.check(expr.ast(), wanted(types, used.wanted), &used.extra, &mut problems);
                expr.source()
            }
            UsedCode::Template(code) => {
                types.check_code(code, wanted(types, used.wanted), &used.extra, &mut problems);
                code.source()
            }
        };
        for problem in problems {
            findings.push(finding(cx, used, text, problem));
        }
    }
}

fn wanted<'t>(
    types: &'t Types,
    wanted: Wanted<'_>,
) -> Option<(std::borrow::Cow<'t, crate::expr::types::Type>, String)> {
    types.wanted(wanted)
}

fn finding(cx: &Cx<'_>, used: &Use<'_>, text: &str, problem: Problem) -> Finding {
    let place = part_of_scalar(cx.source, used.span, text, problem.at);
    let finding = Finding::error(CODE, place, problem.message);
    match problem.help {
        Some(help) => finding.help(help),
        None => finding,
    }
    .candidates(problem.candidates)
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
            expect![[""]],
        );
    }

    #[test]
    fn comparisons_and_operators() {
        error(
            "  a: { emit: \"{{ title - 1 }}\", then: [{ when: \"diagnosis.confidence > '0.5'\", to: end }, { when: \"title == 3\", to: end }, { to: end }] }",
            expect![[""]],
        );
    }

    #[test]
    fn fields() {
        error(
            "  a: { emit: [\"{{ diagnosis.confidense }}\", \"{{ count.x }}\", \"{{ diagnosis.steps[0].name }}\", \"{{ log.first }}\"], then: end }",
            expect![[""]],
        );
    }

    #[test]
    fn writes() {
        error(
            "  a: { set: { count: \"{{ title }}\", title: \"{{ count }}\" }, then: b }\n  b: { tool: x.y, output: { log: \"title\", count: \"result.n > 1\" }, then: end }",
            expect![[""]],
        );
    }

    #[test]
    fn unknown_types_pass() {
        check_ok(&format!(
            "{STATE}nodes:\n  a: {{ emit: \"{{{{ free.x.y }}}} {{{{ input.z > 3 }}}}\", then: [{{ when: \"free\", to: end }}, {{ when: \"title == 'x' and count > 2 and diagnosis.confidence >= 0.5\", to: end }}, {{ to: end }}] }}\nstart: a\n"
        ));
    }
}
