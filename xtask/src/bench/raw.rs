//! The disk's own limit: records appended to one file, `fdatasync` after each batch. No durable engine can beat it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Bytes of one record: the payload of W1 and W2.
pub(super) const RECORD_BYTES: usize = 1024;

/// Measures `batch` records of `record_bytes` a sync for about `span` and returns records per second.
///
/// # Errors
/// The file in `dir` cannot be written or synced.
pub(super) fn records_per_second(dir: &Path, (batch, record_bytes): (usize, usize), span: Duration) -> Result<f64> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let path = dir.join("append");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    let bytes = incompressible(batch * record_bytes);
    let started = Instant::now();
    let mut n_batches = 0_usize;
    while started.elapsed() < span {
        file.write_all(&bytes)?;
        file.sync_data()?;
        n_batches += 1;
    }
    let rate = (n_batches * batch) as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(rate)
}

/// Bytes that do not compress, the same in every run.
fn incompressible(n_bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).take(n_bytes.div_ceil(8)).flatten().take(n_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_measured_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let rate = records_per_second(dir.path(), (4, RECORD_BYTES), Duration::from_millis(20)).unwrap();
        assert!(rate > 1.0, "{rate}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(incompressible(3 * 811).len(), 3 * 811);
    }
}
