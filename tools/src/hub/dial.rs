//! The seam below a connection: two byte streams, wherever they come from.
//!
//! Children (`child`) and servers of our own process come in here. Streamable HTTP will not: it has no lines, and joins
//! in `session` beside `Wire`.

use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// The two ends of one fresh connection to a server.
pub struct Pipes {
    /// What the server writes.
    pub read: Box<dyn AsyncRead + Send + Unpin>,
    /// What the server reads; dropping it is the server's end of input.
    pub write: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Pipes {
    /// Both directions of one stream, as one end of [`tokio::io::duplex`].
    pub fn from_stream(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self { read: Box::new(read), write: Box::new(write) }
    }
}

/// Makes fresh connections to one server. Every call must give a new server: the hub dials again after a failure, and
/// again when a server turns out to speak another era.
#[async_trait]
pub trait Dial: Send + Sync {
    /// Opens a connection.
    ///
    /// # Errors
    /// When the server cannot be reached; nothing was sent.
    async fn dial(&self) -> io::Result<Pipes>;
}
