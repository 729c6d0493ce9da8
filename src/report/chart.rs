//! Line charts as SVG. The colours written here are those of the light scheme; the page's style
//! sheet finds them by value and replaces them in the dark one.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::format;
use super::json::Round;
use super::results::Figure;
use super::{GuardEvent, Report, RoundRecord, Trend, TrendNight};
use crate::error::{Context, Kind, Result};

/// The user units of a chart. It is scaled to its column, 358 pixels on a phone, 520 on a desktop.
const SIZE: (u32, u32) = (480, 320);
/// plotters divides font sizes by 1.24; this is 15 units.
const TEXT: f64 = 15.0 * 1.24;

const INK: RGBColor = RGBColor(0x4a, 0x55, 0x64);
const GRID: RGBColor = RGBColor(0xe3, 0xe7, 0xec);
const MARK: RGBColor = RGBColor(0xb4, 0x23, 0x18);
/// The colours of series, told apart by people who see colours differently (after Okabe and Ito,
/// darkened to a contrast of 3 to white). Each series has a marker of its own, too.
const BASELINE: RGBColor = RGBColor(0xc4, 0x52, 0x00);
const TRAINED: RGBColor = RGBColor(0x00, 0x64, 0xa4);
const TRAINING: RGBColor = RGBColor(0x6b, 0x72, 0x80);
const CLEAN: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const FGSM: RGBColor = RGBColor(0xb7, 0x79, 0x1f);
const PGD: RGBColor = RGBColor(0xa8, 0x32, 0x79);

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Marker {
    Circle,
    Triangle,
    Square,
    Dashes,
}

/// How a model is drawn: its colour and its shape, and the classes in the style sheet of both.
pub(super) struct Look {
    pub(super) class: &'static str,
    pub(super) shape: &'static str,
    colour: RGBColor,
    marker: Marker,
}

/// In the order in which models are given; there are as many as can be told apart.
pub const LOOKS: usize = 5;
const ALL_LOOKS: [Look; LOOKS] = [
    Look { class: "trained", shape: "circle", colour: TRAINED, marker: Marker::Circle },
    Look { class: "baseline", shape: "square", colour: BASELINE, marker: Marker::Square },
    Look { class: "pgd", shape: "triangle", colour: PGD, marker: Marker::Triangle },
    Look { class: "fgsm", shape: "dashes", colour: FGSM, marker: Marker::Dashes },
    Look { class: "training", shape: "circle", colour: TRAINING, marker: Marker::Circle },
];

/// Of the model of this name and place among `models`.
pub(super) fn look(models: &[&str], name: &str) -> &'static Look {
    let place = match name {
        super::TRAINED => 0,
        super::BASELINE => 1,
        _ => models.iter().position(|model| *model == name).unwrap_or(0),
    };
    &ALL_LOOKS[place % LOOKS]
}

/// `points` are (x, accuracy); `band` (x, low, high).
struct Series {
    points: Vec<(f64, f64)>,
    band: Vec<(f64, f64, f64)>,
    colour: RGBColor,
    marker: Marker,
}

struct Axes<'a> {
    x: std::ops::Range<f64>,
    x_title: &'a str,
    x_label: &'a dyn Fn(&f64) -> String,
    x_labels: usize,
}

/// Accuracy against the budget of `attack` for every model, with intervals. The clean accuracy is
/// the point at 0.
pub(super) fn accuracy_curve(report: &Report, attack: &str) -> Result<String> {
    let models = report.models();
    let of = |model: &&str| {
        let look = look(&models, model);
        let mut results: Vec<_> = report
            .results
            .iter()
            .filter(|r| r.model == *model && (r.attack == attack || r.attack == "clean"))
            .collect();
        results.sort_by(|a, b| a.epsilon.total_cmp(&b.epsilon));
        Series {
            points: results.iter().map(|r| (r.epsilon * 255.0, r.figure.accuracy)).collect(),
            band: results.iter().map(|r| (r.epsilon * 255.0, r.figure.low, r.figure.high)).collect(),
            colour: look.colour,
            marker: look.marker,
        }
    };
    let series: Vec<Series> = models.iter().map(of).collect();
    let end = series.iter().flat_map(|s| &s.points).map(|p| p.0).fold(0.0, f64::max);
    let label = |x: &f64| if *x == 0.0 { "0".to_owned() } else { format!("{x}/255") };
    let axes = Axes { x: 0.0..end.max(1.0) * 1.02, x_title: "ε", x_label: &label, x_labels: 5 };
    let names: Vec<&str> = models.iter().map(|model| format::model(model)).collect();
    let alt = format!(
        "Accuracy under {} against its budget ε, of these models: {}. The figures are in the table of all results.",
        format::attack(attack),
        names.join(", ")
    );
    draw(&axes, &series, &[], &alt)
}

