//! What the bundled servers share: tools as a table, made of typed functions, and how a call is read and answered.

use std::fmt::Display;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rmcp::RoleServer;
use rmcp::model::{CallToolRequestParams, CallToolResult, ContentBlock, JsonObject, Tool, ToolAnnotations};
use rmcp::service::RequestContext;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Key of a request's `_meta` that carries the idempotency key.
pub const META_IDEMPOTENCY_KEY: &str = "interlock/idempotency-key";

/// What a tool does to the outside; becomes its MCP annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolEffect {
    /// Changes nothing.
    Reads,
    /// Adds something; repeating the call with the same id or key adds nothing more.
    Adds,
    /// Sets a state; repeating it changes nothing more.
    Sets,
    /// Replaces what was there. Repeating it with the same key changes nothing more.
    Replaces,
}

/// Stable key of a call, the same when the runtime makes it again.
pub(crate) type Key = Option<String>;

/// Name and description of a tool.
pub(crate) type Words = (&'static str, &'static str);

/// The error of a server.
pub(crate) trait ServerError: Display + Send + 'static {
    /// The arguments are not what the tool takes.
    fn wrong_arguments(message: String) -> Self;
    /// A result that cannot be sent.
    fn wrong_result(message: String) -> Self;
}

type Run<S, E> = Box<dyn Fn(S, Value, Key) -> BoxFuture<'static, Result<Value, E>> + Send + Sync>;

/// One tool of the server over `S`, which fails with `E`.
pub struct ToolSpec<S, E> {
    /// Name on the wire.
    pub name: &'static str,
    /// One sentence for people and models.
    pub description: &'static str,
    /// What it does.
    pub effect: ToolEffect,
    input: fn() -> JsonObject,
    output: fn() -> JsonObject,
    pub(crate) run: Run<S, E>,
}

impl<S, E> std::fmt::Debug for ToolSpec<S, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToolSpec").field("name", &self.name).field("effect", &self.effect).finish()
    }
}

impl<S, E> ToolSpec<S, E> {
    /// The tool as MCP lists it.
    pub fn describe(&self) -> Tool {
        let mut tool = Tool::new(self.name, self.description, Arc::new((self.input)()));
        tool.output_schema = Some(Arc::new((self.output)()));
        let (read_only, destructive) = match self.effect {
            ToolEffect::Reads => (true, false),
            ToolEffect::Adds | ToolEffect::Sets => (false, false),
            ToolEffect::Replaces => (false, true),
        };
        // What a DAG logs and a commit says comes from anywhere.
        let open_world = Some(true);
        tool.annotations =
            Some(ToolAnnotations::from_raw(None, Some(read_only), Some(destructive), Some(true), open_world));
        tool
    }
}

/// A tool that changes nothing.
pub(crate) fn reads<S, E, A, O, F, R>(words: Words, f: F) -> ToolSpec<S, E>
where
    S: 'static,
    E: ServerError,
    A: DeserializeOwned + JsonSchema + 'static,
    O: Serialize + JsonSchema + 'static,
    F: Fn(S, A) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O, E>> + Send + 'static,
{
    acts(words, ToolEffect::Reads, move |server, args, _: Key| f(server, args))
}

/// A tool that gets the key of its call.
pub(crate) fn acts<S, E, A, O, F, R>((name, description): Words, effect: ToolEffect, f: F) -> ToolSpec<S, E>
where
    S: 'static,
    E: ServerError,
    A: DeserializeOwned + JsonSchema + 'static,
    O: Serialize + JsonSchema + 'static,
    F: Fn(S, A, Key) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O, E>> + Send + 'static,
{
    let run = move |server: S, arguments: Value, key: Key| match parse::<A, E>(name, arguments) {
        Err(error) => std::future::ready(Err(error)).boxed(),
        Ok(args) => {
            let work = f(server, args, key);
            async move { to_value(&work.await?) }.boxed()
        }
    };
    ToolSpec { name, description, effect, input: schema::<A>, output: schema::<O>, run: Box::new(run) }
}

/// The arguments of a call.
pub(crate) fn parse<A: DeserializeOwned, E: ServerError>(tool: &str, arguments: Value) -> Result<A, E> {
    serde_json::from_value(arguments).map_err(|error| E::wrong_arguments(format!("arguments of {tool}: {error}")))
}

/// A result as data.
pub(crate) fn to_value<T: Serialize, E: ServerError>(value: &T) -> Result<Value, E> {
    serde_json::to_value(value).map_err(|error| E::wrong_result(format!("result: {error}")))
}

/// Some clients refuse an object schema that names no properties.
pub(crate) fn schema<T: JsonSchema>() -> JsonObject {
    let root = schemars::SchemaGenerator::default().into_root_schema_for::<T>();
    let mut schema = root.as_object().cloned().unwrap_or_default();
    schema.entry("properties").or_insert_with(|| Value::Object(JsonObject::new()));
    schema
}

/// The key that came with a request, in its own `_meta` or in that of its envelope.
pub(crate) fn key_of(request: &CallToolRequestParams, context: &RequestContext<RoleServer>) -> Key {
    let meta = request.meta.as_ref().unwrap_or(&context.meta);
    let key = meta.0.get(META_IDEMPOTENCY_KEY).or_else(|| context.meta.0.get(META_IDEMPOTENCY_KEY));
    key.and_then(Value::as_str).map(str::to_owned)
}

/// Errors of a tool are results with `isError`: text for a model, data for code.
pub(crate) fn failed(text: String, data: Value) -> CallToolResult {
    let mut result = CallToolResult::structured(data);
    result.is_error = Some(true);
    result.content = vec![ContentBlock::text(text)];
    result
}
