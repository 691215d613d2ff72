//! What a notice looks like in each form, to look at and for golden tests.

use jiff::Timestamp;
use serde_json::Value;

use crate::channel::Parcel;
use crate::notice::{Notice, markdown};
use crate::{opsgenie, pagerduty, slack, webhook};

/// The forms that a notice can be shown in.
pub const FORMS: [&str; 7] = ["text", "rca", "slack", "slack_webhook", "pagerduty", "opsgenie", "webhook"];

/// A notice in one of [`FORMS`]; none for another word.
pub fn preview(form: &str, notice: &Notice, now: Timestamp) -> Option<Value> {
    let parcel = Parcel { notice, urgency: notice.severity, key: "preview", remarks: &[], now, is_silent: false };
    let rca = || notice.about.as_ref().map_or(&[][..], |about| &about.rca);
    Some(match form {
        "text" => Value::from(format!("{}\n\n{}\n", notice.title, notice.text)),
        "rca" => Value::from(markdown(&notice.title, rca())),
        "slack" => slack::preview(&parcel),
        "slack_webhook" => slack::webhook::preview(&parcel),
        "pagerduty" => pagerduty::preview(&parcel),
        "opsgenie" => opsgenie::preview(&parcel),
        "webhook" => webhook::preview(&parcel),
        _ => return None,
    })
}
