//! What was measured, as CSV, as a table in Markdown, and as a plot.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::data::Set;
use super::latency::{News, median};
use super::tools::{Cost, Tool};

/// One run of one tool.
pub struct Row {
    pub set: Set,
    pub round_trip: Duration,
    pub run: usize,
    pub tool: Tool,
    pub cost: Cost,
    pub exact: bool,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cost { seconds, cpu_seconds, rss_mib } = self.cost;
        let (set, away, run) = (self.set.name(), self.round_trip.as_millis(), self.run);
        let name = self.tool.name();
        let exact = if self.exact { "exact" } else { "NOT EXACT" };
        write!(
            f,
            "{set} {away:>3} ms #{run} {name:<9} {seconds:7.3} s  cpu {cpu_seconds:6.3} s  \
             rss {rss_mib:5.1} MiB  {exact}"
        )
    }
}

/// The runs of one tool on one set at one distance.
struct Cell {
    seconds: f64,
    /// How fast it was beside the ceiling in the same run: 1 is as fast, 0.5 half as fast.
    of_ceiling: Option<f64>,
    cpu_seconds: f64,
    rss_mib: f64,
    exact: bool,
}

type Place = (u128, &'static str, Tool);

fn cells(rows: &[Row]) -> BTreeMap<Place, Cell> {
    let mut runs: BTreeMap<Place, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let place = (row.round_trip.as_millis(), row.set.name(), row.tool);
        runs.entry(place).or_default().push(row);
    }
    let ceiling = |of: &Row| {
        let same = |row: &&Row| {
            (row.set, row.round_trip, row.run) == (of.set, of.round_trip, of.run)
                && row.tool == Tool::Ceiling
        };
        rows.iter().find(same).map(|row| row.cost.seconds / of.cost.seconds)
    };
    let cell = |rows: Vec<&Row>| {
        let of =
            |value: fn(&Cost) -> f64| median(rows.iter().map(|row| value(&row.cost)).collect());
        let ratios: Vec<f64> = rows.iter().filter_map(|row| ceiling(row)).collect();
        Cell {
            seconds: of(|cost| cost.seconds),
            of_ceiling: (!ratios.is_empty()).then(|| median(ratios)),
            cpu_seconds: of(|cost| cost.cpu_seconds),
            rss_mib: rows.iter().map(|row| row.cost.rss_mib).fold(0.0, f64::max),
            exact: rows.iter().all(|row| row.exact),
        }
    };
    runs.into_iter().map(|(place, rows)| (place, cell(rows))).collect()
}

/// Writes everything into `benches/results/`.
pub fn write(rows: &[Row], news: &[News]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
    fs::create_dir_all(&dir).expect("created");
    let cells = cells(rows);
    let table = table(&cells, news);
    println!("\n{table}");
    fs::write(dir.join("table.md"), table).expect("written");
    if !rows.is_empty() {
        fs::write(dir.join("runs.csv"), csv(rows)).expect("written");
        fs::write(dir.join("plot.svg"), svg(&cells)).expect("written");
    }
}

fn csv(rows: &[Row]) -> String {
    let mut text = "set,round_trip_ms,run,tool,seconds,cpu_seconds,rss_mib,exact\n".to_owned();
    for row in rows {
        let Cost { seconds, cpu_seconds, rss_mib } = row.cost;
        let (set, away, run) = (row.set.name(), row.round_trip.as_millis(), row.run);
        let (name, exact) = (row.tool.name(), row.exact);
        writeln!(
            text,
            "{set},{away},{run},{name},{seconds:.3},{cpu_seconds:.3},{rss_mib:.1},{exact}"
        )
        .expect("a string");
    }
    text
}

