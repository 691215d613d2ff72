//! `interlock recover`: finishes what a dead process left behind, and wakes threads whose time has come.

use std::collections::BTreeSet;

use clap::Args;
use runtime::ports::store::{PAGE_MAX, ThreadFilter, ThreadStatus};
use runtime_core::ids::ThreadId;
use serde_json::json;

use super::{App, threads};
use crate::failure::{Exit, Failure};
use crate::snapshot;
use crate::wiring::Session;

/// Finish what a dead process left behind, and wake threads whose time has come
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock recover")]
pub(crate) struct Recover {}

pub(crate) async fn run(_: Recover, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let woken = woken(&session).await?;
    for thread in &woken {
        session.thread(thread.as_str()).await?;
    }
    session.engine.recover().await?;
    let next = session.engine.fire_timers().await?;
    let mut exit = Exit::Done;
    let mut rows = Vec::new();
    for thread in &woken {
        session.engine.join(thread).await?;
        let state = session.engine.state(thread).await?.unwrap_or_default();
        let status = snapshot::status(&state);
        exit = exit.and(if status == ThreadStatus::Error { Exit::Failed } else { Exit::Done });
        rows.push((thread.to_string(), snapshot::status_word(status)));
    }
    if app.out.json() {
        let threads: Vec<_> =
            rows.iter().map(|(thread, status)| json!({"thread_id": thread, "status": status})).collect();
        app.out.json_line(&json!({"recovered": threads, "next_timer": next.map(|at| at.to_string())}));
    } else if rows.is_empty() {
        app.out.note("nothing to recover");
    } else {
        app.out.statuses(
            &["thread", "status"],
            rows.into_iter().map(|(thread, status)| vec![thread, status.to_owned()]).collect(),
        );
    }
    if let Some(at) = next {
        app.out.note(&format!("the next timer is due at {at}"));
    }
    session.close().await?;
    Ok(exit)
}

/// Threads that are busy without a process, or whose timers are due.
async fn woken(session: &Session) -> Result<BTreeSet<ThreadId>, Failure> {
    let filter = ThreadFilter { status: Some(ThreadStatus::Busy), ..ThreadFilter::default() };
    let busy = threads::all(&*session.store, filter, usize::MAX).await?;
    let due = session.store.timers(session.engine.clock().now(), PAGE_MAX).await?;
    Ok(busy.into_iter().map(|row| row.id).chain(due.into_iter().map(|row| row.thread)).collect())
}
