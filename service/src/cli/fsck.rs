//! `interlock fsck`: checks a store and says what is wrong.

use clap::Args;
use serde_json::json;

use super::App;
use crate::config::address_text;
use crate::failure::{Exit, Failure};

/// Check a store: every record, every projection, the audit chain
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock fsck --store sled:.interlock/store")]
pub(crate) struct Fsck {}

pub(crate) async fn run(_: Fsck, app: &App) -> Result<Exit, Failure> {
    let (store, address) = app.existing_store()?;
    let findings = store.check().await?;
    store.close().await?;
    let exit = if findings.is_empty() { Exit::Done } else { Exit::Failed };
    if app.out.json() {
        app.out.json_line(&json!({"store": address_text(&address), "ok": findings.is_empty(), "findings": findings}));
    } else if findings.is_empty() {
        app.out.line(&format!("{}: no problem found", address_text(&address)));
    } else {
        let cells = findings.iter().map(|finding| {
            let seq = finding.seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string());
            vec![
                finding.kind.clone(),
                finding.thread.clone().unwrap_or_else(|| "-".to_owned()),
                seq,
                finding.what.clone(),
            ]
        });
        app.out.table(&["kind", "thread", "record", "what is wrong"], cells.collect());
    }
    Ok(exit)
}
