//! The official MCP conformance suite: our hub as the client, the stack of our servers as the server.
//!
//! Two pinned versions of the suite, each needing a newer node than systems have: all three come from npm into the target
//! folder. A scenario passes when the suite says so and, since some of its scenarios are content with a tool's error,
//! when no checked result is one.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::counts::Counts;
use super::{Context, StageEnd};
use crate::shell;

const NODE: &str = "node@22.23.3";
const SUITE_OLD: &str = "@modelcontextprotocol/conformance@0.1.16";
const SUITE_NEW: &str = "@modelcontextprotocol/conformance@0.2.0-alpha.12";
/// Revisions whose required scenarios the newer suite runs.
const REVISIONS: [&str; 2] = ["2025-11-25", "2026-07-28"];
/// Client scenarios of the older suite that no revision requires. In the first, metadata at the root of a server name the
/// issuer `…/oauth`: RFC 8414 (section 3.3) forbids to use metadata whose issuer is another one than they were asked of, no
/// revision of MCP lifts that, and whoever can put a file at the root of a host could pose as its issuer otherwise. The
/// second is an extension for identity providers of companies.
const NOT_SCORED: [&str; 2] = ["auth/2025-03-26-oauth-metadata-backcompat", "auth/cross-app-access-complete-flow"];
/// A scenario with a tolerance of 200 ms; it may be tried again when the machine was busy.
const TIMED: &str = "sse-retry";
/// Times a timed scenario is tried.
const TIMED_TRIES: usize = 3;
/// Milliseconds a client has for one scenario; the suite's own 30 s are not enough on a machine that does other work.
const CLIENT_TIMEOUT_MS: &str = "120000";
/// The one server scenario of the older suite whose result has to be an error.
const WANTS_ERROR: &str = "tools-call-error";
/// Scenarios that need no fixtures, for the servers we ship.
const SHIPPED_OLD: [&str; 5] =
    ["server-initialize", "ping", "tools-list", "server-sse-multiple-streams", "dns-rebinding-protection"];
const SHIPPED_NEW: [&str; 2] = ["caching", "http-header-validation"];

/// Runs every scored scenario.
pub(super) fn stage(context: &Context) -> Result<StageEnd> {
    let suite = Suite::install(context)?;
    let programs = Programs::build(context)?;
    let mut report = Report::default();
    suite.client_by_scenario(&programs, &mut report)?;
    let server = Server::start(Command::new(&programs.fixtures).arg("0"))?;
    suite.server_by_suite(&server, &mut report)?;
    for revision in REVISIONS {
        suite.server_by_revision(&server, revision, &mut report)?;
    }
    drop(server);
    suite.shipped(&programs, &mut report)?;
    let counts = Counts { passed: report.passed, failed: report.failed, skipped: 0 };
    Ok(StageEnd { counts, output: report.text })
}

/// What is tested.
struct Programs {
    client: PathBuf,
    fixtures: PathBuf,
    interlock: PathBuf,
}

impl Programs {
    fn build(context: &Context) -> Result<Self> {
        for words in [
            &["cargo", "build", "--locked", "--package", "tools", "--examples"][..],
            &["cargo", "build", "--locked", "--package", "interlock"],
        ] {
            let log = context.logs.join("conformance-build.log");
            let built = shell::run_logged(shell::command(&context.root, words), &log)?;
            ensure!(built.success, "{} failed\n{}", words.join(" "), built.output);
        }
        let debug = shell::target_dir(&context.root).join("debug");
        let example = |name: &str| debug.join("examples").join(name);
        Ok(Self {
            client: example("conformance_client"),
            fixtures: example("fixture_server"),
            interlock: debug.join("interlock"),
        })
    }
}

/// Both versions of the suite, installed.
struct Suite {
    node: PathBuf,
    old: PathBuf,
    new: PathBuf,
    results: PathBuf,
    root: PathBuf,
}

