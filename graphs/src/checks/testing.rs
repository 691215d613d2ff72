//! Helpers of the tests of checks.

use expect_test::Expect;

use crate::{Catalog, Diagnostics, OpenCatalog};

struct Known;

fn names(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

impl Catalog for Known {
    fn functions(&self) -> Option<Vec<String>> {
        names(&["score", "rank"])
    }
    fn tools(&self) -> Option<Vec<String>> {
        names(&["airflow.runs", "airflow.clear", "warehouse.query"])
    }
    fn graphs(&self) -> Option<Vec<String>> {
        names(&["etl-incident", "report"])
    }
    fn roles(&self) -> Option<Vec<String>> {
        names(&["diagnostic", "remediation"])
    }
    fn approvers(&self) -> Option<Vec<String>> {
        names(&["group:data-oncall", "ana"])
    }
}

/// A graph that must pass without a warning.
#[track_caller]
pub(crate) fn check_ok(text: &str) {
    match crate::check("g.yaml", text.as_bytes(), &OpenCatalog) {
        Ok((_, warnings)) => assert!(warnings.is_empty(), "{warnings}"),
        Err(errors) => panic!("{errors}"),
    }
}

/// A graph that must fail, and how.
#[track_caller]
pub(crate) fn check_error(text: &str, expected: Expect) {
    check_bytes(text.as_bytes(), expected);
}

/// Bytes that must fail, and how.
#[track_caller]
pub(crate) fn check_bytes(bytes: &[u8], expected: Expect) {
    let errors = crate::check("g.yaml", bytes, &OpenCatalog).expect_err("must fail");
    assert_shown(&errors, expected);
}

/// A graph that must pass with warnings.
#[track_caller]
pub(crate) fn check_warning(text: &str, expected: Expect) {
    match crate::check("g.yaml", text.as_bytes(), &OpenCatalog) {
        Ok((_, warnings)) => assert_shown(&warnings, expected),
        Err(errors) => panic!("{errors}"),
    }
}

/// A graph that must fail where the installation is known.
#[track_caller]
pub(crate) fn check_with_catalog(text: &str, expected: Expect) {
    let errors = crate::check("g.yaml", text.as_bytes(), &Known).expect_err("must fail");
    assert_shown(&errors, expected);
}

#[track_caller]
fn assert_shown(diagnostics: &Diagnostics, expected: Expect) {
    expected.assert_eq(&diagnostics.to_string());
}
