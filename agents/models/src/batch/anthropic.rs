//! Anthropic's Message Batches.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Batch, BatchProgress, Calls, Outcome, Protocol};
use crate::error::{ErrorClass, Fault, Spent};
use crate::http::Body;
use crate::wire::{count_at, reported, text_at};

pub(super) struct MessageBatches;

#[async_trait]
impl Protocol for MessageBatches {
    async fn submit(&self, calls: &Calls<'_>, items: &[(String, Value)]) -> Result<String, Fault> {
        let requests: Vec<Value> = items.iter().map(|(id, body)| json!({"custom_id": id, "params": body})).collect();
        let bytes = json!({"requests": requests}).to_string().into_bytes();
        let body = Body { content_type: "application/json".to_owned(), bytes };
        let answer = calls.post("/v1/messages/batches", body).await?;
        text_at(&answer, "/id").map(str::to_owned).ok_or_else(|| Fault::malformed("the batch has no id"))
    }

    fn path(&self, batch: &str) -> String {
        format!("/v1/messages/batches/{batch}")
    }

    fn progress(&self, batch: &str, body: &Value) -> Result<BatchProgress, Fault> {
        let count = |name: &str| count_at(body, &format!("/request_counts/{name}"));
        let done = count("succeeded") + count("errored") + count("canceled") + count("expired");
        match text_at(body, "/processing_status") {
            // The url of the answers is where it always is; one that leads elsewhere would take the key there.
            Some("ended") => Ok(BatchProgress::Ended(Batch { results: vec![batch.to_owned()] })),
            Some(_) => Ok(BatchProgress::Working { done, total: done + count("processing") }),
            None => Err(Fault::malformed("the batch has no processing_status")),
        }
    }

    fn results_path(&self, result: &str) -> String {
        format!("/v1/messages/batches/{result}/results")
    }

    fn result(&self, line: &Value) -> Result<(String, Outcome), Fault> {
        let id = text_at(line, "/custom_id").ok_or_else(|| Fault::malformed("an answer has no custom_id"))?;
        let free = |class, text: &str| Outcome::Fault(Fault::new(class, Spent::Nothing, text));
        let outcome = match text_at(line, "/result/type") {
            Some("succeeded") => Outcome::Answer(line["result"]["message"].clone()),
            Some("errored") => {
                let mut fault = reported(None, &line["result"]["error"]);
                // Errors within a batch are not billed.
                fault.spent = Spent::Nothing;
                Outcome::Fault(fault)
            }
            Some("expired") => free(ErrorClass::Timeout, "it expired"),
            Some("canceled") => free(ErrorClass::Unavailable, "it was canceled"),
            _ => return Err(Fault::malformed("an answer has no known result")),
        };
        Ok((id.to_owned(), outcome))
    }
}
