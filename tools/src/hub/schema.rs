//! Checks values against the schemas of strangers: nothing is fetched, no pattern runs away, no check holds the runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jsonschema::{PatternOptions, Retrieve, Uri, Validator};
use serde_json::Value;
use tokio::sync::oneshot;

use super::error::quote;
use super::limits::{CHECK_TIMEOUT, PATTERN_BACKTRACK_MAX, RUNAWAY_CHECKS_MAX, SCHEMA_BYTES_MAX};

/// Keywords that lead elsewhere in a schema.
const REFERENCES: [&str; 3] = ["\"$ref\"", "\"$dynamicRef\"", "\"$recursiveRef\""];

/// A compiled schema.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    validator: Arc<Validator>,
    /// With references a small schema can ask for exponential work; without, the work is bounded by its size.
    refers: bool,
}

/// The first value that does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    pub(super) pointer: String,
    pub(super) message: String,
}

/// Why a value was not found to fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It does not.
    Misfit(Misfit),
    /// Nobody knows: the check took too long.
    TooLong,
}

/// A reference to another document is never followed: a schema would choose where we connect.
struct Nowhere;

impl Retrieve for Nowhere {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("references to other documents are not followed: {}", quote(uri.as_str())).into())
    }
}

impl Schema {
    /// Compiles a schema, draft 2020-12 unless it names another.
    pub(super) fn compile(schema: &Value) -> Result<Self, String> {
        let text = schema.to_string();
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(format!("{} bytes; the limit is {SCHEMA_BYTES_MAX}", text.len()));
        }
        let patterns = PatternOptions::fancy_regex().backtrack_limit(PATTERN_BACKTRACK_MAX);
        let compiled = jsonschema::options().with_retriever(Nowhere).with_pattern_options(patterns).build(schema);
        let validator = Arc::new(compiled.map_err(|error| quote(&error.to_string()))?);
        Ok(Self { validator, refers: REFERENCES.iter().any(|keyword| text.contains(keyword)) })
    }

    /// The first misfit of a value, by JSON pointer.
    fn misfit(&self, value: &Value) -> Option<Misfit> {
        let error = self.validator.iter_errors(value).next()?;
        Some(Misfit { pointer: error.instance_path().to_string(), message: quote(&error.to_string()) })
    }
}

/// Checks values within a limit of time, and bounds the threads a hostile schema can keep busy.
#[derive(Debug)]
pub(super) struct Checker {
    running: Arc<AtomicUsize>,
    running_max: usize,
    timeout: Duration,
}

impl Default for Checker {
    fn default() -> Self {
        Self { running: Arc::default(), running_max: RUNAWAY_CHECKS_MAX, timeout: CHECK_TIMEOUT }
    }
}

impl Checker {
    /// Gives the value back when it fits.
    pub(super) async fn check(&self, schema: &Schema, value: Value) -> Result<Value, Unfit> {
        if !schema.refers {
            return verdict(schema.misfit(&value), value);
        }
        // A check cannot be interrupted, so it must not run on a thread of the runtime, whose end would wait for it.
        if self.running.fetch_add(1, Ordering::AcqRel) >= self.running_max {
            self.running.fetch_sub(1, Ordering::AcqRel);
            return Err(Unfit::TooLong);
        }
        let (sender, receiver) = oneshot::channel();
        let (schema, running) = (schema.clone(), self.running.clone());
        let started = std::thread::Builder::new().name("schema-check".into()).spawn(move || {
            let misfit = schema.misfit(&value);
            running.fetch_sub(1, Ordering::AcqRel);
            let _ = sender.send(verdict(misfit, value));
        });
        if started.is_err() {
            self.running.fetch_sub(1, Ordering::AcqRel);
            return Err(Unfit::TooLong);
        }
        tokio::time::timeout(self.timeout, receiver).await.ok().and_then(Result::ok).unwrap_or(Err(Unfit::TooLong))
    }
}

