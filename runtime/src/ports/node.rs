//! The node port: code that runs as a node, of this repository or of a host.

use async_trait::async_trait;
use runtime_core::error::TaskError;
use runtime_core::event::NodeOutput;

use crate::context::Context;

/// Code behind a node kind (`agent`, `tool`) or a `function` node.
///
/// Contract: read state only through the [`Context`]; make every outside effect through [`Context::call`]; keep nothing between
/// runs. A node may be dropped at any await point and started again from its first line: recorded calls then return at
/// once what they returned before, so the code must ask for the same calls in the same order.
#[async_trait]
pub trait NodeKind: Send + Sync + 'static {
    /// Runs one task.
    async fn run(&self, ctx: Context) -> Result<NodeOutput, TaskError>;
}

/// Wraps an async closure as a [`NodeKind`].
pub struct NodeFn<F>(pub F);

#[async_trait]
impl<F, Fut> NodeKind for NodeFn<F>
where
    F: Fn(Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<NodeOutput, TaskError>> + Send,
{
    async fn run(&self, ctx: Context) -> Result<NodeOutput, TaskError> {
        (self.0)(ctx).await
    }
}
