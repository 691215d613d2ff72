//! Hands out checked-in bindings of libpg_query in place of generating them, so that building needs no libclang.
//!
//! The build script of `pg_query` asks a crate of this name for Rust declarations of `pg_query.h`. The generator reads
//! headers with libclang, which a machine with only Rust and a C compiler does not have. The header is small and changes
//! with its version only, so the declarations are a file here; a header of another version is refused by name.

use std::fmt;
use std::path::{Path, PathBuf};

/// The declarations.
const DECLARATIONS: &str = include_str!("libpg_query.rs.in");
/// The line of the header that they belong to.
const VERSION_LINE: &str = "#define PG_VERSION_NUM 180006";

/// What the build script configures: one header.
#[derive(Debug, Default)]
pub struct Builder {
    header: PathBuf,
}

impl Builder {
    /// The header to bind.
    pub fn header(self, path: impl Into<String>) -> Self {
        Self { header: PathBuf::from(path.into()) }
    }

    /// The declarations of the header.
    ///
    /// # Errors
    /// If the header cannot be read, or is not the one that the declarations were written for.
    pub fn generate(self) -> Result<Bindings, BindgenError> {
        let text = std::fs::read_to_string(&self.header).map_err(|e| BindgenError(e.to_string()))?;
        if !text.lines().any(|line| line == VERSION_LINE) {
            return Err(BindgenError(format!(
                "{} lacks the line {VERSION_LINE:?}: write tools/bindgen/src/libpg_query.rs.in anew for this version",
                self.header.display()
            )));
        }
        Ok(Bindings(()))
    }
}

/// Declarations, ready to be written.
#[derive(Debug)]
pub struct Bindings(());

impl Bindings {
    /// Writes them where the crate includes them from.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_to_file(&self, path: impl AsRef<Path>) -> std::io::Result<()> {
        std::fs::write(path, DECLARATIONS)
    }
}

/// Why there are no declarations.
#[derive(Debug)]
pub struct BindgenError(String);

impl fmt::Display for BindgenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BindgenError {}
