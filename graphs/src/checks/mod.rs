//! The rules a graph must keep: one rule, one file. The header of each file is its page in `docs/errors`.

pub(crate) mod g001_unreadable_file;
pub(crate) mod g002_yaml_syntax;
pub(crate) mod g003_duplicate_key;
pub(crate) mod g004_unknown_key;
pub(crate) mod g005_missing_key;
pub(crate) mod g006_wrong_type;
pub(crate) mod g007_unknown_node;
pub(crate) mod g008_unknown_channel;
pub(crate) mod g009_unknown_word;
pub(crate) mod g010_bad_duration;
pub(crate) mod g011_node_kind;
pub(crate) mod g012_unreachable_node;
pub(crate) mod g013_dead_end;
pub(crate) mod g014_endless_cycle;
pub(crate) mod g015_starved_join;
pub(crate) mod g016_expression_syntax;
pub(crate) mod g017_unknown_variable;
pub(crate) mod g018_expression_type;
pub(crate) mod g019_never_written;
pub(crate) mod g020_never_read;
pub(crate) mod g021_conflicting_writers;
pub(crate) mod g022_no_default_route;
pub(crate) mod g023_bad_bands;
pub(crate) mod g024_bad_name;
pub(crate) mod g025_bad_schema;
pub(crate) mod g026_unknown_tool;
pub(crate) mod g027_unknown_function;
pub(crate) mod g028_unknown_graph;
pub(crate) mod g029_unknown_role;
pub(crate) mod g030_unknown_approver;
pub(crate) mod g031_misplaced_key;
pub(crate) mod g032_out_of_range;
pub(crate) mod g033_wrong_value;
pub(crate) mod g034_bad_test;
pub(crate) mod g036_bad_merge;
pub(crate) mod g037_record_without_proof;
#[cfg(test)]
mod pages;
#[cfg(test)]
pub(crate) mod testing;

use crate::diagnostics::{Finding, Severity};
use crate::expr::types::Types;
use crate::flow::Flow;
use crate::names::nearest;
use crate::resolve::Cx;
use crate::spec::Name;
use crate::uses;
use g020_never_read::Traffic;

/// Unknown names for which the nearest right name is looked for.
const SUGGESTIONS_MAX: usize = 100;

/// Runs every check that looks at the whole graph. `n_before` problems are already known.
pub(crate) fn check_all(cx: &Cx<'_>, n_before: usize, findings: &mut Vec<Finding>) {
    let flow = Flow::new(cx);
    let uses = uses::all(cx);
    let types = Types::new(cx.spec);
    let traffic = Traffic::new(cx, &uses);
    g007_unknown_node::check(cx, findings);
    g008_unknown_channel::check(cx, findings);
    g012_unreachable_node::check(cx, &flow, findings);
    g013_dead_end::check(cx, findings);
    g014_endless_cycle::check(cx, &flow, findings);
    g015_starved_join::check(cx, &flow, findings);
    g017_unknown_variable::check(cx, &uses, findings);
    g018_expression_type::check(cx, &types, &uses, findings);
    g019_never_written::check(cx, &traffic, findings);
    g021_conflicting_writers::check(cx, findings);
    g022_no_default_route::check(cx, findings);
    g023_bad_bands::check(cx, findings);
    g026_unknown_tool::check(cx, findings);
    g027_unknown_function::check(cx, findings);
    g028_unknown_graph::check(cx, findings);
    g029_unknown_role::check(cx, findings);
    g030_unknown_approver::check(cx, findings);
    g033_wrong_value::check(cx, findings);
    g034_bad_test::check(cx, findings);
    g037_record_without_proof::check(cx, findings);
    // A misspelt name makes another one look unused: that is said only when nothing else is wrong.
    if n_before == 0 && findings.iter().all(|finding| finding.severity != Severity::Error) {
        g020_never_read::check(cx, &traffic, findings);
    }
}

/// Reports the names that a list of known ones does not hold. `None` knows everything.
fn check_names<'a>(
    (code, what): (&'static str, &str),
    named: impl Iterator<Item = &'a Name>,
    known: Option<Vec<String>>,
    findings: &mut Vec<Finding>,
) {
    let Some(known) = known else { return };
    let unknown = named.filter(|name| !known.contains(&name.text)).take(SUGGESTIONS_MAX);
    for name in unknown {
        let candidates = nearest(&name.text, known.iter().map(String::as_str));
        let finding = Finding::error(code, name.span, format!("unknown {what} `{}`", name.text));
        findings.push(if candidates.is_empty() && !known.is_empty() {
            finding.help(format!("known are {}", shown(&known)))
        } else {
            finding.candidates(candidates)
        });
    }
}

fn shown(known: &[String]) -> String {
    const SHOWN_MAX: usize = 10;
    let names: Vec<&str> = known.iter().take(SHOWN_MAX).map(String::as_str).collect();
    let more = if known.len() > SHOWN_MAX { ", …" } else { "" };
    format!("{}{more}", names.join(", "))
}
