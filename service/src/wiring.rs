//! Where the parts meet: store, engine, tools, agents. The only module that names concrete ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use agents::{AgentNode, Answers, Kit, Meaning, Memory, Mind, Notebook, Notifier};
use async_trait::async_trait;
use checkpoints::kv::DurableOptions;
use checkpoints::open::{self, Address, OpenOptions};
use graphs::{CompiledGraph, GraphDigest};
use models::{
    Correction, Embeddings, Limits, MaskRules, Masker, ModelsConfig, Ports, PriceTable, Provider, Setup, Tiers,
};
use runtime::ports::store::{Store, StoreError};
use runtime::{Context, Engine, NodeKind};
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::event::NodeOutput;
use runtime_core::ids::ThreadId;
use runtime_core::interlocks::guard::Policy;
use runtime_core::state::ThreadState;
use serde_json::{Value, json};
use tools::hub::{Artifacts, Consent, Hub, HubOptions, Sample, SampleAnswer, ServerConfig, TransportConfig};
use tools::lock::LockFile;
use tools::node::ToolNode;
use tools::pinned::PinnedHub;
use tools::policy::RulePolicy;
use tools::sampling::Sampler;
use tools::tasking;
use tools::toolbox::ToolBox;

use crate::allocator;
use crate::answers::Who;
use crate::call_as::{CALL_AS, CallAs};
use crate::config::{Config, Knowledge, address_text, io_text, read_bounded};
use crate::failure::Failure;
use crate::graph_files::{GraphSet, Known};
use crate::notices::{OnStandardError, Routed};
use crate::remembered::MemoryFiles;
use crate::spawn::{Nursery, SpawnNode};

/// Most files of a folder of prompts.
const PROMPTS_MAX: usize = 1_000;
/// Graphs that a stored graph may refer to.
const LINKS_MAX: usize = 1_000;

/// An open store with an engine over it.
pub(crate) struct Session {
    /// The engine.
    pub(crate) engine: Engine,
    /// The store it writes to.
    pub(crate) store: Arc<dyn Store>,
    /// The installation.
    pub(crate) config: Config,
    /// Its address, for messages.
    pub(crate) address: Address,
    hub: Hub,
    nursery: Arc<Nursery>,
}

/// Opens a store with the keys of the configuration.
pub(crate) fn store_at(address: &Address, config: &Config) -> Result<Arc<dyn Store>, Failure> {
    let store = open::open(address, &open_options(config)?);
    store.map_err(|error| match &error {
        StoreError::Held { .. } => error.into(),
        _ => Failure { message: format!("{}: {error}", address_text(address)), ..error.into() },
    })
}

/// How stores of this installation are opened.
pub(crate) fn open_options(config: &Config) -> Result<OpenOptions, Failure> {
    let keys = config.encryption.as_ref().map(|encryption| encryption.keys()).transpose()?;
    Ok(OpenOptions { keys: keys.map(Arc::new), durable: durable_options(), ..OpenOptions::default() })
}

/// How this program wants a store on disk.
pub(crate) fn durable_options() -> DurableOptions {
    DurableOptions { at_rest: Some(allocator::give_back), ..DurableOptions::default() }
}

impl Session {
    /// Opens the store and puts an engine over it. Tool servers are started when a tool is first called.
    pub(crate) fn open(config: Config, address: Address) -> Result<Self, Failure> {
        let store = store_at(&address, &config)?;
        let notifier: Arc<dyn Notifier> = match &config.notify {
            Some(channels) => Arc::new(Routed::open(channels, &store).map_err(Failure::usage)?),
            None => Arc::new(OnStandardError),
        };
        Ok(Self::over(store, config, address, notifier))
    }

    /// As [`Session::open`], with another way to reach people.
    pub(crate) fn with_notifier(
        config: Config,
        address: Address,
        notifier: Arc<dyn Notifier>,
    ) -> Result<Self, Failure> {
        let store = store_at(&address, &config)?;
        Ok(Self::over(store, config, address, notifier))
    }

    fn over(store: Arc<dyn Store>, config: Config, address: Address, notifier: Arc<dyn Notifier>) -> Self {
        let minds = Arc::new(Minds::of(&config).kept_in(&store, address_text(&address)));
        let (hub, pinned) = hub(&config);
        let tools: Arc<dyn ToolBox> = Arc::new(pinned.with_sampler(Arc::clone(&minds) as _));
        let nursery = Arc::new(Nursery::default());
        let engine = Engine::builder(Arc::clone(&store))
            .policy(policy(&config))
            .kind("tool", Arc::new(ToolNode::new(Arc::clone(&tools))))
            .on_abandon(tasking::on_abandon(Arc::clone(&tools)))
            .function(CALL_AS, Arc::new(CallAs(Arc::clone(&tools))))
            .kind("agent", Arc::new(Agents::new(tools, notifier, minds)))
            .kind("spawn", Arc::new(SpawnNode(Arc::clone(&nursery))))
            .build();
        nursery.open(engine.clone());
        Self { engine, store, config, address, hub, nursery }
    }

