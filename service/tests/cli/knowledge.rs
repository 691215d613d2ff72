//! Memory on the command line: searched, listed, learnt from a thread that healed, and a post-mortem from its record.

use std::io::Write as _;
use std::net::TcpListener;

use expect_test::expect;
use serde_json::{Value, json};

use super::models::read;
use super::stage::Stage;

const PERMISSIONS: &str = "---\nid: RB-2\ntitle: Permission denied on a table\nversion: 4\nupdated: 2026-01-01\nsymptoms: [permission denied for table]\n---\nGrant exactly the missing right.\n\n# Undo\nREVOKE the same right.\n";
const OLD: &str = "---\nid: RB-11\ntitle: Quick fix for permission denied\nstatus: deprecated\n---\nGRANT ALL to everybody: permission denied is gone.\n";
const MEMORY: &str = "memory: { runbooks: runbooks, episodes: episodes.jsonl }\n";

/// A folder with two runbooks, one of them out of use, and one that is broken.
fn remembering(config: &str) -> Stage {
    let stage = Stage::new();
    std::fs::create_dir(stage.path().join("runbooks")).unwrap();
    stage.write("runbooks/rb-2.md", PERMISSIONS);
    stage.write("runbooks/rb-11.md", OLD);
    stage.write("runbooks/rb-x.md", "nothing in front");
    stage.write("interlock.yaml", config);
    stage
}

