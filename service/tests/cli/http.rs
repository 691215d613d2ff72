//! The bundled servers that hold accounts, over HTTP: with their token, and not without.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::stage::Stage;

/// Names the token that callers send.
const TOKEN: (&str, &str) = ("INTERLOCK_MCP_TOKEN", "a-token-of-some-length");

const AIRFLOW: &str = "\
url: http://127.0.0.1:9
read: { username: observer, password_env: AIRFLOW_PASSWORD }
live: production
environments: { production: { conf: { env: prod } } }
business_date: /business_date
";

const SQL: &str = "\
roles: { reader: { limits: [SELECT_ONLY], tables: [\"*.*\"] } }
connections: { file: { sqlite: orders.db, role: reader, environment: staging } }
";

const GIT: &str = "\
author: { name: bot, email: bot@shop.example }
repositories: { dags: { path: dags, branch: main, environment: staging } }
";

/// A server that listens; it ends with the test.
struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(stage: &Stage, server: &str) -> Command {
    stage.write("airflow.yaml", AIRFLOW);
    stage.write("sql.yaml", SQL);
    stage.write("git.yaml", GIT);
    let file = format!("{server}.yaml");
    let mut command = stage.command(&["mcp", server, "--config", &file, "--http", "127.0.0.1:0"]);
    command.env_remove(TOKEN.0).env("AIRFLOW_PASSWORD", "secret");
    command
}

fn serve(stage: &Stage, server: &str) -> Server {
    let mut command = command(stage, server);
    let mut child = command.env(TOKEN.0, TOKEN.1).stdout(Stdio::piped()).spawn().unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    Server { child, url: url.trim().to_owned() }
}

/// What the hub lists of a server, with a header for its token or none.
fn listed(stage: &Stage, url: &str, authorization: Option<&str>) -> Value {
    let headers = authorization.map(|word| json!({ "Authorization": word })).unwrap_or(json!({}));
    let config = json!({ "mcpServers": { "it": { "url": url, "headers": headers } } });
    stage.write("interlock.yaml", config.to_string());
    stage.run(&["tools", "list", "--json"]).json()
}

#[test]
fn a_server_with_accounts_is_reached_with_its_token_only() {
    for (server, tool) in [("sql", "it.query"), ("airflow", "it.list_failed"), ("git", "it.find_break")] {
        let stage = Stage::new();
        let served = serve(&stage, server);
        let bearer = format!("Bearer {}", TOKEN.1);
        let known = listed(&stage, &served.url, Some(&bearer)).to_string();
        assert!(known.contains(tool), "{server}: {known}");
        for wrong in [None, Some("Bearer another-token-of-length")] {
            let stranger = listed(&stage, &served.url, wrong).to_string();
            assert!(!stranger.contains(tool), "{server}: {stranger}");
        }
    }
}

#[test]
fn without_a_token_it_is_not_served() {
    for server in ["sql", "airflow", "git"] {
        let stage = Stage::new();
        let refused = command(&stage, server).output().unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("set INTERLOCK_MCP_TOKEN"), "{said}");
    }
}
