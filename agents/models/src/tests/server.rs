//! A server that says what its script says, byte for byte, and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One answer of the script.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pieces: Vec<Vec<u8>>,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Close,
    Hang,
}

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

    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

impl Reply {
    /// A whole answer.
    pub(super) fn json(status: u16, headers: &str, body: &Value) -> Self {
        Self::text(status, &format!("content-type: application/json\r\n{headers}"), &body.to_string())
    }

    pub(super) fn text(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::raw(format!(
            "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        ))
    }

    /// Events, ended by the end of the connection.
    pub(super) fn events(body: &str) -> Self {
        Self::raw(format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream; charset=utf-8\r\nrequest-id: req_s\r\nx-request-id: req_s\r\n\r\n{body}"
        ))
    }

    pub(super) fn raw(bytes: String) -> Self {
        Self { pieces: vec![bytes.into_bytes()], end: End::Close }
    }

    /// After what it says it says nothing, and does not go.
    pub(super) fn and_hangs(self) -> Self {
        Self { end: End::Hang, ..self }
    }

    /// In pieces of so many bytes.
    pub(super) fn in_pieces(self, size: usize) -> Self {
        let pieces = self.pieces.concat().chunks(size).map(<[u8]>::to_vec).collect();
        Self { pieces, ..self }
    }
}

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
    pub(super) async fn start(script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let accepting = tokio::spawn(async move {
            let mut script = VecDeque::from(script);
            let mut open = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(request) = read(&mut stream).await else { continue };
                noted.lock().push(request);
                let over = Reply::text(418, "", "{\"error\": \"the script is over\"}");
                open.spawn(play(stream, script.pop_front().unwrap_or(over)));
            }
        });
        Self { url, seen, accepting }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
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
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
    }
}

async fn play(mut stream: TcpStream, reply: Reply) {
    for piece in reply.pieces {
        // Who has heard enough goes.
        if stream.write_all(&piece).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
    if reply.end == End::Hang {
        std::future::pending::<()>().await;
    }
}
