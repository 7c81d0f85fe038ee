//! `cellforge data`: look at, render, download and split sets of images.

mod info;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cellforge::{
    data::{self, Progress, Split, View, counted, fetch, phantom},
    settings::Layer,
    study::{self, StudyConfig},
    train::RunDir,
};

use crate::{
    common::{
        Given, Globals, Session, Shorthands, check_free, check_outside, effective, is_of, nested, save_beside,
        save_effective, save_shared, say, settings, settings_beside, with_reading,
    },
    images::{self, settled},
};

/// What to do with images.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Read all images and report classes, patients, kinds of images, and what was left out
    Info(info::InfoArgs),
    /// Render the phantom: stand-in images that come from no patient
    Phantom(PhantomArgs),
    /// Download the images of the study (337 MB)
    Fetch(FetchArgs),
    /// Split a set into training, validation and test parts, saved as CSV or as folders
    Split(SplitArgs),
}

/// Arguments of `data phantom`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge data phantom --out phantom.zip
  cellforge data phantom --out phantom --images-per-class 100 --patients 8 --seed 7")]
pub struct PhantomArgs {
    /// A folder, or a file that ends in .zip
    #[arg(long, value_name = "DIR|FILE.zip")]
    out: PathBuf,
    #[command(flatten)]
    given: Given<PhantomShorthands>,
    /// Also write a mask of what each image of the first class shows (for a folder)
    #[arg(long)]
    masks: bool,
    /// Replace a zip that is there
    #[arg(long)]
    overwrite: bool,
}

/// Arguments of `data fetch`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge data fetch
  cellforge data fetch --out datasets
  cellforge data fetch --out downloads/images.zip
  cellforge data fetch --url https://example.org/mirror/images.zip --sha256 HEX

A download that was cut short resumes. The images are courtesy of the U.S. National Library of Medicine;
cite Rajaraman et al. 2018, PeerJ 6:e4568.")]
pub struct FetchArgs {
    /// Where to download from [default: the National Library of Medicine]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The file to write, or a folder (a name without an ending) to write it into [default: the name it has there]
    #[arg(long, value_name = "FILE|DIR")]
    out: Option<PathBuf>,
    /// Expected SHA-256; a file with another is refused
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Expected length in bytes; a file with another is refused
    #[arg(long, value_name = "BYTES")]
    length: Option<u64>,
}

/// Arguments of `data split`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge data split images.zip --out split.csv
  cellforge data split images.zip --by image --val 0.1 --test 0.2 --out split.csv
  cellforge data split images.zip --folds 5 --out fold.csv        (fold-1.csv to fold-5.csv)
  cellforge data split images.zip --folders parts        (parts/train/CLASS, parts/val/CLASS, parts/test/CLASS)
  cellforge data split images --out split.csv        (as folders train and test have it, where there are such)

With --folders DIR the files are copied, byte for byte. DIR/images.csv has the class, the group and the original path of each: it is a table
for --table, with --name name --label class --group group --side-column split.")]
pub struct SplitArgs {
    /// Folder or zip of images, or a file that holds many
    #[arg(value_name = "PATH")]
    path: String,
    #[command(flatten)]
    given: Given<SplitShorthands>,
    /// The CSV file to write
    #[arg(long, value_name = "FILE.csv", required_unless_present = "folders")]
    out: Option<PathBuf>,
    /// Copy the images into folders of parts and classes below this one
    #[arg(long, value_name = "DIR", conflicts_with = "folds")]
    folders: Option<PathBuf>,
    /// Replace files that are there, and folders that --folders made
    #[arg(long)]
    overwrite: bool,
}

pub fn run(globals: Globals, command: &Command) -> Result<()> {
    match command {
        Command::Info(args) => info::run(globals, args),
        Command::Phantom(args) => render(globals, args),
        Command::Fetch(args) => download(globals, args),
        Command::Split(args) => split(globals, args),
    }
}

/// The shorthands of `data phantom`.
pub struct PhantomShorthands;

impl Shorthands for PhantomShorthands {
    const FLAGS: &'static [(&'static str, &'static str)] = &[
        ("images-per-class", "data.phantom.images_per_class"),
        ("patients", "data.phantom.patients"),
        ("side", "data.side"),
    ];
}

/// The shorthands of `data split`.
pub struct SplitShorthands;

impl Shorthands for SplitShorthands {
    const FLAGS: &'static [(&'static str, &'static str)] = with_reading![
        ("folds", "inputs.folds"),
        ("by", "data.split_by"),
        ("val", "data.val"),
        ("test", "data.test"),
        ("groups", "data.groups"),
        ("group-csv", "data.group_csv"),
        ("skip-bad", "data.skip_bad"),
    ];
}

/// The layer that names the images of a verb's PATH.
fn path_layer(path: &str) -> Layer {
    Layer::new("PATH", nested("data.path", toml::Value::String(path.to_owned())))
}

/// The images that the settings name.
fn open(config: &StudyConfig, progress: bool) -> Result<View> {
    let mut options = images::options(&config.data, None, progress)?;
    options.allow_one_class = true;
    images::open(config, &options)
}

fn render(globals: Globals, args: &PhantomArgs) -> Result<()> {
    let all = settings(&globals, Vec::new(), args.given.layers()?, None)?;
    let session = globals.open(all.precision)?;
    let out = &args.out;
    let is_zip = out.extension().is_some_and(|e| e.eq_ignore_ascii_case("zip"));
    check_free(is_zip.then_some(out), args.overwrite)?;
    let config = phantom::PhantomConfig {
        size: all.data.side,
        images_per_class: all.data.phantom.images_per_class,
        patients: all.data.phantom.patients,
        seed: all.seed,
    };
    if is_zip {
        if args.masks {
            bail!("--masks needs a folder: give --out a name that does not end in .zip");
        }
        phantom::write_zip(&config, out)?;
    } else {
        phantom::write_folder(&config, out, args.masks)?;
    }
    save_shared(&settings_beside(out), &effective("data phantom", &all, session.precision, &["data"])?)?;
    say(format!(
        "{} of each class in {}; the phantom's images come from no patient",
        counted(config.images_per_class, "rendered image", "rendered images"),
        out.display()
    ));
    Ok(())
}

