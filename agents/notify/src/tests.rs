//! Channels against scripted servers, the router over crashes.

mod alerts;
mod crashes;
mod golden;
mod hooks;
mod routing;
mod server;
mod slack;
mod world;
