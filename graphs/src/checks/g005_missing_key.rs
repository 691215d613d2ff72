//! A key that must be there is not.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   a: { map: { over: "[1]", as: x } }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::source::Span;

pub(crate) const CODE: &str = "G005";

pub(crate) fn missing_key(span: Span, key: &str, what: &str, doc: &str) -> Finding {
    Finding::error(CODE, span, format!("{what} needs the key `{key}`")).help(format!("`{key}`: {doc}"))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn top_level() {
        check_error(
            "description: nothing else\n",
            expect![[r#"
            error[G005]: a graph needs the key `graph`
             --> g.yaml:1:1
              |
            1 | description: nothing else
              | ^
              = help: `graph`: The name of the graph.

            error[G005]: a graph needs the key `nodes`
             --> g.yaml:1:1
              |
            1 | description: nothing else
              | ^
              = help: `nodes`: The nodes. Their order decides the order of writes.

            error[G005]: a graph needs the key `start`
             --> g.yaml:1:1
              |
            1 | description: nothing else
              | ^
              = help: `start`: Where a run starts.

        "#]],
        );
    }

    #[test]
    fn in_a_kind() {
        check_error(
            "graph: g\nnodes:\n  a: { map: { over: \"[1]\", as: x } }\nstart: a\n",
            expect![[r#"
            error[G005]: `map` needs the key `to`
             --> g.yaml:3:8
              |
            3 |   a: { map: { over: "[1]", as: x } }
              |        ^^^
              = help: `to`: The node each item is sent to.

        "#]],
        );
        check_error(
            "graph: g\nnodes:\n  a: { gate: 0.5 }\nstart: a\n",
            expect![[r#"
            error[G005]: a gate needs the key `bands`
             --> g.yaml:3:8
              |
            3 |   a: { gate: 0.5 }
              |        ^^^^
              = help: `bands`: The gate's bands, highest first.

        "#]],
        );
    }
}
