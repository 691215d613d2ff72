//! Notices of agents on their way to people: on standard error when nothing is configured, else through the router, whose
//! ledger is this installation's store.

mod timeline;

use std::sync::Arc;
use std::time::Duration;

use agents::{Delivery, Notice, Notifier, Urgency};
use async_trait::async_trait;
use jiff::Timestamp;
use notify::{Class, Ledger, NotifyConfig, Router, SendError};
use runtime::ports::store::Store;
use runtime_core::error::{ErrorClass, TaskError};
use serde_json::{Value, json};

/// Prints the first line of each notice. The text is in the thread's state.
pub(crate) struct OnStandardError;

#[async_trait]
impl Notifier for OnStandardError {
    async fn send(&self, notice: &Notice, _: &Delivery<'_>) -> Result<Value, TaskError> {
        let mark = match notice.severity {
            Urgency::Page => "PAGE",
            Urgency::Summary => "note",
        };
        eprintln!("{mark}  {}", notice.title);
        Ok(json!({"channel": "standard error"}))
    }
}

/// The router's ledger in the documents of a store.
pub(crate) struct InStore(pub(crate) Arc<dyn Store>);

#[async_trait]
impl Ledger for InStore {
    async fn read(&self, name: &str) -> Result<Option<Value>, String> {
        self.0.document(name).await.map_err(|error| error.to_string())
    }

    async fn swap(&self, name: &str, expected: Option<&Value>, new: &Value) -> Result<bool, String> {
        self.0.swap_document(name, expected, new).await.map_err(|error| error.to_string())
    }
}

/// Sends through the channels of `notify:`.
pub(crate) struct Routed {
    router: Router,
    store: Arc<dyn Store>,
}

impl Routed {
    /// Channels whose secret is missing are told of, and their stand-ins are used.
    pub(crate) fn open(config: &NotifyConfig, store: &Arc<dyn Store>) -> Result<Self, String> {
        let router = router(config, Arc::new(InStore(Arc::clone(store))))?;
        Ok(Self { router, store: Arc::clone(store) })
    }
}

/// A router over a ledger; what cannot be used as configured is warned of.
pub(crate) fn router(config: &NotifyConfig, ledger: Arc<dyn Ledger>) -> Result<Router, String> {
    let opened = Router::open(config, ledger, &notify::read_secret);
    let (router, broken) = opened.map_err(|problems| format!("notify: {}", problems.join("; ")))?;
    for problem in broken {
        tracing::error!("notify: {problem}; this channel reaches nobody");
    }
    Ok(router)
}

/// What a failed send is to the runtime, whose retry rules go by class.
fn task_error(error: &SendError) -> TaskError {
    let class = match error.class {
        Class::Limited => ErrorClass::RateLimited,
        Class::Unavailable | Class::Ledger => ErrorClass::Transient,
        Class::Doubt => ErrorClass::Timeout,
        Class::Auth => ErrorClass::Denied,
        Class::Invalid => ErrorClass::Invalid,
        Class::Missing => ErrorClass::NotFound,
        Class::Malformed => ErrorClass::Permanent,
    };
    let failed = TaskError::new(class, error.to_string());
    match error.retry_after {
        Some(wait) if wait > Duration::ZERO => failed.retry_after(wait),
        _ => failed,
    }
}

#[async_trait]
impl Notifier for Routed {
    async fn send(&self, notice: &Notice, delivery: &Delivery<'_>) -> Result<Value, TaskError> {
        let notice = timeline::added(&*self.store, notice, delivery.key).await;
        let again = |error: &SendError| (delivery.again)(&task_error(error));
        let delivery = notify::Delivery { key: delivery.key, now: Timestamp::now(), again: &again };
        self.router.send(&notice, &delivery).await.map_err(|error| task_error(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(class: Class, retry_after: Option<Duration>) -> SendError {
        SendError { class, channel: "c".into(), status: None, detail: String::new(), retry_after }
    }

    /// The runtime tries again what passes and nothing else, and never before the service's time.
    #[test]
    fn what_passes_is_what_the_runtime_tries_again() {
        for class in [
            Class::Limited,
            Class::Unavailable,
            Class::Doubt,
            Class::Auth,
            Class::Invalid,
            Class::Missing,
            Class::Malformed,
            Class::Ledger,
        ] {
            let failed = task_error(&error(class, None));
            assert_eq!(failed.class.retried_by_default(), class.passes(), "{class:?}");
        }
        let wait = Duration::from_secs(7);
        assert_eq!(task_error(&error(Class::Limited, Some(wait))).retry_after, Some(wait));
    }
}
