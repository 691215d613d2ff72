//! The text is not valid YAML, or uses a part of YAML that a graph file does not.
//!
//! Common causes are tabs in the indentation, a missing space after `:`, an unclosed quote or bracket, and text
//! with `: ` or ` #` in it that is not quoted. Keys must be text; tags other than `!!str` and numbers without a
//! JSON form (`.inf`, `.nan`) are refused.
//!
//! Indent with spaces, and quote text that holds `: `, ` #`, `{{`, `[` or `*` at its start.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   a: { emit: {{ x }} }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::source::Span;

pub(crate) const CODE: &str = "G002";

pub(crate) fn syntax(span: Span, problem: &str, tab: bool) -> Finding {
    let finding = Finding::error(CODE, span, format!("not valid YAML: {problem}"));
    if tab { finding.help("tabs cannot indent YAML; use spaces") } else { finding }
}

pub(crate) fn key_not_text(span: Span) -> Finding {
    Finding::error(CODE, span, "a key must be text").help("if this is an expression, quote it: \"{{ … }}\"")
}

pub(crate) fn unknown_alias(span: Span, name: &str) -> Finding {
    Finding::error(CODE, span, format!("`*{name}` refers to an anchor that is not defined before it"))
        .help("text that starts with `*` must be quoted")
}

pub(crate) fn alias_in_itself(span: Span) -> Finding {
    Finding::error(CODE, span, "an alias cannot stand inside the value it refers to")
}

pub(crate) fn merge_not_mapping(span: Span) -> Finding {
    Finding::error(CODE, span, "`<<` takes a mapping or a list of mappings")
}

pub(crate) fn unknown_tag(span: Span, tag: &str) -> Finding {
    Finding::error(CODE, span, format!("the tag `{tag}` has no meaning here")).help("leave the tag out")
}

pub(crate) fn not_a_json_number(span: Span, text: &str) -> Finding {
    Finding::error(CODE, span, format!("`{text}` is not a number that JSON knows")).help("quote it if it is text")
}

pub(crate) fn number_too_large(span: Span, text: &str) -> Finding {
    Finding::error(CODE, span, format!("the number `{text}` does not fit in 64 bits")).help("quote it if it is text")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn syntax() {
        check_error(
            "graph: g\nnodes:\n\ta: { emit: 1 }\n",
            expect![[r#"
            error[G002]: not valid YAML: tabs disallowed within this context (block indentation)
             --> g.yaml:3:2
              |
            3 | 	a: { emit: 1 }
              | 	^
              = help: tabs cannot indent YAML; use spaces

        "#]],
        );
        check_error(
            "graph: [a, b\nstart: a\n",
            expect![[r#"
            error[G002]: not valid YAML: illegal placement of ':' indicator
             --> g.yaml:2:6
              |
            2 | start: a
              |      ^

        "#]],
        );
        check_error(
            "graph: \"a\nstart: b\n",
            expect![[r#"
            error[G002]: not valid YAML: invalid indentation in multiline quoted scalar
             --> g.yaml:2:1
              |
            2 | start: b
              | ^

        "#]],
        );
        check_error(
            "graph: a: b\n",
            expect![[r#"
            error[G002]: not valid YAML: mapping values are not allowed in this context
             --> g.yaml:1:9
              |
            1 | graph: a: b
              |         ^

        "#]],
        );
    }

    #[test]
    fn unquoted_expression() {
        check_error(
            "graph: g\nnodes:\n  a: { emit: {{ x }} }\nstart: a\n",
            expect![[r#"
            error[G002]: a key must be text
             --> g.yaml:3:15
              |
            3 |   a: { emit: {{ x }} }
              |               ^
              = help: if this is an expression, quote it: "{{ … }}"

        "#]],
        );
    }

    #[test]
    fn aliases() {
        check_error(
            "graph: *nowhere\n",
            expect![[r#"
                error[G002]: `*nowhere` refers to an anchor that is not defined before it
                 --> g.yaml:1:8
                  |
                1 | graph: *nowhere
                  |        ^^^^^^^^
                  = help: text that starts with `*` must be quoted

            "#]],
        );
        check_error(
            "graph: &a [*a]\n",
            expect![[r#"
            error[G002]: an alias cannot stand inside the value it refers to
             --> g.yaml:1:12
              |
            1 | graph: &a [*a]
              |            ^^

        "#]],
        );
    }

    #[test]
    fn scalars() {
        check_error(
            "graph: .nan\n",
            expect![[r#"
            error[G002]: `.nan` is not a number that JSON knows
             --> g.yaml:1:8
              |
            1 | graph: .nan
              |        ^^^^
              = help: quote it if it is text

        "#]],
        );
        check_error(
            "graph: 123456789012345678901234567890\n",
            expect![[r#"
            error[G002]: the number `123456789012345678901234567890` does not fit in 64 bits
             --> g.yaml:1:8
              |
            1 | graph: 123456789012345678901234567890
              |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              = help: quote it if it is text

        "#]],
        );
        check_error(
            "graph: !custom x\n",
            expect![[r#"
                error[G002]: the tag `!custom` has no meaning here
                 --> g.yaml:1:8
                  |
                1 | graph: !custom x
                  |        ^^^^^^^
                  = help: leave the tag out

            "#]],
        );
    }
}
