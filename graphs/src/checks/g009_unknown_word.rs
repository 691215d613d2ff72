//! A value that must be one of a few words is another one: an unknown reducer, error class, backoff or status.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! state:
//!   log: { merge: apend }
//! nodes:
//!   a: { set: { log: [1] }, then: end }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::names::nearest;
use crate::spec::Name;

pub(crate) const CODE: &str = "G009";

pub(crate) fn unknown_word(name: &Name, key: &str, words: &[&str]) -> Finding {
    let what = if key == "merge" { "reducer".to_owned() } else { format!("value of `{key}`") };
    Finding::error(CODE, name.span, format!("unknown {what} `{}`", name.text))
        .candidates(nearest(&name.text, words.iter().copied()))
        .help(format!("known are {}", words.join(", ")))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn reducer_and_class() {
        check_error(
            "graph: g\nstate:\n  log: { merge: apend }\nnodes:\n  a: { set: { log: [1] }, retry: { on: [transint] }, then: end }\nstart: a\n",
            expect![[r#"
                error[G009]: unknown reducer `apend`
                 --> g.yaml:3:17
                  |
                3 |   log: { merge: apend }
                  |                 ^^^^^
                  = help: did you mean `append`?
                  = help: known are replace, last, append, union, deep, sum, min, max, messages, ephemeral, untracked

                error[G009]: unknown value of `on` `transint`
                 --> g.yaml:5:41
                  |
                5 |   a: { set: { log: [1] }, retry: { on: [transint] }, then: end }
                  |                                         ^^^^^^^^
                  = help: did you mean `transient`?
                  = help: known are transient, rate_limited, timeout, resource, invalid, denied, not_found, conflict, verify_failed, permanent, unknown

            "#]],
        );
    }
}
