//! The server over a recorded Airflow 3.3.2: `exchanges.json` holds real requests with their answers.

mod acts;
mod login;
mod reads;
mod recorded;
mod reference;
mod variable;

use serde_json::{Value, json};

use super::registry::all_tools;
use super::{Airflow, AirflowError, Config};
use recorded::Recorded;

const DAG: &str = "sales_etl";

/// An installation whose Airflow answers from the recording.
struct World {
    recorded: Recorded,
    airflow: Airflow,
}

impl World {
    /// An Airflow that answers these recorded exchanges, each as often as it is named; the last of a place again and again.
    async fn new(exchanges: &[&str]) -> Self {
        Self::with(exchanges, |_| {}).await
    }

    /// As [`World::new`], configured otherwise.
    async fn with(exchanges: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        let recorded = Recorded::start(exchanges).await;
        let mut config = config(&recorded.url);
        change(&mut config);
        Self { airflow: Airflow::new(config).unwrap(), recorded }
    }

    async fn call(&self, tool: &str, arguments: Value) -> Result<Value, AirflowError> {
        self.call_with(tool, arguments, None).await
    }

    async fn call_with(&self, tool: &str, arguments: Value, key: Option<&str>) -> Result<Value, AirflowError> {
        let spec = all_tools().iter().find(|spec| spec.name == tool).unwrap();
        (spec.run)(self.airflow.clone(), arguments, key.map(str::to_owned)).await
    }
}

/// The configuration of the recording. Its passwords come from variables that cargo sets for every test.
fn config(url: &str) -> Config {
    let text = json!({
        "url": url,
        "read": { "username": "observer", "password_env": "CARGO_PKG_NAME" },
        "act": { "username": "agent", "password_env": "CARGO_PKG_VERSION" },
        "live": "production",
        "environments": { "production": { "conf": { "env": "prod" } }, "staging": { "conf": { "env": "staging" } } },
        "business_date": "/business_date",
    });
    Config::from_yaml(&text.to_string()).unwrap()
}

/// Names of exchanges that most tests need.
fn with_login<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["log in as observer", "log in as agent"][..], more].concat()
}
