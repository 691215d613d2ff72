//! The graph language: YAML text in, a checked and immutable [`CompiledGraph`] out.
//!
//! ```text
//! bytes ─source→ text ─yaml→ spanned tree ─lower→ GraphSpec ─compile + checks→ CompiledGraph
//! ```
//!
//! Data flows one way. [`parse`] never fails: it returns what it could read and everything that is wrong.
//! [`compile`] resolves names against a [`Catalog`] and runs every check. This crate does no IO, takes no
//! clock and no randomness, and knows nothing of threads, stores or tasks.

mod catalog;
mod compiled;
mod diagnostics;
mod expr;
mod node;
mod schema;
mod source;

pub use catalog::{Catalog, OpenCatalog};
pub use compiled::{Channel, CompiledGraph, GraphDigest, GraphTest, Limits, Merge, Retention};
pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use expr::{Expr, ExprError, Layered, Scope, Template, Vars};
pub use node::*;
pub use schema::{Schema, SchemaError};
pub use source::{Source, Span};

use std::sync::Arc;

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

/// A graph as written: names not yet resolved.
#[derive(Debug)]
pub struct GraphSpec {}

/// Reads a graph file. Never fails and never panics, whatever the bytes.
pub fn parse(file_name: &str, bytes: &[u8]) -> Parsed {
    let source = Source::new(file_name, &String::from_utf8_lossy(bytes));
    Parsed { spec: None, diagnostics: Diagnostics::new(source.clone()), source }
}

/// Resolves names and runs every check. All problems are reported at once.
pub fn compile(parsed: &Parsed, catalog: &dyn Catalog) -> Result<CompiledGraph, Diagnostics> {
    let _ = catalog;
    Err(parsed.diagnostics.clone())
}

/// Parses and compiles; the diagnostics of a good graph are its warnings.
pub fn check(
    file_name: &str,
    bytes: &[u8],
    catalog: &dyn Catalog,
) -> Result<(CompiledGraph, Diagnostics), Diagnostics> {
    let parsed = parse(file_name, bytes);
    compile(&parsed, catalog).map(|graph| (graph, parsed.diagnostics))
}