fn download(globals: Globals, args: &FetchArgs) -> Result<()> {
    let session = globals.open(None)?;
    let mut out = args.out.clone().unwrap_or_default();
    // A name without an ending is a folder's.
    let is_folder = out.extension().is_none() && !out.is_file();
    if is_folder || out.is_dir() || out.as_os_str().to_string_lossy().ends_with(['/', '\\']) {
        out.push(study::DOWNLOAD_NAME);
    }
    let there = out.exists();
    if there && !out.is_file() {
        bail!("{} is no file that a download could be written to", out.display());
    }
    let mut options = study::download(out);
    if let Some(url) = &args.url {
        options.url.clone_from(url);
    }
    options.sha256.clone_from(&args.sha256);
    options.length = args.length;
    options.progress = session.progress.then(Progress::bytes_bar);
    let path = fetch::fetch(&options)?;
    data::Source::open(&path)
        .with_context(|| format!("{} is not the zip that was expected; remove it and check --url", path.display()))?;
    let how = match (there, args.sha256.is_some() || args.length.is_some()) {
        (false, _) => "has arrived whole",
        (true, true) => "was there and is what was asked for; it was not downloaded again",
        (true, false) => "was there and was not downloaded again; --sha256 or --length would check it",
    };
    say(format!("{0} {how}; look at it with: cellforge data info {0}", path.display()));
    Ok(())
}

fn split(globals: Globals, args: &SplitArgs) -> Result<()> {
    let given = [args.given.layers()?, vec![path_layer(&args.path)]].concat();
    let config = settings(&globals, Vec::new(), given, None)?;
    let session = globals.open(config.precision)?;
    let Some(k) = config.inputs.folds else { return split_once(args, &config, &session) };
    for (flag, key) in [("val", "data.val"), ("test", "data.test")] {
        if args.given.has(flag) || globals.sets(key) {
            bail!("{key} is of a single split, and each image is in the test part of one of {k} folds: leave it out");
        }
    }
    let out =
        args.out.as_ref().context("--folds writes a CSV file for each fold: give --out, and leave out --folders")?;
    let stem = out.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let files: Vec<PathBuf> = (1..=k).map(|fold| out.with_file_name(format!("{stem}-{fold}.csv"))).collect();
    check_free(&files, args.overwrite)?;
    let set = open(&config, session.progress)?;
    let by = settled(config.data.split_by, &set);
    for (file, fold) in files.iter().zip(data::k_fold(&set, k, by, config.seed)?) {
        write_split(file, &set, &fold)?;
    }
    save_beside(out, &effective(VERB, &config, session.precision, &TABLES)?)
}

/// What saved settings call the verb, and the tables that it uses.
const VERB: &str = "data split";
const TABLES: [&str; 2] = ["data", "inputs"];

/// A single split, as a CSV file, as folders, or as both.
fn split_once(args: &SplitArgs, config: &StudyConfig, session: &Session) -> Result<()> {
    check_free(&args.out, args.overwrite)?;
    if let Some(folders) = &args.folders {
        check_outside(folders, [&args.path])?;
        check_folders(folders, args.overwrite)?;
    }
    let set = open(config, session.progress)?;
    let split = data::split(&set, &images::split_options(config, settled(config.data.split_by, &set)))?;
    let text = effective(VERB, config, session.precision, &TABLES)?;
    if let Some(out) = &args.out {
        write_split(out, &set, &split)?;
        save_beside(out, &text)?;
    }
    if let Some(folders) = &args.folders {
        let source =
            data::Source::open(Path::new(&args.path)).context("--folders copies the files of a folder or zip")?;
        // Before anything is copied, so that a folder that was left half made is known for what it is.
        save_effective(folders, &text)?;
        data::remove_folders(folders)?;
        let table = data::write_folders(&source, &set, &split, folders).inspect_err(|_| forget_if_alone(folders))?;
        tell_split(folders, &split);
        say(format!("classes, groups and original paths: {}", table.display()));
    }
    Ok(())
}

/// Removes the settings of a split of which nothing was written.
fn forget_if_alone(folders: &Path) {
    let settings = RunDir::new(folders).settings();
    let is_alone = std::fs::read_dir(folders)
        .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| entry.path() == settings)));
    if is_alone {
        let _ = std::fs::remove_file(settings);
    }
}

/// Refuses a folder that holds anything, but for one that this verb made and may replace.
fn check_folders(folders: &Path, overwrite: bool) -> Result<()> {
    let is_empty = match std::fs::read_dir(folders) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(error).with_context(|| format!("cannot look into {}", folders.display())),
    };
    if is_empty || overwrite && is_of(folders, VERB) {
        return Ok(());
    }
    let again = if is_of(folders, VERB) { ", or replace what is there with --overwrite" } else { "" };
    bail!("{} is not empty: name another folder for --folders{again}", folders.display())
}

fn tell_split(to: &Path, split: &Split) {
    let (train, val, test) = (split.train.len(), split.val.len(), split.test.len());
    let train = counted(train, "image", "images");
    say(format!("{}: {train} for training, {val} for validation, {test} for the test", to.display()));
}

fn write_split(path: &Path, set: &View, split: &Split) -> Result<()> {
    data::write_manifest(path, set, split)?;
    tell_split(path, split);
    Ok(())
}
