//! Protection on the way to a PostgreSQL that has a certificate of an authority of the test's own, and to one without.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Cluster;
use crate::config::{Config, Database, Postgres};
use crate::error::{Result, SqlError};
use crate::guard::Effect;
use crate::wall::Limits;
use crate::wall::postgres::{Purpose, run, with_session};

/// Whether the session that asks is encrypted.
const ENCRYPTED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// A server on this machine's network, with its authority's certificate and that of a stranger.
struct Served {
    cluster: Cluster,
    authority: PathBuf,
    stranger: PathBuf,
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A file that PostgreSQL accepts: its own, and closed to others.
fn write(file: &Path, text: &str, account: Option<(u32, u32)>) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    if let Some((user, group)) = account {
        chown(file, Some(user), Some(group)).unwrap();
    }
}

impl Served {
    async fn start(encrypted: bool) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (own, other) = (authority(), authority());
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &own).unwrap();
        let mut settings = vec!["listen_addresses=127.0.0.1"];
        if encrypted {
            settings.extend(["ssl=on", "ssl_cert_file=../server.pem", "ssl_key_file=../server.key"]);
        }
        let cluster = Cluster::start_with(port, &settings, |dir, account| {
            write(&dir.join("server.pem"), &certificate.pem(), account);
            write(&dir.join("server.key"), &key.serialize_pem(), account);
        })
        .await;
        let dir = cluster.dir.path();
        let (authority, stranger) = (dir.join("authority.pem"), dir.join("stranger.pem"));
        fs::write(&authority, own.pem()).unwrap();
        fs::write(&stranger, other.pem()).unwrap();
        Self { cluster, authority, stranger }
    }

    /// A connection that reaches it as `host`.
    fn connection(&self, host: &str, mode: &str, authority: Option<&Path>) -> crate::config::Connection {
        let file = authority.map(|file| format!(", sslrootcert: {}", file.display())).unwrap_or_default();
        let text = format!(
            "roles: {{r: {{limits: [SELECT_ONLY], tables: [public.*]}}}}\n\
             connections: {{wh: {{dsn_env: DSN, role: r, environment: staging, sslmode: {mode}{file}}}}}"
        );
        let dsn = format!("host={host} hostaddr=127.0.0.1 port={} user=agent_ro dbname=postgres", self.cluster.port);
        let config = Config::parse(&text, Path::new("/"), &|_| Some(dsn.clone())).unwrap();
        config.connections["wh"].clone()
    }

    async fn asks(&self, host: &str, mode: &str, authority: Option<&Path>) -> Result<Value> {
        let connection = self.connection(host, mode, authority);
        rows(&connection, server(&connection), ENCRYPTED, &CancellationToken::new()).await
    }
}

fn server(connection: &crate::config::Connection) -> &Postgres {
    match &connection.database {
        Database::Postgres(server) => server,
        Database::Sqlite(_) => panic!("not PostgreSQL"),
    }
}

async fn rows(
    connection: &crate::config::Connection,
    server: &Postgres,
    sql: &str,
    cancelled: &CancellationToken,
) -> Result<Value> {
    let purpose = Purpose { effect: Effect::Reads, statement_timeout: Duration::from_secs(60) };
    let limits = Limits { rows: 10, bytes: 10_000 };
    let ran = with_session(connection, server, purpose, cancelled, async |t| run(t, sql, limits).await).await?;
    Ok(json!(ran.rows.rows))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_protects_as_far_as_it_says() {
    let served = Served::start(true).await;
    let (own, strange) = (Some(served.authority.as_path()), Some(served.stranger.as_path()));
    let (encrypted, plain) = (json!([{ "ssl": true }]), json!([{ "ssl": false }]));
    for (host, mode, authority, expected) in [
        ("localhost", "disable", None, &plain),
        ("localhost", "prefer", None, &encrypted),
        ("localhost", "require", None, &encrypted),
        ("elsewhere", "require", None, &encrypted),
        ("localhost", "verify-ca", own, &encrypted),
        ("elsewhere", "verify-ca", own, &encrypted),
        ("localhost", "verify-full", own, &encrypted),
    ] {
        assert_eq!(&served.asks(host, mode, authority).await.unwrap(), expected, "{mode} as {host}");
    }
    for (host, mode, authority) in [
        ("elsewhere", "verify-full", own),
        ("127.0.0.1", "verify-full", own),
        ("localhost", "verify-full", strange),
        ("localhost", "verify-ca", strange),
        // No authority of this system knows it.
        ("localhost", "verify-full", None),
        ("localhost", "verify-ca", None),
    ] {
        let error = served.asks(host, mode, authority).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.code.class()), ("permission", "denied"), "{mode} as {host}: {error}");
        assert!(error.message.contains("certificate"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_used_only_where_that_is_fine() {
    let served = Served::start(false).await;
    assert_eq!(served.asks("localhost", "prefer", None).await.unwrap(), json!([{ "ssl": false }]));
    for (mode, authority) in [("require", None), ("verify-full", Some(served.authority.as_path()))] {
        let SqlError { message, .. } = served.asks("localhost", mode, authority).await.unwrap_err();
        assert!(message.contains("does not support TLS"), "{mode}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_cancelled_over_tls_too() {
    let served = Served::start(true).await;
    let admin = served.cluster.admin().await;
    let connection = served.connection("localhost", "verify-full", Some(&served.authority));
    let cancelled = CancellationToken::new();
    let endless = rows(&connection, server(&connection), super::black_box::ENDLESS, &cancelled);
    tokio::pin!(endless);
    let error = loop {
        tokio::select! {
            ended = &mut endless => break ended.unwrap_err(),
            count = super::black_box::running(&admin), if !cancelled.is_cancelled() => if count > 0 { cancelled.cancel() },
        }
    };
    assert_eq!(error.code.as_str(), "cancelled", "{error}");
    assert_eq!(super::black_box::running(&admin).await, 0);
}
