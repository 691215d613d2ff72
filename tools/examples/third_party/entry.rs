//! An entry of the catalog.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tools::hub::ParsedServers;
use tools::policy::RulePolicy;

/// Largest entry in bytes.
const ENTRY_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    #[serde(skip)]
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) install: Install,
    #[serde(rename = "mcpServers")]
    servers: Value,
    policy: Value,
    /// Installs much; attached only when all are asked for.
    #[serde(default)]
    pub(crate) heavy: bool,
    #[serde(default)]
    pub(crate) check: Vec<Check>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Install {
    Npm(String),
    Pypi(Vec<String>),
}

/// How to start it here, and what is expected of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Check {
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Set for a server over HTTP.
    #[serde(default)]
    pub(crate) path: Option<String>,
    pub(crate) era: String,
    /// Reading, writing, destroying, silent.
    pub(crate) tools: [usize; 4],
    #[serde(default)]
    pub(crate) call: Option<Call>,
    /// A tool that prints the environment.
    #[serde(default)]
    pub(crate) hides: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    pub(crate) tool: String,
    pub(crate) args: Value,
    pub(crate) says: String,
    #[serde(default)]
    pub(crate) error: bool,
}

impl Entry {
    /// Reads every entry of a folder, and holds each to what a user would get of it.
    pub(crate) fn all(folder: &Path) -> Result<Vec<Self>, String> {
        let mut entries = Vec::new();
        for file in std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
            let path = file.map_err(|error| error.to_string())?.path();
            if path.extension().is_none_or(|end| end != "yaml") {
                continue;
            }
            entries.push(Self::read(&path).map_err(|error| format!("{}: {error}", path.display()))?);
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn read(path: &Path) -> Result<Self, String> {
        let size = path.metadata().map_err(|error| error.to_string())?.len();
        if size > ENTRY_BYTES_MAX {
            return Err(format!("an entry has at most {ENTRY_BYTES_MAX} bytes"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let mut entry: Self = serde_saphyr::from_str(&text).map_err(|error| error.to_string())?;
        entry.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let parsed = ParsedServers::parse(&entry.servers);
        if !parsed.errors.is_empty() || !parsed.warnings.is_empty() || parsed.servers.is_empty() {
            return Err(format!("its servers are not usable: {:?} {:?}", parsed.errors, parsed.warnings));
        }
        RulePolicy::from_yaml(&entry.policy.to_string()).map_err(|error| error.to_string())?;
        if entry.about.is_empty() {
            return Err("it does not say what it is".to_owned());
        }
        Ok(entry)
    }
}
