//! The client of the conformance suite: every scenario goes through the hub, as an agent's calls do.
//!
//! The suite starts it with the server's address as the last argument, the scenario in `MCP_CONFORMANCE_SCENARIO` and its
//! data in `MCP_CONFORMANCE_CONTEXT`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tools::hub::{
    CallOptions, Consent, Form, FormAnswer, Grant, Host, Hub, HubOptions, OAuthConfig, ServerConfig, ToolError,
    ToolInfo,
};

/// The suite kills a client after two minutes, as the stage tells it to: a busy machine is no failure of the client.
const PATIENCE: Duration = Duration::from_secs(60);
const REDIRECT_URI: &str = "http://localhost:3000/callback";
const CLIENT_METADATA_URL: &str = "https://conformance-test.local/client-metadata.json";

#[tokio::main]
async fn main() -> ExitCode {
    let scenario = std::env::var("MCP_CONFORMANCE_SCENARIO").unwrap_or_else(|_| "initialize".into());
    let Some(url) = std::env::args().next_back() else { return ExitCode::FAILURE };
    let context = std::env::var("MCP_CONFORMANCE_CONTEXT").ok();
    let context: Value = context.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let hub = hub(&scenario, &url, &context);
    let ended = run(&hub, &scenario, &context).await;
    hub.close().await;
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            // In these the server is at fault, and giving up is the answer.
            let right = ["auth/resource-mismatch", "auth/scope-retry-limit"].contains(&scenario.as_str());
            if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

fn hub(scenario: &str, url: &str, context: &Value) -> Hub {
    let mut config = ServerConfig::http("suite", url);
    config.start_timeout = PATIENCE;
    config.timeout = PATIENCE;
    config.elicitation = true;
    if scenario.starts_with("auth/") {
        let word = |key: &str| context.get(key).and_then(Value::as_str).map(str::to_owned);
        let own = scenario.contains("client-credentials");
        config.oauth = Some(OAuthConfig {
            grant: if own { Grant::ClientCredentials } else { Grant::AuthorizationCode },
            client_id: word("client_id"),
            client_secret: word("client_secret"),
            client_metadata_url: Some(CLIENT_METADATA_URL.into()),
            private_key: word("private_key_pem"),
            algorithm: word("signing_algorithm"),
            scopes: Vec::new(),
        });
    }
    let options =
        HubOptions { consent: Some(Arc::new(Headless)), host: Some(Arc::new(Defaults)), ..HubOptions::default() };
    Hub::with_options(vec![config], options)
}

async fn run(hub: &Hub, scenario: &str, context: &Value) -> Result<(), ToolError> {
    let list = hub.list_tools("suite").await?;
    match scenario {
        "initialize" | "json-schema-ref-no-deref" => return Ok(()),
        "auth/authorization-server-migration" => {
            // The server moves between two of these.
            for _ in 0..3 {
                hub.list_tools("suite").await?;
            }
            return Ok(());
        }
        _ => {}
    }
    if let Some(calls) = context.get("toolCalls").and_then(Value::as_array) {
        for call in calls {
            let name = call["name"].as_str().unwrap_or_default();
            // The hub sends arguments as they are, and only what fits the schema; here `null` stands for "left out".
            let given = call["arguments"].as_object().cloned().unwrap_or_default();
            let given: Map<String, Value> = given.into_iter().filter(|(_, value)| !value.is_null()).collect();
            hub.call("suite", name, Value::Object(given), CallOptions::default()).await?;
        }
        return Ok(());
    }
    for tool in &list.tools {
        let called = hub.call("suite", &tool.name, arguments(tool), CallOptions::default()).await;
        match called {
            Ok(outcome) => eprintln!("{}: {}", tool.name, outcome.text()),
            // What a tool answers is its own; a login that fails is ours.
            Err(error) if scenario.starts_with("auth/") => return Err(error),
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}

/// Something for every required argument.
fn arguments(tool: &ToolInfo) -> Value {
    let required = tool.input_schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let properties = &tool.input_schema["properties"];
    let filled = required.iter().filter_map(Value::as_str).map(|name| {
        let value = match properties[name]["type"].as_str() {
            Some("number" | "integer") => json!(1),
            Some("boolean") => json!(true),
            Some("object") => json!({}),
            Some("array") => json!([]),
            _ => json!("test"),
        };
        (name.to_owned(), value)
    });
    Value::Object(filled.collect())
}

/// Fills every form with its own defaults.
struct Defaults;

#[async_trait]
impl Host for Defaults {
    async fn elicit(&self, _: &str, form: &Form) -> Option<FormAnswer> {
        let fields = form.schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let filled: Map<String, Value> = fields
            .into_iter()
            .filter_map(|(name, field)| Some((name, field.get("default").cloned().or_else(|| sample(&field))?)))
            .collect();
        Some(FormAnswer::Accept(Value::Object(filled)))
    }
}

fn sample(field: &Value) -> Option<Value> {
    Some(match field.get("type").and_then(Value::as_str)? {
        "boolean" => json!(true),
        "integer" | "number" => json!(1),
        "string" => field.pointer("/enum/0").cloned().unwrap_or_else(|| json!("test")),
        _ => return None,
    })
}

/// Agrees to everything: the suite's authorization server redirects at once.
struct Headless;

#[async_trait]
impl Consent for Headless {
    fn redirect_uri(&self) -> String {
        REDIRECT_URI.into()
    }

    async fn visit(&self, _: &str, url: &str) -> Result<String, String> {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        let response = client.map_err(|error| error.to_string())?.get(url).send().await;
        let response = response.map_err(|error| error.to_string())?;
        let location = response.headers().get("location").and_then(|location| location.to_str().ok());
        location.map(str::to_owned).ok_or_else(|| "the authorization server did not send us back".to_owned())
    }
}
