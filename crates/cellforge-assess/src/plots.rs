//! Line plots as inline SVG.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

/// Line colours that stay apart for colour-blind readers (Okabe and Ito), darkest first so that they also differ in grey.
pub const COLOURS: [(u8, u8, u8); 6] =
    [(0, 90, 160), (213, 94, 0), (0, 140, 100), (170, 70, 130), (70, 160, 220), (190, 140, 0)];

/// A curve. Points without a value are gaps.
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points.
    pub points: Vec<(f64, Option<f64>)>,
}

/// What surrounds the curves.
pub struct Axes {
    /// What the x axis is of.
    pub x: &'static str,
    /// What the y axis is of.
    pub y: &'static str,
    /// Draw a dot at every point: for curves of a few epochs.
    pub dots: bool,
    /// Whether the y axis is a share, shown in percent up to 100; otherwise it starts at 0 and ends above the curves.
    pub share: bool,
}

/// A finished plot.
pub struct Plot {
    /// The drawing.
    pub svg: String,
    /// Points above the top of the plot, which a few extreme values would otherwise stretch until the rest is flat.
    pub cut: usize,
    /// The top of the plot.
    pub top: f64,
}

/// Thins a curve to at most `most` points, 2 or more, evenly by position, keeping the first and the last.
pub fn thin<T: Copy>(curve: &[T], most: usize) -> Vec<T> {
    if curve.len() <= most {
        return curve.to_vec();
    }
    // Integer arithmetic keeps both ends exactly: position 0 and position len - 1.
    (0..most).map(|i| curve[i * (curve.len() - 1) / (most - 1)]).collect()
}

/// The colour of curve `index`, as in CSS.
pub fn css_colour(index: usize) -> String {
    let (r, g, b) = COLOURS[index % COLOURS.len()];
    format!("rgb({r},{g},{b})")
}

/// Draws curves over a common x axis; `None` if no curve has a point. The legend is left to the page, where it wraps and can be read
/// aloud.
pub fn lines(series: &[Series], axes: &Axes) -> Option<Plot> {
    let known = || series.iter().flat_map(|s| &s.points).filter_map(|&(x, y)| Some((x, y.filter(|y| y.is_finite())?)));
    let mut values: Vec<f64> = known().map(|(_, y)| y).collect();
    values.sort_by(f64::total_cmp);
    let largest = *values.last()?;
    let (bottom, top) = if axes.share { (share_floor(values[0]), 1.0) } else { (0.0, ceiling(&values)) };
    let (mut left, mut right) = known().fold((f64::MAX, f64::MIN), |(a, b), (x, _)| (a.min(x), b.max(x)));
    if left >= right {
        (left, right) = (left - 1.0, right + 1.0);
    }
    let cut = if largest > top { values.iter().filter(|&&y| y > top).count() } else { 0 };
    let mut svg = String::new();
    draw(&mut svg, series, axes, (left, right), (bottom, top)).expect("drawing into a string cannot fail");
    Some(Plot { svg, cut, top })
}

/// The lowest share shown: 0.8, 0.4 or 0, with room below the lowest value.
fn share_floor(lowest: f64) -> f64 {
    if lowest >= 0.9 {
        0.8
    } else if lowest >= 0.5 {
        0.4
    } else {
        0.0
    }
}

/// A little above the largest of sorted values, or above their 99th percentile where the largest is far beyond it.
fn ceiling(sorted: &[f64]) -> f64 {
    let largest = sorted[sorted.len() - 1];
    let usual = sorted[(sorted.len() - 1) * 99 / 100];
    let top = if largest > 3.0 * usual && usual > 0.0 { 1.3 * usual } else { 1.05 * largest };
    if top > 0.0 { top } else { 1.0 }
}

fn draw(
    svg: &mut String,
    series: &[Series],
    axes: &Axes,
    (left, right): (f64, f64),
    (bottom, top): (f64, f64),
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    // Small in pixels with large letters, so that the letters can still be read when a phone shrinks the plot.
    let root = SVGBackend::with_string(svg, (560, 300)).into_drawing_area();
    let ink = RGBColor(70, 70, 80);
    let mut chart = ChartBuilder::on(&root)
        .margin(6)
        .margin_right(18)
        .x_label_area_size(52)
        .y_label_area_size(68)
        .build_cartesian_2d(left..right, bottom..top)?;
    let label = ("sans-serif", 19).into_font().color(&ink);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 230))
        .axis_style(RGBColor(150, 150, 160))
        .x_labels(6)
        .y_labels(6)
        // Steps are whole numbers: a short axis has ticks between them, which get no label.
        .x_label_formatter(&|x| if x.fract() == 0.0 { format!("{x:.0}") } else { String::new() })
        .y_label_formatter(&|y| if axes.share { format!("{:.0}%", 100.0 * y) } else { short(*y) })
        .x_desc(axes.x)
        .y_desc(axes.y)
        .label_style(label.clone())
        .axis_desc_style(label.pos(Pos::new(HPos::Center, VPos::Center)))
        .draw()?;
    for (index, one) in series.iter().enumerate() {
        let (r, g, b) = COLOURS[index % COLOURS.len()];
        let style = RGBColor(r, g, b).stroke_width(2);
        let runs = one.points.split(|(_, y)| y.is_none());
        for run in runs {
            let points = || run.iter().filter_map(|&(x, y)| Some((x, y?.min(top))));
            chart.draw_series(LineSeries::new(points(), style))?;
            if axes.dots {
                chart.draw_series(points().map(|point| Circle::new(point, 3, style.filled())))?;
            }
        }
    }
    root.present()
}

/// Up to three decimals, without zeros at the end.
fn short(value: f64) -> String {
    format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(points: &[(f64, Option<f64>)]) -> Vec<Series> {
        vec![Series { name: "a".into(), points: points.to_vec() }]
    }

    const AXES: Axes = Axes { x: "iteration", y: "loss", dots: false, share: false };

    #[test]
    fn gaps_split_a_curve() {
        let plot = lines(
            &series(&[(1.0, Some(1.0)), (2.0, Some(2.0)), (3.0, None), (4.0, Some(1.0)), (5.0, Some(1.0))]),
            &AXES,
        );
        assert_eq!(plot.unwrap().svg.matches("stroke-width=\"2\"").count(), 2);
    }

    #[test]
    fn odd_curves_do_not_panic() {
        assert!(lines(&[], &AXES).is_none());
        assert!(lines(&series(&[(1.0, None)]), &AXES).is_none());
        assert!(lines(&series(&[(1.0, Some(f64::NAN))]), &AXES).is_none());
        assert!(lines(&series(&[(1.0, Some(0.0))]), &AXES).is_some());
        assert!(lines(&series(&[(1.0, Some(0.5))]), &Axes { share: true, dots: true, ..AXES }).is_some());
    }

    #[test]
    fn an_extreme_value_is_cut() {
        let mut points: Vec<_> = (0..200).map(|i| (f64::from(i), Some(1.0))).collect();
        points[0].1 = Some(50.0);
        let plot = lines(&series(&points), &AXES).unwrap();
        assert_eq!((plot.cut, plot.top), (1, 1.3));
    }
}