fn table(cells: &BTreeMap<Place, Cell>, news: &[News]) -> String {
    let mut text = String::new();
    if !cells.is_empty() {
        text += "| round trip | set | tool | seconds | of the ceiling | CPU s | peak RSS MiB | exact |\n\
                 |---|---|---|---|---|---|---|---|\n";
    }
    for ((away, set, tool), cell) in cells {
        let ratio = cell.of_ceiling.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        let (name, exact) = (tool.name(), if cell.exact { "yes" } else { "no" });
        writeln!(
            text,
            "| {away} ms | {set} | {name} | {:.2} | {ratio} | {:.2} | {:.0} | {exact} |",
            cell.seconds, cell.cpu_seconds, cell.rss_mib
        )
        .expect("a string");
    }
    if !news.is_empty() {
        text += "\n| new mail | round trip | median, ms | round trips |\n|---|---|---|---|\n";
    }
    for News { round_trip, is_warm, seconds } in news {
        let (middle, away) = (median(seconds.clone()), round_trip.as_secs_f64());
        let trips = if away > 0.0 { format!("{:.1}", middle / away) } else { "–".to_owned() };
        let warm = if *is_warm { "warm" } else { "cold" };
        let away = round_trip.as_millis();
        writeln!(text, "| {warm} target | {away} ms | {:.1} | {trips} |", middle * 1e3)
            .expect("a string");
    }
    text
}

/// Bars: speed beside the ceiling, a group a set and distance.
fn svg(cells: &BTreeMap<Place, Cell>) -> String {
    const COLOURS: [&str; 5] = ["#888888", "#1a6dd9", "#d97b1a", "#2f9e44", "#9c36b5"];
    const BAR: f64 = 18.0;
    const GAP: f64 = 24.0;
    const HEIGHT: f64 = 240.0;
    const TOP: f64 = 40.0;
    const LEFT: f64 = 50.0;
    let mut body = String::new();
    let mut at = LEFT;
    let mut last = None;
    for ((away, set, tool), cell) in cells {
        let Some(ratio) = cell.of_ceiling else { continue };
        let group = (*away, *set);
        if last.is_some_and(|last| last != group) {
            at += GAP;
        }
        if last != Some(group) {
            let (x, y) = (at, TOP + HEIGHT + 34.0);
            writeln!(body, "<text x=\"{x}\" y=\"{y}\">{set}, {away} ms</text>").expect("a string");
        }
        last = Some(group);
        let height = HEIGHT * ratio.min(1.25) / 1.25;
        let (y, colour) = (TOP + HEIGHT - height, COLOURS[*tool as usize]);
        writeln!(
            body,
            "<rect x=\"{at}\" y=\"{y:.1}\" width=\"{BAR}\" height=\"{height:.1}\" \
             fill=\"{colour}\"/><text x=\"{at}\" y=\"{:.1}\">{:.1}</text>",
            TOP + HEIGHT + 16.0,
            cell.seconds
        )
        .expect("a string");
        at += BAR + 4.0;
    }
    for (at, tool) in Tool::ALL.into_iter().enumerate() {
        let (x, colour, name) = (LEFT + 110.0 * at as f64, COLOURS[tool as usize], tool.name());
        writeln!(
            body,
            "<rect x=\"{x}\" y=\"8\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"18\">{name}</text>",
            x + 16.0
        )
        .expect("a string");
    }
    for ratio in [0.5, 1.0] {
        let y = TOP + HEIGHT * (1.0 - ratio / 1.25);
        writeln!(
            body,
            "<line x1=\"{LEFT}\" x2=\"{at}\" y1=\"{y}\" y2=\"{y}\" stroke=\"#bbbbbb\"/>\
             <text x=\"8\" y=\"{}\">{ratio}</text>",
            y + 4.0
        )
        .expect("a string");
    }
    let (width, height) = (at.max(600.0) + 20.0, TOP + HEIGHT + 60.0);
    let caption = "speed beside the ceiling (1 = as fast); below each bar its seconds";
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"10\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}\
         <text x=\"{LEFT}\" y=\"{}\">{caption}</text>\n</svg>\n",
        height - 8.0
    )
}
