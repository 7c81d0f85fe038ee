//! The list of images in a folder or zip: which files are images, and what folders, names, tables and the files themselves say of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::folder_of;
use crate::formats::{Contents, Format, Opened, Samples, Slot, look};
use crate::groups::{Groups, assign};
use crate::layout::{self, Placed, Reading};
use crate::left_out::{Counted, LeftOut};
use crate::masks::{self, Masks};
use crate::source::Source;
use crate::split::SplitPart;
use crate::table::Row;
use crate::view::hex;
use crate::{Error, OpenOptions, Result};

/// Endings of files that are taken for images whatever their content, and so are named where they cannot be read; in any case.
pub const EXTENSIONS: [&str; 17] = [
    "png", "jpg", "jpeg", "jfif", "bmp", "tif", "tiff", "webp", "gif", "pgm", "ppm", "pnm", "dcm", "nii", "nii.gz",
    "npy", "npz",
];

/// A file that was left out because it cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its path inside the folder or zip.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// One image that is not decoded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path of its file, `/` between the parts; where the file holds several images, with `#` and what tells them apart, as in
    /// `ill/scan.nii.gz#12`.
    pub name: String,
    /// The path of its file inside the folder or zip.
    pub file: String,
    /// Its place among the images of its file.
    pub frame: usize,
    /// Its class, an index into [`Index::classes`].
    pub class: usize,
    /// Its group (patient), where known.
    pub group: Option<String>,
    /// The part of a split that folders, a table or its file put it into.
    pub part: Option<SplitPart>,
    /// What its file is; none where the content is not known.
    pub(crate) format: Option<Format>,
    /// Whether its samples may have more than 8 bits.
    pub(crate) may_be_deep: bool,
}

/// The images of a folder or zip.
#[derive(Clone, Debug)]
pub struct Index {
    /// The folder or zip.
    pub root: PathBuf,
    /// Class names, sorted.
    pub classes: Vec<String>,
    /// Images, sorted by the name of their file and their place in it.
    pub entries: Vec<Entry>,
    /// How the images lie, as a layout; empty where folders say nothing.
    pub layout: String,
    /// Whether nothing tells classes, so that there is one, called as the source is.
    pub is_unlabelled: bool,
    /// What is no image of the set, counted: other files, hidden ones as far as
    /// [`Listing::hidden`](crate::source::Listing::hidden) counts them, and masks.
    pub left_out: Vec<LeftOut>,
    /// What was left out as unusable, with [`OpenOptions::skip_bad`].
    pub skipped: Vec<Skipped>,
}

/// A file that is taken for images.
struct File {
    name: String,
    format: Option<Format>,
    may_be_deep: bool,
    contents: Contents,
    placed: Placed,
    row: Option<Row>,
    group: Option<String>,
}

impl File {
    /// The class that a table, the file or a folder gives an image, in this order.
    fn class(&self, slot: &Slot) -> Option<String> {
        let of_table = self.row.as_ref().and_then(Row::class);
        of_table.or_else(|| slot.label.clone()).or_else(|| self.placed.class.clone())
    }
}