impl Suite {
    fn install(context: &Context) -> Result<Self> {
        let base = shell::target_dir(&context.root).join("conformance");
        let install = |package: &str| {
            let folder = base.join(package.replace(['/', '@'], "_"));
            npm_install(context, &folder, package).map(|()| folder.join("node_modules"))
        };
        let node = node(context)?;
        let entry = "@modelcontextprotocol/conformance/dist/index.js";
        let (old, new) = (install(SUITE_OLD)?.join(entry), install(SUITE_NEW)?.join(entry));
        let results = base.join("results");
        if results.exists() {
            std::fs::remove_dir_all(&results)?;
        }
        Ok(Self { node, old, new, results, root: context.root.clone() })
    }

    /// One run of a suite; its results are in a folder of their own.
    fn run(&self, entry: &Path, name: &str, args: &[&str]) -> Result<Run> {
        let results = self.results.join(name.replace('/', "_"));
        let mut command = Command::new(&self.node);
        command.arg(entry).args(args).arg("-o").arg(&results).current_dir(&self.root).stdin(Stdio::null());
        let finished = shell::run_logged(command, &results.join("output.txt"))?;
        Ok(Run { success: finished.success, output: finished.output, results })
    }

    /// One scenario at a time: the suite's own way, all at once, measures the machine as much as the client.
    fn client_by_scenario(&self, programs: &Programs, report: &mut Report) -> Result<()> {
        for name in self.client_scenarios(&self.old, &[])?.iter().filter(|name| !NOT_SCORED.contains(&name.as_str())) {
            self.client_scenario(programs, (&self.old, "0.1.16", None), name, report)?;
        }
        for revision in REVISIONS {
            for name in self.client_scenarios(&self.new, &["--requirements", revision])? {
                self.client_scenario(programs, (&self.new, "0.2", Some(revision)), &name, report)?;
            }
        }
        Ok(())
    }

    /// Names of the client scenarios that a suite lists.
    fn client_scenarios(&self, entry: &Path, args: &[&str]) -> Result<Vec<String>> {
        let mut list = Command::new(&self.node);
        list.arg(entry).args(["list", "--client"]).args(args);
        let listed = shell::capture(list)?;
        let names = scored_names(&listed);
        ensure!(!names.is_empty(), "the suite lists no client scenario:\n{listed}");
        Ok(names)
    }

    fn client_scenario(
        &self,
        programs: &Programs,
        (entry, version, revision): (&Path, &str, Option<&str>),
        name: &str,
        report: &mut Report,
    ) -> Result<()> {
        let client = programs.client.display().to_string();
        let mut args = vec!["client", "--command", &client, "--scenario", name, "--timeout", CLIENT_TIMEOUT_MS];
        args.extend(revision.into_iter().flat_map(|revision| ["--spec-version", revision]));
        let label = format!("client {version} {} {name}", revision.unwrap_or("any"));
        let tries = if name == TIMED { TIMED_TRIES } else { 1 };
        let mut run = self.run(entry, &label.replace(' ', "-"), &args)?;
        for again in 1..tries {
            if !run.success {
                run = self.run(entry, &format!("{}-{again}", label.replace(' ', "-")), &args)?;
            }
        }
        report.one(&label, run.success, &run.output);
        Ok(())
    }

    fn server_by_suite(&self, server: &Server, report: &mut Report) -> Result<()> {
        let run = self.run(&self.old, "server-old", &["server", "--url", &server.url, "--suite", "all"])?;
        report.many("server 0.1.16", &run)
    }

    fn server_by_revision(&self, server: &Server, revision: &str, report: &mut Report) -> Result<()> {
        let args = ["server", "--url", &server.url, "--requirements", revision];
        let run = self.run(&self.new, &format!("server-new-{revision}"), &args)?;
        report.many(&format!("server 0.2 {revision}"), &run)
    }

