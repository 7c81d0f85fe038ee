//! What the files and folders in a run's folder are called: one that trains, one that evaluates, and a whole study. Nothing else knows,
//! but [`Checkpoint`](crate::Checkpoint), which knows its own; a test reads the sources for it (`tests/docs.rs`).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use cellforge_data::{folder_name, is_unfinished};

use super::{RunDir, Slot};

const TENSORBOARD: &str = "tensorboard";
const LOCK: &str = ".lock";
const PAIRS: &str = "pairs";
const TELLING: &str = "telling";

impl Slot {
    fn name(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Best => "best",
        }
    }
}

/// A part of a study that has a folder in the study's: see [`RunDir::stage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The split, and a look at the images.
    Data,
    /// The small networks, each a run in a folder of its name.
    Cnn,
    /// The run of the residual network.
    Resnet,
    /// The GANs, each a run in a folder of its own.
    Gan,
    /// The synthetic images, with a folder for each class.
    Synthetic,
    /// What the classifiers said.
    Judge,
    /// What was measured of the synthetic images.
    Evaluation,
    /// The GANs of other recipes: a folder for each, with folders of these stages.
    Beside,
}

impl Stage {
    /// The name of its folder.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Cnn => "cnn",
            Self::Resnet => "resnet",
            Self::Gan => "gan",
            Self::Synthetic => "synthetic",
            Self::Judge => "judge",
            Self::Evaluation => "evaluation",
            Self::Beside => "beside",
        }
    }

    /// The folder, below the study's, of one of the runs that this stage has; parts are set apart by `/`.
    #[must_use]
    pub fn run(self, name: &str) -> String {
        format!("{}/{name}", self.folder())
    }
}

/// What every run leaves.
impl RunDir {
    /// The settings of the program that made the run, as TOML.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// What is known of each synthetic image in the folder: a CSV file.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.path.join("manifest.csv")
    }

    /// The folder of decoded images, which can be removed at any time.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }

    /// The run of the GAN of one class, beside those of the others: a folder of the class's name, or of a name like it where what lies in this folder
    /// has that.
    #[must_use]
    pub fn of_class(&self, class: &str) -> Self {
        let name = folder_name(class);
        let own = Slot::ALL.map(|slot| self.slot(slot)).into_iter().chain([self.settings(), self.cache()]);
        let is_taken = own.into_iter().any(|path| path.file_name().is_some_and(|own| own.eq_ignore_ascii_case(&name)));
        // Of a name that has to change, a hash makes it another.
        Self::new(self.path.join(if is_taken { folder_name(&format!("{class}/")) } else { name }))
    }

    /// The file that says who holds the folder.
    pub(super) fn held_by(&self) -> PathBuf {
        self.path.join(LOCK)
    }

    /// Whether a file of this name is a lock of a running program, and no output.
    #[must_use]
    pub fn is_lock(name: &OsStr) -> bool {
        name == LOCK
    }

    /// Whether a file inside a run's folder holds times of the clock, so that it differs between equal runs.
    #[must_use]
    pub fn holds_times(path: &Path) -> bool {
        path.iter().any(|part| part == TENSORBOARD)
    }
}

/// What a training leaves.
impl RunDir {
    /// The folder of a checkpoint. It may be in the middle of being replaced: [`RunDir::checkpoint`] finds the one that is whole.
    #[must_use]
    pub fn slot(&self, slot: Slot) -> PathBuf {
        self.path.join(slot.name())
    }

    /// A JSON line for each step or epoch that is logged; read it with [`crate::read_log`].
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join("log.jsonl")
    }

    /// The folder of TensorBoard's file.
    #[must_use]
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join(TENSORBOARD)
    }

    /// The folder of sample grids.
    #[must_use]
    pub fn grids(&self) -> PathBuf {
        self.path.join("grids")
    }

    /// The grid drawn after `iteration`.
    #[must_use]
    pub fn grid(&self, iteration: u64) -> PathBuf {
        self.grids().join(format!("grid-{iteration:08}.png"))
    }

    /// The page that shows the course of the trainings in the folder while they run.
    #[must_use]
    pub fn watched(&self) -> PathBuf {
        self.path.join("watch.html")
    }

    /// The figures on the test images, as JSON.
    #[must_use]
    pub fn test_figures(&self) -> PathBuf {
        self.path.join("test.json")
    }

    /// The run of a fold, counted from 1, of a cross-validation in this folder.
    #[must_use]
    pub fn fold(&self, number: usize) -> Self {
        Self::new(self.path.join(format!("fold-{number}")))
    }

    /// The figures of a cross-validation, as JSON.
    #[must_use]
    pub fn cross_validation(&self) -> PathBuf {
        self.path.join("folds.json")
    }

    /// Which images were trained on, as CSV.
    #[must_use]
    pub fn split(&self) -> PathBuf {
        self.path.join("split.csv")
    }
}

/// What an evaluation leaves.
impl RunDir {
    /// What was measured, as JSON. A study has its own here, too.
    #[must_use]
    pub fn evaluation(&self) -> PathBuf {
        self.path.join("evaluation.json")
    }

    /// The report to be read in a browser, also of a training and of a study.
    #[must_use]
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// The data sheet of the synthetic images, as Markdown, also of a study.
    #[must_use]
    pub fn datasheet(&self) -> PathBuf {
        self.path.join("datasheet.md")
    }

    /// The folder of features, which is gone when the evaluation is finished.
    #[must_use]
    pub fn features(&self) -> PathBuf {
        self.path.join("features")
    }

    /// The folder of what the networks of the utility study and of the two-sample test predicted.
    #[must_use]
    pub fn predictions(&self) -> PathBuf {
        self.path.join("runs")
    }

