//! Histograms, ROC curves, reliability, accuracies with error bars and clouds of points, as inline SVG. Legends are left to the page.

use std::fmt::Write;

use cellforge_eval::CalibrationBin;

use crate::plots::css_colour;

/// Size of a drawing, in the units of its view box, and the room that axes take.
const SIZE: (f64, f64) = (560.0, 300.0);
const LEFT: f64 = 66.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 52.0;

/// A value with the ends of its interval.
pub struct ErrorBar {
    pub x: f64,
    pub y: f64,
    pub low: f64,
    pub high: f64,
}

/// An axis: its ends, ticks with their labels, and what it shows.
pub struct Axis {
    pub from: f64,
    pub to: f64,
    pub ticks: Vec<(f64, String)>,
    pub title: String,
}

impl Axis {
    /// From `from` to `to` with about five ticks at round numbers.
    pub fn new(from: f64, to: f64, title: &str) -> Self {
        let to = if to > from { to } else { from + 1.0 };
        let raw = (to - from) / 5.0;
        let scale = 10_f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * scale).find(|step| *step >= raw).unwrap_or(raw);
        let first = (from / step).ceil() as i64;
        let last = (to / step + 1e-9).floor() as i64;
        let decimals = (-(step.log10().floor()) as i32).clamp(0, 6) as usize;
        // A step of 2.5 has a digit more than its size says.
        let decimals = if (step / scale - 2.5).abs() < 1e-9 {
            decimals.max((1 - scale.log10() as i32).max(0) as usize)
        } else {
            decimals
        };
        let ticks = (first..=last).map(|i| i as f64 * step).map(|x| (x, format!("{x:.decimals$}"))).collect();
        Self { from, to, ticks, title: title.to_owned() }
    }

    /// Shares from 0 to 1 in percent.
    pub fn shares(from: f64, to: f64, title: &str) -> Self {
        let mut axis = Self::new(100.0 * from, 100.0 * to, title);
        axis.ticks.iter_mut().for_each(|(at, label)| {
            *at /= 100.0;
            label.push('%');
        });
        Self { from, to, ..axis }
    }

    fn place(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(-0.05, 1.05)
    }
}

/// A text as SVG holds it: a title may have a word of the user's.
fn escaped(text: &str) -> String {
    maud::html! { (text) }.into_string()
}

/// A drawing in progress.
struct Canvas {
    svg: String,
    x: Axis,
    y: Axis,
}

impl Canvas {
    fn new(x: Axis, y: Axis) -> Self {
        let (width, height) = SIZE;
        let svg = format!(
            "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" xmlns=\"http://www.w3.org/2000/svg\" font-family=\"sans-serif\" font-size=\"15\" fill=\"none\">"
        );
        let mut canvas = Self { svg, x, y };
        canvas.axes();
        canvas
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (width, height) = SIZE;
        (LEFT + self.x.place(x) * (width - LEFT - RIGHT), height - BOTTOM - self.y.place(y) * (height - TOP - BOTTOM))
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        self.svg.write_fmt(text).expect("writing into a string cannot fail");
    }

    fn axes(&mut self) {
        let (width, height) = SIZE;
        let (right, bottom) = (width - RIGHT, height - BOTTOM);
        for (value, label) in std::mem::take(&mut self.y.ticks) {
            let (_, y) = self.at(self.x.from, value);
            self.add(format_args!("<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#e1e1e6\"/>"));
            let (x, y) = (LEFT - 8.0, y + 5.0);
            self.add(format_args!("<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\" fill=\"#464650\">{label}</text>"));
        }
        for (value, label) in std::mem::take(&mut self.x.ticks) {
            let (x, _) = self.at(value, self.y.from);
            let (tick, y) = (bottom + 5.0, bottom + 20.0);
            self.add(format_args!("<path d=\"M{x:.1} {bottom}V{tick}\" stroke=\"#9696a0\"/>"));
            self.add(format_args!(
                "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\" fill=\"#464650\">{label}</text>"
            ));
        }
        self.add(format_args!("<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" stroke=\"#9696a0\"/>"));
        let (middle, low) = ((LEFT + right) / 2.0, height - 10.0);
        let title = escaped(&self.x.title);
        self.add(format_args!(
            "<text x=\"{middle}\" y=\"{low}\" text-anchor=\"middle\" fill=\"#464650\">{title}</text>"
        ));
        let (title, centre) = (escaped(&self.y.title), (TOP + bottom) / 2.0);
        self.add(format_args!(
            "<text x=\"15\" y=\"{centre}\" text-anchor=\"middle\" fill=\"#464650\" transform=\"rotate(-90 15 {centre})\">{title}</text>"
        ));
    }

