//! The body of the fuzz target `stored_record`: any bytes as what a store may find on its disk.
//!
//! It panics only if a promise is broken: decoding is bounded and never panics, and what was decoded can be stored again.

use runtime::ports::store::ThreadRow;
use runtime_core::record::{Interrupt, Record};
use runtime_core::state::ThreadState;

use crate::envelope::{Compression, Plain, Sealer, unpack, unpack_written};
use crate::keys::KeyRing;
use crate::store::codec::decode as decode_value;

/// Longer inputs say nothing new.
const INPUT_BYTES_MAX: usize = 1024 * 1024;
const KEY: &[u8] = b"rfuzz\0\0\0\0\0\0\0\0\x01";

/// Takes `bytes` as an envelope and as the body of each kind of value.
pub fn record(bytes: &[u8]) {
    if bytes.len() > INPUT_BYTES_MAX {
        return;
    }
    let plain = Sealer::plain(Compression::Zstd);
    for sealer in [Some(plain), keyed()].into_iter().flatten() {
        // The checksum stops nearly all of these: the body is tried by itself below.
        if let Ok(body) = sealer.open(KEY, bytes) {
            decode(&body);
        }
        let stored = sealer.seal(KEY, bytes);
        assert_eq!(sealer.open(KEY, &stored).as_deref(), Ok(bytes), "what was sealed opens");
    }
    let _any = unpack(bytes);
    let _any = unpack_written(bytes);
    decode(bytes);
}

fn keyed() -> Option<Sealer> {
    let keys = KeyRing::new(&"5a".repeat(32).into(), &[]).ok()?;
    Some(Sealer::encrypted(keys.into(), Plain::Accept, Compression::Zstd))
}

fn decode(body: &[u8]) {
    if let Ok(record) = decode_value::<Record>(body) {
        let again = rmp_serde::to_vec(&record).ok().and_then(|body| decode_value::<Record>(&body).ok());
        // NaN is not equal to itself; the printed forms are.
        assert_eq!(format!("{again:?}"), format!("{:?}", Some(&record)), "a record survives being stored");
        fold(&record);
    }
    let _any = decode_value::<ThreadState>(body);
    let _any = decode_value::<Interrupt>(body);
    let _any = decode_value::<ThreadRow>(body);
}

/// A record that decodes must also fold.
fn fold(record: &Record) {
    let mut state = ThreadState::default();
    state.apply_record(record);
}
