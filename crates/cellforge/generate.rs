//! `cellforge generate`: synthetic cells from a trained generator.

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use anyhow::{Context, Result, bail};
use cellforge::{study, train};
use serde::{Deserialize, Serialize};

use crate::common::{Bar, Globals, Interrupted, layered, save_beside, save_effective};

/// Arguments of `generate`.
#[derive(clap::Args, Serialize, Deserialize)]
#[command(after_help = "\
Examples:
  cellforge generate --checkpoint runs/quick --count 1000 --out synthetic
  cellforge generate --checkpoint runs/quick --class Parasitized --count 64 --out cells.zip --grid cells.png
  cellforge generate --checkpoint runs/quick/gan/Uninfected --count 10 --out few --truncation 1.5

The images are PNG files in one folder per class. The same checkpoint, seed and truncation give the same files,
and a smaller count gives the first of them.")]
pub struct Args {
    /// A GAN's folder, or a folder of several: a study's, or what `train gan` made of all classes
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Only this class [default: every class that has a generator]
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// Images per class [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    count: Option<u64>,
    /// A folder, or a file that ends in .zip
    #[arg(long, value_name = "DIR|FILE.zip")]
    out: Option<PathBuf>,
    /// Redraw noise beyond so many standard deviations: lower is more typical and less varied [default: none]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    truncation: Option<f64>,
    /// Also draw the first images of each class as one picture
    #[arg(long, value_name = "FILE.png")]
    grid: Option<PathBuf>,
}

/// Images of one class in the picture of `--grid`, and how many of them in a row.
const GRID: (usize, usize) = (32, 8);
/// Images made before they are written and a request to stop is looked for.
const PART: usize = 256;

pub fn run(mut globals: Globals, args: &Args) -> Result<()> {
    let mut args = layered(&mut globals, args)?;
    let session = globals.open_stoppable()?;
    let checkpoint = args.checkpoint.clone().context("--checkpoint is missing: name a trained GAN's folder")?;
    let out = args.out.clone().context("--out is missing: name a folder, or a file that ends in .zip")?;
    let count = *args.count.get_or_insert(100) as usize;
    if let Some(grid) =
        args.grid.as_ref().filter(|grid| !grid.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")))
    {
        bail!("--grid {} does not end in .png", grid.display());
    }
    if is_zip(&out) && out.is_dir() {
        bail!("{} is a folder; a zip needs another name", out.display());
    }

    let mut generators = Vec::new();
    for dir in generator_folders(&checkpoint)? {
        let (generator, state) = train::load_generator(&dir, &session.device)?;
        for class in &state.classes {
            generators.push((class.clone(), generator.clone(), state.config.model.latent, state.label(class)?));
        }
    }
    let classes: Vec<String> = generators.iter().map(|(class, ..)| class.clone()).collect();
    if let Some(wanted) = &args.class {
        generators.retain(|(class, ..)| class == wanted);
        if generators.is_empty() {
            bail!("{} has no generator of class {wanted:?}; it has {}", checkpoint.display(), classes.join(", "));
        }
    }

    if !is_zip(&out) {
        check_folder(&out, generators.iter().map(|(class, ..)| class.as_str()), count)?;
    }

    let mut writer = study::SampleWriter::create(&out)?;
    let mut shown: Option<train::Images> = None;
    for (class, generator, latent, label) in &generators {
        let options = |first, count| train::GenerateOptions {
            seed: session.seed,
            class: class.clone(),
            label: *label,
            latent: *latent,
            first,
            count,
            truncation: args.truncation,
        };
        if args.grid.is_some() {
            let images = train::generate(generator, &options(0, GRID.0), &session.device)?;
            match &mut shown {
                Some(all) if (all.side, all.channels) == (images.side, images.channels) => {
                    all.pixels.extend(images.pixels);
                }
                Some(_) => bail!("--grid needs generators of one image size"),
                None => shown = Some(images),
            }
        }
        let bar = Bar::new(count as u64, class, session.progress);
        for first in (0..count).step_by(PART) {
            if session.stop.load(Ordering::SeqCst) {
                return Err(Interrupted("stopped; run the same command again to make all images".into()).into());
            }
            let part = options(first, PART.min(count - first));
            writer.write(class, &train::generate(generator, &part, &session.device)?)?;
            bar.set((first + part.count) as u64);
        }
        bar.finish();
        tracing::info!("{count} synthetic images of {class} in {}", out.display());
    }
    writer.finish()?;
    if let (Some(path), Some(images)) = (&args.grid, &shown) {
        study::save_grid(path, images, GRID.1)?;
        tracing::info!("a picture of them in {}", path.display());
    }
    save_settings(&out, session.seed, &args)
}

/// Refuses a folder in which the images would lie beside others or replace what they should not.
fn check_folder<'a>(out: &Path, classes: impl Iterator<Item = &'a str>, count: usize) -> Result<()> {
    if ["last", "state.json"].iter().any(|name| out.join(name).exists()) {
        bail!("{} is the folder of a trained network; name another for the images", out.display());
    }
    for class in classes {
        let folder = out.join(study::folder_name(class));
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
        let number = |name: &str| name.strip_prefix("synthetic_")?.strip_suffix(".png")?.parse::<usize>().ok();
        let more = names.filter(|name| number(name).is_some_and(|n| n > count)).count();
        if more > 0 {
            bail!(
                "{} holds {more} more synthetic images than the {count} that would replace them; remove it, or name another",
                folder.display()
            );
        }
    }
    Ok(())
}

fn is_zip(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("zip"))
}

/// Beside a zip the settings get its name, so that the archive holds images alone.
fn save_settings(out: &Path, seed: u64, args: &Args) -> Result<()> {
    if !is_zip(out) {
        return save_effective(out, "generate", seed, args);
    }
    save_beside(out, "generate", seed, args)
}

/// The folders of generators under `dir`: itself, or those in its `gan` folder, or those directly in it.
fn generator_folders(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        bail!("{} is not a folder; --checkpoint takes the folder of a trained GAN or of a study", dir.display());
    }
    let is_one =
        |path: &Path| path.join("state.json").is_file() || path.join("last").is_dir() || path.join("last.old").is_dir();
    if is_one(dir) {
        return Ok(vec![dir.to_path_buf()]);
    }
    let parent = if dir.join("gan").is_dir() { dir.join("gan") } else { dir.to_path_buf() };
    let entries = std::fs::read_dir(&parent).with_context(|| format!("cannot read the folder {}", parent.display()))?;
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
