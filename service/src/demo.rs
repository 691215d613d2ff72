//! The demonstration: an embedded warehouse is broken in six ways, one after the other; the agents find, explain and heal
//! each; an independent judge says what is true.
//!
//! Everything the agents touch is behind MCP over standard input and output, served by this same program. The operator
//! who breaks things is another session of that server, on a surface that agents never see.

mod plant;
mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use agents::Collected;
use checkpoints::open::Address;
use graphs::OpenCatalog;
use models::MaskRules;
use runtime::{Start, history};
use runtime_core::ids::ThreadId;
use runtime_core::record::{CallKind, RunOptions};
use serde_json::{Value, json};
use tools::lock::LOCK_FILE;
use tools::policy::RulePolicy;
use tools::servers::sandbox::{Fault, Injection};

use crate::answers::{Answers, Who};
use crate::cli::{App, Follow};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::graph_files::GraphSet;
use crate::snapshot;
use crate::wiring::Session;
use plant::{Plant, word};
use report::{Cost, Incident};

/// The graph of one round.
const ROUND: &str = include_str!("../../graphs/library/etl-reliability.yaml");
/// The graph of one incident.
const INCIDENT: &str = include_str!("../../graphs/library/etl-incident.yaml");
/// The group the policy asks.
const ON_CALL: &str = "data-oncall";

/// What to show, and who answers.
pub(crate) struct Demonstration {
    /// Home of the warehouse.
    pub(crate) folder: PathBuf,
    /// Home of the threads.
    pub(crate) address: Address,
    /// The faults, in order.
    pub(crate) faults: Vec<Fault>,
    /// Answers without a person.
    pub(crate) answers: Answers,
    /// The person on call.
    pub(crate) who: Who,
}

/// Shows it all and tells how it came out.
pub(crate) async fn run(app: &App, demonstration: Demonstration) -> Result<Exit, Failure> {
    let Demonstration { folder, address, faults, answers, who } = demonstration;
    let plant = Plant::open(&folder)?;
    let who = who.also_in(ON_CALL);
    let config = Config {
        store: address.clone(),
        encryption: None,
        servers: vec![plant.server()],
        groups: BTreeMap::from([(ON_CALL.to_owned(), vec![who.user().to_owned()])]),
        policy: RulePolicy::etl_demo().map_err(|error| Failure::failed(error.to_string()))?,
        environments: Vec::new(),
        lock: folder.join(LOCK_FILE),
        graphs: Vec::new(),
        knowledge: None,
        memory: None,
        models: None,
        masking: MaskRules::default(),
        prompts: None,
        notify: None,
        user: Some(who.user().to_owned()),
        warnings: Vec::new(),
    };
    let session = Session::with_notifier(config, address, Arc::new(Collected::default()))?;
    let shown = show(app, &session, &plant, (faults, answers, who)).await;
    plant.close().await;
    let closed = session.close().await;
    let incidents = shown?;
    closed?;
    report::print(app, &incidents);
    let is_right = incidents.iter().all(|incident| incident.problems().is_empty());
    Ok(if is_right { Exit::Done } else { Exit::Failed })
}

async fn show(
    app: &App,
    session: &Session,
    plant: &Plant,
    (faults, mut answers, who): (Vec<Fault>, Answers, Who),
) -> Result<Vec<Incident>, Failure> {
    let set = library()?;
    session.add_graphs(&set).await?;
    app.out.note("building the warehouse: the flights that left New York in January 2013");
    let (day, flights) = plant.one_good_day().await?;
    app.out.note(&format!("flights_daily ran for {day}: success, {flights} flights published\n"));
    let mut known: Vec<Value> = Vec::new();
    let mut incidents = Vec::new();
    for (ix, fault) in faults.iter().enumerate() {
        let injection = plant.inject(*fault).await?;
        app.out.note(&announced((ix + 1, faults.len()), &injection));
        let thread = thread_id(*fault, &injection)?;
        let mut follow = Follow::narrated(app, session, thread.clone(), answers, who.clone());
        let start = Start {
            graph: Arc::clone(&set.root),
            thread: thread.clone(),
            input: json!({ "known": known }),
            options: RunOptions::default(),
            metadata: json!({"fault": word(fault), "requested_by": "scheduler"}),
        };
        let streamed = session.engine.stream(start, follow.modes()).await?;
        follow.pump(streamed).await?;
        let took = follow.worked();
        answers = follow.into_answers();
        let state = session.engine.state(&thread).await?.unwrap_or_default();
        let values = snapshot::values(&state);
        known.extend(values["known"].as_array().into_iter().flatten().cloned());
        known.dedup();
        let incident = Incident {
            cost: cost(session, &thread).await?,
            thread,
            truth: plant.ground_truth(*fault).await?,
            verdict: plant.verdict(*fault).await?,
            outcome: outcome_of(&values, &injection.business_date),
            notices: values["notices"].as_array().cloned().unwrap_or_default(),
            deciders: state.decided.iter().map(|(_, by, _)| by.clone()).collect(),
            ended: state.run.as_ref().and_then(|run| run.outcome.clone()),
            took,
        };
        app.out.note(&format!("      {}\n", incident.line()));
        incidents.push(incident);
    }
    Ok(incidents)
}

fn announced((ix, n): (usize, usize), injection: &Injection) -> String {
    let error = injection.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    format!(
        "[{ix}/{n}] {}  {}  run {} is {}{error}",
        word(&injection.fault),
        injection.business_date,
        injection.run_id,
        injection.run_state
    )
}

fn thread_id(fault: Fault, injection: &Injection) -> Result<ThreadId, Failure> {
    let text = format!("{}-{}", word(&fault).replace('_', "-"), injection.business_date);
    ThreadId::new(&text).map_err(|error| Failure::failed(error.to_string()))
}

/// The line of the round's report about this day.
fn outcome_of(values: &Value, date: &str) -> Value {
    let outcomes = values["outcomes"].as_array();
    let about = |outcome: &&Value| outcome["business_date"] == date;
    outcomes.into_iter().flatten().find(about).cloned().unwrap_or_default()
}

/// Calls that a thread made, from its journal.
async fn cost(session: &Session, thread: &ThreadId) -> Result<Cost, Failure> {
    let mut cost = Cost::default();
    for checkpoint in history::checkpoints(&*session.store, thread).await? {
        for call in checkpoint.tasks.iter().flat_map(|task| task.calls.values()) {
            match call.head.kind {
                CallKind::Model => cost.n_model += 1,
                CallKind::Tool => cost.n_tool += 1,
                _ => {}
            }
        }
    }
    Ok(cost)
}

/// The graphs that ship.
pub(crate) fn library() -> Result<GraphSet, Failure> {
    let compile = |name: &str, text: &str| {
        let checked = graphs::check(&format!("graphs/library/{name}.yaml"), text.as_bytes(), &OpenCatalog);
        checked.map_err(|diagnostics| Failure::diagnostics(&diagnostics))
    };
    let (root, warnings) = compile("etl-reliability", ROUND)?;
    let (incident, _) = compile("etl-incident", INCIDENT)?;
    let others = BTreeMap::from([(incident.name().to_owned(), Arc::new(incident))]);
    Ok(GraphSet { root: Arc::new(root), others, warnings })
}
