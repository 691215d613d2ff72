//! Batches of both providers, from handing in to the last answer, over a restart.

use serde_json::{Value, json};

use super::calls::{KEY, KINDS, config, key, ports};
use super::server::{Reply, Server};
use super::streams::whole;
use crate::batch::{BATCH_REQUESTS_MAX, Batch, BatchItem, BatchProgress, BatchTicket, open_batches};
use crate::config::Kind;
use crate::error::{ErrorClass, Spent};
use crate::prices::PriceTable;
use crate::request::ModelRequest;

fn items() -> Vec<BatchItem> {
    let request =
        ModelRequest { model: "claude-opus-5-5".into(), ..ModelRequest::of_text("secret words of the prompt", 100) };
    ["one", "two", "three", "four"].map(|id| BatchItem { id: id.into(), request: request.clone() }).into()
}

fn script(kind: usize) -> Vec<Reply> {
    let lines = |lines: &[Value]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    if kind == 0 {
        let results = lines(&[
            json!({"custom_id": "two", "result": {"type": "errored", "error": {"type": "error", "error": {"type": "invalid_request_error", "message": "secret words"}}}}),
            json!({"custom_id": "one", "result": {"type": "succeeded", "message": whole(0)}}),
            json!({"custom_id": "three", "result": {"type": "expired"}}),
            json!({"custom_id": "not-ours", "result": {"type": "expired"}}),
        ]);
        return vec![
            Reply::json(200, "", &json!({"id": "msgbatch_1", "processing_status": "in_progress"})),
            Reply::json(
                200,
                "",
                &json!({"processing_status": "in_progress", "request_counts": {"processing": 3, "succeeded": 1}}),
            ),
            Reply::json(200, "", &json!({"processing_status": "ended", "results_url": "http://evil.example/"})),
            Reply::text(200, "", &results).in_pieces(11),
        ];
    }
    let answers =
        lines(&[json!({"custom_id": "one", "response": {"status_code": 200, "body": whole(kind)}, "error": null})]);
    let errors = lines(&[
        json!({"custom_id": "two", "response": {"status_code": 400, "body": {"error": {"type": "invalid_request_error", "message": "secret words"}}}}),
        json!({"custom_id": "three", "response": null, "error": {"code": "batch_expired", "message": "expired"}}),
    ]);
    vec![
        Reply::json(200, "", &json!({"id": "file-1"})),
        Reply::json(200, "", &json!({"id": "batch_1", "status": "validating"})),
        Reply::json(
            200,
            "",
            &json!({"status": "in_progress", "request_counts": {"total": 4, "completed": 1, "failed": 0}}),
        ),
        Reply::json(200, "", &json!({"status": "completed", "output_file_id": "file-2", "error_file_id": "file-3"})),
        Reply::text(200, "", &answers).in_pieces(11),
        Reply::text(200, "", &errors),
    ]
}

#[tokio::test]
async fn a_batch_is_handed_in_followed_over_a_restart_and_fetched() {
    for (kind_ix, kind) in KINDS.into_iter().enumerate() {
        let server = Server::start(script(kind_ix)).await;
        let open = || open_batches("p", &config(kind, &server.url), key(), ports().0).unwrap();
        let ticket = open().submit(&items()).await.unwrap();
        // What a durable caller keeps.
        let ticket: BatchTicket = serde_json::from_str(&serde_json::to_string(&ticket).unwrap()).unwrap();
        let batches = open();
        assert_eq!(batches.poll(&ticket).await.unwrap(), BatchProgress::Working { done: 1, total: 4 });
        let BatchProgress::Ended(batch) = batches.poll(&ticket).await.unwrap() else { panic!("it has ended") };
        let found = batches.results(&ticket, &batch).await.unwrap();
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            ["four", "one", "three", "two"],
            "one answer for each request, and no other"
        );
        let answer = found["one"].as_ref().unwrap();
        assert_eq!((answer.text().as_str(), answer.provider.as_str()), ("I clear both – ✓", "p"));
        for id in ["two", "three", "four"] {
            let error = found[id].as_ref().unwrap_err();
            assert_eq!(error.spent, Spent::Nothing, "{id}");
            assert!(!error.to_string().contains("secret words"), "{error}");
        }
        let prices = PriceTable::shipped().unwrap();
        let card = prices.card("p", "claude-opus-5-5").unwrap();
        let usage = answer.usage.unwrap();
        assert_eq!(card.batch_cost(&usage).usd_micros, card.cost(&usage).usd_micros.div_ceil(2), "half the price");
    }
}

