//! The recorded cases and our own.

use serde::Deserialize;

use super::super::{Environment, Verdict};
use super::verdict;

/// Roles and environments, in the order of the letters of a case.
const PAIRS: [(&str, Environment); 4] = [
    ("data_analyst", Environment::Staging),
    ("data_analyst", Environment::Production),
    ("data_engineer", Environment::Staging),
    ("data_engineer", Environment::Production),
];

#[derive(Deserialize)]
struct Case {
    id: String,
    category: String,
    verdicts: String,
    sql: String,
}

fn expected(letter: char) -> Verdict {
    match letter {
        'a' => Verdict::Allow,
        'n' => Verdict::NeedsApproval,
        'd' => Verdict::Deny,
        other => panic!("no verdict {other:?}"),
    }
}

#[test]
fn every_recorded_case_gets_its_verdict() {
    let (mut wrong, mut rows) = (Vec::new(), 0);
    for line in include_str!("cases.jsonl").lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        for ((role, environment), letter) in PAIRS.into_iter().zip(case.verdicts.chars()) {
            rows += 1;
            let decision = verdict(&case.sql, role, environment);
            if decision.verdict != expected(letter) {
                wrong.push(format!(
                    "{} {} {role} {environment}: {decision:?}\n    {}",
                    case.id, case.category, case.sql
                ));
            }
        }
    }
    assert_eq!(rows, 672);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn our_own_cases_get_their_verdict_and_rule() {
    let (mut wrong, mut statements) = (Vec::new(), 0);
    for line in include_str!("own.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (letters, rest) = line.split_once(' ').unwrap();
        let (rule, sql) = rest.split_once(' ').unwrap();
        statements += 1;
        for ((role, environment), letter) in PAIRS.into_iter().zip(letters.chars()) {
            let decision = verdict(sql, role, environment);
            let named = role == "data_engineer" && environment == Environment::Staging;
            if decision.verdict != expected(letter) || (named && decision.rule != rule) {
                wrong.push(format!("{role} {environment}: {decision:?}\n    {line}"));
            }
        }
    }
    assert!(statements > 150, "{statements}");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_statement_that_is_too_long_or_too_deep_is_refused() {
    let long = format!("SELECT '{}'", "x".repeat(super::super::SQL_BYTES_MAX));
    let deep = format!("SELECT {}1{}", "(".repeat(9_000), ")".repeat(9_000));
    let inverted = format!("SELECT {} 1", "~ ".repeat(9_000));
    let not = format!("SELECT {} true", "NOT ".repeat(9_000));
    for sql in [&long, &inverted, &not] {
        assert_eq!(verdict(sql, "data_analyst", Environment::Staging).verdict, Verdict::Deny);
    }
    // Parentheses around a constant leave no node behind.
    let shallow = verdict(&deep, "data_analyst", Environment::Staging);
    assert!(shallow.verdict == Verdict::Allow || shallow.rule == "syntax", "{shallow:?}");
}
