//! Secrets: named by where they are, read once, shown never.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::error::DETAIL_BYTES_MAX;
use crate::text::{cut, one_line};

/// Largest secret in bytes.
const SECRET_BYTES_MAX: u64 = 16 * 1024;
/// Shortest secret; a shorter one could not be told from a word of a message.
const SECRET_CHARS_MIN: usize = 8;
/// Head or tail of a secret that is looked for.
const PIECE_CHARS: usize = 8;
/// Words of a service's message that are looked at.
const WORDS_MAX: usize = 60;
/// Stands for what was taken out.
const HOLE: &str = "[hidden]";

/// Where a secret is: in an environment variable or in a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSource {
    /// Environment variable that holds it.
    #[serde(default)]
    pub env: Option<String>,
    /// File that holds it.
    #[serde(default)]
    pub file: Option<PathBuf>,
}

impl SecretSource {
    pub(crate) fn problem(&self) -> Option<&'static str> {
        (self.env.is_some() == self.file.is_some()).then_some("write exactly one of `env` and `file`")
    }
}

/// A secret. Nothing prints it.
#[derive(Clone)]
pub struct Secret(SecretString);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// A secret as it was read.
    ///
    /// # Errors
    /// It is too short, or of more than one line.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if text.chars().count() < SECRET_CHARS_MIN {
            return Err(format!("is shorter than {SECRET_CHARS_MIN} characters, so it is no secret"));
        }
        if text.chars().any(char::is_control) {
            return Err("has a line break or another control character within".to_owned());
        }
        Ok(Self(SecretString::from(text)))
    }

    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Reads a secret from where it is.
///
/// # Errors
/// It is not there or is none; says where, never what.
pub fn read_secret(source: &SecretSource) -> Result<Secret, String> {
    let (place, text) = match (&source.env, &source.file) {
        (Some(name), None) => {
            let text = std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))?;
            (format!("the environment variable {name}"), text)
        }
        (None, Some(path)) => {
            let shown = path.display().to_string();
            let length = std::fs::metadata(path).map_err(|error| format!("{shown}: {}", error.kind()))?.len();
            if length > SECRET_BYTES_MAX {
                return Err(format!("{shown}: larger than {SECRET_BYTES_MAX} bytes, so it is no secret"));
            }
            let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {}", error.kind()))?;
            (shown, text)
        }
        _ => return Err("a secret has exactly one of `env` and `file`".to_owned()),
    };
    Secret::new(&text).map_err(|why| format!("{place} {why}"))
}

/// A service's words without any of these secrets, nor their heads and tails, within the bound of a detail.
pub(crate) fn cleaned(message: &str, secrets: &[Secret]) -> String {
    let words: Vec<String> =
        one_line(message)
            .split(' ')
            .take(WORDS_MAX)
            .map(|word| {
                if secrets.iter().any(|secret| shows(word, secret.expose())) {
                    HOLE.to_owned()
                } else {
                    word.to_owned()
                }
            })
            .collect();
    cut(&words.join(" "), DETAIL_BYTES_MAX)
}

fn shows(word: &str, secret: &str) -> bool {
    let pieces = secret.split_whitespace().chain(std::iter::once(secret)).filter(|piece| piece.len() >= PIECE_CHARS);
    let mut heads_and_tails = pieces.flat_map(|piece| {
        let head = piece.char_indices().nth(PIECE_CHARS).map_or(piece, |(at, _)| piece.get(..at).unwrap_or(piece));
        let n = piece.chars().count().saturating_sub(PIECE_CHARS);
        let tail = piece.char_indices().nth(n).map_or(piece, |(at, _)| piece.get(at..).unwrap_or(piece));
        // What every url begins with says nothing.
        [head, tail].into_iter().filter(|piece| !"https://http://".contains(piece))
    });
    heads_and_tails.any(|piece| word.contains(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_whole_and_in_parts() {
        let secret = [Secret::new("xoxb-1234-abcdefgh-TAILTAIL").unwrap()];
        for word in ["xoxb-1234-abcdefgh-TAILTAIL", "(xoxb-123…)", "…TAILTAIL."] {
            assert_eq!(cleaned(&format!("bad token {word} here"), &secret), "bad token [hidden] here");
        }
        assert_eq!(cleaned("channel_not_found", &secret), "channel_not_found");
        assert!(!format!("{secret:?}").contains("xoxb"));
    }

    #[test]
    fn a_url_that_is_a_secret_hides_itself_and_no_other_url() {
        let secret = [Secret::new("https://hooks.example/services/T0/B0/abcdefghijkl").unwrap()];
        assert_eq!(cleaned("at https://hooks.example/services/T0/B0/abcdefghijkl x", &secret), "at [hidden] x");
        assert_eq!(cleaned("see https://docs.example/a", &secret), "see https://docs.example/a");
    }

    #[test]
    fn errors_say_where_and_never_what() {
        let none = SecretSource { env: Some("NOTIFY_NO_SUCH_VARIABLE".into()), file: None };
        assert!(read_secret(&none).unwrap_err().contains("is not set"));
        let path = std::env::temp_dir().join(format!("notify-secret-{}", std::process::id()));
        let source = SecretSource { env: None, file: Some(path.clone()) };
        std::fs::write(&path, " hunter2-hunter2\n").unwrap();
        assert_eq!(read_secret(&source).unwrap().expose(), "hunter2-hunter2");
        std::fs::write(&path, "hunter2").unwrap();
        let why = read_secret(&source).unwrap_err();
        assert!(why.contains("shorter than") && !why.contains("hunter2"), "{why}");
        std::fs::remove_file(&path).unwrap();
        assert!(Secret::new("a-line\nanother").is_err());
    }
}
