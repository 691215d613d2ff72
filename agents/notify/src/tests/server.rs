//! A server over sockets that asks a script what to answer, and remembers what it was asked.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// First line and headers.
    pub(super) head: String,
    pub(super) body: String,
}

impl Seen {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Method and path.
    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1")
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// Status, more headers, body.
    Answer(u16, String, String),
    /// Goes without a word.
    Cut,
    /// Says nothing and does not go.
    Hang,
}

impl Reply {
    pub(super) fn json(status: u16, body: Value) -> Self {
        Self::Answer(status, "content-type: application/json\r\n".into(), body.to_string())
    }

    pub(super) fn text(status: u16, body: &str) -> Self {
        Self::Answer(status, String::new(), body.into())
    }
}

type Script = Box<dyn FnMut(&Seen) -> Reply + Send>;

/// The server.
pub(super) struct Server {
    pub(super) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Server {
    pub(super) async fn start(script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let accepting = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (noted, script) = (Arc::clone(&noted), Arc::clone(&script));
                open.spawn(async move {
                    let Some(request) = read(&mut stream).await else { return };
                    let reply = (script.lock())(&request);
                    noted.lock().push(request);
                    play(stream, reply).await;
                });
            }
        });
        Self { url, seen, accepting }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(|seen| seen.line().to_owned()).collect()
    }
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let seen = Seen { head: head.to_owned(), body: body.to_owned() };
            let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
            if seen.body.len() >= length {
                return Some(seen);
            }
        }
        let mut chunk = [0; 16 * 1024];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
    }
}

async fn play(mut stream: TcpStream, reply: Reply) {
    match reply {
        Reply::Answer(status, headers, body) => {
            let length = body.len();
            let text =
                format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
            // Who has heard enough goes.
            let _gone = stream.write_all(text.as_bytes()).await;
        }
        Reply::Cut => {}
        Reply::Hang => std::future::pending().await,
    }
}
