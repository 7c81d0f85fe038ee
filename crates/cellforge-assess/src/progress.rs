//! A progress bar on a terminal, or lines in the log elsewhere.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressStyle};

/// One bar over all of a piece of work; a line for each part of it, with the time that is left, where there is no terminal to draw on.
pub struct ProgressBar {
    what: String,
    bar: Option<indicatif::ProgressBar>,
    lines: bool,
    total: u64,
    done: Cell<u64>,
    /// Of these, done before.
    before: Cell<u64>,
    clock: Instant,
}

impl ProgressBar {
    /// A bar for `what`, of `total` steps. Nothing is shown unless it is `wanted`.
    pub fn new(wanted: bool, what: impl Into<String>, total: u64) -> Self {
        let what = what.into();
        let drawn = wanted && std::io::stderr().is_terminal();
        let bar = drawn.then(|| {
            let style = "{prefix} [{bar:24}] {pos}/{len} {per_sec} {eta} left {msg}";
            // The template is a constant, so that a failure to parse it would show in any run.
            let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
            indicatif::ProgressBar::new(total).with_style(style).with_prefix(what.clone())
        });
        let (done, before, clock) = (Cell::new(0), Cell::new(0), Instant::now());
        Self { what, bar, lines: wanted && !drawn, total, done, before, clock }
    }

    /// Names the part that is next.
    pub fn name(&self, name: String) {
        match &self.bar {
            Some(bar) => bar.set_message(name),
            None if self.lines => {
                let left = time_left([self.before.get(), self.done.get(), self.total], self.clock.elapsed());
                let left = left.map_or_else(String::new, |left| format!(", {} left", HumanDuration(left)));
                tracing::info!("{}: {name}{left}", self.what);
            }
            None => {}
        }
    }

    /// Counts steps that were just done.
    pub fn advance(&self, steps: u64) {
        self.set(self.done.get() + steps);
    }

    /// Tells how many steps are done in all.
    pub fn set(&self, done: u64) {
        self.done.set(done);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// Counts steps that were done before.
    pub fn skip(&self, steps: u64) {
        self.advance(steps);
        self.before.set(self.before.get() + steps);
        if let Some(bar) = &self.bar {
            bar.reset_eta();
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The time that the rest takes at the pace so far, which is that of the steps not done before; none where there is no pace yet.
fn time_left([before, done, total]: [u64; 3], elapsed: Duration) -> Option<Duration> {
    let own = done.checked_sub(before).filter(|own| *own > 0)?;
    let seconds = elapsed.as_secs_f64() * total.saturating_sub(done) as f64 / own as f64;
    (seconds > 0.0).then(|| Duration::from_secs_f64(seconds))
}

impl Drop for ProgressBar {
    /// Leaves the bar as it stands where the work was stopped or failed.
    fn drop(&mut self) {
        if let Some(bar) = self.bar.as_ref().filter(|bar| !bar.is_finished()) {
            bar.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_the_pace_says() {
        let minute = Duration::from_secs(60);
        // Of 60 steps 10 were done before and 10 in a minute: 40 are left.
        assert_eq!(time_left([10, 20, 60], minute), Some(4 * minute));
        assert_eq!(time_left([10, 10, 60], minute), None);
        assert_eq!(time_left([0, 60, 60], minute), None);
    }
}