impl Index {
    /// Lists a folder or zip.
    ///
    /// # Errors
    /// As [`Source::open`]; [`Error::NoImages`], [`Error::EmptyClass`], [`Error::OneClass`], [`Error::Layout`] where images do not lie side by
    /// side, [`Error::Ambiguous`] where folders can be read in several ways, [`Error::BadImage`] for a name that cannot be used, has no
    /// group or no line in a table, [`Error::Csv`], [`Error::Columns`].
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        let source = Source::open(path)?;
        let listing = source.list();
        let mut skip = Skip { path, allowed: options.skip_bad, skipped: Vec::new() };
        for problem in listing.problems {
            skip.bad(problem.name, problem.reason)?;
        }
        let mut left_out = Counted::default();
        left_out.hidden(listing.hidden);
        let files = images(&source, listing.files, &mut left_out);
        let files = without_masks(&source, files, options, &mut left_out);
        let files = looked_into(&source, files, options, &mut left_out);
        if files.is_empty() {
            return Err(Error::NoImages { path: path.to_path_buf(), left_out: left_out.list() });
        }
        let (files, reading) = placed(files, options, &mut skip)?;
        let files = grouped(&source, files, options, &mut skip)?;
        let left_out = left_out.list();
        check_empty(&files, &reading, &listing.folders, &left_out, &mut skip)?;
        Self::of(path, files, &reading, left_out, skip, options)
    }

    /// The index of files of which everything is known.
    fn of(
        path: &Path,
        files: Vec<File>,
        reading: &Reading,
        left_out: Vec<LeftOut>,
        mut skip: Skip<'_>,
        options: &OpenOptions,
    ) -> Result<Self> {
        let of_files = || files.iter().flat_map(|file| file.contents.slots.iter().map(move |slot| (file, slot)));
        let found: BTreeSet<String> = of_files().filter_map(|(file, slot)| file.class(slot)).collect();
        let is_unlabelled = found.is_empty();
        let classes: Vec<String> = if is_unlabelled { vec![source_name(path)] } else { found.into_iter().collect() };
        if let [class] = classes.as_slice()
            && !options.allow_one_class
        {
            let layout = match reading.layout.to_string().as_str() {
                "" => "the images lie in no folders of their own".to_owned(),
                layout if is_unlabelled => format!("the folders above the images ({layout}) tell no classes"),
                layout => format!("the images lie in folders of this layout: {layout}"),
            };
            return Err(Error::OneClass { path: path.to_path_buf(), class: class.clone(), layout });
        }
        let places: BTreeMap<&str, usize> =
            classes.iter().enumerate().map(|(at, class)| (class.as_str(), at)).collect();
        let entry = |(file, slot): (&File, &Slot)| {
            let class = if is_unlabelled { Some(0) } else { places.get(file.class(slot)?.as_str()).copied() };
            let name =
                if slot.suffix.is_empty() { file.name.clone() } else { format!("{}#{}", file.name, slot.suffix) };
            let part = file.row.as_ref().and_then(|row| row.part).or(slot.part).or(file.placed.part);
            Some(Entry {
                name,
                file: file.name.clone(),
                frame: slot.frame,
                class: class?,
                group: file.group.clone(),
                part,
                format: file.format,
                may_be_deep: file.may_be_deep && !file.contents.is_shallow,
            })
        };
        let entries: Vec<Entry> = of_files().filter_map(entry).collect();
        let untold = |file: &&File| !is_unlabelled && file.contents.slots.iter().any(|slot| file.class(slot).is_none());
        for file in files.iter().filter(untold) {
            let reason = "nothing tells its class, and there are images of which it is told";
            skip.bad(file.name.clone(), reason.to_owned())?;
        }
        if entries.is_empty() {
            return Err(Error::NoImages { path: path.to_path_buf(), left_out });
        }
        Ok(Self {
            root: path.to_path_buf(),
            classes,
            entries,
            layout: reading.layout.to_string(),
            is_unlabelled,
            left_out,
            skipped: skip.skipped,
        })
    }

    /// Number of images per class, in the classes' order.
    #[must_use]
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for entry in &self.entries {
            counts[entry.class] += 1;
        }
        counts
    }
}

/// Whether a name has one of the [`EXTENSIONS`], in any case.
#[must_use]
pub fn is_image(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    EXTENSIONS.iter().any(|ending| name.strip_suffix(ending).is_some_and(|stem| stem.ends_with('.')))
}

/// Either notes what is left out or fails for it.
struct Skip<'a> {
    path: &'a Path,
    allowed: bool,
    skipped: Vec<Skipped>,
}

impl Skip<'_> {
    fn or_fail(&mut self, name: String, reason: String, error: impl FnOnce(PathBuf, Skipped) -> Error) -> Result<()> {
        let skipped = Skipped { name, reason };
        if !self.allowed {
            return Err(error(self.path.to_path_buf(), skipped));
        }
        self.skipped.push(skipped);
        Ok(())
    }

    fn bad(&mut self, name: String, reason: String) -> Result<()> {
        self.or_fail(name, reason, |path, Skipped { name, reason }| Error::BadImage { path, name, reason })
    }
}

/// What a source is called: the name of its folder, or of its file without the ending.
fn source_name(path: &Path) -> String {
    // A path such as `.` has no name of its own.
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = if whole.is_file() { masks::stem(&name) } else { &name };
    if name.is_empty() { "images".to_owned() } else { layout::normal(name) }
}

/// The files that are images, by their content or else their ending; others are counted.
fn images(source: &Source, names: Vec<String>, left_out: &mut Counted) -> Vec<File> {
    let known: Vec<Option<(Format, bool)>> = names
        .par_iter()
        .map_init(
            || source.reader(),
            |reader, name| {
                let head = reader.head(name).ok()?;
                let format = Format::of(&head, name)?;
                Some((format, format.may_be_deep(&head)))
            },
        )
        .collect();
    let mut files = Vec::new();
    for (name, known) in names.into_iter().zip(known) {
        let (format, may_be_deep) = known.map_or((None, false), |(format, deep)| (Some(format), deep));
        if format.is_none() && !is_image(&name) {
            left_out.add(&name, "not a format of images that is read");
            continue;
        }
        let contents = Contents { slots: vec![Slot::default()], ..Contents::default() };
        files.push(File { name, format, may_be_deep, contents, placed: Placed::default(), row: None, group: None });
    }
    files
}

