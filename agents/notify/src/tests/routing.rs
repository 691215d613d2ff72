//! Who is told, when, how often; and who when nobody answers.

use std::sync::Arc;

use serde_json::{Value, json};

use super::server::{Reply, Server};
use super::slack::{FakeSlack, Trouble};
use super::world::{NOON, at, healed, of, of_phase, page, read, router, router_on, send, send_again};
use crate::config::NotifyConfig;
use crate::error::Class;
use crate::ledger::{InMemory, Ledger};
use crate::notice::{Level, Phase, Urgency};
use crate::router::Router;

/// A webhook that takes everything, and what it got.
async fn hook() -> Server {
    Server::start(|_| Reply::text(200, "")).await
}

fn bodies(server: &Server) -> Vec<Value> {
    server.seen().iter().map(super::server::Seen::json).collect()
}

fn titles(server: &Server) -> Vec<String> {
    bodies(server).iter().map(|body| body["title"].as_str().unwrap().chars().take(30).collect()).collect()
}

fn hooks(servers: &[(&str, &Server)], rest: &str) -> String {
    let channels: Vec<String> =
        servers.iter().map(|(name, server)| format!("  {name}: {{ webhook: {{ url: '{}' }} }}", server.url)).collect();
    format!("channels:\n{}\n{rest}", channels.join("\n"))
}

#[tokio::test]
async fn the_first_route_that_fits_counts() {
    let (a, b, c) = (hook().await, hook().await, hook().await);
    let config = hooks(
        &[("a", &a), ("b", &b), ("c", &c)],
        "routes:\n  - { urgency: page, at_least: error, to: [a, b] }\n  - { owner: [data-platform], pipeline: ['flights_*'], to: [b] }\n  - { to: [c] }\n",
    );
    let router = router(&config);
    let mut grave = page("inc-1");
    grave.about.as_mut().unwrap().level = Level::Error;
    let mut other = page("inc-3");
    other.about.as_mut().unwrap().owner = None;
    for (notice, expected) in [(&grave, vec!["a", "b"]), (&page("inc-2"), vec!["b"]), (&other, vec!["c"])] {
        assert_eq!(router.route_of(notice), expected);
        send(&router, notice, &notice.dedup_key, NOON).await.unwrap();
    }
    assert_eq!((a.seen().len(), b.seen().len(), c.seen().len()), (1, 2, 1));
}

#[tokio::test]
async fn the_same_key_is_one_notice_over_restarts() {
    let a = hook().await;
    let config = hooks(&[("a", &a)], "routes: [{ to: [a] }]");
    let ledger: Arc<dyn Ledger> = Arc::new(InMemory::default());
    let first = send(&router_on(&config, Arc::clone(&ledger)), &page("inc-1"), "k1", NOON).await.unwrap();
    let again = send(&router_on(&config, ledger), &page("inc-1"), "k1", "2026-11-27T13:00:00Z").await.unwrap();
    assert_eq!((a.seen().len(), &first), (1, &again));
}

#[tokio::test]
async fn summaries_wait_for_the_end_of_quiet_hours_and_pages_do_not() {
    let a = hook().await;
    let config = hooks(&[("a", &a)], "routes: [{ to: [a] }]\nquiet_hours: { from: '22:00', to: '07:00' }");
    let router = router(&config);
    let night = "2026-11-27T23:00:00Z";
    let held = send(&router, &healed("inc-1"), "k1", night).await.unwrap();
    assert_eq!((&of(&held, "a")["status"], &of(&held, "a")["until"]), (&json!("held"), &json!("2026-11-28T07:00:00Z")));
    send(&router, &page("inc-2"), "k2", night).await.unwrap();
    assert_eq!(titles(&a), ["inc-2 · flights_daily 2013-01-"], "a page gets through");
    assert_eq!(router.next_due().await.unwrap(), Some(at("2026-11-28T07:00:00Z")));
    assert!(router.flush(at("2026-11-28T06:59:59Z")).await.is_empty());
    let said = router.flush(at("2026-11-28T07:00:00Z")).await;
    assert_eq!(said.len(), 1);
    assert_eq!(titles(&a), ["inc-2 · flights_daily 2013-01-", "inc-1 · flights_daily 2013-01-"]);
    assert!(router.flush(at("2026-11-28T07:00:01Z")).await.is_empty(), "and once");
    assert_eq!(router.next_due().await.unwrap(), None);
}

