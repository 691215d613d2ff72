//! `detect:` of a probe: which statistic judges its rows, and when a number is an alarm.
//!
//! Declared beside the probe by people; `detectors` does the arithmetic. What a key may be depends on the method, so the keys are
//! read by hand and a wrong one is named with the nearest right one.

use std::collections::{BTreeMap, BTreeSet};

use detectors::forest::{self, ForestRule};
use detectors::seasonal::{SeasonalRule, Slot, WEEKS_MAX};
use detectors::{BINS_MAX, Limits, POINTS_MAX, ShiftRule, Side, Smallest, Weekday, iqr, kl, mad, psi};
use serde::Deserialize;
use serde_json::Value;

use crate::declared::{Declared, days_of};
use crate::estate::Rule;

mod rows;

pub(crate) use rows::{Alarm, Marks, Round, judge};

/// How many times its own threshold one may become by marked false alarms, where nothing is declared.
const WIDEST: f64 = 2.0;

const METHODS: [(&str, MethodName); 7] = [
    ("mad", MethodName::Mad),
    ("iqr", MethodName::Iqr),
    ("seasonal", MethodName::Seasonal),
    ("psi", MethodName::Psi),
    ("kl", MethodName::Kl),
    ("forest", MethodName::Forest),
    ("freshness", MethodName::Freshness),
];

/// Keys that each method has.
const ALL: [&str; 3] = ["method", "by", "at"];
const LEARNS: [&str; 2] = ["threshold", "threshold_max"];
const SERIES: [&str; 5] = ["value", "ignore_below", "ignore_share", "side", "points_min"];
const SEASON: [&str; 7] = ["value", "ignore_below", "ignore_share", "side", "weeks_min", "weeks_max", "spread_factor"];
const SEASON_CLOCK: [&str; 3] = ["slot", "offset", "holidays"];
const SHIFT: [&str; 4] = ["value", "count", "bins", "samples_min"];
const FOREST: [&str; 5] = ["values", "trees", "sample", "distance_min", "rows_min"];
const FRESH: [&str; 3] = ["max_age_hours", "rests_on", "offset"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MethodName {
    Mad,
    Iqr,
    Seasonal,
    Psi,
    Kl,
    Forest,
    Freshness,
}

/// A declared statistic.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Value")]
pub struct Detect {
    method: Method,
    /// The segment of a row: what is compared with itself only.
    by: Option<Rule>,
    /// The moment of a row; its day where none is declared.
    at: Option<Rule>,
    /// Widest that marked false alarms make the threshold.
    threshold_max: f64,
}

#[derive(Debug, Clone)]
enum Method {
    Mad { value: Rule, limits: Limits },
    Iqr { value: Rule, limits: Limits },
    Seasonal { value: Rule, rule: SeasonalRule },
    Psi { value: Rule, count: Option<Rule>, rule: ShiftRule },
    Kl { value: Rule, count: Option<Rule>, rule: ShiftRule },
    Forest { values: BTreeMap<String, Rule>, rule: ForestRule },
    Freshness { max_age_hours: Rule, rests_on: Vec<Weekday>, offset_min: i32 },
}

impl TryFrom<Value> for Detect {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let name = method_name(&value)?;
        let mut keys = Declared::new(place(&value), value, &name.keys())?;
        keys.take("method");
        let (by, at) = (keys.rule("by")?, keys.rule("at")?);
        let method = name.read(&mut keys)?;
        let base = method.threshold();
        // An isolation score is at most 1, so twice 0.6 would switch it off.
        let most = if name == MethodName::Forest { (1.0 + base) / 2.0 } else { base * WIDEST };
        let threshold_max = keys.positive("threshold_max", most)?;
        if threshold_max < base {
            return Err(format!("`threshold_max` of `detect` is {threshold_max}, below the threshold itself ({base})"));
        }
        Ok(Self { method, by, at, threshold_max })
    }
}

fn method_name(value: &Value) -> Result<MethodName, String> {
    let mut method = Declared::new(
        "`detect`",
        value.get("method").map_or(Value::Null, |m| serde_json::json!({ "method": m })),
        &["method"],
    )
    .map_err(|_| "`detect` needs a `method`: mad, iqr, seasonal, psi, kl, forest or freshness".to_owned())?;
    let fallback = MethodName::Mad;
    method.word("method", &METHODS, fallback)
}

