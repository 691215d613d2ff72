//! Answers that are given again: the cache of `models`, kept in the store of the installation, so that it outlives a process.
//!
//! What may be kept and what is the same question is decided in `models`; here is whose answers serve whom, and where they lie.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use models::{Amounts, Cache, CacheBounds, CacheEntry, CacheKey, CacheStore, Cached, ModelRequest, ModelResponse};
use models::{Question, Scope, Tiers};
use runtime::Context;
use runtime::ports::store::Store;
use runtime_core::ids::Timestamp as Micros;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::turn::Asking;

/// Digits of a key that choose one of its places.
const PLACE_DIGITS: usize = 16;

/// Answers of an installation.
pub struct Answers {
    cache: Cache<Shelf>,
    tenant: String,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Answers {
    /// Answers in a store, never for another tenant.
    pub fn new(store: Arc<dyn Store>, bounds: CacheBounds, tenant: impl Into<String>) -> Self {
        let cache = Cache::new(Shelf { store, places: places(bounds) }, bounds);
        Self { cache, tenant: tenant.into(), now: Arc::new(Timestamp::now) }
    }

    /// The same with another clock.
    #[must_use]
    pub fn at(self, now: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self { now, ..self }
    }

    /// What is asked, as the cache sees it. `None` where nobody's answers are given again.
    pub(super) async fn question(
        &self,
        ctx: &Context,
        tiers: &Tiers,
        asking: &Asking<'_>,
        request: &ModelRequest,
    ) -> Option<Question> {
        let scope = scope(&self.tenant, ctx.graph().name(), tiers, asking)?;
        let request = request.clone();
        // Reading a long log again takes a processor for a while.
        tokio::task::spawn_blocking(move || Question::of(&scope, &request)).await.ok()
    }

    pub(super) async fn get(&self, question: &Question) -> Option<Cached> {
        self.cache.get(question, (self.now)()).await
    }

    pub(super) async fn put(&self, question: &Question, response: &ModelResponse, cost: Amounts) {
        let kept = self.cache.put(question, response, cost, (self.now)()).await;
        tracing::debug!(kept, key = question.key().as_str(), "an answer that may be given again");
    }
}

/// Roles, prompts and tiers never share, nor do the models that a tier has had at different times.
fn scope(tenant: &str, graph: &str, tiers: &Tiers, asking: &Asking<'_>) -> Option<Scope> {
    let asker = format!("{graph}/{}@{}", asking.role?, asking.prompt.as_deref()?);
    let of_tier = tiers.models().filter(|(tier, ..)| *tier == asking.tier);
    let models: Vec<String> = of_tier.map(|(_, provider, model, _)| format!("{provider}/{model}")).collect();
    Some(Scope { tenant: tenant.to_owned(), asker, tier: format!("{}: {}", asking.tier, models.join(", ")) })
}

/// As many answers of the longest size as fit.
fn places(bounds: CacheBounds) -> u64 {
    let fit = bounds.bytes / bounds.entry_bytes.max(1);
    u64::try_from(fit.min(bounds.entries).max(1)).unwrap_or(u64::MAX)
}

/// Answers in numbered places of a store. An answer has two of them and takes the one that is free, or else the older one: so there
/// are never more than there are places, and nothing has to be counted.
struct Shelf {
    store: Arc<dyn Store>,
    places: u64,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    key: CacheKey,
    entry: CacheEntry,
}

impl Shelf {
    fn places_of(&self, key: &CacheKey) -> [u64; 2] {
        let digits = key.as_str();
        let place = |from: usize| {
            let part = digits.get(from..from + PLACE_DIGITS).unwrap_or_default();
            u64::from_str_radix(part, 16).unwrap_or_default() % self.places
        };
        [place(0), place(PLACE_DIGITS)]
    }

    async fn at(&self, place: u64, now: Timestamp) -> Option<Kept> {
        match self.store.cache_get(&name(place), Micros(now.as_microsecond())).await {
            Ok(found) => Kept::deserialize(&*found?).ok(),
            Err(error) => {
                tracing::warn!(%error, "answers that were given before cannot be read; the model is asked");
                None
            }
        }
    }
}

fn name(place: u64) -> String {
    format!("model-answer:{place}")
}

#[async_trait]
impl CacheStore for Shelf {
    async fn get(&self, key: &CacheKey, now: Timestamp) -> Option<CacheEntry> {
        for place in self.places_of(key) {
            if let Some(kept) = self.at(place, now).await.filter(|kept| kept.key == *key) {
                return Some(kept.entry);
            }
        }
        None
    }

