//! Values of PostgreSQL's binary protocol as JSON.

use std::error::Error;

use jiff::SignedDuration;
use jiff::civil::{DateTime, Time, date};
use postgres_protocol::types;
use serde_json::{Value, json};
use tokio_postgres::types::{FromSql, Kind, Type};

use super::cut;

type Failure = Box<dyn Error + Sync + Send>;

/// A value as it came.
pub(crate) struct Raw<'a> {
    data_type: Type,
    bytes: Option<&'a [u8]>,
}

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(data_type: &Type, bytes: &'a [u8]) -> Result<Self, Failure> {
        Ok(Self { data_type: data_type.clone(), bytes: Some(bytes) })
    }

    fn from_sql_null(data_type: &Type) -> Result<Self, Failure> {
        Ok(Self { data_type: data_type.clone(), bytes: None })
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl Raw<'_> {
    /// The value, and whether it was cut to so many bytes.
    pub(crate) fn json(&self, bytes_max: usize) -> Result<(Value, bool), Failure> {
        self.bytes.map_or(Ok((Value::Null, false)), |bytes| decode(&self.data_type, bytes, bytes_max))
    }
}

fn decode(data_type: &Type, bytes: &[u8], max: usize) -> Result<(Value, bool), Failure> {
    match data_type.kind() {
        Kind::Domain(inner) => return decode(inner, bytes, max),
        Kind::Enum(_) => return text(bytes, max),
        Kind::Array(member) => return array(member, bytes, max),
        _ => {}
    }
    let value = match *data_type {
        Type::BOOL => json!(types::bool_from_sql(bytes)?),
        Type::INT2 => json!(types::int2_from_sql(bytes)?),
        Type::INT4 => json!(types::int4_from_sql(bytes)?),
        Type::INT8 => json!(types::int8_from_sql(bytes)?),
        Type::OID | Type::REGCLASS | Type::REGTYPE | Type::XID | Type::CID => json!(types::oid_from_sql(bytes)?),
        Type::FLOAT4 => float(types::float4_from_sql(bytes)?.into()),
        Type::FLOAT8 => float(types::float8_from_sql(bytes)?),
        Type::NUMERIC => numeric(bytes)?,
        Type::DATE => day(types::date_from_sql(bytes)?),
        Type::TIMESTAMP => moment(types::timestamp_from_sql(bytes)?, ""),
        Type::TIMESTAMPTZ => moment(types::timestamp_from_sql(bytes)?, "Z"),
        Type::TIME => time(types::time_from_sql(bytes)?),
        Type::INTERVAL => interval(bytes)?,
        Type::UUID => uuid(&types::uuid_from_sql(bytes)?),
        Type::VOID => Value::Null,
        Type::JSON => return document(bytes, max),
        // The first byte is the version of the form.
        Type::JSONB => return document(bytes.get(1..).unwrap_or_default(), max),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::XML => return text(bytes, max),
        _ if data_type.name() == "citext" => return text(bytes, max),
        _ => return Ok(binary(bytes, max)),
    };
    Ok((value, false))
}

fn text(bytes: &[u8], max: usize) -> Result<(Value, bool), Failure> {
    // Only the part that is sent is looked at; a character may be cut in the middle by this.
    let most = bytes.get(..bytes.len().min(max.saturating_add(4))).unwrap_or_default();
    let whole = String::from_utf8_lossy(most);
    let (part, was_cut) = cut(&whole, max);
    Ok((json!(part), was_cut || most.len() < bytes.len()))
}

fn document(bytes: &[u8], max: usize) -> Result<(Value, bool), Failure> {
    if bytes.len() > max {
        return text(bytes, max);
    }
    Ok((serde_json::from_slice(bytes)?, false))
}

fn binary(bytes: &[u8], max: usize) -> (Value, bool) {
    let shown = bytes.get(..bytes.len().min(max / 2)).unwrap_or_default();
    (json!(format!("\\x{}", hex::encode(shown))), shown.len() < bytes.len())
}

fn array(member: &Type, bytes: &[u8], max: usize) -> Result<(Value, bool), Failure> {
    use postgres_protocol::types::array_from_sql;
    let array = array_from_sql(bytes)?;
    let (mut items, mut left, mut was_cut) = (Vec::new(), max, false);
    let mut values = array.values();
    while let Some(value) = fallible_iterator::FallibleIterator::next(&mut values)? {
        if left == 0 {
            was_cut = true;
            break;
        }
        let (item, part) = value.map_or(Ok((Value::Null, false)), |bytes| decode(member, bytes, left))?;
        left = left.saturating_sub(super::size(&item));
        was_cut |= part;
        items.push(item);
    }
    Ok((Value::Array(items), was_cut))
}

fn float(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}

/// A number if JSON's readers keep it exactly, else its digits as text.
fn numeric(bytes: &[u8]) -> Result<Value, Failure> {
    let digits = decimal(bytes)?;
    let significant = digits.chars().filter(char::is_ascii_digit).count();
    Ok(match digits.parse::<i64>() {
        Ok(whole) => json!(whole),
        Err(_) if significant <= 15 => {
            digits.parse::<f64>().ok().filter(|f| f.is_finite()).map_or(json!(digits), |f| json!(f))
        }
        Err(_) => json!(digits),
    })
}