#[tokio::test]
async fn each_provider_is_asked_in_its_own_words() {
    let mut paths = Vec::new();
    for (kind_ix, kind) in KINDS.into_iter().enumerate() {
        let server = Server::start(script(kind_ix)).await;
        let batches = open_batches("p", &config(kind, &server.url), key(), ports().0).unwrap();
        let ticket = batches.submit(&items()).await.unwrap();
        batches.poll(&ticket).await.unwrap();
        let seen = server.seen();
        paths.extend(seen.iter().map(|seen| seen.line().trim_end_matches(" HTTP/1.1").to_owned()));
        let header = if kind == Kind::Anthropic {
            ("x-api-key", KEY.to_owned())
        } else {
            ("authorization", format!("Bearer {KEY}"))
        };
        assert!(seen.iter().all(|seen| seen.header(header.0) == Some(&header.1)));
        if kind == Kind::Anthropic {
            let body = seen[0].json();
            assert_eq!(
                (&body["requests"][0]["custom_id"], &body["requests"][0]["params"]["max_tokens"]),
                (&json!("one"), &json!(100))
            );
        } else {
            let mark = seen[0]
                .header("content-type")
                .and_then(|text| text.strip_prefix("multipart/form-data; boundary="))
                .unwrap()
                .to_owned();
            let parts: Vec<&str> = seen[0].body.split(&format!("--{mark}")).collect();
            assert_eq!((parts.len(), parts[3]), (4, "--\r\n"));
            let (_, lines) = parts[2].split_once("\r\n\r\n").unwrap();
            let line: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
            let path = if kind == Kind::OpenaiChat { "/v1/chat/completions" } else { "/v1/responses" };
            assert_eq!(
                (&line["custom_id"], &line["method"], &line["url"]),
                (&json!("one"), &json!("POST"), &json!(path))
            );
            assert_eq!(
                seen[1].json(),
                json!({"input_file_id": "file-1", "endpoint": path, "completion_window": "24h"})
            );
        }
    }
    assert_eq!(
        paths,
        [
            "POST /v1/messages/batches",
            "GET /v1/messages/batches/msgbatch_1",
            "POST /files",
            "POST /batches",
            "GET /batches/batch_1",
            "POST /files",
            "POST /batches",
            "GET /batches/batch_1",
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_handed_in_is_not() {
    let server = Server::start(vec![]).await;
    let batches = open_batches("p", &config(Kind::Anthropic, &server.url), key(), ports().0).unwrap();
    let mut twice = items();
    twice[1].id = "one".into();
    let mut odd = items();
    odd[1].id = "a/b".into();
    let mut mixed = items();
    mixed[1].request.model = "other".into();
    let mut streamed = items();
    streamed[0].request.stream = true;
    let many = (0..=BATCH_REQUESTS_MAX)
        .map(|n| BatchItem { id: n.to_string(), request: items()[0].request.clone() })
        .collect();
    for wrong in [vec![], twice, odd, mixed, streamed, many] {
        let error = batches.submit(&wrong).await.unwrap_err();
        assert_eq!((error.class, error.spent), (ErrorClass::InvalidRequest, Spent::Nothing));
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_lost_answer_to_handing_in_may_have_cost_and_is_not_repeated() {
    let server = Server::start(vec![Reply::raw(String::new())]).await;
    let batches = open_batches("p", &config(Kind::Anthropic, &server.url), key(), ports().0).unwrap();
    let error = batches.submit(&items()).await.unwrap_err();
    assert_eq!((error.spent, server.seen().len()), (Spent::Unknown, 1));
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_not_followed() {
    let server = Server::start(vec![]).await;
    let batches = open_batches("p", &config(Kind::OpenaiChat, &server.url), key(), ports().0).unwrap();
    let ticket =
        BatchTicket { provider: "p".into(), model: "m".into(), batch: "../admin".into(), ids: ["one".into()].into() };
    assert_eq!(batches.poll(&ticket).await.unwrap_err().class, ErrorClass::MalformedAnswer);
    let batch = Batch { results: vec!["x?y=1".into()] };
    assert!(batches.results(&ticket, &batch).await.is_err());
    assert!(server.seen().is_empty());
}
