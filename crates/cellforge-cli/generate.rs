//! `cellforge generate`: synthetic images from a trained generator.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use anyhow::{Context, Result, bail};
use cellforge::{
    assess::ProgressBar,
    data::{self, View, counted, index::is_image},
    shipped,
    study::StudyConfig,
    train::{Checkpoint, RunDir, SampleOptions, Stage, TrainedGan},
};

use crate::common::{
    Given, Globals, Interrupted, Session, Shorthands, check_free, check_settings, effective, save_beside,
    save_effective, say, settings,
};

/// Arguments of `generate`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge generate --count 100 --out synthetic
  cellforge generate --checkpoint runs/quick --class Uninfected --count 64 --out images.zip --grid images.png
  cellforge generate --checkpoint runs/quick/gan/Uninfected --count 10 --out few --truncation 1.5
  cellforge generate --checkpoint runs/best --keep 0.25 --count 100 --out chosen
  cellforge generate --strips 5 --strip-to Uninfected --out strips

Images are PNG files in one folder per class. The same checkpoint, seed, --truncation and --keep give the same files. A smaller --count
gives the first of them. Another version of the program may have another built-in generator.

--keep X (rejection) makes 1/X candidates for each image, rounded up, and keeps the one that the discriminator scores highest. Images look
more real to the discriminator and vary less.

--strips N (interpolation) makes rows of images in place of images. Strip 1 leads from image 1 to image 2, strip 2 from image 3 to image 4.
With --strip-to, strip 1 leads from image 1 to the other class with the same noise, strip 2 from image 2.")]
pub struct Args {
    #[command(flatten)]
    given: Given<GenerateShorthands>,
    /// Output: a folder, or a file that ends in .zip
    #[arg(long, value_name = "DIR|FILE.zip")]
    out: Option<PathBuf>,
    /// Also draw the first images of each class as one picture
    #[arg(long, value_name = "FILE.png")]
    grid: Option<PathBuf>,
    /// Replace the zip of --out and the picture of --grid that are there
    #[arg(long)]
    overwrite: bool,
    /// Print the data sheet of the built-in generator: its training, its figures, its limits
    #[arg(long)]
    about: bool,
}

/// Images of one class in the picture of `--grid`, and how many of them in a row.
const GRID: (usize, usize) = (32, 8);
/// Images, kept or not, made before they are written and a request to stop is looked for.
const PART: usize = 256;

/// What makes images of one class.
struct Source {
    class: String,
    /// The folder it was loaded from; empty for the built-in generator.
    folder: PathBuf,
    gan: Arc<TrainedGan>,
}

/// How images are sampled; with `--strips` it is of strips, which nothing is kept of.
fn options(config: &StudyConfig) -> SampleOptions {
    SampleOptions { seed: config.seed, truncation: config.generate.truncation, keep: kept(config) }
}

/// The shorthands of `generate`.
pub struct GenerateShorthands;

impl Shorthands for GenerateShorthands {
    const FLAGS: &'static [(&'static str, &'static str)] = &[
        ("checkpoint", "inputs.checkpoint"),
        ("class", "inputs.class"),
        ("count", "generate.per_class"),
        ("truncation", "generate.truncation"),
        ("keep", "generate.keep"),
        ("strips", "generate.strips"),
        ("strip-steps", "generate.strip_steps"),
        ("strip-to", "generate.strip_to"),
    ];
}

pub fn run(globals: Globals, args: &Args) -> Result<()> {
    if args.about {
        say(shipped::DATASHEET.trim_end());
        return Ok(());
    }
    let config = settings(&globals, Vec::new(), args.given.layers()?, None)?;
    let session = globals.open_stoppable(config.precision)?;
    let out = args.out.as_deref().context("--out is missing: name a folder, or a file that ends in .zip")?;
    check(args, &config, out)?;
    let sources = sources(&config, &session)?;
    options(&config).validate()?;
    if config.generate.strips > 0 {
        strips(&config, &session, &sources, out)?;
    } else {
        images(args, &config, &session, &sources, out)?;
    }
    // Beside a zip the settings get its name, so that the archive holds images alone.
    let text = effective("generate", &config, session.precision, &["inputs", "generate"])?;
    if is_zip(out) { save_beside(out, &text) } else { save_effective(out, &text) }
}

/// The share of the images to keep, where not all are.
fn kept(config: &StudyConfig) -> Option<f64> {
    Some(config.generate.keep).filter(|keep| *keep < 1.0)
}

