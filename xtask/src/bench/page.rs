//! `docs/benchmarks.md`: the table of both sides, between two marks; what stands around it is written by hand.

use std::path::Path;

use anyhow::{Context, Result};

use super::figures::{FIGURES, Figure};
use super::results::Results;

/// The page, from the root.
pub(super) const PATH: &str = "docs/benchmarks.md";
/// W4 with the list channel LangGraph stores as deltas, which a graph has to ask for.
const LANGGRAPH_DELTA: &str = "langgraph W4 sqlite delta";
const BEGIN: &str = "<!-- written by `cargo xtask bench`: begin -->";
const END: &str = "<!-- written by `cargo xtask bench`: end -->";

/// The rows that were measured, and the disk's limit beside them.
pub(super) fn table(results: &Results) -> String {
    let mut text = String::from(
        "| | what | ours | LangGraph | ours / LangGraph | Restate | best Rust peer | to reach | reached |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for figure in FIGURES
        .iter()
        .filter(|figure| figure.ours(results).is_some() || figure.best(results, figure.langgraph).is_some())
    {
        text.push_str(&row(figure, results));
    }
    text.push_str(&conditions(results));
    text
}

fn row(figure: &Figure, results: &Results) -> String {
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), number);
    let reach: Vec<_> = figure.reach.iter().map(|reach| reach.describe(figure, results)).collect();
    let verdicts: Vec<_> = figure.reach.iter().map(|reach| verdict(reach.is_met(figure, results))).collect();
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        figure.workload,
        figure.what,
        shown(figure.ours(results)),
        shown(figure.best(results, figure.langgraph)),
        figure.ratio(results).map_or_else(|| "–".to_owned(), ratio),
        shown(figure.best(results, figure.restate)),
        shown(figure.best(results, figure.rust_peers)),
        reach.join("; "),
        verdicts.join("; "),
    )
}

fn verdict(is_met: Option<bool>) -> &'static str {
    match is_met {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "not measured",
    }
}

/// What the figures stand on: rounds, versions, how busy the machine was, and the disk.
fn conditions(results: &Results) -> String {
    let mut text = String::from("\n");
    let versions: Vec<_> = results.versions().into_iter().map(|(peer, version)| format!("{peer} {version}")).collect();
    text.push_str(&format!("Versions: {}.\n", versions.join(", ")));
    let rounds = FIGURES.iter().map(|figure| results.rounds(figure.ours)).max().unwrap_or_default();
    let cores = std::thread::available_parallelism().map(usize::from).unwrap_or_default();
    let idle = results.idle().unwrap_or_default();
    let minutes = results.span().map_or(0, |(first, last)| (last - first).div_ceil(60));
    text.push_str(&format!(
        "Medians of {rounds} rounds, in turn, within {minutes} minutes on {cores} cores; {:.0} % of them idle before a cell (median).\n",
        idle * 100.0
    ));
    for cell in ["interlock W1 sled", "interlock W1 fjall", "interlock W2 sled", "interlock W2 fjall"] {
        let raw: Vec<_> =
            results.median_raw(cell).into_iter().map(|(batch, rate)| format!("{} at {batch}", number(rate))).collect();
        if !raw.is_empty() {
            let shares: Vec<_> = [1, 64, 200]
                .iter()
                .filter_map(|batch| {
                    Some(format!("{:.2} at {batch}", results.median_share_of_raw(cell, "steps_per_s", Some(*batch))?))
                })
                .collect();
            text.push_str(&format!(
                "Append + sync beside `{cell}`, records/s: {}; our share of it: {}.\n",
                raw.join(", "),
                shares.join(", ")
            ));
        }
        if let Some((records, bytes, rate)) = results.median_raw_own(cell) {
            let share = results.median_share_of_raw(cell, "steps_per_s", None).unwrap_or_default();
            text.push_str(&format!(
                "A sync of `{cell}` carried {} commits of {} bytes; append + sync of the same: {} a second, our share {share:.2}.\n",
                number(records),
                number(bytes),
                number(rate)
            ));
        }
    }
    let delta = |metric| results.median(LANGGRAPH_DELTA, metric);
    if let (Some(bytes), Some(growth)) = (delta("store_logical"), delta("growth_exp_bytes")) {
        text.push_str(&format!(
            "LangGraph's W4 above is its default; with its delta channel: {} bytes stored, exponent {growth:.2}.\n",
            number(bytes)
        ));
    }
    text
}

/// Few digits: what a shared machine repeats.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 1000.0 => thousands(value.round() as i64),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn thousands(value: i64) -> String {
    let digits = value.abs().to_string();
    let mut text = String::new();
    for (digit_idx, digit) in digits.chars().enumerate() {
        if digit_idx > 0 && (digits.len() - digit_idx).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0 { format!("-{text}") } else { text }
}

/// A quotient in the form that reads best: `82 ×` or `1/64`.
fn ratio(value: f64) -> String {
    if value > 0.0 && value < 0.5 { format!("1/{:.0}", 1.0 / value) } else { format!("{} ×", number(value)) }
}

/// Puts the table between the marks of the page.
///
/// # Errors
/// The page or its marks are missing.
pub(super) fn write(root: &Path, table: &str) -> Result<()> {
    let path = root.join(PATH);
    let page = std::fs::read_to_string(&path).with_context(|| format!("cannot read {PATH}"))?;
    std::fs::write(&path, replaced(&page, table)?).with_context(|| format!("cannot write {PATH}"))
}

fn replaced(page: &str, table: &str) -> Result<String> {
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("{PATH} lacks the mark {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{PATH} lacks the mark {END}"))?;
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::super::results::sample;
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown: Vec<_> =
            [0.0, 0.0123, 1.984, 42.42, 717.2, 128_000.4, 1_234_567.0].into_iter().map(number).collect();
        assert_eq!(shown, ["0", "0.012", "1.98", "42.4", "717", "128,000", "1,234,567"]);
        assert_eq!([ratio(61.2), ratio(0.0156), ratio(0.97)], ["61.2 ×", "1/64", "0.970 ×"]);
    }

    #[test]
    fn the_table_shows_what_was_measured() {
        let results = Results::of(vec![
            sample("interlock W1 sled", &[("steps_per_s", 500.0)], &[(1, 550.0)]),
            sample("langgraph W1 sqlite sync api", &[("steps_per_s", 400.0)], &[]),
        ]);
        let table = table(&results);
        let rows: Vec<_> = table.lines().skip(2).take(2).collect();
        assert_eq!(
            rows,
            [
                "| W1 | chain, sled, each step durable: steps/s | 500 | 400 | 1.25 × | – | – | ≥ 0.8 of append + sync at 1 (is 0.91) | yes |",
                "| W1 | chain, fjall, each step durable: steps/s | – | 400 | – | – | – | ≥ 0.8 of append + sync at 1 | not measured |"
            ]
        );
        assert!(
            table.contains(
                "Append + sync beside `interlock W1 sled`, records/s: 550 at 1; our share of it: 0.91 at 1.\n"
            ),
            "{table}"
        );
    }

    #[test]
    fn the_page_keeps_what_stands_around_the_table() {
        let page = format!("# B\n{BEGIN}\nold\n{END}\nafter\n");
        assert_eq!(replaced(&page, "new\n").unwrap(), format!("# B\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert!(replaced("# B\n", "new").unwrap_err().to_string().contains("lacks the mark"));
    }
}
