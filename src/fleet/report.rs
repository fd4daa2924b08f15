//! Instances as a table for people, or as JSON for programs.

use jiff::Timestamp;
use serde::Serialize;

use super::RunnerState;
use crate::cli::Fleet;
use crate::cloud::{Instance, InstanceState};
use crate::error::{Error, Result};
use crate::pipeline::Pipeline;

/// One instance.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    id: String,
    name: Option<String>,
    state: InstanceState,
    runner: RunnerState,
    region: String,
    zone: Option<String>,
    instance_type: String,
    spot: bool,
    ip: Option<String>,
    launch_time: Option<Timestamp>,
    age_seconds: Option<i64>,
    serves: Option<String>,
}

impl Row {
    pub(super) fn new(instance: &Instance, runner: RunnerState, now: Timestamp) -> Self {
        Self {
            id: instance.reference.id.clone(),
            name: instance.name.clone(),
            state: instance.state,
            runner,
            region: instance.reference.region.clone(),
            zone: instance.zone.clone(),
            instance_type: instance.instance_type.clone(),
            spot: instance.spot,
            ip: instance.ip.clone(),
            launch_time: instance.launch_time,
            age_seconds: instance
                .launch_time
                .map(|launched| now.duration_since(launched).as_secs().max(0)),
            serves: instance.serves.clone(),
        }
    }

    fn cells(&self) -> [String; 8] {
        [
            self.id.clone(),
            self.name.clone().unwrap_or_default(),
            self.state.name().to_owned(),
            self.runner.name().to_owned(),
            self.zone.clone().unwrap_or_else(|| self.region.clone()),
            match self.spot {
                true => format!("{} spot", self.instance_type),
                false => self.instance_type.clone(),
            },
            self.age_seconds.map(age).unwrap_or_default(),
            self.serves.clone().unwrap_or_default(),
        ]
    }
}

const HEAD: [&str; 8] = [
    "INSTANCE", "RUNNER", "STATE", "JOBS", "WHERE", "TYPE", "AGE", "SERVES",
];

/// Prints the rows, which are data: to standard output. That there are none is said in the log.
pub(super) fn print(rows: &[Row], fleet: &Fleet, pipeline: &Pipeline) -> Result<()> {
    if fleet.json {
        let text = serde_json::to_string(rows)
            .map_err(|error| Error::other("writing the report").caused_by(error))?;
        pipeline.printer().data(&text);
        return Ok(());
    }
    if rows.is_empty() {
        tracing::info!("no such instance in {}", fleet.regions.join(", "));
        return Ok(());
    }
    pipeline.printer().data(&table(rows));
    Ok(())
}

fn table(rows: &[Row]) -> String {
    let head = HEAD.map(str::to_owned);
    let lines: Vec<[String; 8]> = std::iter::once(head)
        .chain(rows.iter().map(Row::cells))
        .collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..HEAD.len()).map(|c| width(c).unwrap_or(0)).collect();
    let text = lines.iter().map(|line| {
        let cells = line.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    });
    text.collect::<Vec<String>>().join("\n")
}

/// A time span to two units, such as `3h 12m`.
fn age(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (61, "1m 1s"),
            (3600, "1h 0m"),
            (200_000, "2d 7h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(age(seconds), text);
        }
    }
}
