//! Which one commit made a file fail: the only change since the version that is known to have worked.
//!
//! What is known to have worked comes from outside, as the digest of a version or as a moment. If more than one commit changed the
//! file since, or none did, no commit is named. Whether the error's own words point at that commit as well is told beside it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Repositories;
use super::error::{GitError, Result};
use super::look::{CommitSeen, seen};
use super::repo::{Commit, Repo, plain_path, sha256};
use super::revert::{Reverts, can_be_reverted};

/// Commits of a file that are looked through.
const COMMITS_MAX: usize = 20;
/// Most files that the broken one may use.
const ALSO_MAX: usize = 20;
/// Longest name.
const NAME_BYTES_MAX: usize = 200;

/// What broke.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakQuery {
    /// Name of the repository.
    pub repo: String,
    /// The file that fails.
    pub file: String,
    /// Files of the repository that it uses.
    #[serde(default)]
    pub also: Vec<String>,
    /// SHA-256 of the last version of `file` that worked.
    pub good_sha256: Option<String>,
    /// A moment at which `file` worked, in RFC 3339. One of the two is needed.
    pub good_at: Option<String>,
    /// The name that the error is about.
    pub name: Option<String>,
    /// Where the error says it happened: a file, perhaps as seen from elsewhere.
    pub at_file: Option<String>,
    /// The line there, counted from 1.
    pub at_line: Option<u32>,
}

/// The commit that broke it, where there is exactly one.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Break {
    /// Repository.
    pub repo: String,
    /// The newest commit of the branch.
    pub head: String,
    /// The commit.
    pub commit: Option<CommitSeen>,
    /// The file in which it did so.
    pub file: Option<String>,
    /// Why no commit is named.
    pub why: Option<String>,
    /// How it touched the name that the error is about: `adds` it to the file, `drops` it, or neither.
    pub name: Option<NameChange>,
    /// Whether the line that the error names is its.
    pub is_its_line: bool,
    /// Whether it can be taken back.
    pub reverts: Option<Reverts>,
}

/// What a commit does to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameChange {
    /// The file has it since then.
    Adds,
    /// The file has it less often, or the module of this name is gone.
    Drops,
}

/// A commit under suspicion, and the file in which it is.
struct Suspect {
    commit: Commit,
    file: String,
}

pub(super) async fn find_break(all: Repositories, query: BreakQuery) -> Result<Break> {
    check(&query)?;
    let git = all.git(&query.repo)?;
    let repo = all.repo(&query.repo, &git)?;
    let head = repo.head().await?;
    let mut found = Break {
        repo: query.repo.clone(),
        head: head.clone(),
        commit: None,
        file: None,
        why: None,
        name: None,
        is_its_line: false,
        reverts: None,
    };
    let look = Look { repo: &repo, head: &head, query: &query };
    match look.suspect().await? {
        Err(why) => found.why = Some(why),
        Ok(suspect) => {
            found.name = look.name_change(&suspect).await?;
            found.is_its_line = look.is_its_line(&suspect).await?;
            found.reverts = Some(can_be_reverted(&repo, &suspect.commit, &head).await?);
            found.commit = Some(seen(&repo, &suspect.commit).await?);
            found.file = Some(suspect.file);
        }
    }
    Ok(found)
}

fn check(query: &BreakQuery) -> Result<()> {
    if query.also.len() > ALSO_MAX {
        return Err(GitError::invalid(format!("also: at most {ALSO_MAX} files")));
    }
    for path in query.also.iter().chain([&query.file]) {
        plain_path(path)?;
    }
    if query.name.as_ref().is_some_and(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
        return Err(GitError::invalid(format!("name: 1 to {NAME_BYTES_MAX} bytes")));
    }
    if query.good_sha256.is_none() && query.good_at.is_none() {
        return Err(GitError::invalid("good_sha256 or good_at: without either nothing is known to have worked"));
    }
    Ok(())
}

/// How a file changed since it worked.
enum Since {
    Unchanged,
    By(Box<Commit>),
    Unclear(String),
}

struct Look<'a> {
    repo: &'a Repo<'a>,
    head: &'a str,
    query: &'a BreakQuery,
}

