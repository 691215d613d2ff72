//! The MCP server: lists and calls tools of one surface over stdio. Everything that is SQL happens off the async threads.

use std::path::PathBuf;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListToolsResult, MetaObject,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use serde_json::{Value, json};

use super::Sandbox;
use super::effects::Reply;
use super::error::{Result, SandboxError};
use super::operator::operator_tools;
use super::registry::{ToolSpec, agent_tools};
use crate::servers::table;

/// Key of a result's `_meta` with code and class of an error.
pub const META_ERROR: &str = "interlock/error";
/// Key of a result's `_meta` that is true if an earlier result was returned.
pub const META_REPLAYED: &str = "interlock/replayed";

/// Which tools a server offers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Surface {
    /// What agents may use.
    #[default]
    Agent,
    /// Faults, calendar, truth and verdicts.
    Operator,
}

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Folder of the sandbox; made if it does not exist.
    pub dir: PathBuf,
    /// Which tools.
    pub surface: Surface,
}

/// One surface of a sandbox as an MCP server.
#[derive(Debug, Clone)]
pub struct SandboxServer {
    sandbox: Arc<Sandbox>,
    surface: Surface,
}

impl SandboxServer {
    /// A server over an open sandbox.
    pub fn new(sandbox: Arc<Sandbox>, surface: Surface) -> Self {
        Self { sandbox, surface }
    }

    /// A server over the sandbox in a folder, which is made if it does not exist.
    ///
    /// # Errors
    /// If the folder cannot be opened.
    pub async fn open(options: ServeOptions) -> Result<Self> {
        let ServeOptions { dir, surface } = options;
        let sandbox = tokio::task::spawn_blocking(move || Sandbox::open(&dir))
            .await
            .map_err(|e| SandboxError::storage("opening the sandbox", e))??;
        Ok(Self::new(Arc::new(sandbox), surface))
    }

    fn tools(&self) -> &'static [ToolSpec] {
        match self.surface {
            Surface::Agent => agent_tools(),
            Surface::Operator => operator_tools(),
        }
    }
}

impl ServerHandler for SandboxServer {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        info.server_info = Implementation::new("interlock-sandbox", env!("CARGO_PKG_VERSION"));
        info.instructions = Some(
            "A data warehouse with the pipeline flights_daily in two environments, production and staging. \
             Try a repair on staging first; every writing tool names its environment."
                .to_owned(),
        );
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> std::result::Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools().iter().map(ToolSpec::describe).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> std::result::Result<CallToolResponse, ErrorData> {
        let Some(spec) = self.tools().iter().find(|t| t.name == request.name) else {
            return Err(ErrorData::invalid_params(format!("no tool {:?}; see tools/list", request.name), None));
        };
        let key = table::key_of(&request, &context);
        let sandbox = Arc::clone(&self.sandbox);
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let answer = tokio::task::spawn_blocking(move || (spec.run)(&sandbox, arguments, key))
            .await
            .map_err(|e| ErrorData::internal_error(format!("tool {} stopped: {e}", spec.name), None))?;
        Ok(to_result(answer).into())
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools().iter().find(|t| t.name == name).map(ToolSpec::describe)
    }
}

/// Errors of the tool are results with `isError`, so that the caller's model can read them.
fn to_result(answer: Result<Reply>) -> CallToolResult {
    let mut meta = MetaObject::new();
    let result = match answer {
        Ok(Reply { value, replayed, run_failed: None }) => {
            if replayed {
                meta.insert(META_REPLAYED.to_owned(), json!(true));
            }
            CallToolResult::structured(value)
        }
        Ok(Reply { value, run_failed: Some(error), .. }) => {
            meta.insert(META_ERROR.to_owned(), error_meta(&error));
            let mut result = CallToolResult::structured(value);
            result.is_error = Some(true);
            result.content = vec![ContentBlock::text(format!("{}: {error}", error.code.as_str()))];
            result
        }
        Err(error) => {
            meta.insert(META_ERROR.to_owned(), error_meta(&error));
            CallToolResult::error(vec![ContentBlock::text(format!("{}: {error}", error.code.as_str()))])
        }
    };
    let meta = (!meta.is_empty()).then_some(meta);
    result.with_meta(meta)
}

fn error_meta(error: &SandboxError) -> Value {
    json!({ "code": error.code.as_str(), "class": error.code.class() })
}

/// Serves one surface over stdin and stdout until the client closes them. Logs belong to stderr; stdout is the protocol.
///
/// # Errors
/// If the folder cannot be opened, or the session ends with a protocol failure.
pub async fn serve_stdio(options: ServeOptions) -> Result<()> {
    let running = SandboxServer::open(options)
        .await?
        .serve(rmcp::transport::stdio())
        .await
        .map_err(|e| SandboxError::storage("starting the MCP session", e))?;
    running.waiting().await.map_err(|e| SandboxError::storage("MCP session", e))?;
    Ok(())
}
