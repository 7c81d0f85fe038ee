//! What can go wrong in an evaluation.

use std::path::{Path, PathBuf};

/// Everything an evaluation can fail with; each message names the file or the setting at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It was stopped on request.
    #[error("stopped")]
    Interrupted,
    /// A setting that cannot be taken.
    #[error(transparent)]
    Settings(#[from] cellforge_settings::Error),
    /// A setting has a value that makes no sense.
    #[error("setting {setting}: {problem}")]
    Setting {
        /// Dotted name of the setting, e.g. `data.side`.
        setting: &'static str,
        /// What is wrong with it, and what is allowed.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {path}")]
    Io {
        /// "read", "write", "create", ...
        action: &'static str,
        /// The file or folder at fault.
        path: PathBuf,
        /// The reason the system gave.
        source: std::io::Error,
    },
    /// A JSON file is damaged.
    #[error("{path} is not a file this version can read; delete it and run again")]
    Json {
        /// The file at fault.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
    /// The images of a utility study do not fit together.
    #[error("utility, {part} images: {problem}")]
    UtilityImages {
        /// "training", "test" or "synthetic".
        part: &'static str,
        /// What is wrong, and what is needed.
        problem: String,
    },
    /// A network of a utility study could not be trained, or could not predict.
    #[error("utility, run {run}: the classifier failed")]
    UtilityRun {
        /// Which of the trainings.
        run: String,
        /// The reason.
        source: Box<cellforge_train::Error>,
    },
    /// A network of a two-sample test could not be trained, or could not score.
    #[error("two-sample test, run {run}: the network failed")]
    TwoSampleRun {
        /// Which of the trainings.
        run: String,
        /// The reason.
        source: Box<cellforge_train::Error>,
    },
    /// A network that learns to tell patients apart could not be trained, or could not judge.
    #[error("re-identification, network {run} of 2: it failed")]
    ReidentificationRun {
        /// Which of the two.
        run: usize,
        /// The reason.
        source: Box<cellforge_train::Error>,
    },
    /// The images of an evaluation do not fit together.
    #[error("evaluation, {part} images: {problem}")]
    EvaluationImages {
        /// "real", "holdout" or "synthetic".
        part: &'static str,
        /// What is wrong, and what is needed.
        problem: String,
    },
    /// The images of an audit do not do.
    #[error("audit, images: {0}")]
    AuditImages(String),
    /// The images of a panel do not fit together.
    #[error("panel, images: {0}")]
    PanelImages(String),
    /// The answers to a panel do not fit together.
    #[error("panel, answers: {0}")]
    PanelAnswers(String),
    /// A file of a panel is not what it should be.
    #[error("{path}{at}: {problem}", at = if *line == 0 { String::new() } else { format!(", line {line}") })]
    PanelFile {
        /// The key or the answers.
        path: PathBuf,
        /// The line at fault, or 0 for the whole file.
        line: u64,
        /// What is wrong, and what is needed.
        problem: String,
    },
    /// A discriminator does not fit the images of an evaluation.
    #[error("the discriminator in {path} cannot be used: {problem}")]
    Discriminator {
        /// Its folder.
        path: PathBuf,
        /// What is wrong, and what is needed.
        problem: String,
    },
    /// Images could not be read.
    #[error(transparent)]
    Data(#[from] cellforge_data::Error),
    /// A network could not be trained, saved or loaded.
    #[error(transparent)]
    Train(#[from] cellforge_train::Error),
    /// A figure could not be computed.
    #[error(transparent)]
    Eval(#[from] cellforge_eval::Error),
    /// A tensor operation failed.
    #[error("tensor operation failed")]
    Candle(#[from] candle_core::Error),
}

/// The result of a step of an evaluation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// [`Error::Io`] about `path`, of what the system says: `action` is "read", "write", "create", ...
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// [`Error::Json`] about `path`.
    pub fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Json { path, source }
    }
}
