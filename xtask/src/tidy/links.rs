//! Relative links in documents lead to a file or folder of the tree.

use super::Problem;
use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in tree.with_suffix(".md") {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut in_code = false;
        for (line, text) in file.lines() {
            in_code ^= text.trim_start().starts_with("```");
            let targets = link_targets(text).filter(|target| !in_code && is_checkable(target));
            for target in targets.filter(|target| !leads_somewhere(tree, folder, target)) {
                problems.push(Problem::new(&file.path, line, format!("link to `{target}` leads nowhere")));
            }
        }
    }
    problems
}

/// The targets of `[text](target)` in one line, without the part after `#`.
fn link_targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split('#').next().unwrap_or_default())
}

/// Files of kinds the tree holds; other addresses, and data files that it does not read, are not ours to judge.
fn is_checkable(target: &str) -> bool {
    let local = !target.contains("://") && !target.starts_with("mailto:");
    local && [".md", ".rs", ".toml", ".yaml", ".yml"].iter().any(|suffix| target.ends_with(suffix))
}

fn leads_somewhere(tree: &Tree, folder: &str, target: &str) -> bool {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    tree.file(&parts.join("/")).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::tree::found;
    use super::*;

    #[test]
    fn bad_samples_are_flagged() {
        let page = "See [a](../README.md#top), [b](b.md), [c](https://example.org/c.md), [d](gone.md).\n```\n[e](gone.md)\n```\n";
        let problems = found(check, &[("README.md", "# R\n"), ("docs/a.md", page), ("docs/b.md", "")]);
        assert_eq!(problems, ["docs/a.md:1: link to `gone.md` leads nowhere"]);
    }
}
