//! Tiers: who is asked in which order, what each call may cost and did, and how a failing provider is gone around.

mod batched;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

pub use self::batched::Looked;
use crate::batch::{Batches, Collector, open_batches};
use crate::config::{Key, KeySource, ModelsConfig, split};
use crate::error::{ErrorClass, ModelError, Spent};
use crate::limits::Limits;
use crate::prices::{Amounts, ModelCard, PriceTable};
use crate::provider::{Delta, Ports, Provider, Sink, open};
use crate::request::ModelRequest;
use crate::response::ModelResponse;
use crate::tokens::{Correction, TokenCounter};

/// What tiers are made with beside their configuration.
pub struct Setup<'a> {
    /// Prices that ship.
    pub prices: PriceTable,
    /// What earlier calls taught.
    pub correction: Correction,
    /// Time and chance.
    pub ports: Ports,
    /// Reads a key.
    pub key: &'a dyn Fn(&KeySource) -> Result<Key, String>,
}

/// The models of an installation.
pub struct Tiers {
    order: Vec<String>,
    tiers: BTreeMap<String, Vec<Target>>,
    correction: Mutex<Correction>,
    collector: Collector,
}

/// A model that can be asked.
#[derive(Clone)]
struct Target {
    provider: Arc<dyn Provider>,
    limits: Arc<Limits>,
    batches: Option<Arc<dyn Batches>>,
    model: String,
    card: ModelCard,
}

/// A call that brought no answer, on the way to one that did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What went wrong.
    pub error: ModelError,
    /// What it cost; where nobody knows, what it may have cost at most.
    pub spent: Amounts,
}

/// An answer, and everything it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The answer. Its provider and model are who gave it.
    pub response: ModelResponse,
    /// Who was asked before.
    pub attempts: Vec<Attempt>,
    /// What all of it cost.
    pub spent: Amounts,
}

/// No model of a tier answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierError {
    /// The tier.
    pub tier: String,
    /// Who was asked; empty when there is no such tier.
    pub attempts: Vec<Attempt>,
    /// What it cost all the same.
    pub spent: Amounts,
}

impl TierError {
    /// The last thing that went wrong.
    pub fn class(&self) -> Option<ErrorClass> {
        self.attempts.last().map(|attempt| attempt.error.class)
    }
}

impl fmt::Display for TierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.attempts.is_empty() {
            return write!(f, "there is no tier `{}`: name one of `models.tiers`", self.tier);
        }
        write!(f, "no model of the tier `{}` answered", self.tier)?;
        self.attempts.iter().try_for_each(|attempt| write!(f, "; {}", attempt.error))
    }
}

impl std::error::Error for TierError {}

impl fmt::Debug for Tiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiers").field("order", &self.order).finish_non_exhaustive()
    }
}

