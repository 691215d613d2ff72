//! A warning: a channel that nothing reads.
//!
//! Without `output:` every channel is part of the thread's output, so a channel that is only written is one of
//! its results. With `output:`, a channel that is neither listed nor read is work for nothing. A channel that is
//! neither written nor read can go.
//!
//! List it under `output:`, read it, or remove it.
//!
//! Wrong:
//! ```yaml
//! graph: g
//! output: [done]
//! state:
//!   done: {}
//!   notes: {}
//! nodes:
//!   a: { set: { done: true, notes: "x" }, then: end }
//! start: a
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::compiled::Merge;
use crate::diagnostics::Finding;
use crate::resolve::Cx;
use crate::source::Span;
use crate::spec::{KindSpec, OutputSpec};
use crate::uses::{Use, UsedCode};
use crate::yaml::part_of_scalar;

pub(crate) const CODE: &str = "G020";

/// Which channels are read and written.
pub(crate) struct Traffic<'a> {
    /// Channels that expressions read, and where first.
    pub(crate) read: BTreeMap<&'a str, Span>,
    pub(crate) written: BTreeSet<&'a str>,
    /// Some node is code of the host, or could not be read, and may write anything.
    pub(crate) may_write_all: bool,
}

impl<'a> Traffic<'a> {
    pub(crate) fn new(cx: &Cx<'a>, uses: &[Use<'a>]) -> Traffic<'a> {
        let mut traffic = Traffic { read: BTreeMap::new(), written: BTreeSet::new(), may_write_all: false };
        for used in uses {
            let (text, names) = match used.code {
                UsedCode::Expr(expr) => (expr.source(), expr.uses()),
                UsedCode::Template(code) => (code.source(), code.uses()),
            };
            for name in names.iter().filter(|name| !used.extra.contains(name.root.as_str())) {
                let place = || part_of_scalar(cx.source, used.span, text, name.at.clone());
                if cx.channel(&name.root).is_some() {
                    traffic.read.entry(name.root.as_str()).or_insert_with(place);
                }
            }
        }
        for node in &cx.spec.nodes {
            match &node.kind {
                KindSpec::Set(writes) => traffic.written.extend(writes.iter().map(|(name, _)| name.text.as_str())),
                // Code of the host reads and writes what it likes.
                KindSpec::Function(_) | KindSpec::Broken => traffic.may_write_all = true,
                _ => {}
            }
            match &node.output {
                OutputSpec::None => {}
                OutputSpec::Broken => traffic.may_write_all = true,
                OutputSpec::Channel(name) => traffic.written.extend([name.text.as_str()]),
                OutputSpec::Map(writes) => traffic.written.extend(writes.iter().map(|(name, _)| name.text.as_str())),
            }
        }
        traffic
    }
}

pub(crate) fn check(cx: &Cx<'_>, traffic: &Traffic<'_>, findings: &mut Vec<Finding>) {
    let has_agents = cx.spec.nodes.iter().any(|node| matches!(node.kind, KindSpec::Agent { .. }));
    for channel in &cx.spec.channels {
        let name = channel.name.text.as_str();
        let listed = cx.spec.output.as_ref().map(|output| output.iter().any(|output| output.text == name));
        let used_by_agents = channel.merge == Merge::Messages && has_agents;
        if traffic.read.contains_key(name) || traffic.may_write_all || used_by_agents || listed == Some(true) {
            continue;
        }
        let written = traffic.written.contains(name);
        if !written {
            findings.push(
                Finding::warning(CODE, channel.name.span, format!("the channel `{name}` is neither written nor read"))
                    .help("remove it"),
            );
        } else if listed == Some(false) {
            findings.push(
                Finding::warning(CODE, channel.name.span, format!("the channel `{name}` is written, but never read"))
                    .help("list it under `output:`, read it, or remove it"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::checks::testing::{check_ok, check_warning};

    #[test]
    fn never_read() {
        check_warning(
            "graph: g\noutput: [done]\nstate:\n  done: {}\n  notes: {}\n  unused: {}\nnodes:\n  a: { set: { done: true, notes: \"x\" }, then: end }\nstart: a\n",
            expect![[r#"
                warning[G020]: the channel `notes` is written, but never read
                 --> g.yaml:5:3
                  |
                5 |   notes: {}
                  |   ^^^^^
                  = help: list it under `output:`, read it, or remove it

                warning[G020]: the channel `unused` is neither written nor read
                 --> g.yaml:6:3
                  |
                6 |   unused: {}
                  |   ^^^^^^
                  = help: remove it

            "#]],
        );
    }

    #[test]
    fn results_need_no_reader() {
        check_ok("graph: g\nstate:\n  done: {}\nnodes:\n  a: { set: { done: true }, then: end }\nstart: a\n");
    }
}
