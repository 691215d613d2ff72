//! A digest as a string of hex digits: in text as it is, in binary formats as raw bytes, which are half as long.
//!
//! Any other string is kept as a string, so nothing is lost. For `#[serde(with = "graphs::hex_form")]`.

use std::fmt;

use serde::{Deserializer, Serializer, de};

/// Bytes of a SHA-256.
const DIGEST_LEN: usize = 32;

/// The hex digits of some bytes, lower case.
pub fn digits(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    let mut digits = vec![0; bytes.len() * 2];
    // In one piece: written digit by digit, the digests of a call of a tool were seen in its profile.
    let _has_room = hex::encode_to_slice(bytes, &mut digits);
    String::from_utf8(digits).unwrap_or_default()
}

/// Writes the digest.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(digest: &str, serializer: S) -> Result<S::Ok, S::Error> {
    match raw(digest) {
        Some(bytes) if !serializer.is_human_readable() => serializer.serialize_bytes(&bytes),
        _ => serializer.serialize_str(digest),
    }
}

/// Reads either form.
///
/// # Errors
/// Those of the deserializer, and bytes that are not as long as a digest.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserializer.deserialize_any(Digest)
}

/// The bytes of a text that is exactly what these bytes print as.
fn raw(digest: &str) -> Option<[u8; DIGEST_LEN]> {
    let mut bytes = [0; DIGEST_LEN];
    hex::decode_to_slice(digest, &mut bytes).ok()?;
    // Upper case would come back as lower case.
    (!digest.bytes().any(|b| b.is_ascii_uppercase())).then_some(bytes)
}

struct Digest;

impl de::Visitor<'_> for Digest {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a digest")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<String, E> {
        if bytes.len() == DIGEST_LEN { Ok(digits(bytes)) } else { Err(E::invalid_length(bytes.len(), &self)) }
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Held(#[serde(with = "super")] String);

    #[test]
    fn text_keeps_every_string() {
        for digits in ["ab".repeat(32), "AB".repeat(32), "ab".to_owned(), String::new()] {
            let held = Held(digits);
            let text = serde_json::to_string(&held).unwrap();
            assert_eq!(text, format!("{:?}", held.0));
            assert_eq!(serde_json::from_str::<Held>(&text).unwrap(), held);
        }
    }
}
