//! Words of a text. Names of systems are kept whole and in parts: `stg_flights.dep_delay` is found by itself, by
//! `dep_delay` and by `delay`; `InsufficientPrivilege` by `privilege`.

/// Longest word; a longer run is an encoded value and nobody asks for it.
const WORD_CHARS_MAX: usize = 80;
/// Most words of one text.
const WORDS_MAX: usize = 20_000;
/// Shortest part of a name that is a word of its own.
const PART_CHARS_MIN: usize = 2;

/// Words that say nothing about what a text is about. Few: what is rare in a library of runbooks is better left in.
const SILENT: [&str; 64] = [
    "a", "an", "and", "are", "as", "at", "be", "been", "but", "by", "can", "did", "do", "does", "for", "from", "had",
    "has", "have", "how", "i", "if", "in", "into", "is", "it", "its", "may", "me", "my", "no", "not", "of", "on",
    "one", "or", "our", "so", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "to",
    "up", "was", "we", "were", "what", "when", "where", "which", "who", "why", "will", "with", "you", "your", "yours",
];

/// What becomes of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// Whole and in parts.
    Split,
    /// Whole only: the weakened variant, to measure against.
    #[cfg(test)]
    Whole,
}

/// The words of a text, in order, in small letters.
pub(crate) fn words(text: &str, names: Names) -> Vec<String> {
    let mut found = Vec::new();
    for run in text.split(|c: char| !(c.is_alphanumeric() || is_joint(c))) {
        let run = run.trim_matches(is_joint);
        if run.is_empty() || run.chars().count() > WORD_CHARS_MAX {
            continue;
        }
        if found.len() >= WORDS_MAX {
            break;
        }
        found.extend(word(run));
        if names == Names::Split {
            parts(run, &mut found);
        }
    }
    found
}

/// What holds the parts of a name together.
fn is_joint(c: char) -> bool {
    matches!(c, '_' | '.' | '-' | ':' | '/' | '@')
}

/// The parts of a name that are not the name itself: first those between dots and dashes, then words.
fn parts(run: &str, found: &mut Vec<String>) {
    let whole = word(run);
    let mut add = |part: &str| {
        let part = word(part).filter(|part| part.chars().count() >= PART_CHARS_MIN);
        if part != whole {
            found.extend(part);
        }
    };
    for piece in run.split(|c| c != '_' && is_joint(c)).filter(|piece| !piece.is_empty()) {
        let inner: Vec<&str> = piece.split('_').flat_map(humps).collect();
        if inner.len() > 1 {
            add(piece);
        }
        inner.into_iter().for_each(&mut add);
    }
}

/// `HTTPError` is `HTTP` and `Error`; `dagRun` is `dag` and `Run`.
fn humps(text: &str) -> Vec<&str> {
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    let mut cuts = vec![0];
    for (ix, pair) in chars.windows(2).enumerate() {
        let (before, (at, here)) = (pair[0].1, pair[1]);
        let next_is_small = chars.get(ix + 2).is_some_and(|(_, next)| next.is_lowercase());
        if here.is_uppercase() && (before.is_lowercase() || (before.is_uppercase() && next_is_small)) {
            cuts.push(at);
        }
    }
    cuts.push(text.len());
    cuts.windows(2).filter_map(|cut| text.get(cut[0]..cut[1])).filter(|part| !part.is_empty()).collect()
}

/// Small letters, and one of a thing is as many: `sessions` is `session` (the weak form of Harman's S stemmer, 1991). None
/// for a word that says nothing.
fn word(text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    if SILENT.contains(&lower.as_str()) {
        return None;
    }
    let plural = lower.len() > 3 && lower.ends_with('s') && !lower.ends_with("ss") && !lower.ends_with("us");
    match lower.strip_suffix('s') {
        Some(one) if plural && lower.chars().all(char::is_alphabetic) => Some(one.to_owned()),
        _ => Some(lower),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(words(text, Names::Split), expected, "{text}");
    }

    #[test]
    fn names_are_kept_whole_and_in_parts() {
        check(
            "stg_flights.dep_delay",
            &["stg_flights.dep_delay", "stg_flights", "stg", "flight", "dep_delay", "dep", "delay"],
        );
        check("InsufficientPrivilege:", &["insufficientprivilege", "insufficient", "privilege"]);
        check("HTTPError 503", &["httperror", "http", "error", "503"]);
        check("RB-011, E7731.", &["rb-011", "rb", "011", "e7731"]);
        check("(dw.fact_sales)", &["dw.fact_sales", "dw", "fact_sales", "fact", "sale"]);
        assert_eq!(words("dw.fact_sales", Names::Whole), ["dw.fact_sales"]);
    }

    #[test]
    fn letters_of_every_alphabet_are_words() {
        check("Größe ÜBER Ärger", &["größe", "über", "ärger"]);
        check("ошибка Доступа", &["ошибка", "доступа"]);
        check("\u{301}\u{0} —", &[]);
    }

    #[test]
    fn one_is_as_good_as_many_where_it_is_a_word() {
        check("sessions status class 90s", &["session", "status", "class", "90s"]);
    }

    #[test]
    fn words_that_say_nothing_are_left_out() {
        check("why is it not on time", &["time"]);
        check("run-does-not-get-on", &["run-does-not-get-on", "run", "get"]);
        assert!(SILENT.is_sorted());
    }

    #[test]
    fn bounds_hold() {
        check(&"x".repeat(WORD_CHARS_MAX + 1), &[]);
        assert!(words(&"a_b ".repeat(WORDS_MAX), Names::Split).len() <= WORDS_MAX + WORD_CHARS_MAX);
    }
}
