//! Reports as tables: plain text for a terminal, Markdown for a page.

use crate::compare::Comparison;
use crate::judge::Row;
use crate::report::{Report, Shares};

/// Columns of a terminal that tables fit in.
const WIDTH_MAX: usize = 100;
/// Blanks between columns.
const GAP: usize = 2;
/// Narrowest column that is cut.
const CUT_MIN: usize = 8;

/// A table before it is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Its columns.
    pub header: Vec<String>,
    /// Its rows.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    fn new(title: impl Into<String>, header: &[&str], rows: Vec<Vec<String>>) -> Self {
        let header = header.iter().map(|column| (*column).to_owned()).collect();
        Self { title: title.into(), header, rows }
    }
}

impl Report {
    /// The report as tables, the most telling first.
    pub fn tables(&self) -> Vec<Table> {
        let mut tables = vec![self.summary(), self.confusion()];
        if !self.reliability.is_empty() {
            let rows = self.reliability.iter().map(|bin| {
                vec![
                    format!("{:.1} to {:.1}", bin.from, bin.to),
                    bin.n.to_string(),
                    digits(bin.confidence),
                    digits(bin.right),
                ]
            });
            tables.push(Table::new("Calibration", &["confidence", "n", "on average", "right"], rows.collect()));
        }
        let wrong = self.rows.iter().flat_map(|row| {
            row.wrong.iter().map(|wrong| {
                let did = format!("{} {} in {}: {}", wrong.tool, wrong.args, wrong.environment, wrong.node);
                vec![row.id.clone(), wrong.why.clone(), did]
            })
        });
        let wrong: Vec<Vec<String>> = wrong.collect();
        if !wrong.is_empty() {
            tables.push(Table::new("Wrong actions", &["incident", "why", "what was done"], wrong));
        }
        let missed: Vec<Vec<String>> = self.rows.iter().filter(|row| !row.passes()).map(missed).collect();
        if !missed.is_empty() {
            tables.push(Table::new("Not as it should be", &["incident", "truth", "found", "what"], missed));
        }
        tables
    }

    fn summary(&self) -> Table {
        let line = |what: &str, value: String| vec![what.to_owned(), value];
        let spread = |spread: &crate::report::Spread, unit: &str, places: usize| {
            format!("{:.places$}{unit} median, {:.places$}{unit} p95", spread.median, spread.p95)
        };
        let rows = vec![
            line("class right", format!("{:.3}", self.accuracy)),
            line("cause right", format!("{:.3}", self.cause_accuracy)),
            line("wrongly automated actions", self.wrong_actions.to_string()),
            line("false greens, false alarms", format!("{}, {}", self.false_greens, self.false_alarms)),
            line("healed, of those that can be", format!("{} of {}", self.healed.1, self.healed.0)),
            line("people, all incidents", people(&self.people)),
            line("people, cause and remedy declared", people(&self.people_of_knowable)),
            line("calls by incident", spread(&self.calls, "", 0)),
            line("time by incident (engine's clock)", spread(&self.seconds, " s", 1)),
            line("models by incident", format!("{}, ${:.4} in all", spread(&self.usd, " $", 4), self.usd.sum)),
            line(
                "Brier score",
                self.brier.map_or_else(|| "no cause was named".to_owned(), |score| format!("{score:.3}")),
            ),
            line("pass", format!("{} of {} in each of {} run(s)", self.passed, self.n, self.repeat)),
        ];
        Table::new(format!("{} incidents of {}, {}", self.n, self.set, self.configuration), &["", ""], rows)
    }

    fn confusion(&self) -> Table {
        let rows = self.classes.iter().map(|line| {
            let others = line.called.iter().filter(|(called, _)| **called != line.class);
            let others: Vec<String> = others.map(|(called, n)| format!("{n} {called}")).collect();
            let share = crate::report::ratio(line.right, line.n);
            vec![line.class.clone(), line.n.to_string(), line.right.to_string(), digits(share), others.join(", ")]
        });
        Table::new("By class", &["class", "n", "right", "share", "called otherwise"], rows.collect())
    }
}

impl Comparison {
    /// The comparison as tables.
    pub fn tables(&self) -> Vec<Table> {
        let verdict = |line: &crate::compare::Line| match line.regressed {
            true => "worse",
            false if (line.before - line.after).abs() < f64::EPSILON => "",
            false => "changed",
        };
        let lines = self
            .lines
            .iter()
            .map(|line| vec![line.what.to_owned(), number(line.before), number(line.after), verdict(line).to_owned()]);
        let title = format!("{} beside {}", self.between.1, self.between.0);
        let mut tables = vec![Table::new(title, &["", "before", "after", ""], lines.collect())];
        if !self.changed.is_empty() {
            let none = || "not there".to_owned();
            let rows = self.changed.iter().map(|change| {
                let mark = if change.regressed { "worse" } else { "" };
                let (before, after) = (change.before.clone(), change.after.clone());
                vec![change.id.clone(), before.unwrap_or_else(none), after.unwrap_or_else(none), mark.to_owned()]
            });
            tables.push(Table::new("Incidents that changed", &["incident", "before", "after", ""], rows.collect()));
        }
        tables
    }
}

