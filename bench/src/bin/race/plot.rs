//! Bars: who took how many small messages a second.

use plotters::prelude::*;

use crate::FileSystem;
use crate::contestant::Kind;
use crate::results::Results;

const SIZE: (u32, u32) = (900, 420);
const LOADS: [(&str, &str); 3] =
    [("small-1", "1 session"), ("small-20", "20 sessions"), ("small-100", "100 sessions")];

pub(crate) fn file_name(place: FileSystem) -> String {
    format!("rates-{}.svg", place.name())
}

/// Draws the rates of the small messages on one file system.
///
/// # Errors
/// In the words of the plotting library.
pub(crate) fn rates(results: &Results, place: FileSystem) -> Result<String, String> {
    let mut drawing = String::new();
    draw(results, place, &mut drawing).map_err(|error| error.to_string())?;
    Ok(drawing)
}

fn draw(
    results: &Results,
    place: FileSystem,
    drawing: &mut String,
) -> Result<(), Box<dyn std::error::Error>> {
    let bars: Vec<(f64, Kind, f64)> = (0_u32..)
        .zip(LOADS)
        .flat_map(|(group, (load, _))| {
            (0_u32..).zip(Kind::ALL).filter_map(move |(at, kind)| {
                let rate = results.median(place, load, kind, |it| it.messages_per_second)?;
                Some((f64::from(group) * GROUP_WIDTH + f64::from(at), kind, rate))
            })
        })
        .collect();
    let highest = bars.iter().map(|(_, _, rate)| *rate).fold(1.0, f64::max);
    let width = GROUP_WIDTH * LOADS.len() as f64;
    let area = SVGBackend::with_string(drawing, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let title = format!(
        "4 KiB to one recipient, {}: messages/s",
        match place {
            FileSystem::Memory => "file system in memory",
            FileSystem::Disk => "file system on the disk",
        }
    );
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(70)
        .build_cartesian_2d(-1.0..width - 1.0, 0.0..highest * 1.25)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(LOADS.len().saturating_mul(2))
        .x_label_formatter(&|_| String::new())
        .y_desc("messages/s")
        .draw()?;
    for kind in Kind::ALL {
        let colour = colour(kind);
        let of_kind = bars.iter().filter(|(_, owner, _)| *owner == kind);
        let series =
            chart.draw_series(of_kind.clone().map(|(at, _, rate)| {
                Rectangle::new([(*at, 0.0), (at + BAR_WIDTH, *rate)], colour.filled())
            }))?;
        series
            .label(kind.title())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled()));
        let labels = of_kind.map(|(at, _, rate)| {
            Text::new(format!("{rate:.0}"), (*at, rate + highest * 0.04), ("sans-serif", 12))
        });
        chart.draw_series(labels)?;
    }
    for (group, (_, name)) in (0_u32..).zip(LOADS) {
        let place = (f64::from(group) * GROUP_WIDTH + 2.5, highest * 1.2);
        chart.draw_series([Text::new(name, place, ("sans-serif", 16))])?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::MiddleLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}

const fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Postfix => RGBColor(150, 150, 150),
        Kind::OursFile => RGBColor(90, 150, 220),
        Kind::OursJournal => RGBColor(20, 70, 160),
        Kind::DropInPostfix => RGBColor(150, 200, 150),
        Kind::DropInLocal => RGBColor(40, 130, 70),
        Kind::FloorFile => RGBColor(240, 190, 110),
        Kind::FloorJournal => RGBColor(210, 130, 20),
    }
}

const BAR_WIDTH: f64 = 0.9;
const GROUP_WIDTH: f64 = 8.5;