/// The curve of a phase (`baseline` or `train`) that may still be in progress, as SVG in the colours of
/// [`super::STYLE`]; none before its first round.
pub fn curve(rounds: &[RoundRecord], events: &[GuardEvent], phase: &str) -> Result<Option<String>> {
    let rounds: Vec<Round> = rounds.iter().filter(|r| r.phase == phase).map(Round::from).collect();
    if rounds.is_empty() { Ok(None) } else { training_curve(&rounds, events, phase).map(Some) }
}

/// Accuracy per round of `phase` (`baseline` or `train`) on training and held images. The guard's
/// events are numbered as in [`Report::guard_events`].
pub(super) fn training_curve(rounds: &[Round], events: &[GuardEvent], phase: &str) -> Result<String> {
    let rounds: Vec<_> = rounds.iter().filter(|r| r.phase == phase).collect();
    let of = |colour, marker, accuracy: &dyn Fn(&Round) -> Option<f64>| Series {
        points: rounds.iter().filter_map(|r| Some((f64::from(r.round) + 1.0, accuracy(r)?))).collect(),
        band: Vec::new(),
        colour,
        marker,
    };
    let series = [
        of(TRAINING, Marker::Dashes, &|r| r.train_accuracy),
        of(CLEAN, Marker::Circle, &|r| Some(r.held_clean.accuracy)),
        of(FGSM, Marker::Triangle, &|r| measured(&r.held_fgsm)),
        of(PGD, Marker::Square, &|r| measured(&r.held_pgd)),
    ];
    let end = rounds.iter().map(|r| f64::from(r.round) + 1.0).fold(2.0, f64::max);
    let label = |x: &f64| if x.fract() == 0.0 { x.to_string() } else { String::new() };
    let axes = Axes { x: 1.0..end, x_title: "round", x_label: &label, x_labels: (end as usize).min(9) };
    let marks: Vec<(f64, String)> = if phase == "train" {
        events.iter().enumerate().map(|(i, e)| (f64::from(e.round) + 1.0, (i + 1).to_string())).collect()
    } else {
        Vec::new()
    };
    let what = if phase == "train" { "adversarial training" } else { "the undefended model" };
    let alt = format!(
        "Accuracy per round of {what}: on training images and, on held images, clean, under FGSM and under PGD. The figures are in the table of rounds."
    );
    draw(&axes, &series, &marks, &alt)
}

/// Accuracy over the nights, of each retrained model and of the current one; `marks` are (place, number).
pub(super) fn trend_curve(trend: &Trend, marks: &[(usize, String)], robust: bool) -> Result<String> {
    let place = |i: usize| i as f64 + 1.0;
    let nights = || trend.nights.iter().enumerate();
    let retrained: Vec<(usize, &Figure)> =
        nights().filter_map(|(i, n)| Some((i, if robust { n.robust.as_ref() } else { n.clean.as_ref() }?))).collect();
    let current = |n: &TrendNight| if robust { n.current_robust } else { n.current_clean };
    let series = [
        Series {
            points: retrained.iter().map(|(i, f)| (place(*i), f.accuracy)).collect(),
            band: retrained.iter().map(|(i, f)| (place(*i), f.low, f.high)).collect(),
            colour: TRAINING,
            marker: Marker::Dashes,
        },
        Series {
            points: nights().filter_map(|(i, n)| Some((place(i), current(n)?))).collect(),
            band: Vec::new(),
            colour: TRAINED,
            marker: Marker::Circle,
        },
    ];
    let end = place(trend.nights.len().saturating_sub(1)).max(2.0);
    let label = |x: &f64| -> String {
        let place = if x.fract() == 0.0 { (*x as usize).checked_sub(1) } else { None };
        // Dates without their year, other names as they are.
        match place.and_then(|i| trend.nights.get(i)) {
            Some(night) if is_date(&night.name) => night.name[5..].to_string(),
            Some(night) => night.name.chars().take(8).collect(),
            None => String::new(),
        }
    };
    let axes = Axes { x: 1.0..end, x_title: "night", x_label: &label, x_labels: (end as usize).min(6) };
    let marks: Vec<(f64, String)> = marks.iter().map(|(i, number)| (place(*i), number.clone())).collect();
    let what = if robust { "Robust" } else { "Clean" };
    let alt = format!(
        "{what} accuracy over the nights, of each retrained model and of the current one. The figures are in the table of nights."
    );
    draw(&axes, &series, &marks, &alt)
}

