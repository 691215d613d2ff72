//! `interlock prompts`: what models are told, and where this installation says it differently.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use similar::TextDiff;

use super::App;
use crate::failure::{Exit, Failure};
use crate::wiring;

/// Lines around a difference.
const CONTEXT_LINES: usize = 3;

/// Show the prompts of the installation beside those that ship
#[derive(Debug, Args)]
pub(crate) struct Prompts {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    List(List),
    Show(Show),
    Diff(Diff),
}

/// List the prompts with their versions, and whether they render
///
/// A version is a part of the digest of the text. Exits with 1 when a prompt cannot be rendered.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock prompts list\n  interlock prompts list --json")]
struct List {}

/// Print a prompt as it is used here
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock prompts show critic > prompts/critic.j2")]
struct Show {
    /// The prompt
    name: String,
}

/// Show how own prompts differ from those that ship
///
/// Exits with 1 when there is a difference, so that a script notices what an update of the program changed.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock prompts diff\n  interlock prompts diff diagnostic")]
struct Diff {
    /// Only this prompt
    name: Option<String>,
}

/// A prompt as it ships and as the installation has it.
struct Prompt {
    name: String,
    shipped: Option<&'static str>,
    own: Option<String>,
}

impl Prompt {
    fn used(&self) -> &str {
        self.own.as_deref().or(self.shipped).unwrap_or_default()
    }

    fn source(&self) -> &'static str {
        match (self.shipped, &self.own) {
            (Some(shipped), Some(own)) if shipped == own => "own, as shipped",
            (Some(_), Some(_)) => "own, instead of the shipped one",
            (None, Some(_)) => "own",
            (_, None) => "shipped",
        }
    }
}

pub(crate) fn run(args: Prompts, app: &App) -> Result<Exit, Failure> {
    let prompts = prompts(app)?;
    match args.what {
        What::List(_) => Ok(list(&prompts, app)),
        What::Show(args) => {
            let prompt = named(&prompts, &args.name)?;
            match app.out.json() {
                true => app.out.json_line(&json!({"name": prompt.name, "text": prompt.used()})),
                false => app.out.text(prompt.used()),
            }
            Ok(Exit::Done)
        }
        What::Diff(args) => {
            let chosen = match &args.name {
                Some(name) => vec![named(&prompts, name)?],
                None => prompts.iter().collect(),
            };
            Ok(diff(&chosen, app))
        }
    }
}

fn prompts(app: &App) -> Result<Vec<Prompt>, Failure> {
    let config = app.config()?;
    let own = config.prompts.as_deref().map(wiring::own_prompts).transpose().map_err(Failure::failed)?;
    let mut own = own.unwrap_or_default();
    let shipped: BTreeMap<&str, &'static str> = agents::shipped_prompts().collect();
    let mut prompts: Vec<Prompt> = shipped
        .into_iter()
        .map(|(name, text)| Prompt { name: name.to_owned(), shipped: Some(text), own: own.remove(name) })
        .collect();
    prompts.extend(own.into_iter().map(|(name, text)| Prompt { name, shipped: None, own: Some(text) }));
    prompts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(prompts)
}

fn named<'a>(prompts: &'a [Prompt], name: &str) -> Result<&'a Prompt, Failure> {
    prompts.iter().find(|prompt| prompt.name == name).ok_or_else(|| {
        let known: Vec<&str> = prompts.iter().map(|prompt| prompt.name.as_str()).collect();
        Failure::failed(format!("there is no prompt `{name}`; prompts are {}", known.join(", ")))
    })
}

fn list(prompts: &[Prompt], app: &App) -> Exit {
    let problems: Vec<Option<String>> = prompts.iter().map(|prompt| agents::prompt_problem(prompt.used())).collect();
    if app.out.json() {
        let shown = prompts.iter().zip(&problems).map(|(prompt, problem)| {
            json!({
                "name": prompt.name, "source": prompt.source(), "version": agents::prompt_version(prompt.used()),
                "shipped_version": prompt.shipped.map(agents::prompt_version), "problem": problem,
            })
        });
        app.out.json_line(&shown.collect::<Value>());
    } else {
        let rows = prompts.iter().zip(&problems).map(|(prompt, problem)| {
            let state = problem.clone().unwrap_or_else(|| "renders".to_owned());
            vec![prompt.name.clone(), agents::prompt_version(prompt.used()), prompt.source().to_owned(), state]
        });
        app.out.table(&["prompt", "version", "from", "state"], rows.collect());
    }
    if problems.iter().any(Option::is_some) { Exit::Failed } else { Exit::Done }
}

fn diff(prompts: &[&Prompt], app: &App) -> Exit {
    let mut found = Vec::new();
    for prompt in prompts {
        let (Some(shipped), Some(own)) = (prompt.shipped, prompt.own.as_deref()) else { continue };
        if shipped != own {
            let (from, to) = (format!("shipped/{}.j2", prompt.name), format!("own/{}.j2", prompt.name));
            let lines = TextDiff::from_lines(shipped, own);
            let text = lines.unified_diff().context_radius(CONTEXT_LINES).header(&from, &to).to_string();
            found.push((prompt.name.as_str(), text));
        }
    }
    if app.out.json() {
        let shown = found.iter().map(|(name, text)| json!({"name": name, "diff": text}));
        app.out.json_line(&shown.collect::<Value>());
    } else if found.is_empty() {
        app.out.line("no own prompt differs from a shipped one");
    } else {
        found.iter().for_each(|(_, text)| app.out.text(text));
    }
    if found.is_empty() { Exit::Done } else { Exit::Failed }
}