fn without_masks(source: &Source, files: Vec<File>, options: &OpenOptions, left_out: &mut Counted) -> Vec<File> {
    if options.masks == Masks::Keep {
        return files;
    }
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let masks = masks::found(&names, |at| is_two_valued(source, &files[at], options));
    for (at, reason) in &masks {
        left_out.add(names[*at], reason);
    }
    let masks: BTreeSet<usize> = masks.into_keys().collect();
    files.into_iter().enumerate().filter(|(at, _)| !masks.contains(at)).map(|(_, file)| file).collect()
}

/// Whether all samples of an image are one of two values. What cannot be read is no mask.
fn is_two_valued(source: &Source, file: &File, options: &OpenOptions) -> bool {
    let Some(format) = file.format else { return false };
    let Ok(bytes) = source.reader().read(&file.name, format.max_bytes()) else { return false };
    let frame = Opened::new(bytes, format, &options.stacks).and_then(|opened| opened.frame(0));
    match frame.map(|frame| frame.samples) {
        Ok(Samples::Bytes(samples)) => samples.iter().collect::<BTreeSet<_>>().len() <= 2,
        Ok(Samples::Deep(samples, _)) => {
            samples.iter().map(|value| value.to_bits()).collect::<BTreeSet<_>>().len() <= 2
        }
        Err(_) => false,
    }
}

/// What folders and the table say of the files.
fn placed(files: Vec<File>, options: &OpenOptions, skip: &mut Skip<'_>) -> Result<(Vec<File>, Reading)> {
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let rows = options.table.as_ref().map(|table| table.rows(&names)).transpose()?;
    // Where a table tells the classes, folders need not.
    let labelled = options.table.as_ref().is_some_and(|table| !table.label.is_empty());
    let reading = match (&options.layout, layout::found(&names)) {
        (Some(layout), _) => layout::by(layout, &names),
        (None, Ok(reading)) if of_patients(&files, &reading) => layout::by_groups(reading),
        (None, Ok(reading)) => reading,
        (None, Err(_)) if labelled => layout::by_nothing(names.len()),
        (None, Err(layout::Ambiguous(levels))) => {
            return Err(Error::Ambiguous { path: skip.path.to_path_buf(), levels });
        }
    };
    let first = reading.placed.iter().position(Option::is_some).map(|at| files[at].name.clone());
    let rows = rows.unwrap_or_default().into_iter().map(Some).chain(std::iter::repeat(None));
    let mut kept = Vec::with_capacity(files.len());
    for ((mut file, placed), row) in files.into_iter().zip(&reading.placed).zip(rows) {
        match (placed, row) {
            (_, Some(None)) => skip.bad(file.name, "the table has no line for it".to_owned())?,
            (_, Some(Some(row))) if labelled && row.class().is_none() => {
                skip.bad(file.name, "the table has no label for it".to_owned())?;
            }
            (None, _) if !labelled => {
                let first = first.clone().unwrap_or_default();
                let layout = reading.layout.to_string();
                let reason = format!("its folder {:?} is not beside {:?}", folder_of(&file.name), folder_of(&first));
                skip.or_fail(file.name, reason, |path, astray| Error::Layout {
                    path,
                    layout,
                    first,
                    second: astray.name,
                })?;
            }
            (placed, row) => {
                file.placed = placed.clone().unwrap_or_default();
                if labelled {
                    file.placed.class = None;
                }
                file.row = row.flatten();
                kept.push(file);
            }
        }
    }
    Ok((kept, reading))
}

/// Whether what looks like folders of classes are folders of patients, one each, as the files state: three or more of them, with numbers in
/// their names.
fn of_patients(files: &[File], reading: &Reading) -> bool {
    let mut patients: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, placed) in files.iter().zip(&reading.placed) {
        let class = placed.as_ref().and_then(|placed| placed.class.as_deref());
        let class = class.filter(|class| class.bytes().any(|byte| byte.is_ascii_digit()));
        let (Some(class), Some(patient)) = (class, &file.contents.patient) else { return false };
        patients.entry(class).or_default().insert(patient);
    }
    let all: BTreeSet<&str> = patients.values().flatten().copied().collect();
    patients.len() > 2 && all.len() == patients.len() && patients.values().all(|of_class| of_class.len() == 1)
}

/// Looks into the files that may hold several images, or state something of them. One that holds none is left out; one that cannot be read
/// stays, and says so when it is decoded.
fn looked_into(source: &Source, mut files: Vec<File>, options: &OpenOptions, left_out: &mut Counted) -> Vec<File> {
    let found: Vec<Option<Contents>> = files
        .par_iter()
        .map_init(
            || source.reader(),
            |reader, file| {
                let format = file.format.filter(|format| format.is_rich())?;
                let bytes = reader.read(&file.name, format.max_bytes()).ok()?;
                look(&bytes, format, &options.stacks).ok()
            },
        )
        .collect();
    for (file, contents) in files.iter_mut().zip(found) {
        if let Some(contents) = contents {
            if let Some(words) = contents.left_out {
                left_out.add(&file.name, words);
            }
            file.contents = contents;
        }
    }
    files.retain(|file| !file.contents.slots.is_empty());
    files
}

