//! Models for tool servers that may use them: the same masking, journal and budget as for our own questions, and nothing of ours
//! in the prompt.

use async_trait::async_trait;
use graphs::Schedule;
use models::{MaskKind, Message, ModelRequest, Part, Role, StopReason, System, Vault};
use runtime::Context;
use runtime_core::error::{ErrorClass, TaskError};
use runtime_core::interlocks::redact;
use serde_json::{Value, json};
use tools::hub::{Sample, SampleAnswer};
use tools::sampling::Sampler;

use super::Mind;
use super::turn::{Asking, ask};

#[async_trait]
impl Sampler for Mind {
    async fn sample(
        &self,
        ctx: &Context,
        role: Option<&str>,
        target: &str,
        sample: &Sample,
    ) -> Result<SampleAnswer, TaskError> {
        let cheapest = || self.tiers().order().first().map(String::as_str);
        let Some(tier) = sample.tier.as_deref().or_else(cheapest) else {
            return Err(TaskError::new(
                ErrorClass::Denied,
                format!("`{target}` wants to use a model, and no tier has one"),
            ));
        };
        let mut vault = Vault::default();
        let masked = self.masker.mask(&mut vault, &request(sample));
        let masked = masked
            .map_err(|error| TaskError::invalid(format!("what `{target}` wants to ask cannot be masked: {error}")))?;
        // What a server does with an answer is its own affair: it may want another one each time.
        let named = ("sample", json!({"for": target, "key": sample.key}));
        let asking = Asking { role, tier, named, prompt: None, schedule: Schedule::Now };
        let response = ask(ctx, self, asking, &masked).await?.response;
        let stop_reason = match response.stop {
            StopReason::End | StopReason::Paused | StopReason::Other(_) => "endTurn",
            StopReason::StopSequence => "stopSequence",
            StopReason::MaxTokens => "maxTokens",
            StopReason::Refusal | StopReason::ContextFull | StopReason::ToolUse => {
                let text = format!("tier `{tier}` does not answer what `{target}` wants to know");
                return Err(TaskError::new(ErrorClass::Permanent, text));
            }
        };
        // What the server sent it may have back, but for secrets: those it had no business to show to anybody.
        let said = Value::String(self.masker.redact(&response.text()));
        let text = match vault.restore_value(&said, &|kind| *kind != MaskKind::Secret) {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Ok(SampleAnswer { text, model: response.model, stop_reason })
    }
}

fn request(sample: &Sample) -> ModelRequest {
    let message = |said: &tools::hub::SampleMessage| Message {
        role: if said.by_model { Role::Assistant } else { Role::User },
        parts: vec![Part::Text { text: redact::whole_text(&said.text) }],
        cache: false,
    };
    ModelRequest {
        system: System { text: redact::whole_text(&sample.system), cache: false },
        messages: sample.messages.iter().map(message).collect(),
        temperature: sample.temperature,
        stop: sample.stop.clone(),
        ..ModelRequest::of_text("", sample.max_tokens)
    }
}
