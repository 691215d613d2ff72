//! The MCP server over stdio.

use std::path::Path;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListToolsResult, MetaObject,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{Code, Result, SqlError};
use crate::registry::{ToolSpec, tools};
use crate::tools::{App, Call};

/// Key of a result's `_meta` with code, class and rule of an error.
pub const META_ERROR: &str = "interlock/error";

/// The connections of a configuration as an MCP server.
#[derive(Debug, Clone)]
pub struct SqlServer {
    app: App,
}

impl SqlServer {
    /// A server over a configuration.
    pub fn new(config: Config) -> Self {
        Self { app: App { config: Arc::new(config) } }
    }
}

impl ServerHandler for SqlServer {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        info.server_info = Implementation::new("interlock-sql", env!("CARGO_PKG_VERSION"));
        let connection =
            |c: &crate::config::Connection| format!("{} ({}, role {})", c.name, c.environment, c.role_name);
        let connections: Vec<String> = self.app.config.connections.values().map(connection).collect();
        info.instructions = Some(format!(
            "Databases behind a guard. Every tool names a connection; its environment is fixed. Connections: {}.",
            connections.join(", ")
        ));
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> std::result::Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools().iter().map(ToolSpec::describe).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> std::result::Result<CallToolResponse, ErrorData> {
        let Some(spec) = tools().iter().find(|t| t.name == request.name) else {
            return Err(ErrorData::invalid_params(format!("no tool {:?}; see tools/list", request.name), None));
        };
        let call = Call { cancelled: context.ct.clone() };
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        Ok(to_result(self.app.call(spec.name, arguments, &call).await).into())
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools().iter().find(|t| t.name == name).map(ToolSpec::describe)
    }
}

/// Errors of a tool are results with `isError`, so that the caller's model can read them.
fn to_result(answer: Result<Value>) -> CallToolResult {
    match answer {
        Ok(value) => CallToolResult::structured(value),
        Err(error) => {
            let about = json!({ "code": error.code.as_str(), "class": error.code.class(), "rule": error.rule });
            let mut result = CallToolResult::structured_error(json!({ "error": {
                "code": error.code.as_str(), "class": error.code.class(), "rule": error.rule, "message": error.message,
            }}));
            result.content = vec![ContentBlock::text(format!("{}: {error}", error.code.as_str()))];
            let mut meta = MetaObject::new();
            meta.insert(META_ERROR.to_owned(), about);
            result.with_meta(Some(meta))
        }
    }
}

/// Serves a configuration over stdin and stdout until the client closes them. Logs belong to stderr; stdout is the protocol.
///
/// # Errors
/// If the configuration cannot be read, or the session ends with a protocol failure.
pub async fn serve_stdio(config: &Path) -> Result<()> {
    let server = SqlServer::new(Config::load(config)?);
    let failed = |e: &dyn std::fmt::Display| SqlError::new(Code::Database, format!("MCP session: {e}"));
    let running = server.serve(rmcp::transport::stdio()).await.map_err(|e| failed(&e))?;
    running.waiting().await.map_err(|e| failed(&e))?;
    Ok(())
}
