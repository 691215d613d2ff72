//! Crates that were weighed and thrown out do not come back through somebody else's dependency.

use super::Problem;
use super::tree::Tree;

/// Name and reason.
const BANNED: &[(&str, &str)] = &[
    ("openssl-sys", "TLS is rustls; no system library"),
    ("native-tls", "TLS is rustls; no system library"),
    ("async-std", "one async runtime: tokio"),
    ("serde_yaml", "frozen and without spans; serde-saphyr is ours"),
    ("chromiumoxide", "costs more to build than everything we would use it for"),
];

pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let Some(lock) = tree.file("Cargo.lock") else {
        return vec![Problem::new("Cargo.lock", 1, "is missing: the lock file is part of the repository")];
    };
    let mut problems = Vec::new();
    for (line, text) in lock.lines() {
        let name = text.strip_prefix("name = \"").and_then(|rest| rest.strip_suffix('"'));
        if let Some((name, reason)) = BANNED.iter().find(|(banned, _)| name == Some(*banned)) {
            problems.push(Problem::new(
                "Cargo.lock",
                line,
                format!("`{name}` is banned: {reason} (`cargo tree -i {name}` tells who asks for it)"),
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::tree::found;
    use super::*;

    #[test]
    fn bad_samples_are_flagged() {
        let lock = "[[package]]\nname = \"string\"\n\n[[package]]\nname = \"native-tls\"\n";
        let problems = found(check, &[("Cargo.lock", lock)]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("Cargo.lock:5: `native-tls` is banned"));
        assert_eq!(found(check, &[]).len(), 1);
    }
}
