//! A server's process: its own group, a declared environment, and an end that always comes.
//!
//! One task owns the process from start to end. It ends the whole group when the child exits (a grandchild may hold the
//! output open for ever), when the connection is over, and when it is dropped with the runtime.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::dial::Pipes;
use super::error::{floor_char_boundary, quote};
use super::limits::{EXIT_DRAIN_GRACE, STDERR_LOG_BYTES_MAX, STDERR_TAIL_BYTES};
use super::reaper::Reaper;
use super::reference::Secrets;
use super::wire::{Fault, WireState};

/// `PATH` of a child that declares none.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longest line of standard error logged in one piece.
const STDERR_LINE_BYTES_MAX: usize = 4 * 1024;

/// How long the death of a killed group is awaited, and how often it is looked at.
const GROUP_GONE_MAX: Duration = Duration::from_millis(500);
const GROUP_GONE_POLL: Duration = Duration::from_millis(2);

/// A process to start, with every reference resolved.
pub(super) struct Spawn {
    pub(super) server: String,
    pub(super) command: String,
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) cwd: PathBuf,
    pub(super) close_grace: Duration,
    pub(super) secrets: Secrets,
}

/// A running server process.
#[derive(Clone)]
pub(super) struct Process {
    gone: CancellationToken,
    stderr: Arc<StderrTail>,
}

impl Process {
    /// Resolves when the process and its group are gone.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// The end of what it wrote to standard error, secrets hidden, to be appended to a message; may be empty.
    pub(super) fn last_words(&self) -> String {
        let tail = self.stderr.tail.lock();
        let text = String::from_utf8_lossy(&tail);
        let text = self.stderr.secrets.scrub(text.trim().to_owned());
        if text.is_empty() { text } else { format!("; its last words: {}", quote(&text)) }
    }
}

/// Starts a process; the connection ends with it and it ends with the connection.
pub(super) fn spawn(spec: Spawn, state: &Arc<WireState>, reaper: &Arc<Reaper>) -> io::Result<(Pipes, Process)> {
    let mut child = command(&spec).spawn()?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(io::Error::other("the process has no pipes"));
    };
    let group = Group::watch(child.id(), reaper)?;
    let tail = Arc::new(StderrTail { server: spec.server, secrets: spec.secrets, tail: Mutex::default() });
    let process = Process { gone: CancellationToken::new(), stderr: tail.clone() };
    let words = tokio::spawn(tail.follow(stderr));
    let (state, gone) = (state.clone(), process.gone.clone());
    tokio::spawn(async move {
        let _announce = gone.drop_guard();
        own(child, group, &state, spec.close_grace).await;
        // Its last words are in the pipe; an error message wants them.
        let _ = tokio::time::timeout(EXIT_DRAIN_GRACE, words).await;
    });
    Ok((Pipes { read: Box::new(stdout), write: Box::new(stdin) }, process))
}

fn command(spec: &Spawn) -> Command {
    let mut command = Command::new(&spec.command);
    command.args(&spec.args).current_dir(&spec.cwd).env_clear();
    command.env("PATH", PATH_DEFAULT).env("HOME", &spec.cwd).envs(&spec.env);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    command
}

/// An empty directory of its own for a server that declares none, closed to others.
pub(super) fn own_directory(root: &Path, server: &str) -> io::Result<PathBuf> {
    let path = root.join(server);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
    Ok(path)
}

/// Owns the process until it is gone.
async fn own(mut child: Child, group: Group, state: &WireState, grace: Duration) {
    tokio::select! {
        biased;
        status = child.wait() => {
            // Replies written just before the end are still in the pipe; give them time to be read.
            let _ = tokio::time::timeout(EXIT_DRAIN_GRACE, state.drained.cancelled()).await;
            state.fail(Fault::Exited(describe(status)));
        }
        // The connection is over, and with it the child's input: most servers leave by themselves.
        () = state.dead.cancelled() => end(&mut child, &group, state, grace).await,
    }
    // Whoever the child left behind goes too.
    group.signal(Signal::KILL);
    let _ = child.wait().await;
    group.empty().await;
}

async fn end(child: &mut Child, group: &Group, state: &WireState, grace: Duration) {
    if let Ok(status) = tokio::time::timeout(grace, child.wait()).await {
        // A dying process closes its output a moment before its status is known.
        state.note(Fault::Exited(describe(status)));
        return;
    }
    group.signal(Signal::TERM);
    if tokio::time::timeout(grace, child.wait()).await.is_err() {
        tracing::warn!(pgid = group.pgid, "a tool server ignored the end of its input and SIGTERM; killed");
    }
}

fn describe(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("status unknown: {error}"),
    }
}

/// A process group that does not outlive this value.
struct Group {
    pid: Pid,
    pgid: u32,
    reaper: Arc<Reaper>,
}

impl Group {
    fn watch(id: Option<u32>, reaper: &Arc<Reaper>) -> io::Result<Self> {
        let raw = id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (Some(pid), Some(pgid)) = (raw, id) else { return Err(io::Error::other("the process ended at once")) };
        reaper.watch(pgid);
        Ok(Self { pid, pgid, reaper: reaper.clone() })
    }

    fn signal(&self, signal: Signal) {
        // An error means that nobody is left to signal.
        let _ = kill_process_group(self.pid, signal);
    }

    /// Waits until nobody is left: the next start must not meet an heir that still holds a lock. Bounded, because a
    /// zombie that its new parent never collects counts as somebody.
    async fn empty(&self) {
        let deadline = Instant::now() + GROUP_GONE_MAX;
        while test_kill_process_group(self.pid).is_ok() && Instant::now() < deadline {
            tokio::time::sleep(GROUP_GONE_POLL).await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.reaper.forget(self.pgid);
    }
}

/// Standard error of a server: into the log up to a limit, and its tail into error messages.
struct StderrTail {
    server: String,
    secrets: Secrets,
    tail: Mutex<Vec<u8>>,
}

impl StderrTail {
    /// Reads to the end, always: a full pipe would stop the server.
    async fn follow(self: Arc<Self>, mut stderr: impl AsyncRead + Unpin) {
        let mut buffer = [0_u8; STDERR_LINE_BYTES_MAX];
        let mut line = Vec::new();
        let mut logged = 0;
        while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
            let chunk = &buffer[..count];
            self.keep(chunk);
            for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(piece);
                if piece.ends_with(b"\n") || line.len() >= STDERR_LINE_BYTES_MAX {
                    self.log(&line, &mut logged);
                    line.clear();
                }
            }
        }
        self.log(&line, &mut logged);
    }

    fn keep(&self, chunk: &[u8]) {
        let mut tail = self.tail.lock();
        tail.extend_from_slice(chunk);
        let excess = tail.len().saturating_sub(STDERR_TAIL_BYTES);
        tail.drain(..excess);
    }

    fn log(&self, line: &[u8], logged: &mut usize) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        if text.is_empty() || *logged > STDERR_LOG_BYTES_MAX {
            return;
        }
        *logged += text.len();
        let text = self.secrets.scrub(text[..floor_char_boundary(text, STDERR_LINE_BYTES_MAX)].to_owned());
        tracing::info!(target: "interlock::mcp::stderr", server = self.server, "{text}");
        if *logged > STDERR_LOG_BYTES_MAX {
            tracing::warn!(target: "interlock::mcp::stderr", server = self.server, "the rest is not logged: limit of {STDERR_LOG_BYTES_MAX} bytes");
        }
    }
}
