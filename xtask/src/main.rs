//! The one command of the repository: `cargo xtask test`, `tidy`, `bench`, `fuzz`, `airflow`, `guarantees`.
//!
//! It runs other programs and reads the tree; it must never be a dependency of a crate that ships.

mod airflow;
mod bench;
mod fuzz;
mod guarantees;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What the repository can do for its developers.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every check there is, installing system parts that are missing.
    Test(test::Args),
    /// Run the checks over the tree that no compiler makes.
    Tidy(tidy::Args),
    /// Measure the workloads W1 to W7, ours and the peers in turn, and write docs/benchmarks.md.
    Bench(bench::Args),
    /// Run the fuzz targets under cargo-fuzz for a given time.
    Fuzz(fuzz::Args),
    /// Run the ETL bot against a real Airflow 3 and PostgreSQL that are broken on command.
    Airflow(airflow::Args),
    /// Write the figures of the last test run into docs/guarantees.md.
    Guarantees(guarantees::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Test(args) => test::run(&args),
        Command::Tidy(args) => tidy::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Airflow(args) => airflow::run(&args),
        Command::Guarantees(args) => guarantees::run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