impl Look<'_> {
    /// The one commit, or why there is none.
    async fn suspect(&self) -> Result<std::result::Result<Suspect, String>> {
        let file = &self.query.file;
        let since = match (&self.query.good_sha256, &self.query.good_at) {
            (Some(good), _) => self.since_version(file, good).await?,
            (None, Some(good)) => self.since_moment(file, good).await?,
            (None, None) => Since::Unclear("nothing is known to have worked".to_owned()),
        };
        match since {
            Since::By(commit) => Ok(Ok(Suspect { commit: *commit, file: file.clone() })),
            Since::Unclear(why) => Ok(Err(why)),
            Since::Unchanged => self.suspect_elsewhere().await,
        }
    }

    async fn since_version(&self, file: &str, good: &str) -> Result<Since> {
        let is_good = |content: Option<Vec<u8>>| content.is_some_and(|content| sha256(&content) == good);
        if is_good(self.repo.file(self.head, file).await?) {
            return Ok(Since::Unchanged);
        }
        let ids = self.repo.touching(self.head, Some(file), COMMITS_MAX).await?;
        for (n_after, id) in ids.iter().enumerate() {
            let commit = self.repo.commit(id).await?;
            let Some(parent) = commit.parents.first() else { break };
            if !is_good(self.repo.file(parent, file).await?) {
                continue;
            }
            return Ok(match n_after {
                0 => Since::By(Box::new(commit)),
                _ => Since::Unclear(format!("{} commits changed {file} since it worked", n_after + 1)),
            });
        }
        let text = format!("none of the last {} versions of {file} is the one that worked", ids.len());
        Ok(Since::Unclear(text))
    }

    async fn since_moment(&self, file: &str, good: &str) -> Result<Since> {
        let good: Timestamp =
            good.parse().map_err(|error| GitError::invalid(format!("good_at: `{good}` is no moment: {error}")))?;
        let mut newer = Vec::new();
        for id in self.repo.touching(self.head, Some(file), COMMITS_MAX).await? {
            let commit = self.repo.commit(&id).await?;
            if commit.at > good.as_second() {
                newer.push(commit);
            }
        }
        Ok(match (newer.pop(), newer.len()) {
            (None, _) => Since::Unchanged,
            (Some(commit), 0) => Since::By(Box::new(commit)),
            (Some(_), n) => Since::Unclear(format!("{} commits changed {file} since it worked", n + 1)),
        })
    }

    /// The file is as it was when it worked: the newest change of one that it uses, if the error points there.
    async fn suspect_elsewhere(&self) -> Result<std::result::Result<Suspect, String>> {
        let mut found: Vec<Suspect> = Vec::new();
        for file in &self.query.also {
            let Some(id) = self.repo.touching(self.head, Some(file), 1).await?.pop() else { continue };
            let suspect = Suspect { commit: self.repo.commit(&id).await?, file: file.clone() };
            if self.name_change(&suspect).await? == Some(NameChange::Drops) || self.is_its_line(&suspect).await? {
                found.push(suspect);
            }
        }
        let file = &self.query.file;
        Ok(match (found.pop(), found.len()) {
            (None, _) => {
                Err(format!("{file} is as it was when it worked, and nothing that it uses explains the error"))
            }
            (Some(suspect), 0) => Ok(suspect),
            (Some(_), n) => Err(format!("{} files that {file} uses may explain the error", n + 1)),
        })
    }

    async fn name_change(&self, suspect: &Suspect) -> Result<Option<NameChange>> {
        let Some(name) = &self.query.name else { return Ok(None) };
        let Some(parent) = suspect.commit.parents.first() else { return Ok(None) };
        let before = self.repo.file(parent, &suspect.file).await?;
        let after = self.repo.file(&suspect.commit.id, &suspect.file).await?;
        let is_module =
            suspect.file.strip_suffix(".py").is_some_and(|stem| stem.replace('/', ".").ends_with(name.as_str()));
        if before.is_some() && after.is_none() && is_module {
            return Ok(Some(NameChange::Drops));
        }
        let n_times = |content: Option<Vec<u8>>| {
            content.map_or(0, |content| occurrences(&String::from_utf8_lossy(&content), name))
        };
        Ok(match (n_times(before), n_times(after)) {
            (0, 1..) => Some(NameChange::Adds),
            (before, after) if after < before => Some(NameChange::Drops),
            _ => None,
        })
    }

    async fn is_its_line(&self, suspect: &Suspect) -> Result<bool> {
        let (Some(file), Some(line)) = (&self.query.at_file, self.query.at_line) else { return Ok(false) };
        let is_it = file == &suspect.file || file.ends_with(&format!("/{}", suspect.file));
        if !is_it {
            return Ok(false);
        }
        let range = format!("{line},{line}");
        let args = ["blame", "--porcelain", "--no-textconv", "-L", &range, self.head, "--", &suspect.file];
        // A line that is not there is nobody's.
        let said = self.repo.git.ask(&args).await?;
        Ok(said.status == 0 && said.text().split(' ').next() == Some(suspect.commit.id.as_str()))
    }
}

/// How often a text has a name that is no part of a longer one.
fn occurrences(text: &str, name: &str) -> usize {
    let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(name)
        .filter(|(at, _)| {
            let (before, after) = (text.get(..*at), text.get(at + name.len()..));
            !joins(before.and_then(|before| before.chars().next_back())) && !joins(after.and_then(|a| a.chars().next()))
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::occurrences;

    #[test]
    fn a_part_of_a_longer_name_is_not_the_name() {
        for (text, n) in [("check(a), check", 2), ("check_contract", 0), ("recheck", 0), ("", 0), ("échecké check", 1)]
        {
            assert_eq!(occurrences(text, "check"), n, "{text}");
        }
    }
}
