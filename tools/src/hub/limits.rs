//! Every bound of the hub, by name, with its reason.

use std::time::Duration;

/// Longest line (one JSON-RPC message) read from a server. The same as the protocol library allows over HTTP.
pub const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Unreadable lines tolerated on one connection: banners and stray prints are common, a stream of them is not.
pub const GARBAGE_LINES_MAX: u32 = 10_000;
/// Notifications and requests a server may send at once, beyond its steady rate.
pub const NOTIFICATION_BURST_MAX: u32 = 2_000;
/// Steady rate of notifications and requests per second.
pub const NOTIFICATIONS_PER_SECOND: u32 = 500;
/// Pages of one `tools/list`.
pub const LIST_PAGES_MAX: usize = 100;
/// Tools of one server.
pub const TOOLS_MAX: usize = 2_000;
/// Bytes of a tool's name; also the limit of model providers.
pub const TOOL_NAME_BYTES_MAX: usize = 128;
/// Bytes of a tool's title and description together: they are paid for in every prompt.
pub const DESCRIPTION_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one schema in compact form.
pub const SCHEMA_BYTES_MAX: usize = 256 * 1024;
/// Backtracking steps of one `pattern` match: a schema is a stranger's program.
pub const PATTERN_BACKTRACK_MAX: usize = 100_000;
/// Time one value may take to be checked against a schema with references.
pub const CHECK_TIMEOUT: Duration = Duration::from_millis(500);
/// Checks of one server that may run at a time, those that ran out of time included.
pub const RUNAWAY_CHECKS_MAX: usize = 4;
/// Bytes of all tools of one list in compact form.
pub const LIST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Result bytes handed on by default; the rest is cut and marked.
pub const RESULT_BYTES_DEFAULT: usize = 1024 * 1024;
/// Parts of one result.
pub const RESULT_PARTS_MAX: usize = 1_000;
/// Standard error kept for error messages, in bytes.
pub const STDERR_TAIL_BYTES: usize = 4 * 1024;
/// Standard error written to the log over one process's life, in bytes.
pub const STDERR_LOG_BYTES_MAX: usize = 256 * 1024;
/// Text quoted from a server inside an error message, in bytes.
pub const QUOTE_BYTES_MAX: usize = 400;
/// Text quoted from a line that is not an answer, in bytes.
pub const ODDITY_BYTES_MAX: usize = 80;
/// Text searched for secrets before it is shortened for a log or a message, in bytes.
pub const SCRUB_BYTES_MAX: usize = 4 * 1024;
/// Defects of a list named in full; more are only counted.
pub const DEFECTS_MAX: usize = 100;
/// Parallel calls to one server by default.
pub const CONCURRENCY_DEFAULT: usize = 8;

/// Failures in a row after which a server is left alone for [`BREAKER_PAUSE`].
pub const BREAKER_FAILURES_DEFAULT: u32 = 5;
/// How long calls are refused after that; then one call finds out.
pub const BREAKER_PAUSE: Duration = Duration::from_secs(30);
/// Rounds of questions and answers of one call that the hub answers by itself.
pub const ROUNDS_MAX: usize = 10;
/// Questions of one call.
pub const QUESTIONS_MAX: usize = 20;
/// Bytes of a stored artifact: the largest message there can be.
pub const ARTIFACT_BYTES_MAX: usize = LINE_BYTES_MAX;

/// Whole time of a call when neither the call nor the server's configuration says otherwise.
pub const CALL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Time to start a server and agree on a revision: package runners load on a cold start (13-23 s measured), and a server
/// that never says which era it speaks is started twice.
pub const START_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Time for a whole tool list.
pub const LIST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Age at which a tool list is read again before a call, however long the server says it may be kept.
pub const LIST_AGE_MAX: Duration = Duration::from_secs(60);
/// Time a `notifications/cancelled` may take to leave; a server that does not read is given up.
pub const CANCEL_GRACE: Duration = Duration::from_millis(500);
/// Time between a child's death and the end of its connection, for replies already in the pipe.
pub const EXIT_DRAIN_GRACE: Duration = Duration::from_millis(300);
/// Time a server has to leave after the end of its input, and again after SIGTERM.
pub const CLOSE_GRACE_DEFAULT: Duration = Duration::from_secs(2);
/// First pause after a failed start; doubles up to [`BACKOFF_MAX`].
pub const BACKOFF_INITIAL: Duration = Duration::from_millis(250);
/// Longest pause between two starts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Time [`super::Hub::close`] waits for calls in flight before it ends the servers.
pub const DRAIN_DEFAULT: Duration = Duration::from_secs(5);
