//! Webhooks: signed for receivers, and Slack's incoming one.

use serde_json::json;

use super::server::{Reply, Server};
use super::world::{NOON, at, healed, of, page, router, secret, send};
use crate::error::Class;
use crate::secrets::Secret;
use crate::webhook::signature;

fn hook_at(url: &str) -> String {
    format!(
        "channels: {{ hook: {{ webhook: {{ url: '{url}/in?team=1', secret: {{ env: H }}, headers: {{ x-team-token: {{ env: T }} }} }} }} }}\n\
         routes: [{{ to: [hook] }}]"
    )
}

#[tokio::test]
async fn a_receiver_can_check_every_request_and_take_it_once() {
    let server = Server::start(|_| Reply::text(204, "")).await;
    let router = router(&hook_at(&server.url));
    let receipt = send(&router, &healed("inc-1"), "thread:task:0:0", NOON).await.unwrap();
    assert_eq!(of(&receipt, "hook")["status"], "delivered");
    let seen = server.seen().remove(0);
    assert_eq!(seen.line(), "POST /in?team=1");
    assert_eq!(seen.header("x-team-token"), Some(secret("T").as_str()));
    assert_eq!(seen.header("idempotency-key"), Some("thread:task:0:0"));
    let timestamp: i64 = seen.header("x-interlock-timestamp").unwrap().parse().unwrap();
    assert_eq!(timestamp, at(NOON).as_second());
    let key = Secret::new(&secret("H")).unwrap();
    assert_eq!(seen.header("x-interlock-signature").unwrap(), signature(&key, timestamp, &seen.body).unwrap());
    assert_ne!(seen.header("x-interlock-signature").unwrap(), signature(&key, timestamp + 1, &seen.body).unwrap());
    let body = seen.json();
    assert_eq!(
        (&body["version"], &body["phase"], &body["urgency"]),
        (&json!(1), &json!("resolved"), &json!("summary"))
    );
    assert!(body["rca_markdown"].as_str().unwrap().starts_with("# inc-1"));
    assert!(!seen.body.contains(&secret("H")));
}

#[tokio::test]
async fn a_receiver_that_knows_the_key_has_the_notice() {
    let server = Server::start(|_| Reply::text(409, "")).await;
    let receipt = send(&router(&hook_at(&server.url)), &page("inc-1"), "k", NOON).await.unwrap();
    assert_eq!(of(&receipt, "hook")["note"], "the receiver knew it already");
    let secret_of_team = secret("T");
    let server = Server::start(move |_| Reply::text(422, &format!("token {secret_of_team} is no good"))).await;
    let error = send(&router(&hook_at(&server.url)), &page("inc-1"), "k", NOON).await.unwrap_err();
    assert_eq!((error.class, error.detail.as_str()), (Class::Invalid, "token [hidden] is no good"));
}

fn incoming(url: &str) -> String {
    format!(
        "channels: {{ team: {{ slack_webhook: {{ url: {{ env: 'URL {url}/services/T0/B0/hook-secret-1' }} }} }} }}\nroutes: [{{ to: [team] }}]"
    )
}

#[tokio::test]
async fn an_incoming_webhook_gets_everything_in_one_message() {
    let server = Server::start(|_| Reply::text(200, "ok")).await;
    let router = router(&incoming(&server.url));
    send(&router, &page("inc-1"), "k1", NOON).await.unwrap();
    let again = send(&router, &page("inc-1"), "k1", NOON).await.unwrap();
    assert_eq!(server.seen().len(), 1, "a repeated send knows its receipt: {again}");
    let body = server.seen()[0].json();
    assert!(body["blocks"].to_string().contains("the privilege INSERT"), "{body}");
    assert!(body["blocks"].as_array().unwrap().len() <= 50);
}

#[tokio::test]
async fn an_incoming_webhook_fails_as_declared_and_keeps_its_url_to_itself() {
    for (status, text, class) in [
        (400, "invalid_blocks", Class::Invalid),
        (403, "action_prohibited", Class::Missing),
        (403, "invalid_token", Class::Auth),
        (404, "channel_not_found", Class::Missing),
        (410, "channel_is_archived", Class::Missing),
        (429, "", Class::Limited),
        (500, "rollup_error", Class::Doubt),
        (200, "<html>a proxy /services/T0/B0/hook-secret-1</html>", Class::Malformed),
    ] {
        let server = Server::start(move |_| Reply::text(status, text)).await;
        let error = send(&router(&incoming(&server.url)), &page("inc-1"), "k", NOON).await.unwrap_err();
        assert_eq!((error.class, server.seen().len()), (class, 1), "{error}");
        assert!(!error.to_string().contains("hook-secret"), "{error}");
    }
}

/// It cannot be looked for, so it is posted again, and the receipt does not keep that to itself.
#[tokio::test]
async fn a_post_in_doubt_is_made_again_and_said_to_be_perhaps_doubled() {
    let mut n = 0;
    let server = Server::start(move |_| {
        n += 1;
        if n == 1 { Reply::Cut } else { Reply::text(200, "ok") }
    })
    .await;
    let router = router(&incoming(&server.url));
    assert_eq!(send(&router, &page("inc-1"), "k", NOON).await.unwrap_err().class, Class::Doubt);
    let receipt = send(&router, &page("inc-1"), "k", NOON).await.unwrap();
    assert_eq!(of(&receipt, "team")["may_be_doubled"], true);
}
