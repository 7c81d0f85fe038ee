//! Numbers and small pieces of page that every section uses.

use cellforge_eval::{ClassifierReport, Estimate, Proportion};
use maud::{Markup, html};

/// 27558 as `27,558`.
pub fn count(n: impl TryInto<u64>) -> String {
    let digits = n.try_into().unwrap_or(u64::MAX).to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// 0.3 as `30.0%`.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1}%", 100.0 * share) } else { "not known".to_owned() }
}

/// An interval of shares as `27.2–32.9%`.
pub fn percent_range(low: f64, high: f64) -> String {
    format!("{:.1}–{:.1}%", 100.0 * low, 100.0 * high)
}

/// A figure with its interval on a line of its own, in a table cell.
pub fn with_interval(value: &str, range: &str) -> Markup {
    html! { span.value { (value) } " " span.range { (range) } }
}

/// An accuracy with its interval.
pub fn accuracy(report: &ClassifierReport) -> Markup {
    let interval = report.accuracy_interval;
    with_interval(&percent(report.accuracy), &percent_range(interval.low, interval.high))
}

/// A share with its interval.
pub fn proportion(p: &Proportion) -> Markup {
    if p.total == 0 {
        return html! { span.muted { "none" } };
    }
    with_interval(&percent(p.rate), &percent_range(p.low, p.high))
}

/// A figure such as F1 or an area, to three decimals.
pub fn estimate(e: &Estimate) -> Markup {
    with_interval(&format!("{:.3}", e.value), &format!("{:.3}–{:.3}", e.low, e.high))
}

/// A table that scrolls by itself where the page is narrower than it.
pub fn table(caption: &str, body: Markup) -> Markup {
    html! {
        figure.table {
            // Outside the scrolled part, so that a narrow screen does not cut it.
            figcaption { (caption) }
            div.scroll role="region" tabindex="0" aria-label=(caption) { table aria-label=(caption) { (body) } }
        }
    }
}

/// Seconds in words.
pub fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else if seconds < 5400.0 {
        format!("{:.1} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3600.0)
    }
}

/// A figure with a plot, its legend and what there is to say about it.
pub fn plot(title: &str, series: &[crate::plots::Series], axes: &crate::plots::Axes) -> Markup {
    let Some(drawn) = crate::plots::lines(series, axes) else {
        return html! {};
    };
    let names = series.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
    html! {
        figure.plot {
            figcaption { (title) }
            ul.legend {
                @for (i, s) in series.iter().enumerate() {
                    li { span.swatch style={ "background:" (crate::plots::css_colour(i)) } {} (s.name) }
                }
            }
            div role="img" aria-label={ (title) ": " (axes.y) " by " (axes.x) ". Curves: " (names) "." } { (maud::PreEscaped(drawn.svg)) }
            @if drawn.cut > 0 {
                p.note { (count(drawn.cut as u64)) " points above " (format!("{:.2}", drawn.top)) " are drawn at the top edge." }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0_u64, 999, 1000, 27_558, 2_164_174].map(count), ["0", "999", "1,000", "27,558", "2,164,174"]);
        assert_eq!(percent(0.991), "99.1%");
        assert_eq!(percent_range(0.27241, 0.32912), "27.2–32.9%");
        assert_eq!([5.0, 90.0, 7200.0].map(duration), ["5.0 s", "1.5 min", "2.0 h"]);
    }
}
