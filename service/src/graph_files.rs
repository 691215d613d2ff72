//! Graphs from files, with the graphs they refer to by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graphs::{Catalog, CompiledGraph, Diagnostics, Kind};

pub(crate) use agents::ROLES;

use crate::config::{Config, read_bytes};
use crate::failure::Failure;

/// Largest graph file that is read at all; the language has its own, smaller limit with a better message.
const GRAPH_BYTES_MAX: u64 = 16 << 20;
/// Graphs that one graph may refer to, directly or not.
const GRAPHS_MAX: usize = 1_000;
/// Files of a folder that are looked at.
const FOLDER_FILES_MAX: usize = 10_000;

/// The names an installation knows.
pub(crate) struct Known {
    functions: Option<Vec<String>>,
    groups: Option<Vec<String>>,
    tools: Option<Vec<String>>,
}

impl Known {
    /// What every installation of this program knows; functions belong to hosts that embed the engine.
    pub(crate) fn for_checking(config: &Config) -> Self {
        let groups = config.groups.keys().map(|group| format!("group:{group}"));
        let users = config.groups.values().flatten().map(|user| format!("user:{user}"));
        let known: Vec<String> = groups.chain(users).collect();
        Self { functions: None, groups: (!known.is_empty()).then_some(known), tools: None }
    }

    /// Nothing is refused: names that a test scripts exist.
    pub(crate) fn for_testing() -> Self {
        Self { functions: None, groups: None, tools: None }
    }

    /// Also refuses functions: this program has none to run.
    pub(crate) fn for_running(config: &Config) -> Self {
        Self { functions: Some(Vec::new()), ..Self::for_checking(config) }
    }

    /// Also refuses tools that no server offers.
    pub(crate) fn with_tools(self, tools: Vec<String>) -> Self {
        Self { tools: Some(tools), ..self }
    }
}

impl Catalog for Known {
    fn functions(&self) -> Option<Vec<String>> {
        self.functions.clone()
    }

    fn tools(&self) -> Option<Vec<String>> {
        self.tools.clone()
    }

    fn graphs(&self) -> Option<Vec<String>> {
        // Looked up by file: a missing one is reported with the places that were looked at.
        None
    }

    fn roles(&self) -> Option<Vec<String>> {
        Some(ROLES.map(str::to_owned).to_vec())
    }

    fn approvers(&self) -> Option<Vec<String>> {
        self.groups.clone()
    }
}

/// A graph and those it refers to, each once.
#[derive(Debug)]
pub(crate) struct GraphSet {
    /// The graph asked for.
    pub(crate) root: Arc<CompiledGraph>,
    /// The others, by name.
    pub(crate) others: BTreeMap<String, Arc<CompiledGraph>>,
    /// Warnings of the root's file.
    pub(crate) warnings: Diagnostics,
}

/// Reads and checks one file; `-` is standard input.
pub(crate) fn read(path: &Path, known: &Known) -> Result<(CompiledGraph, Diagnostics), Failure> {
    let (name, bytes) = if path == Path::new("-") {
        ("standard input".to_owned(), read_bytes(Path::new("/dev/stdin"), GRAPH_BYTES_MAX))
    } else {
        (path.display().to_string(), read_bytes(path, GRAPH_BYTES_MAX))
    };
    let bytes = bytes.map_err(|why| Failure::usage(format!("graph {name}: {why}")))?;
    graphs::check(&name, &bytes, known).map_err(|diagnostics| Failure::diagnostics(&diagnostics))
}

/// Reads a graph and every graph it refers to: beside it, or in the folders of the configuration.
pub(crate) fn load(path: &Path, config: &Config, known: &Known) -> Result<GraphSet, Failure> {
    let (root, warnings) = read(path, known)?;
    let root = Arc::new(root);
    let folder = path.parent().unwrap_or_else(|| Path::new("")).to_path_buf();
    let places: Vec<PathBuf> = std::iter::once(folder).chain(config.graphs.iter().cloned()).collect();
    let others = referred(&root, &places, known)?;
    Ok(GraphSet { root, others, warnings })
}

fn referred(
    root: &Arc<CompiledGraph>,
    places: &[PathBuf],
    known: &Known,
) -> Result<BTreeMap<String, Arc<CompiledGraph>>, Failure> {
    let mut others: BTreeMap<String, Arc<CompiledGraph>> = BTreeMap::new();
    let mut open = vec![Arc::clone(root)];
    while let Some(graph) = open.pop() {
        for name in references(&graph) {
            if name == root.name() || others.contains_key(&name) || others.len() >= GRAPHS_MAX {
                continue;
            }
            let found = find(&name, places, known)?.ok_or_else(|| missing(&graph, &name, places))?;
            open.push(Arc::clone(&found));
            others.insert(name, found);
        }
    }
    Ok(others)
}

/// Graphs that a graph runs or starts.
pub(crate) fn references(graph: &CompiledGraph) -> Vec<String> {
    let named = graph.nodes().iter().filter_map(|node| match &node.kind {
        Kind::Graph(node) => Some(node.graph.clone()),
        Kind::Spawn(node) => Some(node.graph.clone()),
        _ => None,
    });
    named.collect()
}

fn find(name: &str, places: &[PathBuf], known: &Known) -> Result<Option<Arc<CompiledGraph>>, Failure> {
    for place in places {
        for candidate in candidates(place, name) {
            let is_named_so = candidate.file_stem().is_some_and(|stem| stem == name);
            match read(&candidate, known) {
                Ok((graph, _)) if graph.name() == name => return Ok(Some(Arc::new(graph))),
                // A broken file of another name says nothing about this graph.
                Err(failure) if is_named_so => return Err(failure),
                _ => {}
            }
        }
    }
    Ok(None)
}

/// Files that may hold a graph: those named like it first, then the others of the folder.
fn candidates(place: &Path, name: &str) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_path_buf()];
    }
    let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    let shown = |path: PathBuf| path.strip_prefix("./").map(Path::to_path_buf).unwrap_or(path);
    let entries = std::fs::read_dir(place).into_iter().flatten().take(FOLDER_FILES_MAX);
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| shown(entry.path())).filter(is_yaml).collect();
    files.sort_by_key(|path| (path.file_stem().is_none_or(|stem| stem != name), path.clone()));
    files
}

fn missing(graph: &CompiledGraph, name: &str, places: &[PathBuf]) -> Failure {
    let looked: Vec<String> = places
        .iter()
        .map(|place| if place.as_os_str().is_empty() { ".".to_owned() } else { place.display().to_string() })
        .collect();
    Failure::usage(format!(
        "graph `{}` refers to graph `{name}`, and no file with `graph: {name}` is in {}",
        graph.name(),
        looked.join(", ")
    ))
    .help("put it beside the graph, or name its folder under `graphs:` in interlock.yaml")
}
