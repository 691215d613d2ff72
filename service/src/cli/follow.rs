//! Following a run to its end or pause: printing its events, asking a person at the keyboard, and telling how it ended.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use dialoguer::theme::ColorfulTheme;
use dialoguer::{Input, Select};
use runtime::ports::store::InterruptRow;
use runtime::{EngineFault, Running};
use runtime_core::effect::{Reply, Taken};
use runtime_core::event::AnswerInput;
use runtime_core::ids::ThreadId;
use runtime_core::record::{Durability, Interrupt, Multitask, Outcome, RunOptions};
use runtime_core::state::ThreadState;
use runtime_core::stream::{Mode, Modes, StreamEvent, show_interrupt};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::Receiver;

use super::{App, interrupts};
use crate::answers::{Answers, Who, YES};
use crate::failure::{Exit, Failure};
use crate::ids::{short, span};
use crate::pace::Pace;
use crate::snapshot;
use crate::wiring::Session;

/// Lines of a payload shown before a person asks for all of it.
const PAYLOAD_LINES_MAX: usize = 24;
/// Rounds of questions that one command asks; a graph that asks for ever is stopped at the keyboard.
const ROUNDS_MAX: usize = 10_000;

/// How a run is followed.
#[derive(Debug, Args)]
pub(crate) struct FollowArgs {
    /// Print events as they happen: values, updates, messages, custom, tasks, checkpoints, debug
    #[arg(long, value_name = "MODE", value_delimiter = ',', value_parser = mode)]
    pub(crate) stream: Vec<Mode>,
    /// Approve whatever is asked
    #[arg(long)]
    pub(crate) yes: bool,
    /// Answers to questions, in a YAML or JSON file: a list of {node or title or tool, choice, ...}
    #[arg(long, value_name = "FILE")]
    pub(crate) answers: Option<std::path::PathBuf>,
    /// Who answers [default: the user of the configuration, else of the system]
    #[arg(long, value_name = "USER")]
    pub(crate) by: Option<String>,
}

/// How a run is made.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// When a superstep becomes durable: before the next, beside it, or at the end [default: sync]
    #[arg(long, value_enum, value_name = "WHEN")]
    durability: Option<DurabilityWord>,
    /// Pause before these nodes (* for all)
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    interrupt_before: Vec<String>,
    /// Pause after these nodes (* for all)
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    interrupt_after: Vec<String>,
    /// Supersteps this run may take [default: the graph's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    recursion_limit: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DurabilityWord {
    Sync,
    Async,
    Exit,
}

impl RunArgs {
    /// The options of a run.
    pub(crate) fn options(&self, multitask: Multitask) -> RunOptions {
        let names = |list: &[String]| list.iter().map(|name| name.as_str().into()).collect();
        RunOptions {
            durability: match self.durability {
                None | Some(DurabilityWord::Sync) => Durability::Sync,
                Some(DurabilityWord::Async) => Durability::Async,
                Some(DurabilityWord::Exit) => Durability::Exit,
            },
            multitask,
            recursion_limit: self.recursion_limit,
            interrupt_before: names(&self.interrupt_before),
            interrupt_after: names(&self.interrupt_after),
        }
    }
}

fn mode(word: &str) -> Result<Mode, String> {
    let known = || Mode::WORDS.map(|(word, _)| word).join(", ");
    Mode::from_word(word).ok_or_else(|| format!("no such mode; modes are {}", known()))
}

/// A run with its events.
pub(crate) type Streamed = (Running, Receiver<StreamEvent>);

/// Follows the runs of one thread.
pub(crate) struct Follow<'a> {
    app: &'a App,
    session: &'a Session,
    thread: ThreadId,
    printed: Vec<Mode>,
    answers: Answers,
    who: Who,
    pace: Pace,
    begun: Instant,
    /// Time that a person took.
    thought: Duration,
}

