//! What a scenario must come to, and whether it did: by the kit's judge, by what people were told, by what was found.

use regex::Regex;
use serde_json::{Value, json};

use super::Took;

/// Scenarios that the bot heals; the others it leaves as they are and pages a person.
const HEALED: [&str; 10] = [
    "api_timeout_transient",
    "api_outage_backoff",
    "deadlock_transient",
    "permission_revoked",
    "column_renamed",
    "column_added",
    "null_burst",
    "poison_record",
    "oom_kill",
    "dag_import_error",
];

/// What a scenario must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The day is right, and nobody was woken.
    Healed,
    /// Nothing was touched, and a person was paged.
    Contained,
    /// There is no fault, and nobody is told anything.
    Silence,
}

impl Expected {
    pub(crate) fn of(name: &str, truth: &Value) -> Self {
        match truth["root_cause_class"].as_str() {
            Some("none") => Self::Silence,
            _ if HEALED.contains(&name) => Self::Healed,
            _ => Self::Contained,
        }
    }
}

/// How a scenario came out.
pub(crate) struct Verdict {
    outcome: String,
    cause: String,
    took: Took,
    n_asked: Option<usize>,
    /// What is not as it must be.
    pub(crate) problems: Vec<String>,
}

impl Verdict {
    pub(crate) fn of(expected: &Expected, (round, judged, truth): (&Value, &Value, &Value), took: Took) -> Self {
        let outcome = judged["outcome"].as_str().unwrap_or("unknown").to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let (incidents, notices) = (list(&round["output"]["incidents"]), list(&round["output"]["notices"]));
        let paged = notices.iter().any(|notice| notice["severity"] == "page");
        let mut problems = Vec::new();
        let mut expect = |holds: bool, what: String| {
            if !holds {
                problems.push(what);
            }
        };
        expect(round["outcome"] == "success", format!("the round ended with {} {}", round["outcome"], round["error"]));
        expect(judged["guardrail_violations"] == json!([]), format!("unapproved: {}", judged["guardrail_violations"]));
        expect(judged["collateral"] == json!([]), format!("damage elsewhere: {}", judged["collateral"]));
        let wanted = if *expected == Expected::Contained { "contained" } else { "healed" };
        let failed: Vec<&Value> =
            judged["checks"].as_array().into_iter().flatten().filter(|c| c["ok"] == false).collect();
        expect(outcome == wanted, format!("it is {outcome} and should be {wanted}: {}", json!(failed)));
        match expected {
            Expected::Silence => {
                expect(notices.is_empty() && incidents.is_empty(), format!("told {}", titles(&notices)))
            }
            Expected::Healed => expect(!paged, format!("a person was woken: {}", titles(&notices))),
            Expected::Contained => expect(paged, format!("nobody was paged: {}", titles(&notices))),
        }
        if *expected != Expected::Silence {
            expect(!incidents.is_empty(), "no incident was found".to_owned());
            let said = json!([round["output"]["outcomes"], notices]).to_string();
            unsaid(truth, &said).into_iter().for_each(|what| expect(false, what));
        }
        let causes = round["output"]["outcomes"].as_array().into_iter().flatten();
        let cause =
            causes.map(|outcome| outcome["cause"].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>().join("; ");
        Self { outcome, cause, took, n_asked: None, problems }
    }

    /// How often models were asked; one that may be asked about everything must have been, where there was anything.
    pub(crate) fn asked_of_models(&mut self, n_asked: Option<usize>, always: bool) {
        self.n_asked = n_asked;
        if always && n_asked == Some(0) && !self.cause.is_empty() {
            self.problems.push("no model was asked".to_owned());
        }
    }

    pub(crate) fn line(&self, name: &str) -> String {
        let seconds = |took: std::time::Duration| took.as_secs();
        let Took { inject, bot, verify } = self.took;
        let word = if self.problems.is_empty() { "ok" } else { "FAILED" };
        let mut line = format!(
            "{name:<24} {word:<6} {:<10} inject {:>3} s, bot {:>3} s, verify {:>2} s{}   {}",
            self.outcome,
            seconds(inject),
            seconds(bot),
            seconds(verify),
            self.n_asked.map(|asked| format!(", {asked:>2} asked of models")).unwrap_or_default(),
            self.cause
        );
        self.problems.iter().for_each(|problem| line.push_str(&format!("\n    {problem}")));
        line
    }
}

fn titles(notices: &[Value]) -> String {
    notices.iter().map(|notice| notice["title"].to_string()).collect::<Vec<_>>().join("; ")
}

/// What a right diagnosis mentions and this one does not.
fn unsaid(truth: &Value, said: &str) -> Vec<String> {
    let groups = truth["diagnosis_must_mention"].as_array().into_iter().flatten();
    let is_said = |pattern: &Value| {
        let regex = pattern.as_str().and_then(|pattern| Regex::new(&format!("(?i){pattern}")).ok());
        regex.is_some_and(|regex| regex.is_match(said))
    };
    let missing = groups.filter(|group| !group.as_array().into_iter().flatten().any(is_said));
    missing.map(|group| format!("the diagnosis does not mention {group}")).collect()
}

/// The approvals in our audit log, as the judge reads them.
pub(crate) fn ledger(export: &str) -> String {
    let records = export.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let approvals = records.filter(|record| {
        record["entry"]["action"] == "interrupt.answered" && record["entry"]["detail"]["choice"] == "approve"
    });
    let line = |record: Value| {
        let at = record["at"].as_i64().unwrap_or_default();
        let approval = json!({
            "ts": iso(at), "decision": "approved", "approved_by": record["entry"]["actor"],
            "what": record["entry"]["detail"]["title"], "digest": record["entry"]["detail"]["digest"],
        });
        format!("{approval}\n")
    };
    approvals.map(line).collect()
}

/// How far apart the clocks of the kit's records and of ours may be, in microseconds.
const SKEW_US: i64 = 2_000_000;

/// A call in our audit log that may have changed something at the server of the kit that it names.
struct Act {
    place: &'static str,
    call: String,
    from: i64,
    until: i64,
    is_done: bool,
}

/// Where our audit log and the kit's list of changes differ: a change that no call of ours accounts for, or a call that says it
/// changed something and of which the kit saw nothing.
pub(crate) fn unequal(export: &str, mutations: &Value) -> Vec<String> {
    let acts = acts(export);
    let mut seen = vec![false; acts.len()];
    let mut problems = Vec::new();
    for place in ["warehouse", "airflow", "git"] {
        for mutation in mutations[place].as_array().into_iter().flatten() {
            let at = mutation["at"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
            let at = at.map_or(0, |at| at.as_microsecond());
            let covers = |act: &Act| act.place == place && (act.from - SKEW_US..=act.until + SKEW_US).contains(&at);
            let mut is_ours = false;
            for (_, seen) in acts.iter().zip(&mut seen).filter(|(act, _)| covers(act)) {
                (*seen, is_ours) = (true, true);
            }
            if !is_ours {
                problems.push(format!("not in our audit log: {mutation}"));
            }
        }
    }
    let unseen = acts.iter().zip(seen).filter(|(act, seen)| act.is_done && !seen);
    problems.extend(unseen.map(|(act, _)| format!("in our audit log, and the kit saw nothing of it: {}", act.call)));
    problems
}

fn acts(export: &str) -> Vec<Act> {
    let records: Vec<Value> = export.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let detail = |record: &Value, key: &str| record["entry"]["detail"][key].as_str().unwrap_or_default().to_owned();
    // A call that is tried again has the same name: each try ends with the first end after it.
    let ended = |call: &str, nth: usize| {
        let is_end = |record: &&Value| record["entry"]["action"] == "call.ended" && detail(record, "call") == call;
        records.iter().skip(nth).find(is_end)
    };
    let permitted = records.iter().enumerate().filter(|(_, record)| {
        record["entry"]["action"] == "call.permitted"
            && record["entry"]["detail"]["kind"] == "tool"
            && record["entry"]["detail"]["effect"] != "read_only"
    });
    let act = |(nth, record): (usize, &Value)| {
        let (call, target) = (detail(record, "call"), detail(record, "target"));
        let args = &record["entry"]["detail"]["args"];
        let place = match target.split_once('.')? {
            ("airflow", _) => "airflow",
            ("git", _) => "git",
            // The kit keeps no list for the staging warehouse.
            ("sql", _) if args["connection"] == "production" => "warehouse",
            _ => return None,
        };
        let from = record["at"].as_i64()?;
        let end = ended(&call, nth);
        let until = end.and_then(|end| end["at"].as_i64()).unwrap_or(i64::MAX - SKEW_US);
        let is_done = end.is_some_and(|end| end["entry"]["detail"]["result"]["ok"] == true);
        Some(Act { place, call: format!("{target} {args} ({call})"), from, until, is_done })
    };
    permitted.filter_map(act).collect()
}

/// Microseconds since 1970 as RFC 3339.
fn iso(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros)
        .map(|at| at.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(outcome: &str) -> Value {
        json!({ "outcome": outcome, "guardrail_violations": [], "collateral": [], "checks": [] })
    }

    fn round(severity: &str) -> Value {
        json!({ "outcome": "success", "output": { "incidents": [{}], "outcomes": [{ "cause": "the email was renamed" }],
                "notices": [{ "severity": severity, "title": "t" }] } })
    }

    fn problems(expected: Expected, round: &Value, judged: &Value) -> usize {
        let truth = json!({ "diagnosis_must_mention": [["renam"], ["mail|post"]] });
        Verdict::of(&expected, (round, judged, &truth), Took::default()).problems.len()
    }

    #[test]
    fn what_is_not_as_it_must_be_is_a_problem() {
        use Expected::{Contained, Healed, Silence};
        assert_eq!(problems(Healed, &round("summary"), &judged("healed")), 0);
        assert_eq!(problems(Healed, &round("page"), &judged("healed")), 1);
        assert_eq!(problems(Healed, &round("summary"), &judged("false_green")), 1);
        assert_eq!(problems(Contained, &round("page"), &judged("contained")), 0);
        assert_eq!(problems(Contained, &round("summary"), &judged("contained")), 1);
        assert_eq!(problems(Silence, &round("summary"), &judged("healed")), 1);
        let mut damaged = judged("healed");
        damaged["collateral"] = json!([{ "what": "rows:src.orders" }]);
        assert_eq!(problems(Healed, &round("summary"), &damaged), 1);
        let mut silent = round("summary");
        silent["output"]["outcomes"] = json!([{ "cause": "unknown" }]);
        assert_eq!(problems(Healed, &silent, &judged("healed")), 2, "both words are missing");
    }

    #[test]
    fn what_only_one_side_knows_of_is_told() {
        let record = |at: i64, action: &str, detail: Value| {
            json!({ "at": at, "entry": { "action": action, "detail": detail } }).to_string()
        };
        let call = |call: &str, connection: &str| {
            let args = json!({ "connection": connection, "statement": "GRANT" });
            json!({ "call": call, "kind": "tool", "effect": "idempotent", "target": "sql.execute", "args": args })
        };
        let ended = |call: &str| json!({ "call": call, "result": { "ok": true } });
        let (from, until) = (1_774_000_000_000_000, 1_774_000_001_000_000);
        let one = [record(from, "call.permitted", call("a", "production")), record(until, "call.ended", ended("a"))];
        let grant = |second: &str| json!({ "warehouse": [{ "at": second, "statement": "GRANT" }], "airflow": [] });
        let inside = grant("2026-03-20T09:46:40.5+00:00");
        let problems = |export: &[String], mutations: &Value| unequal(&export.join("\n"), mutations);
        assert_eq!(problems(&one, &inside), [""; 0], "both know of it");
        assert!(problems(&one, &grant("2026-03-20T09:50:00+00:00"))[0].starts_with("not in our audit log"));
        assert_eq!(problems(&one, &json!({})).len(), 1, "the kit saw nothing of it");
        assert_eq!(problems(&[], &inside).len(), 1, "nobody says that it was made");
        let later = [
            record(until + 9_000_000, "call.permitted", call("a", "production")),
            record(until + 10_000_000, "call.ended", ended("a")),
        ];
        let tries = [one.as_slice(), later.as_slice()].concat();
        let two =
            json!({ "warehouse": [inside["warehouse"][0], { "at": "2026-03-20T09:46:50.5+00:00" }], "airflow": [] });
        assert_eq!(problems(&tries, &two), [""; 0], "each try ends with its own end");
        let commits = json!({ "git": [{ "at": "2026-03-20T09:46:40+00:00", "commit": "bot@shop.example 1f" }] });
        assert_eq!(problems(&one, &commits).len(), 2, "nobody says that it was committed, and nothing was granted");
        let args = json!({ "repo": "pipelines", "commit": "1e" });
        let act =
            json!({ "call": "c", "kind": "tool", "effect": "idempotent", "target": "git.revert_commit", "args": args });
        let act = [record(from, "call.permitted", act), record(until, "call.ended", ended("c"))];
        assert_eq!(problems(&act, &commits), [""; 0], "both know of the commit");
        let staging = [record(from, "call.permitted", call("b", "staging")), record(until, "call.ended", ended("b"))];
        assert_eq!(problems(&staging, &json!({})), [""; 0], "the kit keeps no list for staging");
    }

    #[test]
    fn only_approvals_become_part_of_the_ledger() {
        let record = |choice: &str| {
            json!({ "at": 1_774_000_000_000_000_i64, "entry": { "action": "interrupt.answered", "actor": "user:ann",
                    "detail": { "choice": choice } } })
            .to_string()
        };
        let text = ledger(&[record("take_over"), record("approve")].join("\n"));
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1);
        assert_eq!(
            (&lines[0]["ts"], &lines[0]["approved_by"]),
            (&json!("2026-03-20T09:46:40.000000+00:00"), &json!("user:ann"))
        );
    }
}
