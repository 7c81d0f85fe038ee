//! `cellforge clean`: what holds pixels of real images goes, what was found with them stays.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use cellforge::{
    assess::{
        Evaluation,
        evaluation::EVALUATION_SCHEMA,
        files::{read_json, write_json},
        report,
    },
    data::{MAX_TEXT_BYTES, cached_images, counted, read_bounded},
    study::{self, Results, results::SCHEMA_VERSION},
    train::{Error, GAN_RECIPES, RunDir, Stage},
};

use crate::{
    common::{is_of, remove_if_there, save, say},
    panel,
};

/// How deep folders of runs lie in one another.
const MAX_DEPTH: usize = 8;

/// Arguments of `clean`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge clean evaluation --dry-run
  cellforge clean runs/best

What holds pixels of real images is listed, and then removed: decoded images in caches, pictures of copies and of closest pairs, looks at the
images of a study, features of an evaluation that was stopped, and the page of a panel. Reports that showed such pictures are drawn again
without them, or removed where their figures are gone. Checkpoints, figures and logs stay, and so do synthetic images and what `data split
--folders` copied.

What is run again in the folder makes its cache and pictures anew; a study does its evaluation again.")]
pub struct Args {
    /// The folder of a run, an evaluation, a study or a panel, or one around several of them
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Only list what would be removed
    #[arg(long)]
    dry_run: bool,
}

/// What is to go, and which reports are to be drawn again.
#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    /// Folders that go when nothing is left in them.
    folders: Vec<PathBuf>,
    reports: Vec<Report>,
    /// Links to folders, and folders that lie too deep.
    unseen: Vec<PathBuf>,
    /// Nobody works in these folders meanwhile.
    held: Vec<File>,
}

/// What tells of pictures with real images: a folder's figures, its report, or both.
struct Report {
    folder: PathBuf,
    evaluation: Option<Evaluation>,
    study: Option<Results>,
}

pub fn run(args: &Args) -> Result<()> {
    let Args { dir, dry_run } = args;
    if !dir.is_dir() {
        bail!("{} is no folder", dir.display());
    }
    let mut found = Found::default();
    // A run may hold the folder by one around it, and a report there may show what lies here.
    let whole = fs::canonicalize(dir).with_context(|| format!("cannot look into {}", dir.display()))?;
    for (at, around) in whole.ancestors().skip(1).enumerate() {
        let run = RunDir::new(around);
        // A run that has only begun has nothing but its lock. Further up, others may have files of that name.
        if at == 0 || run.holds_run() || study::is_study(around) || is_evaluation(around) {
            match run.hold() {
                Ok(held) => found.held.extend(held),
                Err(busy @ Error::Busy { .. }) => return Err(busy.into()),
                Err(_) => {}
            }
        }
        if shows_real_images(around) {
            tracing::warn!("{} has a report with pictures of real images: clean that folder too", around.display());
        }
    }
    found.look(dir, 0)?;
    for folder in &found.unseen {
        tracing::warn!("{} is not looked into: it is a link, or lies too deep", folder.display());
    }
    if found.files.is_empty() && found.reports.is_empty() {
        say(format!("{}: nothing in it is known to hold pixels of real images", dir.display()));
        return Ok(());
    }
    let mut bytes = 0;
    for file in &found.files {
        let size = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
        say(format!("{} ({} KiB)", file.display(), size.div_ceil(1024)));
        bytes += size;
    }
    for report in &found.reports {
        let dir = RunDir::new(&report.folder);
        let how = if report.can_be_drawn() { "is drawn again without pictures of real images" } else { "is removed" };
        for (file, how) in [
            (dir.report(), how),
            (dir.evaluation(), "names no such picture any more"),
            (dir.results(), "names no such picture any more"),
        ] {
            if is_file(&file) {
                say(format!("{} ({how})", file.display()));
            }
        }
    }
    let total = format!("{} of {} KiB", counted(found.files.len(), "file", "files"), bytes.div_ceil(1024));
    if *dry_run {
        say(format!("{total} would be removed"));
        return Ok(());
    }
    found.remove()?;
    say(format!("{total} removed"));
    Ok(())
}

/// Whether a path is a file, and no link to one.
fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
}

/// Whether a folder is that of an evaluation.
fn is_evaluation(folder: &Path) -> bool {
    is_of(folder, "evaluate") || read::<Evaluation>(&RunDir::new(folder).evaluation()).is_some()
}

/// Whether the report in a folder is one of ours with pictures of real images.
fn shows_real_images(folder: &Path) -> bool {
    let report = RunDir::new(folder).report();
    is_file(&report)
        && read_bounded(&report, MAX_TEXT_BYTES)
            .is_ok_and(|page| report::shows_real_images(&String::from_utf8_lossy(&page)))
}

