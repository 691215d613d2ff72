//! The set that ships: incidents of the estate that the demo and `agents/knowledge` describe.

use crate::golden::{Golden, Mistake, read};

/// Name of the set that ships.
pub const SHIPPED: &str = "etl";

macro_rules! files {
    ($($name:literal),*) => {
        [$((concat!("etl/", $name), include_str!(concat!("../etl/", $name)))),*]
    };
}

/// The set that ships.
///
/// # Errors
/// Never with the files that ship.
pub fn shipped() -> Result<Vec<Golden>, Vec<Mistake>> {
    let files = files!(
        "worlds.yaml",
        "transient.yaml",
        "schema_drift.yaml",
        "data_quality.yaml",
        "configuration.yaml",
        "upstream.yaml",
        "resource.yaml",
        "unknown.yaml",
        "rounds.yaml"
    );
    let files: Vec<(String, String)> =
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    read(&files)
}
