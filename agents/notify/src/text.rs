//! Text of strangers: kept on its line, within its length, and without power over the channel it is shown in.

/// One line of printable text: no control characters, none that turn the direction of what follows.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let word: String = word.chars().filter(|c| !is_hidden(*c)).collect();
        if !word.is_empty() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
    }
    line
}

/// Characters that show nothing and change how their neighbours are shown.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// At most so many bytes, cut at a character and marked.
pub(crate) fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut at = bytes_max.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    format!("{}…", text.get(..at).unwrap_or_default())
}

/// At most so many characters, marked when cut.
pub(crate) fn cut_chars(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Text for Slack's `mrkdwn`: `&`, `<` and `>` are the whole of its control characters, so what is escaped neither
/// mentions nor links. At most so many characters after escaping; an escape is never cut through.
pub(crate) fn mrkdwn(text: &str, chars_max: usize) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut n = 0;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let piece = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => "",
        };
        let length = if piece.is_empty() { 1 } else { piece.len() };
        let is_last = chars.peek().is_none();
        if n + length + usize::from(!is_last) > chars_max {
            escaped.push('…');
            return escaped;
        }
        n += length;
        if piece.is_empty() { escaped.push(c) } else { escaped.push_str(piece) }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_a_line() {
        assert_eq!(one_line(" a\n\tb\u{202e}c\u{0} d\u{200b} "), "a bc d");
    }

    #[test]
    fn escapes_are_never_cut_through() {
        assert_eq!(mrkdwn("<!channel> & <https://x|y>", 100), "&lt;!channel&gt; &amp; &lt;https://x|y&gt;");
        assert_eq!(mrkdwn("ab<c", 4), "ab…");
        assert_eq!(mrkdwn("abc<", 7), "abc&lt;");
        assert_eq!(mrkdwn("abcd", 4), "abcd");
        assert_eq!(cut("éé", 3), "…");
        assert_eq!(cut_chars("abcd", 3), "ab…");
    }

    proptest! {
        #[test]
        fn escaped_text_holds_no_control_character_and_fits(text in ".{0,200}", chars_max in 1_usize..60) {
            let escaped = mrkdwn(&text, chars_max);
            prop_assert!(!escaped.contains(['<', '>']));
            prop_assert!(escaped.chars().count() <= chars_max);
            let bare = escaped.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
            prop_assert!(!bare.contains('&'), "{escaped}");
        }
    }
}
