//! One repository: what its branch holds, which commits there are, and what two of them differ in. Nothing here changes it.
//!
//! Commits are named by their digits alone, so that no branch or tag can stand for one, and paths are names, never patterns.

use sha2::{Digest as _, Sha256};

use super::config::Declared;
use super::error::{Code, GitError, Result};
use super::program::Git;

/// Fewest digits that name a commit.
const DIGITS_MIN: usize = 7;
/// Digits of a whole name.
const DIGITS: usize = 40;
/// Longest path.
const PATH_BYTES_MAX: usize = 1_024;
/// Most files of one commit.
const FILES_MAX: usize = 200;
/// Largest file that is read.
const FILE_BYTES_MAX: usize = 1024 * 1024;
/// A commit that is a link to another repository, and a link to a file.
const LINKS: [&str; 2] = ["160000", "120000"];
/// A file that is not there.
const ABSENT: &str = "000000";
/// Fields of a commit, each ended by a byte that none can hold.
const FIELDS: &str = "--format=%H%x00%P%x00%ct%x00%an%x00%ae%x00%s%x00%b%x00";

/// A repository and Git in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repo<'a> {
    pub(super) name: &'a str,
    pub(super) declared: &'a Declared,
    pub(super) git: &'a Git,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) id: String,
    pub(super) parents: Vec<String>,
    /// When it was committed, in seconds since 1970.
    pub(super) at: i64,
    pub(super) author: String,
    pub(super) email: String,
    pub(super) subject: String,
    pub(super) body: String,
}

/// A file that differs between two commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) path: String,
    /// Whether it is a link to a file or to another repository, before or after.
    pub(super) is_link: bool,
    /// Whether only one of the two has it.
    pub(super) is_whole: bool,
}

