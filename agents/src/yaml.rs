//! Reading the declared knowledge: bounded, closed world, errors that say which file.

use serde::de::DeserializeOwned;

/// Largest knowledge file in bytes.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// A knowledge file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {why}")]
pub struct Broken {
    /// Which file.
    pub file: &'static str,
    /// What is wrong with it, and what to do.
    pub why: String,
}

impl Broken {
    pub(crate) fn new(file: &'static str, why: impl Into<String>) -> Self {
        Self { file, why: why.into() }
    }
}

pub(crate) fn read<T: DeserializeOwned>(file: &'static str, text: &str) -> Result<T, Broken> {
    if text.len() > FILE_BYTES_MAX {
        return Err(Broken::new(file, format!("larger than {FILE_BYTES_MAX} bytes: split it")));
    }
    serde_saphyr::from_str(text).map_err(|error| Broken::new(file, error.to_string()))
}
