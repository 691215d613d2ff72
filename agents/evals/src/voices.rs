//! Who speaks where a model is asked: nobody, live models, a tape of what they said, or what an incident scripts.
//!
//! A tape names each answer by the digest of provider and request, so an answer is only ever given to the very question it
//! was recorded for. A question without one is a mistake with the incident's name, never a guess.

use std::collections::BTreeMap;
use std::sync::Arc;

use agents::Mind;
use async_trait::async_trait;
use models::{
    ErrorClass, MaskRules, ModelError, ModelRequest, ModelResponse, ModelsConfig, Part, PriceTable, Provider, Sink,
    Spent, StopReason, Tiers, Usage,
};
use parking_lot::Mutex;
use runtime::rehearsal::JumpingClock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::golden::Golden;

/// Most answers of one tape.
const ANSWERS_MAX: usize = 100_000;
/// What a scripted answer is said to have used.
const SCRIPTED_USAGE: Usage = Usage { input: 1_000, output: 200, cache_read: 0, cache_write: 0 };

/// What models said, by the digest of what they were asked; several answers to the same question in turn.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tape(BTreeMap<String, Vec<ModelResponse>>);

impl Tape {
    /// Answers on it.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn keep(&mut self, key: &str, response: &ModelResponse) {
        if self.len() < ANSWERS_MAX {
            self.0.entry(key.to_owned()).or_default().push(response.clone());
        }
    }
}

/// Who speaks in a set.
#[derive(Clone)]
pub struct Voices {
    models: Option<Models>,
}

#[derive(Clone)]
struct Models {
    config: ModelsConfig,
    prompts: BTreeMap<String, String>,
    masking: MaskRules,
    source: Source,
}

#[derive(Clone)]
enum Source {
    /// Asked now; what they say is kept where there is a tape.
    Live(BTreeMap<String, Arc<dyn Provider>>, Option<Arc<Mutex<Tape>>>),
    /// Said before.
    Tape(Arc<Tape>),
}

/// Whom the agents of one incident ask.
pub(crate) struct Voice {
    pub(crate) mind: Option<Mind>,
    /// Questions that the tape has no answer to.
    pub(crate) missing: Arc<Mutex<Vec<String>>>,
}

impl Voices {
    /// Nobody is asked, except by incidents that script what a model says.
    pub fn rules() -> Self {
        Self { models: None }
    }

    /// Live models; what they say is kept on `tape`.
    pub fn live(
        config: ModelsConfig,
        (prompts, masking): (BTreeMap<String, String>, MaskRules),
        providers: BTreeMap<String, Arc<dyn Provider>>,
        tape: Option<Arc<Mutex<Tape>>>,
    ) -> Self {
        Self { models: Some(Models { config, prompts, masking, source: Source::Live(providers, tape) }) }
    }

    /// What models said before.
    pub fn recorded(
        config: ModelsConfig,
        (prompts, masking): (BTreeMap<String, String>, MaskRules),
        tape: Tape,
    ) -> Self {
        Self { models: Some(Models { config, prompts, masking, source: Source::Tape(Arc::new(tape)) }) }
    }

    pub(crate) fn of(&self, golden: &Golden, clock: &Arc<JumpingClock>) -> Result<Voice, String> {
        let missing = Arc::new(Mutex::new(Vec::new()));
        let mind = match &self.models {
            None if golden.says.is_empty() => None,
            None => Some(scripted(golden)?),
            Some(models) => Some(models.mind(golden, clock, &missing)?),
        };
        Ok(Voice { mind, missing })
    }
}

impl Models {
    fn mind(
        &self,
        golden: &Golden,
        clock: &Arc<JumpingClock>,
        missing: &Arc<Mutex<Vec<String>>>,
    ) -> Result<Mind, String> {
        let mut providers: BTreeMap<&str, Arc<dyn Provider>> = BTreeMap::new();
        for name in self.config.providers.keys() {
            let provider: Arc<dyn Provider> = match &self.source {
                Source::Live(live, tape) => {
                    let inner = live.get(name).ok_or_else(|| format!("there is no provider `{name}`"))?;
                    Arc::new(Recorder { inner: Arc::clone(inner), tape: tape.clone(), clock: Arc::clone(clock) })
                }
                Source::Tape(tape) => Arc::new(Player {
                    name: name.clone(),
                    incident: golden.id.clone(),
                    tape: Arc::clone(tape),
                    given: Mutex::default(),
                    missing: Arc::clone(missing),
                }),
            };
            providers.insert(name, provider);
        }
        let prices = PriceTable::shipped()?;
        let tiers = Tiers::of(&self.config, &prices, providers).map_err(|problems| problems.join("; "))?;
        Mind::new(Arc::new(tiers), self.prompts.clone(), &self.masking)
    }
}

