//! What notices look like, form by form: a change of wording or shape is a readable difference.

use expect_test::{ExpectFile, expect_file};

use super::world::{NOON, at};
use crate::notice::{Notice, Phase, Urgency, sample};
use crate::preview::{FORMS, preview};

fn check(form: &str, notice: &Notice, expected: ExpectFile) {
    let shown = preview(form, notice, at(NOON)).unwrap();
    let text = match shown.as_str() {
        Some(text) => text.to_owned(),
        None => format!("{}\n", serde_json::to_string_pretty(&shown).unwrap()),
    };
    expected.assert_eq(&text);
}

#[test]
fn a_page_in_slack() {
    check("slack", &sample(Urgency::Page, Phase::Open, "inc-1"), expect_file!["golden/slack-open.json"]);
}

#[test]
fn the_end_in_slack() {
    check("slack", &sample(Urgency::Summary, Phase::Resolved, "inc-1"), expect_file!["golden/slack-resolved.json"]);
}

#[test]
fn a_page_at_pagerduty_and_opsgenie() {
    let page = sample(Urgency::Page, Phase::Open, "inc-1");
    check("pagerduty", &page, expect_file!["golden/pagerduty-open.json"]);
    check("opsgenie", &page, expect_file!["golden/opsgenie-open.json"]);
}

#[test]
fn the_end_by_webhook_and_in_markdown() {
    let end = sample(Urgency::Summary, Phase::Resolved, "inc-1");
    check("webhook", &end, expect_file!["golden/webhook-resolved.json"]);
    check("rca", &end, expect_file!["golden/rca.md"]);
}

#[test]
fn every_form_shows_something_and_no_other_word_does() {
    let page = sample(Urgency::Page, Phase::Open, "inc-1");
    for form in FORMS {
        assert!(preview(form, &page, at(NOON)).is_some(), "{form}");
    }
    assert!(preview("fax", &page, at(NOON)).is_none());
}
