//! What one Airflow installation is: where it listens, who logs in, and which runs belong to which environment.
//!
//! Passwords are never written here; the file names the environment variable that holds each.

use std::collections::BTreeMap;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::{AirflowError, Result};
use super::hide::is_secret_name;

/// Largest configuration file in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Airflow's own cap on a page (`[api] maximum_page_limit`), unless the installation changed it.
const PAGE_LIMIT_DEFAULT: u32 = 100;

/// The file of `interlock mcp airflow --config FILE`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the API server, such as `https://airflow.example`.
    pub url: String,
    /// Login for reading; a viewer is enough.
    pub read: Login,
    /// Login for acting; without it only reading tools are offered.
    #[serde(default)]
    pub act: Option<Login>,
    /// Environment that people depend on. A run that no other environment claims belongs to it.
    pub live: String,
    /// How a run of each environment is recognised.
    #[serde(default)]
    pub environments: BTreeMap<String, Environment>,
    /// JSON pointer into a run's `conf` that holds the day it processes; the logical date if absent.
    #[serde(default)]
    pub business_date: Option<String>,
    /// Most entries that the installation gives in one page.
    #[serde(default = "page_limit")]
    pub page_limit: u32,
    /// Offers `mark`, which makes a run green or red without any work. Off unless somebody wants it.
    #[serde(default)]
    pub allow_mark: bool,
    /// Offers `set_variable` for these variables, each within its bounds. For none unless somebody wants it.
    #[serde(default)]
    pub settable_variables: BTreeMap<String, Bounds>,
}

fn page_limit() -> u32 {
    PAGE_LIMIT_DEFAULT
}

/// What a variable that may be set can be: a whole number.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// The smallest.
    pub min: i64,
    /// The largest.
    pub max: i64,
    /// Pipelines do without it: it may also be absent, so it may be created and removed.
    #[serde(default)]
    pub optional: bool,
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}{}", self.min, self.max, if self.optional { ", or absent" } else { "" })
    }
}

/// One account.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Its name.
    pub username: String,
    /// Environment variable that holds its password.
    pub password_env: String,
}

impl Login {
    /// The password, from the variable.
    ///
    /// # Errors
    /// If the variable is not set or empty.
    pub(super) fn password(&self) -> Result<SecretString> {
        let found = std::env::var(&self.password_env).map(SecretString::from).ok();
        found.filter(|password| !password.expose_secret().is_empty()).ok_or_else(|| {
            AirflowError::invalid(format!(
                "the environment variable `{}` with the password of `{}` is not set: declare it in the server's `env`",
                self.password_env, self.username
            ))
        })
    }
}

