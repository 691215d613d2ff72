//! Taking a commit back: worked out beside the repository, then made in two steps that another's work cannot fall between.
//!
//! ```text
//!  work out the tree (merge-tree, no work tree) ─▶ commit it (commit-tree) ─▶ branch: compare and set ─▶ work tree follows (read-tree)
//!                                                                              └ moved: nothing was touched   └ cannot: branch set back
//! ```
//!
//! * History only grows: the reversal is a commit of its own, and it is taken back by another.
//! * A conflict is found before anything is touched, so there is nothing to abort.
//! * The same call made twice finds its own commit at the head, by its tree and not by its message alone. One that was cut off
//!   between the two steps is ended by the next.
//! * Several may want the same reversal. It is made once; who made it may take it back, and only while nobody else was told of it:
//!   what others rely on stays (`refs/interlock/relied/…`, so that a restart does not forget).

use std::ffi::OsStr;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Repositories;
use super::config::Revert;
use super::error::{Code, GitError, Result};
use super::look::{CommitSeen, Which, cut, diff, seen};
use super::program::Git;
use super::repo::{Change, Commit, Repo, is_commit, sha256};
use crate::servers::table::Key;

/// Longest subject that is taken over.
const SUBJECT_CHARS_MAX: usize = 120;
/// What lies in the folder of a repository while somebody is in the middle of something.
const UNDER_WAY: [&str; 6] =
    ["MERGE_HEAD", "REVERT_HEAD", "CHERRY_PICK_HEAD", "rebase-merge", "rebase-apply", "sequencer"];

/// A commit taken back, worked out and not yet made.
#[derive(Debug)]
pub(super) struct Reversal {
    pub(super) undone: Commit,
    pub(super) head: String,
    pub(super) tree: String,
    pub(super) changes: Vec<Change>,
}

impl Reversal {
    pub(super) fn files(&self) -> Vec<String> {
        self.changes.iter().map(|change| change.path.clone()).collect()
    }
}

/// Whether a commit can be taken back as the repository is now.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Reverts {
    /// Whether it can, within what the installation allows.
    pub clean: bool,
    /// Why not.
    pub why: Option<String>,
    /// The files that would change.
    pub files: Vec<String>,
}

/// What taking a commit back would do.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Preview {
    /// Repository.
    pub repo: String,
    /// The commit.
    pub commit: CommitSeen,
    /// The newest commit of the branch, as the act wants it in `expected_head`.
    pub head: String,
    /// Whether it can be taken back.
    #[serde(flatten)]
    pub reverts: Reverts,
    /// What would change, cut.
    pub diff: String,
    /// Whether the diff is longer.
    pub is_cut: bool,
}

pub(super) async fn preview_revert(all: Repositories, which: Which) -> Result<Preview> {
    let git = all.git(&which.repo)?;
    let repo = all.repo(&which.repo, &git)?;
    let undone = repo.commit(&which.commit).await?;
    let head = repo.head().await?;
    let commit = seen(&repo, &undone).await?;
    let beside = Beside::of(&git).await?;
    let repo = Repo { git: &beside.git, ..repo };
    let found = judge(&repo, undone, &head).await;
    let (diff, is_cut) = match &found {
        Ok(reversal) => diff(&repo, &[&head, &reversal.tree]).await?,
        Err(_) => (String::new(), false),
    };
    Ok(Preview { repo: which.repo, commit, head, reverts: verdict(found)?, diff, is_cut })
}

/// Whether a commit can be taken back; nothing is left of the look.
pub(super) async fn can_be_reverted(repo: &Repo<'_>, undone: &Commit, head: &str) -> Result<Reverts> {
    let beside = Beside::of(repo.git).await?;
    verdict(judge(&Repo { git: &beside.git, ..*repo }, undone.clone(), head).await)
}

async fn judge(repo: &Repo<'_>, undone: Commit, head: &str) -> Result<Reversal> {
    permit(repo, &undone, head).await?;
    work_out(repo, undone, head).await
}