impl Tiers {
    /// The tiers of a configuration, with every key read and every price known.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn open(config: &ModelsConfig, setup: Setup<'_>) -> Result<Self, Vec<String>> {
        let mut problems = config.problems();
        let (mut providers, mut batches) = (BTreeMap::new(), BTreeMap::new());
        for (name, provider) in &config.providers {
            let limits = Arc::new(Limits::new(provider.requests_per_minute, provider.tokens_per_minute));
            let key = provider.key_source().map(|source| (setup.key)(&source)).transpose();
            let opened = key.and_then(|key| {
                if provider.has_batches() {
                    batches.insert(name.clone(), open_batches(name, provider, key.clone(), setup.ports.clone())?);
                }
                open(name, provider, key, Arc::clone(&limits), setup.ports.clone())
            });
            match opened {
                Ok(opened) => drop(providers.insert(name.as_str(), (opened, limits))),
                Err(why) => problems.push(format!("providers.{name}: {why}")),
            }
        }
        let mut prices = setup.prices;
        problems.extend(prices.add(&config.prices).err());
        if !problems.is_empty() {
            return Err(problems);
        }
        let bounds = config.batches.bounds()?;
        let tiers = Self::of_providers(config, &prices, &providers, setup.correction)?;
        Ok(tiers.with_batches(&batches, (bounds, setup.ports)))
    }

    /// Tiers over providers that are there already, by their names in the configuration: for hosts that bring their own, and
    /// for tests of what asks.
    ///
    /// # Errors
    /// Everything that is wrong with the tiers.
    pub fn of(
        config: &ModelsConfig,
        prices: &PriceTable,
        providers: BTreeMap<&str, Arc<dyn Provider>>,
    ) -> Result<Self, Vec<String>> {
        let providers = providers.into_iter().map(|(name, provider)| (name, (provider, Arc::default()))).collect();
        Self::of_providers(config, prices, &providers, Correction::default())
    }

    fn of_providers(
        config: &ModelsConfig,
        prices: &PriceTable,
        providers: &BTreeMap<&str, (Arc<dyn Provider>, Arc<Limits>)>,
        correction: Correction,
    ) -> Result<Self, Vec<String>> {
        let (mut tiers, mut problems) = (BTreeMap::new(), Vec::new());
        for (tier, entries) in &config.tiers {
            let mut targets = Vec::new();
            for (provider, model) in entries.iter().filter_map(|entry| split(entry)) {
                let Some((opened, limits)) = providers.get(provider) else { continue };
                match prices.card(provider, model) {
                    Ok(card) => targets.push(Target {
                        provider: Arc::clone(opened),
                        limits: Arc::clone(limits),
                        batches: None,
                        model: model.to_owned(),
                        card: card.clone(),
                    }),
                    Err(unknown) => problems.push(format!("tiers.{tier}: {unknown}")),
                }
            }
            tiers.insert(tier.clone(), targets);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let (correction, collector) = (Mutex::new(correction), Collector::default());
        Ok(Self { order: config.order.clone(), tiers, correction, collector })
    }

    /// The tiers from the lowest to the highest.
    pub fn order(&self) -> &[String] {
        &self.order
    }

    /// Every model: tier, provider, name, price; tiers from the lowest, models in the order in which they are asked.
    pub fn models(&self) -> impl Iterator<Item = (&str, &str, &str, &ModelCard)> {
        let tiers = self.order.iter().filter_map(|tier| Some((tier.as_str(), self.tiers.get(tier)?)));
        tiers.flat_map(|(tier, targets)| {
            targets.iter().map(move |target| (tier, target.provider.name(), target.model.as_str(), &target.card))
        })
    }

    /// The tier above another one.
    pub fn above(&self, tier: &str) -> Option<&str> {
        let at = self.order.iter().position(|name| name == tier)?;
        self.order.get(at + 1).map(String::as_str)
    }

    /// What calls have taught so far, to be kept.
    pub fn correction(&self) -> Correction {
        self.correction.lock().clone()
    }

    /// What a call costs at most, whoever of the tier is asked on the way: the sum over its models, because each of them
    /// is billed at most once.
    pub async fn worst_case(&self, tier: &str, request: &ModelRequest) -> Option<Amounts> {
        let targets = self.tiers.get(tier)?;
        let counted = count(request).await;
        let worst = targets.iter().map(|target| self.worst_of(target, request, counted));
        Some(worst.fold(Amounts::default(), Amounts::plus))
    }

    /// Tokens, as [`crate::TokenCounter`] counts them, that the messages of a request may take beside the rest of it, so that every
    /// model of the tier can take them and answer in full.
    pub async fn room_for_messages(&self, tier: &str, rest: &ModelRequest) -> Option<u64> {
        let targets = self.tiers.get(tier)?;
        let taken = count(&ModelRequest { messages: Vec::new(), ..rest.clone() }).await;
        let correction = self.correction.lock();
        let window = |target: &Target| {
            let prompt = target.card.context.saturating_sub(rest.max_output_tokens);
            correction.fitting(&target.id(), prompt)
        };
        Some(targets.iter().map(window).min().unwrap_or_default().saturating_sub(taken))
    }

    fn worst_of(&self, target: &Target, request: &ModelRequest, counted: u64) -> Amounts {
        let prompt = self.correction.lock().worst(&target.id(), counted);
        target.card.worst_case(prompt, request.max_output_tokens)
    }

    /// Asks the models of a tier one after the other until one answers. Overload and outage lead sideways to the next; what
    /// is wrong with the request does not, save that a model with a larger window may take one that is too long.
    ///
    /// # Errors
    /// Nobody answered; names everybody who was asked, with what it cost.
    pub async fn complete(
        &self,
        tier: &str,
        request: &ModelRequest,
        sink: &mut Sink<'_>,
    ) -> Result<Completion, TierError> {
        let targets = self.tiers.get(tier).map(Vec::as_slice).unwrap_or_default();
        let counted = count(request).await;
        let (mut attempts, mut spent, mut too_small) = (Vec::new(), Amounts::default(), 0);
        for target in targets.iter() {
            if target.card.context <= too_small {
                continue;
            }
            let mut n_told = 0_usize;
            let mut telling = |delta: Delta| {
                n_told += 1;
                sink(delta);
            };
            let error = match self.ask(target, request, counted, &mut telling).await {
                Ok(response) => {
                    spent = spent.plus(self.settle(target, request, counted, &response));
                    return Ok(Completion { response, attempts, spent });
                }
                Err(error) => error,
            };
            let cost = self.cost_of(target, request, counted, error.spent);
            spent = spent.plus(cost);
            let goes_on = error.is_sideways() || error.class == ErrorClass::ContextOverflow;
            if error.class == ErrorClass::ContextOverflow {
                too_small = target.card.context;
            }
            tracing::warn!(tier, provider = error.provider, model = error.model, class = ?error.class, "no answer");
            attempts.push(Attempt { error, spent: cost });
            if !goes_on {
                break;
            }
            if n_told > 0 {
                sink(Delta::Restart);
            }
        }
        Err(TierError { tier: tier.to_owned(), attempts, spent })
    }

    async fn ask(
        &self,
        target: &Target,
        request: &ModelRequest,
        counted: u64,
        sink: &mut Sink<'_>,
    ) -> Result<ModelResponse, ModelError> {
        let adapted = target.card.adapt(&target.model, request);
        // The plain count, which is rather too low: the provider is not kept from what would have fitted.
        if !target.card.fits(counted, adapted.max_output_tokens) {
            let detail = format!("{counted} tokens and an answer of {} do not fit", adapted.max_output_tokens);
            return Err(target.error(ErrorClass::ContextOverflow, detail, None));
        }
        let expected = self.correction.lock().expected(&target.id(), counted);
        let reserved = expected.saturating_add(adapted.max_output_tokens);
        let admitted = target.limits.admit_tokens(reserved).await;
        admitted.map_err(|fault| target.error(fault.class, fault.detail, fault.retry_after))?;
        let answer = target.provider.complete(&adapted, sink).await;
        let used = match &answer {
            Ok(response) => response.usage.map_or(reserved, |usage| usage.total()),
            Err(error) => match error.spent {
                Spent::Nothing => 0,
                Spent::Known(usage) => usage.total(),
                Spent::Unknown => reserved,
            },
        };
        target.limits.settle_tokens(reserved, used);
        answer
    }

    /// What an answer cost; its counts are learned from.
    fn settle(&self, target: &Target, request: &ModelRequest, counted: u64, response: &ModelResponse) -> Amounts {
        let Some(usage) = response.usage else { return self.worst_of(target, request, counted) };
        self.correction.lock().learn(&target.id(), counted, usage.prompt());
        target.card.cost(&usage)
    }

    fn cost_of(&self, target: &Target, request: &ModelRequest, counted: u64, spent: Spent) -> Amounts {
        match spent {
            Spent::Nothing => Amounts::default(),
            Spent::Known(usage) => target.card.cost(&usage),
            Spent::Unknown => self.worst_of(target, request, counted),
        }
    }
}

impl Target {
    fn id(&self) -> String {
        format!("{}/{}", self.provider.name(), self.model)
    }

    /// An error of ours, before the provider was asked.
    fn error(&self, class: ErrorClass, detail: String, wait: Option<std::time::Duration>) -> ModelError {
        ModelError {
            class,
            provider: self.provider.name().to_owned(),
            model: self.model.clone(),
            request_id: None,
            status: None,
            detail,
            retry_after_ms: wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            spent: Spent::Nothing,
            tries: 0,
        }
    }
}

/// Counting takes a processor for a while, so it is done where that keeps nobody else waiting.
async fn count(request: &ModelRequest) -> u64 {
    let request = request.clone();
    let counted = tokio::task::spawn_blocking(move || TokenCounter.count_request(&request)).await;
    // A count that could not be made is the highest there is: nothing fits, and nothing is spent.
    counted.unwrap_or(u64::MAX)
}
