//! `maintenance:` of an estate: when which pipelines are being worked on. The monitor goes on looking; nobody is paged.

use detectors::Weekday;
use detectors::maintenance::{Open, Window, held_by};
use serde::Deserialize;
use serde_json::Value;

use crate::declared::{Declared, minutes_of, seconds_of};

/// A window: once from a time to another, or weekly by weekdays and hours.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub struct Maintenance {
    window: Window,
    /// Pipelines that it is about; all of them when empty.
    pub(crate) pipelines: Vec<String>,
}

impl TryFrom<Value> for Maintenance {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let keys = ["name", "pipelines", "weekdays", "from", "to", "offset"];
        let mut declared = Declared::new("a window of `maintenance`", value, &keys)?;
        let name: String = declared.read("name")?.ok_or("a window of `maintenance` needs a `name`")?;
        let place = format!("window `{name}`");
        let (from, to) = (declared.needed("from")?, declared.needed("to")?);
        let open = match declared.read::<Vec<Weekday>>("weekdays")? {
            Some(weekdays) => {
                let minute = |value: &Value| value.as_str().and_then(minutes_of);
                let (Some(from_min), Some(to_min)) = (minute(&from), minute(&to)) else {
                    return Err(format!(
                        "{place}: `from` and `to` of weekdays are hours such as \"22:00\", not {from} and {to}"
                    ));
                };
                Open::Weekly { weekdays, from_min, to_min, offset_min: declared.offset()? }
            }
            None => match (seconds_of(&from), seconds_of(&to)) {
                (Some(from), Some(to)) if from < to => Open::Once { from, to },
                _ => {
                    return Err(format!(
                        "{place}: without `weekdays` it is open once, from a time to a later one such as \"2026-03-31T20:00:00Z\", not from {from} to {to}"
                    ));
                }
            },
        };
        let pipelines = declared.read("pipelines")?.unwrap_or_default();
        Ok(Self { window: Window { name, open }, pipelines })
    }
}

/// The window that holds what is found about a pipeline at this moment.
pub(crate) fn held<'w>(windows: &'w [Maintenance], pipeline: &str, at: i64) -> Option<&'w str> {
    let about =
        windows.iter().filter(|one| one.pipelines.is_empty() || one.pipelines.iter().any(|name| name == pipeline));
    held_by(about.map(|one| &one.window), at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn window(value: Value) -> Result<Maintenance, String> {
        Maintenance::try_from(value)
    }

    #[test]
    fn windows_hold_what_they_are_about() {
        let weekly = json!({ "name": "patching", "weekdays": ["sunday"], "from": "02:00", "to": "04:00", "offset": "+01:00", "pipelines": ["sales"] });
        let once = json!({ "name": "move", "from": "2026-03-31T20:00:00Z", "to": "2026-04-01" });
        let windows = [window(weekly).unwrap(), window(once).unwrap()];
        let at = |time: &str| seconds_of(&json!(time)).unwrap();
        let sunday = at("2026-03-29T01:30:00Z");
        assert_eq!((held(&windows, "sales", sunday), held(&windows, "other", sunday)), (Some("patching"), None));
        assert_eq!(held(&windows, "other", at("2026-03-31T23:59:59Z")), Some("move"));
    }

    #[test]
    fn a_window_that_is_none_says_why() {
        let refused = |value: Value| window(value).unwrap_err();
        let told = refused(json!({ "name": "w", "weekday": ["sunday"], "from": "02:00", "to": "04:00" }));
        assert_eq!(told, "a window of `maintenance` has no key `weekday`; did you mean `weekdays`?");
        assert!(
            refused(json!({ "name": "w", "weekdays": ["sunday"], "from": "2", "to": "4" }))
                .contains("are hours such as \"22:00\"")
        );
        assert!(
            refused(json!({ "name": "w", "from": "2026-04-01", "to": "2026-03-31" }))
                .contains("from a time to a later one")
        );
        assert!(
            refused(json!({ "name": "w", "weekdays": ["sonntag"], "from": "02:00", "to": "04:00" }))
                .contains("unknown variant")
        );
        assert!(refused(json!({ "from": "2026-04-01", "to": "2026-03-31" })).contains("needs a `name`"));
    }
}
