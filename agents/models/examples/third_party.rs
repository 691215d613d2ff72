//! Our providers against servers of other people: LiteLLM's proxy, and mocks that Prism makes of the official OpenAPI
//! descriptions of OpenAI and Anthropic, which refuse a request that does not keep to them.
//!
//! `third_party PYTHON NODE PRISM OPENAI_SPEC ANTHROPIC_SPEC` starts them, asks, and ends them; `PYTHON` is that of the
//! environment LiteLLM is in. Each line of its output is a check, `ok …` or `FAILED …`. `cargo xtask test --only providers`
//! installs what it needs.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use models::{
    Delta, Effort, ErrorClass, Key, Kind, Limits, Message, ModelError, ModelRequest, ModelResponse, OutputSchema, Part,
    Ports, ProviderConfig, Role, StopReason, System, Tool, ToolChoice, open,
};
use serde_json::json;

/// Longest wait for a server, in turns of a quarter of a second; LiteLLM takes half a minute on a busy machine.
const TURNS_MAX: u32 = 720;
const TURN: Duration = Duration::from_millis(250);
const KEY: &str = "sk-litellm-master-0123456789";

const LITELLM_CONFIG: &str = r#"
model_list:
  - { model_name: chat, litellm_params: { model: openai/gpt-4o, api_key: x, mock_response: hello } }
  - { model_name: claude, litellm_params: { model: anthropic/claude-haiku-4-5, api_key: x, mock_response: hello } }
  - { model_name: limited, litellm_params: { model: openai/gpt-4o, api_key: x, mock_response: litellm.RateLimitError } }
  - { model_name: broken, litellm_params: { model: openai/gpt-4o, api_key: x, mock_response: litellm.InternalServerError } }
  - { model_name: long, litellm_params: { model: openai/gpt-4o, api_key: x, mock_response: litellm.ContextWindowExceededError } }
  - model_name: tool
    litellm_params:
      model: openai/gpt-4o
      api_key: x
      mock_tool_calls: [{ id: call_1, type: function, function: { name: clear, arguments: '{"run": "a"}' } }]
router_settings: { num_retries: 0, disable_cooldowns: true }
general_settings: { master_key: sk-litellm-master-0123456789 }
"#;

/// A server that ends with us.
struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has already gone needs no end.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Server {
    fn start(command: &mut Command, port: u16) -> Result<Self, String> {
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = started.map_err(|error| format!("{command:?}: {error}"))?;
        let mut server = Self { child, url: format!("http://127.0.0.1:{port}") };
        for _ in 0..TURNS_MAX {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(server);
            }
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(format!("{command:?} ended: {status}"));
            }
            std::thread::sleep(TURN);
        }
        Err(format!("{command:?} does not listen"))
    }

    fn prism(node: &Path, prism: &Path, spec: &Path) -> Result<Self, String> {
        let port = free_port()?;
        let mut command = Command::new(node);
        command.arg(prism).args(["mock", "-h", "127.0.0.1", "-p", &port.to_string()]).arg(spec);
        Self::start(&mut command, port)
    }

    fn litellm(program: &Path, folder: &Path) -> Result<Self, String> {
        let port = free_port()?;
        let config = folder.join("litellm.yaml");
        std::fs::write(&config, LITELLM_CONFIG).map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.arg("--config").arg(config).args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        // Prices of its own it would fetch from the network.
        command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
        Self::start(&mut command, port)
    }
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

/// Asks a server once.
async fn ask(kind: Kind, url: &str, request: &ModelRequest) -> (Result<ModelResponse, ModelError>, String) {
    let mut config = ProviderConfig::of(kind);
    config.url = Some(url.to_owned());
    config.tries = std::num::NonZeroU32::new(1);
    let key = Key::from(secrecy::SecretString::from(KEY));
    let provider = open("p", &config, Some(key), Arc::new(Limits::default()), Ports::default());
    let provider = provider.unwrap_or_else(|why| panic!("{why}"));
    let mut told = String::new();
    let answer = provider
        .complete(request, &mut |delta| {
            if let Delta::Text(text) = delta {
                told.push_str(&text);
            }
        })
        .await;
    (answer, told)
}

