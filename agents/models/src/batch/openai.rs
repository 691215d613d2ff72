//! OpenAI's Batch: a file goes up, a batch is made of it, files with answers and errors come down.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Batch, BatchProgress, Calls, Outcome, Protocol};
use crate::error::{Fault, Spent};
use crate::fingerprint::fingerprint;
use crate::http::Body;
use crate::wire::{count_at, reported, text_at};

/// The only window there is.
const WINDOW: &str = "24h";

pub(super) struct Batches;

#[async_trait]
impl Protocol for Batches {
    async fn submit(&self, calls: &Calls<'_>, items: &[(String, Value)]) -> Result<String, Fault> {
        let endpoint = format!("/v1{}", calls.path_of_requests());
        let lines: String = items
            .iter()
            .map(|(id, body)| {
                json!({"custom_id": id, "method": "POST", "url": endpoint, "body": body}).to_string() + "\n"
            })
            .collect();
        let file = calls.post("/files", form(&lines)).await.map_err(|mut fault| {
            // A file that lies there costs nothing.
            fault.spent = Spent::Nothing;
            fault
        })?;
        let file = text_at(&file, "/id").ok_or_else(|| Fault::malformed("the file has no id"))?;
        let bytes =
            json!({"input_file_id": file, "endpoint": endpoint, "completion_window": WINDOW}).to_string().into_bytes();
        let batch = calls.post("/batches", Body { content_type: "application/json".to_owned(), bytes }).await?;
        text_at(&batch, "/id").map(str::to_owned).ok_or_else(|| Fault::malformed("the batch has no id"))
    }

    fn path(&self, batch: &str) -> String {
        format!("/batches/{batch}")
    }

    fn progress(&self, _batch: &str, body: &Value) -> Result<BatchProgress, Fault> {
        let count = |name: &str| count_at(body, &format!("/request_counts/{name}"));
        match text_at(body, "/status") {
            Some("completed" | "expired" | "cancelled" | "failed") => {
                let files = ["/output_file_id", "/error_file_id"].into_iter().filter_map(|at| text_at(body, at));
                Ok(BatchProgress::Ended(Batch { results: files.map(str::to_owned).collect() }))
            }
            Some(_) => Ok(BatchProgress::Working { done: count("completed") + count("failed"), total: count("total") }),
            None => Err(Fault::malformed("the batch has no status")),
        }
    }

    fn results_path(&self, result: &str) -> String {
        format!("/files/{result}/content")
    }

    fn result(&self, line: &Value) -> Result<(String, Outcome), Fault> {
        let id = text_at(line, "/custom_id").ok_or_else(|| Fault::malformed("an answer has no custom_id"))?;
        let status =
            line.pointer("/response/status_code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let outcome = match status {
            Some(200) => Outcome::Answer(line["response"]["body"].clone()),
            status => {
                let body = if line["error"].is_object() { line } else { &line["response"]["body"] };
                let mut fault = reported(status, body);
                // Errors within a batch are not billed.
                fault.spent = Spent::Nothing;
                Outcome::Fault(fault)
            }
        };
        Ok((id.to_owned(), outcome))
    }
}

/// A form with the file. The mark between its parts comes from the file, so that it is not in it.
fn form(lines: &str) -> Body {
    let mark = format!("interlock-{}", fingerprint(&[lines]));
    let bytes = format!(
        "--{mark}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
         --{mark}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"batch.jsonl\"\r\n\
         Content-Type: application/jsonl\r\n\r\n{lines}\r\n--{mark}--\r\n"
    );
    Body { content_type: format!("multipart/form-data; boundary={mark}"), bytes: bytes.into_bytes() }
}
