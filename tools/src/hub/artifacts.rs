//! What is too long for a result: kept whole under the digest of its content, so that a handle is enough.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::limits::ARTIFACT_BYTES_MAX;

/// Prefix of a handle.
const SCHEME: &str = "artifact:";

/// A stored part of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Artifact {
    /// `artifact:` and the SHA-256 of the content.
    pub handle: String,
    /// Its size.
    pub bytes: usize,
}

/// A folder of artifacts, one file each, for its owner only.
#[derive(Debug, Clone)]
pub struct Artifacts {
    folder: PathBuf,
}

impl Artifacts {
    /// Artifacts in `folder`, which is made when it is needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Keeps a content; the same content twice is one file.
    ///
    /// # Errors
    /// If it is too large or cannot be written.
    pub fn keep(&self, content: &[u8]) -> io::Result<Artifact> {
        if content.len() > ARTIFACT_BYTES_MAX {
            return Err(io::Error::other(format!("an artifact has at most {ARTIFACT_BYTES_MAX} bytes")));
        }
        let name = hex::encode(Sha256::digest(content));
        let path = self.folder.join(&name);
        if !path.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            let fresh = self.folder.join(format!("{name}.{}.new", std::process::id()));
            let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(fresh, path)?;
        }
        Ok(Artifact { handle: format!("{SCHEME}{name}"), bytes: content.len() })
    }

    /// A part of what a handle stands for, cut to what there is.
    ///
    /// # Errors
    /// If the handle is none of ours or its file is gone or changed.
    pub fn read(&self, handle: &str, from: usize, bytes_max: usize) -> io::Result<Vec<u8>> {
        let name =
            handle.strip_prefix(SCHEME).filter(|name| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()));
        let name = name.ok_or_else(|| io::Error::other("this is no handle of an artifact"))?;
        let content = fs::read(Path::new(&self.folder).join(name))?;
        if hex::encode(Sha256::digest(&content)) != name {
            return Err(io::Error::other("the artifact is not what was stored"));
        }
        let from = from.min(content.len());
        let to = from.saturating_add(bytes_max).min(content.len());
        Ok(content[from..to].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_gives_back_what_was_kept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(dir.path().join("artifacts"));
        let kept = artifacts.keep(b"hello world").unwrap();
        assert_eq!((artifacts.keep(b"hello world").unwrap(), kept.bytes), (kept.clone(), 11));
        assert_eq!(artifacts.read(&kept.handle, 6, 100).unwrap(), b"world");
        assert_eq!(artifacts.read(&kept.handle, 100, 100).unwrap(), b"");
        for handle in ["artifact:../../etc/passwd", "/etc/passwd", &kept.handle.to_uppercase()] {
            assert!(artifacts.read(handle, 0, 1).is_err(), "{handle}");
        }
        let name = kept.handle.strip_prefix(SCHEME).unwrap();
        fs::write(dir.path().join("artifacts").join(name), "changed").unwrap();
        assert!(artifacts.read(&kept.handle, 0, 1).is_err(), "a changed file is not handed out");
    }
}
