//! Requests of a tier that may wait: handed in with others, looked at until they are answered, for the price of a batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Amounts, Attempt, Completion, Spent, Target, TierError, Tiers, count};
use crate::batch::{BatchItem, BatchProgress, BatchTicket, Batches, Collector};
use crate::config::Batching;
use crate::error::{ErrorClass, ModelError};
use crate::provider::Ports;
use crate::request::ModelRequest;

impl Tiers {
    /// The same with batch interfaces of providers, by their names in the configuration.
    #[must_use]
    pub fn with_batches(
        mut self,
        batches: &BTreeMap<String, Arc<dyn Batches>>,
        (bounds, ports): (Batching, Ports),
    ) -> Self {
        for target in self.tiers.values_mut().flatten() {
            target.batches = batches.get(target.provider.name()).cloned();
        }
        self.collector = Collector::new(bounds, ports);
        self
    }

    /// Whether a model of the tier takes batches.
    pub fn takes_batches(&self, tier: &str) -> bool {
        self.batched(tier).is_some()
    }

    /// What a request costs at most in a batch.
    pub async fn batch_worst_case(&self, tier: &str, request: &ModelRequest) -> Option<Amounts> {
        let (target, _) = self.batched(tier)?;
        Some(self.batch_worst_of(target, request, count(request).await))
    }

    /// Hands a request in with those that come within the window; where it is then, to be kept before anything else.
    /// `id` names the request: letters, digits, `-` and `_`.
    ///
    /// # Errors
    /// It is in no batch, or nobody knows whether it is; says what that may have cost.
    pub async fn hand_in(&self, tier: &str, id: &str, request: &ModelRequest) -> Result<BatchTicket, TierError> {
        let Some((target, batches)) = self.batched(tier) else {
            return Err(TierError { tier: tier.to_owned(), attempts: Vec::new(), spent: Amounts::default() });
        };
        let counted = count(request).await;
        let request = ModelRequest { stream: false, ..target.card.adapt(&target.model, request) };
        if !target.card.fits(counted, request.max_output_tokens) {
            let detail = format!("{counted} tokens and an answer of {} do not fit", request.max_output_tokens);
            let error = target.error(ErrorClass::ContextOverflow, detail, None);
            return Err(failed(tier, error, Amounts::default()));
        }
        let item = BatchItem { id: id.to_owned(), request: request.clone() };
        match self.collector.join((target.provider.name(), batches), item).await {
            Some(Ok(ticket)) => Ok(ticket),
            Some(Err(error)) => {
                let spent = self.batch_cost_of(target, &request, counted, error.spent);
                Err(failed(tier, error, spent))
            }
            None => {
                let ended = target.error(ErrorClass::Unavailable, "the process ends".to_owned(), None);
                Err(failed(tier, ended, Amounts::default()))
            }
        }
    }

    /// Looks once whether a request of a batch is answered; none when it is not yet.
    ///
    /// # Errors
    /// [`Looked::Later`] when it cannot be seen now, [`Looked::Failed`] when there will be no answer.
    pub async fn look(
        &self,
        tier: &str,
        ticket: &BatchTicket,
        request: &ModelRequest,
    ) -> Result<Option<Completion>, Looked> {
        let mut targets = self.tiers.get(tier).into_iter().flatten();
        let found = targets.find(|target| target.provider.name() == ticket.provider && target.model == ticket.model);
        let Some((target, batches)) = found.and_then(|target| Some((target, target.batches.as_ref()?))) else {
            return Err(Looked::Failed(self.lost(tier, ticket)));
        };
        let seen = |error: ModelError| {
            let will_pass = error.is_retryable();
            let failed = failed(tier, error, Amounts::default());
            if will_pass { Looked::Later(failed) } else { Looked::Failed(failed) }
        };
        let BatchProgress::Ended(batch) = batches.poll(ticket).await.map_err(seen)? else { return Ok(None) };
        let mut answers = batches.results(ticket, &batch).await.map_err(seen)?;
        let answer = ticket.ids.first().and_then(|id| answers.remove(id));
        let counted = count(request).await;
        match answer {
            Some(Ok(response)) => {
                let usage = response.usage;
                let spent = usage.map_or_else(
                    || self.batch_worst_of(target, request, counted),
                    |usage| target.card.batch_cost(&usage),
                );
                if let Some(usage) = usage {
                    self.correction.lock().learn(&target.id(), counted, usage.prompt());
                }
                Ok(Some(Completion { response, attempts: Vec::new(), spent }))
            }
            Some(Err(error)) => {
                let spent = self.batch_cost_of(target, request, counted, error.spent);
                Err(Looked::Failed(failed(tier, error, spent)))
            }
            None => Err(Looked::Failed(self.lost(tier, ticket))),
        }
    }

    /// The pause before the next look.
    pub async fn until_next_look(&self) {
        self.collector.pause().await;
    }

    /// How requests are collected.
    pub fn batching(&self) -> Batching {
        self.collector.bounds
    }

    /// The first model of the tier that takes batches.
    fn batched(&self, tier: &str) -> Option<(&Target, &Arc<dyn Batches>)> {
        self.tiers.get(tier)?.iter().find_map(|target| Some((target, target.batches.as_ref()?)))
    }

    fn batch_worst_of(&self, target: &Target, request: &ModelRequest, counted: u64) -> Amounts {
        let prompt = self.correction.lock().worst(&target.id(), counted);
        target.card.batch_worst_case(prompt, request.max_output_tokens)
    }

    fn batch_cost_of(&self, target: &Target, request: &ModelRequest, counted: u64, spent: Spent) -> Amounts {
        match spent {
            Spent::Nothing => Amounts::default(),
            Spent::Known(usage) => target.card.batch_cost(&usage),
            Spent::Unknown => self.batch_worst_of(target, request, counted),
        }
    }

    fn lost(&self, tier: &str, ticket: &BatchTicket) -> TierError {
        let error = ModelError {
            class: ErrorClass::UnknownModel,
            provider: ticket.provider.clone(),
            model: ticket.model.clone(),
            request_id: None,
            status: None,
            detail: format!(
                "batch {} cannot be asked for: the tier has no such model with batches any more",
                ticket.batch
            ),
            retry_after_ms: None,
            spent: Spent::Nothing,
            tries: 0,
        };
        failed(tier, error, Amounts::default())
    }
}

/// Why there is no answer of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// It cannot be seen now; the next look may.
    Later(TierError),
    /// There will be none.
    Failed(TierError),
}

fn failed(tier: &str, error: ModelError, spent: Amounts) -> TierError {
    TierError { tier: tier.to_owned(), attempts: vec![Attempt { error, spent }], spent }
}
