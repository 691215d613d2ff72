//! The pristine data: flights of January 2013, embedded, and the facts computed from them without SQL.
//!
//! Everything the sandbox delivers starts here, and the verifier compares against this and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::OnceLock;

use jiff::civil::Date;

use super::error::{Result, SandboxError};

static FLIGHTS_GZ: &[u8] = include_bytes!("../../../data/flights_2013_01.csv.gz");
static AIRLINES: &str = include_str!("../../../data/airlines.csv");
static AIRPORTS: &str = include_str!("../../../data/airports.csv");

/// Upper bound of the unpacked flights file; the real one has 2.5 MB.
const UNPACKED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Days in the month that is covered.
pub(crate) const LAST_DAY: i8 = 31;
/// How the source system writes an unknown value.
const UNKNOWN: &str = "NA";

/// One row as the source system has it; `None` is an unknown value.
pub(crate) type RawRow = Vec<Option<&'static str>>;

/// The flights file, unpacked once per process and cut into days.
#[derive(Debug)]
pub(crate) struct Source {
    /// Column names in file order.
    pub(crate) columns: Vec<&'static str>,
    days: BTreeMap<i8, Vec<&'static str>>,
}

/// The flights of the month; unpacked at the first call.
pub(crate) fn source() -> Result<&'static Source> {
    static SOURCE: OnceLock<std::result::Result<Source, String>> = OnceLock::new();
    SOURCE.get_or_init(unpack).as_ref().map_err(|cause| SandboxError::storage("embedded flights file", cause))
}

fn unpack() -> std::result::Result<Source, String> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(FLIGHTS_GZ)
        .take(UNPACKED_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())?;
    let mut lines = Box::leak(text.into_boxed_str()).lines();
    let columns: Vec<&str> = lines.next().ok_or("the file is empty")?.split(',').collect();
    let mut days: BTreeMap<i8, Vec<&str>> = BTreeMap::new();
    for line in lines {
        let day = line.split(',').nth(2).and_then(|d| d.parse().ok()).ok_or("a line has no day")?;
        days.entry(day).or_default().push(line);
    }
    Ok(Source { columns, days })
}

impl Source {
    /// Rows of one business date, in file order.
    pub(crate) fn day(&self, date: Date) -> Vec<RawRow> {
        let lines = if (date.year(), date.month()) == (2013, 1) { self.days.get(&date.day()) } else { None };
        lines.into_iter().flatten().map(|line| line.split(',').map(|v| (v != UNKNOWN).then_some(v)).collect()).collect()
    }

    /// Position of a column of the pristine file.
    pub(crate) fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|c| *c == column)
    }

    /// 1-based numbers of the rows that the fault `null_burst` touches: one airport, two hours of the afternoon.
    pub(crate) fn burst_rows(&self, date: Date) -> BTreeSet<usize> {
        let (Some(origin), Some(hour)) = (self.position("origin"), self.position("hour")) else {
            return BTreeSet::new();
        };
        let hit = |row: &RawRow| {
            row.get(origin).copied().flatten() == Some("LGA")
                && matches!(row.get(hour).copied().flatten(), Some("15" | "16"))
        };
        self.day(date).iter().enumerate().filter(|(_, row)| hit(row)).map(|(idx, _)| idx + 1).collect()
    }
}

/// Rows of a small reference file without its header.
pub(crate) fn airlines() -> impl Iterator<Item = Vec<&'static str>> {
    AIRLINES.lines().skip(1).map(|line| line.split(',').collect())
}

/// Rows of the airport reference file without its header.
pub(crate) fn airports() -> impl Iterator<Item = Vec<&'static str>> {
    AIRPORTS.lines().skip(1).map(|line| line.split(',').collect())
}

/// The measures of one group of flights, in the order of the fact tables' columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Measures {
    pub(crate) flights: i64,
    pub(crate) cancelled: i64,
    pub(crate) delayed_15: i64,
    pub(crate) dep_delay_minutes: i64,
    pub(crate) arr_delay_minutes: i64,
}

/// The facts of one day, computed row by row from the pristine file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DayFacts {
    pub(crate) carriers: BTreeMap<String, Measures>,
    pub(crate) routes: BTreeMap<(String, String), Measures>,
}

impl DayFacts {
    /// Facts of `date` over all rows but those whose 1-based number is in `without`.
    pub(crate) fn of(source: &Source, date: Date, without: &BTreeSet<usize>) -> Self {
        let mut facts = Self::default();
        for (idx, row) in source.day(date).iter().enumerate() {
            if without.contains(&(idx + 1)) {
                continue;
            }
            let text = |name: &str| source.position(name).and_then(|p| row.get(p).copied().flatten());
            let number = |name: &str| text(name).and_then(|v| v.parse::<i64>().ok());
            let (carrier, origin, dest) = (text("carrier"), text("origin"), text("dest"));
            let add = |m: &mut Measures| {
                m.flights += 1;
                m.cancelled += i64::from(number("dep_time").is_none());
                m.delayed_15 += i64::from(number("dep_delay").is_some_and(|d| d > 15));
                m.dep_delay_minutes += number("dep_delay").unwrap_or(0).max(0);
                m.arr_delay_minutes += number("arr_delay").unwrap_or(0).max(0);
            };
            add(facts.carriers.entry(carrier.unwrap_or_default().to_owned()).or_default());
            let route = (origin.unwrap_or_default().to_owned(), dest.unwrap_or_default().to_owned());
            add(facts.routes.entry(route).or_default());
        }
        facts
    }

    /// All flights of the day.
    pub(crate) fn flights(&self) -> i64 {
        self.carriers.values().map(|m| m.flights).sum()
    }
}
