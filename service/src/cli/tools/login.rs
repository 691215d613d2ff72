//! `interlock tools login`: a person agrees once, so that runs without anybody there can use the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use clap::Args;
use runtime_core::interlocks::plain;
use serde_json::json;
use tools::hub::{Consent, LOGIN_TIMEOUT, LoopbackConsent};

use super::super::App;
use super::list::chosen;
use crate::failure::{Exit, Failure};
use crate::wiring;

/// Log in to a server with `oauth`; prints an address to open and waits for the browser to come back
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  interlock tools login crm\n  interlock tools login crm --wait 60    (gives up after a minute)"
)]
pub(super) struct Login {
    /// Name of the server in `mcpServers`
    server: String,
    /// Seconds a person has to agree
    #[arg(long, value_name = "SECONDS", default_value_t = LOGIN_TIMEOUT.as_secs(), value_parser = clap::value_parser!(u64).range(1..=LOGIN_TIMEOUT.as_secs()))]
    wait: u64,
}

/// Knows afterwards whether anybody was asked.
struct Noting {
    browser: LoopbackConsent,
    asked: AtomicBool,
}

#[async_trait]
impl Consent for Noting {
    fn redirect_uri(&self) -> String {
        self.browser.redirect_uri()
    }

    async fn visit(&self, server: &str, url: &str) -> Result<String, String> {
        self.asked.store(true, Ordering::Release);
        self.browser.visit(server, url).await
    }
}

pub(super) async fn run(args: Login, app: &App) -> Result<Exit, Failure> {
    let mut config = app.config()?;
    let names = chosen(&config, std::slice::from_ref(&args.server))?;
    config.servers.retain(|server| names.contains(&server.name));
    for server in &mut config.servers {
        if server.oauth.is_none() {
            return Err(Failure::usage(format!(
                "server `{}` has no `oauth`: there is nothing to log in to",
                server.name
            )));
        }
        // The list is what asks for the login where the handshake does not.
        server.list_timeout += LOGIN_TIMEOUT;
    }
    let browser = LoopbackConsent::listen().await;
    let browser = browser.map_err(|error| Failure::failed(format!("no port to come back to: {error}")))?;
    let browser = browser.patient(std::time::Duration::from_secs(args.wait));
    let consent = Arc::new(Noting { browser, asked: AtomicBool::new(false) });
    let hub = wiring::hub_with_consent(&config, consent.clone());
    let listed = hub.list_tools(&args.server).await;
    hub.close().await;
    let inventory = listed.map_err(|error| Failure::failed(plain::escaped(&error.to_string())))?;
    let asked = consent.asked.load(Ordering::Acquire);
    if app.out.json() {
        app.out.json_line(&json!({"server": args.server, "asked": asked, "tools": inventory.tools.len()}));
    } else if asked {
        app.out.line(&format!("logged in to {}: {} tools", args.server, inventory.tools.len()));
    } else {
        app.out.line(&format!("{} asked for no login: {} tools", args.server, inventory.tools.len()));
    }
    Ok(Exit::Done)
}
