//! A value of the wrong type: text where a list is needed, a number where a name is needed.
//!
//! YAML 1.2 is read strictly. `yes`, `no`, `on` and `off` are text, not booleans; `1.10` is the number 1.1.
//!
//! Write `true` or `false` for flags, and quote names and versions that look like numbers.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   a: { emit: 1, defer: yes, then: end }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::source::Span;

pub(crate) const CODE: &str = "G006";

pub(crate) fn wrong_type(span: Span, what: &str, wanted: &str, found: &str) -> Finding {
    let finding = Finding::error(CODE, span, format!("{what} must be {wanted}, not {found}"));
    match (wanted, found) {
        ("true or false", "text") => finding.help("write `true` or `false`; `yes`, `no`, `on` and `off` are text"),
        ("text" | "a name", "a number" | "true or false") => finding.help("quote it if it is meant as text"),
        _ => finding,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn strict_booleans() {
        check_error(
            "graph: g\nnodes:\n  a: { emit: 1, defer: yes, then: end }\nstart: a\n",
            expect![[r#"
            error[G006]: `defer` must be true or false, not text
             --> g.yaml:3:24
              |
            3 |   a: { emit: 1, defer: yes, then: end }
              |                        ^^^
              = help: write `true` or `false`; `yes`, `no`, `on` and `off` are text

        "#]],
        );
    }

    #[test]
    fn not_a_mapping() {
        check_error(
            "just text\n",
            expect![[r#"
            error[G006]: a graph must be a mapping, not text
             --> g.yaml:1:1
              |
            1 | just text
              | ^^^^^^^^^

        "#]],
        );
        check_error(
            "graph: g\nnodes: [a, b]\nstart: a\n",
            expect![[r#"
                error[G006]: `nodes` must be a mapping, not a list
                 --> g.yaml:2:8
                  |
                2 | nodes: [a, b]
                  |        ^^^^^^

                error[G007]: unknown node `a`
                 --> g.yaml:3:8
                  |
                3 | start: a
                  |        ^

            "#]],
        );
    }

    #[test]
    fn routing() {
        check_error(
            "graph: 7\nnodes:\n  a: { emit: 1, then: { to: end } }\n  b: { emit: 1, then: [] }\nstart: [a, { to: b }]\n",
            expect![[r#"
                error[G006]: `graph` must be a name, not a number
                 --> g.yaml:1:8
                  |
                1 | graph: 7
                  |        ^
                  = help: quote it if it is meant as text

                error[G006]: `then` must be a node, a list of nodes, or a list of `{ when, to }` routes, not a mapping
                 --> g.yaml:3:23
                  |
                3 |   a: { emit: 1, then: { to: end } }
                  |                       ^^^^^^^^^^^

                error[G006]: `then` must be at least one target, not an empty list
                 --> g.yaml:4:23
                  |
                4 |   b: { emit: 1, then: [] }
                  |                       ^^

                error[G006]: `start` must be a name, not a mapping
                 --> g.yaml:5:12
                  |
                5 | start: [a, { to: b }]
                  |            ^^^^^^^^^

            "#]],
        );
    }
}
