//! The tools as a table: name, words, effect, schemas from the types, and the function that runs.

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{GitError, Result};
use super::{Repositories, look, revert, suspect};

/// What a tool does to a repository; becomes its MCP annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolEffect {
    /// Changes nothing.
    Reads,
    /// Replaces what lies in the work tree, as a commit more. Repeating it changes nothing more.
    Replaces,
}

/// Stable key of a call, the same when the runtime makes it again.
pub(super) type Key = Option<String>;

type Run = Box<dyn Fn(Repositories, Value, Key) -> BoxFuture<'static, Result<Value>> + Send + Sync>;

/// One tool.
pub struct ToolSpec {
    /// Name on the wire.
    pub name: &'static str,
    /// One sentence for people and models.
    pub description: &'static str,
    /// What it does.
    pub effect: ToolEffect,
    input: fn() -> JsonObject,
    output: fn() -> JsonObject,
    pub(super) run: Run,
}

impl std::fmt::Debug for ToolSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToolSpec").field("name", &self.name).field("effect", &self.effect).finish()
    }
}

impl ToolSpec {
    /// The tool as MCP lists it.
    pub fn describe(&self) -> Tool {
        let mut tool = Tool::new(self.name, self.description, Arc::new((self.input)()));
        tool.output_schema = Some(Arc::new((self.output)()));
        let reads = self.effect == ToolEffect::Reads;
        // What a commit says comes from anywhere.
        let open_world = Some(true);
        tool.annotations = Some(ToolAnnotations::from_raw(None, Some(reads), Some(!reads), Some(true), open_world));
        tool
    }
}

type Words = (&'static str, &'static str);

fn reads<A, O, F, R>(words: Words, f: F) -> ToolSpec
where
    A: DeserializeOwned + JsonSchema + 'static,
    O: Serialize + JsonSchema + 'static,
    F: Fn(Repositories, A) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O>> + Send + 'static,
{
    acts(words, ToolEffect::Reads, move |all, args, _: Key| f(all, args))
}

fn acts<A, O, F, R>((name, description): Words, effect: ToolEffect, f: F) -> ToolSpec
where
    A: DeserializeOwned + JsonSchema + 'static,
    O: Serialize + JsonSchema + 'static,
    F: Fn(Repositories, A, Key) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O>> + Send + 'static,
{
    let run = move |all: Repositories, arguments: Value, key: Key| match serde_json::from_value::<A>(arguments) {
        Err(error) => std::future::ready(Err(GitError::invalid(format!("arguments of {name}: {error}")))).boxed(),
        Ok(args) => {
            let work = f(all, args, key);
            async move {
                serde_json::to_value(work.await?).map_err(|error| GitError::failed(format!("result: {error}")))
            }
            .boxed()
        }
    };
    ToolSpec { name, description, effect, input: schema::<A>, output: schema::<O>, run: Box::new(run) }
}

/// Some clients refuse an object schema that names no properties.
fn schema<T: JsonSchema>() -> JsonObject {
    let root = schemars::SchemaGenerator::default().into_root_schema_for::<T>();
    let mut schema = root.as_object().cloned().unwrap_or_default();
    schema.entry("properties").or_insert_with(|| Value::Object(JsonObject::new()));
    schema
}

/// Every tool there is.
pub fn all_tools() -> &'static [ToolSpec] {
    static TOOLS: OnceLock<Vec<ToolSpec>> = OnceLock::new();
    TOOLS.get_or_init(|| {
        vec![
            reads(
                ("get_branch", "Where the deployed branch stands, and whether its work tree lacks exactly one commit that was taken back."),
                look::get_branch,
            ),
            reads(
                ("recent_commits", "The newest commits of the deployed branch, all or those that touch one file."),
                look::recent_commits,
            ),
            reads(("show_commit", "One commit with its message, files and diff, cut."), look::show_commit),
            reads(
                (
                    "find_break",
                    "The one commit that changed a file since it worked, how it touched the name or line of the error, and whether it can be taken back. None when there are several.",
                ),
                suspect::find_break,
            ),
            reads(
                ("preview_revert", "What taking one commit back would change, without changing anything."),
                revert::preview_revert,
            ),
            acts(
                (
                    "revert_commit",
                    "Takes one commit back by another on top, if the branch still is where the caller saw it, and lets the work tree follow. Never rewrites history.",
                ),
                ToolEffect::Replaces,
                revert::revert_commit,
            ),
        ]
    })
}