/// A card that is there already turns green at once: a change makes no sound. Its thread gets the rest in the morning.
#[tokio::test]
async fn a_card_is_brought_up_to_date_in_quiet_hours() {
    let slack = FakeSlack::start().await;
    let router = router(&format!("{}\nquiet_hours: {{ from: '22:00', to: '07:00' }}", slack.config()));
    let night = "2026-11-27T23:00:00Z";
    send(&router, &page("inc-1"), "k1", night).await.unwrap();
    let held = send(&router, &healed("inc-1"), "k2", night).await.unwrap();
    assert_eq!((&of(&held, "team")["status"], &of(&held, "team")["updated"]), (&json!("held"), &json!(true)));
    assert!(slack.messages()[0].body["blocks"].to_string().contains("healed"));
    assert_eq!(slack.messages().len(), 2);
    router.flush(at("2026-11-28T07:00:00Z")).await.pop().unwrap().unwrap();
    let messages = slack.messages();
    assert_eq!(messages.len(), 3);
    assert!(messages[2].body["blocks"].to_string().contains("What happened"));
}

#[tokio::test]
async fn what_waits_and_is_overtaken_is_not_said() {
    let a = hook().await;
    let config = hooks(&[("a", &a)], "routes: [{ to: [a] }]\nquiet_hours: { from: '22:00', to: '07:00' }");
    let router = router(&config);
    send(&router, &healed("inc-1"), "k1", "2026-11-27T23:00:00Z").await.unwrap();
    send(&router, &page("inc-1"), "k2", "2026-11-27T23:10:00Z").await.unwrap();
    assert!(router.flush(at("2026-11-28T07:00:00Z")).await.is_empty());
    assert_eq!(a.seen().len(), 1);
}

#[tokio::test]
async fn what_is_over_the_limit_is_said_in_one_with_every_id() {
    let slack = FakeSlack::start().await;
    let config = slack.config().replace("} } }\nroutes", "}, limit: { notices: 2, per: 10m } } }\nroutes");
    let router = router(&config);
    for n in 1..=6 {
        let receipt = send(&router, &page(&format!("inc-{n}")), &format!("k{n}"), NOON).await.unwrap();
        let expected = if n <= 2 { "delivered" } else { "folded" };
        assert_eq!(of(&receipt, "team")["status"], expected);
    }
    let cards: Vec<_> = slack.messages().into_iter().filter(|message| message.thread.is_none()).collect();
    assert_eq!(cards.len(), 3, "two cards, and one for all others");
    let more = cards[2].body["blocks"].to_string();
    assert!(more.contains("and 4 more: inc-3, inc-4, inc-5, inc-6"), "{more}");
    // Bringing up to date what is shown is no new notice.
    send(&router, &healed("inc-1"), "k7", NOON).await.unwrap();
    // The next window has room again.
    let later = send(&router, &page("inc-7"), "k8", "2026-11-27T12:10:00Z").await.unwrap();
    assert_eq!(of(&later, "team")["status"], "delivered");
}

/// Where a notice cannot be changed, the first is said at once and the others when the window is over.
#[tokio::test]
async fn a_channel_that_cannot_change_says_the_rest_at_the_end_of_the_window() {
    let server = Server::start(|_| Reply::text(200, "ok")).await;
    let config = format!(
        "channels: {{ team: {{ slack_webhook: {{ url: {{ env: 'URL {}/services/T0/B0/hook-secret-1' }} }}, limit: {{ notices: 1, per: 10m }} }} }}\nroutes: [{{ to: [team] }}]",
        server.url
    );
    let router = router(&config);
    for n in 1..=4 {
        send(&router, &page(&format!("inc-{n}")), &format!("k{n}"), NOON).await.unwrap();
    }
    assert_eq!(server.seen().len(), 2);
    assert!(server.seen()[1].body.contains("and 1 more: inc-2"));
    assert_eq!(router.next_due().await.unwrap(), Some(at("2026-11-27T12:10:00Z")));
    router.flush(at("2026-11-27T12:10:00Z")).await.pop().unwrap().unwrap();
    assert_eq!(server.seen().len(), 3);
    assert!(server.seen()[2].body.contains("and 2 more: inc-3, inc-4"));
    assert_eq!(router.next_due().await.unwrap(), None);
}

#[tokio::test]
async fn an_incident_that_comes_and_goes_pages_only_so_often() {
    let (a, b) = (hook().await, hook().await);
    let config = hooks(
        &[("a", &a), ("b", &b)],
        "routes: [{ urgency: page, to: [a] }, { to: [b] }]\nflapping: { openings: 2, within: 1h }",
    );
    let router = router(&config);
    for (n, minute) in [(1, 0), (2, 10), (3, 20)] {
        let now = format!("2026-11-27T12:{minute:02}:00Z");
        send(&router, &page("inc-1"), &format!("p{n}"), &now).await.unwrap();
        send(&router, &healed("inc-1"), &format!("h{n}"), &now).await.unwrap();
    }
    assert_eq!(a.seen().len(), 2, "the third opening pages nobody");
    assert!(bodies(&a)[1]["remarks"][0].as_str().unwrap().contains("the next time will not page"));
    let third = bodies(&b).into_iter().find(|body| body["key"] == "p3").unwrap();
    assert!(third["remarks"][0].as_str().unwrap().starts_with("flapping: opened 3 times within 1h"));
    // Once it was quiet for so long, it pages again.
    send(&router, &page("inc-1"), "p4", "2026-11-27T13:15:00Z").await.unwrap();
    assert_eq!(a.seen().len(), 3);
}

