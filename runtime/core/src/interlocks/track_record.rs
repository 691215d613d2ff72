//! Track record: how often acts of a class healed, and what that entitles the next one to.
//!
//! The record is shared by every thread of a store. An act may go without a person only while the lower end of the Wilson
//! score interval of its class's success rate is high enough: a rate alone would call one success in one try perfect.
//!
//! ```text
//!              p + z²/2n − z √( p(1 − p)/n + z²/4n² )
//!  lower = ──────────────────────────────────────────     p = healed / n,  z = 1.96 (two-sided 95 %)
//!                            1 + z²/n
//! ```
//!
//! E. B. Wilson, *Probable inference, the law of succession, and statistical inference*, JASA 22 (1927) 209–212. With no
//! failure it is n / (n + z²): sixteen heals in a row are the first that reach 0.80.
//!
//! Two failed heals in a row stop the class until a person lets it go on. There is no cooldown as a breaker has: a server
//! comes back by itself, a remedy that does not help does not begin to, and a probe would be a trial on production.

use serde::{Deserialize, Serialize};

use crate::error::ErrorClass;
use crate::ids::{Name, ThreadId, Timestamp};

/// A decision that is less sure than this is a person's, as everywhere: the lowest band that acts.
pub const SURE: f64 = 0.70;

/// Standard normal quantile of a two-sided 95 % interval.
pub const Z: f64 = 1.96;
/// Failed heals in a row that stop a class.
pub const STOP_AFTER: usize = 2;
/// Outcomes of a class that are kept one by one: for calibration, for corrections, and to count each only once.
pub const KEPT_MAX: usize = 256;

/// A declared record that a class starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prior {
    /// Acts that healed.
    pub healed: u32,
    /// Acts that did not.
    pub failed: u32,
}

/// How one act of a class ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heal {
    /// Names the act: the same over crashes, retries and copies of its thread.
    pub id: Name,
    /// Its class.
    pub class: Name,
    /// The thread.
    pub thread: ThreadId,
    /// The graph of the node.
    pub graph: Name,
    /// The act was made and its check held.
    pub healed: bool,
    /// How sure the one who decided was.
    pub confidence: Option<f64>,
    /// When.
    pub at: Timestamp,
    /// The prior that was declared then; `None` when the node says nothing about it.
    pub prior: Option<Prior>,
}

/// An outcome as kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// Its place among all outcomes of the class; the first is 1.
    pub n: u32,
    /// The act.
    pub id: Name,
    /// The thread.
    pub thread: ThreadId,
    /// The graph.
    pub graph: Name,
    /// Whether it healed, after any correction.
    pub healed: bool,
    /// How sure the one who decided was.
    pub confidence: Option<f64>,
    /// When.
    pub at: Timestamp,
    /// Who corrected it.
    pub marked_by: Option<String>,
}

impl Counted {
    fn is(&self, which: &str) -> bool {
        *self.id == *which || self.thread.as_str() == which
    }
}

/// A class's record, as stored.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TrackRecord {
    /// Acts that healed.
    pub healed: u32,
    /// Acts that did not.
    pub failed: u32,
    /// The last outcomes, oldest first.
    pub last: Vec<Counted>,
    /// Outcomes up to this one do not stop the class any more: a person let it go on.
    pub forgiven: u32,
    /// The prior that was declared last; what people are shown.
    pub prior: Prior,
}

/// What a node asks of a class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// A class whose record vouches for less asks a person.
    pub at_least: f64,
    /// How sure the one who decided is; below [`SURE`] a person is asked, whatever the record.
    pub confidence: Option<f64>,
    /// The declared prior.
    pub prior: Prior,
}

impl Terms {
    /// What a decision must be sure at least. A node that wants little of the record wants no more of the decision.
    fn sure(&self) -> f64 {
        SURE.min(self.at_least)
    }
}

/// What a record entitles an act to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may go without a person, as far as the record is concerned.
    Heal,
    /// A person decides.
    Ask {
        /// Why, in words.
        why: String,
    },
    /// The class is stopped.
    Stopped {
        /// Why, in words.
        why: String,
    },
}

impl Decision {
    /// A word for it that does not change.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Heal => "heal",
            Self::Ask { .. } => "ask",
            Self::Stopped { .. } => "stopped",
        }
    }
}

