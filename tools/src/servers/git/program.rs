//! Git as a program: fixed arguments, no shell, an environment of its own, and bounds on time and output.
//!
//! A repository is a stranger's: its configuration names hooks, monitors, filters and pagers that Git would start. What can be
//! switched off is switched off here for every call; what cannot is looked for, and then nothing is taken back
//! ([`Git::forbid_programs`]).

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use super::error::{Code, GitError, Result};

/// Where programs are looked for when the environment does not say.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";
/// Longest that Git may take.
const TIME_MAX: Duration = Duration::from_secs(30);
/// What it gets to let go of its locks once it was told to end.
const END_GRACE: Duration = Duration::from_secs(5);
/// Most that Git may say.
pub(super) const OUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most of what it complains that is kept.
const COMPLAINT_BYTES_MAX: u64 = 8 * 1024;
/// Characters of a complaint in an error.
const COMPLAINT_CHARS_MAX: usize = 400;

/// What Git is told with every call, so that it starts no program that a repository names.
const SETTINGS: [&str; 20] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.pager=cat",
    "core.editor=false",
    "core.askPass=false",
    "core.sshCommand=false",
    "protocol.allow=never",
    "commit.gpgSign=false",
    "i18n.commitEncoding=UTF-8",
    "log.showSignature=false",
    "diff.renames=false",
    "merge.renames=false",
    "merge.directoryRenames=false",
    "blame.ignoreRevsFile=",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
];

