//! The form of every stored record: version, flags, body, and a proof that it is this record under this key.
//!
//! Plain: `version flags body checksum`. Encrypted: `version flags key-id nonce cipher-text`, where the cipher text covers the
//! body and is bound to all before it. Both proofs cover the storage key, so a record copied to another place is found. A
//! packed body is a zstd frame without its magic number; the form before it (`ZSTD_WRITTEN`) had the length in front.
//! Decoding takes any bytes: no panic, no more memory than `BODY_BYTES_MAX`.

use std::cell::RefCell;
use std::sync::Arc;

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};
use zstd::bulk::{Compressor, Decompressor};

use crate::dictionary;
use crate::keys::{KEY_ID_LEN, KeyRing, NONCE_LEN};

/// Version of the form.
pub const ENVELOPE_VERSION: u8 = 1;
/// Longest body, before compression.
pub const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Shorter bodies hardly get shorter.
const COMPRESS_FROM: usize = 64;
const COMPRESSION_LEVEL: i32 = 1;
/// Every zstd frame begins with these bytes; they are not stored.
const FRAME_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Packed with the first dictionary: read, and no longer written.
const ZSTD_WRITTEN: u8 = 1;
const ENCRYPTED: u8 = 2;
/// Packed with the dictionary that has statistics.
const ZSTD: u8 = 4;
const HEADER_LEN: usize = 2;
const LENGTH_LEN: usize = 4;
const CHECKSUM_LEN: usize = 8;

/// Why stored bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Too short to be one.
    #[error("the record is cut short")]
    Truncated,
    /// Written by a newer program, or damaged.
    #[error("the record has form {version}; this program knows form {ENVELOPE_VERSION}")]
    Version {
        /// The version found.
        version: u8,
    },
    /// Not the bytes that were written under this key.
    #[error("the record's checksum does not match: it was damaged or moved")]
    Checksum,
    /// Encrypted, and no key is configured.
    #[error("the record is encrypted and no encryption key is configured")]
    NoKey,
    /// Encrypted with a key that is not configured.
    #[error("the record is encrypted with key {id}, which is not among the configured keys")]
    UnknownKey {
        /// Its id in hex.
        id: String,
    },
    /// Not encrypted although a key is configured.
    #[error(
        "the record is not encrypted although an encryption key is configured; `interlock store rekey` rewrites old records"
    )]
    NotEncrypted,
    /// The body does not unpack.
    #[error("the record's body does not unpack")]
    Unpack,
}

/// What to do with unencrypted records when there is a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Plain {
    /// Refuse them: whoever can write files could plant one.
    #[default]
    Refuse,
    /// Read them, while a store that was not encrypted is rewritten.
    Accept,
}

/// Whether bodies are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Where it makes the record shorter.
    #[default]
    Zstd,
    /// Never.
    None,
}

/// Seals and opens records.
#[derive(Debug, Clone, Default)]
pub struct Sealer {
    keys: Option<Arc<KeyRing>>,
    plain: Plain,
    compression: Compression,
}

impl Sealer {
    /// Without encryption.
    pub fn plain(compression: Compression) -> Self {
        Self { keys: None, plain: Plain::Accept, compression }
    }

    /// With encryption by the ring's current key.
    pub fn encrypted(keys: Arc<KeyRing>, plain: Plain, compression: Compression) -> Self {
        Self { keys: Some(keys), plain, compression }
    }

    /// Whether records are encrypted.
    pub fn encrypts(&self) -> bool {
        self.keys.is_some()
    }

    /// The same, with another rule for unencrypted records.
    pub fn with_plain(&self, plain: Plain) -> Self {
        Self { plain, ..self.clone() }
    }

    /// The stored form of `body` under `key`.
    pub fn seal(&self, key: &[u8], body: &[u8]) -> Vec<u8> {
        let packed = if self.compression == Compression::Zstd { pack(body) } else { None };
        match packed {
            Some(packed) => self.wrap(key, ZSTD, &packed),
            None => self.seal_as_it_is(key, body),
        }
    }

    /// The stored form of `body` under `key`, never packed.
    pub fn seal_as_it_is(&self, key: &[u8], body: &[u8]) -> Vec<u8> {
        self.wrap(key, 0, body)
    }

