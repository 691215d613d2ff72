//! A key that belongs to another kind of node, or that has no effect on this one.
//!
//! For example `bands` without `gate`, `args` without `tool`, or a `then` on a gate, which routes by its bands.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! nodes:
//!   a: { gate: 0.5, bands: [{ then: end }], then: end }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::keys::KIND_KEYS;
use crate::source::Span;
use crate::yaml::Entry;

pub(crate) const CODE: &str = "G031";

/// Keys every node may have that mean nothing for a kind, and why.
const WITHOUT_EFFECT: &[(&str, &str, &str)] = &[
    ("gate", "then", "a gate routes through its bands"),
    ("gate", "output", "a gate has no result"),
    ("set", "output", "a `set` node writes the channels it names"),
    ("map", "output", "the node each item is sent to has the results"),
    ("fail", "output", "a `fail` node has no result"),
    ("fail", "then", "a `fail` node ends the run"),
    ("emit", "output", "an `emit` node has no result"),
];

pub(crate) fn check_keys(kind: &str, entries: &[Entry], findings: &mut Vec<Finding>) {
    for entry in entries {
        let owner = KIND_KEYS.iter().find(|(_, keys)| keys.contains(&entry.key.as_str()));
        if let Some((owner, _)) = owner.filter(|(owner, _)| *owner != kind) {
            let message = format!("`{}` belongs to `{owner}` nodes, and this one is `{kind}`", entry.key);
            findings.push(Finding::error(CODE, entry.key_span, message).help("remove it"));
        }
        let useless = WITHOUT_EFFECT.iter().find(|(of, key, _)| *of == kind && *key == entry.key);
        if let Some((_, key, why)) = useless {
            let message = format!("`{key}` has no effect on a `{kind}` node");
            findings.push(Finding::error(CODE, entry.key_span, message).help(*why));
        }
    }
}

pub(crate) fn without_supervisor(span: Span) -> Finding {
    let message = "`specialists` has no effect: only an agent with `pattern: supervise` asks them";
    Finding::error(CODE, span, message).help("write `pattern: supervise`, or remove it")
}

/// A key of a track record that asks nobody.
pub(crate) fn only_with_question(span: Span, key: &str) -> Finding {
    let message = format!("`{key}` has no effect on a record without `at_least`");
    Finding::error(CODE, span, message).help("such a record counts and asks nobody; add `at_least`, or remove it")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn misplaced() {
        check_error(
            "graph: g\nnodes:\n  a: { gate: 0.5, bands: [{ then: b }], then: end }\n  b: { emit: 1, args: { x: 1 }, then: end }\nstart: a\n",
            expect![[r#"
                error[G031]: `then` has no effect on a `gate` node
                 --> g.yaml:3:41
                  |
                3 |   a: { gate: 0.5, bands: [{ then: b }], then: end }
                  |                                         ^^^^
                  = help: a gate routes through its bands

                error[G031]: `args` belongs to `tool` nodes, and this one is `emit`
                 --> g.yaml:4:17
                  |
                4 |   b: { emit: 1, args: { x: 1 }, then: end }
                  |                 ^^^^
                  = help: remove it

            "#]],
        );
    }

    #[test]
    fn only_an_agent_has_a_schedule_and_its_words_are_known() {
        check_error(
            "graph: g\nstate: { out: {} }\nnodes:\n  a: { agent: assistant, schedule: batc, output: out, then: b }\n  b: { emit: 1, schedule: batch, then: end }\nstart: a\n",
            expect![[r#"
                error[G009]: unknown value of `schedule` `batc`
                 --> g.yaml:4:36
                  |
                4 |   a: { agent: assistant, schedule: batc, output: out, then: b }
                  |                                    ^^^^
                  = help: did you mean `batch`?
                  = help: known are now, batch

                error[G031]: `schedule` belongs to `agent` nodes, and this one is `emit`
                 --> g.yaml:5:17
                  |
                5 |   b: { emit: 1, schedule: batch, then: end }
                  |                 ^^^^^^^^
                  = help: remove it

            "#]],
        );
    }

    #[test]
    fn specialists_and_their_supervisor_belong_together() {
        check_error(
            "graph: g\nstate: { out: {} }\nnodes:\n  a: { agent: assistant, pattern: supervise, output: out, then: b }\n  b: { agent: assistant, specialists: { logs: { tools: [x.y] } }, output: out, then: end }\nstart: a\n",
            expect![[r#"
                error[G005]: an agent with `pattern: supervise` needs the key `specialists`
                 --> g.yaml:4:8
                  |
                4 |   a: { agent: assistant, pattern: supervise, output: out, then: b }
                  |        ^^^^^
                  = help: `specialists`: Whom it may ask, by name.

                error[G031]: `specialists` has no effect: only an agent with `pattern: supervise` asks them
                 --> g.yaml:5:26
                  |
                5 |   b: { agent: assistant, specialists: { logs: { tools: [x.y] } }, output: out, then: end }
                  |                          ^^^^^^^^^^^
                  = help: write `pattern: supervise`, or remove it

                error[G005]: a specialist needs the key `description`
                 --> g.yaml:5:41
                  |
                5 |   b: { agent: assistant, specialists: { logs: { tools: [x.y] } }, output: out, then: end }
                  |                                         ^^^^
                  = help: `description`: What it is good at; the supervisor reads it.

            "#]],
        );
    }
}
