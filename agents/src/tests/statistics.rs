//! What an estate declares as normal, at the seams: rows of a tool in, incidents of the monitor out.

use std::sync::Arc;

use runtime_core::record::Outcome;
use serde_json::{Value, json};
use tools::policy::RulePolicy;
use tools::toolbox::ScriptedTools;

use super::world::{World, agreeable, compiled, library};
use crate::{Estate, Kit, Knowledge, Remedies};

/// An estate that looks at what `watch` says, and knows these other things.
fn estate(watch: &str, more: &str) -> String {
    format!(
        r#"
server: warehouse
live: production
trial: staging
watch:
{watch}
{more}
sources: []
rerun: {{ live: {{ tool: rerun_pipeline }}, trial: {{ tool: rerun_pipeline }} }}
proof: {{ tool: query }}
pipelines:
  ingest: {{ facts: [stg.orders], consistent_sql: x }}
  sales: {{ facts: [dw.fact_sales], consistent_sql: x }}
  report: {{ facts: [mart.report], consistent_sql: x }}
"#
    )
}

fn kit(yaml: &str) -> Kit {
    let causes = Knowledge::from_yaml("causes: []").unwrap();
    Kit::new(Estate::from_yaml(yaml).unwrap(), causes, Remedies::shipped().unwrap()).unwrap()
}

/// What the monitor of this estate says about these rows.
async fn watched(yaml: &str, rows: Value, given: Value) -> Value {
    let tools = ScriptedTools::new().reads("warehouse.query", json!({ "rows": rows }));
    let mut world = World::in_estate(kit(yaml), Arc::new(tools), Arc::new(RulePolicy::etl_demo().unwrap()));
    let graph = r#"
graph: g
input: { schema: { type: object, properties: { given: {} } } }
state: { given: {}, found: {} }
output: [given, found]
nodes:
  a:
    agent: monitor
    tools: ["warehouse.*"]
    with:
      environment: production
      at: "{{ given.at | default('2026-04-06T07:00:00Z') }}"
      known: "{{ given.known | default([]) }}"
      false_positives: "{{ given.false_positives | default([]) }}"
      true_positives: "{{ given.true_positives | default([]) }}"
    output: found
    then: end
start: a
"#;
    let given = if given.is_null() { json!({}) } else { given };
    assert_eq!(world.run(compiled("g", graph), json!({ "given": given }), agreeable).await, Outcome::Success);
    world.channel("found").await
}

fn titles(found: &Value) -> Vec<&str> {
    found["incidents"].as_array().unwrap().iter().map(|incident| incident["title"].as_str().unwrap()).collect()
}

const VOLUME: &str = r#"
  - name: volume
    kind: volume_drop
    severity: high
    tool: query
    each: answer.rows
    pipeline: row.pipeline
    day: row.day
    headline: "{{ verdict.reason }}"
    detect: { method: seasonal, value: row.n, side: drop, slot: weekday }
"#;

/// Five weeks up to Monday, 2026-04-06: a thousand rows on a working day, a third of it at the weekend; `last` on that Monday.
fn weeks(pipeline: &str, last: i64) -> Vec<Value> {
    let first: jiff::civil::Date = "2026-03-02".parse().unwrap();
    let row = |n: i64| {
        let day = first.checked_add(jiff::Span::new().days(n)).unwrap();
        let usual = if n % 7 >= 5 { 330 } else { 1_000 };
        json!({ "pipeline": pipeline, "day": day.to_string(), "n": if n == 35 { last } else { usual + n % 3 } })
    };
    (0..=35).map(row).collect()
}

#[tokio::test]
async fn a_seasonal_drop_is_found_and_an_ordinary_monday_is_not() {
    let yaml = estate(VOLUME, "");
    let ordinary = watched(&yaml, json!(weeks("sales", 998)), Value::Null).await;
    assert_eq!(titles(&ordinary), Vec::<&str>::new());
    assert_eq!(ordinary["checked"], json!([{ "probe": "volume", "series": 1, "not_enough": 0 }]));

    let dropped = watched(&yaml, json!(weeks("sales", 700)), Value::Null).await;
    assert_eq!(
        titles(&dropped),
        [
            "sales 2026-04-06: 700 instead of about 1001: on a Monday, 5 weeks before; a relative change of 0.3007, 0.1 is usual"
        ]
    );
    let numbers = &dropped["incidents"][0]["evidence"][0]["excerpt"];
    assert_eq!(
        (&numbers["observed"], &numbers["expected"], &numbers["direction"]),
        (&json!(700.0), &json!(1001.0), &json!("below"))
    );

    // As many rows as on any Sunday are a drop on a Monday; the same number on a Sunday is none.
    let mut short = weeks("sales", 998);
    short.truncate(35);
    assert_eq!(titles(&watched(&yaml, json!(short), Value::Null).await), Vec::<&str>::new());
    // Three weeks are no baseline: nothing is said, and it is said that nothing is.
    let young = json!(weeks("sales", 10)[14..]);
    let silent = watched(&yaml, young, Value::Null).await;
    assert_eq!((titles(&silent), &silent["checked"][0]["not_enough"]), (Vec::new(), &json!(1)));
}