/// Gives each file its group.
fn grouped(source: &Source, mut files: Vec<File>, options: &OpenOptions, skip: &mut Skip<'_>) -> Result<Vec<File>> {
    if options.table.as_ref().is_some_and(|table| table.group.is_some()) {
        for file in &mut files {
            file.group = file.row.as_ref().and_then(|row| row.group.clone());
        }
        return Ok(files);
    }
    if options.groups == Groups::Auto && of_contents(source, &mut files)? {
        return Ok(files);
    }
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let assigned = assign(&names, options)?;
    let mut kept = Vec::with_capacity(files.len());
    for (mut file, group) in files.into_iter().zip(assigned) {
        match group {
            Ok(group) => {
                file.group = group;
                kept.push(file);
            }
            Err(reason) => skip.bad(file.name, reason)?,
        }
    }
    // Cuts through one thing stay together, where nothing better is known.
    if options.groups == Groups::Auto
        && kept.iter().all(|file| file.group.is_none())
        && kept.iter().any(|file| file.contents.is_stack)
    {
        kept.iter_mut().for_each(|file| file.group = Some(file.name.clone()));
    }
    Ok(kept)
}

/// Groups by what files state, under pseudonyms, or by folders; whether there are some.
fn of_contents(source: &Source, files: &mut [File]) -> Result<bool> {
    if files.iter().any(|file| file.contents.patient.is_some()) {
        let key = pseudonym_key(source, files)?;
        for file in files.iter_mut() {
            file.group = file.contents.patient.as_ref().map(|patient| pseudonym(&key, patient));
        }
        return Ok(true);
    }
    if files.iter().all(|file| file.placed.group.is_some()) {
        files.iter_mut().for_each(|file| file.group = file.placed.group.clone());
        return Ok(true);
    }
    Ok(false)
}

/// The key of pseudonyms: a hash of the content of all files that state a patient. Only who has the images can tell a patient's pseudonym.
fn pseudonym_key(source: &Source, files: &[File]) -> Result<[u8; 32]> {
    let stating: Vec<&File> = files.iter().filter(|file| file.contents.patient.is_some()).collect();
    let mut hashes: Vec<[u8; 32]> = stating
        .par_iter()
        .map_init(
            || source.reader(),
            |reader, file| {
                let limit = file.format.map_or(crate::source::MAX_FILE_BYTES, Format::max_bytes);
                Ok(Sha256::digest(reader.read(&file.name, limit)?).into())
            },
        )
        .collect::<Result<_>>()?;
    hashes.sort_unstable();
    Ok(Sha256::digest(hashes.concat()).into())
}

fn pseudonym(key: &[u8; 32], patient: &str) -> String {
    // The key comes first and has a fixed length, and what follows it is hashed twice: nothing can be appended.
    let inner = Sha256::new().chain_update(key).chain_update(patient).finalize();
    let outer = Sha256::new().chain_update(key).chain_update(inner).finalize();
    format!("patient-{}", hex(&outer[..6]))
}

/// Notes or fails for folders beside those of classes in which no image is left.
fn check_empty(
    files: &[File],
    reading: &Reading,
    folders: &BTreeSet<String>,
    left_out: &[LeftOut],
    skip: &mut Skip<'_>,
) -> Result<()> {
    let Some(depth) = reading.class_depth else { return Ok(()) };
    let depth_of = |folder: &str| folder.matches('/').count();
    let above = |folder: &str| folder.rsplit_once('/').map_or(String::new(), |(above, _)| above.to_owned());
    let filled: BTreeSet<&str> = files.iter().map(|file| folder_of(&file.name)).collect();
    let parents: BTreeSet<String> = filled.iter().map(|folder| above(folder)).collect();
    let beside = |folder: &&String| depth_of(folder) == depth && parents.contains(&above(folder));
    for folder in folders.iter().filter(beside).filter(|folder| !filled.contains(folder.as_str())) {
        let class = folder.rsplit('/').next().unwrap_or(folder).to_owned();
        let within = |left: &&LeftOut| left.example.starts_with(&format!("{folder}/"));
        let instead: Vec<LeftOut> = left_out.iter().filter(within).cloned().collect();
        if !instead.is_empty() && instead.iter().all(|left| left.reason.starts_with("masks")) {
            continue;
        }
        skip.or_fail(folder.clone(), "a class folder without an image".to_owned(), |path, _| Error::EmptyClass {
            path,
            class,
            left_out: instead,
        })?;
    }
    Ok(())
}
