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
}