const STORM: &str = r#"
  - name: late
    kind: stale
    tool: query
    each: answer.rows
    pipeline: row.pipeline
    day: row.day
    headline: "late"
"#;
const LINEAGE: &str = "lineage: { within_hours: 24, upstream: { sales: [stg.orders], report: [dw.fact_sales] } }";

#[tokio::test]
async fn one_storm_is_one_incident_of_its_root() {
    let row = |pipeline: &str, day: &str| json!({ "pipeline": pipeline, "day": day });
    let storm = json!([
        row("report", "2026-04-06"),
        row("sales", "2026-04-06"),
        row("ingest", "2026-04-05"),
        row("other", "2026-04-06")
    ]);
    let apart = watched(&estate(STORM, ""), storm.clone(), Value::Null).await;
    assert_eq!(titles(&apart).len(), 4, "without a lineage each is its own");

    let together = watched(&estate(STORM, LINEAGE), storm.clone(), Value::Null).await;
    assert_eq!(titles(&together), ["ingest 2026-04-05: late", "other 2026-04-06: late"]);
    let root = &together["incidents"][0];
    assert_eq!(
        root["symptoms"],
        json!(["stale: late", "report 2026-04-06: stale: late", "sales 2026-04-06: stale: late"])
    );
    assert_eq!(root["consequences"][1]["title"], "sales 2026-04-06: late");
    assert_eq!(root["tables"], json!(["stg.orders"]), "what is healed is the root");

    // While the root is known, what follows from it is no new incident; once it is over, it is.
    let known = json!({ "known": [root["fingerprint"]] });
    assert_eq!(titles(&watched(&estate(STORM, LINEAGE), storm, known.clone()).await), ["other 2026-04-06: late"]);
    let left = json!([row("report", "2026-04-06")]);
    assert_eq!(titles(&watched(&estate(STORM, LINEAGE), left, known).await), ["report 2026-04-06: late"]);

    // Two days of one pipeline are two runs, whatever lies upstream.
    let days = json!([row("sales", "2026-04-05"), row("sales", "2026-04-06")]);
    assert_eq!(titles(&watched(&estate(STORM, LINEAGE), days, Value::Null).await).len(), 2);
}

#[tokio::test]
async fn a_window_holds_the_page_and_not_the_eyes() {
    let yaml = estate(
        STORM,
        r#"maintenance: [{ name: monday patching, weekdays: [monday], from: "08:00", to: "10:00", offset: "+02:00", pipelines: [sales] }]"#,
    );
    let rows = json!([{ "pipeline": "sales", "day": "2026-04-05" }, { "pipeline": "report", "day": "2026-04-05" }]);
    let within = watched(&yaml, rows.clone(), json!({ "at": "2026-04-06T07:00:00Z" })).await;
    assert_eq!(titles(&within), ["report 2026-04-05: late"]);
    assert_eq!(
        (&within["held"][0]["pipeline"], &within["held"][0]["held"]),
        (&json!("sales"), &json!("monday patching"))
    );
    let after = watched(&yaml, rows.clone(), json!({ "at": "2026-04-06T08:00:00Z" })).await;
    assert_eq!((titles(&after).len(), &after["held"]), (2, &json!([])));
    // Nobody knows the time: everything pages, and it is said why.
    let timeless = watched(&yaml, rows, json!({ "at": "" })).await;
    assert_eq!(titles(&timeless).len(), 2);
    assert!(timeless["gaps"][0].as_str().unwrap().starts_with("no time is known, so no maintenance window holds"));
}

