//! What a user can notice leaves a note in `changes/unreleased`.

use super::Problem;
use super::tree::Tree;

const FOLDER: &str = "changes/unreleased/";

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let notes: Vec<_> =
        tree.files.iter().filter(|file| file.path.starts_with(FOLDER) && file.path.ends_with(".md")).collect();
    if notes.is_empty() {
        return vec![Problem::new(FOLDER, 1, "holds no note: write changes/unreleased/<topic>.md")];
    }
    let empty = notes.iter().filter(|note| note.text.trim().lines().count() < 2);
    empty.map(|note| Problem::new(&note.path, 1, "says nothing: a title and what changed for whom")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::found;
    use super::*;

    #[test]
    fn bad_samples_are_flagged() {
        assert_eq!(found(check, &[]).len(), 1);
        assert_eq!(found(check, &[("changes/unreleased/engine.md", "# Engine\n")]).len(), 1);
        assert_eq!(found(check, &[("changes/unreleased/engine.md", "# Engine\n\nIt runs.\n")]).len(), 0);
    }
}
