//! One variable: read it, and set it where the installation names it and within its bounds.
//!
//! Setting compares first, so that what somebody else has set meanwhile stays. Airflow has no such step of its own: who writes
//! between the look and the write is overwritten. A variable that is created is refused by Airflow when somebody was faster.
//!
//! Both ends of a change are within the bounds: whatever is set here can be taken back by the same tool.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::act::shared;
use super::client::{As, Request};
use super::config::Bounds;
use super::error::{AirflowError, Code, Result};
use super::hide::{HIDDEN, is_secret_name};
use super::overview::VALUE_CHARS_MAX;
use super::{Airflow, cut};
use crate::servers::table::Key;

/// Which variable.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Its key.
    pub key: String,
    /// Whole number that it shall be: the answer says in `ok` whether it is.
    pub expected: Option<i64>,
}

/// A variable as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Now {
    /// Its key.
    pub key: String,
    /// Whether it is there.
    pub is_set: bool,
    /// Its value, cut; hidden where the key names a secret.
    pub value: Option<String>,
    /// Whether it is what was expected; nothing when nothing was, or when its value is hidden.
    pub ok: Option<bool>,
}

pub(super) async fn get_variable(airflow: Airflow, which: Which) -> Result<Now> {
    let said = said(&airflow, &which.key).await?;
    let is_set = said.is_some();
    // Whether a guess is right would tell a secret as well.
    if is_secret_name(&which.key) {
        return Ok(Now { key: which.key, is_set, value: said.map(|_| HIDDEN.to_owned()), ok: None });
    }
    let number = said.as_deref().and_then(number);
    let ok = which.expected.map(|expected| number == Some(expected));
    Ok(Now { key: which.key, is_set, value: said.map(|value| cut(&value, VALUE_CHARS_MAX)), ok })
}

/// What a variable holds: a whole number, or nothing where it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a whole number, or null")]
pub enum Held {
    /// A whole number.
    Number(i64),
    /// The variable is not there.
    Nothing(()),
}

impl Default for Held {
    fn default() -> Self {
        Self::Nothing(())
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Nothing(()) => f.write_str("not there"),
        }
    }
}

impl Bounds {
    fn permit(&self, held: Held) -> bool {
        match held {
            Held::Number(number) => (self.min..=self.max).contains(&number),
            Held::Nothing(()) => self.optional,
        }
    }
}

/// A variable and what it shall be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetVariable {
    /// Its key.
    pub key: String,
    /// What it shall be; null removes it.
    pub value: Held,
    /// What it is now, as the caller saw it; null where it is not there. If it is something else, nothing is set.
    #[serde(default)]
    pub expected: Held,
    /// The live environment: a variable is shared by all of them.
    pub environment: String,
}

/// A variable before and after.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VariableSet {
    /// Its key.
    pub key: String,
    /// What it was; what the call expected, where it had its new value already, as the same call made twice finds it.
    pub previous: Held,
    /// What it is now.
    pub value: Held,
    /// Whether this call changed it.
    pub changed: bool,
}

pub(super) async fn set_variable(airflow: Airflow, args: SetVariable, _: Key) -> Result<VariableSet> {
    shared(&airflow, &args.environment, "a variable")?;
    let SetVariable { key, value, expected, .. } = args;
    let bounds = airflow.config.settable(&key)?;
    for (what, held) in [("value", value), ("expected", expected)] {
        if !bounds.permit(held) {
            let text =
                format!("{what}: {key} may be {bounds}, and this is {held}: ask for another, or a person sets it");
            return Err(AirflowError::invalid(text));
        }
    }
    let found = said(&airflow, &key).await?;
    let found = match found.as_deref().map(number) {
        None => Held::Nothing(()),
        Some(Some(number)) => Held::Number(number),
        // It is not shown: nobody knows what it is.
        Some(None) => return Err(AirflowError::conflict(format!("{key} is no whole number now: look at it by hand"))),
    };
    if found == value {
        return Ok(VariableSet { key, previous: expected, value, changed: false });
    }
    if found != expected {
        let text = format!("{key} is {found}, and the call expected {expected}: somebody changed it, decide anew");
        return Err(AirflowError::conflict(text));
    }
    write(&airflow, &key, (expected, value)).await?;
    Ok(VariableSet { key, previous: expected, value, changed: true })
}

async fn write(airflow: &Airflow, key: &str, (from, to): (Held, Held)) -> Result<()> {
    let body = json!({ "key": key, "value": to.to_string() });
    let (all, one) = (["variables"], ["variables", key]);
    let request = match (from, to) {
        (_, Held::Nothing(())) => Request::delete(&one),
        (Held::Nothing(()), Held::Number(_)) => Request::post(&all, body),
        (Held::Number(_), Held::Number(_)) => Request::patch(&one, body).with("update_mask", "value"),
    };
    airflow.client.send::<Value>(As::Actor, request).await.map(drop)
}

/// The text of a variable; `None` where it is not there.
async fn said(airflow: &Airflow, key: &str) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Said {
        value: Option<String>,
    }
    match airflow.client.send::<Said>(As::Actor, Request::get(&["variables", key])).await {
        Ok(said) => Ok(Some(said.value.unwrap_or_default())),
        Err(error) if error.code == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn number(text: &str) -> Option<i64> {
    text.trim().parse().ok()
}