fn missed(row: &Row) -> Vec<String> {
    let mut what = Vec::new();
    if row.ends.0 != row.ends.1 {
        what.push(format!("ends {}, should {}", row.ends.1.word(), row.ends.0.word()));
    }
    what.extend(row.failed.iter().map(|why| format!("the run failed: {why}")));
    if row.false_green {
        what.push("called healed and is not".to_owned());
    }
    if row.false_alarms > 0 {
        what.push(format!("{} false alarm(s)", row.false_alarms));
    }
    if !row.left_behind.is_empty() {
        what.push(format!("left behind: {}", row.left_behind.join(", ")));
    }
    what.extend(row.wrong.first().map(|wrong| format!("wrong: {}", wrong.tool)));
    let pair = |class: &str, cause: &str| format!("{class} / {cause}");
    let confidence = row.confidence.map(|confidence| format!(" {confidence:.2}")).unwrap_or_default();
    let found = pair(&row.class.1, &row.cause.1) + &confidence;
    vec![row.id.clone(), pair(&row.class.0, &row.cause.0), found, what.join("; ")]
}

fn people(shares: &Shares) -> String {
    let part = |n: usize, what: &str| format!("{:.0} % {what}", 100.0 * shares.share(n));
    let parts =
        [part(shares.nobody, "nobody"), part(shares.approved, "one yes"), part(shares.handed_over, "handed over")];
    format!("{} (of {})", parts.join(", "), shares.n)
}

fn digits(value: f64) -> String {
    format!("{value:.2}")
}

/// Counts stay whole, the rest has four digits.
fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.4}") }
}

/// Tables as text that fits a terminal.
pub fn text(tables: &[Table]) -> String {
    tables.iter().map(|table| format!("{}\n{}", table.title, laid_out(table))).collect::<Vec<_>>().join("\n")
}

/// Tables as Markdown.
pub fn markdown(tables: &[Table]) -> String {
    let row = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let one = |table: &Table| {
        let rule = format!("|{}\n", " --- |".repeat(table.header.len()));
        let rows: String = table.rows.iter().map(|cells| row(cells)).collect();
        format!("### {}\n\n{}{rule}{rows}", table.title, row(&table.header))
    };
    tables.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn laid_out(table: &Table) -> String {
    let widths = widths(table);
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| {
            let cut = cut(cell, *width);
            let blanks = width.saturating_sub(cut.chars().count());
            cut + &" ".repeat(blanks)
        });
        let gap = " ".repeat(GAP);
        format!("  {}\n", cells.collect::<Vec<_>>().join(&gap).trim_end())
    };
    let has_header = table.header.iter().any(|column| !column.is_empty());
    let header = if has_header { line(&table.header) } else { String::new() };
    header + &table.rows.iter().map(|cells| line(cells)).collect::<String>()
}

/// The width of each column; the widest give way until all fit.
fn widths(table: &Table) -> Vec<usize> {
    let mut widths = vec![0; table.header.len()];
    for cells in std::iter::once(&table.header).chain(&table.rows) {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let gaps = GAP * widths.len();
    while widths.iter().sum::<usize>() + gaps > WIDTH_MAX {
        let Some(widest) = widths.iter_mut().max() else { break };
        if *widest <= CUT_MIN {
            break;
        }
        *widest -= 1;
    }
    widths
}

fn cut(cell: &str, width: usize) -> String {
    let cell = cell.replace('\n', " ");
    if cell.chars().count() <= width {
        return cell;
    }
    let kept: String = cell.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn tables_fit_a_terminal_and_a_page() {
        let long = "x".repeat(150);
        let cells = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let table = Table::new("T", &["a", "b"], vec![cells(&["1", "2|3"]), cells(&["22", &long])]);
        let shown = text(std::slice::from_ref(&table));
        assert!(shown.lines().all(|line| line.chars().count() <= WIDTH_MAX), "{shown}");
        assert!(shown.contains("xx…"));
        let small = Table { rows: table.rows[..1].to_vec(), ..table };
        expect![[r#"
            T
              a  b
              1  2|3
        "#]]
        .assert_eq(&text(std::slice::from_ref(&small)));
        expect![[r#"
            ### T

            | a | b |
            | --- | --- |
            | 1 | 2\|3 |
        "#]]
        .assert_eq(&markdown(&[small]));
    }
}
