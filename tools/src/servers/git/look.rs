//! Looking: where a branch stands, its newest commits, and one commit with its diff. What a commit says is a stranger's text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Repositories;
use super::error::Result;
use super::repo::{Commit, Repo};

/// Commits of one answer when nobody says how many, and the most.
const LIMIT_DEFAULT: u32 = 10;
const LIMIT_MAX: u32 = 50;
/// Longest subject and name that is shown.
const LINE_CHARS_MAX: usize = 200;
/// Longest message that is shown.
const MESSAGE_CHARS_MAX: usize = 2_000;
/// Most of a diff in one answer.
const DIFF_BYTES_MAX: usize = 24 * 1024;
/// Files of a commit that are named.
const FILES_SHOWN_MAX: usize = 50;

/// Which repository.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BranchQuery {
    /// Name of the repository.
    pub repo: String,
    /// A commit that shall be taken back by the newest one: the answer says in `ok` whether it is, and lies in the work tree.
    pub reverted: Option<String>,
}

/// Where the deployed branch stands.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Branch {
    /// Repository.
    pub repo: String,
    /// The branch that is deployed.
    pub branch: String,
    /// The environment that runs it.
    pub environment: String,
    /// Its newest commit.
    pub head: CommitSeen,
    /// Whether the work tree shows this branch.
    pub is_checked_out: bool,
    /// Whether the tracked files are as they were committed.
    pub is_clean: bool,
    /// Whether the work tree lacks exactly the named commit; nothing when none was named.
    pub ok: Option<bool>,
}

/// A commit in short.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CommitSeen {
    /// Its whole name.
    pub id: String,
    /// When it was committed.
    pub at: String,
    /// Who wrote it, as it says.
    pub author: String,
    /// The first line of its message, cut.
    pub subject: String,
    /// Whether it joins branches.
    pub is_merge: bool,
    /// The files it touches, the first of them.
    pub files: Vec<String>,
    /// How many there are.
    pub n_files: usize,
}

pub(super) async fn get_branch(all: Repositories, query: BranchQuery) -> Result<Branch> {
    let git = all.git(&query.repo)?;
    let repo = all.repo(&query.repo, &git)?;
    let head = repo.commit(&repo.head().await?).await?;
    let (is_checked_out, is_clean) = (repo.is_checked_out().await?, repo.is_clean().await?);
    let ok = match &query.reverted {
        None => None,
        Some(reverted) => {
            let undone = repo.commit(reverted).await?;
            let is_it = all.is_revert_of(&repo, &head, &undone).await?;
            Some(is_it && is_checked_out && is_clean)
        }
    };
    Ok(Branch {
        branch: repo.declared.branch.clone(),
        environment: repo.declared.environment.clone(),
        head: seen(&repo, &head).await?,
        repo: query.repo,
        is_checked_out,
        is_clean,
        ok,
    })
}

/// Which commits.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recent {
    /// Name of the repository.
    pub repo: String,
    /// Only those that touch this file.
    pub path: Option<String>,
    /// Most commits; at most 50.
    pub limit: Option<u32>,
}

/// Commits of the deployed branch.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Commits {
    /// The branch that is deployed.
    pub branch: String,
    /// Newest first.
    pub commits: Vec<CommitSeen>,
}

pub(super) async fn recent_commits(all: Repositories, query: Recent) -> Result<Commits> {
    let git = all.git(&query.repo)?;
    let repo = all.repo(&query.repo, &git)?;
    let n_max = query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX) as usize;
    let ids = repo.touching(&repo.head().await?, query.path.as_deref(), n_max).await?;
    let mut commits = Vec::with_capacity(ids.len());
    for id in ids {
        commits.push(seen(&repo, &repo.commit(&id).await?).await?);
    }
    Ok(Commits { branch: repo.declared.branch.clone(), commits })
}

/// Which commit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Name of the repository.
    pub repo: String,
    /// The commit, by 7 to 40 hexadecimal digits.
    pub commit: String,
}

/// A commit with its diff.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Shown {
    /// The commit.
    pub commit: CommitSeen,
    /// Its message, cut.
    pub message: String,
    /// What it changes, cut; nothing for one that joins branches.
    pub diff: String,
    /// Whether the diff is longer.
    pub is_cut: bool,
}

pub(super) async fn show_commit(all: Repositories, which: Which) -> Result<Shown> {
    let git = all.git(&which.repo)?;
    let repo = all.repo(&which.repo, &git)?;
    let commit = repo.commit(&which.commit).await?;
    let (diff, is_cut) = match commit.parents.as_slice() {
        [] | [_] => diff(&repo, &["--root", &commit.id]).await?,
        _ => (String::new(), false),
    };
    let message = format!("{}\n\n{}", commit.subject, commit.body);
    Ok(Shown { commit: seen(&repo, &commit).await?, message: cut(message.trim(), MESSAGE_CHARS_MAX), diff, is_cut })
}

/// The diff of a commit, or between two trees, up to its bound. No program of the repository takes part.
pub(super) async fn diff(repo: &Repo<'_>, what: &[&str]) -> Result<(String, bool)> {
    let mut args =
        vec!["diff-tree", "-p", "--no-commit-id", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames"];
    args.push("--ignore-submodules=none");
    args.extend(what);
    args.push("--");
    let said = repo.git.ask_up_to(&args, DIFF_BYTES_MAX).await?;
    Ok((said.text(), said.is_cut))
}

pub(super) async fn seen(repo: &Repo<'_>, commit: &Commit) -> Result<CommitSeen> {
    let changes = repo.changed_by(commit).await?;
    Ok(CommitSeen {
        id: commit.id.clone(),
        at: time(commit.at),
        author: cut(&commit.author, LINE_CHARS_MAX),
        subject: cut(&commit.subject, LINE_CHARS_MAX),
        is_merge: commit.parents.len() > 1,
        n_files: changes.len(),
        files: changes.into_iter().take(FILES_SHOWN_MAX).map(|change| change.path).collect(),
    })
}

pub(super) fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(|at| at.to_string()).unwrap_or_default()
}

/// The beginning of a text.
pub(super) fn cut(text: &str, chars_max: usize) -> String {
    let mut short: String = text.chars().take(chars_max).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
