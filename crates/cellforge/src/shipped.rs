//! The data sheet of the generator that comes with the library: [`TrainedGan::builtin`](cellforge_train::TrainedGan::builtin) loads it.

pub use cellforge_train::BUILTIN_DATASHEET as DATASHEET;

/// The title of the data sheet.
#[must_use]
pub fn name() -> &'static str {
    DATASHEET.lines().next().unwrap_or_default().trim_start_matches(['#', ' '])
}
