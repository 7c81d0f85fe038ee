//! How far work has come that takes long.

use std::sync::Arc;

/// Whoever wants to know how far reading images, or a download, has come: a function that is told how much is done, and of how much in
/// all where that is known. It is called from many threads, and for the last time when all is done.
///
/// ```
/// use cellforge_data::{OpenOptions, Progress};
///
/// let mut options = OpenOptions::new(64, 3);
/// options.progress = Some(Progress::new(|done, total| {
///     if Some(done) == total {
///         // All of them.
///     }
/// }));
/// ```
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(u64, Option<u64>) + Send + Sync>);

impl Progress {
    /// Tells `told`.
    pub fn new(told: impl Fn(u64, Option<u64>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    /// Draws a bar of images on standard error, where that is a terminal.
    #[cfg(feature = "progress")]
    #[must_use]
    pub fn images_bar() -> Self {
        Self::bar("decoding {wide_bar} {pos}/{len} images, {eta} left")
    }

    /// Draws a bar of bytes on standard error, where that is a terminal.
    #[cfg(feature = "progress")]
    #[must_use]
    pub fn bytes_bar() -> Self {
        Self::bar("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left")
    }

    #[cfg(feature = "progress")]
    fn bar(template: &'static str) -> Self {
        use indicatif::{ProgressBar, ProgressStyle};
        use std::io::IsTerminal;
        use std::sync::OnceLock;

        let bar = OnceLock::new();
        Self::new(move |done, total| {
            if !std::io::stderr().is_terminal() {
                return;
            }
            // A bar that was made before there is anything to tell would stand there empty.
            let bar: &ProgressBar = bar.get_or_init(|| {
                let style = ProgressStyle::with_template(template);
                ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            });
            if let Some(total) = total {
                if bar.is_finished() {
                    bar.reset();
                }
                bar.set_length(total);
            }
            bar.set_position(done);
            if Some(done) == total {
                bar.finish_and_clear();
            }
        })
    }

    pub(crate) fn tell(&self, done: u64, total: Option<u64>) {
        (self.0)(done, total);
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}
