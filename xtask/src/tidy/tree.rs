//! The tree as the checks see it: relative paths and text, with Rust files parsed once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::syntax::{self, Function};

/// Kinds of files the checks read.
const TEXT_SUFFIXES: &[&str] =
    &[".rs", ".md", ".toml", ".yaml", ".yml", ".sh", ".json", ".sql", ".c", ".py", "/run", "Cargo.lock"];
/// Larger files are data.
const MAX_FILE_BYTES: u64 = 2 << 20;
/// Folders that hold nothing of ours.
const SKIPPED_FOLDERS: &[&str] = &["target", "node_modules", "corpus", "artifacts"];
/// Hidden folders that are ours all the same.
const HIDDEN_FOLDERS: &[&str] = &[".ci", ".cargo", ".config"];

/// One text file.
pub(crate) struct SourceFile {
    /// Path from the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Present in `.rs` files.
    pub(crate) rust: Option<Rust>,
}

/// What the syntax of a Rust file tells.
pub(crate) struct Rust {
    /// The parsed file, or why it does not parse.
    pub(crate) syntax: Result<syn::File, String>,
    /// Lines of the file that are test code (first, last), and the whole file when it is a test.
    pub(crate) test_lines: Vec<(usize, usize)>,
    pub(crate) functions: Vec<Function>,
}

impl SourceFile {
    /// The file's crate: the folder that holds its `src`, `tests`, `benches` or `examples`.
    pub(crate) fn crate_dir(&self) -> &str {
        let markers = ["/src/", "/tests/", "/benches/", "/examples/", "/fuzz_targets/"];
        markers.iter().filter_map(|marker| self.path.find(marker)).min().map_or("", |at| &self.path[..at])
    }

    /// Whether line `line` (from 1) is test code.
    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.rust
            .as_ref()
            .is_some_and(|rust| rust.test_lines.iter().any(|(first, last)| (*first..=*last).contains(&line)))
    }

    /// The lines with their numbers, from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(line_idx, line)| (line_idx + 1, line))
    }

    /// Whether the file belongs to a crate that must stay pure: no IO, no clock, no panics.
    pub(crate) fn is_pure_crate(&self) -> bool {
        matches!(self.crate_dir(), "graphs" | "runtime/core")
    }
}

/// Every text file of the repository.
pub(crate) struct Tree {
    pub(crate) files: Vec<SourceFile>,
}

impl Tree {
    /// Reads the tree below `root`.
    ///
    /// # Errors
    /// A folder or file cannot be read.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut found = Vec::new();
        collect(root, "", &mut found)?;
        Ok(Self::from_texts(found))
    }

    /// A tree of the given (path, text) pairs.
    pub(crate) fn from_texts(mut texts: Vec<(String, String)>) -> Self {
        texts.sort();
        let mut files: Vec<_> = texts.into_iter().map(|(path, text)| parse(path, text)).collect();
        mark_test_modules(&mut files);
        Self { files }
    }

    /// The file at `path`.
    pub(crate) fn file(&self, path: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Rust files with what their syntax tells.
    pub(crate) fn rust_files(&self) -> impl Iterator<Item = (&SourceFile, &Rust)> {
        self.files.iter().filter_map(|file| file.rust.as_ref().map(|rust| (file, rust)))
    }

    /// Files whose name ends with `suffix`.
    pub(crate) fn with_suffix(&self, suffix: &'static str) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(move |file| file.path.ends_with(suffix))
    }
}

fn collect(dir: &Path, prefix: &str, found: &mut Vec<(String, String)>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        let kind = entry.file_type()?;
        let hidden = name.starts_with('.') && !HIDDEN_FOLDERS.contains(&name.as_str());
        if kind.is_dir() && !hidden && !SKIPPED_FOLDERS.contains(&name.as_str()) {
            collect(&entry.path(), &path, found)?;
        } else if kind.is_file()
            && TEXT_SUFFIXES.iter().any(|suffix| path.ends_with(suffix))
            && entry.metadata()?.len() <= MAX_FILE_BYTES
        {
            // A file may vanish or not be text; neither is ours to report.
            if let Ok(text) = fs::read_to_string(entry.path()) {
                found.push((path, text));
            }
        }
    }
    Ok(())
}

