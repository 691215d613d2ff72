//! The conformance suite on every backend, plain and encrypted.

mod here;

use std::path::PathBuf;
use std::sync::Arc;

use checkpoints::conformance::{self, Place};
use checkpoints::envelope::Plain;
use checkpoints::keys::KeyRing;
use checkpoints::open::{Address, OpenOptions, open};
use runtime::ports::store::{Store, StoreError};

struct Here {
    address: Address,
    options: OpenOptions,
    /// Removed with the place.
    _folder: tempfile::TempDir,
}

impl Place for Here {
    fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        open(&self.address, &self.options)
    }

    fn is_durable(&self) -> bool {
        self.address != Address::Memory
    }
}

pub(crate) fn encrypted() -> OpenOptions {
    let keys = KeyRing::new(&"5e".repeat(32).into(), &[]).unwrap();
    OpenOptions { keys: Some(Arc::new(keys)), plain: Plain::Refuse, ..OpenOptions::default() }
}

async fn check_conformance(address: fn(PathBuf) -> Address, options: OpenOptions) {
    let report = conformance::run(|| {
        let folder = tempfile::tempdir().unwrap();
        Box::new(Here { address: address(folder.path().join("store")), options: options.clone(), _folder: folder })
    })
    .await;
    println!("{report}");
    assert!(report.failed.is_empty(), "{report}");
    assert!(report.passed.len() > 70, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    check_conformance(|_| Address::Memory, OpenOptions::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_encrypted() {
    check_conformance(|_| Address::Memory, encrypted()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sled() {
    check_conformance(Address::Sled, OpenOptions::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sled_encrypted() {
    check_conformance(Address::Sled, encrypted()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fjall() {
    check_conformance(Address::Fjall, OpenOptions::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fjall_encrypted() {
    check_conformance(Address::Fjall, encrypted()).await;
}
