//! A small HTTP server that answers from the recording, and remembers what it was asked.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// One exchange as recorded.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Exchange {
    pub(super) what: String,
    request: Request,
    response: Response,
}

impl Exchange {
    /// What was answered.
    pub(super) fn body(&self) -> &Value {
        &self.response.body
    }
}

#[derive(Debug, Clone, Deserialize)]
struct Request {
    method: String,
    path: String,
    #[serde(default)]
    body: Option<Value>,
}

#[derive(Debug, Clone, Deserialize)]
struct Response {
    status: u16,
    content_type: String,
    body: Value,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
}

/// A request that came in.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) line: String,
    pub(super) token: Option<String>,
    pub(super) body: Value,
}

/// A running server.
pub(super) struct Recorded {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// The whole recording.
pub(super) fn recording() -> Vec<Exchange> {
    serde_json::from_str(include_str!("exchanges.json")).unwrap()
}

impl Recorded {
    /// Answers the named exchanges.
    pub(super) async fn start(names: &[&str]) -> Self {
        let all = recording();
        let find = |name: &&str| {
            all.iter()
                .find(|exchange| exchange.what == **name)
                .unwrap_or_else(|| panic!("no exchange {name:?}"))
                .clone()
        };
        let left = Arc::new(Mutex::new(names.iter().map(find).collect::<Vec<Exchange>>()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let remembered = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&left), Arc::clone(&remembered)));
            }
        });
        Self { url, asked }
    }

    /// `METHOD path` of every request but logins, in order.
    pub(super) fn lines(&self) -> Vec<String> {
        let asked = self.asked.lock();
        asked.iter().map(|asked| asked.line.clone()).filter(|line| !line.ends_with("/auth/token")).collect()
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    pub(super) fn n_logins(&self) -> usize {
        self.asked.lock().iter().filter(|asked| asked.line.ends_with("/auth/token")).count()
    }
}

async fn serve(stream: TcpStream, left: Arc<Mutex<Vec<Exchange>>>, asked: Arc<Mutex<Vec<Asked>>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        asked.lock().push(request.clone());
        let answer = take(&mut left.lock(), &request);
        if stream.get_mut().write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let (mut token, mut length) = (None, 0);
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => token = Some(value.trim_start_matches("Bearer ").to_owned()),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    Some(Asked { line, token, body: serde_json::from_slice(&body).unwrap_or_default() })
}

/// The next recorded answer for this place; an exchange that is named once more later is used up first.
fn take(left: &mut Vec<Exchange>, request: &Asked) -> Vec<u8> {
    let place = request.line.split('?').next().unwrap_or_default();
    let fits = |exchange: &Exchange| {
        let recorded = exchange.request.path.split('?').next().unwrap_or_default();
        let dry = |body: &Value| body.get("dry_run").and_then(Value::as_bool);
        let user = |body: &Value| body.get("username").cloned();
        let body = exchange.request.body.clone().unwrap_or_default();
        format!("{} {recorded}", exchange.request.method) == place
            && dry(&body) == dry(&request.body)
            && user(&body) == user(&request.body)
    };
    let Some(at) = left.iter().position(fits) else {
        return http(404, "application/json", &[], b"{\"detail\": \"not in the recording of this test\"}");
    };
    let again = left.iter().skip(at + 1).any(fits);
    let Response { status, content_type, body, headers } = left[at].response.clone();
    if again {
        left.remove(at);
    }
    let body = match body {
        Value::String(text) => text.into_bytes(),
        other => other.to_string().into_bytes(),
    };
    let headers: Vec<(String, String)> = headers.into_iter().collect();
    http(status, &content_type, &headers, &body)
}

fn http(status: u16, content_type: &str, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head =
        format!("HTTP/1.1 {status} x\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n{more}\r\n", body.len());
    [head.as_bytes(), body].concat()
}
