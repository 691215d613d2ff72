//! OAuth 2.1 towards one HTTP server: its own token, fetched when it asks, renewed when it refuses, shown to nobody else.
//!
//! The protocol (PKCE, metadata, resource indicator, issuer, registration) is the library's; this module decides when it
//! runs, how often, where its results are kept, and that a token never leaves for another address. Whoever has a browser
//! is behind [`Consent`]; without one, a server that wants a person says so in a clear error.

mod consent;
mod file;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::Url;
use rmcp::transport::AuthorizationManager;
use rmcp::transport::auth::{
    AuthError, AuthorizationCallback, AuthorizationRequest, AuthorizationSession, ClientCredentialsConfig,
    JwtSigningAlgorithm, WWWAuthenticateParams,
};

pub use self::consent::{Consent, LOGIN_TIMEOUT, LoopbackConsent};

use self::file::TokenFile;
use super::error::quote;
use super::http::Reach;
use super::reference::Secrets;

/// Name we register under.
const CLIENT_NAME: &str = "Interlock";
/// Sets of rights asked for on top of the first, per server and process.
const STEP_UPS_MAX: usize = 8;

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Grant {
    /// A person agrees in a browser.
    #[default]
    AuthorizationCode,
    /// The program has credentials of its own.
    ClientCredentials,
}

/// The `oauth` object of a server; values may be references such as `${NAME}`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OAuthConfig {
    /// Which flow.
    pub grant: Grant,
    /// Identity registered beforehand.
    pub client_id: Option<String>,
    /// Its secret.
    pub client_secret: Option<String>,
    /// Address of a published description of this client, used where the server takes such.
    pub client_metadata_url: Option<String>,
    /// PEM key that signs assertions, instead of a secret.
    pub private_key: Option<String>,
    /// Algorithm of the key: `ES256`, `RS256` …
    pub algorithm: Option<String>,
    /// Rights asked for; by default what the server names.
    pub scopes: Vec<String>,
}

/// Secrets are not shown.
impl std::fmt::Debug for OAuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OAuthConfig")
            .field("grant", &self.grant)
            .field("client_id", &self.client_id)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// What came of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// There is another token: send the request again.
    Again,
    /// Nothing can be done about it.
    Stands,
}

/// The tokens of one server.
pub(super) struct Tokens {
    server: String,
    url: Url,
    reach: Reach,
    config: OAuthConfig,
    consent: Option<Arc<dyn Consent>>,
    store: TokenFile,
    secrets: Secrets,
    inner: tokio::sync::Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    manager: Option<AuthorizationManager>,
    stepped_up: BTreeSet<String>,
}

/// What a hub gives to the tokens of a server.
pub(super) struct Keeping {
    pub(super) consent: Option<Arc<dyn Consent>>,
    /// Folder of token files; `None` keeps tokens in memory.
    pub(super) folder: Option<PathBuf>,
    pub(super) secrets: Secrets,
}

impl Tokens {
    pub(super) fn new(server: &str, url: Url, reach: Reach, config: OAuthConfig, keeping: Keeping) -> Self {
        let store = TokenFile::new(keeping.folder.map(|folder| folder.join(format!("{server}.json"))), url.as_str());
        let (consent, secrets) = (keeping.consent, keeping.secrets);
        Self {
            server: server.into(),
            url,
            reach,
            config,
            consent,
            store,
            secrets,
            inner: tokio::sync::Mutex::default(),
        }
    }

    /// The token to send now; `None` before the first login. Renewed shortly before its end.
    pub(super) async fn current(&self) -> Option<String> {
        let mut inner = self.inner.lock().await;
        if inner.manager.is_none() && self.store.is_filled() {
            let mut manager = self.manager().await.ok()?;
            if manager.initialize_from_store().await.ok()? {
                inner.manager = Some(manager);
            }
        }
        let token = inner.manager.as_ref()?.get_access_token().await.ok()?;
        self.secrets.add(&token);
        Some(token)
    }

    /// Answers a 401: refreshes, or logs in anew.
    ///
    /// # Errors
    /// Why there is no new token.
    pub(super) async fn renew(&self, challenge: Option<&str>, sent: Option<&str>) -> Result<Renewal, String> {
        let mut inner = self.inner.lock().await;
        if let (Some(sent), Some(manager)) = (sent, &inner.manager)
            && manager.get_access_token().await.is_ok_and(|token| token != sent)
        {
            // Another request renewed it meanwhile.
            return Ok(Renewal::Again);
        }
        let mut manager = self.manager().await.map_err(|error| self.failed(&error))?;
        let found = manager.resolve_metadata_from_challenge(challenge).await.map_err(|error| self.failed(&error))?;
        manager.set_metadata(found.metadata);
        let manager = match self.config.grant {
            Grant::ClientCredentials => self.exchange(manager).await?,
            Grant::AuthorizationCode => self.refresh_or_log_in(manager).await?,
        };
        inner.manager = Some(manager);
        Ok(Renewal::Again)
    }

