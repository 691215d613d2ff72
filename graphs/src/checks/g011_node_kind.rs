//! A node must do exactly one thing: it has no kind key, or two, or a `wait` for nothing or for two things.
//!
//! The kind keys are agent, tool, gate, approval, set, map, wait, graph, spawn, fail, emit and function.
//!
//! Split a node that does two things into two nodes joined by `then`.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   a: { emit: 1, wait: 1s, then: end }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::keys::KINDS;
use crate::source::Span;
use crate::spec::Name;
use crate::yaml::Entry;

pub(crate) const CODE: &str = "G011";

pub(crate) fn no_kind(name: &Name) -> Finding {
    Finding::error(CODE, name.span, format!("the node `{}` does nothing", name.text))
        .help(format!("give it one of {}", KINDS.join(", ")))
}

pub(crate) fn second_kind(name: &Name, first: &Entry, second: &Entry) -> Finding {
    let message = format!("the node `{}` is both `{}` and `{}`", name.text, first.key, second.key);
    Finding::error(CODE, second.key_span, message).help("make two nodes of it, joined by `then`")
}

pub(crate) fn wait_for_one(span: Span) -> Finding {
    Finding::error(CODE, span, "`wait` must wait for exactly one thing")
        .help("write a length of time, `for`, `until`, or `signal` with an optional `for` as its limit")
}

pub(crate) fn timeout_without_signal(span: Span) -> Finding {
    Finding::error(CODE, span, "`on_timeout` needs `signal` and `for`")
        .help("after a plain `for` or `until` the run goes on with `then`")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn none_and_two() {
        check_error(
            "graph: g\nnodes:\n  a: { emit: 1, wait: 1s, then: b }\n  b: { description: idle }\nstart: a\n",
            expect![[r#"
                error[G011]: the node `a` is both `emit` and `wait`
                 --> g.yaml:3:17
                  |
                3 |   a: { emit: 1, wait: 1s, then: b }
                  |                 ^^^^
                  = help: make two nodes of it, joined by `then`

                error[G011]: the node `b` does nothing
                 --> g.yaml:4:3
                  |
                4 |   b: { description: idle }
                  |   ^
                  = help: give it one of agent, tool, gate, approval, set, map, wait, graph, spawn, fail, emit, function

            "#]],
        );
    }

    #[test]
    fn waits() {
        check_error(
            "graph: g\nnodes:\n  a: { wait: { for: 1s, until: now }, then: b }\n  b: { wait: { for: 1s, on_timeout: a }, then: end }\nstart: a\n",
            expect![[r#"
                error[G011]: `wait` must wait for exactly one thing
                 --> g.yaml:3:8
                  |
                3 |   a: { wait: { for: 1s, until: now }, then: b }
                  |        ^^^^
                  = help: write a length of time, `for`, `until`, or `signal` with an optional `for` as its limit

                error[G011]: `on_timeout` needs `signal` and `for`
                 --> g.yaml:4:37
                  |
                4 |   b: { wait: { for: 1s, on_timeout: a }, then: end }
                  |                                     ^
                  = help: after a plain `for` or `until` the run goes on with `then`

            "#]],
        );
    }
}
