//! The kit: where it is, setting it up, starting and stopping it, and its commands.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::shell;

/// Where the kit lies when nobody says otherwise, seen from the repository's root.
const BESIDE: &str = "../shared/airflow_kit";
/// Patience of Airflow's workers on a machine that does other things too.
const PATIENCE: [(&str, &str); 3] = [
    ("AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT", "60"),
    ("AIRFLOW__WORKERS__EXECUTION_API_RETRIES", "8"),
    ("AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT", "600"),
];
/// Accounts of the example: the variable that its files name, and the kit's name for the password.
const ACCOUNTS: [(&str, &str); 4] = [
    ("AIRFLOW_READ_PASSWORD", "airflow_observer"),
    ("AIRFLOW_ACT_PASSWORD", "airflow_agent"),
    ("WAREHOUSE_READ_PASSWORD", "agent_ro"),
    ("WAREHOUSE_ACT_PASSWORD", "agent_rw"),
];
/// Ports that the example's files are written for.
const PORTS: [(&str, &str); 2] = [("KIT_AIRFLOW_PORT", "18080"), ("KIT_PG_PORT", "15432")];
/// Where the example's files say that the repository of the pipelines lies.
const REPOSITORY: &str = "path: dags";
/// Who the kit's own commits are by.
const OWN_COMMITTER: &str = "data-platform@";
/// Ports that the kit takes when it is set up, and remembers.
const TAKEN: [&str; 4] = ["KIT_AIRFLOW_PORT", "KIT_PG_PORT", "KIT_API_PORT", "KIT_LOGSRV_PORT"];
/// A race that the injector can lose on a busy machine is run again.
const INJECTIONS_MAX: usize = 3;

/// A port for each of the kit's servers that nobody listens on: another kit may be running. All are held until all are found.
fn free_ports() -> Result<Vec<(&'static str, String)>> {
    let held: Vec<_> = TAKEN.iter().map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let port = |(name, held): (&&'static str, &TcpListener)| Ok((*name, held.local_addr()?.port().to_string()));
    TAKEN.iter().zip(&held).map(port).collect()
}

/// The kit and its state.
pub(crate) struct Kit {
    dir: PathBuf,
    home: PathBuf,
}

impl Kit {
    /// The kit where `AIRFLOW_KIT` says, or beside the repository.
    pub(crate) fn find(root: &Path, home: PathBuf) -> Result<Self> {
        let dir = std::env::var_os("AIRFLOW_KIT").map_or_else(|| root.join(BESIDE), PathBuf::from);
        anyhow::ensure!(
            dir.join("setup.sh").is_file(),
            "there is no Airflow kit at {}: these scenarios need it, so nothing was proven; name its folder in AIRFLOW_KIT",
            dir.display()
        );
        std::fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
        Ok(Self { dir: dir.canonicalize()?, home: home.canonicalize()? })
    }

    /// The named scenarios, or all of them.
    pub(crate) fn choose(&self, named: &[String]) -> Result<Vec<String>> {
        let mut known: Vec<String> = std::fs::read_dir(self.dir.join("ground_truth"))?
            .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
            .collect();
        known.sort();
        if let Some(unknown) = named.iter().find(|name| !known.contains(name)) {
            anyhow::bail!("the kit has no scenario {unknown:?}; it has {}", known.join(", "));
        }
        Ok(if named.is_empty() { known } else { named.to_vec() })
    }

    /// Starts the servers, and sets everything up when that was not done.
    pub(crate) fn start(&self, logs: &Path) -> Result<()> {
        let mut command = self.command("setup.sh");
        if !self.home.join("ports.env").is_file() {
            command.envs(free_ports()?);
        }
        let finished = shell::run_logged(command, &logs.join("setup.log"))?;
        anyhow::ensure!(finished.success, "the kit cannot be set up:\n{}", finished.output);
        Ok(())
    }

    /// Ends what was started, by the process ids that the kit recorded.
    pub(crate) fn stop(&self) -> Result<()> {
        shell::capture(self.command("stop.sh")).map(drop)
    }

    /// Breaks one thing and waits until it shows.
    pub(crate) fn inject(&self, name: &str, dir: &Path) -> Result<Value> {
        let mut output = String::new();
        for _ in 0..INJECTIONS_MAX {
            let mut command = self.command("inject.py");
            command.arg(name).arg("--alerts").arg(dir.join("alerts.json"));
            let finished = shell::run_logged(command, &dir.join("inject.log"))?;
            if finished.success {
                return Ok(Value::Null);
            }
            output = finished.output;
        }
        anyhow::bail!("it could not be injected:\n{output}")
    }

    /// What the kit's own judge says.
    pub(crate) fn verify(&self, name: &str, ledger: &Path, dir: &Path) -> Result<Value> {
        let mut command = self.command("verify.py");
        command.arg(name).arg("--approvals").arg(ledger);
        let finished = shell::run_logged(command, &dir.join("verdict.json"))?;
        serde_json::from_str(&finished.output).with_context(|| format!("the judge said:\n{}", finished.output))
    }

    /// Commits of others than the kit itself in the repository of the pipelines, which its judge does not list.
    pub(crate) fn commits(&self) -> Result<Value> {
        let words = ["git", "log", "golden..HEAD", "--format=%cI %ce %H"];
        let said = shell::capture(shell::command(&self.home.join("dags"), &words)).context("the kit's repository")?;
        let commit = |line: &str| {
            let (at, rest) = line.split_once(' ')?;
            (!rest.starts_with(OWN_COMMITTER)).then(|| json!({ "at": at, "commit": rest }))
        };
        Ok(said.lines().filter_map(commit).collect())
    }

    /// What is true about a scenario.
    pub(crate) fn truth(&self, name: &str) -> Result<Value> {
        let file = self.dir.join("ground_truth").join(format!("{name}.json"));
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// A text of the example with the kit's ports and its repository.
    pub(crate) fn at_its_places(&self, text: &str) -> Result<String> {
        let ports = std::fs::read_to_string(self.home.join("ports.env")).context("the kit has no ports.env")?;
        let mut text = text.to_owned();
        for (name, written) in PORTS {
            let port = ports.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            text = text.replace(written, port.with_context(|| format!("ports.env has no {name}"))?);
        }
        Ok(text.replace(REPOSITORY, &format!("path: {}", self.home.join("dags").display())))
    }

    /// The passwords of the accounts that the example names.
    pub(crate) fn passwords(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.home.join("credentials.json")).unwrap_or_default();
        let known: Value = serde_json::from_str(&text).unwrap_or_default();
        let of =
            |(variable, name): &(&str, &str)| Some(((*variable).to_owned(), known.get(name)?.as_str()?.to_owned()));
        ACCOUNTS.iter().filter_map(of).collect()
    }

    fn command(&self, script: &str) -> Command {
        let mut command = shell::command(&self.dir, &[self.dir.join(script)]);
        command.env("KIT_HOME", &self.home).envs(PATIENCE);
        command
    }
}
