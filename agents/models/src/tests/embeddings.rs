//! Vectors over a scripted server: what goes out, what it costs, what is refused, what never gets out.

use std::sync::Arc;

use serde_json::{Value, json};

use super::calls::{KEY, config, key, ports};
use super::server::{Reply, Server};
use crate::config::{Key, KeySource, Kind, ModelsConfig};
use crate::embeddings::{EMBEDDED_MAX, Embeddings};
use crate::error::{ErrorClass, Spent};
use crate::masking::{MaskRules, Masker};
use crate::prices::PriceTable;
use crate::tiers::Setup;
use crate::tokens::Correction;

const PRICES: &str = "vec-1: { date: 2026-11-01, source: test, input: 2, output: 0, context: 8192, max_output: 1 }\n";

fn opened(url: &str, kind: Kind, entry: &str) -> Result<Embeddings, String> {
    let mut models = ModelsConfig::default();
    let mut provider = config(kind, url);
    provider.key_env = Some("K".to_owned());
    models.providers.insert("p".to_owned(), provider);
    let read_key = |_: &KeySource| -> Result<Key, String> { key().ok_or_else(String::new) };
    let setup = Setup {
        prices: PriceTable::parse(PRICES).unwrap(),
        correction: Correction::default(),
        ports: ports().0,
        key: &read_key,
    };
    Embeddings::open(&models, entry, setup, Arc::new(Masker::new(&MaskRules::default()).unwrap()))
}

fn answer(vectors: &[(u64, [f32; 2])]) -> Value {
    let data =
        vectors.iter().map(|(index, vector)| json!({"object": "embedding", "index": index, "embedding": vector}));
    json!({"object": "list", "model": "vec-1", "data": data.collect::<Vec<_>>(), "usage": {"prompt_tokens": 500_000, "total_tokens": 500_000}})
}

async fn embedded(script: Vec<Reply>, texts: &[&str]) -> (Result<crate::Embedded, crate::ModelError>, Server) {
    let server = Server::start(script).await;
    let model = opened(&server.url, Kind::OpenaiChat, "p/vec-1").unwrap();
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    (model.embed(&texts).await, server)
}

#[tokio::test]
async fn texts_become_vectors_in_their_order_and_cost_what_was_counted() {
    let reply = Reply::json(200, "", &answer(&[(1, [0.0, 1.0]), (0, [1.0, 0.5])]));
    let (done, server) = embedded(vec![reply], &["first", "second"]).await;
    let done = done.unwrap();
    assert_eq!(done.vectors, [[1.0, 0.5], [0.0, 1.0]]);
    // Half a million tokens at two dollars a million.
    assert_eq!((done.spent.usd_micros, done.spent.tokens), (1_000_000, 500_000));
    let seen = &server.seen()[0];
    assert_eq!(seen.line(), "POST /embeddings HTTP/1.1");
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(seen.json(), json!({"model": "vec-1", "input": ["first", "second"], "encoding_format": "float"}));
}

#[tokio::test]
async fn no_personal_data_and_no_secret_leaves() {
    let text = "row of ann@bank.example, card 4111 1111 1111 1111, ghp_abcdefghijklmnopqrstuvwxyz0123456789";
    let (done, server) = embedded(vec![Reply::json(200, "", &answer(&[(0, [1.0, 1.0])]))], &[text]).await;
    assert!(done.is_ok());
    let sent = &server.seen()[0].body;
    assert!(sent.contains("row of [email]"), "{sent}");
    for secret in ["ann@bank", "4111", "ghp_"] {
        assert!(!sent.contains(secret), "{sent}");
    }
}

#[tokio::test]
async fn overload_is_tried_again_and_what_may_have_cost_is_not() {
    let busy = || Reply::json(429, "retry-after: 1\r\n", &json!({"error": {"message": "slow down"}}));
    let good = || Reply::json(200, "", &answer(&[(0, [1.0, 1.0])]));
    let (done, server) = embedded(vec![busy(), busy(), good()], &["x"]).await;
    assert_eq!((done.is_ok(), server.seen().len()), (true, 3));
    let (done, server) =
        embedded(vec![Reply::text(200, "content-type: application/json\r\n", "{\"data\": ["), good()], &["x"]).await;
    let error = done.unwrap_err();
    assert_eq!((error.class, error.spent, server.seen().len()), (ErrorClass::MalformedAnswer, Spent::Unknown, 1));
}

#[tokio::test]
async fn an_error_has_neither_key_nor_text() {
    let echo = json!({"error": {"message": format!("bad key {KEY} for input the customer Weber owes 4711 euros")}});
    let (done, _server) = embedded(vec![Reply::json(401, "", &echo)], &["the customer Weber owes 4711 euros"]).await;
    let error = done.unwrap_err();
    assert_eq!(error.class, ErrorClass::Auth);
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(KEY) && !shown.contains("Weber") && !shown.contains("4711"), "{shown}");
}

#[tokio::test]
async fn strange_answers_are_refused() {
    let of = |data: Value| Reply::json(200, "", &json!({"data": data}));
    for data in [
        json!([]),
        json!([{"index": 0, "embedding": [1.0]}]),
        json!([{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]),
        json!([{"index": 0, "embedding": [1.0]}, {"index": 7, "embedding": [1.0]}]),
        json!([{"index": 0, "embedding": []}, {"index": 1, "embedding": [1.0]}]),
        json!([{"index": 0, "embedding": ["x"]}, {"index": 1, "embedding": [1.0]}]),
        json!([{"index": 0, "embedding": [1e300]}, {"index": 1, "embedding": [1.0]}]),
        json!("none"),
    ] {
        let (done, _server) = embedded(vec![of(data.clone())], &["a", "b"]).await;
        assert_eq!(done.map_err(|error| error.class), Err(ErrorClass::MalformedAnswer), "{data}");
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_before() {
    let texts = vec!["x".to_owned(); EMBEDDED_MAX + 1];
    let model = opened("http://127.0.0.1:9", Kind::OpenaiChat, "p/vec-1").unwrap();
    for texts in [&texts[..], &[]] {
        let error = model.embed(texts).await.unwrap_err();
        assert_eq!((error.class, error.tries), (ErrorClass::InvalidRequest, 0));
    }
    assert!(model.worst_case(&texts[..1]).usd_micros > 0);
    for (kind, entry, why) in [
        (Kind::Anthropic, "p/vec-1", "makes no vectors"),
        (Kind::OpenaiChat, "q/vec-1", "there is no provider `q`"),
        (Kind::OpenaiChat, "vec-1", "is not `provider/model`"),
        (Kind::OpenaiChat, "p/vec-2", "no price"),
    ] {
        let failed = opened("http://127.0.0.1:9", kind, entry).map(drop).unwrap_err();
        assert!(failed.contains(why), "{failed}");
    }
    let shown = format!("{model:?}");
    assert!(!shown.contains(KEY), "{shown}");
}
