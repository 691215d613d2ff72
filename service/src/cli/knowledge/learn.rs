//! `interlock knowledge learn`: what a thread has healed becomes a past incident that others are compared with.
//!
//! Only what the runtime itself has checked is learnt: a remedy that was carried out and verified, or one that was carried
//! out and did not help. Nothing is recommended from an entry before somebody stands for it.

use std::path::PathBuf;

use agents::subject;
use clap::Args;
use jiff::civil::Date;
use memory::{Episode, Episodes, Outcome, Review};
use models::{Masker, fingerprint};
use runtime_core::ids::ThreadId;
use runtime_core::interlocks::redact;
use serde_json::json;

use crate::cli::App;
use crate::failure::{Exit, Failure};
use crate::past::{self, Past};
use crate::remembered::today;

/// Digits of an episode's id.
const ID_DIGITS: usize = 12;
/// Most pieces of evidence of an episode.
const EVIDENCE_MAX: usize = 8;
/// Longest text of an episode in characters.
const TEXT_CHARS_MAX: usize = 1_000;
/// Nodes of `etl-incident` that carry a remedy out in production; one that fails there has not helped.
const CARRIED_OUT: [&str; 2] = ["run", "run_again"];

/// Remember how a thread healed an incident
///
/// Shows the entry; `--yes` writes it. A thread that has not ended, or whose outcome nothing has verified, is refused. An entry
/// recommends its remedy only after a review: name yourself with `--reviewed-by` once you have read it.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock knowledge learn null-burst-2013-01-24\n  interlock knowledge learn null-burst-2013-01-24 --yes --reviewed-by ann"
)]
pub(super) struct Learn {
    /// The thread, or the end of its id
    thread: String,
    /// The file of episodes [default: `memory.episodes` of the configuration]
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
    /// Who has read the entry and stands for it
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reviewed_by: Option<String>,
    /// Write it
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: &Learn, app: &App) -> Result<Exit, Failure> {
    let config = app.config()?;
    let configured = || config.memory.as_ref().and_then(|memory| memory.episodes.clone());
    let file = args.into.clone().or_else(configured).ok_or_else(|| {
        Failure::usage("it is not said where episodes are kept")
            .help("add --into FILE, or `memory: { episodes: FILE }` to interlock.yaml")
    })?;
    let masker = Masker::new(&config.masking).map_err(|error| Failure::failed(format!("masking: {error}")))?;
    let session = app.session()?;
    let (thread, state) = session.thread(&args.thread).await?;
    let past = past::incidents(&*session.store, &thread, &state).await;
    session.close().await?;
    let at = state.run.as_ref().map(|run| run.accepted_at.to_string()).unwrap_or_default();
    let at: Date = at.get(..10).and_then(|day| day.parse().ok()).unwrap_or_else(today);
    let review = args.reviewed_by.as_ref().map(|by| Review { by: by.trim().to_owned(), at: today() });
    let (mut learnt, mut refused) = (Vec::new(), Vec::new());
    for past in past? {
        let id = past.incident.id.clone();
        match episode(&past, (&thread, at), &masker) {
            Ok(episode) => learnt.push(episode),
            Err(why) => refused.push(format!("{id}: {why}")),
        }
    }
    if learnt.is_empty() {
        return Err(Failure::failed(format!("there is nothing to learn from `{thread}`: {}", refused.join("; ")))
            .help("only a remedy that was carried out and checked is learnt; write other entries by hand"));
    }
    refused.iter().for_each(|why| app.out.note(&format!("not learnt: {why}")));
    for episode in &mut learnt {
        episode.reviewed = review.clone().or_else(|| known_review(&file, episode));
    }
    keep(args, app, &file, &learnt)
}

