//! Quiet hours: from when to when a summary waits.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::Deserialize;

/// Hours in which only pages get through.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// Their beginning, `22:00`.
    pub from: String,
    /// Their end, `07:00`; before `from` it is that of the next day.
    pub to: String,
    /// `Europe/Berlin`, or a fixed offset like `+02:00`; UTC if absent.
    #[serde(default)]
    pub zone: Option<String>,
}

/// The same, understood.
#[derive(Debug, Clone)]
pub(crate) struct Quiet {
    from: Time,
    to: Time,
    zone: TimeZone,
}

impl QuietHours {
    pub(crate) fn parsed(&self) -> Result<Quiet, String> {
        let time = |what: &str, text: &str| {
            let is_plain = text.len() == 5 && text.as_bytes().get(2) == Some(&b':');
            let time = if is_plain { text.parse::<Time>().ok() } else { None };
            time.ok_or_else(|| format!("{what}: `{text}` is no time of day: write it like 22:00"))
        };
        let (from, to) = (time("from", &self.from)?, time("to", &self.to)?);
        if from == to {
            return Err("from and to: are the same; leave quiet_hours out if there are none".to_owned());
        }
        let zone = match self.zone.as_deref() {
            None | Some("UTC") => TimeZone::UTC,
            Some(text) if text.starts_with(['+', '-']) => {
                let zone = TimeZone::posix(&format!("<fix>{}", inverted(text)));
                zone.map_err(|_| format!("zone: `{text}` is no offset: write it like +02:00"))?
            }
            Some(name) => TimeZone::get(name).map_err(|_| {
                format!("zone: `{name}` is not known on this system: write it like Europe/Berlin, or +01:00")
            })?,
        };
        Ok(Quiet { from, to, zone })
    }
}

/// POSIX counts offsets the other way round.
fn inverted(offset: &str) -> String {
    let (sign, rest) = offset.split_at(1);
    format!("{}{rest}", if sign == "+" { "-" } else { "+" })
}

impl Quiet {
    /// When the quiet hours that `now` is in end; none outside of them.
    pub(crate) fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let local = now.to_zoned(self.zone.clone()).datetime();
        let (time, wraps) = (local.time(), self.from > self.to);
        let is_quiet = if wraps { time >= self.from || time < self.to } else { time >= self.from && time < self.to };
        if !is_quiet {
            return None;
        }
        let is_tomorrow = wraps && time >= self.from;
        let day = if is_tomorrow { local.date().checked_add(1.day()).ok()? } else { local.date() };
        let end = day.to_datetime(self.to).to_zoned(self.zone.clone()).ok()?.timestamp();
        // An hour that a change of clocks skips or repeats never makes the end lie before now.
        (end > now).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(zone: Option<&str>, hours: (&str, &str), now: &str) -> Option<String> {
        let quiet = QuietHours { from: hours.0.into(), to: hours.1.into(), zone: zone.map(str::to_owned) };
        quiet.parsed().unwrap().until(now.parse().unwrap()).map(|end| end.to_string())
    }

    #[test]
    fn a_night_ends_in_the_morning_of_its_zone() {
        let night = ("22:00", "07:00");
        for (zone, now, expected) in [
            (None, "2026-11-27T21:59:59Z", None),
            (None, "2026-11-27T22:00:00Z", Some("2026-11-28T07:00:00Z")),
            (None, "2026-11-28T06:59:59Z", Some("2026-11-28T07:00:00Z")),
            (None, "2026-11-28T07:00:00Z", None),
            (Some("+02:00"), "2026-11-27T20:00:00Z", Some("2026-11-28T05:00:00Z")),
            (Some("-05:30"), "2026-11-28T04:00:00Z", Some("2026-11-28T12:30:00Z")),
            (Some("+02:00"), "2026-11-27T19:59:00Z", None),
        ] {
            assert_eq!(until(zone, night, now).as_deref(), expected, "{zone:?} {now}");
        }
        assert_eq!(until(None, ("12:00", "13:00"), "2026-11-27T12:30:00Z").as_deref(), Some("2026-11-27T13:00:00Z"));
    }

    #[test]
    fn the_night_of_a_change_of_clocks_ends_by_the_clock_on_the_wall() {
        let night = ("22:00", "07:00");
        let berlin = Some("Europe/Berlin");
        assert_eq!(until(berlin, night, "2026-03-28T22:00:00Z").as_deref(), Some("2026-03-29T05:00:00Z"));
        assert_eq!(until(berlin, night, "2026-10-24T21:00:00Z").as_deref(), Some("2026-10-25T06:00:00Z"));
    }

    #[test]
    fn what_is_no_time_or_zone_is_refused() {
        for (from, to, zone, expected) in [
            ("22", "07:00", None, "is no time of day"),
            ("25:00", "07:00", None, "is no time of day"),
            ("07:00", "07:00", None, "are the same"),
            ("22:00", "07:00", Some("Mars/Base"), "is not known"),
            ("22:00", "07:00", Some("+99:99"), "is no offset"),
        ] {
            let quiet = QuietHours { from: from.into(), to: to.into(), zone: zone.map(str::to_owned) };
            let why = quiet.parsed().unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
    }
}