/// What a correction came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// The outcome is another one now.
    Changed,
    /// It was so already.
    Already,
    /// No such outcome is among the last ones.
    Unknown,
}

/// The lower end of the Wilson score interval of `healed` successes in `healed + failed` tries; 0 for no tries.
pub fn wilson_lower(healed: u32, failed: u32) -> f64 {
    let (wins, n) = (f64::from(healed), f64::from(healed) + f64::from(failed));
    if wins == 0.0 {
        return 0.0;
    }
    let (p, z2) = (wins / n, Z * Z);
    let spread = Z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    ((p + z2 / (2.0 * n) - spread) / (1.0 + z2 / n)).clamp(0.0, 1.0)
}

/// How sure it is that an act of this class heals: a record may only lower what the evidence says, or leave it.
///
/// The smaller of the two, and no product: the record already holds the times the diagnosis was wrong, which a product
/// would count twice.
pub fn combined(confidence: Option<f64>, bound: f64) -> f64 {
    match confidence {
        Some(confidence) if confidence.is_nan() => 0.0,
        Some(confidence) => confidence.min(bound).max(0.0),
        None => bound,
    }
}

/// Whether the failure of an act's task says that the act did not heal. A refusal, a limit or a misspelt call says nothing
/// about a remedy; nobody knows what a call did whose outcome is unknown.
pub fn counts_as_failed(class: ErrorClass) -> bool {
    use ErrorClass::{
        Bug, Conflict, Denied, Invalid, Limit, NonDeterminism, NotFound, OutcomeUnknown, Permanent, RateLimited,
        Resource, Timeout, Transient, Unknown, VerifyFailed,
    };
    match class {
        VerifyFailed | Permanent | Unknown | Transient | RateLimited | Timeout | Resource => true,
        Bug | Conflict | Denied | Invalid | Limit | NonDeterminism | NotFound | OutcomeUnknown => false,
    }
}

/// Two digits, never more than there is: what is not enough must not look as if it were.
pub fn rounded_down(sure: f64) -> f64 {
    (sure * 100.0).floor() / 100.0
}

impl TrackRecord {
    /// Outcomes counted so far.
    pub fn n(&self) -> u32 {
        self.healed.saturating_add(self.failed)
    }

    /// The lower bound of the success rate, with a prior.
    pub fn bound(&self, prior: Prior) -> f64 {
        wilson_lower(self.healed.saturating_add(prior.healed), self.failed.saturating_add(prior.failed))
    }

    /// Failed heals since the last one that healed, or since a person let the class go on.
    pub fn failed_in_a_row(&self) -> usize {
        self.last.iter().rev().take_while(|counted| !counted.healed && counted.n > self.forgiven).count()
    }

    /// Whether the class is stopped.
    pub fn is_stopped(&self) -> bool {
        self.failed_in_a_row() >= STOP_AFTER
    }

    /// What the record entitles an act to.
    pub fn decide(&self, terms: Terms) -> Decision {
        let row = self.failed_in_a_row();
        if row >= STOP_AFTER {
            return Decision::Stopped { why: format!("its last {row} acts did not heal") };
        }
        let bound = self.bound(terms.prior);
        if bound >= terms.at_least && terms.confidence.is_none_or(|confidence| confidence >= terms.sure()) {
            return Decision::Heal;
        }
        Decision::Ask { why: self.words(terms, bound) }
    }

    fn words(&self, terms: Terms, bound: f64) -> String {
        let (healed, n) = (self.healed, self.n());
        let declared = match terms.prior {
            Prior { healed: 0, failed: 0 } => String::new(),
            Prior { healed, failed } => {
                format!(", with {healed} of {} declared", healed.saturating_add(failed))
            }
        };
        let record = match (n, declared.is_empty()) {
            (0, true) => "it has no record yet".to_owned(),
            _ => format!("{healed} of {n} acts healed{declared}: at least {:.2} of the next will", rounded_down(bound)),
        };
        match terms.confidence {
            Some(confidence) if bound >= terms.at_least => {
                let (said, needed) = (rounded_down(combined(Some(confidence), 1.0)), terms.sure());
                format!("the decision is only {said:.2} sure, and {needed:.2} is needed; {record}")
            }
            _ => format!("{record}, and {:.2} is needed", terms.at_least),
        }
    }