    async fn put(&self, key: CacheKey, entry: CacheEntry) {
        let [one, other] = self.places_of(&key);
        let at = |place| self.at(place, entry.stored);
        let place = match (at(one).await, at(other).await) {
            (Some(kept), _) if kept.key == key => one,
            (_, Some(kept)) if kept.key == key => other,
            (Some(first), Some(second)) if first.entry.stored > second.entry.stored => other,
            (Some(_), None) => other,
            _ => one,
        };
        let until = Micros(entry.until.as_microsecond());
        let kept = json!(Kept { key, entry });
        if let Err(error) = self.store.cache_put(&name(place), &kept, Some(until)).await {
            tracing::warn!(%error, "an answer could not be kept; the model will be asked again");
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use models::{Part, StopReason};

    use super::*;

    struct Nobody;

    #[async_trait]
    impl models::Provider for Nobody {
        fn name(&self) -> &str {
            "p"
        }

        async fn complete(
            &self,
            _: &ModelRequest,
            _: &mut models::Sink<'_>,
        ) -> Result<ModelResponse, models::ModelError> {
            panic!("nobody is asked")
        }
    }

    fn bounds(entries: usize) -> CacheBounds {
        CacheBounds { entries, bytes: 1 << 20, entry_bytes: 1 << 10, ttl: SignedDuration::from_hours(24) }
    }

    fn store() -> Arc<dyn Store> {
        Arc::new(checkpoints::open::memory(&checkpoints::open::OpenOptions::default()))
    }

    fn asked(n: usize) -> Question {
        let scope = Scope { tenant: "t".into(), asker: "g/r@1".into(), tier: "small".into() };
        Question::of(&scope, &ModelRequest::of_text(format!("cause {}", "x".repeat(n)), 100))
    }

    fn answer(n: usize) -> ModelResponse {
        ModelResponse {
            parts: vec![Part::Text { text: format!("answer {}", "y".repeat(n)) }],
            stop: StopReason::End,
            usage: None,
            provider: "p".into(),
            model: "m".into(),
            request_id: None,
        }
    }

    async fn held(answers: &Answers, asked_for: usize) -> Vec<usize> {
        let mut found = Vec::new();
        for n in 0..asked_for {
            if let Some(hit) = answers.get(&asked(n)).await {
                assert_eq!(hit.response, answer(n), "never another question's answer");
                found.push(n);
            }
        }
        found
    }

    #[tokio::test]
    async fn there_are_never_more_than_there_are_places_and_the_newest_is_there() {
        let answers = Answers::new(store(), bounds(8), "t");
        for n in 0..40 {
            answers.put(&asked(n), &answer(n), Amounts::default()).await;
            assert!(answers.get(&asked(n)).await.is_some(), "{n} was just kept");
        }
        let left = held(&answers, 40).await;
        assert!((4..=8).contains(&left.len()), "{left:?}");
        assert_eq!(places(CacheBounds { bytes: 3 << 10, ..bounds(8) }), 3, "bytes bound them as well");
    }

    /// Roles and versions of a prompt never share, and without them in the scope they would.
    #[tokio::test]
    async fn nobody_gets_what_another_role_or_prompt_was_told() {
        let config = json!({"providers": {"p": {"kind": "anthropic"}}, "tiers": {"small": ["p/claude-haiku-4-5"]}, "order": ["small"]});
        let config: models::ModelsConfig = serde_json::from_value(config).unwrap();
        let prices = models::PriceTable::shipped().unwrap();
        let tiers = Tiers::of(&config, &prices, [("p", Arc::new(Nobody) as _)].into()).unwrap();
        let asking = |role, prompt: &str| Asking {
            role: Some(role),
            tier: "small",
            named: ("turn", 0.into()),
            prompt: Some(prompt.to_owned()),
            schedule: graphs::Schedule::Now,
        };
        let own = |asking: Asking<'_>| scope("t", "g", &tiers, &asking).unwrap();
        // The weakened variant: whoever asks, of whatever prompt.
        let anyone = |asking: Asking<'_>| Scope { asker: String::new(), ..own(asking) };
        let request = ModelRequest::of_text("why?", 100);
        let mut leaks = Vec::new();
        for (weakened, scoped) in [(false, &own as &dyn Fn(Asking<'static>) -> Scope), (true, &anyone)] {
            let answers = Answers::new(store(), bounds(100), "t");
            let question = |role, prompt| Question::of(&scoped(asking(role, prompt)), &request);
            answers.put(&question("diagnostic", "v1"), &answer(1), Amounts::default()).await;
            assert!(answers.get(&question("diagnostic", "v1")).await.is_some());
            for (role, prompt) in [("assistant", "v1"), ("diagnostic", "v2")] {
                if answers.get(&question(role, prompt)).await.is_some() {
                    leaks.push((weakened, role));
                }
            }
        }
        assert_eq!(
            leaks,
            [(true, "assistant"), (true, "diagnostic")],
            "the weakened variant has to be caught, and only it"
        );
        assert_eq!(own(asking("r", "v1")).tier, "small: p/claude-haiku-4-5", "another model is another tier");
        assert!(scope("t", "g", &tiers, &Asking { prompt: None, ..asking("r", "v1") }).is_none());
    }

    #[tokio::test]
    async fn they_outlive_the_process_and_not_their_time() {
        let (store, begun) = (store(), Timestamp::UNIX_EPOCH);
        let later = |hours| {
            let now = begun + SignedDuration::from_hours(hours);
            Answers::new(Arc::clone(&store), bounds(100), "t").at(Arc::new(move || now))
        };
        later(0).put(&asked(1), &answer(1), Amounts { usd_micros: 7, tokens: 9 }).await;
        let hit = later(23).get(&asked(1)).await.unwrap();
        assert_eq!((hit.stored, hit.saved.usd_micros, hit.spent), (begun, 7, Amounts::default()));
        assert!(later(24).get(&asked(1)).await.is_none());
    }
}
