//! What a graph may mention: the names an installation knows.

/// The names known to an installation. `None` means "not known here, do not check".
pub trait Catalog {
    /// Functions registered with the runtime.
    fn functions(&self) -> Option<Vec<String>>;
    /// Tools, as `server.tool`.
    fn tools(&self) -> Option<Vec<String>>;
    /// Graphs that can be run as a subgraph or spawned.
    fn graphs(&self) -> Option<Vec<String>>;
    /// Agent roles.
    fn roles(&self) -> Option<Vec<String>>;
    /// Approvers and approver groups.
    fn approvers(&self) -> Option<Vec<String>>;
}

/// A catalog that knows nothing and therefore refuses nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenCatalog;

impl Catalog for OpenCatalog {
    fn functions(&self) -> Option<Vec<String>> {
        None
    }
    fn tools(&self) -> Option<Vec<String>> {
        None
    }
    fn graphs(&self) -> Option<Vec<String>> {
        None
    }
    fn roles(&self) -> Option<Vec<String>> {
        None
    }
    fn approvers(&self) -> Option<Vec<String>> {
        None
    }
}