    /// Makes a graph and those it refers to known, and remembers which versions belong together.
    pub(crate) async fn add_graphs(&self, set: &GraphSet) -> Result<(), Failure> {
        for graph in set.others.values() {
            self.add_graph(Arc::clone(graph)).await?;
        }
        self.nursery.add(Arc::clone(&set.root));
        if set.others.is_empty() {
            return Ok(());
        }
        let links: BTreeMap<&str, &str> =
            set.others.iter().map(|(name, graph)| (name.as_str(), graph.digest().as_str())).collect();
        let document = links_document(set.root.digest());
        let known = self.store.document(&document).await?;
        let links = json!(links);
        if known.as_ref() != Some(&links) {
            self.store.swap_document(&document, known.as_ref(), &links).await?;
        }
        Ok(())
    }

    async fn add_graph(&self, graph: Arc<CompiledGraph>) -> Result<(), Failure> {
        self.nursery.add(Arc::clone(&graph));
        Ok(self.engine.add_graph(graph).await?)
    }

    /// A stored thread and its state, with the graphs it needs known to the engine.
    pub(crate) async fn thread(&self, text: &str) -> Result<(ThreadId, ThreadState), Failure> {
        let id = crate::ids::thread(&*self.store, text).await?;
        let state = self.engine.state(&id).await?.unwrap_or_default();
        if let Some(digest) = &state.digest {
            self.fetch_graphs(digest).await?;
        }
        Ok((id, state))
    }

    /// The graph version a thread is pinned to.
    pub(crate) async fn graph_of(&self, state: &ThreadState) -> Result<Arc<CompiledGraph>, Failure> {
        let digest = state.digest.as_ref().ok_or_else(|| Failure::failed("the thread has no graph yet"))?;
        self.stored_graph(digest).await
    }

    /// A graph from the store.
    pub(crate) async fn stored_graph(&self, digest: &GraphDigest) -> Result<Arc<CompiledGraph>, Failure> {
        let missing =
            || Failure::failed(format!("graph version {digest} is not in the store {}", address_text(&self.address)));
        let (name, source) = self.store.graph(digest).await?.ok_or_else(missing)?;
        let checked = graphs::check(&name, source.as_bytes(), &graphs::OpenCatalog);
        let (graph, _) = checked.map_err(|diagnostics| Failure::diagnostics(&diagnostics))?;
        Ok(Arc::new(graph))
    }

    /// Makes the graphs known that a stored one refers to, in the versions it was started with.
    pub(crate) async fn fetch_graphs(&self, digest: &GraphDigest) -> Result<(), Failure> {
        for graph in self.linked_graphs(digest).await? {
            self.add_graph(graph).await?;
        }
        Ok(())
    }

    /// The graphs that a stored one refers to, in the versions it was started with.
    pub(crate) async fn linked_graphs(&self, digest: &GraphDigest) -> Result<Vec<Arc<CompiledGraph>>, Failure> {
        let mut res = Vec::new();
        let Some(Value::Object(links)) = self.store.document(&links_document(digest)).await? else { return Ok(res) };
        for linked in links.values().take(LINKS_MAX) {
            let Ok(digest) = serde_json::from_value::<GraphDigest>(linked.clone()) else { continue };
            res.push(self.stored_graph(&digest).await?);
        }
        Ok(res)
    }

    /// Who acts.
    pub(crate) fn who(&self, named: Option<&str>) -> Who {
        Who::new(named, &self.config)
    }

    /// What graphs may mention here.
    pub(crate) fn known(&self) -> Known {
        Known::for_running(&self.config)
    }

    /// Lets the threads that were started here come to rest, unless somebody wants to leave; ends tool servers, waits until
    /// everything is durable, and lets go of the store.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        tokio::select! {
            rested = self.nursery.rest() => rested?,
            _ = tokio::signal::ctrl_c() => {}
        }
        self.nursery.close();
        self.engine.all_told().await;
        self.hub.close().await;
        self.engine.shutdown().await?;
        Ok(())
    }
}

fn links_document(digest: &GraphDigest) -> String {
    format!("graph-links:{digest}")
}

/// What decides on calls.
pub(crate) fn policy(config: &Config) -> Arc<dyn Policy> {
    Arc::new(config.policy.clone())
}

/// What decides on the scripted calls of a graph's tests.
pub(crate) fn test_policy(config: &Config) -> Arc<dyn Policy> {
    if config.policy.is_empty() { Arc::new(RulePolicy::for_tests()) } else { policy(config) }
}

