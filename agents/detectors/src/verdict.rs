//! What a detector says: numbers, and one sentence made of them.

use serde::{Deserialize, Serialize};

/// Largest score; what has no spread at all would have an infinite one.
pub(crate) const SCORE_MAX: f64 = 1e6;

/// Which way it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More than expected.
    Above,
    /// Less than expected.
    Below,
    /// As much, but distributed or combined in another way.
    Different,
}

/// The numbers of a judgement. It is an alarm when the score is above the threshold and the change is worth a word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// How unusual, in the detector's own unit.
    pub score: f64,
    /// The score up to which it is ordinary.
    pub threshold: f64,
    /// What was expected.
    pub expected: f64,
    /// What is there.
    pub observed: f64,
    /// Which way it went.
    pub direction: Direction,
    /// The segment or the metric that moved most, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How many times the expected it is, where that says something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// The same in words.
    pub reason: String,
}

/// What a detector found.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// There is too little to compare with: not an alarm.
    NotEnough {
        /// What there is.
        have: usize,
        /// What the detector needs.
        need: usize,
    },
    /// As usual.
    Ordinary(Verdict),
    /// Not as usual.
    Alarm(Verdict),
}

impl Finding {
    /// The verdict, if there was enough for one.
    pub fn verdict(&self) -> Option<&Verdict> {
        match self {
            Self::NotEnough { .. } => None,
            Self::Ordinary(verdict) | Self::Alarm(verdict) => Some(verdict),
        }
    }

    /// The verdict of an alarm.
    pub fn alarm(&self) -> Option<&Verdict> {
        match self {
            Self::Alarm(verdict) => Some(verdict),
            Self::NotEnough { .. } | Self::Ordinary(_) => None,
        }
    }
}

/// Which changes count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// More and less.
    #[default]
    Both,
    /// Only less.
    Drop,
    /// Only more.
    Rise,
}

/// Changes up to here are never an alarm, however rare they are.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Smallest {
    /// In the unit of the values.
    pub absolute: f64,
    /// As a share of what was expected.
    pub share: f64,
}

/// When a number is an alarm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The score up to which it is ordinary.
    pub threshold: f64,
    /// The change up to which it is ordinary.
    pub smallest: Smallest,
    /// Which changes count.
    pub side: Side,
    /// Fewest values to compare with.
    pub points_min: usize,
}

impl Limits {
    /// Alarm or not, of a score and the numbers it was made of.
    pub(crate) fn judge(&self, score: f64, expected: f64, observed: f64, how: &str) -> Finding {
        let score = score.min(SCORE_MAX);
        let change = observed - expected;
        let direction = direction_of(change);
        let counts = match self.side {
            Side::Both => change != 0.0,
            Side::Drop => direction == Direction::Below,
            Side::Rise => direction == Direction::Above,
        };
        let is_large = change.abs() > self.smallest.absolute && change.abs() > self.smallest.share * expected.abs();
        let reason = format!(
            "{} instead of about {}: {how} {}, {} is usual",
            plain(observed),
            plain(expected),
            plain(score),
            plain(self.threshold)
        );
        let factor = (expected > 0.0 && observed >= 0.0).then(|| observed / expected);
        let verdict =
            Verdict { score, threshold: self.threshold, expected, observed, direction, subject: None, factor, reason };
        if score > self.threshold && counts && is_large { Finding::Alarm(verdict) } else { Finding::Ordinary(verdict) }
    }
}

pub(crate) fn direction_of(change: f64) -> Direction {
    if change > 0.0 {
        Direction::Above
    } else if change < 0.0 {
        Direction::Below
    } else {
        Direction::Different
    }
}

/// A number with as many digits as say something.
pub(crate) fn plain(number: f64) -> String {
    let digits = match number.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        small if small >= 1.0 => 2,
        _ => 4,
    };
    let text = format!("{number:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_people_write_them() {
        let shown = [1234.56, 12.34, 5.0, 0.0312, -0.5, 0.0, 100.0].map(plain);
        assert_eq!(shown, ["1235", "12.3", "5", "0.0312", "-0.5", "0", "100"]);
    }

    #[test]
    fn a_small_change_is_no_alarm_and_the_side_counts() {
        let limits = Limits { threshold: 1.0, smallest: Smallest::default(), side: Side::Both, points_min: 1 };
        let is_alarm = |limits: Limits, observed: f64| limits.judge(2.0, 100.0, observed, "x").alarm().is_some();
        assert!(is_alarm(limits, 99.0) && is_alarm(limits, 101.0) && !is_alarm(limits, 100.0));
        let floor = |absolute, share| Limits { smallest: Smallest { absolute, share }, ..limits };
        assert!(!is_alarm(floor(5.0, 0.0), 95.0) && is_alarm(floor(5.0, 0.0), 94.0));
        assert!(!is_alarm(floor(0.0, 0.1), 90.0) && is_alarm(floor(0.0, 0.1), 89.0));
        assert!(!is_alarm(Limits { side: Side::Rise, ..limits }, 50.0));
        assert!(!is_alarm(Limits { side: Side::Drop, ..limits }, 150.0));
    }
}
