//! A tool that no configured server offers, or a pattern of tools that matches none.
//!
//! Checked where the tools are known, that is with the installation's configuration. A tool is named
//! `server.tool`; the tools of an agent may be patterns such as `airflow.*`.
//!
//! Correct the name, or add the server to the configuration.

use crate::diagnostics::Finding;
use crate::names::nearest;
use crate::resolve::Cx;
use crate::source::Span;
use crate::spec::{CallSpec, KindSpec};

pub(crate) const CODE: &str = "G026";

pub(crate) fn check(cx: &Cx<'_>, findings: &mut Vec<Finding>) {
    let Some(tools) = cx.catalog.tools() else { return };
    for node in &cx.spec.nodes {
        match &node.kind {
            KindSpec::Tool(tool) => {
                let verify = tool.verify.as_ref().map(|(call, _)| call);
                for call in [Some(&tool.call), verify, tool.undo.as_ref()].into_iter().flatten() {
                    check_call(call, &tools, findings);
                }
            }
            KindSpec::Agent { tools: patterns, specialists, .. } => {
                let of_specialists = specialists.iter().flat_map(|specialist| &specialist.tools);
                // `*.query` permits the tool of whatever server an installation has; it need not have one.
                for pattern in patterns.iter().chain(of_specialists).filter(|pattern| !pattern.text.starts_with("*.")) {
                    if !tools.iter().any(|tool| matches(&pattern.text, tool)) {
                        findings.push(unknown(pattern.span, &pattern.text, &tools));
                    }
                }
            }
            _ => {}
        }
    }
}

fn check_call(call: &CallSpec, tools: &[String], findings: &mut Vec<Finding>) {
    let constant = call.tool.template.as_const().and_then(|name| name.as_str());
    if let Some(name) = constant.filter(|name| !tools.iter().any(|tool| tool == name)) {
        findings.push(unknown(call.tool.span, name, tools));
    }
}

/// `*` stands for any text.
fn matches(pattern: &str, tool: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| tool.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or(""),
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn unknown(span: Span, name: &str, tools: &[String]) -> Finding {
    let (message, help) = if name.contains('*') {
        (format!("no tool matches `{name}`"), "see `interlock tools` for the tools there are")
    } else {
        (format!("unknown tool `{name}`"), "a tool is named `server.tool`; its server must be configured")
    };
    Finding::error(CODE, span, message).help(help).candidates(nearest(name, tools.iter().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::checks::testing::check_with_catalog;

    #[test]
    fn tools() {
        check_with_catalog(
            "graph: g\nnodes:\n  a: { agent: diagnostic, tools: [airflow.*, spark.*], then: b }\n  b: { tool: warehouse.qery, verify: { tool: warehouse.query, expect: \"true\" }, undo: { tool: nope }, then: end }\nstart: a\n",
            expect![[r#"
                error[G026]: no tool matches `spark.*`
                 --> g.yaml:3:46
                  |
                3 |   a: { agent: diagnostic, tools: [airflow.*, spark.*], then: b }
                  |                                              ^^^^^^^
                  = help: see `interlock tools` for the tools there are

                error[G026]: unknown tool `warehouse.qery`
                 --> g.yaml:4:14
                  |
                4 |   b: { tool: warehouse.qery, verify: { tool: warehouse.query, expect: "true" }, undo: { tool: nope }, then: end }
                  |              ^^^^^^^^^^^^^^
                  = help: did you mean `warehouse.query`?
                  = help: a tool is named `server.tool`; its server must be configured

                error[G026]: unknown tool `nope`
                 --> g.yaml:4:95
                  |
                4 |   b: { tool: warehouse.qery, verify: { tool: warehouse.query, expect: "true" }, undo: { tool: nope }, then: end }
                  |                                                                                               ^^^^
                  = help: a tool is named `server.tool`; its server must be configured

            "#]],
        );
    }

    #[test]
    fn patterns() {
        assert!(matches("airflow.*", "airflow.runs"));
        assert!(matches("*", "a.b"));
        assert!(matches("a.*_read", "a.file_read"));
        assert!(!matches("a.*_read", "a.file_write"));
        assert!(!matches("airflow.*", "air.runs"));
        assert!(matches("a.b", "a.b") && !matches("a.b", "a.bc"));
    }
}
