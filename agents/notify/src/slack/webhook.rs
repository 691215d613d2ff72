//! Slack's incoming webhook: posts and nothing else. No `ts` comes back, so there is no thread and no change in place, and a post
//! in doubt cannot be looked for.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{advice, blocks, class_of};
use crate::channel::{Channel, Parcel};
use crate::error::{Class, Fault};
use crate::http::{Call, Link};
use crate::ledger::{Step, Steps};

/// An incoming webhook. Its url is the secret.
pub(crate) struct SlackWebhook {
    pub(crate) link: Link,
}

fn message(parcel: &Parcel<'_>) -> Value {
    let mut shown = blocks::card(parcel);
    if let Some(about) = &parcel.notice.about {
        let parts = if about.rca.is_empty() { &about.parts } else { &about.rca };
        let below = if about.rca.is_empty() { blocks::reply(parcel, parts) } else { blocks::rca(parts) };
        // The first block of a reply repeats the title.
        shown.extend(below.into_iter().skip(1).take(blocks::BLOCKS_MAX - shown.len()));
    }
    json!({ "text": blocks::text(parcel), "blocks": shown })
}

#[async_trait]
impl Channel for SlackWebhook {
    fn service(&self) -> &'static str {
        "slack_webhook"
    }

    fn updates(&self) -> bool {
        false
    }

    async fn deliver(&self, parcel: &Parcel<'_>, steps: &mut Steps<'_, '_>) -> Result<Value, Fault> {
        let step = steps.step("post");
        if let Some(Step::Done(receipt)) = step {
            return Ok(receipt);
        }
        let may_be_doubled = step.is_some();
        if step.is_none() {
            steps.begin("post", parcel.now).await?;
        }
        let sent = self.link.send(Call::post("", &message(parcel)), parcel.now).await;
        let fault = match sent {
            Ok(answer) if answer.status == 200 && answer.text.trim() == "ok" => {
                let mut receipt = json!({ "status": "delivered" });
                if may_be_doubled {
                    receipt["may_be_doubled"] = true.into();
                }
                steps.end("post", receipt.clone(), None).await?;
                return Ok(receipt);
            }
            Ok(answer) if answer.status == 200 => Fault::new(Class::Malformed, self.link.clean(&answer.text)),
            Ok(answer) => {
                let error = answer.text.trim();
                let mut fault = self.link.fault(&answer, &format!("{error}{}", advice(error)));
                if fault.class == Class::Auth || fault.class == Class::Invalid {
                    fault.class = class_of(error);
                }
                fault
            }
            Err(fault) => fault,
        };
        if !may_be_doubled && !matches!(fault.class, Class::Doubt | Class::Malformed) {
            steps.take_back("post").await?;
        }
        Err(fault)
    }

    fn preview(&self, parcel: &Parcel<'_>) -> Value {
        preview(parcel)
    }
}

/// The message.
pub(crate) fn preview(parcel: &Parcel<'_>) -> Value {
    message(parcel)
}
