//! A channel is named that `state` does not declare.
//!
//! `set`, `output` (of a node and of the graph) and tests name channels.
//!
//! Declare it under `state:`, with the reducer it needs.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! state:
//!   total: { merge: sum }
//! nodes:
//!   a: { set: { totl: 1 }, then: end }
//! start: a
//! ```

use crate::diagnostics::Finding;
use crate::names::nearest;
use crate::resolve::Cx;
use crate::spec::{KindSpec, Name, OutputSpec};

pub(crate) const CODE: &str = "G008";

pub(crate) fn check(cx: &Cx<'_>, findings: &mut Vec<Finding>) {
    let mut named: Vec<&Name> = cx.spec.output.iter().flatten().collect();
    for node in &cx.spec.nodes {
        if let KindSpec::Set(writes) = &node.kind {
            named.extend(writes.iter().map(|(channel, _)| channel));
        }
        match &node.output {
            OutputSpec::Channel(channel) => named.push(channel),
            OutputSpec::Map(writes) => named.extend(writes.iter().map(|(channel, _)| channel)),
            OutputSpec::None | OutputSpec::Broken => {}
        }
    }
    for name in named {
        if cx.channel(&name.text).is_none() {
            findings.push(unknown_channel(cx, name));
        }
    }
}

fn unknown_channel(cx: &Cx<'_>, name: &Name) -> Finding {
    let finding = Finding::error(CODE, name.span, format!("unknown channel `{}`", name.text));
    let candidates = nearest(&name.text, cx.channel_names());
    if candidates.is_empty() {
        finding.help(format!("declare it: `state: {{ {}: {{}} }}`", name.text))
    } else {
        finding.candidates(candidates)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::check_error;

    #[test]
    fn everywhere() {
        check_error(
            "graph: g\noutput: [sum]\nstate:\n  total: { merge: sum }\nnodes:\n  a: { set: { totl: 1 }, then: b }\n  b: { tool: x.y, output: { other: result }, then: end }\nstart: a\n",
            expect![[r#"
                error[G008]: unknown channel `sum`
                 --> g.yaml:2:10
                  |
                2 | output: [sum]
                  |          ^^^
                  = help: declare it: `state: { sum: {} }`

                error[G008]: unknown channel `totl`
                 --> g.yaml:6:15
                  |
                6 |   a: { set: { totl: 1 }, then: b }
                  |               ^^^^
                  = help: did you mean `total`?

                error[G008]: unknown channel `other`
                 --> g.yaml:7:29
                  |
                7 |   b: { tool: x.y, output: { other: result }, then: end }
                  |                             ^^^^^
                  = help: declare it: `state: { other: {} }`

            "#]],
        );
    }
}