impl Found {
    /// Looks through a folder and those in it.
    fn look(&mut self, folder: &Path, depth: usize) -> Result<()> {
        let failed = || format!("cannot look into {}", folder.display());
        let dir = RunDir::new(folder);
        self.held.extend(dir.hold()?);
        let mut inside = Vec::new();
        for entry in fs::read_dir(folder).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            let kind = entry.file_type().with_context(failed)?;
            // No link is followed out of the folder.
            if kind.is_symlink() && entry.path().is_dir() || kind.is_dir() && depth == MAX_DEPTH {
                self.unseen.push(entry.path());
            } else if kind.is_dir() {
                inside.push(entry.path());
            }
        }
        inside.sort();

        for file in cached_images(folder)? {
            let open = File::options()
                .read(true)
                .write(true)
                .open(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            if let Err(TryLockError::WouldBlock) = open.try_lock() {
                bail!("{} is being written: wait until that has ended", file.display());
            }
            self.held.push(open);
            self.files.push(file);
            self.folders.push(folder.to_path_buf());
        }
        // What is no evaluation or study by what it holds is somebody else's, whatever it is called.
        let evaluation =
            read::<Evaluation>(&dir.evaluation()).filter(|found| found.schema_version == EVALUATION_SCHEMA);
        let study = read::<Results>(&dir.results()).filter(|found| found.schema_version == SCHEMA_VERSION);
        if study.is_some() || study::is_study(folder) {
            self.files.extend(dir.real_grids().with_context(failed)?);
            // Until it is finished, its evaluation has neither figures nor settings of its own.
            self.judged(&dir.stage(Stage::Evaluation)).with_context(failed)?;
            for recipe in GAN_RECIPES {
                self.judged(&dir.run_of(Stage::Beside, recipe.name).stage(Stage::Evaluation)).with_context(failed)?;
            }
        }
        if evaluation.is_some() || is_of(folder, "evaluate") {
            self.judged(&dir).with_context(failed)?;
        }
        let told = [evaluation.as_ref(), study.as_ref().and_then(|study| study.evaluation.as_ref())];
        if shows_real_images(folder) || told.into_iter().flatten().any(|found| !found.pairs.is_empty()) {
            self.reports.push(Report { folder: folder.to_path_buf(), evaluation, study });
        }
        let page = folder.join(panel::PAGE);
        if is_of(folder, panel::VERB) && is_file(&page) {
            self.files.push(page);
        }
        inside.iter().try_for_each(|folder| self.look(folder, depth + 1))
    }

    /// What an evaluation has of real images in its folder.
    fn judged(&mut self, dir: &RunDir) -> std::io::Result<()> {
        let known = self.files.len();
        for file in dir.pairs_and_features()? {
            if !self.files[..known].contains(&file) {
                self.files.push(file);
            }
        }
        self.folders.extend([dir.pairs(), dir.features()]);
        Ok(())
    }

    /// Draws reports without the pictures, and removes what holds them. Pictures go last: a report names none that is gone.
    fn remove(self) -> Result<()> {
        self.reports.into_iter().try_for_each(Report::draw)?;
        for file in &self.files {
            fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
        // What is not empty holds files of others.
        for folder in &self.folders {
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }
}

/// A record that is there, whole and no link.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    is_file(path).then(|| read_json(path).ok()).flatten()
}

impl Report {
    /// The report of these figures as they are, or why there is none.
    fn page(
        evaluation: Option<&Evaluation>,
        study: Option<&Results>,
        folder: &Path,
    ) -> std::result::Result<String, String> {
        match (study, evaluation) {
            (Some(found), _) => study::report::render(found, folder).map_err(|error| error.to_string()),
            (None, Some(found)) => report::render(found, folder).map_err(|error| error.to_string()),
            (None, None) => Err("its figures are not there, or of another version".to_owned()),
        }
    }

    /// Whether there is all that the report is drawn from, apart from pictures of real images.
    fn can_be_drawn(&self) -> bool {
        let (evaluation, study) = self.bare();
        Self::page(evaluation.as_ref(), study.as_ref(), &self.folder).is_ok()
    }

    /// The figures without pictures of real images.
    fn bare(&self) -> (Option<Evaluation>, Option<Results>) {
        let bare = |found: &Evaluation| Evaluation { pairs: Vec::new(), ..found.clone() };
        let of_study = |found: &Results| Results { evaluation: found.evaluation.as_ref().map(bare), ..found.clone() };
        (self.evaluation.as_ref().map(bare), self.study.as_ref().map(of_study))
    }

    /// Writes the figures, and draws the report, without pictures of real images. A report that cannot be drawn is removed.
    fn draw(self) -> Result<()> {
        let (evaluation, study) = self.bare();
        let dir = RunDir::new(&self.folder);
        if let Some(found) = &evaluation {
            write_json(&dir.evaluation(), found)?;
        }
        if let Some(found) = &study {
            write_json(&dir.results(), found)?;
        }
        let path = dir.report();
        // A link leads to somebody else's file.
        if !is_file(&path) {
            return Ok(());
        }
        match Self::page(evaluation.as_ref(), study.as_ref(), &self.folder) {
            Ok(page) => save(&path, &page),
            Err(reason) => {
                tracing::warn!("{} is removed, for it cannot be drawn again: {reason}", path.display());
                remove_if_there(&path)
            }
        }
    }
}
