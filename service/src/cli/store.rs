//! `interlock store`: the store as a whole.

use checkpoints::open::{self, Address};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{App, is_there};
use crate::config::{address, address_text};
use crate::failure::{Exit, Failure};
use crate::wiring::open_options;

/// Copy, measure or re-encrypt a store
#[derive(Debug, Args)]
pub(crate) struct Store {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Copy everything into an empty store, also of another kind
    #[command(after_help = "Example:\n  interlock store copy sled:.interlock/store fjall:.interlock/new")]
    Copy {
        /// The store to read
        #[arg(value_parser = address)]
        from: Address,
        /// The store to write; it must be empty
        #[arg(value_parser = address)]
        to: Address,
    },
    /// Print how many bytes a store holds
    #[command(after_help = "Example:\n  interlock store size --json")]
    Size,
    /// Encrypt every record anew with the current key of the configuration
    #[command(after_help = "Example:\n  interlock store rotate")]
    Rotate,
}

pub(crate) async fn run(args: Store, app: &App) -> Result<Exit, Failure> {
    match args.command {
        StoreCommand::Copy { from, to } => copy(&from, &to, app).await,
        StoreCommand::Size => size(app).await,
        StoreCommand::Rotate => rotate(app).await,
    }
}

async fn copy(from: &Address, to: &Address, app: &App) -> Result<Exit, Failure> {
    let config = app.config()?;
    is_there(from)?;
    let options = open_options(&config)?;
    let copied = open::copy((from, &options), (to, &options)).await?;
    if app.out.json() {
        let (from, to) = (address_text(from), address_text(to));
        app.out.json_line(&json!({"from": from, "to": to, "entries": copied.entries, "bytes": copied.bytes}));
    } else {
        app.out.line(&format!("copied {} entries, {} bytes", copied.entries, copied.bytes));
    }
    Ok(Exit::Done)
}

async fn size(app: &App) -> Result<Exit, Failure> {
    let (store, address) = app.existing_store()?;
    let size = store.size().await?;
    store.close().await?;
    if app.out.json() {
        app.out.json_line(&json!({"store": address_text(&address), "logical": size.logical, "disk": size.disk}));
    } else {
        app.out.line(&format!(
            "{}: {} bytes of records, {} bytes on disk",
            address_text(&address),
            size.logical,
            size.disk
        ));
    }
    Ok(Exit::Done)
}

async fn rotate(app: &App) -> Result<Exit, Failure> {
    if app.config()?.encryption.is_none() {
        return Err(
            Failure::usage("no encryption key is configured").help("name one under `encryption:` in interlock.yaml")
        );
    }
    let (store, _) = app.existing_store()?;
    let n_written = store.rotate().await?;
    store.close().await?;
    if app.out.json() {
        app.out.json_line(&json!({ "rewritten": n_written }));
    } else {
        app.out.line(&format!("encrypted {n_written} records anew"));
    }
    Ok(Exit::Done)
}
