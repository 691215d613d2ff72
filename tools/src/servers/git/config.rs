//! Which repositories there are, and what may be taken back in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use runtime_core::interlocks::guard::pattern_fits;
use serde::Deserialize;

use super::error::{Code, GitError, Result};

/// Largest configuration file in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Oldest commit that is taken back when nobody says otherwise, in days.
const AGE_DAYS_DEFAULT: u32 = 14;
/// Most commits after it when nobody says otherwise.
const BEHIND_DEFAULT: u32 = 20;
/// Longest name of a branch.
const BRANCH_BYTES_MAX: usize = 200;
/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// The file of `interlock mcp git --config FILE`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The repositories by name.
    pub repositories: BTreeMap<String, Declared>,
    /// Who the commits of this server are by.
    pub author: Author,
}

/// Name and address in a commit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Author {
    /// Name.
    pub name: String,
    /// Address.
    pub email: String,
}

/// One repository with its work tree.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Its work tree, seen from the folder of the configuration.
    pub path: PathBuf,
    /// The branch that is deployed.
    pub branch: String,
    /// The environment that runs what lies there.
    pub environment: String,
    /// Whether commits may be taken back.
    #[serde(default)]
    pub revert: Revert,
    /// Which files a revert may touch, with `*` for anything.
    #[serde(default = "anything")]
    pub paths: Vec<String>,
    /// Oldest commit that may be taken back, in days.
    #[serde(default = "age_days")]
    pub max_age_days: u32,
    /// Most commits that may lie after it.
    #[serde(default = "behind")]
    pub max_commits: u32,
}

/// Whether commits may be taken back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revert {
    /// The repository is only read.
    #[default]
    Off,
    /// A commit may be taken back, within the limits.
    Allowed,
}

fn anything() -> Vec<String> {
    vec!["*".to_owned()]
}

fn age_days() -> u32 {
    AGE_DAYS_DEFAULT
}

fn behind() -> u32 {
    BEHIND_DEFAULT
}

impl Declared {
    /// Whether a revert may touch this file.
    pub(super) fn may_touch(&self, path: &str) -> bool {
        self.paths.iter().any(|pattern| pattern_fits(pattern, path))
    }

    /// Longest age of a commit that may be taken back, in seconds.
    pub(super) fn age_s_max(&self) -> i64 {
        i64::from(self.max_age_days) * DAY_S
    }
}

impl Config {
    /// Reads a configuration; paths in it are seen from its folder.
    ///
    /// # Errors
    /// If the file cannot be read, or cannot mean what it says.
    pub fn load(file: &Path) -> Result<Self> {
        use std::io::Read as _;
        let broken = |why: String| GitError::invalid(format!("configuration {}: {why}", file.display()));
        let opened = std::fs::File::open(file).map_err(|error| broken(error.to_string()))?;
        let mut text = String::new();
        opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| broken(error.to_string()))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(broken(format!("larger than {FILE_BYTES_MAX} bytes")));
        }
        // Git is started in the work tree, from where a relative path would lead elsewhere.
        let whole = std::path::absolute(file).map_err(|error| broken(error.to_string()))?;
        Self::from_yaml(&text, whole.parent().unwrap_or(Path::new("/"))).map_err(|error| broken(error.message))
    }

    /// Reads a configuration from YAML.
    ///
    /// # Errors
    /// If it cannot mean what it says.
    pub fn from_yaml(text: &str, folder: &Path) -> Result<Self> {
        let mut config: Self = serde_saphyr::from_str(text).map_err(|error| GitError::invalid(error.to_string()))?;
        let is_plain = |text: &str| !text.trim().is_empty() && !text.contains(['<', '>', '\n', '\0']);
        if !is_plain(&config.author.name) || !is_plain(&config.author.email) {
            return Err(GitError::invalid("author: a name and an address in one line, without `<` and `>`"));
        }
        for (name, declared) in &mut config.repositories {
            if !is_branch(&declared.branch) {
                let text = format!("repositories.{name}.branch: `{}` is no plain name of a branch", declared.branch);
                return Err(GitError::invalid(text));
            }
            declared.path = folder.join(&declared.path);
        }
        Ok(config)
    }

    /// A declared repository.
    pub(super) fn repository(&self, name: &str) -> Result<&Declared> {
        self.repositories.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.repositories.keys().map(String::as_str).collect();
            GitError::new(Code::NotFound, format!("there is no repository `{name}`; there are {}", known.join(", ")))
        })
    }
}

/// Letters, digits and `_ - . /`, and nothing that Git would read as anything else than a name.
fn is_branch(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= BRANCH_BYTES_MAX
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && text.split('/').all(|part| !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with(".lock"))
        && !text.contains("..")
        && !text.ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{author: {name: bot, email: bot@shop.example}, repositories: {dags: {path: dags, branch: main, environment: production}}}";

    #[test]
    fn nothing_is_taken_back_unless_the_file_says_so() {
        let config = Config::from_yaml(TEXT, Path::new("/etc/bot")).unwrap();
        let dags = config.repository("dags").unwrap();
        assert_eq!((dags.revert, dags.path.as_path()), (Revert::Off, Path::new("/etc/bot/dags")));
        assert!(dags.may_touch("a/b.py"));
        assert_eq!(config.repository("other").unwrap_err().code, Code::NotFound);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (from, to) in [
            ("branch: main", "branch: --all"),
            ("branch: main", "branch: a..b"),
            ("branch: main", "branch: 'main^'"),
            ("branch: main", "branch: 'refs/heads/x.lock'"),
            ("name: bot", "name: 'a <b>'"),
            ("environment: production", "revert: always"),
            ("path: dags,", ""),
        ] {
            assert!(Config::from_yaml(&TEXT.replace(from, to), Path::new("")).is_err(), "{to}");
        }
    }

    #[test]
    fn a_pattern_is_for_the_whole_path() {
        let text = TEXT.replace("path: dags", "path: dags, paths: ['*.py', 'sql/*']");
        let config = Config::from_yaml(&text, Path::new("")).unwrap();
        let dags = config.repository("dags").unwrap();
        for (path, may) in [("a.py", true), ("x/a.py", true), ("sql/q.sql", true), ("a.pyc", false), ("a.sh", false)] {
            assert_eq!(dags.may_touch(path), may, "{path}");
        }
    }
}
