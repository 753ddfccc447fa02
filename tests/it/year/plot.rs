//! The picture of the year.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{DAYS, Day, GROUPS, LOUDER, SIZES};

const SIZE: (u32, u32) = (1180, 760);
/// The legend stands to the right of the curves.
const CURVES: u32 = 900;
const COLOURS: [RGBColor; GROUPS.len()] =
    [RGBColor(0, 90, 181), RGBColor(0, 140, 90), RGBColor(220, 50, 32), RGBColor(225, 140, 0)];
const LOUD: RGBColor = RGBColor(130, 60, 160);
const GREY: RGBColor = RGBColor(90, 90, 90);
const TB: f64 = 1e12;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws the year as an SVG.
pub(super) fn draw(year: &[Day]) -> String {
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, SIZE).into_drawing_area();
        root.fill(&WHITE).unwrap();
        let text = |text: &str, at: (i32, i32), size: f64, colour: RGBColor| {
            root.draw(&Text::new(text.to_owned(), at, ("sans-serif", size).into_font().color(&colour))).unwrap();
        };
        text("A simulated year of 200 cameras: what is promised, and what the disk can hold", (20, 14), 24.0, BLACK);
        let (curves, right) = root.margin(56, 10, 10, 10).split_horizontally(CURVES);
        let (above, below) = curves.split_vertically(450);
        retention(&above, year);
        disk(&below, year);
        legend(&right);
        root.present().unwrap();
    }
    out + "\n"
}

fn of_days(year: &[Day], of: impl Fn(&Day) -> f64) -> impl Iterator<Item = (f64, f64)> {
    (1_u32..).map(f64::from).zip(year).map(move |(day, one)| (day, of(one)))
}

fn retention(area: &Area<'_>, year: &[Day]) {
    let most = 48.0;
    let mut chart = ChartBuilder::on(area)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..DAYS as f64, 0.0..most)
        .unwrap();
    let mesh = &mut chart.configure_mesh();
    let mesh = mesh.light_line_style(TRANSPARENT).x_labels(13).y_labels(10).label_style(("sans-serif", 15));
    let whole = |value: &f64| format!("{value:.0}");
    let mesh = mesh.x_label_formatter(&whole).y_label_formatter(&whole);
    mesh.y_desc("days that the worst camera reaches back").axis_desc_style(("sans-serif", 16)).draw().unwrap();
    let events = [
        (0, "the disk fills"),
        (LOUDER.start, "one yard camera records ten times as much"),
        (SIZES[1].0, "the disk loses a third"),
        (SIZES[2].0, "half is left"),
        (SIZES[3].0, "it is whole again"),
    ];
    for (place, (day, event)) in (0_u32..).zip(events) {
        let (day, top) = (day as f64, most - 0.3 - 2.1 * f64::from(place % 2));
        if day > 0.0 {
            chart.draw_series([PathElement::new([(day, 0.0), (day, most)], GREY.mix(0.5))]).unwrap();
        }
        let font = ("sans-serif", 14).into_font().color(&GREY);
        chart.draw_series([Text::new(event.to_owned(), (day + 2.0, top), font)]).unwrap();
    }
    for (group, colour) in GROUPS.iter().zip(COLOURS) {
        let promised = [(0.0, group.keep as f64), (DAYS as f64, group.keep as f64)];
        chart.draw_series(DashedLineSeries::new(promised, 6, 5, colour.stroke_width(1))).unwrap();
    }
    for (group, colour) in COLOURS.into_iter().enumerate() {
        // The car parks mostly fare as the yards do: they show beneath them.
        let width = if group == 2 { 5 } else { 2 };
        chart.draw_series(LineSeries::new(of_days(year, |day| day.worst[group]), colour.stroke_width(width))).unwrap();
    }
    let loud = of_days(year, |day| day.loud).filter(|(day, _)| LOUDER.contains(&(*day as u64)));
    chart.draw_series(LineSeries::new(loud, LOUD.stroke_width(3))).unwrap();
}

fn disk(area: &Area<'_>, year: &[Day]) {
    let mut chart = ChartBuilder::on(area)
        .x_label_area_size(50)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..DAYS as f64, 0.0..140.0)
        .unwrap();
    let mesh = &mut chart.configure_mesh();
    let mesh = mesh.light_line_style(TRANSPARENT).x_labels(13).y_labels(7).label_style(("sans-serif", 15));
    let whole = |value: &f64| format!("{value:.0}");
    let mesh = mesh.x_label_formatter(&whole).y_label_formatter(&whole);
    mesh.x_desc("day of the year").y_desc("TB").axis_desc_style(("sans-serif", 16)).draw().unwrap();
    let used = of_days(year, |day| day.used as f64 / TB);
    chart.draw_series(AreaSeries::new(used, 0.0, GREY.mix(0.25)).border_style(GREY)).unwrap();
    let size = of_days(year, |day| day.size as f64 / TB);
    chart.draw_series(LineSeries::new(size, BLACK.stroke_width(2))).unwrap();
}

fn legend(area: &Area<'_>) {
    let text = |text: String, y: i32, colour: RGBColor| {
        area.draw(&Text::new(text, (46, y), ("sans-serif", 16).into_font().color(&colour))).unwrap();
    };
    let line = |y: i32, style: ShapeStyle| area.draw(&PathElement::new([(8, y), (38, y)], style)).unwrap();
    for (at, (group, colour)) in (0_i32..).zip(GROUPS.iter().zip(COLOURS)) {
        let y = 30 + 52 * at;
        line(y + 8, colour.stroke_width(2));
        text(format!("50 {}", group.name), y, BLACK);
        let most = group.max_age.map(|days| format!(", {days} at most")).unwrap_or_default();
        text(format!("priority {}, {} days{most}", group.priority, group.keep), y + 20, GREY);
    }
    line(30 + 52 * 4 + 8, LOUD.stroke_width(2));
    text("the loud yard camera,".to_owned(), 30 + 52 * 4, BLACK);
    text("bounded by its stream_share".to_owned(), 50 + 52 * 4, GREY);
    for at in 0..3 {
        area.draw(&PathElement::new([(8 + 11 * at, 306), (14 + 11 * at, 306)], GREY)).unwrap();
    }
    text("what is promised (keep)".to_owned(), 298, BLACK);
    text("recordings are half a day long".to_owned(), 318, GREY);
    line(478, BLACK.stroke_width(2));
    text("the disk".to_owned(), 470, BLACK);
    area.draw(&Rectangle::new([(8, 496), (38, 512)], GREY.mix(0.25).filled())).unwrap();
    text("what recordings use".to_owned(), 496, BLACK);
}
