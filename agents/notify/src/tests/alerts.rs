//! PagerDuty and Opsgenie: what is sent fits the published schema, what comes back is what was declared.

use std::time::Duration;

use serde_json::{Value, json};

use super::server::{Reply, Seen, Server};
use super::world::{NOON, healed, of, of_phase, page, router, router_within, secret, send};
use crate::error::Class;
use crate::ledger::InMemory;
use crate::notice::{Fact, LINE_BYTES_MAX, LINES_MAX, PARTS_MAX, Part, Phase, Urgency};

fn check_schema(schema: &Value, body: &Value) {
    let validator = jsonschema::validator_for(schema).unwrap();
    let problems: Vec<String> = validator.iter_errors(body).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?}\n{body:#}");
}

/// Events API v2 as published; what we send is closed, so a field that does not exist is found.
fn event_schema() -> Value {
    let text = |max: usize| json!({ "type": "string", "minLength": 1, "maxLength": max });
    json!({
        "type": "object", "additionalProperties": false, "required": ["routing_key", "event_action", "dedup_key"],
        "properties": {
            "routing_key": { "type": "string", "pattern": "^[0-9a-zA-Z]{32}$" },
            "event_action": { "enum": ["trigger", "acknowledge", "resolve"] },
            "dedup_key": text(255), "client": text(255), "client_url": text(2000),
            "payload": {
                "type": "object", "additionalProperties": false, "required": ["summary", "source", "severity"],
                "properties": {
                    "summary": text(1024), "source": text(255), "component": text(255), "group": text(255), "class": text(255),
                    "severity": { "enum": ["critical", "error", "warning", "info"] },
                    "timestamp": { "type": "string", "pattern": "^\\d{4}-\\d{2}-\\d{2}T[0-9:.]+Z$" },
                    "custom_details": { "type": "object" },
                },
            },
        },
        "if": { "properties": { "event_action": { "const": "trigger" } } },
        "then": { "required": ["payload"] }, "else": { "not": { "required": ["payload"] } },
    })
}

fn alert_schema() -> Value {
    let text = |max: usize| json!({ "type": "string", "minLength": 1, "maxLength": max });
    json!({
        "type": "object", "additionalProperties": false, "required": ["message", "alias"],
        "properties": {
            "message": text(130), "alias": text(512), "description": text(15000), "entity": text(512), "source": text(100),
            "tags": { "type": "array", "maxItems": 20, "items": text(50) },
            "priority": { "enum": ["P1", "P2", "P3", "P4", "P5"] },
            "details": { "type": "object", "additionalProperties": { "type": "string" } },
        },
    })
}

fn note_schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["note", "source"],
        "properties": { "note": { "type": "string", "maxLength": 25000 }, "source": { "type": "string", "maxLength": 100 } },
    })
}

/// A PagerDuty that checks what it is sent.
fn pagerduty(seen: &Seen) -> Reply {
    assert_eq!(seen.line(), "POST /v2/enqueue");
    assert_eq!(seen.header("content-type"), Some("application/json; charset=utf-8"));
    let body = seen.json();
    check_schema(&event_schema(), &body);
    assert_eq!(body["routing_key"], secret("P"));
    assert!(seen.body.len() <= 512 * 1024, "{}", seen.body.len());
    Reply::json(202, json!({ "status": "success", "message": "Event processed", "dedup_key": body["dedup_key"] }))
}

fn opsgenie(seen: &Seen) -> Reply {
    assert_eq!(seen.header("authorization"), Some(format!("GenieKey {}", secret("O")).as_str()));
    match seen.line() {
        "POST /v2/alerts" => check_schema(&alert_schema(), &seen.json()),
        line => {
            let act =
                line.strip_prefix("POST /v2/alerts/inc-1/").and_then(|rest| rest.strip_suffix("?identifierType=alias"));
            assert!(matches!(act, Some("notes" | "acknowledge" | "close")), "{line}");
            check_schema(&note_schema(), &seen.json());
        }
    }
    Reply::json(202, json!({ "result": "Request will be processed", "took": 0.1, "requestId": "req-1" }))
}

fn pagerduty_at(url: &str) -> String {
    format!(
        "channels: {{ oncall: {{ pagerduty: {{ routing_key: {{ env: P }}, url: '{url}' }} }} }}\nroutes: [{{ to: [oncall] }}]"
    )
}

fn opsgenie_at(url: &str) -> String {
    format!(
        "channels: {{ oncall: {{ opsgenie: {{ key: {{ env: O }}, url: '{url}' }} }} }}\nroutes: [{{ to: [oncall] }}]"
    )
}