/// One tier with one model that says what the incident scripts.
fn scripted(golden: &Golden) -> Result<Mind, String> {
    let config = json!({
        "providers": { "script": { "kind": "anthropic" } },
        "tiers": { "small": ["script/claude-haiku-4-5"] },
        "order": ["small"],
    });
    let config: ModelsConfig = serde_json::from_value(config).map_err(|error| error.to_string())?;
    let script: Arc<dyn Provider> = Arc::new(Script { answers: golden.says.clone(), given: Mutex::default() });
    let tiers = Tiers::of(&config, &PriceTable::shipped()?, BTreeMap::from([("script", script)]));
    Mind::new(Arc::new(tiers.map_err(|problems| problems.join("; "))?), BTreeMap::new(), &MaskRules::default())
}

fn key(provider: &str, request: &ModelRequest) -> String {
    let asked = serde_json::to_vec(&(provider, request)).unwrap_or_default();
    hex::encode(Sha256::digest(asked))
}

/// A live model whose answers are kept.
struct Recorder {
    inner: Arc<dyn Provider>,
    tape: Option<Arc<Mutex<Tape>>>,
    clock: Arc<JumpingClock>,
}

#[async_trait]
impl Provider for Recorder {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn complete(&self, request: &ModelRequest, sink: &mut Sink<'_>) -> Result<ModelResponse, ModelError> {
        let response = {
            // The engine's time stands still while somebody thinks in real time.
            let _held = self.clock.hold();
            self.inner.complete(request, sink).await?
        };
        if let Some(tape) = &self.tape {
            tape.lock().keep(&key(self.name(), request), &response);
        }
        Ok(response)
    }
}

/// A model that says what it said before.
struct Player {
    name: String,
    incident: String,
    tape: Arc<Tape>,
    given: Mutex<BTreeMap<String, usize>>,
    missing: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Provider for Player {
    fn name(&self) -> &str {
        &self.name
    }

    async fn complete(&self, request: &ModelRequest, _: &mut Sink<'_>) -> Result<ModelResponse, ModelError> {
        let key = key(&self.name, request);
        let turn = {
            let mut given = self.given.lock();
            let turn = given.entry(key.clone()).or_default();
            *turn += 1;
            *turn - 1
        };
        let answers = self.tape.0.get(&key);
        if let Some(answer) = answers.and_then(|answers| answers.get(turn).or_else(|| answers.last())) {
            return Ok(answer.clone());
        }
        let detail = format!(
            "incident `{}` asks `{}` of provider `{}` what was not recorded (request {key}): record it with --record",
            self.incident, request.model, self.name
        );
        self.missing.lock().push(detail.clone());
        Err(ModelError { provider: self.name.clone(), model: request.model.clone(), detail, ..at_its_end() })
    }
}

/// A model that says what an incident scripts.
struct Script {
    answers: Vec<Value>,
    given: Mutex<usize>,
}

#[async_trait]
impl Provider for Script {
    fn name(&self) -> &str {
        "script"
    }

    async fn complete(&self, request: &ModelRequest, _: &mut Sink<'_>) -> Result<ModelResponse, ModelError> {
        let turn = {
            let mut given = self.given.lock();
            *given += 1;
            *given - 1
        };
        let Some(answer) = self.answers.get(turn) else { return Err(at_its_end()) };
        let text = answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
        Ok(ModelResponse {
            parts: vec![Part::Text { text }],
            stop: StopReason::End,
            usage: Some(SCRIPTED_USAGE),
            provider: self.name().to_owned(),
            model: request.model.clone(),
            request_id: None,
        })
    }
}

fn at_its_end() -> ModelError {
    ModelError {
        class: ErrorClass::Unavailable,
        provider: "script".to_owned(),
        model: "script".to_owned(),
        request_id: None,
        status: None,
        detail: "the script is at its end".to_owned(),
        retry_after_ms: None,
        spent: Spent::Nothing,
        tries: 1,
    }
}