/// The graph that ships, in a window that is open at the time of the test's clock (2023-11-14, 22:13) and one that is not.
#[tokio::test]
async fn the_flagship_pages_nobody_in_a_window_and_does_after_it() {
    for (to, told) in [("2023-11-15", 0), ("2023-11-14T20:00:00Z", 1)] {
        let window = format!("maintenance: [{{ name: move, from: \"2023-11-14\", to: \"{to}\" }}]");
        let rows = json!([{ "pipeline": "sales", "day": "2023-11-14" }]);
        let tools = ScriptedTools::new().reads("warehouse.query", json!({ "rows": rows }));
        let policy = Arc::new(RulePolicy::etl_demo().unwrap());
        let mut world = World::in_estate(kit(&estate(STORM, &window)), Arc::new(tools), policy);
        world.engine.add_graph(Arc::new(library("etl-incident"))).await.unwrap();
        assert_eq!(world.run(library("etl-reliability"), json!({}), agreeable).await, Outcome::Success);
        let pages = world.told().iter().filter(|told| told.starts_with("Page")).count();
        assert_eq!(pages, told, "{:?}", world.told());
        assert_eq!(world.channel("held").await.as_array().unwrap().len(), 1 - told);
    }
}

const AMOUNTS: &str = r#"
  - name: amounts
    kind: drift
    tool: query
    each: answer.rows
    pipeline: "'sales'"
    day: row.day
    headline: "{{ verdict.reason }}"
    detect: { method: psi, value: row.amount, count: row.n, by: row.channel }
"#;

#[tokio::test]
async fn a_shift_names_its_segment_and_factor() {
    let rows = |mobile_by: i64| {
        let mut rows = Vec::new();
        for day in ["2026-04-04", "2026-04-05", "2026-04-06"] {
            for (channel, by) in [("web", 1), ("mobile", if day == "2026-04-06" { mobile_by } else { 1 })] {
                rows.extend(
                    (1..=10).map(|k| json!({ "day": day, "channel": channel, "amount": 10 * k * by, "n": 40 })),
                );
            }
        }
        json!(rows)
    };
    let yaml = estate(AMOUNTS, "");
    assert_eq!(titles(&watched(&yaml, rows(1), Value::Null).await), Vec::<&str>::new());
    let shifted = watched(&yaml, rows(5), Value::Null).await;
    let title = titles(&shifted)[0];
    assert!(
        title.starts_with(
            "sales 2026-04-06: mobile: the middle is 250 instead of 50, 5 times the usual; values above 90"
        ),
        "{title}"
    );
    let numbers = &shifted["incidents"][0]["evidence"][0]["excerpt"];
    assert_eq!((&numbers["subject"], &numbers["factor"]), (&json!("mobile"), &json!(5.0)));
}

#[tokio::test]
async fn a_marked_false_positive_widens_up_to_the_declared_maximum() {
    let yaml = estate(&VOLUME.replace("slot: weekday", "slot: weekday, threshold_max: 0.25"), "");
    let found = watched(&yaml, json!(weeks("sales", 850)), Value::Null).await;
    let mark = json!({ "fingerprint": found["incidents"][0]["fingerprint"], "at": "2026-04-06T09:00:00Z" });
    let marked = json!({ "false_positives": [mark] });
    // The next Monday, as large a drop: ordinary now. Without the mark it would be an alarm.
    let next = |n: i64| {
        let mut rows = weeks("sales", 850);
        rows.push(json!({ "pipeline": "sales", "day": "2026-04-13", "n": n }));
        json!(rows)
    };
    assert_eq!(titles(&watched(&yaml, next(850), Value::Null).await).len(), 1);
    assert_eq!(titles(&watched(&yaml, next(850), marked.clone()).await).len(), 0);
    // Past the declared maximum no mark helps, and a confirmed one narrows again.
    assert_eq!(titles(&watched(&yaml, next(700), marked).await).len(), 1);
    let later = json!({ "fingerprint": mark["fingerprint"], "at": "2026-04-07" });
    let both = json!({ "false_positives": [mark], "true_positives": [later] });
    assert_eq!(titles(&watched(&yaml, next(850), both).await).len(), 1);
    // A mark that is none is named and changes nothing.
    let bad = watched(&yaml, next(850), json!({ "false_positives": ["f1"] })).await;
    assert_eq!((titles(&bad).len(), bad["gaps"][0].as_str().unwrap().starts_with("1 mark(s) are none")), (1, true));
}

