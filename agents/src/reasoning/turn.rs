//! One call of a model, in the journal: asked once, paid once, its worst case reserved before.

use graphs::{EffectClass, Schedule};
use models::{Amounts, Cached, Completion, Delta, ModelRequest, ModelResponse, Question, TierError, Tiers};
use parking_lot::Mutex;
use runtime::{CallSpec, Context, Permit};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::interlocks::budget::Cost;
use runtime_core::record::CallKind;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::Mind;
use super::batched::{self, asked_at_once};

const MICROS: f64 = 1e6;
/// Key of a recorded result with what people should know about it.
const NOTE: &str = "note";
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
    /// The version of the prompt, where an answer may be given again; without one every question is asked.
    pub(super) prompt: Option<String>,
    /// At once, or with others in a batch.
    pub(super) schedule: Schedule,
}

/// An answer, and what is needed to give it again.
pub(super) struct Said {
    pub(super) response: ModelResponse,
    /// A model said it just now.
    pub(super) fresh: Option<Fresh>,
    /// What people should know about how it was asked.
    pub(super) note: Option<String>,
}

/// An answer that may be given again once it has turned out to be one.
pub(super) struct Fresh {
    question: Question,
    response: ModelResponse,
    cost: Amounts,
}

impl Fresh {
    /// Gives it to whoever asks the same from now on. What does not have the form that was asked for never gets here: it would be
    /// as wrong the next time.
    pub(super) async fn keep(self, mind: &Mind) {
        if let Some(answers) = mind.answers() {
            answers.put(&self.question, &self.response, self.cost).await;
        }
    }
}

/// Asks the tier, or gives back what it answered before a restart, or what it answered to the same question before.
///
/// # Errors
/// The request cannot be sent, a budget or the guard says no, or nobody of the tier answered.
pub(super) async fn ask(
    ctx: &Context,
    mind: &Mind,
    asking: Asking<'_>,
    request: &ModelRequest,
) -> Result<Said, TaskError> {
    request.check().map_err(|problem| TaskError::invalid(problem.to_string()))?;
    let tiers = mind.tiers();
    let way = match asking.schedule {
        Schedule::Now => Way::AtOnce(None),
        Schedule::Batch if tiers.takes_batches(asking.tier) => Way::Batch,
        Schedule::Batch => Way::AtOnce(Some(asked_at_once(asking.tier))),
    };
    let worst = match way {
        Way::AtOnce(_) => tiers.worst_case(asking.tier, request).await,
        Way::Batch => tiers.batch_worst_case(asking.tier, request).await,
    };
    let Some(worst) = worst else {
        let text = format!("there is no model tier `{}`; tiers are {}", asking.tier, tiers.order().join(", "));
        return Err(TaskError::invalid(text));
    };
    let (name, value) = &asking.named;
    let args = json!({"tier": asking.tier, *name: value});
    let spec = CallSpec {
        role: asking.role.map(Into::into),
        worst: cost(worst),
        ..CallSpec::new(CallKind::Model, &format!("model.{}", asking.tier), args, EffectClass::Idempotent)
    };
    let turn = Turn { ctx, mind, asking: &asking, request, way, asked: Mutex::default(), fresh: Mutex::default() };
    let recorded = ctx.call(spec, |permit| turn.made(permit)).await?;
    let recorded = match batched::place(&recorded) {
        Some(place) => turn.waited(place, worst).await?,
        None => recorded,
    };
    let note = recorded.get(NOTE).and_then(Value::as_str).map(str::to_owned);
    let response = recorded.get("response").cloned().unwrap_or(Value::Null);
    let response = serde_json::from_value(response)
        .map_err(|error| TaskError::invalid(format!("the recorded answer of tier `{}`: {error}", asking.tier)))?;
    Ok(Said { response, fresh: turn.fresh.into_inner(), note })
}

/// How the models of a tier are asked.
enum Way {
    /// At once; with a note where something else was wanted.
    AtOnce(Option<String>),
    /// With others in a batch.
    Batch,
}

