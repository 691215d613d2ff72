//! A series: values in time, some of them missing, none of them no number.

use crate::verdict::Finding;

/// Most points of one series.
pub const POINTS_MAX: usize = 20_000;

/// One point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Seconds since 1970 in UTC.
    pub at: i64,
    /// Its value; `None` where one was due and is missing.
    pub value: Option<f64>,
}

/// Why points are no series.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More than are looked at.
    #[error("{have} points, at most {POINTS_MAX} are judged: read a shorter time")]
    TooMany {
        /// How many there are.
        have: usize,
    },
    /// Infinite, or not a number.
    #[error("the value at {at} is no finite number: leave it out where it is unknown")]
    NotFinite {
        /// Where.
        at: i64,
    },
    /// Two values for one moment.
    #[error("there are two values at {at}: tell them apart by segment, or sum them up")]
    Twice {
        /// Where.
        at: i64,
    },
    /// More segments than are looked at.
    #[error("{have} segments, at most {} are judged: group the small ones", crate::segments::SEGMENTS_MAX)]
    Segments {
        /// How many there are.
        have: usize,
    },
    /// A value that is no number, or a count below 0.
    #[error("segment `{segment}` has a value or a count that is no finite number, or a count below 0")]
    BadSample {
        /// Where.
        segment: String,
    },
    /// Rows of different lengths, or none.
    #[error("a row has {have} metrics instead of {need}")]
    Uneven {
        /// Metrics of the odd row.
        have: usize,
        /// Metrics that were named.
        need: usize,
    },
}

/// Points in order of time, each moment once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    points: Vec<Point>,
}

impl Series {
    /// A series of points in any order.
    ///
    /// # Errors
    /// If there are too many, a value is not finite, or a moment has two.
    pub fn new(mut points: Vec<Point>) -> Result<Self, Refused> {
        if points.len() > POINTS_MAX {
            return Err(Refused::TooMany { have: points.len() });
        }
        if let Some(bad) = points.iter().find(|point| point.value.is_some_and(|value| !value.is_finite())) {
            return Err(Refused::NotFinite { at: bad.at });
        }
        points.sort_by_key(|point| point.at);
        match points.iter().zip(points.iter().skip(1)).find(|(one, next)| one.at == next.at) {
            Some((twice, _)) => Err(Refused::Twice { at: twice.at }),
            None => Ok(Self { points }),
        }
    }

    /// All points, the oldest first.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The series as it was when the point at this moment was the newest.
    pub fn until(&self, at: i64) -> Self {
        Self { points: self.points.iter().take_while(|point| point.at <= at).copied().collect() }
    }

    /// The newest value with its moment, and the points before it; `NotEnough` where the newest value is missing.
    pub(crate) fn newest(&self) -> Result<(i64, f64, &[Point]), Finding> {
        let nothing = Finding::NotEnough { have: 0, need: 1 };
        match self.points.split_last() {
            Some((Point { at, value: Some(value) }, before)) => Ok((*at, *value, before)),
            _ => Err(nothing),
        }
    }

    /// The newest value, and the values before it if there are at least `need`.
    pub(crate) fn judged(&self, need: usize) -> Result<(f64, Vec<f64>), Finding> {
        let (_, observed, before) = self.newest()?;
        let history: Vec<f64> = before.iter().filter_map(|point| point.value).collect();
        if history.len() < need {
            Err(Finding::NotEnough { have: history.len(), need })
        } else {
            Ok((observed, history))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: i64, value: f64) -> Point {
        Point { at, value: Some(value) }
    }

    #[test]
    fn points_are_put_in_order_and_bad_ones_refused() {
        let series = Series::new(vec![point(2, 5.0), Point { at: 1, value: None }, point(3, 6.0)]).unwrap();
        assert_eq!(series.judged(1).unwrap(), (6.0, vec![5.0]));
        assert_eq!(series.judged(2).unwrap_err(), Finding::NotEnough { have: 1, need: 2 });
        assert_eq!(series.until(2).points().len(), 2);
        assert_eq!(Series::new(vec![point(1, f64::NAN)]).unwrap_err(), Refused::NotFinite { at: 1 });
        assert_eq!(Series::new(vec![point(1, f64::INFINITY)]).unwrap_err(), Refused::NotFinite { at: 1 });
        assert_eq!(Series::new(vec![point(1, 1.0), point(1, 2.0)]).unwrap_err(), Refused::Twice { at: 1 });
        let many = (0..=POINTS_MAX as i64).map(|at| point(at, 0.0)).collect();
        assert_eq!(Series::new(many).unwrap_err(), Refused::TooMany { have: POINTS_MAX + 1 });
    }

    #[test]
    fn a_missing_newest_value_is_nothing_to_judge() {
        let series = Series::new(vec![point(1, 1.0), Point { at: 2, value: None }]).unwrap();
        assert_eq!(series.judged(1).unwrap_err(), Finding::NotEnough { have: 0, need: 1 });
        assert_eq!(Series::default().judged(0).unwrap_err(), Finding::NotEnough { have: 0, need: 1 });
    }
}
