//! `interlock notify`: whether the channels reach people, what a notice looks like, and what waits.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use notify::{InMemory, Notice, NotifyConfig, Phase, Router, SendError, Urgency, preview, sample};
use serde_json::{Value, json};

use super::App;
use crate::config::read_bounded;
use crate::failure::{Exit, Failure};
use crate::notices::{InStore, router};

/// Largest notice given in a file, in bytes.
const NOTICE_BYTES_MAX: u64 = 1 << 20;
/// Name of the incident of a notice that is only looked at.
const SAMPLE: &str = "inc-0123456789ab";

/// Try the channels that tell people, look at notices, send what waits
#[derive(Debug, Args)]
pub(crate) struct Notify {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Test(Test),
    Preview(Preview),
    Flush(Flush),
}

/// Send a test notice through a channel, or through each, and print the receipt
///
/// An incident is opened and closed again, so that the whole way is tried: PagerDuty and Opsgenie do alert whoever is on call.
/// Routes, quiet hours and limits do not apply. Exit code 1 if a channel failed.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock notify test --channel team\n  interlock notify test --json")]
struct Test {
    /// Only this channel
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
}

/// Show a notice as a channel would send it, without sending it
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock notify preview --as slack > card.json   # paste into Slack's Block Kit Builder\n  interlock notify preview --as rca --phase resolved\n  interlock notify preview --notice notice.json --as text"
)]
struct Preview {
    /// The form
    #[arg(long = "as", value_enum, default_value_t = Form::Slack)]
    form: Form,
    /// A notice as JSON, as a thread's state has it in `notices`; a sample when none is given
    #[arg(long, value_name = "FILE")]
    notice: Option<PathBuf>,
    /// Where the incident of the sample stands
    #[arg(long, value_enum, default_value_t = Stand::Open)]
    phase: Stand,
    /// The time it is shown for, instead of now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

/// Send what is due: summaries held over quiet hours, notices folded by a limit
///
/// Every notice that is sent does this as well; run it from cron where nothing else may be said for hours.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock notify flush")]
struct Flush {}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    Text,
    Rca,
    Slack,
    SlackWebhook,
    Pagerduty,
    Opsgenie,
    Webhook,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Stand {
    Open,
    Acknowledged,
    Resolved,
    Held,
}

pub(crate) async fn run(args: Notify, app: &App) -> Result<Exit, Failure> {
    match args.what {
        What::Test(args) => test(&args, app).await,
        What::Preview(args) => show(&args, app),
        What::Flush(_) => flush(app).await,
    }
}

fn channels(app: &App) -> Result<NotifyConfig, Failure> {
    let none =
        || Failure::failed("no channel is configured: notices are printed").help("add `notify:` to interlock.yaml");
    app.config()?.notify.ok_or_else(none)
}

async fn test(args: &Test, app: &App) -> Result<Exit, Failure> {
    // The store may be at work elsewhere, and a test leaves nothing behind.
    let router = router(&channels(app)?, Arc::new(InMemory::default())).map_err(Failure::usage)?;
    let known: Vec<(String, &str)> = router.channels().map(|(name, service)| (name.to_owned(), service)).collect();
    let wanted = |name: &str| args.channel.as_deref().is_none_or(|wanted| wanted == name);
    if !known.iter().any(|(name, _)| wanted(name)) {
        let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
        let text = format!("there is no channel `{}`", args.channel.as_deref().unwrap_or_default());
        return Err(Failure::usage(text).help(format!("there are: {}", names.join(", "))));
    }
    let mut exit = Exit::Done;
    for (name, service) in known.iter().filter(|(name, _)| wanted(name)) {
        let tried = router.try_channel(name, Timestamp::now()).await;
        if tried.is_err() {
            exit = Exit::Failed;
        }
        say_tried(app, (name.as_str(), *service), tried);
    }
    Ok(exit)
}

fn say_tried(app: &App, (name, service): (&str, &str), tried: Result<Vec<Value>, SendError>) {
    match (tried, app.out.json()) {
        (Ok(receipts), true) => {
            app.out.json_line(&json!({ "channel": name, "service": service, "ok": true, "receipts": receipts }));
        }
        (Err(error), true) => {
            app.out.json_line(&json!({ "channel": name, "service": service, "ok": false, "error": error.to_string() }));
        }
        (Ok(receipts), false) => {
            for receipt in receipts {
                let status = receipt["status"].as_str().unwrap_or("?");
                let note = ["note", "why"].iter().find_map(|field| receipt[field].as_str()).unwrap_or_default();
                app.out.line(format!("{name} ({service}): {status}  {note}").trim_end());
            }
        }
        (Err(error), false) => app.out.line(&format!("{name} ({service}): failed  {error}")),
    }
}

fn show(args: &Preview, app: &App) -> Result<Exit, Failure> {
    let notice = match &args.notice {
        Some(path) => {
            let bad = |why: String| Failure::usage(format!("notice {}: {why}", path.display()));
            let text = read_bounded(path, NOTICE_BYTES_MAX).map_err(bad)?;
            serde_json::from_str::<Notice>(&text).map_err(|error| bad(format!("is no notice: {error}")))?
        }
        None => match args.phase {
            Stand::Open => sample(Urgency::Page, Phase::Open, SAMPLE),
            Stand::Acknowledged => sample(Urgency::Summary, Phase::Acknowledged, SAMPLE),
            Stand::Resolved => sample(Urgency::Summary, Phase::Resolved, SAMPLE),
            Stand::Held => sample(Urgency::Summary, Phase::Held, SAMPLE),
        },
    };
    let form = match args.form {
        Form::Text => "text",
        Form::Rca => "rca",
        Form::Slack => "slack",
        Form::SlackWebhook => "slack_webhook",
        Form::Pagerduty => "pagerduty",
        Form::Opsgenie => "opsgenie",
        Form::Webhook => "webhook",
    };
    let shown = preview(form, &notice, args.at.unwrap_or_else(Timestamp::now)).unwrap_or_default();
    match shown.as_str().filter(|_| !app.out.json()) {
        Some(text) => app.out.text(text),
        None if app.out.json() => app.out.json_line(&shown),
        None => app.out.line(&serde_json::to_string_pretty(&shown).unwrap_or_default()),
    }
    Ok(Exit::Done)
}

async fn flush(app: &App) -> Result<Exit, Failure> {
    let config = channels(app)?;
    let (store, _) = app.existing_store()?;
    let router: Router = router(&config, Arc::new(InStore(store))).map_err(Failure::usage)?;
    let mut exit = Exit::Done;
    for sent in router.flush(Timestamp::now()).await {
        match sent {
            Ok(receipt) => app.out.json_line(&receipt),
            Err(error) => {
                exit = Exit::Failed;
                app.out.note(&format!("{error}; it waits on"));
            }
        }
    }
    let next = router.next_due().await.map_err(|error| Failure::failed(error.to_string()))?;
    match next {
        Some(next) => app.out.note(&format!("the next notice is due at {next}")),
        None => app.out.note("nothing waits"),
    }
    Ok(exit)
}
