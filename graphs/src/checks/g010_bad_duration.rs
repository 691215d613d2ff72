//! A length of time that cannot be read.
//!
//! Write one or more whole or decimal numbers with units: `500ms`, `30s`, `10m`, `1h30m`, `7d`, `2w`. A number
//! without a unit is refused, because nobody can tell seconds from minutes. Ten years is the longest.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   a: { wait: 30, then: end }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::duration::DurationError;
use crate::source::Span;

pub(crate) const CODE: &str = "G010";

pub(crate) fn bad_duration(span: Span, text: &str, error: DurationError) -> Finding {
    let shown: String = text.chars().take(40).collect();
    let message = match error {
        DurationError::Form => format!("`{shown}` is not a length of time"),
        DurationError::Unit => format!("`{shown}` has no unit of time, or an unknown one"),
        DurationError::TooLong => format!("`{shown}` is longer than ten years"),
    };
    Finding::error(CODE, span, message).help("write a number with ms, s, m, h, d or w, such as `30s` or `1h30m`")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn durations() {
        check_error(
            "graph: g\nnodes:\n  a: { wait: 30, timeout: soon, then: b }\n  b: { wait: 5 fortnights, then: end }\nstart: a\n",
            expect![[r#"
                error[G010]: `30` has no unit of time, or an unknown one
                 --> g.yaml:3:14
                  |
                3 |   a: { wait: 30, timeout: soon, then: b }
                  |              ^^
                  = help: write a number with ms, s, m, h, d or w, such as `30s` or `1h30m`

                error[G010]: `soon` is not a length of time
                 --> g.yaml:3:27
                  |
                3 |   a: { wait: 30, timeout: soon, then: b }
                  |                           ^^^^
                  = help: write a number with ms, s, m, h, d or w, such as `30s` or `1h30m`

                error[G010]: `5 fortnights` has no unit of time, or an unknown one
                 --> g.yaml:4:14
                  |
                4 |   b: { wait: 5 fortnights, then: end }
                  |              ^^^^^^^^^^^^
                  = help: write a number with ms, s, m, h, d or w, such as `30s` or `1h30m`

            "#]],
        );
    }
}
