//! Where a server of the catalog runs in the test: a folder of its own with a file, a repository and a cluster in it.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tools::hub::{ServerConfig, TransportConfig};

use super::entry::{Check, Entry, Install};

/// Python servers need this long on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Pause between two looks whether a server over HTTP listens, or whether everybody is gone.
const POLL: Duration = Duration::from_millis(100);
/// How long the end of killed processes is awaited.
const GONE_MAX: Duration = Duration::from_secs(10);
/// Runs a program and ends its whole group with our end of the pipe, in whatever way we end. A launcher leaves the real
/// server running when only the launcher is killed.
const LEASH: &str = r#"("$@"; kill -9 0) & read -r _; kill -9 0"#;

/// A cluster that is nowhere.
const KUBECONFIG: &str = "apiVersion: v1
kind: Config
current-context: nowhere
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
clusters: [{name: nowhere, cluster: {server: 'https://127.0.0.1:9'}}]
users: [{name: nobody, user: {token: none}}]
";

pub(crate) struct Place {
    folder: tempfile::TempDir,
    port: u16,
    transport: TransportConfig,
    /// A server over HTTP runs beside us and ends with this.
    server: Option<Served>,
}

impl Place {
    pub(crate) async fn new(entry: &Entry, check: &Check, installed: &Path, node: &Path) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        furnish(folder.path()).await?;
        let mut place = Self {
            folder,
            port: free_port()?,
            transport: TransportConfig::Http { url: String::new(), headers: BTreeMap::new() },
            server: None,
        };
        let (command, mut args) = place.program(entry, check, installed, node)?;
        args.extend(check.args.iter().map(|arg| place.text(arg)));
        let mut env: BTreeMap<String, String> =
            check.env.iter().map(|(name, value)| (name.clone(), place.text(value))).collect();
        // A launcher in JavaScript finds its own interpreter on the path.
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", node.parent().unwrap_or(node).display());
        env.entry("PATH".into()).or_insert(path);
        match &check.path {
            None => {
                let cwd = Some(place.folder.path().to_owned());
                place.transport = TransportConfig::Stdio { command, args, env, cwd };
            }
            Some(path) => {
                place.server = Some(place.serve(&command, &args, &env).await?);
                let url = format!("http://127.0.0.1:{}{path}", place.port);
                place.transport = TransportConfig::Http { url, headers: BTreeMap::new() };
            }
        }
        Ok(place)
    }

    pub(crate) fn config(&self) -> ServerConfig {
        let mut config = ServerConfig::new("it", self.transport.clone());
        config.start_timeout = START_TIMEOUT;
        config.list_timeout = START_TIMEOUT;
        config
    }

    pub(crate) fn road(&self) -> &'static str {
        match self.transport {
            TransportConfig::Http { .. } => "http",
            _ => "stdio",
        }
    }

    pub(crate) fn fill(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            Value::Object(fields) => {
                Value::Object(fields.iter().map(|(name, item)| (name.clone(), self.fill(item))).collect())
            }
            other => other.clone(),
        }
    }

    fn text(&self, text: &str) -> String {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        text.replace("${WORKSPACE}", &at("workspace"))
            .replace("${REPOSITORY}", &at("repository"))
            .replace("${OBJECTS}", &at("objects"))
            .replace("${KUBECONFIG}", &at("kubeconfig"))
            .replace("${SCRATCH}", &self.folder.path().display().to_string())
            .replace("${PORT}", &self.port.to_string())
    }

    fn program(
        &self,
        entry: &Entry,
        check: &Check,
        installed: &Path,
        node: &Path,
    ) -> Result<(String, Vec<String>), String> {
        let (program, found) = match entry.install {
            Install::Npm(_) => {
                let script = installed.join("npm").join(&entry.name).join("node_modules/.bin").join(&check.program);
                ((node.to_owned(), vec![script.display().to_string()]), script)
            }
            Install::Pypi(_) => {
                let script = installed.join("pypi").join(&entry.name).join("bin").join(&check.program);
                ((script.clone(), Vec::new()), script)
            }
        };
        if !found.exists() {
            return Err(format!("{} is not installed", found.display()));
        }
        Ok((program.0.display().to_string(), program.1))
    }

    /// Ends a server that runs beside us; an error names the processes that are left of this check.
    pub(crate) async fn leave(mut self) -> Result<(), String> {
        drop(self.server.take());
        let start = Instant::now();
        loop {
            let left = living_under(self.folder.path());
            if left.is_empty() {
                return Ok(());
            }
            if start.elapsed() > GONE_MAX {
                return Err(format!("it left processes behind: {}", left.join(", ")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn serve(&self, program: &str, args: &[String], env: &BTreeMap<String, String>) -> Result<Served, String> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", LEASH, "leash", program]).args(args);
        command.env_clear().envs(env).current_dir(self.folder.path());
        command.env("HOME", self.folder.path()).process_group(0);
        let log = std::fs::File::create(self.folder.path().join("server.log")).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let spawned = command.stdin(Stdio::piped()).stdout(log).stderr(errors).spawn();
        let mut served = Served(spawned.map_err(|error| format!("it cannot be started: {error}"))?);
        let start = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            let gone = served.0.try_wait().map_err(|error| error.to_string())?.is_some();
            if gone || start.elapsed() > START_TIMEOUT {
                let log = std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default();
                return Err(format!("it does not listen: {log:.600}"));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(served)
    }
}

/// A server beside us, on its leash.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Processes that work in this folder.
fn living_under(folder: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let here = processes
        .filter(|process| std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)));
    here.map(|process| {
        let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        format!("{} {}", process.file_name().display(), name.trim())
    })
    .collect()
}

fn free_port() -> Result<u16, String> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

async fn furnish(folder: &Path) -> Result<(), String> {
    let write = |name: &str, text: &str| {
        let path: PathBuf = folder.join(name);
        path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, text))
    };
    let written = write("workspace/hello.txt", "hello from the workspace")
        .and_then(|()| write("kubeconfig", KUBECONFIG))
        .and_then(|()| write("repository/README", "a repository"))
        .and_then(|()| std::fs::create_dir_all(folder.join("objects")));
    written.map_err(|error| error.to_string())?;
    let me = ["-c", "user.name=test", "-c", "user.email=test@example.test"];
    for words in [&["init", "-q"][..], &["add", "."], &["commit", "-q", "-m", "first commit"]] {
        let ran = tokio::process::Command::new("git")
            .args(me)
            .args(words)
            .current_dir(folder.join("repository"))
            .status()
            .await;
        if !ran.is_ok_and(|status| status.success()) {
            return Err(format!("git {} failed", words.join(" ")));
        }
    }
    Ok(())
}
