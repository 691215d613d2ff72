//! The page about semantics names tests that exist, and every row of the specification.

use std::collections::BTreeSet;

const SOURCES: [&str; 17] = [
    include_str!("semantics/breakers.rs"),
    include_str!("semantics/budgets.rs"),
    include_str!("semantics/calls.rs"),
    include_str!("semantics/depth.rs"),
    include_str!("semantics/failures.rs"),
    include_str!("semantics/further.rs"),
    include_str!("semantics/history.rs"),
    include_str!("semantics/interrupts.rs"),
    include_str!("semantics/planning.rs"),
    include_str!("semantics/spending.rs"),
    include_str!("semantics/subgraphs.rs"),
    include_str!("semantics/track_records.rs"),
    include_str!("properties/crash_anywhere.rs"),
    include_str!("properties/orders.rs"),
    include_str!("properties/edits.rs"),
    include_str!("properties/spenders.rs"),
    include_str!("pages.rs"),
];

const PAGE: &str = include_str!("../../docs/semantics.md");

/// Rows of the two tables of the specification.
const ROWS_B: [u32; 50] = [
    1, 2, 4, 5, 6, 7, 8, 11, 12, 13, 14, 16, 17, 18, 19, 20, 22, 23, 24, 25, 26, 27, 28, 29, 30, 32, 33, 34, 35, 36,
    37, 38, 39, 41, 42, 43, 44, 46, 48, 50, 51, 52, 53, 54, 57, 59, 60, 62, 64, 66,
];
const ROWS_X: std::ops::RangeInclusive<u32> = 1..=24;

fn test_names(source: &str) -> BTreeSet<&str> {
    let after_mark = source.split("#[test]\nfn ").skip(1);
    after_mark.filter_map(|rest| rest.split('(').next()).collect()
}

#[test]
fn every_row_names_a_test_that_exists() {
    let known: BTreeSet<&str> = SOURCES.iter().flat_map(|source| test_names(source)).collect();
    let mut rows = BTreeSet::new();
    for line in PAGE.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let named =
            cells.iter().find_map(|cell| cell.strip_prefix('`')?.strip_suffix('`').filter(|name| name.contains("_")));
        if let Some(name) = named {
            assert!(known.contains(name), "docs/semantics.md names `{name}`, and there is no such test");
            rows.insert(cells[1].to_owned());
        }
    }
    let wanted = ROWS_B.iter().map(|n| format!("B{n:02}")).chain(ROWS_X.map(|n| format!("X{n:02}")));
    let missing: Vec<String> = wanted.filter(|row| !rows.contains(row)).collect();
    assert!(missing.is_empty(), "docs/semantics.md lacks {missing:?}");
}