fn place(value: &Value) -> String {
    format!("`detect` with `method: {}`", value.get("method").and_then(Value::as_str).unwrap_or_default())
}

impl MethodName {
    fn keys(self) -> Vec<&'static str> {
        let own: &[&[&'static str]] = match self {
            Self::Mad | Self::Iqr => &[&LEARNS, &SERIES],
            Self::Seasonal => &[&LEARNS, &SEASON, &SEASON_CLOCK],
            Self::Psi | Self::Kl => &[&LEARNS, &SHIFT],
            Self::Forest => &[&LEARNS, &FOREST],
            // A contract is a promise: nothing is learnt about it.
            Self::Freshness => &[&FRESH],
        };
        ALL.iter().chain(own.iter().copied().flatten()).copied().collect()
    }

    fn read(self, keys: &mut Declared) -> Result<Method, String> {
        Ok(match self {
            Self::Mad => {
                Method::Mad { value: keys.needed_rule("value")?, limits: limits(keys, mad::LIMITS, "points_min")? }
            }
            Self::Iqr => {
                Method::Iqr { value: keys.needed_rule("value")?, limits: limits(keys, iqr::LIMITS, "points_min")? }
            }
            Self::Seasonal => Method::Seasonal { value: keys.needed_rule("value")?, rule: seasonal(keys)? },
            Self::Psi => Method::Psi {
                value: keys.needed_rule("value")?,
                count: keys.rule("count")?,
                rule: shift(keys, psi::RULE)?,
            },
            Self::Kl => Method::Kl {
                value: keys.needed_rule("value")?,
                count: keys.rule("count")?,
                rule: shift(keys, kl::RULE)?,
            },
            Self::Forest => Method::Forest { values: metrics(keys)?, rule: forest_rule(keys)? },
            Self::Freshness => Method::Freshness {
                max_age_hours: keys.needed_rule("max_age_hours")?,
                rests_on: keys.read("rests_on")?.unwrap_or_default(),
                offset_min: keys.offset()?,
            },
        })
    }
}

impl Method {
    /// The declared threshold.
    fn threshold(&self) -> f64 {
        match self {
            Self::Mad { limits, .. } | Self::Iqr { limits, .. } => limits.threshold,
            Self::Seasonal { rule, .. } => rule.limits.threshold,
            Self::Psi { rule, .. } | Self::Kl { rule, .. } => rule.threshold,
            Self::Forest { rule, .. } => rule.threshold,
            Self::Freshness { .. } => 1.0,
        }
    }
}

const SIDES: [(&str, Side); 3] = [("both", Side::Both), ("drop", Side::Drop), ("rise", Side::Rise)];

fn limits(keys: &mut Declared, usual: Limits, fewest: &str) -> Result<Limits, String> {
    Ok(Limits {
        threshold: keys.positive("threshold", usual.threshold)?,
        smallest: Smallest { absolute: keys.amount("ignore_below")?, share: keys.amount("ignore_share")? },
        side: keys.word("side", &SIDES, usual.side)?,
        points_min: keys.count(fewest, usual.points_min, POINTS_MAX)?,
    })
}

fn seasonal(keys: &mut Declared) -> Result<SeasonalRule, String> {
    let usual = SeasonalRule::default();
    let slots = [("weekday_hour", Slot::WeekdayHour), ("weekday", Slot::Weekday)];
    let holidays: Vec<String> = keys.read("holidays")?.unwrap_or_default();
    Ok(SeasonalRule {
        limits: limits(keys, usual.limits, "weeks_min")?,
        weeks_max: keys.count("weeks_max", usual.weeks_max, WEEKS_MAX)?,
        spread_factor: keys.positive("spread_factor", usual.spread_factor)?,
        slot: keys.word("slot", &slots, usual.slot)?,
        offset_min: keys.offset()?,
        holidays: days_of(&holidays)?,
    })
}