/// A refusal is an answer; that Git does not work is an error.
fn verdict(found: Result<Reversal>) -> Result<Reverts> {
    match found {
        Ok(reversal) => Ok(Reverts { clean: true, why: None, files: reversal.files() }),
        Err(error) if matches!(error.code, Code::Denied | Code::Conflict | Code::LimitExceeded) => {
            Ok(Reverts { clean: false, why: Some(error.message), files: Vec::new() })
        }
        Err(error) => Err(error),
    }
}

/// Git whose new objects vanish with this.
struct Beside {
    git: Git,
    _folder: tempfile::TempDir,
}

impl Beside {
    async fn of(git: &Git) -> Result<Self> {
        let objects = git.line(&["rev-parse", "--path-format=absolute", "--git-path", "objects"]).await?;
        let folder = tempfile::tempdir()
            .map_err(|error| GitError::failed(format!("no folder for what is only worked out: {error}")))?;
        Ok(Self { git: git.aside(folder.path(), Path::new(&objects)), _folder: folder })
    }
}

/// Whether the installation allows this commit to be taken back at all.
async fn permit(repo: &Repo<'_>, undone: &Commit, head: &str) -> Result<()> {
    let declared = repo.declared;
    let id = &undone.id;
    if declared.revert == Revert::Off {
        let text = format!("repository {} is only read here (`revert: allowed` in its entry)", repo.name);
        return Err(GitError::denied(text));
    }
    match undone.parents.as_slice() {
        [_] => {}
        [] => return Err(GitError::conflict(format!("{id} is the first commit: there is nothing before it"))),
        _ => return Err(GitError::conflict(format!("{id} joins branches: which side stays is a person's decision"))),
    }
    let Some(behind) = repo.behind(id, head).await? else {
        return Err(GitError::conflict(format!("{id} is no part of `{}`", declared.branch)));
    };
    if behind > declared.max_commits {
        let text =
            format!("{behind} commits came after {id}, and at most {} may (`max_commits`)", declared.max_commits);
        return Err(GitError::denied(text));
    }
    let age = jiff::Timestamp::now().as_second().saturating_sub(undone.at);
    if age > declared.age_s_max() {
        let text = format!("{id} is older than {} days (`max_age_days`)", declared.max_age_days);
        return Err(GitError::denied(text));
    }
    repo.git.forbid_programs().await
}

/// The tree without what a commit did, if nothing that came after it is in the way.
pub(super) async fn work_out(repo: &Repo<'_>, undone: Commit, head: &str) -> Result<Reversal> {
    let Some(parent) = undone.parents.first() else {
        return Err(GitError::conflict(format!("{} is the first commit", undone.id)));
    };
    let base = format!("--merge-base={}", undone.id);
    let said = repo
        .git
        .ask(&["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", &base, head, parent])
        .await?;
    let text = said.text();
    let mut parts = text.split('\0').map(|part| part.trim_matches('\n')).filter(|part| !part.is_empty());
    let tree = parts.next().unwrap_or_default().to_owned();
    match said.status {
        0 if is_commit(&tree) => {}
        1 => {
            let files = cut(&parts.collect::<Vec<_>>().join(", "), SUBJECT_CHARS_MAX);
            let text =
                format!("{} cannot be taken back alone: later commits changed the same lines of {files}", undone.id);
            return Err(GitError::conflict(text));
        }
        _ => return Err(GitError::failed(format!("git merge-tree: {}", said.why()))),
    }
    let changes = repo.changes(head, &tree).await?;
    if changes.is_empty() {
        return Err(GitError::conflict(format!(
            "nothing of {} is left at {head}: it was taken back already",
            undone.id
        )));
    }
    if let Some(link) = changes.iter().find(|change| change.is_link) {
        let text = format!("`{}` is a link or another repository, which is not changed here", link.path);
        return Err(GitError::denied(text));
    }
    // A name that is no text was written down with another sign in its place.
    let odd = |path: &str| path.contains(char::REPLACEMENT_CHARACTER) || !repo.declared.may_touch(path);
    if let Some(other) = changes.iter().find(|change| odd(&change.path)) {
        let text = format!("{} also changes `{}`, which may not be touched (`paths`)", undone.id, other.path);
        return Err(GitError::denied(text));
    }
    Ok(Reversal { undone, head: head.to_owned(), tree, changes })
}

