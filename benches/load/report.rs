//! The report of a run: a table for people, or JSON for programs.

use serde_json::{Value, json};

use crate::figures::{Figure, Unit};
use crate::machine::Machine;
use crate::server::Result;

pub struct Report {
    machine: Machine,
    /// The servers, in the order of the columns.
    servers: Vec<String>,
    /// `true` if the table compares the second server with the first.
    compares: bool,
    measurements: Vec<Measurement>,
}

/// The result of one scenario.
pub struct Measurement {
    /// The scenario's name, as `--only` takes it.
    pub name: &'static str,
    /// For each server its figures, or the error.
    pub figures: Vec<Result<Vec<Figure>>>,
}

impl Report {
    pub fn new(servers: Vec<String>, compares: bool) -> Self {
        let machine = Machine::detect();
        let measurements = Vec::new();
        Self {
            machine,
            servers,
            compares,
            measurements,
        }
    }

    pub fn add(&mut self, measurement: Measurement) {
        self.measurements.push(measurement);
    }

    /// Returns JSON. A value is in its figure's [`Unit`].
    pub fn json(&self) -> String {
        let measurements = self.measurements.iter().flat_map(|measurement| {
            let servers = self.servers.iter().zip(&measurement.figures);
            servers.map(|(server, figures)| match figures {
                Ok(figures) => json!({ "name": measurement.name, "server": server, "figures": with_full_names(figures) }),
                Err(error) => json!({ "name": measurement.name, "server": server, "error": error }),
            })
        });
        let measurements: Vec<Value> = measurements.collect();
        let report = json!({ "machine": self.machine, "measurements": measurements });
        format!("{report:#}")
    }

    /// Returns the errors of all measurements.
    pub fn failures(&self) -> impl Iterator<Item = &String> {
        let all = self
            .measurements
            .iter()
            .flat_map(|measurement| &measurement.figures);
        all.filter_map(|figures| figures.as_ref().err())
    }

    /// Returns one server's figures of the scenario `name`; none if it failed.
    pub fn figures(&self, name: &str, server: usize) -> &[Figure] {
        let found = self
            .measurements
            .iter()
            .find(|measurement| measurement.name == name);
        let figures = found.and_then(|measurement| measurement.figures[server].as_ref().ok());
        figures.map_or(&[], Vec::as_slice)
    }

    /// Returns the servers' names.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// Returns the table. If two servers are compared, the last column says how many times better the
    /// first is.
    pub fn table(&self) -> String {
        let mut rows = vec![self.head()];
        for measurement in &self.measurements {
            rows.extend(self.rows(measurement));
        }
        let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell: &String| cell.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..columns)
            .map(|column| width(column).unwrap_or_default())
            .collect();
        let mut text = self.machine.text() + "\n";
        for row in &rows {
            let cells = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(column, (cell, &width))| match column {
                    0 => format!("{cell:width$}"),
                    _ => format!("  {cell:>width$}"),
                });
            text.push_str(cells.collect::<String>().trim_end());
            text.push('\n');
        }
        text
    }

    fn head(&self) -> Vec<String> {
        let mut head = vec![String::new()];
        head.extend(self.servers.iter().cloned());
        if self.compares {
            head.push("times better".into());
        }
        head
    }

    fn rows(&self, measurement: &Measurement) -> Vec<Vec<String>> {
        let all: Vec<Option<Vec<Figure>>> = measurement
            .figures
            .iter()
            .map(|figures| {
                figures
                    .as_ref()
                    .ok()
                    .map(|figures| with_full_names(figures))
            })
            .collect();
        if all.iter().all(Option::is_none) {
            return vec![vec![format!("{}: failed", measurement.name)]];
        }
        // A small machine has fewer clients, and so figures with other names.
        let mut names: Vec<(&str, String)> = Vec::new();
        for (short, full) in measurement
            .figures
            .iter()
            .flatten()
            .zip(all.iter().flatten())
        {
            for (short, full) in short.iter().zip(full) {
                if names.iter().all(|(_, known)| *known != full.name) {
                    names.push((&short.name, full.name.clone()));
                }
            }
        }
        let rows = names.into_iter().map(|(short, full)| {
            let figures = all
                .iter()
                .map(|figures| figures.as_ref()?.iter().find(|figure| figure.name == full));
            let figures: Vec<Option<&Figure>> = figures.collect();
            let mut row = vec![short.to_owned()];
            row.extend(
                figures
                    .iter()
                    .map(|figure| figure.map_or("–".into(), Figure::text)),
            );
            if let [Some(ours), Some(theirs), ..] = figures[..]
                && self.compares
            {
                row.push(ratio(ours, theirs));
            }
            row
        });
        rows.collect()
    }
}

/// Returns how many times better `ours` is: a higher rate, or less of everything else.
fn ratio(ours: &Figure, theirs: &Figure) -> String {
    let times = match ours.unit {
        Unit::PerSecond => ours.value / theirs.value,
        _ => theirs.value / ours.value,
    };
    // Zero by zero, such as the CPU time of two idle servers.
    if !times.is_finite() {
        return "–".into();
    }
    let digits = usize::from(times < 10.0);
    format!("{times:.digits$}")
}

/// Returns the figures with names that are complete without the figure above.
fn with_full_names(figures: &[Figure]) -> Vec<Figure> {
    let mut above = "";
    let named = figures.iter().map(|figure| {
        let name = match figure.name.strip_prefix("  ") {
            Some(part) => format!("{above}: {part}"),
            None => {
                above = &figure.name;
                figure.name.clone()
            }
        };
        Figure { name, ..*figure }
    });
    named.collect()
}