/// Shows the entries and, if asked to, writes them.
fn keep(args: &Learn, app: &App, file: &std::path::Path, learnt: &[Episode]) -> Result<Exit, Failure> {
    let mut n_changed = 0;
    for episode in learnt.iter().filter(|_| args.yes) {
        n_changed += usize::from(Episodes::learn(file, episode).map_err(Failure::failed)?);
    }
    if app.out.json() {
        app.out.json_line(&json!({"episodes": learnt, "file": file, "written": args.yes, "changed": n_changed}));
        return Ok(Exit::Done);
    }
    learnt.iter().for_each(|episode| app.out.value(&json!(episode)));
    let shown = file.display();
    app.out.note(&match (args.yes, n_changed) {
        (false, _) => format!("nothing is written: add --yes to keep it in {shown}"),
        (true, 0) => format!("{shown} has it already"),
        (true, _) => format!("kept in {shown}"),
    });
    if learnt.iter().any(|episode| episode.reviewed.is_none()) {
        app.out.note("nobody stands for it yet, so it recommends nothing: read it, and add --reviewed-by NAME");
    }
    Ok(Exit::Done)
}

/// The review of the same entry, as it stands in the file. Another text is another entry, which nobody has reviewed.
fn known_review(file: &std::path::Path, episode: &Episode) -> Option<Review> {
    let text = crate::config::read_bounded(file, memory::EPISODES_BYTES_MAX).ok()?;
    let known = Episodes::parse(&text).get(&episode.id).cloned()?;
    let same = Episode { reviewed: None, ..known.clone() } == Episode { reviewed: None, ..episode.clone() };
    known.reviewed.filter(|_| same)
}

/// The entry about an incident.
fn episode(past: &Past, (thread, at): (&ThreadId, Date), masker: &Masker) -> Result<Episode, String> {
    let outcome = verified(past)?;
    let diagnosis = past.diagnosis.as_ref().ok_or("it has no diagnosis")?;
    let incident = &past.incident;
    // What is kept in a file of the installation has neither secrets nor personal data.
    let clean = |text: &str| {
        let text = masker.redact(&redact::whole_text(text));
        text.chars().take(TEXT_CHARS_MAX).collect::<String>()
    };
    let digest = fingerprint(&[thread.as_str(), &incident.fingerprint]);
    Ok(Episode {
        id: format!("ep-{}", digest.chars().take(ID_DIGITS).collect::<String>()),
        at,
        pipeline: incident.pipeline.clone(),
        fingerprint: Some(incident.fingerprint.clone()),
        kind: Some(incident.kind.word().to_owned()),
        signature: clean(&subject(incident)),
        class: diagnosis.class.word().to_owned(),
        cause_id: diagnosis.cause_id.clone(),
        cause: clean(&diagnosis.cause),
        remedy: past.values["plan"]["remedy"].as_str().map(str::to_owned),
        resolution: clean(past.values["plan"]["rationale"].as_str().unwrap_or_default()),
        outcome,
        evidence: diagnosis.evidence.iter().take(EVIDENCE_MAX).map(|evidence| clean(&evidence.claim)).collect(),
        thread: Some(thread.to_string()),
        runbook: diagnosis.runbooks.first().map(|cited| cited.cites.clone()),
        minutes_to_resolve: None,
        reviewed: None,
    })
}

/// How it ended, if the runtime has checked that.
fn verified(past: &Past) -> Result<Outcome, String> {
    let outcome = &past.values["outcome"];
    if past.values["plan"]["remedy"].as_str().is_none() {
        return Err(format!("it ended as `{}` and no declared remedy was chosen", past.status()));
    }
    match (outcome["status"].as_str(), outcome["verified"].as_bool()) {
        (Some("healed"), Some(true)) => Ok(Outcome::Healed),
        (Some("healed"), _) => Err("it ended as `healed`, and nothing has verified that".to_owned()),
        _ if past.values["trouble"]["node"].as_str().is_some_and(|node| CARRIED_OUT.contains(&node)) => {
            Ok(Outcome::NotHealed)
        }
        _ => Err(format!("it ended as `{}`, which nothing has verified", past.status())),
    }
}
