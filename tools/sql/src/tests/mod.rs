//! The server against a real PostgreSQL, which a test starts in a folder of its own and stops by its process id.

mod black_box;
mod lite;
mod reference;
mod serve;
mod tls;
mod walls;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::config::Config;
use crate::error::SqlError;
use crate::tools::{App, Call};

/// Seconds that the accounts of the tests may run a statement.
const LIMIT_S: u64 = 2;

/// Names the socket of a cluster that listens on nothing else.
const PORT: u16 = 5432;

/// A cluster with the fixture.
pub(crate) struct Cluster {
    server: Child,
    port: u16,
    dir: TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // An immediate shutdown: nothing in it is wanted any more.
        let _ = Command::new("kill").args(["-QUIT", &self.server.id().to_string()]).status();
        let _ = self.server.wait();
    }
}

/// PostgreSQL's programs; `cargo xtask test` installs the package where they are missing.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|entry| entry.path().join("bin")).filter(|bin| bin.join("initdb").exists()).collect();
    found.extend(
        std::env::var_os("PATH").iter().flat_map(std::env::split_paths).filter(|bin| bin.join("initdb").exists()),
    );
    found.sort();
    found.pop().expect("PostgreSQL's server programs (Debian: apt-get install postgresql)")
}

/// The user that runs the server: root must not.
fn account() -> Option<(u32, u32)> {
    let me = Command::new("id").arg("-u").output().unwrap();
    if String::from_utf8_lossy(&me.stdout).trim() != "0" {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("an unprivileged account"))
}

fn program(name: &str, account: Option<(u32, u32)>, dir: &Path) -> Command {
    let mut command = Command::new(programs().join(name));
    command.current_dir(dir).env("LC_ALL", "C");
    if let Some((user, group)) = account {
        command.uid(user).gid(group);
    }
    command
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(PORT, &["listen_addresses="], |_, _| ()).await
    }

    /// A cluster with settings of its own; `prepare` puts files beside its data.
    pub(crate) async fn start_with(
        port: u16,
        settings: &[&str],
        prepare: impl FnOnce(&Path, Option<(u32, u32)>),
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("ilsql").tempdir_in("/tmp").unwrap();
        let account = account();
        if let Some((user, group)) = account {
            chown(dir.path(), Some(user), Some(group)).unwrap();
        }
        let data = dir.path().join("data");
        let made = program("initdb", account, dir.path())
            .arg("-D")
            .arg(&data)
            .args(["-U", "admin", "-A", "trust", "-E", "UTF8", "--no-sync"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        prepare(dir.path(), account);
        let settings = settings.iter().flat_map(|setting| ["-c", *setting]);
        let mut server = program("postgres", account, dir.path())
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(dir.path())
            .args(["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "autovacuum=off"])
            .args(settings)
            .args(["-p", &port.to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(server.stderr.take().unwrap());
        let mut lines = log.lines();
        assert!(lines.any(|line| line.unwrap().contains("ready to accept connections")), "the server did not start");
        // Whoever closes the other end of a pipe kills the writer.
        std::thread::spawn(move || lines.for_each(drop));
        let cluster = Self { server, port, dir };
        cluster.admin().await.batch_execute(include_str!("fixture.sql")).await.unwrap();
        cluster
    }

    fn dsn(&self, user: &str) -> String {
        let (dir, port) = (self.dir.path().display(), self.port);
        format!("host={dir} port={port} user={user} dbname=postgres password=canary-secret")
    }

    pub(crate) async fn admin(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.dsn("admin"), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Connections: `analyst` reads, `engineer` writes in staging, `production` only reads, `healer` writes in production
    /// after an approval.
    pub(crate) fn app(&self) -> App {
        App { config: std::sync::Arc::new(self.config()) }
    }

    pub(crate) fn config(&self) -> Config {
        let text = include_str!("connections.yaml").replace("LIMIT_S", &LIMIT_S.to_string());
        let variable = |name: &str| match name {
            "RO" => Some(self.dsn("agent_ro")),
            "RW" => Some(self.dsn("agent_rw")),
            _ => None,
        };
        Config::parse(&text, self.dir.path(), &variable).unwrap()
    }

    /// Everything that a statement could have changed.
    pub(crate) async fn state(&self, admin: &Client) -> String {
        let sql = "SELECT concat_ws('|', \
            (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM public.orders t), \
            (SELECT count(*) FROM public.events), (SELECT md5(string_agg(p::text, ',' ORDER BY id)) FROM public.payroll p), \
            (SELECT count(*) FROM public.drop_requests), (SELECT last_value::text || is_called FROM public.orders_id_seq), \
            (SELECT count(*) FROM pg_largeobject_metadata), (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_proc), \
            (SELECT string_agg(rolname || rolsuper, ',' ORDER BY rolname) FROM pg_roles), (SELECT count(*) FROM pg_extension), \
            (SELECT count(*) FROM pg_db_role_setting), (SELECT count(*) FROM pg_replication_slots), \
            (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_subscription), (SELECT count(*) FROM pg_namespace), \
            (SELECT count(*) FROM pg_database), (SELECT string_agg(relacl::text, ',' ORDER BY oid) FROM pg_class), \
            (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), \
            (SELECT md5(string_agg(name || setting, ',' ORDER BY name)) FROM pg_settings WHERE context <> 'internal'))";
        admin.query_one(sql, &[]).await.unwrap().get(0)
    }
}

/// Calls a tool.
pub(crate) async fn call(app: &App, tool: &str, arguments: Value) -> Result<Value, SqlError> {
    app.call(tool, arguments, &Call::default()).await
}
