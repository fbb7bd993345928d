//! A run as a picture: what was accepted in each second, and how long replies took.

use plotters::prelude::*;

use super::report::{Report, milliseconds};

const SIZE: (u32, u32) = (900, 640);

/// Draws rate over time, and latency by percentile.
///
/// # Errors
/// In the words of the plotting library.
pub(super) fn run(report: &Report) -> Result<String, String> {
    let mut drawing = String::new();
    draw(report, &mut drawing).map_err(|error| error.to_string())?;
    Ok(drawing)
}

fn draw(report: &Report, drawing: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(drawing, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let load = &report.load;
    let title = format!(
        "{} sessions, {} bytes to {} recipients: {:.0} messages/s",
        load.sessions,
        load.content_bytes,
        load.recipients,
        report.messages_per_second()
    );
    let area = area.titled(&title, ("sans-serif", 20))?;
    let (upper, lower) = area.split_vertically(SIZE.1 / 2);
    draw_rate(report, &upper)?;
    draw_latency(report, &lower)?;
    area.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw_rate(report: &Report, area: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let seconds_each = report.seconds_each.max(1) as f64;
    let elapsed = report.elapsed.as_secs_f64().max(0.001);
    let points: Vec<(f64, f64)> = (0_u32..)
        .zip(&report.intervals)
        .map(|(at, interval)| {
            let begin = f64::from(at) * seconds_each;
            // The last interval is shorter.
            let length = (elapsed - begin).clamp(0.001, seconds_each);
            (begin, interval.counts.accepted as f64 / length)
        })
        .collect();
    let highest = points.iter().map(|(_, rate)| *rate).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..elapsed, 0.0..highest * 1.1)?;
    chart.configure_mesh().x_desc("seconds").y_desc("messages/s").draw()?;
    // A step for each interval.
    let steps =
        points.iter().flat_map(|&(begin, rate)| [(begin, rate), ((begin + seconds_each).min(elapsed), rate)]);
    chart.draw_series(LineSeries::new(steps, &BLUE))?;
    Ok(())
}

fn draw_latency(report: &Report, area: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let highest = milliseconds(&report.latency, 100.0).max(milliseconds(&report.service, 100.0)).max(0.01);
    let lowest = milliseconds(&report.service, 0.0).max(0.001).min(highest / 2.0);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..NINES_MAX, (lowest..highest * 1.1).log_scale())?;
    chart
        .configure_mesh()
        .x_labels(5)
        .x_label_formatter(&|nines| format!("{}%", percentile(*nines)))
        .x_desc("percentile")
        .y_desc("ms to the reply")
        .draw()?;
    for (name, histogram, colour) in
        [("as measured", &report.service, BLUE), ("corrected for coordinated omission", &report.latency, RED)]
    {
        let points = (0..=NINES_STEPS).map(|step| {
            let nines = f64::from(step) * NINES_MAX / f64::from(NINES_STEPS);
            (nines, milliseconds(histogram, percentile(nines)).max(lowest))
        });
        chart
            .draw_series(LineSeries::new(points, &colour))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    Ok(())
}

/// 1 is 90 %, 2 is 99 %, 3 is 99.9 %: the far end is what matters.
fn percentile(nines: f64) -> f64 {
    let percentile = 100.0 * (1.0 - 10_f64.powf(-nines));
    (percentile * 1e4).round() / 1e4
}

const NINES_MAX: f64 = 4.0;
const NINES_STEPS: u32 = 200;
