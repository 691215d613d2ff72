//! Why a backend could not do what was asked.

use std::path::PathBuf;

/// An error of a backend. Cloned to every writer whose commit shared the failed sync.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The operating system refused something.
    #[error("{what} failed at {path}: {cause}", path = path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        cause: String,
    },
    /// The engine refused something.
    #[error("the {engine} engine failed to {what}: {cause}")]
    Engine {
        /// Which engine.
        engine: &'static str,
        /// What was being done.
        what: &'static str,
        /// The engine's words.
        cause: String,
    },
    /// An earlier failure closed the store; nothing after it was acknowledged.
    #[error(
        "the store closed itself after a failure and takes no more calls: {cause}. Remove the cause and start the \
         process again: everything acknowledged is read back from disk"
    )]
    Closed {
        /// The failure.
        cause: String,
    },
    /// Stored bytes are not what was written.
    #[error("{what} is damaged at {path}: {detail}. Restore the folder from a copy; `interlock fsck` lists what is left", path = path.display())]
    Damaged {
        /// Which part.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// How it shows.
        detail: String,
    },
    /// Another process has the store open.
    #[error("the store {path} is in use by {holder}. Stop that process, or use another folder", path = path.display())]
    Held {
        /// The folder.
        path: PathBuf,
        /// Process id, start and command of the holder.
        holder: String,
    },
    /// The folder holds something else than asked for.
    #[error("{path} {found}. {remedy}", path = path.display())]
    Format {
        /// The folder.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A key or value beyond its bound.
    #[error(
        "an entry of {key_bytes} + {value_bytes} bytes is beyond the bounds of 1 KiB for a key and 64 MiB for a value; store less in one record"
    )]
    TooLarge {
        /// Bytes of the key.
        key_bytes: usize,
        /// Bytes of the value.
        value_bytes: usize,
    },
    /// The job of a transaction panicked; nothing of it was written.
    #[error("a transaction stopped with a bug and wrote nothing: {cause}")]
    Bug {
        /// The panic's message.
        cause: String,
    },
}

impl KvError {
    pub(crate) fn io(what: &'static str, path: &std::path::Path, e: &std::io::Error) -> Self {
        Self::Io { what, path: path.to_path_buf(), cause: e.to_string() }
    }

    /// The error that later callers get once this one closed the store.
    pub(crate) fn closing(&self) -> Self {
        match self {
            Self::Closed { .. } => self.clone(),
            other => Self::Closed { cause: other.to_string() },
        }
    }
}
