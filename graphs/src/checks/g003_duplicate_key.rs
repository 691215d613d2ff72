//! A mapping holds the same key twice.
//!
//! YAML forbids it; readers that allow it keep one of the two without a word, so a node or channel would vanish.
//!
//! Rename one of the two or remove it.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   a: { emit: 1, then: end }
//!   a: { emit: 2, then: end }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::source::Span;

pub(crate) const CODE: &str = "G003";

pub(crate) fn duplicate_key(span: Span, key: &str, first_line: usize) -> Finding {
    Finding::error(CODE, span, format!("the key `{key}` is already on line {first_line}"))
        .help("remove one of the two or rename it")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn duplicate_node() {
        check_error(
            "graph: g\nnodes:\n  a: { emit: 1, then: end }\n  a: { emit: 2, then: end }\nstart: a\n",
            expect![[r#"
            error[G003]: the key `a` is already on line 3
             --> g.yaml:4:3
              |
            4 |   a: { emit: 2, then: end }
              |   ^
              = help: remove one of the two or rename it

        "#]],
        );
    }
}
