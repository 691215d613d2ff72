//! Which of the two protocol eras a server speaks, and what a failed attempt to attach says about it.

use rmcp::ClientLifecycleMode;
use rmcp::model::ProtocolVersion;
use rmcp::service::ClientInitializeError;
use serde::Serialize;

/// Era of a server. Remembered per configuration: finding out can cost a process and a timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Era {
    /// 2026-07-28 and later: no handshake, every request carries its context.
    Modern,
    /// `initialize`, 2024-11-05 to 2025-11-25.
    Initialize,
}

impl Era {
    pub(super) fn of(version: &ProtocolVersion) -> Self {
        if version.has_initialize() { Self::Initialize } else { Self::Modern }
    }
}

/// How to open a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// Ask with `server/discover`; a server that answers with an error is asked to `initialize` on the same connection.
    Probe,
    /// The server is known.
    Known(Era),
}

/// The library's own mode. It never falls back by itself: its patience is not ours. A legacy version is never among the
/// preferred ones: attaching would then "succeed" without a handshake.
pub(super) fn mode(era: Era) -> ClientLifecycleMode {
    match era {
        Era::Modern => ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
        Era::Initialize => ClientLifecycleMode::Initialize,
    }
}

/// Whether a failed probe is worth a fresh connection with `initialize`.
///
/// Only two answers are final: a modern server that refuses us, and one that lists its versions with none of the old
/// ones among them. Everything else (an empty result, an answer to another question, a closed pipe) is how servers that
/// have never heard of `server/discover` behave.
pub(super) fn worth_initialize(error: &ClientInitializeError) -> bool {
    match error {
        ClientInitializeError::NoCompatibleProtocolVersion { server_supported, .. } => {
            server_supported.is_empty() || server_supported.iter().any(ProtocolVersion::has_initialize)
        }
        // A modern refusal, or that of a server which was asked to `initialize` already.
        ClientInitializeError::JsonRpcError(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::ErrorData;

    use super::*;

    fn check_worth(server_supported: Vec<ProtocolVersion>, expected: bool) {
        let error =
            ClientInitializeError::NoCompatibleProtocolVersion { client_supported: Vec::new(), server_supported };
        assert_eq!(worth_initialize(&error), expected, "{error}");
    }

    #[test]
    fn a_list_of_old_versions_is_worth_another_try() {
        check_worth(vec![ProtocolVersion::V_2025_06_18], true);
        check_worth(Vec::new(), true);
        check_worth(vec![ProtocolVersion::V_2026_07_28], false);
    }

    #[test]
    fn a_modern_refusal_is_final_and_a_closed_pipe_is_not() {
        assert!(!worth_initialize(&ClientInitializeError::JsonRpcError(ErrorData::internal_error("no", None))));
        assert!(worth_initialize(&ClientInitializeError::ConnectionClosed("eof".into())));
        assert!(worth_initialize(&ClientInitializeError::ExpectedInitResult(None)));
    }

    #[test]
    fn only_versions_without_a_handshake_are_asked_for() {
        let ClientLifecycleMode::Discover { preferred_versions } = mode(Era::Modern) else {
            panic!("a modern server is asked to discover");
        };
        assert!(preferred_versions.iter().all(|version| !version.has_initialize()));
    }
}