impl Repo<'_> {
    /// The newest commit of the deployed branch.
    pub(super) async fn head(&self) -> Result<String> {
        let name = format!("refs/heads/{}^{{commit}}", self.declared.branch);
        let said = self.git.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &name]).await?;
        let id = said.text().trim().to_owned();
        if said.status == 0 && is_commit(&id) {
            return Ok(id);
        }
        let path = self.declared.path.display();
        let text = format!("{path} has no branch `{}`: {}", self.declared.branch, said.why());
        Err(GitError::new(Code::NotFound, text))
    }

    /// Whether the work tree shows the deployed branch.
    pub(super) async fn is_checked_out(&self) -> Result<bool> {
        let said = self.git.ask(&["symbolic-ref", "--quiet", "HEAD"]).await?;
        Ok(said.status == 0 && said.text().trim() == format!("refs/heads/{}", self.declared.branch))
    }

    /// Whether tracked files are as they were committed. To compare them Git may start a filter, so none may be named.
    pub(super) async fn is_clean(&self) -> Result<bool> {
        self.git.forbid_programs().await?;
        let args =
            ["status", "--porcelain=v1", "-z", "--untracked-files=no", "--ignore-submodules=all", "--no-renames"];
        Ok(self.git.tell(&args).await?.is_empty())
    }

    /// The commit that these digits begin.
    pub(super) async fn commit(&self, digits: &str) -> Result<Commit> {
        let id = self.whole_name(digits).await?;
        let args = ["show", "--no-patch", "--no-show-signature", FIELDS, "--end-of-options", &id, "--"];
        let said = self.git.tell(&args).await?;
        let mut fields = said.split('\0');
        let mut next = || fields.next().map(|field| field.trim_start_matches('\n').to_owned());
        let read = (next(), next(), next(), next(), next(), next(), next());
        let (Some(id), Some(parents), Some(at), Some(author), Some(email), Some(subject), Some(body)) = read else {
            return Err(GitError::failed(format!("git says nothing of commit {id}")));
        };
        let at = at.parse().map_err(|_| GitError::failed(format!("commit {id} has no time")))?;
        let parents = parents.split_whitespace().map(str::to_owned).collect();
        Ok(Commit { id, parents, at, author, email, subject, body })
    }

    async fn whole_name(&self, digits: &str) -> Result<String> {
        if !is_digits(digits) {
            let text = format!("a commit is named by {DIGITS_MIN} to {DIGITS} hexadecimal digits, not `{digits}`");
            return Err(GitError::invalid(text));
        }
        let said = self.git.tell(&["rev-parse", &format!("--disambiguate={digits}")]).await?;
        let mut commits = Vec::new();
        for id in said.lines().filter(|id| is_commit(id)) {
            let kind = self.git.ask(&["cat-file", "-t", id]).await?;
            if kind.text().trim() == "commit" {
                commits.push(id.to_owned());
            }
        }
        match commits.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(GitError::new(Code::NotFound, format!("repository {} has no commit {digits}", self.name))),
            _ => Err(GitError::invalid(format!("{digits} begins several commits: name it whole"))),
        }
    }

    /// The newest commits of the branch that touch these files; all where none is named. Of a merge, the way of the branch.
    pub(super) async fn touching(&self, head: &str, path: Option<&str>, n_max: usize) -> Result<Vec<String>> {
        let most = format!("--max-count={n_max}");
        let mut args = vec!["rev-list", "--first-parent", &most, head, "--"];
        if let Some(path) = path {
            args.push(plain_path(path)?);
        }
        Ok(self.git.tell(&args).await?.lines().map(str::to_owned).collect())
    }

    /// Whether a commit is part of another's history, and how many came after it.
    pub(super) async fn behind(&self, commit: &str, head: &str) -> Result<Option<u32>> {
        if self.git.ask(&["merge-base", "--is-ancestor", commit, head]).await?.status != 0 {
            return Ok(None);
        }
        let n = self.git.line(&["rev-list", "--count", &format!("{commit}..{head}"), "--"]).await?;
        n.parse().map(Some).map_err(|_| GitError::failed(format!("git counts `{n}` commits")))
    }

    /// What differs between two commits or trees.
    pub(super) async fn changes(&self, from: &str, to: &str) -> Result<Vec<Change>> {
        let args =
            ["diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", "--end-of-options", from, to, "--"];
        let said = self.git.ask(&args).await?;
        if said.status != 0 {
            return Err(GitError::failed(format!("git diff-tree: {}", said.why())));
        }
        let mut parts = said.out.split(|byte| *byte == 0);
        let mut found = Vec::new();
        while let (Some(about), Some(path)) = (parts.next(), parts.next()) {
            if found.len() == FILES_MAX {
                let text = format!("{from} and {to} differ in more than {FILES_MAX} files");
                return Err(GitError::new(Code::LimitExceeded, text));
            }
            let about = String::from_utf8_lossy(about).into_owned();
            let modes: Vec<&str> = about.trim_start_matches(':').split(' ').take(2).collect();
            found.push(Change {
                path: String::from_utf8_lossy(path).into_owned(),
                is_link: modes.iter().any(|mode| LINKS.contains(mode)),
                is_whole: modes.contains(&ABSENT),
            });
        }
        Ok(found)
    }

    /// What a commit changed against the first it follows; all of it for the first of all.
    pub(super) async fn changed_by(&self, commit: &Commit) -> Result<Vec<Change>> {
        match commit.parents.first() {
            Some(parent) => self.changes(parent, &commit.id).await,
            None => {
                let empty = self.git.line(&["hash-object", "-t", "tree", "/dev/null"]).await?;
                self.changes(&empty, &commit.id).await
            }
        }
    }

    /// A file as a commit has it; `None` where it has none of this name, or where it is too large to be read.
    pub(super) async fn file(&self, commit: &str, path: &str) -> Result<Option<Vec<u8>>> {
        let name = format!("{commit}:{}", plain_path(path)?);
        let said = self.git.ask_up_to(&["cat-file", "blob", &name], FILE_BYTES_MAX).await?;
        Ok((said.status == 0 && !said.is_cut).then_some(said.out))
    }
}

/// Digest of a file, as others compute it of the text they have.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Whether a text is the whole name of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == DIGITS && is_digits(text)
}

fn is_digits(text: &str) -> bool {
    (DIGITS_MIN..=DIGITS).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A path within the repository: no way out of it, and nothing that Git would read as anything else than a name.
pub(super) fn plain_path(path: &str) -> Result<&str> {
    let is_plain = !path.is_empty()
        && path.len() <= PATH_BYTES_MAX
        && !path.contains('\0')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".." | ".git"));
    if is_plain { Ok(path) } else { Err(GitError::invalid(format!("`{path}` is no path within the repository"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_name_a_commit_and_only_names_a_file() {
        for (text, is) in
            [("0123abc", true), ("0123ab", false), ("HEAD", false), ("0123ABC", false), ("-123abc", false)]
        {
            assert_eq!(is_digits(text), is, "{text}");
        }
        for path in ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", ".git/config", "a\0b"] {
            assert!(plain_path(path).is_err(), "{path:?}");
        }
        for path in ["a.py", "-rf", "a\nb", "sub/:(top)x", "*"] {
            assert_eq!(plain_path(path), Ok(path));
        }
    }
}
