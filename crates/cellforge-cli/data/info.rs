//! `cellforge data info`: what is known of a set of images.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Result;
use cellforge::{
    data::{self, Facts, LeftOut, Readers, SplitPart, TwinCounts, View, counted},
    train::RunDir,
};
use serde::Serialize;

use super::{open, path_layer};
use crate::{
    common::{Given, Globals, Shorthands, check_free, check_outside, say, settings, with_reading},
    images,
};

/// Arguments of `data info`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cellforge data info images.zip
  cellforge data info images --group-csv abnormal.csv --group-csv normal.csv
  cellforge data info images --skip-bad --json
  cellforge data info images --grid contact.png
  cellforge data info scans --layout class/patient --slices middle --window 0 600
  cellforge data info xrays --table metadata.csv --name imagename --label finding --group patientid
  cellforge data info pneumoniamnist.npz")]
pub struct InfoArgs {
    /// Folder or zip of images, or a file that holds many
    #[arg(value_name = "PATH")]
    path: String,
    #[command(flatten)]
    given: Given<ImageShorthands>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Also save a contact sheet: some images of each class
    #[arg(long, value_name = "FILE.png")]
    grid: Option<PathBuf>,
    /// Replace the contact sheet that is there
    #[arg(long, requires = "grid")]
    overwrite: bool,
}

/// The shorthands of `data info`.
pub struct ImageShorthands;

impl Shorthands for ImageShorthands {
    const FLAGS: &'static [(&'static str, &'static str)] = with_reading![
        ("side", "data.side"),
        ("groups", "data.groups"),
        ("group-csv", "data.group_csv"),
        ("skip-bad", "data.skip_bad"),
    ];
}

/// Images of each class on a contact sheet.
const SHOWN: usize = 8;

/// What `data info --json` prints.
#[derive(Serialize)]
struct Info<'a> {
    path: &'a str,
    images: usize,
    classes: BTreeMap<&'a str, usize>,
    groups: Option<usize>,
    single_class_groups: BTreeMap<&'a str, usize>,
    /// The parts of the split that the source states, by name; null where it states none.
    parts: Option<BTreeMap<&'static str, usize>>,
    duplicates: TwinCounts,
    #[serde(flatten)]
    facts: &'a Facts,
    skipped: Vec<BTreeMap<&'static str, &'a str>>,
    fingerprint: String,
}

pub fn run(globals: Globals, args: &InfoArgs) -> Result<()> {
    let given = [args.given.layers()?, vec![path_layer(&args.path)]].concat();
    let config = settings(&globals, Vec::new(), given, None)?;
    if let Some(file) = &args.grid {
        check_outside(file, [&args.path])?;
    }
    check_free(args.grid.as_ref(), args.overwrite)?;
    let session = globals.open(config.precision)?;
    let set = open(&config, session.progress)?;
    if let Some(file) = &args.grid {
        let shown: Vec<usize> = (0..set.classes().len() as u32)
            .flat_map(|class| set.class_indices(class).into_iter().take(SHOWN))
            .collect();
        data::save_grid(file, &set.part(&shown), SHOWN, Readers::Owner)?;
    }
    let counts = set.class_counts();
    let groups = set.group_names().len();
    let info = Info {
        path: &args.path,
        images: set.len(),
        classes: set.classes().iter().map(String::as_str).zip(counts).collect(),
        groups: (groups > 0).then_some(groups),
        single_class_groups: single_class_groups(&set),
        parts: set.has_given_parts().then(|| parts(&set)),
        duplicates: set.twin_counts(),
        facts: set.facts(),
        skipped: set
            .skipped()
            .iter()
            .map(|s| BTreeMap::from([("name", s.name.as_str()), ("reason", s.reason.as_str())]))
            .collect(),
        fingerprint: set.fingerprint(),
    };
    if args.json {
        say(serde_json::to_string_pretty(&info)?);
        return Ok(());
    }
    say_info(&info, &set);
    if config.data.table.file.is_none() {
        say_table(info.facts);
    }
    if let Some(file) = &args.grid {
        say(format!(
            "contact sheet: {} (up to {SHOWN} images of each class, in the order of their names)",
            file.display()
        ));
    }
    Ok(())
}