    /// What every server has to do, asked of the ones we ship.
    fn shipped(&self, programs: &Programs, report: &mut Report) -> Result<()> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(&programs.interlock);
        command.args(["mcp", "sandbox", "--http", "127.0.0.1:0", "--dir"]).arg(dir.path());
        let server = Server::start(&mut command)?;
        let scenarios = SHIPPED_OLD.map(|name| (&self.old, name)).into_iter();
        for (entry, name) in scenarios.chain(SHIPPED_NEW.map(|name| (&self.new, name))) {
            let args = ["server", "--url", &server.url, "--scenario", name];
            let run = self.run(entry, &format!("shipped-sandbox-{name}"), &args)?;
            report.one(&format!("interlock mcp sandbox {name}"), run.success, &run.output);
        }
        Ok(())
    }
}

/// A node that is new enough for the suite and for the servers, from npm.
pub(super) fn node(context: &Context) -> Result<PathBuf> {
    let folder = shell::target_dir(&context.root).join("node22");
    npm_install(context, &folder, NODE)?;
    Ok(folder.join("node_modules/node/bin/node"))
}

/// Installs one pinned package, once.
pub(super) fn npm_install(context: &Context, folder: &Path, package: &str) -> Result<()> {
    once(folder, package, || {
        std::fs::create_dir_all(folder)?;
        let mut command = Command::new("npm");
        command.args(["install", "--no-audit", "--no-fund", "--no-save", "--prefer-offline", "--prefix"]);
        command.arg(folder).arg(package).stdin(Stdio::null());
        let log = format!("npm-{}.log", package.replace(['/', '@'], "_"));
        let finished = shell::run_logged(command, &context.logs.join(log))?;
        ensure!(finished.success, "npm cannot install {package}\n{}", finished.output);
        Ok(())
    })
}

/// Fills a folder, unless it was filled with the same before.
pub(super) fn once(folder: &Path, what: &str, fill: impl FnOnce() -> Result<()>) -> Result<()> {
    let done = folder.join("installed");
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == what) {
        return Ok(());
    }
    fill()?;
    std::fs::write(done, what).with_context(|| format!("cannot write to {}", folder.display()))
}

/// One finished run of the suite.
struct Run {
    success: bool,
    output: String,
    results: PathBuf,
}

impl Run {
    /// Each scored scenario and whether all of its checks hold.
    fn scenarios(&self) -> Result<Vec<(String, bool)>> {
        let mut found = Vec::new();
        collect(&self.results, &self.results, &mut found)?;
        let not_scored = not_scored(&self.output);
        found.retain(|(name, _)| !not_scored.contains(name));
        found.sort();
        Ok(found)
    }
}

/// Names of the client scenarios in a list, without those that the list itself calls not scored.
fn scored_names(listed: &str) -> Vec<String> {
    let own = listed.rsplit_once("Client scenarios").map_or("", |(_, own)| own);
    let scored = own.split("never scored").next().unwrap_or_default();
    let names = scored.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split(' ').next());
    names.map(str::to_owned).collect()
}

/// Scenarios that the suite runs beside the required ones, as it says at the end: extensions, and what came later.
fn not_scored(output: &str) -> Vec<String> {
    let rest = output.split_once("Not scored for").map(|(_, rest)| rest).unwrap_or_default();
    let names = rest.lines().filter_map(|line| line.trim().strip_prefix(['✓', '✗'])?.trim().split(' ').next());
    names.map(|name| plain_name(name).to_owned()).collect()
}

/// The suite's folders begin with what was tested, and some scenarios' names do too.
fn plain_name(name: &str) -> &str {
    name.trim_start_matches("server-").trim_start_matches("client-")
}

fn collect(base: &Path, folder: &Path, found: &mut Vec<(String, bool)>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(base, &path, found)?;
        } else if path.file_name().is_some_and(|name| name == "checks.json") {
            let name = scenario_name(folder.strip_prefix(base)?);
            let checks: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
            found.push((name.clone(), holds(&name, &checks)));
        }
    }
    Ok(())
}

/// Length of `-2026-11-20`, which stands before the `T` of the time in a folder's name.
const DATE_LEN: usize = 11;