/// The environment of every call; nothing else but `PATH` is passed on.
const ENVIRONMENT: [(&str, &str); 14] = [
    ("HOME", "/nonexistent"),
    ("LC_ALL", "C"),
    ("TZ", "UTC"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_PAGER", "cat"),
    ("GIT_EDITOR", "false"),
    ("GIT_ASKPASS", "false"),
    ("GIT_ALLOW_PROTOCOL", "none"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_LITERAL_PATHSPECS", "1"),
];

/// Git in one work tree.
#[derive(Debug, Clone)]
pub(super) struct Git {
    root: PathBuf,
    more: Vec<(&'static str, OsString)>,
    /// A look takes no lock and writes no index.
    writes: bool,
}

/// What Git said.
#[derive(Debug)]
pub(super) struct Said {
    /// Its exit code; -1 when a signal ended it.
    pub(super) status: i32,
    /// Standard output.
    pub(super) out: Vec<u8>,
    /// Whether there was more of it.
    pub(super) is_cut: bool,
    complaint: String,
}

impl Said {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// What it complained, for an error.
    pub(super) fn why(&self) -> String {
        let words = self.complaint.split_whitespace().collect::<Vec<_>>().join(" ");
        let words: String = words.chars().take(COMPLAINT_CHARS_MAX).collect();
        format!("git ended with {}: {words}", self.status)
    }
}

impl Git {
    /// Git that looks.
    pub(super) fn reading(root: &Path) -> Self {
        Self { root: root.to_owned(), more: Vec::new(), writes: false }
    }

    /// Git that may write.
    pub(super) fn writing(&self) -> Self {
        Self { writes: true, ..self.clone() }
    }

    /// Git whose new objects lie in a folder of their own, so that the repository stays as it is.
    pub(super) fn aside(&self, folder: &Path, objects: &Path) -> Self {
        self.with(&[
            ("GIT_OBJECT_DIRECTORY", folder.as_os_str()),
            ("GIT_ALTERNATE_OBJECT_DIRECTORIES", objects.as_os_str()),
        ])
    }

    /// Git with more in its environment.
    pub(super) fn with(&self, more: &[(&'static str, &OsStr)]) -> Self {
        let mut git = self.clone();
        git.more.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        git
    }

    /// What Git says, whatever its exit code.
    pub(super) async fn ask(&self, args: &[&str]) -> Result<Said> {
        let said = self.ask_up_to(args, OUT_BYTES_MAX).await?;
        if said.is_cut {
            let text = format!("git {} says more than {OUT_BYTES_MAX} bytes", args.first().unwrap_or(&""));
            return Err(GitError::new(Code::LimitExceeded, text));
        }
        Ok(said)
    }

    /// The beginning of what Git says. A program that is not listened to any more ends.
    pub(super) async fn ask_up_to(&self, args: &[&str], bytes_max: usize) -> Result<Said> {
        let what = format!("git {}", args.first().unwrap_or(&""));
        let mut child =
            self.command(args).spawn().map_err(|error| GitError::failed(format!("{what} does not start: {error}")))?;
        let listening = tokio::time::timeout(TIME_MAX, listen(&mut child, bytes_max)).await;
        let Ok(listened) = listening else {
            end(&mut child).await;
            let text = format!("{what} in {} was not done after {} s", self.root.display(), TIME_MAX.as_secs());
            return Err(GitError::new(Code::TimedOut, text));
        };
        listened.map_err(|error| GitError::failed(format!("{what}: {error}")))
    }

    /// What Git says; an error where it does not succeed.
    pub(super) async fn tell(&self, args: &[&str]) -> Result<String> {
        let said = self.ask(args).await?;
        match said.status {
            0 => Ok(said.text()),
            _ => {
                let text = format!("git {} in {}: {}", args.first().unwrap_or(&""), self.root.display(), said.why());
                Err(GitError::failed(text))
            }
        }
    }

    /// One line that Git says.
    pub(super) async fn line(&self, args: &[&str]) -> Result<String> {
        Ok(self.tell(args).await?.trim_end_matches('\n').to_owned())
    }

    /// Refuses a repository whose configuration names a program that rewrites or merges files: nothing can switch these off.
    pub(super) async fn forbid_programs(&self) -> Result<()> {
        let said = self.tell(&["config", "--list", "--name-only", "-z", "--includes"]).await?;
        let named = said.split('\0').find(|key| {
            let ends = |ends: &[&str]| ends.iter().any(|end| key.ends_with(end));
            (key.starts_with("filter.") && ends(&[".clean", ".smudge", ".process"]))
                || (key.starts_with("merge.") && ends(&[".driver"]))
        });
        match named {
            None => Ok(()),
            Some(key) => Err(GitError::denied(format!(
                "the configuration of {} names a program in `{key}`, and this server starts none: its work tree is not looked at, and nothing is taken back there",
                self.root.display()
            ))),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        let path = std::env::var_os("PATH").unwrap_or_else(|| PATH_DEFAULT.into());
        command.current_dir(&self.root).env_clear().env("PATH", path).envs(ENVIRONMENT);
        command.env("GIT_OPTIONAL_LOCKS", if self.writes { "1" } else { "0" });
        command.envs(self.more.iter().map(|(name, value)| (*name, value)));
        // Named, not looked for: no folder above is ever taken for the repository.
        command.arg("--git-dir").arg(self.root.join(".git")).arg("--work-tree").arg(&self.root).arg("--no-pager");
        command.args(SETTINGS.iter().flat_map(|setting| ["-c", *setting])).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }
}

async fn listen(child: &mut Child, bytes_max: usize) -> std::io::Result<Said> {
    let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(std::io::Error::other("the process has no pipes"));
    };
    let speech = async move {
        let mut bytes = Vec::new();
        (&mut stdout).take(bytes_max as u64 + 1).read_to_end(&mut bytes).await.map(|_| bytes)
    };
    let complaint = async move {
        let mut bytes = Vec::new();
        (&mut stderr).take(COMPLAINT_BYTES_MAX).read_to_end(&mut bytes).await?;
        tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await.map(|_| bytes)
    };
    let (out, complaint) = tokio::try_join!(speech, complaint)?;
    let status = child.wait().await?;
    let is_cut = out.len() > bytes_max;
    let out = out.into_iter().take(bytes_max).collect();
    let complaint = String::from_utf8_lossy(&complaint).into_owned();
    Ok(Said { status: status.code().unwrap_or(-1), out, is_cut, complaint })
}

/// Lets it remove its locks first.
async fn end(child: &mut Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may be gone already; waiting tells.
        let _ = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(END_GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
