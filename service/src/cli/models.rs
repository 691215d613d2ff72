//! `interlock models`: which models agents may ask, what they cost, and whether they answer.

use clap::{Args, Subcommand};
use models::{Delta, ModelRequest};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::App;
use crate::failure::{Exit, Failure};
use crate::wiring;

/// Millionths of a dollar in a dollar.
const MICROS: f64 = 1e6;

/// Show the models of the installation and try one
#[derive(Debug, Args)]
pub(crate) struct Models {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    List(List),
    Ask(Ask),
}

/// List the models of each tier with their prices
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock models list\n  interlock models list --json")]
struct List {}

/// Ask the models of a tier one question, to see that key, address and price are right
///
/// It is a call of yours and of no agent: no journal, no budget. What it cost is printed.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock models ask small 'Say hello.'")]
struct Ask {
    /// The tier
    tier: String,
    /// The question
    text: String,
    /// Most tokens of the answer
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=32_768))]
    max_tokens: u64,
}

pub(crate) async fn run(args: Models, app: &App) -> Result<Exit, Failure> {
    match args.what {
        What::List(_) => list(app),
        What::Ask(args) => ask(&args, app).await,
    }
}

fn tiers(app: &App) -> Result<models::Tiers, Failure> {
    let config = app.config()?;
    let none = || {
        Failure::failed("no model is configured: agents work by their rules").help("add `models:` to interlock.yaml")
    };
    wiring::tiers(config.models.as_ref().ok_or_else(none)?).map_err(Failure::failed)
}

fn list(app: &App) -> Result<Exit, Failure> {
    let tiers = tiers(app)?;
    let price = |micros: u64| micros as f64 / MICROS;
    if app.out.json() {
        let shown = tiers.models().map(|(tier, provider, model, card)| {
            json!({
                "tier": tier, "provider": provider, "model": model, "context": card.context, "max_output": card.max_output,
                "usd_per_million": {"input": price(card.rates.input), "output": price(card.rates.output)},
                "price": {"source": card.source, "date": card.date},
            })
        });
        app.out.json_line(&shown.collect::<Value>());
        return Ok(Exit::Done);
    }
    let rows = tiers.models().map(|(tier, provider, model, card)| {
        vec![
            tier.to_owned(),
            format!("{provider}/{model}"),
            format!("{}", price(card.rates.input)),
            format!("{}", price(card.rates.output)),
            card.context.to_string(),
            card.date.clone(),
        ]
    });
    let header = ["tier", "model", "$ in / million", "$ out / million", "context", "price of"];
    app.out.table(&header, rows.collect());
    Ok(Exit::Done)
}

async fn ask(args: &Ask, app: &App) -> Result<Exit, Failure> {
    let tiers = tiers(app)?;
    let request = ModelRequest { stream: true, ..ModelRequest::of_text(args.text.as_str(), args.max_tokens) };
    // An answer is bounded, and so is what waits to be shown.
    let (show, mut shown) = mpsc::unbounded_channel();
    let mut tell = move |delta: Delta| {
        if let Delta::Text(text) = delta {
            // Nobody looks any more once the call has ended.
            let _ended = show.send(text);
        }
    };
    let print = |text: String| {
        if !app.out.json() {
            app.out.text(&text);
            app.out.flush();
        }
    };
    let mut call = std::pin::pin!(tiers.complete(&args.tier, &request, &mut tell));
    let done = loop {
        tokio::select! {
            biased;
            Some(text) = shown.recv() => print(text),
            done = &mut call => break done,
        }
    };
    while let Ok(text) = shown.try_recv() {
        print(text);
    }
    let done = done.map_err(|error| Failure::failed(error.to_string()))?;
    let (response, usd) = (&done.response, done.spent.usd_micros as f64 / MICROS);
    if app.out.json() {
        let before: Vec<String> = done.attempts.iter().map(|attempt| attempt.error.to_string()).collect();
        app.out.json_line(&json!({
            "text": response.text(), "provider": response.provider, "model": response.model, "usage": response.usage,
            "usd": usd, "failed_before": before,
        }));
        return Ok(Exit::Done);
    }
    app.out.line("");
    for attempt in &done.attempts {
        app.out.note(&format!("before: {}", attempt.error));
    }
    app.out.note(&format!("{}/{}, {} tokens, ${usd:.6}", response.provider, response.model, done.spent.tokens));
    Ok(Exit::Done)
}
