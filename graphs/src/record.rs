//! What a tool node says about the track record of its act.

use std::time::Duration;

use crate::expr::{Expr, Template};

/// The track record of an act's class.
#[derive(Debug)]
pub struct Record {
    /// The class whose outcomes are counted.
    pub class: Template,
    /// Below this confidence a person is asked; `None` only counts.
    pub at_least: Option<f64>,
    /// How sure the one who decided is, a number.
    pub confidence: Option<Expr>,
    /// A declared record that the class starts with: `{healed, failed}` or nothing.
    pub prior: Option<Template>,
    /// A check that holds is a heal; else a later node says so.
    pub heals: bool,
    /// Who may answer when only the record asks.
    pub approvers: Vec<String>,
    /// How long that question stays open.
    pub expires: Option<Duration>,
}