    /// Takes in how an act ended, once; whether that stopped the class.
    pub fn count(&mut self, heal: &Heal) -> bool {
        if self.last.iter().any(|counted| counted.id == heal.id) {
            return false;
        }
        let was_stopped = self.is_stopped();
        let side = if heal.healed { &mut self.healed } else { &mut self.failed };
        *side = side.saturating_add(1);
        self.prior = heal.prior.unwrap_or(self.prior);
        self.last.push(Counted {
            n: self.n(),
            id: heal.id.clone(),
            thread: heal.thread.clone(),
            graph: heal.graph.clone(),
            healed: heal.healed,
            confidence: heal.confidence,
            at: heal.at,
            marked_by: None,
        });
        let too_many = self.last.len().saturating_sub(KEPT_MAX);
        self.last.drain(..too_many);
        !was_stopped && self.is_stopped()
    }

    /// Lets a class go on that was stopped until then. What it did stays counted.
    pub fn reset(&mut self, until: Timestamp) {
        let known = self.last.iter().filter(|counted| counted.at <= until).map(|counted| counted.n).max();
        self.forgiven = self.forgiven.max(known.unwrap_or(0));
    }

    /// The outcome of an id, or the last one of a thread.
    pub fn find(&self, which: &str) -> Option<&Counted> {
        self.last.iter().rev().find(|counted| counted.is(which))
    }