    fn line(&mut self, points: &[(f64, f64)], style: &str) {
        let places: Vec<String> =
            points.iter().map(|&(x, y)| self.at(x, y)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.add(format_args!("<polyline points=\"{}\" {style}/>", places.join(" ")));
    }

    fn finish(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }
}

/// Two histograms over the same edges, each as the share of its own counts per bar: the first filled, the second as a line. `titles` are those of the axes.
pub fn histograms(edges: &[f64], filled: &[u64], line: Option<&[u64]>, titles: [&str; 2]) -> Option<String> {
    if edges.len() < 2 || filled.len() + 1 != edges.len() {
        return None;
    }
    let shares = |counts: &[u64]| -> Vec<f64> {
        let all = counts.iter().sum::<u64>().max(1) as f64;
        counts.iter().map(|&n| n as f64 / all).collect()
    };
    let (filled, line) = (shares(filled), line.filter(|counts| counts.len() + 1 == edges.len()).map(shares));
    let top = filled.iter().chain(line.iter().flatten()).copied().fold(0.0, f64::max).max(0.01);
    let (x, y) = (Axis::new(edges[0], *edges.last()?, titles[0]), Axis::shares(0.0, 1.05 * top, titles[1]));
    let mut canvas = Canvas::new(x, y);
    let steps = |shares: &[f64]| -> Vec<(f64, f64)> {
        let tops = shares.iter().zip(edges.windows(2)).flat_map(|(&y, ends)| [(ends[0], y), (ends[1], y)]);
        std::iter::once((edges[0], 0.0)).chain(tops).chain([(edges[edges.len() - 1], 0.0)]).collect()
    };
    let colour = css_colour(0);
    canvas.line(
        &steps(&filled),
        &format!("fill=\"{colour}\" fill-opacity=\"0.3\" stroke=\"{colour}\" stroke-width=\"1.5\""),
    );
    if let Some(line) = line {
        canvas.line(&steps(&line), &format!("stroke=\"{}\" stroke-width=\"2\"", css_colour(1)));
    }
    Some(canvas.finish())
}

/// ROC curves, with the line of guesses.
pub fn rocs(curves: &[&[(f64, f64)]]) -> String {
    let (x, y) = (Axis::shares(0.0, 1.0, "others taken for members"), Axis::shares(0.0, 1.0, "members found"));
    let mut canvas = Canvas::new(x, y);
    canvas.line(&[(0.0, 0.0), (1.0, 1.0)], "stroke=\"#9696a0\" stroke-dasharray=\"5 4\"");
    for (i, curve) in curves.iter().enumerate() {
        canvas.line(curve, &format!("stroke=\"{}\" stroke-width=\"2\"", css_colour(i)));
    }
    canvas.finish()
}

/// The share of each bin that is right, by its mean probability, with the line where both are alike. A dot is the larger, the more images its
/// bin has. `None` where no bin has an image.
pub fn reliability(bins: &[CalibrationBin]) -> Option<String> {
    let filled: Vec<&CalibrationBin> = bins.iter().filter(|bin| bin.images > 0).collect();
    let total: u64 = filled.iter().map(|bin| bin.images).sum();
    let from = if filled.first()?.low >= 0.4 { 0.4 } else { 0.0 };
    let (x, y) = (Axis::shares(from, 1.0, "probability of the predicted class"), Axis::shares(0.0, 1.0, "right"));
    let mut canvas = Canvas::new(x, y);
    canvas.line(&[(from, from), (1.0, 1.0)], "stroke=\"#9696a0\" stroke-dasharray=\"5 4\"");
    let colour = css_colour(0);
    let points: Vec<(f64, f64)> = filled.iter().map(|bin| (bin.confidence, bin.accuracy)).collect();
    canvas.line(&points, &format!("stroke=\"{colour}\" stroke-width=\"1.5\" stroke-opacity=\"0.6\""));
    for (bin, (x, y)) in filled.iter().zip(points) {
        let radius = 3.0 + 12.0 * (bin.images as f64 / total as f64).sqrt();
        let (x, y) = canvas.at(x, y);
        canvas.add(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{colour}\" fill-opacity=\"0.75\"/>"
        ));
    }
    Some(canvas.finish())
}

