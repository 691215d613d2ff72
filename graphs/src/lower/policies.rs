//! Policies: retry, timeout, cache, error handler, budget, breaker.

use std::time::Duration;

use crate::checks::g032_out_of_range as g032;
use crate::keys;
use crate::lower::Lower;
use crate::lower::fields::{Field, Fields};
use crate::node::{Backoff, Breaker, Budget, OnExceed, Refresh, RetryPolicy, Timeout};
use crate::spec::{CacheSpec, Policies};
use crate::yaml::Data;

const ATTEMPTS_DEFAULT: u32 = 3;
const INITIAL_DEFAULT: Duration = Duration::from_millis(500);
const FACTOR_DEFAULT: f64 = 2.0;
const MAX_DEFAULT: Duration = Duration::from_secs(120);
const RETRIED_DEFAULT: [&str; 3] = ["transient", "rate_limited", "timeout"];
const FAILURES_DEFAULT: u32 = 3;
const COOLDOWN_DEFAULT: Duration = Duration::from_secs(15 * 60);

impl Lower<'_> {
    /// The graph's `defaults`.
    pub(crate) fn defaults(&mut self, field: Field<'_>) -> Policies {
        match self.fields(field.value, &keys::DEFAULTS, field.key_span) {
            Some(fields) => self.policies(&fields),
            None => Policies::default(),
        }
    }

    /// The policies among the keys of a node or of `defaults`.
    pub(crate) fn policies(&mut self, fields: &Fields<'_>) -> Policies {
        Policies {
            retry: fields.get("retry").map(|field| self.retry(field)),
            timeout: fields.get("timeout").map(|field| self.timeout(field)),
            cache: fields.get("cache").and_then(|field| self.cache(field)),
            on_error: fields.get("on_error").and_then(|field| self.name(field)),
            budget: fields.get("budget").and_then(|field| self.budget(field)),
            breaker: fields.get("breaker").and_then(|field| self.breaker(field)),
        }
    }

    fn retry(&mut self, field: Field<'_>) -> Vec<RetryPolicy> {
        match &field.value.data {
            Data::List(items) => items.iter().filter_map(|item| self.retry_policy(field.item(item))).collect(),
            _ => self.retry_policy(field).into_iter().collect(),
        }
    }

    fn retry_policy(&mut self, field: Field<'_>) -> Option<RetryPolicy> {
        let fields = self.fields(field.value, &keys::RETRY, field.key_span)?;
        let factor = fields.get("factor").and_then(|field| self.number(field)).unwrap_or(FACTOR_DEFAULT);
        if let (Some(field), true) = (fields.get("factor"), factor < 1.0) {
            self.findings.push(g032::out_of_range(field.value.span, "factor", "at least 1"));
        }
        let backoff = fields.get("backoff").and_then(|field| self.word(field, &["exponential", "fixed"]));
        let on = fields.get("on").map(|field| self.words(field, keys::ERROR_CLASSES));
        Some(RetryPolicy {
            attempts: fields.get("attempts").and_then(|field| self.whole(field, 1)).unwrap_or(ATTEMPTS_DEFAULT),
            backoff: if backoff == Some("fixed") { Backoff::Fixed } else { Backoff::Exponential },
            initial: fields.get("initial").and_then(|field| self.duration(field)).unwrap_or(INITIAL_DEFAULT),
            factor,
            max: fields.get("max").and_then(|field| self.duration(field)).unwrap_or(MAX_DEFAULT),
            on: on.unwrap_or_else(|| RETRIED_DEFAULT.map(str::to_owned).to_vec()),
        })
    }

    fn timeout(&mut self, field: Field<'_>) -> Timeout {
        if !matches!(field.value.data, Data::Map(_)) {
            return Timeout { run: self.duration(field), ..Timeout::default() };
        }
        let Some(fields) = self.fields(field.value, &keys::TIMEOUT, field.key_span) else {
            return Timeout::default();
        };
        let refresh = fields.get("refresh").and_then(|field| self.word(field, &["any", "heartbeat"]));
        Timeout {
            run: fields.get("run").and_then(|field| self.duration(field)),
            idle: fields.get("idle").and_then(|field| self.duration(field)),
            refresh: if refresh == Some("heartbeat") { Refresh::Heartbeat } else { Refresh::Any },
        }
    }

    fn cache(&mut self, field: Field<'_>) -> Option<CacheSpec> {
        let fields = self.fields(field.value, &keys::CACHE, field.key_span)?;
        Some(CacheSpec {
            key: fields.get("key").and_then(|field| self.expression(field)),
            ttl: fields.get("ttl").and_then(|field| self.duration(field)),
        })
    }

    pub(super) fn budget(&mut self, field: Field<'_>) -> Option<Budget> {
        let fields = self.fields(field.value, &keys::BUDGET, field.key_span)?;
        let on_exceed = fields.get("on_exceed").and_then(|field| self.word(field, &["pause", "downgrade", "fail"]));
        Some(Budget {
            usd_per_day: fields.get("usd_per_day").and_then(|field| self.number(field)),
            usd_per_run: fields.get("usd_per_run").and_then(|field| self.number(field)),
            tokens_per_day: fields.get("tokens_per_day").and_then(|field| self.whole(field, 0)),
            tokens_per_run: fields.get("tokens_per_run").and_then(|field| self.whole(field, 0)),
            calls_per_day: fields.get("calls_per_day").and_then(|field| self.whole(field, 0)),
            calls_per_run: fields.get("calls_per_run").and_then(|field| self.whole(field, 0)),
            on_exceed: match on_exceed {
                Some("downgrade") => OnExceed::Downgrade,
                Some("fail") => OnExceed::Fail,
                _ => OnExceed::Pause,
            },
        })
    }

    fn breaker(&mut self, field: Field<'_>) -> Option<Breaker> {
        let fields = self.fields(field.value, &keys::BREAKER, field.key_span)?;
        Some(Breaker {
            failures: fields.get("failures").and_then(|field| self.whole(field, 1)).unwrap_or(FAILURES_DEFAULT),
            cooldown: fields.get("cooldown").and_then(|field| self.duration(field)).unwrap_or(COOLDOWN_DEFAULT),
        })
    }
}
