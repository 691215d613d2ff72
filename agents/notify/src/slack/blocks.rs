//! Slack's Block Kit, built by code: within every bound of the service, and with nobody's text as markup.
//!
//! A card shows where an incident stands and is changed in place; the thread below it holds what was found and done. What
//! strangers wrote is escaped, and `verbatim` keeps Slack from linking names and urls in it by itself.

use serde_json::{Value, json};

use crate::channel::Parcel;
use crate::notice::{About, Fact, Part, Phase, Urgency};
use crate::text::{cut_chars, mrkdwn, one_line};

/// Most blocks of a message.
pub(crate) const BLOCKS_MAX: usize = 50;
/// Longest text of a section, in characters.
pub(crate) const SECTION_CHARS_MAX: usize = 3_000;
/// Longest header, in characters.
pub(crate) const HEADER_CHARS_MAX: usize = 150;
/// Most fields of a section.
const FIELDS_MAX: usize = 10;
/// Longest field, in characters; Slack allows 2,000, two columns do not.
const FIELD_CHARS_MAX: usize = 300;
/// A value up to this length stands beside another one.
const SHORT_CHARS_MAX: usize = 60;
/// Most characters of all blocks of a message; a longer one is no card any more.
pub(crate) const MESSAGE_CHARS_MAX: usize = 12_000;
/// Longest text beside the blocks, which notifications show.
const TEXT_CHARS_MAX: usize = 1_000;
/// Longest line of a list, in characters.
const LINE_CHARS_MAX: usize = 700;

/// Blocks within their bounds.
#[derive(Default)]
struct Blocks {
    list: Vec<Value>,
    n_chars: usize,
    is_cut: bool,
}

impl Blocks {
    /// Adds a block of so many characters, unless the message is full: then it says so, once.
    fn push(&mut self, block: Value, n_chars: usize) {
        if self.is_cut {
            return;
        }
        // The last block is kept free for saying that something is missing.
        if self.list.len() + 1 >= BLOCKS_MAX || self.n_chars + n_chars > MESSAGE_CHARS_MAX {
            self.is_cut = true;
            self.list.push(
                json!({ "type": "context", "elements": [marked("… cut; the whole of it is in the thread's state")] }),
            );
            return;
        }
        self.n_chars += n_chars;
        self.list.push(block);
    }

    fn header(&mut self, text: &str) {
        let text = cut_chars(&one_line(text), HEADER_CHARS_MAX);
        let n = text.chars().count();
        self.push(json!({ "type": "header", "text": { "type": "plain_text", "text": text, "emoji": false } }), n);
    }

    fn section(&mut self, text: &str) {
        self.push(json!({ "type": "section", "text": marked(text) }), text.chars().count());
    }

    fn context(&mut self, text: &str) {
        self.push(json!({ "type": "context", "elements": [marked(text)] }), text.chars().count());
    }

    fn fields(&mut self, fields: &[String]) {
        for row in fields.chunks(FIELDS_MAX) {
            let n = row.iter().map(|field| field.chars().count()).sum();
            let shown: Vec<Value> = row.iter().map(|field| marked(field)).collect();
            self.push(json!({ "type": "section", "fields": shown }), n);
        }
    }

    /// A labelled value by itself.
    fn fact(&mut self, fact: &Fact) {
        let label = mrkdwn(&one_line(&fact.label), SHORT_CHARS_MAX);
        self.section(&format!("*{label}*\n{}", mrkdwn(&one_line(&fact.value), SECTION_CHARS_MAX - 80)));
    }

    /// A heading with a list below it, over as many sections as it needs.
    fn part(&mut self, part: &Part) {
        if self.is_cut {
            return;
        }
        let mut text = format!("*{}*", mrkdwn(&one_line(&part.title), FIELD_CHARS_MAX));
        for line in &part.lines {
            let line = format!("\n• {}", mrkdwn(&one_line(line), LINE_CHARS_MAX));
            if text.chars().count() + line.chars().count() > SECTION_CHARS_MAX {
                self.section(&text);
                text = line.trim_start().to_owned();
            } else {
                text.push_str(&line);
            }
        }
        self.section(&text);
    }
}