    fn wrap(&self, key: &[u8], zstd: u8, content: &[u8]) -> Vec<u8> {
        let Some(keys) = &self.keys else {
            let mut res = Vec::with_capacity(HEADER_LEN + content.len() + CHECKSUM_LEN);
            res.extend([ENVELOPE_VERSION, zstd]);
            res.extend_from_slice(content);
            res.extend(checksum(key, &res).to_le_bytes());
            return res;
        };
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut res = Vec::with_capacity(HEADER_LEN + KEY_ID_LEN + NONCE_LEN + content.len() + 16);
        res.extend([ENVELOPE_VERSION, zstd | ENCRYPTED]);
        res.extend(keys.current_id());
        let sealed = keys.encrypt(&nonce, content, &context(&res, key));
        res.extend(nonce);
        res.extend(sealed);
        res
    }

    /// The body that was sealed under `key`.
    pub fn open(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let (header, rest) = stored.split_at_checked(HEADER_LEN).ok_or(EnvelopeError::Truncated)?;
        let (version, flags) = (header[0], header[1]);
        if version != ENVELOPE_VERSION || flags & !(ZSTD | ZSTD_WRITTEN | ENCRYPTED) != 0 {
            return Err(EnvelopeError::Version { version });
        }
        let opened;
        let content = if flags & ENCRYPTED != 0 {
            opened = self.decrypt(key, stored, rest)?;
            &opened
        } else {
            if self.keys.is_some() && self.plain == Plain::Refuse {
                return Err(EnvelopeError::NotEncrypted);
            }
            let at = stored.len().checked_sub(CHECKSUM_LEN).filter(|at| *at >= HEADER_LEN);
            let (covered, sum) = stored.split_at(at.ok_or(EnvelopeError::Truncated)?);
            if checksum(key, covered).to_le_bytes() != sum {
                return Err(EnvelopeError::Checksum);
            }
            &covered[HEADER_LEN..]
        };
        match flags & !ENCRYPTED {
            0 => Ok(content.to_vec()),
            ZSTD => unpack(content),
            ZSTD_WRITTEN => unpack_written(content),
            _ => Err(EnvelopeError::Unpack),
        }
    }

    /// Whether `stored` is written as this sealer would write it now: for rotation.
    pub fn is_current(&self, stored: &[u8]) -> bool {
        let flags = stored.get(1).copied().unwrap_or(0);
        let id = stored.get(HEADER_LEN..HEADER_LEN + KEY_ID_LEN);
        match &self.keys {
            Some(keys) => flags & ENCRYPTED != 0 && id == Some(&keys.current_id()[..]),
            None => flags & ENCRYPTED == 0,
        }
    }

    fn decrypt(&self, key: &[u8], stored: &[u8], rest: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let keys = self.keys.as_ref().ok_or(EnvelopeError::NoKey)?;
        let (id, rest) = rest.split_first_chunk::<KEY_ID_LEN>().ok_or(EnvelopeError::Truncated)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(EnvelopeError::Truncated)?;
        let bound = context(&stored[..HEADER_LEN + KEY_ID_LEN], key);
        let opened = keys.decrypt(*id, nonce, sealed, &bound);
        opened.ok_or_else(|| EnvelopeError::UnknownKey { id: hex::encode(id) })?.ok_or(EnvelopeError::Checksum)
    }
}

fn context(header: &[u8], key: &[u8]) -> Vec<u8> {
    [header, key].concat()
}

/// Key and content up to this length are hashed in one piece, which for so few bytes takes a fraction of the time.
const ONE_PIECE_MAX: usize = 240;

fn checksum(key: &[u8], covered: &[u8]) -> u64 {
    let seed = key.len() as u64;
    let mut whole = [0; ONE_PIECE_MAX];
    if let Some(piece) = whole.get_mut(..key.len() + covered.len()) {
        let (start, rest) = piece.split_at_mut(key.len());
        start.copy_from_slice(key);
        rest.copy_from_slice(covered);
        return xxh3_64_with_seed(piece, seed);
    }
    let mut hasher = Xxh3::with_seed(seed);
    hasher.update(key);
    hasher.update(covered);
    hasher.digest()
}

