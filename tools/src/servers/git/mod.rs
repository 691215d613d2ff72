//! Git repositories as MCP tools: which commit broke what runs from a work tree, and taking exactly that one back.
//!
//! ```text
//!  tools ──▶ Repositories ──▶ Repo ──▶ Git (the program: no shell, no hooks, no network, bounds)
//!              └ Config: which work trees, which branch of each is deployed, what may be taken back
//! ```
//!
//! * **Names, not places.** A caller names a repository of the configuration, a commit by its digits, a file by its path. No
//!   argument is ever an option, a pattern, a revision expression or a way out of the work tree.
//! * **Read beside.** What a reversal would do is worked out in a folder of its own; the repository stays as it is.
//! * **One act.** `revert_commit` adds a commit if the branch still is where the caller saw it. History is never rewritten, and
//!   nothing is pushed or fetched.
//! * **A stranger's text.** Messages, names and diffs are data of whoever wrote them.
//!
//! `TOOLS.md` beside this file shows every tool; a test writes it.

pub mod config;
mod error;
pub mod look;
mod program;
pub mod registry;
mod repo;
pub mod revert;
mod server;
pub mod suspect;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

pub use config::Config;
pub use error::{Code, GitError, Result};
use program::Git;
use repo::Repo;
pub use server::{GitServer, serve_stdio};

/// The declared repositories. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repositories {
    config: Arc<Config>,
    /// Who acts in a repository acts alone.
    acting: Arc<BTreeMap<String, Arc<Mutex<()>>>>,
}

impl Repositories {
    /// The repositories of a configuration. Nothing is looked at before the first call.
    pub fn new(config: Config) -> Self {
        let acting = config.repositories.keys().map(|name| (name.clone(), Arc::default())).collect();
        Self { config: Arc::new(config), acting: Arc::new(acting) }
    }

    fn git(&self, name: &str) -> Result<Git> {
        let declared = self.config.repository(name)?;
        if !declared.path.join(".git").exists() {
            let text = format!("{} is no work tree of Git (`repositories.{name}.path`)", declared.path.display());
            return Err(GitError::new(Code::NotFound, text));
        }
        Ok(Git::reading(&declared.path))
    }

    fn repo<'a>(&'a self, name: &'a str, git: &'a Git) -> Result<Repo<'a>> {
        Ok(Repo { name, declared: self.config.repository(name)?, git })
    }

    async fn alone(&self, name: &str) -> Option<OwnedMutexGuard<()>> {
        match self.acting.get(name) {
            Some(acting) => Some(Arc::clone(acting).lock_owned().await),
            None => None,
        }
    }
}