/// Text in which nothing is linked or mentioned.
fn marked(text: &str) -> Value {
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

fn mark(phase: Phase, urgency: Urgency) -> &'static str {
    match (phase, urgency) {
        (Phase::Open, Urgency::Page) => "🔴",
        (Phase::Open, Urgency::Summary) | (Phase::Acknowledged, _) => "🟡",
        (Phase::Resolved, _) => "🟢",
        (Phase::Held, _) => "⚪",
    }
}

/// What notifications and screen readers get.
pub(crate) fn text(parcel: &Parcel<'_>) -> String {
    format!("{} {}", mark(parcel.phase(), parcel.urgency), mrkdwn(&one_line(&parcel.notice.title), TEXT_CHARS_MAX))
}

/// The card of an incident, or of a notice about none.
pub(crate) fn card(parcel: &Parcel<'_>) -> Vec<Value> {
    let mut blocks = Blocks::default();
    let notice = parcel.notice;
    let mark = mark(parcel.phase(), parcel.urgency);
    match &notice.about {
        Some(about) => about_incident(&mut blocks, about, mark),
        None => {
            blocks.header(&format!("{mark} {}", notice.title));
            for chunk in lines_of(&notice.text) {
                blocks.section(&chunk);
            }
        }
    }
    for remark in parcel.remarks {
        blocks.context(&format!("⚠ {}", mrkdwn(&one_line(remark), FIELD_CHARS_MAX)));
    }
    let thread = notice.about.as_ref().map(|about| format!("thread {} · ", about.thread)).unwrap_or_default();
    blocks.context(&mrkdwn(&format!("{thread}as of {}", parcel.now.strftime("%Y-%m-%d %H:%M UTC")), FIELD_CHARS_MAX));
    blocks.list
}

fn about_incident(blocks: &mut Blocks, about: &About, mark: &str) {
    blocks.header(&format!("{mark} {} {}: {}", about.pipeline, about.business_date, about.headline));
    let field = |label: &str, value: &str| format!("*{label}*\n{}", mrkdwn(&one_line(value), FIELD_CHARS_MAX));
    let mut fields = vec![
        field("Status", &about.status),
        field("Incident", &about.incident),
        field("Severity", about.level.word()),
        field("Environment", &about.environment),
    ];
    fields.extend(about.owner.iter().map(|owner| field("Owner", owner)));
    fields.extend(about.held_by.iter().map(|window| field("Held by", window)));
    // The first fact, the cause, stands by itself before everything else.
    let (first, others) = about.facts.split_at(about.facts.len().min(1));
    let (short, long): (Vec<_>, Vec<_>) = others.iter().partition(|fact| fact.value.chars().count() <= SHORT_CHARS_MAX);
    first.iter().for_each(|fact| blocks.fact(fact));
    fields.extend(short.iter().map(|fact| field(&mrkdwn(&fact.label, SHORT_CHARS_MAX), &fact.value)));
    blocks.fields(&fields);
    long.into_iter().for_each(|fact| blocks.fact(fact));
}

/// Text in Markdown as our own notices write it: `**label**` and lists.
fn lines_of(text: &str) -> Vec<String> {
    let mut chunks = vec![String::new()];
    for line in text.lines() {
        let line = mrkdwn(&one_line(line), LINE_CHARS_MAX);
        let line = match line.strip_prefix("**").and_then(|rest| rest.split_once("**")) {
            Some((label, rest)) => format!("*{label}*{rest}"),
            None => line.strip_prefix("- ").map_or(line.clone(), |item| format!("• {item}")),
        };
        let last = chunks.last_mut();
        match last {
            Some(chunk) if chunk.chars().count() + line.chars().count() < SECTION_CHARS_MAX => {
                if !chunk.is_empty() {
                    chunk.push('\n');
                }
                chunk.push_str(&line);
            }
            _ => chunks.push(line),
        }
    }
    chunks.retain(|chunk| !chunk.is_empty());
    chunks
}

