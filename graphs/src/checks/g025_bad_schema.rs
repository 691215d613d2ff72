//! A JSON Schema that cannot be used.
//!
//! Schemas are checked when the graph is, not when a value comes. Nothing is fetched: `$ref` may only point into
//! this file, as `#/schemas/Name`. Patterns run in linear time, so look-around and back-references are refused.
//!
//! Move shared schemas under `schemas:` and refer to them as `#/schemas/Name`.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! state:
//!   x: { schema: { $ref: "https://example.com/x.json" } }
//! nodes:
//!   a: { set: { x: 1 }, then: end }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::schema::SchemaError;
use crate::source::Span;

pub(crate) const CODE: &str = "G025";

pub(crate) fn bad_schema(span: Span, error: &SchemaError) -> Finding {
    Finding::error(CODE, span, format!("this JSON Schema cannot be used: {}", error.message))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn references() {
        check_error(
            "graph: g\nschemas:\n  A: { type: object }\nstate:\n  x: { schema: { $ref: \"https://example.com/x.json\" } }\n  y: { schema: { $ref: \"#/schemas/B\" } }\nnodes:\n  a: { set: { x: 1, y: 2 }, then: end }\nstart: a\n",
            expect![[r##"
                error[G025]: this JSON Schema cannot be used: `https://example.com/x.json` is outside this file; only `#/schemas/Name` can be referred to
                 --> g.yaml:5:16
                  |
                5 |   x: { schema: { $ref: "https://example.com/x.json" } }
                  |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

                error[G025]: this JSON Schema cannot be used: `#/schemas/B` names no entry of `schemas:`
                 --> g.yaml:6:16
                  |
                6 |   y: { schema: { $ref: "#/schemas/B" } }
                  |                ^^^^^^^^^^^^^^^^^^^^^^^

            "##]],
        );
    }

    #[test]
    fn keywords() {
        check_error(
            "graph: g\nstate:\n  x: { schema: { type: strin } }\n  y: { schema: { type: string, pattern: \"(?=a)b\" } }\nnodes:\n  a: { set: { x: 1, y: 2 }, then: end }\nstart: a\n",
            expect![[r#"
                error[G025]: this JSON Schema cannot be used: "strin" is not valid under any of the schemas listed in the 'anyOf' keyword
                 --> g.yaml:3:24
                  |
                3 |   x: { schema: { type: strin } }
                  |                        ^^^^^

                error[G025]: this JSON Schema cannot be used: "(?=a)b" is not a "regex"
                 --> g.yaml:4:41
                  |
                4 |   y: { schema: { type: string, pattern: "(?=a)b" } }
                  |                                         ^^^^^^^^

            "#]],
        );
    }
}
