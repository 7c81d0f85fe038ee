//! What can go wrong in a study.

use std::path::PathBuf;

/// Everything a study can fail with; each message names the file or the setting at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The run was stopped on request; a run of the same settings in the same folder goes on from there.
    #[error("stopped in stage {stage} of the study in {out}")]
    Interrupted {
        /// The stage that was under way.
        stage: String,
        /// The study's folder.
        out: PathBuf,
    },
    /// A setting has a value that makes no sense.
    #[error("setting {setting}: {problem}")]
    Setting {
        /// Dotted name of the setting, e.g. `data.side`.
        setting: &'static str,
        /// What is wrong with it, and what is allowed.
        problem: String,
    },
    /// A setting that cannot be taken.
    #[error(transparent)]
    Settings(#[from] cellforge_settings::Error),
    /// A classifier's log has no accuracy on the validation images, by which networks are compared.
    #[error("{0} has no validation accuracy after the last epoch; delete its folder and run again")]
    NoValidation(PathBuf),
    /// Where a stage would put its results lies something that no study is known to have made.
    #[error("{path} is there already and no study is known to have made it, so stage {stage} leaves it alone")]
    InTheWay {
        /// The stage.
        stage: String,
        /// The folder or file that is there.
        path: PathBuf,
    },
    /// A stage was finished or begun before from something else, and [`Control::overwrite`](crate::Control::overwrite) does not allow it to
    /// be replaced.
    #[error(
        "{path} is of stage {stage} with other settings, images, precision or earlier stages, or of another version of this program (made on {made_on}; this run is on {here})"
    )]
    Changed {
        /// The stage.
        stage: String,
        /// Its folder.
        path: PathBuf,
        /// What it was computed on then.
        made_on: String,
        /// What it would be computed on now.
        here: String,
    },
    /// The images could not be read.
    #[error(transparent)]
    Data(#[from] cellforge_data::Error),
    /// A network could not be trained, saved or loaded.
    #[error(transparent)]
    Train(#[from] cellforge_train::Error),
    /// A figure could not be computed.
    #[error(transparent)]
    Eval(#[from] cellforge_eval::Error),
    /// The synthetic images could not be evaluated, or a file of the study could not be read or written.
    #[error(transparent)]
    Assess(#[from] cellforge_assess::Error),
    /// A tensor operation failed.
    #[error("tensor operation failed")]
    Candle(#[from] candle_core::Error),
}

/// The result of a study step.
pub type Result<T> = std::result::Result<T, Error>;