/// What to take back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevertCommit {
    /// Name of the repository.
    pub repo: String,
    /// The commit, by its 40 hexadecimal digits. With `own` also null: of an act that found everything done, nothing is taken back.
    pub commit: Option<String>,
    /// The newest commit of the branch, as the caller saw it. If it is another, nothing is done.
    pub expected_head: Option<String>,
    /// The files that the caller expects to change. If they are others, nothing is done.
    pub files: Vec<String>,
    /// The environment that runs what lies there.
    pub environment: String,
    /// Only if the commit is a reversal that this server made, nothing came after it and nobody else relies on it: to take back an
    /// act of this tool.
    #[serde(default)]
    pub own: bool,
}

/// A commit that was taken back.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Reverted {
    /// Repository.
    pub repo: String,
    /// The commit that was taken back.
    pub commit: String,
    /// The newest commit of the branch before.
    pub previous_head: String,
    /// The reversal, now the newest commit.
    pub head: String,
    /// The same, where it is this very call's: what `own` takes back. Null where another call had made it.
    pub made: Option<String>,
    /// The files that it changes.
    pub files: Vec<String>,
    /// Whether this call made it, or found it there.
    pub changed: bool,
}

pub(super) async fn revert_commit(all: Repositories, args: RevertCommit, key: Key) -> Result<Reverted> {
    let declared = all.config.repository(&args.repo)?;
    if args.environment != declared.environment {
        return Err(GitError::denied(format!(
            "what lies in {} runs in `{}`, and the call is for `{}`",
            args.repo, declared.environment, args.environment
        )));
    }
    let wanted = match (args.commit, args.expected_head) {
        (Some(commit), Some(expected_head)) if is_commit(&commit) && is_commit(&expected_head) => Wanted {
            repo: args.repo,
            commit,
            expected_head,
            files: args.files,
            own: args.own,
            mark: key.map(|key| mark(&key)),
        },
        (None, _) if args.own => {
            return Err(GitError::conflict(
                "the act found everything done by another, so nothing of it can be taken back",
            ));
        }
        _ => {
            return Err(GitError::invalid(
                "commit and expected_head: 40 hexadecimal digits each, as a look gives them",
            ));
        }
    };
    // Whoever called may go away; what was begun is ended all the same.
    let made = tokio::spawn(async move {
        let _alone = all.alone(&wanted.repo).await;
        revert_alone(&all, wanted).await
    });
    made.await.map_err(|error| GitError::failed(format!("the reversal broke off: {error}")))?
}

/// What is to be taken back, as it was asked for.
struct Wanted {
    repo: String,
    commit: String,
    expected_head: String,
    files: Vec<String>,
    own: bool,
    mark: Option<String>,
}

impl Wanted {
    fn answer(&self, head: &str, (files, is_its): (Vec<String>, bool), changed: bool) -> Reverted {
        Reverted {
            repo: self.repo.clone(),
            commit: self.commit.clone(),
            previous_head: self.expected_head.clone(),
            head: head.to_owned(),
            made: is_its.then(|| head.to_owned()),
            files,
            changed,
        }
    }
}

