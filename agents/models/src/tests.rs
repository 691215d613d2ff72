//! Tests over several parts: providers against a scripted server, streams however cut, a month of incidents.

mod batches;
mod cache;
mod calls;
mod collecting;
mod embeddings;
mod incidents;
mod masking;
mod server;
mod streams;
mod tiers;