/// The folder of a scenario without the time at its end. Scenarios have small letters only.
fn scenario_name(folder: &Path) -> String {
    let name = folder.to_string_lossy();
    let end = name.rfind('T').and_then(|at| at.checked_sub(DATE_LEN)).unwrap_or(name.len());
    plain_name(&name[..end]).to_owned()
}

fn holds(name: &str, checks: &Value) -> bool {
    let checks = checks.as_array().map(Vec::as_slice).unwrap_or_default();
    let failed = checks.iter().any(|check| check["status"] == "FAILURE");
    let error = checks.iter().any(|check| check.pointer("/details/result/isError") == Some(&Value::Bool(true)));
    !checks.is_empty() && !failed && (!error || name.ends_with(WANTS_ERROR))
}

/// What passed and what did not.
#[derive(Default)]
struct Report {
    passed: usize,
    failed: usize,
    text: String,
}

impl Report {
    fn one(&mut self, name: &str, passed: bool, output: &str) {
        if passed {
            self.passed += 1;
            self.text.push_str(&format!("ok      {name}\n"));
        } else {
            self.failed += 1;
            self.text.push_str(&format!("FAILED  {name}\n{output}\n"));
        }
    }

    fn many(&mut self, name: &str, run: &Run) -> Result<()> {
        let scenarios = run.scenarios()?;
        ensure!(!scenarios.is_empty(), "{name}: the suite ran no scenario\n{}", run.output);
        for (scenario, passed) in scenarios {
            self.one(&format!("{name} {scenario}"), passed, "");
        }
        self.one(&format!("{name} verdict"), run.success, &run.output);
        Ok(())
    }
}

/// A server under test; ends with this value.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut url = String::new();
        let output = child.stdout.take().context("the server has no output")?;
        BufReader::new(output).read_line(&mut url)?;
        ensure!(url.starts_with("http://"), "the server did not say where it listens: {url:?}");
        Ok(Self { child, url: url.trim().to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_scenario_that_is_content_with_an_error_is_not_passed() {
        let ok = json!([{"status": "SUCCESS", "details": {"result": {"content": []}}}, {"status": "INFO"}]);
        let error = json!([{"status": "SUCCESS", "details": {"result": {"isError": true}}}]);
        assert!(holds("tools-call-simple-text", &ok));
        assert!(!holds("tools-call-simple-text", &error));
        assert!(holds("tools-call-error", &error));
        assert!(!holds("tools-call-image", &json!([{"status": "FAILURE"}])));
        assert!(!holds("tools-call-image", &json!([])), "a scenario without a check proves nothing");
    }

    #[test]
    fn only_scored_client_scenarios_are_run() {
        let listed = "Server scenarios:\n  - ping\n\nClient scenarios (x):\n  - initialize [draft]\n  - auth/basic-cimd\n\n\
                      Run and reported, but never scored:\n  extension (1):\n    - auth/dpop [client]\n";
        assert_eq!(scored_names(listed), ["initialize", "auth/basic-cimd"]);
    }

    #[test]
    fn what_is_not_scored_is_read_from_the_end() {
        let output = "✗ tools-list: 1 passed\n\nNot scored for 2026-07-28: 2 scenario(s) run\n  ✗ tasks-lifecycle (extension)\n  ✓ server-x (pending)\n";
        assert_eq!(not_scored(output), ["tasks-lifecycle", "x"]);
        assert!(not_scored("✗ tools-list: 1 passed").is_empty());
    }

    #[test]
    fn a_folder_is_named_by_scenario_and_time() {
        for (folder, name) in [
            ("server-tools-list-2026-11-20T10-11-12-000Z", "tools-list"),
            ("auth/metadata-default-2026-11-20T10-11-12-000Z", "auth/metadata-default"),
            ("server-json-schema-2020-12-2026-11-20T10-11-12-000Z", "json-schema-2020-12"),
        ] {
            assert_eq!(scenario_name(Path::new(folder)), name);
        }
    }
}