/// How runs of an environment are recognised.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Keys that a run's `conf` must have with these values. They are also set on every run that is triggered there.
    #[serde(default)]
    pub conf: Map<String, Value>,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// If the file cannot be read, or cannot mean what it says.
    pub fn load(path: &Path) -> Result<Self> {
        use std::io::Read as _;
        let broken = |why: String| AirflowError::invalid(format!("configuration {}: {why}", path.display()));
        let file = std::fs::File::open(path).map_err(|error| broken(error.to_string()))?;
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| broken(error.to_string()))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(broken(format!("larger than {FILE_BYTES_MAX} bytes")));
        }
        Self::from_yaml(&text).map_err(|error| broken(error.message))
    }

    /// Reads a configuration from YAML.
    ///
    /// # Errors
    /// If it cannot mean what it says.
    pub fn from_yaml(text: &str) -> Result<Self> {
        let mut config: Self =
            serde_saphyr::from_str(text).map_err(|error| AirflowError::invalid(error.to_string()))?;
        if config.page_limit == 0 {
            return Err(AirflowError::invalid("page_limit: 0 entries a page read nothing; write 1 or more"));
        }
        if let Some(pointer) = config.business_date.as_deref().filter(|pointer| !pointer.starts_with('/')) {
            return Err(AirflowError::invalid(format!(
                "business_date: `{pointer}` is not a JSON pointer; write `/{pointer}`"
            )));
        }
        config.check_settable()?;
        config.environments.entry(config.live.clone()).or_default();
        let unmarked = config.environments.iter().find(|(name, decl)| **name != config.live && decl.conf.is_empty());
        if let Some((name, _)) = unmarked {
            return Err(AirflowError::invalid(format!(
                "environments.{name}: without `conf` none of its runs can be told from those of `{}`",
                config.live
            )));
        }
        Ok(config)
    }

    fn check_settable(&self) -> Result<()> {
        for (key, bounds) in &self.settable_variables {
            let problem = match bounds.min > bounds.max {
                true => format!("nothing is {bounds}"),
                // Values are compared and told in the open.
                false if is_secret_name(key) => "its name is a secret's, and a secret is not set here".to_owned(),
                false => continue,
            };
            return Err(AirflowError::invalid(format!("settable_variables.{key}: {problem}")));
        }
        Ok(())
    }

    /// The bounds of a variable that may be set.
    pub(super) fn settable(&self, key: &str) -> Result<&Bounds> {
        self.settable_variables.get(key).ok_or_else(|| {
            let known: Vec<&str> = self.settable_variables.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            AirflowError::denied(format!(
                "this installation does not allow `{key}` to be set; it allows {known} (`settable_variables`)"
            ))
        })
    }

    /// The environment of a run with this `conf`: one that claims it, else the live one, where the most is forbidden.
    pub(super) fn environment_of<'a>(&'a self, conf: &Value) -> &'a str {
        let claims = |decl: &Environment| {
            !decl.conf.is_empty() && decl.conf.iter().all(|(key, value)| conf.get(key) == Some(value))
        };
        self.environments.iter().find(|(_, decl)| claims(decl)).map_or(&self.live, |(name, _)| name)
    }

    /// A declared environment.
    pub(super) fn environment(&self, name: &str) -> Result<&Environment> {
        self.environments.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.environments.keys().map(String::as_str).collect();
            AirflowError::invalid(format!("there is no environment `{name}`; there are {}", known.join(", ")))
        })
    }

    /// The day that a run processes.
    pub(super) fn day_of(&self, conf: &Value, logical_date: Option<&str>) -> Option<String> {
        let named = self.business_date.as_deref().and_then(|pointer| conf.pointer(pointer)).and_then(Value::as_str);
        named.map(str::to_owned).or_else(|| logical_date.and_then(|date| date.get(..10)).map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "{url: 'http://a', read: {username: v, password_env: P}, live: production, business_date: /day, environments: {staging: {conf: {env: staging}}}}";

    #[test]
    fn a_run_that_nobody_claims_is_production() {
        let config = Config::from_yaml(TEXT).unwrap();
        for (conf, expected) in [
            (json!({"env": "staging", "x": 1}), "staging"),
            (json!({"env": "Staging"}), "production"),
            (json!({}), "production"),
            (Value::Null, "production"),
        ] {
            assert_eq!(config.environment_of(&conf), expected, "{conf}");
        }
        assert_eq!(config.day_of(&json!({"day": "2026-01-02"}), None).as_deref(), Some("2026-01-02"));
        assert_eq!(config.day_of(&json!({}), Some("2026-01-03T00:00:00Z")).as_deref(), Some("2026-01-03"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (change, expected) in [
            ("page_limit: 0", "page_limit"),
            ("unknown: 1", "unknown"),
            ("environments: {staging: {}}", "environments.staging"),
            ("business_date: day", "JSON pointer"),
            ("settable_variables: {rows: {min: 2, max: 1}}", "settable_variables.rows: nothing is 2 to 1"),
            ("settable_variables: {api_key: {min: 1, max: 2}}", "settable_variables.api_key: its name"),
            ("settable_variables: {rows: {min: 1}}", "max"),
        ] {
            let text = TEXT
                .replace("business_date: /day, ", "")
                .replace("environments: {staging: {conf: {env: staging}}}", change);
            let error = Config::from_yaml(&text).unwrap_err();
            assert!(error.message.contains(expected), "{change}: {error}");
        }
    }
}
