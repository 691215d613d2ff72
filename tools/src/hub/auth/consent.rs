//! Who agrees to a login: a person with a browser, or a test.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Time a person has to agree.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes of the browser's request that are read.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// Time a connection has to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// What the browser shows at the end.
const DONE: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\nLogged in. You can close this page.\n";

/// Takes a person to the page of an authorization server and brings back where it sent them.
#[async_trait]
pub trait Consent: Send + Sync {
    /// The address the authorization server sends the person back to.
    fn redirect_uri(&self) -> String;

    /// Shows `url` for the login to `server`; the answer is the whole address the person came back with.
    ///
    /// # Errors
    /// Why nobody agreed.
    async fn visit(&self, server: &str, url: &str) -> Result<String, String>;
}

/// Prints the address and waits on a port of this machine for the browser to come back.
#[derive(Debug)]
pub struct LoopbackConsent {
    listener: TcpListener,
    port: u16,
    patience: Duration,
}

impl LoopbackConsent {
    /// Listens on a free port of `127.0.0.1`.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn listen() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port, patience: LOGIN_TIMEOUT })
    }

    /// Waits for this long, and never longer than [`LOGIN_TIMEOUT`].
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience: patience.min(LOGIN_TIMEOUT), ..self }
    }
}

#[async_trait]
impl Consent for LoopbackConsent {
    fn redirect_uri(&self) -> String {
        format!("http://127.0.0.1:{}/callback", self.port)
    }

    async fn visit(&self, server: &str, url: &str) -> Result<String, String> {
        // Never opened by us, and never through a shell: a person reads it first.
        eprintln!("To log in to {server}, open this address:\n  {url}");
        let back = tokio::time::timeout(self.patience, async {
            loop {
                let (stream, _) = self.listener.accept().await.map_err(|error| error.to_string())?;
                // Browsers also open connections on which they say nothing.
                let said = tokio::time::timeout(REQUEST_TIMEOUT, callback(stream)).await;
                if let Ok(Some(target)) = said {
                    return Ok(format!("http://127.0.0.1:{}{target}", self.port));
                }
            }
        });
        back.await.unwrap_or_else(|_| Err(format!("nobody logged in within {:?}", self.patience)))
    }
}

/// The path and query of a request for the callback.
async fn callback(mut stream: TcpStream) -> Option<String> {
    let mut request = vec![0; REQUEST_BYTES_MAX];
    let mut filled = 0;
    while !request[..filled].contains(&b'\n') {
        let read = stream.read(&mut request[filled..]).await.ok()?;
        if read == 0 {
            return None;
        }
        filled += read;
    }
    let line = String::from_utf8_lossy(&request[..filled]).lines().next()?.to_owned();
    let target = line.strip_prefix("GET ")?.split(' ').next()?.to_owned();
    let is_callback = target.starts_with("/callback?");
    stream.write_all(DONE.as_bytes()).await.ok()?;
    is_callback.then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_browser_that_comes_back_brings_the_address() {
        let consent = LoopbackConsent::listen().await.unwrap();
        let port = consent.port;
        let browser = tokio::spawn(async move {
            for path in ["/favicon.ico", "/callback?code=c&state=s"] {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                assert!(answer.contains("200 OK"), "{answer}");
            }
        });
        let back = consent.visit("s", "https://login.test/").await.unwrap();
        assert_eq!(back, format!("http://127.0.0.1:{port}/callback?code=c&state=s"));
        browser.await.unwrap();
    }
}
