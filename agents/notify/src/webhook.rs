//! A generic webhook: one JSON document per notice, signed.
//!
//! For receivers. The headers of a request are `X-Interlock-Timestamp` (seconds since 1970), `Idempotency-Key` (the same over
//! every repetition of one notice: take it once), and, where a secret is configured, `X-Interlock-Signature: v1=HEX`. HEX is
//! HMAC-SHA256 with the secret over `v1:TIMESTAMP:BODY`, the body byte for byte as received. Compare in constant time, and
//! refuse a timestamp more than five minutes from now. Answer 2xx when the notice is kept; 409 says that its key is known
//! already and counts as delivered.

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::channel::{Channel, Parcel};
use crate::error::{Class, Fault};
use crate::http::{Call, Link};
use crate::ledger::{Step, Steps};
use crate::notice::markdown;
use crate::secrets::Secret;

/// Form of the document.
const VERSION: u32 = 1;

/// A url that takes notices.
pub(crate) struct Webhook {
    pub(crate) link: Link,
    pub(crate) secret: Option<Secret>,
}

fn document(parcel: &Parcel<'_>) -> Value {
    let notice = parcel.notice;
    let mut document = json!({
        "version": VERSION, "key": parcel.key, "dedup_key": notice.dedup_key, "urgency": parcel.urgency.word(),
        "phase": parcel.phase().word(), "title": notice.title, "text": notice.text, "remarks": parcel.remarks,
        "incident": notice.about, "sent_at": parcel.now.to_string(),
    });
    if let Some(about) = notice.about.as_ref().filter(|about| !about.rca.is_empty()) {
        document["rca_markdown"] = markdown(&notice.title, &about.rca).into();
    }
    document
}

/// `v1=` and the hex digits of HMAC-SHA256 over `v1:TIMESTAMP:BODY`.
///
/// # Errors
/// Never: a key of any length will do.
pub fn signature(secret: &Secret, timestamp: i64, body: &str) -> Result<String, String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).map_err(|error| error.to_string())?;
    mac.update(format!("v1:{timestamp}:{body}").as_bytes());
    Ok(format!("v1={}", hex::encode(mac.finalize().into_bytes())))
}

#[async_trait]
impl Channel for Webhook {
    fn service(&self) -> &'static str {
        "webhook"
    }

    fn updates(&self) -> bool {
        true
    }

    async fn deliver(&self, parcel: &Parcel<'_>, steps: &mut Steps<'_, '_>) -> Result<Value, Fault> {
        if let Some(Step::Done(receipt)) = steps.step("post") {
            return Ok(receipt);
        }
        let mut call = Call::post("", &document(parcel));
        let timestamp = parcel.now.as_second();
        call.headers.push(("x-interlock-timestamp", timestamp.to_string()));
        call.headers.push(("idempotency-key", parcel.key.to_owned()));
        if let Some(secret) = &self.secret {
            let body = call.body.as_deref().unwrap_or_default();
            let signed = signature(secret, timestamp, body).map_err(|why| Fault::new(Class::Auth, why))?;
            call.headers.push(("x-interlock-signature", signed));
        }
        let answer = self.link.send(call, parcel.now).await?;
        let receipt = match answer.status {
            200..=299 => json!({ "status": "delivered", "http": answer.status }),
            409 => json!({ "status": "delivered", "http": 409, "note": "the receiver knew it already" }),
            _ => return Err(self.link.fault(&answer, &answer.text)),
        };
        steps.end("post", receipt.clone(), None).await?;
        Ok(receipt)
    }

    fn preview(&self, parcel: &Parcel<'_>) -> Value {
        document(parcel)
    }
}

/// The document.
pub(crate) fn preview(parcel: &Parcel<'_>) -> Value {
    document(parcel)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with another implementation:
    /// `printf 'v1:1700000000:{"a":1}' | openssl dgst -sha256 -hmac 'a-secret-of-tests'`.
    #[test]
    fn the_signature_is_what_others_compute() {
        let secret = Secret::new("a-secret-of-tests").unwrap();
        let signed = signature(&secret, 1_700_000_000, "{\"a\":1}").unwrap();
        assert_eq!(signed, "v1=3092933e6732bda1d0f778d0272ab43052731cb2b07e108026bd64a57a81c500");
    }
}
