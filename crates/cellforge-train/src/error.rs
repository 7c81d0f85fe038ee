use std::path::{Path, PathBuf};

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a run could not start, go on or be read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// Images could not be read or batched.
    #[error(transparent)]
    Data(#[from] cellforge_data::Error),
    /// A PNG could not be encoded.
    #[error("cannot encode {path} as PNG: {source}")]
    Png {
        /// The file or TensorBoard tag it was meant for.
        path: PathBuf,
        /// The encoder's error.
        source: image::ImageError,
    },
    /// A setting is out of its range.
    #[error("{field}: {reason}")]
    Invalid {
        /// The setting's name.
        field: &'static str,
        /// What is wrong with it and what is allowed.
        reason: String,
    },
    /// A setting that cannot be taken.
    #[error(transparent)]
    Settings(#[from] cellforge_settings::Error),
    /// A loss or a weight became NaN or infinite.
    #[error("{name} became {value} at iteration {iteration}: training has diverged. Nothing of this step was saved")]
    Diverged {
        /// Which loss, or which tensor.
        name: String,
        /// Its value.
        value: f32,
        /// The iteration that produced it, counted from 1.
        iteration: u64,
    },
    /// A loss became larger than the guard allows.
    #[error("{name} became {value} at iteration {iteration}, beyond the limit of {limit}: training has exploded")]
    Exploded {
        /// Which loss.
        name: String,
        /// Its value.
        value: f32,
        /// The highest magnitude allowed.
        limit: f64,
        /// The iteration that produced it, counted from 1.
        iteration: u64,
    },
    /// The generator makes ever the same images.
    #[error(
        "{figure} was {value}, below {bound}, at iteration {iteration} and too low at the point before: the generator has collapsed"
    )]
    Collapsed {
        /// The monitor's figure.
        figure: &'static str,
        /// Its value.
        value: f32,
        /// What it should have reached.
        bound: f32,
        /// The iteration that was judged, counted from 1.
        iteration: u64,
    },
    /// The guard has gone back as often as it may.
    #[error(
        "{source}. The run went back {rollbacks} times, to no avail; {}",
        last_good(.checkpoint.as_deref())
    )]
    Unstable {
        /// How often it went back.
        rollbacks: usize,
        /// The last good checkpoint's folder; none if there was none yet.
        checkpoint: Option<PathBuf>,
        /// What went wrong once more.
        source: Box<Error>,
    },
    /// Figures could not be computed.
    #[error(transparent)]
    Figures(#[from] cellforge_eval::Error),
    /// Another process is working in the same folder.
    #[error("another run{} is using {path}", process(.holder))]
    Busy {
        /// The folder.
        path: PathBuf,
        /// What the other process says about itself, where that can be read.
        holder: Option<String>,
    },
    /// The output folder already holds a run.
    #[error("{0} already holds a run")]
    Occupied(PathBuf),
    /// A run cannot go on as one of another length: it would end otherwise than if it had been started so.
    #[error("cannot go on to {length}: {reason}")]
    Length {
        /// The length that was asked for, such as "400 iterations".
        length: String,
        /// What would have been different so far.
        reason: String,
    },
    /// A resumed run was given other settings than it was started with.
    #[error("cannot resume: {field} is {given} but the checkpoint in {path} was made with {saved}")]
    Mismatch {
        /// The setting, as a dotted path.
        field: String,
        /// Its value in the checkpoint.
        saved: String,
        /// Its value now.
        given: String,
        /// The checkpoint's folder.
        path: PathBuf,
    },
    /// No checkpoint where one was expected.
    #[error(
        "no checkpoint in {0}: expected a folder with state.json and weights.safetensors, or a run with last/ or best/"
    )]
    NoCheckpoint(PathBuf),
    /// A checkpoint's files do not fit together.
    #[error("checkpoint {path} is damaged: {reason}")]
    Damaged {
        /// The checkpoint's folder.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A checkpoint of another kind or format than the one asked for.
    #[error("checkpoint {path} cannot be used here: {reason}")]
    Unsuitable {
        /// The checkpoint's folder.
        path: PathBuf,
        /// What it is and what was expected.
        reason: String,
    },
    /// A file of weights or features that the user brought along is not what it should be.
    #[error("{path}: {reason}")]
    Supplied {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// A rank failed. Every other rank has this error.
    #[error("rank {rank}: {reason}")]
    Rank {
        /// Which of the ranks.
        rank: usize,
        /// What it said.
        reason: String,
    },
    /// Ranks have lost each other, or do not fit together.
    #[error("{0}")]
    Collective(String),
    /// Rank 0 has gone back to an earlier checkpoint, and the others with it. [`train_gan`](crate::train_gan) heeds it.
    #[error("rank 0 has gone back to an earlier checkpoint")]
    WentBack,
    /// A step, an observer or a batch of the caller's own failed: see [`Error::caller`].
    #[error(transparent)]
    Caller(Box<dyn std::error::Error + Send + Sync>),
}

fn process(holder: &Option<String>) -> String {
    holder.as_ref().map_or_else(String::new, |holder| format!(" ({holder})"))
}

fn last_good(checkpoint: Option<&Path>) -> String {
    match checkpoint {
        Some(path) => format!("the last good checkpoint is {}", path.display()),
        None => "no good checkpoint had been written yet".to_owned(),
    }
}

impl Error {
    /// Carries an error of the caller's own through [`fit`](crate::fit), out of a step, an observer or what makes batches.
    ///
    /// ```
    /// use cellforge_train::Error;
    /// let error = "three".parse::<u8>().map_err(Error::caller).unwrap_err();
    /// assert_eq!(error.to_string(), "invalid digit found in string");
    /// ```
    pub fn caller(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Caller(error.into())
    }

    /// Whether every rank knows of it, so that it need not be told ([`Ranks::end`](crate::Ranks::end)).
    #[must_use]
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Rank { .. } | Self::Collective(_))
    }

    /// For `map_err`: names the file that a system error is about.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
        move |source| Error::Io { path: path.to_path_buf(), source }
    }
}