impl<'a> Follow<'a> {
    /// Follows a thread as the command line asks.
    pub(crate) fn new(
        app: &'a App,
        session: &'a Session,
        thread: ThreadId,
        args: &FollowArgs,
    ) -> Result<Self, Failure> {
        let answers = match &args.answers {
            Some(file) => Answers::from_file(file)?,
            None => Answers::default(),
        };
        let who = session.who(args.by.as_deref());
        let pace = Pace::new(!app.out.json() && args.stream.is_empty());
        let answers = if args.yes { answers.with_yes(YES) } else { answers };
        Ok(Self {
            app,
            session,
            thread,
            printed: args.stream.clone(),
            answers,
            who,
            pace,
            begun: Instant::now(),
            thought: Duration::ZERO,
        })
    }

    /// Follows a thread with these answers, telling what the agents do.
    pub(crate) fn narrated(app: &'a App, session: &'a Session, thread: ThreadId, answers: Answers, who: Who) -> Self {
        let pace = Pace::narrator(!app.out.json());
        Self {
            app,
            session,
            thread,
            printed: Vec::new(),
            answers,
            who,
            pace,
            begun: Instant::now(),
            thought: Duration::ZERO,
        }
    }

    /// Time since the start, without the time that people took.
    pub(crate) fn worked(&self) -> Duration {
        self.begun.elapsed().saturating_sub(self.thought)
    }

    /// The answers that were not needed.
    pub(crate) fn into_answers(self) -> Answers {
        self.answers
    }

    /// Modes to subscribe to.
    pub(crate) fn modes(&self) -> Modes {
        let wanted = self.printed.iter().fold(Modes::default(), |modes, mode| modes.with(*mode));
        self.pace.modes(wanted)
    }

    /// Follows a run until nothing is left to do here, and tells how it ended.
    pub(crate) async fn finish(mut self, first: Streamed) -> Result<Exit, Failure> {
        self.pump(first).await?;
        tell(self.app, self.session, &self.thread, self.begun).await
    }

    /// Follows a run until nothing is left to do here.
    pub(crate) async fn pump(&mut self, first: Streamed) -> Result<(), Failure> {
        let mut streamed = first;
        for _ in 0..ROUNDS_MAX {
            let (running, events) = streamed;
            let outcome = self.drain(running, events).await?;
            if outcome != Outcome::Interrupted {
                break;
            }
            match self.ask().await? {
                Some(next) => streamed = next,
                None => break,
            }
        }
        self.pace.end();
        Ok(())
    }

    async fn drain(&mut self, running: Running, mut events: Receiver<StreamEvent>) -> Result<Outcome, Failure> {
        let mut asked_to_stop = false;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.event(&event),
                    None => break,
                },
                result = tokio::signal::ctrl_c() => {
                    if asked_to_stop || result.is_err() {
                        let text = format!("stopped at once; thread {} stays at its last durable checkpoint", self.thread);
                        return Err(Failure::failed(text).help(format!("go on: interlock recover, or interlock resume {}", self.thread)));
                    }
                    asked_to_stop = true;
                    self.pace.say("stopping after this superstep; once more to stop at once");
                    match self.session.engine.drain(&self.thread).await {
                        Ok(()) | Err(EngineFault::Refused(_)) => {}
                        Err(fault) => return Err(fault.into()),
                    }
                }
            }
        }
        Ok(running.ended().await?.outcome)
    }

    fn event(&mut self, event: &StreamEvent) {
        self.pace.event(event);
        if !self.printed.contains(&event.mode) {
            return;
        }
        if self.app.out.json() {
            self.app.out.json_line(&json!(event));
        } else {
            let ns = if event.ns.is_empty() { String::new() } else { format!(" {}", event.ns.join("|")) };
            let head = self.app.out.dim(&format!("{:<11}{ns}", event.mode.word()));
            self.app.out.line(&format!("{head} {}", event.data));
        }
        self.app.out.flush();
    }

    /// Answers the open questions as far as anybody can; the run that goes on, if one does.
    async fn ask(&mut self) -> Result<Option<Streamed>, Failure> {
        let open = self.session.store.interrupts(Some(&self.thread), runtime::ports::store::PAGE_MAX).await?;
        for row in &open {
            let answer = match self.answers.take(&row.interrupt, &self.who) {
                Some(answer) => Some(answer),
                None if self.can_prompt() => {
                    let asked = Instant::now();
                    let answer = self.pace.pause(|| prompt(row, &self.who))?;
                    self.thought += asked.elapsed();
                    answer
                }
                None => None,
            };
            let Some(answer) = answer else { continue };
            let modes = self.modes();
            let (reply, streamed) =
                self.session.engine.answer_stream(&self.thread, vec![answer], Value::Null, modes).await?;
            if let Some(Err(refusal)) = first_of(reply) {
                self.app.out.note(&refusal.text());
                continue;
            }
            if streamed.is_some() {
                return Ok(streamed);
            }
        }
        Ok(None)
    }

    fn can_prompt(&self) -> bool {
        !self.app.out.json()
            && !self.answers.is_scripted()
            && self.app.out.is_terminal()
            && dialoguer::console::user_attended()
    }
}