    /// The folder of pictures of the closest pairs.
    #[must_use]
    pub fn pairs(&self) -> PathBuf {
        self.path.join(PAIRS)
    }

    /// One of these pictures, relative to the folder, with `/` between parts: as `evaluation.json` names it.
    #[must_use]
    pub fn pair(space: &str, number: usize) -> String {
        format!("{PAIRS}/{space}-{number:02}.png")
    }

    /// The folder of pictures of what tells synthetic images from real ones.
    #[must_use]
    pub fn telling(&self) -> PathBuf {
        self.path.join(TELLING)
    }

    /// One of these pictures, relative to the folder, with `/` between parts: as `evaluation.json` names it.
    #[must_use]
    pub fn telling_picture(number: usize) -> String {
        format!("{TELLING}/{number:02}.png")
    }

    /// Every folder that an evaluation makes in its own.
    #[must_use]
    pub fn evaluation_folders(&self) -> [PathBuf; 4] {
        [self.features(), self.predictions(), self.pairs(), self.telling()]
    }
}

/// What an audit leaves.
impl RunDir {
    /// What was found, as JSON.
    #[must_use]
    pub fn audit(&self) -> PathBuf {
        self.path.join("audit.json")
    }

    /// The folder of the runs of its GANs.
    #[must_use]
    pub fn audited(&self) -> PathBuf {
        self.path.join("gans")
    }

    /// The run of one of its GANs; parts of the name are set apart by `/`.
    #[must_use]
    pub fn audited_run(&self, name: &str) -> Self {
        Self::new(self.audited().join(name))
    }
}

/// What a study leaves.
impl RunDir {
    /// The outcome of the study, as JSON.
    #[must_use]
    pub fn results(&self) -> PathBuf {
        self.path.join("results.json")
    }

    /// The folder of the records of finished stages.
    #[must_use]
    pub fn stamps(&self) -> PathBuf {
        self.path.join("stamps")
    }

    /// The folder of the records of stages that were begun.
    #[must_use]
    pub fn stamps_begun(&self) -> PathBuf {
        self.stamps().join("begun")
    }

    /// The folder of a stage.
    #[must_use]
    pub fn stage(&self, stage: Stage) -> Self {
        Self::new(self.path.join(stage.folder()))
    }

    /// The folder of one of the runs of a stage.
    #[must_use]
    pub fn run_of(&self, stage: Stage, name: &str) -> Self {
        Self::new(self.stage(stage).path.join(name))
    }

    /// The phantom of a study to which no images were given.
    #[must_use]
    pub fn phantom(&self) -> PathBuf {
        self.stage(Stage::Data).path.join("phantom.zip")
    }

    /// A look at the real images of a class, whose folder has this name.
    #[must_use]
    pub fn real_grid(&self, class: &str) -> PathBuf {
        self.stage(Stage::Data).path.join(format!("real-{class}.png"))
    }

    /// These looks, of all classes.
    ///
    /// # Errors
    /// Those of reading the folder, which need not be there.
    pub fn real_grids(&self) -> std::io::Result<Vec<PathBuf>> {
        files_named(&self.stage(Stage::Data).path, |name| name.starts_with("real-") && name.ends_with(".png"))
    }

    /// The pictures of pairs, the features of real images that an unfinished evaluation has left, and what dead writers left beside them.
    ///
    /// # Errors
    /// Those of reading the folders, which need not be there.
    pub fn pairs_and_features(&self) -> std::io::Result<Vec<PathBuf>> {
        let is_number = |text: &str| text.len() >= 2 && text.bytes().all(|b| b.is_ascii_digit());
        let is_pair = |name: &str| {
            let number = name.strip_suffix(".png").and_then(|stem| stem.rsplit_once('-')).map(|(_, number)| number);
            number.is_some_and(is_number)
        };
        let is_matrix = |name: &str| {
            let key = name.strip_suffix(".f32").unwrap_or_default();
            key.len() == 32 && key.bytes().all(|b| b.is_ascii_hexdigit())
        };
        let mut files = files_named(&self.pairs(), is_pair)?;
        files.extend(files_named(&self.features(), is_matrix)?);
        // Of a report, or of a page of raters, with pictures in it.
        files.extend(files_named(&self.path, |_| false)?);
        Ok(files)
    }

    /// What the classifiers of a study said, as JSON.
    #[must_use]
    pub fn judgement(&self) -> PathBuf {
        self.stage(Stage::Judge).path.join("judgement.json")
    }

    /// The folder to load a classifier from: where this is a study's, that of its residual network after the last epoch, else this one.
    #[must_use]
    pub fn classifier(&self) -> PathBuf {
        let of_study = self.stage(Stage::Resnet).slot(Slot::Last);
        if of_study.is_dir() { of_study } else { self.path.clone() }
    }
}

/// The files of a folder whose names are of a kind, in order, and what dead writers left of such. None where it is no folder; a link is none, and
/// is no file.
fn files_named(folder: &Path, is_ours: impl Fn(&str) -> bool) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if std::fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_dir()) {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let is_ours = |name: &OsStr| name.to_str().is_some_and(&is_ours) || is_unfinished(name);
            if entry.file_type()?.is_file() && is_ours(&entry.file_name()) {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_has_a_folder_that_is_no_checkpoint() {
        let run = RunDir::new("gans");
        assert_eq!(run.of_class("Uninfected").path, Path::new("gans/Uninfected"));
        let others = ["last", "best", "Last", "cache", "config.toml"].map(|class| run.of_class(class));
        for (i, other) in others.iter().enumerate() {
            let name = other.path.file_name().unwrap().to_str().unwrap();
            assert!(name.contains("_-"), "{name}");
            assert!(others[..i].iter().all(|before| before.path != other.path));
        }
    }
}