thread_local! {
    /// A compressor's tables take longer to make than a record takes to compress.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The packed body, if that is shorter by an eighth.
fn pack(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() < COMPRESS_FROM || body.len() > BODY_BYTES_MAX {
        return None;
    }
    let limit = body.len() - body.len() / 8;
    let mut packed = COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = compressor().ok();
        }
        slot.as_mut()?.compress(body).ok()
    })?;
    let frame_len = packed.strip_prefix(&FRAME_MAGIC)?.len();
    packed.drain(..FRAME_MAGIC.len());
    (frame_len < limit).then_some(packed)
}

fn compressor() -> std::io::Result<Compressor<'static>> {
    let mut res = Compressor::with_dictionary(COMPRESSION_LEVEL, dictionary::RECORDS)?;
    // The flag says which one it is.
    res.include_dictid(false)?;
    Ok(res)
}

/// The body of a packed one; any bytes give an error or a body of at most `BODY_BYTES_MAX`.
pub(crate) fn unpack(frame: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let packed = [&FRAME_MAGIC, frame].concat();
    let len = zstd::zstd_safe::get_frame_content_size(&packed).ok().flatten().ok_or(EnvelopeError::Unpack)?;
    let len = usize::try_from(len).ok().filter(|len| *len <= BODY_BYTES_MAX).ok_or(EnvelopeError::Unpack)?;
    let body = DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Decompressor::with_dictionary(dictionary::RECORDS).ok();
        }
        slot.as_mut()?.decompress(&packed, len).ok()
    });
    body.filter(|body| body.len() == len).ok_or(EnvelopeError::Unpack)
}

