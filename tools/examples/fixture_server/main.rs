//! The server of the conformance suite: its fixtures, on the very stack that serves our own servers over HTTP.
//!
//! Usage: `fixture_server PORT` (0 takes a free one). Prints its address, then serves until its input ends.

#![expect(deprecated, reason = "the suite tests what older revisions have, too")]

mod asks;
mod content;
mod fixtures;

use std::io::Read as _;

use tokio_util::sync::CancellationToken;
use tools::servers::http::{ENDPOINT, HttpOptions, HttpServer};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(0);
    let fixtures = fixtures::Fixtures::default();
    let server = HttpServer::bind(HttpOptions::local(([127, 0, 0, 1], port).into()), move || fixtures.clone()).await?;
    println!("http://{}{ENDPOINT}", server.address()?);
    let stop = CancellationToken::new();
    let parent_left = stop.clone();
    std::thread::spawn(move || {
        // Whoever started us holds our input; its end is ours.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        parent_left.cancel();
    });
    server.serve(stop).await
}
