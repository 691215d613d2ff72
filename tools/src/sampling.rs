//! A server that wants to use our models (`sampling/createMessage`): asked between two rounds of its call.
//!
//! The call ends with its question, as one that asks people does; a model is asked in a journaled call of its own, under the
//! budgets of the task that called the tool; and the call is made again with the answer. So a sample is paid once, whatever
//! dies in between, and no server spends what its caller may not.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use runtime::{CallSpec, Context};
use runtime_core::error::{ErrorClass, TaskError};
use serde_json::Value;

use crate::hub::{InputRequest, Sample, SampleAnswer};
use crate::toolbox::ToolBox;

/// Asks models for tool servers.
#[async_trait]
pub trait Sampler: Send + Sync + 'static {
    /// Asks a model what the server of `target` wants to know. Contract: one call in the journal for `role`, its worst case
    /// reserved before; nothing leaves for a provider that the installation masks.
    async fn sample(
        &self,
        ctx: &Context,
        role: Option<&str>,
        target: &str,
        sample: &Sample,
    ) -> Result<SampleAnswer, TaskError>;
}

/// The answers to the samples of a request, as the protocol wants them.
///
/// # Errors
/// No model is configured, or none answered.
pub async fn answered(
    ctx: &Context,
    tools: &Arc<dyn ToolBox>,
    spec: &CallSpec,
    request: &InputRequest,
) -> Result<BTreeMap<String, Value>, TaskError> {
    let mut answers = BTreeMap::new();
    for sample in &request.samples {
        let Some(sampler) = tools.sampler() else {
            let text = format!("`{}` wants to use a model (`sampling`), and there is none here", spec.target);
            return Err(TaskError::new(ErrorClass::Denied, text));
        };
        let answer = sampler.sample(ctx, spec.role.as_deref(), &spec.target, sample).await?;
        answers.insert(sample.key.clone(), answer.wire());
    }
    Ok(answers)
}