/// The tool servers of an installation, bare and beside their lock.
pub(crate) fn hub(config: &Config) -> (Hub, PinnedHub) {
    let hub = Hub::with_options(config.servers.clone(), hub_options(config));
    let own = config.servers.iter().filter(|server| is_own(server)).map(|server| server.name.clone()).collect();
    let lock = Arc::new(LockFile::new(&config.lock));
    let pinned = PinnedHub::new(hub.clone(), lock, own, config.policy.unpinned());
    (hub, pinned)
}

/// The same servers for somebody who can agree to a login.
pub(crate) fn hub_with_consent(config: &Config, consent: Arc<dyn Consent>) -> Hub {
    Hub::with_options(config.servers.clone(), HubOptions { consent: Some(consent), ..hub_options(config) })
}

fn hub_options(config: &Config) -> HubOptions {
    let beside = |folder: &str| config.lock.with_file_name(".interlock").join(folder);
    HubOptions {
        tokens: Some(beside("tokens")),
        // Artifacts are plain files: where the store is encrypted, what does not fit is cut instead.
        artifacts: config.encryption.is_none().then(|| Artifacts::new(beside("artifacts"))),
        ..HubOptions::default()
    }
}

/// Whether a server is this very program, or the one of its name, serving one of the servers that ship with it.
fn is_own(server: &ServerConfig) -> bool {
    let TransportConfig::Stdio { command, args, .. } = &server.transport else { return false };
    let this = std::env::current_exe().ok().and_then(|path| path.canonicalize().ok());
    let named = Path::new(command).canonicalize().ok();
    let same = command == env!("CARGO_PKG_NAME") || (named.is_some() && named == this);
    same && args.first().is_some_and(|arg| arg == "mcp")
}

/// What agents know and whom they ask, as configured. Models are opened when the first of them is asked.
pub(crate) struct Minds {
    knowledge: Option<Knowledge>,
    memory: Option<MemoryFiles>,
    models: Option<ModelsConfig>,
    masking: MaskRules,
    prompts: Option<PathBuf>,
    /// Where facts are kept, and answers that are given again; and the name of that place.
    store: Option<(Arc<dyn Store>, String)>,
    mind: OnceLock<Result<Option<Mind>, String>>,
}

impl Minds {
    pub(crate) fn of(config: &Config) -> Self {
        let (knowledge, models, prompts) = (config.knowledge.clone(), config.models.clone(), config.prompts.clone());
        Self {
            knowledge,
            memory: config.memory.clone(),
            models,
            masking: config.masking.clone(),
            prompts,
            store: None,
            mind: OnceLock::new(),
        }
    }

    /// The same with a store for facts, and for answers that are given again as far as `models.cache` asks for that.
    pub(crate) fn kept_in(self, store: &Arc<dyn Store>, place: String) -> Self {
        Self { store: Some((Arc::clone(store), place)), ..self }
    }

    /// As configured, but without models and memory: tests of graphs cost nothing and always end the same.
    pub(crate) fn rules_only(config: &Config) -> Self {
        Self { models: None, prompts: None, memory: None, ..Self::of(config) }
    }

    /// What the agents know.
    pub(crate) fn kit(&self) -> Result<Kit, String> {
        match &self.knowledge {
            Some(files) => files.kit(),
            None => Kit::shipped().map_err(|error| error.to_string()),
        }
    }

    fn memory(&self) -> Result<Option<Memory>, String> {
        let Some(files) = &self.memory else { return Ok(None) };
        let meaning = meaning(files, self.models.as_ref(), &self.masking)?;
        files.memory(meaning).map(Some)
    }

    fn notebook(&self) -> Option<Notebook> {
        self.store.as_ref().map(|(store, _)| Notebook::new(Arc::clone(store)))
    }