/// One turn on its way.
pub(super) struct Turn<'a> {
    pub(super) ctx: &'a Context,
    pub(super) mind: &'a Mind,
    pub(super) asking: &'a Asking<'a>,
    pub(super) request: &'a ModelRequest,
    way: Way,
    /// The question as the cache sees it, where it was asked in this process.
    asked: Mutex<Option<Question>>,
    /// What was said in this process; nothing where it was recorded before.
    fresh: Mutex<Option<Fresh>>,
}

impl Turn<'_> {
    /// Within the call, so that what is given again is journaled like what was just said.
    async fn made(&self, permit: Permit) -> Result<Value, TaskError> {
        let question = match self.mind.answers() {
            Some(answers) => answers.question(self.ctx, self.mind.tiers(), self.asking, self.request).await,
            None => None,
        };
        if let (Some(question), Some(answers)) = (&question, self.mind.answers())
            && let Some(hit) = answers.get(question).await
        {
            return self.again(hit, &permit).await;
        }
        *self.asked.lock() = question;
        match &self.way {
            Way::Batch => self.handed_in(&permit).await,
            Way::AtOnce(note) => self.at_once(note.as_deref(), &permit).await,
        }
    }

    async fn at_once(&self, note: Option<&str>, permit: &Permit) -> Result<Value, TaskError> {
        if let Some(note) = note {
            let said = json!({"agent": self.asking.role, "phase": "asking", "tier": self.asking.tier, NOTE: note});
            self.ctx.emit(said).await?;
        }
        match streamed(self.ctx, self.mind.tiers(), self.asking, self.request, &permit.key).await {
            Ok(done) => {
                permit.meter.spent(cost(done.spent));
                self.is_fresh(&done);
                Ok(recorded(self.request, &done, note))
            }
            Err(error) => {
                permit.meter.spent(cost(error.spent));
                Err(failure(&error))
            }
        }
    }

    /// What was said just now may be given again.
    pub(super) fn is_fresh(&self, done: &Completion) {
        let fresh = |question| Fresh { question, response: done.response.clone(), cost: done.spent };
        *self.fresh.lock() = self.asked.lock().take().map(fresh);
    }

    /// The answer to the same question: it costs nothing, and says that it is one.
    async fn again(&self, hit: Cached, permit: &Permit) -> Result<Value, TaskError> {
        permit.meter.spent(cost(hit.spent));
        let saved = usage(hit.saved);
        self.ctx
            .emit(json!({
                "agent": self.asking.role, "phase": "cached", "tier": self.asking.tier, "answered": hit.stored, "saved": saved,
            }))
            .await?;
        Ok(json!({
            "response": hit.response,
            "request": digest(self.request),
            "cached": true,
            "answered": hit.stored,
            "saved": saved,
            "usage": usage(hit.spent),
        }))
    }
}

/// What the journal has of an answer.
pub(super) fn recorded(request: &ModelRequest, done: &Completion, note: Option<&str>) -> Value {
    let mut recorded = json!({
        "response": done.response,
        "request": digest(request),
        "failed_before": done.attempts.iter().map(|attempt| attempt.error.to_string()).collect::<Vec<_>>(),
        "usage": usage(done.spent),
    });
    if let (Some(note), Some(fields)) = (note, recorded.as_object_mut()) {
        fields.insert(NOTE.to_owned(), note.into());
    }
    recorded
}

fn usage(spent: Amounts) -> Value {
    json!({"usd": spent.usd_micros as f64 / MICROS, "tokens": spent.tokens})
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

pub(super) fn cost(amounts: Amounts) -> Cost {
    Cost { usd_micros: amounts.usd_micros, tokens: amounts.tokens }
}

pub(super) fn digest(request: &ModelRequest) -> String {
    hex::encode(Sha256::digest(serde_json::to_vec(request).unwrap_or_default()))
}

/// A failure in the runtime's words; the provider's own repetitions are behind it already.
pub(super) fn failure(error: &TierError) -> TaskError {
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
