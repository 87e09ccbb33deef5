//! Figures: numbers with a name and a unit, and their format.

use serde::Serialize;

/// The unit of a figure's value.
#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Seconds,
    Bytes,
    PerSecond,
    /// CPU time by wall time: 1.0 is one busy core.
    Cores,
}

#[derive(Clone, Serialize)]
pub struct Figure {
    /// What was measured. In the table, a name with two leading spaces belongs to the figure above.
    pub name: String,
    pub value: f64,
    pub unit: Unit,
}

impl Figure {
    pub fn new(name: impl Into<String>, value: f64, unit: Unit) -> Self {
        let name = name.into();
        Self { name, value, unit }
    }

    /// Returns the value with three digits, in the largest unit that keeps it at 1 or above.
    pub fn text(&self) -> String {
        format_value(self.value, self.unit)
    }
}

fn format_value(value: f64, unit: Unit) -> String {
    let scales: &[(f64, &str)] = match unit {
        Unit::Seconds => &[(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")],
        Unit::Bytes => &[
            (1_073_741_824.0, "GiB"),
            (1_048_576.0, "MiB"),
            (1_024.0, "KiB"),
            (1.0, "bytes"),
        ],
        Unit::PerSecond => &[(1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")],
        Unit::Cores => return format!("{:.2}%", value * 100.0),
    };
    let fitting = scales.iter().find(|(scale, _)| value.abs() >= *scale);
    let (scale, name) = fitting.or(scales.last()).copied().unwrap_or((1.0, ""));
    let value = value / scale;
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.digits$} {name}")
}

/// Values of the same figure, from many measurements or rounds.
#[derive(Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Returns the smallest value that at least the fraction `rank`, from 0 to 1, doesn't exceed
    /// (nearest rank); NaN if there is none.
    pub fn percentile(&mut self, rank: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        let last = self.0.len().saturating_sub(1);
        let place = (self.0.len() as f64 * rank).ceil() as usize;
        self.0
            .get(place.saturating_sub(1).min(last))
            .copied()
            .unwrap_or(f64::NAN)
    }

    /// Returns the median.
    pub fn p50(&mut self) -> f64 {
        self.percentile(0.5)
    }

    /// Returns two figures, p50 and p99, of samples in seconds.
    pub fn into_figures(mut self, name: &str) -> Vec<Figure> {
        vec![
            Figure::new(format!("{name}, p50"), self.p50(), Unit::Seconds),
            Figure::new(format!("{name}, p99"), self.percentile(0.99), Unit::Seconds),
        ]
    }
}
