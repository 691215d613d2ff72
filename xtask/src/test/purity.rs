//! The pure crates cannot reach the world, because nothing they depend on can.

use anyhow::Result;

use super::{Context, StageEnd};
use crate::shell;

/// Packages that hold the semantics, by cargo's names.
const PURE_PACKAGES: &[&str] = &["runtime-core", "graphs", "detectors"];

/// What they must not reach, and why.
const BANNED: &[(&str, &str)] = &[
    ("tokio", "the core does not wait"),
    ("async-std", "the core does not wait"),
    ("smol", "the core does not wait"),
    ("futures-executor", "the core does not wait"),
    ("async-trait", "the core does not wait"),
    ("mio", "the core does no IO"),
    ("hyper", "the core does no IO"),
    ("reqwest", "the core does no IO"),
    ("rmcp", "the core does no IO"),
    ("sled", "the core stores nothing"),
    ("fjall", "the core stores nothing"),
    ("rusqlite", "the core stores nothing"),
    ("tempfile", "the core does no IO"),
    ("uuid", "ids come in with the event"),
    ("tracing-subscriber", "what happened is an effect or an op"),
];

/// Packages that may draw random numbers are banned from our own manifests only: a hash map of a library is seeded.
const BANNED_DIRECT: &[(&str, &str)] = &[
    ("rand", "chance is an argument"),
    ("fastrand", "chance is an argument"),
    ("getrandom", "chance is an argument"),
    ("chrono", "time is an argument"),
];

/// What nothing here may be built with. The lock file cannot tell: it also names what no feature asks for.
const BANNED_ANYWHERE: &[(&str, &str)] =
    &[("ring", "two TLS providers in one graph make rustls panic at run time; aws-lc-rs is ours")];

/// The stage: `cargo tree` of each pure package, and of the whole.
pub(super) fn stage(context: &Context) -> Result<StageEnd> {
    let whole = ["cargo", "tree", "--workspace", "--edges", "normal,build", "--prefix", "none", "--locked"];
    let whole = shell::capture(shell::command(&context.root, &whole))?;
    let mut problems = offences("the workspace", &whole, BANNED_ANYWHERE);
    for package in PURE_PACKAGES {
        let all = tree_of(context, package, &[])?;
        let direct = tree_of(context, package, &["--depth", "1"])?;
        problems.push_str(&offences(package, &all, BANNED));
        problems.push_str(&offences(package, &direct, BANNED_DIRECT));
    }
    Ok(StageEnd::one(problems.is_empty(), problems))
}

fn tree_of(context: &Context, package: &str, more: &[&str]) -> Result<String> {
    let mut words = vec!["cargo", "tree", "--package", package, "--edges", "normal", "--prefix", "none", "--locked"];
    words.extend(more);
    shell::capture(shell::command(&context.root, &words))
}

/// One line for each banned package in the listing of `cargo tree --prefix none`.
fn offences(package: &str, tree: &str, banned: &[(&str, &str)]) -> String {
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let found = banned.iter().filter(|(name, _)| names.contains(name));
    found
        .map(|(name, reason)| {
            format!("{package} depends on {name}: {reason} (`cargo tree -p {package} -e normal -i {name}`)\n")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banned_package_is_found_by_its_whole_name() {
        let tree = "runtime-core v0.1.0 (path)\ngraphs v0.1.0\nserde v1.0.229\ntokio v1.54.1\ntokio-util v0.7.20\n";
        assert_eq!(
            offences("runtime-core", tree, BANNED),
            "runtime-core depends on tokio: the core does not wait (`cargo tree -p runtime-core -e normal -i tokio`)\n"
        );
        assert_eq!(offences("graphs", "graphs v0.1.0\ntokio-util v0.7.20\n", BANNED), "");
        assert!(offences("graphs", "graphs v0.1.0\nrand v0.10.0\n", BANNED_DIRECT).contains("chance is an argument"));
    }
}