#[tokio::test]
async fn an_incident_is_triggered_acknowledged_and_resolved_under_one_key() {
    let server = Server::start(pagerduty).await;
    let router = router(&pagerduty_at(&server.url));
    let receipt = send(&router, &page("inc-1"), "k1", NOON).await.unwrap();
    assert_eq!(of(&receipt, "oncall")["status"], "accepted");
    assert!(of(&receipt, "oncall")["note"].as_str().unwrap().contains("202 does not say that somebody was paged"));
    send(&router, &page("inc-1"), "k2", NOON).await.unwrap();
    send(&router, &of_phase("inc-1", Urgency::Summary, Phase::Acknowledged), "k3", NOON).await.unwrap();
    send(&router, &healed("inc-1"), "k4", NOON).await.unwrap();
    let late = send(&router, &healed("inc-1"), "k5", NOON).await.unwrap();
    assert_eq!(of(&late, "oncall")["why"], "no alert is open there");
    let events: Vec<Value> = server.seen().iter().map(Seen::json).collect();
    let shown: Vec<_> =
        events.iter().map(|event| (event["event_action"].as_str().unwrap(), &event["dedup_key"])).collect();
    let key = &json!("inc-1");
    assert_eq!(shown, [("trigger", key), ("trigger", key), ("acknowledge", key), ("resolve", key)]);
    let payload = &events[0]["payload"];
    assert_eq!((&payload["severity"], &payload["group"]), (&json!("warning"), &json!("data-platform")));
    assert_eq!(payload["custom_details"]["Evidence"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_summary_opens_no_alert_and_a_held_incident_pages_nobody() {
    let server = Server::start(pagerduty).await;
    let router = router(&pagerduty_at(&server.url));
    for (notice, why) in [
        (healed("inc-1"), "no alert is open there"),
        (of_phase("inc-2", Urgency::Summary, Phase::Open), "a summary opens no alert"),
        (of_phase("inc-3", Urgency::Page, Phase::Held), "held by a maintenance window: nobody is paged"),
    ] {
        let receipt = send(&router, &notice, &notice.dedup_key, NOON).await.unwrap();
        assert_eq!(
            (&of(&receipt, "oncall")["status"], &of(&receipt, "oncall")["why"]),
            (&json!("skipped"), &json!(why))
        );
    }
    assert!(server.seen().is_empty());
}

/// The longest notice there can be fits: what is too much is cut where the reader is told so.
#[tokio::test]
async fn the_longest_notice_fits_into_an_event_and_an_alert() {
    let mut notice = page("inc-1");
    let about = notice.about.as_mut().unwrap();
    let line = "é\"".repeat(LINE_BYTES_MAX / 3);
    about.parts = (0..PARTS_MAX).map(|n| Part { title: n.to_string(), lines: vec![line.clone(); LINES_MAX] }).collect();
    about.facts = (0..40).map(|n| Fact { label: n.to_string(), value: line.clone() }).collect();
    (about.headline, about.status) = (line.clone(), line.clone());
    (notice.title, notice.text) = (line.repeat(9), line.repeat(40));
    let server = Server::start(pagerduty).await;
    send(&router(&pagerduty_at(&server.url)), &notice, "k", NOON).await.unwrap();
    assert!(server.seen()[0].json()["payload"]["custom_details"]["cut"].is_string());
    let server = Server::start(opsgenie).await;
    send(&router(&opsgenie_at(&server.url)), &notice, "k", NOON).await.unwrap();
    let details = server.seen()[0].json()["details"].as_object().unwrap().clone();
    let n: usize =
        details.iter().map(|(name, value)| name.chars().count() + value.as_str().unwrap().chars().count()).sum();
    assert!(n <= 8_000 && n > 6_000, "{n}");
}

#[tokio::test]
async fn an_alert_is_created_noted_acknowledged_and_closed_by_its_alias() {
    let server = Server::start(opsgenie).await;
    let router = router(&opsgenie_at(&server.url));
    let receipt = send(&router, &page("inc-1"), "k1", NOON).await.unwrap();
    assert_eq!(
        (&of(&receipt, "oncall")["status"], &of(&receipt, "oncall")["request_ids"]),
        (&json!("accepted"), &json!(["req-1"]))
    );
    send(&router, &page("inc-1"), "k2", NOON).await.unwrap();
    send(&router, &of_phase("inc-1", Urgency::Summary, Phase::Acknowledged), "k3", NOON).await.unwrap();
    send(&router, &healed("inc-1"), "k4", NOON).await.unwrap();
    let at = |act: &str| format!("POST /v2/alerts/inc-1/{act}?identifierType=alias");
    let create = "POST /v2/alerts".to_owned();
    assert_eq!(server.lines(), [create.clone(), create, at("notes"), at("acknowledge"), at("close")]);
    assert!(server.seen()[4].json()["note"].as_str().unwrap().contains("## Verified by"));
}

struct Case {
    name: &'static str,
    reply: Reply,
    class: Class,
    said: &'static str,
}

fn cases() -> Vec<Case> {
    let case = |name, reply, class, said| Case { name, reply, class, said };
    let echo = json!({ "status": "invalid event", "message": format!("bad {}", secret("P")), "errors": [format!("x {}", secret("O"))] });
    vec![
        case("400", Reply::json(400, echo), Class::Invalid, "HTTP 400: bad [hidden]"),
        case("401", Reply::json(401, json!({ "message": "nope" })), Class::Auth, "HTTP 401: nope"),
        case("403", Reply::text(403, ""), Class::Auth, "HTTP 403"),
        case("404", Reply::text(404, ""), Class::Missing, "HTTP 404"),
        case("429", Reply::Answer(429, "retry-after: 7\r\n".into(), String::new()), Class::Limited, "retry after 7 s"),
        case("500", Reply::text(500, "oops"), Class::Doubt, "HTTP 500"),
        case("503", Reply::text(503, ""), Class::Unavailable, "HTTP 503"),
        case(
            "302",
            Reply::Answer(302, "location: http://x\r\n".into(), String::new()),
            Class::Malformed,
            "points elsewhere",
        ),
        case("200", Reply::json(200, json!({ "status": "success" })), Class::Malformed, "HTTP 200"),
        case("long", Reply::text(202, &"x".repeat(300 * 1024)), Class::Malformed, "longer than"),
        case("cut", Reply::Cut, Class::Doubt, "the connection broke before an answer"),
        case("timeout", Reply::Hang, Class::Doubt, "no whole answer in 400 ms"),
    ]
}

#[tokio::test]
async fn every_way_to_fail_ends_as_declared_after_one_attempt() {
    for (service, config) in [("pagerduty", pagerduty_at as fn(&str) -> String), ("opsgenie", opsgenie_at)] {
        for Case { name, reply, class, said } in cases() {
            let server = Server::start(move |_| reply.clone()).await;
            let ledger = std::sync::Arc::new(InMemory::default());
            let whole = if name == "timeout" { Duration::from_millis(400) } else { Duration::from_secs(20) };
            let router = router_within(&config(&server.url), ledger, whole);
            let error = send(&router, &page("inc-1"), "k", NOON).await.unwrap_err();
            let text = error.to_string();
            assert_eq!((error.class, server.seen().len()), (class, 1), "{service} {name}: {text}");
            assert!(service == "opsgenie" && name == "400" || text.contains(said), "{service} {name}: {text}");
            assert!(!text.contains(&secret("P")) && !text.contains(&secret("O")), "{text}");
        }
    }
}

#[tokio::test]
async fn a_wrong_routing_key_and_an_empty_success_are_told_apart() {
    let said = json!({ "status": "invalid event", "message": "Event object is invalid", "errors": ["Length of 'routing_key' is incorrect"] });
    let server = Server::start(move |_| Reply::json(400, said.clone())).await;
    let error = send(&router(&pagerduty_at(&server.url)), &page("inc-1"), "k", NOON).await.unwrap_err();
    assert_eq!(error.class, Class::Auth, "{error}");
    let server = Server::start(|_| Reply::text(202, "")).await;
    let error = send(&router(&pagerduty_at(&server.url)), &page("inc-1"), "k", NOON).await.unwrap_err();
    assert!(error.to_string().contains("202 without `status: success`"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let server = Server::start(|_| Reply::Cut).await;
    let url = server.url.clone();
    drop(server);
    // The port is free again once the listener is gone with its task.
    tokio::task::yield_now().await;
    let error = send(&router(&pagerduty_at(&url)), &page("inc-1"), "k", NOON).await.unwrap_err();
    assert!(matches!(error.class, Class::Unavailable | Class::Doubt), "{error}");
    let error = send(&router(&pagerduty_at("http://127.0.0.1:1")), &page("inc-1"), "k", NOON).await.unwrap_err();
    assert_eq!((error.class, error.detail.as_str()), (Class::Unavailable, "no connection"));
}
