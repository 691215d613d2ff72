//! `sim`: runs seeds and prints one line for each guarantee; a failing seed is printed as a one-line reproduction.

use std::ops::Range;
use std::process::ExitCode;

use sim::mutants::{Tally, check_mutant};
use sim::orders::{Merging, check_orders};
use sim::{Summary, Weakness, check_seed, check_seeds};

/// Seeds of the weakened worlds: enough that each weakness is met many times.
const TEETH_SEEDS: u64 = 2_000;

const USAGE: &str = "usage: sim [--seeds N] [--schedules N] [--mutants N] | --seed S | --mutant S";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut ok = !words.is_empty();
    for pair in words.chunks(2) {
        let [flag, number] = pair else { return usage() };
        let Ok(number) = number.parse::<u64>() else { return usage() };
        ok &= match flag.as_str() {
            "--seed" => one(seed_text(number)),
            "--mutant" => one(check_mutant(number).map(|tally| format!("{}{tally:?}", sim::mutants::mutant(number)))),
            "--seeds" => worlds(number),
            "--schedules" => schedules(number),
            "--mutants" => mutants(number),
            _ => return usage(),
        };
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn one(told: Result<String, String>) -> bool {
    let ok = told.is_ok();
    println!("{}", told.unwrap_or_else(|why| why));
    ok
}

fn seed_text(seed: u64) -> Result<String, String> {
    let end = check_seed(seed, Weakness::None).map_err(|why| format!("seed {seed}: {why}"))?;
    let (steps, faults, effects, trace) = (end.steps, end.faults, end.effects, end.trace);
    Ok(format!("seed {seed}: {steps} steps, {faults} faults, {effects} effects, trace {trace:016x}"))
}

/// Shares `0..n` among the processors; the results in order, or nothing when a worker died.
fn shared<T: Send + 'static>(n: u64, work: fn(Range<u64>) -> T) -> Option<Vec<T>> {
    let n_workers = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let share = n.div_ceil(n_workers);
    let part = move |at: u64| (at * share).min(n)..((at + 1) * share).min(n);
    let workers: Vec<_> = (0..n_workers).map(|at| std::thread::spawn(move || work(part(at)))).collect();
    workers.into_iter().map(|worker| worker.join().ok()).collect()
}

fn worlds(n_seeds: u64) -> bool {
    let run = |part: Range<u64>| check_seeds(part.start, part.end - part.start, Weakness::None);
    let Some(parts) = shared(n_seeds, run) else { return false };
    let mut sum = Summary::default();
    for part in parts {
        if let Some((seed, why)) = &part.violation {
            println!("violation: {why}\nreproduce: cargo run --package sim -- --seed {seed}");
        }
        sum.seeds += part.seeds;
        sum.faults += part.faults;
        sum.effects += part.effects;
        sum.doubts += part.doubts;
        sum.violation = sum.violation.or(part.violation);
    }
    let caught = |weakness| check_seeds(0, TEETH_SEEDS, weakness).violation.is_some();
    let teeth = caught(Weakness::Early) && caught(Weakness::Unfenced);
    let shown = if teeth { "ok" } else { "MISSING" };
    println!("G2 seeds={} faults={} different=0 teeth={shown}", sum.seeds, sum.faults);
    println!("G3 seeds={} effects={} doubts={} repeated=0 teeth={shown}", sum.seeds, sum.effects, sum.doubts);
    println!("G5 seeds={} stale_commits=0 teeth={shown}", sum.seeds);
    sum.violation.is_none() && teeth
}

/// Orders of finishing until there are `n` of them.
fn schedules(n: u64) -> bool {
    let (mut n_orders, mut seed) = (0, 0);
    while n_orders < n {
        match check_orders(seed, Merging::ByPlan) {
            Ok(more) => n_orders += more,
            Err(why) => return one(Err(why)),
        }
        seed += 1;
    }
    let teeth = (0..seed.min(TEETH_SEEDS)).all(|seed| check_orders(seed, Merging::OnArrival).is_err());
    let shown = if teeth { "ok" } else { "MISSING" };
    println!("G13 schedules={n_orders} inputs={seed} tasks=2-12 states_per_input=1 teeth={shown}");
    teeth
}

fn mutants(n: u64) -> bool {
    let run = |part: Range<u64>| part.map(check_mutant).try_fold(Tally::default(), |sum, one| Ok(sum.plus(one?)));
    let Some(parts) = shared(n, run) else { return false };
    let tallies: Result<Vec<Tally>, String> = parts.into_iter().collect();
    match tallies {
        Ok(tallies) => {
            let Tally { mutants, refused, ended, waiting } = tallies.into_iter().fold(Tally::default(), Tally::plus);
            println!(
                "G16 mutants={mutants} refused={refused} ended={ended} waiting={waiting} silent_rejections=0 violations=0"
            );
            true
        }
        Err(why) => one(Err(why)),
    }
}
