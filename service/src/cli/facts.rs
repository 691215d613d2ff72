//! `interlock facts`: what is worth knowing for a while, for the agents and for whoever is paged.

use std::sync::Arc;
use std::time::Duration;

use agents::{Notebook, NotebookError, Placed, check_fact, cites_fact};
use clap::{Args, Subcommand};
use jiff::{Span, SpanRelativeTo};
use memory::{Fact, Namespace};
use runtime::Start;
use runtime_core::digest_of;
use runtime_core::ids::ThreadId;
use runtime_core::interlocks::plain;
use runtime_core::record::RunOptions;
use serde_json::{Value, json};

use super::App;
use crate::failure::{Exit, Failure};
use crate::wiring::Session;

/// Longest value in a table.
const VALUE_CHARS_MAX: usize = 80;
/// Longest time to live: ten years.
const TTL_SECONDS_MAX: u64 = 10 * 366 * 24 * 60 * 60;
/// The thread whose chain has the first change of a store without any other.
const THREAD: &str = "facts";
/// Its graph.
const GRAPH: &str = "graph: facts\ndescription: Holds the audit records of facts that were noted before any thread ran.\nnodes: { begun: { emit: begun, then: end } }\nstart: begun\n";

/// Note what is worth knowing about pipelines, tables and the team; agents and whoever is paged are shown it
///
/// A diagnosis is shown beside the facts of `pipelines.<pipeline>`, of `tables.<table>` for the tables it is about, and of
/// `team`. They change no confidence, no decision of policy and no remedy. Every change is in the audit log.
#[derive(Debug, Args)]
pub(crate) struct Facts {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    List(List),
    Set(Set),
    Delete(Delete),
}

/// List the facts of a namespace and those inside it, or all
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock facts list\n  interlock facts list pipelines.sales_etl --json")]
struct List {
    /// Labels with dots between them
    #[arg(value_parser = namespace)]
    namespace: Option<Namespace>,
}

/// Note a fact, in place of the one that was there
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock facts set pipelines.sales_etl owner 'shop team, #shop-data'\n  interlock facts set pipelines.sales_etl freeze true --ttl 7d --by ana"
)]
struct Set {
    /// Labels with dots between them: `pipelines.<pipeline>`, `tables.<table>` and `team` are shown to agents
    #[arg(value_parser = namespace)]
    namespace: Namespace,
    /// What it is called there; without dots
    key: String,
    /// JSON, else a text
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// How long it is worth knowing, such as 12h or 7d [default: until it is deleted]
    #[arg(long, value_name = "TIME", value_parser = ttl)]
    ttl: Option<Duration>,
    /// Who notes it, for its readers and the audit log [default: the user of this machine]
    #[arg(long, value_name = "USER")]
    by: Option<String>,
}

/// Forget a fact
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock facts delete pipelines.sales_etl freeze --by ana")]
struct Delete {
    /// Labels with dots between them
    #[arg(value_parser = namespace)]
    namespace: Namespace,
    /// What it is called there
    key: String,
    /// Who deletes it, for the audit log [default: the user of this machine]
    #[arg(long, value_name = "USER")]
    by: Option<String>,
}

fn namespace(text: &str) -> Result<Namespace, String> {
    text.parse().map_err(|error: memory::FactError| error.to_string())
}

fn ttl(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no length of time: write 30m, 12h or 7d, at most ten years");
    let span: Span = text.parse().map_err(|_| wrong())?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    let length = Duration::try_from(length).map_err(|_| wrong())?;
    if (1..=TTL_SECONDS_MAX).contains(&length.as_secs()) { Ok(length) } else { Err(wrong()) }
}

pub(crate) async fn run(args: Facts, app: &App) -> Result<Exit, Failure> {
    match args.what {
        What::List(args) => list(&args, app).await,
        What::Set(args) => set(&args, app).await,
        What::Delete(args) => delete(&args, app).await,
    }
}

async fn list(args: &List, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let found = Notebook::new(Arc::clone(&session.store)).list(args.namespace.as_ref()).await?;
    if app.out.json() {
        app.out.json_line(&found.iter().map(shown).collect());
    } else if found.is_empty() {
        app.out.note("no fact is known here: `interlock facts set` notes one");
    } else {
        let cells = found.iter().map(|(namespace, key, fact)| {
            vec![
                plain::escaped(&format!("{namespace}.{key}")),
                short(&fact.value),
                plain::escaped(&fact.by),
                day(fact.at),
                fact.expires.map_or_else(|| "-".to_owned(), day),
            ]
        });
        app.out.table(&["fact", "value", "noted by", "on", "until"], cells.collect());
    }
    session.close().await?;
    Ok(Exit::Done)
}

fn shown((namespace, key, fact): &Placed) -> Value {
    json!({
        "namespace": namespace, "key": key, "value": fact.value, "by": fact.by, "at": fact.at, "expires": fact.expires,
    })
}