/// Refuses flags that do not go together.
fn check(args: &Args, config: &StudyConfig, out: &Path) -> Result<()> {
    if let Some(grid) =
        args.grid.as_ref().filter(|grid| !grid.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")))
    {
        bail!("--grid {} does not end in .png", grid.display());
    }
    if is_zip(out) && out.is_dir() {
        bail!("{} is a folder; a zip needs another name", out.display());
    }
    let out_file = is_zip(out).then(|| out.to_path_buf());
    check_free(out_file.iter().chain(&args.grid), args.overwrite)?;
    if config.generate.per_class == 0 {
        bail!("--count is 0, and only a study knows how many images the GAN was trained on: make 1 or more");
    }
    let given = |flags: &[(&'static str, bool)]| flags.iter().find(|(_, given)| *given).map(|(flag, _)| *flag);
    if config.generate.strips == 0 {
        let of_strips =
            [("--strip-steps", args.given.has("strip-steps")), ("--strip-to", config.generate.strip_to.is_some())];
        if let Some(flag) = given(&of_strips) {
            bail!("{flag} is of strips: say how many with --strips");
        }
        return Ok(());
    }
    let of_images =
        [("--count", args.given.has("count")), ("--keep", args.given.has("keep")), ("--grid", args.grid.is_some())];
    if let Some(flag) = given(&of_images) {
        bail!("--strips makes pictures in place of images, and {flag} is of images");
    }
    if is_zip(out) {
        bail!("--strips makes pictures for a folder, and --out {} is a zip", out.display());
    }
    Ok(())
}

/// What makes the images of each class that is asked for.
fn sources(config: &StudyConfig, session: &Session) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut add = |folder: &Path, gan: TrainedGan| {
        let gan = Arc::new(gan);
        for class in gan.classes().to_vec() {
            sources.push(Source { class, folder: folder.to_path_buf(), gan: Arc::clone(&gan) });
        }
    };
    let name = match &config.inputs.checkpoint {
        None if kept(config).is_some() => {
            bail!(
                "--keep needs a discriminator and the built-in generator has none: name a trained GAN's folder with --checkpoint"
            )
        }
        None => {
            let gan = TrainedGan::builtin_in(&session.device, session.precision)
                .context("cannot load the built-in generator")?;
            tracing::info!(
                "no --checkpoint: the built-in generator, \"{}\"; `cellforge generate --about` prints its data sheet",
                shipped::name()
            );
            add(Path::new(""), gan);
            "the built-in generator".to_owned()
        }
        Some(checkpoint) => {
            for dir in generator_folders(checkpoint)? {
                let gan = TrainedGan::load_in(&dir, &session.device, session.precision)?;
                if kept(config).is_some() {
                    gan.discriminator().context("--keep needs the GAN's discriminator")?;
                }
                add(&dir, gan);
            }
            checkpoint.display().to_string()
        }
    };
    if let Some(wanted) = &config.inputs.class {
        let classes: Vec<String> = sources.iter().map(|source| source.class.clone()).collect();
        sources.retain(|source| source.class == *wanted);
        if sources.is_empty() {
            bail!("{name} has no generator of class {wanted:?}; it has {}", classes.join(", "));
        }
    }
    for (at, source) in sources.iter().enumerate() {
        if let Some(other) = sources[..at].iter().find(|other| other.class == source.class) {
            bail!(
                "{} and {} both make {}: name one of them with --checkpoint, or move away the one that is out of date",
                other.folder.display(),
                source.folder.display(),
                source.class
            );
        }
    }
    Ok(sources)
}

fn images(args: &Args, config: &StudyConfig, session: &Session, sources: &[Source], out: &Path) -> Result<()> {
    let count = config.generate.per_class;
    if !is_zip(out) {
        let folders = sources.iter().map(|source| data::folder_name(&source.class));
        check_folder(out, folders, "synthetic_", count)?;
    }
    let options = options(config);
    let make = |source: &Source, first, count| source.gan.sample_with(&options, &source.class, first..first + count);
    let candidates = options.candidates()?;
    let part = (PART / candidates).max(1);

    let mut writer = data::ImageWriter::create(out)?;
    let mut shown: Vec<View> = Vec::new();
    for source in sources {
        let class = &source.class;
        if args.grid.is_some() {
            let images = make(source, 0, GRID.0)?;
            let size = |images: &View| (images.size(), images.channels());
            if shown.first().is_some_and(|first| size(first) != size(&images)) {
                bail!("--grid needs generators of one image size");
            }
            shown.push(images);
        }
        let bar = ProgressBar::new(session.progress, class, count as u64);
        for first in (0..count).step_by(part) {
            stop_if_asked(session)?;
            let images = make(source, first, part.min(count - first))?;
            writer.write(&images)?;
            bar.set((first + images.len()) as u64);
        }
        bar.finish();
        tracing::info!("{} of {class} in {}", counted(count, "synthetic image", "synthetic images"), out.display());
    }
    writer.finish()?;
    if let Some(path) = &args.grid {
        data::save_grid(path, &View::joined(&shown)?, GRID.1)?;
        tracing::info!("a picture of them in {}", path.display());
    }
    Ok(())
}

/// A class, or the way to another, has a folder of pictures.
fn strips(config: &StudyConfig, session: &Session, sources: &[Source], out: &Path) -> Result<()> {
    let options = options(config);
    let (count, steps) = (config.generate.strips, config.generate.strip_steps);
    let mut ways = Vec::new();
    for source in sources {
        let folder = data::folder_name(&source.class);
        let Some(to) = &config.generate.strip_to else {
            ways.push((source, None, folder));
            continue;
        };
        let classes = source.gan.classes();
        if !classes.contains(to) {
            bail!(
                "--strip-to names a class of the same GAN, and {to:?} is none that it makes: it has {}",
                classes.join(", ")
            );
        }
        if classes.len() == 1 {
            bail!("--strip-to needs a GAN of several classes, and this one is of {to} alone");
        }
        if *to != source.class {
            ways.push((source, Some(to.clone()), format!("{folder}_to_{}", data::folder_name(to))));
        }
    }
    if ways.is_empty() {
        let to = config.generate.strip_to.as_deref().unwrap_or_default();
        bail!("--strip-to {to} is where the strips start: name another class");
    }
    check_folder(out, ways.iter().map(|(.., folder)| folder.clone()), "strip_", count)?;
    for (source, to, folder) in ways {
        for number in 0..count {
            stop_if_asked(session)?;
            let strips = number..number + 1;
            for strip in source.gan.interpolate(&options, &source.class, to.as_deref(), steps, strips)? {
                data::save_grid(&out.join(&folder).join(format!("strip_{:06}.png", number + 1)), &strip, steps)?;
            }
        }
        tracing::info!("{} of {steps} images in {}", counted(count, "strip", "strips"), out.join(&folder).display());
    }
    Ok(())
}

fn stop_if_asked(session: &Session) -> Result<()> {
    if session.stop.load(Ordering::SeqCst) {
        return Err(Interrupted("stopped; run the same command again to make all images".into()).into());
    }
    Ok(())
}

/// Refuses a folder in which the pictures would lie beside others or replace what they should not. They are `PREFIX000001.png` and so on
/// in each of `folders`.
fn check_folder(out: &Path, folders: impl Iterator<Item = String>, prefix: &str, count: usize) -> Result<()> {
    if RunDir::new(out).holds_run() || Checkpoint::is_at(out) {
        bail!("{} is the folder of a trained network; name another for the images", out.display());
    }
    check_settings(out, "generate")?;
    for folder in folders {
        let folder = out.join(folder);
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let names: Vec<String> =
            entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
        let number = |name: &str| name.strip_prefix(prefix)?.strip_suffix(".png")?.parse::<usize>().ok();
        let other = if prefix == "strip_" { "synthetic_" } else { "strip_" };
        if let Some(name) = names.iter().find(|name| name.starts_with(other)) {
            bail!("{} holds {name}: strips and images do not share a folder; name another", folder.display());
        }
        let own = |name: &str| number(name).is_some_and(|n| name == format!("{prefix}{n:06}.png"));
        if let Some(name) = names.iter().find(|name| is_image(name) && !own(name)) {
            bail!("{} holds {name}, which is not of `cellforge generate`: name another --out", folder.display());
        }
        let more = names.iter().filter(|name| number(name).is_some_and(|n| n > count)).count();
        if more > 0 {
            bail!(
                "{} holds {} than the {count} that would replace them; remove it, or name another",
                folder.display(),
                counted(more, "more synthetic image", "more synthetic images")
            );
        }
    }
    Ok(())
}

fn is_zip(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("zip"))
}

/// The folders of generators under `dir`: itself, or those in its `gan` folder, or those directly in it.
fn generator_folders(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        bail!("{} is not a folder; --checkpoint takes the folder of a trained GAN or of a study", dir.display());
    }
    let is_one = |path: &Path| Checkpoint::is_at(path) || RunDir::new(path).holds_run();
    if is_one(dir) {
        return Ok(vec![dir.to_path_buf()]);
    }
    let of_study = RunDir::new(dir).stage(Stage::Gan);
    let parent = if of_study.path().is_dir() { of_study.path() } else { dir };
    let entries = std::fs::read_dir(parent).with_context(|| format!("cannot read the folder {}", parent.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read the folder {}", parent.display()))?.path();
        if is_one(&path) {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        bail!("no trained GAN under {}; make one with `cellforge train gan` or `cellforge reproduce`", dir.display());
    }
    Ok(found)
}
