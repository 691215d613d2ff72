//! The handler of the fixtures.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rmcp::model::*;
use rmcp::service::{RequestContext, SubscriptionContext, SubscriptionSink};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{asks, content};

/// Pause between two notifications of one call, so that they are seen to arrive before its end.
const STEP_PAUSE: Duration = Duration::from_millis(50);

/// Fixtures of one server; clones share its subscriptions.
#[derive(Clone, Default)]
pub(crate) struct Fixtures {
    subscriptions: Arc<Mutex<HashMap<u64, SubscriptionSink>>>,
    next_subscription: Arc<AtomicU64>,
}

impl Fixtures {
    async fn say_changed(&self, tools: bool) {
        let open: Vec<_> = self.subscriptions.lock().await.values().cloned().collect();
        for subscription in open {
            // A subscriber that left hears nothing.
            let _ = match tools {
                true => subscription.notify_tool_list_changed().await,
                false => subscription.notify_prompt_list_changed().await,
            };
        }
    }

    async fn act(
        &self,
        name: &str,
        args: &Value,
        cx: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        match name {
            "test_tool_with_logging" => {
                for text in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
                    log(cx, LoggingLevel::Info, text).await;
                    tokio::time::sleep(STEP_PAUSE).await;
                }
                content::text_result("Logging test completed")
            }
            "test_tool_with_progress" => {
                progress(cx).await;
                content::text_result("Progress test completed")
            }
            "test_logging_tool" => {
                if let Some(level) = cx.meta.log_level() {
                    log(cx, level, "logLevel was requested").await;
                }
                content::text_result("Logging tool completed")
            }
            "test_custom_header" => content::text_result(args["value"].as_str().unwrap_or_default()),
            "test_sampling" => sampled(args, cx).await,
            "test_elicitation" => {
                let schema = json!({
                    "type": "object",
                    "properties": {"username": {"type": "string"}, "email": {"type": "string"}},
                    "required": ["username", "email"],
                });
                let message = args["message"].as_str().unwrap_or("Please provide your information");
                elicited("User response", json!({"message": message, "requestedSchema": schema}), cx).await
            }
            "test_elicitation_sep1034_defaults" => {
                elicited("Elicitation completed", asks::form_with_defaults(), cx).await
            }
            "test_elicitation_sep1330_enums" => elicited("Elicitation completed", asks::form_with_enums(), cx).await,
            "test_reconnection" => {
                tokio::time::sleep(2 * STEP_PAUSE).await;
                content::text_result("Reconnection test completed")
            }
            "test_trigger_tool_change" => {
                self.say_changed(true).await;
                content::text_result("Tool list change triggered")
            }
            "test_trigger_prompt_change" => {
                self.say_changed(false).await;
                content::text_result("Prompt list change triggered")
            }
            "test_missing_capability" => {
                if cx.meta.client_capabilities().unwrap_or_default().sampling.is_none() {
                    let needed = ClientCapabilities::builder().enable_sampling().build();
                    return Err(ErrorData::missing_required_client_capability(needed));
                }
                content::text_result("Required capability declared")
            }
            _ => match content::fixed(name) {
                Some(result) => result,
                None => Err(ErrorData::invalid_params(format!("Unknown tool: {name}"), None)),
            },
        }
    }
}

async fn log(cx: &RequestContext<RoleServer>, level: LoggingLevel, text: &str) {
    let params = LoggingMessageNotificationParam::new(level, json!(text)).with_logger("fixtures");
    let _ = cx.peer.notify_logging_message(params).await;
}

async fn progress(cx: &RequestContext<RoleServer>) {
    let Some(token) = cx.meta.get_progress_token() else { return };
    for step in [0.0, 50.0, 100.0] {
        let params = ProgressNotificationParam::new(token.clone(), step).with_total(100.0).with_message("A step");
        let _ = cx.peer.notify_progress(params).await;
        tokio::time::sleep(STEP_PAUSE).await;
    }
}

async fn sampled(args: &Value, cx: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
    let prompt = args["prompt"].as_str().unwrap_or("Hello");
    let params = CreateMessageRequestParams::new(vec![SamplingMessage::user_text(prompt)], 100);
    match cx.peer.create_message(params).await {
        Ok(answer) => {
            let answer = serde_json::to_value(answer).unwrap_or_default();
            let text = answer.pointer("/content/text").or_else(|| answer.pointer("/content/0/text"));
            content::text_result(format!("LLM response: {}", text.and_then(Value::as_str).unwrap_or("nothing")))
        }
        Err(error) => {
            content::typed(json!({"content": [{"type": "text", "text": error.to_string()}], "isError": true}))
        }
    }
}

async fn elicited(what: &str, form: Value, cx: &RequestContext<RoleServer>) -> Result<CallToolResult, ErrorData> {
    let schema = content::typed(form["requestedSchema"].clone())?;
    let message = form["message"].as_str().unwrap_or_default().to_owned();
    let params = ElicitRequestParams::FormElicitationParams { meta: None, message, requested_schema: schema };
    match cx.peer.create_elicitation(params).await {
        Ok(answer) => {
            let answer = serde_json::to_value(answer).unwrap_or_default();
            let action = answer["action"].as_str().unwrap_or_default();
            content::text_result(format!("{what}: action={action}, content={}", answer["content"]))
        }
        Err(error) => {
            content::typed(json!({"content": [{"type": "text", "text": error.to_string()}], "isError": true}))
        }
    }
}

impl ServerHandler for Fixtures {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_resources_list_changed()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_logging()
            .enable_completions()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("interlock-fixtures", env!("CARGO_PKG_VERSION")))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        // The stack compares its headers with the arguments.
        (name == "test_custom_header").then(|| content::typed(content::custom_header_tool()).ok()).flatten()
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let list = ListToolsResult { tools: content::tools()?, ..Default::default() };
        Ok(list.with_ttl_ms(content::TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        cx: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if request.name.starts_with("test_input_required_result_") {
            return asks::call(&request, &cx.meta);
        }
        if request.name == "test_streaming_elicitation" {
            return asks::streaming();
        }
        let args = Value::Object(request.arguments.unwrap_or_default());
        self.act(&request.name, &args, &cx).await.map(Into::into)
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let list = ListResourcesResult { resources: content::resources()?, ..Default::default() };
        Ok(list.with_ttl_ms(content::TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let list = ListResourceTemplatesResult { resource_templates: content::templates()?, ..Default::default() };
        Ok(list.with_ttl_ms(content::TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let read = content::resource(&request.uri)?;
        Ok(read.with_ttl_ms(content::TTL_MS).with_cache_scope(CacheScope::Public).into())
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(&self, _: UnsubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let list = ListPromptsResult { prompts: content::prompts()?, ..Default::default() };
        Ok(list.with_ttl_ms(content::TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        if request.name == "test_input_required_result_prompt" {
            return asks::prompt(&request);
        }
        let arguments = serde_json::to_value(&request.arguments).unwrap_or_default();
        content::prompt(&request.name, &arguments).map(Into::into)
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let typed = request.argument.value;
        let values =
            ["paris", "park", "party"].iter().filter(|word| word.starts_with(&typed)).map(|word| (*word).to_owned());
        let info = CompletionInfo::new(values.collect()).map_err(|error| ErrorData::internal_error(error, None))?;
        Ok(CompleteResult::new(info))
    }

    async fn set_level(&self, _: SetLevelRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let key = self.next_subscription.fetch_add(1, Ordering::Relaxed);
        self.subscriptions.lock().await.insert(key, context.sink().clone());
        context.cancelled().await;
        self.subscriptions.lock().await.remove(&key);
        Ok(())
    }
}