    fn mind(&self) -> Result<Option<&Mind>, String> {
        self.mind.get_or_init(|| self.opened()).as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    fn opened(&self) -> Result<Option<Mind>, String> {
        let Some(config) = &self.models else { return Ok(None) };
        let tiers = tiers(config)?;
        let own = self.prompts.as_deref().map(own_prompts).transpose()?.unwrap_or_default();
        let mind = Mind::new(Arc::new(tiers), own, &self.masking)?;
        Ok(Some(mind.with_answers(self.answers(config)?)))
    }

    fn answers(&self, config: &ModelsConfig) -> Result<Option<Answers>, String> {
        let (Some(cache), Some((store, place))) = (&config.cache, &self.store) else { return Ok(None) };
        let bounds = cache.bounds().map_err(|problems| format!("models: cache: {}", problems.join("; ")))?;
        Ok(Some(Answers::new(Arc::clone(store), bounds, place.as_str())))
    }
}

#[async_trait]
impl Sampler for Minds {
    async fn sample(
        &self,
        ctx: &Context,
        role: Option<&str>,
        target: &str,
        sample: &Sample,
    ) -> Result<SampleAnswer, TaskError> {
        match self.mind() {
            Ok(Some(mind)) => mind.sample(ctx, role, target, sample).await,
            Ok(None) => {
                let text =
                    format!("`{target}` wants to use a model (`sampling`), and none is configured: add `models:`");
                Err(TaskError::new(ErrorClass::Denied, text))
            }
            Err(why) => Err(TaskError::invalid(why)),
        }
    }
}

/// The model that makes vectors for the memory, if one is named.
pub(crate) fn meaning(
    files: &MemoryFiles,
    models: Option<&ModelsConfig>,
    masking: &MaskRules,
) -> Result<Option<Meaning>, String> {
    let Some(entry) = &files.embeddings else { return Ok(None) };
    let wrong = |why: String| format!("memory: embeddings: {why}");
    let models = models.ok_or_else(|| wrong("its provider is one of `models:`, which is not configured".to_owned()))?;
    let masker = Masker::new(masking).map_err(|error| wrong(error.to_string()))?;
    let opened = Embeddings::open(models, entry, setup()?, Arc::new(masker)).map_err(wrong)?;
    Ok(Some(Meaning::new(opened)))
}

/// The models as configured, with their keys read and their prices known.
pub(crate) fn tiers(config: &ModelsConfig) -> Result<Tiers, String> {
    Tiers::open(config, setup()?).map_err(|problems| format!("models: {}", problems.join("; ")))
}

fn setup() -> Result<Setup<'static>, String> {
    Ok(Setup {
        prices: PriceTable::shipped().map_err(|why| format!("models: {why}"))?,
        correction: Correction::default(),
        ports: Ports::default(),
        key: &models::read_key,
    })
}

/// The providers of an installation, with their keys read, for whoever stands between them and the agents.
pub(crate) fn providers(config: &ModelsConfig) -> Result<BTreeMap<String, Arc<dyn Provider>>, String> {
    let opened = config.providers.iter().map(|(name, provider)| {
        let limits = Arc::new(Limits::new(provider.requests_per_minute, provider.tokens_per_minute));
        let key = provider.key_source().map(|source| models::read_key(&source)).transpose();
        let opened = key.and_then(|key| models::open(name, provider, key, limits, Ports::default()));
        opened.map(|opened| (name.clone(), opened)).map_err(|why| format!("models: providers.{name}: {why}"))
    });
    opened.collect()
}

/// The prompts of a folder, by name.
pub(crate) fn own_prompts(folder: &Path) -> Result<BTreeMap<String, String>, String> {
    let failed = |error: &std::io::Error| format!("prompts {}: {}", folder.display(), io_text(error));
    let mut prompts = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(|error| failed(&error))?.take(PROMPTS_MAX) {
        let path = entry.map_err(|error| failed(&error))?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let Some(name) = name.filter(|_| path.extension().is_some_and(|ending| ending == "j2")) else { continue };
        let text = read_bounded(&path, agents::PROMPT_BYTES_MAX as u64)
            .map_err(|why| format!("prompt {}: {why}", path.display()))?;
        prompts.insert(name.to_owned(), text);
    }
    Ok(prompts)
}

/// Agents that learn what they know when the first of them works: most commands need none.
pub(crate) struct Agents {
    tools: Arc<dyn ToolBox>,
    notifier: Arc<dyn Notifier>,
    minds: Arc<Minds>,
    node: OnceLock<Result<AgentNode, String>>,
}

impl Agents {
    /// Agents with these tools, this way to reach people, and what they know.
    pub(crate) fn new(tools: Arc<dyn ToolBox>, notifier: Arc<dyn Notifier>, minds: Arc<Minds>) -> Self {
        Self { tools, notifier, minds, node: OnceLock::new() }
    }

    fn node(&self) -> &Result<AgentNode, String> {
        self.node.get_or_init(|| {
            let (kit, mind, memory) = (self.minds.kit()?, self.minds.mind()?.cloned(), self.minds.memory()?);
            let node = AgentNode::new(Arc::clone(&self.tools), Arc::new(kit), Arc::clone(&self.notifier));
            Ok(node.with_mind(mind).with_memory(memory).with_notebook(self.minds.notebook()))
        })
    }
}

#[async_trait]
impl NodeKind for Agents {
    async fn run(&self, ctx: Context) -> Result<NodeOutput, TaskError> {
        match self.node() {
            Ok(node) => node.run(ctx).await,
            Err(why) => Err(TaskError::bug(why.clone())),
        }
    }
}
