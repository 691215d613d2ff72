//! The cache keeps what it may, as long as it may, for whom it may.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::cache::{Cache, CacheBounds, CacheStore, MemoryCache, Question, Scope};
use crate::prices::Amounts;
use crate::request::{Message, ModelRequest, Part, Role};
use crate::response::{ModelResponse, StopReason};

const COST: Amounts = Amounts { usd_micros: 4200, tokens: 100 };

pub(super) fn scope(tenant: &str) -> Scope {
    Scope { tenant: tenant.into(), asker: "etl/diagnostic@3".into(), tier: "low".into() }
}

fn at(hours: i64) -> Timestamp {
    "2026-03-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours)
}

pub(super) fn answer(text: &str) -> ModelResponse {
    ModelResponse {
        parts: vec![Part::text(text)],
        stop: StopReason::End,
        usage: None,
        provider: "p".into(),
        model: "m".into(),
        request_id: Some("req_1".into()),
    }
}

fn asked(tenant: &str, text: &str) -> Question {
    Question::of(&scope(tenant), &ModelRequest::of_text(text, 100))
}

fn bounds() -> CacheBounds {
    CacheBounds { entries: 3, bytes: 10_000, entry_bytes: 2000, ttl: SignedDuration::from_hours(24) }
}

fn cache(bounds: CacheBounds) -> Cache<MemoryCache> {
    Cache::new(MemoryCache::new(bounds), bounds)
}

#[tokio::test]
async fn a_hit_says_so_and_costs_nothing() {
    let cache = cache(bounds());
    cache.put(&asked("t", "run 17 failed"), &answer("cause"), COST, at(0)).await;
    let hit = cache.get(&asked("t", "run 18 failed"), at(1)).await.unwrap();
    assert_eq!((hit.response, hit.stored, hit.saved, hit.spent), (answer("cause"), at(0), COST, Amounts::default()));
}

#[tokio::test]
async fn an_answer_never_leaves_its_scope_nor_outlives_its_time() {
    let cache = cache(bounds());
    cache.put(&asked("t", "x"), &answer("cause"), COST, at(0)).await;
    assert!(cache.get(&asked("other", "x"), at(1)).await.is_none());
    assert!(cache.get(&asked("t", "x"), at(23)).await.is_some());
    assert!(cache.get(&asked("t", "x"), at(24)).await.is_none());
}

#[tokio::test]
async fn only_whole_answers_of_a_bounded_size_are_kept() {
    let cache = cache(bounds());
    for stop in [StopReason::MaxTokens, StopReason::Refusal, StopReason::Paused, StopReason::ContextFull] {
        cache.put(&asked("t", "x"), &ModelResponse { stop, ..answer("half") }, COST, at(0)).await;
    }
    cache.put(&asked("t", "x"), &answer(&"long".repeat(1000)), COST, at(0)).await;
    assert!(cache.get(&asked("t", "x"), at(1)).await.is_none());
}

/// An answer that repeats an id of its question, or acts on it, would be wrong for the next one.
#[tokio::test]
async fn what_is_true_of_one_occurrence_only_is_not_kept() {
    let cache = cache(bounds());
    let question = asked("t", "run prod__2026-03-31__1795240137018 failed: 39123 rows, 3 retries");
    for text in ["clear run prod__2026-03-31__1795240137018", "39123 rows are missing", "look at 1795240137018"] {
        assert!(!cache.put(&question, &answer(text), COST, at(0)).await, "{text}");
    }
    let call = Part::call("c1".into(), "clear".into(), "{}");
    let acts = ModelResponse { parts: vec![Part::text("I clear it"), call], stop: StopReason::ToolUse, ..answer("") };
    assert!(!cache.put(&question, &acts, COST, at(0)).await);
    assert!(!cache.put(&question, &ModelResponse { stop: StopReason::End, ..acts }, COST, at(0)).await);
    assert!(cache.get(&question, at(1)).await.is_none());
    let thought = Part::Thought { provider: "p".into(), model: "m".into(), data: json!("39123") };
    let general = ModelResponse {
        parts: vec![thought, Part::text("the upstream is late; 3 retries did not help")],
        ..answer("")
    };
    assert!(cache.put(&question, &general, COST, at(0)).await);
    let hit =
        cache.get(&asked("t", "run prod__2026-04-01__1795240137999 failed: 17 rows, 5 retries"), at(1)).await.unwrap();
    assert_eq!(
        hit.response.parts,
        [Part::text("the upstream is late; 3 retries did not help")],
        "without the thoughts"
    );
}

#[tokio::test]
async fn the_least_lately_used_goes_first() {
    let cache = cache(bounds());
    for text in ["a", "b", "c"] {
        cache.put(&asked("t", text), &answer(text), COST, at(0)).await;
    }
    assert!(cache.get(&asked("t", "a"), at(1)).await.is_some());
    cache.put(&asked("t", "d"), &answer("d"), COST, at(1)).await;
    let mut kept = Vec::new();
    for text in ["a", "b", "c", "d"] {
        kept.extend(cache.get(&asked("t", text), at(2)).await.map(|_| text));
    }
    assert_eq!(kept, ["a", "c", "d"]);
}

#[tokio::test]
async fn all_answers_together_keep_their_bound() {
    let bounds = CacheBounds { entries: 1000, bytes: 5000, ..bounds() };
    let store = MemoryCache::new(bounds);
    let entry = |text: &str| crate::CacheEntry { response: answer(text), cost: COST, stored: at(0), until: at(9) };
    for n in 0..100 {
        store.put(asked("t", &format!("cause {}", "x".repeat(n))).key().clone(), entry(&"y".repeat(500))).await;
        store.put(asked("t", &format!("cause {}", "x".repeat(n))).key().clone(), entry(&"z".repeat(500))).await;
    }
    assert!((2..10).contains(&store.len()), "{}", store.len());
    assert!(!store.is_empty());
}

#[test]
fn names_of_calls_and_thoughts_are_no_part_of_the_question() {
    let conversation = |id: &str, sealed: &str, content: &str| {
        let mut request = ModelRequest::of_text("why?", 100);
        let thought = Part::Thought { provider: "p".into(), model: "m".into(), data: json!(sealed) };
        let parts = vec![thought, Part::call(id.into(), "log".into(), "{\"task\":\"load\"}")];
        request.messages.push(Message { role: Role::Assistant, parts, cache: false });
        let parts = vec![Part::ToolResult { call_id: id.into(), content: content.into(), is_error: false }];
        request.messages.push(Message { role: Role::User, parts, cache: false });
        Question::of(&scope("t"), &request)
    };
    let one = conversation("toolu_01", "x", "HTTP Error 503");
    assert_eq!(one, conversation("toolu_02", "y", "HTTP Error 503"));
    assert_ne!(one, conversation("toolu_01", "x", "HTTP Error 502"));
    let mut hot = ModelRequest::of_text("why?", 100);
    hot.temperature = Some(1.0);
    assert_ne!(Question::of(&scope("t"), &hot), Question::of(&scope("t"), &ModelRequest::of_text("why?", 100)));
    assert_eq!(one.key().as_str().len(), 64);
}