fn parse(path: String, text: String) -> SourceFile {
    let rust = path.ends_with(".rs").then(|| {
        let syntax = syn::parse_file(&text).map_err(|error| error.to_string());
        let whole_file = is_test_path(&path);
        let mut test_lines = syntax.as_ref().map(syntax::test_lines).unwrap_or_default();
        if whole_file {
            test_lines = vec![(1, usize::MAX)];
        }
        let functions = syntax.as_ref().map(syntax::functions).unwrap_or_default();
        Rust { syntax, test_lines, functions }
    });
    SourceFile { path, text, rust }
}

/// Integration tests, benches and examples; `tests/src` is the harness of the end-to-end crate and not among them.
fn is_test_path(path: &str) -> bool {
    ["/tests/", "/benches/", "/examples/"].iter().any(|folder| path.contains(folder))
}

/// A file that is reached by `#[cfg(test)] mod name;` is test code from its first line to its last.
fn mark_test_modules(files: &mut [SourceFile]) {
    let mut stems = BTreeSet::new();
    for file in files.iter() {
        let Some(Ok(syntax)) = file.rust.as_ref().map(|rust| rust.syntax.as_ref()) else { continue };
        for name in syntax::test_module_files(syntax) {
            stems.insert(format!("{}{name}", module_folder(&file.path)));
        }
    }
    for file in files.iter_mut() {
        let is_test =
            stems.iter().any(|stem| file.path == format!("{stem}.rs") || file.path.starts_with(&format!("{stem}/")));
        if let Some(rust) = file.rust.as_mut().filter(|_| is_test) {
            rust.test_lines = vec![(1, usize::MAX)];
        }
    }
}

/// Where the child modules of the file at `path` live, with a `/` at the end.
fn module_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "lib.rs" | "main.rs" | "mod.rs" => format!("{folder}/"),
        _ => format!("{}/", path.trim_end_matches(".rs")),
    }
}

/// A tree for the teeth tests of the checks.
#[cfg(test)]
pub(crate) fn sample(files: &[(&str, &str)]) -> Tree {
    Tree::from_texts(files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect())
}

/// Runs `check` over the sample files and returns its problems, one text line each.
#[cfg(test)]
pub(crate) fn found(check: fn(&Tree) -> Vec<super::Problem>, files: &[(&str, &str)]) -> Vec<String> {
    check(&sample(files)).iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_code_is_told_from_code() {
        let tree = sample(&[
            (
                "a/src/lib.rs",
                "//! A.\n#[cfg(test)]\nmod checks;\nfn f() {}\n#[cfg(test)]\nmod tests {\n fn g() {}\n}\n",
            ),
            ("a/src/checks.rs", "//! Tests.\nfn h() {}\n"),
            ("a/tests/e2e.rs", "//! Tests.\nfn i() {}\n"),
            ("tests/src/lib.rs", "//! Harness.\nfn j() {}\n"),
        ]);
        let is_test = |path: &str, line| tree.file(path).is_some_and(|file| file.is_test_line(line));
        assert!(!is_test("a/src/lib.rs", 4));
        assert!(is_test("a/src/lib.rs", 7));
        assert!(is_test("a/src/checks.rs", 2));
        assert!(is_test("a/tests/e2e.rs", 2));
        assert!(!is_test("tests/src/lib.rs", 2));
    }

    #[test]
    fn a_file_knows_its_crate() {
        let tree = sample(&[("runtime/core/src/on/persisted.rs", ""), ("runtime/src/lib.rs", ""), ("build.rs", "")]);
        let crates: Vec<_> = tree.files.iter().map(SourceFile::crate_dir).collect();
        assert_eq!(crates, ["", "runtime/core", "runtime"]);
    }
}