fn plain(model: &str, stream: bool) -> ModelRequest {
    ModelRequest { model: model.to_owned(), stream, ..ModelRequest::of_text("hi", 50) }
}

/// A request that uses everything there is.
fn everything(model: &str, stream: bool) -> ModelRequest {
    let mut request = plain(model, stream);
    request.system = System { text: "You heal pipelines.".into(), cache: true };
    let call =
        Part::ToolCall { id: "call_1".into(), name: "clear".into(), arguments: json!({"run": "a"}), malformed: false };
    let parts = vec![Part::Text { text: "I clear it".into() }, call];
    request.messages.push(Message { role: Role::Assistant, parts, cache: false });
    let result = Part::ToolResult { call_id: "call_1".into(), content: "done".into(), is_error: false };
    request.messages.push(Message {
        role: Role::User,
        parts: vec![result, Part::Text { text: "go on".into() }],
        cache: true,
    });
    let schema = json!({"type": "object", "properties": {"run": {"type": "string"}}, "required": ["run"], "additionalProperties": false});
    request.tools =
        vec![Tool { name: "clear".into(), description: "clears".into(), parameters: schema.clone(), strict: true }];
    request.tool_choice = ToolChoice::Tool("clear".into());
    request.output = Some(OutputSchema { name: "verdict".into(), schema });
    request.effort = Some(Effort::Low);
    request
}

/// One check: what was asked of whom, and whether the answer is right.
fn check(name: &str, right: bool, shown: impl std::fmt::Debug) -> bool {
    println!(
        "{} {name}{}",
        if right { "ok     " } else { "FAILED " },
        if right { String::new() } else { format!(": {shown:?}") }
    );
    right
}

async fn litellm_checks(url: &str) -> bool {
    let v1 = format!("{url}/v1");
    let mut right = true;
    for (name, kind, base, model, stream) in [
        ("litellm chat", Kind::OpenaiChat, v1.as_str(), "chat", false),
        ("litellm chat stream", Kind::OpenaiChat, v1.as_str(), "chat", true),
        ("litellm messages", Kind::Anthropic, url, "claude", false),
        ("litellm messages stream", Kind::Anthropic, url, "claude", true),
        ("litellm responses", Kind::OpenaiResponses, v1.as_str(), "chat", false),
    ] {
        let (answer, told) = ask(kind, base, &plain(model, stream)).await;
        let is_whole = answer.as_ref().is_ok_and(|answer| {
            answer.text() == "hello"
                && answer.stop == StopReason::End
                && answer.usage.is_some()
                && answer.request_id.is_some()
        });
        right &= check(name, is_whole && (!stream || told == "hello"), (answer, told));
    }
    let (answer, _) = ask(Kind::OpenaiChat, &v1, &plain("tool", false)).await;
    let calls =
        answer.as_ref().is_ok_and(|answer| answer.stop == StopReason::ToolUse && answer.tool_calls().count() == 1);
    right &= check("litellm tool call", calls, answer);
    for (name, model, class) in [
        ("litellm 429", "limited", ErrorClass::RateLimited),
        ("litellm 500", "broken", ErrorClass::Unavailable),
        ("litellm context overflow", "long", ErrorClass::ContextOverflow),
        ("litellm unknown model", "no-such-model", ErrorClass::UnknownModel),
    ] {
        let (answer, _) = ask(Kind::OpenaiChat, &v1, &plain(model, false)).await;
        right &= check(
            name,
            answer.as_ref().is_err_and(|error| error.class == class && !error.to_string().contains(KEY)),
            answer,
        );
    }
    right
}

/// The mock refuses what its description does not allow; what it answers is made up of the description's examples.
async fn described_checks(name: &str, kind: Kind, url: &str, model: &str) -> bool {
    let mut right = true;
    for (what, request) in [("plain", plain(model, false)), ("everything", everything(model, false))] {
        let (answer, _) = ask(kind, url, &request).await;
        right &= check(&format!("described {name} {what}"), answer.is_ok(), answer);
    }
    if kind == Kind::OpenaiChat {
        return right;
    }
    // The mock has to be able to refuse, or it says nothing.
    let (answer, _) = ask(kind, url, &too_hot(model)).await;
    let refused = answer.as_ref().is_err_and(|error| error.class == ErrorClass::InvalidRequest);
    right & check(&format!("described {name} refuses"), refused, answer)
}

