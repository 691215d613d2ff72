//! Two nodes that start at the same time write the same `replace` channel.
//!
//! `merge: replace` allows one writer in a superstep, because with two the result would depend on their order.
//! The run would fail with an error that names both.
//!
//! Give the channel a reducer that combines writes (`append`, `union`, `deep`, `sum`, …) or picks one (`last`),
//! or run the nodes one after the other.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! state:
//!   found: {}
//! nodes:
//!   a: { set: { found: 1 }, then: end }
//!   b: { set: { found: 2 }, then: end }
//! start: [a, b]
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::compiled::Merge;
use crate::diagnostics::Finding;
use crate::resolve::Cx;
use crate::spec::{KindSpec, Name, NodeSpec, OutputSpec, RoutingSpec};

pub(crate) const CODE: &str = "G021";

pub(crate) fn check(cx: &Cx<'_>, findings: &mut Vec<Finding>) {
    let mut reported = BTreeSet::new();
    for (_, routing) in cx.routings() {
        let parallel: Vec<&[Name]> = match routing {
            RoutingSpec::Goto(names) => vec![names.as_slice()],
            RoutingSpec::Routes(routes) => routes.iter().map(|route| route.to.as_slice()).collect(),
            RoutingSpec::Unset | RoutingSpec::Broken => Vec::new(),
        };
        for names in parallel {
            check_parallel(cx, names, &mut reported, findings);
        }
    }
    for node in &cx.spec.nodes {
        check_map(cx, node, findings);
    }
}

fn check_parallel<'a>(
    cx: &Cx<'a>,
    names: &'a [Name],
    reported: &mut BTreeSet<(&'a str, &'a str)>,
    findings: &mut Vec<Finding>,
) {
    let mut writers: BTreeMap<&str, &str> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for node in names.iter().filter_map(|name| cx.spec.nodes.get(cx.node(&name.text)?.index())) {
        let name = node.name.text.as_str();
        if node.defer || !node.after.is_empty() || !seen.insert(name) {
            continue;
        }
        for channel in replaced(cx, node) {
            let Some(first) = writers.insert(&channel.text, name) else { continue };
            if reported.insert((name, &channel.text)) {
                let message = format!("`{first}` and `{name}` start together and both write `{}`", channel.text);
                findings.push(Finding::error(CODE, channel.span, message).help(format!(
                    "give `{}` a reducer such as `merge: append` or `merge: last`, or run one node after the other",
                    channel.text
                )));
            }
        }
    }
}

/// The tasks of a `map` run together, so their node cannot write a `replace` channel for more than one item.
fn check_map(cx: &Cx<'_>, node: &NodeSpec, findings: &mut Vec<Finding>) {
    let KindSpec::Map(map) = &node.kind else { return };
    let Some(target) = cx.node(&map.to.text).and_then(|ix| cx.spec.nodes.get(ix.index())) else { return };
    for channel in replaced(cx, target) {
        let message = format!(
            "`{}` sends one task per item to `{}`, and each writes the `replace` channel `{}`",
            node.name.text, target.name.text, channel.text
        );
        findings.push(Finding::warning(CODE, channel.span, message).help(format!(
            "with more than one item this fails; give `{}` a reducer such as `merge: append`",
            channel.text
        )));
    }
}

/// The `replace` channels a node writes itself.
fn replaced<'a>(cx: &Cx<'a>, node: &'a NodeSpec) -> Vec<&'a Name> {
    let mut channels: Vec<&Name> = match &node.output {
        OutputSpec::Channel(name) => vec![name],
        OutputSpec::Map(writes) => writes.iter().map(|(name, _)| name).collect(),
        OutputSpec::None | OutputSpec::Broken => Vec::new(),
    };
    if let KindSpec::Set(writes) = &node.kind {
        channels.extend(writes.iter().map(|(name, _)| name));
    }
    let merge = |name: &Name| cx.spec.channels.get(cx.channel(&name.text)?.index()).map(|channel| &channel.merge);
    channels.retain(|name| merge(name) == Some(&Merge::Replace));
    channels
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::{check_error, check_ok, check_warning};

    #[test]
    fn parallel_writers() {
        check_error(
            "graph: g\nstate:\n  found: {}\nnodes:\n  a: { set: { found: 1 }, then: end }\n  b: { tool: x.y, output: found, then: end }\nstart: [a, b]\n",
            expect![[r#"
                error[G021]: `a` and `b` start together and both write `found`
                 --> g.yaml:6:27
                  |
                6 |   b: { tool: x.y, output: found, then: end }
                  |                           ^^^^^
                  = help: give `found` a reducer such as `merge: append` or `merge: last`, or run one node after the other

            "#]],
        );
    }

    #[test]
    fn map_into_replace() {
        check_warning(
            "graph: g\nstate:\n  found: {}\nnodes:\n  m: { map: { over: input.xs, as: x, to: w } }\n  w: { set: { found: \"{{ x }}\" }, then: end }\nstart: m\n",
            expect![[r#"
                warning[G021]: `m` sends one task per item to `w`, and each writes the `replace` channel `found`
                 --> g.yaml:6:15
                  |
                6 |   w: { set: { found: "{{ x }}" }, then: end }
                  |               ^^^^^
                  = help: with more than one item this fails; give `found` a reducer such as `merge: append`

            "#]],
        );
    }

    #[test]
    fn reducers_and_joins_are_fine() {
        check_ok(
            "graph: g\nstate:\n  found: { merge: append }\nnodes:\n  a: { set: { found: [1] }, then: end }\n  b: { set: { found: [2] }, then: end }\nstart: [a, b]\n",
        );
    }
}
