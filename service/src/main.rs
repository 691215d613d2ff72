//! `interlock`: the command line over the engine. The only crate that names concrete stores, tools and agents.

mod allocator;
mod answers;
mod bench;
mod call_as;
mod cli;
mod config;
mod demo;
mod failure;
mod graph_files;
mod graph_tests;
mod ids;
#[cfg(test)]
mod inputs;
mod notices;
mod out;
mod pace;
mod past;
mod reference;
mod remembered;
mod replay;
mod snapshot;
mod spawn;
mod wiring;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
