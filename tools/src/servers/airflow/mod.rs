//! Apache Airflow 3 (REST API v2) as MCP tools: look at runs, logs and sources, and run things again.
//!
//! ```text
//!  tools ──▶ Airflow ──▶ Client ── JWT, reader ──▶ GET …            runs, tasks, logs, sources, import errors
//!              │            └───── JWT, actor  ──▶ POST, PATCH …    clear, trigger, pause, pools, variables, mark
//!              └ Config: which runs belong to which environment
//! ```
//!
//! * **Two accounts.** Reading needs a viewer; only acting tools log in as the account that may act. Without an `act` login
//!   those tools are not there.
//! * **Environments.** One Airflow often serves several, told apart by a run's `conf`. Acting tools name theirs and are
//!   refused when the run belongs to another, so that what a guard permitted for staging stays in staging.
//! * **Repeatable.** A run is started under an id of the caller or derived from its key; a run that is under way is
//!   waited for, not cleared again.
//! * **Bounded.** No answer holds a whole long log; lists are pages; errors say their class.
//!
//! `TOOLS.md` beside this file shows every tool; a test writes it.

pub mod act;
mod client;
pub mod config;
mod error;
mod hide;
pub mod logs;
pub mod look;
pub mod overview;
pub mod registry;
pub mod runs;
mod server;
pub mod variable;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::{Client, Request};
pub use config::Config;
pub use error::{AirflowError, Code, Result};
pub use server::{AirflowServer, serve_stdio};

/// An installation of Airflow. Cheap to clone.
#[derive(Clone)]
pub struct Airflow {
    config: Arc<Config>,
    client: Arc<Client>,
}

impl Airflow {
    /// An installation as configured. Nothing is asked before the first call.
    ///
    /// # Errors
    /// If the configuration cannot be used, or a password is missing.
    pub fn new(config: Config) -> Result<Self> {
        let client = Client::new(&config)?;
        Ok(Self { config: Arc::new(config), client: Arc::new(client) })
    }

    /// A page that is not larger than Airflow gives.
    fn paged<'a>(&self, request: Request<'a>, limit: u32, offset: Option<u32>) -> Request<'a> {
        request.with("limit", limit.clamp(1, self.config.page_limit)).with_some("offset", offset)
    }
}

/// The beginning of a text.
fn cut(text: &str, chars_max: usize) -> String {
    let mut short: String = text.chars().take(chars_max).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The end of a text.
fn tail(text: &str, chars_max: usize) -> String {
    let n_chars = text.chars().count();
    if n_chars <= chars_max {
        return text.to_owned();
    }
    let kept: String = text.chars().skip(n_chars - chars_max).collect();
    format!("…{kept}")
}
