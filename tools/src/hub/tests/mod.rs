//! The hub against servers in this process and against a real misbehaving child.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::*;

mod http;
mod in_process;
mod misbehaving;
mod slow_start;

/// Bound of every wait for a condition.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(5);

/// Waits until `holds`, or fails with what was awaited.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < WAIT_MAX, "{what} did not come true within {WAIT_MAX:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// A program of this crate's examples, built beside this test.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is missing: build it with `cargo build -p tools --examples`", program.display());
    program
}

/// Arguments of a shell that becomes a server which ignores the end of its input and SIGTERM.
fn stubborn() -> [String; 2] {
    ["-c".into(), format!("trap '' TERM; exec '{}' stubborn", example("misbehaving").display())]
}

/// A hub with one misbehaving server called `m`, and the directory it runs in.
struct World {
    hub: Hub,
    home: tempfile::TempDir,
}

impl World {
    fn new(habits: &[&str]) -> Self {
        Self::with(habits, |_| {})
    }

    fn with(habits: &[&str], change: impl FnOnce(&mut ServerConfig)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::stdio("m", example("misbehaving").to_str().unwrap(), habits);
        config.close_grace = Duration::from_millis(200);
        change(&mut config);
        let lookup = |name: &str| (name == "CANARY").then(|| "canary-value-1234".to_owned());
        let options = HubOptions {
            work_root: Some(home.path().into()),
            lookup: Box::new(lookup),
            drain: Duration::from_millis(200),
            ..HubOptions::default()
        };
        Self { hub: Hub::with_options(vec![config], options), home }
    }

    async fn call(&self, tool: &str) -> Result<ToolOutcome, ToolError> {
        self.call_with(tool, serde_json::json!({}), CallOptions::default()).await
    }

    async fn call_within(&self, tool: &str, timeout: Duration) -> Result<ToolOutcome, ToolError> {
        self.call_with(tool, serde_json::json!({}), CallOptions { timeout: Some(timeout), ..CallOptions::default() })
            .await
    }

    async fn call_with(
        &self,
        tool: &str,
        args: serde_json::Value,
        options: CallOptions,
    ) -> Result<ToolOutcome, ToolError> {
        self.hub.call("m", tool, args, options).await
    }

    /// The server still answers, restarted or not.
    async fn check_usable(&self) {
        let outcome = self.call_with("echo", serde_json::json!({"text": "still here"}), CallOptions::default()).await;
        assert_eq!(outcome.unwrap().text(), "still here");
    }

    /// Lines the server wrote to a file of its directory.
    fn written(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.home.path().join("m").join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn alive(&self) -> Vec<String> {
        alive(self.home.path())
    }

    /// Closes the hub; afterwards no process of it lives.
    async fn check_no_orphans(self) {
        assert!(!self.written("pids").is_empty(), "no process was started");
        self.hub.close().await;
        eventually("the end of every process", || self.alive().is_empty()).await;
    }
}

/// Processes of the server under this directory that still run.
fn alive(home: &Path) -> Vec<String> {
    let pids = std::fs::read_to_string(home.join("m/pids")).unwrap_or_default();
    pids.lines().filter(|pid| is_alive(pid)).map(str::to_owned).collect()
}

/// Whether a process runs; a zombie that nobody has collected does not.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .and_then(|rest| rest.trim_start().chars().next())
        .is_some_and(|state| state != 'Z' && state != 'X')
}
