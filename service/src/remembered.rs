//! What an installation remembers, read from where its configuration says.

use std::path::{Path, PathBuf};

use agents::{Meaning, Memory};
use jiff::Zoned;
use jiff::civil::Date;
use memory::{Broken, Document, EPISODES_BYTES_MAX, Episodes, Library, read_folder};
use serde::Deserialize;

use crate::config::read_bounded;

/// The part `memory:` of `interlock.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemoryFiles {
    /// A folder of Markdown with YAML in front.
    pub(crate) runbooks: Option<PathBuf>,
    /// A file with one past incident a line.
    pub(crate) episodes: Option<PathBuf>,
    /// `provider/model` of `models:` that makes vectors; without it words alone are compared.
    pub(crate) embeddings: Option<String>,
}

/// What was read.
pub(crate) struct Remembered {
    /// Runbooks and schemas, those out of use too.
    pub(crate) documents: Vec<Document>,
    /// Past incidents.
    pub(crate) episodes: Episodes,
    /// What could not be read, with its file.
    pub(crate) broken: Vec<Broken>,
}

impl MemoryFiles {
    /// The same, seen from `base`.
    pub(crate) fn beside(self, base: &Path) -> Self {
        let seen = |path: Option<PathBuf>| path.map(|path| base.join(path));
        Self { runbooks: seen(self.runbooks), episodes: seen(self.episodes), embeddings: self.embeddings }
    }

    /// Reads everything. A file of episodes that is not there yet has none.
    pub(crate) fn read(&self) -> Result<Remembered, String> {
        let folder =
            self.runbooks.as_deref().map(read_folder).transpose().map_err(|why| format!("memory: runbooks {why}"))?;
        let folder = folder.unwrap_or_default();
        let episodes = match self.episodes.as_deref().filter(|file| file.exists()) {
            None => Episodes::default(),
            Some(file) => {
                let text = read_bounded(file, EPISODES_BYTES_MAX)
                    .map_err(|why| format!("memory: episodes {}: {why}", file.display()))?;
                Episodes::parse(&text)
            }
        };
        let mut broken = folder.broken;
        broken.extend(episodes.broken.iter().cloned());
        Ok(Remembered { documents: folder.documents, episodes, broken })
    }

    /// What agents work with.
    pub(crate) fn memory(&self, meaning: Option<Meaning>) -> Result<Memory, String> {
        let read = self.read()?;
        for broken in &read.broken {
            tracing::warn!("memory: {broken}");
        }
        let library = Library::new(read.documents);
        if library.left_out() > 0 {
            tracing::warn!(
                "memory: {} pieces of runbooks are beyond the bound and are not searched",
                library.left_out()
            );
        }
        Ok(Memory::new(library, read.episodes, meaning, today))
    }
}

/// The day it is, in universal time.
pub(crate) fn today() -> Date {
    Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC).date()
}