/// How the first answer was taken.
pub(super) fn first_of(reply: Reply) -> Option<Result<Taken, Failure>> {
    match reply {
        Reply::Answered(taken) => taken.into_iter().next().map(|taken| taken.map_err(Failure::from)),
        _ => None,
    }
}

/// Asks the person at the keyboard.
fn prompt(row: &InterruptRow, who: &Who) -> Result<Option<AnswerInput>, Failure> {
    let question = &row.interrupt;
    let (text, is_cut) = interrupts::described(row, PAYLOAD_LINES_MAX);
    eprintln!("\n{text}");
    let theme = ColorfulTheme::default();
    let failed = |error: dialoguer::Error| Failure::failed(format!("asking at the terminal: {error}"));
    let value = if question.choices.is_empty() {
        free_answer(&theme).map_err(failed)?
    } else {
        choose(row, is_cut, &theme).map_err(failed)?
    };
    Ok(value.map(|value| AnswerInput {
        id: question.id,
        digest: Some(question.digest.clone()),
        value,
        by: who.principal(),
    }))
}

fn free_answer(theme: &ColorfulTheme) -> Result<Option<Value>, dialoguer::Error> {
    let prompt = Input::with_theme(theme).with_prompt("Answer (JSON or text; empty: later)").allow_empty(true);
    let text: String = prompt.interact_text()?;
    Ok((!text.is_empty()).then(|| serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

/// Lets a person choose; one who has not seen the whole payload may look at it first.
fn choose(row: &InterruptRow, is_cut: bool, theme: &ColorfulTheme) -> Result<Option<Value>, dialoguer::Error> {
    let question = &row.interrupt;
    let mut items: Vec<&str> = question.choices.iter().map(String::as_str).collect();
    items.push("answer later");
    items.extend(is_cut.then_some("show everything"));
    let select = Select::with_theme(theme).with_prompt("Decide").items(&items).default(0);
    let picked = select.interact_opt()?;
    if picked.is_some_and(|ix| ix > question.choices.len()) {
        eprintln!("\n{}", interrupts::described(row, usize::MAX).0);
        return choose(row, false, theme);
    }
    match picked.and_then(|ix| question.choices.get(ix)) {
        Some(choice) => chosen(question, choice, theme).map(Some),
        None => Ok(None),
    }
}

/// The answer of a choice; `edit` needs the new arguments.
fn chosen(question: &Interrupt, choice: &str, theme: &ColorfulTheme) -> Result<Value, dialoguer::Error> {
    let mut answer = Map::from_iter([("choice".to_owned(), Value::from(choice))]);
    if choice == "edit" {
        let args = question.payload.get("args").unwrap_or(&question.payload);
        let text: String = Input::with_theme(theme)
            .with_prompt("Arguments (JSON)")
            .with_initial_text(args.to_string())
            .validate_with(|text: &String| {
                serde_json::from_str::<Value>(text).map(drop).map_err(|error| error.to_string())
            })
            .interact_text()?;
        if let Ok(args) = serde_json::from_str(&text) {
            answer.insert("args".to_owned(), args);
        }
    }
    Ok(Value::Object(answer))
}

/// Tells how a thread stands and gives the exit code for it.
pub(crate) async fn tell(app: &App, session: &Session, thread: &ThreadId, begun: Instant) -> Result<Exit, Failure> {
    let state = session.engine.state(thread).await?.unwrap_or_default();
    let outcome = state.run.as_ref().and_then(|run| run.outcome.clone());
    let output = output(session, &state).await?;
    let steps = state.run.as_ref().map_or(0, |run| run.supersteps);
    if app.out.json() {
        app.out.json_line(&json!({
            "type": "result",
            "thread_id": thread,
            "run_id": state.run.as_ref().map(|run| run.id),
            "status": snapshot::status(&state),
            "outcome": outcome.as_ref().map(snapshot::outcome_word),
            "error": outcome.as_ref().and_then(snapshot::error_of),
            "output": output,
            "next": snapshot::next(&state),
            "interrupts": state.interrupts.values().map(show_interrupt).collect::<Vec<_>>(),
            "supersteps": steps,
            "ms": u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        }));
    } else {
        app.out.value(&output);
        let word = outcome.as_ref().map_or("going on", |outcome| {
            if *outcome == Outcome::Success { "done" } else { snapshot::outcome_word(outcome) }
        });
        app.out.note(&format!("{word}  thread {thread}  {steps} supersteps  {}", span(begun.elapsed())));
        explain(app, &state, thread, outcome.as_ref());
    }
    Ok(match outcome {
        Some(Outcome::Success) => Exit::Done,
        Some(Outcome::Interrupted | Outcome::Waiting) | None => Exit::Waiting,
        Some(Outcome::Failed(_) | Outcome::Cancelled | Outcome::Drained | Outcome::Superseded) => Exit::Failed,
    })
}

fn explain(app: &App, state: &ThreadState, thread: &ThreadId, outcome: Option<&Outcome>) {
    match outcome {
        Some(Outcome::Failed(error)) => {
            app.out.note(&format!("error: {} ({})", error.message, error.class.word()));
            app.out.note(&format!("  help: `interlock resume {thread}` tries the failed tasks again"));
        }
        Some(Outcome::Interrupted) if state.interrupts.is_empty() => {
            let next = snapshot::next(state).join(", ");
            app.out.note(&format!("paused before {next}; go on: interlock resume {thread}"));
        }
        Some(Outcome::Interrupted) => {
            for question in state.interrupts.values() {
                let choice =
                    question.choices.first().map_or("--value JSON".to_owned(), |choice| format!("--choice {choice}"));
                app.out.note(&format!("asks  {}", question.title));
                app.out.note(&format!("      interlock answer {thread} {} {choice}", short(question.id)));
            }
        }
        Some(Outcome::Waiting) => {
            let next = state.timers.values().min().map_or_else(|| "a signal".to_owned(), |at| format!("{at}"));
            app.out.note(&format!("waits for {next}; `interlock recover` wakes threads whose time has come"));
        }
        Some(Outcome::Drained) => app.out.note(&format!("stopped; go on: interlock resume {thread}")),
        _ => {}
    }
}

/// The channels that are the thread's output.
async fn output(session: &Session, state: &ThreadState) -> Result<Value, Failure> {
    if state.root().is_none() {
        return Ok(json!({}));
    }
    let values = snapshot::values(state);
    let graph = session.graph_of(state).await?;
    match (graph.output(), values) {
        (Some(names), Value::Object(mut values)) => {
            values.retain(|name, _| names.contains(name));
            Ok(Value::Object(values))
        }
        (_, values) => Ok(values),
    }
}
