//! Gate: which confidence band a score falls into.

/// Index of the first band whose floor the score reaches; a band without a floor takes the rest. NaN reaches no floor.
pub fn choose(score: f64, floors: &[Option<f64>]) -> Option<usize> {
    floors.iter().position(|floor| floor.is_none_or(|floor| score >= floor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reached_floor_wins_and_the_open_band_takes_the_rest() {
        let floors = [Some(0.85), Some(0.7), None];
        assert_eq!(choose(0.9, &floors), Some(0));
        assert_eq!(choose(0.85, &floors), Some(0));
        assert_eq!(choose(0.7, &floors), Some(1));
        assert_eq!(choose(0.699_999, &floors), Some(2));
        assert_eq!(choose(f64::NAN, &floors), Some(2));
        assert_eq!(choose(0.1, &[Some(0.5)]), None);
    }
}
