//! Who is told about tasks that will never go on, so that what they left running outside can be ended.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use runtime_core::effect::Abandoned;
use tokio_util::task::TaskTracker;

use crate::engine::{Engine, EngineBuilder};

/// Called when a task was ended for good (durably): cancelled, timed out, replaced. Never when the process only stops, because
/// the task then asks for the same calls again. May be called twice for one task.
pub type OnAbandon = Arc<dyn Fn(Abandoned) -> BoxFuture<'static, ()> + Send + Sync>;

/// What is being told.
#[derive(Default)]
pub(crate) struct Farewells {
    tell: Option<OnAbandon>,
    under_way: TaskTracker,
}

impl Farewells {
    /// Beside everything: the thread has ended, and does not wait for the outside to hear of it.
    pub(crate) fn begin(&self, abandoned: Abandoned) {
        if let Some(tell) = &self.tell {
            self.under_way.spawn(tell(abandoned));
        }
    }

    /// Waits for all of them.
    pub(crate) async fn done(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }
}

impl EngineBuilder {
    /// Told about every task that will never go on; the engine's shutdown waits for it.
    #[must_use]
    pub fn on_abandon(mut self, tell: OnAbandon) -> Self {
        self.farewells.tell = Some(tell);
        self
    }
}

impl Engine {
    /// Waits until everything that was abandoned has been told. Before the means to tell it are closed.
    pub async fn all_told(&self) {
        self.services.farewells.done().await;
    }
}
