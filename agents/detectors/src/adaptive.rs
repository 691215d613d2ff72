//! A threshold that follows what people say about its alarms, within a declared range.
//!
//! A false alarm of score `s` lifts the threshold `T` just above it: `T ← min(most, max(T, 1.05 s))`. A real one that was found at `s`
//! lowers it half of the way back, and below that score: `T ← max(base, min((T + base) / 2, 0.95 s))`. So `base ≤ T ≤ most` whatever
//! is marked, and a score above `most` is an alarm for ever. A fold over the marks in order: the same marks give the same threshold.

/// Most marks that are looked at; older ones are forgotten.
pub const MARKS_MAX: usize = 1_000;
/// How far above a false alarm the threshold is put, and how far below a real one.
const MARGIN: f64 = 0.05;

/// What people said about an alarm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mark {
    /// Nothing was wrong, at this score.
    FalseAlarm(f64),
    /// It was right, at this score.
    Real(f64),
}

/// The threshold after these marks, the oldest first.
pub fn threshold(base: f64, most: f64, marks: &[Mark]) -> f64 {
    let most = most.max(base);
    let newest = marks.get(marks.len().saturating_sub(MARKS_MAX)..).unwrap_or(marks);
    newest.iter().fold(base, |now, mark| match mark {
        Mark::FalseAlarm(score) => now.max(score * (1.0 + MARGIN)).min(most),
        Mark::Real(score) => ((now + base) / 2.0).min(score * (1.0 - MARGIN)).max(base),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_false_alarm_widens_and_a_real_one_narrows() {
        let after = |marks: &[Mark]| threshold(5.0, 10.0, marks);
        assert_eq!(after(&[]), 5.0);
        assert!((after(&[Mark::FalseAlarm(6.0)]) - 6.3).abs() < 1e-9);
        assert_eq!(
            after(&[Mark::FalseAlarm(6.0), Mark::FalseAlarm(5.5)]),
            after(&[Mark::FalseAlarm(6.0)]),
            "a smaller one is covered"
        );
        assert_eq!(after(&[Mark::FalseAlarm(50.0)]), 10.0, "never past the declared maximum");
        assert_eq!(after(&[Mark::FalseAlarm(50.0), Mark::Real(12.0)]), 7.5);
        let narrowed = after(&[Mark::FalseAlarm(50.0), Mark::Real(6.0)]);
        assert!((narrowed - 5.7).abs() < 1e-9, "a real one would be found again: {narrowed}");
    }

    fn marks() -> impl Strategy<Value = Vec<Mark>> {
        let mark = (any::<bool>(), 0.0..1e4f64)
            .prop_map(|(is_real, score)| if is_real { Mark::Real(score) } else { Mark::FalseAlarm(score) });
        prop::collection::vec(mark, 0..60)
    }

    proptest! {
        #[test]
        fn it_stays_within_its_range(marks in marks(), base in 0.1..10.0f64, more in 0.0..50.0f64) {
            let now = threshold(base, base + more, &marks);
            prop_assert!(base <= now && now <= base + more);
        }

        #[test]
        fn the_last_word_counts(mut marks in marks(), score in 1.0..100.0f64) {
            let before = threshold(1.0, 50.0, &marks);
            marks.push(Mark::FalseAlarm(score));
            let widened = threshold(1.0, 50.0, &marks);
            prop_assert!(widened >= before && (score >= 47.0 || widened > score));
            marks.push(Mark::Real(score));
            let narrowed = threshold(1.0, 50.0, &marks);
            prop_assert!(narrowed <= widened && (narrowed < score || narrowed == 1.0));
        }

        #[test]
        fn what_is_above_the_maximum_is_an_alarm_for_ever(marks in marks()) {
            prop_assert!(threshold(1.0, 20.0, &marks) < 20.1);
        }
    }
}