fn shift(keys: &mut Declared, usual: ShiftRule) -> Result<ShiftRule, String> {
    Ok(ShiftRule {
        threshold: keys.positive("threshold", usual.threshold)?,
        bins: keys.count("bins", usual.bins, BINS_MAX)?,
        samples_min: keys.count("samples_min", usual.samples_min, POINTS_MAX)?,
    })
}

fn forest_rule(keys: &mut Declared) -> Result<ForestRule, String> {
    let usual = forest::RULE;
    let threshold = keys.positive("threshold", usual.threshold)?;
    if threshold >= 1.0 {
        return Err(format!("`threshold` of `detect` is {threshold}, but an isolation score stays below 1"));
    }
    Ok(ForestRule {
        threshold,
        trees: keys.count("trees", usual.trees, forest::TREES_MAX)?,
        sample: keys.count("sample", usual.sample, forest::SAMPLE_MAX)?,
        distance_min: keys.positive("distance_min", usual.distance_min)?,
        rows_min: keys.count("rows_min", usual.rows_min, POINTS_MAX)?,
    })
}

fn metrics(keys: &mut Declared) -> Result<BTreeMap<String, Rule>, String> {
    let values = keys.needed("values")?;
    let names: BTreeSet<String> = values.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    if names.is_empty() || names.len() > forest::METRICS_MAX {
        let most = forest::METRICS_MAX;
        return Err(format!("`values` of `detect` names 1 to {most} metrics, as {{ rows: row.n, minutes: row.m }}"));
    }
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut each = Declared::new("`values` of `detect`", values, &known)?;
    names.iter().map(|name| Ok((name.clone(), each.needed_rule(name)?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(value: Value) -> String {
        Detect::try_from(value).unwrap_err()
    }

    #[test]
    fn a_wrong_key_is_named_with_the_nearest_right_one() {
        let wrong = json!({ "method": "mad", "value": "row.n", "treshold": 4 });
        assert_eq!(refused(wrong), "`detect` with `method: mad` has no key `treshold`; did you mean `threshold`?");
        let wrong = json!({ "method": "freshness", "max_age_hours": 26, "threshold": 2 });
        assert!(
            refused(wrong).starts_with("`detect` with `method: freshness` has no key `threshold`; it has method, by,")
        );
        assert_eq!(
            refused(json!({ "method": "seasnal" })),
            "`method` of `detect` cannot be \"seasnal\"; did you mean `seasonal`?"
        );
        assert!(refused(json!({ "value": "row.n" })).starts_with("`detect` needs a `method`: mad, iqr"));
    }

    #[test]
    fn a_wrong_value_says_what_it_should_be() {
        let mad = |key: &str, value: Value| {
            let mut detect = json!({ "method": "mad", "value": "row.n" });
            detect[key] = value;
            refused(detect)
        };
        assert!(mad("threshold", json!(0)).ends_with("is a number above 0, not 0"));
        assert!(mad("points_min", json!(0)).contains("is a whole number from 1 to 20000, not 0"));
        assert!(mad("side", json!("down")).contains("cannot be \"down\""));
        assert!(mad("value", json!("row.")).starts_with("`value` of `detect` with `method: mad`: "));
        assert!(mad("threshold_max", json!(1)).contains("below the threshold itself (5)"));
        assert!(refused(json!({ "method": "mad" })).contains("needs `value`, an expression over `row`"));
        assert!(refused(json!({ "method": "forest", "values": {} })).contains("names 1 to 32 metrics"));
        assert!(
            refused(json!({ "method": "forest", "values": { "n": "row.n" }, "threshold": 1 }))
                .contains("stays below 1")
        );
        let holidays = json!({ "method": "seasonal", "value": "row.n", "holidays": ["Christmas"] });
        assert!(refused(holidays).contains("`Christmas` is no date"));
    }

    #[test]
    fn what_is_not_said_is_the_detector_s_own() {
        let detect = Detect::try_from(json!({ "method": "seasonal", "value": "row.n" })).unwrap();
        assert_eq!((detect.method.threshold(), detect.threshold_max), (0.10, 0.20));
        let forest = Detect::try_from(json!({ "method": "forest", "values": { "n": "row.n" } })).unwrap();
        assert_eq!((forest.method.threshold(), forest.threshold_max), (0.60, 0.80));
    }
}