/// The number of images in each part that the source states.
fn parts(set: &View) -> BTreeMap<&'static str, usize> {
    let mut found = BTreeMap::new();
    for i in 0..set.len() {
        *found.entry(set.given_part(i).map_or("none", SplitPart::name)).or_default() += 1;
    }
    found
}

fn say_info(info: &Info<'_>, set: &View) {
    let classes = counted(info.classes.len(), "class", "classes");
    say(format!("{}: {} in {classes}", info.path, counted(info.images, "image", "images")));
    for (class, count) in &info.classes {
        say(format!("  {class}: {count}"));
    }
    match info.groups {
        None => say("groups (patients): not known"),
        Some(n) => {
            say(format!("groups (patients): {n}"));
            for (class, n) in info.single_class_groups.iter().filter(|(_, n)| **n > 0) {
                say(format!("  with {class} images only: {n}"));
            }
        }
    }
    if let Some(parts) = &info.parts {
        let each: Vec<String> = parts.iter().map(|(part, n)| format!("{n} {part}")).collect();
        say(format!("split of the source: {}", each.join(", ")));
    }
    say_facts(info.facts, set.channels());
    if info.duplicates.images > 0 {
        say(format!("duplicates: {}", images::twins_in_words(info.duplicates)));
    }
    if !info.skipped.is_empty() {
        say(format!("skipped: {}", info.skipped.len()));
    }
    if let Some(words) = images::fit_in_words(set) {
        say(words);
    }
    say(format!("fingerprint at {:#} pixels: {}", set.size(), info.fingerprint));
}

/// What the images were before they were made alike, how their intensities became grey levels, and what was left out.
fn say_facts(facts: &Facts, channels: usize) {
    /// Kinds of images that are listed one by one.
    const LISTED: usize = 6;
    if !facts.layout.is_empty() {
        say(format!("folders above the images: {}", facts.layout));
    }
    let mut kinds: Vec<_> = facts.originals.iter().collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.images));
    for kind in kinds.iter().take(LISTED) {
        let grey = if kind.is_grey && kind.mode.contains("RGB") { ", without a colour" } else { "" };
        say(format!("stored: {} of {}x{} pixels, {}{grey}", kind.images, kind.width, kind.height, kind.mode));
    }
    if kinds.len() > LISTED {
        let rest: usize = kinds[LISTED..].iter().map(|kind| kind.images).sum();
        say(format!("stored: {rest} of {} other sizes or kinds", kinds.len() - LISTED));
    }
    let stored_as_colour = kinds.iter().any(|kind| kind.mode.contains("RGB"));
    if !kinds.is_empty() && kinds.iter().all(|kind| kind.is_grey) && (channels == 3 || stored_as_colour) {
        say(match channels {
            3 => "all images are grey, and are read as colour: --channels 1 reads them as grey",
            _ => "all images are grey, and are read so: --channels 3 reads them as colour",
        });
    }
    if let Some(found) = &facts.intensities {
        say(format!("intensities: {found}"));
    }
    for left in facts.told() {
        say(format!("left out: {left}, such as {}", left.example));
    }
}

/// The flags that would read a table which lies beside the images.
fn say_table(facts: &Facts) {
    // The manifest of synthetic images tells no more of them than their folders do.
    let manifest = RunDir::new("").manifest();
    let is_table =
        |left: &&LeftOut| matches!(left.ending.as_str(), ".csv" | ".tsv") && Path::new(&left.example) != manifest;
    let tables = facts.left_out.iter().find(is_table);
    if let Some(table) = tables {
        say(format!("a table lies beside the images: --table with --label and --group reads {}", table.example));
    }
}

fn single_class_groups(set: &View) -> BTreeMap<&str, usize> {
    set.classes().iter().map(String::as_str).zip(set.single_class_groups().into_iter().map(|of| of.groups)).collect()
}
