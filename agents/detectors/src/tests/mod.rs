//! What is measured: ordinary weeks without a false alarm, injected anomalies that are found, and weakened variants that fail.

mod bars;
mod weakened;
mod weeks;

use crate::segments::{Counted, Samples};
use crate::series::{Point, Series};

/// A series of a value an hour.
pub(crate) fn series_of(values: &[f64]) -> Series {
    let points = values.iter().enumerate().map(|(n, value)| Point { at: n as i64 * 3_600, value: Some(*value) });
    Series::new(points.collect()).unwrap()
}

/// Samples of values that occur once each.
pub(crate) fn sample_of(segments: &[(&str, &[f64])]) -> Samples {
    let counted = |values: &[f64]| values.iter().map(|value| Counted { value: *value, count: 1.0 }).collect();
    segments.iter().map(|(name, values)| ((*name).to_owned(), counted(values))).collect()
}