/// What was found and tried, for the thread.
pub(crate) fn reply(parcel: &Parcel<'_>, parts: &[Part]) -> Vec<Value> {
    let mut blocks = Blocks::default();
    blocks.section(&text(parcel));
    parts.iter().for_each(|part| blocks.part(part));
    blocks.list
}

/// The account of causes at the end, for the thread.
pub(crate) fn rca(parts: &[Part]) -> Vec<Value> {
    let mut blocks = Blocks::default();
    blocks.header("What happened");
    parts.iter().for_each(|part| blocks.part(part));
    blocks.list
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::notice::sample;

    fn check_bounds(blocks: &[Value]) {
        assert!(blocks.len() <= BLOCKS_MAX, "{}", blocks.len());
        for block in blocks {
            let texts = [&block["text"]].into_iter().chain(block["fields"].as_array().into_iter().flatten());
            for text in texts.chain(block["elements"].as_array().into_iter().flatten()).filter(|text| !text.is_null()) {
                let shown = text["text"].as_str().unwrap();
                let n_max = match (block["type"].as_str().unwrap(), text["type"].as_str().unwrap()) {
                    ("header", "plain_text") => HEADER_CHARS_MAX,
                    (_, "mrkdwn") => {
                        assert_eq!(text["verbatim"], true);
                        assert!(!shown.contains(['<', '>']), "{shown}");
                        SECTION_CHARS_MAX
                    }
                    other => panic!("{other:?}"),
                };
                assert!(!shown.is_empty() && shown.chars().count() <= n_max, "{}", shown.chars().count());
            }
            assert!(block["fields"].as_array().is_none_or(|fields| !fields.is_empty() && fields.len() <= FIELDS_MAX));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn whatever_is_said_stays_within_the_bounds_of_slack(
            word in "[<!&>a-zé🔴 \n@]{0,40}", n_word in 1_usize..300, n_parts in 0_usize..16, n_lines in 1_usize..31,
        ) {
            let long = word.repeat(n_word);
            let mut notice = sample(Urgency::Page, Phase::Open, &long);
            notice.text = format!("**{long}**: {long}\n- {long}\n").repeat(n_lines);
            let about = notice.about.as_mut().unwrap();
            let lines = vec![long.clone(); n_lines];
            about.headline = long.clone();
            about.facts = vec![Fact { label: long.clone(), value: long.clone() }; n_lines];
            about.parts = vec![Part { title: long.clone(), lines }; n_parts];
            let remarks = [long.clone()];
            let parts = about.parts.clone();
            let mut bare = notice.clone();
            bare.about = None;
            for notice in [&notice, &bare] {
                let parcel = Parcel {
                    notice, urgency: Urgency::Page, key: "k", remarks: &remarks, now: Timestamp::UNIX_EPOCH, is_silent: false,
                };
                check_bounds(&card(&parcel));
                check_bounds(&reply(&parcel, &parts));
                check_bounds(&rca(&parts));
                prop_assert!(!text(&parcel).contains(['<', '>']));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_said_to_be_missing() {
        let parts = vec![Part { title: "E".into(), lines: vec!["x".repeat(700); 30] }; 3];
        let blocks = rca(&parts);
        assert!(blocks.last().unwrap().to_string().contains("cut; the whole of it"), "{blocks:?}");
    }

    #[test]
    fn our_own_markdown_becomes_slacks() {
        assert_eq!(lines_of("**Cause**: a <b>\n- one\n- two"), ["*Cause*: a &lt;b&gt;\n• one\n• two"]);
    }
}