fn is_date(name: &str) -> bool {
    name.len() == 10
        && name.bytes().enumerate().all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() })
}

/// The baseline is not attacked after each round.
fn measured(figure: &Figure) -> Option<f64> {
    (figure.n > 0).then_some(figure.accuracy)
}

/// A chart with an accuracy from 0 to 100 % on its vertical axis.
fn draw(axes: &Axes<'_>, series: &[Series], marks: &[(f64, String)], alt: &str) -> Result<String> {
    let mut svg = String::new();
    plot(&mut svg, axes, series, marks)
        .map_err(|e| e.to_string())
        .context(Kind::Internal, || "a chart cannot be drawn".to_owned())?;
    let size = format!("<svg width=\"{}\" height=\"{}\"", SIZE.0, SIZE.1);
    Ok(svg.replacen(
        &size,
        &format!("<svg class=\"chart\" role=\"img\" aria-label=\"{}\"", minijinja::HtmlEscape(alt)),
        1,
    ))
}

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn plot(svg: &mut String, axes: &Axes<'_>, series: &[Series], marks: &[(f64, String)]) -> Drawn {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let text = ("sans-serif", TEXT).into_font().color(&INK);
    let mut chart = ChartBuilder::on(&area)
        .margin_top(14)
        .margin_right(22)
        .margin_left(4)
        .x_label_area_size(50)
        .y_label_area_size(56)
        .build_cartesian_2d(axes.x.clone(), 0.0..1.0)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .label_style(text.clone())
        .axis_desc_style(text.clone())
        .x_desc(axes.x_title)
        .x_labels(axes.x_labels)
        .x_label_formatter(axes.x_label)
        .y_labels(6)
        .y_label_formatter(&|y| format!("{:.0} %", y * 100.0))
        .draw()?;
    for one in series {
        let low = one.band.iter().map(|&(x, low, _)| (x, low));
        let outline: Vec<_> = one.band.iter().map(|&(x, _, high)| (x, high)).chain(low.rev()).collect();
        if outline.len() > 2 {
            chart.draw_series(std::iter::once(Polygon::new(outline, one.colour.mix(0.18))))?;
        }
    }
    for (x, number) in marks {
        chart.draw_series(std::iter::once(PathElement::new([(*x, 0.0), (*x, 1.0)], MARK.stroke_width(2))))?;
        let at = chart.backend_coord(&(*x, 1.0));
        area.draw(&Circle::new(at, 10, MARK.filled()))?;
        let label = ("sans-serif", 13.0 * 1.24).into_font().color(&WHITE);
        let centre = plotters::style::text_anchor::Pos::new(
            plotters::style::text_anchor::HPos::Center,
            plotters::style::text_anchor::VPos::Center,
        );
        area.draw(&Text::new(number.clone(), at, label.pos(centre)))?;
    }
    for one in series {
        line(&mut chart, one)?;
    }
    area.present()?;
    Ok(())
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

fn line(chart: &mut Chart<'_, '_>, series: &Series) -> Drawn {
    let (points, style) = (series.points.iter().copied(), series.colour.stroke_width(3));
    let fill = series.colour.filled();
    match series.marker {
        Marker::Dashes => {
            chart.draw_series(DashedLineSeries::new(points, 7, 5, style))?;
        }
        Marker::Circle => {
            chart.draw_series(LineSeries::new(points, style))?;
            chart.draw_series(series.points.iter().map(|&p| Circle::new(p, 4, fill)))?;
        }
        Marker::Triangle => {
            chart.draw_series(LineSeries::new(points, style))?;
            chart.draw_series(series.points.iter().map(|&p| TriangleMarker::new(p, 6, fill)))?;
        }
        Marker::Square => {
            chart.draw_series(LineSeries::new(points, style))?;
            chart.draw_series(
                series.points.iter().map(|&p| EmptyElement::at(p) + Rectangle::new([(-4, -4), (4, 4)], fill)),
            )?;
        }
    }
    Ok(())
}