/// Values with error bars over the numbers `0..labels.len()`, one line per series.
pub fn bars(series: &[Vec<ErrorBar>], labels: &[String], x_title: &str, y_title: &str) -> Option<String> {
    let all = || series.iter().flatten();
    let low = all().map(|bar| bar.low).fold(f64::INFINITY, f64::min);
    let high = all().map(|bar| bar.high).fold(f64::NEG_INFINITY, f64::max);
    if !low.is_finite() || !high.is_finite() {
        return None;
    }
    let margin = (0.06 * (high - low)).max(0.005);
    let y = Axis::shares((low - margin).max(0.0), (high + margin).min(1.0), y_title);
    let ticks = labels.iter().enumerate().map(|(i, label)| (i as f64, label.clone())).collect();
    let x = Axis { from: -0.4, to: labels.len() as f64 - 0.6, ticks, title: x_title.to_owned() };
    let mut canvas = Canvas::new(x, y);
    for (i, bars) in series.iter().enumerate() {
        let colour = css_colour(i);
        // Side by side, so that bars do not hide each other.
        let shift = 0.07 * (i as f64 - (series.len() as f64 - 1.0) / 2.0);
        let points: Vec<(f64, f64)> = bars.iter().map(|bar| (bar.x + shift, bar.y)).collect();
        canvas.line(&points, &format!("stroke=\"{colour}\" stroke-width=\"1.5\" stroke-opacity=\"0.6\""));
        for (bar, &(x, y)) in bars.iter().zip(&points) {
            canvas.line(&[(x, bar.low), (x, bar.high)], &format!("stroke=\"{colour}\" stroke-width=\"2.5\""));
            let (x, y) = canvas.at(x, y);
            canvas.add(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{colour}\"/>"));
        }
    }
    Some(canvas.finish())
}

/// Clouds of points, the later ones on top.
pub fn clouds(clouds: &[Vec<(f64, f64)>], titles: [&str; 2]) -> Option<String> {
    let all = || clouds.iter().flatten();
    all().next()?;
    let range = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) = all().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        let margin = (0.04 * (high - low)).max(1e-9);
        (low - margin, high + margin)
    };
    let ((left, right), (bottom, top)) = (range(|p| p.0), range(|p| p.1));
    let (mut x, mut y) = (Axis::new(left, right, titles[0]), Axis::new(bottom, top, titles[1]));
    // Numbers along principal components mean nothing to anyone.
    x.ticks.clear();
    y.ticks.clear();
    let mut canvas = Canvas::new(x, y);
    for (i, points) in clouds.iter().enumerate() {
        let colour = css_colour(i);
        canvas.add(format_args!("<g fill=\"{colour}\" fill-opacity=\"0.55\">"));
        for &(x, y) in points {
            let (x, y) = canvas.at(x, y);
            canvas.add(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.4\"/>"));
        }
        canvas.add(format_args!("</g>"));
    }
    Some(canvas.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let labels = |axis: Axis| axis.ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>();
        assert_eq!(labels(Axis::new(0.0, 1.0, "")), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(Axis::new(3.0, 42.0, "")), ["10", "20", "30", "40"]);
        assert_eq!(labels(Axis::shares(0.41, 0.52, "")), ["42.5%", "45.0%", "47.5%", "50.0%"]);
        assert_eq!(labels(Axis::new(0.0, 0.0, "")).len(), 6);
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        assert!(histograms(&[], &[], None, ["", ""]).is_none());
        assert!(histograms(&[0.0, 1.0], &[3], Some(&[1, 2]), ["", ""]).is_some());
        assert!(histograms(&[0.0, 0.0], &[0], None, ["", ""]).is_some_and(|svg| !svg.contains("NaN")));
        assert!(histograms(&[0.0, 1.0], &[3], None, ["", "<b>"]).is_some_and(|svg| svg.contains(">&lt;b&gt;<")));
        assert!(clouds(&[vec![], vec![]], ["", ""]).is_none());
        assert!(clouds(&[vec![(1.0, 1.0)]], ["", ""]).is_some_and(|svg| !svg.contains("NaN")));
        assert!(bars(&[], &[], "", "").is_none());
        let bin = |images| CalibrationBin { low: 0.8, high: 0.9, images, confidence: 0.85, accuracy: 0.5 };
        assert!(reliability(&[bin(0)]).is_none() && reliability(&[]).is_none());
        // From 40% to 100% on 470 units from 66 on, and from 0 to 100% on 238 from 248 up: 0.85 is at 418.5, and 0.5 at 129.
        assert!(reliability(&[bin(0), bin(3)]).is_some_and(|svg| svg.contains("cx=\"418.5\" cy=\"129.0\" r=\"15.0\"")));
        assert!(rocs(&[&[(0.0, 0.0), (1.0, 1.0)]]).contains("polyline"));
    }
}