#[tokio::test]
async fn freshness_mad_iqr_kl_and_forest_judge_rows_too() {
    let probe = |kind: &str, detect: &str| {
        let head = "  - { name: p, kind: KIND, tool: query, each: answer.rows, pipeline: \"'sales'\", day: row.day, headline: \"{{ verdict.reason }}\",";
        estate(&format!("{} detect: {detect} }}", head.replace("KIND", kind)), "")
    };
    let days = |last: Value| {
        let first: jiff::civil::Date = "2026-01-01".parse().unwrap();
        let row = |n: i64| {
            let wave = (n * 7 % 11) as f64;
            json!({ "day": first.checked_add(jiff::Span::new().days(n)).unwrap().to_string(), "minutes": 30.0 + wave, "cost": format!("{}", 4.0 + wave / 10.0), "to": n % 5 })
        };
        let mut rows: Vec<Value> = (0..80).map(row).collect();
        let mut newest = row(80);
        newest.as_object_mut().unwrap().extend(last.as_object().unwrap().clone());
        rows.push(newest);
        json!(rows)
    };
    let long = json!({ "minutes": 200.0 });
    for (detect, kind) in [
        ("{ method: mad, value: row.minutes, side: rise }", "slow"),
        ("{ method: iqr, value: row.minutes, ignore_below: 5 }", "slow"),
        ("{ method: forest, values: { minutes: row.minutes, cost: row.cost } }", "costly"),
    ] {
        let yaml = probe(kind, detect);
        assert_eq!(titles(&watched(&yaml, days(json!({})), Value::Null).await).len(), 0, "{detect}");
        let found = watched(&yaml, days(long.clone()), Value::Null).await;
        assert_eq!((titles(&found).len(), &found["incidents"][0]["kind"]), (1, &json!(kind)), "{detect}");
    }
    let fresh = probe("stale", "{ method: freshness, at: row.newest, max_age_hours: 26 }");
    let newest = |at: &str| json!([{ "day": "2026-04-05", "newest": at }]);
    assert_eq!(titles(&watched(&fresh, newest("2026-04-05T06:00:00Z"), Value::Null).await).len(), 0);
    let late = watched(&fresh, newest("2026-04-05T04:00:00Z"), Value::Null).await;
    assert_eq!(titles(&late), ["sales 2026-04-05: the newest record is 27 h old, at most 26 h are agreed"]);
    // What is no number is a gap, not an alarm.
    let odd =
        watched(&probe("slow", "{ method: mad, value: row.minutes }"), days(json!({ "minutes": "long" })), Value::Null)
            .await;
    assert_eq!(odd["gaps"], json!(["p: `row.minutes` is no number: \"long\""]));
}

#[test]
fn what_is_declared_wrongly_is_refused_with_its_place() {
    let refused = |watch: &str, more: &str| Estate::from_yaml(&estate(watch, more)).unwrap_err().to_string();
    let told = refused(&VOLUME.replace("side: drop", "sid: drop"), "");
    assert!(told.contains("`detect` with `method: seasonal` has no key `sid`; did you mean `side`?"), "{told}");
    assert!(told.starts_with("estate: ") && told.contains("line"), "{told}");
    let cycle = refused(STORM, "lineage: { upstream: { sales: [report], report: [dw.fact_sales] } }");
    assert!(cycle.contains("is a cycle: nothing is made of itself"), "{cycle}");
    let window = r#"maintenance: [{ name: w, from: "2026-04-01", to: "2026-04-02", pipelines: [sale] }]"#;
    assert_eq!(refused(STORM, window), "estate: `maintenance`: there is no pipeline `sale`; did you mean `sales`?");
}

/// The example of the README is an estate that is read.
#[test]
fn the_estate_in_the_readme_is_one() {
    let readme = include_str!("../../../README.md");
    let section = readme.split("## Declare what is normal").nth(1).unwrap();
    let yaml = section.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let whole = format!(
        "server: sql\nlive: production\ntrial: staging\nsources: []\nrerun: {{ live: {{ tool: a }}, trial: {{ tool: a }} }}\nproof: {{ tool: query }}\npipelines:\n  sales_etl: {{ facts: [dw.fact_sales], consistent_sql: x }}\n{yaml}"
    );
    let estate = Estate::from_yaml(&whole).unwrap();
    assert!(
        estate.watch.iter().all(|probe| probe.detect.is_some())
            && estate.lineage.is_some()
            && !estate.maintenance.is_empty()
    );
}
