//! `interlock calibration`: whether the confidence of diagnoses comes true.

use clap::Args;
use runtime::track_records::track_records;
use runtime_core::interlocks::calibration::{Bin, Calibration, FEW};
use runtime_core::interlocks::track_record::TrackRecord;
use serde_json::{Value, json};

use super::App;
use crate::failure::{Exit, Failure};

/// Columns of a bar that stands for 1.
const BAR: usize = 40;

/// Show whether "0.9 sure" comes true nine times in ten
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  interlock calibration\n  interlock calibration --graph etl-incident --json")]
pub(crate) struct Show {
    /// Only outcomes of this graph
    #[arg(long, value_name = "NAME")]
    graph: Option<String>,
}

/// The calibration of one class.
struct Row {
    class: String,
    found: Calibration,
}

pub(crate) async fn run(args: Show, app: &App) -> Result<Exit, Failure> {
    let session = app.session()?;
    let records = track_records(&*session.store).await?;
    let graph = args.graph.as_deref();
    let all = Calibration::of(records.iter().flat_map(|(_, record)| predictions(record, graph)));
    let rows = records
        .iter()
        .map(|(class, record)| Row { class: class.clone(), found: Calibration::of(predictions(record, graph)) });
    let rows: Vec<Row> = rows.filter(|row| row.found.n > 0).collect();
    if app.out.json() {
        app.out.json_line(&shown(&all, &rows));
    } else {
        show(&all, &rows, app);
    }
    session.close().await?;
    Ok(Exit::Done)
}

/// The outcomes of a class that were predicted, as they are after corrections.
fn predictions<'a>(record: &'a TrackRecord, graph: Option<&'a str>) -> impl Iterator<Item = (f64, bool)> + 'a {
    let of_graph = record.last.iter().filter(move |counted| graph.is_none_or(|graph| *counted.graph == *graph));
    of_graph.filter_map(|counted| Some((counted.confidence?, counted.healed)))
}

fn show(all: &Calibration, rows: &[Row], app: &App) {
    if all.n == 0 {
        return app.out.note("no outcome with a confidence has been counted");
    }
    let healed = (all.rate * f64::from(all.n)).round();
    app.out.line(&format!("{} outcomes, {healed} healed", all.n));
    app.out.line(&format!(
        "Brier score {:.3} = reliability {:.3} − resolution {:.3} + uncertainty {:.3}",
        all.brier, all.reliability, all.resolution, all.uncertainty
    ));
    app.out.line("");
    app.out.text(&picture(&all.bins));
    app.out.line("");
    let cells = rows.iter().map(|row| {
        let found = &row.found;
        let said = found.bins.iter().map(|bin| bin.said * f64::from(bin.n)).sum::<f64>() / f64::from(found.n.max(1));
        vec![
            row.class.clone(),
            found.n.to_string(),
            format!("{said:.2}"),
            format!("{:.2}", found.rate),
            format!("{:.3}", found.brier),
        ]
    });
    app.out.table(&["class", "outcomes", "said", "healed", "brier"], cells.collect());
    if all.n < FEW {
        app.out.note(&format!("{} outcomes are few: below {FEW} these numbers say little", all.n));
    }
}

/// The reliability diagram: one row a bin, a bar as long as what came true, a mark where it was said to end.
fn picture(bins: &[Bin]) -> String {
    let scale = format!("0{:>half$}{:>half$}", "0.5", "1", half = BAR / 2);
    let mut text = format!("confidence    n  said  healed  {scale}\n");
    for bin in bins.iter().rev() {
        let range = format!("{:.1} to {:.1}", bin.from, bin.to);
        text.push_str(&match bin.n {
            0 => format!("{range}    -\n"),
            n => format!("{range} {n:>4}  {:.2}    {:.2}  {}\n", bin.said, bin.came, bar(bin)),
        });
    }
    text.push_str("█ healed   ┃ said\n");
    text
}

fn bar(bin: &Bin) -> String {
    let columns = |share: f64| (share * BAR as f64).round().clamp(0.0, BAR as f64) as usize;
    let (came, said) = (columns(bin.came), columns(bin.said).min(BAR - 1));
    let cell = |column: usize| match column {
        _ if column == said => '┃',
        _ if column < came => '█',
        _ => '·',
    };
    (0..BAR).map(cell).collect()
}

fn shown(all: &Calibration, rows: &[Row]) -> Value {
    let bins: Vec<Value> = all
        .bins
        .iter()
        .map(|bin| json!({ "from": bin.from, "to": bin.to, "n": bin.n, "said": bin.said, "healed": bin.came }))
        .collect();
    let classes: Vec<Value> = rows
        .iter()
        .map(|row| json!({ "class": row.class, "n": row.found.n, "healed": row.found.rate, "brier": row.found.brier }))
        .collect();
    json!({
        "n": all.n, "few": all.n < FEW, "healed": all.rate, "brier": all.brier, "reliability": all.reliability,
        "resolution": all.resolution, "uncertainty": all.uncertainty, "bins": bins, "classes": classes,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_picture_shows_what_was_said_beside_what_came() {
        let sure = (0..20).map(|n| (0.93, n < 19));
        let less = (0..10).map(|n| (0.74, n < 4));
        expect![[r#"
            confidence    n  said  healed  0                 0.5                   1
            0.9 to 1.0   20  0.93    0.95  █████████████████████████████████████┃··
            0.8 to 0.9    -
            0.7 to 0.8   10  0.74    0.40  ████████████████··············┃·········
            0.6 to 0.7    -
            0.5 to 0.6    -
            0.4 to 0.5    -
            0.3 to 0.4    -
            0.2 to 0.3    -
            0.1 to 0.2    -
            0.0 to 0.1    -
            █ healed   ┃ said
        "#]]
        .assert_eq(&picture(&Calibration::of(sure.chain(less)).bins));
    }
}
