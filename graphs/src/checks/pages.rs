//! The pages in `docs/errors`: made from the headers of the checks, and their examples tried.

#![allow(clippy::disallowed_methods, reason = "tests read the checks and write their pages")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::OpenCatalog;

struct Page {
    code: String,
    title: String,
    body: String,
}

/// Reads the header of every check.
fn pages() -> Vec<Page> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/checks");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().filter_map(|file| page(file)).collect()
}

fn page(file: &Path) -> Option<Page> {
    let name = file.file_stem()?.to_str()?;
    let (code, title) = name.split_once('_').filter(|(code, _)| code.len() == 4 && code.starts_with('g'))?;
    let text = std::fs::read_to_string(file).unwrap();
    let header = text.lines().map_while(|line| line.strip_prefix("//!"));
    let body = header.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n");
    Some(Page { code: code.to_uppercase(), title: title.replace('_', " "), body })
}

fn docs_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors")
}

#[test]
fn pages_are_up_to_date() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    std::fs::create_dir_all(docs_folder()).unwrap();
    for page in pages() {
        let file = docs_folder().join(format!("{}.md", page.code));
        let mut text = format!("# {} · {}\n\n{}\n", page.code, page.title, page.body);
        writeln!(text, "\n<!-- Made from graphs/src/checks; do not edit. -->").unwrap();
        if update {
            std::fs::write(&file, &text).unwrap();
        }
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(written, text, "run with UPDATE_EXPECT=1 to rewrite {}", file.display());
    }
}

#[test]
fn every_page_belongs_to_a_check() {
    let codes: Vec<String> = pages().into_iter().map(|page| format!("{}.md", page.code)).collect();
    for entry in std::fs::read_dir(docs_folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with('G') || codes.contains(&name), "no check for docs/errors/{name}");
    }
}

#[test]
fn examples_fail_as_they_say() {
    for page in pages() {
        let examples = page.body.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        for example in examples {
            let shown = match crate::check("example.yaml", example.as_bytes(), &OpenCatalog) {
                Ok((_, warnings)) => warnings,
                Err(errors) => errors,
            };
            let codes: Vec<&str> = shown.iter().map(|diagnostic| diagnostic.code).collect();
            assert!(codes.contains(&page.code.as_str()), "{}: {codes:?}\n{shown}", page.code);
        }
    }
}

#[test]
fn codes_match_file_names() {
    for page in pages() {
        let file = format!("{}_{}.rs", page.code.to_lowercase(), page.title.replace(' ', "_"));
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/checks").join(file)).unwrap();
        assert!(text.contains(&format!("const CODE: &str = \"{}\";", page.code)), "{}", page.code);
        assert!(text.contains("expect![["), "{} has no snapshot test", page.code);
    }
}
