//! Which channels a notice goes to: the first route that fits.

use crate::config::Route;
use crate::notice::{Notice, Urgency};

impl Route {
    /// Whether a notice that is this loud fits.
    pub(crate) fn fits(&self, notice: &Notice, urgency: Urgency) -> bool {
        let about = notice.about.as_deref();
        let one_of = |list: &[String], value: Option<&str>| {
            list.is_empty() || value.is_some_and(|value| list.iter().any(|wanted| wanted == value))
        };
        self.urgency.is_none_or(|wanted| wanted == urgency)
            && self.at_least.is_none_or(|least| about.is_some_and(|about| about.level >= least))
            && one_of(&self.owner, about.and_then(|about| about.owner.as_deref()))
            && one_of(&self.environment, about.map(|about| about.environment.as_str()))
            && (self.pipeline.is_empty()
                || about.is_some_and(|about| self.pipeline.iter().any(|glob| matches(glob, &about.pipeline))))
    }
}

/// Whether `text` is what `glob` says; `*` stands for any letters.
fn matches(glob: &str, text: &str) -> bool {
    let mut pieces = glob.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        match rest.split_once(piece) {
            Some((_, after)) if !piece.is_empty() => rest = after,
            Some(_) => {}
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::{Level, Phase, sample};

    #[test]
    fn globs() {
        for (glob, text, expected) in [
            ("flights_*", "flights_daily", true),
            ("flights_*", "flights", false),
            ("*_daily", "flights_daily", true),
            ("f*_d*y", "flights_daily", true),
            ("*", "", true),
            ("a**b", "axb", true),
            ("flights", "flights_daily", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn each_condition_can_keep_a_notice_out() {
        let notice = sample(Urgency::Page, Phase::Open, "inc-1");
        let fits = |route: &Route| route.fits(&notice, Urgency::Page);
        let list = |name: &str| vec![name.to_owned()];
        assert!(fits(&Route::default()));
        for (good, bad) in [
            (
                Route { urgency: Some(Urgency::Page), ..Route::default() },
                Route { urgency: Some(Urgency::Summary), ..Route::default() },
            ),
            (
                Route { at_least: Some(Level::Warning), ..Route::default() },
                Route { at_least: Some(Level::Error), ..Route::default() },
            ),
            (
                Route { owner: list("data-platform"), ..Route::default() },
                Route { owner: list("sales"), ..Route::default() },
            ),
            (
                Route { pipeline: list("fl*"), ..Route::default() },
                Route { pipeline: list("orders"), ..Route::default() },
            ),
            (
                Route { environment: list("production"), ..Route::default() },
                Route { environment: list("staging"), ..Route::default() },
            ),
        ] {
            assert!(fits(&good) && !fits(&bad), "{good:?} {bad:?}");
        }
        let mut bare = notice.clone();
        bare.about = None;
        assert!(!Route { owner: list("data-platform"), ..Route::default() }.fits(&bare, Urgency::Page));
    }
}
