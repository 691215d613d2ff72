//! Keys for encryption at rest: one that writes, several that may read.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// Bytes of a key.
pub const KEY_LEN: usize = 32;
/// Bytes of a nonce; long enough to be drawn at random for every record.
pub const NONCE_LEN: usize = 24;
/// Bytes of a key's id.
pub const KEY_ID_LEN: usize = 4;
/// Most keys that are kept for reading during a rotation.
pub const OLD_KEYS_MAX: usize = 16;

/// Tells keys apart without telling anything else about them.
pub type KeyId = [u8; KEY_ID_LEN];

/// Why a key cannot be used. Never holds key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Wrong length or alphabet.
    #[error(
        "an encryption key must be 32 bytes as 64 hex digits or as base64; this one is neither. `openssl rand -hex 32` makes one"
    )]
    Form,
    /// Too many keys.
    #[error("{n} old keys are configured, at most {OLD_KEYS_MAX} are read; finish a rotation before the next")]
    TooMany {
        /// How many.
        n: usize,
    },
}

/// The key that writes, and those of former times that still read.
pub struct KeyRing {
    current: StoreKey,
    old: Vec<StoreKey>,
}

struct StoreKey {
    id: KeyId,
    cipher: XChaCha20Poly1305,
}

impl KeyRing {
    /// Reads the keys, each 32 bytes as hex or base64.
    pub fn new(current: &SecretString, old: &[SecretString]) -> Result<Self, KeyError> {
        if old.len() > OLD_KEYS_MAX {
            return Err(KeyError::TooMany { n: old.len() });
        }
        let old = old.iter().map(StoreKey::read).collect::<Result<_, _>>()?;
        Ok(Self { current: StoreKey::read(current)?, old })
    }

    /// Id of the key that writes.
    pub fn current_id(&self) -> KeyId {
        self.current.id
    }

    /// Encrypts with the current key.
    pub(crate) fn encrypt(&self, nonce: &[u8; NONCE_LEN], body: &[u8], context: &[u8]) -> Vec<u8> {
        let payload = Payload { msg: body, aad: context };
        let sealed = self.current.cipher.encrypt(&XNonce::from(*nonce), payload);
        // The cipher's only failure is a message of 256 GiB; an empty body then fails to authenticate when read.
        sealed.unwrap_or_default()
    }

    /// Decrypts with the key `id`; `None` if it is unknown, `Some(None)` if the bytes are not what was written.
    pub(crate) fn decrypt(
        &self,
        id: KeyId,
        nonce: &[u8; NONCE_LEN],
        body: &[u8],
        context: &[u8],
    ) -> Option<Option<Vec<u8>>> {
        let key = std::iter::once(&self.current).chain(&self.old).find(|k| k.id == id)?;
        Some(key.cipher.decrypt(&XNonce::from(*nonce), Payload { msg: body, aad: context }).ok())
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let old: Vec<_> = self.old.iter().map(|k| hex::encode(k.id)).collect();
        f.debug_struct("KeyRing").field("current", &hex::encode(self.current.id)).field("old", &old).finish()
    }
}

impl StoreKey {
    fn read(text: &SecretString) -> Result<Self, KeyError> {
        let text = text.expose_secret().trim();
        let bytes = hex::decode(text).ok().filter(|b| b.len() == KEY_LEN).or_else(|| base64(text));
        let bytes: [u8; KEY_LEN] = bytes.and_then(|b| b.try_into().ok()).ok_or(KeyError::Form)?;
        let mut id = KeyId::default();
        let digest = Sha256::new().chain_update(b"interlock key id").chain_update(bytes).finalize();
        id.copy_from_slice(&digest[..KEY_ID_LEN]);
        Ok(Self { id, cipher: XChaCha20Poly1305::new(&Key::from(bytes)) })
    }
}

/// Standard or URL-safe base64 of one key, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut res = Vec::with_capacity(KEY_LEN);
    let (mut bits, mut n_bits) = (0_u32, 0);
    for c in text.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            res.push((bits >> n_bits) as u8);
            bits &= (1 << n_bits) - 1;
        }
    }
    (bits == 0).then_some(res)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_id(text: &str) -> Result<KeyId, KeyError> {
        KeyRing::new(&text.into(), &[]).map(|ring| ring.current_id())
    }

    #[test]
    fn hex_and_base64_of_one_key_are_one_key() {
        let hex = key_id(&"ab".repeat(32)).unwrap();
        assert_eq!(key_id(&format!("{}s=", "q6ur".repeat(10) + "q6")), Ok(hex));
        assert_eq!(key_id("short"), Err(KeyError::Form));
        assert_eq!(key_id(&"zz".repeat(32)), Err(KeyError::Form));
    }

    #[test]
    fn debug_shows_ids_and_no_key() {
        let ring = KeyRing::new(&"ab".repeat(32).into(), &["cd".repeat(32).into()]).unwrap();
        let shown = format!("{ring:?}");
        assert!(!shown.contains("abab") && !shown.contains("cdcd"), "{shown}");
    }
}