    /// Answers a 403: asks for the rights it names, once for each set.
    ///
    /// # Errors
    /// Why they were not given.
    pub(super) async fn step_up(&self, challenge: &str) -> Result<Renewal, String> {
        let params = WWWAuthenticateParams::parse(challenge, &self.url);
        let Some(wanted) = params.scope.clone().filter(|_| params.is_insufficient_scope()) else {
            return Ok(Renewal::Stands);
        };
        let mut inner = self.inner.lock().await;
        let new = inner.stepped_up.len() < STEP_UPS_MAX && inner.stepped_up.insert(wanted.clone());
        if !new || self.config.grant == Grant::ClientCredentials {
            return Ok(Renewal::Stands);
        }
        let Some(manager) = inner.manager.take() else { return Ok(Renewal::Stands) };
        let consent = self.consent()?;
        let url = manager.request_scope_upgrade(&wanted).await.map_err(|error| self.failed(&error))?;
        let session = AuthorizationSession::for_scope_upgrade(manager, url, &consent.redirect_uri());
        inner.manager = Some(self.agree(session, consent).await?);
        Ok(Renewal::Again)
    }

    /// A manager that knows nothing yet: metadata is read again at every login, so that a server that moved to another
    /// authorization server is noticed and no credential of the old one is sent to the new.
    async fn manager(&self) -> Result<AuthorizationManager, AuthError> {
        let mut manager = if self.reach.private {
            AuthorizationManager::new_allowing_private_addresses(self.url.clone()).await?
        } else {
            AuthorizationManager::new(self.url.clone()).await?
        };
        manager.set_credential_store(self.store.clone());
        Ok(manager)
    }

    async fn exchange(&self, mut manager: AuthorizationManager) -> Result<AuthorizationManager, String> {
        let config = self.credentials()?;
        manager.configure_client_credentials(&config).map_err(|error| self.failed(&error))?;
        // The library's future cannot move between threads, so it gets one of its own.
        let runtime = tokio::runtime::Handle::current();
        let exchange = move || runtime.block_on(manager.exchange_client_credentials(&config)).map(|_| manager);
        match tokio::task::spawn_blocking(exchange).await {
            Ok(exchanged) => exchanged.map_err(|error| self.failed(&error)),
            Err(error) => Err(format!("logging in to server {} failed: {error}", self.server)),
        }
    }

    fn credentials(&self) -> Result<ClientCredentialsConfig, String> {
        let missing = |what: &str| format!("`oauth.{what}` of server {} is missing", self.server);
        let client_id = self.config.client_id.clone().ok_or_else(|| missing("client_id"))?;
        let (scopes, resource) = (self.config.scopes.clone(), Some(self.url.to_string()));
        let Some(key) = &self.config.private_key else {
            let client_secret = self.config.client_secret.clone().ok_or_else(|| missing("client_secret"))?;
            return Ok(ClientCredentialsConfig::ClientSecret { client_id, client_secret, scopes, resource });
        };
        let signing_algorithm = match self.config.algorithm.as_deref() {
            None | Some("ES256") => JwtSigningAlgorithm::ES256,
            Some("ES384") => JwtSigningAlgorithm::ES384,
            Some("RS256") => JwtSigningAlgorithm::RS256,
            Some("RS384") => JwtSigningAlgorithm::RS384,
            Some("RS512") => JwtSigningAlgorithm::RS512,
            Some(other) => return Err(format!("`oauth.algorithm`: `{}` is not known", quote(other))),
        };
        Ok(ClientCredentialsConfig::PrivateKeyJwt {
            client_id,
            signing_key: key.clone().into_bytes(),
            signing_algorithm,
            token_endpoint_audience: None,
            scopes,
            resource,
        })
    }

    async fn refresh_or_log_in(&self, mut manager: AuthorizationManager) -> Result<AuthorizationManager, String> {
        // Credentials of another authorization server are dropped here.
        let known = manager.initialize_from_store().await.map_err(|error| self.failed(&error))?;
        if known && manager.refresh_token().await.is_ok() {
            return Ok(manager);
        }
        let consent = self.consent()?;
        let mut request = AuthorizationRequest::new(consent.redirect_uri()).with_client_name(CLIENT_NAME);
        request.client_id.clone_from(&self.config.client_id);
        request.client_secret.clone_from(&self.config.client_secret);
        request.client_metadata_url.clone_from(&self.config.client_metadata_url);
        request.scopes.clone_from(&self.config.scopes);
        let session = AuthorizationSession::new(manager, request).await.map_err(|(_, error)| self.failed(&error))?;
        self.agree(session, consent).await
    }

    async fn agree(
        &self,
        session: AuthorizationSession,
        consent: &dyn Consent,
    ) -> Result<AuthorizationManager, String> {
        let url = session.get_authorization_url();
        if !url.starts_with("https://") && self.reach.read(url).is_err() {
            return Err(format!("the authorization server of {} gives an address that is not opened", self.server));
        }
        let back = consent.visit(&self.server, url).await?;
        let callback = AuthorizationCallback::from_redirect_url(&back).map_err(|error| self.failed(&error))?;
        session
            .handle_callback_with_issuer(&callback.code, &callback.csrf_token, callback.issuer.as_deref())
            .await
            .map_err(|error| self.failed(&error))?;
        Ok(session.auth_manager)
    }

    fn consent(&self) -> Result<&dyn Consent, String> {
        self.consent.as_deref().ok_or_else(|| {
            format!("server {} wants a person to log in, and nobody is there: log in once by hand (`interlock tools login {}`)", self.server, self.server)
        })
    }

    fn failed(&self, error: &AuthError) -> String {
        self.secrets.scrub(quote(&format!("logging in to server {} failed: {error}", self.server)))
    }
}
