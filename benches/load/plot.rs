//! Draws how latency and memory grow with the number of clients, as SVG.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use crate::figures::Figure;
use crate::latency::{MEMORY, ROUND_TRIP, TO_ALL};
use crate::report::Report;

/// The colors of the servers' lines.
const COLORS: [RGBColor; 4] = [
    RGBColor(196, 84, 45),
    RGBColor(38, 84, 124),
    RGBColor(226, 160, 130),
    RGBColor(130, 165, 195),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Draws three panels beside each other, with logarithmic axes.
pub fn draw(report: &Report, file: &Path) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(file, (1_200, 400)).into_drawing_area();
    area.fill(&WHITE)?;
    let panels = area.split_evenly((1, 3));
    let seconds = |what| format!("{what}, p50, in ms");
    panel(
        &panels[0],
        report,
        ROUND_TRIP,
        &seconds("Round trip of one client"),
        1e3,
    )?;
    panel(
        &panels[1],
        report,
        TO_ALL,
        &seconds("Reply to all, until the last has it"),
        1e3,
    )?;
    panel(
        &panels[2],
        report,
        MEMORY,
        "Memory, in MiB",
        1.0 / 1_048_576.0,
    )?;
    area.present()?;
    Ok(())
}

fn panel(
    area: &Area<'_>,
    report: &Report,
    what: &str,
    title: &str,
    scale: f64,
) -> Result<(), Box<dyn Error>> {
    let lines: Vec<Vec<(f64, f64)>> = (0..report.servers().len())
        .map(|server| points(report.figures("growth", server), what, scale))
        .collect();
    let (most, low, high) = lines.iter().flatten().fold(
        (10.0_f64, f64::MAX, 0.0_f64),
        |(most, low, high), &(x, y)| (most.max(x), low.min(y), high.max(y)),
    );
    if low > high {
        return Err("nothing was measured".into());
    }
    // Whole powers of ten, so that the grid has labels.
    let (low, high) = (
        10_f64.powf(low.log10().floor()),
        10_f64.powf(high.log10().ceil()),
    );
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 21))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d((1.0..most).log_scale(), (low..high).log_scale())?;
    let number = |value: &f64| format!("{value}");
    chart
        .configure_mesh()
        .x_desc("clients")
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 16))
        .draw()?;
    for ((points, name), color) in lines
        .into_iter()
        .zip(report.servers())
        .zip(COLORS.iter().cycle())
    {
        let dots =
            PointSeries::of_element(points.clone(), 3, color.filled(), &|at, size, style| {
                Circle::new(at, size, style)
            });
        chart.draw_series(dots)?;
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(name.as_str())
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .label_font(("sans-serif", 16))
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(TRANSPARENT)
        .draw()?;
    Ok(())
}

/// Returns pairs of a number of clients and the figure that was measured with it, multiplied by
/// `scale`.
fn points(figures: &[Figure], what: &str, scale: f64) -> Vec<(f64, f64)> {
    let point = |figure: &Figure| {
        let rest = figure.name.strip_prefix(what)?.strip_prefix(" with ")?;
        let clients = rest.strip_suffix(" clients")?.parse().ok()?;
        Some((clients, figure.value * scale))
    };
    figures.iter().filter_map(point).collect()
}
