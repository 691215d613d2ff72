//! Notices on a stream of this process.

use std::io::Write;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::channel::{Channel, Parcel};
use crate::error::{Class, Fault};
use crate::ledger::{Step, Steps};
use crate::text::one_line;

/// Prints the first line of each notice; the text is in the thread's state.
pub(crate) struct Printed(pub(crate) Mutex<Box<dyn Write + Send>>);

fn line(parcel: &Parcel<'_>) -> String {
    let remarks: String = parcel.remarks.iter().map(|remark| format!(" [{remark}]")).collect();
    format!("{}  {}{remarks}", parcel.urgency.word(), one_line(&parcel.notice.title))
}

#[async_trait]
impl Channel for Printed {
    fn service(&self) -> &'static str {
        "print"
    }

    fn updates(&self) -> bool {
        false
    }

    async fn deliver(&self, parcel: &Parcel<'_>, steps: &mut Steps<'_, '_>) -> Result<Value, Fault> {
        if let Some(Step::Done(receipt)) = steps.step("line") {
            return Ok(receipt);
        }
        {
            let mut sink = self.0.lock();
            let written = writeln!(sink, "{}", line(parcel)).and_then(|()| sink.flush());
            written
                .map_err(|error| Fault::new(Class::Missing, format!("it could not be printed: {}", error.kind())))?;
        }
        let receipt = json!({ "status": "delivered" });
        steps.end("line", receipt.clone(), None).await?;
        Ok(receipt)
    }

    fn preview(&self, parcel: &Parcel<'_>) -> Value {
        line(parcel).into()
    }
}
