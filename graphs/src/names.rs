//! The known name nearest to a misspelt one.

/// Candidates that are kept.
const CANDIDATES_MAX: usize = 3;
/// Longest name that is compared, in characters.
const COMPARED_CHARS_MAX: usize = 64;
/// Most known names that are compared with.
const COMPARED_NAMES_MAX: usize = 5_000;

/// The known names close to `name`, nearest first.
pub(crate) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Vec<String> {
    let name: Vec<char> = name.chars().take(COMPARED_CHARS_MAX).flat_map(char::to_lowercase).collect();
    let limit = (name.len() / 3).max(1);
    let mut scored: Vec<(usize, &str)> = known
        .into_iter()
        .take(COMPARED_NAMES_MAX)
        .filter(|known| known.chars().count().abs_diff(name.len()) <= limit)
        .filter_map(|known| {
            let other: Vec<char> = known.chars().flat_map(char::to_lowercase).collect();
            let distance = edit_distance(&name, &other);
            (distance <= limit && distance < name.len()).then_some((distance, known))
        })
        .collect();
    scored.sort();
    scored.dedup();
    scored.into_iter().take(CANDIDATES_MAX).map(|(_, known)| known.to_owned()).collect()
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut current = Vec::with_capacity(b.len() + 1);
        current.push(i + 1);
        for (j, cb) in b.iter().enumerate() {
            let at = |row: &[usize], ix: usize| row.get(ix).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&previous, j) + usize::from(ca != cb)).min(at(&previous, j + 1) + 1);
            best = best.min(at(&current, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(cb) && b.get(j - 1) == Some(ca);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names() {
        let known = ["diagnose", "trusted", "plan", "notify"];
        assert_eq!(nearest("diagnos", known), ["diagnose"]);
        assert_eq!(nearest("notfiy", known), ["notify"]);
        assert_eq!(nearest("Plan", known), ["plan"]);
        assert!(nearest("zebra", known).is_empty());
        assert!(nearest("x", ["y"]).is_empty(), "one other letter is no hint");
    }
}
