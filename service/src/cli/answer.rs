//! `interlock answer`: answers one question; the thread goes on.

use clap::Args;
use runtime::ports::store::PAGE_MAX;
use runtime_core::effect::Taken;
use runtime_core::event::AnswerInput;
use runtime_core::ids::InterruptId;
use serde_json::{Map, Value, json};

use super::follow::{Follow, FollowArgs, first_of};
use super::{App, value_argument};
use crate::failure::{Exit, Failure};
use crate::ids::{pick, short};
use crate::wiring::Session;

/// Answer a question; the thread goes on
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock answer incident-42 51c0ffee --choice approve\n  interlock answer incident-42 51c0ffee --value '{\"choice\": \"edit\", \"args\": {\"rows\": 10}}' --by ann"
)]
pub(crate) struct Answer {
    /// The thread, or the end of its id
    thread: String,
    /// The question, or the end of its id
    question: String,
    /// One of the question's choices
    #[arg(long, value_name = "CHOICE", required_unless_present = "value")]
    choice: Option<String>,
    /// The whole answer: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON", conflicts_with = "choice")]
    value: Option<String>,
    /// Why, for the audit log
    #[arg(long, requires = "choice")]
    reason: Option<String>,
    /// Digest of the payload you saw; the answer is refused if it has another one by now
    #[arg(long, value_name = "SHA256")]
    digest: Option<String>,
    /// Channel values to write with the answer: JSON, @FILE, or -
    #[arg(long, value_name = "JSON")]
    update: Option<String>,
    #[command(flatten)]
    follow: FollowArgs,
}

pub(crate) async fn run(args: Answer, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let (thread, state) = session.thread(&args.thread).await?;
    let id = question(&session, &thread, &args.question, &state).await?;
    let value = answer_value(&args)?;
    let update =
        args.update.as_deref().map(|text| value_argument("--update", text)).transpose()?.unwrap_or(Value::Null);
    let follow = Follow::new(app, &session, thread.clone(), &args.follow)?;
    let by = session.who(args.follow.by.as_deref()).principal();
    let input = AnswerInput { id, digest: args.digest.clone(), value, by };
    let (reply, streamed) = session.engine.answer_stream(&thread, vec![input], update, follow.modes()).await?;
    let exit = match (first_of(reply), streamed) {
        (Some(Err(refused)), _) => return Err(refused),
        (_, Some(streamed)) => follow.finish(streamed).await?,
        (Some(Ok(Taken::Counted { votes, quorum })), None) => {
            if app.out.json() {
                app.out.json_line(&json!({"thread_id": thread, "interrupt": id, "votes": votes, "quorum": quorum}));
            }
            app.out.note(&format!("counted: {votes} of {quorum} answers"));
            Exit::Waiting
        }
        _ => Exit::Done,
    };
    session.close().await?;
    Ok(exit)
}

/// The open question of an id or its end; a decided one is found too, so that the engine tells who was first.
async fn question(
    session: &Session,
    thread: &runtime_core::ids::ThreadId,
    text: &str,
    state: &runtime_core::state::ThreadState,
) -> Result<InterruptId, Failure> {
    let open = session.store.interrupts(Some(thread), PAGE_MAX).await?;
    let decided = state.decided.iter().map(|(id, _, _)| *id);
    let ids: Vec<InterruptId> = decided.chain(open.iter().map(|row| row.interrupt.id)).collect();
    pick("question", text, &ids).map_err(|failure| {
        let open: Vec<String> = open.iter().map(|row| short(row.interrupt.id)).collect();
        let open =
            if open.is_empty() { "nothing is asked".to_owned() } else { format!("open are {}", open.join(", ")) };
        failure.help(format!("{open}; `interlock interrupts {thread}` shows them"))
    })
}

fn answer_value(args: &Answer) -> Result<Value, Failure> {
    if let Some(text) = &args.value {
        return value_argument("--value", text);
    }
    let mut answer = Map::new();
    answer.insert("choice".to_owned(), json!(args.choice));
    if let Some(reason) = &args.reason {
        answer.insert("reason".to_owned(), json!(reason));
    }
    Ok(Value::Object(answer))
}
