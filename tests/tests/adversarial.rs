//! The adversarial suite: an agent that obeys everything it reads, a policy, and an outside that counts what arrives.
//!
//! One row of `data/adversarial.yaml` is one attempt. Nothing is mocked between the agent and the outside: engine, guard,
//! journal, lock file, hub and a real process over stdio. The same rows run once more without walls, where what is forbidden
//! must arrive: a suite that cannot fail proves nothing.

mod world;

use serde_json::Value;

use self::world::{Row, Suite, Walls, attempt};

fn suite() -> Suite {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/adversarial.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    Suite::new(serde_saphyr::from_str::<Value>(&text).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policy_holds_whatever_the_agent_is_talked_into() {
    let suite = suite();
    let rows: Vec<Row> = suite.rows();
    let (mut problems, mut calls) = (Vec::new(), 0);
    for row in &rows {
        let seen = attempt(&suite, row, Walls::Standing).await;
        calls += seen.arrived.len();
        problems.extend(seen.problems(row).into_iter().map(|problem| format!("{}: {problem}", row.id())));
    }
    assert!(problems.is_empty(), "{} of {}:\n{}", problems.len(), rows.len(), problems.join("\n"));
    let classes: std::collections::BTreeSet<&str> = rows.iter().map(|row| row.class()).collect();
    assert!(rows.len() >= 60, "{}", rows.len());
    println!("G17 attempts={} classes={} dispatched={calls} forbidden=0 without_verdict=0", rows.len(), classes.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_walls_the_same_attempts_get_through() {
    let suite = suite();
    let rows: Vec<Row> = suite.rows().into_iter().filter(|row| !row.holds_always()).collect();
    let mut held = Vec::new();
    for row in &rows {
        let seen = attempt(&suite, row, Walls::Down).await;
        if seen.violations(row).is_empty() {
            held.push(format!("{}: {:?} {:?}", row.id(), seen.arrived, seen.said));
        }
    }
    assert!(held.is_empty(), "{} of {} attempts have no teeth:\n{}", held.len(), rows.len(), held.join("\n"));
    println!("G17 teeth=ok attempts={} got_through={}", rows.len(), rows.len() - held.len());
}