    /// Corrects an outcome, by its id or as the last one of a thread, in the name of a person.
    pub fn mark(&mut self, which: &str, healed: bool, by: &str) -> Marked {
        let Some(counted) = self.last.iter_mut().rev().find(|counted| counted.is(which)) else {
            return Marked::Unknown;
        };
        if counted.healed == healed {
            return Marked::Already;
        }
        counted.healed = healed;
        counted.marked_by = Some(by.to_owned());
        let (from, to) =
            if healed { (&mut self.failed, &mut self.healed) } else { (&mut self.healed, &mut self.failed) };
        *from = from.saturating_sub(1);
        *to = to.saturating_add(1);
        Marked::Changed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heal(n: usize, healed: bool) -> Heal {
        Heal {
            id: format!("t{n}:a").into(),
            class: "rerun".into(),
            thread: ThreadId::new(&format!("t{n}")).unwrap(),
            graph: "g".into(),
            healed,
            confidence: Some(0.9),
            at: Timestamp(i64::try_from(n).unwrap()),
            prior: None,
        }
    }

    fn after(outcomes: &[bool]) -> TrackRecord {
        let mut record = TrackRecord::default();
        for (n, healed) in outcomes.iter().enumerate() {
            record.count(&heal(n, *healed));
        }
        record
    }

    fn terms(at_least: f64) -> Terms {
        Terms { at_least, confidence: None, prior: Prior::default() }
    }

    #[test]
    fn the_bound_is_wilson_s() {
        for (healed, failed, known) in [
            (0, 0, 0.0),
            (0, 10, 0.0),
            (1, 0, 0.206_543),
            (8, 2, 0.490_157),
            (9, 1, 0.595_844),
            (15, 0, 0.796_111),
            (16, 0, 0.806_387),
            (50, 50, 0.403_830),
            (95, 5, 0.888_248),
            (999, 1, 0.994_357),
        ] {
            let bound = wilson_lower(healed, failed);
            assert!((bound - known).abs() < 1e-6, "{healed} of {}: {bound:.6}, not {known}", healed + failed);
        }
        assert!(wilson_lower(u32::MAX, u32::MAX) < 0.5 && wilson_lower(u32::MAX, 0) <= 1.0);
    }

    #[test]
    fn a_class_earns_its_way_to_acting_alone() {
        let mut outcomes = vec![true; 15];
        assert_eq!(
            after(&outcomes).decide(terms(0.80)),
            Decision::Ask {
                why: "15 of 15 acts healed: at least 0.79 of the next will, and 0.80 is needed".to_owned()
            }
        );
        outcomes.push(true);
        assert_eq!(after(&outcomes).decide(terms(0.80)), Decision::Heal);
        outcomes.push(false);
        assert!(matches!(after(&outcomes).decide(terms(0.80)), Decision::Ask { .. }));
        outcomes.push(false);
        let why = "its last 2 acts did not heal".to_owned();
        assert_eq!(after(&outcomes).decide(terms(0.80)), Decision::Stopped { why });
    }

    #[test]
    fn a_prior_stands_beside_what_was_seen_and_no_more() {
        let prior = Prior { healed: 20, failed: 0 };
        let with = |record: &TrackRecord| record.decide(Terms { prior, ..terms(0.80) });
        assert_eq!(with(&TrackRecord::default()), Decision::Heal);
        let why = "0 of 1 acts healed, with 20 of 20 declared: at least 0.77 of the next will, and 0.80 is needed";
        assert_eq!(with(&after(&[false])), Decision::Ask { why: why.to_owned() });
        assert!(matches!(with(&after(&[false, false])), Decision::Stopped { .. }), "no prior outweighs two in a row");
        let why = "it has no record yet, and 0.80 is needed".to_owned();
        assert_eq!(TrackRecord::default().decide(terms(0.80)), Decision::Ask { why });
    }

    #[test]
    fn the_record_lowers_a_confidence_and_never_raises_it() {
        assert_eq!(combined(Some(0.91), 0.84), 0.84);
        assert_eq!(combined(Some(0.72), 0.99), 0.72);
        assert_eq!(combined(None, 0.84), 0.84);
        assert_eq!(combined(Some(f64::NAN), 0.84), 0.0, "no number is no confidence");
        let unsure = Terms { confidence: Some(0.62), ..terms(0.80) };
        let why =
            "the decision is only 0.62 sure, and 0.70 is needed; 30 of 30 acts healed: at least 0.88 of the next will";
        assert_eq!(after(&[true; 30]).decide(unsure), Decision::Ask { why: why.to_owned() });
    }

    #[test]
    fn an_act_counts_once_and_what_is_kept_is_bounded() {
        let mut record = after(&[true; KEPT_MAX + 5]);
        assert_eq!((record.healed, record.last.len()), (KEPT_MAX as u32 + 5, KEPT_MAX));
        assert_eq!(record.last[0].n, 6);
        assert!(!record.count(&heal(100, false)), "told again, even another way, it is the same act");
        assert_eq!((record.healed, record.failed), (KEPT_MAX as u32 + 5, 0));
    }

    #[test]
    fn a_person_lets_a_class_go_on_and_it_needs_two_new_failures_to_stop() {
        let mut record = after(&[true, false]);
        assert!(record.count(&heal(8, false)), "this one stopped it");
        assert!(!record.count(&heal(9, false)), "it was stopped already");
        record.reset(Timestamp(8));
        assert!(!record.is_stopped(), "one failure is left that came after");
        record.reset(Timestamp(8));
        record.reset(Timestamp(9));
        assert_eq!((record.healed, record.failed), (1, 3), "what it did stays");
        assert!(!record.count(&heal(10, false)));
        assert!(record.count(&heal(11, false)));
    }

    #[test]
    fn a_correction_moves_one_outcome_and_may_stop_or_free_a_class() {
        let mut record = after(&[true, true, false]);
        assert_eq!(record.mark("t9", false, "ana"), Marked::Unknown);
        assert_eq!(record.mark("t1", true, "ana"), Marked::Already);
        assert_eq!(record.mark("t1", false, "ana"), Marked::Changed);
        assert_eq!((record.healed, record.failed, record.is_stopped()), (1, 2, true));
        assert_eq!(record.last[1].marked_by.as_deref(), Some("ana"));
        assert_eq!(record.mark("t2:a", true, "ben"), Marked::Changed);
        assert_eq!((record.healed, record.failed, record.is_stopped()), (2, 1, false));
    }

    #[test]
    fn what_says_nothing_about_a_remedy_is_not_held_against_it() {
        use ErrorClass::*;
        for (class, failed) in
            [(VerifyFailed, true), (Permanent, true), (Transient, true), (Denied, false), (OutcomeUnknown, false)]
        {
            assert_eq!(counts_as_failed(class), failed, "{class:?}");
        }
    }

    proptest! {
        #[test]
        fn more_heals_never_lower_the_bound_and_more_failures_never_raise_it(healed in 0..5000u32, failed in 0..5000u32) {
            let bound = wilson_lower(healed, failed);
            prop_assert!(wilson_lower(healed + 1, failed) >= bound);
            prop_assert!(wilson_lower(healed, failed + 1) <= bound);
            let rate = f64::from(healed) / f64::from((healed + failed).max(1));
            prop_assert!((0.0..=1.0).contains(&bound) && bound <= rate);
        }

        #[test]
        fn nothing_heals_alone_below_the_bound(
            outcomes in prop::collection::vec(prop::bool::weighted(0.9), 0..80),
            confidence in prop::option::of(0.0..1.0f64),
            (healed, failed) in (0..40u32, 0..5u32),
            at_least in 0.01..1.0f64,
        ) {
            let terms = Terms { at_least, confidence, prior: Prior { healed, failed } };
            let decided = after(&outcomes).decide(terms);
            prop_assert!(holds(&outcomes, terms, &decided), "{decided:?}");
        }

        #[test]
        fn two_failures_always_stop_whatever_came_before(
            outcomes in prop::collection::vec(any::<bool>(), 0..400),
            healed in 0..10_000u32,
        ) {
            let mut outcomes = outcomes;
            outcomes.extend([false, false]);
            let terms = Terms { at_least: 0.0, confidence: Some(1.0), prior: Prior { healed, failed: 0 } };
            let decided = after(&outcomes).decide(terms);
            prop_assert_eq!(decided.word(), "stopped");
        }
    }

    /// The promise, judged by an independent route: from the outcomes, solving p̂ ± z·√(p(1−p)/n) for p by bisection.
    fn holds(outcomes: &[bool], terms: Terms, decided: &Decision) -> bool {
        let stopped = outcomes.len() >= 2 && outcomes.iter().rev().take(2).all(|healed| !healed);
        let wins = outcomes.iter().filter(|healed| **healed).count() as f64 + f64::from(terms.prior.healed);
        let n = outcomes.len() as f64 + f64::from(terms.prior.healed + terms.prior.failed);
        let (mut low, mut high) = (0.0, if n > 0.0 { wins / n } else { 0.0 });
        for _ in 0..200 {
            let p = (low + high) / 2.0;
            let is_too_low = wins / n - p > Z * (p * (1.0 - p) / n).sqrt();
            if is_too_low { low = p } else { high = p }
        }
        let (sure, needed) = (terms.confidence.unwrap_or(1.0), terms.at_least.min(0.70));
        let good = low >= terms.at_least && sure >= needed;
        // Within rounding of a threshold either answer is right.
        let close = (low - terms.at_least).abs() < 1e-9 || (sure - needed).abs() < 1e-9;
        match decided {
            Decision::Stopped { .. } => stopped,
            Decision::Heal => !stopped && (good || close),
            Decision::Ask { .. } => !stopped && (!good || close),
        }
    }

    #[test]
    fn the_promise_has_teeth() {
        type Weakened = fn(&TrackRecord, Terms) -> Decision;
        let raw_rate: Weakened = |record, terms| {
            let rate = f64::from(record.healed) / f64::from(record.n().max(1));
            if record.is_stopped() { Decision::Stopped { why: String::new() } } else { by_number(rate, terms) }
        };
        let no_stop: Weakened = |record, terms| by_number(record.bound(terms.prior), terms);
        let record_only: Weakened = |record, terms| record.decide(Terms { confidence: None, ..terms });
        let raised: Weakened = |record, terms| {
            let bound = record.bound(terms.prior);
            record.decide(Terms { confidence: terms.confidence.map(|confidence| confidence.max(bound)), ..terms })
        };
        let cases: [(&[bool], Terms); 3] = [
            (&[true], terms(0.80)),
            (&[false, false], terms(0.0)),
            (&[true; 40], Terms { confidence: Some(0.5), ..terms(0.80) }),
        ];
        for (weakened, name) in [
            (raw_rate, "a raw rate"),
            (no_stop, "no stop"),
            (record_only, "a record without the evidence"),
            (raised, "a record that raises"),
        ] {
            let found =
                cases.iter().any(|(outcomes, terms)| !holds(outcomes, *terms, &weakened(&after(outcomes), *terms)));
            assert!(found, "{name} was not found out");
        }
        for (outcomes, terms) in cases {
            assert!(holds(outcomes, terms, &after(outcomes).decide(terms)));
        }
    }

    fn by_number(sure: f64, terms: Terms) -> Decision {
        match sure >= terms.at_least {
            true => Decision::Heal,
            false => Decision::Ask { why: String::new() },
        }
    }
}