/// No description allows this temperature.
fn too_hot(model: &str) -> ModelRequest {
    ModelRequest { temperature: Some(99.0), ..plain(model, false) }
}

/// Reads a description and a body, and ends well if the one allows the other.
const VALIDATOR: &str = "
import json, sys, jsonschema, yaml
spec = yaml.load(open(sys.argv[1]), Loader=getattr(yaml, 'CSafeLoader', yaml.SafeLoader))
root = {'$ref': '#/components/schemas/' + sys.argv[2], 'components': spec['components']}
jsonschema.Draft202012Validator(root).validate(json.load(sys.stdin))
";

/// Prism takes any body for Chat Completions, so what we send is held against the description itself.
async fn chat_bodies(python: &Path, spec: &Path) -> Result<bool, String> {
    let mut right = true;
    for (name, request, allowed) in [
        ("described chat body plain", plain("gpt-5", false), true),
        ("described chat body everything", everything("gpt-5", true), true),
        ("described chat body refuses", too_hot("gpt-5"), false),
    ] {
        let body = body_of(Kind::OpenaiChat, &request).await?;
        let mut command = Command::new(python);
        command
            .args(["-c", VALIDATOR])
            .arg(spec)
            .arg("CreateChatCompletionRequest")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let mut input = child.stdin.take().ok_or("no way into the validator")?;
        input.write_all(body.as_bytes()).map_err(|error| error.to_string())?;
        drop(input);
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let judged = output.status.success() || said.contains("ValidationError");
        right &= check(name, judged && output.status.success() == allowed, said);
    }
    Ok(right)
}

/// What a provider sends.
async fn body_of(kind: Kind, request: &ModelRequest) -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let url = format!("http://{}", listener.local_addr().map_err(|error| error.to_string())?);
    let reading = std::thread::spawn(move || read_body(&listener));
    let (answer, _) = ask(kind, &url, request).await;
    let body = reading.join().map_err(|_| "the reader panicked".to_owned())?;
    body.map_err(|error| format!("{error}; {answer:?}"))
}

fn read_body(listener: &TcpListener) -> std::io::Result<String> {
    let (mut stream, _) = listener.accept()?;
    let mut text = String::new();
    let mut chunk = [0; 4096];
    loop {
        let n = stream.read(&mut chunk)?;
        text.push_str(&String::from_utf8_lossy(&chunk[..n]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if n == 0 || body.len() >= length.unwrap_or(0) {
            stream.write_all(b"HTTP/1.1 418 X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")?;
            return Ok(body.to_owned());
        }
    }
}

async fn run(paths: &[PathBuf]) -> Result<bool, String> {
    let [python, node, prism, openai, anthropic] = paths else {
        return Err("say PYTHON NODE PRISM OPENAI_SPEC ANTHROPIC_SPEC".to_owned());
    };
    let folder = std::env::temp_dir().join(format!("models-third-party-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let described = (Server::prism(node, prism, openai)?, Server::prism(node, prism, anthropic)?);
    let mut right = described_checks("chat", Kind::OpenaiChat, &described.0.url, "gpt-5").await;
    right &= described_checks("responses", Kind::OpenaiResponses, &described.0.url, "gpt-5").await;
    right &= described_checks("messages", Kind::Anthropic, &described.1.url, "claude-haiku-4-5").await;
    right &= chat_bodies(python, openai).await?;
    let proxy = Server::litellm(&python.with_file_name("litellm"), &folder)?;
    right &= litellm_checks(&proxy.url).await;
    drop(proxy);
    std::fs::remove_dir_all(&folder).map_err(|error| error.to_string())?;
    Ok(right)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match run(&paths).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            println!("FAILED  {why}");
            ExitCode::FAILURE
        }
    }
}
