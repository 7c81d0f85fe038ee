use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{Event, Observer, Outcome, Phase, Position, Result, Step};

/// How often a plain line is logged where there is no terminal to draw on.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// A progress bar on the error stream with losses, rate and time left; where that is no terminal, a line through
/// `tracing::info!` every ten seconds and after every epoch. Steps with figures have a line of their own in either.
#[derive(Debug)]
pub struct Progress {
    label: String,
    bar: Option<ProgressBar>,
    start: u64,
    began: Instant,
    last_line: Instant,
}

impl Progress {
    /// `label` says what is being trained.
    pub fn new(label: impl Into<String>) -> Self {
        let now = Instant::now();
        Self { label: label.into(), bar: None, start: 0, began: now, last_line: now }
    }

    fn line(&mut self, event: &Event<'_>) {
        let done = event.position.iteration;
        let rate = (done - self.start) as f64 / self.began.elapsed().as_secs_f64().max(1e-9);
        let left = Duration::from_secs_f64((event.total - done) as f64 / rate.max(1e-9));
        tracing::info!(
            "{}: {done}/{} {} {rate:.2} it/s, {} left",
            self.label,
            event.total,
            show(event),
            indicatif::HumanDuration(left)
        );
        self.last_line = Instant::now();
    }
}

fn show(event: &Event<'_>) -> String {
    event.values().map(|(name, value)| format!("{name} {value:.4}")).collect::<Vec<_>>().join(" ")
}

impl<S: Step> Observer<S> for Progress {
    fn phase(&self) -> Phase {
        Phase::Show
    }

    fn wants(&self, _iteration: u64, _total: u64) -> bool {
        false
    }

    fn on_start(&mut self, _step: &mut S, start: &Position, total: u64) -> Result<()> {
        self.start = start.iteration;
        self.began = Instant::now();
        self.last_line = self.began;
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(total);
            let style = "{prefix} [{bar:24}] {pos}/{len} {per_sec} {eta} left {msg}";
            // The template is a constant, so that a failure to parse it would show in any run.
            bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(self.label.clone());
            bar.set_position(start.iteration);
            bar.reset_eta();
            self.bar = Some(bar);
        }
        Ok(())
    }

    fn on_step(&mut self, _step: &mut S, event: &mut Event<'_>) -> Result<()> {
        match &self.bar {
            Some(bar) => {
                bar.set_position(event.position.iteration);
                if event.figures.is_empty() {
                    bar.set_message(show(event));
                } else {
                    bar.println(format!("{}: iteration {} {}", self.label, event.position.iteration, show(event)));
                }
            }
            None if !event.figures.is_empty() => self.line(event),
            None if self.last_line.elapsed() >= PLAIN_EVERY && !event.ends_epoch => self.line(event),
            None => {}
        }
        Ok(())
    }

    fn on_epoch(&mut self, _step: &mut S, event: &mut Event<'_>) -> Result<()> {
        match &self.bar {
            Some(bar) => bar.println(format!("{}: epoch {} {}", self.label, event.position.epoch, show(event))),
            None => self.line(event),
        }
        Ok(())
    }

    fn on_stop(&mut self, _step: &mut S, outcome: &Outcome) -> Result<()> {
        match &self.bar {
            Some(bar) if outcome.interrupted => bar.abandon(),
            Some(bar) => bar.finish(),
            None => {
                let how = if outcome.interrupted { "stopped" } else { "done" };
                tracing::info!("{}: {how} after iteration {}", self.label, outcome.position.iteration);
            }
        }
        Ok(())
    }
}
