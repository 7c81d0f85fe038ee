//! A progress bar on a terminal, or lines in the log elsewhere.

use std::io::IsTerminal;

use indicatif::ProgressStyle;

/// One bar over all of a piece of work; a line for each part of it where there is no terminal to draw on.
pub struct ProgressBar {
    what: String,
    bar: Option<indicatif::ProgressBar>,
    lines: bool,
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
        Self { what, bar, lines: wanted && !drawn }
    }

    /// Names the part that is next.
    pub fn name(&self, name: String) {
        match &self.bar {
            Some(bar) => bar.set_message(name),
            None if self.lines => tracing::info!("{}: {name}", self.what),
            None => {}
        }
    }

    /// Counts steps that were just done.
    pub fn advance(&self, steps: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(steps);
        }
    }

    /// Tells how many steps are done in all.
    pub fn set(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// Counts steps that were done before.
    pub fn skip(&self, steps: u64) {
        self.advance(steps);
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

impl Drop for ProgressBar {
    /// Leaves the bar as it stands where the work was stopped or failed.
    fn drop(&mut self) {
        if let Some(bar) = self.bar.as_ref().filter(|bar| !bar.is_finished()) {
            bar.abandon();
        }
    }
}
