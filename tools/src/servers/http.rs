//! Streamable HTTP for any server of ours: this machine only unless there is a token, known hosts and origins only,
//! bodies of a bounded size, both eras of the protocol.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
pub use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Path of the endpoint.
pub const ENDPOINT: &str = "/mcp";
/// Bytes of one request.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Pause a client leaves before it picks up a broken stream.
const STREAM_RETRY: Duration = Duration::from_secs(1);
/// Shortest token that lets the world in.
const TOKEN_BYTES_MIN: usize = 16;

/// Where and to whom to serve.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names this server is called by besides those of this machine, as `host` or `host:port`.
    pub hosts: Vec<String>,
    /// Web pages that may call it, as `https://host:port`, besides those of this machine.
    pub origins: Vec<String>,
    /// Token every request has to carry. Needed to listen anywhere but on this machine.
    pub token: Option<SecretString>,
}

impl HttpOptions {
    /// This machine only, without a token.
    pub fn local(listen: SocketAddr) -> Self {
        Self { listen, hosts: Vec::new(), origins: Vec::new(), token: None }
    }
}

/// A server that listens.
pub struct HttpServer {
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
}

impl HttpServer {
    /// Binds the address; `make` gives the handler of a session or request.
    ///
    /// # Errors
    /// If the address is not of this machine and there is no usable token, or it cannot be bound.
    pub async fn bind<S: ServerHandler>(
        options: HttpOptions,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> io::Result<Self> {
        if options.token.as_ref().is_some_and(|token| token.expose_secret().len() < TOKEN_BYTES_MIN) {
            return Err(io::Error::other(format!("the token needs at least {TOKEN_BYTES_MIN} characters")));
        }
        if options.token.is_none() && !options.listen.ip().is_loopback() {
            return Err(io::Error::other(format!(
                "{} is reachable from other machines: set a token, or listen on 127.0.0.1",
                options.listen.ip()
            )));
        }
        let stop = CancellationToken::new();
        let service = StreamableHttpService::new(move || Ok(make()), sessions(), settings(&options, &stop));
        let mut router = Router::new().nest_service(ENDPOINT, service);
        if let Some(token) = options.token {
            router = router.layer(middleware::from_fn_with_state(Arc::new(token), demand_token));
        }
        let listener = TcpListener::bind(options.listen).await?;
        Ok(Self { listener, router, stop })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is cancelled; open streams end with it.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(self, stop: CancellationToken) -> io::Result<()> {
        let Self { listener, router, stop: streams } = self;
        let ended = async move {
            stop.cancelled().await;
            streams.cancel();
        };
        axum::serve(listener, router).with_graceful_shutdown(ended).await
    }
}

fn sessions() -> Arc<LocalSessionManager> {
    Arc::new(LocalSessionManager::default())
}

fn settings(options: &HttpOptions, stop: &CancellationToken) -> StreamableHttpServerConfig {
    // A page of another site must not reach a server of this machine, whatever name it resolves to it.
    let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    hosts.extend(options.hosts.iter().cloned());
    let own = ["localhost", "127.0.0.1", "[::1]"].map(|host| format!("http://{host}:*"));
    let origins = own.into_iter().chain(options.origins.iter().cloned());
    StreamableHttpServerConfig::default()
        .with_allowed_hosts(hosts)
        .with_allowed_origins(origins)
        .with_max_request_body_bytes(REQUEST_BYTES_MAX)
        .with_sse_retry(Some(STREAM_RETRY))
        .with_cancellation_token(stop.clone())
}

async fn demand_token(State(token): State<Arc<SecretString>>, request: Request, next: Next) -> Response {
    if is_bearer(request.headers(), token.expose_secret()) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, challenge, "this server wants its token as a bearer token").into_response()
}

/// Compares digests, so that the time it takes tells nothing about the token.
fn is_bearer(headers: &HeaderMap, token: &str) -> bool {
    use sha2::{Digest as _, Sha256};
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let sent = sent.and_then(|value| value.strip_prefix("Bearer "));
    sent.is_some_and(|sent| Sha256::digest(sent) == Sha256::digest(token))
}

#[cfg(test)]
mod tests {
    use rmcp::model::{ServerCapabilities, ServerConfig};