#[test]
fn runbooks_are_searched_and_listed_and_those_out_of_use_are_never_found() {
    let stage = remembering(MEMORY);
    let ran = stage.ends(0, &["knowledge", "search", "permission denied for table fact_sales"]);
    assert!(ran.stdout.contains("runbook RB-2@4, lines 8–8"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("│ Grant exactly the missing right.") && !ran.stdout.contains("RB-11"),
        "{}",
        ran.stdout
    );
    let hits = stage.ends(0, &["knowledge", "search", "quick fix permission", "--json"]).json();
    let cites: Vec<&str> =
        hits["hits"].as_array().unwrap().iter().map(|hit| hit["citation"]["id"].as_str().unwrap()).collect();
    assert!(!cites.is_empty() && cites.iter().all(|id| *id == "RB-2"), "{hits}");
    let none = stage.ends(0, &["knowledge", "search", "zebra", "--kind", "incident"]);
    assert!(
        none.stdout.is_empty() && none.stderr.contains("nothing that is remembered is about this"),
        "{}",
        none.stderr
    );
    let list = stage.ends(0, &["knowledge", "list"]);
    assert!(
        list.stdout.contains("out of use") && list.stderr.contains("rb-x.md: it does not begin with `---`"),
        "{}{}",
        list.stdout,
        list.stderr
    );
    let list = stage.ends(0, &["knowledge", "list", "--json"]).json();
    assert_eq!((list["documents"].as_array().unwrap().len(), list["broken"].as_array().unwrap().len()), (2, 1));
    let nothing = Stage::new().ends(1, &["knowledge", "list"]);
    assert!(nothing.stderr.contains("the configuration has no `memory`"), "{}", nothing.stderr);
    let missing = remembering("memory: { runbooks: nowhere }\n").ends(1, &["knowledge", "list"]);
    assert!(missing.stderr.contains("memory: runbooks nowhere"), "{}", missing.stderr);
    let ran = remembering("memory: { runbook: x }\n").ends(2, &["knowledge", "list"]);
    assert!(ran.stderr.contains("unknown field `runbook`"), "{}", ran.stderr);
}

/// What the diagnostic agent says about an error.
fn diagnosed(stage: &Stage, thread: &str, error: &str) -> Value {
    stage.write(
        "ask.yaml",
        "graph: ask\ninput: { schema: { type: object, properties: { incident: {} } } }\nstate: { incident: {}, diagnosis: {} }\noutput: [diagnosis]\nnodes:\n  why: { agent: diagnostic, output: diagnosis, then: end }\nstart: why\n",
    );
    let incident = json!({"incident": {
        "id": "inc-1", "fingerprint": "f1", "pipeline": "p", "business_date": "2013-01-23", "environment": "production",
        "kind": "run_failed", "title": "p failed", "error": error,
    }});
    let ran = stage.ends(0, &["run", "ask.yaml", "--thread", thread, "--json", "--input", &incident.to_string()]);
    ran.json()["output"]["diagnosis"].clone()
}

#[test]
fn an_agent_is_reminded_of_what_the_configuration_names() {
    let stage = remembering(MEMORY);
    let error = "load: InsufficientPrivilege: permission denied for table fact_sales";
    let found = diagnosed(&stage, "with", error);
    assert_eq!(found["runbooks"][0]["cites"], "runbook RB-2@4, lines 8–8", "{found}");
    stage.write("interlock.yaml", "user: ann\n");
    let without = diagnosed(&stage, "without", error);
    assert_eq!((without.get("runbooks"), &without["confidence"]), (None, &found["confidence"]));
}

#[test]
fn what_a_thread_healed_is_learnt_once_and_recommends_nothing_before_a_review() {
    let stage = remembering(MEMORY);
    let demo = ["demo", "--yes", "--json", "--dir", "demo", "--by", "ann", "--faults", "null_burst,unknown_error"];
    stage.ends(0, &demo);
    let store = "sled:demo/store";
    let threads = stage.ends(0, &["threads", "--store", store, "--json"]).json();
    let thread = |start: &str| {
        let ids = threads.as_array().unwrap().iter().filter_map(|thread| thread["thread_id"].as_str());
        ids.into_iter().find(|id| id.starts_with(start)).unwrap_or_else(|| panic!("{threads}")).to_owned()
    };
    let (healed, unknown) = (thread("null-burst"), thread("unknown-error"));
    let file = stage.path().join("episodes.jsonl");
    let learn = |more: &[&str]| {
        stage.ends(0, &[&["knowledge", "learn", &healed, "--store", store, "--json"], more].concat()).json()
    };
    let shown = learn(&[]);
    assert_eq!((&shown["written"], file.exists()), (&json!(false), false), "{shown}");
    let episode = &shown["episodes"][0];
    assert_eq!(
        (&episode["outcome"], &episode["cause_id"], &episode["remedy"], &episode["pipeline"], episode.get("reviewed")),
        (&json!("healed"), &json!("nulls-in-key-column"), &json!("quarantine-nulls"), &json!("flights_daily"), None),
        "{episode}"
    );
    assert_eq!(learn(&["--yes"])["changed"], 1);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!((learn(&["--yes"])["changed"].clone(), std::fs::read_to_string(&file).unwrap()), (json!(0), text));
    // Nobody has reviewed it: it is listed, and not found by searching.
    let search = ["knowledge", "search", "rows without carrier in the delivery", "--kind", "incident", "--json"];
    assert_eq!(stage.ends(0, &search).json()["hits"], json!([]));
    assert_eq!(learn(&["--yes", "--reviewed-by", "ann"])["changed"], 1);
    assert_eq!(learn(&["--yes"])["changed"], 0, "a review stays as long as the entry does");
    assert_eq!(stage.ends(0, &search).json()["hits"][0]["citation"]["id"], episode["id"]);
    assert!(stage.ends(0, &["knowledge", "list"]).stdout.contains("reviewed by ann"));
    // What nothing has verified is not learnt.
    let ran = stage.ends(1, &["knowledge", "learn", &unknown, "--store", store, "--yes"]);
    assert!(
        ran.stderr.contains("there is nothing to learn from") && ran.stderr.contains("handed_over"),
        "{}",
        ran.stderr
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1);
}

#[test]
fn a_thread_that_has_not_ended_or_has_no_incident_teaches_nothing() {
    let stage = Stage::greeting();
    let question = stage.asked();
    let learn = ["knowledge", "learn", "t", "--into", "e.jsonl", "--yes"];
    let ran = stage.ends(1, &learn);
    assert!(ran.stderr.contains("has not ended well: it is interrupted"), "{}", ran.stderr);
    assert!(stage.ends(1, &["postmortem", "t"]).stderr.contains("has not ended well"));
    stage.ends(0, &["answer", "t", &question, "--choice", "approve"]);
    let ran = stage.ends(1, &learn);
    assert!(ran.stderr.contains("has worked on no incident"), "{}", ran.stderr);
    assert!(!stage.path().join("e.jsonl").exists());
    let ran = stage.ends(2, &["knowledge", "learn", "t"]);
    assert!(ran.stderr.contains("add --into FILE"), "{}", ran.stderr);
}

/// The draft with what differs from run to run taken out: times, ids, and where a step stands among the decisions of its moment.
fn settled(draft: &str) -> String {
    let (mut text, mut steps) = (String::new(), String::new());
    for line in draft.lines() {
        let mut cells: Vec<String> = line.split(" | ").map(str::to_owned).collect();
        let mut place = &mut text;
        if line.starts_with("| 20") {
            cells[0] = "| TIME".to_owned();
            let source = cells.last_mut().unwrap();
            if source.starts_with("checkpoint ") {
                "checkpoint ID |".clone_into(source);
                place = &mut steps;
            }
        }
        place.push_str(&cells.join(" | "));
        place.push('\n');
    }
    text + &steps
}

#[test]
fn a_post_mortem_is_the_record_of_the_thread() {
    let stage = Stage::new();
    stage.ends(0, &["demo", "--yes", "--json", "--dir", "demo", "--by", "ann", "--faults", "permission_revoked"]);
    let store = "sled:demo/store";
    let threads = stage.ends(0, &["threads", "--store", store, "--json"]).json();
    let thread = threads[0]["thread_id"].as_str().unwrap();
    let ran = stage.ends(0, &["postmortem", thread, "--store", store]);
    expect![[r#"
        # Post-mortem (draft): flights\_daily 2013-01-24: run failed: publish: InsufficientPrivilege: permission denied for table fact\_daily\_carrier: role etl\_writer lacks INSERT

        Made from the record of thread permission-revoked-2013-01-24; no model wrote it. Impact and lessons are for people to add.

        | incident | inc-f9f93cc0aaf5 (run\_failed) |
        | --- | --- |
        | pipeline, day | flights\_daily 2013-01-24, production |
        | tables | src\_flights, stg\_flights, fact\_daily\_carrier, fact\_daily\_route |
        | outcome | healed, verified by the runtime |
        | cause | configuration: etl\_writer lost INSERT on fact\_daily\_carrier |
        | confidence | 0.94 |

        ## What was noticed

        - run\_failed: run failed: publish: InsufficientPrivilege: permission denied for table fact\_daily\_carrier: role etl\_writer lacks INSERT
        - volume\_drop: fact\_daily\_carrier has 0 instead of about 927 on a Thursday (100 % fewer)
        - stale: fact\_daily\_carrier is 1 day(s) behind

        ## Cause

        - The privilege INSERT on fact\_daily\_carrier is not granted to etl\_writer, the account of the pipeline, although the access policy declares it.
        - evidence: the access policy declares INSERT on fact\_daily\_carrier for etl\_writer, and it is not granted (warehouse.table\_privileges, call 5)
        - evidence: the grant log has a REVOKE INSERT on fact\_daily\_carrier (warehouse.table\_privileges, call 5)

        ## What was done

        - Exactly INSERT on fact\_daily\_carrier for etl\_writer, as the access policy declares it; nothing more.

        ## Timeline (UTC)

        | time | what | who | source |
        | --- | --- | --- | --- |
        | TIME | call.permitted at watch: warehouse.list\_pipelines, reading-is-free | agent:monitor | audit 1 |
        | TIME | call.ended at watch: warehouse.list\_pipelines | runtime | audit 2 |
        | TIME | call.permitted at watch: warehouse.list\_runs, production, reading-is-free | agent:monitor | audit 3 |
        | TIME | call.ended at watch: warehouse.list\_runs | runtime | audit 4 |
        | TIME | call.permitted at watch: warehouse.compare\_schema, production, reading-is-free | agent:monitor | audit 5 |
        | TIME | call.ended at watch: warehouse.compare\_schema | runtime | audit 6 |
        | TIME | call.permitted at watch: warehouse.query, production, reading-is-free | agent:monitor | audit 7 |
        | TIME | call.ended at watch: warehouse.query | runtime | audit 8 |
        | TIME | call.permitted at watch: warehouse.profile\_table, production, reading-is-free | agent:monitor | audit 9 |
        | TIME | call.ended at watch: warehouse.profile\_table | runtime | audit 10 |
        | TIME | call.permitted at watch: warehouse.profile\_table, production, reading-is-free | agent:monitor | audit 11 |
        | TIME | call.ended at watch: warehouse.profile\_table | runtime | audit 12 |
        | TIME | call.permitted at diagnose: warehouse.get\_run, reading-is-free | agent:diagnostic | audit 13 |
        | TIME | call.ended at diagnose: warehouse.get\_run | runtime | audit 14 |
        | TIME | call.permitted at diagnose: warehouse.get\_log, reading-is-free | agent:diagnostic | audit 15 |
        | TIME | call.ended at diagnose: warehouse.get\_log | runtime | audit 16 |
        | TIME | call.permitted at diagnose: warehouse.compare\_schema, production, reading-is-free | agent:diagnostic | audit 17 |
        | TIME | call.ended at diagnose: warehouse.compare\_schema | runtime | audit 18 |
        | TIME | call.permitted at diagnose: warehouse.check\_upstream, production, reading-is-free | agent:diagnostic | audit 19 |
        | TIME | call.ended at diagnose: warehouse.check\_upstream | runtime | audit 20 |
        | TIME | call.permitted at diagnose: warehouse.profile\_table, production, reading-is-free | agent:diagnostic | audit 21 |
        | TIME | call.ended at diagnose: warehouse.profile\_table | runtime | audit 22 |
        | TIME | call.permitted at diagnose: warehouse.table\_privileges, production, reading-is-free | agent:diagnostic | audit 23 |
        | TIME | call.ended at diagnose: warehouse.table\_privileges | runtime | audit 24 |
        | TIME | gate.routed at trusted:  | gate | audit 25 |
        | TIME | call.permitted at rehearse: warehouse.grant\_privilege, staging, staging-is-for-trying | runtime | audit 26 |
        | TIME | call.ended at rehearse: warehouse.grant\_privilege | runtime | audit 27 |
        | TIME | call.permitted at rehearse: warehouse.query, staging, reading-is-free | runtime | audit 28 |
        | TIME | call.ended at rehearse: warehouse.query | runtime | audit 29 |
        | TIME | call.permitted at rehearse\_run: warehouse.rerun\_pipeline, staging, staging-is-for-trying | runtime | audit 30 |
        | TIME | call.ended at rehearse\_run: warehouse.rerun\_pipeline | runtime | audit 31 |
        | TIME | call.permitted at rehearse\_run: warehouse.query, staging, reading-is-free | runtime | audit 32 |
        | TIME | call.ended at rehearse\_run: warehouse.query | runtime | audit 33 |
        | TIME | record.weighed at change:  | gate | audit 34 |
        | TIME | call.asked at change: warehouse.grant\_privilege, production, production-asks | runtime | audit 35 |
        | TIME | interrupt.answered at change: warehouse.grant\_privilege in production, approve | user:ann | audit 36 |
        | TIME | record.weighed at change:  | gate | audit 37 |
        | TIME | call.permitted at change: warehouse.grant\_privilege, production, production-asks, ann | runtime | audit 38 |
        | TIME | call.ended at change: warehouse.grant\_privilege | runtime | audit 39 |
        | TIME | call.permitted at change: warehouse.query, production, reading-is-free | runtime | audit 40 |
        | TIME | call.ended at change: warehouse.query | runtime | audit 41 |
        | TIME | call.permitted at run: warehouse.rerun\_pipeline, production, run-again | runtime | audit 42 |
        | TIME | call.ended at run: warehouse.rerun\_pipeline | runtime | audit 43 |
        | TIME | call.permitted at run: warehouse.query, production, reading-is-free | runtime | audit 44 |
        | TIME | call.ended at run: warehouse.query | runtime | audit 45 |
        | TIME | outcome.counted at run:  | runtime | audit 46 |
        | TIME | call.permitted at report: notify.summary, own-means | agent:notification | audit 47 |
        | TIME | call.ended at report: notify.summary | runtime | audit 48 |
        | TIME | call.permitted at report: memory.note, own-means | agent:notification | audit 49 |
        | TIME | call.ended at report: memory.note | runtime | audit 50 |
        | TIME | call.permitted at summary: notify.summary, own-means | agent:notification | audit 51 |
        | TIME | call.ended at summary: notify.summary | runtime | audit 52 |

        ## For people to add

        - Who was affected, and for how long:
        - What went well, what did not:
        - What is done so that it does not come back, by whom, until when:
        | TIME | step diagnose | runtime | checkpoint ID |
        | TIME | step trusted | runtime | checkpoint ID |
        | TIME | step plan | runtime | checkpoint ID |
        | TIME | step rehearse | runtime | checkpoint ID |
        | TIME | step rehearse\_run | runtime | checkpoint ID |
        | TIME | step change | runtime | checkpoint ID |
        | TIME | step run | runtime | checkpoint ID |
        | TIME | step healed | runtime | checkpoint ID |
        | TIME | step report | runtime | checkpoint ID |
        | TIME | step close | runtime | checkpoint ID |
    "#]].assert_eq(&settled(&ran.stdout));
    // Every decision of the thread is in it, and none that the chain does not have.
    let audit = stage.ends(0, &["audit", "export", "--thread", thread, "--store", store]);
    let decisions: Vec<Value> = audit.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let cited = ran.stdout.lines().filter(|line| line.contains("| audit ")).count();
    assert_eq!(cited, decisions.len());
    for decision in &decisions {
        assert!(ran.stdout.contains(&format!("| audit {} |", decision["seq"])), "{decision}");
    }
}

/// A server that knows that RAM is memory.
fn meaning() -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let mut seen = String::new();
        for _ in 0..4 {
            let (mut stream, _) = listener.accept().unwrap();
            let (head, body) = read(&mut stream);
            seen.push_str(&format!("{head}{body}"));
            let about = |text: &Value| {
                if ["RAM", "memory"].iter().any(|word| text.as_str().unwrap().contains(word)) { 1.0 } else { 0.0 }
            };
            let vectors = body["input"].as_array().unwrap().iter().enumerate();
            let data: Vec<Value> =
                vectors.map(|(ix, text)| json!({"index": ix, "embedding": [about(text), 0.0]})).collect();
            let text = json!({"data": data, "usage": {"prompt_tokens": 1000}}).to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                text.len()
            );
            stream.write_all(format!("{head}{text}").as_bytes()).unwrap();
        }
        seen
    });
    (url, answering)
}

