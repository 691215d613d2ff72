//! What a role works with in one task: its node's variables, its tools, the declared knowledge.

use runtime::Context;
use runtime_core::error::TaskError;
use serde_json::Value;

use crate::kit::Kit;
use crate::notebook::Notebook;
use crate::reach::Reach;
use crate::reasoning::Mind;
use crate::recollection::Memory;

/// One role at work on one task.
pub(crate) struct Desk<'a> {
    pub(crate) ctx: &'a Context,
    pub(crate) kit: &'a Kit,
    /// Models, where an installation has some.
    pub(crate) mind: Option<&'a Mind>,
    /// Runbooks and past incidents, where an installation has some.
    pub(crate) memory: Option<&'a Memory>,
    /// What was noted, where an installation keeps that.
    pub(crate) notebook: Option<&'a Notebook>,
    pub(crate) reach: Reach<'a>,
}

impl<'a> Desk<'a> {
    /// A variable of the node, else the channel of that name, else `null`.
    pub(crate) fn value(&self, name: &str) -> &Value {
        match self.ctx.var(name) {
            Value::Null => self.ctx.get(name),
            value => value,
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.value(name).as_str().filter(|text| !text.is_empty())
    }

    pub(crate) fn list(&self, name: &str) -> &[Value] {
        self.value(name).as_array().map_or(&[], Vec::as_slice)
    }

    /// A variable that the role cannot work without.
    pub(crate) fn needed(&self, name: &str) -> Result<&Value, TaskError> {
        match self.value(name) {
            Value::Null => {
                let node = self.ctx.node().map_or("", |node| node.name.as_str());
                Err(TaskError::invalid(format!(
                    "agent node `{node}` needs `{name}`: set it in `with`, or write the channel before"
                )))
            }
            value => Ok(value),
        }
    }
}
