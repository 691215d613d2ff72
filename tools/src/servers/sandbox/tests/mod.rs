//! Tests of the sandbox: the harness they share, and one module per area.

mod effects;
mod etl;
mod faults;
mod reference;
mod serve;
mod tools;

use serde_json::{Value, json};

use super::{Environment, Fault, Sandbox, SandboxError, Settlement};

/// A new sandbox in a folder that goes with it.
struct World {
    sandbox: Sandbox,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { sandbox: Sandbox::open(dir.path()).unwrap(), dir }
    }

    #[track_caller]
    fn ok(&self, tool: &str, arguments: Value) -> Value {
        self.sandbox.call(tool, arguments).unwrap_or_else(|e| panic!("{tool}: {e}"))
    }

    #[track_caller]
    fn err(&self, tool: &str, arguments: Value) -> SandboxError {
        match self.sandbox.call(tool, arguments) {
            Ok(value) => panic!("{tool} succeeded with {value}"),
            Err(error) => error,
        }
    }

    /// Reruns a day in production from `task`; the answer is the error text of a failed run.
    fn rerun(&self, day: &str, task: &str) -> Result<Value, String> {
        let arguments = json!({ "pipeline": "flights_daily", "business_date": day, "environment": "production", "from_task": task });
        self.sandbox.call("rerun_pipeline", arguments).map_err(|e| e.message)
    }

    /// The one number that a query in production returns.
    #[track_caller]
    fn number(&self, sql: &str) -> i64 {
        let answer = self.ok("query", json!({ "sql": sql }));
        answer["rows"][0].as_object().and_then(|row| row.values().next()).and_then(Value::as_i64).unwrap()
    }

    /// Does what the ground truth says; the last step must succeed.
    #[track_caller]
    fn remedy(&self, fault: Fault) {
        let mut last = Ok(Value::Null);
        for step in self.sandbox.ground_truth(fault).unwrap().remedy_steps {
            last = self.sandbox.call(&step.tool, step.arguments);
        }
        last.unwrap_or_else(|e| panic!("remedy of {fault:?}: {e}"));
    }

    #[track_caller]
    fn check_verdict(&self, fault: Fault, expected: Settlement) {
        let verdict = self.sandbox.verify(fault).unwrap();
        assert_eq!(verdict.outcome, expected, "{:#?}", verdict.details);
    }

    fn effects(&self) -> usize {
        self.sandbox.effects(Environment::Production).unwrap().len()
            + self.sandbox.effects(Environment::Staging).unwrap().len()
    }
}