#[test]
fn vectors_of_a_configured_model_find_what_words_do_not() {
    let (url, answering) = meaning();
    let config = format!(
        "memory: {{ runbooks: runbooks, embeddings: local/vec }}\nmodels:\n  providers: {{ local: {{ kind: openai-chat, url: \"{url}\" }} }}\n  prices: {{ vec: {{ date: 2026-11-01, source: own, input: 2, output: 0, context: 8192, max_output: 1 }} }}\n"
    );
    let stage = remembering(&config);
    stage.write(
        "runbooks/rb-7.md",
        "---\nid: RB-7\ntitle: Task killed\n---\nIt wanted more memory. Owner: ann@bank.example\n",
    );
    let ran = stage.ends(0, &["knowledge", "search", "not enough RAM"]);
    assert!(
        ran.stdout.contains("runbook RB-7@") && ran.stderr.contains("2000 tokens, $0.004000"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    // An agent looks the same way: its search is a call with a price, in the audit log.
    let found = diagnosed(&stage, "t", "load: no RAM left");
    assert!(found["runbooks"].to_string().contains("runbook RB-7@"), "{found}");
    let audit = stage.ends(0, &["audit", "export", "--tool", "memory.search"]);
    assert!(audit.stdout.contains("0.004"), "{}", audit.stdout);
    let seen = answering.join().unwrap();
    assert!(seen.contains("POST /v1/embeddings") && !seen.contains("ann@bank"), "{seen}");
    // Nobody answers any more: words alone, and a word about it.
    let ran = stage.ends(0, &["knowledge", "search", "task killed"]);
    assert!(ran.stdout.contains("RB-7") && ran.stderr.contains("words alone were compared"), "{}", ran.stderr);
}
