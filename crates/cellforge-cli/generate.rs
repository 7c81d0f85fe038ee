//! `cellforge generate`: synthetic images from a trained generator.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use anyhow::{Context, Result, bail};
use cellforge::{
    assess::ProgressBar,
    data::{self, ImageFormat, Readers, View, ViewParts, WriteOptions, counted},
    shipped,
    study::StudyConfig,
    train::{Checkpoint, Ranks, RunDir, SampleOptions, Stage, TrainedGan},
};

use crate::common::{
    Given, Globals, Interrupted, Session, Shorthands, beside, check_free, check_settings, csv_field, effective, is_of,
    ranks, remove_if_there, save_shared, say, settings, settings_beside,
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

  cellforge generate --count 500 --format npz --out images.npz
  cellforge generate --checkpoint runs/best --prefix case_ --scores --count 100 --out scored

Images are PNG files in one folder per class, or what --format says. The same checkpoint, seed, --truncation and --keep give the same files. A
smaller --count gives the first of them. Another version of the program may have another built-in generator.

A manifest, manifest.csv in the folder or FILE.manifest.csv beside a file, has the class, number and seed of each image. --scores adds what the
discriminator says of it. A folder that this verb did not make is refused.

--keep X (rejection) makes 1/X candidates for each image, rounded up, and keeps the one that the discriminator scores highest. Images look
more real to the discriminator and vary less.

--strips N (interpolation) makes rows of images in place of images. Strip 1 leads from image 1 to image 2, strip 2 from image 3 to image 4.
With --strip-to, strip 1 leads from image 1 to the other class with the same noise, strip 2 from image 2.")]
pub struct Args {
    #[command(flatten)]
    given: Given<GenerateShorthands>,
    /// Output: a folder, a file that ends in .zip, or with --format npz one that ends in .npz
    #[arg(long, value_name = "DIR|FILE")]
    out: Option<PathBuf>,
    /// Also draw the first images of each class as one picture
    #[arg(long, value_name = "FILE.png")]
    grid: Option<PathBuf>,
    /// Replace the file of --out and the picture of --grid that are there
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
        ("format", "generate.format"),
        ("prefix", "generate.prefix"),
        ("scores", "generate.scores"),
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
    let ranks = ranks::open()?;
    let done = generate(&globals, args, &ranks);
    ranks::end(&ranks, done)
}

fn generate(globals: &Globals, args: &Args, ranks: &Ranks) -> Result<()> {
    let config = settings(globals, Vec::new(), args.given.layers()?, None)?;
    let session = Session { ranks: ranks.clone(), ..globals.open_stoppable(config.precision)? };
    let out = args.out.as_deref().context("--out is missing: name a folder, or a file that ends in .zip or .npz")?;
    if ranks.is_root() {
        check(args, &config, out)?;
    }
    let sources = sources(&config, &session)?;
    options(&config).validate()?;
    let text = effective("generate", &config, session.precision, &["inputs", "generate"])?;
    if config.generate.strips > 0 && !ranks.is_root() {
        // A few pictures are made by rank 0.
        Ok(())
    } else if config.generate.strips > 0 {
        strips(&config, &session, &sources, out, &text)
    } else {
        images(args, &config, &session, &sources, out, &text)
    }
}

/// Saves the settings: in the folder, or beside a file under its name, so that an archive holds images alone.
fn save_settings(out: &Path, text: &str) -> Result<()> {
    if is_file(out) {
        return save_shared(&settings_beside(out), text);
    }
    std::fs::create_dir_all(out).with_context(|| format!("cannot create the folder {}", out.display()))?;
    save_shared(&RunDir::new(out).settings(), text)
}

/// How images are written.
fn write_options(config: &StudyConfig) -> WriteOptions {
    WriteOptions { format: config.generate.format, prefix: config.generate.prefix.clone(), window: None }
}

/// The intensities of black and white that PNG files of 16 bits are to hold: those of the images that all sources learned from, where they had
/// such. It is told what becomes of them.
fn window(config: &StudyConfig, sources: &[Source]) -> Option<(u16, u16)> {
    let rules = || sources.iter().map(|source| source.gan.state().intensities.as_ref());
    let first = rules().next()??;
    let one = rules().all(|rule| rule.is_some_and(|rule| (rule.low, rule.high) == (first.low, first.high)));
    let is_grey = sources.iter().all(|source| source.gan.channels() == 1);
    let whole = first.in_16_bits().filter(|_| one && is_grey && config.generate.format == ImageFormat::Png);
    match whole {
        Some((low, high)) => {
            tracing::info!(
                "PNG files of 16 bits with the intensities of the training images, {low} to {high}, in 256 steps"
            );
        }
        None => tracing::info!("black and white stand for intensities of the training images: {first}"),
    }
    whole
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
    write_options(config).validate()?;
    if is_file(out) && out.is_dir() {
        bail!("{} is a folder; a file needs another name", out.display());
    }
    let is_npz = ends_in(out, "npz");
    if is_npz != (config.generate.format == ImageFormat::Npz) {
        let hint = if is_npz { "ends in .npz: give --format npz" } else { "does not end in .npz, and --format is npz" };
        bail!("--out {} {hint}", out.display());
    }
    let out_file = is_file(out).then(|| out.to_path_buf());
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
    let of_images = [
        ("--count", args.given.has("count")),
        ("--keep", args.given.has("keep")),
        ("--format", args.given.has("format")),
        ("--prefix", args.given.has("prefix")),
        ("--scores", args.given.has("scores")),
        ("--grid", args.grid.is_some()),
    ];
    if let Some(flag) = given(&of_images) {
        bail!("--strips makes pictures in place of images, and {flag} is of images");
    }
    if is_file(out) {
        bail!("--strips makes pictures for a folder, and --out {} is a file", out.display());
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
        None => {
            let gan = TrainedGan::builtin_in(&session.device, session.precision)
                .context("cannot load the built-in generator")?;
            check_discriminator(config, &gan)?;
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
                check_discriminator(config, &gan)?;
                add(&dir, gan);
            }
            checkpoint.display().to_string()
        }
    };
    if let Some(wanted) = &config.inputs.class {
        let classes: Vec<String> = sources.iter().map(|source| source.class.clone()).collect();
        sources.retain(|source| data::same_name(&source.class, wanted));
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

/// Loads the discriminator where it has something to say.
fn check_discriminator(config: &StudyConfig, gan: &TrainedGan) -> Result<()> {
    let flag = match (kept(config), config.generate.scores) {
        (Some(_), _) => "--keep",
        (None, true) => "--scores",
        (None, false) => return Ok(()),
    };
    gan.discriminator().with_context(|| format!("{flag} needs the GAN's discriminator"))?;
    Ok(())
}

fn images(
    args: &Args,
    config: &StudyConfig,
    session: &Session,
    sources: &[Source],
    out: &Path,
    settings: &str,
) -> Result<()> {
    let count = config.generate.per_class;
    let writing = WriteOptions { window: window(config, sources), ..write_options(config) };
    let manifest = if is_file(out) { beside(out, ".manifest.csv") } else { RunDir::new(out).manifest() };
    let ranks = &session.ranks;
    if !is_file(out) && ranks.is_root() {
        let folders = sources.iter().map(|source| data::folder_name(&source.class));
        check_folder(out, folders, |name| is_of_series(&writing, name, count))?;
        // With its settings a folder is known for ours, even if this is stopped. A manifest of earlier images is not to lie beside these.
        save_settings(out, settings)?;
        remove_if_there(&manifest)?;
    }
    let options = options(config);
    let make = |source: &Source, first, count| source.gan.sample_with(&options, &source.class, first..first + count);
    let candidates = options.candidates()?;
    let part = (PART / candidates).max(1);

    // Each rank makes images, and rank 0 writes those of all.
    let mut writer = if ranks.is_root() { Some(data::ImageWriter::create(out, &writing)?) } else { None };
    let mut listed = String::from(if config.generate.scores {
        "file,class,number,seed,score\n"
    } else {
        "file,class,number,seed\n"
    });
    let mut shown: Vec<View> = Vec::new();
    for source in sources {
        let class = &source.class;
        if args.grid.is_some() && ranks.is_root() {
            let images = make(source, 0, GRID.0)?;
            let size = |images: &View| (images.size(), images.channels());
            if shown.first().is_some_and(|first| size(first) != size(&images)) {
                bail!("--grid needs generators of one image size");
            }
            shown.push(images);
        }
        let bar = ProgressBar::new(session.progress, class, count as u64);
        for block in (0..count).step_by(part * ranks.size()) {
            let first = (block + ranks.rank() * part).min(count);
            let own = if first < count { Some(make(source, first, part.min(count - first))?) } else { None };
            let scores = match &own {
                Some(images) if config.generate.scores => source.gan.scores(class, images)?,
                _ => Vec::new(),
            };
            let made = of_all(session, source, block, Made { images: own, scores })?;
            let Some(writer) = &mut writer else { continue };
            let mut first = block;
            for Made { images, scores } in made {
                let Some(images) = images else { continue };
                for (at, name) in writer.write(&images)?.iter().enumerate() {
                    let (name, class) = (csv_field(name), csv_field(class));
                    listed.push_str(&format!("{name},{class},{},{}", first + at + 1, config.seed));
                    if let Some(score) = scores.get(at) {
                        listed.push_str(&format!(",{score:.6}"));
                    }
                    listed.push('\n');
                }
                first += images.len();
            }
            bar.set(first as u64);
        }
        let Some(_) = &writer else { continue };
        bar.finish();
        tracing::info!("{} of {class} in {}", counted(count, "synthetic image", "synthetic images"), out.display());
    }
    let Some(writer) = writer else { return Ok(()) };
    writer.finish()?;
    save_shared(&manifest, &listed)?;
    if is_file(out) {
        save_settings(out, settings)?;
    }
    if let Some(path) = &args.grid {
        data::save_grid(path, &View::joined(&shown)?, GRID.1, Readers::AsUsual)?;
        tracing::info!("a picture of them in {}", path.display());
    }
    Ok(())
}

/// What one rank made: images, unless there were none left for it, and what the discriminator says of them, if that was asked for.
struct Made {
    images: Option<View>,
    scores: Vec<f64>,
}

/// What all ranks made of the images from number `first` on, for rank 0 to write; the others get nothing. They stop together.
fn of_all(session: &Session, source: &Source, first: usize, own: Made) -> Result<Vec<Made>> {
    let ranks = &session.ranks;
    if ranks.is_alone() {
        stop_if_asked(session)?;
        return Ok(vec![own]);
    }
    let stop = [u8::from(session.stop.load(Ordering::SeqCst))];
    if ranks.gather(&stop)?.concat().contains(&1) {
        return Err(stopped());
    }
    let scores: Vec<u8> = own.scores.iter().flat_map(|score| score.to_le_bytes()).collect();
    let scores = ranks.gather(&scores)?;
    let pixels = ranks.gather(&own.images.as_ref().map_or_else(Vec::new, View::pixels))?;
    let (size, channels) = (source.gan.image_size(), source.gan.channels());
    let mut numbers = first + 1..;
    let made = pixels.into_iter().zip(scores).take_while(|(pixels, _)| ranks.is_root() && !pixels.is_empty());
    let view = |(pixels, scores): (Vec<u8>, Vec<u8>)| {
        let names = numbers.by_ref().take(pixels.len() / (size.area() * channels)).map(|number| format!("{number:06}"));
        let (classes, names) = (vec![source.class.clone()], names.collect());
        let images = View::new(ViewParts { classes, names, size, channels, pixels, ..ViewParts::default() })?;
        let scores = scores.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        Ok(Made { images: Some(images), scores })
    };
    made.map(view).collect()
}

/// A class, or the way to another, has a folder of pictures.
fn strips(config: &StudyConfig, session: &Session, sources: &[Source], out: &Path, settings: &str) -> Result<()> {
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
    let naming = WriteOptions { prefix: "strip_".to_owned(), ..WriteOptions::default() };
    check_folder(out, ways.iter().map(|(.., folder)| folder.clone()), |name| is_of_series(&naming, name, count))?;
    save_settings(out, settings)?;
    for (source, to, folder) in ways {
        for number in 0..count {
            stop_if_asked(session)?;
            let strips = number..number + 1;
            for strip in source.gan.interpolate(&options, &source.class, to.as_deref(), steps, strips)? {
                data::save_grid(
                    &out.join(&folder).join(naming.file_name(number + 1)),
                    &strip,
                    steps,
                    Readers::AsUsual,
                )?;
            }
        }
        tracing::info!("{} of {steps} images in {}", counted(count, "strip", "strips"), out.join(&folder).display());
    }
    Ok(())
}

fn stop_if_asked(session: &Session) -> Result<()> {
    if session.stop.load(Ordering::SeqCst) { Err(stopped()) } else { Ok(()) }
}

fn stopped() -> anyhow::Error {
    Interrupted("stopped; run the same command again to make all images".into()).into()
}

/// Whether a file is called as one of the first `count` images.
fn is_of_series(naming: &WriteOptions, name: &str, count: usize) -> bool {
    naming.number(name).is_some_and(|number| number <= count)
}

/// Refuses a folder that this verb did not make, or that holds what would not be replaced: something else than `folders` with files that are
/// `own`.
fn check_folder(out: &Path, folders: impl Iterator<Item = String>, own: impl Fn(&str) -> bool) -> Result<()> {
    let names = |folder: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
        names.sort();
        names
    };
    if RunDir::new(out).holds_run() || Checkpoint::is_at(out) {
        bail!("{} is the folder of a trained network; name another for the images", out.display());
    }
    check_settings(out, "generate")?;
    let there = names(out);
    let Some(first) = there.first() else { return Ok(()) };
    if !is_of(out, "generate") {
        bail!("{} holds {first} and is not of `cellforge generate`: name a new folder for the images", out.display());
    }
    let dir = RunDir::new(out);
    let records = [dir.settings(), dir.manifest()];
    let folders: Vec<String> = folders.collect();
    let stale = there.iter().filter(|name| !records.contains(&out.join(name))).find_map(|name| {
        if !folders.contains(name) {
            return Some(name.clone());
        }
        names(&out.join(name)).into_iter().find(|file| !own(file)).map(|file| format!("{name}/{file}"))
    });
    if let Some(stale) = stale {
        bail!(
            "{} holds {stale}, which these images would not replace: remove the folder, or name another",
            out.display()
        );
    }
    Ok(())
}

/// Whether images are to go into one file.
fn is_file(path: &Path) -> bool {
    ends_in(path, "zip") || ends_in(path, "npz")
}

fn ends_in(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending))
}
/// The folders of generators under `dir`: itself, or those in its `gan` folder, or those directly in it.
pub fn generator_folders(dir: &Path) -> Result<Vec<PathBuf>> {
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
