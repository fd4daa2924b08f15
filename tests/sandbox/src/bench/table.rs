//! The table that the benchmark prints, section by section as they are measured.

use crate::show;

/// The widths of the columns.
const NAME: usize = 42;
const MEDIAN: usize = 12;
const RANGE: usize = 20;
const FLOOR: usize = 12;
const RATIO: usize = 9;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Unit {
    Milliseconds,
    Megabytes,
    Count,
}

impl Unit {
    fn number(self, value: f64) -> String {
        match self {
            Unit::Milliseconds if value >= 100.0 => format!("{value:.0}"),
            Unit::Milliseconds => format!("{value:.1}"),
            Unit::Megabytes => format!("{value:.2}"),
            // The median of an even number of counts may lie between two.
            Unit::Count if value.fract() != 0.0 => format!("{value:.1}"),
            Unit::Count => format!("{value:.0}"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Unit::Milliseconds => " ms",
            Unit::Megabytes => " MB",
            Unit::Count => "",
        }
    }

    fn text(self, value: f64) -> String {
        format!("{}{}", self.number(value), self.name())
    }
}

/// One thing that was measured.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    name: String,
    unit: Unit,
    samples: Vec<f64>,
    floor: Option<f64>,
}

impl Row {
    pub(crate) fn new(name: &str, unit: Unit, samples: Vec<f64>) -> Self {
        Row {
            name: name.into(),
            unit,
            samples,
            floor: None,
        }
    }

    /// The least that it could be.
    pub(crate) fn floor(self, floor: f64) -> Self {
        Row {
            floor: Some(floor),
            ..self
        }
    }

    fn text(&self) -> String {
        let Some(middle) = median(&self.samples) else {
            return line(&self.name, "not measured", "", "", "");
        };
        let least = self.samples.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.samples.iter().copied().fold(0.0, f64::max);
        let range = match self.samples.len() {
            1 => String::new(),
            _ => format!("{} – {}", self.unit.number(least), self.unit.number(most)),
        };
        let floor = self.floor.map(|floor| self.unit.text(floor));
        let ratio = self
            .floor
            .filter(|floor| *floor > 0.0)
            .map(|floor| format!("{:.2} ×", middle / floor));
        line(
            &self.name,
            &self.unit.text(middle),
            &range,
            &floor.unwrap_or_default(),
            &ratio.unwrap_or_default(),
        )
    }
}

/// The middle one; between the two middle ones where their number is even.
pub(crate) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

fn line(name: &str, median: &str, range: &str, floor: &str, ratio: &str) -> String {
    let line =
        format!("  {name:<NAME$}{median:>MEDIAN$}{range:>RANGE$}{floor:>FLOOR$}{ratio:>RATIO$}");
    format!("{}\n", line.trim_end())
}

/// Prints what stands above all sections.
pub(crate) fn head(title: &str) {
    show::plain(&format!(
        "\n{title}\n\n{}",
        line("", "median", "min – max", "floor", "ratio")
    ));
}

/// Prints a section: its title, its rows, and what must be known to read them.
pub(crate) fn section(title: &str, rows: &[Row], notes: &[String]) {
    let rows: String = rows.iter().map(Row::text).collect();
    let notes: String = notes.iter().map(|note| format!("    {note}\n")).collect();
    show::plain(&format!("\n{title}\n{rows}{notes}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 200.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 90.0]), Some(3.0));
    }

    #[test]
    fn a_row_says_what_was_measured_and_how_far_it_is_from_the_floor() {
        let row = Row::new("time", Unit::Milliseconds, vec![330.0, 310.4, 450.0]).floor(300.0);
        let words: Vec<String> = row.text().split_whitespace().map(str::to_owned).collect();
        assert_eq!(
            words.join(" "),
            "time 330 ms 310 – 450 300 ms 1.10 ×",
            "{row:?}"
        );
        let row = Row::new("size", Unit::Megabytes, vec![7.5]);
        assert_eq!(
            row.text().split_whitespace().collect::<Vec<_>>(),
            ["size", "7.50", "MB"]
        );
        assert!(
            Row::new("none", Unit::Count, vec![])
                .text()
                .contains("not measured")
        );
    }

    #[test]
    fn columns_stand_below_each_other() {
        let end = |row: Row| row.text().find(" ×").unwrap();
        let narrow = Row::new("a", Unit::Count, vec![3.0, 3.0]).floor(3.0);
        let wide = Row::new("a longer name", Unit::Milliseconds, vec![1000.0, 20.0]).floor(100.0);
        let chars = |row: &Row| row.text().chars().count();
        assert_eq!(chars(&narrow), chars(&wide));
        assert!(end(narrow) > 0 && end(wide) > 0);
    }
}
