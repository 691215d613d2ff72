//! An expression or template that cannot be read, or that uses something graph expressions do not have.
//!
//! Expressions are minijinja's, without what could reach outside of the values in scope: no macros, includes,
//! methods or calls except `range`. Filters and tests are a fixed list. `when`, `gate`, `over`, `expect` and the
//! values of `output` are expressions and take no `{{ }}`; everywhere else text may hold `{{ expression }}`.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   a: { emit: "{{ input.x | uper }}", then: end }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::source::Span;

pub(crate) const CODE: &str = "G016";

pub(crate) fn syntax(span: Span, problem: &str) -> Finding {
    Finding::error(CODE, span, format!("in this expression: {problem}"))
}

pub(crate) fn braces(span: Span, key: &str) -> Finding {
    Finding::error(CODE, span, format!("`{key}` is already an expression")).help("write it without `{{` and `}}`")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn places_inside_yaml() {
        check_error(
            "graph: g\nnodes:\n  a:\n    emit:\n      deep: [\"x {{ input.x | uper }}\"]\n    then:\n      - { when: 'input.a == == 2', to: end }\n      - { to: end }\nstart: a\n",
            expect![[r#"
                error[G016]: in this expression: unknown filter `uper`; did you mean `upper`?
                 --> g.yaml:5:30
                  |
                5 |       deep: ["x {{ input.x | uper }}"]
                  |                              ^^^^

                error[G016]: in this expression: unexpected `==`
                 --> g.yaml:7:29
                  |
                7 |       - { when: 'input.a == == 2', to: end }
                  |                             ^^

            "#]],
        );
    }

    #[test]
    fn in_block_scalars_and_escapes() {
        check_error(
            "graph: g\nnodes:\n  a:\n    emit: |\n      first line\n      then {{ input.x | uper }}\n    then: b\n  b: { emit: \"a\\tb {{ nope() }}\", then: end }\nstart: a\n",
            expect![[r#"
                error[G016]: in this expression: unknown filter `uper`; did you mean `upper`?
                 --> g.yaml:6:25
                  |
                6 |       then {{ input.x | uper }}
                  |                         ^^^^

                error[G016]: in this expression: unknown function `nope`
                 --> g.yaml:8:23
                  |
                8 |   b: { emit: "a\tb {{ nope() }}", then: end }
                  |                       ^^^^

            "#]],
        );
    }

    #[test]
    fn braces() {
        check_error(
            "graph: g\nnodes:\n  a: { gate: \"{{ input.x }}\", bands: [{ then: end }] }\nstart: a\n",
            expect![[r#"
            error[G016]: `gate` is already an expression
             --> g.yaml:3:14
              |
            3 |   a: { gate: "{{ input.x }}", bands: [{ then: end }] }
              |              ^^^^^^^^^^^^^^^
              = help: write it without `{{` and `}}`

        "#]],
        );
    }
}