/// Groups of four digits: count, weight of the first, sign, digits after the point, groups.
fn decimal(bytes: &[u8]) -> Result<String, Failure> {
    let word = |at: usize| -> Result<i16, Failure> {
        let pair = bytes.get(at * 2..at * 2 + 2).ok_or("a numeric value ends early")?;
        types::int2_from_sql(pair)
    };
    let (count, weight, scale) = (word(0)?, word(1)?, word(3)?);
    let sign = match word(2)?.cast_unsigned() {
        0x0000 => "",
        0x4000 => "-",
        0xC000 => return Ok("NaN".to_owned()),
        0xD000 => return Ok("Infinity".to_owned()),
        _ => return Ok("-Infinity".to_owned()),
    };
    let group = |at: i32| -> Result<i16, Failure> {
        let index = usize::try_from(at).ok().filter(|at| i16::try_from(*at).is_ok_and(|at| at < count));
        index.map_or(Ok(0), |index| word(4 + index))
    };
    let mut whole = String::new();
    for at in 0..=i32::from(weight) {
        whole.push_str(&format!("{:04}", group(at)?));
    }
    let whole = whole.trim_start_matches('0');
    let mut fraction = String::new();
    let groups = (i32::from(scale) + 3) / 4;
    for at in i32::from(weight) + 1..=i32::from(weight) + groups {
        fraction.push_str(&format!("{:04}", group(at)?));
    }
    fraction.truncate(usize::try_from(scale).unwrap_or(0));
    let whole = if whole.is_empty() { "0" } else { whole };
    Ok(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

/// Where PostgreSQL begins to count.
const EPOCH: DateTime = date(2000, 1, 1).at(0, 0, 0, 0);

fn day(days: i32) -> Value {
    match days {
        i32::MAX => json!("infinity"),
        i32::MIN => json!("-infinity"),
        days => {
            let found = EPOCH.date().checked_add(SignedDuration::from_hours(i64::from(days) * 24));
            found.map_or(json!(format!("{days} days after 2000-01-01")), |date| json!(date.to_string()))
        }
    }
}

fn moment(micros: i64, zone: &str) -> Value {
    match micros {
        i64::MAX => json!("infinity"),
        i64::MIN => json!("-infinity"),
        micros => {
            let found = EPOCH.checked_add(SignedDuration::from_micros(micros));
            found.map_or(json!(format!("{micros} µs after 2000-01-01")), |at| json!(format!("{at}{zone}")))
        }
    }
}

fn time(micros: i64) -> Value {
    let found = Time::midnight().checked_add(SignedDuration::from_micros(micros));
    found.map_or(json!("24:00:00"), |at| json!(at.to_string()))
}

fn interval(bytes: &[u8]) -> Result<Value, Failure> {
    let part = |from: usize, to: usize| bytes.get(from..to).ok_or("an interval ends early");
    let micros = types::int8_from_sql(part(0, 8)?)?;
    let (days, months) = (types::int4_from_sql(part(8, 12)?)?, types::int4_from_sql(part(12, 16)?)?);
    let seconds = SignedDuration::from_micros(micros).as_secs_f64();
    Ok(json!(format!("P{months}M{days}DT{seconds}S")))
}

fn uuid(bytes: &[u8; 16]) -> Value {
    let hex = hex::encode(bytes);
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    json!(parts.map(|(from, to)| hex.get(from..to).unwrap_or_default().to_owned()).join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[i16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn decimals_keep_their_digits() {
        for (form, expected) in [
            (vec![0, 0, 0, 0], "0"),
            (vec![1, 0, 0, 0, 7], "7"),
            (vec![2, 0, 0, 2, 12, 5000], "12.50"),
            (vec![1, -1, 0x4000, 4, 25], "-0.0025"),
            (vec![2, 1, 0, 0, 1, 1], "10001"),
            (vec![1, 1, 0, 0, 3], "30000"),
            (vec![1, -2, 0, 8, 1], "0.00000001"),
        ] {
            assert_eq!(decimal(&words(&form)).unwrap(), expected, "{form:?}");
        }
        assert_eq!(numeric(&words(&[2, 0, 0, 2, 12, 5000])).unwrap(), json!(12.5));
    }

    #[test]
    fn times_count_from_the_year_2000() {
        assert_eq!(moment(0, "Z"), json!("2000-01-01T00:00:00Z"));
        assert_eq!(moment(-1, ""), json!("1999-12-31T23:59:59.999999"));
        assert_eq!(moment(i64::MAX, "Z"), json!("infinity"));
        assert_eq!(day(9_586), json!("2026-03-31"));
        assert_eq!(time(3_600_000_000), json!("01:00:00"));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(text("ééé".as_bytes(), 3).unwrap(), (json!("é"), true));
        assert_eq!(text(b"abc", 3).unwrap(), (json!("abc"), false));
        assert_eq!(binary(&[1, 2, 3], 4), (json!("\\x0102"), true));
    }
}
