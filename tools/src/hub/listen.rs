//! Servers without sessions say that their tools changed only to whoever listens: one stream a connection, opened again a
//! few times when it ends. What it brings is noted in `inbound`, as from the servers of the era before.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{ServerPeerInfo, SubscriptionFilter};
use rmcp::service::{Peer, ServiceError};

use super::wire::WireState;

/// Times the stream of one connection is opened; afterwards lists are as old as they are.
const LISTENS_MAX: u32 = 8;
/// Pause before the stream is opened again; doubles each time.
const LISTEN_PAUSE: Duration = Duration::from_millis(500);

/// Whether the server has news that nobody gets without asking.
pub(super) fn wants_listening(info: &ServerPeerInfo) -> bool {
    let tells = info.capabilities.tools.as_ref().and_then(|tools| tools.list_changed) == Some(true);
    tells && !info.protocol_version.has_initialize()
}

/// Listens as long as the connection lasts.
pub(super) fn listen(peer: Peer<RoleClient>, state: Arc<WireState>) {
    tokio::spawn(async move {
        let dead = state.dead.clone();
        tokio::select! {
            biased;
            () = dead.cancelled() => {}
            () = listen_on(&peer, &state) => {}
        }
    });
}

async fn listen_on(peer: &Peer<RoleClient>, state: &WireState) {
    for round in 0..LISTENS_MAX {
        match peer.listen(SubscriptionFilter::builder().tools_list_changed().build()).await {
            Ok(mut stream) => {
                // Nobody heard what was said between two streams.
                state.tools_changed.fetch_or(round > 0, Ordering::AcqRel);
                while let Ok(Some(_)) = stream.next().await {}
            }
            Err(ServiceError::McpError(error)) => {
                tracing::debug!(server = state.server, error = %error.message, "it takes no listeners");
                return;
            }
            Err(_) => {}
        }
        tokio::time::sleep(LISTEN_PAUSE * (1 << round)).await;
    }
    tracing::debug!(server = state.server, "its stream of news is given up");
}