fn short(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let cut: String = text.chars().take(VALUE_CHARS_MAX).collect();
    plain::escaped(&if cut.len() < text.len() { format!("{cut}…") } else { cut })
}

fn day(at: jiff::Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

async fn set(args: &Set, app: &App) -> Result<Exit, Failure> {
    let value: Value = serde_json::from_str(&args.value).unwrap_or_else(|_| args.value.clone().into());
    let config = app.config()?;
    let by = crate::answers::Who::new(args.by.as_deref(), &config).user().to_owned();
    // What is refused as it stands makes no store.
    check_fact(&args.namespace, (&args.key, &value), &by)?;
    let session = app.new_session()?;
    let notebook = Notebook::new(Arc::clone(&session.store));
    let before = notebook.get(&args.namespace, &args.key).await?;
    let digests = (before.as_ref(), Some(&value));
    audited(&session, (&by, "fact.set"), (&args.namespace, &args.key), digests).await?;
    let (_, fact) = notebook.set((&args.namespace, &args.key), &value, (&by, args.ttl)).await?;
    if app.out.json() {
        app.out.json_line(&shown(&(args.namespace.clone(), args.key.clone(), fact)));
    } else {
        let until = fact.expires.map(|expires| format!(" until {}", day(expires))).unwrap_or_default();
        let (place, value) = (plain::escaped(&format!("{}.{}", args.namespace, args.key)), short(&fact.value));
        app.out.line(&format!("noted {place} = {value}{until}"));
    }
    session.close().await?;
    Ok(Exit::Done)
}

async fn delete(args: &Delete, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let by = session.who(args.by.as_deref()).user().to_owned();
    let notebook = Notebook::new(Arc::clone(&session.store));
    let place = format!("{}.{}", args.namespace, args.key);
    let Some(before) = notebook.get(&args.namespace, &args.key).await? else {
        return Err(Failure::failed(format!("there is no fact `{place}`"))
            .help("`interlock facts list` shows those that are known"));
    };
    audited(&session, (&by, "fact.deleted"), (&args.namespace, &args.key), (Some(&before), None)).await?;
    notebook.delete(&args.namespace, &args.key).await?;
    if app.out.json() {
        app.out.json_line(&shown(&(args.namespace.clone(), args.key.clone(), before)));
    } else {
        app.out.line(&plain::escaped(&format!("forgot {place}")));
    }
    session.close().await?;
    Ok(Exit::Done)
}

/// Puts a change into the audit chain before it is made: who, which fact, and what was and will be there by its digest. A
/// store without a thread gets one for that.
async fn audited(
    session: &Session,
    (by, action): (&str, &str),
    (namespace, key): (&Namespace, &str),
    (before, after): (Option<&Fact>, Option<&Value>),
) -> Result<(), Failure> {
    let detail = json!({
        "fact": cites_fact(namespace, key),
        "before": before.map(|fact| digest_of(&fact.value)),
        "after": after.map(digest_of),
    });
    let actor = format!("user:{by}");
    if session.engine.note(&actor, action, detail.clone()).await? {
        return Ok(());
    }
    begin(session).await?;
    match session.engine.note(&actor, action, detail).await? {
        true => Ok(()),
        false => Err(Failure::failed("the change cannot be put into the audit log, so it is not made")),
    }
}

async fn begin(session: &Session) -> Result<(), Failure> {
    let checked = graphs::check("facts.yaml", GRAPH.as_bytes(), &graphs::OpenCatalog);
    let (graph, _) = checked.map_err(|diagnostics| Failure::diagnostics(&diagnostics))?;
    let start = Start {
        graph: Arc::new(graph),
        thread: ThreadId::new(THREAD).map_err(|error| Failure::failed(error.to_string()))?,
        input: json!({}),
        options: RunOptions::default(),
        metadata: Value::Null,
    };
    session.engine.start(start).await?.ended().await?;
    Ok(())
}

impl From<NotebookError> for Failure {
    fn from(error: NotebookError) -> Self {
        match error {
            NotebookError::Store(error) => error.into(),
            NotebookError::Damaged { .. } => {
                Self::failed(error.to_string()).help("`interlock fsck` lists everything that is wrong with the store")
            }
            NotebookError::Contended(_) => Self::failed(error.to_string()),
            NotebookError::Fact(memory::FactError::Full) => {
                Self::failed(error.to_string()).help("`interlock facts list` shows what is kept")
            }
            NotebookError::Fact(_) | NotebookError::Secret(_) => Self::usage(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_have_a_unit_and_a_bound() {
        let seconds = |text: &str| ttl(text).ok().map(|ttl| ttl.as_secs());
        assert_eq!(
            [seconds("90s"), seconds("12h"), seconds("7d"), seconds("2w")],
            [Some(90), Some(43_200), Some(604_800), Some(1_209_600)]
        );
        for wrong in ["", "7", "-1d", "0s", "1ms", "soon", "1 month", "11y", "600w 1s", "99999999999d"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