/// The body of one packed with the first dictionary.
pub(crate) fn unpack_written(content: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let (len, frame) = content.split_first_chunk::<LENGTH_LEN>().ok_or(EnvelopeError::Truncated)?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > BODY_BYTES_MAX {
        return Err(EnvelopeError::Unpack);
    }
    let packed = [&FRAME_MAGIC, frame].concat();
    let reader = Decompressor::with_dictionary(dictionary::WRITTEN);
    let body = reader.and_then(|mut reader| reader.decompress(&packed, len)).map_err(|_| EnvelopeError::Unpack)?;
    if body.len() == len { Ok(body) } else { Err(EnvelopeError::Unpack) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring(current: &str, old: &[&str]) -> Arc<KeyRing> {
        let old: Vec<_> = old.iter().map(|k| k.repeat(32).into()).collect();
        Arc::new(KeyRing::new(&current.repeat(32).into(), &old).unwrap())
    }

    fn sealers() -> [Sealer; 3] {
        let keyed = |compression| Sealer::encrypted(ring("ab", &[]), Plain::Refuse, compression);
        [Sealer::plain(Compression::Zstd), keyed(Compression::Zstd), keyed(Compression::None)]
    }

    fn cases(n: u32) -> ProptestConfig {
        ProptestConfig { failure_persistence: None, cases: n, ..ProptestConfig::default() }
    }

    #[test]
    fn one_piece_or_many_the_checksum_is_the_same() {
        for len in 0..2 * ONE_PIECE_MAX {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
            let (key, covered) = bytes.split_at(len / 3);
            let mut hasher = Xxh3::with_seed(key.len() as u64);
            hasher.update(&bytes);
            assert_eq!(checksum(key, covered), hasher.digest(), "{len} bytes");
        }
    }

    proptest! {
        #![proptest_config(cases(300))]
        #[test]
        fn what_was_sealed_opens(body in proptest::collection::vec(0u8..3, 0..3000), key in ".{0,40}") {
            for sealer in sealers() {
                let stored = sealer.seal(key.as_bytes(), &body);
                prop_assert_eq!(sealer.open(key.as_bytes(), &stored), Ok(body.clone()));
                let moved = format!("{key}.");
                prop_assert!(sealer.open(moved.as_bytes(), &stored).is_err());
                prop_assert!(sealer.is_current(&stored));
            }
        }
    }

    proptest! {
        #![proptest_config(cases(100_000))]
        #[test]
        fn any_bytes_decode_to_an_error_or_a_body(bytes in proptest::collection::vec(any::<u8>(), 0..80), head in 0u8..8) {
            let mut bytes = bytes;
            for sealer in sealers() {
                let _any = sealer.open(b"k", &bytes);
                if bytes.len() > 1 {
                    bytes[0] = ENVELOPE_VERSION;
                    bytes[1] = head;
                }
                let _any = sealer.open(b"k", &bytes);
            }
        }
    }

    /// G12: 10,000 flipped bits per sealer, each found.
    #[test]
    fn every_flipped_bit_is_found() {
        let body: Vec<u8> = (0..1250_u32).flat_map(|i| (i / 40).to_le_bytes()).collect();
        for sealer in sealers() {
            let stored = sealer.seal(b"key", &body);
            let n_bits = stored.len() * 8;
            for n in 0..10_000 {
                let mut damaged = stored.clone();
                let bit = n * 7919 % n_bits;
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(sealer.open(b"key", &damaged).is_err(), "bit {bit} of {n_bits}");
            }
            for len in 0..stored.len() {
                assert!(sealer.open(b"key", &stored[..len]).is_err(), "cut to {len} bytes");
            }
        }
    }

    #[test]
    fn rotation_reads_old_keys_and_writes_the_new_one() {
        let old = Sealer::encrypted(ring("01", &[]), Plain::Refuse, Compression::Zstd);
        let new = Sealer::encrypted(ring("02", &["01"]), Plain::Refuse, Compression::Zstd);
        let stranger = Sealer::encrypted(ring("03", &[]), Plain::Refuse, Compression::Zstd);
        let stored = old.seal(b"k", b"body");
        assert_eq!(new.open(b"k", &stored), Ok(b"body".to_vec()));
        assert!(!new.is_current(&stored) && new.is_current(&new.seal(b"k", b"body")));
        assert!(matches!(stranger.open(b"k", &stored), Err(EnvelopeError::UnknownKey { .. })));
        assert_eq!(Sealer::plain(Compression::None).open(b"k", &stored), Err(EnvelopeError::NoKey));
        assert!(!stored.windows(4).any(|w| w == b"body"), "the body is not readable");
    }

    /// The shapes of the engine's records are known beforehand: a short record shrinks although nothing in it repeats.
    #[test]
    fn short_records_shrink_by_the_dictionary() {
        let known = &dictionary::WRITTEN[dictionary::WRITTEN.len() - 150..];
        let stored = Sealer::plain(Compression::Zstd).seal(b"k", known);
        assert!(stored.len() < 60, "{} bytes", stored.len());
    }

    /// Stores have records that were packed with both: their bytes are part of the stored form.
    #[test]
    fn dictionaries_never_change() {
        let sums = [dictionary::WRITTEN, dictionary::RECORDS].map(|bytes| xxh3_64_with_seed(bytes, 0));
        assert_eq!(sums.map(|sum| format!("{sum:016x}")), ["2cb318c54f15ee25", "1a5f152e2b0550eb"]);
    }

    #[test]
    fn records_of_the_first_dictionary_open() {
        let body = b"\x81\xaaCheckpoint of an earlier version, as it was packed then\x81\xaaCheckpoint".repeat(3);
        let mut packer = Compressor::with_dictionary(COMPRESSION_LEVEL, dictionary::WRITTEN).unwrap();
        let frame = packer.compress(&body).unwrap();
        let content = [&(body.len() as u32).to_le_bytes()[..], frame.strip_prefix(&FRAME_MAGIC).unwrap()].concat();
        for sealer in sealers() {
            let stored = sealer.wrap(b"k", ZSTD_WRITTEN, &content);
            assert_eq!(sealer.open(b"k", &stored), Ok(body.clone()));
            let both = sealer.wrap(b"k", ZSTD | ZSTD_WRITTEN, &content);
            assert_eq!(sealer.open(b"k", &both), Err(EnvelopeError::Unpack));
        }
    }

    #[test]
    fn planted_plain_records_are_refused_under_a_key() {
        let planted = Sealer::plain(Compression::Zstd).seal(b"k", b"body");
        let keyed = Sealer::encrypted(ring("ab", &[]), Plain::Refuse, Compression::Zstd);
        assert_eq!(keyed.open(b"k", &planted), Err(EnvelopeError::NotEncrypted));
        assert_eq!(keyed.with_plain(Plain::Accept).open(b"k", &planted), Ok(b"body".to_vec()));
    }
}
