//! Keeps keys and prompts out of errors, also when the provider repeats them.

use secrecy::{ExposeSecret, SecretString};

use crate::error::DETAIL_BYTES_MAX;
use crate::request::ModelRequest;

/// Words of a provider's message that are looked at.
const WORDS_MAX: usize = 60;
/// Words in a row that, found in the request, are taken for a quotation of it.
const QUOTED_WORDS: usize = 3;
/// Shortest part of a key that is looked for.
const KEY_PART_BYTES: usize = 8;
/// Stands for what was taken out.
const HOLE: &str = "[…]";

/// A provider's message without the key and without what it repeats of the request: no run of three words of it, and no
/// word of it that is not a plain one.
pub(crate) fn cleaned(message: &str, key: Option<&SecretString>, request: &ModelRequest) -> String {
    let words: Vec<&str> = message.split_whitespace().take(WORDS_MAX).collect();
    let texts: Vec<String> = request.texts().into_iter().map(squashed).collect();
    let bare: Vec<String> = words.iter().map(|word| squashed(word)).collect();
    let repeats = |run: &str| !run.is_empty() && texts.iter().any(|text| text.contains(run));
    let may_show = |(word, bare): (&&str, &String)| !is_key(word, key) && (is_plain(bare) || !repeats(bare));
    let mut shown: Vec<bool> = words.iter().zip(&bare).map(may_show).collect();
    for (at, run) in bare.windows(QUOTED_WORDS).enumerate() {
        if repeats(&run.join(" ")) {
            shown.iter_mut().skip(at).take(QUOTED_WORDS).for_each(|shown| *shown = false);
        }
    }
    let mut text = String::new();
    for (word, shown) in words.iter().zip(shown) {
        let word = if shown { word } else { HOLE };
        if text.len() + word.len() + 1 > DETAIL_BYTES_MAX {
            break;
        }
        if !(word == HOLE && text.ends_with(HOLE)) {
            text.push_str(if text.is_empty() { "" } else { " " });
            text.push_str(word);
        }
    }
    text
}

/// A short word of small letters carries nothing by itself.
fn is_plain(bare: &str) -> bool {
    bare.len() <= 12 && bare.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// Letters and figures alone, so that a quotation is known whatever marks stand around and between its words.
fn squashed(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// Providers show keys whole, or their head and tail around stars.
fn is_key(word: &str, key: Option<&SecretString>) -> bool {
    let Some(key) = key.map(ExposeSecret::expose_secret).filter(|key| !key.is_empty()) else { return false };
    if word.contains(key) || (key.len() <= KEY_PART_BYTES && word == key) {
        return true;
    }
    let part = KEY_PART_BYTES.min(key.len());
    let holds = |part: Option<&str>| part.is_some_and(|part| word.contains(part));
    let starred = word.contains("**") && (holds(key.get(..3)) || holds(key.get(key.len().saturating_sub(4)..)));
    holds(key.get(..part)) || holds(key.get(key.len() - part..)) || starred
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> ModelRequest {
        ModelRequest::of_text("the customer Ann-Marie Weber owes us 4711 euros and is angry about it", 10)
    }

    #[test]
    fn the_providers_own_words_stay() {
        let text = "temperature is deprecated for this model: `temperature`";
        assert_eq!(cleaned(text, None, &request()), text);
    }

    #[test]
    fn what_it_repeats_of_the_request_goes() {
        let text = "messages.0: 'the customer Ann-Marie Weber owes us 4711 euros' is too long; Weber, 4711!";
        assert_eq!(cleaned(text, None, &request()), "messages.0: […] is too long; […]");
    }

    #[test]
    fn a_key_goes_whole_in_parts_and_starred() {
        let key = SecretString::from("sk-proj-abcdefghijklmnop1234");
        for shown in ["sk-proj-abcdefghijklmnop1234", "(sk-proj-abcde…)", "ijklmnop1234.", "sk-*****1234"] {
            let text = cleaned(&format!("Incorrect API key provided: {shown} ok"), Some(&key), &request());
            assert_eq!(text, "Incorrect API key provided: […] ok");
        }
    }

    #[test]
    fn a_long_message_is_cut() {
        assert!(cleaned(&"Wort ".repeat(10_000), None, &request()).len() <= DETAIL_BYTES_MAX);
    }
}