fn verdict(misfit: Option<Misfit>, value: Value) -> Result<Value, Unfit> {
    misfit.map_or(Ok(value), |misfit| Err(Unfit::Misfit(misfit)))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    /// Enough to outlast the limit of the test many times, and few enough to end soon after it.
    const DOUBLINGS: usize = 20;

    async fn check_schema(schema: Value, value: Value, expected: Expect) {
        let shown = match Schema::compile(&schema) {
            Err(error) => format!("schema: {error}"),
            Ok(schema) => match Checker::default().check(&schema, value).await {
                Ok(_) => "fits".to_owned(),
                Err(unfit) => format!("{unfit:?}"),
            },
        };
        expected.assert_eq(&shown);
    }

    #[tokio::test]
    async fn a_misfit_has_a_pointer() {
        let schema =
            json!({"type": "object", "properties": {"rows": {"items": {"type": "integer"}}}, "required": ["rows"]});
        check_schema(schema.clone(), json!({"rows": [1, 2]}), expect!["fits"]).await;
        check_schema(
            schema.clone(),
            json!({"rows": [1, "x"]}),
            expect![[r#"Misfit(Misfit { pointer: "/rows/1", message: "\"x\" is not of type \"integer\"" })"#]],
        )
        .await;
        check_schema(
            schema,
            json!({}),
            expect![[r#"Misfit(Misfit { pointer: "", message: "\"rows\" is a required property" })"#]],
        )
        .await;
    }

    #[tokio::test]
    async fn other_documents_are_not_fetched() {
        check_schema(json!({"$ref": "http://127.0.0.1:9/x.json"}), json!({}), expect!["schema: Resource 'http://127.0.0.1:9/x.json' is not present in a registry and retrieving it failed: references to other documents are not followed: http://127.0.0.1:9/x.json"]).await;
        check_schema(json!({"$ref": "file:///etc/passwd"}), json!({}), expect!["schema: Resource 'file:///etc/passwd' is not present in a registry and retrieving it failed: references to other documents are not followed: file:///etc/passwd"]).await;
    }

    #[tokio::test]
    async fn references_in_a_circle_end() {
        check_schema(json!({"$ref": "#"}), json!({}), expect!["fits"]).await;
        check_schema(json!({"$dynamicAnchor": "x", "allOf": [{"$dynamicRef": "#x"}]}), json!({}), expect!["fits"])
            .await;
        let tree = json!({"type": "object", "properties": {"child": {"$ref": "#"}}});
        check_schema(
            tree,
            json!({"child": {"child": 1}}),
            expect![[r#"Misfit(Misfit { pointer: "/child/child", message: "1 is not of type \"object\"" })"#]],
        )
        .await;
    }

    #[tokio::test]
    async fn a_pattern_cannot_run_away() {
        check_schema(json!({"type": "string", "pattern": "^(a+)+(?=b)$"}), json!("a".repeat(60)), expect![[r#"Misfit(Misfit { pointer: "", message: "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" does not match \"^(a+)+(?=b)$\"" })"#]]).await;
    }

    #[tokio::test]
    async fn a_check_that_doubles_with_every_level_is_given_up() {
        let mut defs = serde_json::Map::new();
        for level in 0..DOUBLINGS {
            let next = json!({"$ref": format!("#/$defs/{}", level + 1)});
            defs.insert(level.to_string(), json!({"allOf": [next, next]}));
        }
        defs.insert(DOUBLINGS.to_string(), json!({"type": "object"}));
        let schema = Schema::compile(&json!({"$defs": defs, "$ref": "#/$defs/0"})).unwrap();
        let limit = Duration::from_millis(5);
        let checker = Checker { running_max: 1, timeout: limit, ..Checker::default() };
        assert_eq!(checker.check(&schema, json!({})).await, Err(Unfit::TooLong));
        assert_eq!(checker.running.load(Ordering::Acquire), 1, "the thread is still at it");
        assert_eq!(checker.check(&schema, json!({})).await, Err(Unfit::TooLong));
        assert_eq!(checker.running.load(Ordering::Acquire), 1, "no further thread is started");
    }
}
