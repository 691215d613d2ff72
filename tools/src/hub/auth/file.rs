//! The tokens of one server on disk: one file, for its owner only, bound to one address.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use rmcp::transport::auth::{AuthError, CredentialRefreshGuard, CredentialStore, StoredCredentials};
use serde::{Deserialize, Serialize};

/// What the file holds. The times in it are absolute, so that a restart does not prolong a token.
#[derive(Serialize, Deserialize)]
struct Record {
    /// The tokens are for this address and no other.
    resource: String,
    credentials: StoredCredentials,
}

/// Keeps the credentials of one server, in a file or in memory.
#[derive(Clone)]
pub(super) struct TokenFile {
    path: Option<PathBuf>,
    resource: String,
    memory: Arc<Mutex<Option<StoredCredentials>>>,
}

impl TokenFile {
    pub(super) fn new(path: Option<PathBuf>, resource: &str) -> Self {
        Self { path, resource: resource.into(), memory: Arc::default() }
    }

    /// Whether there is anything to load.
    pub(super) fn is_filled(&self) -> bool {
        self.memory.lock().is_some() || self.path.as_deref().is_some_and(Path::exists)
    }

    fn read(&self) -> io::Result<Option<StoredCredentials>> {
        let Some(path) = &self.path else { return Ok(self.memory.lock().clone()) };
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // A file that cannot be read costs a login, nothing else.
        let record: Option<Record> = serde_json::from_slice(&bytes).ok();
        Ok(record.filter(|record| record.resource == self.resource).map(|record| record.credentials))
    }

    fn write(&self, credentials: StoredCredentials) -> io::Result<()> {
        let Some(path) = &self.path else {
            *self.memory.lock() = Some(credentials);
            return Ok(());
        };
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let record = Record { resource: self.resource.clone(), credentials };
        let bytes = serde_json::to_vec(&record)?;
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(fresh, path)
    }

    fn remove(&self) -> io::Result<()> {
        *self.memory.lock() = None;
        match self.path.as_deref().map(fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Two processes that refresh at once would each use up the other's refresh token.
    fn lock(&self) -> io::Result<Option<File>> {
        let Some(path) = &self.path else { return Ok(None) };
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path.with_extension("lock"))?;
        file.lock()?;
        Ok(Some(file))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, AuthError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten();
    done.map_err(|error| AuthError::CredentialStoreError(format!("the token file: {error}")))
}

#[async_trait]
impl CredentialStore for TokenFile {
    async fn load(&self) -> Result<Option<StoredCredentials>, AuthError> {
        let this = self.clone();
        blocking(move || this.read()).await
    }

    async fn save(&self, credentials: StoredCredentials) -> Result<(), AuthError> {
        let this = self.clone();
        blocking(move || this.write(credentials)).await
    }

    async fn clear(&self) -> Result<(), AuthError> {
        let this = self.clone();
        blocking(move || this.remove()).await
    }

    async fn acquire_refresh_guard(&self) -> Result<Option<CredentialRefreshGuard>, AuthError> {
        let this = self.clone();
        let file = blocking(move || this.lock()).await?;
        Ok(file.map(CredentialRefreshGuard::new))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn credentials(token: &str) -> StoredCredentials {
        let response = serde_json::json!({"access_token": token, "token_type": "bearer", "expires_in": 60});
        let response = serde_json::from_value(response).unwrap();
        StoredCredentials::new("client".into(), Some(response), Vec::new(), Some(1_700_000_000))
    }

    #[tokio::test]
    async fn tokens_are_for_their_owner_and_one_address() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens").join("w.json");
        let file = TokenFile::new(Some(path.clone()), "https://a.test/mcp");
        assert!(file.load().await.unwrap().is_none() && !file.is_filled());
        file.save(credentials("t-123456")).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        let loaded = file.load().await.unwrap().unwrap();
        assert_eq!(loaded.token_received_at, Some(1_700_000_000), "the time it was given is kept, not the time left");
        let other = TokenFile::new(Some(path.clone()), "https://b.test/mcp");
        assert!(other.load().await.unwrap().is_none(), "a token is not taken to another address");
        fs::write(&path, "half a fi").unwrap();
        assert!(file.load().await.unwrap().is_none());
        file.clear().await.unwrap();
        assert!(!path.exists());
    }
}
