//! A number outside of what makes sense: a retry with no attempts, a negative budget, an empty list of choices.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   a: { emit: 1, retry: { attempts: 0 }, then: end }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::source::Span;

pub(crate) const CODE: &str = "G032";

pub(crate) fn out_of_range(span: Span, key: &str, wanted: &str) -> Finding {
    Finding::error(CODE, span, format!("`{key}` must be {wanted}"))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn ranges() {
        check_error(
            "graph: g\nlimits: { recursion: 0, concurrency: 1.5 }\nnodes:\n  a: { emit: 1, retry: { attempts: 0, factor: 0.5 }, budget: { usd_per_day: -1 }, then: end }\nstart: a\n",
            expect![[r#"
                error[G032]: `recursion` must be a whole number of at least 1
                 --> g.yaml:2:22
                  |
                2 | limits: { recursion: 0, concurrency: 1.5 }
                  |                      ^

                error[G032]: `concurrency` must be a whole number of at least 1
                 --> g.yaml:2:38
                  |
                2 | limits: { recursion: 0, concurrency: 1.5 }
                  |                                      ^^^

                error[G032]: `attempts` must be a whole number of at least 1
                 --> g.yaml:4:36
                  |
                4 |   a: { emit: 1, retry: { attempts: 0, factor: 0.5 }, budget: { usd_per_day: -1 }, then: end }
                  |                                    ^

                error[G032]: `factor` must be at least 1
                 --> g.yaml:4:47
                  |
                4 |   a: { emit: 1, retry: { attempts: 0, factor: 0.5 }, budget: { usd_per_day: -1 }, then: end }
                  |                                               ^^^

                error[G032]: `usd_per_day` must be at least 0
                 --> g.yaml:4:77
                  |
                4 |   a: { emit: 1, retry: { attempts: 0, factor: 0.5 }, budget: { usd_per_day: -1 }, then: end }
                  |                                                                             ^^

            "#]],
        );
    }
}
