//! The graph language: YAML text in, a checked and immutable [`CompiledGraph`] out.
//!
//! ```text
//! bytes ─source→ text ─yaml→ spanned tree ─lower→ GraphSpec ─compile + checks→ CompiledGraph
//! ```
//!
//! Data flows one way. [`parse`] never fails: it returns what it could read and everything that is wrong.
//! [`compile`] resolves names against a [`Catalog`] and runs every check. This crate does no IO, takes no
//! clock and no randomness, and knows nothing of threads, stores or tasks.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod agent;
mod catalog;
mod checks;
mod compile;
mod compiled;
mod diagnostics;
mod digest;
mod draw;
mod duration;
mod editor;
mod expr;
mod flow;
pub mod fuzz;
pub mod hex_form;
mod keys;
#[cfg(test)]
mod language_tests;
mod lower;
mod names;
mod node;
mod record;
mod resolve;
mod schema;
mod source;
mod spec;
mod uses;
mod yaml;

use std::sync::Arc;

pub use agent::{AgentNode, Pattern, Schedule, Specialist, Tier};
pub use catalog::{Catalog, OpenCatalog};
use checks::g001_unreadable_file as g001;
pub use compiled::{Channel, CompiledGraph, GraphDigest, GraphTest, Limits, Merge, Retention};
use diagnostics::Finding;
pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use editor::editor_schema;
pub use expr::{Expr, ExprError, Layered, Scope, Template, Vars};
pub use node::*;
pub use record::Record;
use resolve::Cx;
pub use schema::{Schema, SchemaError};
pub use source::{Source, Span};
pub use spec::GraphSpec;

/// What [`parse`] could read of a file, and what is wrong with it.
#[derive(Debug)]
pub struct Parsed {
    /// The graph as written, unless the file is not even YAML.
    pub spec: Option<GraphSpec>,
    /// What is wrong.
    pub diagnostics: Diagnostics,
    /// The file.
    pub source: Arc<Source>,
}

/// Reads a graph file. Never fails and never panics, whatever the bytes.
pub fn parse(file_name: &str, bytes: &[u8]) -> Parsed {
    let mut findings = Vec::new();
    let (source, is_readable) = read_text(file_name, bytes, &mut findings);
    let root = if is_readable { yaml::read(&source, &mut findings) } else { None };
    let spec = root.and_then(|root| lower::lower(&source, &root, &mut findings));
    let mut diagnostics = Diagnostics::new(source.clone());
    findings.into_iter().for_each(|finding| diagnostics.push(finding));
    Parsed { spec, diagnostics: diagnostics.sorted(), source }
}

/// The text of a file, or as much of it as a message needs.
fn read_text(file_name: &str, bytes: &[u8], findings: &mut Vec<Finding>) -> (Arc<Source>, bool) {
    const SHOWN_BYTES_MAX: usize = 200;
    let head = |n_bytes: usize| String::from_utf8_lossy(bytes.get(..n_bytes.min(bytes.len())).unwrap_or(bytes));
    if bytes.len() > yaml::FILE_BYTES_MAX {
        findings.push(g001::too_large(bytes.len(), yaml::FILE_BYTES_MAX));
        return (Source::new(file_name, &head(SHOWN_BYTES_MAX)), false);
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        findings.push(g001::utf16());
        return (Source::new(file_name, ""), false);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => (Source::new(file_name, text.strip_prefix('\u{feff}').unwrap_or(text)), true),
        Err(error) => {
            findings.push(g001::not_utf8(error.valid_up_to()));
            (Source::new(file_name, &head(bytes.len())), false)
        }
    }
}

/// Resolves names and runs every check. All problems are reported at once, those of [`parse`] among them.
pub fn compile(parsed: &Parsed, catalog: &dyn Catalog) -> Result<CompiledGraph, Diagnostics> {
    compile_with_warnings(parsed, catalog).map(|(graph, _)| graph)
}

/// Parses and compiles; the diagnostics of a good graph are its warnings.
pub fn check(
    file_name: &str,
    bytes: &[u8],
    catalog: &dyn Catalog,
) -> Result<(CompiledGraph, Diagnostics), Diagnostics> {
    compile_with_warnings(&parse(file_name, bytes), catalog)
}

fn compile_with_warnings(parsed: &Parsed, catalog: &dyn Catalog) -> Result<(CompiledGraph, Diagnostics), Diagnostics> {
    let mut diagnostics = parsed.diagnostics.clone();
    let Some(spec) = &parsed.spec else { return Err(diagnostics) };
    let cx = Cx::new(spec, &parsed.source, catalog);
    let mut findings = Vec::new();
    checks::check_all(&cx, diagnostics.len(), &mut findings);
    findings.into_iter().for_each(|finding| diagnostics.push(finding));
    let diagnostics = diagnostics.sorted();
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    match compile::build(&cx, &parsed.source) {
        Some(graph) => Ok((graph, diagnostics)),
        None => Err(diagnostics.with(checks::g007_unknown_node::unresolved())),
    }
}
