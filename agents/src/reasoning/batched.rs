//! A turn that may wait: one call hands the question in and is recorded with its place in the batch, a second one looks until
//! the answer is there. So a restart in between hands nothing in twice, as with tasks of tools (`docs/design/0004-mcp-tasks.md`).

use std::sync::Arc;
use std::time::Duration;

use graphs::EffectClass;
use models::{Amounts, BatchTicket, Looked, fingerprint};
use runtime::{CallSpec, Permit};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::interlocks::budget::Cost;
use runtime_core::record::CallKind;
use serde_json::{Value, json};

use super::turn::{Turn, cost, digest, failure, recorded};

/// Key of a recorded result that is no answer but a place in a batch.
const PLACE: &str = "batch";
/// Looks in a row that may fail for a passing reason.
const FAILURES_MAX: u32 = 10;
/// Longest wait in one process. Providers give a batch up after a day.
const WAIT_MAX: Duration = Duration::from_secs(25 * 3600);
/// Digits that name a question within its batch.
const ID_DIGITS: usize = 40;

/// The place in a batch, if that is what was recorded.
pub(super) fn place(recorded: &Value) -> Option<BatchTicket> {
    serde_json::from_value(recorded.get(PLACE)?.clone()).ok()
}

/// What a tier without batches tells whoever wanted one.
pub(super) fn asked_at_once(tier: &str) -> String {
    format!("no model of tier `{tier}` takes batches: it was asked at once, at the full price")
}

impl Turn<'_> {
    /// The first call: in a batch, and not paid yet. What it may cost was reserved, and is again by the second call.
    pub(super) async fn handed_in(&self, permit: &Permit) -> Result<Value, TaskError> {
        let named = fingerprint(&[self.ctx.thread().as_str(), &permit.key]);
        let id: String = named.chars().take(ID_DIGITS).collect();
        match self.mind.tiers().hand_in(self.asking.tier, &id, self.request).await {
            Ok(ticket) => {
                permit.meter.spent(Cost::FREE);
                Ok(json!({PLACE: ticket, "request": digest(self.request)}))
            }
            Err(error) => {
                permit.meter.spent(cost(error.spent));
                Err(failure(&error))
            }
        }
    }

    /// The second call: made anew after a restart, recorded once there is an answer or none will come.
    pub(super) async fn waited(&self, place: BatchTicket, worst: Amounts) -> Result<Arc<Value>, TaskError> {
        let tier = self.asking.tier;
        let args = json!({"tier": tier, "batch": place.batch, "item": place.ids});
        let spec = CallSpec {
            role: self.asking.role.map(Into::into),
            worst: cost(worst),
            ..CallSpec::new(CallKind::Model, &format!("model.{tier}"), args, EffectClass::ReadOnly)
        };
        let said = json!({"agent": self.asking.role, "phase": "batched", "tier": tier, "batch": place.batch});
        self.ctx.emit(said).await?;
        self.ctx.call(spec, |permit| async move { self.looked(&place, permit).await }).await
    }

    async fn looked(&self, place: &BatchTicket, permit: Permit) -> Result<Value, TaskError> {
        let tiers = self.mind.tiers();
        let mut failures = 0;
        for _ in 0..=WAIT_MAX.as_secs() / tiers.batching().look.as_secs().max(1) {
            self.ctx.heartbeat().await?;
            match tiers.look(self.asking.tier, place, self.request).await {
                Ok(Some(done)) => {
                    permit.meter.spent(cost(done.spent));
                    self.is_fresh(&done);
                    return Ok(recorded(self.request, &done, None));
                }
                Ok(None) => failures = 0,
                Err(Looked::Later(_)) if failures < FAILURES_MAX => failures += 1,
                // Nobody knows what it cost: the worst case stands.
                Err(Looked::Later(error)) => return Err(failure(&error)),
                Err(Looked::Failed(error)) => {
                    permit.meter.spent(cost(error.spent));
                    return Err(failure(&error));
                }
            }
            tiers.until_next_look().await;
        }
        let text = format!("batch {} of {} has no answer after {WAIT_MAX:?}", place.batch, place.provider);
        Err(TaskError::new(ErrorClass::Timeout, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back_and_an_answer_is_none() {
        let ticket =
            BatchTicket { provider: "p".into(), model: "m".into(), batch: "b".into(), ids: ["i".into()].into() };
        assert_eq!(place(&json!({PLACE: ticket, "request": "x"})), Some(ticket));
        assert_eq!(place(&json!({"response": {}, "usage": {}})), None);
    }
}
