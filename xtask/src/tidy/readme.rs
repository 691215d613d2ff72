//! What the README shows of a terminal is true: a test reads its `console` blocks.

use super::Problem;
use super::tree::Tree;

const README: &str = "README.md";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let Some(readme) = tree.file(README) else {
        return vec![Problem::new(README, 1, "is missing")];
    };
    let Some((line, _)) = readme.lines().find(|(_, text)| text.trim() == "```console") else {
        return Vec::new();
    };
    let reads_it = tree.rust_files().any(|(file, _)| {
        !file.path.starts_with("xtask/")
            && file.lines().any(|(line, text)| text.contains(README) && file.is_test_line(line))
    });
    if reads_it { Vec::new() } else { vec![Problem::new(README, line, "has console blocks that no test reads")] }
}

#[cfg(test)]
mod tests {
    use super::super::tree::found;
    use super::*;

    #[test]
    fn bad_samples_are_flagged() {
        let readme = ("README.md", "# R\n\n```console\n$ interlock demo\n```\n");
        let test = ("tests/tests/readme.rs", "//! T.\nfn t() { read(\"README.md\") }\n");
        let no_test = ("tests/src/lib.rs", "//! T.\n// README.md\n");
        assert_eq!(found(check, &[readme, no_test]), ["README.md:3: has console blocks that no test reads"]);
        assert_eq!(found(check, &[readme, test]).len(), 0);
        assert_eq!(found(check, &[("README.md", "# R\n")]).len(), 0);
        assert_eq!(found(check, &[]).len(), 1);
    }
}