async fn revert_alone(all: &Repositories, wanted: Wanted) -> Result<Reverted> {
    let git = all.git(&wanted.repo)?.writing();
    let repo = all.repo(&wanted.repo, &git)?;
    let undone = repo.commit(&wanted.commit).await?;
    if !repo.is_checked_out().await? {
        let text = format!("the work tree of {} does not show `{}` now", wanted.repo, repo.declared.branch);
        return Err(GitError::conflict(text));
    }
    let head = repo.head().await?;
    if head != wanted.expected_head {
        let made = repo.commit(&head).await?;
        return found_there(all, &repo, (&wanted, &undone, &made)).await;
    }
    if wanted.own {
        all.may_take_back(&repo, &undone, &head).await?;
    }
    at_rest(&repo).await?;
    permit(&repo, &undone, &head).await?;
    let reversal = work_out(&repo, undone, &head).await?;
    let files = reversal.files();
    let (mut found, mut expected) = (files.clone(), wanted.files.clone());
    found.sort();
    expected.sort();
    if found != expected {
        let text = format!("it would change {}, and the call expected {}", found.join(", "), expected.join(", "));
        return Err(GitError::conflict(text));
    }
    let made = write(all, &repo, (&reversal, wanted.mark.as_deref())).await?;
    put_in_place(&repo, (&head, &made)).await?;
    Ok(wanted.answer(&made, (files, true), true))
}

/// The branch has moved: if by this very reversal, then all is done.
async fn found_there(
    all: &Repositories,
    repo: &Repo<'_>,
    (wanted, undone, made): (&Wanted, &Commit, &Commit),
) -> Result<Reverted> {
    let expected = &wanted.expected_head;
    if made.parents != [expected.clone()] || !all.is_revert_of(repo, made, undone).await? {
        let text = format!(
            "`{}` is at {}, and the call expected {expected}: somebody committed, decide anew",
            repo.declared.branch, made.id
        );
        return Err(GitError::conflict(text));
    }
    end_what_was_cut_off(repo, expected, &made.id).await?;
    let is_its = wanted.mark.as_ref().is_some_and(|mark| made.body.lines().any(|line| line == mark));
    if !is_its {
        repo.git.tell(&["update-ref", "--no-deref", &relied(&made.id), &made.id]).await?;
    }
    let files = repo.changed_by(made).await?.into_iter().map(|change| change.path).collect();
    Ok(wanted.answer(&made.id, (files, is_its), false))
}

/// The line of a message by which a call knows its own reversal.
fn mark(key: &str) -> String {
    format!("Interlock-Call: {}", sha256(key.as_bytes()))
}

/// Where it stands that others rely on a reversal.
fn relied(made: &str) -> String {
    format!("refs/interlock/relied/{made}")
}

/// Nobody is in the middle of something, and nothing is uncommitted.
async fn at_rest(repo: &Repo<'_>) -> Result<()> {
    let folder = repo.git.line(&["rev-parse", "--absolute-git-dir"]).await?;
    if let Some(sign) = UNDER_WAY.iter().find(|sign| Path::new(&folder).join(sign).exists()) {
        let text = format!("somebody is in the middle of something in {} ({sign}): end that first", repo.name);
        return Err(GitError::conflict(text));
    }
    if repo.is_clean().await? {
        return Ok(());
    }
    Err(GitError::conflict(format!(
        "{} has changes that are not committed: nothing is taken back over them",
        repo.name
    )))
}

async fn write(all: &Repositories, repo: &Repo<'_>, (reversal, mark): (&Reversal, Option<&str>)) -> Result<String> {
    let author = &all.config.author;
    let git = repo.git.with(&[
        ("GIT_AUTHOR_NAME", OsStr::new(&author.name)),
        ("GIT_AUTHOR_EMAIL", OsStr::new(&author.email)),
        ("GIT_COMMITTER_NAME", OsStr::new(&author.name)),
        ("GIT_COMMITTER_EMAIL", OsStr::new(&author.email)),
    ]);
    let subject = cut(&reversal.undone.subject, SUBJECT_CHARS_MAX);
    let mark = mark.map(|mark| format!("\n{mark}\n")).unwrap_or_default();
    let message = format!("Revert \"{subject}\"\n\n{}\n{mark}", says_so(&reversal.undone.id));
    let made = git.line(&["commit-tree", &reversal.tree, "-p", &reversal.head, "-m", &message]).await?;
    if is_commit(&made) { Ok(made) } else { Err(GitError::failed(format!("git commit-tree says `{made}`"))) }
}

