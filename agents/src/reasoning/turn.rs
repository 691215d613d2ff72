//! One call of a model, in the journal: asked once, paid once, its worst case reserved before.

use graphs::EffectClass;
use models::{Amounts, Completion, Delta, ModelRequest, ModelResponse, TierError, Tiers};
use runtime::{CallSpec, Context};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::interlocks::budget::Cost;
use runtime_core::record::CallKind;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

const MICROS: f64 = 1e6;
/// Pieces of an answer that wait to be streamed.
const PIECES_QUEUE_MAX: usize = 256;

/// Who asks, of which tier, and what names the call in the journal.
#[derive(Debug, Clone)]
pub(super) struct Asking<'a> {
    pub(super) role: Option<&'a str>,
    pub(super) tier: &'a str,
    /// Arguments of the call beside its tier. The prompt itself stays out of them: they go to the audit log, and a prompt that
    /// was reworded while the thread slept must not look like another call. What was asked is named by its digest, in the result.
    pub(super) named: (&'static str, Value),
}

/// Asks the tier, or gives back what it answered before a restart.
///
/// # Errors
/// The request cannot be sent, a budget or the guard says no, or nobody of the tier answered.
pub(super) async fn ask(
    ctx: &Context,
    tiers: &Tiers,
    asking: Asking<'_>,
    request: &ModelRequest,
) -> Result<ModelResponse, TaskError> {
    request.check().map_err(|problem| TaskError::invalid(problem.to_string()))?;
    let Some(worst) = tiers.worst_case(asking.tier, request).await else {
        let text = format!("there is no model tier `{}`; tiers are {}", asking.tier, tiers.order().join(", "));
        return Err(TaskError::invalid(text));
    };
    let asking = &asking;
    let (name, value) = &asking.named;
    let args = json!({"tier": asking.tier, *name: value});
    let spec = CallSpec {
        role: asking.role.map(Into::into),
        worst: cost(worst),
        ..CallSpec::new(CallKind::Model, &format!("model.{}", asking.tier), args, EffectClass::Idempotent)
    };
    let recorded = ctx
        .call(spec, |permit| async move {
            match streamed(ctx, tiers, asking, request, &permit.key).await {
                Ok(done) => {
                    permit.meter.spent(cost(done.spent));
                    Ok(json!({
                        "response": done.response,
                        "request": digest(request),
                        "failed_before": done.attempts.iter().map(|attempt| attempt.error.to_string()).collect::<Vec<_>>(),
                        "usage": {"usd": done.spent.usd_micros as f64 / MICROS, "tokens": done.spent.tokens},
                    }))
                }
                Err(error) => {
                    permit.meter.spent(cost(error.spent));
                    Err(failure(&error))
                }
            }
        })
        .await?;
    let response = recorded.get("response").cloned().unwrap_or(Value::Null);
    serde_json::from_value(response)
        .map_err(|error| TaskError::invalid(format!("the recorded answer of tier `{}`: {error}", asking.tier)))
}

/// Asks, and streams what is said while it is said. Who does not listen, or not fast enough, misses pieces and never the answer.
async fn streamed(
    ctx: &Context,
    tiers: &Tiers,
    asking: &Asking<'_>,
    request: &ModelRequest,
    key: &str,
) -> Result<Completion, TierError> {
    let request = ModelRequest { stream: true, ..request.clone() };
    let (tell, mut told) = mpsc::channel(PIECES_QUEUE_MAX);
    let mut sink = move |delta| match delta {
        Delta::Text(text) => drop(tell.try_send(text)),
        Delta::Restart | Delta::ToolCall { .. } | Delta::Arguments { .. } => {}
    };
    let metadata = json!({"agent": asking.role, "tier": asking.tier});
    let answer = tiers.complete(asking.tier, &request, &mut sink);
    tokio::pin!(answer);
    loop {
        tokio::select! {
            biased;
            Some(text) = told.recv() => {
                let piece = json!({"type": "AIMessageChunk", "id": key, "content": text});
                // A run that has ended takes no more pieces; the answer is recorded or not by its own rules.
                let _ended = ctx.message(piece, metadata.clone()).await;
            }
            done = &mut answer => return done,
        }
    }
}

fn cost(amounts: Amounts) -> Cost {
    Cost { usd_micros: amounts.usd_micros, tokens: amounts.tokens }
}

fn digest(request: &ModelRequest) -> String {
    hex::encode(Sha256::digest(serde_json::to_vec(request).unwrap_or_default()))
}

/// A failure in the runtime's words; the provider's own repetitions are behind it already.
fn failure(error: &TierError) -> TaskError {
    use models::ErrorClass as Model;
    let class = match error.class() {
        Some(Model::RateLimited) => ErrorClass::RateLimited,
        Some(Model::Overloaded | Model::Unavailable | Model::CutStream | Model::MalformedAnswer) => {
            ErrorClass::Transient
        }
        Some(Model::Timeout) => ErrorClass::Timeout,
        Some(Model::Auth) => ErrorClass::Denied,
        Some(Model::QuotaSpent) => ErrorClass::Resource,
        Some(Model::ContextOverflow | Model::InvalidRequest | Model::UnknownModel) | None => ErrorClass::Invalid,
        Some(Model::Refused | Model::OverBound) => ErrorClass::Permanent,
    };
    TaskError::new(class, error.to_string())
}