#[tokio::test]
async fn a_held_incident_is_in_the_summary_and_pages_nobody() {
    let (a, b) = (hook().await, hook().await);
    let router = router(&hooks(&[("a", &a), ("b", &b)], "routes: [{ urgency: page, to: [a] }, { to: [b] }]"));
    let receipt = send(&router, &of_phase("inc-1", Urgency::Page, Phase::Held), "k", NOON).await.unwrap();
    assert_eq!((receipt["urgency"].as_str(), a.seen().len(), b.seen().len()), (Some("summary"), 0, 1));
}

#[tokio::test]
async fn a_channel_that_fails_for_good_has_a_stand_in() {
    let (slack, spare) = (FakeSlack::start().await, hook().await);
    let config = slack.config().replace(
        "} } }\nroutes",
        &format!("}} }}, spare: {{ webhook: {{ url: '{}' }} }} }}\nfallback: [spare]\nroutes", spare.url),
    );
    let router = router(&config);
    slack.trouble([Trouble::Error("not_in_channel")]);
    let receipt = send(&router, &page("inc-1"), "k1", NOON).await.unwrap();
    assert_eq!(
        (&of(&receipt, "spare")["status"], &of(&receipt, "team")["status"]),
        (&json!("delivered"), &json!("failed"))
    );
    assert_eq!(bodies(&spare)[0]["remarks"][0], "sent here because channel `team` failed");
    // A fault that passes is left to the runtime as long as it will try again …
    slack.trouble([Trouble::Error("ratelimited")]);
    assert_eq!(send_again(&router, &page("inc-2"), "k2", NOON).await.unwrap_err().class, Class::Limited);
    assert_eq!((spare.seen().len(), slack.methods().len()), (1, 2), "one attempt each");
    // … and is for good when it will not.
    slack.trouble([Trouble::Error("ratelimited")]);
    send(&router, &page("inc-2"), "k2", NOON).await.unwrap();
    assert_eq!(spare.seen().len(), 2);
    // A repeated send tells nobody again.
    send(&router, &page("inc-2"), "k2", NOON).await.unwrap();
    assert_eq!(spare.seen().len(), 2);
}

#[tokio::test]
async fn nobody_reached_is_an_error_that_names_everybody() {
    let broken = Server::start(|_| Reply::text(401, "no")).await;
    let router = router(&hooks(&[("a", &broken), ("b", &broken)], "fallback: [b]\nroutes: [{ to: [a] }]"));
    let error = send(&router, &page("inc-1"), "k", NOON).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("channel `a`") && text.contains("channel `b`"), "{text}");
    assert_eq!(broken.seen().len(), 2);
}

#[tokio::test]
async fn a_missing_secret_breaks_its_channel_and_not_the_others() {
    let spare = hook().await;
    let yaml = format!(
        "channels:\n  team: {{ slack: {{ token: {{ env: MISSING }}, channel: C0123456789 }} }}\n  spare: {{ webhook: {{ url: '{}' }} }}\nfallback: [spare]\nroutes: [{{ to: [team] }}]",
        spare.url
    );
    let config = NotifyConfig::parse(&yaml).unwrap();
    let opened = Router::open(&config, Arc::new(InMemory::default()), &read);
    let (router, broken) = opened.map_err(|problems| problems.join("; ")).unwrap();
    assert_eq!(broken, ["channels.team: the environment variable MISSING is not set"]);
    send(&router, &page("inc-1"), "k", NOON).await.unwrap();
    assert_eq!(spare.seen().len(), 1);
}

#[tokio::test]
async fn notices_at_the_same_time_are_counted_each_once() {
    let slack = FakeSlack::start().await;
    let config = slack.config().replace("} } }\nroutes", "}, limit: { notices: 3, per: 10m } } }\nroutes");
    let router = Arc::new(router(&config));
    let mut sends = tokio::task::JoinSet::new();
    for n in 0..8 {
        let router = Arc::clone(&router);
        sends.spawn(async move { send(&router, &page(&format!("inc-{n}")), &format!("k{n}"), NOON).await.unwrap() });
    }
    let receipts = sends.join_all().await;
    let n_of = |status: &str| receipts.iter().filter(|receipt| of(receipt, "team")["status"] == status).count();
    assert_eq!((n_of("delivered"), n_of("folded")), (3, 5));
    let more =
        slack.messages().iter().map(|m| m.body["blocks"].to_string()).filter(|text| text.contains(" more: ")).count();
    assert_eq!(more, 1, "one notice for what went over the limit");
}