    use super::*;
    use crate::hub::{Hub, ServerConfig as Config, ToolErrorClass, TransportConfig};

    #[derive(Clone)]
    struct Nothing;

    impl ServerHandler for Nothing {
        fn get_info(&self) -> ServerConfig {
            ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
        }
    }

    fn local() -> HttpOptions {
        HttpOptions::local(([127, 0, 0, 1], 0).into())
    }

    #[tokio::test]
    async fn other_machines_need_a_token() {
        let open = HttpOptions { listen: ([0, 0, 0, 0], 0).into(), ..local() };
        let refused = HttpServer::bind(open.clone(), || Nothing).await.err().unwrap();
        assert!(refused.to_string().contains("set a token"), "{refused}");
        let short = HttpOptions { token: Some("short".into()), ..open.clone() };
        assert!(HttpServer::bind(short, || Nothing).await.is_err());
        let guarded = HttpOptions { token: Some("a-token-of-some-length".into()), ..open };
        assert!(HttpServer::bind(guarded, || Nothing).await.is_ok());
    }

    /// The status of a well-formed request that claims to come by this name and from this page.
    async fn status(options: HttpOptions, host: &str, origin: Option<&str>) -> u16 {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let server = HttpServer::bind(options, || Nothing).await.unwrap();
        let (address, stop) = (server.address().unwrap(), CancellationToken::new());
        let served = tokio::spawn(server.serve(stop.clone()));
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"page","version":"1"}}}"#;
        let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        let request = format!(
            "POST {ENDPOINT} HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        drop(stream);
        stop.cancel();
        served.await.unwrap().unwrap();
        std::str::from_utf8(&head[9..]).unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn a_page_that_resolves_its_name_to_this_machine_is_refused() {
        let declared = || HttpOptions {
            hosts: vec!["tools.test".to_owned()],
            origins: vec!["https://ops.test".to_owned()],
            ..local()
        };
        for (host, origin) in [
            ("localhost", None),
            ("127.0.0.1:8080", Some("http://localhost:3000")),
            ("[::1]", None),
            ("tools.test", Some("https://ops.test")),
        ] {
            assert_eq!(status(declared(), host, origin).await, 200, "{host} {origin:?}");
        }
        for (host, origin) in [
            ("evil.test", None),
            ("evil.test", Some("http://localhost:3000")),
            ("127.0.0.1.evil.test", None),
            ("localhost", Some("https://evil.test")),
            ("localhost", Some("null")),
            ("localhost", Some("http://localhost.evil.test")),
        ] {
            assert_eq!(status(declared(), host, origin).await, 403, "{host} {origin:?}");
        }
    }

    #[tokio::test]
    async fn a_list_with_the_page_s_name_in_it_would_let_it_in() {
        let fooled = HttpOptions {
            hosts: vec!["evil.test".to_owned()],
            origins: vec!["https://evil.test".to_owned()],
            ..local()
        };
        let let_in = status(fooled, "evil.test", Some("https://evil.test")).await;
        assert_eq!(let_in, 200, "the weakened variant has to be caught: the lists are what refuses");
    }

    #[tokio::test]
    async fn only_the_token_opens_and_it_is_not_shown() {
        let options = HttpOptions { token: Some("a-token-of-some-length".into()), ..local() };
        assert!(!format!("{options:?}").contains("a-token"));
        let server = HttpServer::bind(options, || Nothing).await.unwrap();
        let url = format!("http://{}{ENDPOINT}", server.address().unwrap());
        let stop = CancellationToken::new();
        let served = tokio::spawn(server.serve(stop.clone()));
        let mut known = Config::http("known", &url);
        if let TransportConfig::Http { headers, .. } = &mut known.transport {
            headers.insert("Authorization".into(), "Bearer a-token-of-some-length".into());
        }
        let hub = Hub::new(vec![known, Config::http("stranger", &url)]);
        assert!(hub.list_tools("known").await.unwrap().tools.is_empty());
        let error = hub.list_tools("stranger").await.unwrap_err();
        assert_eq!(error.class, ToolErrorClass::Unavailable, "{error}");
        hub.close().await;
        stop.cancel();
        served.await.unwrap().unwrap();
    }
}