/// The line of a message by which a reversal is known.
fn says_so(id: &str) -> String {
    format!("This reverts commit {id}.")
}

/// Moves the branch if it still is where it was, then lets the work tree follow.
pub(super) async fn put_in_place(repo: &Repo<'_>, (from, to): (&str, &str)) -> Result<()> {
    let branch = format!("refs/heads/{}", repo.declared.branch);
    // Looks at files whose times only changed, so that they do not pass for changes.
    repo.git.ask(&["update-index", "-q", "--refresh"]).await?;
    let moved = repo.git.ask(&["update-ref", "--no-deref", "-m", "interlock: revert", &branch, to, from]).await?;
    if moved.status != 0 {
        let text =
            format!("`{}` was not at {from} any more, and nothing was done: {}", repo.declared.branch, moved.why());
        return Err(GitError::conflict(text));
    }
    let followed = repo.git.ask(&["read-tree", "-m", "-u", from, to]).await?;
    if followed.status == 0 {
        return Ok(());
    }
    let back = repo.git.ask(&["update-ref", "--no-deref", "-m", "interlock: set back", &branch, from, to]).await?;
    let why = followed.why();
    let text = match back.status == 0 && repo.is_clean().await? {
        true => format!("the work tree of {} could not follow, and all is as it was: {why}", repo.name),
        false => {
            format!("the work tree of {} could not follow ({why}) and is not as it was: look at it by hand", repo.name)
        }
    };
    Err(GitError::conflict(text))
}

/// The branch has the reversal; a call that was cut off may not have come to the work tree.
async fn end_what_was_cut_off(repo: &Repo<'_>, from: &str, to: &str) -> Result<()> {
    if repo.is_clean().await? {
        return Ok(());
    }
    repo.git.ask(&["update-index", "-q", "--refresh"]).await?;
    let untouched = repo.git.ask(&["diff-index", "--cached", "--quiet", from, "--"]).await?.status == 0
        && repo.git.ask(&["diff-files", "--quiet", "--ignore-submodules=all"]).await?.status == 0;
    if untouched && repo.git.ask(&["read-tree", "-m", "-u", from, to]).await?.status == 0 {
        return Ok(());
    }
    let text = format!("{} has the reversal, and its work tree was changed by somebody: look at it by hand", repo.name);
    Err(GitError::conflict(text))
}

impl Repositories {
    /// Whether a commit takes another back and does nothing else, whatever its message says.
    pub(super) async fn is_revert_of(&self, repo: &Repo<'_>, made: &Commit, undone: &Commit) -> Result<bool> {
        let [parent] = made.parents.as_slice() else { return Ok(false) };
        if !made.body.contains(&says_so(&undone.id)) {
            return Ok(false);
        }
        let beside = Beside::of(repo.git).await?;
        let would = work_out(&Repo { git: &beside.git, ..*repo }, undone.clone(), parent).await;
        let tree =
            repo.git.line(&["rev-parse", "--verify", "--end-of-options", &format!("{}^{{tree}}", made.id)]).await?;
        Ok(would.is_ok_and(|reversal| tree.lines().last() == Some(reversal.tree.as_str())))
    }

    /// Refuses what is no reversal that this server made, at the head, for nobody else.
    async fn may_take_back(&self, repo: &Repo<'_>, commit: &Commit, head: &str) -> Result<()> {
        let author = &self.config.author;
        let is_own = commit.id == head
            && (&commit.author, &commit.email) == (&author.name, &author.email)
            && commit.body.trim_start().starts_with("This reverts commit ");
        if !is_own {
            let text = format!("{} is no reversal of this server at the head of the branch", commit.id);
            return Err(GitError::denied(text));
        }
        let said = repo.git.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &relied(&commit.id)]).await?;
        match said.status {
            0 => Err(GitError::conflict(format!("others rely on {} too, so it stays: a person decides", commit.id))),
            _ => Ok(()),
        }
    }
}
