//! Makes what the compressor knows beforehand, `src/records.dict`: shapes written by hand, and the statistics of records from
//! stores, so that short records need no statistics of their own.
//!
//! `cargo run --release -p checkpoints --example dictionary -- OUT STORE…`, where each STORE is `sled:FOLDER` or `fjall:FOLDER`
//! of a store that nobody has open. Only counts of the records' bytes get into the file, none of their text. A new dictionary
//! needs a new flag in the envelope: records packed with the old one open only with exactly its bytes.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use checkpoints::envelope::Sealer;
use checkpoints::kv::{Durable, Engine, FjallEngine, KeyRange, Order, Reader, SledEngine};
use checkpoints::open::Address;
use zstd::zstd_safe::zstd_sys;

#[path = "../src/dictionary.rs"]
#[allow(dead_code)]
mod dictionary;
use dictionary::WRITTEN;

/// Entries of the audit log as the engine writes them, without ids and digests.
const DECISIONS: &[u8] = b"\
\x8a\xa8at_least\xcb\xa5bound\xcb\xa5class\xb2\xa8combined\xcb\xaaconfidence\xcb\xa8decision\xa3ask\xa6failed\x00\xaffailed_in_a_row\x00\xa6healed\x00\
\xa5prior\x82\xa6failed\x00\xa6healed\x00\xaerecord.weighed\xafoutcome.counted\xa6reason\xa6server\xa5error\xc0\xaaproduction\xa7staging\
\x81\xa9CallBegun\x93\xc4\x10\x00\x00\x00\x00\x94\xa4tool\xc4 \xaaidempotent\x81\xa7Audited\x95\xadagent:monitor\xaecall.permitted\xc4\x10\x00\x00\x00\
\x8a\xa8approver\xc0\xa4args\x81\xabenvironment\xaaproduction\xa4call\xd9*:0:0\xa6digest\xd9@\xa6effect\xa9read_only\xa3env\xaaproduction\xa4kind\xa4tool\xa3pin\xc0\
\xa4rule\xa6target\xb3\x81\xa7Audited\x95\xa7runtime\xaacall.ended\xc4\x10\x00\x00\x00\x87\xa4call\xd9*0000000:0:0\xa4cost\xc0\xa6digest\xd9@\xa4kind\xa4tool\xa2ms\
\xa6result\x84\xa5bytes\xcd\xa6digest\xd9@\xa2ok\xc3\xa5shape\xabobject of 1\xa6target\xb3";

/// The level that records are packed with.
const LEVEL: i32 = 1;
/// Of the project's own: any number from 32,768 to 2^31 that no registry has given away.
const DICTIONARY_ID: u32 = 40_001;
/// Of one kind of entry in one store, so that no kind and no store drowns the others.
const SAMPLES_PER_KIND: usize = 120;
/// Of one body: what follows is somebody's data.
const SAMPLE_BYTES_MAX: usize = 1_024;
/// Shorter bodies are stored as they are.
const SAMPLE_BYTES_MIN: usize = 64;
/// More than the statistics need.
const STATISTICS_BYTES_MAX: usize = 1_024;
const PAGE: usize = 256;

fn main() {
    let mut args = std::env::args().skip(1);
    let out = args.next().expect("the file to write");
    let mut samples = Vec::new();
    for address in args {
        let before = samples.len();
        match address.parse().expect("a store address") {
            Address::Sled(path) => collect::<SledEngine>(&path, &mut samples),
            Address::Fjall(path) => collect::<FjallEngine>(&path, &mut samples),
            Address::Memory => panic!("a store in memory holds nothing"),
        }
        println!("{address}: {} samples", samples.len() - before);
    }
    let made = with_statistics(&[DECISIONS, WRITTEN].concat(), &samples);
    std::fs::write(&out, &made).expect("the file can be written");
    for (name, bytes) in [("written", WRITTEN), ("made", &made)] {
        println!(
            "{name}: {} bytes; {} bytes of samples become {}",
            bytes.len(),
            total(&samples),
            packed(bytes, &samples)
        );
    }
}

fn total(samples: &[Vec<u8>]) -> usize {
    samples.iter().map(Vec::len).sum()
}

fn packed(dictionary: &[u8], samples: &[Vec<u8>]) -> usize {
    let mut packer = zstd::bulk::Compressor::with_dictionary(LEVEL, dictionary).expect("a dictionary");
    samples.iter().map(|body| packer.compress(body).expect("it packs").len()).sum()
}

fn with_statistics(content: &[u8], samples: &[Vec<u8>]) -> Vec<u8> {
    let mut made = vec![0_u8; content.len() + STATISTICS_BYTES_MAX];
    let (sizes, all): (Vec<usize>, Vec<u8>) = (samples.iter().map(Vec::len).collect(), samples.concat());
    let parameters = zstd_sys::ZDICT_params_t { compressionLevel: LEVEL, notificationLevel: 0, dictID: DICTIONARY_ID };
    // SAFETY: each pointer is of a live slice and comes with its length; `sizes` adds up to the length of `all`.
    let n_bytes = unsafe {
        zstd_sys::ZDICT_finalizeDictionary(
            made.as_mut_ptr().cast(),
            made.len(),
            content.as_ptr().cast(),
            content.len(),
            all.as_ptr().cast(),
            sizes.as_ptr(),
            u32::try_from(sizes.len()).expect("few samples"),
            parameters,
        )
    };
    assert!(n_bytes <= made.len(), "too few samples, or all alike");
    made.truncate(n_bytes);
    made
}

fn collect<E: Engine>(path: &Path, samples: &mut Vec<Vec<u8>>) {
    let kv = Durable::<E>::open(path, Default::default()).expect("the store opens");
    let sealer = Sealer::default();
    let mut taken = BTreeMap::<u8, usize>::new();
    let mut rest = KeyRange::all();
    loop {
        let page = kv.scan(&rest, Order::Forward, PAGE).expect("the store can be read");
        for (key, stored) in &page.entries {
            let n_taken = taken.entry(key[0]).or_default();
            let Ok(mut body) = sealer.open(key, stored) else { continue };
            if *n_taken < SAMPLES_PER_KIND && body.len() >= SAMPLE_BYTES_MIN {
                body.truncate(SAMPLE_BYTES_MAX);
                samples.push(body);
                *n_taken += 1;
            }
        }
        match page.entries.last() {
            Some((last, _)) if page.more => rest = rest.after(last),
            _ => return,
        }
    }
}
