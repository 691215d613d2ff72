//! `interlock tools login`: the address is printed, the browser comes back, the token is kept for its owner and used.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::thread;

use serde_json::{Value, json};

use super::stage::Stage;

const TOKEN: &str = "token-of-the-test-1";

/// An MCP server and its authorization server in one, until the test ends.
fn start() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let own = base.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let base = own.clone();
            thread::spawn(move || serve(stream, &base));
        }
    });
    base
}

/// One request a connection.
fn serve(stream: TcpStream, base: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let found =
            lines.iter().filter_map(|line| line.split_once(": ")).find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned())
    };
    let mut body = vec![0; header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let path = lines[0].split(' ').nth(1).unwrap_or_default();
    let allowed = header("authorization").is_some_and(|sent| sent == format!("Bearer {TOKEN}"));
    let (status, answer) = answer(path, &serde_json::from_slice(&body).unwrap_or_default(), allowed, base);
    let answer = answer.to_string();
    let metadata =
        format!("www-authenticate: Bearer resource_metadata=\"{base}/.well-known/oauth-protected-resource\"");
    let length = answer.len();
    write!(
        &stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{metadata}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}"
    )
}

fn answer(path: &str, message: &Value, allowed: bool, base: &str) -> (&'static str, Value) {
    let result = |result: Value| ("200 OK", json!({"jsonrpc": "2.0", "id": message["id"], "result": result}));
    match path {
        "/.well-known/oauth-protected-resource" => {
            ("200 OK", json!({"resource": format!("{base}/mcp"), "authorization_servers": [base]}))
        }
        "/.well-known/oauth-authorization-server" => (
            "200 OK",
            json!({
                "issuer": base, "authorization_endpoint": format!("{base}/authorize"),
                "token_endpoint": format!("{base}/token"), "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"], "token_endpoint_auth_methods_supported": ["none"],
            }),
        ),
        "/token" => ("200 OK", json!({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600})),
        "/mcp" if !allowed => ("401 Unauthorized", json!({})),
        "/mcp" => match message["method"].as_str() {
            Some("server/discover") => result(json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "crm", "version": "1"}, "ttlMs": 0, "cacheScope": "private",
            })),
            _ => result(json!({"resultType": "complete", "tools": [], "ttlMs": 0, "cacheScope": "private"})),
        },
        _ => ("404 Not Found", json!({})),
    }
}

fn stage(base: &str) -> Stage {
    let stage = Stage::new();
    let crm = json!({"url": format!("{base}/mcp"), "oauth": {"client_id": "interlock"}});
    let plain = json!({"url": format!("{base}/mcp")});
    stage.write("interlock.yaml", json!({"mcpServers": {"crm": crm, "plain": plain}}).to_string());
    stage
}

/// The address a person is told to open.
fn address(child: &mut Child) -> String {
    let errors = BufReader::new(child.stderr.take().unwrap());
    let mut lines = errors.lines().map_while(Result::ok);
    lines.find(|line| line.trim().starts_with("http")).expect("an address is printed").trim().to_owned()
}

fn parameter(address: &str, name: &str) -> String {
    let start = format!("{name}=");
    let pair = address.split(['?', '&']).find_map(|pair| pair.strip_prefix(&start));
    pair.unwrap_or_else(|| panic!("no {name} in {address}")).replace("%3A", ":").replace("%2F", "/")
}

#[test]
fn a_login_is_made_once_kept_for_its_owner_and_used_afterwards() {
    let base = start();
    let stage = stage(&base);
    let refused = stage.run(&["tools", "list", "crm"]);
    assert!(refused.code != 0 && refused.stdout.contains("log in once by hand"), "{}", refused.stdout);
    let mut child =
        stage.command(&["tools", "login", "crm"]).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let address = address(&mut child);
    assert!(address.starts_with(&format!("{base}/authorize?")), "{address}");
    let back = parameter(&address, "redirect_uri");
    let (host, path) = back.strip_prefix("http://").and_then(|rest| rest.split_once('/')).unwrap();
    let mut browser = TcpStream::connect(host).unwrap();
    let state = parameter(&address, "state");
    // In one piece, as a browser does: who listens needs only the first line, and then hangs up.
    let request = format!("GET /{path}?code=c&state={state} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    browser.write_all(request.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("logged in to crm"), "{said}");
    let file = stage.path().join(".interlock/tokens/crm.json");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let listed = stage.run(&["tools", "list", "crm", "--json"]);
    assert_eq!((listed.code, &listed.json()[0]["ok"]), (0, &json!(true)), "{}", listed.stdout);
    assert!(!format!("{}{}", listed.stdout, listed.stderr).contains(TOKEN));
    let again = stage.run(&["tools", "login", "crm"]);
    assert!(again.stdout.contains("asked for no login"), "{}{}", again.stdout, again.stderr);
}

#[test]
fn a_login_that_nobody_makes_ends() {
    let stage = stage(&start());
    let ran = stage.run(&["tools", "login", "crm", "--wait", "1"]);
    assert!(ran.code != 0 && ran.stderr.contains("nobody logged in within 1s"), "{}", ran.stderr);
    let ran = stage.run(&["tools", "login", "plain"]);
    assert!(ran.code != 0 && ran.stderr.contains("has no `oauth`"), "{}", ran.stderr);
}
